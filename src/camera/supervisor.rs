//! The stream supervisor: detects stalls of one camera stream and decides when to reconnect.

use std::time::Duration;

use super::sound_clock::SoundCounts;
use super::{CameraCounts, CameraFault, CameraUpdate, StreamRole};
use crate::units::{MonoTime, Timestamp};

/// Longest backoff before each further try. Each pause is drawn at random below it, so that a power
/// cut does not bring all devices of a street back at once. A camera that returns after a long
/// outage is back within 30 s.
const BACKOFF: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];
/// Shortest backoff: each pause is drawn between it and its ceiling.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Time of media without a stall after which the backoff starts again. A camera that sends a key
/// frame and dies every few seconds must not be asked every second.
const GOOD_AFTER: Duration = Duration::from_secs(60);
/// Shortest time limit for a key frame once the GOP is known: three of the longest GOP of cameras
/// that count it in frames. A session without a first key frame is reported after this time.
const KEY_FRAME_LIMIT_MIN: Duration = Duration::from_secs(30);
/// Time limit for a key frame that pictures need while the GOP is not known: one and a half of a GOP
/// of a minute, the longest that cameras without a smart codec offer.
const KEY_FRAME_LIMIT_UNKNOWN: Duration = Duration::from_secs(90);
/// Shortest time limit while nothing is missing since the last key frame: all pictures are recorded,
/// and a camera whose smart codec begins to lengthen its GOP loses no session.
const KEY_FRAME_LIMIT_WHOLE: Duration = Duration::from_secs(180);
/// Time of media from which on the pause after a session is at most a quarter of it.
const PROPORTIONAL_AFTER: Duration = Duration::from_secs(8);
/// Longest time limit for a key frame: three GOPs of 10 min, the longest that smart codecs (H.264+,
/// H.265+) are known to use.
const KEY_FRAME_LIMIT_MAX: Duration = Duration::from_secs(1800);
/// Errors in a row, without a frame between them, that end a session. A picture of 5 MiB has fewer
/// packets, and a permanent error such as garbage between packets costs only milliseconds.
const ERRORS_MAX: u32 = 4096;
/// Shortest interval between reports of counters.
const COUNTS_INTERVAL: Duration = Duration::from_secs(5);

/// The result of a check of the stream.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamCheck {
    /// The stream is well, or its fault is reported already.
    Fine,
    /// An update to send: a stall (once), or changed counters.
    Report(CameraUpdate),
    /// The session must be dropped, with cause and detail.
    Drop(CameraFault, String),
}

/// The state of one stream.
#[derive(Debug)]
pub struct StreamSupervisor {
    role: StreamRole,
    stall_after: Duration,
    reconnect_after: Duration,
    /// Failed tries since the stream last played for [`GOOD_AFTER`].
    tries: u32,
    /// Time of the last frame, or of the start of the first try.
    last_frame: Timestamp,
    last_key: MonoTime,
    /// Time limit from key frame to key frame: three times the longest GOP seen from this camera.
    key_frame_limit: Duration,
    /// Two key frames of one session were seen.
    gop_known: bool,
    /// Packets were lost since the last key frame.
    lost_since_key: bool,
    /// When the current session began to be set up.
    set_up_at: MonoTime,
    playing: bool,
    /// Start of the media without a stall.
    good_since: Option<MonoTime>,
    /// The reported cause of the current outage; `None` while the stream is up.
    reported_fault: Option<CameraFault>,
    /// Errors since the last frame.
    errors: u32,
    /// Shortest pause after the next failure.
    least_pause: Duration,
    counts: CameraCounts,
    /// Counters at the last report.
    reported_counts: CameraCounts,
    /// Time of the last report of counters.
    counts_reported_at: MonoTime,
}

impl StreamSupervisor {
    /// A supervisor of a stream that was never up. `stall_after` and `reconnect_after` are
    /// microseconds without a frame.
    pub fn new(
        role: StreamRole,
        stall_after: u64,
        reconnect_after: u64,
        now: Timestamp,
    ) -> StreamSupervisor {
        StreamSupervisor {
            role,
            stall_after: Duration::from_micros(stall_after),
            reconnect_after: Duration::from_micros(reconnect_after),
            tries: 0,
            last_frame: now,
            last_key: now.mono,
            key_frame_limit: KEY_FRAME_LIMIT_UNKNOWN,
            gop_known: false,
            lost_since_key: false,
            set_up_at: now.mono,
            playing: false,
            good_since: None,
            reported_fault: None,
            errors: 0,
            least_pause: Duration::ZERO,
            counts: CameraCounts::default(),
            reported_counts: CameraCounts::default(),
            counts_reported_at: now.mono,
        }
    }

    /// Records that the camera was connected and the session is being set up.
    pub fn sets_up(&mut self, now: Timestamp) {
        self.set_up_at = now.mono;
    }

    /// Records that a session is set up and frames may arrive.
    pub fn connected(&mut self, now: Timestamp) {
        self.last_key = now.mono;
        self.playing = false;
        self.lost_since_key = false;
        self.good_since = None;
        self.errors = 0;
    }

    /// Records a video frame. Returns [`CameraUpdate::Up`] with the first key frame and at the end
    /// of a stall.
    pub fn frame(
        &mut self,
        at: Timestamp,
        key: bool,
        tracks: impl FnOnce() -> String,
    ) -> Option<CameraUpdate> {
        self.last_frame = at;
        self.errors = 0;
        if key {
            if self.playing {
                let known = self.gop_known.then_some(self.key_frame_limit);
                self.key_frame_limit = (at.mono.duration_since(self.last_key) * 3)
                    .clamp(known.unwrap_or(KEY_FRAME_LIMIT_MIN), KEY_FRAME_LIMIT_MAX);
                self.gop_known = true;
            }
            self.last_key = at.mono;
            self.lost_since_key = false;
        }
        let up = !self.playing && key || self.playing && self.reported_fault.is_some();
        if up {
            self.playing = true;
            self.reported_fault = None;
            self.good_since = Some(at.mono);
            return Some(CameraUpdate::Up { role: self.role, tracks: tracks(), at });
        }
        if self.good_since.is_some_and(|since| at.mono.duration_since(since) >= GOOD_AFTER) {
            self.tries = 0;
        }
        None
    }

    /// Counts RTP packets lost before a frame of any track.
    pub fn lost(&mut self, packets: u32) {
        self.counts.lost_packets += u64::from(packets);
        self.lost_since_key |= packets > 0;
    }

    /// Notes the corrections of the sound so far, for the counters.
    pub fn sound(&mut self, counts: SoundCounts) {
        self.counts.sound = counts;
    }

    /// Counts a packet that could not be used. Returns a failure only after [`ERRORS_MAX`] of them
    /// without a frame.
    pub fn error(&mut self, detail: &str) -> Option<(CameraFault, String)> {
        self.counts.bad_packets += 1;
        self.errors += 1;
        (self.errors >= ERRORS_MAX).then(|| {
            (CameraFault::Protocol, format!("{} errors and no frame, last {detail}", self.errors))
        })
    }

    /// Checks the stream. `since_connect` is the time of the connect: stalls are counted from the
    /// later of it and the last frame.
    pub fn check(&mut self, now: Timestamp, since_connect: MonoTime) -> StreamCheck {
        let quiet = now.mono.duration_since(self.last_frame.mono.max(since_connect));
        if quiet >= self.reconnect_after {
            return StreamCheck::Drop(
                CameraFault::Stalled,
                format!("no frame for {} s", quiet.as_secs()),
            );
        }
        let without_key_frame = now.mono.duration_since(self.last_key);
        if without_key_frame >= self.key_frame_limit() {
            // The GOP may be longer than the limit: the next session waits longer, instead of
            // ending before its key frame.
            self.key_frame_limit = (self.key_frame_limit * 2).min(KEY_FRAME_LIMIT_MAX);
            return StreamCheck::Drop(
                CameraFault::NoKeyFrame,
                format!("no key frame for {} s", without_key_frame.as_secs()),
            );
        }
        if let Some(stalled) = self.check_stall(now, |_| None) {
            return StreamCheck::Report(stalled);
        }
        if !self.playing
            && without_key_frame >= KEY_FRAME_LIMIT_MIN
            && self.reported_fault.is_none()
        {
            let seconds = without_key_frame.as_secs();
            let detail = format!("no key frame for {seconds} s; recording begins with the first");
            return StreamCheck::Report(self.down(CameraFault::NoKeyFrame, detail));
        }
        if self.counts != self.reported_counts
            && now.mono.duration_since(self.counts_reported_at) >= COUNTS_INTERVAL
        {
            self.reported_counts = self.counts;
            self.counts_reported_at = now.mono;
            return StreamCheck::Report(CameraUpdate::Counts {
                role: self.role,
                counts: self.counts,
            });
        }
        StreamCheck::Fine
    }

    /// Reports a stall once: no frame for `stall_after`, in the set-up of the session or after it.
    /// `unanswered` says what is wrong, after so many seconds, if the camera has sent no response.
    pub fn check_stall(
        &mut self,
        now: Timestamp,
        unanswered: impl FnOnce(u64) -> Option<String>,
    ) -> Option<CameraUpdate> {
        let quiet = now.mono.duration_since(self.last_frame.mono.max(self.set_up_at));
        if quiet < self.stall_after || self.reported_fault.is_some() {
            return None;
        }
        Some(match unanswered(quiet.as_secs()) {
            Some(detail) => self.down(CameraFault::Protocol, detail),
            None => self.down(CameraFault::Stalled, format!("no frame for {} s", quiet.as_secs())),
        })
    }

    /// How long the next key frame may take. While nothing is missing since the last one, a session
    /// that ends would be the only loss.
    fn key_frame_limit(&self) -> Duration {
        match self.playing && !self.lost_since_key {
            true if self.gop_known => self.key_frame_limit.max(KEY_FRAME_LIMIT_WHOLE),
            true => KEY_FRAME_LIMIT_MAX,
            false => self.key_frame_limit,
        }
    }

    /// The pause after the next failure is at least this long.
    pub fn rest_at_least(&mut self, pause: Duration) {
        self.least_pause = pause;
    }

    /// Records the end of a session or of a failed try. Returns the updates to send and the pause
    /// before the next try. `locked_for` is the remaining lockout of the password, `random` is
    /// uniform in 0..1.
    pub fn failed(
        &mut self,
        fault: CameraFault,
        detail: String,
        locked_for: Duration,
        random: f64,
    ) -> (Vec<CameraUpdate>, Duration) {
        let good = self
            .good_since
            .map_or(Duration::ZERO, |since| self.last_frame.mono.duration_since(since));
        self.playing = false;
        self.good_since = None;
        let locked = !locked_for.is_zero();
        let fault = if locked { CameraFault::LockedOut } else { fault };
        let mut ceiling = BACKOFF[(self.tries as usize).min(BACKOFF.len() - 1)];
        if good >= PROPORTIONAL_AFTER {
            ceiling = ceiling.min(good / 4);
        }
        let least = locked_for.max(std::mem::take(&mut self.least_pause));
        let pause = least.max(BACKOFF_MIN + ceiling.saturating_sub(BACKOFF_MIN).mul_f64(random));
        self.tries += 1;
        let mut update = Vec::new();
        let mut is_reported = false;
        // A lockout is reported even within an outage: an operator must correct the password.
        if self.reported_fault.is_none()
            || locked && self.reported_fault != Some(CameraFault::LockedOut)
        {
            update.push(self.down(fault, detail.clone()));
            is_reported = true;
        }
        update.push(CameraUpdate::Retry {
            role: self.role,
            fault,
            detail,
            tries: self.tries,
            pause: pause.as_micros() as u64,
            is_reported,
        });
        (update, pause)
    }

    fn down(&mut self, fault: CameraFault, detail: String) -> CameraUpdate {
        self.reported_fault = Some(fault);
        self.good_since = None;
        CameraUpdate::Down { role: self.role, fault, detail, since: self.last_frame }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp { mono: MonoTime(seconds * 1_000_000), ..Timestamp::default() }
    }

    fn supervisor() -> StreamSupervisor {
        StreamSupervisor::new(StreamRole::Main, 5_000_000, 15_000_000, at(1))
    }

    fn unreachable(supervisor: &mut StreamSupervisor, random: f64) -> Duration {
        supervisor.failed(CameraFault::Unreachable, "refused".into(), Duration::ZERO, random).1
    }

    proptest::proptest! {
        #[test]
        fn a_pause_stays_within_its_documented_bound(randoms in proptest::collection::vec(0.0..1.0, 1..12)) {
            let mut supervisor = supervisor();
            for (nth, random) in randoms.into_iter().enumerate() {
                let pause = unreachable(&mut supervisor, random);
                let most = Duration::from_secs([1, 2, 5, 10, 30][nth.min(4)]);
                proptest::prop_assert!(pause <= most && pause >= BACKOFF_MIN, "{} of {}", pause.as_millis(), nth);
            }
        }
    }

    #[test]
    fn an_outage_is_reported_once_for_many_tries() {
        let mut supervisor = supervisor();
        let mut downs = 0;
        for _ in 0..5 {
            let (update, _) =
                supervisor.failed(CameraFault::Unreachable, "refused".into(), Duration::ZERO, 0.5);
            downs +=
                update.iter().filter(|update| matches!(update, CameraUpdate::Down { .. })).count();
        }
        assert_eq!(downs, 1);
        supervisor.connected(at(60));
        assert_eq!(
            supervisor.frame(at(61), false, String::new),
            None,
            "a stream is up with its first key frame"
        );
        assert!(matches!(
            supervisor.frame(at(62), true, String::new),
            Some(CameraUpdate::Up { .. })
        ));
    }

    #[test]
    fn pauses_stay_short_after_sessions_with_good_media() {
        let mut supervisor = supervisor();
        for round in 0..10 {
            let begin = 100 * round;
            supervisor.connected(at(begin));
            for second in 0..=10 {
                supervisor.frame(at(begin + second), true, String::new);
            }
            let closed = CameraFault::Closed;
            let (_, pause) = supervisor.failed(closed, String::new(), Duration::ZERO, 1.0);
            assert!(pause <= Duration::from_millis(2_750), "{pause:?} after round {round}");
        }
    }

    #[test]
    fn a_lockout_is_reported_once_and_waited_for() {
        let mut supervisor = supervisor();
        let (update, pause) = supervisor.failed(
            CameraFault::Unauthorized,
            "401".into(),
            Duration::from_secs(700),
            1.0,
        );
        assert!(
            matches!(update[0], CameraUpdate::Down { fault: CameraFault::LockedOut, .. }),
            "{update:?}"
        );
        assert_eq!(pause, Duration::from_secs(700));
        let (again, _) = supervisor.failed(
            CameraFault::Unauthorized,
            "401".into(),
            Duration::from_secs(700),
            1.0,
        );
        assert!(matches!(again[..], [CameraUpdate::Retry { .. }]), "reported twice: {again:?}");
    }

    #[test]
    fn a_stall_is_reported_after_5_s_and_reconnects_after_15_s() {
        let mut supervisor = supervisor();
        supervisor.connected(at(10));
        supervisor.frame(at(10), true, String::new);
        assert_eq!(supervisor.check(at(14), at(10).mono), StreamCheck::Fine);
        assert!(
            matches!(supervisor.check(at(15), at(10).mono), StreamCheck::Report(CameraUpdate::Down { since, .. }) if since == at(10))
        );
        assert_eq!(supervisor.check(at(16), at(10).mono), StreamCheck::Fine, "reported twice");
        assert!(
            matches!(supervisor.frame(at(17), false, String::new), Some(CameraUpdate::Up { .. })),
            "the end of the stall was not reported"
        );
        assert!(matches!(
            supervisor.check(at(33), at(10).mono),
            StreamCheck::Drop(CameraFault::Stalled, _)
        ));
    }

    #[test]
    fn backoff_grows_with_full_jitter_up_to_half_a_minute() {
        let mut supervisor = supervisor();
        let ceilings: Vec<u64> =
            (0..7).map(|_| unreachable(&mut supervisor, 1.0).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 5, 10, 30, 30, 30]);
        assert_eq!(unreachable(&mut supervisor, 0.0), BACKOFF_MIN);
    }

    #[test]
    fn backoff_resets_after_a_minute_of_media_not_a_key_frame() {
        let mut supervisor = supervisor();
        (0..4).for_each(|_| _ = unreachable(&mut supervisor, 1.0));
        supervisor.connected(at(100));
        for second in 100..150 {
            supervisor.frame(at(second), second % 2 == 0, String::new);
        }
        assert_eq!(
            unreachable(&mut supervisor, 1.0),
            Duration::from_secs(49) / 4,
            "49 s are not enough"
        );
        supervisor.connected(at(200));
        for second in (200..250).chain(257..300) {
            supervisor.check(at(second), at(200).mono);
            supervisor.check(at(second + 6), at(200).mono);
            supervisor.frame(at(second), true, String::new);
        }
        assert_eq!(
            unreachable(&mut supervisor, 1.0),
            Duration::from_secs(30),
            "a stall restarts the minute"
        );
        supervisor.connected(at(400));
        (400..461).for_each(|second| drop(supervisor.frame(at(second), true, String::new)));
        assert_eq!(unreachable(&mut supervisor, 1.0), Duration::from_secs(1));
    }

    /// Number of sessions dropped for a missing key frame, of a camera with a GOP of `gop` seconds,
    /// in `hours`.
    fn drops(gop: u64, hours: u64) -> u32 {
        let (mut supervisor, mut drops, mut connect) = (supervisor(), 0, 0);
        supervisor.connected(at(connect));
        for second in 0..hours * 3600 {
            supervisor.frame(at(second), (second - connect).is_multiple_of(gop), String::new);
            if let StreamCheck::Drop(fault, _) = supervisor.check(at(second), at(connect).mono) {
                assert_eq!(fault, CameraFault::NoKeyFrame);
                supervisor.failed(fault, String::new(), Duration::ZERO, 0.0);
                (drops, connect) = (drops + 1, second + 1);
                supervisor.connected(at(connect));
            }
        }
        drops
    }

    #[test]
    fn long_gops_end_no_session_once_they_are_known() {
        for gop in [2, 25, 60, 600] {
            assert_eq!(drops(gop, 6), 0, "a GOP of {gop} s");
        }
    }

    #[test]
    fn a_first_key_frame_after_a_minute_is_waited_for() {
        let mut supervisor = supervisor();
        supervisor.connected(at(0));
        let mut faults = Vec::new();
        for second in 0..60 {
            supervisor.frame(at(second), false, String::new);
            match supervisor.check(at(second), at(0).mono) {
                StreamCheck::Fine => {}
                StreamCheck::Report(CameraUpdate::Down { fault, .. }) => {
                    faults.push((second, fault))
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(faults, [(30, CameraFault::NoKeyFrame)], "said, and waited for");
        let up = supervisor.frame(at(60), true, String::new);
        assert!(matches!(up, Some(CameraUpdate::Up { .. })), "{up:?}");
    }

    #[test]
    fn a_stall_before_the_first_frame_is_reported() {
        let mut supervisor = StreamSupervisor::new(StreamRole::Main, 3_000_000, 15_000_000, at(1));
        supervisor.sets_up(at(9));
        assert_eq!(supervisor.check_stall(at(11), |_| None), None);
        supervisor.connected(at(11));
        assert_eq!(supervisor.check(at(11), at(11).mono), StreamCheck::Fine);
        let down = supervisor.check(at(12), at(11).mono);
        assert!(matches!(down, StreamCheck::Report(CameraUpdate::Down { .. })), "{down:?}");
        assert_eq!(supervisor.check(at(14), at(11).mono), StreamCheck::Fine, "reported twice");
    }

    #[test]
    fn a_missing_key_frame_is_a_fault_after_three_usual_gops() {
        let mut supervisor = supervisor();
        supervisor.connected(at(0));
        for second in 0..=60 {
            supervisor.frame(at(second), second % 20 == 0, String::new);
        }
        supervisor.lost(1);
        supervisor.frame(at(119), false, String::new);
        let early = supervisor.check(at(119), at(0).mono);
        assert!(!matches!(early, StreamCheck::Drop(..)), "{early:?}");
        supervisor.frame(at(120), false, String::new);
        assert!(matches!(
            supervisor.check(at(120), at(0).mono),
            StreamCheck::Drop(CameraFault::NoKeyFrame, _)
        ));
    }

    #[test]
    fn bad_packets_are_counted_and_end_a_session_without_frames() {
        let mut supervisor = supervisor();
        supervisor.connected(at(10));
        for second in 10..40 {
            for _ in 0..1000 {
                assert_eq!(supervisor.error("bad NAL"), None);
            }
            supervisor.frame(at(second), true, String::new);
        }
        supervisor.lost(7);
        let counts =
            CameraCounts { lost_packets: 7, bad_packets: 30_000, ..CameraCounts::default() };
        assert_eq!(
            supervisor.check(at(40), at(10).mono),
            StreamCheck::Report(CameraUpdate::Counts { role: StreamRole::Main, counts })
        );
        assert_eq!(supervisor.check(at(40), at(10).mono), StreamCheck::Fine, "reported twice");
        let dropped = (0..ERRORS_MAX).find_map(|_| supervisor.error("bad NAL"));
        assert!(
            matches!(dropped, Some((CameraFault::Protocol, ref detail)) if detail.contains("bad NAL")),
            "{dropped:?}"
        );
    }
}
