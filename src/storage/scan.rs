//! Reading a segment record by record, and getting past damage: a record that cannot be read costs itself, not what lies behind.
//!
//! What belongs here: following records through a file. What does not: deciding what to do about a tear ([`super::recovery`]).

use super::disk::{Disk, DiskFault, FileId};
use crate::format::record::{BLOCK, RECORD_BOX, RingRecord, box_at, is_padded, padded};
use crate::format::segment_head::Segment;
use crate::units::Digest;

/// What was found where a record should be.
#[expect(clippy::large_enum_variant, reason = "nearly all are records: a box for each would cost more than it saves")]
#[derive(Debug, Clone, PartialEq)]
pub enum ScanItem {
    /// A record at this offset.
    Record(u64, RingRecord),
    /// Records from this offset on cannot be read: these numbers.
    Damaged {
        /// Where.
        offset: u64,
        /// First number lost.
        first: u64,
        /// Last number lost.
        last: u64,
    },
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanEnd {
    /// At a `free` box over the rest, or at the end of the file: in order.
    Free,
    /// At something that is neither a record nor `free`: a torn write, or old content behind one.
    Torn,
}

/// The outcome of a walk.
#[derive(Debug)]
pub struct SegmentScan {
    /// Everything found, in order.
    pub found: Vec<ScanItem>,
    /// Where the next record would begin.
    pub at: u64,
    /// How it ended.
    pub end: ScanEnd,
    /// Number the next record would have.
    pub next_seq: u64,
    /// Chain digest of the last record.
    pub chain: Digest,
}

/// Whether the content of each record is read and checked too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanDepth {
    /// Records only: each has a checksum of its own.
    Records,
    /// Checksums over all content.
    Content,
}

/// Follows the records of `segment`.
///
/// # Errors
/// When the card refuses to read.
pub fn walk(disk: &dyn Disk, segment: &Segment, depth: ScanDepth) -> Result<SegmentScan, DiskFault> {
    let file = FileId::Segment(segment.head.segment);
    follow(&|at, len| disk.read(file, at, len), segment, depth)
}

/// The same past what the card refuses to read twice: that is damage like any other.
pub fn walk_past(disk: &dyn Disk, segment: &Segment, depth: ScanDepth) -> SegmentScan {
    let file = FileId::Segment(segment.head.segment);
    let read = |at, len| {
        let read = disk.read(file, at, len).or_else(|_| disk.read(file, at, len));
        Ok(read.unwrap_or_else(|_| vec![0xff; len]))
    };
    follow(&read, segment, depth).unwrap_or_else(|_| SegmentScan::at_begin(segment))
}

/// Reads so many bytes of a segment's file from an offset on.
type Read<'a> = &'a dyn Fn(u64, usize) -> Result<Vec<u8>, DiskFault>;

fn follow(read: Read<'_>, segment: &Segment, depth: ScanDepth) -> Result<SegmentScan, DiskFault> {
    let mut walk = SegmentScan::at_begin(segment);
    while walk.at + RECORD_BOX as u64 <= segment.end {
        let bytes = read(walk.at, RECORD_BOX)?;
        let record = RingRecord::decode(&bytes).filter(|record| follows(record, segment, walk.at));
        let next = record.filter(|record| record.seq == walk.next_seq && record.previous == walk.chain);
        match next {
            Some(record) if depth == ScanDepth::Records || intact(read, segment, walk.at, &record)? => walk.take(record),
            _ => {
                let free = box_at(&bytes, 0).is_some_and(|(name, len)| name == *b"free" && walk.at + len as u64 == segment.end);
                if free {
                    return Ok(walk);
                }
                let Some((offset, record)) = resume(read, segment, &walk)? else {
                    walk.end = ScanEnd::Torn;
                    return Ok(walk);
                };
                walk.found.push(ScanItem::Damaged { offset: walk.at, first: walk.next_seq, last: record.seq - 1 });
                walk.at = offset;
                walk.take(record);
            }
        }
    }
    Ok(walk)
}

impl SegmentScan {
    fn at_begin(segment: &Segment) -> SegmentScan {
        let (next_seq, chain) = (segment.head.first_seq, segment.head.previous);
        SegmentScan { found: Vec::new(), at: segment.head_len, end: ScanEnd::Free, next_seq, chain }
    }

    fn take(&mut self, record: RingRecord) {
        let offset = self.at;
        self.at += padded(record.len.into());
        self.next_seq = record.seq + 1;
        self.chain = record.link();
        self.found.push(ScanItem::Record(offset, record));
    }
}

/// A record that can belong to this lap of this segment.
fn follows(record: &RingRecord, segment: &Segment, at: u64) -> bool {
    record.lap == segment.head.lap && at + u64::from(record.len) <= segment.end
}

/// True when a record and the padding behind it arrived whole.
fn intact(read: Read<'_>, segment: &Segment, at: u64, record: &RingRecord) -> Result<bool, DiskFault> {
    let padded = padded(record.len.into());
    if at + padded > segment.end {
        return Ok(false);
    }
    let bytes = read(at, padded as usize)?;
    Ok(record.intact(&bytes) && is_padded(&bytes, record.len as usize, padded as usize))
}

/// The next whole record of this lap behind damage.
fn resume(read: Read<'_>, segment: &Segment, walk: &SegmentScan) -> Result<Option<(u64, RingRecord)>, DiskFault> {
    let mut at = walk.at + BLOCK;
    while at + RECORD_BOX as u64 <= segment.end {
        let bytes = read(at, RECORD_BOX)?;
        let later = |record: &RingRecord| follows(record, segment, at) && record.seq > walk.next_seq;
        if let Some(record) = RingRecord::decode(&bytes).filter(later)
            && intact(read, segment, at, &record)?
        {
            return Ok(Some((at, record)));
        }
        at += BLOCK;
    }
    Ok(None)
}
