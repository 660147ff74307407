//! Appending to the ring: which file is written, when the next is begun, what is evicted for it.
//!
//! What belongs here: one append from record to flush, recycling, quarantine. What does not: what is appended and why.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::boxes::move_times;
use super::disk::{Disk, DiskFault, FileId};
use super::format::{RECORD_BOX, Record, SegmentHead, free_block, layout_of, pad, padded};
use super::index::{Index, Segment};
use super::pins::Pins;
use super::recovery::Recovery;
use super::{Gap, GapReason, StorageCounts, StorageNews};
use crate::camera::TrackParams;
use crate::units::{Boot, Digest, Stamp};

/// Fewer segments than this and recycling one would throw away too much of what was just recorded.
pub const SEGMENTS_MIN: u32 = 4;
/// Files tried for one record before it is given up: a card that refuses three in a row refuses all.
const TRIES: usize = 3;

/// What a new record says, before it has a number and a place.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    /// See [`Record`].
    pub start: Stamp,
    /// See [`Record`].
    pub key: bool,
    /// See [`Record`].
    pub payload: u32,
    /// See [`Record`].
    pub media: u64,
    /// See [`Record`].
    pub lead: u16,
    /// See [`Record`].
    pub duration: u64,
    /// See [`Record`].
    pub gap: Option<(Stamp, GapReason, u64)>,
    /// `moof` and `mdat` with decode times that count from `media`; empty for a gap record.
    pub content: &'a [u8],
}

/// The segment being written.
struct Current {
    segment: Segment,
    at: u64,
}

/// The ring.
pub struct Ring {
    disk: Arc<dyn Disk>,
    size: u64,
    /// Files the budget allows.
    count: u32,
    /// Files that exist.
    made: u32,
    boot: Boot,
    index: Index,
    current: Option<Current>,
    next_seq: u64,
    next_lap: u32,
    chain: Digest,
    /// Files a flush failed on: not written again in this run.
    quarantined: BTreeSet<u32>,
    quota: u8,
    /// Who wants what kept.
    pub pins: Pins,
    /// Counters.
    pub counts: StorageCounts,
}

impl Ring {
    /// Takes over what recovery found. `count` files of `size` bytes are allowed, `made` exist, `quota` is percent of pins.
    pub fn new(disk: Arc<dyn Disk>, found: &mut Recovery, boot: Boot, geometry: (u64, u32, u32), quota: u8) -> Ring {
        let (size, count, made) = geometry;
        let index = std::mem::take(&mut found.index);
        let next_lap = index.live().iter().map(|segment| segment.head.lap).max().unwrap_or(0) + 1;
        let newest = index.live().last().cloned();
        let current = newest.zip(found.open_at).map(|(segment, at)| Current { segment, at });
        let counts = StorageCounts { budget: u64::from(count) * size, ..StorageCounts::default() };
        Ring {
            disk,
            size,
            count,
            made,
            boot,
            index,
            current,
            next_seq: found.next_seq,
            next_lap,
            chain: found.chain,
            quarantined: BTreeSet::new(),
            quota,
            pins: Pins::default(),
            counts,
        }
    }

    /// Number of the newest record, 0 when there is none.
    pub fn newest(&self) -> u64 {
        self.next_seq - 1
    }

    /// What is in the ring.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// True when a gap record can be written without knowing the tracks.
    pub fn is_open(&self) -> bool {
        self.current.is_some()
    }

    /// Sample bytes that surely fit in one fragment.
    pub fn room(&self) -> usize {
        (self.size / 2) as usize
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
    /// Why no file took it; each refusal has been told as [`StorageNews::Trouble`].
    pub fn append(&mut self, draft: &Draft<'_>, tracks: &[Arc<TrackParams>], out: &mut Vec<StorageNews>) -> Result<u64, String> {
        let content = Digest::of(draft.content);
        let mut reason = String::new();
        for _ in 0..TRIES {
            let written = self.place(draft, tracks, out).and_then(|()| self.write(draft, content));
            match written {
                Ok(seq) => return Ok(seq),
                Err(fault) => {
                    reason = fault.to_string();
                    let detail = format!("{reason}: the file is given up, trying another");
                    out.push(StorageNews::Trouble { detail, lost: false });
                    self.quarantine();
                }
            }
        }
        Err(reason)
    }

    /// Makes sure that the current segment has room and the right tracks.
    fn place(&mut self, draft: &Draft<'_>, tracks: &[Arc<TrackParams>], out: &mut Vec<StorageNews>) -> Result<(), DiskFault> {
        let need = padded((RECORD_BOX + draft.content.len()) as u64);
        let fits = |current: &Current| covers(&current.segment.head.tracks, tracks) && current.at + need <= self.size;
        if self.current.as_ref().is_some_and(fits) {
            return Ok(());
        }
        let tracks = match (tracks.is_empty(), &self.current) {
            (true, Some(current)) => current.segment.head.tracks.clone(),
            _ => tracks.to_vec(),
        };
        self.current = None;
        let file = self.next_file(out)?;
        let head = SegmentHead {
            segment: file,
            lap: self.next_lap,
            boot: self.boot,
            first_seq: self.next_seq,
            previous: self.chain,
            start: draft.start,
            media: draft.media.saturating_sub(u64::from(draft.lead) * 1000),
            size: self.size,
            tracks,
        };
        self.next_lap += 1;
        let mut bytes = head.encode();
        let head_len = bytes.len() as u64;
        let layout = layout_of(&head.tracks);
        let segment = Segment { head: Arc::new(head), head_len, layout };
        if head_len + need > self.size {
            let reason = format!("a record of {need} bytes does not fit a segment of {}", self.size);
            return Err(DiskFault { file: FileId::Segment(file).name(), what: "write", offset: 0, reason });
        }
        bytes.extend(free_block(self.size - head_len));
        self.current = Some(Current { segment: segment.clone(), at: head_len });
        self.flush(file, 0, &bytes)?;
        self.index.add(segment);
        Ok(())
    }

    /// Writes the record at the end of the current segment.
    fn write(&mut self, draft: &Draft<'_>, content: Digest) -> Result<u64, DiskFault> {
        let Some(Current { segment, at }) = &self.current else {
            let reason = "no segment is open".to_owned();
            return Err(DiskFault { file: "ring".into(), what: "write", offset: 0, reason });
        };
        let (file, at) = (segment.head.segment, *at);
        let Draft { start, key, payload, media, lead, duration, gap, .. } = draft.clone();
        let len = (RECORD_BOX + draft.content.len()) as u32;
        let (seq, lap, boot, previous) = (self.next_seq, segment.head.lap, self.boot, self.chain);
        let record = Record { seq, lap, boot, len, start, key, payload, media, lead, duration, gap, previous, content };
        let scales: Vec<u32> = segment.head.tracks.iter().map(|track| track.timescale).collect();
        let mut placed = draft.content.to_vec();
        move_times(&mut placed, &scales, media, segment.head.media);
        let mut bytes = record.encode(&placed);
        bytes.append(&mut placed);
        pad(&mut bytes);
        let end = at + bytes.len() as u64;
        bytes.extend(free_block(self.size - end));
        self.flush(file, at, &bytes)?;
        self.next_seq += 1;
        self.chain = record.link();
        self.counts.payload += u64::from(payload);
        if let Some(current) = &mut self.current {
            current.at = end;
        }
        Ok(seq)
    }

    fn flush(&mut self, file: u32, at: u64, bytes: &[u8]) -> Result<(), DiskFault> {
        let file = FileId::Segment(file);
        self.disk.write(file, at, bytes)?;
        self.counts.written += bytes.len() as u64;
        self.counts.syncs += 1;
        self.disk.sync(file)
    }

    /// Gives the current file up: after a failed flush nobody knows what is on it.
    fn quarantine(&mut self) {
        if let Some(current) = self.current.take() {
            self.quarantined.insert(current.segment.head.segment);
        }
    }

    /// A file to begin: unused, new while the budget allows, else the oldest nobody wants.
    fn next_file(&mut self, out: &mut Vec<StorageNews>) -> Result<u32, DiskFault> {
        while let Some((file, _)) = self.index.take_blank() {
            if !self.quarantined.contains(&file) {
                return Ok(file);
            }
        }
        if self.made < self.count {
            match self.disk.create(FileId::Segment(self.made), self.size) {
                Ok(()) => {
                    self.made += 1;
                    return Ok(self.made - 1);
                }
                Err(fault) if self.made < SEGMENTS_MIN => return Err(fault),
                Err(fault) => {
                    let detail = format!("{fault}: the ring stays at {} of {} segments", self.made, self.count);
                    out.push(StorageNews::Trouble { detail, lost: false });
                    self.count = self.made;
                    self.counts.budget = u64::from(self.made) * self.size;
                }
            }
        }
        self.evict(out)
    }

    /// Takes the oldest segment nobody wants out of the ring; gives pins up, weakest first, when there is none or when pins
    /// hold more than their quota.
    fn evict(&mut self, out: &mut Vec<StorageNews>) -> Result<u32, DiskFault> {
        loop {
            let free: Vec<usize> = (0..self.index.live().len()).filter(|at| self.is_evictable(*at)).collect();
            let pinned: Vec<usize> = free.iter().copied().filter(|at| self.is_pinned(*at)).collect();
            let over = pinned.len() as u64 * 100 > u64::from(self.quota) * u64::from(self.count);
            let victim = free.iter().copied().find(|at| !pinned.contains(at));
            if let Some(at) = victim.filter(|_| !over) {
                return Ok(self.index.remove(at).head.segment);
            }
            let Some((pin, first, last)) = self.pins.weakest() else {
                let reason = "every file of the ring has been given up".to_owned();
                return Err(DiskFault { file: "ring".into(), what: "write", offset: 0, reason });
            };
            self.pins.remove(pin);
            out.push(StorageNews::PinLost { pin });
            out.extend(self.span_of(first, last).map(StorageNews::Hole));
        }
    }

    fn is_evictable(&self, at: usize) -> bool {
        !self.quarantined.contains(&self.index.live()[at].head.segment)
    }

    fn is_pinned(&self, at: usize) -> bool {
        self.pins.hold(self.index.live()[at].head.first_seq, self.index.last_seq(at, self.newest()))
    }

    /// The time a given-up pin covered, as a hole that names why.
    fn span_of(&self, first: u64, last: u64) -> Option<Gap> {
        let live = self.index.live();
        let holds = |at: &usize| live[*at].head.first_seq <= last && self.index.last_seq(*at, self.newest()) >= first;
        let from = (0..live.len()).find(holds)?;
        let to = (0..live.len()).rev().find(holds)?;
        let end = live.get(to + 1).map_or(live[to].head.start, |next| next.head.start);
        Some(Gap { from: live[from].head.start, to: end, reason: GapReason::EvictedWanted, bytes: 0 })
    }

    /// Bytes of segments with footage, and of those that are pinned.
    pub fn usage(&self) -> (u64, u64) {
        let live = self.index.live().len();
        let pinned = (0..live).filter(|at| self.is_pinned(*at)).count();
        (live as u64 * self.size, pinned as u64 * self.size)
    }
}

/// True when every track of `tracks` is one of `layout`'s.
fn covers(layout: &[Arc<TrackParams>], tracks: &[Arc<TrackParams>]) -> bool {
    tracks.iter().all(|track| layout.iter().any(|have| have.digest == track.digest && have.kind == track.kind))
}
