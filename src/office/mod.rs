//! The office room: the reference archive of the commune office. Everything it does is possible for any other MQTT subscriber.
//!
//! * [`service`] ⇄: its MQTT client. [`archive_thread`] ⇄: the threads that store and hash. [`archive`] ⇄: events and files on the disk.
//! * [`file_store`] ⇄: single operations on files. [`index`] ⇄: its transactions. [`message_ingest`] ⇄: messages that are no files. [`partial_files`] ⇄: files on
//!   their way. [`file_commit`] ⇄: their last steps. [`safeguards`]: what the way in owes its safety to.
//! * [`queries`] ⇄: what it shows. [`retention`] ⇄: retention and locks. [`export`] ⇄: an event with its files, to take away.
//! * [`consistency_check`] ⇄: index against files. [`archive_lock`] ⇄: one receiving office for each archive. [`ingest_queue`]: messages before the archive, in turn.
//! * [`sequence_gaps`] ⇄: numbers that are missing. [`range_set`]: which bytes, or numbers, are there.
//! * [`config_store`] ⇄: documents sent to devices and what they answered. [`rollout`]: one change to many devices, in waves, pure.
//!   [`config_template`]: one text for many devices.
//!
//! What belongs here: keeping what devices send, receipts, looking at it. What does not: anything a device needs (this is a Cargo
//! feature the edge build leaves out).

pub mod archive;
pub mod message_ingest;
pub mod index;
pub mod partial_files;
pub mod file_commit;
#[cfg(any(test, feature = "sim"))]
pub mod safeguards;
#[cfg(not(any(test, feature = "sim")))]
mod safeguards;
pub mod file_store;
pub mod consistency_check;
pub mod archive_lock;
pub mod config_store;
pub mod export;
pub mod sequence_gaps;
pub mod service;
pub mod retention;
pub mod archive_thread;
pub mod queries;
pub mod ingest_queue;
pub mod range_set;
pub mod rollout;
pub mod config_template;
