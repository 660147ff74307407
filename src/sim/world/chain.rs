//! Chain check of a simulated world: segments of the ring are continuous in numbers and digests.

use super::World;
use crate::storage::footage_query::locate;
use crate::storage::head_selection::{Heads, heads};
use crate::storage::scan::{ScanDepth, ScanItem, walk};
use crate::storage::{FragmentRef, Gap, GapReason, SpanQuery};
use crate::units::Digest;

impl World {
    /// Scans the ring.
    pub(super) fn check_chain(&mut self) {
        let Ok(Heads { index, .. }) = heads(&self.disk) else {
            return;
        };
        let mut next: Option<(u64, Digest)> = None;
        for (at, segment) in index.live().iter().enumerate() {
            // Higher numbers mean that records between were evicted while older footage was pinned.
            let follows = |(seq, chain)| {
                segment.head.first_seq > seq
                    || (segment.head.first_seq, segment.head.previous) == (seq, chain)
            };
            if next.is_some_and(|expected| !follows(expected)) {
                self.wrongs.push(format!(
                    "segment {} does not continue numbers and chain",
                    segment.head.segment
                ));
            }
            let Ok(walked) = walk(&self.disk, segment, ScanDepth::Content) else {
                continue;
            };
            let last = index.last_seq(at, u64::MAX);
            let mut kept = walked.found.iter().filter_map(|found| match found {
                ScanItem::Record(_, record) if record.seq <= last => {
                    Some((record.seq + 1, record.link()))
                }
                _ => None,
            });
            next = kept.next_back().or(Some((segment.head.first_seq, segment.head.previous)));
        }
    }

    /// No gap of evicted footage overlaps footage that is still in the ring.
    pub(super) fn check_evicted(&mut self, gap: &Gap) {
        if gap.reason != GapReason::EvictedPinned {
            return;
        }
        let Ok(Heads { index, .. }) = heads(&self.disk) else { return };
        let (from, to) = (gap.from.wall, gap.to.wall.plus_micros(-1));
        let query = SpanQuery::Wall { from, to, after: 0 };
        let Ok(Some(span)) = locate(&self.disk, &index, u64::MAX, &query) else { return };
        let is_inside =
            |part: &&FragmentRef| part.start.wall < gap.to.wall && part.end().wall > from;
        if let Some(part) = span.fragments.iter().find(is_inside) {
            self.wrongs.push(format!("{gap:?} reports record {}, which is there", part.seq));
        }
    }
}
