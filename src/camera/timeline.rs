//! The timeline: maps RTP media time to our clocks.
//!
//! Arrival times jitter with the network; media time does not, but its origin is unknown and
//! cameras report it wrongly. Therefore the earliest arrivals anchor media time, with a slow
//! correction for drift.

use crate::units::{MonoTime, Timestamp};

/// Deviation of a media time step from the arrival times, above which a frame is an outlier,
/// microseconds.
const JUMP: i64 = 5_000_000;
/// Outliers in a row that start a new run; fewer are damage.
const JUMPS_MAX: u32 = 3;
/// Fastest correction of the anchor, parts per million of media time: 500 covers every crystal;
/// more is no drift.
const DRIFT_PPM: i64 = 500;
/// Time after the start of a run in which the anchor follows earlier arrivals at once,
/// microseconds: on connect, cameras send up to 5 s of buffered media in a burst.
const SETTLE: i64 = 6_000_000;
/// Window in which the earliest arrival is searched, microseconds: long enough to contain a moment
/// without queueing.
const WINDOW: i64 = 20_000_000;
/// Step of the presentation time of an outlier, microseconds: one frame at 25 fps.
const STEP: i64 = 40_000;

/// The times of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Capture time on our clocks.
    pub at: Timestamp,
    /// Presentation time, microseconds; differs from the camera's for an outlier.
    pub pts: i64,
    /// The frame starts a new run.
    pub new_run: bool,
}

/// The mapping of one stream.
#[derive(Debug, Default)]
pub struct Timeline {
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    /// Monotonic microseconds of media time 0.
    offset: i64,
    /// Media time of the first frame, microseconds.
    start: i64,
    last_media: i64,
    last_arrival: MonoTime,
    last_at: MonoTime,
    /// Lowest difference of arrival and media time in the window, microseconds.
    lowest_offset: i64,
    /// Media time at which the window started, microseconds.
    window_start: i64,
    outliers: u32,
}

impl Timeline {
    /// Maps a video frame with presentation time `media` (microseconds) that arrived at `arrival`.
    pub fn map(&mut self, media: i64, arrival: Timestamp) -> Placed {
        let Some(run) = &mut self.run else {
            return self.start_run(media, arrival);
        };
        let step = media - run.last_media;
        let waited = arrival.mono.since(run.last_arrival) as i64;
        if step < -JUMP || step > waited + JUMP {
            run.outliers += 1;
            if run.outliers >= JUMPS_MAX {
                return self.start_run(media, arrival);
            }
            run.last_media += STEP;
            run.last_arrival = arrival.mono;
            let pts = run.last_media;
            return Placed { at: run.capture_time(pts, arrival), pts, new_run: false };
        }
        run.outliers = 0;
        run.learn(media, arrival.mono);
        run.last_media = run.last_media.max(media);
        run.last_arrival = arrival.mono;
        Placed { at: run.capture_time(media, arrival), pts: media, new_run: false }
    }

    /// Capture time of a presentation time of the current run, for audio; `None` before the first
    /// video frame.
    pub fn time_of(&self, media: i64, now: Timestamp) -> Option<Timestamp> {
        let run = self.run.as_ref()?;
        Some(now.at(MonoTime((media + run.offset).clamp(0, now.mono.0 as i64) as u64)))
    }

    fn start_run(&mut self, media: i64, arrival: Timestamp) -> Placed {
        let offset = arrival.mono.0 as i64 - media;
        // Capture time never moves backwards, not even when a camera restarts.
        let last_at = self.run.as_ref().map_or(MonoTime(0), |run| run.last_at);
        let at = MonoTime(arrival.mono.0.max(last_at.0 + 1));
        self.run = Some(Run {
            offset,
            start: media,
            last_media: media,
            last_arrival: arrival.mono,
            last_at: at,
            lowest_offset: offset,
            window_start: media,
            outliers: 0,
        });
        Placed { at: arrival.at(at), pts: media, new_run: true }
    }
}

impl Run {
    fn learn(&mut self, media: i64, arrival: MonoTime) {
        let offset = arrival.0 as i64 - media;
        if media - self.start < SETTLE {
            self.offset = self.offset.min(offset);
            self.lowest_offset = self.offset;
            self.window_start = media;
            return;
        }
        self.lowest_offset = self.lowest_offset.min(offset);
        if media - self.window_start >= WINDOW {
            self.lowest_offset = offset;
            self.window_start = media;
        }
        let most = (media - self.last_media).max(0) * DRIFT_PPM / 1_000_000;
        self.offset += (self.lowest_offset - self.offset).clamp(-most, most);
    }

    /// Capture time of a frame, never in the future. B-frames may lie before the previous frame.
    fn capture_time(&mut self, media: i64, arrival: Timestamp) -> Timestamp {
        let at = MonoTime((media + self.offset).clamp(1, arrival.mono.0 as i64) as u64);
        self.last_at = self.last_at.max(at);
        arrival.at(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(micros: i64) -> Timestamp {
        Timestamp { mono: MonoTime(micros as u64), ..Timestamp::default() }
    }

    #[test]
    fn arrival_jitter_does_not_reach_the_capture_time() {
        let mut timeline = Timeline::default();
        let base = 100_000_000;
        timeline.map(0, arrive(base));
        for i in 1..200_i64 {
            let placed = timeline.map(i * 40_000, arrive(base + i * 40_000 + (i * 7919 % 30_000)));
            assert!(
                (placed.at.mono.0 as i64 - base - i * 40_000).abs() < 100,
                "frame {i}: {placed:?}"
            );
        }
    }

    #[test]
    fn a_burst_of_buffered_media_is_placed_in_the_past() {
        let mut timeline = Timeline::default();
        for i in 0..125_i64 {
            timeline.map(i * 40_000, arrive(100_000_000 + i));
        }
        let placed = timeline.map(125 * 40_000, arrive(100_000_125 + 40_000));
        assert!(placed.at.mono.0.abs_diff(100_000_125) < 50_000, "{placed:?}");
        assert!(!placed.new_run);
    }

    #[test]
    fn three_outliers_start_a_new_run() {
        let mut timeline = Timeline::default();
        let mut at = 100_000_000;
        let mut place = |media| {
            at += 40_000;
            timeline.map(media, arrive(at))
        };
        assert!(place(0).new_run);
        place(40_000);
        let outlier = place(90_000_000);
        assert!(!outlier.new_run && outlier.pts == 80_000);
        assert_eq!(place(120_000).pts, 120_000);
        assert!(!place(-50_000_000).new_run && !place(-49_960_000).new_run);
        assert!(place(-49_920_000).new_run);
    }

    #[test]
    fn drift_is_followed_no_faster_than_500_ppm() {
        let mut timeline = Timeline::default();
        for i in 0..10_000_i64 {
            // The camera's clock runs 1000 ppm slow: arrivals fall behind media time.
            timeline.map(i * 40_000, arrive(100_000_000 + i * 40_040));
        }
        let run = timeline.run.unwrap();
        let moved = run.offset - 100_000_000;
        assert!(moved > 0 && moved <= 10_000 * 40_000 * 500 / 1_000_000, "{moved}");
    }

    proptest::proptest! {
        #[test]
        fn capture_time_is_never_in_the_future(steps in proptest::collection::vec((-9_000_000_i64..9_000_000, 0_i64..900_000), 1..200)) {
            let mut timeline = Timeline::default();
            let (mut media, mut at) = (0, 100_000_000);
            for (step, wait) in steps {
                media += step;
                at += wait;
                let placed = timeline.map(media, arrive(at));
                proptest::prop_assert!(placed.at.mono.0 as i64 <= at + 1);
            }
        }
    }
}
