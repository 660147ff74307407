//! Witness: whether steps of the sequence number over TCP are loss, or mean nothing.
//!
//! TCP loses nothing, but a camera drops packets when its own queue is full. Some number the
//! packets of all tracks with one counter, though, and each of their pictures would seem damaged.
//! The pictures themselves decide: where at many steps in a row one picture ended with its marker bit
//! and the next one begins, no time stamp between them missing, the numbers are ignored.

use super::super::limits::{WITNESS_MIN, WITNESS_WITHIN};
use super::super::payload::Fragment;

/// Steps so far.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// Packets since the latest step.
    since: u32,
    /// Steps in a row at which nothing was missing.
    harmless: u32,
    /// The usual distance of time stamps, and the latest stamp.
    step: Option<i64>,
    latest: Option<i64>,
    /// The NAL unit of which not all fragments have come.
    open: Option<[u8; 2]>,
    /// The latest packet had the marker bit.
    marked: bool,
    /// Verdict for the session: the numbers mean nothing.
    ignored: bool,
}

impl Witness {
    /// True if sequence numbers are to be ignored.
    pub(super) fn ignores(&self) -> bool {
        self.ignored
    }

    /// One packet: its time stamp and marker bit, whether a step is before it, and the fragment that
    /// it is. True when the verdict falls.
    pub(super) fn packet(
        &mut self,
        (time, marker): (i64, bool),
        step: bool,
        piece: Option<Fragment<'_>>,
    ) -> bool {
        if self.ignored {
            return false;
        }
        let ahead = self.latest.map_or(0, |latest| time - latest);
        let usual = self.step.is_some_and(|usual| (0..=usual * 3 / 2).contains(&ahead));
        let first = self.step.is_none();
        self.latest = Some(time);
        if ahead != 0 && (first || usual || self.since > WITNESS_WITHIN) {
            self.step = Some(ahead).filter(|ahead| *ahead > 0);
        }
        let (open, marked) = (self.open, std::mem::replace(&mut self.marked, marker));
        self.open = piece.filter(|piece| !piece.end).map(|piece| piece.header);
        self.since = self.since.saturating_add(1);
        if !step {
            return false;
        }
        let dense = std::mem::take(&mut self.since) <= WITNESS_WITHIN;
        let starts = piece.is_none_or(|piece| piece.start);
        if ahead == 0 && open.is_some() != starts {
            // Within a picture: no evidence for either.
            return false;
        }
        let harmless = usual && ahead > 0 && marked && open.is_none() && starts && dense;
        self.harmless = if harmless { self.harmless + 1 } else { 0 };
        self.ignored = self.harmless >= WITNESS_MIN;
        self.ignored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_without_harm_are_ignored_and_a_missing_stamp_is_harm() {
        let mut witness = Witness::default();
        let mut verdict = 0;
        for at in 0..200 {
            verdict += usize::from(witness.packet((at * 3600, true), at % 3 == 2, None));
        }
        assert!(verdict == 1 && witness.ignores());
        let mut witness = Witness::default();
        for at in 0..2000 {
            let missing = at / 3 * 3600;
            assert!(!witness.packet((at * 3600 + missing, true), at % 3 == 0, None), "{at}");
        }
    }

    #[test]
    fn a_missing_marker_is_harm() {
        let mut witness = Witness::default();
        for at in 0..2000 {
            assert!(!witness.packet((at * 3600, at % 5 != 0), at % 3 == 0, None), "{at}");
        }
    }

    #[test]
    fn rare_steps_are_loss_whatever_the_pictures_say() {
        let mut witness = Witness::default();
        for at in 0..20_000 {
            assert!(!witness.packet((at * 3600, true), at % 100 == 0, None));
        }
    }
}
