//! `taimat eval-motion`: runs the agent's detector on files, and compares it with ground truth.
//!
//! * [`source`]: files and drawn scenes as access units or pictures.
//! * [`masks`]: true masks. [`score`]: found, missed, false events.
//! * [`adapter`]: interface of measured detectors. `report`: tables. [`overlay`]: annotated
//!   video.
//!
//! What belongs here: measurement. What does not: detection ([`crate::analytics`]).
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

pub(crate) mod masks;
pub(crate) mod overlay;
pub mod report;
pub(crate) mod score;
pub mod source;
pub mod adapter;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use self::adapter::{Adapter, Log, OwnDetector};
use self::overlay::Overlay;
use self::report::{Row, Total};
use self::source::Source;
#[cfg(feature = "sim")]
use crate::analytics::detect::stages::Stage;
use crate::analytics::detect::stages::Stages;
use crate::escape::shown_path;
use crate::regular_file::{Links, read_text};
use crate::settings::MotionSettings;
#[cfg(feature = "sim")]
use crate::sim::scene::Disturbance;

/// Bytes of a file of labels at most.
const LABELS_MAX: u64 = 64 << 20;

/// Arguments of `taimat eval-motion`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Videos or directories: H.264 and H.265 in MP4 or as elementary streams; other formats
    /// through ffmpeg. labels.json and groundtruth/ beside a video are its truth and masks unless
    /// others are given.
    videos: Vec<PathBuf>,
    /// True events: JSON, by file name or for all files, lists of [start, end] in seconds.
    #[arg(long)]
    truth: Option<PathBuf>,
    /// True masks: a directory of PNG files whose numbers count pictures from 1, with the values of
    /// CDnet 2014.
    #[arg(long)]
    masks: Option<PathBuf>,
    /// Sensitivity, 1 (only the obvious) to 10 (everything that moves).
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=10))]
    sensitivity: u8,
    /// A configuration file; its section `motion` is used.
    #[arg(long, conflicts_with = "sensitivity")]
    config: Option<PathBuf>,
    /// Pictures a second of elementary streams, which have no times.
    #[arg(long, default_value_t = 25.0)]
    fps: f64,
    /// Leaves a stage out, to show its effect.
    #[cfg(feature = "sim")]
    #[arg(long, value_enum, value_delimiter = ',', hide = true)]
    without: Vec<Stage>,
    /// Decodes only key frames while nothing moves, as the agent does. Without it every picture is
    /// decoded.
    #[arg(long)]
    gating: bool,
    /// Drawn scenes of these seeds instead of videos, one minute per disturbance.
    #[cfg(feature = "sim")]
    #[arg(long, value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Disturbances of the drawn scenes.
    #[cfg(feature = "sim")]
    #[arg(long, value_enum, value_delimiter = ',')]
    disturbance: Vec<Disturbance>,
    /// Encodes drawn scenes with this quantiser (0 to 51) instead of at a constant rate: sizes of
    /// access units then show activity, which `--gating` needs.
    #[cfg(feature = "sim")]
    #[arg(long, value_name = "QP", requires = "seeds", value_parser = clap::value_parser!(u8).range(0..=51))]
    quantiser: Option<u8>,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
    /// Writes an MP4 with boxes, zones, mask and state (needs ffmpeg). One video only.
    #[arg(long)]
    overlay: Option<PathBuf>,
}

/// Runs the agent's detector on videos.
///
/// # Errors
/// A file cannot be read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let videos = source::videos(&args.videos)?;
    let settings = settings(&args)?;
    #[cfg(feature = "sim")]
    let stages = Stages::without(&args.without);
    #[cfg(not(feature = "sim"))]
    let stages = Stages::ALL;
    let mut rows = Vec::new();
    let mut total = Total::default();
    ensure!(args.overlay.is_none() || videos.len() == 1, "--overlay wants exactly one video");
    for video in &videos {
        let source = Source::open(video, args.fps).with_context(|| shown_path(video))?;
        let mut truth = Truth::beside(video, args.truth.as_deref(), args.masks.as_deref())?;
        let overlay =
            args.overlay.as_deref().map(|path| Overlay::new(path, &settings)).transpose()?;
        let mut ours = OwnDetector::new(settings.clone(), stages);
        let row = measure(source, &mut ours, &mut truth, overlay)?;
        shown(&args, &row);
        total.add(&row);
        rows.push(row);
    }
    #[cfg(feature = "sim")]
    for (seed, disturbance) in scenes(&args) {
        let (source, mut truth) = source::scene(seed, disturbance, args.quantiser)?;
        let mut ours = OwnDetector::new(settings.clone(), stages);
        let row = measure(source, &mut ours, &mut truth, None)?;
        shown(&args, &row);
        total.add(&row);
        rows.push(row);
    }
    ensure!(!rows.is_empty(), "no video given");
    if args.json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        println!(
            "{}",
            serde_json::to_string_pretty(
                &serde_json::json!({"files": rows, "total": total.json()})
            )?
        );
    } else if rows.len() > 1 {
        println!("{}", total.line());
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(args: &Args, row: &Row) {
    if !args.json {
        println!("{}", row.line());
        if args.videos.len() == 1 {
            row.events().iter().for_each(|event| println!("{event}"));
        }
    }
}

fn settings(args: &Args) -> anyhow::Result<MotionSettings> {
    if let Some(path) = &args.config {
        return Ok(crate::settings::load::load(path)?.motion);
    }
    Ok(MotionSettings {
        sensitivity: args.sensitivity,
        gating: args.gating,
        ..MotionSettings::default()
    })
}

#[cfg(feature = "sim")]
fn scenes(args: &Args) -> Vec<(u64, Disturbance)> {
    let all = if args.disturbance.is_empty() {
        Disturbance::WEATHER.to_vec()
    } else {
        args.disturbance.clone()
    };
    args.seeds
        .iter()
        .flat_map(|seed| all.iter().map(move |disturbance| (*seed, *disturbance)))
        .collect()
}

/// Ground truth of a video.
#[derive(Default)]
pub struct Truth {
    /// True events in seconds.
    pub spans: Option<Vec<(f64, f64)>>,
    /// True masks.
    pub masks: Option<masks::Masks>,
    /// Tampering: its start in seconds, and the reported `change`.
    pub tampered: Option<(f64, &'static str)>,
}

impl Truth {
    /// The given truth, or the files beside the video.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn beside(
        video: &Path,
        truth: Option<&Path>,
        masks: Option<&Path>,
    ) -> anyhow::Result<Truth> {
        let near =
            |name: &str| video.parent().map(|dir| dir.join(name)).filter(|path| path.exists());
        let spans = match truth.map(Path::to_owned).or_else(|| near("labels.json")) {
            Some(path) => {
                let text = read_text(&path, Links::Follow, LABELS_MAX)
                    .with_context(|| shown_path(&path))?;
                let labels = serde_json::from_str(&text).with_context(|| shown_path(&path))?;
                score::spans(&labels, video)
            }
            None => None,
        };
        let masks = masks
            .map(Path::to_owned)
            .or_else(|| near("groundtruth"))
            .map(|dir| masks::Masks::read(&dir))
            .transpose()?;
        Ok(Truth { spans, masks, tampered: None })
    }
}

/// Runs a detector on a source.
///
/// # Errors
/// The source fails, or the overlay cannot be written.
pub fn measure(
    source: Source,
    watcher: &mut dyn Adapter,
    truth: &mut Truth,
    overlay: Option<Overlay>,
) -> anyhow::Result<Row> {
    let Source { name, times, units } = source;
    let mut log = Log::new(times, truth.masks.take(), overlay);
    let mut spent = 0;
    for unit in units {
        let unit = unit?;
        log.now = unit.seconds();
        let (started, beside) = (adapter::cpu_micros(), log.beside);
        watcher.take(&unit, &mut log);
        spent += adapter::cpu_micros().saturating_sub(started).saturating_sub(log.beside - beside);
    }
    watcher.finish(&mut log);
    let seconds = log.now;
    Ok(Row::new(name, seconds, spent, log, truth, watcher.notes()))
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests {
    use super::*;

    /// Runs the agent's analyzer on every drawn scene of these seeds.
    fn drawn(seeds: &[u64], kinds: &[Disturbance], quantiser: Option<u8>, gating: bool) -> Total {
        let mut total = Total::default();
        for (seed, kind) in
            seeds.iter().flat_map(|seed| kinds.iter().map(move |kind| (*seed, *kind)))
        {
            let (source, mut truth) = source::scene(seed, kind, quantiser).unwrap();
            let mut ours = OwnDetector::new(
                MotionSettings { gating, ..MotionSettings::default() },
                Stages::ALL,
            );
            let row = measure(source, &mut ours, &mut truth, None).unwrap();
            println!("{}", row.line());
            total.add(&row);
        }
        println!("{}", total.line());
        total
    }

    #[test]
    #[ignore = "twenty minutes of coded scenes, with and without gating"]
    fn proof_of_twenty_scenes_awake_and_asleep() {
        for gating in [false, true] {
            let total =
                drawn(&[9001, 9002], &Disturbance::WEATHER[1..], gating.then_some(30), gating);
            let score = total.score();
            assert!(
                score.true_events == 60 && score.found >= 58 && score.wrong <= 2,
                "{}",
                total.line()
            );
            assert_eq!(total.tampering().wrong, 0);
        }
    }

    #[test]
    #[ignore = "fifteen minutes of coded scenes"]
    fn proof_of_tampering_told_within_ten_seconds() {
        let total = drawn(&[9011, 9012, 9013], &Disturbance::TAMPER, None, true);
        let tampering = total.tampering();
        assert_eq!((tampering.late.len(), tampering.wrong, total.score().wrong), (15, 0, 0));
        assert!(tampering.latest() <= Some(10.0), "{:?}", tampering.late);
    }
}
