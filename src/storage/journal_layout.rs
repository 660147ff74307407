//! Journal layout: sizes and offsets of the slots and of the two copies in `journal.taimat`.

use crate::format::block::BLOCK;

/// Largest entry, bytes.
pub const ENTRY_MAX: usize = 3840;
/// Smallest distance between the two copies, bytes. The erase block of a card is up to 4 MiB, and a
/// power cut during its rewrite may destroy all of it.
const APART: u64 = 4 << 20;
/// Slots read at once when the journal is opened.
pub(super) const PIECE: usize = 256;
/// Slots in front of the entries: the boot record and three cells.
pub(super) const RESERVED: usize = 4;

/// Largest batch of entries; a batch needs one flush for each copy.
pub const BATCH_MAX: usize = 64;
/// Most tombstones in one commit. Limits how long frames wait when thousands of entries are
/// released at once.
pub(super) const TOMBSTONES_MAX: usize = 256;

/// Offset of copy B in a journal of `slots` slots.
pub fn copy_b(slots: u64) -> u64 {
    (slots * BLOCK).max(APART)
}

/// Length of a journal file of `slots` slots, bytes.
pub fn file_len(slots: u64) -> u64 {
    copy_b(slots) + slots * BLOCK
}

/// The number of slots in a journal file of `len` bytes.
pub(super) fn slots_of(len: u64) -> u64 {
    if len >= 2 * APART { len / 2 / BLOCK } else { len.saturating_sub(APART) / BLOCK }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_count_is_derived_from_the_file_length() {
        for slots in [6, 100, 1024, 4096] {
            assert_eq!(slots_of(file_len(slots)), slots);
        }
    }
}
