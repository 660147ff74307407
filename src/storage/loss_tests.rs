//! Missing segments: reported once, with record numbers and times, in exports, queries, boots and
//! locks.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use super::disk::{Disk, FileId, RealDisk};
use super::engine::Engine;
use super::engine_tests::{Bench, NOON, small};
use super::footage_query::{gaps_between, locate};
use super::recovery::read;
use super::*;
use crate::sim::cow_image::CowImage;
use crate::sim::faulty_disk::FaultyDisk;
use crate::units::{ClockQuality, Timestamp};

/// A stopped ring without the file of its segment at `at` (0 = oldest), and the lost record
/// numbers.
fn without(bench: &Bench, at: usize) -> (CowImage, (u64, u64)) {
    let live = bench.engine.ring.index().live();
    let numbers = (live[at].head.first_seq, live[at + 1].head.first_seq - 1);
    let mut card = bench.disk.durable();
    card.remove(FileId::Segment(live[at].head.segment));
    (card, numbers)
}

fn all(disk: &FaultyDisk) -> Span {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let index = read(&shared).unwrap().index;
    let query = SpanQuery::Wall { from: WallTime(i64::MIN), to: WallTime(i64::MAX), after: 0 };
    locate(disk, &index, u64::MAX, &query).unwrap().unwrap()
}

#[test]
fn footage_asked_from_within_a_gap_has_that_gap_before_it() {
    let mut bench = Bench::new(small());
    bench.record(10);
    bench.order(StorageRequest::Stop);
    bench.wait(60_000_000);
    bench.restart(small());
    bench.record(10);
    let shared: Arc<dyn Disk> = Arc::new(bench.disk.clone());
    let index = read(&shared).unwrap().index;
    let (from, to) = (WallTime(NOON + 40_000_000), WallTime(NOON + 75_000_000));
    let gaps = gaps_between(shared.as_ref(), &index, from, to);
    assert!(
        gaps.len() == 1 && gaps[0].reason == GapReason::Stopped && gaps[0].from.wall < from,
        "{gaps:?}"
    );
}

#[test]
fn a_lost_segment_is_a_gap_in_an_export() {
    let bench = super::rot_tests::stopped();
    let (card, lost) = without(&bench, 3);
    let span = all(&FaultyDisk::with(card, None));
    assert_eq!(span.damaged, [lost]);
    let gap = span.gaps.iter().find(|gap| gap.reason.as_str() == "missing").unwrap();
    let edge = |seq: u64| span.fragments.iter().find(|fragment| fragment.seq == seq).unwrap();
    assert_eq!((gap.from, gap.to), (edge(lost.0 - 1).end(), edge(lost.1 + 1).start));
}

/// The gaps in the answer to a query: reason, start and end in seconds since noon.
fn answer(bench: &mut Bench, from: i64, to: i64) -> Vec<(&'static str, i64, i64)> {
    let noon = super::engine_tests::NOON;
    let query = SpanQuery::Wall {
        from: WallTime(noon + from * 1_000_000),
        to: WallTime(noon + to * 1_000_000),
        after: 0,
    };
    bench.order(StorageRequest::Locate { pin: PinId(1), class: PinClass::Requested, query });
    bench.wait(11_000_000);
    let at = bench
        .update
        .iter()
        .rposition(|update| matches!(update, StorageUpdate::Located { .. }))
        .unwrap();
    let StorageUpdate::Located { span, .. } = bench.update.remove(at) else { panic!() };
    let span = span.unwrap();
    assert!(span.fragments.is_empty());
    let second = |stamp: Timestamp| (stamp.wall.0 - noon) / 1_000_000;
    span.gaps.iter().map(|gap| (gap.reason.as_str(), second(gap.from), second(gap.to))).collect()
}

#[test]
fn a_query_before_the_ring_reports_eviction() {
    let mut bench = Bench::new(small());
    bench.record(120);
    let oldest = bench.engine.ring.index().live()[0].head.start;
    let oldest = (oldest.wall.0 - super::engine_tests::NOON) / 1_000_000;
    assert!(oldest > 20, "nothing was evicted");
    assert_eq!(answer(&mut bench, 1, 10), [("evicted_pinned", 1, 10)]);
}

#[test]
fn a_query_within_a_lost_segment_reports_the_gap() {
    let mut bench = super::rot_tests::stopped();
    let live = bench.engine.ring.index().live();
    let noon = super::engine_tests::NOON;
    let second = |at: usize| (live[at].head.start.wall.0 - noon) / 1_000_000;
    let (from, to) = (second(3) + 2, second(4) - 2);
    assert!(from < to);
    let (card, _) = without(&bench, 3);
    bench.disk = FaultyDisk::with(card, None);
    bench.restart(small());
    let found = answer(&mut bench, from, to);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0 == "missing" && found[0].1 <= from && found[0].2 >= to, "{found:?}");
}

#[test]
fn missing_records_are_reported_at_one_boot_only() {
    let (mut bench, bench_of_before) = (super::rot_tests::stopped(), super::rot_tests::stopped());
    let (card, _) = without(&bench, 3);
    bench.disk = FaultyDisk::with(card, None);
    let missing = |found: &Recovered| {
        found.repairs.iter().filter(|repair| repair.kind == RepairKind::Missing).count()
    };
    let (_, lost) = without(&bench_of_before, 3);
    let found = bench.restart(small());
    assert_eq!(missing(&found), 1);
    let gap = found.repairs[0].lost.unwrap();
    assert_eq!((gap.first, gap.last), lost);
    assert!(gap.from.unwrap().wall < gap.to.unwrap().wall, "{gap}");
    bench.record(2);
    bench.order(StorageRequest::Stop);
    assert_eq!(missing(&bench.restart(small())), 0);
}

#[test]
fn a_lock_that_lost_footage_is_reported_once() {
    let mut bench = super::rot_tests::stopped();
    let (mut card, lost) = without(&bench, 3);
    let shared: Arc<dyn Disk> = Arc::new(FaultyDisk::with(bench.disk.durable(), None));
    let len = shared.files().unwrap()[&FileId::Journal];
    let (mut journal, kept) =
        super::journal::Journal::open(shared.clone(), read(&shared).unwrap().card, 0, Some(len))
            .unwrap();
    let mut locks = kept.locks().unwrap();
    let (from, to, first, last) = (WallTime(1), WallTime(2), lost.0 + 1, u64::MAX);
    locks
        .add(super::locks::Lock {
            id: "a".into(),
            from,
            to,
            first,
            last,
            reason: "b".into(),
            missing: Vec::new(),
        })
        .unwrap();
    journal.save(Cell::Locks, locks.encode()).unwrap();
    let bytes = shared.read(FileId::Journal, 0, len as usize).unwrap();
    card.write(FileId::Journal, 0, &bytes);
    bench.disk = FaultyDisk::with(card, None);
    let found = bench.restart(small());
    assert_eq!(found.locks[0].missing, [(lost.0 + 1, lost.1)]);
    let reported = |update: &StorageUpdate| matches!(update, StorageUpdate::LockBroken { lock, lost } if lock.id == "a" && lost.len() == 1);
    assert_eq!(
        bench.update.iter().filter(|update| reported(update)).count(),
        1,
        "{:?}",
        bench.update
    );
    let again = bench.restart(small());
    assert!(!bench.update.iter().any(reported) && again.locks == found.locks);
}

#[test]
fn a_missing_truncated_or_wiped_journal_is_reported_once() {
    let spoilt: [fn(&mut CowImage); 3] = [
        |card| card.remove(FileId::Journal),
        |card| {
            card.remove(FileId::Journal);
            card.create(FileId::Journal, 65_536);
        },
        |card| {
            let len = card.len(FileId::Journal);
            card.write(FileId::Journal, 0, &vec![0; len]);
        },
    ];
    for spoil in spoilt {
        let mut bench = super::rot_tests::stopped();
        let mut card = bench.disk.durable();
        spoil(&mut card);
        bench.disk = FaultyDisk::with(card, None);
        let shared: Arc<dyn Disk> = Arc::new(bench.disk.clone());
        assert!(
            read(&shared).unwrap().troubles.iter().any(|trouble| trouble == super::journal::LOST)
        );
        let checked = super::check::check(&shared, |_, _| {}).unwrap();
        assert!(
            checked.problems.iter().any(|problem| problem.what == super::journal::LOST),
            "{:?}",
            checked.problems
        );
        bench.restart(small());
        let reported = |update: &StorageUpdate| matches!(update, StorageUpdate::Trouble { detail, lost: true } if detail == super::journal::LOST);
        assert!(bench.update.iter().any(reported), "the boot reports nothing");
        bench.restart(small());
        assert!(!bench.update.iter().any(reported), "the next boot reports it again");
    }
}

#[test]
fn a_segment_deleted_while_recording_is_reported_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let ring = dir.path().join("ring");
    let mut bench = Bench::new(small());
    let now =
        Timestamp { mono: MonoTime(1_000_000), wall: WallTime(NOON), quality: ClockQuality::Ntp };
    let disk = Arc::new(RealDisk::open(&ring, false).unwrap());
    (bench.engine, bench.update) = Engine::open(disk, &small(), now).unwrap();
    bench.record(10);
    for entry in std::fs::read_dir(&ring).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "mp4") {
            std::fs::remove_file(path).unwrap();
        }
    }
    bench.update.clear();
    bench.record(10);
    let reported = bench.update.iter().find_map(|update| match update {
        StorageUpdate::Trouble { detail, lost } if detail.contains("was removed") => {
            Some((detail, lost))
        }
        _ => None,
    });
    let (detail, lost) = reported.unwrap();
    assert!(*lost && detail.contains("its records "), "{detail}");
}
