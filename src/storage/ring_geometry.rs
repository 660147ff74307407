//! Sizes of the ring, and whether a fragment fits a segment.

use std::sync::Arc;

use super::fragment::NewFragment;
use crate::camera::{TrackKind, TrackParams};
use crate::format::block::{BLOCK, padded};
use crate::format::record::RECORD_BOX;

/// Fewest segments of a ring. With fewer, recycling one would evict too large a share of the
/// footage.
pub const SEGMENTS_MIN: usize = 4;

/// Fewest segments of a young ring that are recycled when the card has no room for another one, and
/// with which a ring is opened on a full card. With one, recycling it would evict all footage; with
/// two, the newer half stays and recording goes on.
pub const RECYCLED_MIN: usize = 2;

/// Size limits of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingGeometry {
    /// Length of a new segment file, bytes.
    pub segment: u64,
    /// Most bytes of all segment files together.
    pub budget: u64,
    /// Percent of the budget that pins may hold.
    pub quota: u8,
}

/// Zeros that overwrite a head of `head_len` bytes, at least one block.
pub(super) fn free_of(head_len: u64) -> Vec<u8> {
    vec![0; head_len.max(BLOCK) as usize]
}

/// Start of a draft on the media clock, audio or video, microseconds.
pub(super) fn start_of(draft: &NewFragment<'_>) -> u64 {
    draft.media.saturating_sub(u64::from(draft.lead) * 1000)
}

/// Bytes of a draft with its record and padding.
pub(super) fn padded_len(draft: &NewFragment<'_>) -> u64 {
    padded((RECORD_BOX + draft.content.len()) as u64)
}

/// True when `layout` contains every track of `tracks`.
pub(super) fn covers(layout: &[Arc<TrackParams>], tracks: &[Arc<TrackParams>]) -> bool {
    tracks.iter().all(|track| {
        layout.iter().any(|have| have.digest == track.digest && have.kind == track.kind)
    })
}

/// The tracks of the next segment, which begins with a fragment of `tracks` behind one of `layout`.
/// Where `layout` does not cover them, its tracks of other kinds stay: pictures and sound that take
/// turns would begin a segment each time.
pub(super) fn head_tracks(
    layout: &[Arc<TrackParams>],
    tracks: Vec<Arc<TrackParams>>,
) -> Vec<Arc<TrackParams>> {
    if covers(layout, &tracks) && tracks.iter().any(|track| track.kind == TrackKind::Video) {
        return tracks;
    }
    let of =
        |tracks: &[Arc<TrackParams>], kind| tracks.iter().find(|track| track.kind == kind).cloned();
    let of_kind = |kind| of(&tracks, kind).or_else(|| of(layout, kind));
    [TrackKind::Video, TrackKind::Audio].into_iter().filter_map(of_kind).collect()
}
