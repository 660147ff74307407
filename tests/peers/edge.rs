//! aarch64 binary of the device, without simulator and office, run under qemu as agent of a whole
//! chain.

use std::path::Path;
use std::process::Command;

use taimat::units::Digest;

use crate::harness::{Rig, Running, has, plays, small_camera, wait_for};

#[test]
#[ignore = "needs a cross-built binary: tests/run cross"]
fn the_aarch64_binary_delivers_an_event_and_a_clip() {
    let Ok(binary) = std::env::var("TAIMAT_EDGE") else {
        println!("SKIPPED: TAIMAT_EDGE names no aarch64 binary");
        return;
    };
    if !has("qemu-aarch64-static") || !has("mosquitto") || !has("ffmpeg") {
        return;
    }
    let camera = small_camera();
    let rig = Rig::simulated(&camera, 48);
    let _broker = rig.broker();
    let _office = rig.office();
    let mut agent = agent(&rig, &binary);
    // Nine seconds of empty road, a crossing, five seconds of quiet, five of post-roll; qemu starts
    // slowly.
    wait_for("no event and clip arrived", 120, || rig.shortfalls().is_empty());
    assert_eq!(agent.terminate(), Some(0), "{}", rig.log());
    let (events, files) = rig.received();
    assert!(events.iter().any(|event| event.kind == "vn.taimat.motion.start.v1"));
    for clip in files.iter().filter(|file| file.purpose == "clip") {
        assert_eq!(Digest::of(&std::fs::read(&clip.path).unwrap()).hex(), clip.sha256);
        plays(&clip.path);
        println!(
            "{}: {} bytes, its hash is right, it plays",
            clip.path.file_name().unwrap().display(),
            clip.size
        );
    }
    rig.ring_is_whole();
    println!(
        "{} events and {} files from {binary} ({} bytes)",
        events.len(),
        files.len(),
        std::fs::metadata(&binary).unwrap().len()
    );
}

fn agent(rig: &Rig, binary: &str) -> Running {
    assert!(Path::new(binary).is_absolute(), "TAIMAT_EDGE must be an absolute path");
    let mut qemu = Command::new("qemu-aarch64-static");
    rig.agent_from(qemu.arg(binary))
}
