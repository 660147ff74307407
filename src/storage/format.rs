//! Not written yet.

use std::sync::Arc;

use crate::camera::TrackParams;

/// The `ftyp` and `moov` of a segment or a clip.
pub fn init_segment(_tracks: &[Arc<TrackParams>], _media_start: u64, _duration: Option<u64>) -> Vec<u8> {
    Vec::new()
}
