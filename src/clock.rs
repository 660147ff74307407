//! ⇄ The clock: the one place that reads time. Everything else is told the time as a [`Stamp`].
//!
//! What belongs here: the trait, the real clock, and how the quality of the wall clock is found out. What does not:
//! deciding anything by time.

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::units::{Mono, Stamp, Wall, WallQuality};

/// A source of time. Simulated worlds bring their own.
pub trait Clock: Send + Sync {
    /// Reads all clocks at once.
    fn now(&self) -> Stamp;
}

/// The operating system's clocks. Monotonic time starts at 1 s when the clock is made, so that "a moment ago" never underflows.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

/// A wall clock earlier than this (2025-01-01) was never set: boards without a battery wake in 1970 or at their image's date.
const NEVER_SET_BEFORE: i64 = 1_735_689_600_000_000;
/// systemd-timesyncd makes this file at the first successful synchronisation after boot (systemd-timesyncd.service(8)).
const TIMESYNC_MARK: &str = "/run/systemd/timesync/synchronized";
/// chrony's and ntpd's units do the same through systemd-time-wait-sync (systemd-time-wait-sync.service(8)).
const ADJTIME_MARK: &str = "/run/systemd/time-wait-sync/synchronized";

impl SystemClock {
    /// Starts the monotonic count now.
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Stamp {
        let mono = Mono(self.start.elapsed().as_micros() as u64 + 1_000_000);
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Wall(since.as_micros() as i64),
            Err(before) => Wall(-(before.duration().as_micros() as i64)),
        };
        Stamp { mono, wall, quality: quality_of(wall) }
    }
}

fn quality_of(wall: Wall) -> WallQuality {
    if wall.0 < NEVER_SET_BEFORE {
        WallQuality::Unset
    } else if Path::new(TIMESYNC_MARK).exists() || Path::new(ADJTIME_MARK).exists() {
        WallQuality::Ntp
    } else {
        WallQuality::Rtc
    }
}
