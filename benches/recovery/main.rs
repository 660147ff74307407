//! Time and memory of a boot on a ring of 128 GB (promise P4).
//!
//! The real `Engine::open` runs on the real disk, in a process of its own, after the caches are
//! dropped.
//! The ring has 8192 files of 16 MiB; see [`synthetic`].
//! Run: `cargo bench --bench recovery` (about five minutes, and 4 GB in the temporary directory).
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure stops")]

#[path = "../shared/footage.rs"]
mod footage;
mod synthetic;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::Advice;
use synthetic::{FILES, Synthetic};
use taimat::storage::StorageUpdate;
use taimat::storage::disk::{FileId, RealDisk};
use taimat::storage::engine::Engine;
use taimat::units::Timestamp;

/// Budget from process start to recording (promise P4), seconds.
const BUDGET: f64 = 5.0;
/// Argument that makes this program the measured process; the directory and a mode follow.
const CHILD: &str = "open-and-tell";
/// Mode: open the ring as the agent does.
const ENGINE: &str = "engine";
/// Mode: only open each file and read its first block, the minimum of any recovery from heads.
const PLAIN: &str = "plain";

/// Cost and result of one boot.
#[derive(Debug)]
struct Start {
    seconds: f64,
    /// Reads, bytes requested, bytes from the device (proc(5): `syscr`, `rchar`, `read_bytes`).
    reads: [f64; 3],
    /// Resident memory before, after, and at most, KiB.
    memory: [f64; 3],
    /// Repaired tears, reported gaps, reported faults.
    found: [f64; 3],
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == CHILD) {
        tell(Path::new(&arguments[at + 1]), &arguments[at + 2]);
        return ExitCode::SUCCESS;
    }
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let mut ring = Synthetic::new(&dir.path().join("ring"));
    let full = ring.fill(FILES - 1, 0.97);
    println!(
        "{FILES} files of 16 MiB made in {:.0} s; the newest: {full}",
        started.elapsed().as_secs_f64()
    );
    println!(
        "{:34} {:>7} {:>8} {:>9} {:>9} {:>22} {:>8}",
        "", "s", "reads", "MB asked", "MB device", "RSS MB before/after/most", "found"
    );
    let cold = if drop_caches() { "cold" } else { "caches could not be dropped" };
    let (mut worst, mut least) = (0.0_f64, f64::INFINITY);
    let mut start = |ring: &Synthetic, name: &str, cold: bool| {
        worst = worst.max(measure(ring, ENGINE, name, cold).seconds)
    };
    let mut plain = |ring: &Synthetic| {
        let name = format!("  open and read a block, {cold}");
        least = least.min(measure(ring, PLAIN, &name, true).seconds);
    };
    for _ in 0..3 {
        start(&ring, &format!("whole, {cold}"), true);
        plain(&ring);
    }
    start(&ring, "whole, warm", false);
    let half = ring.fill(0, 0.5);
    for _ in 0..3 {
        ring.tear();
        start(&ring, &format!("newest torn, {cold}"), true);
    }
    println!("  (the torn one: {half}; records of the lap before follow it)");
    ring.solidify();
    for _ in 0..3 {
        start(&ring, &format!("no gaps behind heads, {cold}"), true);
        plain(&ring);
    }
    for damaged in [1, FILES / 100] {
        ring.damage_heads(damaged);
        start(&ring, &format!("{damaged} heads damaged, {cold}"), true);
    }
    println!("opening each file and reading one block takes at least {least:.2} s on this disk");
    if worst > BUDGET {
        println!("OVER BUDGET: {worst:.2} s > {BUDGET} s");
        return ExitCode::FAILURE;
    }
    println!("within budget: {worst:.2} s at most, {BUDGET} s allowed");
    ExitCode::SUCCESS
}

/// Drops the kernel's page cache; false without the right to do so.
fn drop_caches() -> bool {
    let _ = Command::new("sync").status();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Runs one boot in a process of its own.
fn measure(ring: &Synthetic, what: &str, name: &str, cold: bool) -> Start {
    if cold {
        drop_caches();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let out = child.arg(CHILD).arg(&ring.dir).arg(what).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let reported = String::from_utf8(out.stdout).unwrap();
    let numbers: Vec<f64> = reported.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let three = |at: usize| [numbers[at], numbers[at + 1], numbers[at + 2]];
    let start = Start { seconds: numbers[0], reads: three(1), memory: three(4), found: three(7) };
    let Start { seconds, reads, memory, found } = &start;
    println!(
        "{name:34} {seconds:>7.3} {:>8} {:>9.1} {:>9.1} {:>10.1}/{:.1}/{:.1} {:>3} repaired {} gaps {} troubles; per file {:.3} ms, {:.2} kB",
        reads[0],
        reads[1] / 1e6,
        reads[2] / 1e6,
        memory[0] / 1000.0,
        memory[1] / 1000.0,
        memory[2] / 1000.0,
        found[0],
        found[1],
        found[2],
        seconds * 1000.0 / f64::from(FILES),
        (memory[1] - memory[0]) / f64::from(FILES)
    );
    start
}

/// The measured process: prints [`Start`] as numbers.
fn tell(dir: &Path, what: &str) {
    let settings = synthetic::settings(dir);
    let (reads, memory) = (io(), resident());
    let started = Instant::now();
    let disk = Arc::new(RealDisk::open(dir, false).unwrap());
    let opened =
        (what == ENGINE).then(|| Engine::open(disk, &settings, Timestamp::default()).unwrap());
    if opened.is_none() {
        read_blocks(dir);
    }
    let seconds = started.elapsed().as_secs_f64();
    let (after, now) = (io(), resident());
    let update = opened.as_ref().map_or(&[][..], |(_, update)| update);
    let found = update.iter().find_map(|update| {
        if let StorageUpdate::Started(found) = update { Some(found) } else { None }
    });
    let (repaired, gaps) = found.map_or((0, 0), |found| (found.repairs.len(), found.gaps.len()));
    let troubles =
        update.iter().filter(|update| matches!(update, StorageUpdate::Trouble { .. })).count();
    print!("{seconds} {} {} {} ", after[0] - reads[0], after[1] - reads[1], after[2] - reads[2]);
    println!("{} {} {} {repaired} {gaps} {troubles}", memory[0], now[0], now[1]);
}

/// Opens every file and reads its first block, without read-ahead.
fn read_blocks(dir: &Path) {
    let mut block = [0; 4096];
    for index in 0..FILES {
        let file = File::open(dir.join(FileId::Segment(index).name())).unwrap();
        rustix::fs::fadvise(&file, 0, None, Advice::Random).unwrap();
        file.read_exact_at(&mut block, 0).unwrap();
    }
}

fn io() -> [u64; 3] {
    numbers("/proc/self/io", ["syscr:", "rchar:", "read_bytes:"])
}

fn resident() -> [u64; 2] {
    numbers("/proc/self/status", ["VmRSS:", "VmHWM:"])
}

fn numbers<const N: usize>(file: &str, keys: [&str; N]) -> [u64; N] {
    let text = std::fs::read_to_string(file).unwrap();
    let number = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
    };
    keys.map(|key| number(key).unwrap())
}
