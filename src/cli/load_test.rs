//! Load test: a real agent with injected motion, up to a hundred events a second.
#![expect(clippy::disallowed_methods, reason = "shell: waits, starts a thread or task")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::run::{on_signal, runtime};
use crate::agent::{AgentInput, runtime};
use crate::analytics::{AnalyticsUpdate, MotionPhase, MotionUpdate};
use crate::clock::{Clock, SystemClock};
use crate::escape::shown_path;
use crate::settings::load;
use crate::settings::rules::RulePriority;
use crate::units::Timestamp;
use crate::wakeup::WakeupCoalescer;

/// Delay for the camera to start, so that the first clips have footage.
const AFTER: Duration = Duration::from_secs(4);
/// Interval of events with a snapshot, and its size in bytes.
const STILL_EVERY: u64 = 4;
const STILL: usize = 20_000;

/// Injected motion.
#[derive(Debug, Clone, Copy)]
pub struct LoadTest {
    /// Motion updates a second.
    pub rate: u64,
    /// Updates between start and end of each event.
    pub updates: u64,
    /// Number of events.
    pub motions: u64,
}

/// Runs the agent of a configuration with injected motion until a signal.
///
/// # Errors
/// As `taimat run`. A bad configuration gives exit code 2.
pub fn run(config: &Path, show: LoadTest) -> anyhow::Result<ExitCode> {
    let settings = match load::load(config) {
        Ok(settings) => settings,
        Err(problems) => {
            eprintln!("{}: {} problem(s)\n{problems}", shown_path(config), problems.0.len());
            return Ok(ExitCode::from(2));
        }
    };
    let runtime = runtime().build()?;
    let outcome = runtime.block_on(async {
        let (stop, clock) = (on_signal()?, Arc::new(SystemClock::new()));
        let time = clock.clone();
        runtime::run_with_inputs(
            settings,
            None,
            clock,
            WakeupCoalescer::default(),
            stop,
            move |inbox| _ = tokio::spawn(play(show, time, inbox)),
        )
        .await
    });
    runtime.shutdown_background();
    outcome.map(|_| ExitCode::SUCCESS)
}

async fn play(show: LoadTest, clock: Arc<SystemClock>, inbox: mpsc::Sender<AgentInput>) {
    tokio::time::sleep(AFTER).await;
    let step = Duration::from_micros(1_000_000 / show.rate.max(1));
    for number in 1..=show.motions {
        let began = clock.now();
        for update in 0..=show.updates + 1 {
            let phase = match update {
                0 => MotionPhase::Start,
                n if n <= show.updates => MotionPhase::Update,
                _ => MotionPhase::End,
            };
            let told = AnalyticsUpdate::Motion(motion(number, phase, clock.now(), began));
            if inbox.send(AgentInput::Analytics(told)).await.is_err() {
                return;
            }
            tokio::time::sleep(step).await;
        }
        if number.is_multiple_of(STILL_EVERY) {
            let still = AnalyticsUpdate::Snapshot {
                event_no: number,
                at: began,
                jpeg: vec![number as u8; STILL],
            };
            let _ = inbox.send(AgentInput::Analytics(still)).await.is_ok();
        }
    }
}

fn motion(motion: u64, phase: MotionPhase, at: Timestamp, began: Timestamp) -> MotionUpdate {
    let (zones, place) = (vec!["road".to_owned()], [0.1, 0.2, 0.3, 0.4]);
    let (direction, score, tracks, suppressed, continued_from) = (Some(90.0), 0.5, 1, 0, None);
    let (rule, clip, priority) = ("motion".to_owned(), true, RulePriority::Normal);
    MotionUpdate {
        event_no: motion,
        phase,
        at,
        started_at: began,
        rule,
        clip,
        priority,
        zones,
        direction,
        bbox: place,
        score,
        tracks,
        suppressed,
        continued_from,
    }
}
