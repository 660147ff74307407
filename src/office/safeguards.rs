//! Safeguards of the ingest: rules that the simulator removes one by one.
//!
//! A simulation without one of them must find a broken promise (`taimat sim --office-worlds`).

use crate::listed_enum::listed_enum;

listed_enum! {
    /// A rule of the ingest.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum IngestRule {
        /// The target of a move is durable before the move.
        TargetFirst,
        /// Move and directories are flushed before the file is listed.
        MoveFirst,
        /// Memory changes only after COMMIT; a rollback drops the state of its files.
        CommitBeforeMemory,
        /// A receipt leaves only after COMMIT.
        CommitBeforeReceipt,
        /// A file of an interrupted move is hashed before it is listed.
        HashAtTakeUp,
        /// An I/O error proves nothing about a file's SHA-256.
        ErrorIsNoDigest,
    }

    #[cfg(any(test, feature = "sim"))]
    /// All rules.
    pub const ALL;
}

#[cfg(any(test, feature = "sim"))]
impl IngestRule {
    /// Name on the command line.
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

    /// The rule as a sentence.
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
