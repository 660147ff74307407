//! The clock ruler: the line that maps repaired media time to monotonic time.
//!
//! A packet is never early, only late. So the line lies under all arrivals and touches the least
//! delayed ones. Its slope is the rate of the camera's clock, and media time is the scale between
//! two such arrivals. A burst after a freeze lies above the line and does not move it.

use std::collections::VecDeque;

/// Length of a slot of arrival time that gives one least-delayed arrival, microseconds.
const SLOT: i64 = 1_000_000;
/// Least-delayed arrivals that are kept: half a minute, in which 50 ms of jitter are 0.2 % of rate.
const POINTS_MAX: usize = 32;
/// Shortest span of arrivals from which a rate is estimated, microseconds.
const SPAN_MIN: i64 = 2_500_000;
/// Span of arrivals from which any rate is taken, microseconds: longer than a backlog of 30 s that
/// drains at three times its speed.
const SPAN_ANY: i64 = 20_000_000;
/// Monotonic time per media time within which an early estimate is taken: +-40 % of media rate.
const EARLY_RATES: (f64, f64) = (0.7, 1.7);
/// Rates that are taken at all: a clock rate that the SDP states wrongly (8 kHz for 90 kHz).
const RATES: (f64, f64) = (1.0 / 128.0, 128.0);
/// Distance from the line within which an arrival supports it, microseconds.
const BAND: i64 = 80_000;
/// Error of a slot's least delay, microseconds: a rate that it explains is no deviation.
const NOISE: f64 = 100_000.0;
/// Newest slots that decide about the offset.
const RECENT: usize = 3;
/// Fall of the delay over the newest slots that shows a backlog being delivered, microseconds.
const DRAINING: i64 = 100_000;
/// Delay of all newest slots that is corrected, microseconds.
const LATE_MIN: i64 = 20_000;
/// Delay of all newest slots that is corrected at once, microseconds; a smaller one is corrected by
/// a slower rate, so that no picture lasts long.
const LEAP_MIN: i64 = 1_200_000;
/// Time in which a delay is corrected, microseconds, and most correction of the rate.
const SLEW: (f64, f64) = (1_500_000.0, 0.5);
/// Arrival later than media time by this, microseconds, that may be followed by a burst.
const FREEZE_MIN: i64 = 1_000_000;
/// A delay that stays after a freeze, microseconds: the camera paused its clock.
const PAUSE_MIN: i64 = 500_000;
/// Fall of the delay that shows that a burst continues, microseconds.
const BURST_STEP: i64 = 10_000;
/// Time without such a fall after which a burst is over, microseconds: at the start of a session,
/// and after a freeze, where the backlog of a slow network falls slowly.
const CALM: (i64, i64) = (400_000, 1_000_000);
/// Longest wait for the end of a burst, microseconds.
const BURST_MAX: i64 = 3_000_000;

/// An arrival.
#[derive(Debug, Clone, Copy)]
struct Point {
    media: i64,
    arrival: i64,
}

/// The search for the end of a burst.
#[derive(Debug, Clone, Copy)]
struct Burst {
    since: i64,
    /// Time without a lower delay after which it is over.
    calm: i64,
    /// Lowest delay against the line.
    least: i64,
    /// Arrival at which it was found.
    improved: i64,
}

impl Burst {
    /// Fall of the delay that shows that it continues. At the start of a session a clock that runs
    /// fast looks like a burst, but a burst comes at twice the usual speed at least.
    fn fall(&self, arrival: i64) -> i64 {
        let start = self.calm == CALM.0;
        BURST_STEP.max(if start { (arrival - self.improved) / 2 } else { 0 })
    }
}

/// The line from media time to monotonic time.
#[derive(Debug)]
pub(super) struct ClockRuler {
    /// A point of the line.
    media: i64,
    mono: i64,
    /// Slope in use: monotonic time per media time, with the correction of the offset.
    slope: f64,
    /// Estimated slope.
    rate: f64,
    points: VecDeque<Point>,
    /// Start of the current slot and its least-delayed arrival.
    slot: Option<(i64, Point)>,
    newest: i64,
    /// Least-delayed arrival of the slot before.
    closed: Option<Point>,
    /// Media time comes from stamps.
    measured: bool,
    /// The arrival before.
    last: Option<Point>,
    burst: Option<Burst>,
}

impl ClockRuler {
    /// A line through the first arrival of a session; `rate` is the estimate of the session before,
    /// or 1.
    pub(super) fn new(media: i64, arrival: i64, rate: f64) -> ClockRuler {
        ClockRuler {
            media,
            mono: arrival,
            slope: rate,
            rate,
            points: VecDeque::new(),
            slot: None,
            newest: media,
            closed: None,
            measured: true,
            last: None,
            burst: Some(Burst { since: arrival, calm: CALM.0, least: 0, improved: arrival }),
        }
    }

    /// Estimated monotonic time per media time.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// Monotonic time of a media time. The correction of the offset begins at the point of the
    /// line: frames held back since before it keep the rate.
    pub(super) fn time_of(&self, media: i64) -> i64 {
        let slope = if media < self.media { self.rate } else { self.slope };
        self.mono + ((media - self.media) as f64 * slope).round() as i64
    }

    /// Media time that passes in a monotonic time, at the estimated rate: without the correction of
    /// the offset, which it would undo.
    pub(super) fn media_in(&self, micros: i64) -> i64 {
        (micros as f64 / self.rate).round() as i64
    }

    /// True while a burst of buffered media may be arriving: what is placed now may be placed
    /// wrongly.
    pub(super) fn in_burst(&self) -> bool {
        self.burst.is_some()
    }

    /// True before the first burst of a session is over: the offset is not known.
    pub(super) fn at_start(&self) -> bool {
        self.burst.is_some_and(|burst| burst.calm == CALM.0)
    }

    /// Ends the search for the end of a burst when it is over by `now`.
    pub(super) fn settle(&mut self, now: i64) {
        let Some(burst) = self.burst else { return };
        let over = now - burst.improved >= burst.calm;
        if over || now - burst.since >= BURST_MAX {
            self.end_burst(over);
        }
    }

    /// Ends the search for the end of a burst; `over` is false when its end was not seen.
    pub(super) fn end_burst(&mut self, over: bool) {
        let Some(burst) = self.burst.take() else { return };
        if burst.least < 0 || over && burst.least > PAUSE_MIN {
            self.mono += burst.least;
            self.slot = None;
        }
    }

    /// Learns from an arrival. `measured` is false for media time that was itself made from
    /// arrivals: it says nothing about a rate.
    pub(super) fn observe(&mut self, media: i64, arrival: i64, measured: bool) {
        if measured != self.measured {
            self.measured = measured;
            self.points.clear();
            self.slot = None;
        }
        self.settle(arrival);
        let delay = arrival - self.time_of(media);
        let before = self.last.map_or(delay, |last| last.arrival - self.time_of(last.media));
        self.last = Some(Point { media, arrival });
        match &mut self.burst {
            Some(burst) if delay < burst.least - burst.fall(arrival) => {
                (burst.least, burst.improved) = (delay, arrival);
            }
            Some(_) => {}
            None if delay > FREEZE_MIN && delay - before > FREEZE_MIN => {
                self.burst =
                    Some(Burst { since: arrival, calm: CALM.1, least: delay, improved: arrival });
            }
            None => {}
        }
        self.newest = self.newest.max(media);
        let point = Point { media, arrival };
        let Some((start, least)) = &mut self.slot else {
            self.slot = Some((arrival, point));
            return;
        };
        if arrival - *start < SLOT {
            let of =
                |point: &Point| point.arrival - (point.media as f64 * self.slope).round() as i64;
            if of(&point) <= of(least) {
                *least = point;
            }
            return;
        }
        let closed = *least;
        self.slot = Some((arrival, point));
        if self.drains(closed) {
            return;
        }
        self.points.push_back(closed);
        if self.points.len() > POINTS_MAX {
            self.points.pop_front();
        }
        self.fit();
    }

    /// True when a slot lies in a backlog that is being delivered: it says nothing about the clock.
    fn drains(&mut self, closed: Point) -> bool {
        let delay = |point: Point| point.arrival - self.time_of(point.media);
        let falls = self.closed.is_some_and(|last| delay(last) - delay(closed) > DRAINING);
        let drains = falls && delay(closed) > FREEZE_MIN;
        self.closed = Some(closed);
        drains
    }

    /// Monotonic time of a frame that arrived at `arrival`: never later than that. An arrival
    /// before the line moves the line, if `learn`.
    pub(super) fn place(&mut self, media: i64, arrival: i64, learn: bool) -> i64 {
        let at = self.time_of(media);
        if at > arrival && learn && self.burst.is_none() {
            self.mono -= at - arrival;
        }
        at.min(arrival)
    }

    /// Estimates rate and offset again from the points.
    fn fit(&mut self) {
        let mut found = self.consensus();
        if !self.measured {
            (self.rate, found) = (1.0, None);
        } else if self.changed(found) {
            let old = self.points.len() - RECENT;
            self.points.drain(..old);
            found = self.consensus();
        }
        if let Some((rate, span)) = found {
            let explained = (rate - 1.0).abs() * span as f64 <= NOISE;
            self.rate = if explained { 1.0 } else { rate };
        }
        self.mono = self.time_of(self.newest);
        self.media = self.newest;
        self.slope = self.rate;
        if self.burst.is_some() {
            return;
        }
        let late = self.late();
        if late >= LEAP_MIN {
            self.mono += late;
        } else if late > LATE_MIN {
            self.slope += (late as f64 / SLEW.0).min(SLEW.1) * self.rate;
        }
    }

    /// Delay of all newest slots, microseconds; 0 while a backlog is being delivered.
    fn late(&self) -> i64 {
        let recent = self.points.iter().rev().take(RECENT);
        let delays: Vec<i64> = recent.map(|p| p.arrival - self.time_of(p.media)).collect();
        let (Some(newest), Some(oldest)) = (delays.first(), delays.last()) else { return 0 };
        let draining = oldest - newest > DRAINING;
        if draining || delays.len() < RECENT {
            return 0;
        }
        delays.iter().copied().min().unwrap_or(0).max(0)
    }

    /// True when the newest slots lie on one side of the line that most slots support: the rate
    /// changed. A backlog lies above it and falls.
    fn changed(&self, found: Option<(f64, i64)>) -> bool {
        let Some((rate, _)) = found else { return false };
        if self.points.len() < 2 * RECENT {
            return false;
        }
        let base = self.points[0];
        let height = |p: &Point| {
            p.arrival - base.arrival - ((p.media - base.media) as f64 * rate).round() as i64
        };
        let old = self.points.len() - RECENT;
        let mut before: Vec<i64> = self.points.iter().take(old).map(height).collect();
        before.sort_unstable();
        let line = before[before.len() / 2];
        let now: Vec<i64> = self.points.iter().skip(old).map(height).collect();
        let below = now.iter().all(|h| *h < line - BAND);
        let above = now.iter().all(|h| *h > line + BAND);
        let falling = now[0] - now[RECENT - 1] > DRAINING;
        below || above && !falling
    }

    /// The slope that most slots support, with the span of arrivals that supports it.
    fn consensus(&self) -> Option<(f64, i64)> {
        let mut best: Option<(usize, i64, f64)> = None;
        let points: Vec<Point> = self.points.iter().copied().collect();
        for (i, from) in points.iter().enumerate() {
            for to in &points[i + 1..] {
                let span = to.arrival - from.arrival;
                let (low, high) = if span >= SPAN_ANY { RATES } else { EARLY_RATES };
                let rate = span as f64 / (to.media - from.media).max(1) as f64;
                if span < SPAN_MIN || !(low..=high).contains(&rate) {
                    continue;
                }
                let on_line = |p: &&Point| {
                    let at = from.arrival + ((p.media - from.media) as f64 * rate).round() as i64;
                    (p.arrival - at).abs() <= BAND
                };
                let support = points.iter().filter(on_line).count();
                if best.is_none_or(|(most, longest, _)| (support, span) > (most, longest)) {
                    best = Some((support, span, rate));
                }
            }
        }
        let (support, span, rate) = best?;
        (support * 2 > points.len() && support >= 4).then_some((rate, span))
    }
}
