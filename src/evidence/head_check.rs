//! Head check: compares the head of a clip with its records.
//!
//! The tracks are parsed from `moov`, and a head built from them must be equal byte for byte. The
//! records contain the digest of the head, which covers the tracks.

use std::sync::Arc;

use crate::camera::{Codec, TrackKind, TrackParams};
use crate::format::mp4::{all, head_boxes, path};
use crate::format::segment_head::head_digest;
use crate::units::Digest;

/// Returns the problem of a head (`ftyp` and `moov` with their box headers), or `None`. Its records
/// contain the head digest `named` and last `duration` microseconds together.
pub fn problem(head: &[u8], named: &Digest, duration: u64) -> Option<String> {
    let Some(tracks) = all(head, b"moov").first().and_then(|moov| tracks(moov)) else {
        return Some("the head of the file cannot be read".into());
    };
    if head_digest(&tracks) != *named {
        return Some("the head does not match its records: codec, size, timescale or parameter sets were altered".into());
    }
    let altered = head_boxes(&tracks, Some(duration)) != head;
    altered.then(|| {
        "the head was altered: it does not match its tracks and the duration of its records".into()
    })
}

/// The tracks of a `moov` written by [`head_boxes`].
fn tracks(moov: &[u8]) -> Option<Vec<Arc<TrackParams>>> {
    let tracks: Vec<Arc<TrackParams>> =
        all(moov, b"trak").into_iter().map(track).collect::<Option<_>>()?;
    (!tracks.is_empty()).then_some(tracks)
}

fn track(trak: &[u8]) -> Option<Arc<TrackParams>> {
    let half =
        |bytes: &[u8], at: usize| bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes);
    let tkhd = path(trak, &[b"tkhd"])?;
    let size = (half(tkhd, 88)?, half(tkhd, 92)?);
    let scale = path(trak, &[b"mdia", b"mdhd"])?.get(20..24)?.try_into().ok()?;
    let kind = match path(trak, &[b"mdia", b"hdlr"])?.get(8..12)? {
        b"vide" => TrackKind::Video,
        _ => TrackKind::Audio,
    };
    let sample_entry = path(trak, &[b"mdia", b"minf", b"stbl", b"stsd"])?.get(8..)?.to_vec();
    let digest = Digest::of(&sample_entry);
    // The sample entry contains the codec; no check depends on this field.
    let codec = if kind == TrackKind::Video { Codec::H264 } else { Codec::Aac };
    let (timescale, annex_b) = (u32::from_be_bytes(scale), Vec::new());
    Some(Arc::new(TrackParams { kind, codec, timescale, sample_entry, annex_b, size, digest }))
}
