//! The audit trail: who did what, when, why; each record chained to the one before.
//!
//! * [`act`]: what can be done. [`record`]: the text of a record. [`chain`]: digests, and the walk that verifies them.
//! * [`head_file`]: the head in a second place. [`verify`]: a whole trail with its head.
//! * [`shown`]: merged ranges of what was on a screen.

pub mod act;
pub mod chain;
pub mod head_file;
pub mod record;
pub mod shown;
pub mod verify;
