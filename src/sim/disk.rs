//! A card in memory that loses power: whatever was written since the last flush survives in any subset of 512-byte sectors.
//!
//! What belongs here: the [`Disk`] trait with faults. What does not: what is written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rng::Rng;
use crate::storage::disk::{Disk, DiskFault, FileId};

/// What a card writes at once or not at all.
const SECTOR: usize = 512;

/// A flush that can be left out, to prove that the checks would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// Of segment files.
    Ring,
    /// Of the journal.
    Journal,
}

#[derive(Debug, Default, Clone)]
struct SimFile {
    durable: Vec<u8>,
    live: Vec<u8>,
    /// Writes since the last flush.
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<FileId, SimFile>,
    operations: u64,
    /// The power goes before this operation.
    cut_at: Option<u64>,
    off: bool,
    ignored: Option<Barrier>,
    /// This many flushes from now one fails.
    failing_sync: Option<u64>,
    /// Segment files whose head was written since somebody asked: what was in them is evicted.
    begun: Vec<u32>,
    /// Bytes in use beyond our own files.
    others: u64,
    /// The file system was remounted read-only.
    read_only: bool,
    reads: u64,
}

/// Size of the card in bytes.
const SIZE: u64 = 1 << 40;

/// The card; clones share it.
#[derive(Debug, Default, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    /// An empty card that does not honour `ignored` flushes.
    pub fn new(ignored: Option<Barrier>) -> SimDisk {
        let disk = SimDisk::default();
        disk.lock().ignored = ignored;
        disk
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes after this many more operations.
    pub fn cut_after(&self, operations: u64) {
        let mut state = self.lock();
        state.cut_at = Some(state.operations + operations);
    }

    /// A flush fails after this many more; what it should have made durable is uncertain.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.lock().failing_sync = Some(syncs);
    }

    /// Others fill the card: only so many bytes are left.
    pub fn leave_only(&self, bytes: u64) {
        self.lock().others = SIZE - bytes;
    }

    /// How often something was read.
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// The kernel remounts the file system read-only, or writable again.
    pub fn read_only(&self, read_only: bool) {
        self.lock().read_only = read_only;
    }

    /// Segment files begun anew since the last call.
    pub fn take_begun(&self) -> Vec<u32> {
        std::mem::take(&mut self.lock().begun)
    }

    /// The power is gone.
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// Power comes back: of what was not flushed, a random subset of sectors is there.
    pub fn power_on(&self, rng: &mut Rng) {
        let mut state = self.lock();
        // Some cards keep nearly everything, some nearly nothing, some tear anywhere.
        let keep = [0, 10, 50, 90, 100][rng.below(5) as usize];
        for file in state.files.values_mut() {
            for (offset, bytes) in std::mem::take(&mut file.pending) {
                for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                    if rng.below(100) < keep {
                        let at = offset + n * SECTOR;
                        file.durable[at..at + sector.len()].copy_from_slice(sector);
                    }
                }
            }
            file.live = file.durable.clone();
        }
        (state.off, state.cut_at) = (false, None);
    }
}

impl State {
    /// Counts an operation; an error when the power is gone.
    fn step(&mut self, file: FileId, what: &'static str, offset: u64) -> Result<(), DiskFault> {
        self.operations += 1;
        self.off |= self.cut_at.is_some_and(|at| self.operations >= at);
        match (self.off, self.read_only) {
            (true, _) => Err(fault(file, what, offset, "the power is off")),
            (_, true) => Err(fault(file, what, offset, "read-only file system")),
            _ => Ok(()),
        }
    }
}

fn fault(file: FileId, what: &'static str, offset: u64, reason: &str) -> DiskFault {
    DiskFault { file: file.name(), what, offset, reason: reason.into() }
}

impl Disk for SimDisk {
    fn files(&self) -> Result<BTreeMap<FileId, u64>, DiskFault> {
        Ok(self.lock().files.iter().map(|(file, bytes)| (*file, bytes.live.len() as u64)).collect())
    }

    fn create(&self, file: FileId, len: u64) -> Result<(), DiskFault> {
        let mut state = self.lock();
        state.step(file, "create", 0)?;
        let zeros = vec![0; len as usize];
        state.files.insert(file, SimFile { durable: zeros.clone(), live: zeros, pending: Vec::new() });
        Ok(())
    }

    fn remove(&self, file: FileId) -> Result<(), DiskFault> {
        let mut state = self.lock();
        state.step(file, "remove", 0)?;
        state.files.remove(&file);
        Ok(())
    }

    fn read(&self, file: FileId, offset: u64, len: usize) -> Result<Vec<u8>, DiskFault> {
        let mut state = self.lock();
        if state.off {
            return Err(fault(file, "read", offset, "the power is off"));
        }
        state.reads += 1;
        let at = offset as usize;
        let bytes = state.files.get(&file).and_then(|bytes| bytes.live.get(at..at + len));
        bytes.map(<[u8]>::to_vec).ok_or_else(|| fault(file, "read", offset, "past the end"))
    }

    fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskFault> {
        let mut state = self.lock();
        if state.off {
            return Err(fault(file, "write", offset, "the power is off"));
        }
        let step = state.step(file, "write", offset);
        let at = offset as usize;
        if state.files.get(&file).is_none_or(|target| at + bytes.len() > target.live.len()) {
            return Err(fault(file, "write", offset, "past the end"));
        }
        if let (FileId::Segment(segment), 0) = (file, offset) {
            state.begun.push(segment);
        }
        let read_only = state.read_only;
        let Some(target) = state.files.get_mut(&file) else {
            return Err(fault(file, "write", offset, "no such file"));
        };
        // The write during which the power goes may still reach the card in part.
        if !read_only {
            target.pending.push((at, bytes.to_vec()));
        }
        step?;
        target.live[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self, file: FileId) -> Result<(), DiskFault> {
        let mut state = self.lock();
        state.step(file, "flush", 0)?;
        if let Some(left) = &mut state.failing_sync {
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.failing_sync = None;
                return Err(fault(file, "flush", 0, "input/output error"));
            }
        }
        let ignored = match state.ignored {
            Some(Barrier::Ring) => matches!(file, FileId::Segment(_)),
            Some(Barrier::Journal) => file == FileId::Journal,
            None => false,
        };
        if let Some(target) = state.files.get_mut(&file).filter(|_| !ignored) {
            for (at, bytes) in std::mem::take(&mut target.pending) {
                target.durable[at..at + bytes.len()].copy_from_slice(&bytes);
            }
        }
        Ok(())
    }

    fn draw(&self) -> u64 {
        // One simulated card: a seed must replay the same bytes.
        17
    }

    fn available(&self) -> u64 {
        SIZE - self.lock().others
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::test_settings;
    use crate::storage::engine::Engine;
    use crate::storage::{StorageNews, StorageOrder};
    use crate::units::{Stamp, Ticket};

    fn open(disk: &SimDisk) -> (Engine, Vec<StorageNews>) {
        Engine::open(Arc::new(disk.clone()), &test_settings().storage, Stamp::default()).unwrap()
    }

    #[test]
    fn a_full_card_is_refused_with_what_is_wanted_and_what_there_is() {
        let disk = SimDisk::new(None);
        disk.leave_only(5_000_000);
        let refused = Engine::open(Arc::new(disk), &test_settings().storage, Stamp::default()).err().unwrap().to_string();
        assert!(refused.contains("5000000") && refused.contains("storage.budget"), "{refused}");
    }

    #[test]
    fn a_stored_entry_survives_any_power_cut_and_a_released_one_does_not_come_back_after_an_ordered_stop() {
        for seed in 0..200 {
            let (disk, mut rng) = (SimDisk::new(None), Rng::new(seed));
            let (mut engine, _) = open(&disk);
            let mut stored = Vec::new();
            disk.cut_after(rng.below(60));
            for ticket in 1..20 {
                let mut out = Vec::new();
                let entry = format!("entry {ticket}").into_bytes();
                engine.order(Stamp::default(), StorageOrder::Enqueue { ticket: Ticket(ticket), entry, still: None }, &mut out);
                // A box without power says nothing, whatever it still decides.
                if !disk.is_off() && out.contains(&StorageNews::Enqueued { ticket: Ticket(ticket) }) {
                    stored.push(Ticket(ticket));
                }
            }
            disk.power_on(&mut rng);
            let (mut engine, news) = open(&disk);
            let Some(StorageNews::Started(found)) = news.first() else { panic!("no start") };
            let kept: Vec<Ticket> = found.entries.iter().map(|(ticket, _)| *ticket).collect();
            assert!(stored.iter().all(|ticket| kept.contains(ticket)), "seed {seed}: stored {stored:?}, kept {kept:?}");
            for ticket in kept {
                engine.order(Stamp::default(), StorageOrder::Release { ticket }, &mut Vec::new());
            }
            engine.order(Stamp::default(), StorageOrder::Stop, &mut Vec::new());
            let (_, news) = open(&disk);
            let Some(StorageNews::Started(found)) = news.first() else { panic!("no start") };
            assert!(found.entries.is_empty() && found.clean, "seed {seed}: {:?}", found.entries);
        }
    }
}
