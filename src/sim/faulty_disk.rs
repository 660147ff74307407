//! Card in memory with faults: power cuts, failed reads, writes and flushes, slowness, read-only
//! mode.
//!
//! After a power cut any subset of the unflushed 512-byte sectors may be present.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::barrier::Barrier;
use super::cow_image::{Choices, CowImage, Pending, SECTOR};
use super::rng::Rng;
use crate::format::record::RECORD_TYPE;
use crate::format::segment_head::{COPY_TYPE, SegmentHead};
use crate::storage::disk::{Disk, DiskFault, FileId};

/// An operation that the card executed, completely or in part.
#[derive(Debug, Clone)]
pub enum Operation {
    /// A file was created.
    Create(FileId),
    /// A file was removed.
    Remove(FileId),
    /// Bytes were written; false: the card reported a failure.
    Write(Pending, bool),
    /// A file was flushed; false: the card reported a failure.
    Sync(FileId, bool),
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let failed = |taken: &bool| if *taken { "" } else { ", refused" };
        match self {
            Operation::Create(file) => write!(f, "create {}", file.name()),
            Operation::Remove(file) => write!(f, "remove {}", file.name()),
            Operation::Write(Pending { file, offset, bytes }, taken) => {
                write!(
                    f,
                    "write {} at {offset}, {} bytes{}",
                    file.name(),
                    bytes.len(),
                    failed(taken)
                )
            }
            Operation::Sync(file, taken) => write!(f, "flush {}{}", file.name(), failed(taken)),
        }
    }
}

/// A point after an operation at which the power may fail. Writes in `pending` may be present in
/// part,
/// so it also covers every moment within them.
#[derive(Debug, Clone)]
pub struct Point {
    /// The last operation.
    pub done: Operation,
    /// The durable content.
    pub durable: CowImage,
    /// Unflushed writes, oldest first.
    pub pending: Vec<Pending>,
    /// Files whose names are not yet durable.
    pub unsure: BTreeSet<FileId>,
}

#[derive(Debug, Default)]
struct State {
    durable: CowImage,
    /// The content that reads return.
    live: CowImage,
    /// Writes since the last flush, oldest first.
    pending: Vec<Pending>,
    unsure: BTreeSet<FileId>,
    /// Writes held back by a removed barrier.
    held: Vec<Pending>,
    operations: u64,
    reads: u64,
    /// Number of the operation before which the power fails.
    cut_at: Option<u64>,
    off: bool,
    without: Option<Barrier>,
    /// No record, and no commit, since the last boot.
    starting: bool,
    healing: bool,
    /// Operations until one fails.
    failing_sync: Option<u64>,
    failing_write: Option<u64>,
    failing_read: Option<u64>,
    /// Unreadable bytes.
    bad: Option<(FileId, std::ops::Range<usize>)>,
    /// Chooses the sectors that a failed flush writes.
    luck: Option<Rng>,
    /// Segment files reused since the last query; their old content is evicted.
    started: Vec<u32>,
    /// Bytes used by foreign files.
    others: u64,
    /// The file system was remounted read-only.
    read_only: bool,
    /// Microseconds per operation, and their sum.
    slow: u64,
    took: u64,
    /// Points since the last query; `None` until the first one.
    points: Option<Vec<Point>>,
}

/// Size of the card in bytes.
const SIZE: u64 = 1 << 40;

/// The card; clones share it.
#[derive(Debug, Default, Clone)]
pub struct FaultyDisk(Arc<Mutex<State>>);

impl FaultyDisk {
    /// An empty card; `without` is removed.
    pub fn new(without: Option<Barrier>) -> FaultyDisk {
        FaultyDisk::with(CowImage::default(), without)
    }

    /// A card with this durable content.
    pub fn with(card: CowImage, without: Option<Barrier>) -> FaultyDisk {
        let disk = FaultyDisk::default();
        let mut state = disk.lock();
        state.durable = card.clone();
        state.live = card;
        state.without = without;
        drop(state);
        disk
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power after this many operations.
    pub fn cut_after(&self, operations: u64) {
        let mut state = self.lock();
        state.cut_at = Some(state.operations + operations);
    }

    /// Makes the flush after this many fail, as Linux does: a part of the writes is durable, and
    /// the next flush succeeds without the rest, although every read returns it.
    pub fn fail_sync_after(&self, syncs: u64, luck: &mut Rng) {
        let mut state = self.lock();
        state.failing_sync = Some(syncs);
        state.luck = Some(Rng::new(luck.bits()));
    }

    /// Makes the write after this many fail half way.
    pub fn fail_write_after(&self, writes: u64) {
        self.lock().failing_write = Some(writes);
    }

    /// Makes the read after this many fail.
    pub fn fail_read_after(&self, reads: u64) {
        self.lock().failing_read = Some(reads);
    }

    /// Makes these bytes unreadable.
    #[cfg(test)]
    pub fn fail_reads_of(&self, file: FileId, range: std::ops::Range<usize>) {
        self.lock().bad = Some((file, range));
    }

    /// Fills the card with foreign files until `bytes` are free.
    pub fn leave_only(&self, bytes: u64) {
        self.lock().others = SIZE - bytes;
    }

    /// Number of reads.
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// Remounts the file system read-only, or writable again.
    #[cfg(test)]
    pub fn read_only(&self, read_only: bool) {
        self.lock().read_only = read_only;
    }

    /// Sets the duration of every write and flush, microseconds.
    pub fn slow(&self, micros: u64) {
        self.lock().slow = micros;
    }

    /// Microseconds of all operations since the last call.
    pub fn take_time(&self) -> u64 {
        std::mem::take(&mut self.lock().took)
    }

    /// Segment files reused since the last call.
    pub fn take_begun(&self) -> Vec<u32> {
        std::mem::take(&mut self.lock().started)
    }

    /// True after the power cut.
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// The content that reads return now.
    pub fn live(&self) -> CowImage {
        self.lock().live.clone()
    }

    /// The durable content.
    pub fn durable(&self) -> CowImage {
        self.lock().durable.clone()
    }

    /// Points since the last call; they are kept from the first call on.
    pub fn take_points(&self) -> Vec<Point> {
        self.lock().points.replace(Vec::new()).unwrap_or_default()
    }

    /// Restores power with a random subset of the unflushed sectors.
    pub fn power_on(&self, rng: &mut Rng) {
        let mut state = self.lock();
        // The share of surviving sectors differs widely between cards.
        let keep = [0, 10, 50, 90, 100][rng.below(5) as usize];
        let choices = Choices::new(&state.durable, &state.pending);
        let card = choices.apply(&state.durable, |_, states| {
            if rng.below(100) < keep { 1 + rng.below(states - 1) } else { 0 }
        });
        state.reset(card);
    }

    /// Kills the process at `point`; the kernel keeps all writes up to it.
    pub fn killed_at(&self, point: &Point) {
        let mut state = self.lock();
        state.reset(point.durable.clone());
        for write in &point.pending {
            state.live.write(write.file, write.offset, &write.bytes);
        }
        state.pending = point.pending.clone();
        state.unsure = point.unsure.clone();
    }

    /// Restores power with this content of the card.
    pub fn power_on_with(&self, card: CowImage) {
        self.lock().reset(card);
    }
}

impl State {
    fn reset(&mut self, card: CowImage) {
        self.durable = card.clone();
        self.live = card;
        self.off = false;
        self.cut_at = None;
        self.pending.clear();
        self.held.clear();
        self.unsure.clear();
    }

    /// Counts an operation; an error without power or on a read-only card.
    fn step(&mut self, file: FileId, what: &'static str, offset: u64) -> Result<(), DiskFault> {
        self.operations += 1;
        self.took += self.slow;
        self.off |= self.cut_at.is_some_and(|at| self.operations >= at);
        match (self.off, self.read_only) {
            (true, _) => Err(fault(file, what, offset, "the power is off")),
            (_, true) => Err(fault(file, what, offset, "read-only file system")),
            _ => Ok(()),
        }
    }

    fn note(&mut self, done: Operation) {
        let (durable, pending, unsure) =
            (self.durable.clone(), self.pending.clone(), self.unsure.clone());
        if let Some(points) = &mut self.points {
            points.push(Point { done, durable, pending, unsure });
        }
    }

    /// True for a write that evicts a file: zeros over its head, or the second copy of a new head.
    fn begins(&self, file: FileId, offset: usize, bytes: &[u8]) -> bool {
        let front = || {
            self.live
                .read(file, 0, (64 << 10).min(self.live.len(file)))
                .and_then(|bytes| SegmentHead::decode(&bytes))
        };
        match SegmentHead::decode_copy(bytes).filter(|_| bytes.get(8..24) == Some(&COPY_TYPE)) {
            Some(copy) => front().is_none_or(|(head, _)| head.lap != copy.lap),
            None => offset == 0 && bytes.iter().all(|byte| *byte == 0),
        }
    }

    /// Applies a write, changed by the removed barrier.
    fn take(&mut self, mut write: Pending) {
        let Pending { file, offset, bytes } = &write;
        let (file, offset) = (*file, *offset);
        if let FileId::Segment(segment) = file {
            self.started.extend(self.begins(file, offset, bytes).then_some(segment));
            self.starting &= bytes.get(8..24) != Some(&RECORD_TYPE);
        }
        // A commit writes new content to copy A; recovery writes what one copy has.
        let has = |at: usize| self.live.read(file, at, bytes.len()).as_deref() == Some(&bytes[..]);
        let mends =
            || has(offset) || has(offset + (4 << 20)) || bytes.iter().all(|byte| *byte == 0);
        self.healing &= file != FileId::Journal || offset >= 4 << 20 || mends();
        let healing = self.healing;
        let Some(without) = self.without else {
            self.live.write(file, offset, bytes);
            return self.pending.push(write);
        };
        if without.drops(file, offset, bytes, healing) {
            return;
        }
        self.live.write(file, offset, bytes);
        let back = without.holds_back(file, offset, bytes, self.live.len(file));
        let at = bytes.len() - back;
        if back > 0 {
            self.held.push(Pending { file, offset: offset + at, bytes: bytes[at..].into() });
        }
        if without == Barrier::Aligned && offset > 0 && matches!(file, FileId::Segment(_)) {
            let before = self.live.read(file, offset - SECTOR, SECTOR).unwrap_or_default();
            write = Pending {
                file,
                offset: offset - SECTOR,
                bytes: [&before, &write.bytes[..]].concat().into(),
            };
        } else if back > 0 {
            write.bytes = write.bytes[..at].into();
        }
        if !write.bytes.is_empty() {
            self.pending.push(write);
        }
    }

    /// Makes a file's writes durable.
    fn flush(&mut self, file: FileId) {
        let Some(last) = self.pending.iter().rev().find(|write| write.file == file) else {
            return;
        };
        if self.without.is_some_and(|without| without.leaves_out(file, last, self.starting)) {
            return;
        }
        let copy_b = file == FileId::Journal && last.offset >= 4 << 20;
        let (flushed, rest) =
            std::mem::take(&mut self.pending).into_iter().partition(|write| write.file == file);
        let flushed: Vec<Pending> = flushed;
        self.pending = rest;
        for Pending { file, offset, bytes } in flushed {
            self.durable.write(file, offset, &bytes);
        }
        let (released, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|write| write.file == file || copy_b && write.file == FileId::Snapshots);
        self.held = held;
        let released: Vec<Pending> = released;
        for write in released {
            match write.file {
                FileId::Snapshots => self.durable.write(write.file, write.offset, &write.bytes),
                _ => self.pending.push(write),
            }
        }
    }

    /// A failed flush: some sectors are durable, the others are dropped.
    fn forget(&mut self, file: FileId) {
        let (lost, rest) =
            std::mem::take(&mut self.pending).into_iter().partition(|write| write.file == file);
        let lost: Vec<Pending> = lost;
        self.pending = rest;
        let mut luck = self.luck.take().unwrap_or_else(|| Rng::new(0));
        self.durable =
            Choices::new(&self.durable, &lost).apply(&self.durable, |_, states| luck.below(states));
    }
}

/// Counts down; true when a fault is due.
fn due(left: &mut Option<u64>) -> bool {
    let now = left.is_some_and(|left| left <= 1);
    *left = left.filter(|_| !now).map(|left| left - 1);
    now
}

fn fault(file: FileId, what: &'static str, offset: u64, reason: &str) -> DiskFault {
    DiskFault { file: file.name(), what, offset, reason: reason.into(), gone: false }
}

impl Disk for FaultyDisk {
    fn files(&self) -> Result<BTreeMap<FileId, u64>, DiskFault> {
        let mut state = self.lock();
        state.starting = true;
        state.healing = true;
        Ok(state.live.lengths())
    }

    fn create(&self, file: FileId, len: u64) -> Result<(), DiskFault> {
        let mut state = self.lock();
        state.step(file, "create", 0)?;
        let used: u64 = state.live.lengths().values().sum();
        if used + len > SIZE - state.others {
            return Err(fault(file, "create", 0, "no space left on device"));
        }
        state.durable.create(file, len);
        state.live.create(file, len);
        if state.without == Some(Barrier::CreateFlush) {
            state.unsure.insert(file);
        }
        state.note(Operation::Create(file));
        Ok(())
    }

    fn remove(&self, file: FileId) -> Result<(), DiskFault> {
        let mut state = self.lock();
        state.step(file, "remove", 0)?;
        state.durable.remove(file);
        state.live.remove(file);
        state.pending.retain(|write| write.file != file);
        state.note(Operation::Remove(file));
        Ok(())
    }

    fn read(&self, file: FileId, offset: u64, len: usize) -> Result<Vec<u8>, DiskFault> {
        let mut state = self.lock();
        state.reads += 1;
        if state.off {
            return Err(fault(file, "read", offset, "the power is off"));
        }
        let at = offset as usize;
        let bad = state
            .bad
            .as_ref()
            .is_some_and(|(of, bad)| *of == file && at < bad.end && bad.start < at + len);
        if due(&mut state.failing_read) || bad {
            return Err(fault(file, "read", offset, "input/output error"));
        }
        state.live.read(file, at, len).ok_or_else(|| fault(file, "read", offset, "past the end"))
    }

    fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskFault> {
        let mut state = self.lock();
        if state.off {
            return Err(fault(file, "write", offset, "the power is off"));
        }
        if offset as usize + bytes.len() > state.live.len(file) {
            return Err(fault(file, "write", offset, "past the end"));
        }
        let step = state.step(file, "write", offset);
        if state.read_only {
            return step;
        }
        let failed = due(&mut state.failing_write);
        let arrives = if failed { bytes.len() / 2 / SECTOR * SECTOR } else { bytes.len() };
        // The write interrupted by the power cut may be present in part.
        let write = Pending { file, offset: offset as usize, bytes: bytes[..arrives].into() };
        state.take(write.clone());
        state.note(Operation::Write(write, !failed));
        step?;
        if failed { Err(fault(file, "write", offset, "input/output error")) } else { Ok(()) }
    }

    fn sync(&self, file: FileId) -> Result<(), DiskFault> {
        let mut state = self.lock();
        state.step(file, "flush", 0)?;
        let failed = due(&mut state.failing_sync);
        if failed {
            state.forget(file)
        } else {
            state.flush(file)
        }
        state.note(Operation::Sync(file, !failed));
        if failed { Err(fault(file, "flush", 0, "input/output error")) } else { Ok(()) }
    }

    fn forget(&self, file: FileId) {
        let state = &mut *self.lock();
        state.live.take_from(&state.durable, file);
        for write in state.pending.iter().chain(&state.held).filter(|write| write.file == file) {
            state.live.write(file, write.offset, &write.bytes);
        }
    }

    fn draw(&self) -> u64 {
        // A constant, so that a seed replays the same bytes.
        17
    }

    fn available(&self) -> u64 {
        let state = self.lock();
        (SIZE - state.others).saturating_sub(state.live.lengths().values().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::test_settings;
    use crate::storage::engine::Engine;
    use crate::storage::{StorageRequest, StorageUpdate};
    use crate::units::{EntryId, Timestamp};

    fn open(disk: &FaultyDisk) -> (Engine, Vec<StorageUpdate>) {
        Engine::open(Arc::new(disk.clone()), &test_settings().storage, Timestamp::default())
            .unwrap()
    }

    #[test]
    fn a_full_card_is_refused_with_needed_and_free_bytes() {
        let disk = FaultyDisk::new(None);
        disk.leave_only(5_000_000);
        let refused = Engine::open(Arc::new(disk), &test_settings().storage, Timestamp::default())
            .err()
            .unwrap()
            .to_string();
        assert!(refused.contains("5000000") && refused.contains("storage.budget"), "{refused}");
    }

    #[test]
    fn stored_entries_survive_and_released_ones_stay_released() {
        for seed in 0..200 {
            let (disk, mut rng) = (FaultyDisk::new(None), Rng::new(seed));
            let (mut engine, _) = open(&disk);
            let mut stored = Vec::new();
            disk.cut_after(rng.below(60));
            for entry_id in 1..20 {
                let mut out = Vec::new();
                let entry = format!("entry {entry_id}").into_bytes();
                engine.request(
                    Timestamp::default(),
                    StorageRequest::Enqueue { entry_id: EntryId(entry_id), entry, snapshot: None },
                    &mut out,
                );
                // Updates of a device without power do not count.
                if !disk.is_off()
                    && out.contains(&StorageUpdate::Enqueued { entry_id: EntryId(entry_id) })
                {
                    stored.push(EntryId(entry_id));
                }
            }
            disk.power_on(&mut rng);
            let (mut engine, update) = open(&disk);
            let Some(StorageUpdate::Started(found)) = update.first() else { panic!("no start") };
            let kept: Vec<EntryId> = found.entries.iter().map(|(entry_id, _)| *entry_id).collect();
            assert!(
                stored.iter().all(|entry_id| kept.contains(entry_id)),
                "seed {seed}: stored {stored:?}, kept {kept:?}"
            );
            engine.request(
                Timestamp::default(),
                StorageRequest::Release { entry_ids: kept },
                &mut Vec::new(),
            );
            engine.request(Timestamp::default(), StorageRequest::Stop, &mut Vec::new());
            let (_, update) = open(&disk);
            let Some(StorageUpdate::Started(found)) = update.first() else { panic!("no start") };
            assert!(found.entries.is_empty() && found.clean, "seed {seed}: {:?}", found.entries);
        }
    }
}
