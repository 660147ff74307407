//! Frames for benches without a camera: the same pictures for all recorders, at a given bit rate.
//!
//! Real footage is filled up to the rate; without footage the pictures are generated.

use std::sync::Arc;

use taimat::camera::{Codec, Frame, StreamRole, TrackKind, TrackParams};
use taimat::cli::mp4_samples;
use taimat::format::mp4::BoxWriter;
use taimat::sim::encode::Camera264;
use taimat::sim::scene::{Disturbance, Scene};
use taimat::units::{ClockQuality, Digest, MonoTime, Timestamp, WallTime};

#[path = "../../tests/common/footage.rs"]
mod data;

/// Pictures a second.
pub const FPS: u64 = 25;
/// Duration of one picture, microseconds.
const STEP: u64 = 1_000_000 / FPS;
/// Start of the footage on its clocks: 1 s after the boot, 2026-11-24 02:00 UTC.
const BEGIN: Timestamp = Timestamp {
    mono: MonoTime(1_000_000),
    wall: WallTime(1_795_485_600_000_000),
    quality: ClockQuality::Ntp,
};
/// Filler data NAL unit (ITU-T H.264 7.3.2.7): header, any number of 0xff, stop bit.
const FILLER: u8 = 12;

/// An endless stream of frames: a loop of pictures with rising times.
pub struct Footage {
    pictures: Vec<Frame>,
    next: u64,
    /// Description for the output.
    pub words: String,
}

impl Footage {
    /// Footage of `bits` a second.
    ///
    /// Real frames keep their proportions; generated frames have one size. Both get filler data, as
    /// from cameras with a constant rate. Every `gop`th frame is marked as a key frame, because the
    /// real footage has key frames at scene changes, unlike a camera. `None` keeps its key frames.
    pub fn new(bits: u64, gop: Option<usize>) -> Footage {
        let file = data::footage("camera").join("road-1080p25-h264-2m.mp4");
        let bytes = bits as f64 / 8.0 / FPS as f64;
        let (pictures, source) = match std::fs::read(&file) {
            Ok(whole) => (mp4_samples::frames(&whole).unwrap(), "road-1080p25-h264-2m.mp4"),
            Err(_) => (generated(), "generated 640x360 (no footage here)"),
        };
        let mean = pictures.iter().map(|frame| frame.data.len()).sum::<usize>() as f64
            / pictures.len() as f64;
        let real = source.starts_with("road");
        let size = |frame: &Frame| {
            if real { (frame.data.len() as f64 * bytes / mean) as usize } else { bytes as usize }
        };
        let key = |at: usize, frame: &Frame| gop.map_or(frame.key, |gop| at.is_multiple_of(gop));
        let marked = pictures
            .into_iter()
            .enumerate()
            .map(|(at, frame)| Frame { key: key(at, &frame), ..frame });
        let pictures: Vec<Frame> = marked.map(|frame| filled(size(&frame), frame)).collect();
        let rate =
            pictures.iter().map(|frame| frame.data.len()).sum::<usize>() as f64 * 8e-6 * FPS as f64
                / pictures.len() as f64;
        Footage { pictures, next: 0, words: format!("{source}, {rate:.2} Mbit/s") }
    }

    /// Track parameters of the frames.
    pub fn params(&self) -> Arc<TrackParams> {
        self.pictures[0].params.clone()
    }
}

impl Iterator for Footage {
    type Item = Arc<Frame>;

    fn next(&mut self) -> Option<Arc<Frame>> {
        let picture = &self.pictures[self.next as usize % self.pictures.len()];
        let pts = (self.next * u64::from(picture.params.timescale) / FPS) as i64;
        let at = BEGIN.after(self.next * STEP);
        self.next += 1;
        Some(Arc::new(Frame { pts, at, ..picture.clone() }))
    }
}

/// Fills a smaller frame up to `size` bytes with filler data.
fn filled(size: usize, frame: Frame) -> Frame {
    let Some(filler) = size.checked_sub(frame.data.len() + 4).filter(|filler| *filler >= 2) else {
        return frame;
    };
    let mut data = frame.data.to_vec();
    data.extend((filler as u32).to_be_bytes());
    data.push(FILLER);
    data.resize(data.len() + filler - 2, 0xff);
    data.push(0x80);
    Frame { data: data.into(), ..frame }
}

/// Two GOPs of a drawn scene.
fn generated() -> Vec<Frame> {
    let scene = Scene::new(1, Disturbance::None, 10.0);
    let mut encoder = Camera264::new(640, 360, FPS as u32, 400_000).unwrap();
    let units: Vec<_> = (0..100_u32)
        .map(|n| {
            encoder.encode(&scene.draw(f64::from(n) / FPS as f64, 640, 360), n.into()).unwrap()
        })
        .collect();
    let set = |kind: u8| units[0].nals.iter().find(|nal| nal[0] & 0x1f == kind).unwrap().clone();
    let params = Arc::new(parameters(&set(7), &set(8)));
    let sample = |nals: &[Vec<u8>]| -> Vec<u8> {
        let slices = nals.iter().filter(|nal| !matches!(nal[0] & 0x1f, 7 | 8));
        slices.flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect()
    };
    let frame = |(data, key): (Vec<u8>, bool)| {
        let (role, params, data) = (StreamRole::Main, params.clone(), data.into());
        Frame { role, params, data, key, pts: 0, run: 1, at: BEGIN, lost: 0 }
    };
    units.iter().map(|unit| frame((sample(&unit.nals), unit.key))).collect()
}

/// The sample entry (ISO/IEC 14496-15 5.4.2.1) of the generated pictures.
fn parameters(sps: &[u8], pps: &[u8]) -> TrackParams {
    let mut out = BoxWriter::default();
    out.boxed(b"avc1", |out| {
        out.put(&[0, 0, 0, 0, 0, 0, 0, 1]);
        out.put(&[0; 16]);
        [640, 360, 72, 0, 72, 0, 0, 0, 1].iter().for_each(|value| out.put_u16(*value));
        out.put(&[0; 32]);
        [24, 0xffff].iter().for_each(|value| out.put_u16(*value));
        out.boxed(b"avcC", |out| {
            out.put(&[1, sps[1], sps[2], sps[3], 0xff, 0xe1]);
            out.put_u16(sps.len() as u16);
            out.put(sps);
            out.put(&[1]);
            out.put_u16(pps.len() as u16);
            out.put(pps);
        });
    });
    let (kind, codec, sample_entry) = (TrackKind::Video, Codec::H264, out.finish());
    let digest = Digest::of(&sample_entry);
    TrackParams {
        kind,
        codec,
        timescale: 90_000,
        sample_entry,
        annex_b: Vec::new(),
        size: (640, 360),
        digest,
    }
}
