//! Reuse policy: selects the next file of the ring: a blank, a new, or the oldest unpinned one.

use super::disk::{DiskFault, FileId};
use super::fallback::{MEMORY_FIRST, is_in_memory};
use super::ring::Ring;
use super::ring_geometry::RECYCLED_MIN;
use super::scan::{ScanDepth, ScanItem, walk_past};
use super::{Gap, GapReason, StorageUpdate};
use crate::format::segment_head::{Eviction, EvictionCause};
use crate::units::MonoTime;

impl Ring {
    /// Restores the whole budget once the card has room for two more segments. True if it did.
    pub(super) fn grow(&mut self, now: MonoTime) -> bool {
        let short = self.growth.budget.saturating_sub(self.geometry.budget);
        self.counts.short = if self.in_memory { 0 } else { short };
        if self.counts.short < self.geometry.segment || !self.growth.is_check_due(now) {
            return false;
        }
        if self.disk.available() < 2 * self.geometry.segment {
            return false;
        }
        (self.geometry.budget, self.counts.budget) = (self.growth.budget, self.growth.budget);
        true
    }

    /// Selects the file of the next segment. Deletes files that exceed the budget or have another
    /// length. The footage of the file stays in the index until it is overwritten.
    pub(super) fn next_file(
        &mut self,
        out: &mut Vec<StorageUpdate>,
    ) -> Result<(u32, EvictionCause), DiskFault> {
        loop {
            let blank = self.index.blank().iter().copied().find(|file| self.is_usable(*file));
            let (file, cause) = match blank {
                Some(file) => (file, EvictionCause::Oldest),
                None => match self.create_file(out)? {
                    Some(file) => (file, EvictionCause::Oldest),
                    None => self.evict_oldest(out)?,
                },
            };
            if self.files.get(&file) == Some(&self.geometry.segment)
                && self.allocated() <= self.geometry.budget
            {
                return Ok((file, cause));
            }
            let live = self.index.live();
            let old = live.iter().position(|segment| segment.head.segment == file);
            let loss = old.map_or(Vec::new(), |at| self.loss_of_eviction(at));
            if let Err(fault) = self.disk.remove(FileId::Segment(file)) {
                self.refused.insert(file);
                return Err(fault);
            }
            out.extend(loss.into_iter().map(StorageUpdate::Gap));
            if let Some(at) = old {
                let (first, last) = self.numbers_of(at);
                self.note_eviction(Eviction { cause: EvictionCause::Resized, first, last });
            }
            self.index.forget(file);
            self.files.remove(&file);
        }
    }

    /// The report of a new budget for which the card has no room.
    pub(super) fn lack_of_room(&self, budget: u64) -> Option<StorageUpdate> {
        let whole = budget - budget % self.geometry.segment;
        let wanted = whole.saturating_sub(self.allocated());
        let available = self.disk.available();
        let is_short = wanted > available && !self.in_memory;
        is_short.then_some(StorageUpdate::NoRoom { wanted, available })
    }

    /// Bytes of all segment files on the current medium.
    pub(super) fn allocated(&self) -> u64 {
        self.files
            .iter()
            .filter(|(file, _)| is_in_memory(**file) == self.in_memory)
            .map(|(_, len)| len)
            .sum()
    }

    /// Creates a file if the budget and the card allow it.
    fn create_file(&mut self, out: &mut Vec<StorageUpdate>) -> Result<Option<u32>, DiskFault> {
        if self.allocated() + self.geometry.segment > self.geometry.budget {
            return Ok(None);
        }
        let first = if self.in_memory { MEMORY_FIRST } else { 0 };
        let Some(file) =
            (first..).find(|file| !self.files.contains_key(file) && !self.foreign.contains(file))
        else {
            return Ok(None);
        };
        match self.disk.create(FileId::Segment(file), self.geometry.segment) {
            Ok(()) => {
                self.files.insert(file, self.geometry.segment);
                self.index.add_blank(file);
                self.create_second(file);
                Ok(Some(file))
            }
            Err(fault) if self.files.len() < RECYCLED_MIN => Err(fault),
            Err(fault) => {
                self.geometry.budget = self.allocated();
                self.counts.budget = self.geometry.budget;
                self.growth.refused(self.files.len());
                let detail = format!("{fault}: the ring stays at {} bytes", self.geometry.budget);
                out.push(StorageUpdate::Trouble { detail, lost: false });
                Ok(None)
            }
        }
    }

    /// Makes the second file of a ring with its first, while the card has room: a card that others
    /// fill afterwards can then be recorded on. A refusal is one of the next segment.
    fn create_second(&mut self, first: u32) {
        let (second, size) = (first + 1, self.geometry.segment);
        let known = self.files.contains_key(&second) || self.foreign.contains(&second);
        if self.in_memory || self.files.len() >= RECYCLED_MIN || known {
            return;
        }
        if self.disk.create(FileId::Segment(second), size).is_ok() {
            self.files.insert(second, size);
            self.index.add_blank(second);
        }
    }

    /// Selects the file of the oldest unpinned segment. Releases pins, weakest first, if there is
    /// none or if pins exceed their quota.
    fn evict_oldest(
        &mut self,
        out: &mut Vec<StorageUpdate>,
    ) -> Result<(u32, EvictionCause), DiskFault> {
        let mut cause = EvictionCause::Oldest;
        loop {
            let usable: Vec<usize> = (0..self.index.live().len())
                .filter(|at| self.is_usable(self.file_at(*at)))
                .collect();
            let (pinned, free): (Vec<usize>, Vec<usize>) =
                usable.into_iter().partition(|at| self.is_pinned(*at));
            let held: u64 = pinned.iter().map(|at| self.index.live()[*at].head.size).sum();
            let over = held * 100 > u64::from(self.geometry.quota) * self.geometry.budget;
            // An unreadable file is recycled in its turn, because it holds whole records.
            let aside = self.index.aside().iter().find(|aside| self.is_usable(aside.file));
            let oldest = free.first().map(|at| self.index.live()[*at].head.lap);
            if let Some(aside) = aside.filter(|aside| oldest.is_none_or(|lap| aside.lap < lap)) {
                return Ok((aside.file, EvictionCause::Oldest));
            }
            if let Some(at) = free.first().filter(|_| !over) {
                return Ok((self.file_at(*at), cause));
            }
            let Some(pin) = self.pins.weakest() else {
                let reason = format!(
                    "every file of the ring rejected the write; last error: {}",
                    self.last_fault
                );
                return Err(DiskFault {
                    file: "ring".into(),
                    what: "write",
                    offset: 0,
                    reason,
                    gone: false,
                });
            };
            self.pins.drop_over_quota(pin);
            cause = EvictionCause::Pinned;
            out.push(StorageUpdate::PinLost { pin });
        }
    }

    fn file_at(&self, at: usize) -> u32 {
        self.index.live()[at].head.segment
    }

    /// True for a file that may be written since this boot.
    fn is_usable(&self, file: u32) -> bool {
        !self.refused.contains(&file)
            && !self.quarantined.contains(&file)
            && is_in_memory(file) == self.in_memory
    }

    /// True when a file without footage is not blank: it holds a duplicate or an unreadable head.
    pub(super) fn is_used(&self, file: u32) -> bool {
        self.disk
            .read(FileId::Segment(file), 0, 8)
            .is_ok_and(|bytes| bytes.iter().any(|byte| *byte != 0))
    }

    pub(super) fn is_pinned(&self, at: usize) -> bool {
        self.pins
            .holds(self.index.live()[at].head.first_seq, self.index.last_seq(at, self.newest()))
    }

    /// The gaps that the eviction of a segment leaves in dropped pins: one for each stretch of records
    /// that are still needed. Must be asked while the file holds them.
    pub(super) fn loss_of_eviction(&self, at: usize) -> Vec<Gap> {
        let (segment, (first, last)) = (&self.index.live()[at], self.numbers_of(at));
        if !self.pins.is_any_dropped(first, last) {
            return Vec::new();
        }
        let mut gaps: Vec<(u64, Gap)> = Vec::new();
        for found in walk_past(self.disk.as_ref(), segment, ScanDepth::Records).found {
            let ScanItem::Record(_, record) = found else { continue };
            let is_lost = record.gap().is_none() && record.seq <= last;
            if !is_lost || !self.pins.is_any_dropped(record.seq, record.seq) {
                continue;
            }
            let date = |stamp| self.index.clock_history.date(record.boot, stamp);
            let (from, to, bytes) = (date(record.start), date(record.end()), record.len.into());
            match gaps.last_mut().filter(|(before, _)| before + 1 == record.seq) {
                Some((before, gap)) => {
                    *before = record.seq;
                    gap.to = to;
                    gap.bytes += bytes;
                }
                None => {
                    let reason = GapReason::EvictedPinned;
                    gaps.push((record.seq, Gap { from, to, reason, bytes }));
                }
            }
        }
        gaps.into_iter().map(|(_, gap)| gap.in_order()).collect()
    }

    /// Bytes of segments with footage.
    pub fn used_bytes(&self) -> u64 {
        self.index.live().iter().map(|segment| segment.head.size).sum()
    }

    /// Bytes of pinned segments.
    pub fn pinned_bytes(&self) -> u64 {
        let live = self.index.live();
        (0..live.len()).filter(|at| self.is_pinned(*at)).map(|at| live[at].head.size).sum()
    }
}
