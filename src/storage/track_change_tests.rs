//! A camera that changes its parameter sets again and again does not use up the ring.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use super::engine_tests::{Bench, NOON, audio, small};
use super::*;
use crate::camera::TrackParams;
use crate::format::record::tests::video;
use crate::settings::StorageSettings;
use crate::units::Digest;

/// A ring of 8 segments, each with room for some two minutes of what [`Film`] sends.
fn roomy() -> StorageSettings {
    let segment = 1 << 20;
    StorageSettings { segment, budget: 8 * segment, ..small() }
}

/// A camera of 10 pictures a second.
struct Film {
    bench: Bench,
    pictures: i64,
    begun: u64,
}

impl Film {
    /// A film that has recorded so many seconds of one set.
    fn after(seconds: i64) -> Film {
        let bench = Bench::new(roomy());
        let mut film = Film { bench, pictures: 0, begun: 0 };
        film.seconds(seconds, |_| 1);
        film.begun = film.segments();
        film
    }

    /// Sends seconds that each begin with a key frame of the set that `set` names.
    fn seconds(&mut self, seconds: i64, set: impl Fn(i64) -> u8) {
        for second in 0..seconds {
            (0..10).for_each(|n| self.picture(&video(set(second)), n == 0));
        }
    }

    fn picture(&mut self, params: &Arc<TrackParams>, key: bool) {
        self.bench.wait(100_000);
        self.bench.frame(params, self.pictures * 9000, key, 500);
        self.pictures += 1;
    }

    fn sound(&mut self, params: &Arc<TrackParams>) {
        self.bench.frame(params, self.pictures * 800, false, 800);
    }

    /// Segments begun so far, each with a lap of its own.
    fn segments(&self) -> u64 {
        self.bench.engine.ring.lifetime() / roomy().segment
    }

    /// Segments begun since [`Film::after`].
    fn new_segments(&self) -> u64 {
        self.segments() - self.begun
    }

    /// Ends the film: nothing is missing without a gap. Returns the gaps.
    fn end(&mut self) -> Vec<(GapReason, i64, i64)> {
        self.bench.order(StorageRequest::Stop);
        self.bench.is_whole();
        let recorded = self.bench.engine.ring.counts.frames;
        let skipped = self.bench.engine.ring.counts.skipped;
        assert_eq!(recorded + skipped, self.pictures as u64);
        self.bench.gaps()
    }
}

#[test]
fn sets_that_change_each_second_leave_the_ring_its_history() {
    let mut film = Film::after(120);
    film.seconds(60, |second| second as u8 + 2);
    film.seconds(20, |_| 100);
    assert!(film.new_segments() <= 8, "{} segments in 80 s", film.new_segments());
    let oldest = film.bench.engine.ring.index().oldest().unwrap().wall.0 - NOON;
    assert!(oldest < 1_000_000, "the ring begins {oldest} us behind its first picture");
    let gaps = film.end();
    assert!(gaps.len() <= 7 && gaps.len() >= 5, "{gaps:?}");
}

#[test]
fn two_sets_that_take_turns_leave_the_ring_its_history() {
    let mut film = Film::after(120);
    film.seconds(60, |second| 1 + (second / 2 % 2) as u8);
    film.seconds(20, |_| 1);
    assert!(film.new_segments() <= 8, "{} segments in 80 s", film.new_segments());
    film.end();
}

#[test]
fn another_codec_at_each_reconnect_leaves_the_ring_its_history() {
    let mut film = Film::after(120);
    for second in 0..60 {
        film.bench.run += 1;
        film.seconds(1, |_| 1 + (second % 2) as u8);
    }
    film.seconds(20, |_| 1);
    assert!(film.new_segments() <= 8, "{} segments in 80 s", film.new_segments());
    film.end();
}

#[test]
fn sound_that_changes_each_second_leaves_the_ring_its_history() {
    let sound = |mark: u8| {
        let mut params = TrackParams::clone(&audio());
        params.sample_entry.push(mark);
        params.digest = Digest::of(&params.sample_entry);
        Arc::new(params)
    };
    let mut film = Film::after(120);
    for second in 0..60 {
        for n in 0..10 {
            film.picture(&video(1), n == 0);
            film.sound(&sound(second));
        }
    }
    assert!(film.new_segments() <= 7, "{} segments in 60 s", film.new_segments());
    film.bench.order(StorageRequest::Stop);
    film.bench.is_whole();
    assert_eq!(film.bench.gaps(), [], "no picture is left out");
}

#[test]
fn pictures_and_sound_in_turns_leave_the_ring_its_history() {
    let mut film = Film::after(120);
    for _ in 0..20 {
        (0..10).for_each(|n| film.picture(&video(1), n == 0));
        for n in 0..20 {
            film.bench.wait(100_000);
            film.pictures += 1;
            if n < 13 {
                film.sound(&audio());
            }
        }
    }
    assert!(film.new_segments() <= 2, "{} segments in 60 s", film.new_segments());
    film.bench.order(StorageRequest::Stop);
    film.bench.is_whole();
}

#[test]
fn a_change_each_eleven_seconds_loses_nothing() {
    let mut film = Film::after(20);
    film.seconds(66, |second| 2 + (second / 11) as u8);
    assert_eq!(film.new_segments(), 6);
    assert_eq!(film.end(), []);
    assert_eq!(film.bench.engine.ring.counts.skipped, 0);
}

#[test]
fn one_change_right_after_the_start_loses_nothing() {
    let mut film = Film::after(1);
    film.seconds(9, |_| 2);
    assert_eq!(film.end(), []);
    assert_eq!(film.bench.engine.ring.counts.skipped, 0);
}

#[test]
fn changes_are_reported_once_at_begin_and_end() {
    let mut film = Film::after(20);
    film.seconds(60, |second| 2 + second as u8);
    film.seconds(320, |_| 100);
    let of = |update: &StorageUpdate| match update {
        StorageUpdate::TrackChanges(report) => Some(*report),
        _ => None,
    };
    let reports: Vec<_> = film.bench.update.iter().filter_map(of).collect();
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert!(!reports[0].is_stable && reports[0].left_out <= 1, "{reports:?}");
    let skipped = film.bench.engine.ring.counts.skipped;
    assert!(reports[1].is_stable && reports[1].changes == 61, "{reports:?}");
    assert!(reports[1].left_out * 10 >= skipped, "{reports:?} of {skipped}");
    let wholes = film.end();
    assert!(wholes.iter().all(|(reason, ..)| *reason == GapReason::ParameterChanges));
}

#[test]
fn frequent_changes_are_reported_though_none_is_left_out() {
    let mut film = Film::after(20);
    film.seconds(77, |second| 2 + (second / 11) as u8);
    let is_report = |update: &StorageUpdate| matches!(update, StorageUpdate::TrackChanges(_));
    assert_eq!(film.bench.update.iter().filter(|update| is_report(update)).count(), 1);
    assert_eq!(film.end(), []);
}

#[test]
fn a_set_that_changes_at_each_picture_makes_few_gaps() {
    let mut film = Film::after(20);
    (0..600).for_each(|n| film.picture(&video(1 + n as u8 % 2), true));
    film.seconds(2, |_| 1);
    assert!(film.new_segments() <= 7, "{} segments in 62 s", film.new_segments());
    let gaps = film.end();
    assert!(gaps.len() <= 41, "{} gaps", gaps.len());
}
