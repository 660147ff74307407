//! Decoders: turn access units into pictures, in memory-safe Rust, because bitstreams may be
//! hostile.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rust_h265::DecodeLimits;
use rust_h265::nal::parse_nal;

use crate::analytics::decode::frame_num::FrameNumCheck;
use crate::analytics::detect::picture::Picture;
use crate::analytics::params::PIXELS_MAX;
use crate::camera::{Codec, Frame};

/// The decoder of one codec.
enum Inner {
    H264(Box<rusty_h264_decoder::Decoder>),
    H265(Box<rust_h265::Decoder>),
}

/// Decodes one stream until its parameters change. After an error it shows no picture before the
/// next key frame.
pub struct Decoder {
    inner: Inner,
    /// Only a key frame may be decoded next.
    needs_key: bool,
    /// Detects lost reference pictures (H.264).
    frame_numbers: FrameNumCheck,
}

/// The outcome of an access unit.
#[derive(Debug)]
pub enum Decoded {
    /// A picture.
    Picture(Box<Picture>),
    /// No picture, without an error.
    Nothing,
    /// The access unit was rejected, with the reason. The next key frame starts again.
    Rejected(String),
}

impl Decoder {
    /// A decoder for a codec; `None` for audio codecs.
    pub fn new(codec: Codec) -> Option<Decoder> {
        let inner = match codec {
            Codec::H264 => Inner::H264(Box::default()),
            Codec::H265 => Inner::H265(Box::new(rust_h265::Decoder::with_limits(DecodeLimits {
                max_picture_pixels: PIXELS_MAX as u64,
                ..DecodeLimits::default()
            }))),
            Codec::Aac | Codec::PcmMulaw | Codec::PcmAlaw => return None,
        };
        Some(Decoder { inner, needs_key: true, frame_numbers: FrameNumCheck::default() })
    }

    /// Decodes an access unit of length-prefixed NAL units. After a loss nothing is decoded before
    /// the next key frame: a picture with a wrong reference looks like motion.
    pub fn decode(&mut self, frame: &Frame) -> Decoded {
        let (width, height) = frame.params.size;
        if usize::from(width) * usize::from(height) > PIXELS_MAX {
            return Decoded::Rejected(format!(
                "the picture of {width}x{height} pixels is too large to be decoded"
            ));
        }
        self.needs_key |= frame.lost > 0;
        if self.needs_key && !frame.key {
            return Decoded::Nothing;
        }
        if !self.frame_numbers.follows(frame) {
            self.needs_key = true;
            return Decoded::Rejected("a reference picture is missing".into());
        }
        let mut stream = if frame.key { frame.params.annex_b.clone() } else { Vec::new() };
        annex_b(&frame.data, frame.params.codec, &mut stream);
        // A panic of a decoder on a hostile stream costs one GOP, not the analytics thread.
        let outcome = catch_unwind(AssertUnwindSafe(|| match &mut self.inner {
            Inner::H264(decoder) => decoder
                .decode(&stream)
                .map(|frame| {
                    frame.map(|f| Picture {
                        width: f.width,
                        height: f.height,
                        y: f.y,
                        u: f.u,
                        v: f.v,
                    })
                })
                .map_err(|error| format!("{error:?}")),
            Inner::H265(decoder) => h265(decoder, &stream),
        }));
        match outcome {
            Ok(Ok(picture)) => {
                self.needs_key = false;
                picture
                    .filter(is_whole)
                    .map_or(Decoded::Nothing, |picture| Decoded::Picture(Box::new(picture)))
            }
            Ok(Err(reason)) => self.reject(frame.params.codec, reason),
            Err(_) => self.reject(frame.params.codec, "the decoder panicked".into()),
        }
    }

    fn reject(&mut self, codec: Codec, reason: String) -> Decoded {
        if let Some(fresh) = Decoder::new(codec) {
            self.inner = fresh.inner;
            self.needs_key = true;
        }
        Decoded::Rejected(reason)
    }
}

fn is_whole(picture: &Picture) -> bool {
    let chroma = (picture.width / 2) * (picture.height / 2);
    picture.width >= 16
        && picture.height >= 16
        && picture.y.len() >= picture.width * picture.height
        && picture.u.len() >= chroma
        && picture.v.len() >= chroma
}

/// Converts length-prefixed NAL units to Annex B without sequence parameter sets. The checked sets
/// come with the track parameters; another set in an access unit could make the decoder allocate
/// any size.
fn annex_b(sample: &[u8], codec: Codec, out: &mut Vec<u8>) {
    let mut rest = sample;
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = (u32::from_be_bytes(*length) as usize).min(tail.len());
        // H.264 7.3.1 and 7.4.1, H.265 7.3.1.2: nal_unit_type 7 and 33 are sequence parameter sets.
        let is_sps = match (codec, tail.first()) {
            (Codec::H264, Some(first)) => first & 0x1f == 7,
            (_, Some(first)) => first >> 1 & 0x3f == 33,
            (_, None) => true,
        };
        if !is_sps {
            out.extend([0, 0, 0, 1]);
            out.extend_from_slice(&tail[..length]);
        }
        rest = &tail[length..];
    }
}

fn h265(decoder: &mut rust_h265::Decoder, stream: &[u8]) -> Result<Option<Picture>, String> {
    let mut shown = None;
    let starts: Vec<usize> = stream
        .windows(4)
        .enumerate()
        .filter(|(_, w)| *w == [0, 0, 0, 1])
        .map(|(at, _)| at + 4)
        .collect();
    let ends = starts.iter().skip(1).map(|next| next - 4).chain([stream.len()]);
    for (start, end) in starts.iter().zip(ends) {
        let Some(nal) = parse_nal(&stream[*start..end]) else {
            continue;
        };
        if let Some(frame) = decoder.decode_nal(&nal).map_err(|error| format!("{error:?}"))? {
            shown = eight_bit(&frame);
        }
    }
    // One access unit is one picture: a complete picture need not wait for the next access unit.
    Ok(decoder.flush().and_then(|frame| eight_bit(&frame)).or(shown))
}

/// The picture, for 8-bit 4:2:0 only: no known camera sends another format.
fn eight_bit(frame: &rust_h265::Frame) -> Option<Picture> {
    let plane = |data: &rust_h265::PixelData| data.as_u8().map(<[u8]>::to_vec);
    let (width, height) = (frame.width as usize, frame.height as usize);
    (frame.chroma_format_idc == 1).then_some(())?;
    Some(Picture { width, height, y: plane(&frame.y)?, u: plane(&frame.u)?, v: plane(&frame.v)? })
}
