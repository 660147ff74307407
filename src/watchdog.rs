//! The watchdog: checks the heartbeat of each thread and task against its timeout.
//!
//! A part that exits or hangs must be detected, because everything else continues as if it
//! recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::units::MonoTime;

/// Timeouts of the parts: how long each may send no heartbeat. A healthy part sends one at least
/// every 5 s; a timeout covers what the part may block on. systemd's `WatchdogSec`
/// (deploy/taimat.service) comes on top.
///
/// | part | longest step without a heartbeat | timeout |
/// |---|---|---|
/// | `storage` | one write and flush: a worn SD card collects garbage for seconds, a bus reset takes 2 s | 30 s |
/// | `analytics` | one picture decoded and analysed: 1080p on a small core takes 1 s | 20 s |
/// | `clip` | one read of 256 KiB from the card, which waits for storage's flush | 30 s |
/// | `camera main`, `camera sub` | one step of session setup (10 s) or TEARDOWN (3 s), and the agent's inbox | 20 s |
/// | `uplink` | the agent's inbox; DNS and TLS run beside its ticks | 20 s |
pub mod timeouts {
    use std::time::Duration;

    /// The storage thread.
    pub const STORAGE: Duration = Duration::from_secs(30);
    /// The analytics thread.
    pub const ANALYTICS: Duration = Duration::from_secs(20);
    /// The clip thread.
    pub const CLIP: Duration = Duration::from_secs(30);
    /// A camera task.
    pub const CAMERA: Duration = Duration::from_secs(20);
    /// The uplink task.
    pub const UPLINK: Duration = Duration::from_secs(20);
}

#[derive(Debug, Default)]
struct Signals {
    beats: AtomicU64,
    exited: AtomicBool,
}

/// The heartbeat of a part. Dropping it, by a return or a panic, means that the part has exited.
#[derive(Debug, Default)]
pub struct Heartbeat(Arc<Signals>);

impl Heartbeat {
    /// Sends a heartbeat.
    pub fn beat(&self) {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.exited.store(true, Ordering::Release);
    }
}

#[derive(Debug)]
struct Watched {
    name: &'static str,
    timeout: Duration,
    signals: Arc<Signals>,
    /// Number of heartbeats at the last change.
    beats: u64,
    /// Time of the last change.
    last_beat: MonoTime,
    silent: bool,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Every part sends heartbeats.
    Alive,
    /// This part has exited.
    Exited(&'static str),
    /// This part has sent no heartbeat within its timeout.
    Silent {
        /// Name of the part.
        part: &'static str,
        /// Timeout of the part.
        timeout: Duration,
        /// True when the previous check did not find it silent.
        new: bool,
    },
}

/// The watchdog of all parts.
#[derive(Debug, Default)]
pub struct Watchdog(Vec<Watched>);

impl Watchdog {
    /// Registers a part with its timeout and returns its heartbeat.
    pub fn register(&mut self, now: MonoTime, name: &'static str, timeout: Duration) -> Heartbeat {
        let heartbeat = Heartbeat::default();
        self.0.push(Watched {
            name,
            timeout,
            signals: heartbeat.0.clone(),
            beats: 0,
            last_beat: now,
            silent: false,
        });
        heartbeat
    }

    /// Removes a part that exits on request, before another of its name is registered.
    pub fn retire(&mut self, name: &str) {
        self.0.retain(|part| part.name != name);
    }

    /// Checks all parts. A part that has exited is reported before one that is silent.
    pub fn check(&mut self, now: MonoTime) -> Liveness {
        if let Some(part) = self.0.iter().find(|part| part.signals.exited.load(Ordering::Acquire)) {
            return Liveness::Exited(part.name);
        }
        let mut liveness = Liveness::Alive;
        for part in &mut self.0 {
            let beats = part.signals.beats.load(Ordering::Relaxed);
            if beats != part.beats {
                part.beats = beats;
                part.last_beat = now;
            }
            let silent = now.duration_since(part.last_beat) >= part.timeout;
            if silent && liveness == Liveness::Alive {
                liveness =
                    Liveness::Silent { part: part.name, timeout: part.timeout, new: !part.silent };
            }
            part.silent = silent;
        }
        liveness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime(seconds * 1_000_000)
    }

    #[test]
    fn a_part_that_panics_is_reported_as_exited() {
        let mut watchdog = Watchdog::default();
        let (_other, heartbeat) = (
            watchdog.register(at(0), "analytics", timeouts::ANALYTICS),
            watchdog.register(at(0), "storage", timeouts::STORAGE),
        );
        assert_eq!(watchdog.check(at(1)), Liveness::Alive);
        let thread = std::thread::spawn(move || {
            heartbeat.beat();
            panic!("a test's panic");
        });
        assert!(thread.join().is_err());
        assert_eq!(watchdog.check(at(1)), Liveness::Exited("storage"));
    }

    #[test]
    fn a_hung_part_is_reported_after_its_own_timeout() {
        let mut watchdog = Watchdog::default();
        let quick = watchdog.register(at(0), "analytics", timeouts::ANALYTICS);
        let hangs = watchdog.register(at(0), "storage", timeouts::STORAGE);
        for second in 1..30 {
            quick.beat();
            assert_eq!(watchdog.check(at(second)), Liveness::Alive, "at {second} s");
        }
        quick.beat();
        let silent = |new| Liveness::Silent { part: "storage", timeout: timeouts::STORAGE, new };
        assert_eq!((watchdog.check(at(30)), watchdog.check(at(31))), (silent(true), silent(false)));
        hangs.beat();
        assert_eq!(
            watchdog.check(at(32)),
            Liveness::Alive,
            "a heartbeat after a slow flush ends the silence"
        );
    }
}
