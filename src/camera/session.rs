//! The life of a camera's stream: connecting, playing, stalled, waiting to try again.
//!
//! What belongs here: when to give up, how long to wait, what to tell. What does not: sockets ([`super::rtsp`]).

use super::{CameraFault, CameraNews, Role};
use crate::units::{Mono, Stamp};

/// First and longest pause between tries, microseconds.
const PAUSE_MIN: u64 = 1_000_000;
/// A camera that is away for long is asked twice a minute: it comes back within that, and a street of boxes does no harm.
const PAUSE_MAX: u64 = 30_000_000;
/// Refused passwords in a row before the long pause: cameras lock accounts after three to five.
pub const AUTH_TRIES: u32 = 3;
/// The long pause, microseconds: cameras that lock an account do so for up to half an hour.
const LOCKED_PAUSE: u64 = 35 * 60 * 1_000_000;
/// Microseconds without a key frame until the session is useless: three of the longest usual GOPs.
const NO_KEY_AFTER: u64 = 30_000_000;

/// What the watchdog found.
#[derive(Debug, Clone, PartialEq)]
pub enum Watch {
    /// All is well.
    Fine,
    /// No frame for the stall time: tell it once.
    Tell(CameraNews),
    /// Drop the session.
    Drop(CameraFault, String),
}

/// The state of one stream.
#[derive(Debug)]
pub struct Session {
    role: Role,
    stall_after: u64,
    reconnect_after: u64,
    /// Failed tries since it last played.
    tries: u32,
    refused: u32,
    /// When the last frame came, or the first try began.
    last_frame: Stamp,
    last_key: Mono,
    playing: bool,
    /// The outage has been told.
    told: bool,
}

impl Session {
    /// A stream that was never up.
    pub fn new(role: Role, stall_after: u64, reconnect_after: u64, now: Stamp) -> Session {
        let (last_frame, last_key) = (now, now.mono);
        Session { role, stall_after, reconnect_after, tries: 0, refused: 0, last_frame, last_key, playing: false, told: false }
    }

    /// A session has been set up; frames may come.
    pub fn connected(&mut self, now: Stamp) {
        self.last_key = now.mono;
        self.refused = 0;
        self.playing = false;
    }

    /// A video frame came; tells [`CameraNews::Up`] with the first key frame.
    pub fn frame(&mut self, at: Stamp, key: bool, tracks: impl FnOnce() -> String) -> Option<CameraNews> {
        self.last_frame = at;
        if key {
            self.last_key = at.mono;
        }
        let up = !self.playing && key || self.playing && self.told;
        if !up {
            return None;
        }
        (self.playing, self.told, self.tries) = (true, false, 0);
        Some(CameraNews::Up { role: self.role, tracks: tracks(), at })
    }

    /// When [`Session::watch`] may have something to say, counted from the connect or the last frame.
    pub fn watch(&mut self, now: Stamp, since_connect: Mono) -> Watch {
        let quiet = now.mono.since(self.last_frame.mono.max(since_connect));
        if quiet >= self.reconnect_after {
            return Watch::Drop(CameraFault::Stalled, format!("no frame for {} s", quiet / 1_000_000));
        }
        if now.mono.since(self.last_key) >= NO_KEY_AFTER {
            return Watch::Drop(CameraFault::NoKeyFrame, format!("no key frame for {} s", NO_KEY_AFTER / 1_000_000));
        }
        if quiet >= self.stall_after && self.playing && !self.told {
            return Watch::Tell(self.down(CameraFault::Stalled, format!("no frame for {} s", quiet / 1_000_000)));
        }
        Watch::Fine
    }

    /// The session ended or did not come about. Gives the news and the pause before the next try in microseconds; `random` is
    /// uniform in 0..1 (full jitter, so that a power cut does not bring all boxes back at once).
    pub fn failed(&mut self, fault: CameraFault, detail: String, random: f64) -> (Vec<CameraNews>, u64) {
        self.playing = false;
        self.refused = if fault == CameraFault::Unauthorized { self.refused + 1 } else { 0 };
        let locked = self.refused >= AUTH_TRIES;
        let fault = if locked { CameraFault::LockedOut } else { fault };
        let ceiling = (PAUSE_MIN << self.tries.min(10)).min(PAUSE_MAX);
        let pause = if locked { LOCKED_PAUSE } else { PAUSE_MIN / 4 + (ceiling as f64 * random) as u64 };
        self.tries += 1;
        let mut news = Vec::new();
        if !self.told || locked {
            news.push(self.down(fault, detail.clone()));
        }
        news.push(CameraNews::Retry { role: self.role, fault, detail, tries: self.tries, pause });
        (news, pause)
    }

    fn down(&mut self, fault: CameraFault, detail: String) -> CameraNews {
        self.told = true;
        CameraNews::Down { role: self.role, fault, detail, since: self.last_frame }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Stamp {
        Stamp { mono: Mono(seconds * 1_000_000), ..Stamp::default() }
    }

    fn session() -> Session {
        Session::new(Role::Main, 5_000_000, 15_000_000, at(1))
    }

    #[test]
    fn an_outage_is_told_once_however_many_tries_follow() {
        let mut session = session();
        let mut downs = 0;
        for _ in 0..5 {
            let (news, _) = session.failed(CameraFault::Unreachable, "refused".into(), 0.5);
            downs += news.iter().filter(|news| matches!(news, CameraNews::Down { .. })).count();
        }
        assert_eq!(downs, 1);
        session.connected(at(60));
        assert_eq!(session.frame(at(61), false, String::new), None, "a stream is up with its first key frame");
        assert!(matches!(session.frame(at(62), true, String::new), Some(CameraNews::Up { .. })));
    }

    #[test]
    fn a_wrong_password_is_tried_three_times_and_then_left_alone() {
        let mut session = session();
        let pauses: Vec<u64> = (0..4).map(|_| session.failed(CameraFault::Unauthorized, "401".into(), 1.0).1).collect();
        assert!(pauses[1] <= 3_000_000 && pauses[2] == LOCKED_PAUSE && pauses[3] == LOCKED_PAUSE, "{pauses:?}");
    }

    #[test]
    fn a_stall_is_news_after_five_seconds_and_a_reconnect_after_fifteen() {
        let mut session = session();
        session.connected(at(10));
        session.frame(at(10), true, String::new);
        assert_eq!(session.watch(at(14), at(10).mono), Watch::Fine);
        assert!(matches!(session.watch(at(15), at(10).mono), Watch::Tell(CameraNews::Down { since, .. }) if since == at(10)));
        assert_eq!(session.watch(at(16), at(10).mono), Watch::Fine, "told twice");
        assert!(matches!(session.frame(at(17), false, String::new), Some(CameraNews::Up { .. })), "its end was not told");
        assert!(matches!(session.watch(at(33), at(10).mono), Watch::Drop(CameraFault::Stalled, _)));
    }

    #[test]
    fn pauses_grow_with_full_jitter_up_to_half_a_minute() {
        let mut session = session();
        let ceilings: Vec<u64> =
            (0..8).map(|_| session.failed(CameraFault::Unreachable, String::new(), 1.0).1 / 1_000_000).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(session.failed(CameraFault::Unreachable, String::new(), 0.0).1, PAUSE_MIN / 4);
    }
}
