//! The authentication limiter: limits the tries of a rejected password over all streams of a
//! camera.
//!
//! Cameras lock accounts after three to five tries.

use std::time::Duration;

use crate::units::MonoTime;

/// Rejected tries in a row before a lockout.
pub const TRIES: u32 = 3;
/// Shortest lockout. Each is drawn at random up to [`LOCKOUT_MAX`]: cameras lock an account for
/// about so long.
const LOCKOUT_MIN: Duration = Duration::from_secs(5 * 60);
/// Longest lockout.
const LOCKOUT_MAX: Duration = Duration::from_secs(30 * 60);
/// Wait for the outcome of another stream's try.
const OUTCOME_WAIT: Duration = Duration::from_millis(500);

/// The permission of a stream to send the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthPermit {
    /// The stream may try now. It must report the outcome by [`AuthLimiter::answered`].
    Granted,
    /// All remaining tries are pending: ask again after this time.
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

/// The limiter of one camera.
#[derive(Debug, Default)]
pub struct AuthLimiter {
    /// Rejections since the camera last accepted the password.
    rejections: u32,
    /// Tries without an outcome yet.
    pending: u32,
    locked_until: MonoTime,
}

impl AuthLimiter {
    /// Asks for permission to send the password. After a lockout only one try at a time is granted.
    pub fn acquire(&mut self, now: MonoTime) -> AuthPermit {
        if now < self.locked_until {
            return AuthPermit::LockedOut(self.locked_until.duration_since(now));
        }
        if self.pending >= TRIES.saturating_sub(self.rejections).max(1) {
            return AuthPermit::Busy(OUTCOME_WAIT);
        }
        self.pending += 1;
        AuthPermit::Granted
    }

    /// Reports the outcome of a try. `random` is uniform in 0..1 and draws the length of a lockout.
    /// Returns the remaining lockout; zero without one.
    pub fn answered(&mut self, now: MonoTime, outcome: AuthOutcome, random: f64) -> Duration {
        self.pending = self.pending.saturating_sub(1);
        match outcome {
            AuthOutcome::Accepted => self.rejections = 0,
            AuthOutcome::Rejected => self.rejections += 1,
            AuthOutcome::NotAsked => {}
        }
        if outcome == AuthOutcome::Rejected && self.rejections >= TRIES {
            self.locked_until = now.plus(LOCKOUT_MIN + (LOCKOUT_MAX - LOCKOUT_MIN).mul_f64(random));
        }
        self.locked_until.duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_streams_share_the_limit_of_wrong_passwords() {
        let (mut limiter, mut tries) = (AuthLimiter::default(), Vec::new());
        // Both streams ask every second; the camera takes a second to reject.
        for second in 0..7200 {
            let now = MonoTime(second * 1_000_000);
            let granted = (0..2).filter(|_| limiter.acquire(now) == AuthPermit::Granted).count();
            for _ in 0..granted {
                tries.push(second);
                limiter.answered(
                    now.plus_secs(1),
                    AuthOutcome::Rejected,
                    (second % 7) as f64 / 7.0,
                );
            }
        }
        assert!(tries[2] < 5 && tries[3] >= 300, "{tries:?}");
        let pauses: Vec<u64> = tries[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.iter().all(|pause| (300..=1801).contains(pause)), "{pauses:?}");
    }

    #[test]
    fn pending_tries_count_towards_the_limit() {
        let mut limiter = AuthLimiter::default();
        let now = MonoTime(1);
        assert_eq!(
            [limiter.acquire(now), limiter.acquire(now), limiter.acquire(now)],
            [AuthPermit::Granted; 3]
        );
        assert_eq!(
            limiter.acquire(now),
            AuthPermit::Busy(OUTCOME_WAIT),
            "a fourth try while three are pending"
        );
        limiter.answered(now, AuthOutcome::NotAsked, 0.0);
        assert_eq!(
            limiter.acquire(now),
            AuthPermit::Granted,
            "an unreachable camera has rejected nothing"
        );
        limiter.answered(now, AuthOutcome::Accepted, 0.0);
        assert_eq!(limiter.acquire(now), AuthPermit::Granted);
    }

    #[test]
    fn an_accepted_password_resets_the_limit() {
        let mut limiter = AuthLimiter::default();
        for round in 0..10 {
            let now = MonoTime(round);
            assert_eq!(limiter.acquire(now), AuthPermit::Granted);
            let outcome =
                if round % 3 == 0 { AuthOutcome::Rejected } else { AuthOutcome::Accepted };
            assert_eq!(limiter.answered(now, outcome, 0.5), Duration::ZERO);
        }
    }
}
