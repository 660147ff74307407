//! What is found at start, and what is done about it: a literal table.
//!
//! | head of the file | newest by number | walk ends | done |
//! |---|---|---|---|
//! | unreadable | – | – | blank: free to use. If numbers are missing between its neighbours, a `damaged` hole is told |
//! | whole | no | – | live, read when asked for |
//! | whole | yes | at `free` or the end of the file | live, recording goes on behind its last record |
//! | whole | yes | torn | the `free` header is put back at the tear, then as above |
//! | whole | yes | card refuses to read | sealed: recording goes on in another file |
//! | whole, wrong file number or size | – | – | blank: a file copied or resized by somebody |
//!
//! What belongs here: this table and carrying it out. What does not: writing new footage.

use std::sync::Arc;

use super::disk::{Disk, FileId};
use super::format::{HEAD_MAX, SegmentHead, free_block, layout_of};
use super::index::{Index, Segment};
use super::walk::{Depth, End, Found, Walk, walk};
use super::{Gap, GapReason};
use crate::units::{Boot, Digest, Stamp};

/// What recovery found.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The segments.
    pub index: Index,
    /// Where recording may go on in the newest segment.
    pub open_at: Option<u64>,
    /// Number of the next record, from 1.
    pub next_seq: u64,
    /// Chain digest of the last record.
    pub chain: Digest,
    /// End of the newest footage and the start it was written in.
    pub end: Option<(Boot, Stamp)>,
    /// End of the newest footage on the media clock, microseconds.
    pub media: u64,
    /// Start of the oldest footage.
    pub oldest: Option<Stamp>,
    /// Holes found.
    pub gaps: Vec<Gap>,
    /// Tears put right.
    pub repaired: u32,
    /// Troubles met on the way, for people.
    pub troubles: Vec<String>,
}

/// Looks at every segment file of `size` bytes below index `count`.
pub fn recover(disk: &dyn Disk, files: impl Iterator<Item = u32>, size: u64) -> Recovery {
    let mut found = Recovery { next_seq: 1, ..Recovery::default() };
    let mut unreadable = 0;
    for file in files {
        match read_head(disk, file, size) {
            Ok(Some(segment)) => found.index.add(segment),
            Ok(None) => found.index.add_blank(file, 0),
            Err(reason) => {
                unreadable += 1;
                found.troubles.push(reason);
                found.index.add_blank(file, 0);
            }
        }
    }
    found.oldest = found.index.live().first().map(|segment| segment.head.start);
    if unreadable > 0 {
        missing_numbers(disk, &mut found);
    }
    if let Some(newest) = found.index.live().last().cloned() {
        take_newest(disk, &newest, &mut found);
    }
    found
}

/// The segments of a ring that somebody else may be writing, oldest first, and what is wrong with files that hold none.
///
/// # Errors
/// When the directory cannot be read.
pub fn look(disk: &dyn Disk) -> Result<(Index, Vec<String>), super::disk::DiskFault> {
    let (mut index, mut troubles) = (Index::default(), Vec::new());
    for (file, size) in disk.files()? {
        if let FileId::Segment(file) = file {
            match read_head(disk, file, size) {
                Ok(Some(segment)) => index.add(segment),
                Ok(None) => index.add_blank(file, 0),
                Err(reason) => troubles.push(reason),
            }
        }
    }
    Ok((index, troubles))
}

/// The segment in a file; `None` for one that was never used.
///
/// # Errors
/// Says that the head is damaged.
pub fn read_head(disk: &dyn Disk, file: u32, size: u64) -> Result<Option<Segment>, String> {
    let id = FileId::Segment(file);
    let bytes = disk.read(id, 0, HEAD_MAX.min(size as usize)).map_err(|fault| fault.to_string())?;
    if bytes[..8] == [0; 8] {
        return Ok(None);
    }
    let (head, head_len) = SegmentHead::decode(&bytes).ok_or_else(|| format!("{}: damaged segment head", id.name()))?;
    if head.segment != file || head.size != size {
        return Err(format!("{}: head of segment {} with {} bytes", id.name(), head.segment, head.size));
    }
    let layout = layout_of(&head.tracks);
    Ok(Some(Segment { head: Arc::new(head), head_len, layout }))
}

/// Tells holes between neighbours when a file that held footage cannot be read any more.
fn missing_numbers(disk: &dyn Disk, found: &mut Recovery) {
    for pair in found.index.live().windows(2) {
        let Ok(before) = walk(disk, &pair[0], Depth::Records) else {
            continue;
        };
        if before.next_seq < pair[1].head.first_seq {
            let from = last_end(&before).unwrap_or(pair[0].head.start);
            found.gaps.push(Gap { from, to: pair[1].head.start, reason: GapReason::Damaged, bytes: 0 });
        }
    }
}

/// Walks the newest segment to its end and puts a tear right.
fn take_newest(disk: &dyn Disk, newest: &Segment, found: &mut Recovery) {
    found.next_seq = newest.head.first_seq;
    found.chain = newest.head.previous;
    found.media = newest.head.media;
    found.end = Some((newest.head.boot, newest.head.start));
    let walked = match walk(disk, newest, Depth::Content) {
        Ok(walked) => walked,
        Err(fault) => return found.troubles.push(fault.to_string()),
    };
    found.next_seq = walked.next_seq;
    found.chain = walked.chain;
    for record in walked.found.iter().filter_map(record_of) {
        found.media = found.media.max(record.media + record.duration);
        let end = record.start.at(record.start.mono.plus_micros(record.duration));
        found.end = Some((record.boot, record.gap.map_or(end, |(to, ..)| to)));
    }
    let damaged = walked.found.iter().filter(|found| matches!(found, Found::Damaged { .. })).count();
    if damaged > 0 {
        let (from, to) = (newest.head.start, found.end.map_or(newest.head.start, |(_, end)| end));
        found.gaps.push(Gap { from, to, reason: GapReason::Damaged, bytes: 0 });
    }
    found.open_at = Some(walked.at);
    if walked.end == End::Torn {
        let file = FileId::Segment(newest.head.segment);
        let block = free_block(newest.head.size - walked.at);
        match disk.write(file, walked.at, &block).and_then(|()| disk.sync(file)) {
            Ok(()) => found.repaired += 1,
            Err(fault) => {
                found.open_at = None;
                found.troubles.push(fault.to_string());
            }
        }
    }
}

fn record_of(found: &Found) -> Option<&super::format::Record> {
    match found {
        Found::Record(_, record) => Some(record),
        Found::Damaged { .. } => None,
    }
}

fn last_end(walk: &Walk) -> Option<Stamp> {
    let record = walk.found.iter().rev().find_map(record_of)?;
    Some(record.start.at(record.start.mono.plus_micros(record.duration)))
}
