//! Open gap: a gap whose end is not known yet.

use super::GapReason;
use crate::units::Timestamp;

/// A gap without an end; it ends where the next footage begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenGap {
    pub(super) from: Timestamp,
    pub(super) reason: GapReason,
    pub(super) bytes: u64,
}
