//! Whether the clock of the office may decide what is old enough to be deleted. Pure.
//!
//! A clock that is five days fast makes footage five days older, and the retention deletes for
//! good. So its time is taken on trust only after a device with a good clock named the same time,
//! or after a day of running, in which a person sees a wrong clock.

use crate::units::{ClockQuality, MonoTime, Timestamp, WallTime};

/// Difference to a device's time at most, and a step of the clock at most, microseconds: more than
/// a message waits and a clock drifts, less than matters to a retention of days.
const TOLERANCE: i64 = 3_600_000_000;
/// Running time after which the clock counts without a device, microseconds.
const ALONE: u64 = 86_400_000_000;

/// Why deletion by age waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The office has started.
    Start,
    /// The clock was set, by this many seconds.
    Step(i64),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Start => out.write_str("the office has started"),
            Cause::Step(seconds) => write!(out, "the clock was set by {seconds:+} s"),
        }
    }
}

/// State of the check.
#[derive(Debug)]
pub struct ClockCheck {
    /// Monotonic time at which the wait began.
    since: MonoTime,
    /// Wall time at monotonic time zero when the wait began: it changes only when the clock is set.
    origin: i64,
    /// `None` once the clock is confirmed.
    waits_for: Option<Cause>,
}

/// Wall time at monotonic time zero.
fn origin(now: Timestamp) -> i64 {
    now.wall.0.saturating_sub(i64::try_from(now.mono.0).unwrap_or(i64::MAX))
}

impl ClockCheck {
    /// A check that begins to wait.
    pub fn new(now: Timestamp) -> ClockCheck {
        ClockCheck { since: now.mono, origin: origin(now), waits_for: Some(Cause::Start) }
    }

    /// Why deletion by age waits; `None` when the clock is confirmed. A step of the clock begins
    /// the wait again.
    pub fn waits(&mut self, now: Timestamp) -> Option<Cause> {
        let step = origin(now).saturating_sub(self.origin);
        if step.saturating_abs() > TOLERANCE {
            *self = ClockCheck::new(now);
            self.waits_for = Some(Cause::Step(step / 1_000_000));
        } else if now.mono.0.saturating_sub(self.since.0) >= ALONE {
            self.waits_for = None;
        }
        self.waits_for
    }

    /// Takes the time that a device named just now; true when it ends the wait.
    pub fn heard(&mut self, device: (WallTime, ClockQuality), now: Timestamp) -> bool {
        let (time, quality) = device;
        let difference = time.0.saturating_sub(now.wall.0).saturating_abs();
        let is_good = quality == ClockQuality::Ntp && difference <= TOLERANCE;
        // A step that is not seen yet begins the wait first.
        is_good && self.waits(now).is_some() && self.waits_for.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    /// The clock after some hours of running, `off` microseconds fast.
    fn at(hours: i64, off: i64) -> Timestamp {
        let run = hours * HOUR;
        Timestamp {
            mono: MonoTime(5_000_000 + run.unsigned_abs()),
            wall: WallTime(1_796_000_000_000_000 + run + off),
            quality: ClockQuality::Ntp,
        }
    }

    #[test]
    fn a_device_with_a_good_clock_confirms_the_time() {
        let mut check = ClockCheck::new(at(0, 0));
        assert_eq!(check.waits(at(1, 0)), Some(Cause::Start));
        let device = |off| at(1, off).wall;
        for (off, quality) in [
            (HOUR + 1, ClockQuality::Ntp),
            (-HOUR - 1, ClockQuality::Ntp),
            (0, ClockQuality::Camera),
            (0, ClockQuality::Rtc),
        ] {
            assert!(!check.heard((device(off), quality), at(1, 0)), "{off} {quality:?}");
        }
        assert!(check.waits(at(1, 0)).is_some());
        assert!(check.heard((device(-HOUR), ClockQuality::Ntp), at(1, 0)));
        assert!(!check.heard((device(0), ClockQuality::Ntp), at(1, 0)), "it waits no more");
        assert_eq!(check.waits(at(2, 0)), None);
    }

    #[test]
    fn a_day_of_running_confirms_the_time() {
        let mut check = ClockCheck::new(at(0, 0));
        assert!(check.waits(at(23, 0)).is_some());
        assert_eq!(check.waits(at(24, 0)), None);
    }

    #[test]
    fn a_step_of_the_clock_begins_the_wait_again() {
        for off in [5 * 24 * HOUR, -2 * HOUR, 20 * 365 * 24 * HOUR] {
            let mut check = ClockCheck::new(at(0, 0));
            assert!(check.heard((at(1, 0).wall, ClockQuality::Ntp), at(1, 0)));
            assert_eq!(check.waits(at(30, HOUR)), None, "an hour is no step");
            assert_eq!(check.waits(at(30, off)), Some(Cause::Step(off / 1_000_000)));
            assert!(check.waits(at(53, off)).is_some());
            assert!(!check.heard((at(31, 0).wall, ClockQuality::Ntp), at(31, off)));
            assert_eq!(check.waits(at(54, off)), None, "a day after the step");
        }
    }

    #[test]
    fn small_steps_in_a_row_are_one_step() {
        let mut check = ClockCheck::new(at(0, 0));
        assert!(check.heard((at(0, 0).wall, ClockQuality::Ntp), at(0, 0)));
        let steps = (1..=4).map(|n| check.waits(at(n, n * HOUR / 3)).is_some());
        assert_eq!(steps.collect::<Vec<_>>(), [false, false, false, true]);
    }

    #[test]
    fn a_device_that_is_heard_before_the_step_is_seen() {
        let mut check = ClockCheck::new(at(0, 0));
        check.heard((at(0, 0).wall, ClockQuality::Ntp), at(0, 0));
        let off = 5 * 24 * HOUR;
        assert!(!check.heard((at(1, 0).wall, ClockQuality::Ntp), at(1, off)));
        assert!(check.waits(at(1, off)).is_some());
    }
}
