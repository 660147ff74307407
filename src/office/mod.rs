//! The office room: the reference archive of the commune office. Everything it does is possible for any other MQTT subscriber.
//!
//! * [`host`] ⇄: its MQTT client. [`keeper`] ⇄: the threads that store and hash. [`archive`] ⇄: events and files on the disk.
//! * [`store`] ⇄: single operations on files. [`index`] ⇄: its transactions. [`door`] ⇄: messages that are no files. [`parts`] ⇄: files on
//!   their way. [`placing`] ⇄: their last steps. [`rules`]: what the way in owes its safety to.
//! * [`look`] ⇄: what it shows. [`keep`] ⇄: retention and locks. [`export`] ⇄: an event with its files, to take away.
//! * [`check`] ⇄: index against files. [`claim`] ⇄: one receiving office for each archive. [`queue`]: messages before the archive, in turn.
//! * [`gaps`] ⇄: numbers that are missing. [`ranges`]: which bytes, or numbers, are there.
//! * [`configs`] ⇄: documents sent to devices and what they answered. [`rollout`]: one change to many devices, in waves, pure.
//!   [`template`]: one text for many devices.
//!
//! What belongs here: keeping what devices send, receipts, looking at it. What does not: anything a device needs (this is a Cargo
//! feature the edge build leaves out).

pub mod archive;
pub mod message_ingest;
pub mod index;
pub mod partial_files;
pub mod file_commit;
pub mod safeguards;
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
