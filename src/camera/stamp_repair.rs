//! Stamp repair: makes presentation stamps continuous.
//!
//! Cameras set their clock, repeat a stamp, stop it, or send a wrong one. What comes out rises from
//! frame to frame, except for B-frames, and has no steps that arrivals contradict.

use super::clock_ruler::ClockRuler;

/// Difference of a step of the stamps and the time that passed, above which a stamp is suspicious,
/// microseconds: more than jitter, less than what dates a picture wrongly.
const SUSPICIOUS: i64 = 300_000;
/// The same at the start of a session, where the delay is not known: a frame interval of 1 s.
const SUSPICIOUS_AT_START: i64 = 1_500_000;
/// Usual step before it is known, microseconds: one frame at 25 fps.
const STEP: i64 = 40_000;
/// Shortest step that is given to a frame, microseconds.
const STEP_MIN: i64 = 1_000;
/// Frames in a row with one stamp that are spread before the next; more are a stopped clock.
const REPEATS_MAX: u32 = 3;

/// What was wrong with a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StampFault {
    /// It was that of the frame before; the next one is expected to differ.
    Repeated,
    /// It has not moved for some frames.
    Frozen,
    /// It does not continue the stamps before.
    Outlier,
    /// Nor did the one before it, nor do they continue each other.
    Wild,
    /// The clock was set: this and the frame before continue from another value, by microseconds.
    Step(i64),
}

/// A repaired stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repaired {
    /// Media time, microseconds, continuous over steps of the stamps.
    pub(super) media: i64,
    /// It precedes a frame that arrived before it (B-frame).
    pub(super) reordered: bool,
    /// What was wrong.
    pub(super) fault: Option<StampFault>,
}

/// A stamp that may be the first after a step.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    stamp: i64,
    media: i64,
    arrival: i64,
}

/// State of the repair of one session.
#[derive(Debug)]
pub(super) struct StampRepair {
    /// Media time minus stamp.
    shift: i64,
    /// Highest stamp since the last step, and the highest before it arrived: B-frames lie between.
    highest: i64,
    below: i64,
    /// Arrival of the highest stamp.
    risen_at: i64,
    /// Highest media time given so far, and the arrival of the last frame.
    top: i64,
    last_arrival: i64,
    /// Usual step of the stamps, and of the arrivals.
    step: i64,
    interval: i64,
    repeats: u32,
    candidate: Option<Candidate>,
    started: bool,
}

impl StampRepair {
    /// A repair that continues media time 0 at its first stamp.
    pub(super) fn new(stamp: i64, arrival: i64) -> StampRepair {
        StampRepair {
            shift: -stamp,
            highest: stamp,
            below: stamp,
            risen_at: arrival,
            top: 0,
            last_arrival: arrival,
            step: STEP,
            interval: STEP,
            repeats: 0,
            candidate: None,
            started: false,
        }
    }

    /// Usual step of the stamps, microseconds.
    pub(super) fn usual_step(&self) -> i64 {
        self.step
    }

    /// Repairs a stamp. `key` is true for a frame that starts a GOP: it is later than all before.
    pub(super) fn repair(
        &mut self,
        stamp: i64,
        arrival: i64,
        key: bool,
        ruler: &ClockRuler,
    ) -> Repaired {
        let waited = (arrival - self.last_arrival).max(0);
        let step = stamp - self.highest;
        let normal = if step < 0 {
            !key && stamp > self.below
        } else {
            step == 0 || !self.runs_ahead(stamp, arrival, ruler)
        };
        let repaired = if !normal {
            self.suspicious(stamp, arrival, waited, ruler)
        } else if step == 0 {
            self.repeated(arrival, waited, ruler)
        } else if step < 0 {
            self.candidate = None;
            Repaired { media: stamp + self.shift, reordered: true, fault: None }
        } else {
            self.risen(stamp, arrival, step)
        };
        self.learn_interval(waited);
        self.top = self.top.max(repaired.media);
        self.last_arrival = arrival;
        repaired
    }

    /// True when a stamp rose by more than the time that passed, and lies in the future.
    fn runs_ahead(&self, stamp: i64, arrival: i64, ruler: &ClockRuler) -> bool {
        let rise = ((stamp - self.highest) as f64 * ruler.rate()) as i64;
        let excess = rise - (arrival - self.risen_at);
        if ruler.at_start() {
            return excess > SUSPICIOUS_AT_START;
        }
        excess > SUSPICIOUS && ruler.time_of(stamp + self.shift) - arrival > SUSPICIOUS
    }

    fn risen(&mut self, stamp: i64, arrival: i64, step: i64) -> Repaired {
        if self.started {
            self.step += (step - self.step).clamp(-self.step / 8, self.step / 8);
        } else {
            (self.step, self.started) = (step.clamp(STEP_MIN, 1_000_000), true);
        }
        (self.below, self.highest, self.risen_at) = (self.highest, stamp, arrival);
        self.repeats = 0;
        self.candidate = None;
        let media = (stamp + self.shift).max(self.top + STEP_MIN);
        Repaired { media, reordered: false, fault: None }
    }

    fn repeated(&mut self, arrival: i64, waited: i64, ruler: &ClockRuler) -> Repaired {
        self.candidate = None;
        self.repeats += 1;
        if self.repeats <= REPEATS_MAX {
            let left = (self.highest + self.shift + self.step - self.top).max(2 * STEP_MIN);
            let media = self.top + left / 2;
            return Repaired { media, reordered: false, fault: Some(StampFault::Repeated) };
        }
        let media = self.top + self.expected_step(arrival, waited, ruler);
        Repaired { media, reordered: false, fault: Some(StampFault::Frozen) }
    }

    fn suspicious(
        &mut self,
        stamp: i64,
        arrival: i64,
        waited: i64,
        ruler: &ClockRuler,
    ) -> Repaired {
        self.repeats = 0;
        if let Some(first) = self.candidate {
            let rise = ((stamp - first.stamp) as f64 * ruler.rate()) as i64;
            if rise > 0 && rise - (arrival - first.arrival) <= SUSPICIOUS {
                let shift = first.media - first.stamp;
                let size = self.shift - shift;
                self.shift = shift;
                (self.below, self.highest, self.risen_at) = (first.stamp, stamp, arrival);
                self.candidate = None;
                let media = (stamp + shift).max(self.top + STEP_MIN);
                return Repaired { media, reordered: false, fault: Some(StampFault::Step(size)) };
            }
        }
        let media = self.top + self.expected_step(arrival, waited, ruler);
        let again = self.candidate.replace(Candidate { stamp, media, arrival }).is_some();
        let fault = if again { StampFault::Wild } else { StampFault::Outlier };
        Repaired { media, reordered: false, fault: Some(fault) }
    }

    /// Media time from the frame before to a frame without a usable stamp: what passed, in a burst
    /// the usual interval, and not beyond the arrival. After a freeze a burst may follow.
    fn expected_step(&self, arrival: i64, waited: i64, ruler: &ClockRuler) -> i64 {
        let usual = ruler.media_in(self.interval);
        let frozen = waited > 1_000_000 + self.interval;
        let step = if frozen { usual } else { usual.max(ruler.media_in(waited)) };
        let room = ruler.media_in(arrival - ruler.time_of(self.top));
        let step = if ruler.at_start() { step } else { step.min(room) };
        step.max(STEP_MIN)
    }

    /// Follows the interval of arrivals. Those of a burst are left out, nearly.
    fn learn_interval(&mut self, waited: i64) {
        let most =
            if waited < self.interval / 4 { self.interval / 2000 } else { self.interval / 16 };
        self.interval += (waited - self.interval).clamp(-most, most.max(1));
        self.interval = self.interval.max(STEP_MIN);
    }
}
