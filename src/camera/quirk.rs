//! Quirks: the deviations of a camera from its protocols, by name, counted once per session.
//!
//! A quirk is tolerated. It is logged once per session and listed by `taimat probe` with its
//! meaning and what the device does about it.

/// A deviation of the camera that is tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Quirk {
    /// A response carries another CSeq than its request, or none.
    CSeq,
    /// Lines end with LF alone, or blanks and folding stand where the grammar has none.
    LineEnds,
    /// Several pictures in a row carry one time stamp.
    RepeatedStamps,
    /// The time stamps do not move.
    FrozenStamps,
    /// The time stamps jump: the clock was set, or single stamps are wrong.
    JumpingStamps,
}

impl Quirk {
    /// All quirks with their stable names, what they mean, and what the device does.
    pub const ALL: [(Quirk, &'static str, &'static str); 5] = [
        (
            Quirk::CSeq,
            "cseq",
            "a response does not carry the number of its request; the one outstanding request takes it",
        ),
        (
            Quirk::LineEnds,
            "line_ends",
            "header lines are not formed as RFC 2326 demands; they are read all the same",
        ),
        (
            Quirk::RepeatedStamps,
            "repeated_stamps",
            "several pictures in a row carry one time stamp; they are spread up to the next one",
        ),
        (
            Quirk::FrozenStamps,
            "frozen_stamps",
            "the time stamps do not move; pictures are dated by their arrival",
        ),
        (
            Quirk::JumpingStamps,
            "jumping_stamps",
            "a time stamp does not continue those before; time goes on from the picture before",
        ),
    ];

    /// The stable name in logs, payloads and tables.
    pub fn name(self) -> &'static str {
        Quirk::ALL[self as usize].1
    }

    /// What it means and what the device does about it.
    pub fn meaning(self) -> &'static str {
        Quirk::ALL[self as usize].2
    }
}

/// Counts of the quirks of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuirkCounts([u32; Quirk::ALL.len()]);

impl QuirkCounts {
    /// Counts a quirk. True the first time.
    pub fn note(&mut self, quirk: Quirk) -> bool {
        let count = &mut self.0[quirk as usize];
        *count = count.saturating_add(1);
        *count == 1
    }

    /// The quirks seen, with their counts.
    pub fn seen(&self) -> impl Iterator<Item = (Quirk, u32)> + '_ {
        Quirk::ALL
            .iter()
            .map(|(quirk, ..)| (*quirk, self.0[*quirk as usize]))
            .filter(|seen| seen.1 > 0)
    }

    /// Adds the counts of another part of the same session.
    pub fn add(&mut self, other: &QuirkCounts) {
        for (mine, more) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_quirk_stands_at_its_own_place_and_has_a_name() {
        for (at, (quirk, name, meaning)) in Quirk::ALL.iter().enumerate() {
            assert_eq!(*quirk as usize, at);
            assert!(!name.is_empty() && !meaning.is_empty());
        }
    }

    #[test]
    fn a_quirk_is_new_once_and_counted_each_time() {
        let mut counts = QuirkCounts::default();
        assert!(counts.note(Quirk::CSeq) && !counts.note(Quirk::CSeq));
        assert_eq!(counts.seen().collect::<Vec<_>>(), [(Quirk::CSeq, 2)]);
    }
}
