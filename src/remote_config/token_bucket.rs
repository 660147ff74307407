//! Token bucket: rate limit with a burst; rejected requests are counted and reported once a minute.

use crate::units::MonoTime;

/// Microseconds between two reports of one bucket.
const REPORT_INTERVAL: u64 = 60_000_000;

/// A bucket of `burst` tokens that gains one every `period` microseconds.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    /// Microseconds of one token.
    period: u64,
    /// Level of a full bucket, microseconds.
    full: u64,
    /// Level at `at`, microseconds.
    level: u64,
    at: MonoTime,
    dropped: u64,
    /// `dropped` at the last report; 0 before the first.
    reported: u64,
    reported_at: MonoTime,
}

impl TokenBucket {
    /// A full bucket.
    pub const fn new(burst: u64, period: u64) -> TokenBucket {
        let full = burst * period;
        let start = MonoTime(0);
        TokenBucket {
            period,
            full,
            level: full,
            at: start,
            dropped: 0,
            reported: 0,
            reported_at: start,
        }
    }

    /// A bucket for a warning that a peer can provoke: one a minute is logged, the rest is counted.
    pub const fn of_warnings() -> TokenBucket {
        TokenBucket::new(1, REPORT_INTERVAL)
    }

    /// Takes a token; counts a request without one and returns false.
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

    /// True when the bucket has refilled.
    pub fn is_full(&self, now: MonoTime) -> bool {
        self.level.saturating_add(now.since(self.at)) >= self.full
    }

    /// Requests without a token so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Requests without a token since the last report; `None` when there are none or the last
    /// report is less than a minute old.
    pub fn due_report(&mut self, now: MonoTime) -> Option<u64> {
        let new = self.dropped - self.reported;
        if new == 0 || self.reported > 0 && now.since(self.reported_at) < REPORT_INTERVAL {
            return None;
        }
        self.reported = self.dropped;
        self.reported_at = now;
        Some(new)
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
    fn dropped_requests_are_reported_once_a_minute() {
        let mut bucket = TokenBucket::new(1, 1_000_000_000);
        let reports: Vec<u64> = (0..180)
            .filter_map(|second| {
                bucket.take(MonoTime(second * 1_000_000));
                bucket.due_report(MonoTime(second * 1_000_000))
            })
            .collect();
        assert_eq!(reports, [1, 60, 60]);
        assert_eq!(TokenBucket::new(1, 1).due_report(MonoTime(9)), None);
    }
}
