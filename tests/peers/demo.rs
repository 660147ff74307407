//! Archive of `taimat demo`, compared with the ground truth of its streets and read with ffmpeg.

use std::path::Path;
use std::process::Command;

use taimat::office::archive::Archive;
use taimat::office::queries::Filter;
use taimat::sim::camera::Options;
use taimat::sim::encode::counters;
use taimat::sim::street::{Passage, Place, Street};
use taimat::units::WallTime;

use crate::harness::{has, plays, taimat};

/// Smallest pre-roll before the event, seconds.
const BEFORE: f64 = 4.0;

/// Allowed clock difference of the two streams on a busy machine, seconds: one gives the event, the
/// other the clip. Groups of passages are fifteen seconds apart.
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

/// The passages during which an event started, at second `began` of the street: one group.
fn group_at(street: &Street, began: f64) -> Vec<Passage> {
    let all = street.passages();
    let lasts = |passage: &&Passage| {
        (passage.begin - SLACK..passage.begin + passage.seconds).contains(&began)
    };
    let first = all.iter().find(lasts);
    let first = first.unwrap_or_else(|| panic!("nothing passes at second {began:.1}"));
    let near = |passage: &&Passage| (passage.begin - first.begin).abs() < 6.0;
    all.iter().filter(near).copied().collect()
}

/// Checks that a clip contains all that passed during its event, and returns the first of it.
///
/// The clip starts at `start` and its event at `began`. The camera skipped `skipped` pictures.
fn holds_its_passages(
    street: &Street,
    path: &Path,
    start: &str,
    began: &str,
    skipped: u64,
) -> Passage {
    let fps = f64::from(Options::default().fps);
    let frames = counters(&std::fs::read(path).unwrap());
    assert!(frames.is_sorted_by(|a, b| a < b), "{}: pictures out of order", path.display());
    let (first, last) = (frames[0], frames[frames.len() - 1]);
    let (from, to) = (first as f64 / fps, last as f64 / fps);
    let event = from + (micros(began) - micros(start)) as f64 / 1e6;
    let group = group_at(street, event);
    let enters = group.iter().map(|passage| passage.begin).fold(f64::MAX, f64::min);
    let leaves = group.iter().map(|passage| passage.begin + passage.seconds).fold(0.0, f64::max);
    println!(
        "{}: {} pictures of second {from:.1} to {to:.1}; {:?} pass from {enters:.1} to {leaves:.1}",
        path.file_name().unwrap().display(),
        frames.len(),
        group.iter().map(|passage| passage.mover).collect::<Vec<_>>(),
    );
    // What is still tiny in the distance is not seen yet.
    assert!(
        event - from >= BEFORE && from <= enters && leaves <= to + SLACK,
        "the clip does not contain all that passed"
    );
    let there = frames.len() as u64;
    assert!(
        (there + skipped) * 10 >= (last - first) * 9,
        "{there} pictures of {}, {skipped} never made",
        last - first + 1
    );
    group[0]
}

#[test]
fn demo_clips_play_and_hold_what_passed() {
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
    let streets =
        Place::ALL.map(|place| (place.site(), Street::new(place, options.seed, options.seconds)));
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
        let (site, street) = streets.iter().find(|(site, _)| *site == clip.site).unwrap();
        let began = event.data["started_at"].as_str().unwrap();
        let passage = holds_its_passages(street, &clip.path, &clip.start, began, skipped);
        assert!(!seen.contains(&(*site, passage)), "one group has two events");
        seen.push((*site, passage));
    }
    for (site, _) in streets {
        assert!(seen.iter().any(|(seen, _)| *seen == site), "no clip of {site}: {words}");
    }
}
