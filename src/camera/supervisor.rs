//! The life of a camera's stream: connecting, playing, stalled, waiting to try again.
//!
//! What belongs here: when to give up, how long to wait, what to tell. What does not: sockets ([`super::rtsp`]), how often a
//! password may be shown ([`super::auth_limiter`]).

use super::{CameraCounts, CameraFault, CameraUpdate, StreamRole};
use crate::units::{MonoTime, Timestamp};

/// Longest pauses before each further try, microseconds; each is drawn again below its length, so that a power cut does not bring
/// all devices of a street back at once. A camera that is away for long comes back within half a minute.
const PAUSES: [u64; 5] = [1_000_000, 2_000_000, 5_000_000, 10_000_000, 30_000_000];
/// What every pause takes at least, microseconds.
const PAUSE_MIN: u64 = 250_000;
/// Microseconds of media without a stall after which a camera counts as well again and its pauses begin again: one that shows a
/// key frame and dies, every few seconds, must not be asked every second.
const GOOD_AFTER: u64 = 60_000_000;
/// Microseconds without a key frame that are always borne: three of the longest GOP of cameras without a smart codec.
const NO_KEY_MIN: u64 = 30_000_000;
/// And at most: three GOPs of 10 min, the longest that smart codecs (H.264+, H.265+) are known to make.
const NO_KEY_MAX: u64 = 1_800_000_000;
/// Errors in a row, without a frame between, that make a session useless at once: more than a picture of 5 MiB has packets, and
/// few enough that an error that does not go away, such as garbage between packets, costs milliseconds.
const ERRORS_MAX: u32 = 4096;
/// Microseconds between counters.
const COUNTS_EVERY: u64 = 5_000_000;

/// What the watchdog found.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamCheck {
    /// All is well.
    Fine,
    /// No frame for the stall time (reported once), or new counts.
    Tell(CameraUpdate),
    /// Drop the session.
    Drop(CameraFault, String),
}

/// The state of one stream.
#[derive(Debug)]
pub struct StreamSupervisor {
    role: StreamRole,
    stall_after: u64,
    reconnect_after: u64,
    /// Failed tries since it last played well.
    tries: u32,
    /// When the last frame came, or the first try began.
    last_frame: Timestamp,
    last_key: MonoTime,
    /// How long it may take from key frame to key frame: three times what this camera was seen to need.
    key_within: u64,
    playing: bool,
    /// Since when media comes without a stall.
    good_since: Option<MonoTime>,
    /// What the outage was reported as.
    told: Option<CameraFault>,
    /// Errors since the last frame.
    errors: u32,
    counts: CameraCounts,
    counts_told: (CameraCounts, MonoTime),
}

impl StreamSupervisor {
    /// A stream that was never up.
    pub fn new(role: StreamRole, stall_after: u64, reconnect_after: u64, now: Timestamp) -> StreamSupervisor {
        StreamSupervisor {
            role,
            stall_after,
            reconnect_after,
            tries: 0,
            last_frame: now,
            last_key: now.mono,
            key_within: NO_KEY_MIN,
            playing: false,
            good_since: None,
            told: None,
            errors: 0,
            counts: CameraCounts::default(),
            counts_told: (CameraCounts::default(), now.mono),
        }
    }

    /// A session has been set up; frames may come.
    pub fn connected(&mut self, now: Timestamp) {
        self.last_key = now.mono;
        (self.playing, self.good_since, self.errors) = (false, None, 0);
    }

    /// A video frame came; tells [`CameraUpdate::Up`] with the first key frame.
    pub fn frame(&mut self, at: Timestamp, key: bool, tracks: impl FnOnce() -> String) -> Option<CameraUpdate> {
        (self.last_frame, self.errors) = (at, 0);
        if key {
            if self.playing {
                self.key_within = (at.mono.since(self.last_key) * 3).clamp(self.key_within, NO_KEY_MAX);
            }
            self.last_key = at.mono;
        }
        let up = !self.playing && key || self.playing && self.told.is_some();
        if up {
            (self.playing, self.told, self.good_since) = (true, None, Some(at.mono));
            return Some(CameraUpdate::Up { role: self.role, tracks: tracks(), at });
        }
        if self.good_since.is_some_and(|since| at.mono.since(since) >= GOOD_AFTER) {
            self.tries = 0;
        }
        None
    }

    /// Packets known to be lost before a frame, of any track.
    pub fn lost(&mut self, packets: u32) {
        self.counts.lost_packets += u64::from(packets);
    }

    /// A packet could not be used. That costs a count, never the session, unless nothing else comes: then this is the reason to
    /// drop it.
    pub fn error(&mut self, detail: &str) -> Option<(CameraFault, String)> {
        self.counts.bad_packets += 1;
        self.errors += 1;
        (self.errors >= ERRORS_MAX)
            .then(|| (CameraFault::Protocol, format!("{} errors and no frame, last {detail}", self.errors)))
    }

    /// When [`StreamSupervisor::watch`] may have something to say, counted from the connect or the last frame.
    pub fn watch(&mut self, now: Timestamp, since_connect: MonoTime) -> StreamCheck {
        let quiet = now.mono.since(self.last_frame.mono.max(since_connect));
        if quiet >= self.reconnect_after {
            return StreamCheck::Drop(CameraFault::Stalled, format!("no frame for {} s", quiet / 1_000_000));
        }
        let keyless = now.mono.since(self.last_key);
        if keyless >= self.key_within {
            // Its GOP may be longer than all we have seen: the next session waits longer, instead of ending before its key frame.
            self.key_within = (self.key_within * 2).min(NO_KEY_MAX);
            return StreamCheck::Drop(CameraFault::NoKeyFrame, format!("no key frame for {} s", keyless / 1_000_000));
        }
        if quiet >= self.stall_after && self.playing && self.told.is_none() {
            return StreamCheck::Tell(self.down(CameraFault::Stalled, format!("no frame for {} s", quiet / 1_000_000)));
        }
        let (told, when) = self.counts_told;
        if self.counts != told && now.mono.since(when) >= COUNTS_EVERY {
            self.counts_told = (self.counts, now.mono);
            return StreamCheck::Tell(CameraUpdate::Counts { role: self.role, counts: self.counts });
        }
        StreamCheck::Fine
    }

    /// The session ended or did not come about. Gives the updates and the pause before the next try in microseconds; `random` is
    /// uniform in 0..1. `closed_for` is how long the password may not be shown.
    pub fn failed(&mut self, fault: CameraFault, detail: String, closed_for: u64, random: f64) -> (Vec<CameraUpdate>, u64) {
        (self.playing, self.good_since) = (false, None);
        let locked = closed_for > 0;
        let fault = if locked { CameraFault::LockedOut } else { fault };
        let ceiling = PAUSES[(self.tries as usize).min(PAUSES.len() - 1)];
        let pause = closed_for.max(PAUSE_MIN + (ceiling as f64 * random) as u64);
        self.tries += 1;
        let mut update = Vec::new();
        // A locked door is updates once more: it needs a person.
        if self.told.is_none() || locked && self.told != Some(CameraFault::LockedOut) {
            update.push(self.down(fault, detail.clone()));
        }
        update.push(CameraUpdate::Retry { role: self.role, fault, detail, tries: self.tries, pause });
        (update, pause)
    }

    fn down(&mut self, fault: CameraFault, detail: String) -> CameraUpdate {
        (self.told, self.good_since) = (Some(fault), None);
        CameraUpdate::Down { role: self.role, fault, detail, since: self.last_frame }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp { mono: MonoTime(seconds * 1_000_000), ..Timestamp::default() }
    }

    fn session() -> StreamSupervisor {
        StreamSupervisor::new(StreamRole::Main, 5_000_000, 15_000_000, at(1))
    }

    fn unreachable(session: &mut StreamSupervisor, random: f64) -> u64 {
        session.failed(CameraFault::Unreachable, "refused".into(), 0, random).1
    }

    #[test]
    fn an_outage_is_told_once_however_many_tries_follow() {
        let mut session = session();
        let mut downs = 0;
        for _ in 0..5 {
            let (update, _) = session.failed(CameraFault::Unreachable, "refused".into(), 0, 0.5);
            downs += update.iter().filter(|update| matches!(update, CameraUpdate::Down { .. })).count();
        }
        assert_eq!(downs, 1);
        session.connected(at(60));
        assert_eq!(session.frame(at(61), false, String::new), None, "a stream is up with its first key frame");
        assert!(matches!(session.frame(at(62), true, String::new), Some(CameraUpdate::Up { .. })));
    }

    #[test]
    fn a_closed_door_is_told_as_locked_out_and_waited_for() {
        let mut session = session();
        let (update, pause) = session.failed(CameraFault::Unauthorized, "401".into(), 700_000_000, 1.0);
        assert!(matches!(update[0], CameraUpdate::Down { fault: CameraFault::LockedOut, .. }), "{update:?}");
        assert_eq!(pause, 700_000_000);
        let (again, _) = session.failed(CameraFault::Unauthorized, "401".into(), 700_000_000, 1.0);
        assert!(matches!(again[..], [CameraUpdate::Retry { .. }]), "told twice: {again:?}");
    }

    #[test]
    fn a_stall_is_reported_after_5_s_and_reconnects_after_15_s() {
        let mut session = session();
        session.connected(at(10));
        session.frame(at(10), true, String::new);
        assert_eq!(session.watch(at(14), at(10).mono), StreamCheck::Fine);
        assert!(
            matches!(session.watch(at(15), at(10).mono), StreamCheck::Tell(CameraUpdate::Down { since, .. }) if since == at(10))
        );
        assert_eq!(session.watch(at(16), at(10).mono), StreamCheck::Fine, "told twice");
        assert!(matches!(session.frame(at(17), false, String::new), Some(CameraUpdate::Up { .. })), "its end was not told");
        assert!(matches!(session.watch(at(33), at(10).mono), StreamCheck::Drop(CameraFault::Stalled, _)));
    }

    #[test]
    fn pauses_grow_with_full_jitter_up_to_half_a_minute() {
        let mut session = session();
        let ceilings: Vec<u64> = (0..7).map(|_| unreachable(&mut session, 1.0) / 1_000_000).collect();
        assert_eq!(ceilings, [1, 2, 5, 10, 30, 30, 30]);
        assert_eq!(unreachable(&mut session, 0.0), PAUSE_MIN);
    }

    #[test]
    fn backoff_resets_after_a_minute_of_media_not_a_key_frame() {
        let mut session = session();
        (0..4).for_each(|_| _ = unreachable(&mut session, 1.0));
        session.connected(at(100));
        for second in 100..150 {
            session.frame(at(second), second % 2 == 0, String::new);
        }
        assert_eq!(unreachable(&mut session, 1.0), PAUSE_MIN + 30_000_000, "50 s are not enough");
        session.connected(at(200));
        for second in (200..250).chain(257..300) {
            session.watch(at(second), at(200).mono);
            session.watch(at(second + 6), at(200).mono);
            session.frame(at(second), true, String::new);
        }
        assert_eq!(unreachable(&mut session, 1.0), PAUSE_MIN + 30_000_000, "a stall begins the minute anew");
        session.connected(at(400));
        (400..461).for_each(|second| drop(session.frame(at(second), true, String::new)));
        assert_eq!(unreachable(&mut session, 1.0), PAUSE_MIN + 1_000_000);
    }

    /// A camera whose key frames lie `gop` seconds apart, for `hours`; gives the number of sessions dropped for want of one.
    fn drops(gop: u64, hours: u64) -> u32 {
        let (mut session, mut drops, mut connect) = (session(), 0, 0);
        session.connected(at(connect));
        for second in 0..hours * 3600 {
            session.frame(at(second), (second - connect).is_multiple_of(gop), String::new);
            if let StreamCheck::Drop(fault, _) = session.watch(at(second), at(connect).mono) {
                assert_eq!(fault, CameraFault::NoKeyFrame);
                session.failed(fault, String::new(), 0, 0.0);
                (drops, connect) = (drops + 1, second + 1);
                session.connected(at(connect));
            }
        }
        drops
    }

    #[test]
    fn a_smart_codec_is_left_in_peace_once_its_key_frames_are_known() {
        assert_eq!((drops(2, 1), drops(25, 1)), (0, 0));
        assert!(drops(60, 2) <= 2, "a GOP of a minute: {} drops", drops(60, 2));
        assert!(drops(600, 6) <= 5, "a GOP of ten minutes: {} drops", drops(600, 6));
    }

    #[test]
    fn a_missing_key_frame_is_a_fault_after_three_usual_gops() {
        let mut session = session();
        session.connected(at(0));
        for second in 0..=60 {
            session.frame(at(second), second % 20 == 0, String::new);
        }
        session.frame(at(119), false, String::new);
        assert_eq!(session.watch(at(119), at(0).mono), StreamCheck::Fine);
        session.frame(at(120), false, String::new);
        assert!(matches!(session.watch(at(120), at(0).mono), StreamCheck::Drop(CameraFault::NoKeyFrame, _)));
    }

    #[test]
    fn a_bad_packet_is_counted_and_only_errors_end_the_session() {
        let mut session = session();
        session.connected(at(10));
        for second in 10..40 {
            for _ in 0..1000 {
                assert_eq!(session.error("bad NAL"), None);
            }
            session.frame(at(second), true, String::new);
        }
        session.lost(7);
        let counts = CameraCounts { lost_packets: 7, bad_packets: 30_000 };
        assert_eq!(
            session.watch(at(40), at(10).mono),
            StreamCheck::Tell(CameraUpdate::Counts { role: StreamRole::Main, counts })
        );
        assert_eq!(session.watch(at(40), at(10).mono), StreamCheck::Fine, "told twice");
        let dropped = (0..ERRORS_MAX).find_map(|_| session.error("bad NAL"));
        assert!(matches!(dropped, Some((CameraFault::Protocol, ref detail)) if detail.contains("bad NAL")), "{dropped:?}");
    }
}
