//! The office's disk and index, refusing: worlds in which an event and files come in while the disk is full, gives errors, the index is
//! locked or full, and the power goes between any two steps.
//!
//! * `durable_files`: its files. [`world`]: one world, its honest sender and its judge.
//!
//! What belongs here: faults of the office. What does not: the archive ([`crate::office`]), a device's card ([`super::faulty_disk`]).

pub mod files;
pub mod world;
