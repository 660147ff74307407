//! Damage exclusion: removes unreadable records from a span and adds gaps in their place.

use super::{FootageReader, Gap, GapReason, ReadFault, Span};

impl ReadFault {
    /// The gap reason for a record with this fault.
    pub fn reason(&self) -> GapReason {
        match self {
            ReadFault::Gone(_) => GapReason::EvictedPinned,
            ReadFault::Damaged(_) => GapReason::Damaged,
            ReadFault::Io(_) => GapReason::DiskError,
        }
    }
}

impl Span {
    /// The unreadable records of the span, each with the reason of its gap. Reads every record.
    pub fn unreadable(&self, reader: &dyn FootageReader) -> Vec<(u64, GapReason)> {
        // Retry once: a bus reset fails a single read.
        let read = |fragment| reader.fragment(fragment).or_else(|_| reader.fragment(fragment));
        let faults = self.fragments.iter().filter_map(|fragment| {
            read(fragment).err().map(|fault| (fragment.seq, fault.reason()))
        });
        faults.collect()
    }

    /// Removes records and adds a gap for each. Frames that refer to a removed record stay, and
    /// cannot be decoded until the next key frame. `None` when no footage is left.
    pub fn without(mut self, unreadable: &[(u64, GapReason)]) -> Option<Span> {
        let mut left: Vec<Gap> = Vec::new();
        let reason_of =
            |seq: u64| unreadable.iter().find(|(of, _)| *of == seq).map(|(_, reason)| *reason);
        let mut last = None;
        self.fragments.retain(|fragment| {
            let reason = reason_of(fragment.seq);
            if let Some(reason) = reason {
                let gap = Gap {
                    from: fragment.start,
                    to: fragment.end(),
                    reason,
                    bytes: fragment.len.into(),
                };
                match left.last_mut().filter(|before| last.is_some() && before.reason == reason) {
                    Some(before) => {
                        before.to = gap.to;
                        before.bytes += gap.bytes;
                    }
                    None => left.push(gap),
                }
            }
            last = reason;
            reason.is_none()
        });
        self.damaged.extend(unreadable.iter().map(|(seq, _)| (*seq, *seq)));
        self.damaged.sort_unstable();
        self.gaps.extend(left);
        // The monotonic clock of another boot is no order.
        self.gaps.sort_by_key(|gap| (gap.from.wall, gap.to.wall));
        (!self.fragments.is_empty()).then_some(self)
    }

    /// The gaps that remain when none of these records can be read.
    pub fn lost(&self, unreadable: &[(u64, GapReason)]) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for fragment in &self.fragments {
            let Some((_, reason)) = unreadable.iter().find(|(seq, _)| *seq == fragment.seq) else {
                continue;
            };
            match gaps.last_mut().filter(|before| before.reason == *reason) {
                Some(before) => {
                    before.to = fragment.end();
                    before.bytes += u64::from(fragment.len);
                }
                None => {
                    gaps.push(Gap {
                        from: fragment.start,
                        to: fragment.end(),
                        reason: *reason,
                        bytes: fragment.len.into(),
                    });
                }
            }
        }
        gaps
    }

    /// Removes the records in `missing`, so that a file that was built without them can be built
    /// again.
    pub fn as_before(mut self, missing: &[(u64, u64)]) -> Span {
        self.fragments.retain(|fragment| {
            !missing.iter().any(|(first, last)| (*first..=*last).contains(&fragment.seq))
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::FragmentRef;
    use super::*;
    use crate::units::{Boot, Digest, MonoTime, Timestamp};

    fn span(fragments: &[(u64, bool)]) -> Span {
        let fragment = |(seq, key): &(u64, bool)| FragmentRef {
            seq: *seq,
            segment: 0,
            lap: 1,
            offset: 0,
            len: 100,
            key: *key,
            boot: Boot(1),
            start: Timestamp { mono: MonoTime(seq * 1_000_000), ..Timestamp::default() },
            duration: 1_000_000,
            media: seq * 1_000_000,
            lead: 0,
            base: 0,
            payload: 90,
            layout: Digest::default(),
        };
        let fragments = fragments.iter().map(fragment).collect();
        Span { fragments, tracks: Vec::new(), gaps: Vec::new(), damaged: Vec::new(), more: false }
    }

    fn left(span: &Span) -> (Vec<u64>, Vec<(u64, u64)>) {
        let seqs = span.fragments.iter().map(|fragment| fragment.seq).collect();
        (
            seqs,
            span.gaps
                .iter()
                .map(|gap| (gap.from.mono.0 / 1_000_000, gap.to.mono.0 / 1_000_000))
                .collect(),
        )
    }

    #[test]
    fn damage_costs_its_record_and_becomes_a_gap() {
        let bad = [(5, GapReason::Damaged)];
        let whole = span(&[(4, true), (5, false), (6, true), (7, false)]);
        let rest = whole.clone().without(&bad).unwrap();
        assert_eq!(left(&rest), (vec![4, 6, 7], vec![(5, 6)]));
        assert_eq!(
            (rest.damaged.clone(), rest.gaps[0].reason, rest.gaps[0].bytes),
            (vec![(5, 5)], GapReason::Damaged, 100)
        );
        assert_eq!(whole.as_before(&[(5, 5)]).fragments, rest.fragments);
    }

    #[test]
    fn adjacent_damaged_records_form_one_gap() {
        let rest =
            span(&[(4, true), (5, false), (6, true)]).without(&[(4, GapReason::Damaged)]).unwrap();
        assert_eq!(left(&rest), (vec![5, 6], vec![(4, 5)]));
        let both = [(5, GapReason::Damaged), (6, GapReason::Damaged)];
        assert_eq!(
            left(&span(&[(4, true), (5, false), (6, true)]).without(&both).unwrap()),
            (vec![4], vec![(5, 7)])
        );
        assert!(span(&[(4, true)]).without(&[(4, GapReason::Damaged)]).is_none());
    }
}
