//! Records that should be in the ring, are in no file, and of which no head says that they were evicted: a file that is gone, both
//! copies of a head rotten.
//!
//! What belongs here: which numbers, and between which times. What does not: telling ([`super::recovery`]), spans ([`super::footage_query`]).

use serde::Serialize;

use super::disk::Disk;
use super::range_set::Ranges;
use super::recovery::{expected, there};
use super::scan::{ScanDepth, ScanItem, walk_past};
use super::segment_index::Index;
use crate::format::segment_head::EvictionCause;
use crate::units::Timestamp;

/// Holes reported one by one at a start; the last one takes in the rest and says how many it stands for.
pub const TOLD_MAX: usize = 16;

/// A stretch of records that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MissingRecords {
    /// First number.
    pub first: u64,
    /// Last number.
    pub last: u64,
    /// End of the footage before it; `None` where nothing is there.
    pub from: Option<Timestamp>,
    /// Start of the footage behind it, likewise.
    pub to: Option<Timestamp>,
    /// How many gaps it stands for: more than one where there are too many to be reported.
    pub gaps: usize,
}

impl MissingRecords {
    /// Microseconds between its times, 0 where one is not known.
    pub fn micros(&self) -> u64 {
        self.from.zip(self.to).map_or(0, |(from, to)| to.wall.0.saturating_sub(from.wall.0).max(0) as u64)
    }
}

impl std::fmt::Display for MissingRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = |stamp: Option<Timestamp>| stamp.map_or("?".into(), |stamp| stamp.wall.rfc3339());
        write!(f, "{} missing, {} to {}", numbers(self.first, self.last), time(self.from), time(self.to))
    }
}

/// "record 14 is" or "records 14 to 20 are".
pub fn numbers(first: u64, last: u64) -> String {
    if first == last { format!("record {first} is") } else { format!("records {first} to {last} are") }
}

/// Numbers that the heads of a ring put on record as missing.
pub fn stated(index: &Index) -> Ranges {
    let stated = index.live().iter().flat_map(|segment| &segment.head.statement.evicted);
    stated.filter(|evicted| evicted.cause == EvictionCause::Missing).map(|evicted| (evicted.first, evicted.last)).collect()
}

/// All numbers that are lost, reported at a start or not yet. `reported` is the highest number the journal has seen.
pub fn lost(disk: &dyn Disk, index: &Index, told: u64) -> Ranges {
    let newest = index.live().last().map_or(0, |segment| walk_past(disk, segment, ScanDepth::Records).next_seq - 1);
    let expected = expected(index, newest);
    let there = there(disk, index, newest, &expected);
    let mut lost = expected.without(&there);
    if told > newest {
        lost.add(newest + 1, told);
    }
    stated(index).list().iter().for_each(|(first, last)| lost.add(*first, *last));
    lost
}

/// The times around a stretch of numbers, from the records and heads beside it.
pub fn locate_gap(disk: &dyn Disk, index: &Index, (first, last): (u64, u64)) -> MissingRecords {
    let live = index.live();
    let before = live.partition_point(|segment| segment.head.first_seq < first).checked_sub(1).map(|at| &live[at]);
    let from = before.map(|segment| {
        let ends = walk_past(disk, segment, ScanDepth::Records).found.into_iter().filter_map(|found| match found {
            ScanItem::Record(_, record) if record.seq < first && record.gap.is_none() => Some((record.boot, record.end())),
            _ => None,
        });
        let (boot, end) = ends.reduce(|_, end| end).unwrap_or((segment.head.boot, segment.head.start));
        index.clock_history.date(boot, end)
    });
    let behind = live.iter().find(|segment| segment.head.first_seq > last);
    let to = behind.map(|segment| index.clock_history.date(segment.head.boot, segment.head.start));
    MissingRecords { first, last, from, to, gaps: 1 }
}

/// All lost stretches of a ring with their times; beyond [`TOLD_MAX`] the last takes in the rest.
pub fn locate_gaps(disk: &dyn Disk, index: &Index, lost: &Ranges) -> Vec<MissingRecords> {
    let list = lost.list();
    let mut gaps: Vec<MissingRecords> = list.iter().take(TOLD_MAX).map(|range| locate_gap(disk, index, *range)).collect();
    if let (Some(end), Some(last)) = (list.get(TOLD_MAX..).and_then(<[_]>::last), gaps.last_mut()) {
        let rest = locate_gap(disk, index, *end);
        (last.last, last.to, last.gaps) = (rest.last, rest.to, list.len() - TOLD_MAX + 1);
    }
    gaps
}
