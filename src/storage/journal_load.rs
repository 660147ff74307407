//! What a journal holds when it is opened, and which copies of its slots are not what they should be.
//!
//! What belongs here: that, and telling rot from a cut. What does not: reading slots ([`super::journal`]).

use std::collections::BTreeMap;

use super::Cell;
use super::clock_history::ClockHistory;
use super::disk::{Disk, DiskFault, FileId};
use super::journal::{BATCH_MAX, PIECE, RESERVED, TOMBSTONES_MAX, copy_b};
use super::journal_slot::Slot;
use super::locks::Locks;
use super::side_files::slots_in;
use crate::format::card_id::CardId;
use crate::format::record::BLOCK;
use crate::units::{Boot, EntryId, RingId};

/// What a journal held at start.
#[derive(Debug, Default)]
pub struct LoadedJournal {
    /// The last start, 0 before the first.
    pub boot: Boot,
    /// The name drawn when this journal was made; `None` where none was, or it is damaged.
    pub ring: Option<RingId>,
    /// It ended in order.
    pub clean: bool,
    /// Entries not released, in order. Their bytes are read when they are wanted ([`super::journal::Journal::entry`]).
    pub entries: Vec<EntryId>,
    /// The entry of the highest entry id ever.
    pub newest: Option<(EntryId, Vec<u8>)>,
    /// The cells.
    pub cells: Vec<(Cell, Vec<u8>)>,
    /// Slots of which both copies are damaged, not merely empty.
    pub damaged: u32,
    /// Copies of slots that are not what they should be while the other is: they are written again at a start.
    pub copies: Vec<SpoiledCopy>,
    /// Where slots of another card lie: they count for nothing.
    pub foreign: Vec<u64>,
    /// The highest record number of the ring that this journal was reported of.
    pub record: u64,
    /// Bytes of the snapshots file, as the last start made it.
    pub snapshots: Option<u64>,
    /// Its own number of slots, in front of the entries those that are reserved; 0 where there is none.
    pub slots: u64,
}

/// One copy of a slot that is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoiledCopy {
    /// Where it begins.
    pub offset: u64,
    /// A power cut in the last commit may have left it so.
    pub cut: bool,
}

impl LoadedJournal {
    /// What a cell holds, if it was ever written.
    pub fn cell(&self, wanted: Cell) -> Option<&[u8]> {
        self.cells.iter().find(|(cell, _)| *cell == wanted).map(|(_, bytes)| bytes.as_slice())
    }

    /// What is known of the clocks of past starts.
    pub fn clock_history(&self) -> ClockHistory {
        self.cell(Cell::Clock).map(ClockHistory::decode).unwrap_or_default()
    }

    /// The evidence locks.
    ///
    /// # Errors
    /// Says what is wrong with the list.
    pub fn locks(&self) -> Result<Locks, String> {
        self.cell(Cell::Locks).map_or(Ok(Locks::default()), Locks::decode)
    }
}

/// What of the two copies of a slot is not what it should be, as far as they tell by themselves: where it
/// lies, and the generation of the other.
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

/// Copy A is written whole and flushed before copy B, so a cut leaves an empty or torn copy only where the last commit wrote.
pub(super) fn judge_copies(kept: &mut LoadedJournal, newest: u64, spoiled: &[(u64, u64)]) {
    let last_commit = newest.saturating_sub((TOMBSTONES_MAX + BATCH_MAX) as u64);
    let judge =
        |(offset, generation): &(u64, u64)| SpoiledCopy { offset: *offset, cut: !kept.clean && *generation >= last_commit };
    kept.copies = spoiled.iter().map(judge).collect();
}

/// The cards that the copies of a journal name, the one that most of their first slots name for each.
///
/// # Errors
/// When the directory cannot be read.
pub fn cards(disk: &dyn Disk) -> Result<Vec<CardId>, DiskFault> {
    let len = disk.files()?.get(&FileId::Journal).copied().unwrap_or_default();
    let slots = slots_in(disk, len);
    let mut cards = Vec::new();
    for base in [0, copy_b(slots)].into_iter().filter(|_| slots > RESERVED as u64) {
        let read = || disk.read(FileId::Journal, base, (slots.min(PIECE as u64) * BLOCK) as usize);
        // A bus that was reset refuses one read and takes the next; a copy that cannot be read names nothing.
        let bytes = read().or_else(|_| read()).unwrap_or_default();
        let mut named: BTreeMap<CardId, u32> = BTreeMap::new();
        let slots = bytes.chunks(BLOCK as usize).filter_map(Slot::decode);
        slots.for_each(|slot| *named.entry(slot.card).or_default() += 1);
        cards.extend(named.into_iter().max_by_key(|(_, count)| *count).map(|(card, _)| card));
    }
    Ok(cards)
}
