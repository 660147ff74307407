//! Adapter of measured detectors: it gets access units or pictures and writes events into a
//! [`Log`].
//!
//! The agent's analyzer is one; tests and benches have others.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

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

/// One input of a detector.
pub enum Unit {
    /// An access unit.
    Coded(Arc<Frame>),
    /// A picture decoded by ffmpeg.
    Plain(Box<Picture>, Timestamp),
}

impl Unit {
    fn at(&self) -> Timestamp {
        match self {
            Unit::Coded(frame) => frame.at,
            Unit::Plain(_, at) => *at,
        }
    }

    /// Time in the video, seconds.
    pub fn seconds(&self) -> f64 {
        second(self.at())
    }
}

/// Time in the video, seconds: media time counts from 1 s.
pub fn second(at: Timestamp) -> f64 {
    (at.mono.0 as f64 - 1e6) / 1e6
}

/// CPU time of this thread, microseconds.
pub fn cpu_micros() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0) / 1000
}

/// A measured detector.
pub trait Adapter {
    /// Processes the next unit.
    fn take(&mut self, unit: &Unit, log: &mut Log);
    /// Ends the video.
    fn finish(&mut self, log: &mut Log);
    /// Further values for the output.
    fn notes(&self) -> Value {
        Value::Null
    }
}

/// A reported event; times in seconds of the video.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportedEvent {
    /// The detector's event number.
    pub id: u64,
    /// Start of the motion.
    pub began: f64,
    /// Time of the unit with which it was reported.
    pub told: f64,
    /// End of the event.
    pub end: f64,
    /// Further values for the output.
    pub words: String,
}

/// Output of a detector.
pub struct Log {
    /// Time of the current unit, seconds.
    pub now: f64,
    /// Events in the order of their reports.
    pub events: Vec<ReportedEvent>,
    /// Scene changes.
    pub scenes: Vec<(f64, String)>,
    /// Right and wrong cells so far.
    pub cells: Cells,
    /// CPU time of the measurement inside [`Adapter::take`], microseconds.
    pub beside: u64,
    times: Vec<u64>,
    masks: Option<Masks>,
    overlay: Option<Overlay>,
}

impl Log {
    /// An empty log of a video with pictures at these monotonic times, microseconds.
    pub fn new(times: Vec<u64>, masks: Option<Masks>, overlay: Option<Overlay>) -> Log {
        let cells = Cells::default();
        Log {
            now: 0.0,
            events: Vec::new(),
            scenes: Vec::new(),
            cells,
            beside: 0,
            times,
            masks,
            overlay,
        }
    }

    /// Reports the start of an event.
    pub fn start_event(&mut self, id: u64, began: f64) {
        self.events.push(ReportedEvent {
            id,
            began,
            told: self.now,
            end: f64::INFINITY,
            words: String::new(),
        });
    }

    /// Reports the end of an event.
    pub fn end(&mut self, id: u64, end: f64, words: String) {
        if let Some(event) = self.events.iter_mut().find(|event| event.id == id) {
            event.end = end;
            event.words = words;
        }
    }

    /// Continues an event under another number.
    pub fn rename(&mut self, before: u64, id: u64) {
        if let Some(event) = self.events.iter_mut().find(|event| event.id == before) {
            event.id = id;
            event.end = f64::INFINITY;
        }
    }

    /// Compares the moving cells of a picture with its mask.
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
    /// The agent's analyzer without some stages.
    pub fn new(settings: MotionSettings, stages: Stages) -> OwnDetector {
        OwnDetector {
            analyzer: Analyzer::new(settings, usize::MAX, stages),
            last: Timestamp::default(),
        }
    }

    fn record(update: Vec<AnalyticsUpdate>, log: &mut Log) {
        for item in update {
            match item {
                AnalyticsUpdate::Motion(motion) => match (motion.phase, motion.continued_from) {
                    (MotionPhase::Start, Some(before)) => log.rename(before, motion.event_no),
                    (MotionPhase::Start, None) => {
                        log.start_event(motion.event_no, second(motion.started_at))
                    }
                    (MotionPhase::Update, _) => {}
                    (MotionPhase::End, _) => {
                        let direction =
                            motion.direction.map_or("?".into(), |degrees| format!("{degrees:.0}"));
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
                AnalyticsUpdate::Scene { change, at } => {
                    log.scenes.push((second(at), change.as_str().into()))
                }
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
        let mut look =
            |detector: &crate::analytics::detector::Detector, picture: &Picture, at: Timestamp| {
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
            Unit::Plain(picture, at) => {
                self.analyzer.show(picture.clone(), *at, &mut look, &mut update)
            }
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
        let lines: Vec<Value> = counts
            .lines
            .iter()
            .map(|line| json!({"rule": line.rule, "left": line.left, "right": line.right}))
            .collect();
        json!({"decoded": counts.decoded, "analysed": counts.analysed, "refused": counts.failed, "wakes": counts.wakes,
            "suppressed": suppressed, "lines": lines})
    }
}
