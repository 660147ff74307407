//! GStreamer's RTSP server with real footage, through the whole chain to the office.
//!
//! The output of `ring export` must decode to the frames of the source.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use taimat::units::WallTime;

use crate::footage::footage;
use crate::harness::{Rig, Running, free_port, has, seconds, taimat};

/// Smallest number of exported frames: ten seconds at 25 fps.
const FRAMES: usize = 250;
/// An exported range in seconds of the recording; its ends lie between two pictures.
const FROM: f64 = 5.3;
const TO: f64 = 6.9;
/// Pictures a second of all footage.
const FPS: f64 = 25.0;
/// Longest fragment, seconds: an export ends with the fragment that contains its end.
const GOP_MAX: f64 = 1.1;

/// A served file: its name in the shared data, and its codecs for `gst_rtsp.py`.
struct Footage {
    file: &'static str,
    video: &'static str,
    audio: &'static str,
}

impl Footage {
    /// Path of the file; `None` if it does not exist.
    fn path(&self) -> Option<PathBuf> {
        let here = footage("camera").join(self.file);
        if !here.exists() {
            println!("SKIPPED: no {}", here.display());
            return None;
        }
        Some(here)
    }
}

fn has_gstreamer() -> bool {
    let probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer";
    let found = Command::new("/usr/bin/python3")
        .args(["-c", probe])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        println!("SKIPPED: GStreamer's RTSP server for Python is not installed");
    }
    found
}

/// A GStreamer camera with the main stream at /main and an optional sub-stream at /sub.
fn camera(port: u16, main: &Footage, sub: Option<&Footage>) -> Option<Running> {
    let mut mounts = Vec::new();
    for (name, footage) in [("main", Some(main)), ("sub", sub)] {
        if let Some(footage) = footage {
            mounts.push(format!(
                "{name},{},{},{}",
                footage.path()?.display(),
                footage.video,
                footage.audio
            ));
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/gst_rtsp.py");
    let mut command = Command::new("/usr/bin/python3");
    let mut server = Running::start(
        command.arg(script).arg(port.to_string()).args(mounts).stdout(Stdio::piped()),
    );
    let mut ready = String::new();
    BufReader::new(server.0.stdout.take()?).read_line(&mut ready).unwrap();
    Some(server)
}

fn tool(program: &str, args: &[&str], file: &Path, more: &[&str]) -> Vec<u8> {
    let out = Command::new(program)
        .args(["-v", "error"])
        .args(args)
        .arg(file)
        .args(more)
        .output()
        .unwrap();
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{}: {}",
        file.display(),
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

/// Digests of a file's decoded pictures, or of its sound packets.
fn digests(file: &Path, what: &[&str]) -> Vec<String> {
    let out = tool("ffmpeg", &["-i"], file, &[what, &["-f", "framemd5", "-"]].concat());
    let text = String::from_utf8(out).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit(", ").next())
        .map(String::from)
        .collect()
}

/// Duration of a file as a player shows it, seconds.
fn length(file: &Path) -> f64 {
    let out = tool("ffprobe", &["-show_entries", "format=duration", "-of", "csv=p=0"], file, &[]);
    String::from_utf8(out).unwrap().trim().parse().unwrap()
}

/// True if `part` is a contiguous part of `whole`.
fn is_stretch<T: PartialEq>(part: &[T], whole: &[T]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// Presentation times of key frames, seconds after the first.
fn key_frames(file: &Path) -> Vec<f64> {
    let show = ["-select_streams", "v", "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0"];
    let text = String::from_utf8(tool("ffprobe", &show, file, &[])).unwrap();
    let keys = text
        .lines()
        .filter_map(|line| line.split_once(',').filter(|(_, flags)| flags.starts_with('K')));
    let seconds: Vec<f64> = keys.map(|(second, _)| second.parse().unwrap()).collect();
    // Sound may start before the first picture.
    seconds.iter().map(|second| second - seconds[0]).collect()
}

/// Exports a range from the middle of `whole`, the start of the ring.
///
/// The export must equal `whole` from the key frame before the range to the fragment with its end.
fn a_middle_range_is_a_stretch(rig: &Rig, whole: &Path, pictures: &[String]) {
    let begin = WallTime::parse(rig.ring_list()[0]["from"].as_str().unwrap()).unwrap();
    let at = |second: f64| begin.plus_micros((second * 1e6) as i64);
    let key = key_frames(whole).into_iter().rfind(|key| *key <= FROM).unwrap();
    let part = rig.dir.path().join("part.mp4");
    let words = [
        "--from",
        &at(FROM).to_string(),
        "--to",
        &at(TO).to_string(),
        "-o",
        &part.display().to_string(),
    ]
    .map(String::from);
    let done =
        taimat().args(["ring", "export", "--dir", &rig.at("ring")]).args(words).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let exported = digests(&part, &["-map", "0:v"]);
    let first = (key * FPS).round() as usize;
    let stretch = &pictures[first..first + exported.len()];
    assert!(
        exported == stretch,
        "{} pictures are not the {first}th of the whole and those after it",
        exported.len()
    );
    let seconds = exported.len() as f64 / FPS;
    let wanted = TO - key;
    assert!(
        (wanted..wanted + GOP_MAX).contains(&seconds),
        "{seconds} s for a range of {wanted} s from its key frame"
    );
    println!(
        "of second {FROM} to {TO} the {} pictures from second {key:.2} are exported",
        exported.len()
    );
}

/// The number of exported packets or samples of sound, which are a contiguous part of the source's.
fn compared_sounds(main: &Footage, out: &Path, source: &Path) -> usize {
    match main.audio {
        "aac" => {
            let packets = ["-map", "0:a", "-c", "copy"];
            let (exported, original) = (digests(out, &packets), digests(source, &packets));
            assert!(
                exported.len() > 200 && is_stretch(&exported, &original),
                "{} AAC packets are not the source's",
                exported.len()
            );
            exported.len()
        }
        "pcma" => {
            let samples = ["-map", "0:a", "-c", "copy", "-f", "alaw", "-"];
            let (exported, original) =
                (tool("ffmpeg", &["-i"], out, &samples), tool("ffmpeg", &["-i"], source, &samples));
            assert!(
                exported.len() > 80_000 && is_stretch(&exported, &original),
                "{} A-law samples are not the source's",
                exported.len()
            );
            exported.len()
        }
        _ => 0,
    }
}

fn arrives_bit_for_bit(main: &Footage, sub: Option<&Footage>) {
    let port = free_port();
    if !has_gstreamer() || !has("ffmpeg") || !has("mosquitto") {
        return;
    }
    let Some(_camera) = camera(port, main, sub) else {
        return;
    };
    let url = |name: &str| format!("rtsp://127.0.0.1:{port}/{name}");
    // Decoding 1080p H.265 without a sub-stream takes more than half a core in a development build.
    let storage = "segment = \"2 MiB\"\nbudget = \"64 MiB\"\n[motion]\ncpu = 100";
    let rig = Rig::new(&url("main"), sub.map(|_| url("sub")).as_deref(), storage);
    let _broker = rig.broker();
    let _office = rig.office();
    let mut agent = rig.agent();
    seconds(12);
    // Only the first pass of the file, before the server repeats it.
    let out = rig.dir.path().join("out.mp4");
    let export =
        ["ring", "export", "--dir", &rig.at("ring"), "-o", &rig.at("out.mp4")].map(String::from);
    let done = taimat().args(export).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    rig.wait_until_whole(60);
    assert_eq!(agent.terminate(), Some(0));
    let source = main.path().unwrap();
    let pictures = ["-map", "0:v", "-frames:v", "900"];
    let (exported, original) = (digests(&out, &pictures), digests(&source, &pictures));
    assert!(exported.len() >= FRAMES, "only {} pictures were recorded", exported.len());
    assert!(
        is_stretch(&exported, &original),
        "the {} exported pictures are not a contiguous part of {}",
        exported.len(),
        main.file
    );
    a_middle_range_is_a_stretch(&rig, &out, &exported);
    let shown = length(&out);
    assert!(
        (shown - exported.len() as f64 / FPS).abs() < 0.5,
        "{} pictures, but a player shows {shown} s",
        exported.len()
    );
    let sounds = compared_sounds(main, &out, &source);
    let (events, files) = rig.received();
    let clips: Vec<_> = files.iter().filter(|file| file.purpose == "clip").collect();
    for clip in &clips {
        tool("ffmpeg", &["-i"], &clip.path, &["-f", "null", "-"]);
        assert_eq!(
            taimat().arg("verify").arg(&clip.path).output().unwrap().status.code(),
            Some(3),
            "{}",
            clip.path.display()
        );
    }
    println!(
        "{}: {} pictures and {sounds} sound units exported are the source's, {shown:.1} s; the office has {} events, {} clips",
        main.file,
        exported.len(),
        events.len(),
        clips.len()
    );
}

#[test]
fn h264_1080p_with_a_sub_stream_arrives_bit_for_bit() {
    let main = Footage { file: "road-1080p25-h264-2m.mp4", video: "h264", audio: "none" };
    let sub = Footage { file: "road-360p25-h264-400k.mp4", video: "h264", audio: "none" };
    arrives_bit_for_bit(&main, Some(&sub));
}

#[test]
fn h265_1080p_with_aac_arrives_bit_for_bit() {
    arrives_bit_for_bit(
        &Footage { file: "road-1080p25-h265-aac.mp4", video: "h265", audio: "aac" },
        None,
    );
}

#[test]
fn h264_360p_with_g711_arrives_bit_for_bit() {
    arrives_bit_for_bit(
        &Footage { file: "road-360p25-h264-alaw.mov", video: "h264", audio: "pcma" },
        None,
    );
}
