//! `taimat ring list`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Dir, Range, length, open};
use crate::cli::time_zone::DisplayZone;
use crate::escape::{shown, shown_json};
use crate::format::record::RingRecord;
use crate::format::segment_head::Segment;
use crate::storage::Gap;
use crate::storage::disk::Disk;
use crate::storage::locks::Lock;
use crate::storage::missing_records::{MissingRecords, locate_gap, numbers};
use crate::storage::range_set::Ranges;
use crate::storage::scan::{ScanDepth, ScanEnd, ScanItem, SegmentScan, walk_past};
use crate::storage::second_look::{LOOKS, is_recycled};
use crate::storage::segment_index::Index;
use crate::units::{Boot, Timestamp, WallTime};

/// Two stretches closer than this are one in the list, microseconds.
const JOIN: u64 = 100_000;

/// A larger step of the wall clock begins another stretch, microseconds.
const STEP: u64 = 500_000;

/// Arguments of `taimat ring list`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    range: Range,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

/// A stretch of footage without a break.
struct Stretch {
    boot: Boot,
    begin: Timestamp,
    end: Timestamp,
    records: (u64, u64),
    bytes: u64,
}

/// One line of the list.
enum Line {
    Footage(Stretch),
    Gap(Gap),
    /// Numbers of records that were evicted between pinned ones.
    Evicted(u64, u64),
    /// Records that the heads list as present and that are in no file.
    Missing(MissingRecords),
    /// Unreadable records.
    Damaged(MissingRecords),
    /// Records of a segment that the agent recycled while it was read.
    Recycled(u64, u64),
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (disk, index, locks) = open(&args.dir.dir)?;
    let (from, to) = args.range.moments()?;
    let locks = locks.list();
    let mut lines = lines(disk.as_ref(), &index)?;
    lines.retain(|line| match line {
        Line::Footage(Stretch { begin, end, .. }) => begin.wall <= to && end.wall >= from,
        Line::Gap(gap) => gap.from.wall <= to && gap.to.wall.max(gap.from.wall) >= from,
        Line::Evicted(..) | Line::Recycled(..) => true,
        Line::Missing(lost) | Line::Damaged(lost) => {
            lost.from.is_none_or(|begin| begin.wall <= to)
                && lost.to.is_none_or(|end| end.wall >= from)
        }
    });
    match args.json {
        true => println!(
            "{}",
            shown_json(&lines.iter().map(|line| row(line, &locks)).collect::<Vec<_>>())?
        ),
        false => table(&lines, &locks, &index.lost, &args.range.zone),
    }
    let missing = lines.iter().any(|line| matches!(line, Line::Missing(..) | Line::Damaged(..)));
    if !args.json {
        println!(
            "(this command reads only record headers: taimat ring check also reads the pictures)"
        );
    }
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn lines(disk: &dyn Disk, index: &Index) -> anyhow::Result<Vec<Line>> {
    let (mut lines, mut next, mut before) = (Vec::new(), None, Boot(0));
    for (at, segment) in index.live().iter().enumerate() {
        if let Some(next) = next.filter(|next| *next < segment.head.first_seq) {
            between(disk, index, (next, segment.head.first_seq - 1), &mut lines);
        }
        let Some(walked) = walk_steadily(disk, index, at) else {
            let last = index.last_seq(at, u64::MAX);
            lines.push(Line::Recycled(segment.head.first_seq, last));
            next = last.checked_add(1);
            continue;
        };
        if at == 0 {
            between(disk, index, (0, segment.head.first_seq - 1), &mut lines);
        }
        for found in &walked.found {
            let record = match found {
                ScanItem::Record(_, record) => record,
                ScanItem::Damaged { first, last, .. } => {
                    lines.push(Line::Damaged(damage(
                        disk,
                        index,
                        segment,
                        &walked.found,
                        (*first, *last),
                    )));
                    continue;
                }
            };
            match record.gap() {
                Some(gap) => {
                    lines.push(Line::Gap(index.clock_history.date_gap(&gap, before, record.boot)))
                }
                None => {
                    before = record.boot;
                    footage(index, record, &mut lines);
                }
            }
        }
        // Damage up to the end of a file belongs to it: the next file continues right behind.
        let follows =
            index.live().get(at + 1).is_some_and(|next| next.head.lap == segment.head.lap + 1);
        let last = index.last_seq(at, u64::MAX);
        let torn = walked.end == ScanEnd::Torn && follows && walked.next_seq <= last;
        if torn {
            lines.push(Line::Damaged(locate_gap(disk, index, (walked.next_seq, last))));
        }
        next = Some(if torn { last + 1 } else { walked.next_seq });
    }
    between(disk, index, (next.unwrap_or(0), u64::MAX), &mut lines);
    Ok(lines)
}

/// The records of a segment; looks again where some cannot be read, as the agent may be writing them. `None` if the agent has recycled the
/// segment meanwhile.
fn walk_steadily(disk: &dyn Disk, index: &Index, at: usize) -> Option<SegmentScan> {
    let segment = &index.live()[at];
    let newest = at + 1 == index.live().len();
    let mut looks = 1;
    loop {
        let walked = walk_past(disk, segment, ScanDepth::Records);
        if is_recycled(disk, segment) {
            return None;
        }
        let damaged = walked.found.iter().any(|found| matches!(found, ScanItem::Damaged { .. }))
            || walked.end == ScanEnd::Torn && !newest;
        if !damaged || looks == LOOKS {
            return Some(walked);
        }
        looks += 1;
        disk.let_writer_finish();
    }
}

/// Records between two files, before the first or behind the last one: lost or evicted.
fn between(disk: &dyn Disk, index: &Index, (first, last): (u64, u64), lines: &mut Vec<Line>) {
    let here: Ranges =
        index.lost.list().iter().map(|(from, to)| (first.max(*from), last.min(*to))).collect();
    let evicted = match first == 0 || last == u64::MAX {
        // Records before the first file were evicted.
        true => Ranges::default(),
        false => Ranges::from_iter([(first, last)]).without(&here),
    };
    let lost =
        here.list().iter().map(|range| (range.0, Line::Missing(locate_gap(disk, index, *range))));
    let mut all: Vec<_> = evicted
        .list()
        .iter()
        .map(|(first, last)| (*first, Line::Evicted(*first, *last)))
        .chain(lost)
        .collect();
    all.sort_by_key(|(first, _)| *first);
    lines.extend(all.into_iter().map(|(_, line)| line));
}

/// A damaged stretch of a file, with the times of the records beside it.
fn damage(
    disk: &dyn Disk,
    index: &Index,
    segment: &Segment,
    found: &[ScanItem],
    (first, last): (u64, u64),
) -> MissingRecords {
    let around = locate_gap(disk, index, (first, last));
    let behind = found.iter().find_map(|found| match found {
        ScanItem::Record(_, record) if record.seq > last => {
            Some(index.clock_history.date(segment.head.boot, record.start))
        }
        _ => None,
    });
    MissingRecords { to: behind.or(around.to), ..around }.in_order()
}

/// Extends the last stretch, or starts another. A step of the wall clock starts another.
fn footage(index: &Index, record: &RingRecord, lines: &mut Vec<Line>) {
    let begin = index.clock_history.date(record.boot, record.start);
    let end = begin.after(record.duration);
    // Records may overlap: only the offset of the two clocks shows a step.
    let offset = |stamp: Timestamp| stamp.wall.0.saturating_sub_unsigned(stamp.mono.0);
    match lines.last_mut() {
        Some(Line::Footage(last))
            if last.boot == record.boot
                && begin.mono.since(last.end.mono) <= JOIN
                && offset(begin).abs_diff(offset(last.end)) <= STEP
                && begin.quality == last.begin.quality =>
        {
            if end.mono > last.end.mono {
                last.end = end;
            }
            last.records.1 = record.seq;
            last.bytes += u64::from(record.payload);
        }
        _ => {
            let (bytes, records) = (record.payload.into(), (record.seq, record.seq));
            lines.push(Line::Footage(Stretch { boot: record.boot, begin, end, records, bytes }));
        }
    }
}

/// Locks that cover a part of a stretch.
fn held<'a>(stretch: &Stretch, locks: &'a [Lock]) -> Vec<&'a str> {
    let (first, last) = stretch.records;
    locks
        .iter()
        .filter(|lock| lock.first <= last && first <= lock.last)
        .map(|lock| lock.id.as_str())
        .collect()
}

/// Lost records of a lock, reported at a start or not yet.
fn missing_of(lock: &Lock, lost: &Ranges) -> Vec<(u64, u64)> {
    let mut all: Ranges = lock.missing.iter().copied().collect();
    lock.within(lost).list().iter().for_each(|(first, last)| all.add(*first, *last));
    all.list().to_vec()
}

/// What is said of a gap in which the clock was set back, so that its length is unknown.
fn set_back(gap: &Gap) -> String {
    match gap.set_back() {
        0 => String::new(),
        micros => format!("; the clock was set back {}", length(micros)),
    }
}

fn time(stamp: Option<Timestamp>) -> Option<String> {
    stamp.map(|stamp| stamp.wall.rfc3339())
}

fn row(line: &Line, locks: &[Lock]) -> Value {
    match line {
        Line::Footage(s) => {
            json!({"from": s.begin.wall.rfc3339(), "to": s.end.wall.rfc3339(), "clock": s.begin.quality,
            "boot": s.boot, "records": s.records, "bytes": s.bytes, "locks": held(s, locks)})
        }
        Line::Gap(gap) => {
            let to = (gap.set_back() == 0).then(|| gap.to.wall.rfc3339());
            let mut row = json!({"gap": gap.reason.as_str(), "from": gap.from.wall.rfc3339(), "to": to, "bytes": gap.bytes});
            if gap.set_back() > 0 {
                row["set_back_ms"] = json!(gap.set_back().div_ceil(1000));
            }
            row
        }
        Line::Evicted(first, last) => json!({"evicted": [first, last]}),
        Line::Recycled(first, last) => json!({"recycled": [first, last]}),
        Line::Missing(lost) => {
            json!({"missing": [lost.first, lost.last], "from": time(lost.from), "to": time(lost.to)})
        }
        Line::Damaged(lost) => {
            json!({"damaged": [lost.first, lost.last], "from": time(lost.from), "to": time(lost.to)})
        }
    }
}

fn table(lines: &[Line], locks: &[Lock], lost: &Ranges, zone: &DisplayZone) {
    println!(
        "{:29}  {:29}  {:6}  {:>4}  {:>15}  {:>9}  locks",
        "from", "to", "clock", "boot", "records", "MiB"
    );
    let show = |wall: WallTime| zone.show(wall);
    let moment = |stamp: Option<Timestamp>| stamp.map_or("?".into(), |stamp| show(stamp.wall));
    for line in lines {
        match line {
            Line::Footage(s) => println!(
                "{:29}  {:29}  {:6}  {:>4}  {:>15}  {:>9.1}  {}",
                show(s.begin.wall),
                show(s.end.wall),
                s.begin.quality.as_str(),
                s.boot.0,
                format!("{}-{}", s.records.0, s.records.1),
                s.bytes as f64 / 1_048_576.0,
                held(s, locks).join(", ")
            ),
            Line::Gap(gap) => {
                let to = (gap.set_back() == 0).then_some(gap.to);
                println!(
                    "{:29}  {:29}  -- gap: {}{}",
                    show(gap.from.wall),
                    moment(to),
                    gap.reason.as_str(),
                    set_back(gap)
                );
            }
            Line::Missing(MissingRecords { first, last, from, to, .. }) => {
                let what = numbers(*first, *last);
                println!(
                    "{:29}  {:29}  -- MISSING: {what} in no file, and no head says evicted",
                    moment(*from),
                    moment(*to)
                );
            }
            Line::Damaged(MissingRecords { first, last, from, to, .. }) => {
                println!(
                    "{:29}  {:29}  -- DAMAGED: {} not readable",
                    moment(*from),
                    moment(*to),
                    numbers(*first, *last)
                );
            }
            Line::Recycled(first, last) => {
                println!(
                    "{:29}  {:29}  -- recycled by the agent while they were read: records {first} to {last}",
                    "", ""
                )
            }
            Line::Evicted(first, last) => {
                println!("{:29}  {:29}  -- evicted: records {first} to {last}", "", "")
            }
        }
    }
    for lock in locks {
        println!(
            "locked {}: {} to {}: {}",
            shown(&lock.id),
            show(lock.from),
            show(lock.to),
            shown(&lock.reason)
        );
        for (first, last) in missing_of(lock, lost) {
            println!("  MISSING of it: {} in no file", numbers(first, last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::tests::record;
    use crate::units::{ClockQuality, MonoTime};

    /// The rows of records of 1 s that start at these moments (monotonic and wall clock, 0.1 s).
    fn rows(starts: &[(u64, i64)]) -> Vec<(u64, u64)> {
        let mut lines = Vec::new();
        for (seq, (mono, wall)) in starts.iter().enumerate() {
            let start = Timestamp {
                mono: MonoTime(mono * 100_000),
                wall: WallTime(wall * 100_000),
                quality: ClockQuality::Ntp,
            };
            let record = RingRecord {
                seq: seq as u64,
                boot: Boot(1),
                start,
                duration: 1_000_000,
                ..record()
            };
            footage(&Index::default(), &record, &mut lines);
        }
        let rows = lines.iter().map(|line| match line {
            Line::Footage(stretch) => stretch.records,
            _ => panic!("no footage"),
        });
        rows.collect()
    }

    #[cfg(feature = "sim")]
    #[test]
    fn a_list_beside_a_writer_shows_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = crate::storage::beside_tests::FastWriter::start(dir.path());
        for _ in 0..20 {
            let disk = writer.reader();
            let index = crate::storage::recovery::read(&disk).unwrap().index;
            std::thread::sleep(std::time::Duration::from_millis(50));
            let lines = lines(disk.as_ref(), &index).unwrap();
            let wrong =
                lines.iter().find(|line| matches!(line, Line::Missing(..) | Line::Damaged(..)));
            assert!(wrong.is_none(), "{:?}", wrong.map(|line| row(line, &[])));
        }
        writer.stop();
    }

    #[test]
    fn a_gap_over_a_clock_set_back_has_no_end() {
        let at =
            |second: i64| Timestamp { wall: WallTime(second * 1_000_000), ..Timestamp::default() };
        let reason = crate::storage::GapReason::Stopped;
        let gap = |from, to| Line::Gap(Gap { from: at(from), to: at(to), reason, bytes: 0 });
        let (back, forward) = (row(&gap(90_061, 0), &[]), row(&gap(0, 5), &[]));
        assert_eq!((&back["to"], &back["set_back_ms"]), (&Value::Null, &json!(90_061_000)));
        assert_eq!(forward["to"], "1970-01-01T00:00:05.000Z");
        let Line::Gap(gap) = gap(90_061, 0) else { return };
        assert_eq!(set_back(&gap), "; the clock was set back 1 day 1:01:01");
    }

    #[test]
    fn records_that_overlap_are_one_row() {
        assert_eq!(rows(&[(100, 100), (104, 104)]), [(0, 1)]);
        assert_eq!(rows(&[(100, 100), (110, 110), (118, 118)]), [(0, 2)]);
    }

    #[test]
    fn a_break_or_a_step_of_the_clock_begins_another_row() {
        assert_eq!(rows(&[(100, 100), (112, 112)]), [(0, 0), (1, 1)]);
        assert_eq!(rows(&[(100, 100), (110, 116)]), [(0, 0), (1, 1)]);
        assert_eq!(rows(&[(100, 100), (110, 104)]), [(0, 0), (1, 1)]);
    }
}
