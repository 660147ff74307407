//! Clip files: turns a pinned span of footage into a file for the office, without copying or
//! re-encoding it.
//!
//! * [`virtual_file`]: an MP4 head followed by the fragments of the ring, read in place.
//! * [`hasher`]: the thread that hashes files. [`footage_absence`]: why footage is not available.
//!
//! What belongs here: the MP4 head of a clip, reading its bytes. What does not: finding footage
//! (storage), deciding when (the agent), sending it (uplink).

pub(crate) mod virtual_file;
pub(crate) mod footage_absence;
pub(crate) mod hasher;

use std::sync::Arc;

use crate::storage::GapReason;

/// A file for the office, readable in pieces any number of times. Its bytes never change.
pub trait FileSource: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> u64;

    /// True when its length is 0.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads exactly `len` bytes from `offset`. May block on the card.
    ///
    /// # Errors
    /// When the bytes cannot be read: the cause as text. The transfer of the file must then be
    /// aborted.
    fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, String>;

    /// The records that cannot be read, each with its gap reason. The clip can be rebuilt without
    /// them. Reads the whole file.
    fn unreadable(&self) -> Vec<(u64, GapReason)> {
        Vec::new()
    }
}

/// A small file in memory.
impl FileSource for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, String> {
        let start = usize::try_from(offset).map_err(|_| "offset too large".to_owned())?;
        let range = start..start.saturating_add(len as usize);
        self.get(range.clone())
            .map(<[u8]>::to_vec)
            .ok_or_else(|| format!("bytes {range:?} are outside the file"))
    }
}

/// Shared handle of a file.
pub type SharedFile = Arc<dyn FileSource>;
