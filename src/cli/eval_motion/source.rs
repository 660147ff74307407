//! Video sources: access units for the agent's decoders, pictures from ffmpeg, and drawn scenes.
#![expect(clippy::disallowed_methods, reason = "shell: starts a process, reads or writes files")]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use rusty_h264_decoder::Sps;

use super::adapter::Unit;
use crate::analytics::detect::picture::Picture;
use crate::analytics::params::PIXELS_MAX;
use crate::camera::{Codec, Frame, StreamRole, TrackKind, TrackParams};
use crate::cli::mp4_samples;
use crate::regular_file::{Links, check_name, read};
#[cfg(feature = "sim")]
use crate::sim::scene::Disturbance;
use crate::units::{Digest, MonoTime, Timestamp};

/// File extensions of videos in a directory.
const VIDEOS: [&str; 11] =
    ["mp4", "mov", "mkv", "avi", "webm", "ts", "h264", "264", "h265", "265", "hevc"];

/// Bytes of one video at most: it is read into memory.
const VIDEO_MAX: u64 = 8 << 30;

/// A video.
pub struct Source {
    /// Name of the video.
    pub name: String,
    /// Presentation times, monotonic microseconds in rising order; empty for a stream of pictures.
    pub times: Vec<u64>,
    /// Units in decode order.
    pub units: Box<dyn Iterator<Item = anyhow::Result<Unit>>>,
}

/// The videos of a list of files and directories, in order of their names within each directory.
///
/// # Errors
/// A directory cannot be read.
pub fn videos(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
        let mut inside: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        inside.sort();
        let is_video = |path: &PathBuf| {
            path.extension()
                .is_some_and(|ext| VIDEOS.iter().any(|video| ext.eq_ignore_ascii_case(video)))
        };
        let (dirs, files): (Vec<PathBuf>, Vec<PathBuf>) =
            inside.into_iter().partition(|path| path.is_dir());
        found.extend(files.into_iter().filter(is_video));
        found.extend(videos(&dirs)?);
    }
    Ok(found)
}

impl Source {
    /// Opens a video; `fps` is for elementary streams, which have no times.
    ///
    /// # Errors
    /// Neither the agent's decoders nor ffmpeg can read it.
    pub fn open(path: &Path, fps: f64) -> anyhow::Result<Source> {
        let name = path.display().to_string();
        // ffmpeg would wait for ever for what a named pipe gives.
        check_name(path, Links::Follow).with_context(|| name.clone())?;
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let elementary = match extension.as_str() {
            "h264" | "264" => Some(Codec::H264),
            "h265" | "265" | "hevc" => Some(Codec::H265),
            _ => None,
        };
        if let Some(codec) = elementary {
            return Ok(coded(name, units(&read(path, Links::Follow, VIDEO_MAX)?, codec, fps)?));
        }
        if matches!(extension.as_str(), "mp4" | "mov")
            && let Ok(frames) = mp4_samples::frames(&read(path, Links::Follow, VIDEO_MAX)?)
        {
            return Ok(coded(name, frames));
        }
        let pictures = Pictures::open(path)?;
        // Mask numbers count these pictures.
        Ok(Source { name, times: Vec::new(), units: Box::new(pictures) })
    }
}

fn coded(name: String, frames: Vec<Frame>) -> Source {
    let mut times: Vec<u64> = frames.iter().map(|frame| frame.at.mono.0).collect();
    times.sort_unstable();
    Source {
        name,
        times,
        units: Box::new(frames.into_iter().map(|frame| Ok(Unit::Coded(Arc::new(frame))))),
    }
}

/// The NAL units of an Annex B stream.
fn nals(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = bytes
        .windows(3)
        .enumerate()
        .filter(|(_, w)| *w == [0, 0, 1])
        .map(|(at, _)| at + 3)
        .collect();
    let ends = starts.iter().skip(1).map(|next| next - 3).chain([bytes.len()]);
    let trimmed =
        |nal: &'_ [u8]| nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| &bytes[*start..end])
        .map(|nal| &nal[..trimmed(nal)])
        .filter(|nal| !nal.is_empty())
        .collect()
}

/// The access units of an elementary stream, in presentation order.
fn units(bytes: &[u8], codec: Codec, fps: f64) -> anyhow::Result<Vec<Frame>> {
    let (mut sets, mut frames) = (Vec::new(), Vec::new());
    let mut params: Option<Arc<TrackParams>> = None;
    let (mut data, mut key, mut has_slice) = (Vec::new(), false, false);
    for nal in nals(bytes) {
        let kind = if codec == Codec::H264 { nal[0] & 0x1f } else { nal[0] >> 1 & 0x3f };
        let (slice, set, begins) = match codec {
            Codec::H264 => (
                matches!(kind, 1..=5),
                matches!(kind, 7 | 8),
                nal.get(1).is_some_and(|byte| byte & 0x80 != 0),
            ),
            _ => (
                kind < 32,
                matches!(kind, 32..=34),
                nal.get(2).is_some_and(|byte| byte & 0x80 != 0),
            ),
        };
        if has_slice && (!slice || begins) {
            let params = params.get_or_insert(Arc::new(parameters(&sets, codec)?)).clone();
            frames.push(frame(params, std::mem::take(&mut data), key, frames.len(), fps));
            key = false;
            has_slice = false;
        }
        if set && params.is_none() {
            sets.extend([0, 0, 0, 1]);
            sets.extend_from_slice(nal);
        }
        key |= if codec == Codec::H264 { kind == 5 } else { (16..=21).contains(&kind) };
        has_slice |= slice;
        data.extend((nal.len() as u32).to_be_bytes());
        data.extend_from_slice(nal);
    }
    if has_slice {
        let params = params.map_or_else(|| parameters(&sets, codec).map(Arc::new), Ok)?;
        frames.push(frame(params, data, key, frames.len(), fps));
    }
    ensure!(!frames.is_empty(), "no pictures in the stream");
    Ok(frames)
}

fn frame(params: Arc<TrackParams>, data: Vec<u8>, key: bool, number: usize, fps: f64) -> Frame {
    let at = Timestamp {
        mono: MonoTime(1_000_000 + (number as f64 * 1e6 / fps) as u64),
        ..Timestamp::default()
    };
    let pts = (number as f64 * f64::from(params.timescale) / fps) as i64;
    Frame { role: StreamRole::Main, params, data: Bytes::from(data), key, pts, run: 1, at, lost: 0 }
}

fn parameters(annex_b: &[u8], codec: Codec) -> anyhow::Result<TrackParams> {
    ensure!(!annex_b.is_empty(), "no parameter sets before the first picture");
    let size = match codec {
        // The H.265 decoder has this limit itself.
        Codec::H265 => (0, 0),
        _ => {
            let sps = nals(annex_b)
                .into_iter()
                .find(|nal| nal[0] & 0x1f == 7)
                .context("no sequence parameter set")?;
            let Ok(sps) = Sps::parse(
                &crate::analytics::decode::frame_num::without_emulation_prevention(&sps[1..]),
            ) else {
                bail!("damaged sequence parameter set")
            };
            (sps.display_width() as u16, sps.display_height() as u16)
        }
    };
    let (annex_b, digest) = (annex_b.to_vec(), Digest::of(annex_b));
    Ok(TrackParams {
        kind: TrackKind::Video,
        codec,
        timescale: 90_000,
        sample_entry: Vec::new(),
        annex_b,
        size,
        digest,
    })
}

/// Pictures as ffmpeg decodes them (YUV4MPEG2).
struct Pictures {
    ffmpeg: Child,
    pipe: BufReader<std::process::ChildStdout>,
    size: (usize, usize),
    fps: f64,
    number: u64,
}

impl Pictures {
    fn open(path: &Path) -> anyhow::Result<Pictures> {
        let mut ffmpeg = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-i"])
            .arg(path)
            .args(["-an", "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "-"])
            .stdout(Stdio::piped())
            .spawn()
            .context("ffmpeg, which reads what the agent's decoders do not")?;
        let mut pipe = BufReader::new(ffmpeg.stdout.take().context("ffmpeg without a pipe")?);
        let head = line(&mut pipe)?;
        let value = |tag: char| {
            head.split(' ').skip(1).find_map(|word| word.strip_prefix(tag)).unwrap_or_default()
        };
        let (width, height) = (value('W').parse().unwrap_or(0), value('H').parse().unwrap_or(0));
        ensure!(
            width * height > 0 && width * height <= PIXELS_MAX,
            "ffmpeg cannot read it, or it is larger than 4K"
        );
        let (over, under) = value('F').split_once(':').unwrap_or(("25", "1"));
        let fps =
            over.parse::<f64>().unwrap_or(25.0) / under.parse::<f64>().unwrap_or(1.0).max(1.0);
        Ok(Pictures { ffmpeg, pipe, size: (width, height), fps: fps.max(0.1), number: 0 })
    }

    fn picture(&mut self) -> anyhow::Result<Option<Unit>> {
        if line(&mut self.pipe)?.is_empty() {
            return Ok(None);
        }
        let (width, height) = self.size;
        let mut plane = |size: usize| {
            let mut bytes = vec![0; size];
            self.pipe.read_exact(&mut bytes).map(|()| bytes)
        };
        let chroma = width.div_ceil(2) * height.div_ceil(2);
        let picture = Picture {
            width,
            height,
            y: plane(width * height)?,
            u: plane(chroma)?,
            v: plane(chroma)?,
        };
        let at = Timestamp {
            mono: MonoTime(1_000_000 + (self.number as f64 * 1e6 / self.fps) as u64),
            ..Timestamp::default()
        };
        self.number += 1;
        Ok(Some(Unit::Plain(Box::new(picture), at)))
    }
}

impl Iterator for Pictures {
    type Item = anyhow::Result<Unit>;

    fn next(&mut self) -> Option<Self::Item> {
        self.picture().transpose()
    }
}

impl Drop for Pictures {
    fn drop(&mut self) {
        // ffmpeg may still have output: it must not block.
        let _ = self.ffmpeg.kill();
        let _ = self.ffmpeg.wait();
    }
}

/// A header line without its line feed; empty at the end of the stream.
fn line(pipe: &mut impl BufRead) -> anyhow::Result<String> {
    let mut text = Vec::new();
    pipe.take(256).read_until(b'\n', &mut text)?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// An encoded drawn scene of a minute, and its crossings.
///
/// With a quantiser the quality is constant, as of most cameras: quiet pictures have equal sizes,
/// so the analyzer can skip them. Without one the bitrate is constant.
#[cfg(feature = "sim")]
pub fn scene(
    seed: u64,
    disturbance: Disturbance,
    quantiser: Option<u8>,
) -> anyhow::Result<(Source, super::Truth)> {
    use crate::sim::{
        encode::Camera264,
        scene::{Scene, TAMPERED},
    };
    const SIZE: (usize, usize) = (640, 360);
    const FPS: u32 = 15;
    const SECONDS: u32 = 60;
    // A later crossing would not end before the video.
    let scene = Scene::new(seed, disturbance, f64::from(SECONDS) - 10.0);
    let tampered = disturbance.tampering().map(|word| (TAMPERED, word));
    let seen =
        scene.crossings().iter().filter(|crossing| tampered.is_none() || crossing.begin < TAMPERED);
    let spans = seen.map(|crossing| (crossing.begin, crossing.begin + crossing.seconds)).collect();
    let mut encoder = match (disturbance, quantiser) {
        (Disturbance::LowBitrate, _) => Camera264::new(SIZE.0, SIZE.1, FPS, 80_000)?,
        (_, None) => Camera264::new(SIZE.0, SIZE.1, FPS, 800_000)?,
        (_, Some(quantiser)) => Camera264::of_quality(SIZE.0, SIZE.1, FPS, quantiser)?,
    };
    let mut params: Option<Arc<TrackParams>> = None;
    let coded = (0..SECONDS * FPS).map(move |number| {
        let picture = scene.draw(f64::from(number) / f64::from(FPS), SIZE.0, SIZE.1);
        let unit = encoder.encode(&picture, number.into())?;
        if params.is_none() {
            let sets: Vec<u8> = unit
                .nals
                .iter()
                .filter(|nal| matches!(nal[0] & 0x1f, 7 | 8))
                .flat_map(|nal| [&[0, 0, 0, 1], &nal[..]].concat())
                .collect();
            params = Some(Arc::new(parameters(&sets, Codec::H264)?));
        }
        let params = params.clone().context("no parameter sets")?;
        let data = unit
            .nals
            .iter()
            .flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], &nal[..]].concat())
            .collect();
        Ok(Unit::Coded(Arc::new(frame(params, data, unit.key, number as usize, FPS.into()))))
    });
    let name = format!("seed {seed}, {disturbance:?}");
    let truth = super::Truth { spans: Some(spans), masks: None, tampered };
    Ok((Source { name, times: Vec::new(), units: Box::new(coded) }, truth))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_pipe_is_no_video_and_never_waits() {
        use crate::regular_file::tests::{at_once, named_pipe};
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.h264", "a.mp4", "a.mkv", "a"] {
            let path = dir.path().join(name);
            named_pipe(&path);
            let error = at_once(move || Source::open(&path, 25.0).err().map(|e| format!("{e:#}")));
            assert!(error.is_some_and(|error| error.contains("named pipe")), "{name}");
        }
    }

    #[test]
    fn an_elementary_stream_is_split_into_its_access_units() {
        use crate::sim::{
            encode::Camera264,
            scene::{Disturbance, Scene},
        };
        let scene = Scene::new(1, Disturbance::None, 10.0);
        let mut encoder = Camera264::new(64, 48, 5, 200_000).unwrap();
        let mut stream = Vec::new();
        for number in 0..12_u64 {
            for nal in
                encoder.encode(&scene.draw(number as f64 / 5.0, 64, 48), number).unwrap().nals
            {
                stream.extend([0, 0, 0, 1]);
                stream.extend(nal);
            }
        }
        let frames = units(&stream, Codec::H264, 5.0).unwrap();
        assert_eq!(frames.len(), 12);
        assert_eq!(
            (frames[0].params.size, frames[0].key, frames[1].key, frames[10].key),
            ((64, 48), true, false, true)
        );
        assert_eq!(frames[5].at.mono, MonoTime(2_000_000));
    }
}
