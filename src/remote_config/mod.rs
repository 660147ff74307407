//! Remote configuration: signed documents, admission, trial, commit or rollback, safe mode.
//!
//! No change can make a device unreachable: a change is in force for good only after it has proven
//! itself ([`trial`]).
//!
//! * [`signed_document`]: the signed configuration. [`signed_command`]: signed commands.
//!   [`rejection`]: reasons of a rejection. [`token_bucket`]: rate limits.
//! * [`state_machine`]: `idle → staged → trial → committed` or rolled back. [`admission`]: checks
//!   before `staged`. [`trial`]: evidence and time limits. [`progress`]: the evidence so far.
//!   [`action`]: inputs and effects. [`status_report`]: reports to the office.
//! * [`validation`]: checks of a configuration's text. [`credential_scope`]: hosts that may receive
//!   a login.
//! * [`state_record`]: the stored state and its format. [`state_store`]: its files, over any
//!   [`state_store::Files`]. [`durable_files`]: a directory.
//! * [`local_edit`]: keys in force that an edit of the file undoes.
//! * [`crash_loop`]: decisions of a boot. [`startup_state`]: a boot over any files. [`startup`]:
//!   the boot of a real device.
//! * [`mutation`]: safeguards that the simulator removes one by one.
//!
//! The module depends on `settings` only. The agent reports camera, storage and broker to it as
//! [`action::ConfigInput`], and runs its threads ([`crate::agent::config_thread`]).
//!
//! What belongs here: checking, storing, trying and rolling back configurations; permission for
//! commands. What does not: applying a configuration (the agent), publishing (the uplink).

pub(crate) mod rejection;
pub(crate) mod token_bucket;
pub mod signed_document;
pub mod signed_command;
pub mod state_record;
pub(crate) mod state_store;
pub(crate) mod local_edit;
pub(crate) mod known_ring;
pub(crate) mod durable_files;
#[cfg(any(test, feature = "sim"))]
pub mod mutation;
#[cfg(not(any(test, feature = "sim")))]
mod mutation;
pub(crate) mod credential_scope;
pub mod validation;
pub(crate) mod crash_loop;
pub(crate) mod startup_state;
pub mod action;
pub(crate) mod progress;
pub(crate) mod status_report;
pub(crate) mod admission;
pub mod state_machine;
#[cfg(test)]
mod state_machine_tests;
pub(crate) mod trial;
pub(crate) mod startup;
