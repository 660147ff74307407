//! Repair of stamps: makes presentation stamps continuous.
//!
//! Cameras set their clock, repeat a stamp, stop it, or send a wrong one. What comes out rises from
//! frame to frame, except for B-frames, and has no steps that arrivals contradict.

use std::collections::VecDeque;

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
/// Time that passed per rise of the stamps, from the start of a session on, that is a clock as good
/// as stopped: stamps in milliseconds rise by a 90th.
const CRAWL: i64 = 8;

/// B-frames in a row: pyramids of eight pictures. More are stamps that went back.
const REORDERED_MAX: u32 = 7;
/// Evidence of B-frames: what one counts, at least for a stream to have some, and at most. Each
/// other frame takes one away.
const B_FRAME: u32 = 4;
const B_FRAMES_MIN: u32 = 16;
const B_FRAMES_MAX: u32 = 64;
/// Frames after which a stream that had no B-frame is known to have none.
const RISES_MIN: u64 = 50;
/// Usual steps by which a stamp may lie before a frame with a time of its own, that took the place
/// of a reference picture with B-frames.
const OVERTAKEN_MAX: i64 = 8;
/// Wait for a frame, beyond the usual interval, after which a burst may follow, microseconds.
const FREEZE: i64 = 1_000_000;
/// Usual intervals without a frame that are a pause of the camera, not jitter.
const PAUSE: i64 = 4;
/// Length of a block of arrivals that gives one measurement of the interval, microseconds, and
/// measurements of which the median counts: a burst or a stall spoils few of them.
const BLOCK: i64 = 5_000_000;
/// Longest wait between frames that arrive together, microseconds: a device reads its sockets in
/// steps of 100 ms.
const TOGETHER: i64 = 10_000;
const BLOCKS_MAX: usize = 9;

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
    /// Where the media time comes from.
    pub(super) source: Source,
    /// What was wrong.
    pub(super) fault: Option<StampFault>,
}

/// Where a media time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The camera's stamp.
    Camera,
    /// The arrival, because the stamps cannot be used: it says nothing about the rate.
    Arrival,
    /// A place beside the frame before: it says nothing about the clock.
    Place,
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
    /// The stamp of the last frame.
    stamp: i64,
    /// Arrival of the highest stamp.
    risen_at: i64,
    /// Highest media time given so far, and the arrival of the last frame.
    top: i64,
    last_arrival: i64,
    /// Usual step of the stamps, and of the arrivals.
    step: i64,
    interval: i64,
    repeats: u32,
    /// The clock had stopped before the latest rise: it stops between all, as one of whole seconds.
    stops: bool,
    /// Rises so far, as long as all of them crawl.
    crawls: Option<u32>,
    /// B-frames since the highest stamp.
    reordered: u32,
    /// Evidence of B-frames, and frames with a higher stamp than all before.
    b_frames: u32,
    rises: u64,
    candidate: Option<Candidate>,
    started: bool,
    /// Frames that arrived together with the last one, with it.
    together: i64,
    blocks: Blocks,
}

impl StampRepair {
    /// A repair that continues media time 0 at its first stamp.
    pub(super) fn new(stamp: i64, arrival: i64) -> StampRepair {
        StampRepair {
            shift: -stamp,
            highest: stamp,
            below: stamp,
            stamp,
            risen_at: arrival,
            top: 0,
            last_arrival: arrival,
            step: STEP,
            interval: STEP,
            repeats: 0,
            stops: false,
            crawls: Some(0),
            reordered: 0,
            b_frames: 0,
            rises: 0,
            candidate: None,
            started: false,
            together: 1,
            blocks: Blocks::default(),
        }
    }

    /// The repair of another session of the same camera, whose intervals are known.
    pub(super) fn restart(self, stamp: i64, arrival: i64) -> StampRepair {
        let StampRepair { step, interval, started, blocks, .. } = self;
        StampRepair { step, interval, started, blocks, ..StampRepair::new(stamp, arrival) }
    }

    /// Usual time between two frames, microseconds; `rate` is monotonic time per media time.
    pub(super) fn usual_step(&self, rate: f64) -> i64 {
        let stopped = self.repeats > REPEATS_MAX || self.stops || !self.started;
        if stopped { self.interval } else { (self.step as f64 * rate).round() as i64 }
    }

    /// Usual time between two frames by their arrivals or by their stamps, the shorter one.
    pub(super) fn shortest_step(&self, rate: f64) -> i64 {
        self.interval.min(self.usual_step(rate))
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
            !key && stamp > self.below && stamp != self.stamp && self.may_reorder()
        } else {
            step == 0 || !self.runs_ahead(stamp, arrival, ruler)
        };
        let repaired = if !normal {
            self.suspicious(stamp, arrival, waited, key, ruler)
        } else if step == 0 {
            self.repeated(arrival, waited, ruler)
        } else if step < 0 {
            self.candidate = None;
            self.reordered += 1;
            let media = stamp + self.shift;
            Repaired { media, reordered: true, source: Source::Camera, fault: None }
        } else {
            self.risen(stamp, arrival, waited, key, ruler)
        };
        self.learn_interval(waited);
        self.stamp = stamp;
        self.top = self.top.max(repaired.media);
        self.last_arrival = arrival;
        repaired
    }

    /// True when a stamp between the two highest may be that of a B-frame: the stream has some, or
    /// is new. Otherwise the clock was set back a little.
    fn may_reorder(&mut self) -> bool {
        self.b_frames = (self.b_frames + B_FRAME).min(B_FRAMES_MAX);
        let known = self.b_frames >= B_FRAMES_MIN || self.rises < RISES_MIN;
        known && self.reordered < REORDERED_MAX
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

    fn risen(
        &mut self,
        stamp: i64,
        arrival: i64,
        waited: i64,
        key: bool,
        ruler: &ClockRuler,
    ) -> Repaired {
        let step = stamp - self.highest;
        // A clock that stopped, or whose place was taken by frames with a time of their own, goes
        // on from here.
        let crawls = self.crawls(step, waited, ruler);
        let stopped = self.repeats > REPEATS_MAX || crawls;
        let behind = self.top - (stamp + self.shift);
        if stopped || behind > SUSPICIOUS.max(OVERTAKEN_MAX * self.step) {
            self.shift = self.media_by_arrival(arrival, waited, ruler) - stamp;
        } else if self.started {
            // Lost frames are no other step.
            let most = self.step / if step > 4 * self.step { 512 } else { 8 };
            self.step += (step - self.step).clamp(-most, most.max(1));
        } else {
            (self.step, self.started) = (step.clamp(STEP_MIN, 1_000_000), true);
        }
        (self.below, self.highest, self.risen_at) = (self.highest, stamp, arrival);
        (self.repeats, self.reordered, self.candidate) = (0, 0, None);
        self.b_frames = self.b_frames.saturating_sub(1);
        self.rises += 1;
        self.stops = stopped;
        let repaired = self.forward(stamp + self.shift, key);
        let fault = crawls.then_some(StampFault::Frozen);
        if stopped { Repaired { source: Source::Arrival, fault, ..repaired } } else { repaired }
    }

    /// True when the stamps have crawled since the session started: one rise that keeps up with the
    /// time, also in a burst, shows that they do not.
    fn crawls(&mut self, step: i64, waited: i64, ruler: &ClockRuler) -> bool {
        let crawls = ruler.media_in(waited) > CRAWL * step;
        self.crawls = self.crawls.filter(|_| crawls).map(|count| count.saturating_add(1));
        self.crawls.is_some_and(|count| count > REPEATS_MAX)
    }

    /// A frame with a stamp that continues. One with a time of its own may have overtaken it: then
    /// it takes its place before that, in a stream with B-frames.
    fn forward(&self, media: i64, key: bool) -> Repaired {
        match media > self.top {
            true => Repaired { media, reordered: false, source: Source::Camera, fault: None },
            false if key || self.b_frames < B_FRAMES_MIN => Repaired {
                media: self.top + STEP_MIN,
                reordered: false,
                source: Source::Place,
                fault: None,
            },
            false => Repaired { media, reordered: true, source: Source::Camera, fault: None },
        }
    }

    fn repeated(&mut self, arrival: i64, waited: i64, ruler: &ClockRuler) -> Repaired {
        self.candidate = None;
        self.repeats += 1;
        if self.repeats <= REPEATS_MAX && !self.stops {
            let left = (self.highest + self.shift + self.step - self.top).max(2 * STEP_MIN);
            let media = self.top + left / 2;
            let (source, fault) = (Source::Place, Some(StampFault::Repeated));
            return Repaired { media, reordered: false, source, fault };
        }
        let media = self.media_by_arrival(arrival, waited, ruler);
        let (source, fault) = (Source::Arrival, Some(StampFault::Frozen));
        Repaired { media, reordered: false, source, fault }
    }

    fn suspicious(
        &mut self,
        stamp: i64,
        arrival: i64,
        waited: i64,
        key: bool,
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
                (self.candidate, self.reordered) = (None, 0);
                let fault = Some(StampFault::Step(size));
                return Repaired { fault, ..self.forward(stamp + shift, key) };
            }
        }
        // The stamps before were good, unless this is one of many. The step of a stream with
        // B-frames is that of its reference pictures.
        let good = self.started && self.candidate.is_none() && self.b_frames < B_FRAMES_MIN;
        let media = match good {
            true => self.top + self.expected_step(self.step, arrival, waited, ruler),
            false => self.media_by_arrival(arrival, waited, ruler),
        };
        let again = self.candidate.replace(Candidate { stamp, media, arrival }).is_some();
        let (source, fault) = match again {
            true => (Source::Arrival, Some(StampFault::Wild)),
            false => (Source::Place, Some(StampFault::Outlier)),
        };
        Repaired { media, reordered: false, source, fault }
    }

    /// Media time of a frame whose stamp says nothing: the usual interval of arrivals behind the
    /// frame before.
    fn media_by_arrival(&self, arrival: i64, waited: i64, ruler: &ClockRuler) -> i64 {
        self.top + self.expected_step(ruler.media_in(self.interval), arrival, waited, ruler)
    }

    /// Media time from the frame before to a frame without a usable stamp: the usual one, so that
    /// jitter and bursts do not reach it. After a pause it is what passed, not beyond the arrival;
    /// after a freeze a burst may follow.
    fn expected_step(&self, usual: i64, arrival: i64, waited: i64, ruler: &ClockRuler) -> i64 {
        let frozen = waited > FREEZE + self.interval;
        let passed = ruler.media_in(waited);
        if frozen || passed <= PAUSE * usual || ruler.at_start() {
            return usual.max(STEP_MIN);
        }
        let room = ruler.media_in(arrival - ruler.time_of(self.top));
        passed.min(room).max(STEP_MIN)
    }

    /// Measures the interval of arrivals. Before the first block a wait counts for all frames that
    /// arrived together before it.
    fn learn_interval(&mut self, waited: i64) {
        let arrived = std::mem::replace(&mut self.together, 1);
        match self.blocks.learn(waited, self.interval) {
            Some(median) => self.interval = median.max(STEP_MIN),
            None if waited < TOGETHER => self.together = arrived + 1,
            None if self.blocks.measured.is_empty() => {
                let most = self.interval / 16;
                self.interval += (waited / arrived - self.interval).clamp(-most, most);
                self.interval = self.interval.max(STEP_MIN);
            }
            None => {}
        }
    }
}

/// Measurements of the interval between arrivals.
#[derive(Debug, Default)]
struct Blocks {
    /// Time and frames of the current block.
    time: i64,
    frames: i64,
    measured: VecDeque<i64>,
}

impl Blocks {
    /// Adds a wait. Returns the median of the measurements when there is another one.
    fn learn(&mut self, waited: i64, usual: i64) -> Option<i64> {
        if waited > FREEZE + usual {
            (self.time, self.frames) = (0, 0);
            return None;
        }
        self.time += waited;
        self.frames += 1;
        if self.time < BLOCK {
            return None;
        }
        self.measured.push_back(self.time / self.frames);
        (self.time, self.frames) = (0, 0);
        if self.measured.len() > BLOCKS_MAX {
            self.measured.pop_front();
        }
        let mut sorted: Vec<i64> = self.measured.iter().copied().collect();
        sorted.sort_unstable();
        Some(sorted[sorted.len() / 2])
    }
}
