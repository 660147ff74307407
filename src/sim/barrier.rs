//! Barriers: the flushes and write orders that storage depends on, each removable by name.
//!
//! A check that does not notice a removed barrier is no check.

use super::cow_image::{PAGE, Pending};
use crate::format::segment_head::COPY_TYPE;
use crate::listed_enum::listed_enum;
use crate::storage::disk::FileId;

listed_enum! {
    /// A flush or an order of writes that can be removed. The simulated card removes it; storage has no
    /// such switch.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Barrier {
        /// Every flush of segment files.
        Ring,
        /// Every flush of the journal.
        Journal,
        /// The flush after the old head of a reused file was overwritten with zeros.
        WipeFlush,
        /// The flush after a record.
        RecordFlush,
        /// The flush after copy A of a commit.
        CopyAFlush,
        /// The flush after copy B of a commit.
        CopyBFlush,
        /// The flush after a snapshot.
        StillFlush,
        /// The flush of a new file and its directory.
        CreateFlush,
        /// The flush of the newest segment at a boot.
        RecoveryFlush,
        /// The `free` header that recovery writes again at a tear.
        PutBack,
        /// The second copy that recovery writes again for journal slots with only one.
        Heal,
        /// A snapshot is durable before the entry that names it.
        StillFirst,
        /// At least one copy of a segment head is durable no later than its first record.
        HeadFirst,
        /// A record and the next `free` header are one write.
        FreeWithRecord,
        /// Records start on page boundaries.
        Aligned,
        /// Copy A of the journal is written.
        CopyA,
        /// Copy B of the journal is written.
        CopyB,
        /// The copies of the journal lie in different erase blocks.
        Apart,
    }

    /// All barriers.
    pub const ALL;
}

use Barrier::*;

impl Barrier {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Ring => "ring",
            Journal => "journal",
            WipeFlush => "wipe-flush",
            RecordFlush => "record-flush",
            CopyAFlush => "copy-a-flush",
            CopyBFlush => "copy-b-flush",
            StillFlush => "still-flush",
            CreateFlush => "create-flush",
            RecoveryFlush => "recovery-flush",
            PutBack => "put-back",
            Heal => "heal",
            StillFirst => "still-first",
            HeadFirst => "head-first",
            FreeWithRecord => "free-with-record",
            Aligned => "aligned",
            CopyA => "copy-a",
            CopyB => "copy-b",
            Apart => "apart",
        }
    }

    /// Description of its absence.
    pub fn what(self) -> &'static str {
        match self {
            Ring => "no flush of any segment",
            Journal => "no flush of the journal",
            WipeFlush => "no flush between overwriting an old head and writing the new one",
            RecordFlush => "no flush after a record",
            CopyAFlush => "no flush between the copies of the journal",
            CopyBFlush => "no flush after copy B of the journal",
            StillFlush => "no flush after a snapshot",
            CreateFlush => "no flush of a new file and its directory",
            RecoveryFlush => "no flush of the newest segment at a boot",
            PutBack => "no `free` header written again at a tear",
            Heal => "slots that lost a copy keep only one",
            StillFirst => "snapshot written after the entry that names it",
            HeadFirst => "both copies of a segment head written after its first record",
            FreeWithRecord => "next `free` header written after the record's flush",
            Aligned => "records start inside a page with durable data",
            CopyA => "copy A of the journal never written",
            CopyB => "copy B of the journal never written",
            Apart => "both copies of the journal in one erase block",
        }
    }

    /// The barrier of a name.
    ///
    /// # Errors
    /// Lists the known names.
    pub fn parse(name: &str) -> Result<Barrier, String> {
        let names = || Barrier::ALL.map(Barrier::name).join(", ");
        Barrier::ALL
            .into_iter()
            .find(|barrier| barrier.name() == name)
            .ok_or_else(|| format!("unknown barrier {name}; the barriers are: {}", names()))
    }

    /// True if a flush of `file` is left out. `last` is the newest write that it would make
    /// durable;
    /// `starting` is true from a boot to its first new record.
    pub fn leaves_out(self, file: FileId, last: &Pending, starting: bool) -> bool {
        let segment = matches!(file, FileId::Segment(_));
        match self {
            Ring => segment,
            Journal => file == FileId::Journal,
            WipeFlush => segment && last.offset == 0 && !is_head(&last.bytes),
            RecordFlush => segment && last.offset > 0 && !starting,
            RecoveryFlush => segment && starting,
            CopyAFlush => file == FileId::Journal && !in_copy_b(last.offset),
            CopyBFlush => file == FileId::Journal && in_copy_b(last.offset),
            StillFlush => file == FileId::Snapshots,
            _ => false,
        }
    }

    /// True if a write is left out. `healing` is true from a boot to its first commit.
    pub fn drops(self, file: FileId, offset: usize, bytes: &[u8], healing: bool) -> bool {
        match self {
            PutBack => matches!(file, FileId::Segment(_)) && bytes.get(4..8) == Some(b"free"),
            Heal => file == FileId::Journal && healing,
            CopyA => file == FileId::Journal && !in_copy_b(offset),
            CopyB => file == FileId::Journal && in_copy_b(offset),
            _ => false,
        }
    }

    /// Bytes at the end of a write that are held back until the file is flushed; all bytes of a
    /// head.
    pub fn holds_back(self, file: FileId, offset: usize, bytes: &[u8], len: usize) -> usize {
        let at = bytes.len().saturating_sub(PAGE);
        // Free space ends before the second copy of the head, a page in the simulated rings.
        let tail =
            if is_free(&bytes[at..], len.saturating_sub(PAGE + offset + at)) { PAGE } else { 0 };
        match (self, file) {
            (StillFirst, FileId::Snapshots) => bytes.len(),
            (HeadFirst, FileId::Segment(_)) if offset == 0 && is_head(bytes) || is_copy(bytes) => {
                bytes.len()
            }
            (FreeWithRecord, FileId::Segment(_)) if offset > 0 && bytes.len() > PAGE => tail,
            _ => 0,
        }
    }
}

/// True for a segment head, false for the zeros that overwrite one.
fn is_head(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(b"ftyp")
}

/// True for the second copy of a head.
fn is_copy(bytes: &[u8]) -> bool {
    bytes.get(8..24) == Some(&COPY_TYPE)
}

/// True for a `free` header over `rest` bytes.
fn is_free(bytes: &[u8], rest: usize) -> bool {
    bytes.get(..4) == Some(&(rest as u32).to_be_bytes()) && bytes.get(4..8) == Some(b"free")
}

/// Copies lie 4 MiB apart ([`crate::storage::journal_layout::copy_b`]); simulated journals are smaller.
fn in_copy_b(offset: usize) -> bool {
    offset >= 4 << 20
}
