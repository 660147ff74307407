//! The size trigger: detects possible activity from access unit sizes, without decoding.
//!
//! An encoder spends bits on motion. Sizes above their baseline only cause pictures to be decoded;
//! they never start an event.

use std::collections::VecDeque;
use std::time::Duration;

use crate::analytics::params::{
    SIZES_KNOWN, SIZES_MAD, SIZES_MAX, SIZES_MEAN, SIZES_REMEMBERED, SIZES_SETTLE, SIZES_SPREAD_MAX,
};
use crate::units::{MonoTime, Timestamp};

/// Interval of baseline updates: sorting a minute of sizes costs as much as a small picture.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// The size of one access unit.
struct SizeRecord {
    at: MonoTime,
    bytes: u32,
}

/// The sizes of one stream and their baseline.
#[derive(Default)]
pub struct SizeTrigger {
    /// Sizes of the last minute without objects in view; key frames are left out.
    baseline: VecDeque<SizeRecord>,
    last: VecDeque<u32>,
    /// Access units since the last key frame.
    since_key: usize,
    /// Mean size in bytes above which the trigger fires; `None` without a baseline.
    limit: Option<f32>,
    next_renewal: MonoTime,
}

impl SizeTrigger {
    /// True when there is a baseline.
    pub fn is_known(&self) -> bool {
        self.limit.is_some()
    }

    /// Records an access unit. Returns true when the latest sizes exceed the baseline. Sizes join
    /// the baseline only while `quiet`.
    pub fn record(&mut self, bytes: usize, key: bool, quiet: bool, at: Timestamp) -> bool {
        if key {
            // The access units after a key frame are larger: they refine its coarse picture.
            self.since_key = 0;
            self.last.clear();
            return false;
        }
        self.since_key += 1;
        if self.since_key <= SIZES_SETTLE {
            return false;
        }
        let bytes = bytes.min(u32::MAX as usize) as u32;
        self.last.push_back(bytes);
        if self.last.len() > SIZES_MEAN {
            self.last.pop_front();
        }
        if quiet {
            self.baseline.push_back(SizeRecord { at: at.mono, bytes });
            while self.baseline.len() > SIZES_MAX
                || self
                    .baseline
                    .front()
                    .is_some_and(|size| at.mono.duration_since(size.at) > SIZES_REMEMBERED)
            {
                self.baseline.pop_front();
            }
        }
        if at.mono >= self.next_renewal {
            self.next_renewal = at.mono.plus(RENEW_INTERVAL);
            self.limit = self.baseline_limit();
        }
        if self.last.len() < SIZES_MEAN {
            return false;
        }
        let mean =
            self.last.iter().map(|bytes| *bytes as f32).sum::<f32>() / self.last.len() as f32;
        self.limit.is_some_and(|limit| mean > limit)
    }

    fn baseline_limit(&self) -> Option<f32> {
        let (first, last) = (self.baseline.front()?, self.baseline.back()?);
        (last.at.duration_since(first.at) >= SIZES_KNOWN).then_some(())?;
        let mut sizes: Vec<f32> = self.baseline.iter().map(|size| size.bytes as f32).collect();
        let median = median_of(&mut sizes);
        let mut apart: Vec<f32> = sizes.iter().map(|bytes| (bytes - median).abs()).collect();
        let deviation = median_of(&mut apart);
        (deviation <= SIZES_SPREAD_MAX * median)
            .then(|| median + SIZES_MAD * deviation.max(median / 50.0))
    }
}

fn median_of(values: &mut [f32]) -> f32 {
    let at = values.len() / 2;
    *values.select_nth_unstable_by(at, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sizes_above_their_baseline_trigger() {
        let mut sizes = SizeTrigger::default();
        let mut fired = Vec::new();
        for number in 0..750_u64 {
            let noise = (number * 7919 % 100) as usize;
            let bytes = match number {
                615..625 => 1600,
                // Access units that refine a key frame are usually larger, too.
                _ if (1..3).contains(&(number % 50)) => 2000,
                _ => 1000 + noise,
            };
            let key = number % 50 == 0;
            let at = Timestamp { mono: MonoTime(number * 40_000), ..Timestamp::default() };
            if sizes.record(if key { 20_000 } else { bytes }, key, true, at) {
                fired.push(number);
            }
        }
        assert!(fired.first().is_some_and(|first| (615..618).contains(first)), "{fired:?}");
        assert!(fired.last().is_some_and(|last| *last < 629), "{fired:?}");
    }
}
