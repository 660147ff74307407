//! How recording only grows from one camera to many: 1, 4 and 16 processes of the agent beside as many of
//! `ffmpeg -c copy -f segment` on the same RTSP server in the same run. Only ratios to the peer: there is no budget.
//!
//! The machine is shared with others and small, so each number of streams is measured several times and shown as a range. When
//! a recorder is handed less than with one stream, the server or the machine was too slow and the figures say little: the
//! column `taken` shows it. Run: `cargo bench --bench streams` (about eight minutes).
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure stops")]

#[path = "../shared/process.rs"]
mod process;

use std::path::Path;
use std::time::Duration;

use process::{Camera, Running, Usage, agent, ffmpeg};

/// Numbers of streams.
const STREAMS: [usize; 3] = [1, 4, 16];
/// Times each is measured.
const ROUNDS: usize = 3;
/// Seconds measured. The footage lasts 60 s, and then ffmpeg ends.
const SECONDS: u64 = 30;
/// Seconds for connecting and the first files: some, and some more for every two streams.
const SETTLE: u64 = 6;

/// One side in one round.
struct Side {
    /// % of a core each.
    cpu: f64,
    /// MB resident of one, the most of any, and of all.
    rss: f64,
    most: f64,
    total: f64,
    /// kB a second handed to files by each.
    rate: f64,
}

/// Both sides in one round, and what the others used.
struct Round {
    ours: Side,
    theirs: Option<Side>,
    /// % of a core of the RTSP server.
    server: Option<f64>,
    /// % of the machine that was busy, by whomever.
    busy: f64,
}

fn main() {
    let camera = Camera::start();
    println!("{SECONDS} s each, {ROUNDS} rounds: lowest-highest; % of one core for each stream");
    println!(
        "{:>7} {:8} {:>11} {:>13} {:>9} {:>9} {:>9} {:>9} {:>11} {:>9}",
        "streams", "", "% each", "÷ ffmpeg", "RSS each", "most", "RSS all", "taken", "server %", "busy %"
    );
    let mut alone = None;
    for streams in STREAMS {
        let rounds: Vec<Round> = (0..ROUNDS).map(|_| round(&camera, streams)).collect();
        let rates = rates(&rounds);
        table(streams, &rounds, *alone.get_or_insert(rates));
    }
}

/// Lowest kB a second of any round of each side.
fn rates(rounds: &[Round]) -> [f64; 2] {
    let lowest = |side: &dyn Fn(&Round) -> Option<f64>| rounds.iter().filter_map(side).fold(f64::INFINITY, f64::min);
    [lowest(&|round| Some(round.ours.rate)), lowest(&|round| round.theirs.as_ref().map(|side| side.rate))]
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
    let grown = |of: &dyn Fn(&Usage) -> f64| (sum(after, of) - sum(before, of)) / n / SECONDS as f64;
    let total = sum(after, &|usage| usage.rss);
    Side {
        cpu: grown(&|usage| usage.cpu) * 100.0,
        rss: total / n,
        most: after.iter().map(|usage| usage.most).fold(0.0, f64::max),
        total,
        rate: grown(&|usage| usage.written) * 1000.0,
    }
}

/// Ticks in which a processor of this machine worked, and all ticks (proc(5): the first line of /proc/stat).
fn busy() -> (f64, f64) {
    let stat = std::fs::read_to_string(Path::new("/proc/stat")).unwrap();
    let ticks: Vec<f64> = stat.lines().next().unwrap().split_whitespace().skip(1).take(8).map(|n| n.parse().unwrap()).collect();
    let all: f64 = ticks.iter().sum();
    (all - ticks[3] - ticks[4], all)
}

fn table(streams: usize, rounds: &[Round], alone: [f64; 2]) {
    let server = range(rounds.iter().filter_map(|round| round.server));
    let busy = range(rounds.iter().map(|round| round.busy));
    let ratio = range(rounds.iter().filter_map(|round| Some(round.ours.cpu / round.theirs.as_ref()?.cpu)));
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
    line("ffmpeg", rounds.iter().filter_map(|round| round.theirs.as_ref()).collect(), "1", alone[1]);
}

/// Lowest to highest.
fn range(values: impl Iterator<Item = f64>) -> String {
    let values: Vec<f64> = values.collect();
    let (low, high) = values.iter().fold((f64::INFINITY, 0.0), |(low, high), value| (low.min(*value), value.max(high)));
    if values.is_empty() { "-".into() } else { format!("{low:.2}-{high:.2}") }
}
