//! What the archive owes to each of its rules: a simulation takes one away and must see something break.
//!
//! What belongs here: their names. What does not: keeping them ([`super::archive`], [`super::parts`]).

/// A rule of the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
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

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 6] = [
        Rule::TargetFirst,
        Rule::MoveFirst,
        Rule::CommitBeforeMemory,
        Rule::CommitBeforeReceipt,
        Rule::HashAtTakeUp,
        Rule::ErrorIsNoDigest,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Rule::TargetFirst => "target-first",
            Rule::MoveFirst => "move-first",
            Rule::CommitBeforeMemory => "commit-memory",
            Rule::CommitBeforeReceipt => "commit-receipt",
            Rule::HashAtTakeUp => "hash-take-up",
            Rule::ErrorIsNoDigest => "error-no-digest",
        }
    }

    /// What it asks for, in words.
    pub fn what(self) -> &'static str {
        match self {
            Rule::TargetFirst => "the target is durable before the rename",
            Rule::MoveFirst => "rename and directories are flushed before the listing",
            Rule::CommitBeforeMemory => "memory changes only after COMMIT",
            Rule::CommitBeforeReceipt => "a receipt leaves only after COMMIT",
            Rule::HashAtTakeUp => "a move cut short is hashed before it is listed",
            Rule::ErrorIsNoDigest => "an I/O error is no wrong digest",
        }
    }
}
