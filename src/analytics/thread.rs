//! The analytics thread: passes access units to the analyzer and measures their cost.
//!
//! It also reads clocks and thermometers and reports when no pictures arrive.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: starts a thread or task, reads or writes files"
)]

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::AnalyticsUpdate;
use super::params::{LEARNING_MAX, UNAVAILABLE_AFTER};
use crate::analytics::decode::load_governor::AnalysisRate;
use crate::analytics::decode::scheduler::Analyzer;
use crate::analytics::detect::stages::Stages;
use crate::camera::StreamRole;
use crate::clock::Clock;
use crate::frame_queue::{FrameReceiver, Received};
use crate::settings::MotionSettings;
use crate::units::{MonoTime, Timestamp};
use crate::watchdog::Heartbeat;

/// Why nothing is found in pictures that arrive.
const LEARNING: &str = "the shape of the pictures or the whole scene changes again and again, so that it cannot be \
                        learned and no event can start: set one resolution in the camera";
/// Longest wait for a frame before the clock is checked.
const IDLE: Duration = Duration::from_millis(500);
/// Interval of counters.
const COUNTS_INTERVAL: Duration = Duration::from_secs(30);
/// Interval of temperature readings: a board warms up in minutes.
const TEMPERATURE_INTERVAL: Duration = Duration::from_secs(10);
/// Most thermal zones that are read.
const ZONES_MAX: usize = 16;

/// A request to the analytics thread.
#[derive(Debug, Clone, PartialEq)]
pub enum AnalyticsRequest {
    /// Apply other settings.
    Settings(MotionSettings),
    /// Take a snapshot; answered by [`AnalyticsUpdate::RequestedSnapshot`].
    Snapshot {
        /// Id of the command that requests it.
        req_id: String,
    },
    /// End all open events and exit.
    Stop,
}

struct AnalyticsThread {
    enabled: bool,
    analyzer: Analyzer,
    role: StreamRole,
    next_counts: MonoTime,
    next_temperature: MonoTime,
    /// Start of the wait for the first picture.
    waiting_since: Option<Timestamp>,
    /// [`AnalyticsUpdate::Unavailable`] was reported.
    is_unavailable: bool,
    /// The source of the pictures in the last report; empty before the first.
    source: &'static str,
}

/// Starts the thread. It exits on [`AnalyticsRequest::Stop`] or when every sender of the queue is
/// dropped.
///
/// # Errors
/// When the operating system cannot start a thread.
pub fn start(
    settings: MotionSettings,
    snapshot_max: usize,
    clock: Arc<dyn Clock>,
    mut queue: FrameReceiver<AnalyticsRequest>,
    heartbeat: Heartbeat,
    update: impl Fn(AnalyticsUpdate) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let mut analytics = AnalyticsThread {
        enabled: settings.enabled,
        analyzer: Analyzer::new(settings, snapshot_max, Stages::ALL),
        role: StreamRole::Main,
        next_counts: MonoTime::default(),
        next_temperature: MonoTime::default(),
        waiting_since: None,
        is_unavailable: false,
        source: "",
    };
    thread::Builder::new().name("analytics".into()).spawn(move || {
        let mut out = Vec::new();
        loop {
            heartbeat.beat();
            let received = queue.next(IDLE);
            let turn_start = clock.now();
            let stop = match received {
                Received::Frame(frame) => {
                    analytics.role = frame.role;
                    analytics.analyzer.frame(&frame, &mut |_, _, _| (), &mut out);
                    false
                }
                Received::Dropped(dropped) => {
                    analytics.analyzer.dropped(dropped.frames);
                    false
                }
                Received::TimedOut => false,
                Received::Request(AnalyticsRequest::Settings(settings)) => {
                    analytics.reconfigure(settings, clock.now(), &mut out);
                    false
                }
                Received::Request(AnalyticsRequest::Snapshot { req_id }) => {
                    analytics.analyzer.request_snapshot(req_id, clock.now().mono);
                    false
                }
                Received::Request(AnalyticsRequest::Stop) | Received::Closed => true,
            };
            let now = clock.now();
            analytics.measure(now.mono.since(turn_start.mono), now);
            analytics.idle(now, &mut out);
            if stop {
                analytics.analyzer.finish(now, &mut out);
            }
            out.drain(..).for_each(&update);
            if stop {
                return;
            }
        }
    })
}

impl AnalyticsThread {
    /// Applies other settings. Switching analytics off ends open events and clears
    /// [`AnalyticsUpdate::Unavailable`].
    fn reconfigure(
        &mut self,
        settings: MotionSettings,
        now: Timestamp,
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        if self.enabled != settings.enabled {
            self.enabled = settings.enabled;
            self.is_unavailable = false;
            self.waiting_since = Some(now);
        }
        self.analyzer.reconfigure(settings, now, out);
    }

    /// Charges the time of this turn, and the temperature when it is due, to the load governor.
    fn measure(&mut self, micros: u64, now: Timestamp) {
        let due = now.mono >= self.next_temperature;
        if due {
            self.next_temperature = now.mono.plus(TEMPERATURE_INTERVAL);
        }
        self.analyzer.charge(micros, if due { temperature() } else { None }, now);
    }

    fn idle(&mut self, now: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        self.analyzer.take_snapshots(now.mono, out);
        let (last, rejection) = self.analyzer.last_picture();
        let since = last.unwrap_or(*self.waiting_since.get_or_insert(now));
        let seen = last.is_some_and(|last| now.mono.duration_since(last.mono) < UNAVAILABLE_AFTER);
        let learning = self.analyzer.learning_since().filter(|since| {
            self.enabled && seen && now.mono.duration_since(since.mono) >= LEARNING_MAX
        });
        let is_missing = !seen && now.mono.duration_since(since.mono) >= UNAVAILABLE_AFTER;
        if self.enabled && !self.is_unavailable && (is_missing || learning.is_some()) {
            self.is_unavailable = true;
            let why = match (learning, rejection) {
                (Some(_), _) => LEARNING,
                (None, "") => "the camera sends no pictures",
                (None, rejection) => rejection,
            };
            let since = learning.unwrap_or(since);
            out.push(AnalyticsUpdate::Unavailable { since, reason: why.to_owned() });
        }
        let source = match (self.analyzer.rate(), self.role) {
            (AnalysisRate::KeyFrames, _) => "key-frames",
            (_, StreamRole::Sub) => "sub",
            (_, StreamRole::Main) => "main",
        };
        let seen = seen && learning.is_none();
        if let Some(at) = last.filter(|_| seen && (self.is_unavailable || self.source != source)) {
            self.is_unavailable = false;
            self.source = source;
            out.push(AnalyticsUpdate::Available { at, source: source.into() });
        }
        if now.mono >= self.next_counts {
            self.next_counts = now.mono.plus(COUNTS_INTERVAL);
            out.push(AnalyticsUpdate::Counts(Box::new(self.analyzer.counts())));
        }
    }
}

/// The highest temperature of the board in degrees Celsius; `None` on boards without a sensor.
fn temperature() -> Option<u8> {
    let read = |zone: usize| {
        std::fs::read_to_string(format!("/sys/class/thermal/thermal_zone{zone}/temp")).ok()
    };
    let degrees = |text: String| {
        text.trim().parse::<i64>().ok().map(|milli| (milli / 1000).clamp(0, 255) as u8)
    };
    (0..ZONES_MAX).map_while(read).filter_map(degrees).max()
}
