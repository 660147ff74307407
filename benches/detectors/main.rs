//! Detection quality and CPU of our detector and four peers on the same footage and harness.
//!
//! Per detector: cells against true masks (P, R, F); events found, missed, merged and false; delay;
//! CPU.
//! The footage is `../shared/data/motion`, then drawn scenes with seeds that no threshold was
//! chosen on.
//! With `--stages` our detector also runs without each of its stages.
//!
//! A peer's event starts after 0.4 s of motion pictures and ends after 5 s without one, equal for
//! all.
//! Run: `cargo bench --bench detectors` (45 minutes on two slow cores; `-- --stages` adds 90
//! minutes).
//! `-- WORD` runs only the lines with this word in their names.
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure stops")]

#[path = "../../tests/common/footage.rs"]
mod footage;
mod peers;

use std::path::Path;

use clap::ValueEnum as _;
use taimat::analytics::decode::decoder::{Decoded, Decoder};
use taimat::analytics::detect::picture::{Grid, Picture};
use taimat::analytics::detect::stages::{Stage, Stages};
use taimat::cli::eval_motion::adapter::{Adapter, Log, OwnDetector, Unit};
use taimat::cli::eval_motion::report::Total;
use taimat::cli::eval_motion::source::{self, Source};
use taimat::cli::eval_motion::{Truth, measure};
use taimat::settings::MotionSettings;
use taimat::sim::scene::Disturbance;
use taimat::units::Timestamp;

use peers::Peer;

/// Folders with footage.
const FOLDERS: [&str; 4] = ["highway", "disturbances", "intel", "wavingtrees"];
/// Seeds of drawn scenes, used only here.
const SEEDS: [u64; 2] = [9_001, 9_002];
/// Pictures a second that peers analyse.
const FPS: f64 = 12.5;
/// Motion that starts an event, and quiet that ends it, seconds.
const BEGIN: f64 = 0.4;
const END: f64 = 5.0;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let stages = args.iter().any(|arg| arg == "--stages");
    let word = args.iter().find(|arg| !arg.starts_with("--")).map_or("", String::as_str);
    let data = footage::footage("motion");
    for folder in FOLDERS {
        let videos = source::videos(&[data.join(folder)]).unwrap_or_default();
        if videos.is_empty() {
            println!("SKIPPED: no footage in {}", data.join(folder).display());
            continue;
        }
        println!("\n{folder}");
        table(stages, word, &|make| {
            let files = videos.iter().map(|video| of_file(video, make));
            files.fold(Total::default(), |mut total, row| {
                total.add(&row);
                total
            })
        });
    }
    println!("\ndrawn scenes, seeds {SEEDS:?}, each with every disturbance");
    table(stages, word, &|make| {
        let all = SEEDS
            .iter()
            .flat_map(|seed| Disturbance::value_variants().iter().map(move |kind| (*seed, *kind)));
        all.fold(Total::default(), |mut total, (seed, kind)| {
            let (source, mut truth) = source::scene(seed, kind, None).unwrap();
            total.add(&measure(source, make().as_mut(), &mut truth, None).unwrap());
            total
        })
    });
}

/// Makes a new detector.
type Make<'a> = &'a dyn Fn() -> Box<dyn Adapter>;

/// Prints a line for each detector whose name contains the word.
fn table(stages: bool, word: &str, run: &dyn Fn(Make) -> Total) {
    let line = |name: &str, make: Make| {
        if name.contains(word) {
            println!("{name:24} {}", run(make).line());
        }
    };
    let ours = |stages: Stages, gating: bool| {
        move || {
            Box::new(OwnDetector::new(
                MotionSettings { gating, ..MotionSettings::default() },
                stages,
            )) as Box<dyn Adapter>
        }
    };
    line("taimat, every picture", &ours(Stages::ALL, false));
    line("taimat, quiet gating", &ours(Stages::ALL, true));
    for (at, (name, _)) in peers::all(FPS).into_iter().enumerate() {
        line(name, &|| Box::new(Beside::new(peers::all(FPS).remove(at).1)));
    }
    for stage in Stage::value_variants().iter().filter(|_| stages) {
        let name = format!("taimat without {}", stage.to_possible_value().unwrap().get_name());
        line(&name, &ours(Stages::without(&[*stage]), false));
    }
}

fn of_file(video: &Path, make: Make) -> taimat::cli::eval_motion::report::Row {
    let source = Source::open(video, 25.0).unwrap();
    let mut truth = Truth::beside(video, None, None).unwrap();
    measure(source, make().as_mut(), &mut truth, None).unwrap()
}

/// A peer's detector with the event rule of all detectors.
struct Beside {
    peer: Box<dyn Peer>,
    decoder: Option<Decoder>,
    /// Time of the next analysed picture, seconds.
    next: f64,
    /// Times of the first and the last motion picture, seconds.
    since: Option<f64>,
    last: f64,
    open: bool,
    events: u64,
}

impl Beside {
    fn new(peer: Box<dyn Peer>) -> Beside {
        Beside { peer, decoder: None, next: 0.0, since: None, last: 0.0, open: false, events: 0 }
    }

    fn see(&mut self, picture: &Picture, at: Timestamp, now: f64, log: &mut Log) {
        if now + 0.001 < self.next {
            return;
        }
        self.next = now + 1.0 / FPS;
        let seen = self.peer.look(picture);
        let grid = Grid { width: seen.width, height: seen.cells.len() / seen.width };
        log.mask(grid, &seen.cells, at);
        if seen.motion {
            self.since = self.since.or(Some(now));
            self.last = now;
        } else if now - self.last > END {
            self.end(log);
        } else if !self.open {
            self.since = None;
        }
        if let Some(since) = self.since.filter(|since| !self.open && now - since >= BEGIN) {
            self.open = true;
            self.events += 1;
            log.start_event(self.events, since);
        }
    }

    fn end(&mut self, log: &mut Log) {
        if std::mem::take(&mut self.open) {
            log.end(self.events, self.last, String::new());
        }
        self.since = None;
    }
}

impl Adapter for Beside {
    fn take(&mut self, unit: &Unit, log: &mut Log) {
        match unit {
            Unit::Plain(picture, at) => self.see(picture, *at, unit.seconds(), log),
            Unit::Coded(frame) => {
                let decoder =
                    self.decoder.get_or_insert_with(|| Decoder::new(frame.params.codec).unwrap());
                if let Decoded::Picture(picture) = decoder.decode(frame) {
                    self.see(&picture, frame.at, unit.seconds(), log);
                }
            }
        }
    }

    fn finish(&mut self, log: &mut Log) {
        self.end(log);
    }
}
