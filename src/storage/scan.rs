//! Segment scan: reads a segment record by record and resumes behind damage.
//!
//! A record that cannot be read costs only itself.

use super::disk::{Disk, DiskFault, FileId};
use crate::format::block::{BLOCK, is_padded, padded};
use crate::format::mp4::box_at;
use crate::format::record::{RECORD_BOX, RingRecord};
use crate::format::segment_head::Segment;
use crate::units::Digest;

/// The content found where a record is expected.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are records: a box for each would cost more than it saves"
)]
#[derive(Debug, Clone, PartialEq)]
pub enum ScanItem {
    /// A record at this offset.
    Record(u64, RingRecord),
    /// Unreadable records from this offset on.
    Damaged {
        /// Byte offset in the file.
        offset: u64,
        /// First record number lost.
        first: u64,
        /// Last record number lost.
        last: u64,
    },
}

/// Reason why a scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanEnd {
    /// At a `free` box over the rest, or at the end of the file.
    Free,
    /// At bytes that are neither a record nor `free`: a torn write, or old content behind one.
    Torn,
}

/// The result of a scan.
#[derive(Debug)]
pub struct SegmentScan {
    /// Records and damage, in order.
    pub found: Vec<ScanItem>,
    /// Offset at which the next record would begin.
    pub at: u64,
    /// Reason why the scan ended.
    pub end: ScanEnd,
    /// Number that the next record would have.
    pub next_seq: u64,
    /// Chain digest of the last record.
    pub chain: Digest,
}

/// How much of each record is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanDepth {
    /// The box of each record, which has its own checksum.
    Records,
    /// The content too.
    Content,
}

/// Scans the records of `segment`.
///
/// # Errors
/// If the card reports a read error.
pub fn walk(
    disk: &dyn Disk,
    segment: &Segment,
    depth: ScanDepth,
) -> Result<SegmentScan, DiskFault> {
    let file = FileId::Segment(segment.head.segment);
    follow(&|at, len| disk.read(file, at, len), segment, depth)
}

/// Scans the records of `segment`; treats whatever cannot be read twice as damage.
pub fn walk_past(disk: &dyn Disk, segment: &Segment, depth: ScanDepth) -> SegmentScan {
    let file = FileId::Segment(segment.head.segment);
    let read = |at, len| {
        let read = disk.read(file, at, len).or_else(|_| disk.read(file, at, len));
        Ok(read.unwrap_or_else(|_| vec![0xff; len]))
    };
    follow(&read, segment, depth).unwrap_or_else(|_| SegmentScan::at_begin(segment))
}

/// Reads bytes of a segment file: offset and length.
type Read<'a> = &'a dyn Fn(u64, usize) -> Result<Vec<u8>, DiskFault>;

fn follow(read: Read<'_>, segment: &Segment, depth: ScanDepth) -> Result<SegmentScan, DiskFault> {
    let mut walk = SegmentScan::at_begin(segment);
    while walk.at + RECORD_BOX as u64 <= segment.end {
        let bytes = read(walk.at, RECORD_BOX)?;
        let record = RingRecord::decode(&bytes).filter(|record| follows(record, segment, walk.at));
        let next =
            record.filter(|record| record.seq == walk.next_seq && record.previous == walk.chain);
        match next {
            Some(record)
                if depth == ScanDepth::Records || intact(read, segment, walk.at, &record)? =>
            {
                walk.take(record)
            }
            _ => {
                let free = box_at(&bytes, 0).is_some_and(|(name, len)| {
                    name == *b"free" && walk.at + len as u64 == segment.end
                });
                if free {
                    return Ok(walk);
                }
                let Some((offset, record)) = resume(read, segment, &walk)? else {
                    walk.end = ScanEnd::Torn;
                    return Ok(walk);
                };
                walk.found.push(ScanItem::Damaged {
                    offset: walk.at,
                    first: walk.next_seq,
                    last: record.seq - 1,
                });
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

/// True for a record that can belong to this lap of this segment.
fn follows(record: &RingRecord, segment: &Segment, at: u64) -> bool {
    record.lap == segment.head.lap && at + u64::from(record.len) <= segment.end
}

/// True when a record and the padding behind it are whole.
fn intact(
    read: Read<'_>,
    segment: &Segment,
    at: u64,
    record: &RingRecord,
) -> Result<bool, DiskFault> {
    let padded = padded(record.len.into());
    if at + padded > segment.end {
        return Ok(false);
    }
    let bytes = read(at, padded as usize)?;
    Ok(record.intact(&bytes) && is_padded(&bytes, record.len as usize, padded as usize))
}

/// Finds the next whole record of this lap behind damage.
fn resume(
    read: Read<'_>,
    segment: &Segment,
    walk: &SegmentScan,
) -> Result<Option<(u64, RingRecord)>, DiskFault> {
    let mut at = walk.at + BLOCK;
    while at + RECORD_BOX as u64 <= segment.end {
        let bytes = read(at, RECORD_BOX)?;
        let later =
            |record: &RingRecord| follows(record, segment, at) && record.seq > walk.next_seq;
        if let Some(record) = RingRecord::decode(&bytes).filter(later)
            && intact(read, segment, at, &record)?
        {
            return Ok(Some((at, record)));
        }
        at += BLOCK;
    }
    Ok(None)
}
