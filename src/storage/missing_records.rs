//! Missing records: finds record numbers lost from the ring without an eviction entry.
//!
//! A deleted file or a head with two damaged copies causes them.

use serde::Serialize;

use super::disk::Disk;
use super::range_set::Ranges;
use super::scan::{ScanDepth, ScanItem, walk_past};
use super::segment_index::Index;
use crate::format::segment_head::EvictionCause;
use crate::units::Timestamp;

/// Most stretches reported one by one; the last one covers the rest and counts them.
pub const REPORTED_MAX: usize = 16;

/// A stretch of missing records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MissingRecords {
    /// First record number.
    pub first: u64,
    /// Last record number.
    pub last: u64,
    /// End of the footage before the stretch; `None` if there is none.
    pub from: Option<Timestamp>,
    /// Start of the footage behind the stretch; `None` if there is none, or if the clock was set back
    /// so that it would lie before `from`.
    pub to: Option<Timestamp>,
    /// Number of stretches it covers; more than 1 only if there were too many to report.
    pub gaps: usize,
}

impl MissingRecords {
    /// Without an end that lies before the begin, as behind a clock that was set back.
    #[must_use]
    pub fn in_order(self) -> MissingRecords {
        let to = self.to.filter(|to| self.from.is_none_or(|from| from.wall <= to.wall));
        MissingRecords { to, ..self }
    }

    /// Microseconds from `from` to `to`; 0 if either is unknown.
    pub fn micros(&self) -> u64 {
        self.from
            .zip(self.to)
            .map_or(0, |(from, to)| to.wall.0.saturating_sub(from.wall.0).max(0) as u64)
    }
}

impl std::fmt::Display for MissingRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time =
            |stamp: Option<Timestamp>| stamp.map_or("?".into(), |stamp| stamp.wall.rfc3339());
        write!(
            f,
            "{} missing, {} to {}",
            numbers(self.first, self.last),
            time(self.from),
            time(self.to)
        )
    }
}

/// "record 14 is" or "records 14 to 20 are".
pub fn numbers(first: u64, last: u64) -> String {
    if first == last {
        format!("record {first} is")
    } else {
        format!("records {first} to {last} are")
    }
}

/// Record numbers that the heads of a ring list as missing.
pub fn listed_missing(index: &Index) -> Ranges {
    let evicted = index.live().iter().flat_map(|segment| &segment.head.inventory.evicted);
    evicted
        .filter(|evicted| evicted.cause == EvictionCause::Missing)
        .map(|evicted| (evicted.first, evicted.last))
        .collect()
}

/// The record numbers that the ring should hold by its newest head; `newest` is the last of them.
pub fn expected(index: &Index, newest: u64) -> Ranges {
    let Some(head) = index.live().last().map(|segment| &segment.head) else {
        return Ranges::default();
    };
    let mut ranges: Ranges = head.inventory.present.iter().copied().collect();
    ranges.add(head.first_seq, newest);
    ranges
}

/// The record numbers that files hold.
///
/// A segment ends where the next one begins, or with its stretch of `expected`. It is scanned only
/// if laps are missing behind it, so that files may be missing.
pub fn present_records(disk: &dyn Disk, index: &Index, newest: u64, expected: &Ranges) -> Ranges {
    let mut present = Ranges::default();
    for (at, segment) in index.live().iter().enumerate() {
        let (first, last) = (segment.head.first_seq, index.last_seq(at, newest));
        let next = index.live().get(at + 1);
        let follows = next.is_none_or(|next| segment.head.lap + 1 == next.head.lap);
        let unbroken = expected.list().iter().any(|(from, to)| *from <= last && last < *to);
        let last = if (follows || !unbroken) && !segment.is_cut() {
            last
        } else {
            walk_past(disk, segment, ScanDepth::Records).next_seq.saturating_sub(1).min(last)
        };
        present.add(first, last);
    }
    present
}

/// All missing record numbers. `known` is the highest record number that the journal knows.
pub fn lost(disk: &dyn Disk, index: &Index, known: u64) -> Ranges {
    let newest = index
        .live()
        .last()
        .map_or(0, |segment| walk_past(disk, segment, ScanDepth::Records).next_seq - 1);
    let expected = expected(index, newest);
    let present = present_records(disk, index, newest, &expected);
    let mut lost = expected.without(&present);
    if known > newest {
        lost.add(newest + 1, known);
    }
    listed_missing(index).list().iter().for_each(|(first, last)| lost.add(*first, *last));
    lost
}

/// The times around a stretch, from the records and heads beside it.
pub fn locate_gap(disk: &dyn Disk, index: &Index, (first, last): (u64, u64)) -> MissingRecords {
    let live = index.live();
    let before = live
        .partition_point(|segment| segment.head.first_seq < first)
        .checked_sub(1)
        .map(|at| &live[at]);
    let from = before.map(|segment| {
        let ends =
            walk_past(disk, segment, ScanDepth::Records).found.into_iter().filter_map(|found| {
                match found {
                    ScanItem::Record(_, record) if record.seq < first && record.gap.is_none() => {
                        Some((record.boot, record.end()))
                    }
                    _ => None,
                }
            });
        let (boot, end) =
            ends.reduce(|_, end| end).unwrap_or((segment.head.boot, segment.head.start));
        index.clock_history.date(boot, end)
    });
    let behind = live.iter().find(|segment| segment.head.first_seq > last);
    let to = behind.map(|segment| index.clock_history.date(segment.head.boot, segment.head.start));
    MissingRecords { first, last, from, to, gaps: 1 }.in_order()
}

/// All missing stretches with their times; beyond [`REPORTED_MAX`] the last one covers the rest.
pub fn locate_gaps(disk: &dyn Disk, index: &Index, lost: &Ranges) -> Vec<MissingRecords> {
    let list = lost.list();
    let mut gaps: Vec<MissingRecords> =
        list.iter().take(REPORTED_MAX).map(|range| locate_gap(disk, index, *range)).collect();
    if let (Some(end), Some(last)) =
        (list.get(REPORTED_MAX..).and_then(<[_]>::last), gaps.last_mut())
    {
        let rest = locate_gap(disk, index, *end);
        let gaps = list.len() - REPORTED_MAX + 1;
        *last = MissingRecords { last: rest.last, to: rest.to, gaps, ..*last }.in_order();
    }
    gaps
}
