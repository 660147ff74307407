//! Simulated disk and index of the office, with faults and power cuts.
//!
//! Events and files arrive while the disk is full or gives errors, or the index is locked or full.
//! The
//! power may fail between any two steps.
//!
//! * `files`: the disk. [`world`]: one world with its sender and its checks.
//!
//! What belongs here: faults of the office. What does not: the archive ([`crate::office`]), a
//! device's card ([`super::faulty_disk`]).

pub(crate) mod files;
pub(crate) mod world;
