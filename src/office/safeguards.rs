//! What the archive owes to each of its rules: a simulation takes one away and must see something break.
//!
//! What belongs here: their names. What does not: keeping them (`office_stub`, [`super::partial_files`]).

/// A rule of the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestRule {
    /// Where a file goes is durable before it goes there.
    TargetFirst,
    /// The move and its directories are flushed before the file is listed.
    MoveFirst,
    /// Memory changes only after COMMIT: what a refused transaction touched is read again from the index.
    CommitBeforeMemory,
    /// A receipt leaves only after COMMIT.
    CommitBeforeReceipt,
    /// A move that was cut short is hashed before the file is listed.
    HashAtTakeUp,
    /// An I/O error says nothing about a file's digest.
    ErrorIsNoDigest,
}

#[cfg(any(test, feature = "sim"))]
impl IngestRule {
    /// All of them.
    pub const ALL: [IngestRule; 6] = [
        IngestRule::TargetFirst,
        IngestRule::MoveFirst,
        IngestRule::CommitBeforeMemory,
        IngestRule::CommitBeforeReceipt,
        IngestRule::HashAtTakeUp,
        IngestRule::ErrorIsNoDigest,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            IngestRule::TargetFirst => "target-first",
            IngestRule::MoveFirst => "move-first",
            IngestRule::CommitBeforeMemory => "commit-memory",
            IngestRule::CommitBeforeReceipt => "commit-receipt",
            IngestRule::HashAtTakeUp => "hash-take-up",
            IngestRule::ErrorIsNoDigest => "error-no-digest",
        }
    }

    /// What it asks for, in words.
    pub fn what(self) -> &'static str {
        match self {
            IngestRule::TargetFirst => "the target is durable before the rename",
            IngestRule::MoveFirst => "rename and directories are flushed before the listing",
            IngestRule::CommitBeforeMemory => "memory changes only after COMMIT",
            IngestRule::CommitBeforeReceipt => "a receipt leaves only after COMMIT",
            IngestRule::HashAtTakeUp => "a move cut short is hashed before it is listed",
            IngestRule::ErrorIsNoDigest => "an I/O error is no wrong digest",
        }
    }
}
