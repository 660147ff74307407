//! The timeline: maps RTP media time to our clocks.
//!
//! Arrival times jitter with the network; media time does not, but its origin is unknown and
//! cameras report it wrongly. Therefore stamps are made continuous ([`super::stamp_repair`]), the
//! least-delayed arrivals give offset and rate of the camera's clock ([`super::clock_ruler`]), and
//! the stream gets the presentation times of the corrected ruler: they are capture times on the
//! monotonic clock, so a file lasts as long as what it shows.
//!
//! Callers use [`super::frame_clock`], which also holds frames back while a burst arrives.

use std::collections::VecDeque;

use super::clock_belief::{ClockBelief, ClockReport};
use super::clock_ruler::ClockRuler;
use super::quirk::{Quirk, QuirkCounts};
use super::stamp_repair::{Repaired, Source, StampFault, StampRepair};
use crate::units::{MonoTime, Timestamp};

/// Shortest step between two presentation times, microseconds; leaves room for B-frames between.
const STEP_MIN: i64 = 1_000;
/// Difference of the camera's spacing and the corrected time up to which the spacing is kept,
/// microseconds: players take steps that differ from the frame rate for disorder.
const SPACING_KEPT: i64 = 100_000;
/// Correction backwards that is spread over the next frames, microseconds: each step is shorter
/// than usual by a tenth at most, because players take shorter ones for disorder.
const SPREAD_MAX: i64 = 500_000;
/// Longest step that is a spacing, microseconds; a longer one is a pause.
const SPACING_MAX: i64 = 2_000_000;
/// Rate error up to which the camera's spacing is kept as it is: clocks of cameras have 0.01 %.
const RATE_KEPT: f64 = 0.001;
/// Presentation times that are remembered to place B-frames: the 16 reference pictures of H.264.
const RECENT_MAX: usize = 17;

/// The times of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Capture time on our clocks: not after the arrival, and never backwards except for B-frames.
    pub at: Timestamp,
    /// Presentation time, microseconds of the monotonic clock: that of `at`, but strictly rising
    /// except for B-frames, which lie between their neighbours.
    pub pts: i64,
    /// The frame starts a new run: it is the first of its session.
    pub new_run: bool,
}

/// A frame whose stamp is repaired and whose arrival is learned, but which has no time yet.
#[derive(Debug, Clone, Copy)]
pub struct Observed {
    repaired: Repaired,
    arrival: Timestamp,
    new_run: bool,
}

/// The mapping of one track.
#[derive(Debug, Default)]
pub struct Timeline {
    session: Option<(StampRepair, ClockRuler)>,
    /// Repair and rate of the session before; `None` before the first.
    before: Option<(StampRepair, f64)>,
    /// Highest presentation time so far, over all sessions.
    last: i64,
    last_at: i64,
    /// Media time and presentation time of recent frames of this session.
    recent: VecDeque<(i64, i64)>,
    belief: ClockBelief,
    quirks: QuirkCounts,
}

impl Timeline {
    /// Starts another session of the same camera: its stamps start anywhere, its rate
    /// and intervals are kept, and
    /// capture time does not go back.
    pub fn restart(&mut self) {
        if let Some((repair, ruler)) = self.session.take() {
            self.before = Some((repair, ruler.rate()));
        }
        self.recent.clear();
        self.quirks = QuirkCounts::default();
    }

    /// Deviations of the stamps of this session.
    pub fn quirks(&self) -> &QuirkCounts {
        &self.quirks
    }

    /// Maps a frame with presentation stamp `stamp` (microseconds, unwrapped) that arrived at
    /// `arrival`. `key` is true for a frame that starts a GOP.
    pub fn map(&mut self, stamp: i64, arrival: Timestamp, key: bool) -> Placed {
        let observed = self.observe(stamp, arrival, key);
        self.place(observed)
    }

    /// Repairs the stamp of a frame and learns from its arrival. All frames must be observed and
    /// placed in the order of their arrival.
    pub fn observe(&mut self, stamp: i64, arrival: Timestamp, key: bool) -> Observed {
        let micros = arrival.mono.0 as i64;
        let Some((repair, ruler)) = &mut self.session else {
            let (repair, rate) = match self.before.take() {
                Some((repair, rate)) => (repair.restart(stamp, micros), rate),
                None => (StampRepair::new(stamp, micros), 1.0),
            };
            self.session = Some((repair, ClockRuler::new(0, micros, rate)));
            let repaired =
                Repaired { media: 0, reordered: false, source: Source::Camera, fault: None };
            return Observed { repaired, arrival, new_run: true };
        };
        ruler.settle(micros);
        let repaired = repair.repair(stamp, micros, key, ruler);
        if repaired.source != Source::Place {
            ruler.observe(repaired.media, micros, repaired.source == Source::Camera);
        }
        let quirk = match repaired.fault {
            Some(StampFault::Repeated) => Some(Quirk::RepeatedStamps),
            Some(StampFault::Frozen) => Some(Quirk::FrozenStamps),
            Some(_) => Some(Quirk::JumpingStamps),
            None => None,
        };
        quirk.into_iter().for_each(|quirk| _ = self.quirks.note(quirk));
        self.belief.learn(micros, repaired.fault, ruler.rate());
        Observed { repaired, arrival, new_run: false }
    }

    /// True while a burst may be arriving: a frame is placed better when it ended. `now` is the
    /// current time.
    pub fn in_burst(&mut self, now: Timestamp) -> bool {
        self.session.as_mut().is_some_and(|(_, ruler)| {
            ruler.settle(now.mono.0 as i64);
            ruler.in_burst()
        })
    }

    /// Ends the wait for the end of a burst.
    pub fn end_burst(&mut self) {
        if let Some((_, ruler)) = &mut self.session {
            ruler.end_burst(false);
        }
    }

    /// Places an observed frame.
    pub fn place(&mut self, observed: Observed) -> Placed {
        let Observed { repaired, arrival, new_run } = observed;
        let Repaired { media, reordered, .. } = repaired;
        let micros = arrival.mono.0 as i64;
        let between = if reordered { self.between(media) } else { None };
        let wanted = match &mut self.session {
            Some((_, ruler)) => ruler.place(media, micros, repaired.source != Source::Place),
            None => micros,
        };
        let spaced = (repaired.source == Source::Camera && !new_run)
            .then(|| self.spaced(media))
            .flatten()
            .filter(|spaced| (spaced - wanted).abs() <= SPACING_KEPT);
        let next = || match spaced {
            Some(spaced) => spaced.max(self.last + STEP_MIN),
            None => self.spread(wanted).max(self.last + STEP_MIN),
        };
        let pts = between.unwrap_or_else(next);
        self.last = self.last.max(pts);
        self.recent.push_back((media, pts));
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
        let mut at = pts.min(micros).max(0);
        if between.is_none() {
            at = at.max(self.last_at).min(micros);
            self.last_at = at;
        }
        Placed { at: arrival.at(MonoTime(at as u64)), pts, new_run }
    }

    /// The wanted time, or a later one where the step to it would be too short.
    fn spread(&self, wanted: i64) -> i64 {
        let usual =
            |(repair, ruler): &(StampRepair, ClockRuler)| repair.shortest_step(ruler.rate());
        let shortest = self.last + self.session.as_ref().map_or(0, usual) * 9 / 10;
        let late = shortest - wanted;
        if (1..=SPREAD_MAX).contains(&late) { shortest } else { wanted }
    }

    /// Presentation time at the camera's own distance from the last frame.
    fn spaced(&self, media: i64) -> Option<i64> {
        let (last, pts) = self.recent.iter().max()?;
        let step = media - last;
        let rate = self.session.as_ref().map_or(1.0, |(_, ruler)| ruler.rate());
        let rate = if (rate - 1.0).abs() < RATE_KEPT { 1.0 } else { rate };
        (1..=SPACING_MAX).contains(&step).then(|| pts + (step as f64 * rate).round() as i64)
    }

    /// Presentation time of a B-frame, in the place between its neighbours that its stamp gives it.
    fn between(&self, media: i64) -> Option<i64> {
        let before = self.recent.iter().filter(|(other, _)| *other <= media).max()?;
        let behind = self.recent.iter().filter(|(other, _)| *other > media).min()?;
        let (from, to) = (before.1, behind.1);
        let part = match media - before.0 {
            // It has the stamp of the frame before.
            0 => 0.5,
            off => off as f64 / (behind.0 - before.0) as f64,
        };
        let pts = from + ((to - from) as f64 * part).round() as i64;
        (to - from >= 2).then(|| pts.clamp(from + 1, to - 1))
    }

    /// Usual time between two frames, microseconds.
    pub(super) fn usual_step(&self) -> i64 {
        self.session.as_ref().map_or(0, |(repair, ruler)| repair.usual_step(ruler.rate()))
    }

    /// A change in whether the stamps can be trusted, once.
    pub fn report(&mut self) -> Option<ClockReport> {
        self.belief.report()
    }
}
