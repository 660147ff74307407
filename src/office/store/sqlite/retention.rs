//! What the retention may release, what it has released, and locks.

use rusqlite::params;

use super::index::SqliteIndex;
use super::rows;
use crate::office::error::ArchiveError;
use crate::office::retention::{Candidate, DAY, Held, LockRow, Old, Wanted};
use crate::office::store::index::RetentionIndex;
use crate::units::WallTime;

/// Condition for a row `f` of `files` that no lock protects.
const UNLOCKED: &str = "NOT EXISTS (SELECT 1 FROM locks l WHERE l.site = f.site AND l.start <= f.end AND l.end >= f.start)";

impl RetentionIndex for SqliteIndex {
    fn site_ids(&self) -> Result<Vec<String>, ArchiveError> {
        rows(&self.db, "SELECT site FROM sites ORDER BY site", [], |row| row.get(0))
    }

    fn release_events(
        &self,
        site: Option<&str>,
        old: &Old,
        most: usize,
    ) -> Result<u64, ArchiveError> {
        let of_site = if site.is_some() { "site = ?4" } else { "?4 IS NULL" };
        let deleted = self.change(
            &format!(
                "DELETE FROM events WHERE rowid IN (SELECT rowid FROM events e WHERE {of_site} AND received < ?1 AND NOT EXISTS
                 (SELECT 1 FROM locks l WHERE l.site = e.site AND l.start <= e.time AND l.end >= e.time) AND (received < ?2
                 OR seq <= (SELECT r.complete FROM rings r WHERE r.site = e.site AND r.ring = e.ring)) ORDER BY received LIMIT ?3)"
            ),
            params![old.received, old.unconfirmed, most, site],
        )?;
        for (table, end) in [("motion_events", "coalesce(h.end, h.start)"), ("gaps", "h.end")] {
            let text = |micros: &str| {
                format!("strftime('%Y-%m-%dT%H:%M:%fZ', {micros} / 1000000.0, 'unixepoch')")
            };
            self.change(
                &format!(
                    "DELETE FROM {table} WHERE (site, id) IN (SELECT site, id FROM {table} h WHERE {} AND received < ?1 AND NOT EXISTS
                     (SELECT 1 FROM locks l WHERE l.site = h.site AND l.start <= {} AND l.end >= {}) ORDER BY received LIMIT ?2)",
                    of_site.replace("?4", "?3"),
                    text(end),
                    text("h.start")
                ),
                params![old.received, most, site],
            )?;
        }
        self.change(
            &format!(
                "DELETE FROM presence WHERE (site, start) IN (SELECT site, start FROM presence h WHERE {} AND h.end < ?1 LIMIT ?2)",
                of_site.replace("?4", "?3")
            ),
            params![old.micros, most, site],
        )?;
        Ok(deleted as u64)
    }

    fn release_candidates(
        &self,
        wanted: Wanted<'_>,
        before: &str,
        most: usize,
    ) -> Result<Vec<Candidate>, ArchiveError> {
        let (of_site, site, purpose) = match wanted {
            Wanted::All => ("?3 IS NULL AND ?4 IS NULL", None, None),
            Wanted::Site(site) => ("site = ?3 AND ?4 IS NULL", Some(site), None),
            Wanted::Purpose(site, purpose) => {
                ("site = ?3 AND purpose = ?4", Some(site), Some(purpose))
            }
        };
        let query = format!(
            "SELECT site, fid, path, size, purpose FROM files f WHERE gone IS NULL AND {of_site} AND received < ?1 AND {UNLOCKED}
             ORDER BY received LIMIT ?2"
        );
        rows(&self.db, &query, params![before, most, site, purpose], |row| {
            Ok(Candidate {
                site: row.get(0)?,
                fid: row.get(1)?,
                path: row.get(2)?,
                size: row.get(3)?,
                purpose: row.get(4)?,
            })
        })
    }

    fn mark_released(&self, file: &Candidate, now: WallTime) -> Result<(), ArchiveError> {
        let mark = "UPDATE files SET gone = ?3 WHERE site = ?1 AND fid = ?2";
        self.change(mark, params![file.site, file.fid, now.rfc3339()])?;
        self.change("INSERT OR IGNORE INTO removals VALUES (?1)", [&file.path])?;
        Ok(())
    }

    fn stale_parts(&self, before: i64, most: usize) -> Result<Vec<(String, String)>, ArchiveError> {
        let query = "SELECT site, fid FROM parts WHERE touched < ?1 LIMIT ?2";
        rows(&self.db, query, params![before, most], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    fn held(&self) -> Result<Vec<Held>, ArchiveError> {
        let held = "SELECT site, sum(bytes), sum(finished) FROM (SELECT site, bytes, bytes AS finished FROM kept
            UNION ALL SELECT site, size, 0 FROM parts) GROUP BY site";
        rows(&self.db, held, [], |row| {
            Ok(Held { bytes: row.get(1)?, finished: row.get(2)?, site: row.get(0)? })
        })
    }

    fn newest_day(&self, site: &str) -> Result<u64, ArchiveError> {
        let newest = "SELECT max(received) FROM files WHERE site = ?1 AND gone IS NULL";
        let newest: Option<String> = self.db.query_row(newest, [site], |row| row.get(0))?;
        let since = WallTime::parse(&newest.unwrap_or_default())
            .map(|newest| newest.plus_micros(-DAY).rfc3339())
            .unwrap_or_default();
        let sum = "SELECT coalesce(sum(size), 0) FROM files WHERE site = ?1 AND gone IS NULL AND received > ?2";
        Ok(self.db.query_row(sum, params![site, since], |row| row.get(0))?)
    }

    fn lock_room(&self, site: &str) -> Result<(bool, u64), ArchiveError> {
        let query =
            "SELECT EXISTS (SELECT 1 FROM sites WHERE site = ?1), (SELECT count(*) FROM locks)";
        Ok(self.db.query_row(query, [site], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    fn insert_lock(
        &self,
        site: &str,
        (start, end): (&str, &str),
        reason: &str,
        now: &str,
    ) -> Result<i64, ArchiveError> {
        let insert =
            "INSERT INTO locks (site, start, end, reason, made) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.db.execute(insert, params![site, start, end, reason, now])?;
        Ok(self.db.last_insert_rowid())
    }

    fn delete_lock(&self, id: i64) -> Result<bool, ArchiveError> {
        Ok(self.db.execute("DELETE FROM locks WHERE id = ?1", [id])? > 0)
    }

    fn locks(&self) -> Result<Vec<LockRow>, ArchiveError> {
        let query = "SELECT id, site, start, end, reason FROM locks ORDER BY id";
        rows(&self.db, query, [], |row| {
            Ok(LockRow {
                id: row.get(0)?,
                site: row.get(1)?,
                start: row.get(2)?,
                end: row.get(3)?,
                reason: row.get(4)?,
            })
        })
    }
}
