//! What keeps a device from being stranded, promise by promise, so that each can be taken away by itself: a check that does not notice
//! is no check. Only simulated worlds take one away.
//!
//! What belongs here: the names. What does not: keeping the promises ([`super::state_machine`], [`super::crash_loop`], [`super::state_store`]).

/// A promise that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safeguard {
    /// A change is in force for good only on evidence.
    Evidence,
    /// The confirmation must come on a session made under the new settings.
    FreshSession,
    /// A trial ends.
    Deadline,
    /// Three starts inside one trial.
    Starts,
    /// What is done is written down first.
    JournalFirst,
    /// A start that cannot be written down runs nothing that is on trial.
    CountedStart,
    /// The last known good configuration is kept while another is tried.
    LastGood,
    /// A card that hangs holds nothing up for ever.
    CardDeadline,
    /// Two copies of everything.
    Copies,
    /// Damage is seen.
    Checksum,
    /// The bootstrap's brokers are tried when no other answers.
    Bootstrap,
    /// A crash loop leads to safe mode.
    SafeMode,
    /// No configuration can stop the clock of a trial.
    TrialBounded,
    /// The key that signs stays enrolled.
    KeyOverlap,
}

#[cfg(any(test, feature = "sim"))]
use Safeguard::*;

#[cfg(any(test, feature = "sim"))]
impl Safeguard {
    /// All of them.
    pub const ALL: [Safeguard; 14] = [
        Evidence,
        FreshSession,
        Deadline,
        Starts,
        JournalFirst,
        CountedStart,
        LastGood,
        CardDeadline,
        Copies,
        Checksum,
        Bootstrap,
        SafeMode,
        TrialBounded,
        KeyOverlap,
    ];

    /// Its name on the command line.
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

    /// What is missing without it, for people.
    pub fn what(self) -> &'static str {
        match self {
            Evidence => "a change is in force for good as soon as it is applied (G4)",
            FreshSession => "an old session's confirmation counts (G4)",
            Deadline => "a trial has no end (G5)",
            Starts => "any number of starts inside one trial (G5)",
            JournalFirst => "a change is applied before it is written down (G3)",
            CountedStart => "a start that cannot be counted runs the trial all the same (G3)",
            LastGood => "the last known good configuration is forgotten at the trial (G6)",
            CardDeadline => "a card that does not answer is waited for (G5)",
            Copies => "one copy of record and texts (G6)",
            Checksum => "damage on the card is believed (G6)",
            Bootstrap => "the bootstrap's brokers are not tried (G6)",
            SafeMode => "no safe mode after a crash loop (G8)",
            TrialBounded => "a configuration may make trials endless (G9)",
            KeyOverlap => "a document may remove the key that signed it, and all others (G7)",
        }
    }
}
