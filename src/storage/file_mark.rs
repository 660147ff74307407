//! File mark: how a file of the ring is recognised under its name, and what became of it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// A file that changed under the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// What became of it, to be read behind its name.
    pub what: String,
    /// True when another file, or none, has its name.
    pub is_other: bool,
    /// True when it is the same file and was cut.
    pub is_shorter: bool,
}

/// Device, inode and length of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileMark {
    dev: u64,
    ino: u64,
    len: u64,
}

impl FileMark {
    /// The mark of a file.
    pub(super) fn of(found: &Metadata) -> FileMark {
        FileMark { dev: found.dev(), ino: found.ino(), len: found.len() }
    }

    /// What became of the file if `found` has its name now, once for each change of its length.
    pub(super) fn change(&mut self, found: Option<&Metadata>) -> Option<FileChange> {
        let Some(found) = found else {
            let what = "was removed or renamed".into();
            return Some(FileChange { what, is_other: true, is_shorter: false });
        };
        let now = FileMark::of(found);
        if now == *self {
            return None;
        }
        let (what, is_other) = if !found.is_file() {
            ("was replaced by what is no file".to_owned(), true)
        } else if (now.dev, now.ino) == (self.dev, self.ino) {
            (format!("has {} bytes instead of {}", now.len, self.len), false)
        } else {
            ("was replaced by another file".to_owned(), true)
        };
        let is_shorter = !is_other && now.len < self.len;
        self.len = now.len;
        Some(FileChange { what, is_other, is_shorter })
    }
}
