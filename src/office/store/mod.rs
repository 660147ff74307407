//! Storage of the archive: the index (all SQL) and the bytes of files.
//!
//! * [`index`]: what the archive thread asks of the index. [`list_index`]: what lists, the export
//!   and the consistency check ask. [`read_index`]: what pages read. [`sqlite`]: the only index of now.
//! * [`file_store`]: what is asked of a store of bytes. [`file_key`]: its keys. [`files`]: the only
//!   store of now, a directory.
//!
//! Another database or store is another implementation of [`Index`] and [`ReadIndex`], or of
//! [`FileStore`]; the functions here choose one.
//!
//! What belongs here: SQL, and file operations. What does not: judgement of messages
//! (`office/message_ingest.rs`, `office/history`).
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

pub(crate) mod file_key;
pub(crate) mod file_store;
pub(crate) mod files;
pub(crate) mod index;
pub(crate) mod list_index;
pub(crate) mod read_index;
pub(crate) mod sqlite;

use std::path::Path;
use std::sync::Arc;

pub use file_store::FileStore;
pub(crate) use index::Index;
pub use read_index::ReadIndex;

use super::error::{ArchiveError, Named as _};
use files::DirectoryStore;
use sqlite::index::{self as database, SqliteIndex};
use sqlite::reader::SqliteReader;

/// Index and files of an archive.
type Opened = (Box<dyn Index>, Arc<dyn FileStore>);
/// Index and files of an archive, for pages.
type Readable = (Arc<dyn ReadIndex>, Arc<dyn FileStore>);

/// Opens index and files in `dir` for writing, or makes them.
///
/// # Errors
/// When directory or index cannot be used.
pub(super) fn open(dir: &Path) -> Result<Opened, ArchiveError> {
    std::fs::create_dir_all(dir).named(|| dir.display().to_string())?;
    Ok((Box::new(SqliteIndex::open(dir)?), Arc::new(DirectoryStore::open(dir))))
}

/// Opens index and files in `dir` for the lists of the command line, beside the office that writes
/// them.
///
/// # Errors
/// `NotFound` when `dir` holds no archive; otherwise the failure of the database.
pub(super) fn open_read_only(dir: &Path) -> Result<Opened, ArchiveError> {
    ensure_there(dir)?;
    Ok((Box::new(SqliteIndex::open_read_only(dir)?), Arc::new(DirectoryStore::read_only(dir))))
}

/// Opens index and files in `dir` for pages.
///
/// # Errors
/// `NotFound` when `dir` holds no archive; `Outdated` for one of an older version; otherwise the
/// failure of the database.
pub(super) fn open_reader(dir: &Path) -> Result<Readable, ArchiveError> {
    ensure_there(dir)?;
    Ok((Arc::new(SqliteReader::open(dir)?), Arc::new(DirectoryStore::read_only(dir))))
}

/// Checks that `dir` holds an archive.
///
/// # Errors
/// `NotFound` with the directory.
pub(crate) fn ensure_there(dir: &Path) -> Result<(), ArchiveError> {
    if dir.join(database::NAME).symlink_metadata().is_ok() {
        return Ok(());
    }
    let dir = dir.display();
    Err(ArchiveError::NotFound(format!(
        "no archive in {dir}; name the directory of taimat office run --dir"
    )))
}

/// Free bytes on the disk of `dir`.
///
/// # Errors
/// When `dir` does not exist.
pub(crate) fn free(dir: &Path) -> std::io::Result<u64> {
    Ok(rustix::fs::statvfs(dir).map(|about| about.f_bavail.saturating_mul(about.f_frsize))?)
}
