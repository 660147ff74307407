//! ⇄ What is measured. A [`Adapter`] takes access units or pictures and says in a [`Log`] what it sees; ours is the agent's analyzer, and
//! tests and benches bring others.
//!
//! What belongs here: the seam between watchers and the harness. What does not: scores.

use std::sync::Arc;

use serde_json::{Value, json};

use super::masks::{Cells, Masks};
use super::overlay::Overlay;
use crate::analytics::decode::scheduler::Analyzer;
use crate::analytics::detect::picture::{Grid, Picture};
use crate::analytics::detect::stages::Stages;
use crate::analytics::{AnalyticsUpdate, MotionPhase, SUPPRESS_REASONS};
use crate::camera::Frame;
use crate::settings::MotionSettings;
use crate::units::Timestamp;

/// One thing to look at.
pub enum Unit {
    /// An access unit.
    Coded(Arc<Frame>),
    /// A picture that somebody else has decoded.
    Plain(Box<Picture>, Timestamp),
}

impl Unit {
    fn at(&self) -> Timestamp {
        match self {
            Unit::Coded(frame) => frame.at,
            Unit::Plain(_, at) => *at,
        }
    }

    /// Second of the video.
    pub fn seconds(&self) -> f64 {
        second(self.at())
    }
}

/// Second of the video: media time counts from 1 s.
pub fn second(at: Timestamp) -> f64 {
    (at.mono.0 as f64 - 1e6) / 1e6
}

/// Microseconds of CPU this thread has used.
pub fn cpu_micros() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0) / 1000
}

/// Something that watches.
pub trait Adapter {
    /// Takes the next unit.
    fn take(&mut self, unit: &Unit, log: &mut Log);
    /// There are no more.
    fn finish(&mut self, log: &mut Log);
    /// What else is worth printing.
    fn notes(&self) -> Value {
        Value::Null
    }
}

/// An event as a watcher reported it; seconds of the video.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportedEvent {
    /// The watcher's number of it.
    pub id: u64,
    /// When the motion began.
    pub began: f64,
    /// The unit that had come last when it was reported.
    pub told: f64,
    /// When it ended.
    pub end: f64,
    /// What else was said.
    pub words: String,
}

/// What a watcher said.
pub struct Log {
    /// Second of the unit that is being taken.
    pub now: f64,
    /// Events in the order they were reported.
    pub events: Vec<ReportedEvent>,
    /// Changes of the scene.
    pub scenes: Vec<(f64, String)>,
    /// Cells right and wrong so far.
    pub cells: Cells,
    /// Microseconds of CPU that measuring has taken inside of [`Adapter::take`].
    pub beside: u64,
    times: Vec<u64>,
    masks: Option<Masks>,
    overlay: Option<Overlay>,
}

impl Log {
    /// An empty log of a video with pictures at these monotonic microseconds.
    pub fn new(times: Vec<u64>, masks: Option<Masks>, overlay: Option<Overlay>) -> Log {
        let cells = Cells::default();
        Log { now: 0.0, events: Vec::new(), scenes: Vec::new(), cells, beside: 0, times, masks, overlay }
    }

    /// An event began, and is reported now.
    pub fn start_event(&mut self, id: u64, began: f64) {
        self.events.push(ReportedEvent { id, began, told: self.now, end: f64::INFINITY, words: String::new() });
    }

    /// It ended.
    pub fn end(&mut self, id: u64, end: f64, words: String) {
        if let Some(event) = self.events.iter_mut().find(|event| event.id == id) {
            (event.end, event.words) = (end, words);
        }
    }

    /// An event goes on under another number.
    pub fn rename(&mut self, before: u64, id: u64) {
        if let Some(event) = self.events.iter_mut().find(|event| event.id == before) {
            (event.id, event.end) = (id, f64::INFINITY);
        }
    }

    /// What moves in a picture, in cells.
    pub fn mask(&mut self, grid: Grid, moving: &[bool], at: Timestamp) {
        let started = cpu_micros();
        if let (Some(masks), Ok(index)) = (&self.masks, self.times.binary_search(&at.mono.0)) {
            masks.compare(index + 1, grid, moving, &mut self.cells);
        }
        self.beside += cpu_micros().saturating_sub(started);
    }
}

/// The agent's analyzer.
pub struct OwnDetector {
    analyzer: Analyzer,
    last: Timestamp,
}

impl OwnDetector {
    /// As the agent would have it, but for stages that are left out.
    pub fn new(settings: MotionSettings, stages: Stages) -> OwnDetector {
        OwnDetector { analyzer: Analyzer::new(settings, usize::MAX, stages), last: Timestamp::default() }
    }

    fn record(update: Vec<AnalyticsUpdate>, log: &mut Log) {
        for item in update {
            match item {
                AnalyticsUpdate::Motion(motion) => match (motion.phase, motion.continued_from) {
                    (MotionPhase::Start, Some(before)) => log.rename(before, motion.event_no),
                    (MotionPhase::Start, None) => log.start_event(motion.event_no, second(motion.started_at)),
                    (MotionPhase::Update, _) => {}
                    (MotionPhase::End, _) => {
                        let direction = motion.direction.map_or("?".into(), |degrees| format!("{degrees:.0}"));
                        let words = format!(
                            "{} in {}, direction {direction}, {} things, score {:.2}",
                            motion.rule,
                            motion.zones.join(" "),
                            motion.tracks,
                            motion.score
                        );
                        log.end(motion.event_no, second(motion.at), words);
                    }
                },
                AnalyticsUpdate::Scene { change, at } => log.scenes.push((second(at), change.as_str().into())),
                AnalyticsUpdate::Snapshot { .. }
                | AnalyticsUpdate::RequestedSnapshot { .. }
                | AnalyticsUpdate::Unavailable { .. }
                | AnalyticsUpdate::Available { .. }
                | AnalyticsUpdate::Counts(_) => {}
            }
        }
    }
}

impl Adapter for OwnDetector {
    fn take(&mut self, unit: &Unit, log: &mut Log) {
        let mut update = Vec::new();
        let mut look = |detector: &crate::analytics::detector::Detector, picture: &Picture, at: Timestamp| {
            if let Some((grid, mask)) = detector.mask() {
                log.mask(grid, mask, at);
            }
            let started = cpu_micros();
            if let Some(overlay) = &mut log.overlay {
                overlay.draw(detector, picture, at);
            }
            log.beside += cpu_micros().saturating_sub(started);
        };
        match unit {
            Unit::Coded(frame) => self.analyzer.frame(frame, &mut look, &mut update),
            Unit::Plain(picture, at) => self.analyzer.show(picture.clone(), *at, &mut look, &mut update),
        }
        self.last = unit.at();
        OwnDetector::record(update, log);
    }

    fn finish(&mut self, log: &mut Log) {
        let mut update = Vec::new();
        self.analyzer.finish(self.last, &mut update);
        OwnDetector::record(update, log);
        if let Some(overlay) = log.overlay.take() {
            overlay.finish();
        }
    }

    fn notes(&self) -> Value {
        let counts = self.analyzer.counts();
        let suppressed: serde_json::Map<String, Value> = SUPPRESS_REASONS
            .iter()
            .zip(counts.suppressed.0)
            .filter(|(_, n)| *n > 0)
            .map(|(why, n)| ((*why).into(), json!(n)))
            .collect();
        let lines: Vec<Value> =
            counts.lines.iter().map(|line| json!({"rule": line.rule, "left": line.left, "right": line.right})).collect();
        json!({"decoded": counts.decoded, "analysed": counts.analysed, "refused": counts.failed, "wakes": counts.wakes,
            "suppressed": suppressed, "lines": lines})
    }
}
