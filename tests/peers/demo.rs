//! Archive of `taimat demo`, compared with the ground truth of its scene and read with ffmpeg.

use std::path::Path;
use std::process::Command;

use taimat::office::archive::Archive;
use taimat::office::queries::Filter;
use taimat::sim::camera::Options;
use taimat::sim::encode::counters;
use taimat::sim::scene::{Crossing, Scene};
use taimat::units::WallTime;

use crate::harness::{has, plays, taimat};

/// Smallest pre-roll before a crossing, seconds.
const BEFORE: f64 = 4.0;

/// Allowed clock difference of the two streams on a busy machine, seconds: one gives the event, the
/// other the clip. Crossings are fourteen seconds apart.
const SLACK: f64 = 1.0;

/// Flags of the first packet of a file; `K` is a key frame.
fn first_packet(clip: &Path) -> String {
    let show = [
        "-v",
        "error",
        "-select_streams",
        "v",
        "-read_intervals",
        "%+#1",
        "-show_entries",
        "packet=flags",
        "-of",
        "csv=p=0",
    ];
    let out = Command::new("ffprobe").args(show).arg(clip).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

fn micros(text: &str) -> i64 {
    WallTime::parse(text).unwrap().0
}

/// The crossing during which an event started, at second `began` of the scene.
fn crossing_at(scene: &Scene, began: f64) -> Crossing {
    let lasts = |crossing: &&Crossing| {
        (crossing.begin - SLACK..crossing.begin + crossing.seconds).contains(&began)
    };
    *scene
        .crossings()
        .iter()
        .find(lasts)
        .unwrap_or_else(|| panic!("there is no crossing at second {began:.1}"))
}

/// Checks that a clip contains the whole crossing of its event, and returns the crossing.
///
/// The clip starts at `start` and its event at `began`. The camera skipped `skipped` pictures.
fn holds_its_crossing(
    scene: &Scene,
    path: &Path,
    start: &str,
    began: &str,
    skipped: u64,
) -> Crossing {
    let fps = f64::from(Options::default().fps);
    let frames = counters(&std::fs::read(path).unwrap());
    assert!(frames.is_sorted_by(|a, b| a < b), "{}: pictures out of order", path.display());
    let (first, last) = (frames[0], frames[frames.len() - 1]);
    let (from, to) = (first as f64 / fps, last as f64 / fps);
    let crossing = crossing_at(scene, from + (micros(began) - micros(start)) as f64 / 1e6);
    let (enters, leaves) = (crossing.begin, crossing.begin + crossing.seconds);
    println!(
        "{}: {} pictures of second {from:.1} to {to:.1}; {:?} crosses from {enters:.1} to {leaves:.1}, {:.1} s into the clip",
        path.file_name().unwrap().display(),
        frames.len(),
        crossing.who,
        enters - from
    );
    assert!(
        enters - from >= BEFORE && leaves <= to,
        "the clip does not contain the whole crossing"
    );
    let there = frames.len() as u64;
    assert!(
        (there + skipped) * 10 >= (last - first) * 9,
        "{there} pictures of {}, {skipped} never made",
        last - first + 1
    );
    crossing
}

#[test]
fn demo_clips_play_and_hold_their_crossings() {
    if !has("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("demo");
    let demo = taimat().args(["demo", "--for", "40s", "--out"]).arg(&out).output().unwrap();
    let words = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{words}{}", String::from_utf8_lossy(&demo.stderr));
    // Pictures that a slow machine skipped cannot be in a clip.
    let slow = words.lines().find(|line| line.contains("too slow"));
    let numbers = slow
        .iter()
        .flat_map(|line| line.split_whitespace())
        .find_map(|word| word.parse::<u64>().ok());
    let skipped = numbers.unwrap_or(0);
    slow.iter().for_each(|line| println!("{line}"));
    let archive = Archive::open_read_only(&out).unwrap();
    let all = Filter { limit: 1000, ..Filter::default() };
    let (events, files) = (archive.events(&all).unwrap(), archive.files(&all).unwrap());
    let options = Options::default();
    let scene = Scene::new(options.seed, options.disturbance, options.seconds);
    let mut seen = Vec::new();
    for clip in files.iter().filter(|file| file.purpose == "clip") {
        plays(&clip.path);
        assert!(
            first_packet(&clip.path).starts_with('K'),
            "{} does not start with a key frame",
            clip.path.display()
        );
        let starts = |event: &&taimat::office::queries::EventRow| {
            event.kind == "vn.taimat.motion.start.v1" && event.data["event"] == clip.event.as_str()
        };
        let event = events.iter().find(starts).unwrap();
        let crossing = holds_its_crossing(
            &scene,
            &clip.path,
            &clip.start,
            event.data["started_at"].as_str().unwrap(),
            skipped,
        );
        assert!(!seen.contains(&crossing), "one crossing has two events");
        seen.push(crossing);
    }
    assert!(seen.len() >= 2, "{} clips: {words}", seen.len());
}
