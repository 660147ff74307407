//! Lists of the command line, the export and the consistency check.

use std::path::PathBuf;

use rusqlite::types::FromSql;
use rusqlite::{OptionalExtension as _, Params, params};
use serde_json::Value;

use super::index::{NAME, SqliteIndex};
use super::rows;
use crate::office::error::ArchiveError;
use crate::office::queries::{EventRow, FileRow, Filter, SiteRow};
use crate::office::store::list_index::{EventFile, ListIndex, ListedFile, ListedPart, WrongSum};

impl SqliteIndex {
    /// The first column of all rows.
    fn column<T: FromSql>(&self, sql: &str, params: impl Params) -> Result<Vec<T>, ArchiveError> {
        rows(&self.db, sql, params, |row| row.get(0))
    }

    fn is_true(&self, sql: &str, params: impl Params) -> Result<bool, ArchiveError> {
        Ok(self.db.prepare_cached(sql)?.query_row(params, |row| row.get(0))?)
    }
}

impl ListIndex for SqliteIndex {
    fn name(&self) -> &'static str {
        NAME
    }

    fn unreadable(&self) -> String {
        super::index::unreadable(&self.path)
    }

    fn list_sites(&self) -> Result<Vec<SiteRow>, ArchiveError> {
        let sql = "SELECT s.site, coalesce(s.state, ''), coalesce(s.seen, ''), coalesce(sum(t.events), 0), coalesce(max(t.highest), 0),
             total(max(CAST(t.highest AS REAL) - t.numbers, 0)), coalesce((SELECT k.files FROM kept k WHERE k.site = s.site), 0), count(t.ring)
             FROM sites s LEFT JOIN site_totals t ON t.site = s.site GROUP BY s.site ORDER BY s.site";
        rows(&self.db, sql, [], |row| {
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
        })
    }

    fn list_events(&self, filter: &Filter) -> Result<Vec<EventRow>, ArchiveError> {
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
        let mut rows: Vec<EventRow> = rows(
            &self.db,
            &query,
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
        rows.reverse();
        Ok(rows)
    }

    fn list_files(&self, filter: &Filter) -> Result<Vec<FileRow>, ArchiveError> {
        let sql = "SELECT site, purpose, start, end, size, event, path, sha256 FROM files WHERE (?1 IS NULL OR site = ?1)
             AND (?2 IS NULL OR end >= ?2) AND (?3 IS NULL OR start <= ?3) AND (?5 IS NULL OR purpose = ?5) AND gone IS NULL
             ORDER BY start DESC LIMIT ?4";
        let mut rows: Vec<FileRow> = rows(
            &self.db,
            sql,
            params![filter.site, filter.from, filter.to, filter.limit, filter.kind],
            |row| {
                Ok(FileRow {
                    site: row.get(0)?,
                    purpose: row.get(1)?,
                    start: row.get(2)?,
                    end: row.get(3)?,
                    size: row.get(4)?,
                    event: row.get(5)?,
                    path: PathBuf::new(),
                    key: row.get(6)?,
                    sha256: row.get(7)?,
                })
            },
        )?;
        rows.reverse();
        Ok(rows)
    }

    fn event_of(&self, site: &str, id: &str) -> Result<Option<String>, ArchiveError> {
        let query = "SELECT json_extract(CAST(payload AS TEXT), '$.data.event') FROM events WHERE site = ?1 AND id = ?2
             AND json_valid(CAST(payload AS TEXT)) AND json_type(CAST(payload AS TEXT), '$.data.event') = 'text'";
        Ok(self.db.query_row(query, params![site, id], |row| row.get(0)).optional()?)
    }

    fn payloads_of(&self, site: &str, event: &str) -> Result<Vec<Vec<u8>>, ArchiveError> {
        self.column(
            "SELECT payload FROM events WHERE site = ?1 AND (id = ?2 OR substr(id, 1, length(?2) + 1) = ?2 || '~' OR
             CASE WHEN json_valid(CAST(payload AS TEXT)) THEN json_extract(CAST(payload AS TEXT), '$.data.event') = ?2 END)
             ORDER BY seq",
            params![site, event],
        )
    }

    fn event_files(&self, site: &str, event: &str) -> Result<Vec<EventFile>, ArchiveError> {
        let sql = "SELECT name, path, sha256, manifest FROM files WHERE site = ?1 AND event = ?2 AND gone IS NULL ORDER BY start, fid";
        rows(&self.db, sql, params![site, event], |row| {
            Ok(EventFile {
                name: row.get(0)?,
                key: row.get(1)?,
                sha256: row.get(2)?,
                manifest: row.get(3)?,
            })
        })
    }

    fn damages(&self) -> Result<Vec<String>, ArchiveError> {
        let mut lines = self.column::<String>("PRAGMA integrity_check", [])?;
        lines.retain(|line| line != "ok");
        Ok(lines)
    }

    fn wrong_sums(&self) -> Result<Vec<WrongSum>, ArchiveError> {
        let sql = "SELECT f.site, f.n, f.bytes, k.files, k.bytes FROM (SELECT site, count(*) AS n, sum(size) AS bytes FROM files
             WHERE gone IS NULL GROUP BY site) f LEFT JOIN kept k ON k.site = f.site
             WHERE k.files IS NOT f.n OR k.bytes IS NOT f.bytes";
        rows(&self.db, sql, [], |row| {
            Ok(WrongSum {
                site: row.get(0)?,
                listed: (row.get(1)?, row.get(2)?),
                sum: (row.get(3)?, row.get(4)?),
            })
        })
    }

    fn shared_keys(&self) -> Result<Vec<(String, String, u64)>, ArchiveError> {
        let query = "SELECT site, path, count(*) FROM files WHERE gone IS NULL GROUP BY path HAVING count(*) > 1";
        rows(&self.db, query, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
    }

    fn listed_after(&self, place: i64, most: u64) -> Result<Vec<ListedFile>, ArchiveError> {
        let sql = "SELECT rowid, site, path, size, sha256, manifest, fid FROM files WHERE gone IS NULL AND rowid > ?1 ORDER BY rowid LIMIT ?2";
        rows(&self.db, sql, params![place, most], |row| {
            Ok(ListedFile {
                place: row.get(0)?,
                site: row.get(1)?,
                key: row.get(2)?,
                size: row.get(3)?,
                sha256: row.get(4)?,
                manifest: row.get(5)?,
                fid: row.get(6)?,
            })
        })
    }

    fn file_state(&self, site: &str, fid: &str) -> Result<Option<(String, bool)>, ArchiveError> {
        let query = "SELECT path, gone IS NOT NULL FROM files WHERE site = ?1 AND fid = ?2";
        let state =
            self.db.query_row(query, params![site, fid], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(state.optional()?)
    }

    fn listed_parts(&self) -> Result<Vec<ListedPart>, ArchiveError> {
        rows(&self.db, "SELECT site, fid, ranges, target FROM parts", [], |row| {
            Ok(ListedPart {
                site: row.get(0)?,
                fid: row.get(1)?,
                ranges: row.get(2)?,
                target: row.get(3)?,
            })
        })
    }

    fn is_part_unchanged(&self, part: &ListedPart) -> Result<bool, ArchiveError> {
        self.is_true(
            "SELECT EXISTS (SELECT 1 FROM parts WHERE site = ?1 AND fid = ?2 AND target IS ?3)",
            params![part.site, part.fid, part.target],
        )
    }

    fn is_released_key(&self, key: &str) -> Result<bool, ArchiveError> {
        self.is_true(
            "SELECT EXISTS (SELECT 1 FROM files WHERE path = ?1 AND gone IS NOT NULL)",
            [key],
        )
    }

    fn is_removal(&self, key: &str) -> Result<bool, ArchiveError> {
        self.is_true("SELECT EXISTS (SELECT 1 FROM removals WHERE path = ?1)", [key])
    }
}
