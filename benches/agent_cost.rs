//! What the agent costs beside ffmpeg on the same RTSP stream in the same run: CPU of recording only, CPU and memory with motion.
//! The camera is GStreamer's server with 1080p25 footage where both are here, else the simulated camera. The agent's figures
//! include everything: a flush a second, SHA-256 over all it writes, the journal. ffmpeg copies into segments and flushes nothing.
//! Run: `cargo bench --bench agent_cost`.
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure stops")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use taimat::sim::camera::{Options, SimCamera};

/// Seconds measured, after the connect.
const SECONDS: u64 = 30;
/// Seconds for connecting and the first key frame.
const SETTLE: u64 = 4;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What keeps the camera alive, and its two streams.
struct Camera {
    _server: Option<Running>,
    _sim: Option<SimCamera>,
    main: String,
    sub: String,
}

fn camera() -> Camera {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let footage = here.join("../shared/data/camera");
    let (main, sub) = (footage.join("road-1080p25-h264-2m.mp4"), footage.join("road-360p25-h264-400k.mp4"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    if main.exists() {
        let mounts = [("main", main), ("sub", sub)].map(|(name, file)| format!("{name},{},h264,none", file.display()));
        let mut command = Command::new("/usr/bin/python3");
        command.arg(here.join("tests/peers/gst_rtsp.py")).arg(port.to_string()).args(mounts);
        if let Ok(mut child) = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn() {
            let mut ready = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
            if ready.trim() == "ready" {
                println!("camera: GStreamer, road-1080p25-h264-2m.mp4 and road-360p25-h264-400k.mp4");
                let url = |name: &str| format!("rtsp://127.0.0.1:{port}/{name}");
                return Camera { _server: Some(Running(child)), _sim: None, main: url("main"), sub: url("sub") };
            }
        }
    }
    println!("camera: simulated, 1280x720 and 640x360 at 10 fps (no footage or no GStreamer here)");
    let sim = SimCamera::start(Options { login: None, ..Options::default() }).unwrap();
    let (main, sub) = (sim.main_url(), sim.sub_url());
    std::thread::sleep(Duration::from_secs(2));
    Camera { _server: None, _sim: Some(sim), main, sub }
}

/// CPU seconds of a process so far (proc(5): utime and stime in ticks of 1/100 s), and its resident memory now and at most in MB.
fn usage(child: &Child) -> (f64, f64, f64) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", child.id())).unwrap();
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split_whitespace().collect();
    let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let status = read("status");
    let memory = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1000.0
    };
    (ticks / 100.0, memory("VmRSS:"), memory("VmHWM:"))
}

fn agent(dir: &Path, camera: &Camera, motion: bool) -> Running {
    std::fs::create_dir_all(dir).unwrap();
    let sub = if motion { format!("sub_url = \"{}\"\n", camera.sub) } else { String::new() };
    let text = format!(
        "site = \"bench\"\n[camera]\nmain_url = \"{}\"\n{sub}[storage]\ndir = {:?}\nrequire_mount = false\nbudget = \"64 MiB\"\n\
         [motion]\nenabled = {motion}\n[uplink]\nhost = \"127.0.0.1\"\nport = 9\n",
        camera.main,
        dir.join("ring")
    );
    std::fs::write(dir.join("taimat.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_taimat"));
    command.args(["run", "--config"]).arg(dir.join("taimat.toml")).stderr(std::fs::File::create(dir.join("log")).unwrap());
    Running(command.spawn().unwrap())
}

fn ffmpeg(dir: PathBuf, camera: &Camera) -> Option<Running> {
    std::fs::create_dir_all(&dir).unwrap();
    let copy = ["-c", "copy", "-f", "segment", "-segment_time", "60", "-segment_format", "mp4"];
    let fragments = ["-segment_format_options", "movflags=frag_keyframe+empty_moov"];
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-rtsp_transport", "tcp", "-i", &camera.main]).args(copy).args(fragments);
    command.arg(dir.join("%03d.mp4")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok().map(Running)
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let camera = camera();
    let mut processes = vec![("taimat, recording only", agent(&dir.path().join("record"), &camera, false))];
    match ffmpeg(dir.path().join("ffmpeg"), &camera) {
        Some(running) => processes.push(("ffmpeg -c copy -f segment", running)),
        None => println!("no ffmpeg here: nothing to compare with"),
    }
    processes.push(("taimat, recording and motion", agent(&dir.path().join("motion"), &camera, true)));
    std::thread::sleep(Duration::from_secs(SETTLE));
    let before: Vec<_> = processes.iter().map(|(_, running)| usage(&running.0)).collect();
    std::thread::sleep(Duration::from_secs(SECONDS));
    let after: Vec<_> = processes.iter().map(|(_, running)| usage(&running.0)).collect();
    let cpu: Vec<f64> = before.iter().zip(&after).map(|(before, after)| (after.0 - before.0) / SECONDS as f64 * 100.0).collect();
    println!("{:30} {:>12} {:>10} {:>10} {:>10}", "", "% of a core", "ratio", "RSS MB", "most MB");
    for (((name, _), used), usage) in processes.iter().zip(&cpu).zip(&after) {
        println!("{name:30} {used:>12.2} {:>10.2} {:>10.1} {:>10.1}", used / cpu[0], usage.1, usage.2);
    }
}
