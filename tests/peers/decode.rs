//! Rust decoders compared with ffmpeg, luma sample by luma sample, for the coding tools of cameras.
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use taimat::analytics::AnalyticsUpdate;
use taimat::analytics::decode::decoder::{Decoded, Decoder};
use taimat::analytics::decode::scheduler::Analyzer;
use taimat::analytics::detect::stages::Stages;
use taimat::camera::Frame;
use taimat::cli::mp4_samples;
use taimat::settings::MotionSettings;

use crate::footage::footage;
use crate::harness::has;

/// Frames of each stream: three GOPs.
const FRAMES: usize = 36;

fn ffmpeg(args: &[&str]) -> Vec<u8> {
    let out =
        Command::new("ffmpeg").args(["-v", "error", "-nostdin", "-y"]).args(args).output().unwrap();
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

/// Encodes a moving test picture of `size` with `options` to a file.
fn encode(path: &Path, size: &str, options: &[&str]) {
    let scene = format!("testsrc2=size={size}:rate=25,noise=alls=8:allf=t,trim=end_frame={FRAMES}");
    let begin = ["-f", "lavfi", "-i", &scene, "-pix_fmt", "yuv420p", "-g", "12"];
    ffmpeg(&[&begin[..], options, &[path.to_str().unwrap()]].concat());
}

/// Encodes pictures with `options` and decodes them with ours and with ffmpeg; returns the numbers
/// of pictures and of wrong pictures, and the rejections.
fn compare(name: &str, options: &[&str]) -> (usize, usize, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    encode(&path, "352x288", options);
    against_ffmpeg(name, &path)
}

fn against_ffmpeg(name: &str, path: &Path) -> (usize, usize, Vec<String>) {
    let expected = ffmpeg(&[
        "-i",
        path.to_str().unwrap(),
        "-frames:v",
        "200",
        "-pix_fmt",
        "gray",
        "-f",
        "rawvideo",
        "-color_range",
        "tv",
        "-vf",
        "extractplanes=y",
        "-",
    ]);
    let bytes = std::fs::read(path).unwrap();
    let frames = mp4_samples::frames(&bytes).unwrap();
    let mut decoder = Decoder::new(frames[0].params.codec).unwrap();
    let (width, height) = frames[0].params.size;
    let area = usize::from(width) * usize::from(height);
    let mut order: Vec<usize> = (0..frames.len()).collect();
    order.sort_by_key(|at| frames[*at].pts);
    let (mut pictures, mut wrong, mut refusals) = (0, 0, Vec::new());
    for (at, frame) in frames.iter().enumerate().take(200) {
        match decoder.decode(frame) {
            Decoded::Picture(picture) => {
                let shown = order.iter().position(|other| *other == at).unwrap();
                let Some(right) = expected.get(shown * area..(shown + 1) * area) else { continue };
                pictures += 1;
                wrong += usize::from(picture.y[..area] != *right);
            }
            Decoded::Nothing => {}
            Decoded::Rejected(reason) => refusals.push(reason),
        }
    }
    println!(
        "{name}: {} access units, {pictures} pictures, {wrong} differ from ffmpeg's, {} refused {:?}",
        frames.len(),
        refusals.len(),
        refusals.first()
    );
    (pictures, wrong, refusals)
}

#[test]
fn every_camera_coding_tool_decodes_as_ffmpeg_does() {
    if !has("ffmpeg") {
        return;
    }
    let x264 = |more: &[&'static str]| [&["-c:v", "libx264"], more].concat();
    let x265 = |more: &[&'static str]| [&["-c:v", "libx265", "-tag:v", "hvc1"], more].concat();
    let streams = [
        ("H.264 baseline", x264(&["-profile:v", "baseline"])),
        ("H.264 main, CABAC", x264(&["-profile:v", "main", "-bf", "0"])),
        ("H.264 main, CAVLC", x264(&["-profile:v", "main", "-bf", "0", "-coder", "0"])),
        ("H.264 high, CABAC, 8x8", x264(&["-profile:v", "high", "-bf", "0"])),
        ("H.264 high, CABAC, low quantiser", x264(&["-profile:v", "high", "-bf", "0", "-qp", "8"])),
        ("H.264 high, 4 slices", x264(&["-profile:v", "high", "-bf", "0", "-slices", "4"])),
        ("H.264 high, B-frames", x264(&["-profile:v", "high", "-bf", "2"])),
        (
            "H.264 high, weighted, 4 references",
            x264(&["-profile:v", "high", "-bf", "0", "-refs", "4", "-weightp", "2"]),
        ),
        ("H.265 main", x265(&["-x265-params", "log-level=none:bframes=0"])),
        ("H.265 main, B-frames", x265(&["-x265-params", "log-level=none:bframes=2"])),
        (
            "H.265 main, slices and wpp",
            x265(&["-x265-params", "log-level=none:bframes=0:slices=4:wpp=1"]),
        ),
    ];
    let mut bad = Vec::new();
    for (name, options) in streams {
        let (pictures, wrong, refusals) = compare(name, &options);
        if pictures < FRAMES || wrong > 0 || !refusals.is_empty() {
            bad.push(name);
        }
    }
    for name in
        ["road-360p25-h264-400k.mp4", "road-1080p25-h264-2m.mp4", "road-1080p25-h265-aac.mp4"]
    {
        let path = footage("camera").join(name);
        if !path.exists() {
            println!("SKIPPED: no {}", path.display());
            continue;
        }
        let (_, wrong, refusals) = against_ffmpeg(name, &path);
        if wrong > 0 || !refusals.is_empty() {
            bad.push(name);
        }
    }
    assert!(bad.is_empty(), "{bad:?}");
    let (pictures, wrong, refusals) =
        compare("H.264 interlaced", &x264(&["-bf", "0", "-flags", "+ildct+ilme"]));
    assert!(wrong == 0 && pictures + refusals.len() > 0, "a picture was decoded wrongly");
}

/// The access units of an encoded file.
fn stream(size: &str, options: &[&str]) -> Vec<Frame> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    encode(&path, size, options);
    mp4_samples::frames(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn an_inner_parameter_set_cannot_enlarge_the_picture() {
    if !has("ffmpeg") {
        return;
    }
    for options in [
        &["-c:v", "libx264"][..],
        &["-c:v", "libx265", "-tag:v", "hvc1", "-x265-params", "log-level=none"],
    ] {
        let (small, large) = (stream("352x288", options), stream("704x576", options));
        // Parameter sets and picture of the large stream, inside a stream that was announced small.
        let sets = large[0].params.annex_b.split(|byte| *byte == 1).filter(|nal| nal.len() > 6);
        let mut data: Vec<u8> = Vec::new();
        for nal in sets.map(|nal| nal.strip_suffix(&[0, 0, 0]).unwrap_or(nal)) {
            data.extend((nal.len() as u32).to_be_bytes());
            data.extend(nal);
        }
        data.extend_from_slice(&large[0].data);
        let hostile = Frame { data: data.into(), ..Frame::clone(&small[0]) };
        let mut decoder = Decoder::new(small[0].params.codec).unwrap();
        if let Decoded::Picture(picture) = decoder.decode(&hostile) {
            assert!(
                picture.width <= 352 && picture.height <= 288,
                "{options:?}: {}x{}",
                picture.width,
                picture.height
            );
        }
    }
}

#[test]
fn after_a_loss_no_picture_comes_before_a_key_frame() {
    if !has("ffmpeg") {
        return;
    }
    let frames = stream("352x288", &["-c:v", "libx264", "-bf", "0"]);
    let mut decoder = Decoder::new(frames[0].params.codec).unwrap();
    let mut shown = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        let frame = Frame { lost: u32::from(at == 6), ..Frame::clone(frame) };
        if let Decoded::Picture(_) = decoder.decode(&frame) {
            shown.push(at);
        }
    }
    let keys: Vec<usize> =
        frames.iter().enumerate().filter(|(_, frame)| frame.key).map(|(at, _)| at).collect();
    assert_eq!(shown, (0..6).chain(keys[1]..frames.len()).collect::<Vec<_>>(), "keys at {keys:?}");
}

/// Twenty seconds of an empty street with noise, coded with `options`.
fn still(options: &[&str]) -> Vec<Frame> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    let scene = "smptehdbars=size=640x360:rate=10,noise=alls=8:allf=t,trim=end_frame=200";
    ffmpeg(
        &[
            &["-f", "lavfi", "-i", scene, "-pix_fmt", "yuv420p", "-g", "20"],
            options,
            &[path.to_str().unwrap()],
        ]
        .concat(),
    );
    mp4_samples::frames(&std::fs::read(&path).unwrap()).unwrap()
}

/// An access unit without slice `number`.
fn without_slice(frame: &Frame, number: usize) -> Frame {
    let (mut rest, mut kept, mut slices) = (&frame.data[..], Vec::new(), 0);
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (unit, after) = tail.split_at(u32::from_be_bytes(*length) as usize);
        let is_slice = matches!(unit[0] & 0x1f, 1 | 5);
        if !is_slice || slices != number {
            kept.extend_from_slice(length);
            kept.extend_from_slice(unit);
        }
        slices += usize::from(is_slice);
        rest = after;
    }
    Frame { data: kept.into(), ..frame.clone() }
}

#[test]
fn lost_slices_and_lost_pictures_make_no_event() {
    if !has("ffmpeg") {
        return;
    }
    let slices = still(&["-c:v", "libx264", "-profile:v", "high", "-bf", "0", "-slices", "4"]);
    let h265 =
        still(&["-c:v", "libx265", "-tag:v", "hvc1", "-x265-params", "log-level=none:bframes=0"]);
    let lossy: Vec<Frame> = slices
        .iter()
        .enumerate()
        .map(|(n, frame)| if n % 9 == 4 { without_slice(frame, n % 4) } else { frame.clone() })
        .collect();
    let holed: Vec<Frame> = h265
        .iter()
        .enumerate()
        .filter(|(n, frame)| frame.key || n % 9 != 4)
        .map(|(_, f)| f.clone())
        .collect();
    for (name, frames) in [("slices", lossy), ("pictures", holed)] {
        let settings = MotionSettings { gating: false, ..MotionSettings::default() };
        let mut eye = Analyzer::new(settings, 1 << 20, Stages::ALL);
        let mut update = Vec::new();
        for frame in frames {
            eye.frame(&Arc::new(frame), &mut |_, _, _| (), &mut update);
        }
        println!("{name}: {:?}", eye.counts());
        assert!(eye.counts().decoded > 50, "{name}: {:?}", eye.counts());
        let motion = update.iter().find(|update| matches!(update, AnalyticsUpdate::Motion(_)));
        assert!(motion.is_none(), "{name}: {motion:?}");
    }
}
