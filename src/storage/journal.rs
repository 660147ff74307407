//! The journal: fixed slots of one block, two copies far apart, highest valid generation wins ([`crate::format::on_disk`]).
//!
//! What belongs here: slots, commits, recovery of slots. What does not: what the bytes in a slot mean.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Cell;
use super::disk::{Disk, DiskFault, FileId};
pub use super::journal_load::{LoadedJournal, SpoiledCopy};
use super::journal_load::{judge_copies, spoiled_copy};
use super::journal_slot::{Block, Blocks, CELL, ENTRY, FREE, START, Slot, encoded, newer, ours};
use super::side_files::{self, slots_in};
use crate::format::card_id::CardId;
use crate::format::record::BLOCK;
use crate::units::{Boot, EntryId, RingId};

/// Bytes of one entry at most.
pub const ENTRY_MAX: usize = 3840;
/// The copies lie at least this far apart: the erase block of a card is up to 4 MiB, and a cut while one is rewritten may take
/// the whole of it.
const APART: u64 = 4 << 20;
/// Slots read at once when it is opened.
pub(super) const PIECE: usize = 256;
/// Slots in front of the entries: the start record and three cells.
pub(super) const RESERVED: usize = 4;

/// Entries stored together at most: one flush of each copy is for all of them.
pub const BATCH_MAX: usize = 64;
/// Tombstones in one commit at most: of thousands of entries that are dropped at once the storage thread must not write all at
/// once, while frames wait.
pub(super) const TOMBSTONES_MAX: usize = 256;

/// Where copy B begins in a journal of `slots` slots.
pub fn copy_b(slots: u64) -> u64 {
    (slots * BLOCK).max(APART)
}

/// Bytes of the file of a journal of `slots` slots.
pub fn file_len(slots: u64) -> u64 {
    copy_b(slots) + slots * BLOCK
}

/// What is said of a ring with footage whose journal is missing or holds no start.
pub const LOST: &str = "journal.taimat is missing or holds nothing: which footage is locked as evidence, and what waits for the office, cannot be known";

/// The number of slots in a journal file of `len` bytes.
pub(super) fn slots_of(len: u64) -> u64 {
    if len >= 2 * APART { len / 2 / BLOCK } else { len.saturating_sub(APART) / BLOCK }
}

/// Why the journal did not take something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalFault {
    /// It is larger than a slot.
    #[error("an entry of {0} bytes is larger than {ENTRY_MAX}")]
    TooLarge(usize),
    /// No slot is free.
    #[error("all {0} slots of the journal are taken")]
    Full(usize),
    /// The card refuses.
    #[error(transparent)]
    Disk(#[from] DiskFault),
}

/// A slot to be written: where, its kind, its place in the batch, its key and bytes.
type Write = (usize, u8, u8, u64, Vec<u8>);

/// The journal.
pub struct Journal {
    disk: Arc<dyn Disk>,
    card: CardId,
    slots: usize,
    generation: u64,
    boot: Boot,
    ring: Option<RingId>,
    /// The highest record number of the ring it was reported of.
    record: u64,
    /// Bytes of the snapshots file beside it.
    pub(super) snapshots: u64,
    by_ticket: BTreeMap<EntryId, usize>,
    free: BTreeSet<usize>,
    newest: Option<(EntryId, usize)>,
    /// Where the search for a free slot goes on: all slots wear alike.
    next: usize,
    /// Slots whose entry was released and whose tombstone is not yet written, and that entry.
    released: BTreeMap<usize, EntryId>,
    /// The same, left behind by a commit that failed: the next one must write them, or their entries may be found twice.
    left_behind: BTreeSet<usize>,
    /// Blocks of copies A and B that may not be on the card as they should: cut, damaged, or a write or flush of them failed. They are
    /// written again, A before B, before anything else is, so that no slot ever hangs on a single copy.
    unsure: [Blocks; 2],
    /// Bytes and flushes, for the counters.
    pub written: (u64, u64),
}

impl Journal {
    /// Opens the journal of a card, making one of `slots` slots when there is none; an existing one keeps its size.
    ///
    /// # Errors
    /// When the card refuses.
    pub fn open(
        disk: Arc<dyn Disk>,
        card: CardId,
        slots: u32,
        existing: Option<u64>,
    ) -> Result<(Journal, LoadedJournal), DiskFault> {
        let slots = match existing.map(|len| slots_in(disk.as_ref(), len)).filter(|slots| *slots > RESERVED as u64) {
            Some(slots) => slots as usize,
            None => {
                let slots = (slots as usize).max(RESERVED + 2);
                disk.create(FileId::Journal, file_len(slots as u64))?;
                slots
            }
        };
        let mut journal = Journal {
            disk,
            card,
            slots,
            generation: 0,
            boot: Boot(0),
            ring: None,
            record: 0,
            snapshots: 0,
            by_ticket: BTreeMap::new(),
            free: (RESERVED..slots).collect(),
            newest: None,
            next: RESERVED,
            released: BTreeMap::new(),
            left_behind: BTreeSet::new(),
            unsure: [BTreeMap::new(), BTreeMap::new()],
            written: (0, 0),
        };
        let kept = journal.read()?;
        Ok((journal, kept))
    }

    /// Reads a journal of `len` bytes that somebody else may be writing.
    ///
    /// # Errors
    /// When the card refuses.
    pub fn open_read_only(disk: Arc<dyn Disk>, card: CardId, len: u64) -> Result<LoadedJournal, DiskFault> {
        match slots_in(disk.as_ref(), len) {
            slots if slots > RESERVED as u64 => Ok(Journal::open(disk, card, 0, Some(len))?.1),
            _ => Ok(LoadedJournal::default()),
        }
    }

    /// Bytes of its file.
    pub fn size(&self) -> u64 {
        file_len(self.slots as u64)
    }

    /// Bytes written over the life of this journal: each written slot has a generation of its own, and two copies.
    pub fn lifetime(&self) -> u64 {
        self.generation * BLOCK * 2
    }

    fn read(&mut self) -> Result<LoadedJournal, DiskFault> {
        let mut kept = LoadedJournal { slots: self.slots as u64, ..LoadedJournal::default() };
        let (mut slots, mut in_b, mut let_go) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut spoiled = Vec::new();
        for first in (0..self.slots).step_by(PIECE) {
            let (len, at) = (PIECE.min(self.slots - first) * BLOCK as usize, first as u64 * BLOCK);
            let a = self.disk.read(FileId::Journal, at, len)?;
            let b = self.disk.read(FileId::Journal, copy_b(self.slots as u64) + at, len)?;
            for (at, (a, b)) in a.chunks(BLOCK as usize).zip(b.chunks(BLOCK as usize)).enumerate() {
                let place = (first + at) as u64 * BLOCK;
                let (a, foreign_a) = ours(self.card, a);
                let (b, foreign_b) = ours(self.card, b);
                kept.foreign.extend(foreign_a.then_some(place));
                kept.foreign.extend(foreign_b.then_some(copy_b(self.slots as u64) + place));
                spoiled.extend(spoiled_copy(first + at, self.slots, a, b));
                let slot = self.compare(first + at, a, b, &mut in_b, &mut kept).map(|mut slot| {
                    let_go.extend(slot.tombstone_of());
                    // What an entry says is read again when it is wanted: a full journal is larger than the memory of a board.
                    if matches!(slot.kind, ENTRY | FREE) {
                        slot.bytes = Vec::new();
                    }
                    (first + at, slot)
                });
                slots.extend(slot);
            }
        }
        // In the order they were written: the last word on a entry id counts.
        slots.sort_by_key(|(_, slot)| slot.generation);
        for (at, slot) in &slots {
            self.generation = slot.generation;
            self.keep(*at, slot.clone(), &mut kept);
        }
        self.drop_torn(&slots, &in_b, &let_go);
        (self.boot, self.ring, self.record) = (kept.boot, kept.ring, kept.record);
        judge_copies(&mut kept, self.generation, &spoiled);
        kept.entries = self.by_ticket.keys().copied().collect();
        if let Some((entry_id, at)) = self.newest {
            kept.newest = self.slot(at)?.map(|slot| (entry_id, slot.bytes));
        }
        Ok(kept)
    }

    /// Holds the two copies of a slot against each other: gives the one that counts, and notes what is to be written again.
    fn compare(&mut self, at: usize, a: &[u8], b: &[u8], in_b: &mut BTreeSet<usize>, kept: &mut LoadedJournal) -> Option<Slot> {
        let newer = newer(a, b).map(|(slot, is_in_b)| {
            if is_in_b {
                in_b.insert(at);
            }
            slot
        });
        let written = |copy: &[u8]| copy.iter().any(|byte| *byte != 0);
        // The very first write of a slot may have been cut: then its other copy was never written.
        kept.damaged += u32::from(newer.is_none() && written(a) && written(b));
        let right = encoded(newer.as_ref());
        if a != right || b != right {
            self.unsure.iter_mut().for_each(|copy| _ = copy.insert(at, Block::Again));
        } else if newer.as_ref().is_some_and(|slot| slot.kind != FREE || slot.key > 0) {
            // Nobody knows whether the last start was refused a flush of copy B: the kernel shows it all the same. What counts is
            // written again, 4 KiB for each entry that waits.
            self.unsure[1].insert(at, Block::Again);
        }
        newer
    }

    /// A batch that the power cut left with a gap ends before the gap: what lies behind was never reported, and an event must not be
    /// there whose predecessor is not. Only the newest batch can be so, and only while nothing of it is in copy B: that is written
    /// after all of copy A is on the card. Of a batch that was whole an entry may be missing because it was delivered: its tombstone
    /// says so, for copy B may be damaged as a whole.
    fn drop_torn(&mut self, slots: &[(usize, Slot)], in_b: &BTreeSet<usize>, let_go: &BTreeSet<u64>) {
        let Some((newest, newest_at)) = self.newest else {
            return;
        };
        let Some(place) = slots.iter().find(|(at, _)| *at == newest_at).map(|(_, slot)| u64::from(slot.place)) else {
            return;
        };
        let first = newest.0.saturating_sub(place);
        let there: BTreeMap<u64, usize> =
            self.by_ticket.range(EntryId(first)..).map(|(entry_id, at)| (entry_id.0, *at)).collect();
        let hole = (first..=newest.0)
            .find(|entry_id| !there.contains_key(entry_id) && !let_go.contains(entry_id) && *entry_id != newest.0);
        let Some(hole) = hole.filter(|_| !there.values().chain([&newest_at]).any(|at| in_b.contains(at))) else {
            return;
        };
        for (entry_id, at) in there.range(hole..).map(|(entry_id, at)| (EntryId(*entry_id), *at)) {
            self.release(entry_id);
            self.generation += 1;
            let free = Slot { generation: self.generation, ..self.free_slot(0, Vec::new()) };
            self.unsure.iter_mut().for_each(|copy| _ = copy.insert(at, Block::Slot(free.clone())));
        }
        let before = slots.iter().filter(|(at, slot)| *at >= RESERVED && (1..hole).contains(&slot.key));
        let last = before.max_by_key(|(_, slot)| (slot.key, slot.generation));
        self.newest = last.map(|(at, slot)| (EntryId(slot.key), *at));
    }

    fn keep(&mut self, at: usize, slot: Slot, kept: &mut LoadedJournal) {
        let entry_id = EntryId(slot.key);
        match slot.kind {
            START => {
                (kept.boot, kept.clean) = (Boot(slot.key as u32), slot.bytes.first() == Some(&1));
                let number = |from: usize| slot.bytes.get(from..from + 8)?.try_into().ok().map(u64::from_be_bytes);
                (kept.ring, kept.record) = (number(1).map(RingId), number(9).unwrap_or(0));
                kept.snapshots = side_files::decode(&slot.bytes).map(|(snapshots, _)| snapshots);
            }
            CELL => kept.cells.extend(cell_of(slot.key).map(|cell| (cell, slot.bytes))),
            ENTRY | FREE if at >= RESERVED && entry_id.0 > 0 => {
                // An entry that was refused and offered again may have left a slot behind.
                self.release(entry_id);
                if self.newest.is_none_or(|(newest, _)| newest <= entry_id) {
                    self.newest = Some((entry_id, at));
                }
                if slot.kind == ENTRY {
                    self.free.remove(&at);
                    self.by_ticket.insert(entry_id, at);
                }
            }
            _ => {}
        }
    }

    /// What counts in a slot.
    fn slot(&self, at: usize) -> Result<Option<Slot>, DiskFault> {
        let copy = |base| self.disk.read(FileId::Journal, base + at as u64 * BLOCK, BLOCK as usize);
        let (a, b) = (copy(0)?, copy(copy_b(self.slots as u64))?);
        Ok(newer(ours(self.card, &a).0, ours(self.card, &b).0).map(|(slot, _)| slot))
    }

    /// The bytes of an entry; `None` when there is none, or it is damaged by now.
    ///
    /// # Errors
    /// When the card refuses.
    pub fn entry(&self, entry_id: EntryId) -> Result<Option<Vec<u8>>, DiskFault> {
        let Some(at) = self.by_ticket.get(&entry_id) else {
            return Ok(None);
        };
        let slot = self.slot(*at)?.filter(|slot| slot.kind == ENTRY && slot.key == entry_id.0);
        Ok(slot.map(|slot| slot.bytes))
    }

    /// Entries it can hold.
    pub fn slots(&self) -> u32 {
        (self.slots - RESERVED) as u32
    }

    /// Begins the next start of the agent, and names the ring where it has no name.
    ///
    /// # Errors
    /// When the card refuses.
    pub fn start_boot(&mut self) -> Result<(RingId, Boot), DiskFault> {
        self.boot = Boot(self.boot.0 + 1);
        let ring = *self.ring.get_or_insert_with(|| RingId(self.disk.draw()));
        self.commit(vec![self.start(0)])?;
        Ok((ring, self.boot))
    }

    /// The ring holds records up to this one: said with the next start or ordered stop.
    pub fn note_record(&mut self, newest: u64) {
        self.record = self.record.max(newest);
    }

    /// The start record: byte 0, then the ring's name, its newest record and the sizes of both files.
    fn start(&self, ended: u8) -> Write {
        let mut bytes = vec![ended];
        bytes.extend(self.ring.unwrap_or_default().0.to_be_bytes());
        bytes.extend(self.record.to_be_bytes());
        bytes.extend(side_files::encode(self.snapshots, self.slots));
        (0, START, 0, u64::from(self.boot.0), bytes)
    }

    /// Records an ordered stop, with every tombstone that waits.
    ///
    /// # Errors
    /// When the card refuses.
    pub fn end(&mut self) -> Result<(), DiskFault> {
        while !self.is_tidy() {
            self.tidy()?;
        }
        self.commit(vec![self.start(1)])
    }

    /// Stores an entry; when this returns `Ok` it survives a power cut.
    ///
    /// # Errors
    /// When it is too large, every slot is taken or the card refuses.
    pub fn enqueue(&mut self, entry_id: EntryId, bytes: Vec<u8>) -> Result<(), JournalFault> {
        self.enqueue_all(vec![(entry_id, bytes)])
    }

    /// Stores entries of consecutive entry ids with one flush of each copy; when this returns `Ok` all of them survive a power cut, and
    /// one in the middle of it leaves the first so many.
    ///
    /// # Errors
    /// When one is too large, too few slots are free or the card refuses: then none counts.
    pub fn enqueue_all(&mut self, entries: Vec<(EntryId, Vec<u8>)>) -> Result<(), JournalFault> {
        if let Some((_, bytes)) = entries.iter().find(|(_, bytes)| bytes.len() > ENTRY_MAX) {
            return Err(JournalFault::TooLarge(bytes.len()));
        }
        let newest = self.newest.map(|(_, slot)| slot);
        let usable = |slot: &&usize| Some(**slot) != newest;
        let (after, before) = (self.free.range(self.next..), self.free.range(..self.next));
        let chosen: Vec<usize> = after.chain(before).filter(usable).take(entries.len()).copied().collect();
        if chosen.len() < entries.len() || entries.len() > BATCH_MAX {
            return Err(JournalFault::Full(self.slots - RESERVED));
        }
        let entry_ids: Vec<EntryId> = entries.iter().map(|(entry_id, _)| *entry_id).collect();
        let mut writes = Vec::with_capacity(entries.len());
        for (place, (slot, (entry_id, bytes))) in chosen.iter().zip(entries).enumerate() {
            writes.push((*slot, ENTRY, place as u8, entry_id.0, bytes));
        }
        self.next = chosen.last().map_or(self.next, |slot| slot + 1);
        if let Err(fault) = self.commit(writes) {
            // They may be there all the same: offered again, an entry must not be found twice.
            self.left_behind.extend(chosen);
            return Err(fault.into());
        }
        for (slot, entry_id) in chosen.into_iter().zip(entry_ids) {
            self.free.remove(&slot);
            self.released.remove(&slot);
            self.left_behind.remove(&slot);
            self.by_ticket.insert(entry_id, slot);
            self.newest = Some((entry_id, slot));
        }
        Ok(())
    }

    /// Forgets an entry; its tombstone is written with a later commit.
    pub fn release(&mut self, entry_id: EntryId) {
        if let Some(slot) = self.by_ticket.remove(&entry_id) {
            self.free.insert(slot);
            self.released.insert(slot, entry_id);
        }
    }

    /// Stores a cell.
    ///
    /// # Errors
    /// When it is too large or the card refuses.
    pub fn save(&mut self, cell: Cell, bytes: Vec<u8>) -> Result<(), JournalFault> {
        if bytes.len() > ENTRY_MAX {
            return Err(JournalFault::TooLarge(bytes.len()));
        }
        Ok(self.commit(vec![(cell as usize, CELL, 0, cell as u64, bytes)])?)
    }

    /// Writes the tombstones of released entries, when there are any and nothing else is to do.
    ///
    /// # Errors
    /// When the card refuses.
    pub fn tidy(&mut self) -> Result<(), DiskFault> {
        if self.is_tidy() { Ok(()) } else { self.commit(Vec::new()) }
    }

    /// True when no tombstone waits.
    fn is_tidy(&self) -> bool {
        self.released.is_empty() && self.left_behind.is_empty()
    }

    /// Writes slots and waiting tombstones: all of copy A, a flush, all of copy B, a flush.
    fn commit(&mut self, writes: Vec<Write>) -> Result<(), DiskFault> {
        let mut blocks = BTreeMap::new();
        let tombstones: Vec<usize> = self.left_behind.iter().chain(self.released.keys().take(TOMBSTONES_MAX)).copied().collect();
        for slot in tombstones.iter().filter(|slot| writes.iter().all(|(at, ..)| at != *slot)) {
            blocks.insert(*slot, self.tombstone(*slot)?);
        }
        for (slot, kind, place, key, bytes) in writes {
            blocks.insert(slot, Slot { kind, place, generation: 0, key, card: self.card, bytes });
        }
        for slot in blocks.values_mut() {
            self.generation += 1;
            slot.generation = self.generation;
        }
        let blocks: Blocks = blocks.into_iter().map(|(at, slot)| (at, Block::Slot(slot))).collect();
        for copy in 0..2 {
            let again = std::mem::take(&mut self.unsure[copy]);
            self.write(copy, again)?;
        }
        if let Err(fault) = self.write(0, blocks.clone()) {
            self.unsure[1] = blocks;
            return Err(fault);
        }
        self.write(1, blocks)?;
        self.left_behind.clear();
        tombstones.iter().for_each(|slot| _ = self.released.remove(slot));
        Ok(())
    }

    /// Writes blocks of one copy and flushes them; they stay unsure when the card refuses.
    fn write(&mut self, copy: usize, blocks: Blocks) -> Result<(), DiskFault> {
        if blocks.is_empty() {
            return Ok(());
        }
        let base = if copy == 0 { 0 } else { copy_b(self.slots as u64) };
        let mut written = Ok(());
        for (at, block) in &blocks {
            let block = match block {
                Block::Slot(slot) => Ok(slot.encode()),
                Block::Again => self.slot(*at).map(|slot| encoded(slot.as_ref())),
            };
            let write = |block: Vec<u8>| self.disk.write(FileId::Journal, base + *at as u64 * BLOCK, &block);
            written = written.and_then(|()| block.and_then(write));
            self.written.0 += BLOCK;
        }
        self.written.1 += 1;
        written = written.and_then(|()| self.disk.sync(FileId::Journal));
        if written.is_err() {
            self.unsure[copy] = blocks;
        }
        written
    }

    /// A free slot; the one of the highest entry id keeps its bytes, which carry the counters on.
    fn tombstone(&self, slot: usize) -> Result<Slot, DiskFault> {
        match self.newest {
            Some((entry_id, newest)) if newest == slot => {
                let bytes = self.slot(slot)?.map(|kept| kept.bytes).unwrap_or_default();
                Ok(self.free_slot(entry_id.0, bytes))
            }
            _ => {
                let bytes = self.released.get(&slot).map_or(Vec::new(), |entry_id| entry_id.0.to_be_bytes().to_vec());
                Ok(self.free_slot(0, bytes))
            }
        }
    }

    fn free_slot(&self, key: u64, bytes: Vec<u8>) -> Slot {
        Slot { kind: FREE, place: 0, generation: 0, key, card: self.card, bytes }
    }
}

fn cell_of(key: u64) -> Option<Cell> {
    [Cell::Configuration, Cell::Clock, Cell::Locks].into_iter().find(|cell| *cell as u64 == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_slots_is_read_back_from_the_length() {
        for slots in [6, 100, 1024, 4096] {
            assert_eq!(slots_of(file_len(slots)), slots);
        }
    }
}
