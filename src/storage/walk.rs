//! Reading a segment record by record, and getting past damage: a record that cannot be read costs itself, not what lies behind.
//!
//! What belongs here: following records through a file. What does not: deciding what to do about a tear ([`super::recovery`]).

use super::disk::{Disk, DiskFault, FileId};
use super::format::{BLOCK, RECORD_BOX, Record, box_at, is_padded, padded};
use super::index::Segment;
use crate::units::Digest;

/// What was found where a record should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A record at this offset.
    Record(u64, Record),
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
pub enum End {
    /// At a `free` box over the rest, or at the end of the file: in order.
    Free,
    /// At something that is neither a record nor `free`: a torn write, or old content behind one.
    Torn,
}

/// The outcome of a walk.
#[derive(Debug)]
pub struct Walk {
    /// Everything found, in order.
    pub found: Vec<Found>,
    /// Where the next record would begin.
    pub at: u64,
    /// How it ended.
    pub end: End,
    /// Number the next record would have.
    pub next_seq: u64,
    /// Chain digest of the last record.
    pub chain: Digest,
}

/// Whether the content of each record is read and checked too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Records only: their own bytes are protected by the chain.
    Records,
    /// Checksums over all content.
    Content,
}

/// Follows the records of `segment`.
///
/// # Errors
/// When the card refuses to read.
pub fn walk(disk: &dyn Disk, segment: &Segment, depth: Depth) -> Result<Walk, DiskFault> {
    let head = &segment.head;
    let mut walk =
        Walk { found: Vec::new(), at: segment.head_len, end: End::Free, next_seq: head.first_seq, chain: head.previous };
    let file = FileId::Segment(head.segment);
    while walk.at + RECORD_BOX as u64 <= head.size {
        let bytes = disk.read(file, walk.at, RECORD_BOX)?;
        let record = Record::decode(&bytes).filter(|record| follows(record, segment, walk.at));
        let next = record.filter(|record| record.seq == walk.next_seq && record.previous == walk.chain);
        match next {
            Some(record) if depth == Depth::Records || intact(disk, segment, walk.at, &record)? => walk.take(record),
            _ => {
                let free = box_at(&bytes, 0).is_some_and(|(name, len)| name == *b"free" && walk.at + len as u64 == head.size);
                if free {
                    return Ok(walk);
                }
                let Some((offset, record)) = resume(disk, segment, &walk)? else {
                    walk.end = End::Torn;
                    return Ok(walk);
                };
                walk.found.push(Found::Damaged { offset: walk.at, first: walk.next_seq, last: record.seq - 1 });
                walk.at = offset;
                walk.take(record);
            }
        }
    }
    Ok(walk)
}

impl Walk {
    fn take(&mut self, record: Record) {
        let offset = self.at;
        self.at += padded(record.len.into());
        self.next_seq = record.seq + 1;
        self.chain = record.link();
        self.found.push(Found::Record(offset, record));
    }
}

/// A record that can belong to this lap of this segment.
fn follows(record: &Record, segment: &Segment, at: u64) -> bool {
    record.lap == segment.head.lap && at + u64::from(record.len) <= segment.head.size
}

/// True when a record and the padding behind it arrived whole.
fn intact(disk: &dyn Disk, segment: &Segment, at: u64, record: &Record) -> Result<bool, DiskFault> {
    let (file, size) = (FileId::Segment(segment.head.segment), segment.head.size);
    let padded = padded(record.len.into());
    if at + padded > size {
        return Ok(false);
    }
    let bytes = disk.read(file, at, padded as usize)?;
    Ok(record.intact(&bytes) && is_padded(&bytes, record.len as usize, padded as usize))
}

/// The next whole record of this lap behind damage.
fn resume(disk: &dyn Disk, segment: &Segment, walk: &Walk) -> Result<Option<(u64, Record)>, DiskFault> {
    let file = FileId::Segment(segment.head.segment);
    let mut at = walk.at + BLOCK;
    while at + RECORD_BOX as u64 <= segment.head.size {
        let bytes = disk.read(file, at, RECORD_BOX)?;
        let later = |record: &Record| follows(record, segment, at) && record.seq > walk.next_seq;
        if let Some(record) = Record::decode(&bytes).filter(later)
            && intact(disk, segment, at, &record)?
        {
            return Ok(Some((at, record)));
        }
        at += BLOCK;
    }
    Ok(None)
}
