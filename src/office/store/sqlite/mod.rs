//! The index in SQLite.
//!
//! * [`index`]: the connection and its transactions. [`schema`]: its tables. `retention`: what may be
//!   released, and locks.
//! * [`history`]: rows for pages, written with the message that makes them. [`upgrade`]: the same
//!   rows for the events of an older archive. [`reader`]: read-only connections for pages, with
//!   their queries in `read_events` (events, motion events), `read_files` and `read_sites` (the
//!   rest).

pub(crate) mod history;
pub(crate) mod index;
mod read_events;
mod read_files;
mod read_sites;
pub(crate) mod reader;
mod retention;
pub(crate) mod schema;
pub(crate) mod upgrade;
