//! The clip room: turns a pinned span of footage into a sealed file for the office, without copying or re-encoding it.
//!
//! * [`virtual_file`]: a virtual file: an MP4 head and the ring's own fragments behind it, read where they lie.
//! * [`hasher`] ⇄: the thread that reads a file once to hash it. [`fate`]: what became of footage that cannot be had.
//!
//! What belongs here: a clip's MP4 head, reading its bytes piece by piece. What does not: finding footage
//! (storage), deciding when (the agent), sending it (uplink).

pub mod virtual_file;
pub mod fate;
pub mod hasher;

use std::sync::Arc;

use crate::storage::GapReason;

/// A file that is pending to the office, readable piece by piece any number of times: its bytes never change.
pub trait FileSource: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> u64;

    /// True when there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads exactly `len` bytes from `offset`. May block on the card.
    ///
    /// # Errors
    /// Says why for people; the file is then lost and must be aborted.
    fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, String>;

    /// The records in it that cannot be read, and what each gap is called: without them it can be made again. Reads all of it.
    fn unreadable(&self) -> Vec<(u64, GapReason)> {
        Vec::new()
    }
}

/// A small file held in memory.
impl FileSource for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, String> {
        let start = usize::try_from(offset).map_err(|_| "offset too large".to_owned())?;
        let range = start..start.saturating_add(len as usize);
        self.get(range.clone()).map(<[u8]>::to_vec).ok_or_else(|| format!("bytes {range:?} are outside the file"))
    }
}

/// Shared handle to a file.
pub type SharedFile = Arc<dyn FileSource>;
