//! ⇄ The analytics thread: takes access units, hands them to the analyzer, and measures what that costs.
//!
//! What belongs here: the loop, clocks and thermometers, noticing blindness. What does not: what is decoded ([`crate::analytics::decode::scheduler`]),
//! judging pictures ([`super::detector`]).

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::AnalyticsUpdate;
use super::params::BLIND_AFTER;
use crate::analytics::decode::load_governor::AnalysisRate;
use crate::analytics::decode::scheduler::Analyzer;
use crate::analytics::detect::stages::Stages;
use crate::camera::StreamRole;
use crate::clock::Clock;
use crate::frame_queue::{FrameReceiver, Received};
use crate::settings::MotionSettings;
use crate::units::Timestamp;
use crate::watchdog::Heartbeat;

/// How long to wait for a frame before looking at the clock.
const IDLE: Duration = Duration::from_millis(500);
/// Microseconds between counters.
const COUNTS_EVERY: u64 = 30_000_000;
/// Microseconds between looks at the thermometer: a board warms up in minutes.
const TEMPERATURE_EVERY: u64 = 10_000_000;
/// Thermal zones looked at, at most.
const ZONES_MAX: usize = 16;

/// What may be asked of the thread.
#[derive(Debug, Clone, PartialEq)]
pub enum AnalyticsRequest {
    /// Go on with other settings.
    Settings(MotionSettings),
    /// A picture, answered by [`AnalyticsUpdate::Glance`].
    Glance {
        /// The command that asks.
        req_id: String,
    },
    /// End after closing what is open.
    Stop,
}

struct AnalyticsThread {
    enabled: bool,
    analyzer: Analyzer,
    role: StreamRole,
    next_counts: u64,
    next_temperature: u64,
    /// Since when nothing has been seen, as far as this thread knows.
    waiting_since: Option<Timestamp>,
    /// When it went blind was reported.
    blind: bool,
    /// Where its pictures come from, as last reported.
    source: &'static str,
}

/// Starts the thread. It ends on [`AnalyticsRequest::Stop`] or when every sender of the lane is gone.
///
/// # Errors
/// When the operating system gives no thread.
pub fn start(
    settings: MotionSettings,
    still_max: usize,
    clock: Arc<dyn Clock>,
    mut lane: FrameReceiver<AnalyticsRequest>,
    heartbeat: Heartbeat,
    update: impl Fn(AnalyticsUpdate) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let mut sight = AnalyticsThread {
        enabled: settings.enabled,
        analyzer: Analyzer::new(settings, still_max, Stages::ALL),
        role: StreamRole::Main,
        next_counts: 0,
        next_temperature: 0,
        waiting_since: None,
        blind: false,
        source: "",
    };
    thread::Builder::new().name("sight".into()).spawn(move || {
        let mut out = Vec::new();
        loop {
            heartbeat.beat();
            let item = lane.next(IDLE);
            let began = clock.now();
            let stop = match item {
                Received::Frame(frame) => {
                    sight.role = frame.role;
                    sight.analyzer.frame(&frame, &mut |_, _, _| (), &mut out);
                    false
                }
                Received::Skipped(skip) => {
                    sight.analyzer.skipped(skip.frames);
                    false
                }
                Received::Quiet => false,
                Received::Order(AnalyticsRequest::Settings(settings)) => {
                    sight.reconfigure(settings, clock.now(), &mut out);
                    false
                }
                Received::Order(AnalyticsRequest::Glance { req_id }) => {
                    sight.analyzer.request_snapshot(req_id, clock.now().mono);
                    false
                }
                Received::Order(AnalyticsRequest::Stop) | Received::Closed => true,
            };
            let now = clock.now();
            sight.measure(now.mono.since(began.mono), now);
            sight.idle(now, &mut out);
            if stop {
                sight.analyzer.finish(now, &mut out);
            }
            out.drain(..).for_each(&update);
            if stop {
                return;
            }
        }
    })
}

impl AnalyticsThread {
    /// Goes on with other settings. Off: what is open ends, and being without pictures is no blindness any more.
    fn reconfigure(&mut self, settings: MotionSettings, now: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        if self.enabled != settings.enabled {
            (self.enabled, self.blind, self.waiting_since) = (settings.enabled, false, Some(now));
        }
        self.analyzer.reconfigure(settings, now, out);
    }

    /// Charges the work of this turn, and tells when the source of its pictures is another.
    fn measure(&mut self, micros: u64, now: Timestamp) {
        let due = now.mono.0 >= self.next_temperature;
        if due {
            self.next_temperature = now.mono.0 + TEMPERATURE_EVERY;
        }
        self.analyzer.charge(micros, if due { temperature() } else { None }, now);
    }

    fn idle(&mut self, now: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        self.analyzer.take_glances(now.mono, out);
        let (last, refusal) = self.analyzer.last_picture();
        let since = last.unwrap_or(*self.waiting_since.get_or_insert(now));
        let seen = last.is_some_and(|last| now.mono.since(last.mono) < BLIND_AFTER);
        if self.enabled && !self.blind && !seen && now.mono.since(since.mono) >= BLIND_AFTER {
            self.blind = true;
            let why = if refusal.is_empty() { "no pictures come" } else { refusal };
            out.push(AnalyticsUpdate::Blind { since, reason: why.to_owned() });
        }
        let source = match (self.analyzer.mode(), self.role) {
            (AnalysisRate::KeyFrames, _) => "key-frames",
            (_, StreamRole::Sub) => "sub",
            (_, StreamRole::Main) => "main",
        };
        if let Some(at) = last.filter(|_| seen && (self.blind || self.source != source)) {
            (self.blind, self.source) = (false, source);
            out.push(AnalyticsUpdate::Seeing { at, source: source.into() });
        }
        if now.mono.0 >= self.next_counts {
            self.next_counts = now.mono.0 + COUNTS_EVERY;
            out.push(AnalyticsUpdate::Counts(Box::new(self.analyzer.counts())));
        }
    }
}

/// The warmest part of the board in degrees Celsius, where it says.
fn temperature() -> Option<u8> {
    let read = |zone: usize| std::fs::read_to_string(format!("/sys/class/thermal/thermal_zone{zone}/temp")).ok();
    let degrees = |text: String| text.trim().parse::<i64>().ok().map(|milli| (milli / 1000).clamp(0, 255) as u8);
    (0..ZONES_MAX).map_while(read).filter_map(degrees).max()
}
