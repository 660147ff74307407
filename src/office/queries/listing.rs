//! Read-only queries of the archive: sites, events, files, gaps, replies.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use serde::Serialize;
use serde_json::Value;

use crate::office::archive::Archive;
use crate::office::error::{ArchiveError, Named as _};
use crate::office::file_store::DiskStore;
use crate::office::index::{self, Index};
use crate::office::range_set::Ranges;

/// Wait for the lock of the index while the office writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a `req_id` at most.
const REQ_ID_MAX: usize = 64;

/// One line of `office sites`.
#[derive(Debug, Serialize)]
pub struct SiteRow {
    /// Site id.
    pub site: String,
    /// `online`, `stopping`, `lost`, or empty before the first state.
    pub state: String,
    /// RFC 3339 time of the last message.
    pub seen: String,
    /// Events stored and not released.
    pub events: u64,
    /// Highest sequence number of all rings.
    pub highest_seq: u64,
    /// Rings with events: one for each card that the device has had.
    pub rings: u64,
    /// Missing sequence numbers between 1 and the highest of each ring.
    pub missing_seq: u64,
    /// Files stored and not released.
    pub files: u64,
}

/// One line of `office events`.
#[derive(Debug, Serialize)]
pub struct EventRow {
    /// Site id.
    pub site: String,
    /// Sequence number.
    pub seq: u64,
    /// RFC 3339 time of the event.
    pub time: String,
    /// CloudEvents type.
    pub kind: String,
    /// ULID.
    pub id: String,
    /// `data` of the event; null when the payload has none.
    pub data: Value,
}

/// One line of `office clips`.
#[derive(Debug, Serialize)]
pub struct FileRow {
    /// Site id.
    pub site: String,
    /// `clip`, `snapshot`, `requested`.
    pub purpose: String,
    /// RFC 3339 time of the first picture.
    pub start: String,
    /// RFC 3339 time of the end.
    pub end: String,
    /// Bytes.
    pub size: u64,
    /// Id of the event, or `req_id` of the request.
    pub event: String,
    /// Path of the file.
    pub path: PathBuf,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// One line of `office gaps`.
#[derive(Debug, Serialize)]
pub struct GapRow {
    /// Site id.
    pub site: String,
    /// Id of the ring, 16 hexadecimal digits.
    pub ring: String,
    /// First missing sequence number.
    pub first: u64,
    /// Last missing sequence number.
    pub last: u64,
    /// `missing`, `on its way` (above the device's confirmed watermark), or the reason of the loss.
    pub why: String,
}

/// Selection of rows.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Only this site.
    pub site: Option<String>,
    /// Only this kind: the middle of an event's `type`, or a file's purpose.
    pub kind: Option<String>,
    /// Earliest time, RFC 3339 UTC, inclusive.
    pub from: Option<String>,
    /// Latest time, RFC 3339 UTC, inclusive.
    pub to: Option<String>,
    /// Rows at most, the newest ones.
    pub limit: u32,
}

/// Checks that `dir` holds an archive.
///
/// # Errors
/// `NotFound` with the directory.
pub(crate) fn ensure_there(dir: &Path) -> Result<(), ArchiveError> {
    if dir.join(index::NAME).symlink_metadata().is_ok() {
        return Ok(());
    }
    let dir = dir.display();
    Err(ArchiveError::NotFound(format!(
        "no archive in {dir}; name the directory of taimat office run --dir"
    )))
}

impl Archive {
    /// Opens an archive for queries, beside the office that writes it.
    ///
    /// # Errors
    /// `NotFound` when `dir` holds no archive; otherwise the failure of the database.
    pub fn open_read_only(dir: &Path) -> Result<Archive, ArchiveError> {
        let path = dir.join(index::NAME);
        ensure_there(dir)?;
        index::check_files(dir)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags).named(|| path.display().to_string())?;
        db.busy_timeout(BUSY_TIMEOUT).named(|| path.display().to_string())?;
        // One that is no database fails at its first query, which says what to do.
        if let Ok(found) = db.query_row("PRAGMA user_version", [], |row| row.get(0)) {
            index::check_version(&path, found)?;
        }
        Ok(Archive::over(dir.to_owned(), Index::over(db, None), Arc::new(DiskStore::new(dir))))
    }

    /// The sites, sorted by id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn sites(&self) -> Result<Vec<SiteRow>, ArchiveError> {
        self.read_sites().named(|| self.unreadable())
    }

    fn read_sites(&self) -> Result<Vec<SiteRow>, ArchiveError> {
        let mut query = self.index.db.prepare(
            "SELECT s.site, coalesce(s.state, ''), coalesce(s.seen, ''), coalesce(sum(t.events), 0), coalesce(max(t.highest), 0),
             total(max(CAST(t.highest AS REAL) - t.numbers, 0)), coalesce((SELECT k.files FROM kept k WHERE k.site = s.site), 0), count(t.ring)
             FROM sites s LEFT JOIN site_totals t ON t.site = s.site GROUP BY s.site ORDER BY s.site",
        )?;
        let rows = query.query_map([], |row| {
            Ok(SiteRow {
                site: row.get(0)?,
                state: row.get(1)?,
                seen: row.get(2)?,
                events: row.get(3)?,
                highest_seq: row.get(4)?,
                // A device chooses its sequence numbers, so their sum may exceed an integer.
                missing_seq: row.get::<_, f64>(5)? as u64,
                files: row.get(6)?,
                rings: row.get(7)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The newest events that match, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn events(&self, filter: &Filter) -> Result<Vec<EventRow>, ArchiveError> {
        self.read_events(filter).named(|| self.unreadable())
    }

    fn read_events(&self, filter: &Filter) -> Result<Vec<EventRow>, ArchiveError> {
        // An equality only where it is asked for, so that the index of site, kind or receipt is used.
        let of_site = if filter.site.is_some() { "site = ?1" } else { "?1 IS NULL" };
        let of_kind = match (&filter.kind, &filter.site) {
            (None, _) => "?5 IS NULL",
            (Some(_), None) => "kind = 'vn.taimat.' || ?5 || '.v1'",
            (Some(_), Some(_)) => "+kind = 'vn.taimat.' || ?5 || '.v1'",
        };
        let query = format!(
            "SELECT site, seq, time, kind, id, payload FROM events WHERE {of_site} AND {of_kind} AND (?2 IS NULL OR time >= ?2)
             AND (?3 IS NULL OR time <= ?3) ORDER BY received DESC, seq DESC LIMIT ?4"
        );
        let mut query = self.index.db.prepare(&query)?;
        let rows = query.query_map(
            params![filter.site, filter.from, filter.to, filter.limit, filter.kind],
            |row| {
                let payload: Vec<u8> = row.get(5)?;
                let data = serde_json::from_slice::<Value>(&payload)
                    .map(|mut event| event["data"].take())
                    .unwrap_or_default();
                Ok(EventRow {
                    site: row.get(0)?,
                    seq: row.get(1)?,
                    time: row.get(2)?,
                    kind: row.get(3)?,
                    id: row.get(4)?,
                    data,
                })
            },
        )?;
        let mut rows: Vec<EventRow> = rows.collect::<Result<_, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// The newest files that match, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn files(&self, filter: &Filter) -> Result<Vec<FileRow>, ArchiveError> {
        self.read_files(filter).named(|| self.unreadable())
    }

    fn read_files(&self, filter: &Filter) -> Result<Vec<FileRow>, ArchiveError> {
        let mut query = self.index.db.prepare(
            "SELECT site, purpose, start, end, size, event, path, sha256 FROM files WHERE (?1 IS NULL OR site = ?1)
             AND (?2 IS NULL OR end >= ?2) AND (?3 IS NULL OR start <= ?3) AND (?5 IS NULL OR purpose = ?5) AND gone IS NULL
             ORDER BY start DESC LIMIT ?4",
        )?;
        let rows = query.query_map(
            params![filter.site, filter.from, filter.to, filter.limit, filter.kind],
            |row| {
                let path: String = row.get(6)?;
                Ok(FileRow {
                    site: row.get(0)?,
                    purpose: row.get(1)?,
                    start: row.get(2)?,
                    end: row.get(3)?,
                    size: row.get(4)?,
                    event: row.get(5)?,
                    path: self.dir.join(path),
                    sha256: row.get(7)?,
                })
            },
        )?;
        let mut rows: Vec<FileRow> = rows.collect::<Result<_, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// Missing sequence numbers: missing, on their way, or dropped by the device with a reason.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn gaps(&self, filter: &Filter) -> Result<Vec<GapRow>, ArchiveError> {
        self.read_gaps(filter).named(|| self.unreadable())
    }

    fn read_gaps(&self, filter: &Filter) -> Result<Vec<GapRow>, ArchiveError> {
        let mut rings = self.index.db.prepare(
            "SELECT e.site, e.ring, max(max(e.seq), coalesce(r.confirmed, 0)), coalesce(r.confirmed, 0) FROM events e
             LEFT JOIN rings r ON r.site = e.site AND r.ring = e.ring WHERE (?1 IS NULL OR e.site = ?1)
             GROUP BY e.site, e.ring ORDER BY e.site, e.ring",
        )?;
        let rings: Vec<(String, String, u64, u64)> = rings
            .query_map(params![filter.site], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?
            .collect::<Result<_, _>>()?;
        let mut rows = Vec::new();
        for (site, ring, highest, confirmed) in rings {
            for (first, last) in self.missing(&site, &ring, 1, highest)? {
                let why = if first <= confirmed { "missing" } else { "on its way" }.to_owned();
                rows.push(GapRow { site: site.clone(), ring: ring.clone(), first, last, why });
            }
            let mut query = self.index.db.prepare_cached(
                "SELECT first, last, reason FROM given_up WHERE site = ?1 AND ring = ?2",
            )?;
            let given_up = query
                .query_map(params![site, ring], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<Vec<(u64, u64, String)>, _>>()?;
            // A device names as gone what it delivered long ago, and drops what is on its way.
            let received =
                if given_up.is_empty() { Ranges::default() } else { self.received(&site, &ring)? };
            for (first, last, why) in given_up {
                let lost = received.missing(first, last.saturating_add(1), usize::MAX);
                rows.extend(lost.into_iter().map(|(first, end)| GapRow {
                    site: site.clone(),
                    ring: ring.clone(),
                    first,
                    last: end - 1,
                    why: why.clone(),
                }));
            }
        }
        rows.truncate(filter.limit as usize);
        Ok(rows)
    }

    fn unreadable(&self) -> String {
        index::unreadable(&self.dir)
    }

    /// The reply to a command; `None` before it arrives.
    ///
    /// # Errors
    /// `Invalid` for a `req_id` of more than 64 bytes; otherwise the failure of the database.
    pub fn reply_to(&self, site: &str, req_id: &str) -> Result<Option<Value>, ArchiveError> {
        if req_id.len() > REQ_ID_MAX {
            return Err(ArchiveError::Invalid(format!("a req_id has at most {REQ_ID_MAX} bytes")));
        }
        let query = "SELECT payload FROM replies WHERE site = ?1 AND req_id = ?2";
        let bytes: Option<Vec<u8>> = self
            .index
            .db
            .query_row(query, params![site, req_id], |row| row.get(0))
            .optional()
            .named(|| self.unreadable())?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_is_no_database_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(index::NAME);
        std::fs::write(&path, [b'x'; 8192]).unwrap();
        let archive = Archive::open_read_only(dir.path()).unwrap();
        let filter = Filter { limit: 1, ..Filter::default() };
        for error in [
            archive.sites().unwrap_err(),
            archive.events(&filter).unwrap_err(),
            archive.files(&filter).unwrap_err(),
            archive.gaps(&filter).unwrap_err(),
            archive.reply_to("km-17", "r1").unwrap_err(),
        ] {
            let line = error.line();
            assert!(line.starts_with(&path.display().to_string()), "{line}");
            assert!(line.contains("restore"), "{line}");
        }
    }
}
