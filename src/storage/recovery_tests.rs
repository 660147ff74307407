//! The decision table of [`super::recovery`]: every state of the head with every state of the tail.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use super::check::check;
use super::disk::{Disk, FileId};
use super::engine_tests::{Bench, small};
use super::head_selection::heads;
use super::scan::{ScanDepth, ScanItem, walk};
use super::{GapReason, Recovered, RepairKind};
use crate::format::block::{BLOCK, padded};
use crate::format::record::RECORD_BOX;
use crate::format::segment_head::Segment;

/// Damage to the head of the newest file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Head {
    Whole,
    /// As if never written.
    Zeros,
    /// One byte of the segment header is changed.
    Damaged,
    /// Both copies are damaged.
    Both,
    /// Overwritten by the head of another file.
    Foreign,
}

/// Damage behind the head of the newest file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Tail {
    /// None: the records end at `free`.
    Free,
    /// The box of the last record is torn.
    TornRecord,
    /// The samples of the last record are torn.
    TornContent,
    /// Neither a record nor `free`.
    Garbage,
    /// A record between others is damaged; the records end at `free`.
    Damage,
    /// A record between others is damaged, and the last one is torn.
    DamageThenTorn,
}

const HEADS: [Head; 5] = [Head::Whole, Head::Zeros, Head::Damaged, Head::Both, Head::Foreign];
const TAILS: [Tail; 6] = [
    Tail::Free,
    Tail::TornRecord,
    Tail::TornContent,
    Tail::Garbage,
    Tail::Damage,
    Tail::DamageThenTorn,
];

fn put(bench: &Bench, file: FileId, at: u64, bytes: &[u8]) {
    bench.disk.write(file, at, bytes).unwrap();
    bench.disk.sync(file).unwrap();
}

/// The newest segment, and offset and length of each of its records.
fn newest(bench: &Bench) -> (Segment, Vec<(u64, u64)>) {
    let index = heads(&bench.disk).unwrap().index;
    let segment = index.live().last().unwrap().clone();
    let found = walk(&bench.disk, &segment, ScanDepth::Content).unwrap().found;
    let place = |found: &ScanItem| match found {
        ScanItem::Record(offset, record) => Some((*offset, record.len.into())),
        ScanItem::Damaged { .. } => None,
    };
    let places = found.iter().filter_map(place).collect();
    (segment, places)
}

/// Applies the damage. Returns the number of records of the newest file that the tail loses.
fn spoil(bench: &Bench, head: Head, tail: Tail) -> u64 {
    let (segment, places) = newest(bench);
    let file = FileId::Segment(segment.head.segment);
    let (last, len) = places[places.len() - 1];
    let damage = |nth: usize| put(bench, file, places[nth].0 + RECORD_BOX as u64 + 40, &[0xee; 64]);
    let lost = match tail {
        Tail::Free => 0,
        Tail::TornRecord => {
            put(bench, file, last, &[0x55; 512]);
            1
        }
        Tail::TornContent => {
            put(bench, file, last + len - 100, &[0x55; 100]);
            1
        }
        Tail::Garbage => {
            put(bench, file, last + padded(len), &[0x55; BLOCK as usize]);
            0
        }
        Tail::Damage => {
            damage(1);
            1
        }
        Tail::DamageThenTorn => {
            damage(1);
            put(bench, file, last, &[0x55; 512]);
            2
        }
    };
    match head {
        Head::Whole => {}
        Head::Zeros => put(bench, file, 0, &vec![0; segment.head_len as usize]),
        Head::Damaged | Head::Both => {
            if head == Head::Both {
                put(bench, file, segment.end + 40, &[0x55; 8]);
            }
            // Inside the segment header, which follows `ftyp` and `moov`.
            let bytes = bench.disk.read(file, 0, segment.head_len as usize).unwrap();
            let at = bytes.windows(14).position(|window| window == b"taimat-segm-v2").unwrap() + 20;
            put(bench, file, at as u64, &[bytes[at] ^ 1]);
        }
        Head::Foreign => {
            let index = heads(&bench.disk).unwrap().index;
            let other = FileId::Segment(index.live()[0].head.segment);
            let bytes = bench.disk.read(other, 0, segment.head_len as usize).unwrap();
            put(bench, file, 0, &bytes);
        }
    }
    lost
}

/// A ring in its second lap whose newest file has at least four records.
fn ring() -> Bench {
    let mut bench = Bench::new(small());
    bench.record(120);
    let has_room = |bench: &Bench| {
        let (segment, places) = newest(bench);
        places.len() >= 4
            && places.last().is_some_and(|(at, len)| at + padded(*len) + BLOCK <= segment.end)
    };
    while !has_room(&bench) {
        bench.record(1);
    }
    bench
}

/// Asserts the result that the table states.
fn expect(
    bench: &Bench,
    found: &Recovered,
    head: Head,
    tail: Tail,
    (first, last, lost): (u64, u64, u64),
) {
    let kinds: Vec<RepairKind> = found.repairs.iter().map(|repair| repair.kind).collect();
    let name = format!("{head:?} {tail:?}: {:?} {:?}", found.repairs, found.gaps);
    if head == Head::Both {
        assert!(
            kinds.contains(&RepairKind::Head) && found.last_seq == first - 1,
            "{name}: the ring ends before the segment"
        );
        return;
    }
    assert_eq!(
        kinds.contains(&RepairKind::Copy),
        head != Head::Whole,
        "{name}: the first copy is rewritten"
    );
    let torn =
        matches!(tail, Tail::TornRecord | Tail::TornContent | Tail::Garbage | Tail::DamageThenTorn);
    let damaged = matches!(tail, Tail::Damage | Tail::DamageThenTorn);
    assert_eq!(kinds.contains(&RepairKind::Torn), torn, "{name}");
    assert_eq!(kinds.contains(&RepairKind::Damaged), damaged, "{name}");
    assert_eq!(
        found.gaps.iter().filter(|gap| gap.reason == GapReason::Damaged).count(),
        usize::from(damaged),
        "{name}"
    );
    let kept = if torn && tail != Tail::Garbage { last - 1 } else { last };
    assert_eq!(found.last_seq, kept, "{name}");
    let damage = found.repairs.iter().find(|repair| repair.kind == RepairKind::Damaged);
    assert!(damage.is_none_or(|repair| repair.bytes > 0 && repair.micros > 0), "{name}");
    let (_, places) = newest(bench);
    assert_eq!(places.len() as u64 + lost, last - first + 1, "{name}");
}

#[test]
fn every_row_of_the_recovery_table_is_recovered() {
    for head in HEADS {
        for tail in TAILS {
            let mut bench = ring();
            let (segment, places) = newest(&bench);
            let first = segment.head.first_seq;
            let last = first + places.len() as u64 - 1;
            let lost = spoil(&bench, head, tail);
            let found = bench.restart(small());
            expect(&bench, &found, head, tail, (first, last, lost));
            let again = bench.restart(small());
            // Damage that is passed over is found again until its file is recycled; a tear is
            // repaired once.
            assert!(
                again.repairs.iter().all(|repair| repair.kind != RepairKind::Torn),
                "{head:?} {tail:?}: repaired twice"
            );
            assert_eq!(again.last_seq, found.last_seq);
            bench.record(60);
            let disk: Arc<dyn Disk> = Arc::new(bench.disk.clone());
            let problems = check(&disk, |_, _| {}).unwrap().problems;
            let damaged = usize::from(matches!(tail, Tail::Damage | Tail::DamageThenTorn));
            let left = if head == Head::Both { 3 } else { damaged };
            assert!(problems.len() <= left, "{head:?} {tail:?}: {problems:?}");
            bench.record(200);
            bench.is_whole();
        }
    }
}

#[test]
fn recording_leaves_a_segment_that_cannot_be_repaired() {
    for tail in [Tail::TornRecord, Tail::TornContent, Tail::Garbage] {
        let bench = ring();
        let (segment, _) = newest(&bench);
        spoil(&bench, Head::Whole, tail);
        bench.disk.read_only(true);
        let files = super::disk::segments(&bench.disk.files().unwrap());
        let found = super::recovery::recover(
            &bench.disk,
            &files,
            super::clock_history::ClockHistory::default(),
            0,
        );
        assert_eq!(found.open_at, None, "{tail:?}: {} is sealed", segment.head.segment);
        assert!(
            found.troubles.iter().any(|(trouble, _)| trouble.contains("read-only")),
            "{:?}",
            found.troubles
        );
    }
}

#[test]
fn a_lost_head_inside_the_ring_is_reported_as_a_gap() {
    let mut bench = ring();
    let index = heads(&bench.disk).unwrap().index;
    let lost = FileId::Segment(index.live()[3].head.segment);
    put(&bench, lost, 40, &[0; 400]);
    put(&bench, lost, index.live()[3].end + 40, &[0; 400]);
    let reads = bench.disk.reads();
    let found = bench.restart(small());
    let damaged: Vec<_> =
        found.gaps.iter().filter(|gap| gap.reason == GapReason::Missing).collect();
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].to, index.live()[4].head.start);
    let walked = bench.disk.reads() - reads;
    let records = newest(&bench).1.len() as u64;
    assert!(
        walked < 80 + 4 * records,
        "{walked} reads: only the file before the gap and the newest may be scanned"
    );
}
