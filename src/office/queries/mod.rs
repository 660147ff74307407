//! Read-only queries of the archive.
//!
//! * [`Reader`]: what pages read, over a few read-only connections, beside the archive thread.
//!   [`rows`]: its rows. [`listing`]: the lists of the command line. `search_text`: equal texts.
//!
//! What belongs here: rows and signatures. What does not: SQL (`office/store/sqlite`).

mod listing;
pub mod rows;
pub(crate) mod search_text;

use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

pub use listing::{EventRow, FileRow, Filter, GapRow, SiteRow};

use super::error::{ArchiveError, Named as _};
use super::store::{self, FileStore, ReadIndex};

/// Bytes of one [`Reader::file_read`] at most. A caller reads piece by piece, so that a slow viewer
/// holds no whole file in memory.
pub const READ_MAX: usize = 1 << 20;
/// Rows of one answer at most, whatever the caller asks for.
pub const ROWS_MAX: u32 = 10_000;
/// Rows of the index that one page of motion events reads at most, where its condition is found in no
/// index (a text, a zone): a search of 1,000,000 took 3 to 9 s, so these take some 12 to 36 ms of the
/// 50 ms of a filter.
pub const SCAN_ROWS: u32 = 4_000;
/// Sites of one question at most, as the archive has.
pub const SITES_MAX: usize = 10_000;

/// Reads index and files for pages. A clone shares the connections. Calls block: an async caller
/// uses a blocking task.
#[derive(Clone)]
pub struct Reader {
    index: Arc<dyn ReadIndex>,
    files: Arc<dyn FileStore>,
}

impl Reader {
    /// Opens the archive in `dir`, which an office has upgraded.
    ///
    /// # Errors
    /// `NotFound` when `dir` holds no archive; `Outdated` for one of an older version; otherwise the
    /// failure of the database.
    pub fn open(dir: &Path) -> Result<Reader, ArchiveError> {
        let (index, files) = store::open_reader(dir)?;
        Ok(Reader { index, files })
    }

    /// Bytes of a stored file by its key ([`rows::StoredFile::key`]), at most [`READ_MAX`] of them;
    /// fewer at the end of the file.
    ///
    /// # Errors
    /// When the file is gone or the disk fails.
    pub fn file_read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, ArchiveError> {
        let end = range.end.min(range.start.saturating_add(READ_MAX as u64));
        self.files.read(key, range.start..end).named(|| key.to_owned())
    }
}

impl Deref for Reader {
    type Target = dyn ReadIndex;

    fn deref(&self) -> &Self::Target {
        &*self.index
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
