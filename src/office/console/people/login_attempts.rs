//! How often a password may be wrong: 5 failures within 30 s lock log-ins for 5 minutes, doubling
//! up to one hour. Pure: time is given.
//!
//! Failures count for a pair of user and address and for an address. A user's name alone is never
//! locked: any stranger could lock out the officer on duty from any place.

use std::collections::HashMap;

use crate::units::MonoTime;

/// Failures within the window that lock.
pub const FAILURES: u32 = 5;
/// The window.
const WINDOW: u64 = 30_000_000;
/// The first lock.
const LOCK: u64 = 5 * 60_000_000;
/// The longest lock.
const LOCK_MAX: u64 = 60 * 60_000_000;
/// A counter rests this long after its lock before it is forgotten; then the next lock is short
/// again.
const MEMORY: u64 = 60 * 60_000_000;
/// Counters kept: about 100 bytes each. Beyond it the one that was used least recently and locks
/// nothing goes.
pub const COUNTERS_MAX: usize = 4_096;
/// Characters of a name or address that a counter is kept for.
const KEY_MAX: usize = 64;

/// Whom a counter is for.
type Key = (String, String);

#[derive(Debug, Clone, Copy)]
struct Counter {
    failures: u32,
    since: MonoTime,
    last: MonoTime,
    locked_until: MonoTime,
    lock: u64,
}

/// What a failure leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Another try is accepted.
    Counted,
    /// This failure locked: log-ins are refused for this many seconds.
    Locks(u64),
}

/// The counters of failures.
#[derive(Debug, Default)]
pub struct LoginAttempts {
    counters: HashMap<Key, Counter>,
    dropped: u64,
    refused: u64,
}

fn keys(user: &str, address: &str) -> [Key; 2] {
    let cut = |text: &str| text.chars().take(KEY_MAX).collect::<String>();
    [(cut(&user.to_lowercase()), cut(address)), (String::new(), cut(address))]
}

impl LoginAttempts {
    /// Whether a log-in may be tried now.
    ///
    /// # Errors
    /// Seconds until the next try is accepted.
    pub fn check(&mut self, user: &str, address: &str, now: MonoTime) -> Result<(), u64> {
        let keys = keys(user, address);
        let until =
            keys.iter().filter_map(|key| self.counters.get(key)).map(|one| one.locked_until);
        match until.max().filter(|until| now < *until) {
            Some(until) => {
                self.refused += 1;
                Err(until.since(now).div_ceil(1_000_000))
            }
            None => Ok(()),
        }
    }

    /// Counts a failure.
    pub fn failed(&mut self, user: &str, address: &str, now: MonoTime) -> Failure {
        let mut locked = 0;
        for key in keys(user, address) {
            self.make_room(&key, now);
            let fresh =
                Counter { failures: 0, since: now, last: now, locked_until: MonoTime(0), lock: 0 };
            let counter = self.counters.entry(key).or_insert(fresh);
            if now.since(counter.since) > WINDOW {
                (counter.failures, counter.since) = (0, now);
            }
            if now.since(counter.last.max(counter.locked_until)) > MEMORY {
                counter.lock = 0;
            }
            counter.last = now;
            counter.failures += 1;
            if counter.failures >= FAILURES {
                counter.lock = (counter.lock * 2).clamp(LOCK, LOCK_MAX);
                counter.locked_until = now.plus_micros(counter.lock);
                counter.failures = 0;
                locked = locked.max(counter.lock);
            }
        }
        if locked > 0 { Failure::Locks(locked / 1_000_000) } else { Failure::Counted }
    }

    /// Forgets the failures of a pair after a log-in. Those of the address stay: one known password
    /// must not buy guesses at others.
    pub fn succeeded(&mut self, user: &str, address: &str) {
        let [pair, _] = keys(user, address);
        self.counters.remove(&pair);
    }

    /// Tries that were refused while locked, since the start.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Counters that were dropped for lack of room, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn make_room(&mut self, key: &Key, now: MonoTime) {
        if self.counters.len() < COUNTERS_MAX || self.counters.contains_key(key) {
            return;
        }
        self.counters.retain(|_, one| now.since(one.last.max(one.locked_until)) <= MEMORY);
        if self.counters.len() < COUNTERS_MAX {
            return;
        }
        let rank = |one: &Counter| (now < one.locked_until, one.last);
        let oldest =
            self.counters.iter().min_by_key(|(_, one)| rank(one)).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            self.counters.remove(&oldest);
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: MonoTime = MonoTime(1_000_000_000_000);

    fn at(secs: u64) -> MonoTime {
        START.plus_secs(secs)
    }

    #[test]
    fn five_failures_in_thirty_seconds_lock_for_five_minutes() {
        let mut attempts = LoginAttempts::default();
        for secs in 0..4 {
            assert_eq!(attempts.failed("binh", "::1", at(secs)), Failure::Counted);
            assert_eq!(attempts.check("binh", "::1", at(secs)), Ok(()));
        }
        assert_eq!(attempts.failed("binh", "::1", at(4)), Failure::Locks(300));
        assert_eq!(attempts.check("binh", "::1", at(5)), Err(299));
        assert_eq!(attempts.check("BINH", "::1", at(5)), Err(299), "a name has one spelling");
        assert_eq!(attempts.check("lan", "::1", at(5)), Err(299), "the address is locked");
        assert_eq!(attempts.check("binh", "10.0.0.2", at(5)), Ok(()), "the officer's own desk");
        assert_eq!(attempts.check("binh", "::1", at(304)), Ok(()));
    }

    #[test]
    fn slow_failures_do_not_lock() {
        let mut attempts = LoginAttempts::default();
        for turn in 0..100 {
            assert_eq!(attempts.failed("binh", "::1", at(turn * 10)), Failure::Counted);
        }
    }

    #[test]
    fn each_lock_is_twice_as_long_up_to_an_hour() {
        let mut attempts = LoginAttempts::default();
        let mut now = 0;
        for expected in [300, 600, 1_200, 2_400, 3_600, 3_600] {
            let mut last = Failure::Counted;
            for _ in 0..FAILURES {
                last = attempts.failed("binh", "::1", at(now));
            }
            assert_eq!(last, Failure::Locks(expected));
            now += expected;
        }
        now += 3_601;
        for _ in 0..FAILURES - 1 {
            attempts.failed("binh", "::1", at(now));
        }
        assert_eq!(attempts.failed("binh", "::1", at(now)), Failure::Locks(300));
    }

    #[test]
    fn a_login_forgets_the_pair_and_not_the_address() {
        let mut attempts = LoginAttempts::default();
        for _ in 0..4 {
            attempts.failed("binh", "::1", at(0));
        }
        attempts.succeeded("binh", "::1");
        assert_eq!(attempts.failed("lan", "::1", at(1)), Failure::Locks(300));
    }

    #[test]
    fn two_thousand_names_from_one_address_are_refused() {
        let mut attempts = LoginAttempts::default();
        let mut tried = 0;
        for turn in 0..2_000 {
            let name = format!("user{turn}");
            if attempts.check(&name, "10.9.9.9", at(turn / 100)).is_ok() {
                attempts.failed(&name, "10.9.9.9", at(turn / 100));
                tried += 1;
            }
        }
        assert_eq!((tried, attempts.refused()), (5, 1_995));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_locks() {
        let mut attempts = LoginAttempts::default();
        for _ in 0..FAILURES {
            attempts.failed("binh", "::1", at(0));
        }
        for turn in 0..10_000 {
            attempts.failed("x", &format!("10.{}.{}.1", turn / 256, turn % 256), at(1));
        }
        assert_eq!(attempts.counters.len(), COUNTERS_MAX);
        assert!(attempts.dropped() > 0);
        assert!(attempts.check("binh", "::1", at(2)).is_err());
    }

    proptest! {
        #[test]
        fn no_address_has_more_than_five_tries_in_a_window(steps in prop::collection::vec((0u64..9, 0u8..3), 1..300)) {
            let mut attempts = LoginAttempts::default();
            let (mut now, mut tries) = (0, Vec::new());
            for (pause, user) in steps {
                now += pause;
                let name = format!("u{user}");
                if attempts.check(&name, "::1", at(now)).is_ok() {
                    tries.push(now);
                    attempts.failed(&name, "::1", at(now));
                }
            }
            // Two windows may touch: 4 failures end one, 5 begin the next.
            for (index, first) in tries.iter().enumerate() {
                let within = tries[index..].iter().take_while(|time| **time <= first + 30).count();
                prop_assert!(within <= 9, "{} tries from second {}", within, first);
            }
        }
    }
}
