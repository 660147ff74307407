//! Check: reads a whole ring and verifies every invariant of [`crate::format::on_disk`], every
//! checksum and every gap.
//!
//! What belongs here: finding problems, by file and offset. What does not: repairs
//! ([`super::recovery`]).

use std::sync::Arc;

use super::check_report::{CheckProblem, CheckReport, Remedy};
use super::check_segment::{CheckedRecords, check_segment};
use super::disk::{Disk, DiskFault, FileId};
use super::foreign;
use super::head_selection::{HeadFault, HeadTrouble, Heads, heads, read_copy};
use super::journal::{self, Journal};
use super::loaded_journal::LoadedJournal;
use super::missing_records::{expected, numbers};
use super::range_set::Ranges;
use super::recovery::COPIES_MAX;
use super::second_look::{confirmed, is_recycled, steady_heads};
use super::segment_index::Index;
use super::{side_files, snapshots};
use crate::format::card_id::CardId;
use crate::format::segment_head::{Eviction, EvictionCause};

/// Checks everything; `progress` hears (segments done, of all).
///
/// # Errors
/// When the directory cannot be read at all.
pub fn check(
    disk: &Arc<dyn Disk>,
    mut progress: impl FnMut(usize, usize),
) -> Result<CheckReport, DiskFault> {
    let Heads { index, troubles, older, card, .. } = steady_heads(disk.as_ref())?;
    let card = card.unwrap_or_default();
    let blank = (index.blank().len() + index.aside().len()) as u64;
    let mut checked =
        CheckReport { segments: index.live().len() as u64, blank, ..CheckReport::default() };
    if let Some(file) = older {
        let what =
            "written in a format that only an older taimat reads: export it with that version's `taimat ring export`".into();
        checked.problems.push(CheckProblem::new(file, 0, what, Remedy::Person));
    }
    let kept = read_journal(disk, card)?;
    let mut before = None::<CheckedRecords>;
    for (at, segment) in index.live().iter().enumerate() {
        checked.bytes += segment.head.size;
        check_segment(disk.as_ref(), &index, at, &mut before, &mut checked);
        progress(at + 1, index.live().len());
    }
    let clean = kept.as_ref().is_some_and(|kept| kept.clean);
    check_heads(disk.as_ref(), &index, &troubles, clean, &mut checked);
    let first = index.live().first().map(|segment| segment.head.first_seq);
    checked.numbers = first.zip(before.as_ref().map(|before| before.next_seq - 1));
    let there = before.map(|before| before.there).unwrap_or_default();
    let known = kept.as_ref().map_or(0, |kept| kept.record);
    // The agent may have begun a segment and ended in order since the heads were read.
    let newest = checked.numbers.map_or(0, |(_, last)| last);
    let began = known > newest
        && heads(disk.as_ref())?.index.live().iter().any(|now| now.head.first_seq > newest);
    check_missing(&index, &there, if began { 0 } else { known }, &mut checked);
    let foreign = foreign::foreign_files(disk.as_ref(), card, kept.as_ref())?;
    check_sides_twice(disk, &index, card, kept, &mut checked)?;
    for (file, what) in foreign {
        checked.problems.push(CheckProblem::new(file.name(), 0, what, Remedy::Person));
    }
    Ok(checked)
}

/// Both copies of every head. One that is wrong in a segment with nothing in it yet was cut while the segment was begun.
/// Without an ordered stop so may have been a second copy in one of the oldest files, whose turn it was.
fn check_heads(
    disk: &dyn Disk,
    index: &Index,
    troubles: &[HeadTrouble],
    clean: bool,
    checked: &mut CheckReport,
) {
    let newest = index.live().last().map(|segment| segment.head.segment);
    let fresh = newest.filter(|_| checked.newest <= 1);
    for HeadTrouble { file, fault, what } in troubles {
        let remedy = match fault {
            HeadFault::First => Remedy::Start,
            HeadFault::Name | HeadFault::Duplicate | HeadFault::Foreign => Remedy::Person,
            HeadFault::Size | HeadFault::Unreadable => Remedy::Export,
        };
        let problem = CheckProblem::new(FileId::Segment(*file).name(), 0, what.clone(), remedy);
        match *fault == HeadFault::First && fresh == Some(*file) {
            true => checked.torn.push(problem),
            false => checked.problems.push(problem),
        }
    }
    for (at, segment) in index.live().iter().enumerate().filter(|(_, segment)| !segment.is_cut()) {
        let file = segment.head.segment;
        let name = FileId::Segment(file).name();
        let look = || match read_copy(disk, file, segment.head.size) {
            Ok(Some(copy)) if copy == segment.written() => Ok::<_, DiskFault>(Vec::new()),
            // The agent prepares it, or has recycled it since.
            _ if is_recycled(disk, segment) => Ok(Vec::new()),
            found => Ok(vec![found]),
        };
        let Some(found) = confirmed(disk, look).unwrap_or_default().pop() else { continue };
        let what = match found {
            Ok(Some(copy)) if copy.lap > segment.head.lap => {
                let what = "it was about to be begun anew when the power went: its records are on record as gone".into();
                checked.torn.push(CheckProblem::new(name, segment.end, what, Remedy::Start));
                continue;
            }
            Ok(_) => (
                "the second copy of its head is damaged: a start, or the scrub, writes it again"
                    .into(),
                Remedy::Start,
            ),
            Err(fault) => (fault.reason, Remedy::Export),
        };
        let problem = CheckProblem::new(name, segment.end, what.0, what.1);
        let cut = fresh == Some(file) || !clean && at < COPIES_MAX;
        if cut { checked.torn.push(problem) } else { checked.problems.push(problem) }
    }
}

/// What should be in the ring by its newest head and by the journal, and is in no file. What went is on record, and why.
fn check_missing(index: &Index, there: &Ranges, told: u64, checked: &mut CheckReport) {
    let newest = checked.numbers.map_or(0, |(_, last)| last);
    let mut expected = expected(index, newest);
    if told > newest {
        expected.add(newest + 1, told);
    }
    expected = expected.without(&checked.left_out);
    let mut wrong = |what: String| {
        checked.problems.push(CheckProblem::new("ring".into(), 0, what, Remedy::Export))
    };
    let (mut seen, mut missing) = (Ranges::default(), Ranges::default());
    for Eviction { cause, first, last } in
        index.live().iter().flat_map(|segment| &segment.head.inventory.evicted)
    {
        expected.remove(*first, *last);
        // A head that never became durable may have said the same before.
        let new = Ranges::from_iter([(*first, *last)]).without(&seen);
        seen.add(*first, *last);
        for (first, last) in new.list() {
            *checked.gone.entry(cause.as_str()).or_default() += last - first + 1;
            if *cause == EvictionCause::Missing {
                missing.add(*first, *last);
                wrong(format!(
                    "{} missing since a start, and nothing says that they were evicted",
                    numbers(*first, *last)
                ));
            }
        }
    }
    let lost = expected.without(there);
    let went = |range: &&(u64, u64)| {
        !Ranges::from_iter([**range]).without(&lost).without(&missing).list().is_empty()
    };
    checked.evicted = checked.between.iter().filter(went).count() as u64;
    for (first, last) in lost.list() {
        wrong(format!("{} missing: no head says that they were evicted", numbers(*first, *last)));
    }
}

/// Journal, locks and snapshots; what is wrong at a second look too, as the agent may be writing them.
fn check_sides_twice(
    disk: &Arc<dyn Disk>,
    index: &Index,
    card: CardId,
    kept: Option<LoadedJournal>,
    checked: &mut CheckReport,
) -> Result<(), DiskFault> {
    let mut kept = Some(kept);
    let mut part = CheckReport::default();
    let found = confirmed(disk.as_ref(), || {
        let now = match kept.take() {
            Some(first) => first,
            None => read_journal(disk, card)?,
        };
        part = CheckReport::default();
        check_sides(disk, index, now.as_ref(), &mut part)?;
        let torn = part.torn.drain(..).map(|problem| (true, problem));
        Ok::<_, DiskFault>(torn.chain(part.problems.drain(..).map(|one| (false, one))).collect())
    })?;
    (checked.entries, checked.locks) = (part.entries, part.locks);
    for (is_torn, problem) in found {
        if is_torn { checked.torn.push(problem) } else { checked.problems.push(problem) }
    }
    Ok(())
}

/// The journal as it is now; `None` if there is none.
fn read_journal(disk: &Arc<dyn Disk>, card: CardId) -> Result<Option<LoadedJournal>, DiskFault> {
    let len = disk.files()?.get(&FileId::Journal).copied();
    len.map(|len| Journal::open_read_only(disk.clone(), card, len)).transpose()
}

/// Journal, locks and snapshots.
fn check_sides(
    disk: &Arc<dyn Disk>,
    index: &Index,
    kept: Option<&LoadedJournal>,
    checked: &mut CheckReport,
) -> Result<(), DiskFault> {
    let Some(kept) = kept else {
        let problem =
            CheckProblem::new(FileId::Journal.name(), 0, journal::LOST.into(), Remedy::Export);
        checked.problems.push(problem);
        return Ok(());
    };
    let files = disk.files()?;
    checked.entries = kept.entries.len() as u64;
    for copy in &kept.copies {
        let what =
            "one of the two copies of this slot is damaged: the next start writes it again".into();
        let problem = CheckProblem::new(FileId::Journal.name(), copy.offset, what, Remedy::Start);
        if copy.cut { checked.torn.push(problem) } else { checked.problems.push(problem) }
    }
    let mut wrong = |file: FileId, what: String| {
        checked.problems.push(CheckProblem::new(file.name(), 0, what, Remedy::Export))
    };
    if kept.ring.is_none() && !index.live().is_empty() {
        wrong(FileId::Journal, journal::LOST.into());
    }
    if kept.is_older_than(index.newest_boot()) {
        wrong(FileId::Journal, journal::OLDER.into());
    }
    if kept.damaged > 0 {
        wrong(FileId::Journal, format!("{} slots are damaged in both copies", kept.damaged));
    }
    let oldest = index.live().first().map_or(u64::MAX, |segment| segment.head.first_seq);
    match kept.locks() {
        Ok(locks) => {
            checked.locks = locks.list().len() as u64;
            for lock in locks.list().iter().filter(|lock| lock.first < oldest) {
                wrong(
                    FileId::Journal,
                    format!(
                        "lock {:?} means record {}, which is no longer there",
                        lock.id, lock.first
                    ),
                );
            }
        }
        Err(reason) => wrong(FileId::Journal, reason),
    }
    let snapshots = files.get(&FileId::Snapshots);
    // They are made with the journal, before any footage.
    if snapshots.is_none() && !(index.live().is_empty() && kept.entries.is_empty()) {
        wrong(FileId::Snapshots, snapshots::LOST.into());
    }
    if let Some(len) = snapshots {
        let len = side_files::snapshots_len(*len, Some(kept));
        let damaged = snapshots::damaged(disk.as_ref(), len, &kept.entries)?;
        damaged.into_iter().for_each(|slot| {
            wrong(FileId::Snapshots, format!("the snapshot at byte {slot} is damaged"))
        });
    }
    side_files::faults(disk.as_ref(), &files, kept, None)
        .into_iter()
        .for_each(|(file, what, _)| wrong(file, what));
    Ok(())
}
