//! Safeguards of the remote configuration: the simulator removes one and must find a stranded
//! device.
//!
//! Only simulated worlds remove one.

use crate::listed_enum::listed_enum;

listed_enum! {
    /// A safeguard that a simulation can remove.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[cfg_attr(
        not(any(test, feature = "sim")),
        expect(dead_code, reason = "the simulator names all of them")
    )]
    pub enum Safeguard {
        /// A change is committed only on evidence.
        Evidence,
        /// The confirmation must arrive on a session under the new settings.
        FreshSession,
        /// A trial has a time limit.
        Deadline,
        /// A trial has at most three boots.
        Starts,
        /// A change is stored before it is applied.
        JournalFirst,
        /// A boot that cannot be recorded rolls back the trial.
        CountedStart,
        /// The last known good configuration is kept during a trial.
        LastGood,
        /// A write to a hung card has a time limit.
        CardDeadline,
        /// Record and texts have two copies.
        Copies,
        /// A checksum detects damage.
        Checksum,
        /// The bootstrap's brokers are tried after all others.
        Bootstrap,
        /// A crash loop leads to safe mode.
        SafeMode,
        /// No configuration can make a trial endless.
        TrialBounded,
        /// The signing key stays enrolled.
        KeyOverlap,
    }

    #[cfg(any(test, feature = "sim"))]
    /// All safeguards.
    pub const ALL;
}

#[cfg(any(test, feature = "sim"))]
use Safeguard::*;

#[cfg(any(test, feature = "sim"))]
impl Safeguard {
    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Evidence => "evidence",
            FreshSession => "fresh-session",
            Deadline => "deadline",
            Starts => "starts",
            JournalFirst => "journal-first",
            CountedStart => "counted-start",
            LastGood => "last-good",
            CardDeadline => "card-deadline",
            Copies => "copies",
            Checksum => "checksum",
            Bootstrap => "bootstrap",
            SafeMode => "safe-mode",
            TrialBounded => "trial-bounded",
            KeyOverlap => "key-overlap",
        }
    }

    /// The behaviour without the safeguard, with the number of the guarantee (docs/remote.md).
    pub fn what(self) -> &'static str {
        match self {
            Evidence => "a change is committed as soon as it is applied (G4)",
            FreshSession => "an old session's confirmation counts (G4)",
            Deadline => "a trial has no end (G5)",
            Starts => "a trial has any number of boots (G5)",
            JournalFirst => "a change is applied before it is stored (G3)",
            CountedStart => "an uncounted boot runs the trial (G3)",
            LastGood => "the last known good configuration is forgotten at the trial (G6)",
            CardDeadline => "a hung card is waited for without a limit (G5)",
            Copies => "record and texts have one copy (G6)",
            Checksum => "damage on the card is not detected (G6)",
            Bootstrap => "the bootstrap's brokers are not tried (G6)",
            SafeMode => "no safe mode after a crash loop (G8)",
            TrialBounded => "a configuration may make trials endless (G9)",
            KeyOverlap => "a document may remove the key that signed it, and all others (G7)",
        }
    }
}
