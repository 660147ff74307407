//! Journal load: reads the slots of a journal, and detects damaged copies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Cell;
use super::disk::{Disk, DiskFault, FileId};
use super::journal::Journal;
use super::journal_layout::{BATCH_MAX, PIECE, RESERVED, TOMBSTONES_MAX, copy_b, file_len};
use super::journal_slot::{Block, CELL, ENTRY, FREE, START, Slot, encoded, newer, ours};
use super::loaded_journal::{LoadedJournal, SpoiledCopy};
use super::side_files::{self, slots_in};
use crate::format::block::BLOCK;
use crate::format::card_id::CardId;
use crate::units::{Boot, EntryId, RingId};

impl Journal {
    /// Opens the journal of a card. Creates one of `slots` slots if there is none; an existing
    /// journal keeps its size.
    ///
    /// # Errors
    /// If the card reports an error.
    pub fn open(
        disk: Arc<dyn Disk>,
        card: CardId,
        slots: u32,
        existing: Option<u64>,
    ) -> Result<(Journal, LoadedJournal), DiskFault> {
        let slots = match existing
            .map(|len| slots_in(disk.as_ref(), len))
            .filter(|slots| *slots > RESERVED as u64)
        {
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
            slot_by_entry: BTreeMap::new(),
            free: (RESERVED..slots).collect(),
            newest: None,
            next: RESERVED,
            released: BTreeMap::new(),
            uncommitted: BTreeSet::new(),
            unverified: [BTreeMap::new(), BTreeMap::new()],
            written_bytes: 0,
            flushes: 0,
        };
        let loaded = journal.read()?;
        Ok((journal, loaded))
    }

    /// Reads a journal of `len` bytes that a running agent may be writing.
    ///
    /// # Errors
    /// If the card reports an error.
    pub fn open_read_only(
        disk: Arc<dyn Disk>,
        card: CardId,
        len: u64,
    ) -> Result<LoadedJournal, DiskFault> {
        match slots_in(disk.as_ref(), len) {
            slots if slots > RESERVED as u64 => Ok(Journal::open(disk, card, 0, Some(len))?.1),
            _ => Ok(LoadedJournal::default()),
        }
    }

    fn read(&mut self) -> Result<LoadedJournal, DiskFault> {
        let mut loaded = LoadedJournal { slots: self.slots as u64, ..LoadedJournal::default() };
        let (mut slots, mut in_b, mut released) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut spoiled = Vec::new();
        for first in (0..self.slots).step_by(PIECE) {
            let (len, at) = (PIECE.min(self.slots - first) * BLOCK as usize, first as u64 * BLOCK);
            let a = self.disk.read(FileId::Journal, at, len)?;
            let b = self.disk.read(FileId::Journal, copy_b(self.slots as u64) + at, len)?;
            for (at, (a, b)) in a.chunks(BLOCK as usize).zip(b.chunks(BLOCK as usize)).enumerate() {
                let place = (first + at) as u64 * BLOCK;
                let (a, foreign_a) = ours(self.card, a);
                let (b, foreign_b) = ours(self.card, b);
                loaded.foreign.extend(foreign_a.then_some(place));
                loaded.foreign.extend(foreign_b.then_some(copy_b(self.slots as u64) + place));
                spoiled.extend(spoiled_copy(first + at, self.slots, a, b));
                let slot =
                    self.compare(first + at, a, b, &mut in_b, &mut loaded).map(|mut slot| {
                        released.extend(slot.tombstone_of());
                        // Drop the bytes of entries: a full journal is larger than the memory of a
                        // small board.
                        if matches!(slot.kind, ENTRY | FREE) {
                            slot.bytes = Vec::new();
                        }
                        (first + at, slot)
                    });
                slots.extend(slot);
            }
        }
        // In the order of writing: the last slot of an entry id counts.
        slots.sort_by_key(|(_, slot)| slot.generation);
        for (at, slot) in &slots {
            self.generation = slot.generation;
            self.apply_slot(*at, slot.clone(), &mut loaded);
        }
        self.drop_torn(&slots, &in_b, &released);
        self.boot = loaded.boot;
        self.ring = loaded.ring;
        self.record = loaded.record;
        judge_copies(&mut loaded, self.generation, &spoiled);
        loaded.entries = self.slot_by_entry.keys().copied().collect();
        if let Some((entry_id, at)) = self.newest {
            loaded.newest = self.slot(at)?.map(|slot| (entry_id, slot.bytes));
        }
        Ok(loaded)
    }

    /// Compares the two copies of a slot. Returns the one that counts and marks what must be
    /// rewritten.
    fn compare(
        &mut self,
        at: usize,
        a: &[u8],
        b: &[u8],
        in_b: &mut BTreeSet<usize>,
        loaded: &mut LoadedJournal,
    ) -> Option<Slot> {
        let newer = newer(a, b).map(|(slot, is_in_b)| {
            if is_in_b {
                in_b.insert(at);
            }
            slot
        });
        let written = |copy: &[u8]| copy.iter().any(|byte| *byte != 0);
        // If only one copy was ever written, a power cut interrupted the first write of the slot.
        loaded.damaged += u32::from(newer.is_none() && written(a) && written(b));
        let right = encoded(newer.as_ref());
        if a != right || b != right {
            self.unverified.iter_mut().for_each(|copy| _ = copy.insert(at, Block::Again));
        } else if newer.as_ref().is_some_and(|slot| slot.kind != FREE || slot.key > 0) {
            // The kernel may show a copy B whose flush failed before the restart. Rewrite every
            // slot in use: 4 KiB for each pending entry.
            self.unverified[1].insert(at, Block::Again);
        }
        newer
    }

    /// Truncates a batch that a power cut left with a gap: entries behind the gap were never
    /// reported, and an entry without its predecessor breaks the sequence.
    ///
    /// Only the newest batch can have such a gap, and only if none of its entries is in copy B:
    /// copy B is written after all of copy A is durable. An entry with a tombstone was
    /// delivered and is no gap; copy B may be damaged as a whole.
    fn drop_torn(
        &mut self,
        slots: &[(usize, Slot)],
        in_b: &BTreeSet<usize>,
        released: &BTreeSet<u64>,
    ) {
        let Some((newest, newest_at)) = self.newest else {
            return;
        };
        let Some(place) =
            slots.iter().find(|(at, _)| *at == newest_at).map(|(_, slot)| u64::from(slot.place))
        else {
            return;
        };
        let first = newest.0.saturating_sub(place);
        let there: BTreeMap<u64, usize> = self
            .slot_by_entry
            .range(EntryId(first)..)
            .map(|(entry_id, at)| (entry_id.0, *at))
            .collect();
        let gap = (first..=newest.0).find(|entry_id| {
            !there.contains_key(entry_id) && !released.contains(entry_id) && *entry_id != newest.0
        });
        let Some(gap) =
            gap.filter(|_| !there.values().chain([&newest_at]).any(|at| in_b.contains(at)))
        else {
            return;
        };
        for (entry_id, at) in there.range(gap..).map(|(entry_id, at)| (EntryId(*entry_id), *at)) {
            self.release(entry_id);
            self.generation += 1;
            let free = Slot { generation: self.generation, ..self.free_slot(0, Vec::new()) };
            self.unverified
                .iter_mut()
                .for_each(|copy| _ = copy.insert(at, Block::Slot(free.clone())));
        }
        let before =
            slots.iter().filter(|(at, slot)| *at >= RESERVED && (1..gap).contains(&slot.key));
        let last = before.max_by_key(|(_, slot)| (slot.key, slot.generation));
        self.newest = last.map(|(at, slot)| (EntryId(slot.key), *at));
    }

    fn apply_slot(&mut self, at: usize, slot: Slot, loaded: &mut LoadedJournal) {
        let entry_id = EntryId(slot.key);
        match slot.kind {
            START => {
                loaded.boot = Boot(slot.key as u32);
                loaded.clean = slot.bytes.first() == Some(&1);
                let number = |from: usize| {
                    slot.bytes.get(from..from + 8)?.try_into().ok().map(u64::from_be_bytes)
                };
                loaded.ring = number(1).map(RingId);
                loaded.record = number(9).unwrap_or(0);
                let stated = side_files::decode(&slot.bytes);
                loaded.snapshots = stated.map(|(snapshots, _)| snapshots);
                loaded.stated_slots = stated.map(|(_, slots)| slots);
            }
            CELL => loaded.cells.extend(cell_of(slot.key).map(|cell| (cell, slot.bytes))),
            ENTRY | FREE if at >= RESERVED && entry_id.0 > 0 => {
                // A rejected entry that was offered again may occupy two slots.
                self.release(entry_id);
                if self.newest.is_none_or(|(newest, _)| newest <= entry_id) {
                    self.newest = Some((entry_id, at));
                }
                if slot.kind == ENTRY {
                    self.free.remove(&at);
                    self.slot_by_entry.insert(entry_id, at);
                }
            }
            _ => {}
        }
    }
}

fn cell_of(key: u64) -> Option<Cell> {
    [Cell::Login, Cell::Clock, Cell::Locks].into_iter().find(|cell| *cell as u64 == key)
}

/// Finds a damaged copy of a slot by comparing both copies. Returns its offset and the generation
/// of the other copy.
pub(super) fn spoiled_copy(at: usize, slots: usize, a: &[u8], b: &[u8]) -> Option<(u64, u64)> {
    let at = at as u64 * BLOCK;
    let empty = |copy: &[u8]| copy.iter().all(|byte| *byte == 0);
    match (Slot::decode(a), Slot::decode(b)) {
        (Some(slot), None) => Some((copy_b(slots as u64) + at, slot.generation)),
        (None, Some(slot)) => Some((at, slot.generation)),
        (None, None) if empty(a) != empty(b) => {
            Some((if empty(a) { copy_b(slots as u64) + at } else { at }, u64::MAX))
        }
        _ => None,
    }
}

/// A commit writes and flushes copy A before copy B. A power cut therefore damages only slots of
/// the last commit.
pub(super) fn judge_copies(loaded: &mut LoadedJournal, newest: u64, spoiled: &[(u64, u64)]) {
    let last_commit = newest.saturating_sub((TOMBSTONES_MAX + BATCH_MAX) as u64);
    let judge = |(offset, generation): &(u64, u64)| SpoiledCopy {
        offset: *offset,
        cut: !loaded.clean && *generation >= last_commit,
    };
    loaded.copies = spoiled.iter().map(judge).collect();
}

/// The cards named by the copies of the journal: for each copy the card of most of its first slots.
///
/// # Errors
/// If the directory cannot be read.
pub fn cards(disk: &dyn Disk) -> Result<Vec<CardId>, DiskFault> {
    let len = disk.files()?.get(&FileId::Journal).copied().unwrap_or_default();
    let slots = slots_in(disk, len);
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
