//! Wall times of fragments: the manifest's times, carried on by the monotonic clock of each boot.
//!
//! A record keeps the clock it was recorded with, which is 1970 before the first NTP answer. The
//! manifest is dated by what the device learned later.

use crate::format::record::RingRecord;
use crate::units::{ClockQuality, WallTime};

/// Assigns wall times to the records of one clip; the manifest states that they begin at `from` and end at `to`.
/// Returns one time for each record, never falling.
///
/// The first boot is dated by `from` and the last one by `to`. A boot between them keeps its own
/// clock if that was set and fits; else the media clock of the ring carries on.
pub(crate) fn wall_times(from: WallTime, to: WallTime, records: &[RingRecord]) -> Vec<i64> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Vec::new();
    };
    let mut times: Vec<i64> = Vec::with_capacity(records.len());
    let mut anchor = Anchor { mono: first.start.mono.0, wall: from.0 };
    let mut boot = first.boot;
    let mut end = from.0;
    let mut media = first.media;
    for record in records {
        if record.boot != boot {
            boot = record.boot;
            anchor = if boot == last.boot {
                Anchor { mono: last.end().mono.0, wall: to.0 }
            } else {
                let own = record.start.wall.0;
                let fits =
                    record.start.quality > ClockQuality::Unset && (end..=to.0).contains(&own);
                let carried = end.saturating_add(distance(media, record.media));
                let wall = if fits { own } else { carried };
                Anchor { mono: record.start.mono.0, wall }
            };
        }
        let wall = anchor.at(record.start.mono.0).max(times.last().copied().unwrap_or(i64::MIN));
        times.push(wall);
        end = wall.saturating_add_unsigned(record.duration);
        media = record.media.saturating_add(record.duration);
    }
    times
}

/// A moment on both clocks.
struct Anchor {
    mono: u64,
    wall: i64,
}

impl Anchor {
    fn at(&self, mono: u64) -> i64 {
        self.wall.saturating_add(distance(self.mono, mono))
    }
}

/// `to - from`, saturating.
fn distance(from: u64, to: u64) -> i64 {
    i64::try_from(i128::from(to) - i128::from(from)).unwrap_or(if to > from {
        i64::MAX
    } else {
        i64::MIN
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::tests::record;
    use crate::units::{Boot, MonoTime, Timestamp};

    fn at(boot: u32, mono: u64, wall: i64, quality: ClockQuality, media: u64) -> RingRecord {
        let start = Timestamp { mono: MonoTime(mono), wall: WallTime(wall), quality };
        RingRecord { boot: Boot(boot), start, media, duration: 1000, ..record() }
    }

    #[test]
    fn a_record_of_1970_is_dated_by_the_manifest() {
        let records = [
            at(1, 5_000, 77, ClockQuality::Unset, 0),
            at(1, 6_000, 1_078, ClockQuality::Unset, 1_000),
            at(1, 9_500, 9_000_500, ClockQuality::Ntp, 4_500),
        ];
        let times = wall_times(WallTime(9_000_000 - 4_000), WallTime(9_001_500), &records);
        assert_eq!(times, [8_996_000, 8_997_000, 9_000_500]);
    }

    #[test]
    fn each_boot_is_dated_by_what_is_known_of_it() {
        let records = [
            at(1, 5_000, 1_000_000, ClockQuality::Ntp, 0),
            // A good clock: its own time counts.
            at(2, 10, 1_050_000, ClockQuality::Ntp, 9_000),
            // No clock: the media clock carries on.
            at(3, 20, 4, ClockQuality::Unset, 12_000),
            // The last boot ends with the manifest.
            at(4, 100, 4, ClockQuality::Unset, 20_000),
            at(4, 1_100, 1_004, ClockQuality::Unset, 21_000),
        ];
        let times = wall_times(WallTime(1_000_000), WallTime(2_000_000), &records);
        assert_eq!(times, [1_000_000, 1_050_000, 1_053_000, 1_998_000, 1_999_000]);
    }

    #[test]
    fn hostile_clocks_neither_overflow_nor_fall() {
        let records = [
            at(1, u64::MAX, i64::MIN, ClockQuality::Ntp, u64::MAX),
            at(1, 0, i64::MAX, ClockQuality::Ntp, 0),
            at(2, u64::MAX, i64::MAX, ClockQuality::Ntp, u64::MAX),
            at(1, 0, i64::MIN, ClockQuality::Unset, 7),
        ];
        for (from, to) in [(0, 9), (i64::MIN, i64::MAX), (i64::MAX, i64::MIN)] {
            let times = wall_times(WallTime(from), WallTime(to), &records);
            assert!(times.is_sorted() && times.len() == 4);
        }
    }
}
