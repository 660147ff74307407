//! CPU and memory of the whole agent, compared with Debian's Motion on the same two RTSP streams.
//!
//! Both record 1080p25 and analyse 640x360 at 25 pictures a second, on a busy road and on quiet
//! ones.
//! Both make events; Motion records during motion, the agent always.
//! It needs GStreamer, ffmpeg, the footage and `apt-get install motion`.
//! Run: `cargo bench --bench beside_motion` (about four minutes).
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure stops")]

#[path = "../shared/process.rs"]
#[expect(dead_code, reason = "the benches beside ffmpeg use more of it")]
mod process;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use process::{Camera, Running, Usage, agent, taimat};

/// Budgets of CPU ÷ Motion's: busy road, quiet road, and noise at the full bitrate. There sizes of
/// access units carry no information, so every picture is decoded.
const CPU: [f64; 3] = [1.0, 0.3, 1.0];
/// Budget of memory ÷ Motion's.
const MEMORY: f64 = 0.4;
/// Measured time, seconds; the footage lasts 60 s.
const SECONDS: u64 = 40;
/// Time for the connection and learning the scene, seconds.
const SETTLE: u64 = 12;

fn main() {
    let footage = process::footage("camera");
    let busy =
        [footage.join("road-1080p25-h264-2m.mp4"), footage.join("road-360p25-h264-400k.mp4")];
    if !busy[0].exists() || Command::new("motion").arg("-h").output().is_err() {
        return println!(
            "SKIPPED: no footage, or `motion` is not installed (apt-get install motion)"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let calm = quiet(dir.path(), &busy, "calm", "-crf 23");
    let starved = quiet(dir.path(), &busy, "starved", "-b:v CAP");
    println!(
        "{SECONDS} s of 1080p25 at 2 Mbit/s, recorded, and 640x360 at 25 pictures a second, analysed; % of one core"
    );
    let mut good = true;
    for (at, (road, files)) in
        [("busy", &busy), ("quiet", &calm), ("noise", &starved)].into_iter().enumerate()
    {
        let Some(camera) = Camera::serve(&files[0], &files[1]) else {
            return println!("SKIPPED: GStreamer is not installed");
        };
        let [ours, theirs] = beside(&dir.path().join(road), &camera);
        let (cpu, memory) = (ours.cpu / theirs.cpu, ours.most / theirs.most);
        println!(
            "{road:6} taimat {:6.2} % {:6.1} MB   Motion {:6.2} % {:6.1} MB",
            ours.cpu, ours.most, theirs.cpu, theirs.most
        );
        println!(
            "       CPU ÷ Motion {cpu:.2} (budget {}), memory ÷ Motion {memory:.2} (budget {MEMORY})",
            CPU[at]
        );
        good &= cpu <= CPU[at] && memory <= MEMORY;
    }
    if !good {
        println!("OVER BUDGET");
        std::process::exit(1);
    }
}

/// A minute of the empty road: one picture of the footage with new noise in every frame.
///
/// Cameras use constant quality with a cap (`-crf 23`), or the full bitrate (`-b:v CAP`), which
/// noise then fills. Key frames have a fixed interval: noise is no scene change (`-sc_threshold
/// 0`).
fn quiet(dir: &Path, busy: &[PathBuf; 2], name: &str, control: &str) -> [PathBuf; 2] {
    let make = |from: &PathBuf, stream: &str, rate: &str| {
        let file = dir.join(format!("{name}-{stream}.mp4"));
        let control = control.replace("CAP", rate);
        let still = "select=eq(n\\,0),loop=loop=-1:size=1,setpts=N/25/TB,noise=alls=4:allf=t";
        let made = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-i"])
            .arg(from)
            .args(["-vf", still, "-t", "60", "-r", "25"])
            .args("-c:v libx264 -preset veryfast -bf 0 -g 50 -sc_threshold 0".split(' '))
            .args(control.split(' '))
            .args(["-maxrate", rate, "-bufsize", rate, "-an"])
            .arg(&file)
            .status();
        assert!(made.unwrap().success());
        file
    };
    [make(&busy[0], "main", "2M"), make(&busy[1], "sub", "400k")]
}

/// Runs both and returns the use of each in the measured time: % of a core, MB.
fn beside(dir: &Path, camera: &Camera) -> [Usage; 2] {
    std::fs::create_dir_all(dir).unwrap();
    let port = taimat::sim::broker::start().unwrap();
    let mut office = taimat();
    office
        .args(["office", "run", "--protocol", "3.1.1", "--port", &port.to_string(), "--dir"])
        .arg(dir.join("archive"));
    let _office = Running(office.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let both =
        [agent(&dir.join("taimat"), camera, true, port), motion(&dir.join("motion"), camera)];
    std::thread::sleep(Duration::from_secs(SETTLE));
    let before = both.each_ref().map(Running::usage);
    std::thread::sleep(Duration::from_secs(SECONDS));
    let after = both.each_ref().map(Running::usage);
    let percent = |at: usize| (after[at].cpu - before[at].cpu) * 100.0 / SECONDS as f64;
    [0, 1].map(|at| Usage { cpu: percent(at), ..after[at] })
}

/// Starts Motion as its documentation advises for two streams: analysis of the small one, recording
/// of the large one without transcoding.
fn motion(dir: &Path, camera: &Camera) -> Running {
    std::fs::create_dir_all(dir).unwrap();
    let text = format!(
        "daemon off\nsetup_mode off\nlog_level 4\ntarget_dir {}\nnetcam_url {}\nnetcam_high_url {}\nwidth 640\nheight 360\n\
         framerate 25\nmovie_output on\nmovie_passthrough on\npicture_output off\nwebcontrol_port 0\nstream_port 0\n",
        dir.display(),
        camera.sub,
        camera.main
    );
    std::fs::write(dir.join("motion.conf"), text).unwrap();
    let mut command = Command::new("motion");
    command.arg("-n").arg("-c").arg(dir.join("motion.conf")).stdout(Stdio::null());
    Running(command.stderr(std::fs::File::create(dir.join("log")).unwrap()).spawn().unwrap())
}
