//! What is found at start, and what is done about it: a literal table.
//!
//! | head of the file | newest by number | walk ends | done |
//! |---|---|---|---|
//! | never written (zeros) | – | – | blank: free to use |
//! | read from its second copy ([`super::head_selection`]) | – | – | the first copy is written again, then as below |
//! | neither copy readable | – | – | kept until its turn comes where whole records lie in it, else free to use. If numbers are missing between its neighbours, a `missing` gap is reported |
//! | whole | no | – | live, read when asked for |
//! | whole | yes | at `free` or the end of the file | live and flushed, recording goes on behind its last record |
//! | whole | yes | torn | the `free` header is put back at the tear, then as above |
//! | whole | yes | past damage, then as above | the damage is left alone and reported, once: recording goes on in another file |
//! | whole, of a longer file than there is | yes | anywhere | sealed and left as it is: recording goes on in another file, with numbers no record of this one has |
//! | whole | yes | as above, and the card refuses the `free` header or the flush | sealed: recording goes on in another file |
//! | whole | yes | card refuses to read, twice | sealed: recording goes on in another file, with numbers no record of this one has |
//! | whole, wrong file number | – | – | what it holds counts, and the changed name is reported |
//! | whole, lap of another file | – | – | blank: a file copied by somebody |
//!
//! Record numbers that should be there by what the newest head says ([`crate::format::segment_head::RingStatement`]), and are in no file, are reported as
//! missing, with the times around them, and the next head puts that on record: recording goes on in another file, so that the next
//! start does not tell it again. So are those that the journal has seen and no file has.
//!
//! What belongs here: this table and carrying it out. What does not: writing new footage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::clock_history::ClockHistory;
use super::disk::{Disk, DiskFault, FileId};
use super::foreign;
use super::head_selection::{HeadFault, HeadTrouble, Heads, heads, read_copy, read_heads};
use super::journal::{self, Journal, LoadedJournal};
use super::journal_load;
use super::locks::Locks;
use super::missing_records::{self, MissingRecords, locate_gaps};
use super::range_set::Ranges;
use super::scan::{ScanDepth, ScanEnd, ScanItem, SegmentScan, walk, walk_past};
use super::segment_index::Index;
use super::side_files;
use super::{Gap, GapReason, Repair, RepairKind};
use crate::format::card_id::CardId;
use crate::format::record::{BLOCK, RECORD_BOX, RingRecord, free_block};
use crate::format::segment_head::{EVICTED_MAX, Eviction, EvictionCause, Segment};
use crate::units::{Boot, Digest, Timestamp};

/// What recovery found.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The segments.
    pub index: Index,
    /// Where recording may go on in the newest segment.
    pub open_at: Option<u64>,
    /// Its first fragment is there.
    pub marked: bool,
    /// Number of the next record, from 1.
    pub next_seq: u64,
    /// Chain digest of the last record.
    pub chain: Digest,
    /// End of the newest footage and the start it was written in.
    pub end: Option<(Boot, Timestamp)>,
    /// End of the newest footage on the media clock, microseconds.
    pub media: u64,
    /// Start of the oldest footage.
    pub oldest: Option<Timestamp>,
    /// Holes found.
    pub gaps: Vec<Gap>,
    /// What was put right or dropped.
    pub repairs: Vec<Repair>,
    /// Troubles met on the way, for people, and whether footage was lost by them.
    pub troubles: Vec<(String, bool)>,
    /// Record numbers that are in the ring as far as its heads say.
    pub present: Ranges,
    /// The card.
    pub card: CardId,
    /// Segment files of other cards.
    pub foreign: BTreeSet<u32>,
    /// Records of the newest segment that are damaged, reported now.
    pub damaged: u64,
    /// Record numbers that were found missing: the next head puts them on record.
    pub missing: Vec<Eviction>,
}

/// Looks at every segment file (number and length). `newest` is the highest record number the journal has seen.
pub fn recover(disk: &dyn Disk, files: &BTreeMap<u32, u64>, clock_history: ClockHistory, newest: u64) -> Recovery {
    let cards = journal_load::cards(disk).unwrap_or_default();
    recover_from(disk, read_heads(disk, files, cards, None), files, clock_history, newest)
}

/// The same once the heads are read.
pub fn recover_from(
    disk: &dyn Disk,
    heads: Heads,
    files: &BTreeMap<u32, u64>,
    clock_history: ClockHistory,
    newest: u64,
) -> Recovery {
    let mut found = Recovery { next_seq: 1, index: heads.index, foreign: heads.foreign, ..Recovery::default() };
    found.card = heads.card.unwrap_or_default();
    found.index.clock_history = clock_history;
    found.oldest = found.index.oldest();
    if let Some(segment) = found.index.live().last().cloned() {
        take_newest(disk, &segment, &mut found);
    }
    name_missing(disk, newest, &mut found);
    for trouble in &heads.troubles {
        take_head_trouble(disk, trouble, files, &mut found);
    }
    mend_copies(disk, &mut found);
    found
}

/// Second copies that are looked at when a ring is opened: of the newest segment, and of the oldest ones, of which a cut may have hit
/// the one that was about to be started again. The others have their turn in the scrub.
pub const COPIES_MAX: usize = 16;

/// Writes second copies again that are not what they should be.
fn mend_copies(disk: &dyn Disk, found: &mut Recovery) {
    let live = found.index.live();
    let newest = live.len().saturating_sub(1).max(COPIES_MAX.min(live.len()));
    let looked_at: Vec<Segment> = live.iter().take(COPIES_MAX).chain(live.get(newest..).unwrap_or_default()).cloned().collect();
    for segment in looked_at {
        match mend_copy(disk, &segment) {
            Ok(repair) => found.repairs.extend(repair),
            Err(fault) => found.troubles.push((fault.to_string(), false)),
        }
    }
}

/// Writes the second copy of a head again when it is not what it should be, and tells that.
///
/// # Errors
/// When the card refuses.
pub fn mend_copy(disk: &dyn Disk, segment: &Segment) -> Result<Option<Repair>, DiskFault> {
    let (file, head) = (FileId::Segment(segment.head.segment), segment.written());
    if segment.is_cut() || read_copy(disk, segment.head.segment, head.size)?.as_ref() == Some(&head) {
        return Ok(None);
    }
    disk.write(file, segment.end, &head.encode_copy())?;
    disk.sync(file)?;
    Ok(Some(Repair { file: file.name(), offset: segment.end, kind: RepairKind::Copy, bytes: 0, micros: 0, lost: None }))
}

/// What is wrong with a head is reported, and put right where there is a second copy.
fn take_head_trouble(disk: &dyn Disk, trouble: &HeadTrouble, files: &BTreeMap<u32, u64>, found: &mut Recovery) {
    let (file, name) = (trouble.file, FileId::Segment(trouble.file).name());
    // What an earlier start reported as missing is not lost again.
    let lost = match trouble.fault {
        HeadFault::Unreadable => !found.missing.is_empty() || found.index.live().is_empty(),
        // Nothing of ours, and still somebody must come.
        HeadFault::Foreign => true,
        _ => false,
    };
    found.troubles.push((trouble.to_string(), lost));
    match trouble.fault {
        HeadFault::Unreadable if !lost => {}
        HeadFault::Unreadable => {
            let bytes = files.get(&file).copied().unwrap_or_default();
            found.repairs.push(Repair { file: name, offset: 0, kind: RepairKind::Head, bytes, micros: 0, lost: None });
        }
        HeadFault::First => {
            let segment = found.index.live().iter().find(|segment| segment.head.segment == file);
            let id = FileId::Segment(file);
            let written = segment.map(|segment| disk.write(id, 0, &segment.written().encode()).and_then(|()| disk.sync(id)));
            match written {
                Some(Err(fault)) => found.troubles.push((fault.to_string(), false)),
                _ => {
                    found.repairs.push(Repair { file: name, offset: 0, kind: RepairKind::Copy, bytes: 0, micros: 0, lost: None })
                }
            }
        }
        HeadFault::Name | HeadFault::Twin | HeadFault::Size | HeadFault::Foreign => {}
    }
}

/// Record numbers that should be in the ring, by what its newest head says and by what the journal has seen, and are in no file.
/// Numbers the journal has seen are not given again.
fn name_missing(disk: &dyn Disk, newest: u64, found: &mut Recovery) {
    let walked = found.next_seq - 1;
    found.present = expected(&found.index, walked);
    let there = there(disk, &found.index, walked, &found.present);
    let mut missing = std::mem::take(&mut found.present).without(&there);
    found.present = expected(&found.index, walked).without(&missing);
    if newest > walked {
        missing.add(walked + 1, newest);
        (found.next_seq, found.open_at) = (newest + 1, None);
    }
    found.index.lost = missing_records::stated(&found.index);
    missing.list().iter().for_each(|(first, last)| found.index.lost.add(*first, *last));
    if missing.list().is_empty() {
        return;
    }
    // The next head is where the next start learns that this is reported.
    found.open_at = None;
    let record = |(first, last): &(u64, u64)| Eviction { cause: EvictionCause::Missing, first: *first, last: *last };
    found.missing.extend(missing.list().iter().take(EVICTED_MAX - 1).map(record));
    if let (Some((_, end)), Some(last)) = (missing.list().get(EVICTED_MAX - 1..).and_then(<[_]>::last), found.missing.last_mut())
    {
        last.last = *end;
    }
    let holes = locate_gaps(disk, &found.index, &missing);
    for hole in &holes {
        found.troubles.push((format!("{hole}, and nothing says why: taimat ring check tells more"), true));
        let gap = |(from, to)| Gap { from, to, reason: GapReason::Missing, bytes: 0 };
        found.gaps.extend(hole.from.zip(hole.to).map(gap));
    }
    let repairs = holes.into_iter().map(|hole| Repair {
        file: "ring".into(),
        offset: 0,
        kind: RepairKind::Missing,
        bytes: 0,
        micros: hole.micros(),
        lost: Some(hole),
    });
    // A start tells so many repairs and no more: first what is lost.
    found.repairs.splice(0..0, repairs);
}

/// The record numbers a ring should hold, by what its newest head says; `newest` is the last of them.
pub fn expected(index: &Index, newest: u64) -> Ranges {
    let Some(head) = index.live().last().map(|segment| &segment.head) else {
        return Ranges::default();
    };
    let mut ranges: Ranges = head.statement.present.iter().copied().collect();
    ranges.add(head.first_seq, newest);
    ranges
}

/// The record numbers that files hold. A file ends where the next begins, or with its stretch of `expected`; only where files may be
/// missing in between, because laps are, it is walked.
pub fn there(disk: &dyn Disk, index: &Index, newest: u64, expected: &Ranges) -> Ranges {
    let mut there = Ranges::default();
    for (at, segment) in index.live().iter().enumerate() {
        let (first, last) = (segment.head.first_seq, index.last_seq(at, newest));
        let next = index.live().get(at + 1);
        let follows = next.is_none_or(|next| segment.head.lap + 1 == next.head.lap);
        let unbroken = expected.list().iter().any(|(from, to)| *from <= last && last < *to);
        let last = match (follows || !unbroken) && !segment.is_cut() {
            true => last,
            false => walk_past(disk, segment, ScanDepth::Records).next_seq.saturating_sub(1).min(last),
        };
        there.add(first, last);
    }
    there
}

/// A ring that somebody else may be writing.
#[derive(Debug, Default)]
pub struct RecoveryScope {
    /// The card that most of it is of.
    pub card: CardId,
    /// The segments, with the ring's clocks as the journal knows them.
    pub index: Index,
    /// Evidence locks.
    pub locks: Locks,
    /// What is wrong with the heads of files.
    pub troubles: Vec<String>,
    /// A file of a format that only an older version reads.
    pub older: Option<String>,
}

/// Looks at a ring that somebody else may be writing.
///
/// # Errors
/// When the directory cannot be read.
pub fn read(disk: &Arc<dyn Disk>) -> Result<RecoveryScope, DiskFault> {
    // The journal first: what it has seen is in a file by the time the files are read.
    let journal = disk.files()?.get(&FileId::Journal).copied();
    let card = heads(disk.as_ref())?.card.unwrap_or_default();
    let kept = journal.map(|len| Journal::open_read_only(disk.clone(), card, len)).transpose()?;
    let Heads { mut index, troubles, older, .. } = heads(disk.as_ref())?;
    let mut troubles: Vec<String> = troubles.iter().map(ToString::to_string).collect();
    let beside = foreign::beside(disk.as_ref(), card, kept.as_ref())?;
    troubles.extend(beside.into_iter().map(|(file, what)| format!("{}: {what}", file.name())));
    if let Some(kept) = &kept {
        let resized = side_files::faults(disk.as_ref(), &disk.files()?, kept, None);
        troubles.extend(resized.into_iter().map(|(file, what, _)| format!("{} {what}", file.name())));
    }
    let told = kept.as_ref().map_or(0, |kept| kept.record);
    index.clock_history = kept.as_ref().map(LoadedJournal::clock_history).unwrap_or_default();
    index.lost = missing_records::lost(disk.as_ref(), &index, told);
    let known = kept.filter(|kept| kept.ring.is_some() || index.live().is_empty());
    let locks = known.map_or(Err(journal::LOST.to_owned()), |kept| kept.locks()).unwrap_or_else(|reason| {
        troubles.push(reason);
        Locks::default()
    });
    Ok(RecoveryScope { card, index, locks, troubles, older })
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
    let walked = match walk(disk, newest, ScanDepth::Content).or_else(|_| walk(disk, newest, ScanDepth::Content)) {
        Ok(walked) => walked,
        Err(fault) => {
            // Nobody knows how many records it holds. Their numbers are not given twice: what can be read of them stays.
            let first = found.next_seq;
            found.next_seq += newest.head.size / BLOCK;
            found.missing.push(Eviction { cause: EvictionCause::Skipped, first, last: found.next_seq - 1 });
            return found.troubles.push((fault.to_string(), true));
        }
    };
    found.next_seq = walked.next_seq;
    found.chain = walked.chain;
    for record in walked.found.iter().filter_map(record_of) {
        found.media = found.media.max(record.media + record.duration);
        found.marked |= record.gap.is_none();
        found.end = Some((record.boot, record.end()));
    }
    if let Some((boot, end)) = &mut found.end {
        *end = found.index.clock_history.date(*boot, *end);
    }
    for (repair, gap) in damages(newest, &walked) {
        found.repairs.push(repair);
        found.gaps.push(gap);
    }
    found.damaged = damaged_records(&walked);
    if newest.is_cut() {
        // Nobody knows how many records lay behind. Their numbers are not given twice, and the file is left as it is.
        let first = found.next_seq;
        found.next_seq += (newest.head.size - walked.at) / BLOCK;
        let name = file.name();
        found.troubles.push((format!("{name}: was cut off behind record {}: what lay there is lost", first - 1), true));
        return found.missing.push(Eviction { cause: EvictionCause::Skipped, first, last: found.next_seq - 1 });
    }
    found.open_at = Some(walked.at);
    let mended = match walked.end {
        ScanEnd::Torn => flushed.and_then(|()| mend(disk, newest, walked.at)).map(Some),
        ScanEnd::Free => flushed.map(|()| None),
    };
    match mended {
        Ok(repair) => found.repairs.extend(repair),
        Err(fault) => {
            found.open_at = None;
            found.troubles.push((fault.to_string(), true));
        }
    }
    if found.damaged > 0 {
        // Recording goes on in another file: the next start finds this one among the older ones, and does not tell it again.
        found.open_at = None;
    }
}

fn damaged_records(walked: &SegmentScan) -> u64 {
    let damaged = |found: &ScanItem| if let ScanItem::Damaged { first, last, .. } = found { last - first + 1 } else { 0 };
    walked.found.iter().map(damaged).sum()
}

/// Puts the `free` header back where a write was torn, and says what was dropped.
///
/// # Errors
/// When the card refuses.
pub fn mend(disk: &dyn Disk, segment: &Segment, at: u64) -> Result<Repair, DiskFault> {
    let file = FileId::Segment(segment.head.segment);
    // What was dropped is only reported: where it cannot be read, the file is mended all the same.
    let bytes = disk.read(file, at, RECORD_BOX.min((segment.end - at) as usize)).ok();
    let torn = bytes.and_then(|bytes| RingRecord::decode(&bytes)).filter(|record| record.lap == segment.head.lap);
    let (bytes, micros) = torn.map_or((0, 0), |record| (record.len.into(), record.duration));
    disk.write(file, at, &free_block(segment.end - at))?;
    disk.sync(file)?;
    Ok(Repair { file: file.name(), offset: at, kind: RepairKind::Torn, bytes, micros, lost: None })
}

/// The damaged stretches of a walked segment, as what was dropped and as gaps between the records around them.
pub fn damages(segment: &Segment, walked: &SegmentScan) -> Vec<(Repair, Gap)> {
    let file = FileId::Segment(segment.head.segment).name();
    let (mut before, mut out) = (segment.head.start, Vec::new());
    for pair in walked.found.iter().zip(walked.found.iter().skip(1).map(Some).chain([None])) {
        match pair {
            (ScanItem::Record(_, record), _) => before = record.end(),
            (ScanItem::Damaged { offset, first, last }, Some(ScanItem::Record(next, record))) => {
                let (bytes, to) = (next - offset, record.start);
                let micros = to.mono.since(before.mono);
                let lost = Some(MissingRecords { first: *first, last: *last, from: Some(before), to: Some(to), holes: 1 });
                out.push((
                    Repair { file: file.clone(), offset: *offset, kind: RepairKind::Damaged, bytes, micros, lost },
                    Gap { from: before, to, reason: GapReason::Damaged, bytes },
                ));
            }
            (ScanItem::Damaged { .. }, _) => {}
        }
    }
    out
}

fn record_of(found: &ScanItem) -> Option<&RingRecord> {
    match found {
        ScanItem::Record(_, record) => Some(record),
        ScanItem::Damaged { .. } => None,
    }
}
