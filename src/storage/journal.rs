//! Not written yet.

/// Bytes of one entry at most.
pub const ENTRY_MAX: usize = 3840;
