//! What recording costs a card: bytes that reach the device ÷ payload after the first lap at 1, 2 and 8 Mbit/s with a flush a
//! second (promise P6), where they go, and beside it the same footage through `ffmpeg -c copy -f segment` with a flush a second.
//! And MB/s of the append beside plain writes of the same size. On ext4 over a loop device, so as root only.
//! Run: `cargo bench --bench wear` (about four minutes).
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure stops")]

mod card;
#[path = "../shared/footage.rs"]
mod footage;
mod ours;
mod peer;

use footage::{FPS, Footage};
use ours::{Cost, Ours};

/// Bytes to the device ÷ payload, after the first lap (promise P6).
const BUDGET: f64 = 1.05;
/// Bytes of the ring.
const RING: u64 = 64 << 20;
/// Bit rates.
const RATES: [u64; 3] = [1_000_000, 2_000_000, 8_000_000];
/// Frames from key frame to key frame: 2 s, as most cameras have it.
const GOP: usize = 2 * FPS as usize;
/// Laps after the first.
const LAPS: u64 = 3;
/// Seconds of footage in one comparison of speed, and at least between two readings of cost.
const ROUND: u64 = 30;
/// Seconds recorded as a camera sends them. Only real time shows what ext4 commits by itself every 5 s.
const REAL: u64 = 60;
/// Mount options of the runs in real time: those of deploy/README.md, which must keep the budget, and ext4 as it comes.
const MOUNTS: [&str; 2] = ["noatime,lazytime,commit=60", "relatime"];

fn main() {
    if card::Card::new("relatime").is_none() {
        println!("SKIPPED: no ext4 on a loop device here (root, mkfs.ext4, mount)");
        return;
    }
    println!("bytes to the device per byte of payload on a ring of {} MiB, budget {BUDGET}", RING >> 20);
    let fast: Vec<f64> = RATES.iter().map(|bits| fast(*bits)).collect();
    let real = real_time();
    let worst = fast.into_iter().chain(real).fold(0.0, f64::max);
    if worst > BUDGET {
        println!("\nOVER BUDGET: {worst:.4} > {BUDGET}");
        std::process::exit(1);
    }
    println!("\nwithin budget: {worst:.4} at most");
}

/// Seconds of one lap.
fn lap(bits: u64) -> u64 {
    RING * 8 / bits
}

/// A line of the table.
fn row(name: &str, text: &str) {
    println!("  {name:42} {text}");
}

/// Laps in simulated time beside ffmpeg and plain writes; gives bytes to the device ÷ payload.
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
    let times: Vec<(f64, f64)> = (0..rounds).map(|_| (ours.record(ROUND, false), plain.write(ROUND, bits / 8))).collect();
    let cost = ours.cost().since(first);
    let text = format!("{}, {} flushes in {} s", cost.words(), cost.flushes, rounds * ROUND);
    row(&format!("taimat, {LAPS} laps after it"), &text);
    where_bytes_go(&ours);
    beside_ffmpeg(bits, cost);
    speed(bits, &times);
    short_gops(bits);
    cost.amplification()
}

/// The parts of what is handed over, each ÷ payload.
fn where_bytes_go(ours: &Ours) {
    let parts = ours.shares();
    let (boxes, padding, free, heads) = (parts.boxes, parts.padding, parts.free, parts.heads);
    let text = format!("moof and record {boxes:.4}, padding {padding:.4}, free block {free:.4}, segment heads {heads:.4}");
    row("  of that beside the payload", &text);
}

fn beside_ffmpeg(bits: u64, ours: Cost) {
    let Some(peer) = peer::ffmpeg(Footage::new(bits, Some(GOP)), lap(bits), LAPS + 1) else {
        return println!("  no ffmpeg here: nothing to compare with");
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
    row("  ffmpeg ÷ taimat", &format!("{:.3}; {beside:.1} beside the payload", all / ours.amplification()));
}

/// MB/s beside plain writes of the same sizes: median and range of the rounds.
fn speed(bits: u64, times: &[(f64, f64)]) {
    let megabytes = (ROUND * bits / 8) as f64 / 1e6;
    let spread = |values: &mut dyn Iterator<Item = f64>| {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        format!("{:.2} ({:.2}-{:.2})", values[values.len() / 2], values[0], values[values.len() - 1])
    };
    let ours = spread(&mut times.iter().map(|(ours, _)| megabytes / ours));
    let plain = spread(&mut times.iter().map(|(_, plain)| megabytes / plain));
    let ratio = spread(&mut times.iter().map(|(ours, plain)| plain / ours));
    row("append, MB/s of payload", &format!("{ours}, write + fdatasync {plain}, ratio {ratio}"));
}

/// The same with the key frames the footage really has: every one begins a fragment, so there are more flushes. No budget.
fn short_gops(bits: u64) {
    let mut ours = Ours::new(RING, Footage::new(bits, None), "relatime").unwrap();
    ours.record(lap(bits), false);
    let first = ours.cost();
    ours.record(lap(bits), false);
    let cost = ours.cost().since(first);
    row("taimat, key frames as in the footage", &format!("{}, {} flushes in {} s", cost.words(), cost.flushes, lap(bits)));
}

/// Runs in real time, all at once on cards of their own; gives bytes to the device ÷ payload of those mounted as we say.
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
        let threads: Vec<_> = runs.map(|(bits, mount)| (bits, mount, scope.spawn(move || run(bits, mount)))).collect();
        threads.into_iter().map(|(bits, mount, thread)| (bits, mount, thread.join().unwrap())).collect()
    });
    for (bits, mount, cost) in &done {
        let text = format!("{}, {} flushes", cost.words(), cost.flushes);
        row(&format!("taimat, {} Mbit/s, mounted {mount}", bits / 1_000_000), &text);
    }
    done.iter().filter(|(_, mount, _)| *mount == MOUNTS[0]).map(|(.., cost)| cost.amplification()).collect()
}
