//! Ring of segment files: appends records, starts segments and records evictions.
//!
//! `super::reuse_policy` selects the file of the next segment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::clock_history::ClockHistory;
use super::disk::{Disk, DiskFault, FileId};
use super::fallback::MEMORY_MAX;
use super::fragment::NewFragment;
use super::pins::Pins;
use super::range_set::Ranges;
use super::recovery::Recovery;
use super::ring_geometry::{
    RingGeometry, SEGMENTS_MIN, covers, free_of, head_tracks, padded_len, start_of,
};
use super::ring_growth::Growth;
use super::segment_index::Index;
use super::{StorageCounts, StorageUpdate};
use crate::camera::TrackParams;
use crate::format::block::{free_block, pad};
use crate::format::card_id::CardId;
use crate::format::mp4::move_times;
use crate::format::record::{MARK, RECORD_BOX, RingRecord};
use crate::format::segment_head::{Eviction, Segment, SegmentHead, head_digest};
use crate::units::{Boot, Digest};

/// Files tried for one record before it is dropped. A card that rejects three in a row rejects all.
const TRIES: usize = 3;

/// Reason why a record was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendFault {
    /// The record does not fit any segment.
    #[error("a record of {need} bytes does not fit a segment of {size}: raise storage.segment")]
    TooLarge {
        /// Bytes of the record, its padding and the segment head.
        need: u64,
        /// Bytes of a segment.
        size: u64,
    },
    /// The tracks need a head larger than the format allows; the camera sends invalid parameter
    /// sets.
    #[error(
        "a segment head of {len} bytes exceeds the format: the camera's parameter sets are too large"
    )]
    Head {
        /// Bytes of that head.
        len: u64,
    },
    /// Every file that was tried rejected the record.
    #[error("{0}")]
    Refused(String),
}

/// The segment that is being written.
struct CurrentSegment {
    segment: Segment,
    at: u64,
    /// True once its first fragment, which carries the mark of the head, is written.
    marked: bool,
}

/// The segment files and the state of the append position.
pub struct Ring {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) geometry: RingGeometry,
    /// Existing segment files and their lengths. Files of an older `storage.segment` are kept until
    /// they are recycled.
    pub(super) files: BTreeMap<u32, u64>,
    /// Numbers of files of other cards; they are never written.
    pub(super) foreign: BTreeSet<u32>,
    card: CardId,
    boot: Boot,
    pub(super) index: Index,
    current: Option<CurrentSegment>,
    next_seq: u64,
    next_lap: u32,
    chain: Digest,
    /// Records on the card, as far as the heads say.
    pub(super) present: Ranges,
    /// Evictions since the last durable head; the next head records them.
    pub(super) gone: Vec<Eviction>,
    /// Files excluded until restart, because a flush failed or they twice rejected a write that
    /// another file accepted.
    pub(super) quarantined: BTreeSet<u32>,
    /// Files that rejected the current write. They are to blame only if another file accepts it.
    pub(super) refused: BTreeSet<u32>,
    /// Files that were to blame once.
    blamed: BTreeSet<u32>,
    /// The last error of the card.
    pub(super) last_fault: String,
    /// True when the card rejects writes and only files in memory are written
    /// ([`super::fallback`]).
    pub(super) in_memory: bool,
    /// The configured budget, while the card has no room for it.
    pub(super) growth: Growth,
    /// Footage that must not be evicted.
    pub pins: Pins,
    /// Counters since this boot.
    pub counts: StorageCounts,
}

impl Ring {
    /// Continues what recovery found in `files` (number and length of each).
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
        let next_lap =
            index.live().iter().map(|segment| segment.head.lap).chain(aside).max().unwrap_or(0) + 1;
        let newest = index.live().last().cloned();
        let marked = found.marked;
        let current =
            newest.zip(found.open_at).map(|(segment, at)| CurrentSegment { segment, at, marked });
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

    /// Changes the size limits. A smaller ring is reached when the next segment starts; the oldest
    /// footage is evicted first, pinned footage last.
    pub fn resize(&mut self, budget: u64, quota: u8) {
        self.geometry.quota = quota;
        if !self.in_memory {
            self.geometry.budget = budget;
            self.counts.budget = budget;
            self.growth = Growth::new(budget);
        }
    }

    /// Continues in memory because the card rejects writes. Footage on the card stays readable and
    /// is not evicted.
    pub fn switch_to_memory(&mut self) {
        let segment = self.geometry.segment.min(MEMORY_MAX / SEGMENTS_MIN as u64);
        let budget = MEMORY_MAX.min(self.geometry.budget) / segment * segment;
        self.in_memory = true;
        self.current = None;
        self.geometry = RingGeometry { segment, budget, ..self.geometry };
        self.counts.budget = budget;
    }

    /// Bytes written to segment files over the life of the ring, rounded to segments. Each started
    /// segment has its own lap.
    pub fn lifetime(&self) -> u64 {
        u64::from(self.next_lap - 1) * self.geometry.segment
    }

    /// Number of the newest record, 0 if there is none.
    pub fn newest(&self) -> u64 {
        self.next_seq - 1
    }

    /// The segments of the ring.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The clock history, for updates.
    pub fn clock_history_mut(&mut self) -> &mut ClockHistory {
        &mut self.index.clock_history
    }

    /// True when recording continues in memory only.
    pub fn is_in_memory(&self) -> bool {
        self.in_memory
    }

    /// True when a gap record can be written without knowing the tracks.
    pub fn is_open(&self) -> bool {
        self.current.is_some()
    }

    /// The file that is written; `None` if no segment is open.
    pub(super) fn current_file(&self) -> Option<u32> {
        self.current.as_ref().map(|current| current.segment.head.segment)
    }

    /// Ends the current segment if it lies in this file.
    pub(super) fn close_file(&mut self, file: u32) {
        self.current.take_if(|current| current.segment.head.segment == file);
    }

    /// Sample bytes that always fit one fragment.
    pub fn room(&self) -> usize {
        (self.geometry.segment / 2) as usize
    }

    /// The track layout for a fragment with `tracks`: that of the current segment if it covers
    /// them.
    pub fn layout_for(&self, tracks: &[Arc<TrackParams>]) -> Vec<Arc<TrackParams>> {
        match &self.current {
            Some(current) if covers(&current.segment.head.tracks, tracks) => {
                current.segment.head.tracks.clone()
            }
            _ => tracks.to_vec(),
        }
    }

    /// The tracks of a segment that begins with a fragment of `tracks`.
    pub fn head_tracks(&self, tracks: Vec<Arc<TrackParams>>) -> Vec<Arc<TrackParams>> {
        match &self.current {
            Some(current) => head_tracks(&current.segment.head.tracks, tracks),
            None => tracks,
        }
    }

    /// Appends one record and flushes it. The record survives a power cut once this returns `Ok`.
    /// `tracks` is empty for a gap record.
    ///
    /// # Errors
    /// If no file accepted the record. Each rejection was reported as [`StorageUpdate::Trouble`].
    pub fn append(
        &mut self,
        draft: &NewFragment<'_>,
        tracks: &[Arc<TrackParams>],
        out: &mut Vec<StorageUpdate>,
    ) -> Result<u64, AppendFault> {
        let content = Digest::of(draft.content);
        // A gap record keeps the tracks of the open segment, also when it has to move to another
        // file.
        let open = self
            .current
            .as_ref()
            .filter(|_| tracks.is_empty())
            .map(|current| current.segment.head.tracks.clone());
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
                    out.push(self.refusal(&fault));
                    self.abandon_segment(&fault);
                }
            }
        }
        self.refused.clear();
        Err(AppendFault::Refused(reason))
    }

    /// Reports a rejected write. It lost nothing, because another file may take the record, unless
    /// the file itself is gone with its records.
    fn refusal(&self, fault: &DiskFault) -> StorageUpdate {
        let numbers = self.current.as_ref().filter(|_| fault.gone).and_then(|current| {
            let head = &current.segment.head;
            let is_old =
                |old: &Segment| old.head.segment == head.segment && old.head.lap != head.lap;
            match self.index.live().iter().position(is_old) {
                Some(at) => Some(self.numbers_of(at)),
                None => (current.at > current.segment.head_len && self.next_seq > head.first_seq)
                    .then(|| (head.first_seq, self.newest())),
            }
        });
        let lost = numbers.map_or(String::new(), |(first, last)| {
            format!(" its records {first} to {last} count as missing;")
        });
        let detail = format!("{fault}:{lost} trying another file");
        StorageUpdate::Trouble { detail, lost: !lost.is_empty() }
    }

    /// Returns `None` if the draft fits the current segment, else the head of the next segment.
    ///
    /// # Errors
    /// [`AppendFault::TooLarge`] or [`AppendFault::Head`].
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

    /// True when the current segment has room and covers the tracks.
    fn has_place(&self, draft: &NewFragment<'_>, tracks: &[Arc<TrackParams>]) -> bool {
        let need = padded_len(draft);
        self.current.as_ref().is_some_and(
            |CurrentSegment { segment: Segment { head, end, .. }, at, .. }| {
                // A video frame that arrives after its audio may start before a file that began with
                // the audio.
                covers(&head.tracks, tracks) && at + need <= *end && start_of(draft) >= head.media
            },
        )
    }

    /// The head of a segment that begins with `draft`, and its largest length. The file and the
    /// evictions are chosen later.
    fn next_head(
        &self,
        draft: &NewFragment<'_>,
        tracks: &[Arc<TrackParams>],
    ) -> (SegmentHead, u64) {
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
            inventory: self.largest_inventory(),
        };
        let len = head.encode().len() as u64;
        (head, len)
    }

    /// Starts a segment with `head` in a file that may be overwritten.
    fn start_segment(
        &mut self,
        head: SegmentHead,
        out: &mut Vec<StorageUpdate>,
    ) -> Result<(), DiskFault> {
        self.current = None;
        let (file, cause) = self.next_file(out)?;
        let old = self.index.live().iter().position(|old| old.head.segment == file);
        let (went, old_len) = match old {
            Some(at) => (Some(self.numbers_of(at)), self.index.live()[at].head_len),
            None => (None, 0),
        };
        let loss = old.map_or(Vec::new(), |at| self.loss_of_eviction(at));
        let inventory = self.inventory(went.map(|(first, last)| Eviction { cause, first, last }));
        let head = SegmentHead { segment: file, inventory, ..head };
        self.next_lap += 1;
        let (mut bytes, copy, end) = (head.encode(), head.encode_copy(), head.end());
        let head_len = bytes.len() as u64;
        bytes.extend(free_block(end - head_len));
        let layout = head_digest(&head.tracks);
        let segment = Segment { head: Arc::new(head), head_len, end, layout, named: file };
        self.current =
            Some(CurrentSegment { segment: segment.clone(), at: head_len, marked: false });
        self.write_bytes(file, end, &copy)?;
        if old.is_some() || self.is_used(file) {
            // The eviction must be durable before the old footage is overwritten.
            self.flush(file)?;
            if let Some((first, last)) = went {
                self.note_eviction(Eviction { cause, first, last });
            }
            out.extend(loss.into_iter().map(StorageUpdate::Gap));
            self.index.forget(file);
            self.index.add_blank(file);
            // Wipe the old head first. A torn write below would otherwise leave it in front of
            // partly overwritten records, which would look damaged.
            self.write_bytes(file, 0, &free_of(old_len))?;
            self.flush(file)?;
        }
        // The flush of the first record makes the head durable too. Before it, the file holds
        // nothing that was reported.
        self.write_bytes(file, 0, &bytes)?;
        self.index.forget(file);
        self.index.add(segment);
        Ok(())
    }

    /// Writes the record at the end of the current segment.
    fn write(&mut self, draft: &NewFragment<'_>, content: Digest) -> Result<u64, DiskFault> {
        let Some(CurrentSegment { segment, at, marked }) = &self.current else {
            return Err(DiskFault {
                file: "ring".into(),
                what: "write",
                offset: 0,
                reason: "no segment is open".into(),
                gone: false,
            });
        };
        let (file, at, begins) = (segment.head.segment, *at, draft.gap.is_none() && !marked);
        let NewFragment { start, key, payload, media, lead, duration, gap, .. } = draft.clone();
        let len = (RECORD_BOX + draft.content.len()) as u32;
        let (seq, lap, boot, previous) = (self.next_seq, segment.head.lap, self.boot, self.chain);
        let (head, mark) =
            (segment.layout, if begins { segment.written().mark() } else { [0; MARK] });
        let record = RingRecord {
            seq,
            lap,
            boot,
            len,
            start,
            key,
            payload,
            media,
            lead,
            duration,
            gap,
            mark,
            previous,
            content,
            head,
        };
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
        self.next_seq += 1;
        self.chain = record.link();
        self.counts.payload += u64::from(payload);
        if let Some(current) = &mut self.current {
            current.at = end;
            current.marked |= begins;
        }
        Ok(seq)
    }

    /// Writes and counts bytes.
    fn write_bytes(&mut self, file: u32, at: u64, bytes: &[u8]) -> Result<(), DiskFault> {
        self.disk.write(FileId::Segment(file), at, bytes)?;
        self.counts.written += bytes.len() as u64;
        Ok(())
    }

    /// Flushes and counts the flush.
    fn flush(&mut self, file: u32) -> Result<(), DiskFault> {
        self.counts.syncs += 1;
        self.disk.sync(FileId::Segment(file))
    }

    /// Leaves the current file. A failed flush excludes the file until restart, because its content
    /// is unknown. A rejected write changed nothing and may concern the whole card.
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

    /// Another file accepted the write, so the files that rejected it are to blame.
    fn blame(&mut self) {
        for file in std::mem::take(&mut self.refused) {
            if !self.blamed.insert(file) {
                self.quarantined.insert(file);
            }
        }
    }
}
