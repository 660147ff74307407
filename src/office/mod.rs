//! Office archive: MQTT subscriber, event and file store, receipts, retention, configuration
//! rollout.
//!
//! * [`service`]: MQTT client. [`archive_thread`]: the threads that store and hash.
//!   [`archive_link`]: what goes in and out of them.
//!   [`fault_log`]: counts of faults, each reported once a minute.
//!   [`ingest_queue`]: bounded queue of messages for each site. [`notice`]: reports to the
//!   operator.
//! * [`archive`]: batches of messages. [`message_ingest`]: events, states, births, health,
//!   replies. [`ingest_outcome`]: what one message leads to. [`partial_files`]: unfinished files,
//!   after `manifest_check`; [`part_cache`]: their state in memory. [`file_commit`]: moves a
//!   checked file into place.
//! * [`history`]: motion events, gaps, presence, health and counts as rows of their own.
//!   [`change`]: what changed, for pages.
//! * [`store`]: the interfaces of the index and of the bytes of files, with their implementations,
//!   SQLite and a directory: all SQL and all paths. [`error`]: the error type.
//! * [`queries`]: lists for the operator, and the reader for pages; their SQL is in [`store`].
//!   [`retention`]: release of old files, and locks;
//!   [`retention_rules`]: its rules by purpose and site.
//!   [`export`]: an event with its files. [`consistency_check`]: index against files.
//! * [`sequence_gaps`]: missing sequence numbers. [`range_set`]: sets of ranges.
//! * [`config_store`]: documents sent to devices, and their reports. [`rollout`]: one change to
//!   many devices, in waves. [`rollout_driver`]: its session with the broker.
//!   [`config_template`]: one text for many devices. [`command_client`]: sends a command to a device
//!   and waits for the reply.
//! * [`console`]: people, rights, the audit trail.
//! * [`media`]: clips for a player: index, file without sound, key frames.
//!   [`pictures`]: the thread that decodes key frames to JPEG, with [`picture_cache`].
//! * [`office_config`]: the configuration file. [`archive_lock`]: one receiving office for each
//!   archive; [`operator_socket`]: what the command line asks of it. [`safeguards`]: rules that the simulator removes one by one.
//!
//! Every other MQTT subscriber can do the same: docs/mqtt.md is the contract.
//!
//! What belongs here: storing messages of devices, receipts, queries. What does not: code that a
//! device needs, because the device's build leaves out the feature `office`.

pub mod archive;
pub mod archive_link;
pub(crate) mod archive_lock;
pub mod archive_thread;
pub mod change;
pub mod clock_check;
pub(crate) mod command_client;
pub(crate) mod config_store;
pub(crate) mod config_template;
pub mod console;
pub(crate) mod consistency_check;
pub(crate) mod error;
pub(crate) mod export;
pub(crate) mod fault_log;
pub(crate) mod file_commit;
pub(crate) mod history;
pub(crate) mod ingest_outcome;
pub(crate) mod ingest_queue;
mod manifest_check;
pub mod media;
pub(crate) mod message_ingest;
pub mod notice;
pub mod office_config;
pub(crate) mod operator_socket;
pub(crate) mod part_cache;
pub(crate) mod partial_files;
pub(crate) mod picture_cache;
pub mod pictures;
pub mod queries;
pub(crate) mod range_set;
pub mod retention;
pub mod retention_rules;
pub(crate) mod rollout;
pub(crate) mod rollout_driver;
#[cfg(any(test, feature = "sim"))]
pub mod safeguards;
#[cfg(not(any(test, feature = "sim")))]
mod safeguards;
pub(crate) mod sequence_gaps;
pub(crate) mod service;
pub(crate) mod store;
pub(crate) mod thread_priority;
