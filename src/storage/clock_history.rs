//! Clock history: how the monotonic clock of each start relates to wall time, learned while it runs and kept in the journal. A board without
//! a battery records its first hour in 1970; once the time is known, that hour is dated without touching a sample.
//!
//! What belongs here: learning and applying the relation, pure. What does not: reading clocks ([`crate::clock`]), whose stamps are
//! stored with every record as they were.

use std::collections::VecDeque;

use super::Gap;
use crate::units::{Boot, ClockQuality, MonoTime, Timestamp, WallTime};

/// Relations kept: the newest. A device that learns two in a start and starts daily reaches back two months, longer than its ring.
const KNOWN_MAX: usize = 128;
/// Microseconds by which the clock must have been set before it is updates: NTP daemons slew smaller errors.
const STEP_MIN: i64 = 500_000;
/// Microseconds by which a clock of the same trust must have been set to be reported: less is how exactly two clocks are read.
const TOLD_MIN: i64 = 50_000;
/// Microseconds between two relations of one start at least: a clock that is fought over must not wear the journal out.
const LEARN_EVERY: u64 = 10_000_000;
/// Bytes of one relation in the journal.
const ENCODED: usize = 21;

/// From `from` on, wall time was monotonic time plus `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BootClock {
    boot: Boot,
    from: MonoTime,
    offset: i64,
    quality: ClockQuality,
}

/// The clock was set: what it was before and by how much it moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSet {
    /// Trust before.
    pub before: ClockQuality,
    /// Now.
    pub now: Timestamp,
    /// Microseconds it moved forward; negative is back.
    pub step: i64,
}

impl ClockSet {
    /// True where nothing was set: each start learns its clock again, which is kept, and nothing to tell.
    pub fn is_read_again(&self) -> bool {
        self.before == self.now.quality && self.step.abs() < TOLD_MIN
    }
}

/// All relations known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClockHistory {
    known: VecDeque<BootClock>,
    /// The clock as it was last read in this start.
    last: Option<(i64, ClockQuality)>,
    next_learn: MonoTime,
}

impl ClockHistory {
    /// Reads what [`ClockHistory::encode`] wrote; what is cut short is left out.
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

    /// Reads the clocks of this start. `Some` when a relation was learned, which must then be saved: the first one that can be
    /// trusted at all, a better one, or another one because the clock was set.
    pub fn learn(&mut self, boot: Boot, now: Timestamp) -> Option<ClockSet> {
        let offset = now.wall.0 - now.mono.0 as i64;
        let (before, quality) = *self.last.get_or_insert((offset, now.quality));
        let step = offset - before;
        let known = self.known.back().is_some_and(|known| known.boot == boot);
        let is_news = now.quality > quality || step.abs() > STEP_MIN || !known && now.quality > ClockQuality::Unset;
        if !is_news || now.mono < self.next_learn {
            return None;
        }
        self.last = Some((offset, now.quality));
        self.next_learn = now.mono.plus_micros(LEARN_EVERY);
        if now.quality > ClockQuality::Unset {
            self.known.push_back(BootClock { boot, from: now.mono, offset, quality: now.quality });
            if self.known.len() > KNOWN_MAX {
                self.known.pop_front();
            }
        }
        Some(ClockSet { before: quality, now, step })
    }

    /// A stored stamp as it is understood now: dated by the first better clock that the same start had later, else as it was.
    pub fn date(&self, boot: Boot, stamp: Timestamp) -> Timestamp {
        let better = |known: &&BootClock| known.boot == boot && known.quality > stamp.quality && known.from >= stamp.mono;
        match self.known.iter().find(better) {
            Some(known) => {
                let wall = WallTime((stamp.mono.0 as i64).saturating_add(known.offset));
                Timestamp { wall, quality: known.quality, ..stamp }
            }
            None => stamp,
        }
    }

    /// A gap as it is understood now. `before` is the start of the footage in front of it, where a gap between two starts
    /// begins; `crash_loop` is the start that recorded it.
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
    fn an_hour_without_a_clock_is_dated_once_time_is_known() {
        let (mut clock_history, boot) = (ClockHistory::default(), Boot(3));
        let early = stamp(5_000_000, 77, ClockQuality::Unset);
        assert_eq!(clock_history.learn(boot, early), None, "1970 is not worth keeping");
        assert_eq!(clock_history.date(boot, early), early);
        let set = clock_history.learn(boot, stamp(3_605_000_000, NOON, ClockQuality::Ntp)).unwrap();
        assert_eq!((set.before, set.step), (ClockQuality::Unset, NOON - 3_605_000_000 - (77 - 5_000_000)));
        let dated = clock_history.date(boot, early);
        assert_eq!((dated.wall, dated.quality, dated.mono), (WallTime(NOON - 3_600_000_000), ClockQuality::Ntp, early.mono));
        assert_eq!(clock_history.date(Boot(2), early), early, "another start had another clock");
        assert_eq!(ClockHistory::decode(&clock_history.encode()).date(boot, early), dated);
    }

    #[test]
    fn a_clock_set_back_leaves_trusted_times_alone() {
        let (mut clock_history, boot) = (ClockHistory::default(), Boot(1));
        let hour = 3_600_000_000;
        let fast = stamp(1_000_000, NOON + hour, ClockQuality::Rtc);
        assert!(clock_history.learn(boot, fast).is_some(), "the first clock that can be trusted at all");
        assert_eq!(clock_history.learn(boot, stamp(2_000_000, NOON + hour + 1_000_000, ClockQuality::Rtc)), None);
        let set = clock_history.learn(boot, stamp(20_000_000, NOON + 19_000_000, ClockQuality::Ntp)).unwrap();
        assert_eq!(set.step, -hour);
        assert_eq!(clock_history.date(boot, fast).wall, WallTime(NOON));
        let trusted = stamp(21_000_000, NOON + 20_000_000, ClockQuality::Ntp);
        assert_eq!(clock_history.date(boot, trusted), trusted);
        // NTP itself was wrong and steps by a second: what was recorded under it is evidence of that and stays.
        assert!(clock_history.learn(boot, stamp(40_000_000, NOON + 40_000_000, ClockQuality::Ntp)).is_some());
        assert_eq!(clock_history.date(boot, trusted), trusted);
    }

    #[test]
    fn a_disputed_clock_is_learned_every_ten_seconds() {
        let (mut clock_history, mut learned) = (ClockHistory::default(), 0);
        for i in 0..2_000_u64 {
            let jump = if i % 2 == 0 { 0 } else { 5_000_000 };
            let now = stamp(i * 1_000_000, NOON + i as i64 * 1_000_000 + jump, ClockQuality::Rtc);
            learned += usize::from(clock_history.learn(Boot(1), now).is_some());
        }
        assert!((150..=200).contains(&learned), "{learned}");
        assert_eq!(clock_history.encode().len(), KNOWN_MAX * ENCODED);
        const { assert!(KNOWN_MAX * ENCODED <= crate::storage::journal::ENTRY_MAX) };
    }

    #[test]
    fn a_hole_between_two_starts_begins_on_the_clock_of_the_first() {
        let mut clock_history = ClockHistory::default();
        clock_history.learn(Boot(1), stamp(10, NOON, ClockQuality::Rtc));
        clock_history = ClockHistory::decode(&clock_history.encode());
        clock_history.learn(Boot(2), stamp(2_000_000, NOON + 60_000_000, ClockQuality::Ntp));
        let from = stamp(9_000_000, NOON + 9_000_000, ClockQuality::Rtc);
        let gap = Gap { from, to: stamp(1_000_000, 5, ClockQuality::Unset), reason: GapReason::PowerCut, bytes: 0 };
        let dated = clock_history.date_gap(&gap, Boot(1), Boot(2));
        assert_eq!((dated.from, dated.to.wall), (from, WallTime(NOON + 59_000_000)));
    }
}
