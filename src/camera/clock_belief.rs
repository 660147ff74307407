//! Clock belief: decides when a camera's stamps cannot be trusted, and when they can again.

use super::stamp_repair::StampFault;

/// Deviation of the rate that is a fault, and below which it ends: crystals deviate by less than
/// 0.05 %.
const RATE_FAULT: f64 = 0.01;
const RATE_GOOD: f64 = 0.005;
/// Time for which a rate must deviate, microseconds: the estimate of the first seconds may be
/// wrong.
const RATE_AFTER: i64 = 10_000_000;
/// Frames in a row with one stamp that are a fault: 2 s at 12 fps.
const FROZEN_AFTER: u32 = 25;
/// Outliers within [`WINDOW`] that are a fault; a set clock counts as many. One outlier is damage.
const JUMPS_MAX: u32 = 3;
/// Time in which outliers are counted, microseconds.
const WINDOW: i64 = 60_000_000;
/// Time without a fault after which the stamps are trusted again, microseconds. Limits the reports
/// of a camera that comes and goes to two in five minutes.
const GOOD_AFTER: i64 = 300_000_000;

/// Why stamps cannot be trusted. The names are stable: events use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClockFault {
    /// The stamps run faster than time.
    Fast,
    /// The stamps run slower than time.
    Slow,
    /// The stamps do not move.
    Frozen,
    /// The stamps jump.
    Jumps,
}

impl ClockFault {
    /// The name in payloads.
    pub fn as_str(self) -> &'static str {
        match self {
            ClockFault::Fast => "fast",
            ClockFault::Slow => "slow",
            ClockFault::Frozen => "frozen",
            ClockFault::Jumps => "jumps",
        }
    }
}

/// A change in whether the stamps can be trusted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClockReport {
    /// Why they cannot be trusted; `None` when they can again.
    pub fault: Option<ClockFault>,
    /// Seconds of the stamps per second.
    pub rate: f64,
}

/// The belief in the stamps of one track.
#[derive(Debug, Default)]
pub(super) struct ClockBelief {
    /// Stamps per time.
    rate: f64,
    /// Start of the deviation of the rate.
    off_since: Option<i64>,
    frozen: u32,
    jumps: u32,
    /// Start of the window in which jumps are counted.
    window: i64,
    fault: Option<ClockFault>,
    /// Last moment at which the fault was seen.
    seen: i64,
    reported: Option<ClockFault>,
}

impl ClockBelief {
    /// Learns from a frame; `rate` is monotonic time per media time.
    pub(super) fn learn(&mut self, now: i64, stamp: Option<StampFault>, rate: f64) {
        self.rate = 1.0 / rate.max(1e-6);
        let fault = self.stamps(now, stamp).or_else(|| self.rates(now));
        if let Some(fault) = fault {
            self.seen = now;
            self.fault.get_or_insert(fault);
        } else if self.fault.is_some() && now - self.seen >= GOOD_AFTER {
            self.fault = None;
        }
    }

    fn stamps(&mut self, now: i64, stamp: Option<StampFault>) -> Option<ClockFault> {
        self.frozen = if stamp == Some(StampFault::Frozen) { self.frozen + 1 } else { 0 };
        if now - self.window >= WINDOW {
            (self.window, self.jumps) = (now, 0);
        }
        self.jumps += match stamp {
            Some(StampFault::Outlier | StampFault::Wild) => 1,
            Some(StampFault::Step(_)) => JUMPS_MAX,
            _ => 0,
        };
        let jumped =
            matches!(stamp, Some(StampFault::Outlier | StampFault::Wild | StampFault::Step(_)));
        match () {
            () if self.frozen >= FROZEN_AFTER => Some(ClockFault::Frozen),
            () if jumped && self.jumps >= JUMPS_MAX => Some(ClockFault::Jumps),
            () => None,
        }
    }

    fn rates(&mut self, now: i64) -> Option<ClockFault> {
        let limit = if self.fault.is_some() { RATE_GOOD } else { RATE_FAULT };
        if (self.rate - 1.0).abs() <= limit {
            self.off_since = None;
            return None;
        }
        let since = *self.off_since.get_or_insert(now);
        let fault = if self.rate > 1.0 { ClockFault::Fast } else { ClockFault::Slow };
        (now - since >= RATE_AFTER).then_some(fault)
    }

    /// A change, once.
    pub(super) fn report(&mut self) -> Option<ClockReport> {
        if self.fault == self.reported {
            return None;
        }
        self.reported = self.fault;
        Some(ClockReport { fault: self.fault, rate: self.rate })
    }
}
