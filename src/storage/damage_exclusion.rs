//! A span without what cannot be read: damage costs the record it hits and no more.
//!
//! What belongs here: leaving records out and naming the gaps. What does not: reading them ([`super::FootageReader`]).

use super::{FootageReader, Gap, GapReason, ReadFault, Span};

impl ReadFault {
    /// What a gap is called that was left by this.
    pub fn reason(&self) -> GapReason {
        match self {
            ReadFault::Gone(_) => GapReason::EvictedPinned,
            ReadFault::Damaged(_) => GapReason::Damaged,
            ReadFault::Io(_) => GapReason::DiskError,
        }
    }
}

impl Span {
    /// The records of it that cannot be read, and what each gap is called. Reads all of them.
    pub fn unreadable(&self, reader: &dyn FootageReader) -> Vec<(u64, GapReason)> {
        // A bus that was reset refuses one read and takes the next.
        let read = |fragment| reader.fragment(fragment).or_else(|_| reader.fragment(fragment));
        let faults =
            self.fragments.iter().filter_map(|fragment| read(fragment).err().map(|fault| (fragment.seq, fault.reason())));
        faults.collect()
    }

    /// Leaves these records out: each is a gap. Pictures that need one of them stay, and cannot be decoded up to the next key frame.
    /// `None` when nothing is left.
    pub fn without(mut self, unreadable: &[(u64, GapReason)]) -> Option<Span> {
        let mut left: Vec<Gap> = Vec::new();
        let reason_of = |seq: u64| unreadable.iter().find(|(of, _)| *of == seq).map(|(_, reason)| *reason);
        let mut last = None;
        self.fragments.retain(|fragment| {
            let reason = reason_of(fragment.seq);
            if let Some(reason) = reason {
                let gap = Gap { from: fragment.start, to: fragment.end(), reason, bytes: fragment.len.into() };
                match left.last_mut().filter(|before| last.is_some() && before.reason == reason) {
                    Some(before) => (before.to, before.bytes) = (gap.to, before.bytes + gap.bytes),
                    None => left.push(gap),
                }
            }
            last = reason;
            reason.is_none()
        });
        self.damaged.extend(unreadable.iter().map(|(seq, _)| (*seq, *seq)));
        self.damaged.sort_unstable();
        self.gaps.extend(left);
        self.gaps.sort_by_key(|gap| (gap.from.mono, gap.to.mono));
        (!self.fragments.is_empty()).then_some(self)
    }

    /// The gaps that take its footage when none of these records can be read.
    pub fn lost(&self, unreadable: &[(u64, GapReason)]) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for fragment in &self.fragments {
            let Some((_, reason)) = unreadable.iter().find(|(seq, _)| *seq == fragment.seq) else { continue };
            match gaps.last_mut().filter(|before| before.reason == *reason) {
                Some(before) => (before.to, before.bytes) = (fragment.end(), before.bytes + u64::from(fragment.len)),
                None => {
                    gaps.push(Gap { from: fragment.start, to: fragment.end(), reason: *reason, bytes: fragment.len.into() });
                }
            }
        }
        gaps
    }

    /// Leaves out what a file was made without: the records in `missing`. So it can be made again as it was.
    pub fn as_before(mut self, missing: &[(u64, u64)]) -> Span {
        self.fragments.retain(|fragment| !missing.iter().any(|(first, last)| (*first..=*last).contains(&fragment.seq)));
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
        (seqs, span.gaps.iter().map(|gap| (gap.from.mono.0 / 1_000_000, gap.to.mono.0 / 1_000_000)).collect())
    }

    #[test]
    fn damage_costs_its_record_and_is_a_named_hole() {
        let bad = [(5, GapReason::Damaged)];
        let whole = span(&[(4, true), (5, false), (6, true), (7, false)]);
        let rest = whole.clone().without(&bad).unwrap();
        assert_eq!(left(&rest), (vec![4, 6, 7], vec![(5, 6)]));
        assert_eq!((rest.damaged.clone(), rest.gaps[0].reason, rest.gaps[0].bytes), (vec![(5, 5)], GapReason::Damaged, 100));
        assert_eq!(whole.as_before(&[(5, 5)]).fragments, rest.fragments);
    }

    #[test]
    fn two_damaged_starts_in_a_row_are_one_gap() {
        let rest = span(&[(4, true), (5, false), (6, true)]).without(&[(4, GapReason::Damaged)]).unwrap();
        assert_eq!(left(&rest), (vec![5, 6], vec![(4, 5)]));
        let both = [(5, GapReason::Damaged), (6, GapReason::Damaged)];
        assert_eq!(left(&span(&[(4, true), (5, false), (6, true)]).without(&both).unwrap()), (vec![4], vec![(5, 7)]));
        assert!(span(&[(4, true)]).without(&[(4, GapReason::Damaged)]).is_none());
    }
}
