//! References to durable fragments: position in the ring, times and size.

use crate::units::{Boot, Digest, Timestamp};

/// A durable fragment. Its bytes never change while it is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentRef {
    /// Record number: gap-free over the life of the ring, across laps and boots.
    pub seq: u64,
    /// Number of the segment file.
    pub segment: u32,
    /// Lap of the segment when it was written; a reader must compare it.
    pub lap: u32,
    /// Offset of the `uuid` box of the record in the file.
    pub offset: u64,
    /// Bytes from there to the end of its `mdat`, without padding.
    pub len: u32,
    /// Starts with a key frame.
    pub key: bool,
    /// Boot that wrote it.
    pub boot: Boot,
    /// Capture time of its first video frame, or of its first audio frame if there is no video.
    pub start: Timestamp,
    /// Duration, microseconds.
    pub duration: u64,
    /// Start on the media clock of the ring, microseconds. Monotonic over laps and boots; `tfdt` is
    /// derived from it.
    pub media: u64,
    /// Milliseconds by which its audio starts before its video, rounded up.
    pub lead: u16,
    /// Media time from which the decode times of its segment count, microseconds.
    pub base: u64,
    /// Bytes of samples.
    pub payload: u32,
    /// Digest of the track layout needed to decode it.
    pub layout: Digest,
}

impl FragmentRef {
    /// End of the fragment.
    pub fn end(&self) -> Timestamp {
        self.start.after(self.duration)
    }
}
