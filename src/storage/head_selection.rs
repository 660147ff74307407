//! Which head of a segment file counts: there are two copies, files may have lost their names, and one may hold another's bytes.
//!
//! | first copy | second copy | taken as |
//! |---|---|---|
//! | whole, of this file | not read | what it says |
//! | whole, of another file | whole, of this file | the second: the first was written to the wrong place, and is written again at a start |
//! | whole, of another file | anything else | what it says: the file's name was changed |
//! | never written, or damaged | whole | the second; the first is written again at a start |
//! | never written | not whole | blank: free to use |
//! | damaged | not whole | unreadable: kept until its turn comes where whole records lie in it, else free to use |
//! | whole, another length than the file's | – | what it says: a file that was cut ends where it ends, and what lies behind a grown one is not ours |
//! | of another card than the ring's ([`super::identity`]) | – | not ours: it stays as it is, and its name is taken |
//!
//! Of two files that begin with one record the one without a first copy holds nothing: it refused to be begun. Of two files of one lap the one with the right name counts, the other is a copy somebody made: free to use.
//!
//! What belongs here: this table. What does not: putting right ([`super::recovery`]), telling ([`super::check`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::disk::{Disk, DiskFault, FileId, segments};
use super::identity::{NEXT, Voices};
use super::journal_load;
use super::segment_index::{Index, SetAside};
use crate::format::card_id::CardId;
use crate::format::record::{BLOCK, RECORD_BOX, RingRecord};
use crate::format::segment_head::{HEAD_MAX, Segment, SegmentHead, copy_len_at_end, head_digest, is_older};
use crate::units::SiteId;

/// What is wrong with the head of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFault {
    /// Its first copy is not whole and was read from the second.
    First,
    /// It holds a segment that had another name.
    Name,
    /// It holds what another file holds too.
    Twin,
    /// It has another length than its head says.
    Size,
    /// It is another card's.
    Foreign,
    /// Neither copy can be read.
    Unreadable,
}

/// A file whose head is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadTrouble {
    /// The file.
    pub file: u32,
    /// What it is.
    pub fault: HeadFault,
    /// The same for people, without the file's name.
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
    /// The segments.
    pub index: Index,
    /// What is wrong.
    pub troubles: Vec<HeadTrouble>,
    /// The card that is ours; `None` where no part names one, or only cards of other sites.
    pub card: Option<CardId>,
    /// Parts name cards, and all of them are of other sites.
    pub of_other_site: bool,
    /// Files of other cards.
    pub foreign: BTreeSet<u32>,
    /// A file of an older format, which this version neither reads nor writes over.
    pub older: Option<String>,
}

/// What lies in one file.
enum Holds {
    Nothing,
    Segment(Segment, Option<(HeadFault, String)>),
    Unreadable(Option<u32>, String),
    Older,
}

/// The segments of a ring that somebody else may be writing, from their heads alone (times are as they were recorded), and what is
/// wrong with files.
///
/// # Errors
/// When the directory cannot be read.
pub fn heads(disk: &dyn Disk) -> Result<Heads, DiskFault> {
    Ok(read_heads(disk, &segments(&disk.files()?), journal_load::cards(disk)?, None))
}

/// The same for some files (number and length), the cards that the copies of the journal name, and the site of the box.
pub fn read_heads(disk: &dyn Disk, files: &BTreeMap<u32, u64>, journal: Vec<CardId>, site: Option<&SiteId>) -> Heads {
    let mut heads = Heads::default();
    let mut voices = Voices { journal, ..Voices::default() };
    let mut all = Vec::new();
    for (file, size) in files {
        // A bus that was reset refuses one read and takes the next; footage must not go for that.
        let read = || holds(disk, *file, *size).map_err(|fault| fault.to_string());
        let held = read().or_else(|_| read());
        if let Ok(Holds::Segment(segment, _)) = &held {
            voices.segment(segment.head.card, segment.head.start.wall);
        }
        all.push((file, size, held));
    }
    heads.card = voices.agree(site);
    heads.of_other_site = heads.card.is_none() && !voices.is_silent();
    for (file, size, held) in all {
        match held {
            Ok(Holds::Segment(segment, _)) if heads.card != Some(segment.head.card) => {
                heads.foreign.insert(*file);
                let what = format!("a segment of another card ({}): {NEXT}", segment.head.card);
                heads.troubles.push(HeadTrouble { file: *file, fault: HeadFault::Foreign, what });
            }
            Ok(Holds::Nothing) => heads.index.add_blank(*file),
            Ok(Holds::Segment(segment, trouble)) => {
                heads.troubles.extend(trouble.map(|(fault, what)| HeadTrouble { file: *file, fault, what }));
                heads.index.add(segment);
            }
            Ok(Holds::Unreadable(lap, what)) => {
                match lap {
                    Some(lap) => heads.index.put_aside(SetAside { file: *file, lap, size: *size }),
                    None => heads.index.add_blank(*file),
                }
                heads.troubles.push(HeadTrouble { file: *file, fault: HeadFault::Unreadable, what });
            }
            Ok(Holds::Older) => heads.older = Some(FileId::Segment(*file).name()),
            Err(what) => {
                heads.index.put_aside(SetAside { file: *file, lap: u32::MAX, size: *size });
                heads.troubles.push(HeadTrouble { file: *file, fault: HeadFault::Unreadable, what });
            }
        }
    }
    take_out_twins(&mut heads);
    take_out_begun(&mut heads);
    heads
}

/// A file that was to be begun and refused the write has a second copy of a head and no first; the same record began in another file.
fn take_out_begun(heads: &mut Heads) {
    let live = heads.index.live();
    let again = |at: usize| live.get(at + 1).is_some_and(|next| next.head.first_seq == live[at].head.first_seq);
    let started: Vec<u32> = (0..live.len()).filter(|at| again(*at)).map(|at| live[at].head.segment).collect();
    for file in started {
        if heads.troubles.iter().any(|trouble| trouble.file == file && trouble.fault == HeadFault::First) {
            heads.troubles.retain(|trouble| trouble.file != file);
            heads.index.forget(file);
            heads.index.add_blank(file);
        }
    }
}

/// The segment in a file; `None` for one that was never used.
///
/// # Errors
/// Says that neither copy of its head can be read.
pub fn read_head(disk: &dyn Disk, file: u32, size: u64) -> Result<Option<Segment>, String> {
    match holds(disk, file, size).map_err(|fault| fault.to_string())? {
        Holds::Segment(segment, _) => Ok(Some(segment)),
        Holds::Nothing => Ok(None),
        Holds::Unreadable(_, what) => Err(what),
        Holds::Older => Err("written by an older version".into()),
    }
}

fn holds(disk: &dyn Disk, file: u32, size: u64) -> Result<Holds, DiskFault> {
    let read = |len: usize| disk.read(FileId::Segment(file), 0, len.min(size as usize));
    // A head is one block but for the largest parameter sets, and a ring of 128 GB has 8192 of them. One that cannot be read is
    // damaged like one with another bit.
    let bytes = read(BLOCK as usize).unwrap_or_default();
    if is_older(&bytes) {
        return Ok(Holds::Older);
    }
    let blank = !bytes.is_empty() && bytes.iter().take(8).all(|byte| *byte == 0);
    let long = || read(HEAD_MAX).ok().and_then(|bytes| SegmentHead::decode(&bytes));
    let first = if blank { None } else { SegmentHead::decode(&bytes).or_else(long) };
    if let Some((head, head_len)) = first.as_ref().filter(|(head, _)| head.segment == file && head.size == size) {
        return Ok(Holds::Segment(segment_of(head.clone(), *head_len, file), None));
    }
    let second = read_copy(disk, file, size)?.filter(|copy| copy.size == size);
    Ok(match (first, second) {
        (Some((head, _)), Some(copy)) if copy.segment == file => {
            let what = format!("the head of segment {} lies in front of it: read from its second copy", head.segment);
            from_copy(copy, file, what)
        }
        (Some((head, head_len)), _) if head.size == size => {
            let what = format!("holds segment {}: its name was changed", head.segment);
            Holds::Segment(segment_of(head, head_len, file), Some((HeadFault::Name, what)))
        }
        (Some((head, head_len)), _) => {
            let what = format!("has {size} bytes, and the head of segment {} says {}", head.segment, head.size);
            let mut segment = segment_of(head, head_len, file);
            segment.end = segment.end.min(size - size % BLOCK);
            Holds::Segment(segment, Some((HeadFault::Size, what)))
        }
        (None, Some(copy)) => from_copy(copy, file, "damaged segment head: read from its second copy".into()),
        (None, None) if blank => Holds::Nothing,
        (None, None) if let Some(copy) = find_copy(disk, file, size) => {
            from_copy(copy, file, format!("damaged segment head, and {size} bytes: read from its second copy"))
        }
        (None, None) => Holds::Unreadable(first_lap(disk, file, size), "damaged segment head".into()),
    })
}

fn from_copy(copy: SegmentHead, file: u32, what: String) -> Holds {
    let head_len = copy.encode().len() as u64;
    Holds::Segment(segment_of(copy, head_len, file), Some((HeadFault::First, what)))
}

/// A segment as it lies in `file`, whatever number it was begun under.
fn segment_of(head: SegmentHead, head_len: u64, file: u32) -> Segment {
    let (named, end, layout) = (head.segment, head.end(), head_digest(&head.tracks));
    Segment { head: Arc::new(SegmentHead { segment: file, ..head }), head_len, end, layout, named }
}

/// The second copy of a head; `None` where it is damaged or was never written.
///
/// # Errors
/// When the card refuses to read.
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

/// The second copy in a file that was made longer: wherever one ends that says so.
fn find_copy(disk: &dyn Disk, file: u32, size: u64) -> Option<SegmentHead> {
    let at = |end: u64| read_copy(disk, file, end).ok().flatten().filter(|copy| copy.size == end);
    (1..=size.min(SEGMENT_MAX) / BLOCK).rev().find_map(|blocks| at(blocks * BLOCK))
}

/// The lap of the first whole record in a file that no head describes.
fn first_lap(disk: &dyn Disk, file: u32, size: u64) -> Option<u32> {
    let id = FileId::Segment(file);
    let record = |at: u64| disk.read(id, at, RECORD_BOX).ok().and_then(|bytes| RingRecord::decode(&bytes));
    let found = (0..size.min(SEGMENT_MAX) / BLOCK).find_map(|block| record(block * BLOCK).map(|record| (block * BLOCK, record)));
    let (at, record) = found?;
    let whole = disk.read(id, at, (record.len as usize).min((size - at) as usize)).ok()?;
    record.intact(&whole).then_some(record.lap)
}

/// Two files never have one lap: one of them is a copy.
fn take_out_twins(heads: &mut Heads) {
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
            let what = "holds what another file holds too: a copy".into();
            heads.troubles.push(HeadTrouble { file, fault: HeadFault::Twin, what });
        }
    }
}
