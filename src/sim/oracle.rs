//! Oracle of storage: collects its promises and checks that a card keeps them.
//!
//! Promises follow from requests, operations of the card and updates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cow_image::CowImage;
use super::faulty_disk::Operation;
use super::footage_order::{in_order, join, no_silent_gap, present_records};
use super::found_check::{batch_is_a_prefix, configuration};
pub use super::segment_cache::{ParsedSegment, SegmentCache};
use super::strict_reader::SegmentAt;
pub use super::violation::Violation;
use crate::format::block::padded;
use crate::format::record::RingRecord;
use crate::format::segment_head::SegmentHead;
use crate::storage::disk::FileId;
use crate::storage::{Recovered, StorageRequest, StorageUpdate};
use crate::units::EntryId;

/// A written record.
#[derive(Debug, Clone)]
struct Written {
    file: u32,
    offset: usize,
    bytes: Arc<[u8]>,
    /// Wall time of its footage or gap, microseconds.
    span: (i64, i64),
    gap: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    bytes: Vec<u8>,
    still: Option<Vec<u8>>,
    /// The snapshot is flushed.
    shown: bool,
    stored: bool,
    released: bool,
}

/// All promises so far.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    written: BTreeMap<u64, Written>,
    /// Entry ids of the batch being written: any prefix of it may be present.
    batch: Option<(u64, u64)>,
    /// Records that were written in part, refused, and written elsewhere. Until one is durable,
    /// either counts.
    earlier: Vec<(u64, Written)>,
    /// Highest durable record.
    durable: u64,
    /// Merged wall times of evicted records.
    evicted: Vec<(i64, i64)>,
    entries: BTreeMap<EntryId, Entry>,
    /// Possible contents of the cell: the last saved one, then the requested ones.
    cell: Vec<Option<Vec<u8>>>,
    boot: u32,
    /// Files abandoned after a failed write or flush: they may end in a tear that stays.
    abandoned: BTreeSet<u32>,
    /// Files with a new head that is not yet flushed.
    started: BTreeSet<u32>,
    /// Files with damaged records.
    damaged: BTreeSet<u32>,
    /// True from an ordered stop to the next boot.
    stopped: bool,
    /// Rises with every promise.
    pub version: u64,
}

impl Oracle {
    /// Notes a request before storage receives it.
    pub fn requested(&mut self, order: &StorageRequest) {
        self.version += 1;
        self.stopped = false;
        match order {
            StorageRequest::Enqueue { entry_id, entry, snapshot: still } => {
                self.batch = None;
                let entry = Entry {
                    bytes: entry.clone(),
                    still: still.clone(),
                    shown: false,
                    stored: false,
                    released: false,
                };
                self.entries.insert(*entry_id, entry);
            }
            StorageRequest::EnqueueAll { entries } => {
                self.batch = entries
                    .first()
                    .zip(entries.last())
                    .map(|((first, _), (last, _))| (first.0, last.0));
                let entry = |bytes: &Vec<u8>| Entry {
                    bytes: bytes.clone(),
                    still: None,
                    shown: false,
                    stored: false,
                    released: false,
                };
                self.entries
                    .extend(entries.iter().map(|(entry_id, bytes)| (*entry_id, entry(bytes))));
            }
            StorageRequest::Release { entry_ids } => {
                for entry_id in entry_ids {
                    self.entries.entry(*entry_id).and_modify(|entry| entry.released = true);
                }
            }
            StorageRequest::SaveCell { bytes, .. } => self.cell.push(Some(bytes.clone())),
            _ => {}
        }
    }

    /// Notes an operation on the card.
    pub fn done(&mut self, operation: &Operation) {
        match operation {
            Operation::Sync(FileId::Segment(file), false) => self.abandon(*file),
            Operation::Sync(FileId::Segment(file), true) if self.started.remove(file) => {
                self.abandoned.remove(file);
                self.damaged.remove(file);
            }
            Operation::Sync(FileId::Snapshots, true) => {
                // The newest entry is being stored.
                self.entries
                    .values_mut()
                    .next_back()
                    .into_iter()
                    .for_each(|entry| entry.shown = entry.still.is_some());
            }
            Operation::Write(write, taken) => {
                if let FileId::Segment(file) = write.file {
                    self.version += 1;
                    self.wrote(file, write.offset, &write.bytes);
                    if !taken {
                        self.abandon(file);
                    }
                }
            }
            _ => {}
        }
    }

    /// Notes a refused write or flush: the file may stay torn until its next start is durable.
    fn abandon(&mut self, file: u32) {
        self.started.remove(&file);
        self.abandoned.insert(file);
    }

    fn wrote(&mut self, file: u32, offset: usize, bytes: &Arc<[u8]>) {
        if offset == 0 && bytes.iter().all(|byte| *byte == 0) {
            self.started.insert(file);
            return self.evict(file, u64::MAX);
        }
        // A head that a boot repairs has records behind it.
        let head = SegmentHead::decode(bytes)
            .map(|(head, _)| head)
            .or_else(|| SegmentHead::decode_copy(bytes));
        if let Some(head) = head {
            let holds = |w: &Written, seq: u64| w.file == file && seq >= head.first_seq;
            if offset == 0 && !self.written.iter().any(|(seq, w)| holds(w, *seq)) {
                self.started.insert(file);
            }
            return self.evict(file, head.first_seq);
        }
        let Some(record) = RingRecord::decode(bytes) else {
            return;
        };
        let Some(whole) = bytes.get(..record.len as usize) else {
            return;
        };
        let end =
            record.gap.map_or(record.start.wall.0 + record.duration as i64, |(to, ..)| to.wall.0);
        let span = (record.start.wall.0, end);
        let gap = record.gap.is_some();
        let earlier = self
            .written
            .insert(record.seq, Written { file, offset, bytes: whole.into(), span, gap });
        self.earlier.extend(earlier.map(|earlier| (record.seq, earlier)));
    }

    /// Notes the reuse of a file from record `first` on: its old records are evicted.
    fn evict(&mut self, file: u32, first: u64) {
        self.earlier.retain(|(seq, w)| w.file != file || *seq >= first);
        let out: Vec<u64> = self
            .written
            .iter()
            .filter(|(seq, w)| w.file == file && **seq < first)
            .map(|(seq, _)| *seq)
            .collect();
        for written in out.into_iter().filter_map(|seq| self.written.remove(&seq)) {
            join(&mut self.evicted, written.span);
        }
    }

    /// The promises after a boot that found `last` as the last record and reused these files.
    pub fn after(&self, started: &[u32], last: u64) -> Oracle {
        let mut after = self.clone();
        after.written.split_off(&(last + 1));
        for file in started {
            after.evict(*file, u64::MAX);
            after.abandoned.remove(file);
            after.damaged.remove(file);
        }
        after
    }

    /// True for a file that was abandoned after a failed write or flush.
    pub fn is_abandoned(&self, file: u32) -> bool {
        self.abandoned.contains(&file)
    }

    /// Notes updates of storage.
    pub fn observed(&mut self, update: &[StorageUpdate]) {
        let troubled = update.iter().any(|update| matches!(update, StorageUpdate::Trouble { .. }));
        for update in update {
            self.version += 1;
            match update {
                StorageUpdate::Durable { seq, .. } => self.durable = self.durable.max(*seq),
                StorageUpdate::Gap(gap) => {
                    let named = |w: &Written| w.gap && w.span == (gap.from.wall.0, gap.to.wall.0);
                    let at = self.written.iter().rev().find(|(_, w)| named(w)).map(|(seq, _)| *seq);
                    self.durable = self.durable.max(at.unwrap_or(0));
                }
                StorageUpdate::NotEnqueued { entry_id, .. } => {
                    self.batch = None;
                    // The agent enqueues it again with its snapshot, under another entry id.
                    self.entries.entry(*entry_id).and_modify(|entry| entry.shown = false);
                }
                StorageUpdate::Enqueued { entry_id } => {
                    self.batch = None;
                    self.entries.entry(*entry_id).and_modify(|entry| entry.stored = true);
                }
                StorageUpdate::CellSaved { .. } => {
                    self.cell = self.cell.pop().into_iter().collect()
                }
                StorageUpdate::Stopped => self.stopped = !troubled,
                StorageUpdate::Started(found) => self.started(found),
                _ => {}
            }
        }
        let durable = self.durable;
        self.earlier.retain(|(seq, _)| *seq > durable);
    }

    /// Decides, after a power cut, which of two written versions of a record counts on this card.
    pub fn reconcile(&mut self, card: &CowImage) {
        let earlier = std::mem::take(&mut self.earlier);
        if earlier.is_empty() {
            return;
        }
        let segments = SegmentCache::default().with_footage(card);
        let present: Vec<(u64, u32)> = present_records(&segments, &self.damaged)
            .iter()
            .map(|(at, lies)| (lies.seq, segments[*at].0))
            .collect();
        self.written
            .extend(earlier.into_iter().filter(|(seq, w)| present.contains(&(*seq, w.file))));
    }

    /// Promises what a boot found, and drops what it did not find.
    fn started(&mut self, found: &Recovered) {
        self.durable = found.last_seq;
        self.written.split_off(&(found.last_seq + 1));
        self.boot = found.boot.0;
        self.stopped = false;
        self.batch = None;
        let kept: BTreeSet<EntryId> = found.entries.iter().map(|(entry_id, _)| *entry_id).collect();
        self.entries.retain(|entry_id, _| kept.contains(entry_id));
        self.entries.values_mut().for_each(|entry| (entry.stored, entry.released) = (true, false));
        self.cell = vec![configuration(found).cloned()];
    }

    /// Number of durable records that are not evicted.
    pub fn records(&self) -> u64 {
        self.written.range(..=self.durable).count() as u64
    }

    /// Allows the loss of the records in these bytes of a segment. Other records stay promised.
    pub fn excuse(&mut self, file: u32, range: &std::ops::Range<usize>) {
        let end = |w: &Written| padded(w.bytes.len() as u64) as usize + w.offset;
        let hit = |w: &Written| w.file == file && w.offset < range.end && end(w) > range.start;
        self.written.retain(|_, w| !hit(w));
        self.abandoned.insert(file);
        self.damaged.insert(file);
        self.version += 1;
    }

    /// Exchanges the names of two files.
    pub fn exchange(&mut self, one: u32, other: u32) {
        let named = |file: u32| {
            if file == one {
                other
            } else if file == other {
                one
            } else {
                file
            }
        };
        self.written
            .values_mut()
            .chain(self.earlier.iter_mut().map(|(_, w)| w))
            .for_each(|w| w.file = named(w.file));
        for files in [&mut self.abandoned, &mut self.started, &mut self.damaged] {
            *files = files.iter().map(|file| named(*file)).collect();
        }
        self.version += 1;
    }

    /// Allows the loss of snapshots: they have no second copy.
    pub fn excuse_stills(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.shown = false);
    }

    /// Allows a lower last record, because durable records were damaged.
    pub fn excuse_end(&mut self) {
        let last = self.written.range(..=self.durable).next_back().map_or(0, |(seq, _)| *seq);
        self.durable = last;
    }

    /// Checks a card before recovery.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn check_pulled(
        &self,
        card: &CowImage,
        known: &SegmentCache,
        idle: bool,
    ) -> Result<(), Violation> {
        for (file, seen) in known.segments(card) {
            let Some((at, why)) = seen.reading.tear.filter(|_| !self.damaged.contains(&file))
            else {
                continue;
            };
            if idle && !self.abandoned.contains(&file) {
                return Err(Violation::Unplayable(format!(
                    "segment {file} at {at} with nothing in flight: {why}"
                )));
            }
            let behind =
                self.written.range(..=self.durable).find(|(_, w)| w.file == file && w.offset >= at);
            if let Some((seq, w)) = behind {
                let why = format!(
                    "segment {file} at {at}, before durable record {seq} at {}: {why}",
                    w.offset
                );
                return Err(Violation::Unplayable(why));
            }
        }
        Ok(())
    }

    /// Checks the result of recovery.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn check_found(&self, found: &Recovered) -> Result<(), Violation> {
        if found.last_seq < self.durable {
            return Err(Violation::Lost(format!(
                "record {} was durable, the last is {}",
                self.durable, found.last_seq
            )));
        }
        if found.boot.0 <= self.boot {
            return Err(Violation::Lost(format!(
                "boot {} follows boot {}",
                found.boot.0, self.boot
            )));
        }
        let mut before = None;
        for (entry_id, bytes) in &found.entries {
            if before >= Some(entry_id) {
                return Err(Violation::Order(format!("entry {} is there twice", entry_id.0)));
            }
            before = Some(entry_id);
            match self.entries.get(entry_id) {
                Some(entry) if entry.bytes == *bytes && !(self.stopped && entry.released) => {}
                Some(entry) if entry.released && self.stopped => {
                    return Err(Violation::Order(format!(
                        "entry {} came back after an ordered stop",
                        entry_id.0
                    )));
                }
                _ => {
                    return Err(Violation::Lost(format!("entry {} reads differently", entry_id.0)));
                }
            }
        }
        let has = |entry_id: &EntryId| found.entries.iter().any(|(kept, _)| kept == entry_id);
        if let Some((entry_id, _)) =
            self.entries.iter().find(|(entry_id, e)| e.stored && !e.released && !has(entry_id))
        {
            return Err(Violation::Lost(format!("entry {} was stored and is gone", entry_id.0)));
        }
        if let Some(batch) = self.batch {
            batch_is_a_prefix(batch, found)?;
        }
        let newest = self
            .entries
            .iter()
            .rev()
            .find(|(_, entry)| entry.stored)
            .map(|(entry_id, _)| *entry_id);
        if newest > found.newest.as_ref().map(|(entry_id, _)| *entry_id) {
            return Err(Violation::Lost(format!(
                "the newest entry was {newest:?} and now is {:?}",
                found.newest
            )));
        }
        let cell = configuration(found).cloned();
        if !self.cell.is_empty() && !self.cell.contains(&cell) {
            return Err(Violation::Lost("the cell reads differently".into()));
        }
        Ok(())
    }

    /// Checks that every present, unreleased entry has its snapshot.
    ///
    /// # Errors
    /// An entry without its snapshot.
    pub fn check_stills(
        &self,
        found: &Recovered,
        read: impl Fn(EntryId) -> Option<Vec<u8>>,
    ) -> Result<(), Violation> {
        for (entry_id, _) in &found.entries {
            let entry = self.entries.get(entry_id).filter(|entry| !entry.released && entry.shown);
            if let Some(entry) = entry.filter(|entry| read(*entry_id) != entry.still) {
                let when = if entry.stored { "stored" } else { "on its way" };
                return Err(Violation::Lost(format!(
                    "the snapshot of entry {} ({when}) is gone",
                    entry_id.0
                )));
            }
        }
        Ok(())
    }

    /// Checks the ring after recovery and some new footage. `last` is the last recovered record;
    /// `gaps`
    /// says that recovery has read all damage, so every gap must have a record.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn check_ring(
        &self,
        card: &CowImage,
        known: &SegmentCache,
        last: u64,
        gaps: bool,
    ) -> Result<(), Violation> {
        let segments = known.with_footage(card);
        for (file, seen) in &segments {
            if let Some((at, why)) = seen.reading.tear.filter(|_| !self.abandoned.contains(file)) {
                return Err(Violation::Unplayable(format!(
                    "segment {file} at {at} after recovery: {why}"
                )));
            }
        }
        let present = present_records(&segments, &self.damaged);
        self.check_records(&segments, &present, last)?;
        if !gaps {
            return Ok(());
        }
        in_order(&segments, &present)?;
        no_silent_gap(&self.evicted, &present)
    }

    fn check_records(
        &self,
        segments: &[(u32, Arc<ParsedSegment>)],
        present: &[(usize, &SegmentAt)],
        last: u64,
    ) -> Result<(), Violation> {
        for (seq, written) in self.written.range(..=last) {
            let found = present.binary_search_by_key(seq, |(_, lies)| lies.seq);
            let Ok((at, lies)) = found.map(|at| present[at]) else {
                return Err(Violation::Lost(format!(
                    "record {seq} in segment {} is gone",
                    written.file
                )));
            };
            let bytes = &segments[at].1.bytes[lies.offset..lies.offset + lies.len];
            let is_it = |w: &Written| segments[at].0 == w.file && *bytes == *w.bytes;
            if !is_it(written) && !self.earlier.iter().any(|(other, w)| other == seq && is_it(w)) {
                return Err(Violation::Lost(format!(
                    "record {seq} in segment {} reads differently",
                    written.file
                )));
            }
        }
        Ok(())
    }
}
