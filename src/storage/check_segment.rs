//! Segment check: verifies the records of one segment, and that they continue the segment before it.

use super::check_report::{CheckProblem, CheckReport, Remedy};
use super::disk::{Disk, FileId};
use super::missing_records::numbers;
use super::range_set::Ranges;
use super::scan::{ScanDepth, ScanEnd, ScanItem, SegmentScan, walk};
use super::second_look::{LOOKS, is_recycled};
use super::segment_index::Index;
use crate::format::mp4::{box_at, move_times};
use crate::format::record::{RECORD_BOX, RingRecord};
use crate::format::segment_head::Segment;
use crate::units::{Digest, MonoTime};

/// Longest time between two fragments of one boot without a gap record, microseconds: twice what the
/// engine records as a gap.
const SILENT_MAX: u64 = 1_000_000;

/// The records of the segments checked so far.
#[derive(Clone, Default)]
pub(super) struct CheckedRecords {
    /// Record numbers that files hold, damaged records included.
    pub(super) there: Ranges,
    /// Number of the next record.
    pub(super) next_seq: u64,
    /// Chain digest of the last record.
    chain: Digest,
    /// Boot and end of the footage or gap before, on the monotonic clock of that boot.
    end: Option<(u32, MonoTime)>,
    /// Highest start on the media clock.
    media: u64,
    /// The records before the next segment were recycled while they were read.
    unknown: bool,
}

/// Checks the records of segment `at`, continuing `seen`, and looks again at what is wrong. A segment that the agent recycles meanwhile is
/// left out.
pub(super) fn check_segment(
    disk: &dyn Disk,
    index: &Index,
    at: usize,
    seen: &mut Option<CheckedRecords>,
    checked: &mut CheckReport,
) {
    let segment = &index.live()[at];
    let seen_before = seen.clone();
    let mut last = None::<CheckReport>;
    for _ in 0..LOOKS {
        if last.is_some() {
            disk.let_writer_finish();
            seen.clone_from(&seen_before);
        }
        let mut part = CheckReport::default();
        look_at_segment(disk, index, at, seen, &mut part);
        if is_recycled(disk, segment) {
            checked.recycled += 1;
            checked.left_out.add(segment.head.first_seq, index.last_seq(at, u64::MAX));
            let next_seq = segment.head.first_seq;
            let before = seen_before.unwrap_or(CheckedRecords { next_seq, ..Default::default() });
            return *seen = Some(CheckedRecords { unknown: true, ..before });
        }
        if let Some(last) = &last {
            part.problems.retain(|problem| last.problems.contains(problem));
            part.torn.retain(|problem| last.torn.contains(problem));
        }
        let is_clean = part.problems.is_empty() && part.torn.is_empty();
        last = Some(part);
        if is_clean {
            break;
        }
    }
    checked.add(last.unwrap_or_default());
}

fn look_at_segment(
    disk: &dyn Disk,
    index: &Index,
    at: usize,
    seen: &mut Option<CheckedRecords>,
    checked: &mut CheckReport,
) {
    let segment = &index.live()[at];
    let mut now = seen.take().unwrap_or_else(|| CheckedRecords {
        next_seq: segment.head.first_seq,
        chain: segment.head.previous,
        ..CheckedRecords::default()
    });
    check_start(segment, &mut now, checked);
    let walked = match walk(disk, segment, ScanDepth::Content) {
        Ok(walked) => walked,
        Err(fault) => return checked.problems.push(problem(segment, fault.offset, fault.reason)),
    };
    // A file dropped after a failed flush may hold a record that was written again elsewhere.
    let last = index.last_seq(at, u64::MAX);
    check_records(disk, segment, &walked, last, &mut now, checked);
    let newest = at + 1 == index.live().len();
    let is_torn = walked.end == ScanEnd::Torn;
    if is_torn {
        check_tear(segment, &walked, newest, last, &mut now, checked);
    }
    let end = if is_torn && !newest { last } else { now.next_seq.saturating_sub(1).min(last) };
    now.there.add(segment.head.first_seq, end);
    checked.newest = walked.found.len();
    *seen = Some(now);
}

/// A problem of `segment` that costs footage.
fn problem(segment: &Segment, offset: u64, what: String) -> CheckProblem {
    let name = FileId::Segment(segment.head.segment).name();
    CheckProblem::new(name, offset, what, Remedy::Export)
}

/// Checks that the segment continues the one before it, by number and by chain.
fn check_start(segment: &Segment, now: &mut CheckedRecords, checked: &mut CheckReport) {
    let first = segment.head.first_seq;
    if std::mem::take(&mut now.unknown) {
        (now.next_seq, now.chain, now.end) = (first, segment.head.previous, None);
    } else if now.next_seq < first {
        // Records between pinned segments were evicted, unless the newest head lists them as present
        // (`check_missing`).
        checked.between.push((now.next_seq, first - 1));
        now.end = None;
    } else if now.next_seq > first {
        let what =
            format!("begins with record {first}, and the file before ends before {}", now.next_seq);
        checked.problems.push(problem(segment, 0, what));
    } else if now.chain != segment.head.previous {
        let what =
            format!("record {first} does not follow from the one before: the chain is broken");
        checked.problems.push(problem(segment, 0, what));
    }
}

/// Checks each record up to number `last`: its time, its mark and its content.
fn check_records(
    disk: &dyn Disk,
    segment: &Segment,
    walked: &SegmentScan,
    last: u64,
    now: &mut CheckedRecords,
    checked: &mut CheckReport,
) {
    let (mark, mut started) = (segment.written().mark(), false);
    for found in &walked.found {
        match found {
            ScanItem::Record(offset, record) if record.seq <= last => {
                checked.records += 1;
                checked.payload += u64::from(record.payload);
                checked.gap_records += u64::from(record.gap.is_some());
                let marked = started || record.gap.is_some() || record.mark == mark;
                started |= record.gap.is_none();
                let unmarked = (!marked).then(|| {
                    format!("record {} does not name the head it lies behind", record.seq)
                });
                let what = now
                    .check_time(record)
                    .or(unmarked)
                    .or_else(|| content(disk, segment, *offset, record));
                checked.problems.extend(what.map(|what| problem(segment, *offset, what)));
                (now.next_seq, now.chain) = (record.seq + 1, record.link());
            }
            ScanItem::Record(..) => {}
            ScanItem::Damaged { offset, first, last } => {
                let what = format!("{} damaged", numbers(*first, *last));
                checked.problems.push(problem(segment, *offset, what));
                // The damage explains the time without footage before the next record.
                (now.end, started) = (None, true);
            }
        }
    }
}

/// Judges a scan that ended at neither a record nor free space: in the newest segment it is a torn
/// write, in any other one it is damage up to the end of the file.
fn check_tear(
    segment: &Segment,
    walked: &SegmentScan,
    newest: bool,
    last: u64,
    now: &mut CheckedRecords,
    checked: &mut CheckReport,
) {
    if newest {
        let what = "the last write was cut: the next start puts this right".into();
        let name = FileId::Segment(segment.head.segment).name();
        checked.torn.push(CheckProblem::new(name, walked.at, what, Remedy::Start));
    } else if walked.next_seq <= last {
        // The next file says which records were hit.
        let what = format!("{} damaged, or never in it", numbers(walked.next_seq, last));
        checked.problems.push(problem(segment, walked.at, what));
        now.end = None;
    } else {
        let what = "neither a record nor free space".into();
        checked.problems.push(problem(segment, walked.at, what));
    }
}

impl CheckedRecords {
    /// Checks the time of the next record and moves on behind it. Returns what is wrong.
    fn check_time(&mut self, record: &RingRecord) -> Option<String> {
        let (boot, begin) = (record.boot.0, record.start.mono);
        let silent = match self.end {
            _ if record.gap.is_some() => None,
            Some((before, end)) if before == boot => {
                let missing = begin.since(end);
                (missing > SILENT_MAX).then(|| {
                    format!(
                        "{} ms are missing before record {} and no record says why",
                        missing / 1000,
                        record.seq
                    )
                })
            }
            Some(_) => Some(format!(
                "record {} begins another start and no record says what is missing before",
                record.seq
            )),
            None => None,
        };
        let end = record.gap.map_or(begin.plus_micros(record.duration), |(to, ..)| to.mono);
        // A gap may be reported late, about a time before the footage that is there already.
        let reached = self
            .end
            .filter(|(before, _)| *before == boot)
            .map_or(end, |(_, reached)| reached.max(end));
        self.end = Some((boot, reached));
        let back = record.gap.is_none() && record.media < self.media;
        if record.gap.is_none() {
            self.media = record.media;
        }
        silent.or_else(|| {
            back.then(|| {
                format!(
                    "record {} lies before the one in front of it on the media clock",
                    record.seq
                )
            })
        })
    }
}

/// What is wrong with the content of a record whose checksum is right.
fn content(disk: &dyn Disk, segment: &Segment, offset: u64, record: &RingRecord) -> Option<String> {
    let bytes =
        disk.read(FileId::Segment(segment.head.segment), offset, record.len as usize).ok()?;
    let mut content = bytes[RECORD_BOX..].to_vec();
    if record.gap.is_none() {
        let moof = box_at(&content, 0).filter(|(name, _)| name == b"moof").map(|(_, len)| len);
        let mdat = moof
            .and_then(|at| box_at(&content, at))
            .filter(|(name, _)| name == b"mdat")
            .map(|(_, len)| len);
        if moof.zip(mdat).is_none_or(|(moof, mdat)| moof + mdat != content.len()) {
            return Some(format!(
                "record {} holds something else than one moof and its mdat",
                record.seq
            ));
        }
    }
    if record.gap.is_none() && record.head != segment.layout {
        return Some(format!("record {} belongs to another head", record.seq));
    }
    let scales: Vec<u32> = segment.head.tracks.iter().map(|track| track.timescale).collect();
    move_times(&mut content, &scales, segment.head.media, record.media);
    (Digest::of(&content) != record.content)
        .then(|| format!("record {} is not what its content digest says", record.seq))
}
