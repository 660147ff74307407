//! H.264 encoding of simulated pictures; a SEI message in each access unit carries its picture
//! number.
//!
//! Tests read the numbers to see which pictures arrived.

use rusty_h264_encoder::{Encoder, EncoderConfig};

use super::scene::Picture;

/// UUID of our SEI message (ITU-T H.264 D.1.7, user data unregistered).
const COUNTER: [u8; 16] = *b"taimat-counter-1";
/// Seconds between key frames.
const GOP_SECONDS: u32 = 2;

/// One encoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// NAL units without start codes.
    pub nals: Vec<Vec<u8>>,
    /// True for a key frame.
    pub key: bool,
}

/// An encoder of one stream.
pub struct Camera264 {
    encoder: Encoder,
}

impl Camera264 {
    /// An encoder with a constant bitrate; `bitrate` in bits a second.
    ///
    /// # Errors
    /// The encoder does not support this size.
    pub fn new(width: usize, height: usize, fps: u32, bitrate: u32) -> anyhow::Result<Camera264> {
        Camera264::with(width, height, fps, |config| config.bitrate = bitrate)
    }

    /// An encoder with constant quality: `quantiser` is the QP of every picture, 0 to 51.
    ///
    /// # Errors
    /// The encoder does not support this size.
    pub fn of_quality(
        width: usize,
        height: usize,
        fps: u32,
        quantiser: u8,
    ) -> anyhow::Result<Camera264> {
        Camera264::with(width, height, fps, |config| {
            (config.bitrate, config.qp) = (0, quantiser.min(51))
        })
    }

    fn with(
        width: usize,
        height: usize,
        fps: u32,
        rate: impl FnOnce(&mut EncoderConfig),
    ) -> anyhow::Result<Camera264> {
        let mut config = EncoderConfig::baseline(width, height);
        config.gop_size = fps * GOP_SECONDS;
        config.framerate = fps as f32;
        rate(&mut config);
        let encoder =
            Encoder::new(config).map_err(|error| anyhow::anyhow!("H.264 encoder: {error:?}"))?;
        Ok(Camera264 { encoder })
    }

    /// Encodes picture `number` of the scene.
    ///
    /// # Errors
    /// The encoder failed.
    pub fn encode(&mut self, picture: &Picture, number: u64) -> anyhow::Result<AccessUnit> {
        let planes = rusty_h264_common::YuvPlanes {
            width: picture.width,
            height: picture.height,
            y: &picture.y,
            u: &picture.u,
            v: &picture.v,
            stride_y: picture.width,
            stride_c: picture.width / 2,
        };
        let bytes = self
            .encoder
            .encode_planes(&planes)
            .map_err(|error| anyhow::anyhow!("H.264 encoder: {error:?}"))?;
        let mut nals = split(&bytes);
        let key = nals.iter().any(|nal| nal.first().is_some_and(|head| head & 0x1f == 5));
        let first_slice = nals
            .iter()
            .position(|nal| nal.first().is_some_and(|head| matches!(head & 0x1f, 1 | 5)))
            .unwrap_or(0);
        nals.insert(first_slice, counter_sei(number));
        Ok(AccessUnit { nals, key })
    }
}

/// The NAL units of an Annex B stream (ITU-T H.264 Annex B).
pub fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> =
        bytes.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(i, _)| i + 3).collect();
    let ends = starts.iter().skip(1).map(|next| next - 3).chain([bytes.len()]);
    let nal = |(start, end): (&usize, usize)| {
        let mut nal = bytes[*start..end].to_vec();
        while nal.last() == Some(&0) {
            nal.pop();
        }
        nal
    };
    starts.iter().zip(ends).map(nal).filter(|nal| !nal.is_empty()).collect()
}

/// A SEI NAL unit with a counter; each byte carries 4 bits, so it needs no emulation prevention.
fn counter_sei(count: u64) -> Vec<u8> {
    let mut nal = vec![6, 5, 32];
    nal.extend(COUNTER);
    nal.extend((0..16).rev().map(|digit| 0x10 | (count >> (digit * 4)) as u8 & 15));
    nal.push(0x80);
    nal
}

/// The counters in a recording, in their order.
pub fn counters(recording: &[u8]) -> Vec<u64> {
    let places =
        recording.windows(COUNTER.len()).enumerate().filter(|(_, window)| *window == COUNTER);
    let digits = places.filter_map(|(at, _)| recording.get(at + 16..at + 32));
    digits
        .map(|digits| digits.iter().fold(0, |count, digit| count << 4 | u64::from(digit & 15)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Disturbance, Scene};
    use super::*;

    #[test]
    fn every_access_unit_has_its_number_and_the_first_is_a_key() {
        let scene = Scene::new(1, Disturbance::None, 10.0);
        let mut encoder = Camera264::new(64, 48, 5, 200_000).unwrap();
        let mut recording = Vec::new();
        for number in 0..12 {
            let unit = encoder
                .encode(&scene.draw(f64::from(number) / 5.0, 64, 48), number as u64 + 250)
                .unwrap();
            assert_eq!(unit.key, number % 10 == 0, "frame {number}");
            recording.extend(unit.nals.concat());
        }
        assert_eq!(counters(&recording), (250..262).collect::<Vec<_>>());
    }
}
