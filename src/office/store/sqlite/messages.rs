//! Sites, events, states and replies.

use rusqlite::{OptionalExtension as _, params};

use super::index::SqliteIndex;
use crate::office::error::ArchiveError;
use crate::office::store::index::{MessageIndex, NewEvent};

impl MessageIndex for SqliteIndex {
    fn set_seen(&self, site: &str, now: &str) -> Result<bool, ArchiveError> {
        let seen = "UPDATE sites SET seen = ?2 WHERE site = ?1";
        Ok(self.change(seen, params![site, now])? > 0)
    }

    fn count_sites(&self) -> Result<u64, ArchiveError> {
        Ok(self.db.query_row("SELECT count(*) FROM sites", [], |row| row.get(0))?)
    }

    fn insert_site(&self, site: &str, now: &str) -> Result<(), ArchiveError> {
        self.change("INSERT INTO sites (site, seen) VALUES (?1, ?2)", params![site, now])?;
        Ok(())
    }

    fn event_equals(
        &self,
        site: &str,
        id: &str,
        payload: &[u8],
    ) -> Result<Option<bool>, ArchiveError> {
        let query = "SELECT payload = ?3 FROM events WHERE site = ?1 AND id = ?2";
        let mut query = self.db.prepare_cached(query)?;
        Ok(query.query_row(params![site, id, payload], |row| row.get(0)).optional()?)
    }

    fn insert_event(&self, event: &NewEvent<'_>) -> Result<bool, ArchiveError> {
        let NewEvent { site, id, seq, kind, time, payload, received, ring } = event;
        let inserted = self.change(
            "INSERT OR IGNORE INTO events (site, id, seq, kind, time, payload, received, ring)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![site, id, seq, kind, time, payload, received, ring],
        )?;
        Ok(inserted > 0)
    }

    fn ring_of(&self, site: &str) -> Result<Option<String>, ArchiveError> {
        let query = "SELECT ring FROM sites WHERE site = ?1";
        let ring = self.db.query_row(query, [site], |row| row.get::<_, Option<String>>(0));
        Ok(ring.optional()?.flatten())
    }

    fn set_state(
        &self,
        site: &str,
        state: &str,
        conn: u64,
        ring: &str,
    ) -> Result<bool, ArchiveError> {
        let changed = self.change(
            "UPDATE sites SET state = ?2, conn = ?3, ring = ?4
             WHERE site = ?1 AND (state IS NULL OR ring = ?4 AND conn <= ?3 OR ring != ?4 AND ?2 = 'online')",
            params![site, state, conn, ring],
        )?;
        Ok(changed > 0)
    }

    fn set_birth(&self, site: &str, text: &str) -> Result<(), ArchiveError> {
        self.change("UPDATE sites SET birth = ?2 WHERE site = ?1", params![site, text])?;
        Ok(())
    }

    fn set_health(&self, site: &str, text: &str, at: i64) -> Result<(), ArchiveError> {
        let set = "UPDATE sites SET health = ?2, health_at = ?3 WHERE site = ?1";
        self.change(set, params![site, text, at])?;
        Ok(())
    }

    fn insert_reply(
        &self,
        site: &str,
        req_id: &str,
        payload: &[u8],
        received: &str,
        most: u64,
    ) -> Result<(), ArchiveError> {
        self.change(
            "INSERT OR REPLACE INTO replies (site, req_id, payload, received) VALUES (?1, ?2, ?3, ?4)",
            params![site, req_id, payload, received],
        )?;
        // A replaced row gets the highest rowid.
        self.change(
            "DELETE FROM replies WHERE site = ?1 AND rowid <=
             (SELECT rowid FROM replies WHERE site = ?1 ORDER BY rowid DESC LIMIT 1 OFFSET ?2)",
            params![site, most],
        )?;
        Ok(())
    }

    fn reply(&self, site: &str, req_id: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let query = "SELECT payload FROM replies WHERE site = ?1 AND req_id = ?2";
        Ok(self.db.query_row(query, params![site, req_id], |row| row.get(0)).optional()?)
    }
}
