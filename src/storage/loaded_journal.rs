//! Loaded journal: the content of a journal as it was read when it was opened.

use super::Cell;
use super::clock_history::ClockHistory;
use super::locks::Locks;
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
    /// Bytes of the snapshots file, as the last start made it.
    pub snapshots: Option<u64>,
    /// Number of slots that its newest start record states; `None` if it states none.
    pub stated_slots: Option<u64>,
    /// Its own number of slots, in front of the entries those that are reserved; 0 where there is none.
    pub slots: u64,
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
    /// True if footage of a later boot lies beside this journal: an earlier copy was put back.
    pub fn is_older_than(&self, newest: Boot) -> bool {
        self.ring.is_some() && self.boot < newest
    }

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
