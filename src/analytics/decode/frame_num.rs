//! Checks the continuity of H.264 `frame_num` (ITU-T H.264 7.4.3) to detect lost reference
//! pictures.
//!
//! A lost reference picture damages all pictures that follow it, and a damaged picture looks like
//! motion. RTP does not report every loss.

use rusty_h264_decoder::Sps;

use crate::camera::{Codec, Frame};
use crate::units::Digest;

/// GOPs in a row with a jump directly after their key frame, after which jumps are ignored. Some
/// firmware numbers pictures differently; losses have no fixed position.
const JUMPS_MAX: u8 = 3;

/// The state of the check of one stream.
#[derive(Default)]
pub struct FrameNumCheck {
    /// Bits of `frame_num` for the parameter set with this digest. 0 when the set allows gaps or is
    /// not understood: then nothing is checked.
    bits: Option<(Digest, u32)>,
    /// `frame_num` of the last reference picture.
    last: Option<u32>,
    /// GOPs in a row with a jump directly after the key frame.
    jumps: u8,
    /// The last access unit was a key frame.
    after_key: bool,
}

impl FrameNumCheck {
    /// False when a reference picture between the last access unit and this one is missing.
    pub fn follows(&mut self, frame: &Frame) -> bool {
        if frame.params.codec != Codec::H264 {
            return true;
        }
        let bits = match self.bits {
            Some((digest, bits)) if digest == frame.params.digest => bits,
            _ => {
                self.bits
                    .insert((frame.params.digest, bits_of(&frame.params.annex_b).unwrap_or(0)))
                    .1
            }
        };
        if frame.key {
            self.after_key = true;
            self.last = Some(0);
            return true;
        }
        let Some((is_reference, number)) = first_slice(&frame.data, bits) else {
            return true;
        };
        let follows =
            self.last.is_none_or(|last| number == last || number == (last + 1) % (1 << bits));
        if is_reference {
            self.last = Some(number);
        }
        if std::mem::take(&mut self.after_key) {
            self.jumps = if follows { 0 } else { self.jumps.saturating_add(1) };
        }
        follows || self.jumps >= JUMPS_MAX
    }
}

/// Bits of `frame_num` by the first sequence parameter set in Annex B units (7.3.2.1). `None` when
/// it allows gaps in `frame_num`.
fn bits_of(annex_b: &[u8]) -> Option<u32> {
    let starts = annex_b
        .windows(4)
        .enumerate()
        .filter(|(_, window)| *window == [0, 0, 0, 1])
        .map(|(at, _)| at + 4);
    let sets = starts
        .filter_map(|at| annex_b.get(at..))
        .filter(|unit| unit.first().is_some_and(|head| head & 0x1f == 7));
    let sps = sets
        .filter_map(|unit| Sps::parse(&without_emulation_prevention(&unit[1..])).ok())
        .next()?;
    (!sps.gaps_in_frame_num_allowed)
        .then_some(sps.log2_max_frame_num)
        .filter(|bits| (4..=16).contains(bits))
}

/// Removes the emulation prevention bytes of a NAL unit (7.4.1).
pub fn without_emulation_prevention(unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len());
    for byte in unit {
        if *byte == 3 && out.ends_with(&[0, 0]) {
            continue;
        }
        out.push(*byte);
    }
    out
}

/// For the first slice of an access unit (7.3.3): whether its picture is a reference, and its
/// `frame_num`.
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
            let header = without_emulation_prevention(&unit[1..unit.len().min(24)]);
            let mut reader = Reader { bytes: &header, at: 0 };
            for _ in 0..3 {
                reader.exp_golomb()?;
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
    fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bits(1)? == 0 {
            zeros += 1;
        }
        (zeros < 31).then_some(())?;
        Some((1 << zeros) - 1 + self.bits(zeros)?)
    }
}
