//! Console of the office: people, rights, the audit trail and what officers write down.
//!
//! * [`handle`]: [`Console`], through which the web reaches everything. [`error`]: the error type.
//! * [`people`]: rights, log-in, sessions, purposes. [`audit`]: the trail of all acts.
//! * [`writer`]: transactions and the thread `console-db`. [`acts`]: what changes something.
//!   [`tables`]: all SQL.
//! * [`board`]: judgement of a site. [`retention`]: its rules as the archive takes them.
//!   [`plan_image`]: an image of the plan with nothing but its pixels. [`web`]: the web listener.
//!
//! `console.sqlite` is a database of its own beside the archive's: an officer's click does not wait
//! for a batch of messages, and people and trail are kept and handed over differently from footage.
//! One thread, `console-db`, writes it. Each act and its records in the trail are one transaction,
//! durable before the answer; an act whose record cannot be written does not happen.
//!
//! What belongs here: people, rights, the trail, what officers write. What does not: footage and
//! events of devices, which belong to the archive.

pub mod acts;
pub mod audit;
pub mod board;
pub mod deletion_recorder;
pub mod error;
pub mod handle;
pub mod people;
pub mod plan_image;
pub mod retention;
pub mod tables;
pub mod web;
pub mod writer;

pub use handle::Console;

#[cfg(test)]
mod console_tests;
#[cfg(test)]
mod trail_tests;
