//! The scrub: a slow reading of old segments, so that rot is reported before somebody needs the footage.
//!
//! What belongs here: which segment is read when, and telling what is found, once. What does not: reading past damage
//! ([`super::scan`]), a whole ring at once ([`super::check`]).

use std::collections::{BTreeMap, VecDeque};

use super::disk::{Disk as _, FileId};
use super::engine::Engine;
use super::recovery::mend_copy;
use super::scan::{ScanDepth, ScanItem, walk_past};
use super::{Repair, RepairKind, StorageUpdate};
use crate::format::record::RingRecord;
use crate::format::segment_head::Segment;
use crate::units::MonoTime;

/// Microseconds from the begin of one segment to the next: 24 segments a day are 400 MB of reading, nothing beside what a card bears.
const SEGMENT_EVERY: u64 = 3_600_000_000;
/// Microseconds between two records of a segment: one is read in a few milliseconds, and recording waits no longer than that.
const RECORD_EVERY: u64 = 1_000_000;

/// Where the scrub is.
#[derive(Default)]
pub struct Scrub {
    /// When the next segment is begun; `None` before the first idle moment.
    next_segment: Option<MonoTime>,
    next_record: MonoTime,
    /// Lap of the segment read last.
    last: Option<u32>,
    reading: Option<ScrubPosition>,
    /// Damaged records reported of each segment, by lap: reported again only when there are more. Only of segments that are there.
    told: BTreeMap<u32, u64>,
}

/// A segment that is being read.
struct ScrubPosition {
    segment: Segment,
    /// Offsets and records still to be read.
    left: VecDeque<(u64, RingRecord)>,
    found: ScrubDamage,
}

/// What is damaged of it.
#[derive(Default)]
struct ScrubDamage {
    offset: Option<u64>,
    records: u64,
    bytes: u64,
    micros: u64,
}

impl ScrubDamage {
    fn add(&mut self, offset: u64, records: u64, bytes: u64, micros: u64) {
        self.offset.get_or_insert(offset);
        (self.records, self.bytes, self.micros) = (self.records + records, self.bytes + bytes, self.micros + micros);
    }
}

impl Engine {
    /// Damaged records of the newest segment were reported at the start: counted, and not reported again by the scrub.
    pub(super) fn note_damage(&mut self, records: u64) {
        if let Some(newest) = self.ring.index().live().last().filter(|_| records > 0) {
            let lap = newest.head.lap;
            self.scrub.told.insert(lap, records);
            self.ring.counts.damaged += records;
        }
    }

    /// Goes on with the scrub where it is time: a record at most.
    pub(super) fn scrub(&mut self, now: MonoTime, out: &mut Vec<StorageUpdate>) {
        let next = *self.scrub.next_segment.get_or_insert(now.plus_micros(SEGMENT_EVERY));
        if self.ring.is_in_memory() || now < self.scrub.next_record {
            return;
        }
        match self.scrub.reading.take() {
            Some(reading) => {
                self.scrub.next_record = now.plus_micros(RECORD_EVERY);
                self.scrub_record(reading, out);
            }
            None if now >= next => {
                self.scrub.next_segment = Some(now.plus_micros(SEGMENT_EVERY));
                self.start_scrub();
            }
            None => {}
        }
    }

    /// The next segment by lap, from anywhere after a start: a device that starts every day must not read its oldest hours only. The one
    /// that is being written is not read: recovery has read it, and it has not had the time to rot.
    fn start_scrub(&mut self) {
        let live = self.ring.index().live();
        let Some(old) = live.len().checked_sub(1).filter(|old| *old > 0) else {
            return;
        };
        let last = self.scrub.last.unwrap_or_else(|| live[(self.card.draw() % old as u64) as usize].head.lap);
        let after = live[..old].iter().filter(|segment| segment.head.lap > last).min_by_key(|segment| segment.head.lap);
        let Some(segment) = after.or_else(|| live[..old].iter().min_by_key(|segment| segment.head.lap)).cloned() else {
            return;
        };
        let laps: Vec<u32> = live.iter().map(|segment| segment.head.lap).collect();
        self.scrub.told.retain(|lap, _| laps.contains(lap));
        self.scrub.last = Some(segment.head.lap);
        // What the kernel remembers of it is not what the card holds.
        self.card.forget(FileId::Segment(segment.head.segment));
        let (mut left, mut found) = (VecDeque::new(), ScrubDamage::default());
        let walked = walk_past(self.card.as_ref(), &segment, ScanDepth::Records);
        for (at, piece) in walked.found.iter().enumerate() {
            match piece {
                ScanItem::Record(offset, record) => left.push_back((*offset, record.clone())),
                ScanItem::Damaged { offset, first, last } => {
                    let next =
                        walked.found.get(at + 1).map(|next| if let ScanItem::Record(next, _) = next { *next } else { *offset });
                    found.add(*offset, last - first + 1, next.map_or(0, |next| next - offset), 0);
                }
            }
        }
        self.scrub.reading = Some(ScrubPosition { segment, left, found });
    }

    fn scrub_record(&mut self, mut reading: ScrubPosition, out: &mut Vec<StorageUpdate>) {
        let (file, lap) = (reading.segment.head.segment, reading.segment.head.lap);
        if !self.ring.index().live().iter().any(|segment| segment.head.lap == lap && segment.head.segment == file) {
            // It was started again meanwhile.
            return;
        }
        let Some((offset, record)) = reading.left.pop_front() else {
            return self.end_scrub(&reading, out);
        };
        let bytes = self.card.read(FileId::Segment(file), offset, record.len as usize);
        if !bytes.is_ok_and(|bytes| record.intact(&bytes)) {
            reading.found.add(offset, 1, record.len.into(), record.duration);
        }
        self.scrub.reading = Some(reading);
    }

    /// Both heads last; then what was found is reported, once.
    fn end_scrub(&mut self, reading: &ScrubPosition, out: &mut Vec<StorageUpdate>) {
        let ScrubPosition { segment, found, .. } = reading;
        self.ring.counts.scrubbed += 1;
        match mend_copy(self.card.as_ref(), segment) {
            Ok(repair) => out.extend(repair.map(StorageUpdate::Repaired)),
            Err(fault) => out.push(StorageUpdate::Trouble { detail: fault.to_string(), lost: false }),
        }
        let told = self.scrub.told.entry(segment.head.lap).or_default();
        let Some(offset) = found.offset.filter(|_| found.records > *told) else {
            return;
        };
        self.ring.counts.damaged += found.records - *told;
        *told = found.records;
        let file = FileId::Segment(segment.head.segment).name();
        let (bytes, micros) = (found.bytes, found.micros);
        out.push(StorageUpdate::Repaired(Repair { file, offset, kind: RepairKind::Damaged, bytes, micros, lost: None }));
    }
}
