//! The heartbeat: how each thread and task shows that it lives, and who looks. A part that ends although nobody asked, or that hangs,
//! must never stay unnoticed while everything else goes on as if it recorded.
//!
//! What belongs here: the signs of life, the limits, the verdict, pure. What does not: what follows from it (the agent's wiring).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::units::MonoTime;

/// The parts and how long, in microseconds, each may show no sign of life. A healthy part shows one every 5 s at the latest; the
/// limit is for what it may hang in. systemd's `WatchdogSec` (deploy/taimat.service) comes on top.
///
/// | part | longest step without a sign | limit |
/// |---|---|---|
/// | `storage` | one write and flush: a worn SD card collects garbage for seconds, a bus reset takes two | 30 s |
/// | `thread` | one picture decoded and looked at: 1080p on a small core takes a second | 20 s |
/// | `clip` | one read of 256 KiB from the card, which waits behind storage's flush | 30 s |
/// | `camera main`, `camera sub` | one step of the set-up (10 s) or TEARDOWN (3 s), and the agent's inbox | 20 s |
/// | `uplink` | DNS and TLS go on beside its ticks, so only the agent's inbox | 20 s |
pub mod limits {
    /// The storage thread.
    pub const STORAGE: u64 = 30_000_000;
    /// The analytics thread.
    pub const SIGHT: u64 = 20_000_000;
    /// The clip worker.
    pub const CLIP: u64 = 30_000_000;
    /// A camera task.
    pub const CAMERA: u64 = 20_000_000;
    /// The uplink task.
    pub const UPLINK: u64 = 20_000_000;
}

#[derive(Debug, Default)]
struct Signals {
    beats: AtomicU64,
    ended: AtomicBool,
}

/// A part's own end: it beats while the part works, and dropping it, by a return as by a panic, means that the part has ended.
#[derive(Debug, Default)]
pub struct Heartbeat(Arc<Signals>);

impl Heartbeat {
    /// Shows a sign of life.
    pub fn beat(&self) {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
    }
}

#[derive(Debug)]
struct Watched {
    name: &'static str,
    limit: u64,
    signs: Arc<Signals>,
    /// Beats at the last look, and when they last had moved.
    seen: (u64, MonoTime),
    silent: bool,
}

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Every part lives.
    Alive,
    /// This part has ended.
    Ended(&'static str),
    /// This part shows no sign of life; `new` when the look before did not find that.
    Silent {
        /// The part.
        part: &'static str,
        /// Its limit in microseconds.
        limit: u64,
        /// Not known before.
        new: bool,
    },
}

/// Looks after all parts.
#[derive(Debug, Default)]
pub struct Watchdog(Vec<Watched>);

impl Watchdog {
    /// Gives a part its heartbeat.
    pub fn register(&mut self, now: MonoTime, name: &'static str, limit: u64) -> Heartbeat {
        let heartbeat = Heartbeat::default();
        self.0.push(Watched { name, limit, signs: heartbeat.0.clone(), seen: (0, now), silent: false });
        heartbeat
    }

    /// A part that ends now because it was asked to, and another of its name follows.
    pub fn retire(&mut self, name: &str) {
        self.0.retain(|part| part.name != name);
    }

    /// Looks at all parts. One that has ended is reported before one that is silent.
    pub fn check(&mut self, now: MonoTime) -> Liveness {
        if let Some(part) = self.0.iter().find(|part| part.signs.ended.load(Ordering::Acquire)) {
            return Liveness::Ended(part.name);
        }
        let mut finding = Liveness::Alive;
        for part in &mut self.0 {
            let beats = part.signs.beats.load(Ordering::Relaxed);
            if beats != part.seen.0 {
                part.seen = (beats, now);
            }
            let silent = now.since(part.seen.1) >= part.limit;
            if silent && finding == Liveness::Alive {
                finding = Liveness::Silent { part: part.name, limit: part.limit, new: !part.silent };
            }
            part.silent = silent;
        }
        finding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime(seconds * 1_000_000)
    }

    #[test]
    fn a_part_that_panics_has_ended_and_is_named() {
        let mut watchdog = Watchdog::default();
        let (_other, heartbeat) =
            (watchdog.register(at(0), "sight", limits::SIGHT), watchdog.register(at(0), "storage", limits::STORAGE));
        assert_eq!(watchdog.check(at(1)), Liveness::Alive);
        let thread = std::thread::spawn(move || {
            heartbeat.beat();
            panic!("a test's panic");
        });
        assert!(thread.join().is_err());
        assert_eq!(watchdog.check(at(1)), Liveness::Ended("storage"));
    }

    #[test]
    fn a_hung_part_is_named_after_its_own_timeout() {
        let mut watchdog = Watchdog::default();
        let quick = watchdog.register(at(0), "sight", limits::SIGHT);
        let hangs = watchdog.register(at(0), "storage", limits::STORAGE);
        for second in 1..30 {
            quick.beat();
            assert_eq!(watchdog.check(at(second)), Liveness::Alive, "at {second} s");
        }
        quick.beat();
        let silent = |new| Liveness::Silent { part: "storage", limit: limits::STORAGE, new };
        assert_eq!((watchdog.check(at(30)), watchdog.check(at(31))), (silent(true), silent(false)));
        hangs.beat();
        assert_eq!(watchdog.check(at(32)), Liveness::Alive, "a flush that ended after all is no reason to restart");
    }
}
