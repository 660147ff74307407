//! The head of a clip against its records: tracks are read out of `moov`, the head is built again from them and must be the same byte
//! for byte; what only the tracks say, each record vouches for by its digest.
//!
//! What belongs here: reading tracks back, building, comparing. What does not: records ([`super::verify`]), the boxes themselves
//! ([`crate::format::mp4`]).

use std::sync::Arc;

use crate::camera::{Codec, TrackKind, TrackParams};
use crate::format::mp4::{all, head_boxes, path};
use crate::format::segment_head::head_digest;
use crate::units::Digest;

/// What is wrong with a head (`ftyp` and `moov` with their box headers) in front of records that name `named` and last `duration`
/// microseconds together.
pub fn problem(head: &[u8], named: &Digest, duration: u64) -> Option<String> {
    let Some(tracks) = all(head, b"moov").first().and_then(|moov| tracks(moov)) else {
        return Some("the head of the file cannot be read".into());
    };
    if head_digest(&tracks) != *named {
        return Some("the head is not the one its records name: codec, sizes, time scale or parameter sets were altered".into());
    }
    let altered = head_boxes(&tracks, Some(duration)) != head;
    altered.then(|| "the head was altered: it is not what follows from its tracks and the length of its records".into())
}

/// The tracks that a `moov` as [`head_boxes`] writes it describes.
fn tracks(moov: &[u8]) -> Option<Vec<Arc<TrackParams>>> {
    let tracks: Vec<Arc<TrackParams>> = all(moov, b"trak").into_iter().map(track).collect::<Option<_>>()?;
    (!tracks.is_empty()).then_some(tracks)
}

fn track(trak: &[u8]) -> Option<Arc<TrackParams>> {
    let half = |bytes: &[u8], at: usize| bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes);
    let tkhd = path(trak, &[b"tkhd"])?;
    let size = (half(tkhd, 88)?, half(tkhd, 92)?);
    let scale = path(trak, &[b"mdia", b"mdhd"])?.get(20..24)?.try_into().ok()?;
    let kind = match path(trak, &[b"mdia", b"hdlr"])?.get(8..12)? {
        b"vide" => TrackKind::Video,
        _ => TrackKind::Audio,
    };
    let sample_entry = path(trak, &[b"mdia", b"minf", b"stbl", b"stsd"])?.get(8..)?.to_vec();
    let digest = Digest::of(&sample_entry);
    // The codec is in the sample entry; nothing else depends on it here.
    let codec = if kind == TrackKind::Video { Codec::H264 } else { Codec::Aac };
    let (timescale, annex_b) = (u32::from_be_bytes(scale), Vec::new());
    Some(Arc::new(TrackParams { kind, codec, timescale, sample_entry, annex_b, size, digest }))
}
