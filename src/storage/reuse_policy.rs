//! Which file of the ring is written next: unused ones, new ones, then the oldest that nobody wants.
//!
//! What belongs here: that choice, and giving pins up for it. What does not: writing the file ([`super::ring`]).

use super::disk::{DiskFault, FileId};
use super::fallback::{MEMORY_FIRST, is_in_memory};
use super::ring::{Ring, SEGMENTS_MIN};
use super::{Gap, GapReason, StorageUpdate};
use crate::format::segment_head::{Eviction, EvictionCause};
use crate::units::MonoTime;

/// How often room is looked for.
const ROOM_CHECK_INTERVAL: u64 = 60_000_000;
/// Doublings of that at most, while there seems to be room and the card makes no file: about an hour.
const REFUSALS_MAX: u32 = 6;

/// A ring that found no room for all of its budget: files are made again when room comes.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// The budget of the settings.
    budget: u64,
    next_look: MonoTime,
    /// Files there were when one was refused last, and how often in a row none was made.
    files: usize,
    refusals: u32,
}

impl Growth {
    /// Of a ring with this budget.
    pub(super) fn new(budget: u64) -> Growth {
        Growth { budget, ..Growth::default() }
    }

    fn refused(&mut self, files: usize) {
        self.refusals = if files > self.files { 0 } else { (self.refusals + 1).min(REFUSALS_MAX) };
        self.files = files;
    }
}

impl Ring {
    /// Gives the ring its whole budget again when the card has room for another segment and one to spare; true when it did.
    pub(super) fn grow(&mut self, now: MonoTime) -> bool {
        let short = self.growth.budget.saturating_sub(self.geometry.budget);
        self.counts.short = if self.in_memory { 0 } else { short };
        if self.counts.short < self.geometry.segment || now < self.growth.next_look {
            return false;
        }
        self.growth.next_look = now.plus_micros(ROOM_CHECK_INTERVAL << self.growth.refusals);
        if self.disk.available() < 2 * self.geometry.segment {
            return false;
        }
        (self.geometry.budget, self.counts.budget) = (self.growth.budget, self.growth.budget);
        true
    }

    /// A file to begin: unused, new while the budget allows, else the oldest nobody wants. Files beyond the budget and of
    /// another length are taken away on the way. What the file holds stays in the index until it is written over.
    pub(super) fn next_file(&mut self, out: &mut Vec<StorageUpdate>) -> Result<(u32, EvictionCause), DiskFault> {
        loop {
            let blank = self.index.blank().iter().copied().find(|file| self.is_usable(*file));
            let (file, cause) = match blank {
                Some(file) => (file, EvictionCause::Oldest),
                None => match self.make(out)? {
                    Some(file) => (file, EvictionCause::Oldest),
                    None => self.victim(out)?,
                },
            };
            if self.files.get(&file) == Some(&self.geometry.segment) && self.taken() <= self.geometry.budget {
                return Ok((file, cause));
            }
            if let Err(fault) = self.disk.remove(FileId::Segment(file)) {
                self.refused.insert(file);
                return Err(fault);
            }
            if let Some(at) = self.index.live().iter().position(|segment| segment.head.segment == file) {
                let (first, last) = self.numbers_of(at);
                self.go(Eviction { cause: EvictionCause::Resized, first, last });
            }
            self.index.forget(file);
            self.files.remove(&file);
        }
    }

    /// Bytes of all segment files that are ours to write.
    fn taken(&self) -> u64 {
        self.files.iter().filter(|(file, _)| is_in_memory(**file) == self.in_memory).map(|(_, len)| len).sum()
    }

    /// Makes another file where the budget and the card allow one.
    fn make(&mut self, out: &mut Vec<StorageUpdate>) -> Result<Option<u32>, DiskFault> {
        if self.taken() + self.geometry.segment > self.geometry.budget {
            return Ok(None);
        }
        let first = if self.in_memory { MEMORY_FIRST } else { 0 };
        let Some(file) = (first..).find(|file| !self.files.contains_key(file) && !self.foreign.contains(file)) else {
            return Ok(None);
        };
        match self.disk.create(FileId::Segment(file), self.geometry.segment) {
            Ok(()) => {
                self.files.insert(file, self.geometry.segment);
                self.index.add_blank(file);
                Ok(Some(file))
            }
            Err(fault) if self.files.len() < SEGMENTS_MIN => Err(fault),
            Err(fault) => {
                self.geometry.budget = self.taken();
                self.counts.budget = self.geometry.budget;
                self.growth.refused(self.files.len());
                let detail = format!("{fault}: the ring stays at {} bytes", self.geometry.budget);
                out.push(StorageUpdate::Trouble { detail, lost: false });
                Ok(None)
            }
        }
    }

    /// The file of the oldest segment nobody wants; gives pins up, weakest first, when there is none or when pins hold more than
    /// their quota.
    fn victim(&mut self, out: &mut Vec<StorageUpdate>) -> Result<(u32, EvictionCause), DiskFault> {
        let mut cause = EvictionCause::Oldest;
        loop {
            let usable: Vec<usize> = (0..self.index.live().len()).filter(|at| self.is_usable(self.file_at(*at))).collect();
            let (pinned, free): (Vec<usize>, Vec<usize>) = usable.into_iter().partition(|at| self.is_pinned(*at));
            let held: u64 = pinned.iter().map(|at| self.index.live()[*at].head.size).sum();
            let over = held * 100 > u64::from(self.geometry.quota) * self.geometry.budget;
            // One that cannot be read has its turn like the others: whole records lie in it.
            let aside = self.index.aside().iter().find(|aside| self.is_usable(aside.file));
            let oldest = free.first().map(|at| self.index.live()[*at].head.lap);
            if let Some(aside) = aside.filter(|aside| oldest.is_none_or(|lap| aside.lap < lap)) {
                return Ok((aside.file, EvictionCause::Oldest));
            }
            if let Some(at) = free.first().filter(|_| !over) {
                return Ok((self.file_at(*at), cause));
            }
            let Some((pin, first, last)) = self.pins.weakest() else {
                let reason = format!("every file of the ring has been refused; the last fault was: {}", self.last_fault);
                return Err(DiskFault { file: "ring".into(), what: "write", offset: 0, reason });
            };
            self.pins.remove(pin);
            cause = EvictionCause::Wanted;
            out.push(StorageUpdate::PinLost { pin });
            out.extend(self.span_of(first, last).map(StorageUpdate::Hole));
        }
    }

    fn file_at(&self, at: usize) -> u32 {
        self.index.live()[at].head.segment
    }

    /// A file that may be written in this run.
    fn is_usable(&self, file: u32) -> bool {
        !self.refused.contains(&file) && !self.quarantined.contains(&file) && is_in_memory(file) == self.in_memory
    }

    pub(super) fn is_pinned(&self, at: usize) -> bool {
        self.pins.holds(self.index.live()[at].head.first_seq, self.index.last_seq(at, self.newest()))
    }

    /// The time a given-up pin covered, as a gap that names why.
    pub(super) fn span_of(&self, first: u64, last: u64) -> Option<Gap> {
        let live = self.index.live();
        let holds = |at: &usize| live[*at].head.first_seq <= last && self.index.last_seq(*at, self.newest()) >= first;
        let from = (0..live.len()).find(holds)?;
        let to = (0..live.len()).rev().find(holds)?;
        let end = live.get(to + 1).map_or(live[to].head.start, |next| next.head.start);
        Some(Gap { from: live[from].head.start, to: end, reason: GapReason::EvictedPinned, bytes: 0 })
    }

    /// Bytes of segments with footage, and of those that are pinned.
    pub fn usage(&self) -> (u64, u64) {
        let sizes = |at: usize| self.index.live()[at].head.size;
        let live = 0..self.index.live().len();
        (live.clone().map(sizes).sum(), live.filter(|at| self.is_pinned(*at)).map(sizes).sum())
    }
}
