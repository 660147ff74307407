//! The index in SQLite.
//!
//! * [`index`]: the connection and its transactions. [`schema`]: its tables. [`error`]: its errors.
//! * `messages`, `numbers`, `files`, `configs`, `retention`: one subject each of what the archive
//!   thread asks. `lists`: lists, the export, the consistency check.
//! * [`history`]: rows for pages, written with the message that makes them. [`upgrade`]: the same
//!   rows for the events of an older archive. [`reader`]: read-only connections for pages, with
//!   their queries in `read_motion` (motion events), `read_events`, `read_files` and `read_sites` (the
//!   rest).
//! * `simulated`: an index in memory, and damage for tests.

use rusqlite::{Connection, Params, Row};

use crate::office::error::ArchiveError;

mod configs;
mod error;
mod files;
mod history;
pub(super) mod index;
mod lists;
mod messages;
mod numbers;
mod read_events;
mod read_files;
mod read_motion;
mod read_sites;
pub(super) mod reader;
mod retention;
mod schema;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod simulated;
mod upgrade;

/// All rows that a query answers.
fn rows<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, ArchiveError> {
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map(params, row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
