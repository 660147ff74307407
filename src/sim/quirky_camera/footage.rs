//! Footage of the quirky camera: access units of seeded bytes with a number in each slice.

use std::sync::OnceLock;

use super::super::encode::Camera264;
use super::super::rng::Rng;
use super::super::scene::{Disturbance, Scene};
use crate::units::MonoTime;

/// Stands before the number of a picture in each of its slices.
const NUMBER: &[u8; 8] = b"tq-frame";
/// VPS, SPS and PPS of two encoders (H.265).
const SETS_265: [[&str; 3]; 2] = [
    [
        "40010c01ffff01600000030090000003000003003f2c0c0002000003002800020002000280",
        "42010101600000030090000003000003003fa005020171652e49324bb2",
        "4401c0f2f03324",
    ],
    [
        "40010c01ffff016000000300b0000003000003005aac0c00000300040000030032a8",
        "420101016000000300b0000003000003005aa0058201e1636b92452fcdc14181410000030001000003000ca1",
        "4401c0f2c68d03b340",
    ],
];

/// A video codec of the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Video {
    H264,
    H265,
}

/// Sound of the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sound {
    None,
    Pcmu,
    Pcma,
    Aac,
}

impl Sound {
    /// Samples of one frame.
    pub(crate) fn samples(self) -> u64 {
        if self == Sound::Aac { 1024 } else { 160 }
    }

    /// Sampling rate in Hz.
    pub(crate) fn rate(self) -> u64 {
        if self == Sound::Aac { 16_000 } else { 8_000 }
    }

    /// Payload type.
    pub(crate) fn payload_type(self) -> u8 {
        match self {
            Sound::Pcma => 8,
            Sound::Aac => 97,
            _ => 0,
        }
    }
}

/// What the camera films.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footage {
    pub(crate) video: Video,
    pub(crate) sound: Sound,
    /// Pictures a second.
    pub(crate) fps: u64,
    /// Pictures from key frame to key frame.
    pub(crate) gop: u64,
}

/// What the bytes of a picture depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) slices: usize,
    /// Bytes of a key frame.
    pub(crate) key_bytes: usize,
    /// A key frame is no IDR.
    pub(crate) not_idr: bool,
    /// Which of two pairs of parameter sets.
    pub(crate) sets: usize,
}

/// A picture as it was filmed.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    pub(crate) key: bool,
    pub(crate) captured: MonoTime,
    /// Its slices, without start codes.
    pub(crate) slices: Vec<Vec<u8>>,
    /// Session of the camera in which it was sent.
    pub(crate) session: u32,
    /// Some of its packets were left out on purpose.
    pub(crate) damaged: bool,
}

/// Parameter sets of a codec: SPS and PPS, with a VPS before them for H.265.
pub(crate) fn sets(video: Video, which: usize) -> Vec<Vec<u8>> {
    static SETS_264: OnceLock<[Vec<Vec<u8>>; 2]> = OnceLock::new();
    match video {
        Video::H265 => SETS_265[which].iter().map(|text| bytes_of(text)).collect(),
        Video::H264 => {
            SETS_264.get_or_init(|| [draw_sets(64, 48), draw_sets(128, 96)])[which].clone()
        }
    }
}

/// SPS and PPS of a drawn picture.
fn draw_sets(width: usize, height: usize) -> Vec<Vec<u8>> {
    let picture = Scene::new(1, Disturbance::None, 1.0).draw(0.0, width, height);
    let unit = Camera264::new(width, height, 10, 100_000)
        .and_then(|mut encoder| encoder.encode(&picture, 0))
        .expect("the encoder takes small pictures");
    let wanted = |nal: &Vec<u8>| nal.first().is_some_and(|head| matches!(head & 31, 7 | 8));
    unit.nals.into_iter().filter(wanted).collect()
}

fn bytes_of(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The slices of picture `number`.
pub(crate) fn slices(
    video: Video,
    number: u64,
    key: bool,
    seed: u64,
    shape: Shape,
) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(seed ^ number.wrapping_mul(0x9e37));
    let whole = if key { shape.key_bytes } else { 100 + rng.below(2200) as usize };
    (0..shape.slices)
        .map(|at| {
            let mut slice = head(video, key, shape.not_idr, at);
            slice.extend(NUMBER);
            slice.extend((0..16).rev().map(|digit| 0x10 | (number >> (digit * 4)) as u8 & 15));
            fill(&mut slice, whole / shape.slices, &mut rng);
            slice
        })
        .collect()
}

/// NAL header and the first bits of a slice: `first_mb_in_slice` and slice type (H.264 7.3.3), or
/// `first_slice_segment_in_pic_flag` (H.265 7.3.6.1).
fn head(video: Video, key: bool, not_idr: bool, at: usize) -> Vec<u8> {
    match (video, key, at == 0) {
        (Video::H264, true, first) => {
            let nal = if not_idr { 0x61 } else { 0x65 };
            // ue(0), ue(7), ue(0); or ue(6), ue(7), ue(0).
            if first { vec![nal, 0x88, 0x84] } else { vec![nal, 0x38, 0x8c] }
        }
        // ue(0), ue(5), ue(0); or ue(6), ue(5), ue(0).
        (Video::H264, false, true) => vec![0x41, 0x9a, 0x21],
        (Video::H264, false, false) => vec![0x41, 0x39, 0xa4],
        (Video::H265, _, first) => {
            let kind = match (key, not_idr) {
                (true, false) => 19,
                (true, true) => 21,
                _ => 1,
            };
            vec![kind << 1, 1, if first { 0xa2 } else { 0x22 }]
        }
    }
}

/// Adds seeded bytes, some of them with emulation prevention (H.264 7.4.1).
fn fill(slice: &mut Vec<u8>, bytes: usize, rng: &mut Rng) {
    while slice.len() < bytes {
        let word = rng.bits();
        if word.is_multiple_of(61) {
            slice.extend([0, 0, 3, 1]);
        }
        slice.extend(word.to_le_bytes().map(|byte| byte.max(1)));
    }
    slice.push(0x80);
}

/// The number of the picture that a slice belongs to.
pub(crate) fn number_of(nal: &[u8]) -> Option<u64> {
    let at = nal.windows(NUMBER.len()).take(16).position(|window| window == NUMBER)?;
    let digits = nal.get(at + 8..at + 24)?;
    Some(digits.iter().fold(0, |number, digit| number << 4 | u64::from(digit & 15)))
}

/// The bytes of sound frame `number`; a number stands in each.
pub(crate) fn sound_frame(sound: Sound, number: u64, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed ^ 0x50d ^ number.wrapping_mul(0x85eb));
    let length = if sound == Sound::Aac { 60 + rng.below(120) as usize } else { 160 };
    let mut frame = number.to_be_bytes().to_vec();
    while frame.len() < length {
        frame.extend(rng.bits().to_le_bytes());
    }
    frame.truncate(length);
    frame
}

/// An SEI with user data (H.264 D.1.7, H.265 D.2.7).
pub(crate) fn sei(video: Video, suffix: bool) -> Vec<u8> {
    let mut nal = match (video, suffix) {
        (Video::H264, _) => vec![6],
        (Video::H265, false) => vec![39 << 1, 1],
        (Video::H265, true) => vec![40 << 1, 1],
    };
    nal.extend([5, 16]);
    nal.extend(b"quirky-camera-ui");
    nal.push(0x80);
    nal
}

/// An SEI with a recovery point (H.264 D.1.8, H.265 D.2.8).
pub(crate) fn recovery_point(video: Video) -> Vec<u8> {
    match video {
        Video::H264 => vec![6, 6, 1, 0xc4, 0x80],
        Video::H265 => vec![39 << 1, 1, 6, 1, 0xd0, 0x80],
    }
}

/// An access unit delimiter.
pub(crate) fn delimiter(video: Video) -> Vec<u8> {
    match video {
        Video::H264 => vec![9, 0xf0],
        Video::H265 => vec![35 << 1, 1, 0x50],
    }
}
