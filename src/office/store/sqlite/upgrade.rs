//! Motion events and gaps of the events that an older archive stored.

use rusqlite::params;

use crate::office::error::ArchiveError;
use crate::office::message_ingest::{add_history, event_in};
use crate::office::store::index::HistoryIndex as _;
use crate::units::WallTime;

use super::index::SqliteIndex;

/// Events read in one step: some megabytes.
const STEP: u32 = 2_000;
/// Events between two reports of the progress: some seconds of work.
const REPORT_EVERY: u64 = 50_000;

/// Makes the history of all stored events, oldest first, within the open transaction; reports its
/// progress to the log. Events that the archive of then accepted and this one would not are left
/// out.
///
/// # Errors
/// When the index fails.
pub(crate) fn fill_history(index: &SqliteIndex) -> Result<(), ArchiveError> {
    let all: u64 = index.db.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?;
    let (mut rowid, mut done) = (i64::MIN, 0);
    loop {
        let mut query = index.db.prepare_cached(
            "SELECT rowid, site, id, payload, received FROM events WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
        )?;
        let mut rows = query.query(params![rowid, STEP])?;
        let before = done;
        while let Some(row) = rows.next()? {
            rowid = row.get(0)?;
            done += 1;
            let (site, id, received): (String, String, String) =
                (row.get(1)?, row.get(2)?, row.get(4)?);
            let payload: Vec<u8> = row.get(3)?;
            // An id with `~` is a second event of one id, kept beside the first.
            if let Ok(event) = event_in(&payload)
                && event.id == id
            {
                let at = WallTime::parse(&received).unwrap_or_default();
                add_history(index, &site, &event, (&received, at))?;
            }
        }
        if done / REPORT_EVERY > before / REPORT_EVERY {
            tracing::info!(done, all, "archive is upgraded, its events are read once; wait");
        }
        if done - before < u64::from(STEP) {
            return Ok(());
        }
    }
}

/// Begins the presence of each site with its last state, since its last message.
///
/// # Errors
/// When the index fails.
pub(crate) fn begin_presence(index: &SqliteIndex) -> Result<(), ArchiveError> {
    let mut query =
        index.db.prepare("SELECT site, state, seen FROM sites WHERE state IS NOT NULL")?;
    let rows = query
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<String>>(2)?)))?;
    let sites: Vec<(String, String, Option<String>)> = rows.collect::<Result<_, _>>()?;
    for (site, state, seen) in sites {
        if let Ok(seen) = WallTime::parse(&seen.unwrap_or_default()) {
            index.add_presence(&site, &state, seen)?;
        }
    }
    Ok(())
}
