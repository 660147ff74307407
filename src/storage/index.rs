//! What is in the ring, in memory: one line a segment. Fragments are found by walking a segment's records when somebody asks,
//! so the index of 128 GB is a few thousand lines and needs only segment heads at start.
//!
//! What belongs here: the order of segments. What does not: reading them ([`super::walk`]), choosing victims ([`super::ring`]).

use std::sync::Arc;

use super::dates::Dates;
use super::head::SegmentHead;
use super::ranges::Ranges;
use crate::units::{Digest, Stamp};

/// One segment that holds footage.
#[derive(Debug, Clone)]
pub struct Segment {
    /// What it says of itself, but for its file: that is where it lies.
    pub head: Arc<SegmentHead>,
    /// Bytes of its padded head: where its first record lies.
    pub head_len: u64,
    /// Where records and free space end, before the second copy of the head.
    pub end: u64,
    /// Digest of its head ([`super::head::head_digest`]).
    pub layout: Digest,
    /// The number of the file it was begun in; another than `head.segment`, the file it lies in, where names were changed.
    pub named: u32,
}

impl Segment {
    /// True where the file ends before its head says.
    pub fn is_cut(&self) -> bool {
        self.end < self.head.end()
    }

    /// Its head as it was written, with the number of the file it was begun in.
    pub fn written(&self) -> SegmentHead {
        SegmentHead { segment: self.named, ..SegmentHead::clone(&self.head) }
    }
}

/// A file with whole records of which no head can be read. It is not written over before its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aside {
    /// The file.
    pub file: u32,
    /// Lap of its records.
    pub lap: u32,
    /// Its length.
    pub size: u64,
}

/// All segments.
#[derive(Debug, Default)]
pub struct Index {
    /// In the order of their first record.
    live: Vec<Segment>,
    /// Files without footage, free to use.
    blank: Vec<u32>,
    /// Files that cannot be read, oldest first.
    aside: Vec<Aside>,
    /// How the clocks of each start are read.
    pub dates: Dates,
    /// Numbers that should be there and are in no file ([`super::lost`]).
    pub lost: Ranges,
}

impl Index {
    /// Adds a segment with footage. Two may begin with the same record when a flush failed and it was written again: the later
    /// lap is the one that counts.
    pub fn add(&mut self, segment: Segment) {
        let place = |segment: &Segment| (segment.head.first_seq, segment.head.lap);
        let at = self.live.partition_point(|other| place(other) <= place(&segment));
        self.live.insert(at, segment);
    }

    /// Adds a file without footage.
    pub fn add_blank(&mut self, file: u32) {
        self.blank.push(file);
    }

    /// Adds a file that cannot be read and is kept until its turn comes.
    pub fn put_aside(&mut self, aside: Aside) {
        self.aside.push(aside);
        self.aside.sort_by_key(|aside| aside.lap);
    }

    /// Files that cannot be read, oldest first.
    pub fn aside(&self) -> &[Aside] {
        &self.aside
    }

    /// Files without footage.
    pub fn blank(&self) -> &[u32] {
        &self.blank
    }

    /// Forgets a file, with or without footage.
    pub fn forget(&mut self, file: u32) {
        self.blank.retain(|blank| *blank != file);
        self.aside.retain(|aside| aside.file != file);
        self.live.retain(|segment| segment.head.segment != file);
    }

    /// Segments with footage, oldest first.
    pub fn live(&self) -> &[Segment] {
        &self.live
    }

    /// When the oldest footage was taken, as far as is known today.
    pub fn oldest(&self) -> Option<Stamp> {
        self.live.first().map(|segment| self.dates.date(segment.head.boot, segment.head.start))
    }

    /// Number of the last record of the segment at `at`; `newest` is the last of the ring.
    pub fn last_seq(&self, at: usize, newest: u64) -> u64 {
        self.live.get(at + 1).map_or(newest, |next| next.head.first_seq.saturating_sub(1))
    }
}
