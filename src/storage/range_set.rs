//! Sets of record numbers, stored as ranges.

/// Disjoint, non-adjacent ranges in ascending order. Both ends belong to a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    ranges: Vec<(u64, u64)>,
}

impl Ranges {
    /// The ranges, lowest first.
    pub fn list(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Adds `first..=last`; does nothing if `last` is below `first`.
    pub fn add(&mut self, first: u64, last: u64) {
        if last < first {
            return;
        }
        let (mut low, mut high) = (first, last);
        self.ranges.retain(|(from, to)| {
            let touches = *from <= last.saturating_add(1) && first <= to.saturating_add(1);
            if touches {
                low = low.min(*from);
                high = high.max(*to);
            }
            !touches
        });
        let at = self.ranges.partition_point(|(from, _)| *from < low);
        self.ranges.insert(at, (low, high));
    }

    /// Removes `first..=last`.
    pub fn remove(&mut self, first: u64, last: u64) {
        if last < first {
            return;
        }
        let mut left = Vec::with_capacity(self.ranges.len() + 1);
        for (from, to) in self.ranges.drain(..) {
            if to < first || last < from {
                left.push((from, to));
                continue;
            }
            left.extend((from < first).then(|| (from, first - 1)));
            left.extend((to > last).then(|| (last + 1, to)));
        }
        self.ranges = left;
    }

    /// The numbers of this set that are not in `others`.
    pub fn without(mut self, others: &Ranges) -> Ranges {
        others.ranges.iter().for_each(|(first, last)| self.remove(*first, *last));
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
    fn adjacent_ranges_merge_and_a_removal_splits_them() {
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
