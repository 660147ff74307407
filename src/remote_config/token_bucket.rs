//! Token buckets: how much of something strangers may ask for, pure. What is over the share is dropped and counted, and a line of
//! the log tells the count once a minute at most.
//!
//! What belongs here: the arithmetic. What does not: what is limited, and to how much (its callers).

use crate::units::MonoTime;

/// Microseconds between two lines of the log about the same bucket.
const TELL_EVERY: u64 = 60_000_000;

/// A bucket of `burst` tokens that gets another one every `period` microseconds, and a count of what found it empty.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    period: u64,
    full: u64,
    /// Microseconds' worth of tokens, as of `at`.
    level: u64,
    at: MonoTime,
    dropped: u64,
    told: (u64, MonoTime),
}

impl TokenBucket {
    /// A full one.
    pub const fn new(burst: u64, period: u64) -> TokenBucket {
        let full = burst * period;
        TokenBucket { period, full, level: full, at: MonoTime(0), dropped: 0, told: (0, MonoTime(0)) }
    }

    /// One for a warning that strangers can provoke: one a minute is written, the rest is counted.
    pub const fn of_warnings() -> TokenBucket {
        TokenBucket::new(1, TELL_EVERY)
    }

    /// Takes a token; false when there is none, which is counted.
    pub fn take(&mut self, now: MonoTime) -> bool {
        self.level = self.full.min(self.level.saturating_add(now.since(self.at)));
        self.at = self.at.max(now);
        let has = self.level >= self.period;
        if has {
            self.level -= self.period;
        } else {
            self.dropped += 1;
        }
        has
    }

    /// True when nothing was taken for so long that the bucket is full.
    pub fn is_full(&self, now: MonoTime) -> bool {
        self.level.saturating_add(now.since(self.at)) >= self.full
    }

    /// How often it was found empty.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How often it was found empty since this was last reported; once a minute at most, and never when it was not.
    pub fn due_report(&mut self, now: MonoTime) -> Option<u64> {
        let (before, when) = self.told;
        let new = self.dropped - before;
        let due = new > 0 && (before == 0 || now.since(when) >= TELL_EVERY);
        due.then(|| {
            self.told = (self.dropped, now);
            new
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate_and_counts_the_rest() {
        let mut bucket = TokenBucket::new(10, 500_000);
        let taken = (0..10_000).filter(|n| bucket.take(MonoTime(n * 1000))).count();
        assert_eq!((taken, bucket.dropped()), (10 + 2 * 10 - 1, 10_000 - 29));
        assert!(!bucket.is_full(MonoTime(10_000_000)) && bucket.is_full(MonoTime(15_000_000)));
    }

    #[test]
    fn what_was_dropped_is_told_once_a_minute() {
        let mut bucket = TokenBucket::new(1, 1_000_000_000);
        let told: Vec<u64> = (0..180)
            .filter_map(|second| {
                bucket.take(MonoTime(second * 1_000_000));
                bucket.due_report(MonoTime(second * 1_000_000))
            })
            .collect();
        assert_eq!(told, [1, 60, 60]);
        assert_eq!(TokenBucket::new(1, 1).due_report(MonoTime(9)), None);
    }
}
