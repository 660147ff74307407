//! Record inventory: the present and the evicted records, as the next segment head lists them.

use super::locks::Lock;
use super::ring::Ring;
use crate::format::segment_head::{
    EVICTED_MAX, Eviction, EvictionCause, PRESENT_MAX, RecordInventory,
};

impl Ring {
    /// The record numbers of a segment: from its first to the one before the next segment.
    pub(super) fn numbers_of(&self, at: usize) -> (u64, u64) {
        let (first, last) =
            (self.index.live()[at].head.first_seq, self.index.last_seq(at, self.newest()));
        // Records between a pinned segment and the next one may have been evicted long ago.
        let stretch = self.present.list().iter().find(|(from, to)| *from <= first && first <= *to);
        (first, stretch.map_or(last, |(_, to)| last.min(*to)))
    }

    /// Rejects locks that together exceed the pin quota.
    ///
    /// # Errors
    /// Names the bytes they would hold and the limit.
    pub fn check_lock_quota<'a>(
        &self,
        locks: impl Iterator<Item = &'a Lock>,
    ) -> Result<(), String> {
        let locks: Vec<&Lock> = locks.collect();
        let held = |at: &usize| {
            let (first, last) =
                (self.index.live()[*at].head.first_seq, self.index.last_seq(*at, self.newest()));
            locks.iter().any(|lock| lock.first <= last && first <= lock.last)
        };
        let bytes: u64 = (0..self.index.live().len())
            .filter(held)
            .map(|at| self.index.live()[at].head.size)
            .sum();
        let most = self.geometry.budget / 100 * u64::from(self.geometry.quota);
        if bytes > most {
            return Err(format!(
                "all locks together would hold {bytes} bytes; storage.pin_quota allows {most}"
            ));
        }
        Ok(())
    }

    /// Notes an eviction; the next head records it.
    pub(super) fn note_eviction(&mut self, evicted: Eviction) {
        if self.in_memory || evicted.last < evicted.first {
            return;
        }
        self.present.remove(evicted.first, evicted.last);
        let full = self.gone.len() >= EVICTED_MAX;
        match self.gone.last_mut() {
            Some(last) if full || last.cause == evicted.cause && last.last + 1 == evicted.first => {
                last.last = evicted.last
            }
            _ => self.gone.push(evicted),
        }
    }

    /// The inventory of the next head when `leaving` is evicted for it.
    pub(super) fn inventory(&self, leaving: Option<Eviction>) -> RecordInventory {
        if self.in_memory {
            return RecordInventory::default();
        }
        let (mut present, mut evicted) = (self.present.clone(), self.gone.clone());
        if let Some(leaving) = leaving.filter(|leaving| leaving.first <= leaving.last) {
            present.remove(leaving.first, leaving.last);
            evicted.truncate(EVICTED_MAX - 1);
            evicted.push(leaving);
        }
        let older = present.list().len().saturating_sub(PRESENT_MAX);
        RecordInventory { evicted, present: present.list()[older..].to_vec() }
    }

    /// An inventory at least as long as any current [`Ring::inventory`]: an eviction may split a
    /// stretch.
    pub(super) fn largest_inventory(&self) -> RecordInventory {
        let mut largest = self.inventory(Some(Eviction {
            cause: EvictionCause::Oldest,
            first: u64::MAX,
            last: u64::MAX,
        }));
        largest.present.resize((largest.present.len() + 1).min(PRESENT_MAX), (0, 0));
        largest
    }
}
