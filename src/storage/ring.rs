//! Appending to the ring: when the next file is begun, and what is put on record of the ones that go for it.
//!
//! What belongs here: one append from record to flush, recycling, quarantine. What does not: which file is taken (`super::reuse_policy`),
//! what is appended and why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::clock_history::ClockHistory;
use super::disk::{Disk, DiskFault, FileId};
use super::fallback::MEMORY_MAX;
use super::fragment::NewFragment;
use super::locks::Lock;
use super::pins::Pins;
use super::range_set::Ranges;
use super::recovery::Recovery;
use super::reuse_policy::Growth;
use super::segment_index::Index;
use super::{StorageCounts, StorageUpdate};
use crate::camera::TrackParams;
use crate::format::card_id::CardId;
use crate::format::mp4::move_times;
use crate::format::record::{BLOCK, MARK, RECORD_BOX, RingRecord, free_block, pad, padded};
use crate::format::segment_head::{
    EVICTED_MAX, Eviction, EvictionCause, PRESENT_MAX, RingStatement, Segment, SegmentHead, head_digest,
};
use crate::units::{Boot, Digest};

/// Fewer segments than this and recycling one would throw away too much of what was just recorded.
pub const SEGMENTS_MIN: usize = 4;
/// Files tried for one record before it is dropped: a card that refuses three in a row refuses all.
const TRIES: usize = 3;

/// Why a record was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendFault {
    /// It cannot fit any segment.
    #[error("a record of {need} bytes does not fit a segment of {size}: raise storage.segment")]
    TooLarge {
        /// Bytes it takes with its padding and the segment's head.
        need: u64,
        /// Bytes of a segment.
        size: u64,
    },
    /// Its tracks make a head that nobody could read again: parameter sets beyond all reason.
    #[error("a segment's head of {len} bytes could not be read again: the camera's parameter sets are too large")]
    Head {
        /// Bytes the head would take.
        len: u64,
    },
    /// Every file that was tried refused it.
    #[error("{0}")]
    Refused(String),
}

/// How large the ring may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingGeometry {
    /// Bytes of a new segment file.
    pub segment: u64,
    /// Bytes all segment files may take together.
    pub budget: u64,
    /// Percent of the budget that pins may hold.
    pub quota: u8,
}

/// The segment being written.
struct CurrentSegment {
    segment: Segment,
    at: u64,
    /// Its first fragment is there, and with it the mark of its head.
    marked: bool,
}

/// The ring.
pub struct Ring {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) geometry: RingGeometry,
    /// Segment files there are, and their length: those of an older `storage.segment` are kept until their turn comes.
    pub(super) files: BTreeMap<u32, u64>,
    /// Files of other cards: their names are taken.
    pub(super) foreign: BTreeSet<u32>,
    card: CardId,
    boot: Boot,
    pub(super) index: Index,
    current: Option<CurrentSegment>,
    next_seq: u64,
    next_lap: u32,
    chain: Digest,
    /// Records on the card, as far as is known.
    present: Ranges,
    /// What went since the last head that is durable: the next one says so.
    gone: Vec<Eviction>,
    /// Files dropped for this run: a flush failed on them, or they refused twice what another file then took.
    pub(super) quarantined: BTreeSet<u32>,
    /// Files that refused the write in hand: passed over for it. Only when another takes it was it the file, and not the card.
    pub(super) refused: BTreeSet<u32>,
    /// Files that were to blame once.
    blamed: BTreeSet<u32>,
    /// What the card said last.
    pub(super) last_fault: String,
    /// The card takes nothing any more: only files in memory are written ([`super::fallback`]).
    pub(super) in_memory: bool,
    /// How large it should be, while the card has no room.
    pub(super) growth: Growth,
    /// Who wants what kept.
    pub pins: Pins,
    /// Counters.
    pub counts: StorageCounts,
}

impl Ring {
    /// Takes over what recovery found in `durable_files` (number and length of each).
    pub fn new(
        disk: Arc<dyn Disk>,
        found: &mut Recovery,
        boot: Boot,
        geometry: RingGeometry,
        mut files: BTreeMap<u32, u64>,
    ) -> Ring {
        let foreign = std::mem::take(&mut found.foreign);
        files.retain(|file, _| !foreign.contains(file));
        let index = std::mem::take(&mut found.index);
        let aside = index.aside().iter().map(|aside| aside.lap).filter(|lap| *lap < u32::MAX);
        let next_lap = index.live().iter().map(|segment| segment.head.lap).chain(aside).max().unwrap_or(0) + 1;
        let newest = index.live().last().cloned();
        let marked = found.marked;
        let current = newest.zip(found.open_at).map(|(segment, at)| CurrentSegment { segment, at, marked });
        Ring {
            disk,
            geometry,
            files,
            foreign,
            card: found.card,
            boot,
            index,
            current,
            next_seq: found.next_seq,
            next_lap,
            chain: found.chain,
            present: std::mem::take(&mut found.present),
            gone: std::mem::take(&mut found.missing),
            quarantined: BTreeSet::new(),
            refused: BTreeSet::new(),
            blamed: BTreeSet::new(),
            last_fault: String::new(),
            in_memory: false,
            growth: Growth::new(geometry.budget),
            pins: Pins::default(),
            counts: StorageCounts { budget: geometry.budget, ..StorageCounts::default() },
        }
    }

    /// Changes how many bytes the ring may take. A smaller ring is reached when the next segment begins, oldest footage first;
    /// pinned footage keeps its rights.
    pub fn resize(&mut self, budget: u64, quota: u8) {
        self.geometry.quota = quota;
        if !self.in_memory {
            (self.geometry.budget, self.counts.budget) = (budget, budget);
            self.growth = Growth::new(budget);
        }
    }

    /// Goes on in memory, because the card takes nothing any more: footage on the card stays readable and is never evicted.
    pub fn go_to_memory(&mut self) {
        let segment = self.geometry.segment.min(MEMORY_MAX / SEGMENTS_MIN as u64);
        let budget = MEMORY_MAX.min(self.geometry.budget) / segment * segment;
        (self.in_memory, self.current) = (true, None);
        self.geometry = RingGeometry { segment, budget, ..self.geometry };
        self.counts.budget = budget;
    }

    /// Bytes of segment files written over the life of this ring, to one segment: every begun segment has a lap of its own.
    pub fn lifetime(&self) -> u64 {
        u64::from(self.next_lap - 1) * self.geometry.segment
    }

    /// Number of the newest record, 0 when there is none.
    pub fn newest(&self) -> u64 {
        self.next_seq - 1
    }

    /// What is in the ring.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// How the clocks of each start are read.
    pub fn dates_mut(&mut self) -> &mut ClockHistory {
        &mut self.index.clock_history
    }

    /// True when recording goes on in memory only.
    pub fn is_in_memory(&self) -> bool {
        self.in_memory
    }

    /// Refuses locks that together would hold more of the ring than pins may.
    ///
    /// # Errors
    /// Says how many bytes they hold and how many they may.
    pub fn afford<'a>(&self, locks: impl Iterator<Item = &'a Lock>) -> Result<(), String> {
        let locks: Vec<&Lock> = locks.collect();
        let held = |at: &usize| {
            let (first, last) = (self.index.live()[*at].head.first_seq, self.index.last_seq(*at, self.newest()));
            locks.iter().any(|lock| lock.first <= last && first <= lock.last)
        };
        let bytes: u64 = (0..self.index.live().len()).filter(held).map(|at| self.index.live()[at].head.size).sum();
        let most = self.geometry.budget / 100 * u64::from(self.geometry.quota);
        match bytes <= most {
            true => Ok(()),
            false => Err(format!("all locks together would hold {bytes} bytes of the ring, and storage.pin_quota allows {most}")),
        }
    }

    /// True when a gap record can be written without knowing the tracks.
    pub fn is_open(&self) -> bool {
        self.current.is_some()
    }

    /// Sample bytes that surely fit in one fragment.
    pub fn room(&self) -> usize {
        (self.geometry.segment / 2) as usize
    }

    /// The track layout a fragment with `tracks` will be written under: the current segment's where it covers them.
    pub fn layout_for(&self, tracks: &[Arc<TrackParams>]) -> Vec<Arc<TrackParams>> {
        match &self.current {
            Some(current) if covers(&current.segment.head.tracks, tracks) => current.segment.head.tracks.clone(),
            _ => tracks.to_vec(),
        }
    }

    /// Writes one record and flushes it. When this returns `Ok`, the record survives a power cut. `tracks` is empty for a gap
    /// record.
    ///
    /// # Errors
    /// Why no file took it; each refusal has been reported as [`StorageUpdate::Trouble`].
    pub fn append(
        &mut self,
        draft: &NewFragment<'_>,
        tracks: &[Arc<TrackParams>],
        out: &mut Vec<StorageUpdate>,
    ) -> Result<u64, AppendFault> {
        let content = Digest::of(draft.content);
        // A gap record goes where footage of the same tracks goes, also when it has to go to another file.
        let open = self.current.as_ref().filter(|_| tracks.is_empty()).map(|current| current.segment.head.tracks.clone());
        let tracks = open.as_deref().unwrap_or(tracks);
        let mut reason = String::new();
        for _ in 0..TRIES {
            let head = self.place_fragment(draft, tracks)?;
            let placed = head.map_or(Ok(()), |head| self.start_segment(head, out));
            match placed.and_then(|()| self.write(draft, content)) {
                Ok(seq) => {
                    self.blame();
                    return Ok(seq);
                }
                Err(fault) => {
                    reason = fault.to_string();
                    out.push(StorageUpdate::Trouble { detail: format!("{reason}: trying another file"), lost: false });
                    self.abandon_segment(&fault);
                }
            }
        }
        self.refused.clear();
        Err(AppendFault::Refused(reason))
    }

    /// Where a draft would go: `None` for the current segment, else the head of the next.
    ///
    /// # Errors
    /// [`AppendFault::TooLarge`].
    pub fn place_fragment(
        &self,
        draft: &NewFragment<'_>,
        tracks: &[Arc<TrackParams>],
    ) -> Result<Option<SegmentHead>, AppendFault> {
        if self.has_place(draft, tracks) {
            return Ok(None);
        }
        let (head, head_len) = self.next_head(draft, tracks);
        if !head.is_readable() {
            return Err(AppendFault::Head { len: head_len });
        }
        let (need, size) = (head_len + padded_len(draft), head.end());
        if need > size { Err(AppendFault::TooLarge { need, size }) } else { Ok(Some(head)) }
    }

    /// True when the current segment has room and the right tracks.
    fn has_place(&self, draft: &NewFragment<'_>, tracks: &[Arc<TrackParams>]) -> bool {
        let need = padded_len(draft);
        self.current.as_ref().is_some_and(|CurrentSegment { segment: Segment { head, end, .. }, at, .. }| {
            // Pictures that come late, behind their sound, may lie before the begin of a file that began with the sound.
            covers(&head.tracks, tracks) && at + need <= *end && start_of(draft) >= head.media
        })
    }

    /// The head of the segment that would begin with `draft`, its file and what goes for it still to be chosen, and the length it
    /// has at most.
    fn next_head(&self, draft: &NewFragment<'_>, tracks: &[Arc<TrackParams>]) -> (SegmentHead, u64) {
        let head = SegmentHead {
            card: self.card,
            segment: 0,
            lap: self.next_lap,
            boot: self.boot,
            first_seq: self.next_seq,
            previous: self.chain,
            start: draft.start,
            media: start_of(draft),
            size: self.geometry.segment,
            tracks: tracks.to_vec(),
            statement: self.largest_statement(),
        };
        let len = head.encode().len() as u64;
        (head, len)
    }

    /// Begins a segment with `segment_head` over a file that may be overwritten.
    fn start_segment(&mut self, head: SegmentHead, out: &mut Vec<StorageUpdate>) -> Result<(), DiskFault> {
        self.current = None;
        let (file, cause) = self.next_file(out)?;
        let old = self.index.live().iter().position(|old| old.head.segment == file);
        let (went, old_len) = match old {
            Some(at) => (Some(self.numbers_of(at)), self.index.live()[at].head_len),
            None => (None, 0),
        };
        let statement = self.statement(went.map(|(first, last)| Eviction { cause, first, last }));
        let head = SegmentHead { segment: file, statement, ..head };
        self.next_lap += 1;
        let (mut bytes, copy, end) = (head.encode(), head.encode_copy(), head.end());
        let head_len = bytes.len() as u64;
        bytes.extend(free_block(end - head_len));
        let layout = head_digest(&head.tracks);
        let segment = Segment { head: Arc::new(head), head_len, end, layout, named: file };
        self.current = Some(CurrentSegment { segment: segment.clone(), at: head_len, marked: false });
        self.write_bytes(file, end, &copy)?;
        if old.is_some() || self.is_used(file) {
            // What goes is on record before anything of it does.
            self.flush(file)?;
            if let Some((first, last)) = went {
                self.go(Eviction { cause, first, last });
            }
            self.index.forget(file);
            self.index.add_blank(file);
            // The old head goes first, all of it: a tear of the write below would leave it in front of records that are half
            // overwritten, and nobody could tell them from damaged ones.
            self.write_bytes(file, 0, &free_of(old_len))?;
            self.flush(file)?;
        }
        // The flush of its first record makes it durable too: before that it holds nothing anybody was reported of.
        self.write_bytes(file, 0, &bytes)?;
        self.index.forget(file);
        self.index.add(segment);
        Ok(())
    }

    /// True when something lies at the begin of a file without footage: a copy somebody made, a head that nobody can read.
    fn is_used(&self, file: u32) -> bool {
        self.disk.read(FileId::Segment(file), 0, 8).is_ok_and(|bytes| bytes.iter().any(|byte| *byte != 0))
    }

    /// Records of a segment: from its first to the one before the next.
    pub(super) fn numbers_of(&self, at: usize) -> (u64, u64) {
        let (first, last) = (self.index.live()[at].head.first_seq, self.index.last_seq(at, self.newest()));
        // What lies behind a pinned one may have been evicted long ago.
        let stretch = self.present.list().iter().find(|(from, to)| *from <= first && first <= *to);
        (first, stretch.map_or(last, |(_, to)| last.min(*to)))
    }

    /// Records went; the next head says so.
    pub(super) fn go(&mut self, evicted: Eviction) {
        if self.in_memory || evicted.last < evicted.first {
            return;
        }
        self.present.remove(evicted.first, evicted.last);
        let full = self.gone.len() >= EVICTED_MAX;
        match self.gone.last_mut() {
            Some(last) if full || last.cause == evicted.cause && last.last + 1 == evicted.first => last.last = evicted.last,
            _ => self.gone.push(evicted),
        }
    }

    /// What the next head says of the ring, when `stopping` goes for it.
    fn statement(&self, going: Option<Eviction>) -> RingStatement {
        if self.in_memory {
            return RingStatement::default();
        }
        let (mut present, mut evicted) = (self.present.clone(), self.gone.clone());
        if let Some(going) = going.filter(|going| going.first <= going.last) {
            present.remove(going.first, going.last);
            evicted.truncate(EVICTED_MAX - 1);
            evicted.push(going);
        }
        let older = present.list().len().saturating_sub(PRESENT_MAX);
        RingStatement { evicted, present: present.list()[older..].to_vec() }
    }

    /// One that is as long as any [`Ring::statement`] of now: what goes may split a stretch.
    fn largest_statement(&self) -> RingStatement {
        let mut largest = self.statement(Some(Eviction { cause: EvictionCause::Oldest, first: u64::MAX, last: u64::MAX }));
        largest.present.resize((largest.present.len() + 1).min(PRESENT_MAX), (0, 0));
        largest
    }

    /// Writes the record at the end of the current segment.
    fn write(&mut self, draft: &NewFragment<'_>, content: Digest) -> Result<u64, DiskFault> {
        let Some(CurrentSegment { segment, at, marked }) = &self.current else {
            return Err(DiskFault { file: "ring".into(), what: "write", offset: 0, reason: "no segment is open".into() });
        };
        let (file, at, begins) = (segment.head.segment, *at, draft.gap.is_none() && !marked);
        let NewFragment { start, key, payload, media, lead, duration, gap, .. } = draft.clone();
        let len = (RECORD_BOX + draft.content.len()) as u32;
        let (seq, lap, boot, previous) = (self.next_seq, segment.head.lap, self.boot, self.chain);
        let (head, mark) = (segment.layout, if begins { segment.written().mark() } else { [0; MARK] });
        let record =
            RingRecord { seq, lap, boot, len, start, key, payload, media, lead, duration, gap, mark, previous, content, head };
        let scales: Vec<u32> = segment.head.tracks.iter().map(|track| track.timescale).collect();
        let mut placed = draft.content.to_vec();
        move_times(&mut placed, &scales, media, segment.head.media);
        let mut bytes = record.encode(&placed);
        bytes.append(&mut placed);
        pad(&mut bytes);
        let end = at + bytes.len() as u64;
        bytes.extend(free_block(segment.end - end));
        self.write_bytes(file, at, &bytes)?;
        self.flush(file)?;
        if !self.in_memory {
            self.present.add(seq, seq);
            self.gone.clear();
        }
        (self.next_seq, self.chain) = (self.next_seq + 1, record.link());
        self.counts.payload += u64::from(payload);
        if let Some(current) = &mut self.current {
            (current.at, current.marked) = (end, current.marked || begins);
        }
        Ok(seq)
    }

    /// Writes and counts.
    fn write_bytes(&mut self, file: u32, at: u64, bytes: &[u8]) -> Result<(), DiskFault> {
        self.disk.write(FileId::Segment(file), at, bytes)?;
        self.counts.written += bytes.len() as u64;
        Ok(())
    }

    /// Flushes and counts.
    fn flush(&mut self, file: u32) -> Result<(), DiskFault> {
        self.counts.syncs += 1;
        self.disk.sync(FileId::Segment(file))
    }

    /// Leaves the current file. After a failed flush nobody knows what is on it, so that is final; a refused write has changed
    /// nothing that counts, and may be refused by the card as a whole.
    fn abandon_segment(&mut self, fault: &DiskFault) {
        self.last_fault = fault.to_string();
        let Some(current) = self.current.take() else {
            return;
        };
        let file = current.segment.head.segment;
        if fault.what == "flush" {
            self.quarantined.insert(file);
        } else {
            self.refused.insert(file);
        }
    }

    /// A write was taken: the files that refused it are to blame.
    fn blame(&mut self) {
        for file in std::mem::take(&mut self.refused) {
            if !self.blamed.insert(file) {
                self.quarantined.insert(file);
            }
        }
    }
}

/// Zeros over a head of so many bytes, a block at least.
fn free_of(head_len: u64) -> Vec<u8> {
    vec![0; head_len.max(BLOCK) as usize]
}

/// Where a draft begins on the media clock, sound or picture.
fn start_of(draft: &NewFragment<'_>) -> u64 {
    draft.media.saturating_sub(u64::from(draft.lead) * 1000)
}

/// Bytes a draft takes with its record and padding.
fn padded_len(draft: &NewFragment<'_>) -> u64 {
    padded((RECORD_BOX + draft.content.len()) as u64)
}

/// True when every track of `tracks` is one of `layout`'s.
fn covers(layout: &[Arc<TrackParams>], tracks: &[Arc<TrackParams>]) -> bool {
    tracks.iter().all(|track| layout.iter().any(|have| have.digest == track.digest && have.kind == track.kind))
}
