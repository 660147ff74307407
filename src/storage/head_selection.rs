//! Head selection: chooses the valid copy of each segment head and the file of each segment.
//!
//! | first copy | second copy | result |
//! |---|---|---|
//! | whole, of this file | not read | the first copy |
//! | whole, of another file | whole, of this file | the second copy; the first was misplaced and is rewritten when the ring is opened |
//! | whole, of another file | anything else | the first copy; the file was renamed |
//! | never written, or damaged | whole | the second copy; the first is rewritten when the ring is opened |
//! | never written | not whole | blank: free to use |
//! | damaged | not whole | unreadable: kept until it is recycled if it holds whole records, else free to use |
//! | whole, with another length than the file | – | the first copy; a truncated file ends at its end, and the bytes behind a grown one do not count |
//! | of another card than the ring ([`super::identity`]) | – | foreign: the file is left as it is, and its name stays taken |
//!
//! Two files may begin with the same record if one rejected its first write: the one without a
//! first copy holds nothing. Two files may have the same lap if one is a duplicate: the one with
//! the right name counts, and the other is free to use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::disk::{Disk, DiskFault, FileId, segments};
use super::identity::{CardVotes, NEXT};
use super::journal_load;
use super::segment_index::{Index, SetAside};
use crate::format::block::BLOCK;
use crate::format::card_id::CardId;
use crate::format::record::{RECORD_BOX, RingRecord};
use crate::format::segment_head::{
    HEAD_MAX, Segment, SegmentHead, copy_len_at_end, head_digest, is_older,
};
use crate::units::SiteId;

/// Problem of a segment head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFault {
    /// The first copy is damaged; the head was read from the second.
    First,
    /// The file was renamed.
    Name,
    /// The file is a duplicate of another file.
    Duplicate,
    /// The head states another length than the file has.
    Size,
    /// The file belongs to another card.
    Foreign,
    /// Neither copy can be read.
    Unreadable,
}

/// A file with a problematic head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadTrouble {
    /// Number of the file.
    pub file: u32,
    /// Kind of problem.
    pub fault: HeadFault,
    /// Description for log and operator, without the file name.
    pub what: String,
}

impl std::fmt::Display for HeadTrouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", FileId::Segment(self.file).name(), self.what)
    }
}

/// Bytes of a segment at most, as `storage.segment` has it: a file is not searched behind that.
const SEGMENT_MAX: u64 = 1 << 30;

/// The heads of all segment files.
#[derive(Debug, Default)]
pub struct Heads {
    /// The readable segments.
    pub index: Index,
    /// Problems found.
    pub troubles: Vec<HeadTrouble>,
    /// The card that owns the ring; `None` if no part names one, or all parts name cards of other
    /// sites.
    pub card: Option<CardId>,
    /// True if parts name cards, and all of them belong to other sites.
    pub of_other_site: bool,
    /// Files of other cards.
    pub foreign: BTreeSet<u32>,
    /// Name of a file in an older format, which this version neither reads nor overwrites.
    pub older: Option<String>,
}

/// Content of a segment file.
enum FileContent {
    Blank,
    Segment(Segment, Option<(HeadFault, String)>),
    Unreadable(Option<u32>, String),
    Older,
}

/// Reads the segments of a ring, which another process may be writing, from their heads alone.
/// Times are as recorded.
///
/// # Errors
/// If the directory cannot be read.
pub fn heads(disk: &dyn Disk) -> Result<Heads, DiskFault> {
    Ok(read_heads(disk, &segments(&disk.files()?), journal_load::cards(disk)?, None))
}

/// Reads the heads of `files` (number and length). `journal` are the cards that the copies of the
/// journal name; `site` is the site of the device.
pub fn read_heads(
    disk: &dyn Disk,
    files: &BTreeMap<u32, u64>,
    journal: Vec<CardId>,
    site: Option<&SiteId>,
) -> Heads {
    let mut heads = Heads::default();
    let mut votes = CardVotes { journal, ..CardVotes::default() };
    let mut all = Vec::new();
    for (file, size) in files {
        // Retry once: a bus reset fails a single read, and must not cost footage.
        let read = || read_file(disk, *file, *size).map_err(|fault| fault.to_string());
        let held = read().or_else(|_| read());
        if let Ok(FileContent::Segment(segment, _)) = &held {
            votes.add_segment(segment.head.card, segment.head.start.wall);
        }
        all.push((file, size, held));
    }
    heads.card = votes.elect(site);
    heads.of_other_site = heads.card.is_none() && !votes.is_empty();
    for (file, size, held) in all {
        match held {
            Ok(FileContent::Segment(segment, _)) if heads.card != Some(segment.head.card) => {
                heads.foreign.insert(*file);
                let what = format!("a segment of another card ({}): {NEXT}", segment.head.card);
                heads.troubles.push(HeadTrouble { file: *file, fault: HeadFault::Foreign, what });
            }
            Ok(FileContent::Blank) => heads.index.add_blank(*file),
            Ok(FileContent::Segment(segment, trouble)) => {
                heads.troubles.extend(trouble.map(|(fault, what)| HeadTrouble {
                    file: *file,
                    fault,
                    what,
                }));
                heads.index.add(segment);
            }
            Ok(FileContent::Unreadable(lap, what)) => {
                match lap {
                    Some(lap) => heads.index.put_aside(SetAside { file: *file, lap, size: *size }),
                    None => heads.index.add_blank(*file),
                }
                heads.troubles.push(HeadTrouble {
                    file: *file,
                    fault: HeadFault::Unreadable,
                    what,
                });
            }
            Ok(FileContent::Older) => heads.older = Some(FileId::Segment(*file).name()),
            Err(what) => {
                heads.index.put_aside(SetAside { file: *file, lap: u32::MAX, size: *size });
                heads.troubles.push(HeadTrouble {
                    file: *file,
                    fault: HeadFault::Unreadable,
                    what,
                });
            }
        }
    }
    free_duplicates(&mut heads);
    free_unstarted(&mut heads);
    heads
}

/// Frees files that rejected their first write: they have a second copy but no first copy of a
/// head, and the same record begins another file.
fn free_unstarted(heads: &mut Heads) {
    let live = heads.index.live();
    let again = |at: usize| {
        live.get(at + 1).is_some_and(|next| next.head.first_seq == live[at].head.first_seq)
    };
    let started: Vec<u32> =
        (0..live.len()).filter(|at| again(*at)).map(|at| live[at].head.segment).collect();
    for file in started {
        if heads
            .troubles
            .iter()
            .any(|trouble| trouble.file == file && trouble.fault == HeadFault::First)
        {
            heads.troubles.retain(|trouble| trouble.file != file);
            heads.index.forget(file);
            heads.index.add_blank(file);
        }
    }
}

/// Reads the segment in a file; `None` if the file is blank.
///
/// # Errors
/// If neither copy of its head can be read.
pub fn read_head(disk: &dyn Disk, file: u32, size: u64) -> Result<Option<Segment>, String> {
    match read_file(disk, file, size).map_err(|fault| fault.to_string())? {
        FileContent::Segment(segment, _) => Ok(Some(segment)),
        FileContent::Blank => Ok(None),
        FileContent::Unreadable(_, what) => Err(what),
        FileContent::Older => Err("recorded in a format that only an older version reads".into()),
    }
}

fn read_file(disk: &dyn Disk, file: u32, size: u64) -> Result<FileContent, DiskFault> {
    let read = |len: usize| disk.read(FileId::Segment(file), 0, len.min(size as usize));
    // A head is one block except with the largest parameter sets, and a ring of 128 GB has 8192
    // heads. An unreadable block counts as damaged.
    let bytes = read(BLOCK as usize).unwrap_or_default();
    if is_older(&bytes) {
        return Ok(FileContent::Older);
    }
    let blank = !bytes.is_empty() && bytes.iter().take(8).all(|byte| *byte == 0);
    let long = || read(HEAD_MAX).ok().and_then(|bytes| SegmentHead::decode(&bytes));
    let first = if blank { None } else { SegmentHead::decode(&bytes).or_else(long) };
    if let Some((head, head_len)) =
        first.as_ref().filter(|(head, _)| head.segment == file && head.size == size)
    {
        return Ok(FileContent::Segment(segment_of(head.clone(), *head_len, file), None));
    }
    let second = read_copy(disk, file, size)?.filter(|copy| copy.size == size);
    Ok(match (first, second) {
        (Some((head, _)), Some(copy)) if copy.segment == file => {
            let what =
                format!("begins with the head of segment {}: using the second copy", head.segment);
            from_copy(copy, file, what)
        }
        (Some((head, head_len)), _) if head.size == size => {
            let what = format!("holds segment {}: the file was renamed", head.segment);
            FileContent::Segment(segment_of(head, head_len, file), Some((HeadFault::Name, what)))
        }
        (Some((head, head_len)), _) => {
            let what = format!(
                "has {size} bytes; the head of segment {} states {}",
                head.segment, head.size
            );
            let mut segment = segment_of(head, head_len, file);
            segment.end = segment.end.min(size - size % BLOCK);
            FileContent::Segment(segment, Some((HeadFault::Size, what)))
        }
        (None, Some(copy)) => {
            from_copy(copy, file, "damaged segment head: using the second copy".into())
        }
        (None, None) if blank => FileContent::Blank,
        (None, None) if let Some(copy) = find_copy(disk, file, size) => from_copy(
            copy,
            file,
            format!("damaged segment head and wrong length of {size} bytes: using the second copy"),
        ),
        (None, None) => {
            FileContent::Unreadable(first_lap(disk, file, size), "damaged segment head".into())
        }
    })
}

fn from_copy(copy: SegmentHead, file: u32, what: String) -> FileContent {
    let head_len = copy.encode().len() as u64;
    FileContent::Segment(segment_of(copy, head_len, file), Some((HeadFault::First, what)))
}

/// A segment in `file`, whatever number its head states.
fn segment_of(head: SegmentHead, head_len: u64, file: u32) -> Segment {
    let (named, end, layout) = (head.segment, head.end(), head_digest(&head.tracks));
    Segment { head: Arc::new(SegmentHead { segment: file, ..head }), head_len, end, layout, named }
}

/// The second copy of a head; `None` if it is damaged or was never written.
///
/// # Errors
/// If the card reports a read error.
pub fn read_copy(disk: &dyn Disk, file: u32, size: u64) -> Result<Option<SegmentHead>, DiskFault> {
    let read = |len: u64| disk.read(FileId::Segment(file), size - len, len as usize);
    if size < BLOCK {
        return Ok(None);
    }
    let last = read(BLOCK)?;
    let Some(len) = copy_len_at_end(&last).filter(|len| *len as u64 <= size) else {
        return Ok(None);
    };
    Ok(match len as u64 {
        BLOCK => SegmentHead::decode_copy(&last),
        len => SegmentHead::decode_copy(&read(len)?),
    })
}

/// Finds the second copy in a file that has grown.
fn find_copy(disk: &dyn Disk, file: u32, size: u64) -> Option<SegmentHead> {
    let at = |end: u64| read_copy(disk, file, end).ok().flatten().filter(|copy| copy.size == end);
    (1..=size.min(SEGMENT_MAX) / BLOCK).rev().find_map(|blocks| at(blocks * BLOCK))
}

/// The lap of the first whole record in a file without a readable head.
fn first_lap(disk: &dyn Disk, file: u32, size: u64) -> Option<u32> {
    let id = FileId::Segment(file);
    let record =
        |at: u64| disk.read(id, at, RECORD_BOX).ok().and_then(|bytes| RingRecord::decode(&bytes));
    let found = (0..size.min(SEGMENT_MAX) / BLOCK)
        .find_map(|block| record(block * BLOCK).map(|record| (block * BLOCK, record)));
    let (at, record) = found?;
    let whole = disk.read(id, at, (record.len as usize).min((size - at) as usize)).ok()?;
    record.intact(&whole).then_some(record.lap)
}

/// Frees duplicates: two files never have the same lap.
fn free_duplicates(heads: &mut Heads) {
    let mut by_lap: BTreeMap<u32, Vec<(bool, u32)>> = BTreeMap::new();
    for segment in heads.index.live() {
        let file = segment.head.segment;
        by_lap.entry(segment.head.lap).or_default().push((segment.named != file, file));
    }
    for mut files in by_lap.into_values().filter(|files| files.len() > 1) {
        files.sort_unstable();
        for (_, file) in files.drain(1..) {
            heads.index.forget(file);
            heads.index.add_blank(file);
            heads.troubles.retain(|trouble| trouble.file != file);
            let what = "duplicate of another segment file".into();
            heads.troubles.push(HeadTrouble { file, fault: HeadFault::Duplicate, what });
        }
    }
}
