//! Footage over a wall clock that was set: each part of it states times that are true.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::engine_tests::{Bench, NOON, small};
use super::footage_query::{gaps_between, locate};
use super::*;
use crate::storage::disk::Disk;
use crate::units::Timestamp;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Most that the times of a part may differ from the duration of its pictures, microseconds.
const TOLERANCE: i64 = 600_000;

/// All parts of a query, as an export or a clip asks for them.
fn parts(bench: &Bench, query: impl Fn(u64) -> SpanQuery) -> Vec<Span> {
    let (mut parts, mut after) = (Vec::new(), 0);
    while let Some(span) =
        locate(&bench.disk, bench.engine.ring.index(), u64::MAX, &query(after)).unwrap()
    {
        after = span.fragments.last().unwrap().seq;
        let more = span.more;
        parts.push(span);
        if !more {
            break;
        }
    }
    parts
}

fn whole_time(after: u64) -> SpanQuery {
    SpanQuery::Wall { from: WallTime(i64::MIN), to: WallTime(i64::MAX), after }
}

/// Records with footage, in order.
fn footage(bench: &Bench) -> Vec<u64> {
    let query = SpanQuery::Seq { first: 1, last: u64::MAX };
    let span = locate(&bench.disk, bench.engine.ring.index(), u64::MAX, &query).unwrap().unwrap();
    span.fragments.iter().map(|fragment| fragment.seq).collect()
}

/// Asserts that the parts hold all footage once, and that the times of each are in order and as long
/// as its pictures.
fn assert_true_times(name: &str, bench: &Bench, parts: &[Span]) {
    let of_parts = parts.iter().flat_map(|part| part.fragments.iter().map(|f| f.seq));
    assert_eq!(of_parts.collect::<Vec<_>>(), footage(bench), "{name}");
    for (at, part) in parts.iter().enumerate() {
        let (first, last) = (&part.fragments[0], part.fragments.last().unwrap());
        let stated = last.end().wall.0 - first.start.wall.0;
        let shown = (last.media + last.duration - first.media) as i64;
        assert!(
            stated >= 0 && (stated - shown).abs() <= TOLERANCE,
            "{name}: part {at} states {stated} us and shows {shown} us"
        );
        let walls = part.fragments.windows(2).map(|two| (two[0].start.wall, two[1].start.wall));
        walls.for_each(|(one, next)| assert!(one <= next, "{name}: part {at}: {one} to {next}"));
        assert_ordered(name, &part.gaps);
    }
}

fn assert_ordered(name: &str, gaps: &[Gap]) {
    gaps.iter().for_each(|gap| {
        let Gap { from, to, reason, .. } = gap;
        assert!(from.wall <= to.wall, "{name}: {} to {}: {reason:?}", from.wall, to.wall);
    });
}

/// A ring whose boots begin at these times, in microseconds since noon.
fn boots_at(times: &[i64]) -> Bench {
    let mut bench = Bench::new(small());
    for (at, time) in times.iter().enumerate() {
        bench.set_clock(*time);
        if at > 0 {
            bench.restart(small());
        }
        bench.record(3);
        bench.order(StorageRequest::Stop);
    }
    bench
}

#[test]
fn a_clock_set_back_between_boots_begins_another_part() {
    for back in [SECOND, 10 * SECOND, 600 * SECOND, DAY, 20_000 * DAY] {
        // Each boot has recorded three seconds.
        let bench = boots_at(&[0, 3 * SECOND - back]);
        let parts = parts(&bench, whole_time);
        let name = format!("back {back} us");
        assert_eq!(parts.len(), 2, "{name}");
        assert_true_times(&name, &bench, &parts);
    }
}

#[test]
fn a_clock_set_forward_is_a_gap_as_long_as_the_media_time() {
    for forward in [SECOND, 600 * SECOND, DAY] {
        let bench = boots_at(&[0, 3 * SECOND + forward]);
        let parts = parts(&bench, whole_time);
        assert_eq!(parts.len(), 1, "forward {forward} us");
        assert_eq!(parts[0].gaps.len(), 1, "forward {forward} us");
        assert_true_times(&format!("forward {forward} us"), &bench, &parts);
    }
    for years in [1, 50, 200] {
        let bench = boots_at(&[0, years * 365 * DAY]);
        let parts = parts(&bench, whole_time);
        assert_eq!(parts.len(), 2, "the media clock has at most 30 days for a gap");
        assert_true_times(&format!("forward {years} years"), &bench, &parts);
    }
}

#[test]
fn many_boots_with_other_clocks_have_true_parts() {
    for times in [
        &[-20_000 * DAY, 80_000 * DAY, 0, -2 * DAY][..],
        &[0, DAY, -2 * DAY, 2 * DAY, 2 * DAY + 10 * SECOND],
        &[0, 0, 0, 0, 0],
        &[0, -1, -2, 100 * SECOND, 100 * SECOND + 2_900_000],
    ] {
        let bench = boots_at(times);
        let name = format!("{times:?}");
        assert_true_times(&name, &bench, &parts(&bench, whole_time));
        let index = bench.engine.ring.index();
        let gaps = gaps_between(&bench.disk, index, WallTime(i64::MIN), WallTime(i64::MAX));
        assert_ordered(&name, &gaps);
        assert_eq!(gaps.len(), times.len() - 1, "{name}");
        for part in parts(&bench, whole_time) {
            let clip = SpanQuery::Wall {
                from: part.fragments[0].start.wall,
                to: part.fragments.last().unwrap().end().wall,
                after: 0,
            };
            let found = locate(&bench.disk, index, u64::MAX, &clip).unwrap().unwrap();
            assert!(found.fragments[0].key, "{name}");
        }
    }
}

#[test]
fn gaps_reported_to_the_office_end_after_they_begin() {
    for (times, is_set_back) in [([0, 10 * SECOND], false), ([0, -DAY], true)] {
        let bench = boots_at(&times);
        let gap = bench.update.iter().find_map(|update| match update {
            StorageUpdate::Gap(gap) => Some(gap.clone()),
            _ => None,
        });
        let event = crate::agent::events::gap(&gap.unwrap());
        let time = |key: &str| WallTime::parse(event[key].as_str().unwrap()).unwrap();
        assert!(time("from") <= time("to"), "{event}");
        assert_eq!(event.get("set_back_ms").is_some(), is_set_back, "{event}");
    }
}

#[test]
fn a_clock_set_while_recording_begins_another_part() {
    for step in [-3_600 * SECOND, -SECOND, SECOND, 3_600 * SECOND, -20_000 * DAY] {
        let mut bench = Bench::new(small());
        bench.record(7);
        let before = bench.now().wall.0 - NOON;
        bench.set_clock(before + step);
        bench.record(8);
        bench.order(StorageRequest::Stop);
        let name = format!("a step of {step} us");
        assert_true_times(&name, &bench, &parts(&bench, whole_time));
        let boot = bench.engine.boot;
        let clip =
            |after| SpanQuery::Mono { boot, from: MonoTime(0), to: MonoTime(u64::MAX), after };
        let clips = parts(&bench, clip);
        assert_eq!(clips.len(), 2, "{name}");
        assert_true_times(&name, &bench, &clips);
    }
}

#[test]
fn a_camera_outage_over_a_clock_set_back_is_in_order() {
    let mut bench = Bench::new(small());
    bench.record(4);
    let from = bench.now();
    bench.set_clock(-3_600 * SECOND);
    bench.wait(5_000_000);
    let gap = Gap { from, to: bench.now(), reason: GapReason::CameraDown, bytes: 0 };
    bench.order(StorageRequest::NoteGap(gap));
    bench.record(4);
    bench.order(StorageRequest::Stop);
    let index = bench.engine.ring.index();
    assert_true_times("an outage", &bench, &parts(&bench, whole_time));
    let gaps = gaps_between(&bench.disk, index, WallTime(i64::MIN), WallTime(i64::MAX));
    assert_ordered("an outage", &gaps);
    assert!(!gaps.is_empty());
}

#[test]
fn missing_records_over_a_clock_set_back_are_in_order() {
    let mut bench = Bench::new(small());
    bench.record(10);
    bench.set_clock(-DAY);
    bench.restart(small());
    bench.record(60);
    bench.order(StorageRequest::Stop);
    let mut card = bench.disk.durable();
    card.remove(super::disk::FileId::Segment(1));
    bench.disk.power_on_with(card);
    bench.restart(small());
    let index = bench.engine.ring.index();
    let found = super::missing_records::locate_gaps(&bench.disk as &dyn Disk, index, &index.lost);
    let wall = |stamp: Option<Timestamp>| stamp.map(|stamp| stamp.wall);
    assert!(!found.is_empty());
    for lost in found {
        let (from, to) = (wall(lost.from), wall(lost.to));
        assert!(from.zip(to).is_none_or(|(from, to)| from <= to), "{lost}");
    }
}
