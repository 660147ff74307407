//! Clip index and the file without sound, compared with what ffmpeg reads in the same files.

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use taimat::camera::TrackParams;
use taimat::cli::mp4_samples;
use taimat::evidence::manifest::Manifest;
use taimat::office::media::clip_index::{ClipIndex, index};
use taimat::office::media::key_frame::key_frame;
use taimat::office::media::test_clip::{Second, alaw_track, clip};
use taimat::office::pictures::{PictureId, Pictures};

use crate::harness::{has, plays};

/// Pictures a second of the footage; one key frame a second.
const FPS: usize = 10;
/// Seconds of the footage.
const SECONDS: usize = 3;

/// The video samples of ffmpeg's test picture, and their track.
fn pictures(dir: &Path, codec: &[&str]) -> (Arc<TrackParams>, Vec<Vec<u8>>) {
    let path = dir.join("video.mp4");
    let source = format!("testsrc2=size=320x180:rate={FPS}:duration={SECONDS}");
    let gop = FPS.to_string();
    let out = Command::new("ffmpeg")
        .args(["-y", "-v", "error", "-f", "lavfi", "-i", &source, "-pix_fmt", "yuv420p"])
        .args(codec)
        .args(["-g", &gop, "-bf", "0"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let frames = mp4_samples::frames(&std::fs::read(&path).unwrap()).unwrap();
    let params = frames[0].params.clone();
    (params, frames.into_iter().map(|frame| frame.data.to_vec()).collect())
}

/// A clip of these pictures with sound.
pub fn clip_with_sound(dir: &Path, codec: &[&str]) -> (Manifest, Vec<u8>) {
    let (track, samples) = pictures(dir, codec);
    let seconds: Vec<Second> = samples
        .chunks(FPS)
        .enumerate()
        .map(|(n, video)| Second {
            video: video.to_vec(),
            sound: vec![vec![0xd5; 800]; 10],
            ..Second::at(n as u64)
        })
        .collect();
    clip(&[track, alaw_track()], &seconds)
}

pub fn reader(bytes: &[u8]) -> impl FnMut(Range<u64>) -> Result<Vec<u8>, String> + '_ {
    |range| Ok(bytes[range.start as usize..range.end as usize].to_vec())
}

/// Streams, and the packets of the video with times, sizes and hashes, as ffprobe reads them.
fn probed(path: &Path) -> (String, String) {
    let show = |args: &[&str]| {
        let out = Command::new("ffprobe")
            .args(["-v", "error", "-of", "csv=p=0"])
            .args(args)
            .arg(path)
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && words.is_empty(), "{}: {words}", path.display());
        String::from_utf8(out.stdout).unwrap()
    };
    let streams = show(&["-show_entries", "stream=codec_name,width,height"]);
    let packets = "packet=pts_time,size,flags,data_hash";
    (streams, show(&["-select_streams", "v", "-show_data_hash", "md5", "-show_entries", packets]))
}

fn indexed(manifest: &Manifest, bytes: &[u8]) -> ClipIndex {
    index(manifest, reader(bytes)).unwrap()
}

#[test]
fn ffmpeg_plays_the_file_without_sound_and_its_fragments() {
    if !has("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let x265 = ["-c:v", "libx265", "-tag:v", "hvc1", "-x265-params", "log-level=none"];
    for (codec, starts, name) in
        [(&["-c:v", "libx264"][..], "avc1.", "h264"), (&x265[..], "hvc1.1.6.L", "hevc")]
    {
        let (manifest, bytes) = clip_with_sound(dir.path(), codec);
        let found = indexed(&manifest, &bytes);
        println!("{name}: {:?}", found.codecs.iter().map(|c| &c.codec).collect::<Vec<_>>());
        assert!(found.codecs[0].codec.starts_with(starts));
        assert_eq!((found.codecs[0].width, found.codecs[0].height), (320, 180));
        let at = |name: &str| dir.path().join(name);
        let silent = found.patches.read(0..manifest.size, reader(&bytes)).unwrap();
        std::fs::write(at("whole.mp4"), &bytes).unwrap();
        std::fs::write(at("silent.mp4"), &silent).unwrap();
        let (whole, silent_probe) = (probed(&at("whole.mp4")), probed(&at("silent.mp4")));
        assert_eq!(whole.0, format!("{name},320,180\npcm_alaw\n"));
        assert_eq!(silent_probe.0, format!("{name},320,180\n"));
        assert_eq!(whole.1, silent_probe.1, "the pictures are the same");
        assert_eq!(whole.1.lines().count(), FPS * SECONDS);
        // What a player fetches: the head, then fragments from the second one on.
        let only = found.video_only().unwrap();
        let mut fetched = silent[..only.init.length as usize].to_vec();
        for entry in &only.fragments[1..] {
            fetched.extend(&silent[entry.offset as usize..(entry.offset + entry.length) as usize]);
        }
        std::fs::write(at("fetched.mp4"), &fetched).unwrap();
        let packets = probed(&at("fetched.mp4")).1;
        let expected: String = whole.1.lines().skip(FPS).map(|line| format!("{line}\n")).collect();
        assert_eq!(packets, expected);
        let first = packets.split(',').next().unwrap().parse::<f64>().unwrap();
        assert_eq!((first * 1e6) as u64, only.fragments[1].media_us);
        for name in ["silent.mp4", "fetched.mp4"] {
            plays(&at(name));
        }
    }
}

#[test]
fn the_office_decodes_key_frames_as_ffmpeg_does() {
    if !has("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let x265 = ["-c:v", "libx265", "-tag:v", "hvc1", "-x265-params", "log-level=none"];
    let pictures = Pictures::start().unwrap();
    for codec in [&["-c:v", "libx264"][..], &x265[..]] {
        let (manifest, bytes) = clip_with_sound(dir.path(), codec);
        let (found, bytes) = (indexed(&manifest, &bytes), Arc::new(bytes));
        std::fs::write(dir.path().join("whole.mp4"), &*bytes).unwrap();
        for (fragment, width) in [(0, 960), (2, 960), (2, 160)] {
            let fid = manifest.fid();
            let id = PictureId { site: "km-17".into(), fid, fragment, width };
            let (index, bytes) = (found.clone(), bytes.clone());
            let source = move || key_frame(&index, fragment, reader(&bytes));
            let begun = Instant::now();
            let answer = pictures.request(id, Box::new(source)).unwrap();
            let jpeg = answer.blocking_recv().unwrap().unwrap();
            let took = begun.elapsed();
            std::fs::write(dir.path().join("picture.jpg"), &jpeg).unwrap();
            let (ours, theirs) = (
                grey(&dir.path().join("picture.jpg"), 0),
                grey(&dir.path().join("whole.mp4"), fragment * FPS),
            );
            let apart: u64 = ours.iter().zip(&theirs).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let mean = apart as f64 / theirs.len() as f64;
            println!(
                "{} fragment {fragment}: {} bytes in {took:?}, {mean:.2} apart",
                codec[1],
                jpeg.len()
            );
            assert!(ours.len() == theirs.len() && mean < 3.0, "{mean}");
        }
    }
}

/// Luma of picture `number` of a file at 160x90, as ffmpeg decodes it, whatever its range means.
fn grey(path: &Path, number: usize) -> Vec<u8> {
    let pick = format!(
        "select=eq(n\\,{number}),extractplanes=y,setparams=range=pc,scale=160:90:flags=area"
    );
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-vf", &pick, "-frames:v", "1", "-pix_fmt", "gray", "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}
