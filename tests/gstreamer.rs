//! A camera that is not ours: GStreamer's RTSP server with real footage. What `ring export` gives decodes to the source's frames.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Frames of the source that must come out again: five seconds at 25 fps.
const FRAMES: usize = 125;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Files of the shared data, where there are any.
fn footage(name: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/camera").join(name);
    if !here.exists() {
        println!("SKIPPED: no {}", here.display());
        return None;
    }
    Some(here)
}

fn has_gstreamer() -> bool {
    let probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer";
    let found =
        Command::new("/usr/bin/python3").args(["-c", probe]).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    let ffmpeg = Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).status().is_ok();
    if !found || !ffmpeg {
        println!("SKIPPED: GStreamer's RTSP server for Python or ffmpeg is not installed");
    }
    found && ffmpeg
}

/// Digests of the decoded pictures of a file.
fn pictures(file: &Path) -> Vec<String> {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(file)
        .args(["-map", "0:v", "-frames:v", "400", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    assert!(out.stderr.is_empty(), "{}: {}", file.display(), String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit(", ").next()).map(String::from).collect()
}

/// Seconds a player shows for a file.
fn length(file: &Path) -> f64 {
    let probe = ["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"];
    let out = Command::new("ffprobe").args(probe).arg(file).output().unwrap();
    String::from_utf8_lossy(&out.stdout).trim().parse().unwrap()
}

fn records_bit_for_bit(name: &str, video: &str, audio: &str) {
    let Some(source) = footage(name).filter(|_| has_gstreamer()) else {
        return;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/gst_rtsp.py");
    let server = Command::new("/usr/bin/python3")
        .arg(script)
        .arg(port.to_string())
        .arg(&source)
        .args([video, audio])
        .stdout(Stdio::piped())
        .spawn();
    let mut server = Running(server.unwrap());
    let mut ready = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text = format!(
        "site = \"gst\"\n[camera]\nmain_url = \"rtsp://127.0.0.1:{port}/stream\"\n[storage]\ndir = {:?}\nrequire_mount = false\nsegment = \"2 MiB\"\nbudget = \"32 MiB\"\n\
         [motion]\nenabled = false\n[uplink]\nhost = \"127.0.0.1\"\nport = 9\n",
        at("ring")
    );
    std::fs::write(at("taimat.toml"), text).unwrap();
    let agent = Command::new(env!("CARGO_BIN_EXE_taimat"))
        .arg("run")
        .arg("--config")
        .arg(at("taimat.toml"))
        .stderr(Stdio::null())
        .spawn();
    let agent = Running(agent.unwrap());
    std::thread::sleep(Duration::from_secs(9));
    drop(agent);
    let out = Command::new(env!("CARGO_BIN_EXE_taimat"))
        .args(["ring", "export", "--dir"])
        .arg(at("ring"))
        .arg("-o")
        .arg(at("out.mp4"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let (exported, original) = (pictures(&at("out.mp4")), pictures(&source));
    assert!(exported.len() >= FRAMES, "only {} pictures were recorded", exported.len());
    let begin = original.windows(FRAMES).position(|window| window == &exported[..FRAMES]);
    assert!(begin.is_some(), "the first {FRAMES} exported pictures are not a stretch of {name}");
    let shown = length(&at("out.mp4"));
    assert!((shown - exported.len() as f64 / 25.0).abs() < 1.0, "{} pictures, but a player shows {shown} s", exported.len());
    if audio != "none" {
        let probe = Command::new("ffprobe")
            .args(["-v", "error", "-select_streams", "a", "-show_entries", "stream=codec_name", "-of", "csv=p=0"])
            .arg(at("out.mp4"))
            .output()
            .unwrap();
        let codec = String::from_utf8_lossy(&probe.stdout).trim().to_owned();
        assert_eq!(codec, if audio == "pcma" { "pcm_alaw" } else { "aac" });
    }
}

#[test]
fn h264_is_recorded_bit_for_bit() {
    records_bit_for_bit("road-1080p25-h264-2m.mp4", "h264", "none");
}

#[test]
fn h265_with_aac_is_recorded_bit_for_bit() {
    records_bit_for_bit("road-1080p25-h265-aac.mp4", "h265", "aac");
}

#[test]
fn h264_with_g711_is_recorded_bit_for_bit() {
    records_bit_for_bit("road-360p25-h264-alaw.mov", "h264", "pcma");
}
