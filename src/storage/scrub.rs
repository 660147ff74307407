//! Scrub: verifies old segments slowly, so that bit rot is reported before the footage is needed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::disk::{Disk as _, FileId};
use super::fallback::FallbackDisk;
use super::recovery::repair_copy;
use super::ring::Ring;
use super::scan::{ScanDepth, ScanItem, walk_past};
use super::{Repair, RepairKind, StorageUpdate};
use crate::format::record::RingRecord;
use crate::format::segment_head::Segment;
use crate::units::MonoTime;

/// Interval between the starts of two segments. 24 segments a day are 400 MB of
/// reads, which do not wear the card.
const SEGMENT_INTERVAL: Duration = Duration::from_secs(3600);
/// Interval between two records of a segment. Reading one delays recording by a few
/// milliseconds.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);

/// Position of the scrub in the ring.
#[derive(Default)]
pub struct Scrub {
    /// Time at which the next segment is started; `None` before the first idle call.
    next_segment: Option<MonoTime>,
    next_record: MonoTime,
    /// Lap of the last segment read.
    last: Option<u32>,
    reading: Option<ScrubPosition>,
    /// Number of damaged records already reported, by lap of the segment. Holds only live segments.
    reported: BTreeMap<u32, u64>,
}

/// A segment that is being verified.
struct ScrubPosition {
    segment: Segment,
    /// Offsets and records still to be read.
    left: VecDeque<(u64, RingRecord)>,
    found: ScrubDamage,
}

/// Damage found in the segment.
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
        self.records += records;
        self.bytes += bytes;
        self.micros += micros;
    }
}

impl Scrub {
    /// Counts the damaged records that recovery reported, so that the scrub does not report them
    /// again.
    pub(super) fn note_damage(&mut self, records: u64, ring: &mut Ring) {
        if let Some(newest) = ring.index().live().last().filter(|_| records > 0) {
            let lap = newest.head.lap;
            self.reported.insert(lap, records);
            ring.counts.damaged += records;
        }
    }

    /// Verifies at most one record, if one is due.
    pub(super) fn step(
        &mut self,
        now: MonoTime,
        card: &FallbackDisk,
        ring: &mut Ring,
        out: &mut Vec<StorageUpdate>,
    ) {
        let next = *self.next_segment.get_or_insert(now.plus(SEGMENT_INTERVAL));
        if ring.is_in_memory() || now < self.next_record {
            return;
        }
        match self.reading.take() {
            Some(reading) => {
                self.next_record = now.plus(RECORD_INTERVAL);
                self.verify_record(reading, card, ring, out);
            }
            None if now >= next => {
                self.next_segment = Some(now.plus(SEGMENT_INTERVAL));
                self.start_segment(card, ring);
            }
            None => {}
        }
    }

    /// Starts the next segment by lap. The first one after a boot is random: a device that boots
    /// daily must not verify only its oldest hours. The newest segment is skipped, because recovery
    /// has just read it.
    fn start_segment(&mut self, card: &FallbackDisk, ring: &Ring) {
        let live = ring.index().live();
        let Some(old) = live.len().checked_sub(1).filter(|old| *old > 0) else {
            return;
        };
        let last = self.last.unwrap_or_else(|| live[(card.draw() % old as u64) as usize].head.lap);
        let after = live[..old]
            .iter()
            .filter(|segment| segment.head.lap > last)
            .min_by_key(|segment| segment.head.lap);
        let Some(segment) =
            after.or_else(|| live[..old].iter().min_by_key(|segment| segment.head.lap)).cloned()
        else {
            return;
        };
        let laps: Vec<u32> = live.iter().map(|segment| segment.head.lap).collect();
        self.reported.retain(|lap, _| laps.contains(lap));
        self.last = Some(segment.head.lap);
        // Verify the content of the card, not that of the page cache.
        card.forget(FileId::Segment(segment.head.segment));
        let (mut left, mut found) = (VecDeque::new(), ScrubDamage::default());
        let walked = walk_past(card, &segment, ScanDepth::Records);
        for (at, piece) in walked.found.iter().enumerate() {
            match piece {
                ScanItem::Record(offset, record) => left.push_back((*offset, record.clone())),
                ScanItem::Damaged { offset, first, last } => {
                    let next = walked.found.get(at + 1).map(|next| {
                        if let ScanItem::Record(next, _) = next { *next } else { *offset }
                    });
                    found.add(*offset, last - first + 1, next.map_or(0, |next| next - offset), 0);
                }
            }
        }
        self.reading = Some(ScrubPosition { segment, left, found });
    }

    fn verify_record(
        &mut self,
        mut reading: ScrubPosition,
        card: &FallbackDisk,
        ring: &mut Ring,
        out: &mut Vec<StorageUpdate>,
    ) {
        let (file, lap) = (reading.segment.head.segment, reading.segment.head.lap);
        if !ring
            .index()
            .live()
            .iter()
            .any(|segment| segment.head.lap == lap && segment.head.segment == file)
        {
            // The file was recycled meanwhile.
            return;
        }
        let Some((offset, record)) = reading.left.pop_front() else {
            return self.end_segment(&reading, card, ring, out);
        };
        let bytes = card.read(FileId::Segment(file), offset, record.len as usize);
        if !bytes.is_ok_and(|bytes| record.intact(&bytes)) {
            reading.found.add(offset, 1, record.len.into(), record.duration);
        }
        self.reading = Some(reading);
    }

    /// Verifies both copies of the head, then reports the damage found.
    fn end_segment(
        &mut self,
        reading: &ScrubPosition,
        card: &FallbackDisk,
        ring: &mut Ring,
        out: &mut Vec<StorageUpdate>,
    ) {
        let ScrubPosition { segment, found, .. } = reading;
        ring.counts.scrubbed += 1;
        match repair_copy(card, segment) {
            Ok(repair) => out.extend(repair.map(StorageUpdate::Repaired)),
            Err(fault) => {
                out.push(StorageUpdate::Trouble { detail: fault.to_string(), lost: false })
            }
        }
        let reported = self.reported.entry(segment.head.lap).or_default();
        let Some(offset) = found.offset.filter(|_| found.records > *reported) else {
            return;
        };
        ring.counts.damaged += found.records - *reported;
        *reported = found.records;
        let file = FileId::Segment(segment.head.segment).name();
        let (bytes, micros) = (found.bytes, found.micros);
        out.push(StorageUpdate::Repaired(Repair {
            file,
            offset,
            kind: RepairKind::Damaged,
            bytes,
            micros,
            lost: None,
        }));
    }
}
