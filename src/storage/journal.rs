//! Journal: stores outbox entries and cells in checksummed slots, each in two distant copies.
//!
//! The valid copy with the higher generation counts ([`crate::format::on_disk`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Cell;
use super::disk::{Disk, DiskFault, FileId};
use super::journal_layout::{BATCH_MAX, ENTRY_MAX, RESERVED, TOMBSTONES_MAX, copy_b, file_len};
use super::journal_slot::{Block, Blocks, CELL, ENTRY, FREE, START, Slot, encoded, newer, ours};
use super::side_files;
use crate::format::block::BLOCK;
use crate::format::card_id::CardId;
use crate::units::{Boot, EntryId, RingId};

/// Problem reported for a ring with footage whose journal is missing or has no boot record.
pub const LOST: &str =
    "journal.taimat is missing or empty: evidence locks and outbox entries are lost";

/// Problem reported for a journal that knows fewer boots than the footage beside it.
pub const OLDER: &str = "journal.taimat is older than the footage, an earlier copy was put back: \
                         evidence locks and outbox entries since then are lost";

/// Reason why the journal did not store something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalFault {
    /// The entry is larger than a slot.
    #[error("an entry of {0} bytes is larger than {ENTRY_MAX}")]
    TooLarge(usize),
    /// No slot is free.
    #[error("all {0} slots of the journal are in use")]
    Full(usize),
    /// The card reported an error.
    #[error(transparent)]
    Disk(#[from] DiskFault),
}

/// A slot to be written.
struct SlotWrite {
    at: usize,
    kind: u8,
    /// Position in the batch, from 0.
    place: u8,
    key: u64,
    bytes: Vec<u8>,
}

/// Writes and recovers the slots of `journal.taimat`.
pub struct Journal {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) card: CardId,
    pub(super) slots: usize,
    pub(super) generation: u64,
    pub(super) boot: Boot,
    pub(super) ring: Option<RingId>,
    /// Highest record number of the ring that this journal knows.
    pub(super) record: u64,
    /// Length of the snapshots file, bytes.
    pub(super) snapshots: u64,
    pub(super) slot_by_entry: BTreeMap<EntryId, usize>,
    pub(super) free: BTreeSet<usize>,
    pub(super) newest: Option<(EntryId, usize)>,
    /// Slot at which the search for a free slot continues. Distributes wear over all slots.
    pub(super) next: usize,
    /// Slots of released entries whose tombstone is not written yet, with the entry.
    pub(super) released: BTreeMap<usize, EntryId>,
    /// Slots of a batch whose commit failed. The next commit must overwrite them, or their entries
    /// may be found twice.
    pub(super) uncommitted: BTreeSet<usize>,
    /// Blocks of copies A and B that may differ from what they should hold, because they were
    /// damaged or a write or flush failed. The next commit rewrites them first, A before B, so that
    /// no slot depends on a single copy.
    pub(super) unverified: [Blocks; 2],
    /// Bytes written since this boot.
    pub written_bytes: u64,
    /// Flushes since this boot.
    pub flushes: u64,
}

impl Journal {
    /// Length of its file, bytes.
    pub fn size(&self) -> u64 {
        file_len(self.slots as u64)
    }

    /// Bytes written over the life of this journal. Each written slot has its own generation and
    /// two copies.
    pub fn lifetime(&self) -> u64 {
        self.generation * BLOCK * 2
    }

    /// The copy of a slot that counts.
    pub(super) fn slot(&self, at: usize) -> Result<Option<Slot>, DiskFault> {
        let copy = |base| self.disk.read(FileId::Journal, base + at as u64 * BLOCK, BLOCK as usize);
        let (a, b) = (copy(0)?, copy(copy_b(self.slots as u64))?);
        Ok(newer(ours(self.card, &a).0, ours(self.card, &b).0).map(|(slot, _)| slot))
    }

    /// The bytes of an entry; `None` if the journal does not hold it or both copies are damaged.
    ///
    /// # Errors
    /// If the card reports an error.
    pub fn entry(&self, entry_id: EntryId) -> Result<Option<Vec<u8>>, DiskFault> {
        let Some(at) = self.slot_by_entry.get(&entry_id) else {
            return Ok(None);
        };
        let slot = self.slot(*at)?.filter(|slot| slot.kind == ENTRY && slot.key == entry_id.0);
        Ok(slot.map(|slot| slot.bytes))
    }

    /// Number of entries the journal can hold.
    pub fn slots(&self) -> u32 {
        (self.slots - RESERVED) as u32
    }

    /// Continues above `newest`, the newest boot in the footage. `is_older`: the footage is newer than
    /// this journal, so the ring gets a new id, because its numbers were given already.
    pub fn skip_boots(&mut self, newest: Boot, is_older: bool) {
        if is_older {
            self.ring = None;
        }
        self.boot = self.boot.max(newest);
    }

    /// Starts the next boot. Draws the id of the ring if it has none.
    ///
    /// # Errors
    /// If the card reports an error.
    pub fn start_boot(&mut self) -> Result<(RingId, Boot), DiskFault> {
        self.boot = Boot(self.boot.0 + 1);
        let ring = *self.ring.get_or_insert_with(|| RingId(self.disk.draw()));
        self.commit(vec![self.boot_record(false)])?;
        Ok((ring, self.boot))
    }

    /// Notes the highest record number; stored with the next boot or orderly stop.
    pub fn note_record(&mut self, newest: u64) {
        self.record = self.record.max(newest);
    }

    /// The boot record: `ended`, the id of the ring, its newest record and the
    /// sizes of both files.
    fn boot_record(&self, ended: bool) -> SlotWrite {
        let mut bytes = vec![u8::from(ended)];
        bytes.extend(self.ring.unwrap_or_default().0.to_be_bytes());
        bytes.extend(self.record.to_be_bytes());
        bytes.extend(side_files::encode(self.snapshots, self.slots));
        SlotWrite { at: 0, kind: START, place: 0, key: u64::from(self.boot.0), bytes }
    }

    /// Records an orderly stop and writes every pending tombstone.
    ///
    /// # Errors
    /// If the card reports an error.
    pub fn end(&mut self) -> Result<(), DiskFault> {
        while !self.has_no_tombstones() {
            self.write_tombstones()?;
        }
        self.commit(vec![self.boot_record(true)])
    }

    /// Stores an entry; it survives a power cut once this returns `Ok`.
    ///
    /// # Errors
    /// If it is too large, every slot is in use or the card reports an error.
    pub fn enqueue(&mut self, entry_id: EntryId, bytes: Vec<u8>) -> Result<(), JournalFault> {
        self.enqueue_all(vec![(entry_id, bytes)])
    }

    /// Stores entries with consecutive ids with one flush of each copy. All survive a power cut
    /// once this returns `Ok`. A power cut during the call keeps a prefix of the batch.
    ///
    /// # Errors
    /// If an entry is too large, too few slots are free or the card reports an error. No entry
    /// counts as stored then.
    pub fn enqueue_all(&mut self, entries: Vec<(EntryId, Vec<u8>)>) -> Result<(), JournalFault> {
        if let Some((_, bytes)) = entries.iter().find(|(_, bytes)| bytes.len() > ENTRY_MAX) {
            return Err(JournalFault::TooLarge(bytes.len()));
        }
        let newest = self.newest.map(|(_, slot)| slot);
        let usable = |slot: &&usize| Some(**slot) != newest;
        let (after, before) = (self.free.range(self.next..), self.free.range(..self.next));
        let chosen: Vec<usize> =
            after.chain(before).filter(usable).take(entries.len()).copied().collect();
        if chosen.len() < entries.len() || entries.len() > BATCH_MAX {
            return Err(JournalFault::Full(self.slots - RESERVED));
        }
        let entry_ids: Vec<EntryId> = entries.iter().map(|(entry_id, _)| *entry_id).collect();
        let mut writes = Vec::with_capacity(entries.len());
        for (place, (at, (entry_id, bytes))) in chosen.iter().zip(entries).enumerate() {
            writes.push(SlotWrite {
                at: *at,
                kind: ENTRY,
                place: place as u8,
                key: entry_id.0,
                bytes,
            });
        }
        self.next = chosen.last().map_or(self.next, |slot| slot + 1);
        if let Err(fault) = self.commit(writes) {
            // The entries may be on the card nevertheless. Overwrite them, or a retry is found
            // twice.
            self.uncommitted.extend(chosen);
            return Err(fault.into());
        }
        for (slot, entry_id) in chosen.into_iter().zip(entry_ids) {
            self.free.remove(&slot);
            self.released.remove(&slot);
            self.uncommitted.remove(&slot);
            self.slot_by_entry.insert(entry_id, slot);
            self.newest = Some((entry_id, slot));
        }
        Ok(())
    }

    /// Releases an entry; a later commit writes its tombstone.
    pub fn release(&mut self, entry_id: EntryId) {
        if let Some(slot) = self.slot_by_entry.remove(&entry_id) {
            self.free.insert(slot);
            self.released.insert(slot, entry_id);
        }
    }

    /// Stores a cell.
    ///
    /// # Errors
    /// If it is too large or the card reports an error.
    pub fn save(&mut self, cell: Cell, bytes: Vec<u8>) -> Result<(), JournalFault> {
        if bytes.len() > ENTRY_MAX {
            return Err(JournalFault::TooLarge(bytes.len()));
        }
        Ok(self.commit(vec![SlotWrite {
            at: cell as usize,
            kind: CELL,
            place: 0,
            key: cell as u64,
            bytes,
        }])?)
    }

    /// Writes the tombstones of released entries, if there are any.
    ///
    /// # Errors
    /// If the card reports an error.
    pub fn write_tombstones(&mut self) -> Result<(), DiskFault> {
        if self.has_no_tombstones() { Ok(()) } else { self.commit(Vec::new()) }
    }

    /// True when no tombstone is pending.
    fn has_no_tombstones(&self) -> bool {
        self.released.is_empty() && self.uncommitted.is_empty()
    }

    /// Writes slots and pending tombstones: all of copy A, a flush, all of copy B, a flush.
    fn commit(&mut self, writes: Vec<SlotWrite>) -> Result<(), DiskFault> {
        let mut blocks = BTreeMap::new();
        let tombstones: Vec<usize> = self
            .uncommitted
            .iter()
            .chain(self.released.keys().take(TOMBSTONES_MAX))
            .copied()
            .collect();
        for slot in tombstones.iter().filter(|slot| writes.iter().all(|write| write.at != **slot)) {
            blocks.insert(*slot, self.tombstone(*slot)?);
        }
        for SlotWrite { at, kind, place, key, bytes } in writes {
            blocks.insert(at, Slot { kind, place, generation: 0, key, card: self.card, bytes });
        }
        for slot in blocks.values_mut() {
            self.generation += 1;
            slot.generation = self.generation;
        }
        let blocks: Blocks = blocks.into_iter().map(|(at, slot)| (at, Block::Slot(slot))).collect();
        for copy in 0..2 {
            let again = std::mem::take(&mut self.unverified[copy]);
            self.write(copy, again)?;
        }
        if let Err(fault) = self.write(0, blocks.clone()) {
            self.unverified[1] = blocks;
            return Err(fault);
        }
        self.write(1, blocks)?;
        self.uncommitted.clear();
        tombstones.iter().for_each(|slot| _ = self.released.remove(slot));
        Ok(())
    }

    /// Writes and flushes blocks of one copy; they are rewritten by the next commit if this fails.
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
            let write = |block: Vec<u8>| {
                self.disk.write(FileId::Journal, base + *at as u64 * BLOCK, &block)
            };
            written = written.and_then(|()| block.and_then(write));
            self.written_bytes += BLOCK;
        }
        self.flushes += 1;
        written = written.and_then(|()| self.disk.sync(FileId::Journal));
        if written.is_err() {
            self.unverified[copy] = blocks;
        }
        written
    }

    /// A free slot. The slot of the highest entry id keeps its bytes, which hold the event
    /// counters.
    fn tombstone(&self, slot: usize) -> Result<Slot, DiskFault> {
        match self.newest {
            Some((entry_id, newest)) if newest == slot => {
                let bytes = self.slot(slot)?.map(|loaded| loaded.bytes).unwrap_or_default();
                Ok(self.free_slot(entry_id.0, bytes))
            }
            _ => {
                let bytes = self
                    .released
                    .get(&slot)
                    .map_or(Vec::new(), |entry_id| entry_id.0.to_be_bytes().to_vec());
                Ok(self.free_slot(0, bytes))
            }
        }
    }

    pub(super) fn free_slot(&self, key: u64, bytes: Vec<u8>) -> Slot {
        Slot { kind: FREE, place: 0, generation: 0, key, card: self.card, bytes }
    }
}
