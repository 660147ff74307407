//! The authentication limiter: limits the tries of a rejected password over all streams of a
//! camera.
//!
//! Cameras lock accounts after three to five tries. A login that the camera never accepted has three
//! tries over all streams, one at a time and over a minute. Once a stream was accepted, its login is right: it is tried again after
//! growing pauses, never locked out, and the other stream has three tries of its own.

use std::time::Duration;

use super::StreamRole;
use crate::units::MonoTime;

/// Rejected tries in a row before a lockout.
pub const TRIES: u32 = 3;
/// Shortest lockout. Each is drawn at random up to [`LOCKOUT_MAX`]: cameras lock an account for
/// about so long.
const LOCKOUT_MIN: Duration = Duration::from_secs(5 * 60);
/// Longest lockout.
const LOCKOUT_MAX: Duration = Duration::from_secs(30 * 60);
/// Random part of the first lockout. After a power cut camera and device boot together, and a camera
/// that boots may reject a right password: the first lockout is a short one.
const FIRST_LOCKOUT_SPREAD: Duration = Duration::from_secs(60);
/// Wait for the outcome of another stream's try.
const OUTCOME_WAIT: Duration = Duration::from_millis(500);
/// Pauses after the first rejections of a login that was never accepted: a camera that boots after a
/// power cut may reject a right password for its first minute.
const FIRST_PAUSES: [Duration; TRIES as usize - 1] =
    [Duration::from_secs(20), Duration::from_secs(40)];
/// Pause between the tries of a stream that was never accepted while the other one was.
const OWN_TRY_PAUSE: Duration = Duration::from_secs(60);
/// Pauses after rejections in a row of a login that was accepted before. A camera that boots rejects
/// for some seconds; three tries take a minute, and at most twelve follow in an hour.
const KNOWN_PAUSES: [Duration; 5] = [
    Duration::from_secs(15),
    Duration::from_secs(20),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(300),
];

/// The permission of a stream to send the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthPermit {
    /// The stream may try now. It must report the outcome by [`AuthLimiter::answered`].
    Granted,
    /// Another stream tries, or the next one is not due: ask again after this time.
    Busy(Duration),
    /// The password was rejected too often: no try for this time.
    LockedOut(Duration),
}

/// The outcome of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthOutcome {
    /// The camera accepted the password.
    Accepted,
    /// The camera rejected the password.
    Rejected,
    /// The session failed before or without a check of the password.
    NotAsked,
}

/// How long a stream waits before its next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthRest {
    /// No longer than after other failures.
    None,
    /// At least this time; the login is not in doubt.
    Pause(Duration),
    /// The password was rejected too often.
    Lockout(Duration),
}

/// Rejections in a row, and when the next try is due.
#[derive(Debug, Clone, Copy, Default)]
struct Attempts {
    rejections: u32,
    next: MonoTime,
    locked: bool,
    /// Lockouts so far.
    lockouts: u32,
}

/// The limiter of one camera.
#[derive(Debug, Default)]
pub struct AuthLimiter {
    /// Tries while no stream was ever accepted.
    shared: Attempts,
    /// Tries of each stream after that.
    own: [Attempts; 2],
    /// The streams that were accepted at least once.
    accepted: [bool; 2],
    /// A try has no outcome yet, while no stream was ever accepted.
    pending: bool,
}

impl AuthLimiter {
    /// The login of the main stream was accepted before this process began.
    pub fn accepted_before(&mut self) {
        self.accepted[index(StreamRole::Main)] = true;
    }

    fn attempts(&mut self, role: StreamRole) -> &mut Attempts {
        if self.accepted == [false; 2] { &mut self.shared } else { &mut self.own[index(role)] }
    }

    /// Asks for permission to send the password. Until a stream is accepted, one at a time has it.
    pub fn acquire(&mut self, role: StreamRole, now: MonoTime) -> AuthPermit {
        let attempts = *self.attempts(role);
        if now < attempts.next {
            let rest = attempts.next.duration_since(now);
            return if attempts.locked {
                AuthPermit::LockedOut(rest)
            } else {
                AuthPermit::Busy(rest)
            };
        }
        if self.accepted == [false; 2] {
            if self.pending {
                return AuthPermit::Busy(OUTCOME_WAIT);
            }
            self.pending = true;
        }
        AuthPermit::Granted
    }

    /// Counts logins that a session sent beside the one that [`AuthLimiter::answered`] reports as
    /// rejected.
    pub fn also_rejected(&mut self, role: StreamRole, more: u32) {
        let attempts = self.attempts(role);
        attempts.rejections = attempts.rejections.saturating_add(more);
    }

    /// Reports the outcome of a try. `random` is uniform in 0..1 and draws the length of a lockout.
    pub fn answered(
        &mut self,
        role: StreamRole,
        now: MonoTime,
        outcome: AuthOutcome,
        random: f64,
    ) -> AuthRest {
        self.pending = false;
        match outcome {
            AuthOutcome::Accepted => {
                self.accepted[index(role)] = true;
                *self.attempts(role) = Attempts::default();
                self.shared = Attempts::default();
                return AuthRest::None;
            }
            AuthOutcome::NotAsked => return self.rest(role, now),
            AuthOutcome::Rejected => {}
        }
        let known = self.accepted[index(role)];
        let alone = self.accepted == [false; 2];
        let attempts = self.attempts(role);
        attempts.rejections += 1;
        let nth = attempts.rejections;
        if known {
            let at = (nth as usize - 1).min(KNOWN_PAUSES.len() - 1);
            attempts.next = now.plus(KNOWN_PAUSES[at]);
        } else if nth >= TRIES {
            let spread = match attempts.lockouts {
                0 => FIRST_LOCKOUT_SPREAD,
                _ => LOCKOUT_MAX - LOCKOUT_MIN,
            };
            attempts.lockouts += 1;
            let length = LOCKOUT_MIN + spread.mul_f64(random);
            (attempts.next, attempts.locked) = (now.plus(length), true);
        } else {
            let pause = if alone { FIRST_PAUSES[nth as usize - 1] } else { OWN_TRY_PAUSE };
            attempts.next = now.plus(pause);
        }
        self.rest(role, now)
    }

    fn rest(&mut self, role: StreamRole, now: MonoTime) -> AuthRest {
        let attempts = self.attempts(role);
        let rest = attempts.next.duration_since(now);
        match (rest.is_zero(), attempts.locked) {
            (true, _) => AuthRest::None,
            (false, true) => AuthRest::Lockout(rest),
            (false, false) => AuthRest::Pause(rest),
        }
    }
}

fn index(role: StreamRole) -> usize {
    match role {
        StreamRole::Main => 0,
        StreamRole::Sub => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use AuthOutcome::{Accepted, NotAsked, Rejected};

    #[test]
    fn each_login_of_a_session_counts_toward_the_lockout() {
        let mut limiter = AuthLimiter::default();
        assert_eq!(limiter.acquire(StreamRole::Main, MonoTime(1)), AuthPermit::Granted);
        limiter.also_rejected(StreamRole::Main, 2);
        let rest = limiter.answered(StreamRole::Main, MonoTime(2), Rejected, 0.0);
        assert!(matches!(rest, AuthRest::Lockout(_)), "{rest:?}");
    }
    use StreamRole::{Main, Sub};

    fn at(seconds: u64) -> MonoTime {
        MonoTime(seconds * 1_000_000)
    }

    /// Seconds of the tries of a stream that asks every second.
    fn tries(
        limiter: &mut AuthLimiter,
        role: StreamRole,
        seconds: std::ops::Range<u64>,
        mut outcome: impl FnMut(usize) -> AuthOutcome,
    ) -> Vec<u64> {
        let mut tries = Vec::new();
        for second in seconds {
            if limiter.acquire(role, at(second)) == AuthPermit::Granted {
                limiter.answered(role, at(second), outcome(tries.len()), 0.5);
                tries.push(second);
            }
        }
        tries
    }

    #[test]
    fn two_streams_share_the_limit_of_wrong_passwords() {
        let (mut limiter, mut tries) = (AuthLimiter::default(), Vec::new());
        // Both streams ask every second; the camera takes a second to reject.
        for second in 0..7200 {
            let now = at(second);
            let granted = [Main, Sub]
                .into_iter()
                .filter(|role| limiter.acquire(*role, now) == AuthPermit::Granted)
                .collect::<Vec<_>>();
            for role in granted {
                tries.push(second);
                limiter.answered(role, now.plus_secs(1), Rejected, (second % 7) as f64 / 7.0);
            }
        }
        assert_eq!(tries[..2], [0, 21], "{tries:?}");
        assert!((61..65).contains(&tries[2]) && tries[3] >= 360, "{tries:?}");
        let pauses: Vec<u64> = tries[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.iter().all(|pause| (300..=1801).contains(pause)), "{pauses:?}");
        assert!(pauses[0] <= 361, "the camera may have been booting: {pauses:?}");
    }

    #[test]
    fn a_camera_that_boots_for_a_minute_locks_nothing() {
        // After a power cut nothing is known of the login, and the camera rejects it at first.
        for random in [0.0, 1.0] {
            let mut limiter = AuthLimiter::default();
            let outcome = |nth| if nth < 2 { Rejected } else { Accepted };
            let mut tried = tries(&mut limiter, Main, 0..21, outcome);
            tried.extend(tries(&mut limiter, Sub, 21..60, |_| Rejected));
            tried.extend(tries(&mut limiter, Main, 60..62, |_| Accepted));
            assert_eq!(tried, [0, 20, 60, 61], "{random}");
        }
    }

    #[test]
    fn a_login_known_over_a_power_cut_is_never_locked_out() {
        let mut limiter = AuthLimiter::default();
        limiter.accepted_before();
        let outcome = |nth| if nth < 3 { Rejected } else { Accepted };
        let tried = tries(&mut limiter, Main, 0..3600, outcome);
        assert_eq!(tried[..4], [0, 15, 35, 65]);
    }

    #[test]
    fn one_try_at_a_time_until_a_login_is_accepted() {
        let mut limiter = AuthLimiter::default();
        let now = MonoTime(1);
        assert_eq!(limiter.acquire(Main, now), AuthPermit::Granted);
        assert_eq!(
            limiter.acquire(Sub, now),
            AuthPermit::Busy(OUTCOME_WAIT),
            "a second try while the first is pending"
        );
        limiter.answered(Main, now, NotAsked, 0.0);
        assert_eq!(
            limiter.acquire(Main, now),
            AuthPermit::Granted,
            "an unreachable camera has rejected nothing"
        );
        limiter.answered(Main, now, Accepted, 0.0);
        assert_eq!(limiter.acquire(Main, now), AuthPermit::Granted);
    }

    #[test]
    fn an_accepted_password_resets_the_limit() {
        let mut limiter = AuthLimiter::default();
        for round in 0..10 {
            let now = at(round * 1000);
            assert_eq!(limiter.acquire(Main, now), AuthPermit::Granted);
            let outcome = if round % 3 == 0 { Rejected } else { Accepted };
            let rest = limiter.answered(Main, now, outcome, 0.5);
            assert!(!matches!(rest, AuthRest::Lockout(_)));
        }
    }

    #[test]
    fn a_rejected_sub_stream_never_locks_the_main_stream() {
        let mut limiter = AuthLimiter::default();
        assert_eq!(tries(&mut limiter, Main, 0..1, |_| Accepted), [0]);
        let sub = tries(&mut limiter, Sub, 1..3600, |_| Rejected);
        assert_eq!(sub[..3], [1, 61, 121], "a minute apart");
        assert!(sub[3] >= 121 + 300, "{sub:?}");
        assert_eq!(limiter.acquire(Main, at(122)), AuthPermit::Granted);
        assert!(matches!(limiter.acquire(Sub, at(122)), AuthPermit::LockedOut(_)));
    }

    #[test]
    fn rejections_of_the_sub_stream_before_main_count_no_more() {
        let mut limiter = AuthLimiter::default();
        assert_eq!(tries(&mut limiter, Sub, 0..21, |_| Rejected), [0, 20]);
        assert_eq!(tries(&mut limiter, Main, 21..61, |_| Accepted)[0], 60);
        assert_eq!(limiter.acquire(Main, at(61)), AuthPermit::Granted);
        assert_eq!(tries(&mut limiter, Sub, 61..180, |_| Rejected), [61, 121]);
    }

    #[test]
    fn a_login_accepted_before_is_tried_over_a_minute() {
        let mut limiter = AuthLimiter::default();
        limiter.answered(Main, at(0), Accepted, 0.0);
        // The camera boots: three rejections, then it accepts.
        let outcome = |nth| if nth < 3 { Rejected } else { Accepted };
        let tried = tries(&mut limiter, Main, 10..3600, outcome);
        assert_eq!(tried[..4], [10, 25, 45, 75]);
        // The password was changed: it stays rejected.
        let tried = tries(&mut limiter, Main, 3600..7200, |_| Rejected);
        assert!(tried.len() <= 16, "{} tries in an hour", tried.len());
        assert!(!matches!(limiter.acquire(Main, at(7200)), AuthPermit::LockedOut(_)));
    }
}
