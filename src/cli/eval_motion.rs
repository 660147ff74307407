//! ⇄ `taimat eval-motion`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use serde_json::json;

use super::mp4;
use crate::motion::decode::{Decoded, Decoder};
use crate::motion::detector::Detector;
use crate::motion::{Motion, MotionPhase, SightNews};
use crate::settings::MotionSettings;

/// An event found later than this after the true begin is another event, seconds.
const MATCH_WITHIN: f64 = 4.0;

/// Arguments of `taimat eval-motion`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// MP4 files with H.264 or H.265.
    #[arg(required = true)]
    videos: Vec<PathBuf>,
    /// True events: JSON, an object by file name with lists of [begin, end] in seconds, or of objects with begin/start and end.
    #[arg(long)]
    truth: Option<PathBuf>,
    /// 1 (only the obvious) to 10 (everything that moves).
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=10))]
    sensitivity: u8,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the agent's own detector over files, faster than real time.
///
/// # Errors
/// When a file cannot be read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let truth = match &args.truth {
        Some(path) => serde_json::from_str(&std::fs::read_to_string(path).with_context(|| path.display().to_string())?)
            .with_context(|| path.display().to_string())?,
        None => serde_json::Value::Null,
    };
    let mut rows = Vec::new();
    for video in &args.videos {
        let row = evaluate(video, args.sensitivity, &truth).with_context(|| video.display().to_string())?;
        if !args.json {
            println!(
                "{}: {} events, {} CPU ms per second of video",
                video.display(),
                row["events"].as_array().map_or(0, Vec::len),
                row["ms_per_second"]
            );
            for event in row["events"].as_array().into_iter().flatten() {
                println!(
                    "  {:8.2} to {:8.2} s  direction {:>5}  zones {}",
                    event["begin"].as_f64().unwrap_or(0.0),
                    event["end"].as_f64().unwrap_or(0.0),
                    event["direction"],
                    event["zones"]
                );
            }
            if !row["found"].is_null() {
                println!("  found {}, missed {}, false {}", row["found"], row["missed"], row["false"]);
            }
        }
        rows.push(row);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn evaluate(video: &Path, sensitivity: u8, truth: &serde_json::Value) -> anyhow::Result<serde_json::Value> {
    let bytes = std::fs::read(video)?;
    let frames = mp4::frames(&bytes).map_err(anyhow::Error::msg)?;
    let first = frames.first().context("no frames")?;
    let mut decoder = Decoder::new(first.params.codec).context("no decoder for this codec")?;
    let settings = MotionSettings {
        enabled: true,
        sensitivity,
        fps: 5.0,
        zones: Vec::new(),
        quiet_after: 5_000_000,
        max_event: 120_000_000,
        cooldown: 0,
    };
    let step = (0.95e6 / settings.fps) as u64;
    let mut detector = Detector::new(settings, usize::MAX);
    let (mut news, mut next, mut last, mut refused) = (Vec::new(), 0, first.at, 0_u64);
    let begun = Instant::now();
    for frame in &frames {
        match decoder.decode(frame) {
            Decoded::Picture(picture) if frame.at.mono.0 >= next => {
                next = frame.at.mono.0 + step;
                last = frame.at;
                detector.look(&picture, frame.at, &mut news);
            }
            Decoded::Refused(_) => refused += 1,
            Decoded::Picture(_) | Decoded::Nothing => {}
        }
    }
    detector.finish(last, &mut news);
    let seconds = last.mono.since(first.at.mono) as f64 / 1e6;
    let cost = begun.elapsed().as_secs_f64() * 1000.0 / seconds.max(0.001);
    let second = |mono: u64| (mono as f64 - 1e6) / 1e6;
    let motions: Vec<&Motion> =
        news.iter().filter_map(|news| if let SightNews::Motion(motion) = news { Some(motion) } else { None }).collect();
    let ends: Vec<&&Motion> = motions.iter().filter(|motion| motion.phase == MotionPhase::End).collect();
    let events: Vec<_> = ends
        .iter()
        .map(|end| {
            let start =
                motions.iter().find(|m| m.motion == end.motion && m.phase == MotionPhase::Start).map_or(end.began, |m| m.at);
            json!({"begin": second(end.began.mono.0), "told": second(start.mono.0), "end": second(end.at.mono.0),
                "direction": end.direction.map(f32::round), "zones": end.zones, "score": end.score})
        })
        .collect();
    let scenes = news.iter().filter(|news| matches!(news, SightNews::Scene { .. })).count();
    let mut row = json!({"file": video.display().to_string(), "seconds": seconds, "frames": frames.len(), "refused": refused,
        "ms_per_second": (cost * 10.0).round() / 10.0, "scene_changes": scenes, "events": events});
    let name = video.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = video.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(spans) = spans(&truth[&name]).or_else(|| spans(&truth[&stem])).or_else(|| spans(truth)) {
        compare(&mut row, &spans);
    }
    Ok(row)
}

/// The true events in seconds.
fn spans(value: &serde_json::Value) -> Option<Vec<(f64, f64)>> {
    let list = value.as_array().or_else(|| value.get("events")?.as_array()).or_else(|| value.get("true_events_s")?.as_array())?;
    let span = |event: &serde_json::Value| {
        let pick = |names: [&str; 3], at: usize| {
            names.iter().find_map(|name| event.get(name)?.as_f64()).or_else(|| event.get(at)?.as_f64())
        };
        Some((pick(["begin", "start", "from"], 0)?, pick(["end", "stop", "to"], 1)?))
    };
    list.iter().map(span).collect()
}

/// Counts what was found, missed and false: an event is found when one overlaps it, up to a little late.
fn compare(row: &mut serde_json::Value, spans: &[(f64, f64)]) {
    let events: Vec<(f64, f64)> = row["events"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|event| Some((event["begin"].as_f64()?, event["end"].as_f64()?)))
        .collect();
    let touch = |event: &(f64, f64), span: &(f64, f64)| event.0 <= span.1 + MATCH_WITHIN && event.1 >= span.0 - 1.0;
    let found = spans.iter().filter(|span| events.iter().any(|event| touch(event, span))).count();
    let wrong = events.iter().filter(|event| !spans.iter().any(|span| touch(event, span))).count();
    row["found"] = json!(found);
    row["missed"] = json!(spans.len() - found);
    row["false"] = json!(wrong);
}
