//! Cost of recording 1, 4 and 16 cameras: agent processes, compared with
//! `ffmpeg -c copy -f segment`.
//!
//! Both use the same RTSP server in the same run. There is no budget, only ratios. Each number of
//! streams is measured several times and shown as a range. If a recorder receives less than with
//! one stream, the server or the machine was too slow, and the figures are invalid; see column
//! `taken`. Run: `cargo bench --bench streams` (about eight minutes).
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure stops")]

#[path = "../shared/process.rs"]
mod process;

use std::path::Path;
use std::time::Duration;

use process::{Camera, Running, Usage, agent, ffmpeg};

/// Numbers of streams.
const STREAMS: [usize; 3] = [1, 4, 16];
/// Measurements of each number of streams.
const ROUNDS: usize = 3;
/// Measured time, seconds. The footage lasts 60 s; then ffmpeg ends.
const SECONDS: u64 = 30;
/// Time for connections and first files, seconds: a constant, and more for every two streams.
const SETTLE: u64 = 6;

/// Result of one recorder in one round.
struct Side {
    /// CPU of each process, % of a core.
    cpu: f64,
    /// Resident memory of one, largest of any, and sum, MB.
    rss: f64,
    most: f64,
    total: f64,
    /// Bytes written by each process, kB a second.
    rate: f64,
}

/// Both recorders in one round, and the load of server and machine.
struct Round {
    ours: Side,
    theirs: Option<Side>,
    /// CPU of the RTSP server, % of a core.
    server: Option<f64>,
    /// Busy share of the machine, %.
    busy: f64,
}

fn main() {
    let camera = Camera::start();
    println!("{SECONDS} s each, {ROUNDS} rounds: lowest-highest; % of one core for each stream");
    println!(
        "{:>7} {:8} {:>11} {:>13} {:>9} {:>9} {:>9} {:>9} {:>11} {:>9}",
        "streams",
        "",
        "% each",
        "÷ ffmpeg",
        "RSS each",
        "most",
        "RSS all",
        "taken",
        "server %",
        "busy %"
    );
    let mut alone = None;
    for streams in STREAMS {
        let rounds: Vec<Round> = (0..ROUNDS).map(|_| round(&camera, streams)).collect();
        let rates = rates(&rounds);
        table(streams, &rounds, *alone.get_or_insert(rates));
    }
}

/// Lowest kB a second of each recorder over all rounds.
fn rates(rounds: &[Round]) -> [f64; 2] {
    let lowest = |side: &dyn Fn(&Round) -> Option<f64>| {
        rounds.iter().filter_map(side).fold(f64::INFINITY, f64::min)
    };
    [
        lowest(&|round| Some(round.ours.rate)),
        lowest(&|round| round.theirs.as_ref().map(|side| side.rate)),
    ]
}

fn round(camera: &Camera, streams: usize) -> Round {
    let dir = tempfile::tempdir().unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for stream in 0..streams {
        let at = |name: &str| dir.path().join(format!("{name}-{stream}"));
        ours.push(agent(&at("taimat"), camera, false, 9));
        theirs.extend(ffmpeg(at("ffmpeg"), camera));
    }
    std::thread::sleep(Duration::from_secs(SETTLE + streams as u64 / 2));
    let usage = |side: &[Running]| side.iter().map(Running::usage).collect::<Vec<_>>();
    let before = (usage(&ours), usage(&theirs), camera.cpu(), busy());
    std::thread::sleep(Duration::from_secs(SECONDS));
    let after = (usage(&ours), usage(&theirs), camera.cpu(), busy());
    let percent = |before: f64, after: f64| (after - before) * 100.0 / SECONDS as f64;
    Round {
        ours: side(&before.0, &after.0),
        theirs: (!theirs.is_empty()).then(|| side(&before.1, &after.1)),
        server: before.2.zip(after.2).map(|(before, after)| percent(before, after)),
        busy: (after.3.0 - before.3.0) * 100.0 / (after.3.1 - before.3.1),
    }
}

fn side(before: &[Usage], after: &[Usage]) -> Side {
    let n = after.len() as f64;
    let sum = |usage: &[Usage], of: &dyn Fn(&Usage) -> f64| usage.iter().map(of).sum::<f64>();
    let grown =
        |of: &dyn Fn(&Usage) -> f64| (sum(after, of) - sum(before, of)) / n / SECONDS as f64;
    let total = sum(after, &|usage| usage.rss);
    Side {
        cpu: grown(&|usage| usage.cpu) * 100.0,
        rss: total / n,
        most: after.iter().map(|usage| usage.most).fold(0.0, f64::max),
        total,
        rate: grown(&|usage| usage.written) * 1000.0,
    }
}

/// Busy ticks and all ticks of the machine (proc(5): first line of /proc/stat).
fn busy() -> (f64, f64) {
    let stat = std::fs::read_to_string(Path::new("/proc/stat")).unwrap();
    let ticks: Vec<f64> = stat
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(|n| n.parse().unwrap())
        .collect();
    let all: f64 = ticks.iter().sum();
    (all - ticks[3] - ticks[4], all)
}

fn table(streams: usize, rounds: &[Round], alone: [f64; 2]) {
    let server = range(rounds.iter().filter_map(|round| round.server));
    let busy = range(rounds.iter().map(|round| round.busy));
    let ratio =
        range(rounds.iter().filter_map(|round| Some(round.ours.cpu / round.theirs.as_ref()?.cpu)));
    let line = |name: &str, sides: Vec<&Side>, ratio: &str, alone: f64| {
        let of = |field: &dyn Fn(&Side) -> f64| range(sides.iter().map(|side| field(side)));
        println!(
            "{streams:>7} {name:8} {:>11} {ratio:>13} {:>9} {:>9} {:>9} {:>9} {server:>11} {busy:>9}",
            of(&|side| side.cpu),
            of(&|side| side.rss),
            of(&|side| side.most),
            of(&|side| side.total),
            of(&|side| side.rate / alone),
        );
    };
    line("taimat", rounds.iter().map(|round| &round.ours).collect(), &ratio, alone[0]);
    line(
        "ffmpeg",
        rounds.iter().filter_map(|round| round.theirs.as_ref()).collect(),
        "1",
        alone[1],
    );
}

/// A range, lowest to highest.
fn range(values: impl Iterator<Item = f64>) -> String {
    let values: Vec<f64> = values.collect();
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, 0.0), |(low, high), value| (low.min(*value), value.max(high)));
    if values.is_empty() { "-".into() } else { format!("{low:.2}-{high:.2}") }
}
