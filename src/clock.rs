//! The clock: reads the system clocks and draws random numbers.
//!
//! No other file reads the wall clock. Other modules receive time as a [`Timestamp`], with its quality.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads a clock, reads or writes files, draws random numbers"
)]

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use crate::units::{ClockQuality, MonoTime, Timestamp, WallTime, hex};

/// A source of time. Simulated worlds implement their own.
pub trait Clock: Send + Sync {
    /// Reads all clocks at once.
    fn now(&self) -> Timestamp;
}

/// The operating system's clocks. Monotonic time starts at 1 s, so that the time a moment ago does
/// not underflow.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    synchronized: Mutex<SyncState>,
}

/// A wall clock before this time (2025-01-01) was never set: boards without a battery start in 1970
/// or at the date of their image. Microseconds since 1970.
const NEVER_SET_BEFORE: i64 = 1_735_689_600_000_000;
/// "The presence of this file indicates that the system clock has been synchronized"
/// (systemd-time-wait-sync.service(8)).
///
/// systemd-timesyncd creates it; for chrony deploy/chrony-wait.conf does. The kernel's flag cannot
/// be used: `ProtectClock=` of our unit forbids adjtimex(2), and chrony sets the flag only with
/// `rtcsync`.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";
/// How long an answer is cached: every frame reads the time, and a file check is a system call.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The cached answer and the time of the next check.
#[derive(Debug, Default)]
struct SyncState {
    is_synchronized: bool,
    next_check: MonoTime,
}

impl SyncState {
    fn is_synchronized(&mut self, now: MonoTime, check: impl FnOnce() -> bool) -> bool {
        if now >= self.next_check {
            *self = SyncState { is_synchronized: check(), next_check: now.plus(POLL_INTERVAL) };
        }
        self.is_synchronized
    }
}

impl SystemClock {
    /// Starts the monotonic clock now.
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now(), synchronized: Mutex::default() }
    }

    fn quality_of(&self, mono: MonoTime, wall: WallTime) -> ClockQuality {
        // A panic while the lock is held leaves at worst an old answer.
        let mut synchronized =
            self.synchronized.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if wall.0 < NEVER_SET_BEFORE {
            ClockQuality::Unset
        } else if synchronized.is_synchronized(mono, || Path::new(SYNCHRONIZED).exists()) {
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

/// A random number, uniform in 0..1.
pub fn random() -> f64 {
    let mut bytes = [0; 4];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// 32 random bytes from the operating system.
///
/// # Errors
/// When the operating system has no random source.
pub fn seed() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed);
    filled.ok().context("the operating system has no random source")?;
    Ok(seed)
}

/// A random word of 16 hexadecimal digits, for client ids and request ids.
///
/// # Errors
/// When the operating system has no random source.
pub fn random_id() -> anyhow::Result<String> {
    Ok(hex(&seed()?[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_differ() {
        assert_ne!(random_id().unwrap(), random_id().unwrap());
    }

    #[test]
    fn the_synchronization_file_is_checked_once_a_second() {
        let (mut cached, mut checks) = (SyncState::default(), 0);
        // 3 s of 25 pictures each; the clock is synchronized after 1 s.
        for frame in 0..75 {
            let is_synchronized = cached.is_synchronized(MonoTime(frame * 40_000), || {
                checks += 1;
                frame >= 25
            });
            assert_eq!(is_synchronized, frame >= 25, "picture {frame}");
        }
        assert_eq!(checks, 3);
    }
}
