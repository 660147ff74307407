//! Recovery: a decision table for the segment files found when a ring is opened.
//!
//! | head of the file | newest by number | scan ends | action |
//! |---|---|---|---|
//! | never written (zeros) | – | – | blank: free to use |
//! | read from its second copy ([`super::head_selection`]) | – | – | the first copy is rewritten, then as below |
//! | neither copy readable | – | – | kept until it is recycled if it holds whole records, else free to use; if record numbers are missing between its neighbours, a `missing` gap is reported |
//! | whole | no | – | live; scanned when a query needs it |
//! | whole | yes | at `free` or the end of the file | live and flushed; recording continues behind its last record |
//! | whole | yes | at a torn write | the `free` header is restored at the tear, then as above |
//! | whole | yes | behind damage, then as above | the damage is left as it is and reported once; recording continues in another file |
//! | whole, states a longer file | yes | anywhere | sealed and left as it is; recording continues in another file, with numbers that no record of this file has |
//! | whole | yes | as above, and the card rejects the `free` header or the flush | sealed; recording continues in another file |
//! | whole | yes | at a read error, twice | sealed; recording continues in another file, with numbers that no record of this file has |
//! | whole, wrong file number | – | – | its content counts, and the changed name is reported |
//! | whole, lap of another file | – | – | blank: a duplicate of that file |
//!
//! The newest head states which record numbers the ring holds
//! ([`crate::format::segment_head::RecordInventory`]), and the journal knows the newest of them.
//! Numbers that no file holds are reported as missing, with the times around them. Recording then
//! continues in another file, whose head records them as missing, so that the next boot does not
//! report them again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::clock_history::ClockHistory;
use super::disk::{Disk, DiskFault, FileId};
use super::foreign;
use super::head_selection::{HeadFault, HeadTrouble, Heads, heads, read_copy, read_heads};
use super::journal::{self, Journal};
use super::journal_load;
use super::loaded_journal::LoadedJournal;
use super::locks::Locks;
use super::missing_records::{self, MissingRecords, expected, locate_gaps, present_records};
use super::range_set::Ranges;
use super::scan::{ScanDepth, ScanEnd, ScanItem, SegmentScan, walk};
use super::second_look::{LOOKS, steady_heads};
use super::segment_index::Index;
use super::side_files;
use super::{Gap, GapReason, Repair, RepairKind};
use crate::format::block::{BLOCK, free_block};
use crate::format::card_id::CardId;
use crate::format::record::{RECORD_BOX, RingRecord};
use crate::format::segment_head::{EVICTED_MAX, Eviction, EvictionCause, Segment};
use crate::units::{Boot, Digest, Timestamp};

/// The result of recovery.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The segments.
    pub index: Index,
    /// Offset in the newest segment at which recording continues; `None` if it must start another.
    pub open_at: Option<u64>,
    /// The newest segment has its first fragment, which carries the mark of the head.
    pub marked: bool,
    /// Number of the next record, from 1.
    pub next_seq: u64,
    /// Chain digest of the last record.
    pub chain: Digest,
    /// End of the newest footage, and the boot that wrote it.
    pub end: Option<(Boot, Timestamp)>,
    /// End of the newest footage on the media clock, microseconds.
    pub media: u64,
    /// Start of the oldest footage.
    pub oldest: Option<Timestamp>,
    /// Gaps found.
    pub gaps: Vec<Gap>,
    /// Damage repaired or passed over.
    pub repairs: Vec<Repair>,
    /// Errors met, each with whether it cost footage.
    pub troubles: Vec<(String, bool)>,
    /// Record numbers that the ring holds by its heads.
    pub present: Ranges,
    /// The card that owns the ring.
    pub card: CardId,
    /// Segment files of other cards.
    pub foreign: BTreeSet<u32>,
    /// Damaged records of the newest segment; `repairs` reports them.
    pub damaged: u64,
    /// Record numbers found missing; the next head records them.
    pub missing: Vec<Eviction>,
}

/// Recovers the ring in `files` (number and length). `newest` is the highest record number that the
/// journal knows.
pub fn recover(
    disk: &dyn Disk,
    files: &BTreeMap<u32, u64>,
    clock_history: ClockHistory,
    newest: u64,
) -> Recovery {
    let cards = journal_load::cards(disk).unwrap_or_default();
    recover_from(disk, read_heads(disk, files, cards, None), files, clock_history, newest)
}

/// Recovers the ring from heads that were read before.
pub fn recover_from(
    disk: &dyn Disk,
    heads: Heads,
    files: &BTreeMap<u32, u64>,
    clock_history: ClockHistory,
    newest: u64,
) -> Recovery {
    let mut found =
        Recovery { next_seq: 1, index: heads.index, foreign: heads.foreign, ..Recovery::default() };
    found.card = heads.card.unwrap_or_default();
    found.index.clock_history = clock_history;
    found.oldest = found.index.oldest();
    if let Some(segment) = found.index.live().last().cloned() {
        recover_newest(disk, &segment, &mut found);
    }
    find_missing(disk, newest, &mut found);
    for trouble in &heads.troubles {
        repair_head(disk, trouble, files, &mut found);
    }
    repair_copies(disk, &mut found);
    found
}

/// Most second copies verified when a ring is opened: that of the newest segment, and those of the
/// oldest, one of which a power cut may have hit while it was recycled. The scrub verifies the
/// others.
pub const COPIES_MAX: usize = 16;

/// Rewrites second copies that differ from their head.
fn repair_copies(disk: &dyn Disk, found: &mut Recovery) {
    let live = found.index.live();
    let newest = live.len().saturating_sub(1).max(COPIES_MAX.min(live.len()));
    let checked: Vec<Segment> = live
        .iter()
        .take(COPIES_MAX)
        .chain(live.get(newest..).unwrap_or_default())
        .cloned()
        .collect();
    for segment in checked {
        match repair_copy(disk, &segment) {
            Ok(repair) => found.repairs.extend(repair),
            Err(fault) => found.troubles.push((fault.to_string(), false)),
        }
    }
}

/// Rewrites the second copy of a head if it differs. Returns the repair.
///
/// # Errors
/// If the card reports an error.
pub fn repair_copy(disk: &dyn Disk, segment: &Segment) -> Result<Option<Repair>, DiskFault> {
    let (file, head) = (FileId::Segment(segment.head.segment), segment.written());
    if segment.is_cut() || read_copy(disk, segment.head.segment, head.size)?.as_ref() == Some(&head)
    {
        return Ok(None);
    }
    disk.write(file, segment.end, &head.encode_copy())?;
    disk.sync(file)?;
    Ok(Some(Repair {
        file: file.name(),
        offset: segment.end,
        kind: RepairKind::Copy,
        bytes: 0,
        micros: 0,
        lost: None,
    }))
}

/// Reports a problem of a head, and rewrites the first copy if only the second was readable.
fn repair_head(
    disk: &dyn Disk,
    trouble: &HeadTrouble,
    files: &BTreeMap<u32, u64>,
    found: &mut Recovery,
) {
    let (file, name) = (trouble.file, FileId::Segment(trouble.file).name());
    // What an earlier boot reported as missing is not lost again.
    let lost = match trouble.fault {
        HeadFault::Unreadable => !found.missing.is_empty() || found.index.live().is_empty(),
        // No footage of ours is lost, but an operator must remove the file.
        HeadFault::Foreign => true,
        _ => false,
    };
    found.troubles.push((trouble.to_string(), lost));
    match trouble.fault {
        HeadFault::Unreadable if !lost => {}
        HeadFault::Unreadable => {
            let bytes = files.get(&file).copied().unwrap_or_default();
            found.repairs.push(Repair {
                file: name,
                offset: 0,
                kind: RepairKind::Head,
                bytes,
                micros: 0,
                lost: None,
            });
        }
        HeadFault::First => {
            let segment = found.index.live().iter().find(|segment| segment.head.segment == file);
            let id = FileId::Segment(file);
            let written = segment.map(|segment| {
                disk.write(id, 0, &segment.written().encode()).and_then(|()| disk.sync(id))
            });
            match written {
                Some(Err(fault)) => found.troubles.push((fault.to_string(), false)),
                _ => found.repairs.push(Repair {
                    file: name,
                    offset: 0,
                    kind: RepairKind::Copy,
                    bytes: 0,
                    micros: 0,
                    lost: None,
                }),
            }
        }
        HeadFault::Name | HeadFault::Duplicate | HeadFault::Size | HeadFault::Foreign => {}
    }
}

/// Finds record numbers that the newest head or the journal states and that no file holds. Numbers
/// that the journal knows are not assigned again.
fn find_missing(disk: &dyn Disk, newest: u64, found: &mut Recovery) {
    let walked = found.next_seq - 1;
    found.present = expected(&found.index, walked);
    let present = present_records(disk, &found.index, walked, &found.present);
    let mut missing = std::mem::take(&mut found.present).without(&present);
    found.present = expected(&found.index, walked).without(&missing);
    if newest > walked {
        missing.add(walked + 1, newest);
        found.next_seq = newest + 1;
        found.open_at = None;
    }
    found.index.lost = missing_records::listed_missing(&found.index);
    missing.list().iter().for_each(|(first, last)| found.index.lost.add(*first, *last));
    if missing.list().is_empty() {
        return;
    }
    // The next boot learns from the next head that these numbers were reported.
    found.open_at = None;
    let record = |(first, last): &(u64, u64)| Eviction {
        cause: EvictionCause::Missing,
        first: *first,
        last: *last,
    };
    found.missing.extend(missing.list().iter().take(EVICTED_MAX - 1).map(record));
    if let (Some((_, end)), Some(last)) =
        (missing.list().get(EVICTED_MAX - 1..).and_then(<[_]>::last), found.missing.last_mut())
    {
        last.last = *end;
    }
    let gaps = locate_gaps(disk, &found.index, &missing);
    for gap in &gaps {
        found.troubles.push((format!("{gap}, cause unknown: run taimat ring check"), true));
        let times = gap.from.zip(gap.to);
        found.gaps.extend(times.map(|(from, to)| Gap {
            from,
            to,
            reason: GapReason::Missing,
            bytes: 0,
        }));
    }
    let repairs = gaps.into_iter().map(Repair::missing);
    // Lost records come first, because a boot reports a bounded number of repairs.
    found.repairs.splice(0..0, repairs);
}

/// A ring opened read-only; another process may be writing it.
#[derive(Debug, Default)]
pub struct ReadOnlyRing {
    /// The card that owns the ring.
    pub card: CardId,
    /// The segments, with the clock history of the journal.
    pub index: Index,
    /// Evidence locks.
    pub locks: Locks,
    /// Problems of segment heads, journal and foreign files.
    pub troubles: Vec<String>,
    /// Name of a file in a format that only an older version reads.
    pub older: Option<String>,
}

/// Reads a ring that another process may be writing.
///
/// # Errors
/// If the directory cannot be read.
pub fn read(disk: &Arc<dyn Disk>) -> Result<ReadOnlyRing, DiskFault> {
    // Read the journal first: every record it knows is in a file by the time the files are read.
    let journal = disk.files()?.get(&FileId::Journal).copied();
    let card = heads(disk.as_ref())?.card.unwrap_or_default();
    let loaded = journal.map(|len| Journal::open_read_only(disk.clone(), card, len)).transpose()?;
    let Heads { mut index, troubles, older, .. } = steady_heads(disk.as_ref())?;
    let mut troubles: Vec<String> = troubles.iter().map(ToString::to_string).collect();
    let foreign_files = foreign::foreign_files(disk.as_ref(), card, loaded.as_ref())?;
    troubles
        .extend(foreign_files.into_iter().map(|(file, what)| format!("{}: {what}", file.name())));
    if let Some(loaded) = &loaded {
        troubles
            .extend(loaded.is_older_than(index.newest_boot()).then(|| journal::OLDER.to_owned()));
        let resized = side_files::faults(disk.as_ref(), &disk.files()?, loaded, None);
        troubles
            .extend(resized.into_iter().map(|(file, what, _)| format!("{} {what}", file.name())));
    }
    let known_record = loaded.as_ref().map_or(0, |loaded| loaded.record);
    index.clock_history = loaded.as_ref().map(LoadedJournal::clock_history).unwrap_or_default();
    index.lost = lost_beside(disk.as_ref(), &index, known_record)?;
    let known = loaded.filter(|loaded| loaded.ring.is_some() || index.live().is_empty());
    let locks = known
        .map_or(Err(journal::LOST.to_owned()), |loaded| loaded.locks())
        .unwrap_or_else(|reason| {
            troubles.push(reason);
            Locks::default()
        });
    Ok(ReadOnlyRing { card, index, locks, troubles, older })
}

/// The record numbers that are in no file, also by the heads that are there at a second look: the agent may have recycled a segment
/// while it was read.
fn lost_beside(disk: &dyn Disk, index: &Index, known: u64) -> Result<Ranges, DiskFault> {
    let mut lost = missing_records::lost(disk, index, known);
    for _ in 1..LOOKS {
        if lost.list().is_empty() {
            break;
        }
        disk.let_writer_finish();
        let now = steady_heads(disk)?.index;
        let gone = lost.clone().without(&missing_records::lost(disk, &now, known));
        lost = lost.without(&gone);
    }
    Ok(lost)
}

/// Scans the newest segment to its end and repairs a torn write.
fn recover_newest(disk: &dyn Disk, newest: &Segment, found: &mut Recovery) {
    found.next_seq = newest.head.first_seq;
    found.chain = newest.head.previous;
    found.media = newest.head.media;
    found.end = Some((newest.head.boot, newest.head.start));
    // After a kill the last record may be in the page cache only, and it counts from here on. After
    // a failed flush the page cache may show a record that the card does not hold.
    let file = FileId::Segment(newest.head.segment);
    let flushed = disk.sync(file);
    disk.forget(file);
    let walked = match walk(disk, newest, ScanDepth::Content)
        .or_else(|_| walk(disk, newest, ScanDepth::Content))
    {
        Ok(walked) => walked,
        Err(fault) => {
            skip_numbers(newest.head.size, found);
            return found.troubles.push((fault.to_string(), true));
        }
    };
    continue_behind(newest, &walked, found);
    if newest.is_cut() {
        // Leave the file as it is.
        found.troubles.push((
            format!(
                "{}: truncated behind record {}: the records that followed are lost",
                file.name(),
                found.next_seq - 1
            ),
            true,
        ));
        return skip_numbers(newest.head.size - walked.at, found);
    }
    found.open_at = Some(walked.at);
    let repaired = match walked.end {
        ScanEnd::Torn => flushed.and_then(|()| repair_tear(disk, newest, walked.at)).map(Some),
        ScanEnd::Free => flushed.map(|()| None),
    };
    match repaired {
        Ok(repair) => found.repairs.extend(repair),
        Err(fault) => {
            found.open_at = None;
            found.troubles.push((fault.to_string(), true));
        }
    }
    if found.damaged > 0 {
        // Continue in another file: the next boot then scans this segment no more and reports the
        // damage only once.
        found.open_at = None;
    }
}

/// Skips the numbers of an unknown number of records in `bytes` bytes, so that readable records stay
/// valid.
fn skip_numbers(bytes: u64, found: &mut Recovery) {
    let first = found.next_seq;
    found.next_seq += bytes / BLOCK;
    found.missing.push(Eviction { cause: EvictionCause::Skipped, first, last: found.next_seq - 1 });
}

/// Takes number, chain, media clock and end of the footage from the records of the newest segment,
/// and reports its damaged ones.
fn continue_behind(newest: &Segment, walked: &SegmentScan, found: &mut Recovery) {
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
    for (repair, gap) in damages(newest, walked) {
        found.repairs.push(repair);
        found.gaps.push(gap);
    }
    found.damaged = damaged_records(walked);
}

fn damaged_records(walked: &SegmentScan) -> u64 {
    let damaged = |found: &ScanItem| {
        if let ScanItem::Damaged { first, last, .. } = found { last - first + 1 } else { 0 }
    };
    walked.found.iter().map(damaged).sum()
}

/// Restores the `free` header at a torn write. Returns what was dropped.
///
/// # Errors
/// If the card reports an error.
pub fn repair_tear(disk: &dyn Disk, segment: &Segment, at: u64) -> Result<Repair, DiskFault> {
    let file = FileId::Segment(segment.head.segment);
    // The dropped bytes are only reported, so a read error here does not prevent the repair.
    let bytes = disk.read(file, at, RECORD_BOX.min((segment.end - at) as usize)).ok();
    let torn = bytes
        .and_then(|bytes| RingRecord::decode(&bytes))
        .filter(|record| record.lap == segment.head.lap);
    let (bytes, micros) = torn.map_or((0, 0), |record| (record.len.into(), record.duration));
    disk.write(file, at, &free_block(segment.end - at))?;
    disk.sync(file)?;
    Ok(Repair { file: file.name(), offset: at, kind: RepairKind::Torn, bytes, micros, lost: None })
}

/// The damaged stretches of a scanned segment, as repairs and as gaps between the records around
/// them.
pub fn damages(segment: &Segment, walked: &SegmentScan) -> Vec<(Repair, Gap)> {
    let file = FileId::Segment(segment.head.segment).name();
    let (mut before, mut out) = (segment.head.start, Vec::new());
    for pair in walked.found.iter().zip(walked.found.iter().skip(1).map(Some).chain([None])) {
        match pair {
            (ScanItem::Record(_, record), _) => before = record.end(),
            (ScanItem::Damaged { offset, first, last }, Some(ScanItem::Record(next, record))) => {
                let (bytes, to) = (next - offset, record.start);
                let micros = to.mono.since(before.mono);
                let lost = Some(MissingRecords {
                    first: *first,
                    last: *last,
                    from: Some(before),
                    to: Some(to),
                    gaps: 1,
                });
                out.push((
                    Repair {
                        file: file.clone(),
                        offset: *offset,
                        kind: RepairKind::Damaged,
                        bytes,
                        micros,
                        lost,
                    },
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
