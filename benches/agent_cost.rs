//! CPU and memory of the agent, compared with ffmpeg on the same RTSP stream in the same run.
//!
//! It measures recording alone, and recording with motion. The camera is GStreamer's server with
//! 1080p25 footage if both are available, else the simulated camera. The agent's figures include a
//! flush a second, SHA-256 over all written bytes, and the journal; ffmpeg copies segments without
//! flushes. `TAIMAT_BENCH_OLD=PATH` names an earlier binary, which records beside them.
//! Run: `cargo bench --bench agent_cost`.
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure stops")]

#[path = "shared/process.rs"]
mod process;

use std::time::Duration;

use process::{Camera, agent, agent_of, ffmpeg};

/// Measured time after the connection, seconds.
const SECONDS: u64 = 30;
/// Time for the connection and the first key frame, seconds.
const SETTLE: u64 = 4;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let camera = Camera::start();
    let mut processes =
        vec![("taimat, recording only", agent(&dir.path().join("record"), &camera, false, 9))];
    if let Some(old) = std::env::var_os("TAIMAT_BENCH_OLD") {
        let command = std::process::Command::new(old);
        let running = agent_of(command, &dir.path().join("old"), &camera, false, 9);
        processes.push(("earlier binary, recording only", running));
    }
    match ffmpeg(dir.path().join("ffmpeg"), &camera) {
        Some(running) => processes.push(("ffmpeg -c copy -f segment", running)),
        None => println!("ffmpeg is not installed: no comparison"),
    }
    processes.push((
        "taimat, recording and motion",
        agent(&dir.path().join("motion"), &camera, true, 9),
    ));
    std::thread::sleep(Duration::from_secs(SETTLE));
    let (before, camera_before): (Vec<_>, _) =
        (processes.iter().map(|(_, running)| running.usage()).collect(), camera.cpu());
    std::thread::sleep(Duration::from_secs(SECONDS));
    let (after, camera_after): (Vec<_>, _) =
        (processes.iter().map(|(_, running)| running.usage()).collect(), camera.cpu());
    let percent = |before: f64, after: f64| (after - before) / SECONDS as f64 * 100.0;
    let cpu: Vec<f64> =
        before.iter().zip(&after).map(|(before, after)| percent(before.cpu, after.cpu)).collect();
    println!(
        "{:30} {:>12} {:>10} {:>10} {:>10} {:>10}",
        "", "% of a core", "ratio", "RSS MB", "most MB", "MB written"
    );
    for (at, ((name, _), used)) in processes.iter().zip(&cpu).enumerate() {
        let (ratio, written) = (used / cpu[0], after[at].written - before[at].written);
        println!(
            "{name:30} {used:>12.2} {ratio:>10.2} {:>10.1} {:>10.1} {written:>10.2}",
            after[at].rss, after[at].most
        );
    }
    if let (Some(before), Some(after)) = (camera_before, camera_after) {
        println!("{:30} {:>12.2}", "the camera itself", percent(before, after));
    }
}
