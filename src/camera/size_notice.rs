//! When a change of the picture's size is logged: once for each change, and at most once in 10 s.

use std::time::Duration;

use crate::units::MonoTime;

/// Least time between two lines: a camera that changes its size each second must not fill the log.
const INTERVAL: Duration = Duration::from_secs(10);

/// Decides when a change of size is logged.
#[derive(Debug, Default)]
pub struct SizeNotice {
    last: Option<MonoTime>,
    suppressed: u64,
}

impl SizeNotice {
    /// The changes without a line since the last one, when a change `from` one size `to` another is
    /// to be logged now. Without a size before, there is no change.
    pub fn due(&mut self, from: Option<(u16, u16)>, to: (u16, u16), now: MonoTime) -> Option<u64> {
        if from.is_none_or(|from| from == to) {
            return None;
        }
        if self.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_size_is_logged_once_and_rarely() {
        let mut notice = SizeNotice::default();
        let mut due = |from, to, second: u64| notice.due(from, to, MonoTime(second * 1_000_000));
        let (small, large) = ((320, 180), (640, 360));
        assert_eq!(due(None, large, 1), None, "the first size");
        assert_eq!(due(Some(large), large, 2), None, "other sets of the same size");
        assert_eq!(due(Some(large), small, 3), Some(0));
        assert_eq!((due(Some(small), large, 4), due(Some(large), small, 12)), (None, None));
        assert_eq!(due(Some(small), large, 13), Some(2));
    }
}
