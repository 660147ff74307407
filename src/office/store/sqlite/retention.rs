//! What the retention may release, what it has released, and locks.

use rusqlite::params;

use super::index::Index;
use crate::office::error::ArchiveError;
use crate::office::retention::{Candidate, DAY, Held, LockRow, Wanted};
use crate::units::WallTime;

/// Condition for a row `f` of `files` that no lock protects.
const UNLOCKED: &str = "NOT EXISTS (SELECT 1 FROM locks l WHERE l.site = f.site AND l.start <= f.end AND l.end >= f.start)";

impl Index {
    /// The oldest unlocked files received before `before`.
    pub(crate) fn release_candidates(
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
        let mut query = self.db.prepare_cached(&query)?;
        let rows = query.query_map(params![before, most, site, purpose], |row| {
            Ok(Candidate {
                site: row.get(0)?,
                fid: row.get(1)?,
                path: row.get(2)?,
                size: row.get(3)?,
                purpose: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Marks a file as released, and its path for removal.
    pub(crate) fn mark_released(
        &self,
        file: &Candidate,
        now: WallTime,
    ) -> Result<(), ArchiveError> {
        let mark = "UPDATE files SET gone = ?3 WHERE site = ?1 AND fid = ?2";
        self.change(mark, params![file.site, file.fid, now.rfc3339()])?;
        self.change("INSERT OR IGNORE INTO removals VALUES (?1)", [&file.path])?;
        Ok(())
    }

    /// Site and id of unfinished files without a message since `before` (Unix time).
    pub(crate) fn stale_parts(
        &self,
        before: i64,
        most: usize,
    ) -> Result<Vec<(String, String)>, ArchiveError> {
        let query = "SELECT site, fid FROM parts WHERE touched < ?1 LIMIT ?2";
        let mut query = self.db.prepare_cached(query)?;
        let rows = query.query_map(params![before, most], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Stored bytes of each site.
    pub(crate) fn held(&self) -> Result<Vec<Held>, ArchiveError> {
        let held = "SELECT site, sum(bytes), sum(finished) FROM (SELECT site, bytes, bytes AS finished FROM kept
            UNION ALL SELECT site, size, 0 FROM parts) GROUP BY site";
        let mut query = self.db.prepare_cached(held)?;
        let rows = query.query_map([], |row| {
            Ok(Held { bytes: row.get(1)?, finished: row.get(2)?, site: row.get(0)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Bytes that a site sent on the day of its newest receipt.
    pub(crate) fn newest_day(&self, site: &str) -> Result<u64, ArchiveError> {
        let newest = "SELECT max(received) FROM files WHERE site = ?1 AND gone IS NULL";
        let newest: Option<String> = self.db.query_row(newest, [site], |row| row.get(0))?;
        let since = WallTime::parse(&newest.unwrap_or_default())
            .map(|newest| newest.plus_micros(-DAY).rfc3339())
            .unwrap_or_default();
        let sum = "SELECT coalesce(sum(size), 0) FROM files WHERE site = ?1 AND gone IS NULL AND received > ?2";
        Ok(self.db.query_row(sum, params![site, since], |row| row.get(0))?)
    }

    /// Paths of released files that are still on the disk.
    pub(crate) fn removals(&self, most: usize) -> Result<Vec<String>, ArchiveError> {
        let mut query = self.db.prepare_cached("SELECT path FROM removals LIMIT ?1")?;
        let rows = query.query_map([most], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// True when a stored or unfinished file uses the path.
    pub(crate) fn is_path_used(&self, path: &str) -> Result<bool, ArchiveError> {
        let used = "SELECT EXISTS (SELECT 1 FROM files WHERE path = ?1 AND gone IS NULL) OR EXISTS (SELECT 1 FROM parts
            WHERE target = ?1 OR 'partial/' || site || '-' || fid || '.part' = ?1)";
        Ok(self.db.query_row(used, [path], |row| row.get(0))?)
    }

    /// Forgets paths that are off the disk, in one transaction.
    pub(crate) fn forget_removals(&self, paths: &[String]) -> Result<(), ArchiveError> {
        self.within(|index| {
            paths.iter().try_for_each(|path| {
                index.change("DELETE FROM removals WHERE path = ?1", [path]).map(|_| ())
            })
        })
    }

    /// True for a known site, and the number of locks.
    pub(crate) fn lock_room(&self, site: &str) -> Result<(bool, u64), ArchiveError> {
        let query =
            "SELECT EXISTS (SELECT 1 FROM sites WHERE site = ?1), (SELECT count(*) FROM locks)";
        Ok(self.db.query_row(query, [site], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    /// Stores a lock; returns its number.
    pub(crate) fn insert_lock(
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

    /// Removes a lock; false for an unknown number.
    pub(crate) fn delete_lock(&self, id: i64) -> Result<bool, ArchiveError> {
        Ok(self.db.execute("DELETE FROM locks WHERE id = ?1", [id])? > 0)
    }

    /// All locks, by number.
    pub(crate) fn locks(&self) -> Result<Vec<LockRow>, ArchiveError> {
        let query = "SELECT id, site, start, end, reason FROM locks ORDER BY id";
        let mut query = self.db.prepare_cached(query)?;
        let rows = query.query_map([], |row| {
            Ok(LockRow {
                id: row.get(0)?,
                site: row.get(1)?,
                start: row.get(2)?,
                end: row.get(3)?,
                reason: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
