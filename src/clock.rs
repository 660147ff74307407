//! ⇄ The clock: the one place that reads time. Everything else is reported the time as a [`Timestamp`].
//!
//! What belongs here: the trait, the real clock, and how the quality of the wall clock is found out. What does not:
//! deciding anything by time.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::units::{ClockQuality, MonoTime, Timestamp, WallTime};

/// A source of time. Simulated worlds bring their own.
pub trait Clock: Send + Sync {
    /// Reads all clocks at once.
    fn now(&self) -> Timestamp;
}

/// The operating system's clocks. Monotonic time starts at 1 s when the clock is made, so that "a moment ago" never underflows.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    synchronized: Mutex<Remembered>,
}

/// A wall clock earlier than this (2025-01-01) was never set: boards without a battery wake in 1970 or at their image's date.
const NEVER_SET_BEFORE: i64 = 1_735_689_600_000_000;
/// "The presence of this file indicates that the system clock has been synchronized" (systemd-time-wait-sync.service(8)).
/// systemd-timesyncd makes it; for chrony deploy/chrony-wait.conf does. The kernel's own flag is no way: adjtimex(2) is among the
/// calls that `ProtectClock=` of our unit forbids, and chrony leaves the flag alone unless it runs with `rtcsync`.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";
/// Microseconds for which the answer is remembered: every frame asks for the time, and a file is a system call.
const POLL_INTERVAL: u64 = 1_000_000;

/// The last answer and when to ask again.
#[derive(Debug, Default)]
struct Remembered {
    answer: bool,
    ask_at: MonoTime,
}

impl Remembered {
    fn answer(&mut self, now: MonoTime, ask: impl FnOnce() -> bool) -> bool {
        if now >= self.ask_at {
            *self = Remembered { answer: ask(), ask_at: now.plus_micros(POLL_INTERVAL) };
        }
        self.answer
    }
}

impl SystemClock {
    /// Starts the monotonic count now.
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now(), synchronized: Mutex::default() }
    }

    fn quality_of(&self, mono: MonoTime, wall: WallTime) -> ClockQuality {
        // A panic while it is held leaves at worst an old answer.
        let mut synchronized = self.synchronized.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if wall.0 < NEVER_SET_BEFORE {
            ClockQuality::Unset
        } else if synchronized.answer(mono, || Path::new(SYNCHRONIZED).exists()) {
            ClockQuality::Ntp
        } else {
            ClockQuality::Rtc
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let mono = MonoTime(self.start.elapsed().as_micros() as u64 + 1_000_000);
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => WallTime(since.as_micros() as i64),
            Err(before) => WallTime(-(before.duration().as_micros() as i64)),
        };
        Timestamp { mono, wall, quality: self.quality_of(mono, wall) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_asked_once_a_second_and_not_for_every_frame() {
        let (mut remembered, mut asked) = (Remembered::default(), 0);
        // Three seconds of 25 pictures each; the clock is synchronized after one.
        for frame in 0..75 {
            let answer = remembered.answer(MonoTime(frame * 40_000), || {
                asked += 1;
                frame >= 25
            });
            assert_eq!(answer, frame >= 25, "picture {frame}");
        }
        assert_eq!(asked, 3);
    }
}
