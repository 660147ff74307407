//! Segment index: keeps the heads of all segments in memory, in order.
//!
//! Queries scan the records of a segment on demand. The index of 128 GB therefore has a few thousand
//! entries and is built from the segment heads alone.

use super::clock_history::ClockHistory;
use super::range_set::Ranges;
use crate::format::segment_head::Segment;
use crate::units::{Boot, Timestamp};

/// A file that holds whole records but no readable head. It is kept until it is recycled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetAside {
    /// Number of the file.
    pub file: u32,
    /// Lap of its records; `u32::MAX` if the file cannot be read at all.
    pub lap: u32,
    /// Length of the file, bytes.
    pub size: u64,
}

/// All segment files of the ring.
#[derive(Debug, Default)]
pub struct Index {
    /// In order of their first record.
    live: Vec<Segment>,
    /// Files without footage, free to use.
    blank: Vec<u32>,
    /// Unreadable files, oldest first.
    aside: Vec<SetAside>,
    /// The clock history of all boots.
    pub clock_history: ClockHistory,
    /// Record numbers that no file holds ([`super::missing_records`]).
    pub lost: Ranges,
}

impl Index {
    /// Adds a segment with footage. Two may begin with the same record if a flush failed and the
    /// record was rewritten; the later lap counts.
    pub fn add(&mut self, segment: Segment) {
        let place = |segment: &Segment| (segment.head.first_seq, segment.head.lap);
        let at = self.live.partition_point(|other| place(other) <= place(&segment));
        self.live.insert(at, segment);
    }

    /// Adds a file without footage.
    pub fn add_blank(&mut self, file: u32) {
        self.blank.push(file);
    }

    /// Adds an unreadable file, kept until it is recycled.
    pub fn put_aside(&mut self, aside: SetAside) {
        self.aside.push(aside);
        self.aside.sort_by_key(|aside| aside.lap);
    }

    /// Unreadable files, oldest first.
    pub fn aside(&self) -> &[SetAside] {
        &self.aside
    }

    /// Files without footage.
    pub fn blank(&self) -> &[u32] {
        &self.blank
    }

    /// Removes a file, with or without footage.
    pub fn forget(&mut self, file: u32) {
        self.blank.retain(|blank| *blank != file);
        self.aside.retain(|aside| aside.file != file);
        self.live.retain(|segment| segment.head.segment != file);
    }

    /// Segments with footage, oldest first.
    pub fn live(&self) -> &[Segment] {
        &self.live
    }

    /// The newest boot that recorded footage; 0 if there is none.
    pub fn newest_boot(&self) -> Boot {
        self.live.iter().map(|segment| segment.head.boot).max().unwrap_or_default()
    }

    /// Capture time of the oldest footage, corrected by the clock history.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.live
            .first()
            .map(|segment| self.clock_history.date(segment.head.boot, segment.head.start))
    }

    /// Number of the last record of the segment at index `at`; `newest` is the last record of the
    /// ring.
    pub fn last_seq(&self, at: usize, newest: u64) -> u64 {
        self.live.get(at + 1).map_or(newest, |next| next.head.first_seq.saturating_sub(1))
    }
}
