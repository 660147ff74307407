//! Ring growth: when a ring that found no room for its whole budget tries again.

use crate::units::MonoTime;

/// Interval between two checks for room, microseconds.
const ROOM_CHECK_INTERVAL: u64 = 60_000_000;
/// Most doublings of the interval while the card reports room but creates no file: about an hour.
const REFUSALS_MAX: u32 = 6;

/// The budget that the ring may grow back to, and when the card is asked for room again.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// The budget of the settings.
    pub(super) budget: u64,
    next_check: MonoTime,
    /// Number of files at the last refusal, and refusals in a row without a new file.
    files: usize,
    refusals: u32,
}

impl Growth {
    /// For a ring with this budget.
    pub(super) fn new(budget: u64) -> Growth {
        Growth { budget, ..Growth::default() }
    }

    /// True when the card may be checked for room; the next check is due an interval later.
    pub(super) fn is_check_due(&mut self, now: MonoTime) -> bool {
        let is_due = now >= self.next_check;
        if is_due {
            self.next_check = now.plus_micros(ROOM_CHECK_INTERVAL << self.refusals);
        }
        is_due
    }

    /// Notes that the card did not create another file beside `files`.
    pub(super) fn refused(&mut self, files: usize) {
        self.refusals = if files > self.files { 0 } else { (self.refusals + 1).min(REFUSALS_MAX) };
        self.files = files;
    }
}
