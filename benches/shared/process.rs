//! Recorder processes on one camera, the agent and ffmpeg, and their cost as the kernel reports it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use taimat::sim::camera::{Options, SimCamera};

#[path = "../../tests/common/process.rs"]
#[expect(dead_code, reason = "tests use more of it")]
mod common;
#[path = "../../tests/common/footage.rs"]
mod footage;

pub use common::{Running, free_port, taimat};
pub use footage::footage;

/// Resources that a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// CPU seconds (proc(5): utime and stime in ticks of 1/100 s).
    pub cpu: f64,
    /// Resident memory now and at most, MB.
    pub rss: f64,
    pub most: f64,
    /// MB written to files.
    pub written: f64,
}

impl Running {
    /// The resources used so far.
    pub fn usage(&self) -> Usage {
        let read =
            |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", self.0.id())).unwrap();
        let stat = read("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split_whitespace().collect();
        let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        let (status, io) = (read("status"), read("io"));
        let number = |text: &str, key: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let (rss, most) = (number(&status, "VmRSS:") / 1000.0, number(&status, "VmHWM:") / 1000.0);
        Usage { cpu: ticks / 100.0, rss, most, written: number(&io, "wchar:") / 1e6 }
    }
}

/// A camera process and its two streams.
pub struct Camera {
    server: Option<Running>,
    _sim: Option<SimCamera>,
    pub main: String,
    pub sub: String,
}

impl Camera {
    /// Starts GStreamer's server with 1080p25 footage if both are available, else the simulated
    /// camera;
    /// prints which.
    pub fn start() -> Camera {
        let footage = footage("camera");
        let (main, sub) =
            (footage.join("road-1080p25-h264-2m.mp4"), footage.join("road-360p25-h264-400k.mp4"));
        if let Some(camera) = main.exists().then(|| Camera::serve(&main, &sub)).flatten() {
            println!("camera: GStreamer, road-1080p25-h264-2m.mp4 and road-360p25-h264-400k.mp4");
            return camera;
        }
        println!(
            "camera: simulated, 1280x720 and 640x360 at 10 fps (footage or GStreamer is missing)"
        );
        let sim = SimCamera::start(Options { login: None, ..Options::default() }).unwrap();
        let (main, sub) = (sim.main_url(), sim.sub_url());
        std::thread::sleep(Duration::from_secs(2));
        Camera { server: None, _sim: Some(sim), main, sub }
    }

    /// Starts GStreamer's server with two H.264 files; `None` without GStreamer.
    pub fn serve(main: &Path, sub: &Path) -> Option<Camera> {
        let port = free_port();
        let mounts = [("main", main), ("sub", sub)]
            .map(|(name, file)| format!("{name},{},h264,none", file.display()));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/gst_rtsp.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(port.to_string()).args(mounts);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let server = Some(Running(child));
        let url = |name: &str| format!("rtsp://127.0.0.1:{port}/{name}");
        (ready.trim() == "ready").then(|| Camera {
            server,
            _sim: None,
            main: url("main"),
            sub: url("sub"),
        })
    }

    /// CPU seconds of the server so far; `None` if it is not a process of its own.
    pub fn cpu(&self) -> Option<f64> {
        self.server.as_ref().map(|server| server.usage().cpu)
    }
}

/// Starts the agent: it records `camera` into `dir`, with or without motion; the broker is at
/// `port`
/// (9: none).
pub fn agent(dir: &Path, camera: &Camera, motion: bool, port: u16) -> Running {
    agent_of(taimat(), dir, camera, motion, port)
}

/// Like [`agent`], for the binary of `command`.
pub fn agent_of(
    mut command: Command,
    dir: &Path,
    camera: &Camera,
    motion: bool,
    port: u16,
) -> Running {
    std::fs::create_dir_all(dir).unwrap();
    let sub = if motion { format!("sub_url = \"{}\"\n", camera.sub) } else { String::new() };
    let text = format!(
        "site = \"bench\"\n[camera]\nmain_url = \"{}\"\n{sub}[storage]\ndir = {:?}\nrequire_mount = false\nbudget = \"64 MiB\"\n\
         [motion]\nenabled = {motion}\n[uplink]\nhost = \"127.0.0.1\"\nport = {port}\nprotocol = \"3.1.1\"\n",
        camera.main,
        dir.join("ring")
    );
    std::fs::write(dir.join("taimat.toml"), text).unwrap();
    command
        .args(["run", "--config"])
        .arg(dir.join("taimat.toml"))
        .stderr(std::fs::File::create(dir.join("log")).unwrap());
    Running(command.spawn().unwrap())
}

/// Starts ffmpeg, which copies `camera` into fragmented MP4 segments in `dir`; `None` without
/// ffmpeg.
pub fn ffmpeg(dir: PathBuf, camera: &Camera) -> Option<Running> {
    std::fs::create_dir_all(&dir).unwrap();
    let copy = ["-c", "copy", "-f", "segment", "-segment_time", "60", "-segment_format", "mp4"];
    let fragments = ["-segment_format_options", "movflags=frag_keyframe+empty_moov"];
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "error", "-nostdin", "-rtsp_transport", "tcp", "-i", &camera.main])
        .args(copy)
        .args(fragments);
    command
        .arg(dir.join("%03d.mp4"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
        .map(Running)
}
