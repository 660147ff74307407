//! Set of `u64` as sorted, disjoint, non-adjacent ranges `[from, to)`: bytes of a file, or sequence
//! numbers.

use serde::{Deserialize, Serialize};

/// The set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `[from, to)`.
    pub fn add(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        // The ranges that overlap or touch the new one are adjacent in the list.
        let begin = self.0.partition_point(|(_, end)| *end < from);
        let after = self.0.partition_point(|(start, _)| *start <= to);
        let joined = self.0[begin..after]
            .iter()
            .fold((from, to), |(low, high), (start, end)| (low.min(*start), high.max(*end)));
        self.0.splice(begin..after.max(begin), [joined]);
    }

    /// End of the last range; 0 for an empty set.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |(_, end)| *end)
    }

    /// Number of ranges.
    pub fn pieces(&self) -> usize {
        self.0.len()
    }

    /// True when `[from, to)` overlaps or touches a range, so that adding it adds no range.
    pub fn touches(&self, from: u64, to: u64) -> bool {
        let begin = self.0.partition_point(|(_, end)| *end < from);
        self.0.get(begin).is_some_and(|(start, _)| *start <= to)
    }

    /// Removes `end` and everything above.
    pub fn cut(&mut self, end: u64) {
        self.0.retain(|(from, _)| *from < end);
        if let Some(last) = self.0.last_mut() {
            last.1 = last.1.min(end);
        }
    }

    /// End of the range that contains `from`; `from` when none does.
    pub fn upto(&self, from: u64) -> u64 {
        self.0
            .iter()
            .find(|(start, end)| *start <= from && from < *end)
            .map_or(from, |(_, end)| *end)
    }

    /// True when the set contains `[0, size)`.
    pub fn is_whole(&self, size: u64) -> bool {
        self.upto(0) >= size
    }

    /// The first `most` missing ranges of `[from, size)`. When there are more, the last one extends
    /// to `size`.
    pub fn missing(&self, from: u64, size: u64, most: usize) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        let mut at = from;
        for (start, end) in self.0.iter().filter(|(start, end)| *end > from && *start < size) {
            if *start > at {
                missing.push((at, (*start).min(size)));
            }
            at = at.max(*end);
        }
        if at < size {
            missing.push((at, size));
        }
        if missing.len() > most {
            missing.truncate(most);
            missing.last_mut().into_iter().for_each(|last| last.1 = size);
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_set_contains_exactly_the_added_numbers(added in proptest::collection::vec((0_u64..60, 0_u64..20), 0..30)) {
            let (mut ranges, mut there) = (Ranges::default(), [false; 100]);
            for (from, len) in added {
                ranges.add(from, from + len);
                (from..from + len).for_each(|n| there[n as usize] = true);
            }
            prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?}");
            let missing = ranges.missing(0, 100, 100);
            for (n, there) in there.iter().enumerate() {
                let missed = missing.iter().any(|(from, to)| (*from..*to).contains(&(n as u64)));
                prop_assert_eq!(missed, !there, "{} in {:?}", n, ranges);
            }
            let upto = there.iter().position(|there| !there).unwrap_or(100) as u64;
            prop_assert_eq!(ranges.upto(0), upto);
        }
    }

    #[test]
    fn a_truncated_list_of_gaps_ends_with_a_merged_one() {
        let mut ranges = Ranges::default();
        (0..10).for_each(|n| ranges.add(n * 10, n * 10 + 5));
        assert_eq!(ranges.missing(0, 100, 2), [(5, 10), (15, 100)]);
        ranges.cut(42);
        assert_eq!(ranges.missing(30, 100, 9), [(35, 40), (42, 100)]);
    }
}
