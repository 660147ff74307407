//! Ranges of footage that were on a screen, merged. Pure.
//!
//! A player reports every few seconds which wall times it showed. Ranges that touch are one.

/// Ranges of one report at most: a player shows a handful between two reports.
pub const REPORT_MAX: usize = 64;
/// Ranges of one session and file at most; beyond it the nearest two become one.
pub const RANGES_MAX: usize = 512;
/// Ranges at most this far apart are one: a picture may last a second. Microseconds.
const JOIN: i64 = 1_000_000;

/// The parts of reported ranges that lie within a file's own times: nothing else of it can have been
/// on a screen.
pub fn within(reported: &[(i64, i64)], (start, end): (i64, i64)) -> Vec<(i64, i64)> {
    let cut = reported.iter().map(|(from, to)| ((*from).max(start), (*to).min(end)));
    cut.filter(|(from, to)| from < to).collect()
}

/// The ranges with those of a report, in order and merged. Empty and reversed ones are left out.
pub fn merge(known: &[(i64, i64)], reported: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut all: Vec<(i64, i64)> =
        known.iter().chain(reported).copied().filter(|(start, end)| start < end).collect();
    all.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::with_capacity(all.len());
    for (start, end) in all {
        match merged.last_mut() {
            Some(last) if start <= last.1.saturating_add(JOIN) => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    while merged.len() > RANGES_MAX {
        let distance = |at: &usize| merged[at + 1].0.saturating_sub(merged[*at].1);
        let Some(nearest) = (0..merged.len() - 1).min_by_key(distance) else { break };
        merged[nearest].1 = merged[nearest + 1].1;
        merged.remove(nearest + 1);
    }
    merged
}

/// Seconds that the ranges cover together, rounded down.
pub fn seconds(ranges: &[(i64, i64)]) -> i64 {
    let micros = ranges.iter().map(|(start, end)| end.saturating_sub(*start));
    micros.fold(0_i64, i64::saturating_add) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_that_touch_are_one() {
        let merged = merge(&[(0, 5_000_000)], &[(5_500_000, 9_000_000), (20_000_000, 21_000_000)]);
        assert_eq!(merged, [(0, 9_000_000), (20_000_000, 21_000_000)]);
        assert_eq!(seconds(&merged), 10);
        assert_eq!(merge(&merged, &[(7, 7), (9, 3)]), merged);
    }

    #[test]
    fn too_many_ranges_are_bounded_and_cover_no_less() {
        let many: Vec<(i64, i64)> =
            (0..2_000).map(|at| (at * 3_000_000, at * 3_000_000 + 1_000_000)).collect();
        let merged = merge(&[], &many);
        assert_eq!(merged.len(), RANGES_MAX);
        assert_eq!((merged[0].0, merged[RANGES_MAX - 1].1), (0, 1_999 * 3_000_000 + 1_000_000));
        assert!(seconds(&merged) >= seconds(&many));
    }

    proptest! {
        #[test]
        fn every_reported_range_is_covered_once(
            ranges in prop::collection::vec((0i64..100_000_000, 0i64..9_000_000), 0..40),
        ) {
            let ranges: Vec<(i64, i64)> = ranges.into_iter().map(|(at, len)| (at, at + len)).collect();
            let merged = merge(&[], &ranges);
            prop_assert!(merged.windows(2).all(|two| two[0].1 + JOIN < two[1].0));
            for (start, end) in ranges.iter().filter(|(start, end)| start < end) {
                prop_assert!(merged.iter().any(|one| one.0 <= *start && *end <= one.1));
            }
            let (one, two) = ranges.split_at(ranges.len() / 2);
            prop_assert_eq!(merge(&merge(&[], one), two), merged);
        }
    }
}
