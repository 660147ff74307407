//! ⇄ `taimat ring list`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Dir, Range, open};
use crate::cli::zone::Zone;
use crate::storage::Gap;
use crate::storage::head::{Cause, Evicted};
use crate::storage::index::Index;
use crate::storage::locks::Lock;
use crate::storage::ranges::Ranges;
use crate::storage::recovery::expected;
use crate::storage::walk::{Depth, Found, walk_past};
use crate::storage::{disk::Disk, format::Record};
use crate::units::{Boot, Stamp, Wall};

/// Two stretches closer than this are one in the list, microseconds.
const JOIN: u64 = 100_000;

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
    begin: Stamp,
    end: Stamp,
    records: (u64, u64),
    bytes: u64,
}

/// One line of the list.
enum Line {
    Footage(Stretch),
    Hole(Gap),
    /// Numbers of records that were evicted between others.
    Evicted(u64, u64),
    /// Numbers of records that should be there and are in no file.
    Missing(u64, u64),
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (disk, index, locks) = open(&args.dir.dir)?;
    let (from, to) = args.range.moments()?;
    let locks = locks.list();
    let mut lines = lines(disk.as_ref(), &index)?;
    lines.retain(|line| match line {
        Line::Footage(Stretch { begin, end, .. }) => begin.wall <= to && end.wall >= from,
        Line::Hole(gap) => gap.from.wall <= to && gap.to.wall >= from,
        Line::Evicted(..) | Line::Missing(..) => true,
    });
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&lines.iter().map(|line| row(line, &locks)).collect::<Vec<_>>())?),
        false => table(&lines, &locks, &args.range.zone),
    }
    let missing = lines.iter().any(|line| matches!(line, Line::Missing(..)));
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn lines(disk: &dyn Disk, index: &Index) -> anyhow::Result<Vec<Line>> {
    let (mut lines, mut next, mut before) = (Vec::new(), None, Boot(0));
    let mut there = Ranges::default();
    for (at, segment) in index.live().iter().enumerate() {
        if let Some(next) = next.filter(|next| *next < segment.head.first_seq) {
            lines.push(Line::Evicted(next, segment.head.first_seq - 1));
        }
        let walked = walk_past(disk, segment, Depth::Records);
        // Damage up to the end of a file is in it: the next one begins right behind.
        let follows = index.live().get(at + 1).is_some_and(|next| next.head.lap == segment.head.lap + 1);
        let last = if follows { index.last_seq(at, u64::MAX) } else { walked.next_seq - 1 };
        there.add(segment.head.first_seq, last);
        for found in &walked.found {
            let Found::Record(_, record) = found else { continue };
            match record.hole() {
                Some(gap) => lines.push(Line::Hole(index.dates.date_gap(&gap, before, record.boot))),
                None => {
                    before = record.boot;
                    footage(index, record, &mut lines);
                }
            }
        }
        next = Some(walked.next_seq);
    }
    // What the newest head says is in the ring, and no head says went, must be in a file.
    let stated = index.live().iter().flat_map(|segment| &segment.head.statement.evicted);
    let (lost, went): (Vec<&Evicted>, Vec<&Evicted>) = stated.partition(|evicted| evicted.cause == Cause::Missing);
    let range = |evicted: &&Evicted| (evicted.first, evicted.last);
    let mut missing = expected(index, next.map_or(0, |next| next - 1)).without(&there);
    missing = missing.without(&went.iter().map(range).collect());
    lost.iter().for_each(|evicted| missing.add(evicted.first, evicted.last));
    lines.extend(missing.list().iter().map(|(first, last)| Line::Missing(*first, *last)));
    Ok(lines)
}

/// Makes the last stretch longer, or begins another.
fn footage(index: &Index, record: &Record, lines: &mut Vec<Line>) {
    let begin = index.dates.date(record.boot, record.start);
    let end = begin.after(record.duration);
    match lines.last_mut() {
        Some(Line::Footage(last))
            if last.boot == record.boot
                && begin.mono.since(last.end.mono) <= JOIN
                && (begin.wall.0 - last.end.wall.0).unsigned_abs() <= JOIN * 5
                && begin.quality == last.begin.quality =>
        {
            (last.end, last.records.1) = (end, record.seq);
            last.bytes += u64::from(record.payload);
        }
        _ => {
            let (bytes, records) = (record.payload.into(), (record.seq, record.seq));
            lines.push(Line::Footage(Stretch { boot: record.boot, begin, end, records, bytes }));
        }
    }
}

/// Locks that hold some of a stretch.
fn held<'a>(stretch: &Stretch, locks: &'a [Lock]) -> Vec<&'a str> {
    let (first, last) = stretch.records;
    locks.iter().filter(|lock| lock.first <= last && first <= lock.last).map(|lock| lock.id.as_str()).collect()
}

fn row(line: &Line, locks: &[Lock]) -> Value {
    match line {
        Line::Footage(s) => json!({"from": s.begin.wall.rfc3339(), "to": s.end.wall.rfc3339(), "clock": s.begin.quality,
            "boot": s.boot, "records": s.records, "bytes": s.bytes, "locks": held(s, locks)}),
        Line::Hole(gap) => {
            json!({"gap": gap.reason.word(), "from": gap.from.wall.rfc3339(), "to": gap.to.wall.rfc3339(), "bytes": gap.bytes})
        }
        Line::Evicted(first, last) => json!({"evicted": [first, last]}),
        Line::Missing(first, last) => json!({"missing": [first, last]}),
    }
}

fn table(lines: &[Line], locks: &[Lock], zone: &Zone) {
    println!("{:29}  {:29}  {:6}  {:>4}  {:>15}  {:>9}  locks", "from", "to", "clock", "boot", "records", "MiB");
    let show = |wall: Wall| zone.show(wall);
    for line in lines {
        match line {
            Line::Footage(s) => println!(
                "{:29}  {:29}  {:6}  {:>4}  {:>15}  {:>9.1}  {}",
                show(s.begin.wall),
                show(s.end.wall),
                s.begin.quality.word(),
                s.boot.0,
                format!("{}-{}", s.records.0, s.records.1),
                s.bytes as f64 / 1_048_576.0,
                held(s, locks).join(", ")
            ),
            Line::Hole(gap) => {
                println!("{:29}  {:29}  -- missing: {}", show(gap.from.wall), show(gap.to.wall), gap.reason.word());
            }
            Line::Missing(first, last) => {
                println!("{:29}  {:29}  -- MISSING: records {first} to {last}, and no head says that they were evicted", "", "");
            }
            Line::Evicted(first, last) => println!("{:29}  {:29}  -- evicted: records {first} to {last}", "", ""),
        }
    }
    for lock in locks {
        println!("locked {}: {} to {}: {}", lock.id, show(lock.from), show(lock.to), lock.reason);
    }
}
