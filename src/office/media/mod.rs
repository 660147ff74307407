//! Clip files for a player: index, codec strings, a file without sound, key frames. Pure.
//!
//! * [`clip_index`]: lists the fragments of a clip with their places and times.
//!   [`walk`]: reads its boxes and records. [`boxes`]: boxes of bytes from a device.
//!   [`samples`]: places of samples. [`limits`]: bounds of all that. [`wall_times`]: dates the fragments.
//! * [`codec`]: the codec string of a track (RFC 6381).
//! * [`video_only`]: the same file without its sound.
//! * [`key_frame`]: the key frame of a fragment, ready to be decoded. [`shrink`]: a smaller picture.
//!
//! A file is never read as a whole: the caller hands over a function that reads a range.
//!
//! What belongs here: the content of stored clips, as values. What does not: reading files, threads,
//! decoding ([`super::pictures`]), rights.

pub mod boxes;
pub mod clip_index;
#[cfg(test)]
mod clip_index_tests;
pub mod codec;
pub mod key_frame;
pub mod limits;
mod samples;
pub mod shrink;
#[cfg(any(test, feature = "sim"))]
pub mod test_clip;
pub mod video_only;
pub(crate) mod walk;
pub(crate) mod wall_times;

use std::ops::Range;

/// Reads exactly a range of a stored file.
///
/// # Errors
/// The cause, as a text for an operator.
pub trait ReadRange: FnMut(Range<u64>) -> Result<Vec<u8>, String> {}

impl<F: FnMut(Range<u64>) -> Result<Vec<u8>, String>> ReadRange for F {}

/// Why a clip has no index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClipFault {
    /// The file is no clip of a device.
    #[error("the file is no clip of a device: {0}")]
    NotAClip(&'static str),
    /// A box or record is damaged.
    #[error("offset {offset}: {what}")]
    Damaged {
        /// Offset in the file, bytes.
        offset: u64,
        /// What is damaged.
        what: &'static str,
    },
    /// The clip exceeds a bound of [`limits`].
    #[error("the clip exceeds a limit: {0}")]
    TooLarge(&'static str),
    /// A wanted track, fragment or key frame does not exist.
    #[error("the clip has no such part: {0}")]
    Absent(&'static str),
    /// The store cannot read the file.
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
}

impl ClipFault {
    /// The code in an answer of the API.
    pub fn code(&self) -> &'static str {
        match self {
            ClipFault::NotAClip(_) => "not_a_clip",
            ClipFault::Damaged { .. } => "clip_damaged",
            ClipFault::TooLarge(_) => "clip_too_large",
            ClipFault::Absent(_) => "clip_part_absent",
            ClipFault::Unreadable(_) => "clip_unreadable",
        }
    }
}
