//! The numbers of H.264 pictures: a reference picture that never came makes every picture after it wrong, and a wrong picture looks
//! like motion, although nothing on the way was noticed to be lost.
//!
//! What belongs here: `frame_num` (ITU-T H.264 7.4.3). What does not: decoding.

use rusty_h264_decoder::Sps;

use crate::camera::{Codec, Frame};
use crate::units::Digest;

/// GOPs in a row that jump right behind their key frame, after which a camera's numbers are not confirmed: some firmware counts
/// otherwise, and losses do not choose their place.
const JUMPS_MAX: u8 = 3;

/// What the numbers so far say.
#[derive(Default)]
pub struct FrameNumCheck {
    /// Bits of a number by the parameter set of that digest; 0: the camera may leave numbers out, or the set is not understood.
    bits: Option<(Digest, u32)>,
    /// Number of the last reference picture.
    last: Option<u32>,
    /// GOPs in a row with a jump right behind the key frame.
    jumps: u8,
    /// The last frame was a key frame.
    after_key: bool,
}

impl FrameNumCheck {
    /// False when a reference picture between the last frame and this one is missing.
    pub fn follows(&mut self, frame: &Frame) -> bool {
        if frame.params.codec != Codec::H264 {
            return true;
        }
        let bits = match self.bits {
            Some((digest, bits)) if digest == frame.params.digest => bits,
            _ => self.bits.insert((frame.params.digest, bits_of(&frame.params.annex_b).unwrap_or(0))).1,
        };
        if frame.key {
            (self.after_key, self.last) = (true, Some(0));
            return true;
        }
        let Some((is_reference, number)) = first_slice(&frame.data, bits) else {
            return true;
        };
        let follows = self.last.is_none_or(|last| number == last || number == (last + 1) % (1 << bits));
        if is_reference {
            self.last = Some(number);
        }
        if std::mem::take(&mut self.after_key) {
            self.jumps = if follows { 0 } else { self.jumps.saturating_add(1) };
        }
        follows || self.jumps >= JUMPS_MAX
    }
}

/// Bits of `frame_num` by the sequence parameter set among Annex B units, unless gaps are allowed.
fn bits_of(annex_b: &[u8]) -> Option<u32> {
    let starts = annex_b.windows(4).enumerate().filter(|(_, window)| *window == [0, 0, 0, 1]).map(|(at, _)| at + 4);
    let sets = starts.filter_map(|at| annex_b.get(at..)).filter(|unit| unit.first().is_some_and(|head| head & 0x1f == 7));
    let sps = sets.filter_map(|unit| Sps::parse(&plain(&unit[1..])).ok()).next()?;
    (!sps.gaps_in_frame_num_allowed).then_some(sps.log2_max_frame_num).filter(|bits| (4..=16).contains(bits))
}

/// Without the bytes that keep start codes out (7.4.1).
pub fn plain(unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len());
    for byte in unit {
        if *byte == 3 && out.ends_with(&[0, 0]) {
            continue;
        }
        out.push(*byte);
    }
    out
}

/// Whether the first slice of an access unit belongs to a reference picture, and its `frame_num`.
fn first_slice(data: &[u8], bits: u32) -> Option<(bool, u32)> {
    if bits == 0 {
        return None;
    }
    let mut rest = data;
    loop {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let length = (u32::from_be_bytes(*length) as usize).min(tail.len());
        let (unit, after) = tail.split_at(length);
        if let Some(head) = unit.first().filter(|head| matches!(*head & 0x1f, 1 | 5)) {
            let header = plain(&unit[1..unit.len().min(24)]);
            let mut reader = Reader { bytes: &header, at: 0 };
            for _ in 0..3 {
                reader.golomb()?;
            }
            return Some((head >> 5 & 3 != 0, reader.bits(bits)?));
        }
        rest = after;
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// An unsigned Exp-Golomb number (9.1).
    fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bits(1)? == 0 {
            zeros += 1;
        }
        (zeros < 31).then_some(())?;
        Some((1 << zeros) - 1 + self.bits(zeros)?)
    }
}
