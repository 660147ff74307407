//! Write amplification of recording (promise P6): bytes to the device ÷ payload at 1, 2 and 8
//! Mbit/s.
//!
//! It counts after the first lap, with a flush a second, and shows the parts. The peer is
//! `ffmpeg -c copy -f segment` on the same footage with a flush a second. Append speed is compared
//! with plain writes of the same size. ext4 on a loop device needs root.
//! Run: `cargo bench --bench wear` (about four minutes).
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure stops")]

mod card;
#[path = "../shared/footage.rs"]
mod footage;
mod ours;
mod peer;

use footage::{FPS, Footage};
use ours::{Cost, Ours};

/// Budget of bytes to the device ÷ payload, after the first lap (promise P6).
const BUDGET: f64 = 1.05;
/// Size of the ring, bytes.
const RING: u64 = 64 << 20;
/// Bit rates, bits a second.
const RATES: [u64; 3] = [1_000_000, 2_000_000, 8_000_000];
/// Frames of a GOP: 2 s, as of most cameras.
const GOP: usize = 2 * FPS as usize;
/// Measured laps after the first.
const LAPS: u64 = 3;
/// Footage in one comparison of speed, and shortest distance of two readings of cost, seconds.
const ROUND: u64 = 30;
/// Length of a run in real time, seconds. Only real time shows ext4's own commits every 5 s.
const REAL: u64 = 60;
/// Mount options of the runs in real time: those of deploy/README.md, which must keep the budget,
/// and ext4's defaults.
const MOUNTS: [&str; 2] = ["noatime,lazytime,commit=60", "relatime"];

fn main() {
    if card::Card::new("relatime").is_none() {
        println!("SKIPPED: ext4 on a loop device is not possible (needs root, mkfs.ext4, mount)");
        return;
    }
    println!(
        "bytes to the device per byte of payload on a ring of {} MiB, budget {BUDGET}",
        RING >> 20
    );
    let fast: Vec<f64> = RATES.iter().map(|bits| fast(*bits)).collect();
    let real = real_time();
    let worst = fast.into_iter().chain(real).fold(0.0, f64::max);
    if worst > BUDGET {
        println!("\nOVER BUDGET: {worst:.4} > {BUDGET}");
        std::process::exit(1);
    }
    println!("\nwithin budget: {worst:.4} at most");
}

/// Length of one lap, seconds.
fn lap(bits: u64) -> u64 {
    RING * 8 / bits
}

/// Prints a line of the table.
fn row(name: &str, text: &str) {
    println!("  {name:42} {text}");
}

/// Runs laps in simulated time, ffmpeg and plain writes; returns bytes to the device ÷ payload.
fn fast(bits: u64) -> f64 {
    let footage = Footage::new(bits, Some(GOP));
    println!("\n{} Mbit/s, simulated time: {}", bits / 1_000_000, footage.words);
    let mut ours = Ours::new(RING, footage, "relatime").unwrap();
    let empty = ours.cost();
    ours.record(lap(bits), false);
    let first = ours.cost();
    row("taimat, first lap (files are made)", &first.since(empty).words());
    let rounds = (LAPS * lap(bits)).div_ceil(ROUND);
    let mut plain = peer::Plain::new(RING).unwrap();
    let times: Vec<(f64, f64)> =
        (0..rounds).map(|_| (ours.record(ROUND, false), plain.write(ROUND, bits / 8))).collect();
    let cost = ours.cost().since(first);
    let text = format!("{}, {} flushes in {} s", cost.words(), cost.flushes, rounds * ROUND);
    row(&format!("taimat, {LAPS} laps after it"), &text);
    where_bytes_go(&ours);
    beside_ffmpeg(bits, cost);
    speed(bits, &times);
    short_gops(bits);
    cost.amplification()
}

/// The parts of the written bytes, each ÷ payload.
fn where_bytes_go(ours: &Ours) {
    let parts = ours.shares();
    let (boxes, padding, free, heads) = (parts.boxes, parts.padding, parts.free, parts.heads);
    let text = format!(
        "moof and record {boxes:.4}, padding {padding:.4}, free block {free:.4}, segment heads {heads:.4}"
    );
    row("  of that beside the payload", &text);
}

fn beside_ffmpeg(bits: u64, ours: Cost) {
    let Some(peer) = peer::ffmpeg(Footage::new(bits, Some(GOP)), lap(bits), LAPS + 1) else {
        return println!("  ffmpeg is not installed: no comparison");
    };
    let (all, handed) = (peer.amplification, peer.handed);
    let text = format!(
        "{all:.4} (handed over {handed:.4}, ext4 adds {:.4}), {} flushes ({} found new bytes) and {} of closed files in {} s",
        all - handed,
        peer.flushes,
        peer.fresh,
        peer.closing,
        peer.media
    );
    row("ffmpeg -f segment, flush a second", &text);
    let beside = (all - 1.0) / (ours.amplification() - 1.0);
    row(
        "  ffmpeg ÷ taimat",
        &format!("{:.3}; {beside:.1} beside the payload", all / ours.amplification()),
    );
}

/// MB/s compared with plain writes of the same sizes: median and range of the rounds.
fn speed(bits: u64, times: &[(f64, f64)]) {
    let megabytes = (ROUND * bits / 8) as f64 / 1e6;
    let spread = |values: &mut dyn Iterator<Item = f64>| {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        format!(
            "{:.2} ({:.2}-{:.2})",
            values[values.len() / 2],
            values[0],
            values[values.len() - 1]
        )
    };
    let ours = spread(&mut times.iter().map(|(ours, _)| megabytes / ours));
    let plain = spread(&mut times.iter().map(|(_, plain)| megabytes / plain));
    let ratio = spread(&mut times.iter().map(|(ours, plain)| plain / ours));
    row("append, MB/s of payload", &format!("{ours}, write + fdatasync {plain}, ratio {ratio}"));
}

/// The same with the footage's own key frames: each starts a fragment, so there are more flushes.
/// No
/// budget.
fn short_gops(bits: u64) {
    let mut ours = Ours::new(RING, Footage::new(bits, None), "relatime").unwrap();
    ours.record(lap(bits), false);
    let first = ours.cost();
    ours.record(lap(bits), false);
    let cost = ours.cost().since(first);
    row(
        "taimat, key frames as in the footage",
        &format!("{}, {} flushes in {} s", cost.words(), cost.flushes, lap(bits)),
    );
}

/// Runs in real time, in parallel on separate cards; returns bytes to the device ÷ payload of those
/// with the recommended mount options.
fn real_time() -> Vec<f64> {
    println!("\nreal time, {REAL} s as a camera sends them, after a lap in simulated time");
    let run = |bits: u64, mount: &str| {
        let mut ours = Ours::new(RING, Footage::new(bits, Some(GOP)), mount).unwrap();
        ours.record(lap(bits), false);
        let first = ours.cost();
        ours.record(REAL, true);
        ours.cost().since(first)
    };
    let done: Vec<(u64, &str, Cost)> = std::thread::scope(|scope| {
        let runs = RATES.iter().flat_map(|bits| MOUNTS.map(|mount| (*bits, mount)));
        let threads: Vec<_> = runs
            .map(|(bits, mount)| (bits, mount, scope.spawn(move || run(bits, mount))))
            .collect();
        threads
            .into_iter()
            .map(|(bits, mount, thread)| (bits, mount, thread.join().unwrap()))
            .collect()
    });
    for (bits, mount, cost) in &done {
        let text = format!("{}, {} flushes", cost.words(), cost.flushes);
        row(&format!("taimat, {} Mbit/s, mounted {mount}", bits / 1_000_000), &text);
    }
    done.iter()
        .filter(|(_, mount, _)| *mount == MOUNTS[0])
        .map(|(.., cost)| cost.amplification())
        .collect()
}
