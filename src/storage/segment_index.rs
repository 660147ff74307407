//! What is in the ring, in memory: one line a segment. Fragments are found by walking a segment's records when somebody asks,
//! so the index of 128 GB is a few thousand lines and needs only segment heads at start.
//!
//! What belongs here: the order of segments. What does not: reading them ([`super::scan`]), choosing victims ([`super::ring`]).

use super::clock_history::ClockHistory;
use super::range_set::Ranges;
use crate::format::segment_head::Segment;
use crate::units::Timestamp;

/// A file with whole records of which no head can be read. It is not written over before its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetAside {
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
    aside: Vec<SetAside>,
    /// How the clocks of each start are read.
    pub clock_history: ClockHistory,
    /// Numbers that should be there and are in no file ([`super::missing_records`]).
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
    pub fn put_aside(&mut self, aside: SetAside) {
        self.aside.push(aside);
        self.aside.sort_by_key(|aside| aside.lap);
    }

    /// Files that cannot be read, oldest first.
    pub fn aside(&self) -> &[SetAside] {
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
    pub fn oldest(&self) -> Option<Timestamp> {
        self.live.first().map(|segment| self.clock_history.date(segment.head.boot, segment.head.start))
    }

    /// Number of the last record of the segment at `at`; `newest` is the last of the ring.
    pub fn last_seq(&self, at: usize, newest: u64) -> u64 {
        self.live.get(at + 1).map_or(newest, |next| next.head.first_seq.saturating_sub(1))
    }
}
