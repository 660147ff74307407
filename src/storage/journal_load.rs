//! Journal load: the content of a journal when it is opened, and damaged copies of its slots.
//!
//! What belongs here: that content, and telling bit rot from a power cut. What does not: reading
//! slots ([`super::journal`]).

use std::collections::BTreeMap;

use super::Cell;
use super::clock_history::ClockHistory;
use super::disk::{Disk, DiskFault, FileId};
use super::journal::{BATCH_MAX, PIECE, RESERVED, TOMBSTONES_MAX, copy_b, slots_of};
use super::journal_slot::Slot;
use super::locks::Locks;
use crate::format::card_id::CardId;
use crate::format::record::BLOCK;
use crate::units::{Boot, EntryId, RingId};

/// The content of a journal when it was opened.
#[derive(Debug, Default)]
pub struct LoadedJournal {
    /// Number of the last boot, 0 before the first.
    pub boot: Boot,
    /// Id drawn when this journal was created; `None` if it has none or is damaged.
    pub ring: Option<RingId>,
    /// True if the last boot ended with an orderly stop.
    pub clean: bool,
    /// Unreleased entries in order of their ids. [`super::journal::Journal::entry`] reads their
    /// bytes.
    pub entries: Vec<EntryId>,
    /// The entry with the highest id ever stored.
    pub newest: Option<(EntryId, Vec<u8>)>,
    /// The cells.
    pub cells: Vec<(Cell, Vec<u8>)>,
    /// Slots of which both copies are damaged; blank slots do not count.
    pub damaged: u32,
    /// Damaged copies of slots whose other copy is whole. They are rewritten when the journal is
    /// opened.
    pub copies: Vec<SpoiledCopy>,
    /// Offsets of slots of another card, which are ignored.
    pub foreign: Vec<u64>,
    /// Highest record number of the ring that this journal knows.
    pub record: u64,
}

/// A damaged copy of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoiledCopy {
    /// Byte offset of the copy.
    pub offset: u64,
    /// True if a power cut during the last commit can have caused the damage.
    pub cut: bool,
}

impl LoadedJournal {
    /// The content of a cell, if it was ever written.
    pub fn cell(&self, wanted: Cell) -> Option<&[u8]> {
        self.cells.iter().find(|(cell, _)| *cell == wanted).map(|(_, bytes)| bytes.as_slice())
    }

    /// The clock history of past boots.
    pub fn clock_history(&self) -> ClockHistory {
        self.cell(Cell::Clock).map(ClockHistory::decode).unwrap_or_default()
    }

    /// The evidence locks.
    ///
    /// # Errors
    /// If the list cannot be decoded.
    pub fn locks(&self) -> Result<Locks, String> {
        self.cell(Cell::Locks).map_or(Ok(Locks::default()), Locks::decode)
    }
}

/// Finds a damaged copy of a slot by comparing both copies. Returns its offset and the generation
/// of the other copy.
pub(super) fn spoiled_copy(at: usize, slots: usize, a: &[u8], b: &[u8]) -> Option<(u64, u64)> {
    let at = at as u64 * BLOCK;
    let empty = |copy: &[u8]| copy.iter().all(|byte| *byte == 0);
    match (Slot::decode(a), Slot::decode(b)) {
        (Some(slot), None) => Some((copy_b(slots as u64) + at, slot.generation)),
        (None, Some(slot)) => Some((at, slot.generation)),
        (None, None) if empty(a) != empty(b) => Some((if empty(a) { copy_b(slots as u64) + at } else { at }, u64::MAX)),
        _ => None,
    }
}

/// A commit writes and flushes copy A before copy B. A power cut therefore damages only slots of
/// the last commit.
pub(super) fn judge_copies(loaded: &mut LoadedJournal, newest: u64, spoiled: &[(u64, u64)]) {
    let last_commit = newest.saturating_sub((TOMBSTONES_MAX + BATCH_MAX) as u64);
    let judge =
        |(offset, generation): &(u64, u64)| SpoiledCopy { offset: *offset, cut: !loaded.clean && *generation >= last_commit };
    loaded.copies = spoiled.iter().map(judge).collect();
}

/// The cards named by the copies of the journal: for each copy the card of most of its first slots.
///
/// # Errors
/// If the directory cannot be read.
pub fn cards(disk: &dyn Disk) -> Result<Vec<CardId>, DiskFault> {
    let len = disk.files()?.get(&FileId::Journal).copied().unwrap_or_default();
    let slots = slots_of(len);
    let mut cards = Vec::new();
    for base in [0, copy_b(slots)].into_iter().filter(|_| slots > RESERVED as u64) {
        let read = || disk.read(FileId::Journal, base, (slots.min(PIECE as u64) * BLOCK) as usize);
        // Retry once: a bus reset fails a single read. An unreadable copy names no card.
        let bytes = read().or_else(|_| read()).unwrap_or_default();
        let mut named: BTreeMap<CardId, u32> = BTreeMap::new();
        let slots = bytes.chunks(BLOCK as usize).filter_map(Slot::decode);
        slots.for_each(|slot| *named.entry(slot.card).or_default() += 1);
        cards.extend(named.into_iter().max_by_key(|(_, count)| *count).map(|(card, _)| card));
    }
    Ok(cards)
}
