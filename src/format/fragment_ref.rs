//! References to durable fragments: where a fragment lies in the ring and what it holds.

use crate::units::{Boot, Digest, Timestamp};

/// Where one durable fragment lies and what it holds. Its bytes never change while it is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentRef {
    /// Record sequence number: gap-free over the life of the ring, across laps and boots.
    pub seq: u64,
    /// Index of the segment file.
    pub segment: u32,
    /// The segment's lap when this was written; a reader checks it.
    pub lap: u32,
    /// Offset in the file of the record's `uuid` box.
    pub offset: u64,
    /// Bytes from there to the end of its `mdat` (without padding).
    pub len: u32,
    /// The first video sample is a key frame.
    pub key: bool,
    /// Boot it was written in.
    pub boot: Boot,
    /// Times of its first video sample (first sample where there is no video).
    pub start: Timestamp,
    /// Media microseconds it covers.
    pub duration: u64,
    /// Start on the ring's own media clock in microseconds: monotonic over laps and boots, what `tfdt` is made from.
    pub media: u64,
    /// Milliseconds by which its sound begins before its first picture.
    pub lead: u16,
    /// Where the decode times of its segment count from, microseconds on the media clock.
    pub base: u64,
    /// Bytes of samples in it.
    pub payload: u32,
    /// Digest of the track layout (all sample entries) it needs.
    pub layout: Digest,
}

impl FragmentRef {
    /// The last moment it covers.
    pub fn end(&self) -> Timestamp {
        self.start.after(self.duration)
    }
}
