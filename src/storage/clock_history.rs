//! Clock history: maps the monotonic clock of each boot to wall time.
//!
//! A board without a battery-backed clock records its first hour in 1970. Once the time is known,
//! that footage is dated without changing its records. The journal stores the history.

use std::collections::VecDeque;
use std::time::Duration;

use super::Gap;
use crate::units::{Boot, ClockQuality, MonoTime, Timestamp, WallTime};

/// Most mappings kept; the oldest is dropped. At two mappings a boot and one boot a day they reach
/// back two months, longer than a ring.
const KNOWN_MAX: usize = 128;
/// Shortest clock step that counts as a new setting. NTP daemons slew smaller errors.
const STEP_MIN: Duration = Duration::from_millis(500);
/// Smallest step of a clock of the same quality that is reported. Less is reading noise.
const REPORT_MIN: Duration = Duration::from_millis(50);
/// Shortest interval between two mappings of one boot. A clock set by two sources
/// must not wear out the journal.
const LEARN_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of one mapping in the journal.
const ENCODED: usize = 21;

/// Wall time = monotonic time + `offset`, valid from `from` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BootClock {
    boot: Boot,
    from: MonoTime,
    offset: i64,
    quality: ClockQuality,
}

/// A step of the wall clock, or its first valid setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSet {
    /// Clock quality before the step.
    pub before: ClockQuality,
    /// Time after the step.
    pub now: Timestamp,
    /// Size of the step, microseconds; negative if the clock was set back.
    pub step: i64,
}

impl ClockSet {
    /// True if the clock was read again but not set. Each boot learns its clock again.
    pub fn is_read_again(&self) -> bool {
        self.before == self.now.quality && self.step.unsigned_abs() < REPORT_MIN.as_micros() as u64
    }
}

/// Mappings of all recent boots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClockHistory {
    known: VecDeque<BootClock>,
    /// Offset of the clock when it was last learned in this boot, microseconds.
    last_offset: Option<i64>,
    /// Quality of the clock at that time.
    last_quality: ClockQuality,
    next_learn: MonoTime,
}

impl ClockHistory {
    /// Decodes [`ClockHistory::encode`]; ignores a truncated mapping.
    pub fn decode(bytes: &[u8]) -> ClockHistory {
        let known = bytes.chunks_exact(ENCODED).filter_map(|chunk| {
            let boot = Boot(u32::from_be_bytes(chunk[..4].try_into().ok()?));
            let from = MonoTime(u64::from_be_bytes(chunk[4..12].try_into().ok()?));
            let offset = i64::from_be_bytes(chunk[12..20].try_into().ok()?);
            Some(BootClock { boot, from, offset, quality: ClockQuality::from_byte(chunk[20]) })
        });
        ClockHistory { known: known.collect(), ..ClockHistory::default() }
    }

    /// `{ u32 boot   u64 from mono µs   i64 wall − mono µs   u8 clock quality }*`, oldest first.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.known.len() * ENCODED);
        for known in &self.known {
            out.extend(known.boot.0.to_be_bytes());
            out.extend(known.from.0.to_be_bytes());
            out.extend(known.offset.to_be_bytes());
            out.push(known.quality as u8);
        }
        out
    }

    /// Notes the start of the first boot of a ring whose clock is not set yet. Returns true for a
    /// new mapping, which the caller must save. The mapping corrects no time.
    pub fn note_unset_start(&mut self, boot: Boot, now: Timestamp) -> bool {
        let first = self.known.is_empty() && now.quality == ClockQuality::Unset;
        if first {
            let offset = now.wall.0 - now.mono.0 as i64;
            self.known.push_back(BootClock { boot, from: now.mono, offset, quality: now.quality });
        }
        first
    }

    /// Start of the oldest boot that is known; `None` if its clock was never set.
    pub fn first_start(&self) -> Option<Timestamp> {
        let BootClock { boot, from, offset, quality } = *self.known.front()?;
        let wall = WallTime((from.0 as i64).saturating_add(offset));
        let start = self.date(boot, Timestamp { mono: from, wall, quality });
        (start.quality > ClockQuality::Unset).then_some(start)
    }

    /// Compares the clocks of this boot. Returns a new mapping, which the caller must save, when
    /// the clock is valid for the first time, has better quality, or was set.
    pub fn learn(&mut self, boot: Boot, now: Timestamp) -> Option<ClockSet> {
        let offset = now.wall.0 - now.mono.0 as i64;
        if self.last_offset.is_none() {
            self.last_quality = now.quality;
        }
        let before = *self.last_offset.get_or_insert(offset);
        let quality = self.last_quality;
        let step = offset - before;
        let is_set = |known: &BootClock| known.quality > ClockQuality::Unset;
        let known = self.known.back().is_some_and(|known| known.boot == boot && is_set(known));
        let changed = now.quality > quality
            || Duration::from_micros(step.unsigned_abs()) > STEP_MIN
            || !known && now.quality > ClockQuality::Unset;
        if !changed || now.mono < self.next_learn {
            return None;
        }
        self.last_offset = Some(offset);
        self.last_quality = now.quality;
        self.next_learn = now.mono.plus(LEARN_INTERVAL);
        if now.quality > ClockQuality::Unset {
            self.known.push_back(BootClock { boot, from: now.mono, offset, quality: now.quality });
            if self.known.len() > KNOWN_MAX {
                self.known.pop_front();
            }
        }
        Some(ClockSet { before: quality, now, step })
    }

    /// Corrects a stored timestamp by the first better clock that the same boot had later. Returns
    /// it unchanged if there is none.
    pub fn date(&self, boot: Boot, stamp: Timestamp) -> Timestamp {
        let better = |known: &&BootClock| {
            known.boot == boot && known.quality > stamp.quality && known.from >= stamp.mono
        };
        match self.known.iter().find(better) {
            Some(known) => {
                let wall = WallTime((stamp.mono.0 as i64).saturating_add(known.offset));
                Timestamp { wall, quality: known.quality, ..stamp }
            }
            None => stamp,
        }
    }

    /// Corrects the times of a gap. `before` is the boot of the footage in front of it, where a gap
    /// between two boots begins; `boot` is the boot that recorded it.
    pub fn date_gap(&self, gap: &Gap, before: Boot, boot: Boot) -> Gap {
        let from = self.date(if gap.reason.is_between_starts() { before } else { boot }, gap.from);
        Gap { from, to: self.date(boot, gap.to), ..gap.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::GapReason;
    use super::*;

    fn stamp(mono: u64, wall: i64, quality: ClockQuality) -> Timestamp {
        Timestamp { mono: MonoTime(mono), wall: WallTime(wall), quality }
    }

    const NOON: i64 = 1_790_000_000_000_000;

    #[test]
    fn footage_of_1970_is_dated_once_the_time_is_known() {
        let (mut clock_history, boot) = (ClockHistory::default(), Boot(3));
        let early = stamp(5_000_000, 77, ClockQuality::Unset);
        assert_eq!(clock_history.learn(boot, early), None, "an unset clock is not stored");
        assert_eq!(clock_history.date(boot, early), early);
        let set = clock_history.learn(boot, stamp(3_605_000_000, NOON, ClockQuality::Ntp)).unwrap();
        assert_eq!(
            (set.before, set.step),
            (ClockQuality::Unset, NOON - 3_605_000_000 - (77 - 5_000_000))
        );
        let dated = clock_history.date(boot, early);
        assert_eq!(
            (dated.wall, dated.quality, dated.mono),
            (WallTime(NOON - 3_600_000_000), ClockQuality::Ntp, early.mono)
        );
        assert_eq!(clock_history.date(Boot(2), early), early, "another boot had another clock");
        assert_eq!(ClockHistory::decode(&clock_history.encode()).date(boot, early), dated);
    }

    #[test]
    fn a_clock_set_back_keeps_the_times_recorded_under_ntp() {
        let (mut clock_history, boot) = (ClockHistory::default(), Boot(1));
        let hour = 3_600_000_000;
        let fast = stamp(1_000_000, NOON + hour, ClockQuality::Rtc);
        assert!(clock_history.learn(boot, fast).is_some(), "the first valid clock");
        assert_eq!(
            clock_history.learn(boot, stamp(2_000_000, NOON + hour + 1_000_000, ClockQuality::Rtc)),
            None
        );
        let set = clock_history
            .learn(boot, stamp(20_000_000, NOON + 19_000_000, ClockQuality::Ntp))
            .unwrap();
        assert_eq!(set.step, -hour);
        assert_eq!(clock_history.date(boot, fast).wall, WallTime(NOON));
        let trusted = stamp(21_000_000, NOON + 20_000_000, ClockQuality::Ntp);
        assert_eq!(clock_history.date(boot, trusted), trusted);
        // NTP itself was wrong and steps by a second: footage recorded under it keeps its time as
        // evidence.
        assert!(
            clock_history
                .learn(boot, stamp(40_000_000, NOON + 40_000_000, ClockQuality::Ntp))
                .is_some()
        );
        assert_eq!(clock_history.date(boot, trusted), trusted);
    }

    #[test]
    fn a_jumping_clock_is_learned_at_most_every_ten_seconds() {
        let (mut clock_history, mut learned) = (ClockHistory::default(), 0);
        for i in 0..2_000_u64 {
            let jump = if i % 2 == 0 { 0 } else { 5_000_000 };
            let now = stamp(i * 1_000_000, NOON + i as i64 * 1_000_000 + jump, ClockQuality::Rtc);
            learned += usize::from(clock_history.learn(Boot(1), now).is_some());
        }
        assert!((150..=200).contains(&learned), "{learned}");
        assert_eq!(clock_history.encode().len(), KNOWN_MAX * ENCODED);
        const { assert!(KNOWN_MAX * ENCODED <= crate::storage::journal_layout::ENTRY_MAX) };
    }

    #[test]
    fn a_gap_between_boots_begins_on_the_clock_of_the_first() {
        let mut clock_history = ClockHistory::default();
        clock_history.learn(Boot(1), stamp(10, NOON, ClockQuality::Rtc));
        clock_history = ClockHistory::decode(&clock_history.encode());
        clock_history.learn(Boot(2), stamp(2_000_000, NOON + 60_000_000, ClockQuality::Ntp));
        let from = stamp(9_000_000, NOON + 9_000_000, ClockQuality::Rtc);
        let gap = Gap {
            from,
            to: stamp(1_000_000, 5, ClockQuality::Unset),
            reason: GapReason::PowerCut,
            bytes: 0,
        };
        let dated = clock_history.date_gap(&gap, Boot(1), Boot(2));
        assert_eq!((dated.from, dated.to.wall), (from, WallTime(NOON + 59_000_000)));
    }
}
