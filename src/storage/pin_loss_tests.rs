//! Pins over their quota: what their eviction reports, and what the clips of their events name.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::engine_tests::{Bench, small};
use super::footage_query::locate;
use super::*;
use crate::units::{MonoTime, Timestamp};

/// The gaps of evicted pins among the updates.
fn reported(bench: &Bench) -> Vec<Gap> {
    let gap_of = |update: &StorageUpdate| match update {
        StorageUpdate::Gap(gap) if gap.reason == GapReason::EvictedPinned => Some(gap.clone()),
        _ => None,
    };
    bench.update.iter().filter_map(gap_of).collect()
}

/// Everything in the ring.
fn present(bench: &Bench) -> Vec<FragmentRef> {
    let query = SpanQuery::Seq { first: 1, last: u64::MAX };
    let ring = &bench.engine.ring;
    locate(&bench.disk, ring.index(), ring.newest(), &query).unwrap().unwrap().fragments
}

fn is_overlap(gap: &Gap, from: Timestamp, to: Timestamp) -> bool {
    gap.from.wall < to.wall && gap.to.wall > from.wall
}

fn pin_open(bench: &mut Bench, pin: u64) -> MonoTime {
    let from = bench.now().mono;
    bench.order(StorageRequest::PinOpen { pin: PinId(pin), class: PinClass::Event, from });
    from
}

/// The clip of the range that a pin holds.
fn clip(bench: &mut Bench, pin: u64, from: MonoTime, to: MonoTime) -> Span {
    let query = SpanQuery::Mono { boot: bench.engine.boot, from, to, after: 0 };
    bench.order(StorageRequest::Locate { pin: PinId(pin), class: PinClass::Event, query });
    bench.wait(11_000_000);
    let found = bench.update.iter().rev().find_map(|update| match update {
        StorageUpdate::Located { pin: of, span } if *of == PinId(pin) => span.clone(),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn no_gap_of_a_pin_overlaps_footage_that_is_present() {
    let mut bench = Bench::new(small());
    bench.record(10);
    pin_open(&mut bench, 1);
    let mut checked = 0;
    for _ in 0..240 {
        bench.record(1);
        let (gaps, ring) = (reported(&bench), present(&bench));
        for gap in &gaps {
            assert!(gap.from.wall < gap.to.wall, "{gap:?}");
            let there = ring.iter().find(|part| is_overlap(gap, part.start, part.end()));
            assert!(there.is_none(), "{gap:?} reports {there:?}, which is in the ring");
        }
        for (at, gap) in gaps.iter().enumerate() {
            let twice = gaps[..at].iter().find(|other| is_overlap(gap, other.from, other.to));
            assert!(twice.is_none(), "{gap:?} is reported twice: {twice:?}");
        }
        checked = gaps.len();
    }
    let begin = reported(&bench)[0].from.mono;
    assert!(checked > 1 && begin >= MonoTime(9_000_000), "{checked} gaps, the first at {begin:?}");
}

#[test]
fn a_dropped_pin_whose_clip_is_delivered_is_no_gap() {
    let mut bench = Bench::new(small());
    bench.record(10);
    pin_open(&mut bench, 1);
    let is_dropped = |bench: &Bench| {
        bench.update.iter().any(|update| matches!(update, StorageUpdate::PinLost { .. }))
    };
    while !is_dropped(&bench) {
        bench.record(1);
    }
    bench.order(StorageRequest::Unpin { pin: PinId(1) });
    let at_drop = reported(&bench);
    bench.record(120);
    assert_eq!(reported(&bench), at_drop);
}

#[test]
fn a_clip_names_the_begin_that_was_evicted() {
    let mut bench = Bench::new(small());
    bench.record(10);
    let from = pin_open(&mut bench, 1);
    while reported(&bench).is_empty() {
        bench.record(1);
    }
    let to = bench.now().mono;
    bench.record(2);
    let span = clip(&mut bench, 1, from, to);
    let begin = span.fragments[0].start;
    assert!(begin.mono > from.plus_secs(1), "nothing is missing");
    let named: Vec<_> =
        span.gaps.iter().map(|gap| (gap.reason, gap.from.mono, gap.to.mono)).collect();
    assert_eq!(named, [(GapReason::EvictedPinned, from, begin.mono)]);
}

#[test]
fn a_clip_names_the_end_that_the_camera_did_not_send() {
    let mut bench = Bench::new(small());
    bench.record(10);
    let from = pin_open(&mut bench, 1);
    bench.record(4);
    let to = bench.now().mono.plus_secs(5);
    bench.wait(6_000_000);
    let span = clip(&mut bench, 1, from, to);
    let end = span.fragments.last().unwrap().end();
    let named: Vec<_> =
        span.gaps.iter().map(|gap| (gap.reason, gap.from.mono, gap.to.mono)).collect();
    assert_eq!(named, [(GapReason::CameraDown, end.mono, to)]);
}

#[test]
fn a_whole_clip_names_no_gap() {
    let mut bench = Bench::new(small());
    bench.record(10);
    let from = pin_open(&mut bench, 1);
    bench.record(6);
    let to = bench.now().mono;
    bench.record(2);
    assert_eq!(clip(&mut bench, 1, from, to).gaps, []);
}
