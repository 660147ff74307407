//! Ring statement: what a segment head states about present and evicted records.

use super::ring::Ring;
use crate::format::segment_head::{
    EVICTED_MAX, Eviction, EvictionCause, PRESENT_MAX, RingStatement,
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

    /// What the next head states about the ring when `leaving` is evicted for it.
    pub(super) fn statement(&self, leaving: Option<Eviction>) -> RingStatement {
        if self.in_memory {
            return RingStatement::default();
        }
        let (mut present, mut evicted) = (self.present.clone(), self.gone.clone());
        if let Some(leaving) = leaving.filter(|leaving| leaving.first <= leaving.last) {
            present.remove(leaving.first, leaving.last);
            evicted.truncate(EVICTED_MAX - 1);
            evicted.push(leaving);
        }
        let older = present.list().len().saturating_sub(PRESENT_MAX);
        RingStatement { evicted, present: present.list()[older..].to_vec() }
    }

    /// A statement at least as long as any current [`Ring::statement`]: an eviction may split a
    /// stretch.
    pub(super) fn largest_statement(&self) -> RingStatement {
        let mut largest = self.statement(Some(Eviction {
            cause: EvictionCause::Oldest,
            first: u64::MAX,
            last: u64::MAX,
        }));
        largest.present.resize((largest.present.len() + 1).min(PRESENT_MAX), (0, 0));
        largest
    }
}
