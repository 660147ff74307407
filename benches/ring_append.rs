//! What the ring costs: MB/s of payload, and bytes that reach the device ÷ payload, on ext4 over a loop device where this is
//! allowed (root), beside the budget of promise P6. Run: `cargo bench --bench ring_append`.
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure stops")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use taimat::camera::{Codec, Frame, Role, TrackKind, TrackParams};
use taimat::settings::{StorageSettings, raw};
use taimat::storage::disk::RealDisk;
use taimat::storage::engine::Engine;
use taimat::storage::{StorageNews, StorageOrder};
use taimat::units::{Digest, Mono, Stamp};

/// Bytes to the device ÷ payload, after the first lap (promise P6).
const BUDGET: f64 = 1.05;
/// Bytes of the ring.
const RING: u64 = 64 << 20;
/// Bytes of one frame: 25 of them a second are 2 Mbit/s.
const FRAME: usize = 10_000;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let device = loop_ext4(dir.path());
    if device.is_none() {
        println!("no loop device here: bytes are those handed to the file system, in {}", dir.path().display());
    }
    let ring = dir.path().join("mnt").join("ring");
    std::fs::create_dir_all(ring.parent().unwrap()).unwrap();
    let text = format!(
        "site = \"bench\"\ncamera.main_url = \"rtsp://x/\"\nuplink.host = \"localhost\"\n[storage]\ndir = {ring:?}\nbudget = \"{} MiB\"\n\
         segment = \"4 MiB\"\njournal_slots = 64\nstill_slots = 1\n",
        RING >> 20
    );
    let settings = raw::parse(&text, &|_| Err("none".into())).unwrap().storage;
    let (first, second) = laps(&settings, device.as_deref());
    println!("first lap (files are made): {:.1} MB/s, {:.3} bytes written per byte of payload", first.0, first.1);
    println!(
        "overwriting:                {:.1} MB/s, {:.3} bytes written per byte of payload (budget {BUDGET})",
        second.0, second.1
    );
    if device.is_some() {
        let _ = Command::new("umount").arg(dir.path().join("mnt")).status();
    }
    if second.1 > BUDGET {
        println!("OVER BUDGET");
        std::process::exit(1);
    }
}

/// A mounted ext4 on a loop device in `dir/mnt`; gives the device's name in /sys/block.
fn loop_ext4(dir: &Path) -> Option<String> {
    let (image, mount) = (dir.join("image"), dir.join("mnt"));
    std::fs::create_dir_all(&mount).ok()?;
    std::fs::File::create(&image).ok()?.set_len(RING * 3).ok()?;
    let run = |command: &str, args: &[&str]| Command::new(command).args(args).output().ok().filter(|out| out.status.success());
    run("/usr/sbin/mkfs.ext4", &["-q", image.to_str()?])?;
    run("mount", &["-o", "loop", image.to_str()?, mount.to_str()?])?;
    let source = run("findmnt", &["-n", "-o", "SOURCE", mount.to_str()?])?;
    Some(String::from_utf8(source.stdout).ok()?.trim().strip_prefix("/dev/")?.to_owned())
}

/// Bytes written to a device so far (Documentation/block/stat: field 7 is sectors written).
fn device_bytes(device: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/sys/block/{device}/stat")).unwrap();
    stat.split_whitespace().nth(6).and_then(|sectors| sectors.parse::<u64>().ok()).unwrap() * 512
}

/// (MB/s, bytes written ÷ payload) of the first lap and of two more.
fn laps(settings: &StorageSettings, device: Option<&str>) -> ((f64, f64), (f64, f64)) {
    let disk = Arc::new(RealDisk::open(&settings.dir, false).unwrap());
    let (mut engine, _) = Engine::open(disk, settings, Stamp::default()).unwrap();
    let sample_entry = vec![0, 0, 0, 8, b'a', b'v', b'c', b'1'];
    let (kind, codec, digest) = (TrackKind::Video, Codec::H264, Digest::of(&sample_entry));
    let params =
        Arc::new(TrackParams { kind, codec, timescale: 90_000, sample_entry, annex_b: Vec::new(), size: (16, 16), digest });
    let mut number = 0_u64;
    let mut lap = |payload: u64| {
        let (begun, before, mut out) = (Instant::now(), device.map_or(0, device_bytes), Vec::new());
        let mut sent = 0;
        while sent < payload {
            let at = Stamp { mono: Mono(1_000_000 + number * 40_000), ..Stamp::default() };
            let (data, key, pts) = (vec![number as u8; FRAME].into(), number.is_multiple_of(50), number as i64 * 3600);
            engine.frame(
                &Arc::new(Frame { role: Role::Main, params: params.clone(), data, key, pts, run: 1, at, lost: 0 }),
                &mut out,
            );
            (number, sent) = (number + 1, sent + FRAME as u64);
        }
        engine.idle(Stamp { mono: Mono(1_000_000 + number * 40_000 + 60_000_000), ..Stamp::default() }, &mut out);
        let counts =
            out.iter().rev().find_map(|news| if let StorageNews::Counts(counts) = news { Some(*counts) } else { None }).unwrap();
        (
            sent as f64 / 1e6 / begun.elapsed().as_secs_f64(),
            device.map_or(counts.written, |device| device_bytes(device) - before),
            sent,
            counts.written,
        )
    };
    let one = lap(RING);
    let two = lap(RING * 2);
    engine.order(Stamp::default(), StorageOrder::Stop, &mut Vec::new());
    let written = if device.is_some() { two.1 } else { two.1 - one.3 };
    ((one.0, one.1 as f64 / one.2 as f64), (two.0, written as f64 / two.2 as f64))
}
