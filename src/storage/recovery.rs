//! What is found at start, and what is done about it: a literal table.
//!
//! | head of the file | newest by number | walk ends | done |
//! |---|---|---|---|
//! | never written (zeros) | – | – | blank: free to use |
//! | unreadable, twice | – | – | blank: free to use. If numbers are missing between its neighbours, a `damaged` hole is told |
//! | whole | no | – | live, read when asked for |
//! | whole | yes | at `free` or the end of the file | live and flushed, recording goes on behind its last record |
//! | whole | yes | torn | the `free` header is put back at the tear, then as above |
//! | whole | yes | past damage, then as above | the damage is left alone and told, recording goes on behind the last record |
//! | whole | yes | as above, and the card refuses the `free` header or the flush | sealed: recording goes on in another file |
//! | whole | yes | card refuses to read, twice | sealed: recording goes on in another file, with numbers no record of this one has |
//! | whole, wrong file number or size | – | – | blank: a file copied or resized by somebody |
//!
//! What belongs here: this table and carrying it out. What does not: writing new footage.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dates::Dates;
use super::disk::{Disk, DiskFault, FileId, segments};
use super::format::{BLOCK, HEAD_MAX, RECORD_BOX, Record, SegmentHead, free_block, layout_of};
use super::index::{Index, Segment};
use super::journal::Journal;
use super::locks::Locks;
use super::walk::{Depth, End, Found, Walk, walk};
use super::{Gap, GapReason, Repair, RepairKind};
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
    /// What was put right or given up.
    pub repairs: Vec<Repair>,
    /// Troubles met on the way, for people.
    pub troubles: Vec<String>,
}

/// Looks at every segment file (number and length).
pub fn recover(disk: &dyn Disk, files: &BTreeMap<u32, u64>, dates: Dates) -> Recovery {
    let mut found = Recovery { next_seq: 1, ..Recovery::default() };
    let unreadable;
    (found.index, unreadable) = read_heads(disk, files);
    found.index.dates = dates;
    for (file, reason) in unreadable {
        let name = FileId::Segment(file).name();
        found.repairs.push(Repair { file: name, offset: 0, kind: RepairKind::Head, bytes: files[&file], micros: 0 });
        found.troubles.push(reason);
        found.index.add_blank(file);
    }
    found.oldest = found.index.oldest();
    if !found.repairs.is_empty() {
        missing_numbers(disk, &mut found);
    }
    if let Some(newest) = found.index.live().last().cloned() {
        take_newest(disk, &newest, &mut found);
    }
    found
}

/// A ring that somebody else may be writing.
#[derive(Debug, Default)]
pub struct Look {
    /// The segments, with the ring's clocks as the journal knows them.
    pub index: Index,
    /// Evidence locks.
    pub locks: Locks,
    /// What is wrong with files that hold nothing.
    pub troubles: Vec<String>,
}

/// Looks at a ring that somebody else may be writing.
///
/// # Errors
/// When the directory cannot be read.
pub fn look(disk: &Arc<dyn Disk>) -> Result<Look, DiskFault> {
    let (mut index, mut troubles) = heads(disk.as_ref())?;
    let Some(len) = disk.files()?.get(&FileId::Journal).copied() else {
        return Ok(Look { index, troubles, ..Look::default() });
    };
    let kept = Journal::look(disk.clone(), len)?;
    index.dates = kept.dates();
    let locks = kept.locks().unwrap_or_else(|reason| {
        troubles.push(reason);
        Locks::default()
    });
    Ok(Look { index, locks, troubles })
}

/// The segments of a ring that somebody else may be writing, from their heads alone (times are as they were recorded), and what is
/// wrong with files that hold none.
///
/// # Errors
/// When the directory cannot be read.
pub fn heads(disk: &dyn Disk) -> Result<(Index, Vec<String>), DiskFault> {
    let (index, unreadable) = read_heads(disk, &segments(&disk.files()?));
    Ok((index, unreadable.into_iter().map(|(_, reason)| reason).collect()))
}

/// The segments in some files (number and length), and the files whose head is unreadable.
fn read_heads(disk: &dyn Disk, files: &BTreeMap<u32, u64>) -> (Index, Vec<(u32, String)>) {
    let (mut index, mut unreadable) = (Index::default(), Vec::new());
    for (file, size) in files {
        // A bus that was reset refuses one read and takes the next; footage must not go for that.
        match read_head(disk, *file, *size).or_else(|_| read_head(disk, *file, *size)) {
            Ok(Some(segment)) => index.add(segment),
            Ok(None) => index.add_blank(*file),
            Err(reason) => unreadable.push((*file, reason)),
        }
    }
    (index, unreadable)
}

/// The segment in a file; `None` for one that was never used.
///
/// # Errors
/// Says that the head is damaged.
pub fn read_head(disk: &dyn Disk, file: u32, size: u64) -> Result<Option<Segment>, String> {
    let id = FileId::Segment(file);
    let read = |len: usize| disk.read(id, 0, len.min(size as usize)).map_err(|fault| fault.to_string());
    // A head is one block but for the largest parameter sets, and a ring of 128 GB has 8192 of them.
    let bytes = read(BLOCK as usize)?;
    if bytes.iter().take(8).all(|byte| *byte == 0) {
        return Ok(None);
    }
    let decoded = match SegmentHead::decode(&bytes) {
        Some(decoded) => Some(decoded),
        None => SegmentHead::decode(&read(HEAD_MAX)?),
    };
    let (head, head_len) = decoded.ok_or_else(|| format!("{}: damaged segment head", id.name()))?;
    if head.segment != file || head.size != size {
        return Err(format!("{}: head of segment {} with {} bytes", id.name(), head.segment, head.size));
    }
    let layout = layout_of(&head.tracks);
    Ok(Some(Segment { head: Arc::new(head), head_len, layout }))
}

/// Tells holes between neighbours when a file that held footage cannot be read any more. Only neighbours whose laps do not follow
/// on each other are walked: every begun segment has a lap of its own, so nothing can lie between the others.
fn missing_numbers(disk: &dyn Disk, found: &mut Recovery) {
    let dates = &found.index.dates;
    for pair in found.index.live().windows(2).filter(|pair| pair[0].head.lap + 1 != pair[1].head.lap) {
        let Ok(before) = walk(disk, &pair[0], Depth::Records) else {
            continue;
        };
        if before.next_seq < pair[1].head.first_seq {
            let from = dates.date(pair[0].head.boot, last_end(&before).unwrap_or(pair[0].head.start));
            let to = dates.date(pair[1].head.boot, pair[1].head.start);
            found.gaps.push(Gap { from, to, reason: GapReason::Damaged, bytes: pair[0].head.size });
        }
    }
}

/// Walks the newest segment to its end and puts a tear right.
fn take_newest(disk: &dyn Disk, newest: &Segment, found: &mut Recovery) {
    found.next_seq = newest.head.first_seq;
    found.chain = newest.head.previous;
    found.media = newest.head.media;
    found.end = Some((newest.head.boot, newest.head.start));
    // After a kill the last record may be in the kernel's memory only, and from here on it counts. After a flush that was refused
    // it may never have left it, however whole it looks there.
    let file = FileId::Segment(newest.head.segment);
    let flushed = disk.sync(file);
    disk.forget(file);
    let walked = match walk(disk, newest, Depth::Content).or_else(|_| walk(disk, newest, Depth::Content)) {
        Ok(walked) => walked,
        Err(fault) => {
            // Nobody knows how many records it holds. Their numbers are not given twice: what can be read of them stays.
            found.next_seq += newest.head.size / BLOCK;
            return found.troubles.push(fault.to_string());
        }
    };
    found.next_seq = walked.next_seq;
    found.chain = walked.chain;
    for record in walked.found.iter().filter_map(record_of) {
        found.media = found.media.max(record.media + record.duration);
        found.end = Some((record.boot, record.end()));
    }
    if let Some((boot, end)) = &mut found.end {
        *end = found.index.dates.date(*boot, *end);
    }
    for (repair, gap) in damages(newest, &walked) {
        found.repairs.push(repair);
        found.gaps.push(gap);
    }
    found.open_at = Some(walked.at);
    let mended = match walked.end {
        End::Torn => flushed.and_then(|()| mend(disk, newest, walked.at)).map(Some),
        End::Free => flushed.map(|()| None),
    };
    match mended {
        Ok(repair) => found.repairs.extend(repair),
        Err(fault) => {
            found.open_at = None;
            found.troubles.push(fault.to_string());
        }
    }
}

/// Puts the `free` header back where a write was torn, and says what was given up.
///
/// # Errors
/// When the card refuses.
pub fn mend(disk: &dyn Disk, segment: &Segment, at: u64) -> Result<Repair, DiskFault> {
    let file = FileId::Segment(segment.head.segment);
    // What was given up is only told: where it cannot be read, the file is mended all the same.
    let bytes = disk.read(file, at, RECORD_BOX.min((segment.head.size - at) as usize)).ok();
    let torn = bytes.and_then(|bytes| Record::decode(&bytes)).filter(|record| record.lap == segment.head.lap);
    let (bytes, micros) = torn.map_or((0, 0), |record| (record.len.into(), record.duration));
    disk.write(file, at, &free_block(segment.head.size - at))?;
    disk.sync(file)?;
    Ok(Repair { file: file.name(), offset: at, kind: RepairKind::Torn, bytes, micros })
}

/// The damaged stretches of a walked segment, as what was given up and as holes between the records around them.
pub fn damages(segment: &Segment, walked: &Walk) -> Vec<(Repair, Gap)> {
    let file = FileId::Segment(segment.head.segment).name();
    let (mut before, mut out) = (segment.head.start, Vec::new());
    for pair in walked.found.iter().zip(walked.found.iter().skip(1).map(Some).chain([None])) {
        match pair {
            (Found::Record(_, record), _) => before = record.end(),
            (Found::Damaged { offset, .. }, Some(Found::Record(next, record))) => {
                let (bytes, to) = (next - offset, record.start);
                let micros = to.mono.since(before.mono);
                out.push((
                    Repair { file: file.clone(), offset: *offset, kind: RepairKind::Damaged, bytes, micros },
                    Gap { from: before, to, reason: GapReason::Damaged, bytes },
                ));
            }
            (Found::Damaged { .. }, _) => {}
        }
    }
    out
}

fn record_of(found: &Found) -> Option<&Record> {
    match found {
        Found::Record(_, record) => Some(record),
        Found::Damaged { .. } => None,
    }
}

fn last_end(walk: &Walk) -> Option<Stamp> {
    walk.found.iter().rev().find_map(record_of).map(Record::end)
}
