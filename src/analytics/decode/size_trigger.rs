//! The sizes of access units: an encoder spends bits on what moves, so a size that leaves its baseline says "look", and never
//! "something is there".
//!
//! What belongs here: the baseline. What does not: what is done when it is left ([`super::scheduler`]).

use std::collections::VecDeque;

use crate::analytics::params::{SIZES_KNOWN, SIZES_MAD, SIZES_MAX, SIZES_MEAN, SIZES_SECONDS, SIZES_SETTLE, SIZES_WILD};
use crate::units::Timestamp;

/// Microseconds between two looks at the baseline: sorting a minute of sizes costs as much as a small picture.
const RENEW_EVERY: u64 = 1_000_000;

/// Sizes of the last minute of quiet.
#[derive(Default)]
pub struct SizeTrigger {
    /// (monotonic microseconds, bytes) of access units that are no key frames, while nothing is in view.
    usual: VecDeque<(u64, u32)>,
    last: VecDeque<u32>,
    /// Access units since the last key frame.
    since_key: usize,
    /// Bytes above which the mean of the last few is no longer usual.
    limit: Option<f32>,
    next: u64,
}

impl SizeTrigger {
    /// True when there is a baseline to leave.
    pub fn is_known(&self) -> bool {
        self.limit.is_some()
    }

    /// Notes an access unit; true when the sizes have left their baseline. Sizes are only usual while it is `quiet`.
    pub fn note(&mut self, bytes: usize, key: bool, quiet: bool, at: Timestamp) -> bool {
        if key {
            // What comes right after it is larger than usual because it mends what the key frame left coarse.
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
            self.usual.push_back((at.mono.0, bytes));
            let old = at.mono.0.saturating_sub(SIZES_SECONDS);
            while self.usual.len() > SIZES_MAX || self.usual.front().is_some_and(|(noted, _)| *noted < old) {
                self.usual.pop_front();
            }
        }
        if at.mono.0 >= self.next {
            self.next = at.mono.0 + RENEW_EVERY;
            self.limit = self.usual_limit();
        }
        if self.last.len() < SIZES_MEAN {
            return false;
        }
        let mean = self.last.iter().map(|bytes| *bytes as f32).sum::<f32>() / self.last.len() as f32;
        self.limit.is_some_and(|limit| mean > limit)
    }

    fn usual_limit(&self) -> Option<f32> {
        let (first, last) = (self.usual.front()?, self.usual.back()?);
        (last.0 - first.0 >= SIZES_KNOWN).then_some(())?;
        let mut sizes: Vec<f32> = self.usual.iter().map(|(_, bytes)| *bytes as f32).collect();
        let median = middle(&mut sizes);
        let mut apart: Vec<f32> = sizes.iter().map(|bytes| (bytes - median).abs()).collect();
        let deviation = middle(&mut apart);
        (deviation <= SIZES_WILD * median).then(|| median + SIZES_MAD * deviation.max(median / 50.0))
    }
}

fn middle(values: &mut [f32]) -> f32 {
    let at = values.len() / 2;
    *values.select_nth_unstable_by(at, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MonoTime;

    #[test]
    fn only_sizes_above_their_baseline_trigger() {
        let mut sizes = SizeTrigger::default();
        let mut stirred = Vec::new();
        for number in 0..750_u64 {
            let noise = (number * 7919 % 100) as usize;
            let bytes = match number {
                615..625 => 1600,
                // What mends a key frame is as usual as the key frame is.
                _ if (1..3).contains(&(number % 50)) => 2000,
                _ => 1000 + noise,
            };
            let key = number % 50 == 0;
            let at = Timestamp { mono: MonoTime(number * 40_000), ..Timestamp::default() };
            if sizes.note(if key { 20_000 } else { bytes }, key, true, at) {
                stirred.push(number);
            }
        }
        assert!(stirred.first().is_some_and(|first| (615..618).contains(first)), "{stirred:?}");
        assert!(stirred.last().is_some_and(|last| *last < 629), "{stirred:?}");
    }
}
