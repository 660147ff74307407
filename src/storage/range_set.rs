//! Ranges of record numbers: what is in the ring, what was evicted, what is missing.
//!
//! What belongs here: sets of numbers, pure. What does not: where they are kept ([`crate::format::segment_head`]).

/// Numbers, as ranges that neither touch nor overlap, lowest first. Both ends belong to a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The ranges, lowest first.
    pub fn list(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Adds `first..=last`; nothing where `last` lies before `first`.
    pub fn add(&mut self, first: u64, last: u64) {
        if last < first {
            return;
        }
        let (mut low, mut high) = (first, last);
        self.0.retain(|(from, to)| {
            let touches = *from <= last.saturating_add(1) && first <= to.saturating_add(1);
            if touches {
                (low, high) = (low.min(*from), high.max(*to));
            }
            !touches
        });
        let at = self.0.partition_point(|(from, _)| *from < low);
        self.0.insert(at, (low, high));
    }

    /// Takes `first..=last` out.
    pub fn remove(&mut self, first: u64, last: u64) {
        if last < first {
            return;
        }
        let mut left = Vec::with_capacity(self.0.len() + 1);
        for (from, to) in self.0.drain(..) {
            if to < first || last < from {
                left.push((from, to));
                continue;
            }
            left.extend((from < first).then(|| (from, first - 1)));
            left.extend((to > last).then(|| (last + 1, to)));
        }
        self.0 = left;
    }

    /// What is in these ranges and not in `others`.
    pub fn without(mut self, others: &Ranges) -> Ranges {
        others.0.iter().for_each(|(first, last)| self.remove(*first, *last));
        self
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(ranges: I) -> Ranges {
        let mut set = Ranges::default();
        ranges.into_iter().for_each(|(first, last)| set.add(first, last));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one_and_what_is_taken_out_splits_them() {
        let mut set: Ranges = [(10, 12), (1, 3), (4, 5), (20, 19)].into_iter().collect();
        assert_eq!(set.list(), [(1, 5), (10, 12)]);
        set.add(5, 10);
        assert_eq!(set.list(), [(1, 12)]);
        set.remove(3, 4);
        set.remove(12, 40);
        assert_eq!(set.list(), [(1, 2), (5, 11)]);
        let others = [(2, 6)].into_iter().collect();
        assert_eq!(set.without(&others).list(), [(1, 1), (7, 11)]);
    }
}
