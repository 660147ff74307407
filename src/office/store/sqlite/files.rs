//! Unfinished and finished files, and keys to be removed.

use rusqlite::{OptionalExtension as _, params};

use super::index::SqliteIndex;
use super::rows;
use crate::office::error::ArchiveError;
use crate::office::store::file_key;
use crate::office::store::index::{FileIndex, NewFile, StoredPart};

impl FileIndex for SqliteIndex {
    fn stored_digest(&self, site: &str, fid: &str) -> Result<Option<String>, ArchiveError> {
        let query = "SELECT sha256 FROM files WHERE site = ?1 AND fid = ?2";
        let mut query = self.db.prepare_cached(query)?;
        Ok(query.query_row(params![site, fid], |row| row.get(0)).optional()?)
    }

    fn part(&self, site: &str, fid: &str) -> Result<Option<StoredPart>, ArchiveError> {
        let query = "SELECT manifest, ranges, target FROM parts WHERE site = ?1 AND fid = ?2";
        let part = self.db.query_row(query, params![site, fid], |row| {
            Ok(StoredPart { manifest: row.get(0)?, ranges: row.get(1)?, target: row.get(2)? })
        });
        Ok(part.optional()?)
    }

    fn insert_part(
        &self,
        site: &str,
        fid: &str,
        manifest: &[u8],
        size: u64,
        at: i64,
    ) -> Result<(), ArchiveError> {
        self.change(
            "INSERT OR REPLACE INTO parts (site, fid, manifest, ranges, size, touched) VALUES (?1, ?2, ?3, '[]', ?4, ?5)",
            params![site, fid, manifest, size, at],
        )?;
        self.change("DELETE FROM removals WHERE path = ?1", [file_key::part(site, fid)])?;
        Ok(())
    }

    fn touch_part(&self, site: &str, fid: &str, at: i64) -> Result<(), ArchiveError> {
        let touch = "UPDATE parts SET touched = ?3 WHERE site = ?1 AND fid = ?2";
        self.change(touch, params![site, fid, at])?;
        Ok(())
    }

    fn sum_of_parts(&self, site: &str) -> Result<(usize, u64), ArchiveError> {
        let sum =
            "SELECT count(*), coalesce(sum(size), 0) FROM parts WHERE site = ?1 AND target IS NULL";
        Ok(self.db.query_row(sum, [site], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    fn parts_by_age(&self, site: &str) -> Result<Vec<(String, u64)>, ArchiveError> {
        let query = "SELECT fid, size FROM parts WHERE site = ?1 AND target IS NULL ORDER BY touched, rowid";
        rows(&self.db, query, [site], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    fn set_part_ranges(
        &self,
        site: &str,
        fid: &str,
        ranges: &str,
        at: i64,
    ) -> Result<(), ArchiveError> {
        self.change(
            "UPDATE parts SET ranges = ?3, touched = ?4 WHERE site = ?1 AND fid = ?2 AND target IS NULL",
            params![site, fid, ranges, at],
        )?;
        Ok(())
    }

    fn set_part_target(&self, site: &str, fid: &str, target: &str) -> Result<(), ArchiveError> {
        let set = "UPDATE parts SET target = ?3 WHERE site = ?1 AND fid = ?2";
        self.change(set, params![site, fid, target])?;
        Ok(())
    }

    fn clear_part(&self, site: &str, fid: &str) -> Result<(), ArchiveError> {
        let clear = "UPDATE parts SET ranges = '[]', target = NULL WHERE site = ?1 AND fid = ?2";
        self.change(clear, params![site, fid])?;
        Ok(())
    }

    fn drop_part(&self, site: &str, fid: &str) -> Result<(), ArchiveError> {
        let remove = "INSERT OR IGNORE INTO removals SELECT target FROM parts WHERE site = ?1 AND fid = ?2 AND target IS NOT NULL";
        self.change(remove, params![site, fid])?;
        self.insert_removal(&file_key::part(site, fid))?;
        self.change("DELETE FROM parts WHERE site = ?1 AND fid = ?2", params![site, fid])?;
        Ok(())
    }

    fn moving_parts(&self) -> Result<Vec<(String, String)>, ArchiveError> {
        rows(&self.db, "SELECT site, fid FROM parts WHERE target IS NOT NULL", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    }

    fn is_part_key(&self, key: &str) -> Result<bool, ArchiveError> {
        let Some((site, fid)) = file_key::part_of(key) else { return Ok(false) };
        let known = "SELECT EXISTS (SELECT 1 FROM parts WHERE site = ?1 AND fid = ?2)";
        Ok(self.db.prepare_cached(known)?.query_row(params![site, fid], |row| row.get(0))?)
    }

    fn is_key_taken(&self, key: &str, site: &str, fid: &str) -> Result<bool, ArchiveError> {
        let query = "SELECT EXISTS (SELECT 1 FROM files WHERE path = ?1 AND gone IS NULL)
            OR EXISTS (SELECT 1 FROM parts WHERE target = ?1 AND (site != ?2 OR fid != ?3))
            OR EXISTS (SELECT 1 FROM removals WHERE path = ?1)";
        Ok(self.db.query_row(query, params![key, site, fid], |row| row.get(0))?)
    }

    fn insert_file(&self, file: &NewFile<'_>) -> Result<(), ArchiveError> {
        self.change(
            "INSERT OR IGNORE INTO files (site, fid, name, path, purpose, event, size, sha256, start, end, manifest, received,
             claimed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            params![
                file.site,
                file.fid,
                file.name,
                file.key,
                file.purpose,
                file.event,
                file.size,
                file.sha256,
                file.start,
                file.end,
                file.manifest,
                file.received,
                file.claimed
            ],
        )?;
        let finished = "DELETE FROM parts WHERE site = ?1 AND fid = ?2";
        self.change(finished, params![file.site, file.fid])?;
        Ok(())
    }

    fn insert_removal(&self, key: &str) -> Result<(), ArchiveError> {
        self.change("INSERT OR IGNORE INTO removals VALUES (?1)", [key])?;
        Ok(())
    }

    fn removals(&self, most: usize) -> Result<Vec<String>, ArchiveError> {
        rows(&self.db, "SELECT path FROM removals LIMIT ?1", [most], |row| row.get(0))
    }

    fn is_key_used(&self, key: &str) -> Result<bool, ArchiveError> {
        let used = "SELECT EXISTS (SELECT 1 FROM files WHERE path = ?1 AND gone IS NULL)
            OR EXISTS (SELECT 1 FROM parts WHERE target = ?1)";
        let is_stored: bool = self.db.prepare_cached(used)?.query_row([key], |row| row.get(0))?;
        Ok(is_stored || self.is_part_key(key)?)
    }

    fn delete_removals(&self, keys: &[String]) -> Result<(), ArchiveError> {
        keys.iter().try_for_each(|key| {
            self.change("DELETE FROM removals WHERE path = ?1", [key]).map(|_| ())
        })
    }
}
