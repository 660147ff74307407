//! Reading a ring as the next owner of the card would: every invariant of [`crate::format::on_disk`], every checksum, every gap.
//!
//! What belongs here: what is wrong, by file and offset. What does not: putting it right ([`super::recovery`]).

use std::sync::Arc;

use serde::Serialize;

use super::disk::{Disk, DiskFault, FileId};
use super::foreign;
use super::head_selection::{HeadFault, HeadTrouble, Heads, heads, read_copy};
use super::journal::{self, Journal};
use super::loaded_journal::LoadedJournal;
use super::missing_records::{expected, numbers};
use super::range_set::Ranges;
use super::recovery::COPIES_MAX;
use super::scan::{ScanDepth, ScanEnd, ScanItem, walk};
use super::segment_index::Index;
use super::{side_files, snapshots};
use crate::format::mp4::box_at;
use crate::format::mp4::move_times;
use crate::format::record::{RECORD_BOX, RingRecord};
use crate::format::segment_head::{Eviction, EvictionCause, Segment};
use crate::units::{Digest, MonoTime};

/// Microseconds between two fragments of one start that nobody has to explain: twice what the engine calls a gap.
const SILENT_MAX: u64 = 1_000_000;

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckProblem {
    /// File name.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// What is wrong, for people.
    pub what: String,
    /// What becomes of it.
    pub remedy: Remedy,
}

/// What becomes of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Something is lost, or may be: export what is left.
    Export,
    /// Nothing is lost: the next start writes it again, or the scrub when it comes there.
    Start,
    /// Nothing is lost by it: a person does what the sentence says.
    Person,
}

impl CheckProblem {
    fn new(file: String, offset: u64, what: String, remedy: Remedy) -> CheckProblem {
        CheckProblem { file, offset, what, remedy }
    }
}

impl std::fmt::Display for CheckProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} offset {}: {}", self.file, self.offset, self.what)
    }
}

/// What a ring is like.
#[derive(Debug, Default, Serialize)]
pub struct CheckReport {
    /// Segment files that hold footage.
    pub segments: u64,
    /// Segment files that hold none.
    pub blank: u64,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// Records, gap records among them.
    pub records: u64,
    /// Sample bytes.
    pub payload: u64,
    /// First and last record.
    pub numbers: Option<(u64, u64)>,
    /// Holes that are named.
    pub holes: u64,
    /// Stretches of records between others that were evicted because only their neighbours were wanted.
    pub evicted: u64,
    /// Entries in the journal that wait for the office.
    pub entries: u64,
    /// Evidence locks.
    pub locks: u64,
    /// Records that went, as heads of the ring say: how many of each cause.
    pub gone: std::collections::BTreeMap<&'static str, u64>,
    /// What a cut write explains: the next start puts it right.
    pub torn: Vec<CheckProblem>,
    /// Everything that is wrong.
    pub problems: Vec<CheckProblem>,
    /// Records of the newest segment.
    #[serde(skip)]
    newest: usize,
    /// Numbers between two files.
    #[serde(skip)]
    between: Vec<(u64, u64)>,
}

/// What was seen of the records so far.
#[derive(Default)]
struct Before {
    /// Numbers that files hold, damaged ones among them.
    there: Ranges,
    next_seq: u64,
    chain: Digest,
    /// Start and end of the footage or gap before, on the monotonic clock of its start.
    end: Option<(u32, MonoTime)>,
    /// End of what the decode times have reached.
    media: u64,
}

/// Checks everything; `progress` hears (segments done, of all).
///
/// # Errors
/// When the directory cannot be read at all.
pub fn check(
    disk: &Arc<dyn Disk>,
    mut progress: impl FnMut(usize, usize),
) -> Result<CheckReport, DiskFault> {
    let Heads { index, troubles, older, card, .. } = heads(disk.as_ref())?;
    let card = card.unwrap_or_default();
    let blank = (index.blank().len() + index.aside().len()) as u64;
    let mut checked =
        CheckReport { segments: index.live().len() as u64, blank, ..CheckReport::default() };
    if let Some(file) = older {
        let what =
            "written in a format that only an older taimat reads: export it with that version's `taimat ring export`".into();
        checked.problems.push(CheckProblem::new(file, 0, what, Remedy::Person));
    }
    let kept = match disk.files()?.get(&FileId::Journal) {
        Some(len) => Some(Journal::open_read_only(disk.clone(), card, *len)?),
        None => None,
    };
    let mut before = None;
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
    check_missing(&index, &there, kept.as_ref().map_or(0, |kept| kept.record), &mut checked);
    check_sides(disk, &index, kept.as_ref(), &mut checked)?;
    for (file, what) in foreign::foreign_files(disk.as_ref(), card, kept.as_ref())? {
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
        let what = match read_copy(disk, file, segment.head.size) {
            Ok(Some(copy)) if copy == segment.written() => continue,
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

fn check_segment(
    disk: &dyn Disk,
    index: &Index,
    at: usize,
    before: &mut Option<Before>,
    checked: &mut CheckReport,
) {
    let segment = &index.live()[at];
    let file = FileId::Segment(segment.head.segment);
    let name = file.name();
    let mut wrong = |offset: u64, what: String| {
        checked.problems.push(CheckProblem::new(name.clone(), offset, what, Remedy::Export))
    };
    let newest = at + 1 == index.live().len();
    let mut now = before.take().unwrap_or_else(|| Before {
        next_seq: segment.head.first_seq,
        chain: segment.head.previous,
        ..Before::default()
    });
    if now.next_seq < segment.head.first_seq {
        // Pinned footage outlives its neighbours: what lay between was evicted in its turn, unless it should be there.
        checked.between.push((now.next_seq, segment.head.first_seq - 1));
        now.end = None;
    } else if now.next_seq > segment.head.first_seq {
        wrong(
            0,
            format!(
                "begins with record {}, and the file before ends before {}",
                segment.head.first_seq, now.next_seq
            ),
        );
    } else if now.chain != segment.head.previous {
        wrong(
            0,
            format!(
                "record {} does not follow from the one before: the chain is broken",
                segment.head.first_seq
            ),
        );
    }
    let walked = match walk(disk, segment, ScanDepth::Content) {
        Ok(walked) => walked,
        Err(fault) => {
            wrong(fault.offset, fault.reason);
            return;
        }
    };
    // A file dropped after a failed flush may hold a record that was written again elsewhere.
    let last = index.last_seq(at, u64::MAX);
    let (mark, mut started) = (segment.written().mark(), false);
    for found in &walked.found {
        match found {
            ScanItem::Record(offset, record) if record.seq <= last => {
                checked.records += 1;
                checked.payload += u64::from(record.payload);
                checked.holes += u64::from(record.gap.is_some());
                let marked = started || record.gap.is_some() || record.mark == mark;
                started |= record.gap.is_none();
                let marked = (!marked).then(|| {
                    format!("record {} does not name the head it lies behind", record.seq)
                });
                if let Some(what) =
                    now.judge(record).or(marked).or_else(|| content(disk, segment, *offset, record))
                {
                    wrong(*offset, what);
                }
                (now.next_seq, now.chain) = (record.seq + 1, record.link());
            }
            ScanItem::Record(..) => {}
            ScanItem::Damaged { offset, first, last } => {
                wrong(*offset, format!("{} damaged", numbers(*first, *last)));
                // That is what is missing before the next.
                (now.end, started) = (None, true);
            }
        }
    }
    if walked.end == ScanEnd::Torn {
        match newest {
            true => {
                let what = "the last write was cut: the next start puts this right".into();
                checked.torn.push(CheckProblem::new(name, walked.at, what, Remedy::Start));
            }
            // Damage up to the end of the file: which records it hit the next file says.
            false if walked.next_seq <= last => {
                wrong(
                    walked.at,
                    format!("{} damaged, or never in it", numbers(walked.next_seq, last)),
                );
                now.end = None;
            }
            false => wrong(walked.at, "neither a record nor free space".into()),
        }
    }
    let end = if walked.end == ScanEnd::Torn && !newest {
        last
    } else {
        now.next_seq.saturating_sub(1).min(last)
    };
    now.there.add(segment.head.first_seq, end);
    checked.newest = walked.found.len();
    *before = Some(now);
}

impl Before {
    /// What is wrong with a record's place in time, and moves on behind it.
    fn judge(&mut self, record: &RingRecord) -> Option<String> {
        let (boot, begin) = (record.boot.0, record.start.mono);
        let silent = match self.end {
            _ if record.gap.is_some() => None,
            Some((before, end)) if before == boot => {
                let missing = begin.since(end);
                (missing > SILENT_MAX).then(|| {
                    format!(
                        "{} ms are missing before record {} and no record says why",
                        missing / 1000,
                        record.seq
                    )
                })
            }
            Some(_) => Some(format!(
                "record {} begins another start and no record says what is missing before",
                record.seq
            )),
            None => None,
        };
        let end = record.gap.map_or(begin.plus_micros(record.duration), |(to, ..)| to.mono);
        // A gap may be reported late, about a time before the footage that is there already.
        let reached = self
            .end
            .filter(|(before, _)| *before == boot)
            .map_or(end, |(_, reached)| reached.max(end));
        self.end = Some((boot, reached));
        let back = record.gap.is_none() && record.media < self.media;
        if record.gap.is_none() {
            self.media = record.media;
        }
        silent.or_else(|| {
            back.then(|| {
                format!(
                    "record {} lies before the one in front of it on the media clock",
                    record.seq
                )
            })
        })
    }
}

/// What is wrong with the content of a record whose checksum is right.
fn content(disk: &dyn Disk, segment: &Segment, offset: u64, record: &RingRecord) -> Option<String> {
    let bytes =
        disk.read(FileId::Segment(segment.head.segment), offset, record.len as usize).ok()?;
    let mut content = bytes[RECORD_BOX..].to_vec();
    if record.gap.is_none() {
        let moof = box_at(&content, 0).filter(|(name, _)| name == b"moof").map(|(_, len)| len);
        let mdat = moof
            .and_then(|at| box_at(&content, at))
            .filter(|(name, _)| name == b"mdat")
            .map(|(_, len)| len);
        if moof.zip(mdat).is_none_or(|(moof, mdat)| moof + mdat != content.len()) {
            return Some(format!(
                "record {} holds something else than one moof and its mdat",
                record.seq
            ));
        }
    }
    if record.gap.is_none() && record.head != segment.layout {
        return Some(format!("record {} belongs to another head", record.seq));
    }
    let scales: Vec<u32> = segment.head.tracks.iter().map(|track| track.timescale).collect();
    move_times(&mut content, &scales, segment.head.media, record.media);
    (Digest::of(&content) != record.content)
        .then(|| format!("record {} is not what its content digest says", record.seq))
}

/// What should be in the ring by its newest head and by the journal, and is in no file. What went is on record, and why.
fn check_missing(index: &Index, there: &Ranges, told: u64, checked: &mut CheckReport) {
    let newest = checked.numbers.map_or(0, |(_, last)| last);
    let mut expected = expected(index, newest);
    if told > newest {
        expected.add(newest + 1, told);
    }
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
