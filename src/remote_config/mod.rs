//! The configuration room: how settings come to a device and prove themselves, so that no change can strand it.
//!
//! * [`signed_document`]: the signed document, byte by byte. [`signed_command`]: signed commands. [`rejection`]: every reason to say no.
//! * [`token_bucket`]: how much strangers may ask for.
//! * [`state_record`]: what is kept, and its format. [`state_store`]: in which files, over any [`state_store::Files`]; [`durable_files`] ⇄: real ones.
//! * [`credential_scope`]: to whom a login may be shown. [`validation`]: whether a text may be tried at all. [`crash_loop`]: what a start does with what it finds.
//! * [`state_machine`]: idle → staged → trial → committed or rolled back, pure; [`admission`]: the way
//!   in; [`trial`]: proof and time. [`status_report`]: what the office is reported.
//! * [`mutation`]: each promise by name, so that a check can take one away.
//! * [`startup_state`]: what a start goes by, over any files; [`startup`] ⇄: the start itself. What else needs threads and time is the agent's ([`crate::agent::config_thread`]).
//!
//! The module lies behind `settings` and in front of everything that only uses them: it decides about settings as a whole and needs no
//! other room; what it must know of camera, card and broker comes in as [`state_machine::ConfigInput`] from the agent.
//!
//! What belongs here: judging, keeping, trying and taking back configurations; who may command. What does not: applying one (the
//! agent and its wiring), publishing (the uplink).

pub mod rejection;
pub mod token_bucket;
pub mod signed_document;
pub mod signed_command;
pub mod state_record;
pub mod state_store;
pub mod durable_files;
#[cfg(any(test, feature = "sim"))]
pub mod mutation;
#[cfg(not(any(test, feature = "sim")))]
mod mutation;
pub mod credential_scope;
pub mod validation;
pub mod crash_loop;
pub mod startup_state;
pub mod status_report;
pub mod admission;
pub mod state_machine;
#[cfg(test)]
mod state_machine_tests;
pub mod trial;
pub mod startup;
