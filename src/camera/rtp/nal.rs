//! NAL units: the few bits that decide where a picture begins (ITU-T H.264 7.3.1, H.265 7.3.1).

use crate::camera::Codec;

/// What a NAL unit is to an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A coded slice; whether it is the first of its picture, if that is known.
    Slice {
        /// First slice of a picture.
        first: Option<bool>,
        /// An IDR picture, or in H.265 any picture with random access (BLA, IDR, CRA).
        random_access: bool,
    },
    /// Belongs to the current picture wherever it stands: a slice of another layer or view.
    Continues,
    /// A parameter set, by its place in the decoder's order: VPS 0, SPS 1, PPS 2.
    Set(usize),
    /// An access unit delimiter: it begins an access unit.
    Delimiter,
    /// Stands before its picture: SEI and others.
    Prefix,
    /// Stands behind its picture: suffix SEI, end of sequence, filler.
    Suffix,
    /// Decoders leave it out, and so do we.
    Reserved,
    /// No slice, and nothing that a decoder takes: it is left out, and costs no picture.
    Invalid,
    /// A slice that cannot be in this stream: its picture is lost.
    Illegal(&'static str),
}

impl Class {
    /// The class of a NAL unit with a fault in its header.
    fn faulty(is_slice: bool, why: &'static str) -> Class {
        if is_slice { Class::Illegal(why) } else { Class::Invalid }
    }

    /// True for what may be left out of a picture without harm to its slices.
    pub(super) fn is_beside_slices(self) -> bool {
        matches!(self, Class::Continues | Class::Delimiter | Class::Prefix | Class::Suffix)
    }
}

/// A NAL unit without the zeros behind it, which belong to the byte stream (H.264 B.1.1).
pub(super) fn without_trailing_zeros(nal: &[u8]) -> &[u8] {
    let zeros = nal.iter().rev().take_while(|byte| **byte == 0).count();
    &nal[..nal.len() - zeros]
}

/// True if the body of a NAL unit has bytes that the standard forbids within one, and at which
/// `retina` gives up the whole picture: 00 00 00, 00 00 01, 00 00 02 (H.264 7.4.1).
pub(super) fn has_forbidden_bytes(codec: Codec, nal: &[u8]) -> bool {
    let body = nal.get(header_len(codec)..).unwrap_or_default();
    body.windows(3).any(|bytes| bytes[0] == 0 && bytes[1] == 0 && bytes[2] <= 2)
}

/// Length of the header of a NAL unit.
pub(super) fn header_len(codec: Codec) -> usize {
    if codec == Codec::H265 { 2 } else { 1 }
}

/// The class of a NAL unit that begins with these bytes.
pub(super) fn classify(codec: Codec, nal: &[u8]) -> Class {
    if codec == Codec::H265 { classify_265(nal) } else { classify_264(nal) }
}

fn classify_264(nal: &[u8]) -> Class {
    let Some(head) = nal.first() else { return Class::Illegal("NAL unit without a header") };
    if head & 0x80 != 0 {
        let is_slice = matches!(head & 0x1f, 1..=5);
        return Class::faulty(is_slice, "NAL unit with its forbidden bit set");
    }
    // first_mb_in_slice is the first field of a slice header; 0 is one bit of 1.
    let first = nal.get(1).map(|byte| byte & 0x80 != 0);
    match head & 0x1f {
        1 => Class::Slice { first, random_access: false },
        5 => Class::Slice { first, random_access: true },
        2..=4 => Class::Illegal("H.264 data partition, which no camera sends"),
        6 | 13..=18 => Class::Prefix,
        7 => Class::Set(1),
        8 => Class::Set(2),
        9 => Class::Delimiter,
        10..=12 => Class::Suffix,
        19..=21 => Class::Continues,
        22 | 23 => Class::Reserved,
        // Of an unspecified type.
        _ => Class::Invalid,
    }
}

fn classify_265(nal: &[u8]) -> Class {
    let is_slice = nal.first().is_none_or(|head| head >> 1 & 0x3f < 32);
    let Some(head) = nal.first_chunk::<2>() else {
        return Class::faulty(is_slice, "NAL unit without a header");
    };
    if head[0] & 0x80 != 0 {
        return Class::faulty(is_slice, "NAL unit with its forbidden bit set");
    }
    if head[1] & 7 == 0 {
        return Class::faulty(is_slice, "H.265 NAL unit without a temporal id");
    }
    let layer = (head[0] & 1) << 5 | head[1] >> 3;
    let first = nal.get(2).map(|byte| byte & 0x80 != 0);
    match head[0] >> 1 & 0x3f {
        0..=31 if layer > 0 => Class::Continues,
        32..=34 if layer > 0 => Class::Reserved,
        kind @ (0..=9 | 16..=21) => Class::Slice { first, random_access: kind >= 16 },
        10..=15 | 22..=31 => Class::Reserved,
        kind @ 32..=34 => Class::Set(usize::from(kind) - 32),
        35 => Class::Delimiter,
        39 | 41..=44 => Class::Prefix,
        36..=38 | 40 | 45..=47 => Class::Suffix,
        // Of an unspecified type.
        _ => Class::Invalid,
    }
}

/// True for an H.264 slice that is coded without other pictures (slice types 2 and 7).
pub(super) fn is_intra_264(slice: &[u8]) -> bool {
    let mut bits = Bits::new(slice.get(1..).unwrap_or_default());
    bits.ue().and_then(|_| bits.ue()).is_some_and(|kind| kind % 5 == 2)
}

/// The number of a picture parameter set.
pub(super) fn pps_id(codec: Codec, pps: &[u8]) -> Option<u32> {
    Bits::new(pps.get(header_len(codec)..)?).ue()
}

/// True for an SEI NAL unit that has a recovery point message (H.264 D.1.8, H.265 D.2.8).
pub(super) fn has_recovery_point(codec: Codec, nal: &[u8]) -> bool {
    let (kind, header) = match codec {
        Codec::H265 => (nal.first().map_or(0, |head| head >> 1 & 0x3f), 2),
        _ => (nal.first().map_or(0, |head| head & 0x1f), 1),
    };
    if kind != if codec == Codec::H265 { 39 } else { 6 } {
        return false;
    }
    let mut bytes = Rbsp { bytes: nal.get(header..).unwrap_or_default(), zeros: 0 };
    loop {
        let (Some(payload_type), Some(size)) = (bytes.long(), bytes.long()) else { return false };
        // What is left of the message must follow, and the trailing bits behind it.
        let complete = size == 0 || bytes.nth(size - 1).is_some();
        if payload_type == 6 || !complete {
            return payload_type == 6 && complete;
        }
    }
}

/// The bytes of a NAL unit without its emulation prevention bytes (H.264 7.4.1).
struct Rbsp<'a> {
    bytes: &'a [u8],
    zeros: usize,
}

impl Iterator for Rbsp<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.zeros >= 2 && self.bytes.first() == Some(&3) {
            (self.bytes, self.zeros) = (&self.bytes[1..], 0);
        }
        let (byte, rest) = self.bytes.split_first()?;
        self.zeros = if *byte == 0 { self.zeros + 1 } else { 0 };
        self.bytes = rest;
        Some(*byte)
    }
}

impl Rbsp<'_> {
    /// A number of an SEI header: bytes of 255, and a last one (7.3.2.3.1).
    fn long(&mut self) -> Option<usize> {
        let mut sum = 0;
        loop {
            let byte = self.next()?;
            sum += usize::from(byte);
            if byte != 255 {
                return Some(sum);
            }
        }
    }
}

/// Where a start code stands in `bytes`: its first byte and the first byte behind it.
pub(super) fn start_code(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut at = 2;
    while let Some(byte) = bytes.get(at) {
        match byte {
            0 => at += 1,
            1 if bytes[at - 1] == 0 && bytes[at - 2] == 0 => {
                let zeros = bytes[..at].iter().rev().take_while(|byte| **byte == 0).count();
                return Some((at - zeros, at + 1));
            }
            _ => at += 3,
        }
    }
    None
}

/// Reads the head of a slice, without emulation prevention bytes.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, at: 0 }
    }

    fn bit(&mut self) -> Option<u32> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    /// An unsigned Exp-Golomb number (9.1) of at most 24 bits.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 24 {
                return None;
            }
        }
        let mut value = 1;
        for _ in 0..zeros {
            value = value << 1 | self.bit()?;
        }
        Some(value - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_codes_are_found_wherever_they_stand() {
        for before in 0..9 {
            for zeros in 2..5 {
                let mut bytes = vec![7; before];
                bytes.extend(vec![0; zeros]);
                bytes.extend([1, 9]);
                assert_eq!(start_code(&bytes), Some((before, before + zeros + 1)), "{bytes:?}");
            }
        }
        assert_eq!(start_code(&[1, 0, 1, 0, 2, 0, 0, 3, 1]), None);
    }

    #[test]
    fn recovery_points_are_found_behind_other_messages() {
        assert!(has_recovery_point(Codec::H264, &[6, 5, 2, 1, 1, 6, 1, 0xc0, 0x80]));
        assert!(!has_recovery_point(Codec::H264, &[6, 5, 2, 6, 1, 0x80]));
        let hidden = [6, 5, 6, 0, 0, 3, 1, 0, 6, 1, 0xc0, 0x80];
        assert!(!has_recovery_point(Codec::H264, &hidden), "within a message");
        assert!(has_recovery_point(Codec::H265, &[0x4e, 1, 6, 1, 0xd0, 0x80]));
        assert!(!has_recovery_point(Codec::H264, &[0x65, 6, 1, 0xd0, 0x80]));
    }

    #[test]
    fn intra_slices_differ_from_others() {
        // first_mb 0 (1), slice_type 7 (0001000), then 2 (011), then 0 (1).
        assert!(is_intra_264(&[0x41, 0b1000_1000, 0]));
        assert!(is_intra_264(&[0x41, 0b1011_0000]));
        assert!(!is_intra_264(&[0x41, 0b1100_0000]) && !is_intra_264(&[0x41]));
    }
}
