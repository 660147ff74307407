//! Office archive: MQTT subscriber, event and file store, receipts, retention, configuration
//! rollout.
//!
//! * [`service`] ⇄: MQTT client. [`archive_thread`] ⇄: the threads that store and hash.
//!   [`ingest_queue`]: bounded queue of messages for each site. [`notice`]: reports to the
//!   operator.
//! * [`archive`] ⇄: batches of messages. [`message_ingest`] ⇄: events, states, births, health,
//!   replies. [`partial_files`] ⇄: unfinished files, after `manifest_check`. [`file_commit`] ⇄:
//!   moves a checked file into place.
//! * [`index`] ⇄: transactions of the SQLite index. [`schema`]: its tables.
//!   [`file_store`] ⇄: single operations on files. [`error`]: the error type.
//! * [`queries`] ⇄: lists for the operator. [`retention`] ⇄: release of old files, and locks.
//!   [`export`] ⇄: an event with its files. [`consistency_check`] ⇄: index against files.
//! * [`sequence_gaps`] ⇄: missing sequence numbers. [`range_set`]: sets of ranges.
//! * [`config_store`] ⇄: documents sent to devices, and their reports. [`rollout`]: one change to
//!   many devices, in waves. [`rollout_driver`] ⇄: its session with the broker.
//!   [`config_template`]: one text for many devices.
//! * [`command_client`] ⇄: sends a command to a device and waits for the reply.
//! * [`archive_lock`] ⇄: one receiving office for each archive. [`safeguards`]: rules that the
//!   simulator removes one by one.
//!
//! Every other MQTT subscriber can do the same: docs/mqtt.md is the contract.
//!
//! What belongs here: storing messages of devices, receipts, queries. What does not: code that a
//! device needs, because the device's build leaves out the feature `office`.

pub mod archive;
pub mod archive_lock;
pub mod archive_thread;
pub mod command_client;
pub mod config_store;
pub mod config_template;
pub mod consistency_check;
pub mod error;
pub mod export;
pub mod file_commit;
pub mod file_store;
pub mod index;
pub mod ingest_queue;
mod manifest_check;
pub mod message_ingest;
pub mod notice;
pub mod partial_files;
pub mod queries;
pub mod range_set;
pub mod retention;
pub mod rollout;
pub mod rollout_driver;
#[cfg(any(test, feature = "sim"))]
pub mod safeguards;
#[cfg(not(any(test, feature = "sim")))]
mod safeguards;
pub mod schema;
pub mod sequence_gaps;
pub mod service;
