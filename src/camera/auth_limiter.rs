//! How often a camera may be shown a password it refuses: cameras lock accounts after three to five tries, and the streams of one
//! camera knock at the same door.
//!
//! What belongs here: counting the refusals of one camera, over all its streams. What does not: which stream is reported what
//! ([`super::supervisor`]).

use crate::units::MonoTime;

/// Refused passwords in a row before the door stays closed.
pub const TRIES: u32 = 3;
/// Then it stays closed for 5 to 30 min, drawn again each time, microseconds: that is for how long cameras lock an account.
const CLOSED_MIN: u64 = 5 * 60_000_000;
const CLOSED_MAX: u64 = 30 * 60_000_000;
/// How long to wait for the outcome of another stream's try, microseconds.
const OUTCOME_WITHIN: u64 = 500_000;

/// What a stream may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthPermit {
    /// Knock now, and say [`AuthLimiter::answered`] afterwards.
    Granted,
    /// Ask again in so many microseconds: the tries that are left are being made.
    Busy(u64),
    /// The password was refused too often: closed for so many microseconds.
    LockedOut(u64),
}

/// The door of one camera.
#[derive(Debug, Default)]
pub struct AuthLimiter {
    /// Refusals since the password was last taken.
    refused: u32,
    /// Tries without an answer yet.
    trying: u32,
    closed_until: MonoTime,
}

impl AuthLimiter {
    /// May a stream show the password? Once the door was closed, one try at a time.
    pub fn acquire(&mut self, now: MonoTime) -> AuthPermit {
        if now < self.closed_until {
            return AuthPermit::LockedOut(self.closed_until.since(now));
        }
        if self.trying >= TRIES.saturating_sub(self.refused).max(1) {
            return AuthPermit::Busy(OUTCOME_WITHIN);
        }
        self.trying += 1;
        AuthPermit::Granted
    }

    /// What became of a try: taken, refused, or neither, because the camera could not be reached. `random` is uniform in 0..1.
    /// Gives the microseconds for which the door is closed now, 0 when it is not.
    pub fn answered(&mut self, now: MonoTime, taken: Option<bool>, random: f64) -> u64 {
        self.trying = self.trying.saturating_sub(1);
        match taken {
            Some(true) => self.refused = 0,
            Some(false) => self.refused += 1,
            None => {}
        }
        if taken == Some(false) && self.refused >= TRIES {
            self.closed_until = now.plus_micros(CLOSED_MIN + ((CLOSED_MAX - CLOSED_MIN) as f64 * random) as u64);
        }
        self.closed_until.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_streams_share_the_limit_of_wrong_passwords() {
        let (mut logins, mut shown) = (AuthLimiter::default(), Vec::new());
        // Both streams ask every second; the camera takes a second to refuse.
        for second in 0..7200 {
            let now = MonoTime(second * 1_000_000);
            let open = (0..2).filter(|_| logins.acquire(now) == AuthPermit::Granted).count();
            for _ in 0..open {
                shown.push(second);
                logins.answered(now.plus_secs(1), Some(false), (second % 7) as f64 / 7.0);
            }
        }
        assert!(shown[2] < 5 && shown[3] >= 300, "{shown:?}");
        let pauses: Vec<u64> = shown[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.iter().all(|pause| (300..=1801).contains(pause)), "{pauses:?}");
    }

    #[test]
    fn tries_still_without_an_answer_count() {
        let mut logins = AuthLimiter::default();
        let now = MonoTime(1);
        assert_eq!([logins.acquire(now), logins.acquire(now), logins.acquire(now)], [AuthPermit::Granted; 3]);
        assert_eq!(logins.acquire(now), AuthPermit::Busy(OUTCOME_WITHIN), "a fourth try before the third was answered");
        logins.answered(now, None, 0.0);
        assert_eq!(logins.acquire(now), AuthPermit::Granted, "a camera that cannot be reached has not refused anything");
        logins.answered(now, Some(true), 0.0);
        assert_eq!(logins.acquire(now), AuthPermit::Granted);
    }

    #[test]
    fn a_password_that_is_taken_opens_the_door_for_good() {
        let mut logins = AuthLimiter::default();
        for round in 0..10 {
            let now = MonoTime(round);
            assert_eq!(logins.acquire(now), AuthPermit::Granted);
            assert_eq!(logins.answered(now, Some(round % 3 != 0), 0.5), 0);
        }
    }
}
