//! RTP payloads of video: cuts them into NAL units and fragments (RFC 6184 5, RFC 7798 4.4).

use super::nal::{start_code, without_trailing_zeros};
use crate::camera::Codec;

/// A part of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole NAL unit.
    Whole(&'a [u8]),
    /// A fragment of a NAL unit.
    Fragment(Fragment<'a>),
}

/// A fragment of a NAL unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    /// The header of the NAL unit: two bytes in H.265, the first one in H.264.
    pub(super) header: [u8; 2],
    /// The first fragment.
    pub(super) start: bool,
    /// The last fragment.
    pub(super) end: bool,
    /// Bytes of the NAL unit behind its header.
    pub(super) body: &'a [u8],
    /// The whole payload.
    pub(super) payload: &'a [u8],
}

/// What was odd about a payload that could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Oddities {
    /// Start codes stand in the payload.
    pub(super) start_codes: bool,
    /// A NAL unit of no bytes.
    pub(super) empty: bool,
}

/// Gives the pieces of a payload in their order.
///
/// # Errors
/// What is wrong with it. The pieces before were given.
pub(super) fn pieces<'a>(
    codec: Codec,
    payload: &'a [u8],
    mut each: impl FnMut(Piece<'a>),
) -> Result<Oddities, &'static str> {
    let mut odd = Oddities::default();
    let Some(first) = payload.first() else {
        return Ok(Oddities { empty: true, ..odd });
    };
    if payload.starts_with(&[0, 0, 1]) || payload.starts_with(&[0, 0, 0, 1]) {
        split(payload, &mut odd, &mut each);
        return Ok(odd);
    }
    let (kind, header) = match codec {
        Codec::H265 => (first >> 1 & 0x3f, 2),
        _ => (first & 0x1f, 1),
    };
    match (codec, kind) {
        (Codec::H265, 48) | (Codec::H264, 24) if first & 0x80 != 0 => {
            return Err("RTP payload with the forbidden bit set");
        }
        (Codec::H265, 48 | 49) if first & 1 != 0 || payload.get(1).is_none_or(|b| b & 7 == 0) => {
            return Err("H.265 payload with an impossible header");
        }
        (Codec::H265, 48) | (Codec::H264, 24) => {
            aggregate(payload.get(header..).unwrap_or_default(), &mut odd, &mut each)?;
        }
        (Codec::H265, 49) | (Codec::H264, 28) => {
            each(Piece::Fragment(fragment(codec, payload)?));
        }
        (Codec::H265, 50) => return Err("H.265 payload with PACI, which is not supported"),
        (Codec::H264, 25..=27 | 29) => {
            return Err("H.264 in interleaved mode, which is not supported");
        }
        _ => split(payload, &mut odd, &mut each),
    }
    Ok(odd)
}

/// The fragment that a payload is, if it is one.
pub(super) fn peek(codec: Codec, payload: &[u8]) -> Option<Fragment<'_>> {
    let first = payload.first()?;
    let is = if codec == Codec::H265 { first >> 1 & 0x3f == 49 } else { first & 0x1f == 28 };
    if is { fragment(codec, payload).ok() } else { None }
}

/// Cuts bytes at start codes. There should be none.
pub(super) fn split<'a>(bytes: &'a [u8], odd: &mut Oddities, each: &mut impl FnMut(Piece<'a>)) {
    let mut rest = bytes;
    while let Some((end, next)) = start_code(rest) {
        odd.start_codes = true;
        if end > 0 {
            each(Piece::Whole(&rest[..end]));
        }
        rest = &rest[next..];
    }
    if odd.start_codes {
        rest = without_trailing_zeros(rest);
    }
    if !rest.is_empty() {
        each(Piece::Whole(rest));
    }
}

fn aggregate<'a>(
    mut rest: &'a [u8],
    odd: &mut Oddities,
    each: &mut impl FnMut(Piece<'a>),
) -> Result<(), &'static str> {
    odd.empty |= rest.is_empty();
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let nal = more.get(..length).ok_or("aggregation packet cut off")?;
        if nal.is_empty() {
            odd.empty = true;
        } else {
            split(nal, odd, each);
        }
        rest = &more[length..];
    }
    // One byte of padding behind the last NAL unit does no harm.
    if rest.len() <= 1 { Ok(()) } else { Err("aggregation packet cut off") }
}

fn fragment(codec: Codec, payload: &[u8]) -> Result<Fragment<'_>, &'static str> {
    let cut = "fragment without its header";
    let (header, marks, body) = match (codec, payload) {
        (Codec::H265, [first, second, marks, body @ ..]) => {
            ([first & 0x81 | (marks & 0x3f) << 1, *second], *marks, body)
        }
        (Codec::H265, _) => return Err(cut),
        (_, [first, marks, body @ ..]) => ([first & 0xe0 | marks & 0x1f, 0], *marks, body),
        _ => return Err(cut),
    };
    Ok(Fragment { header, start: marks & 0x80 != 0, end: marks & 0x40 != 0, body, payload })
}
