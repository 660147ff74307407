//! Sequence numbers: stored ones, and ranges recorded as lost.

use rusqlite::params;

use super::index::SqliteIndex;
use super::rows;
use crate::office::error::ArchiveError;
use crate::office::range_set::Ranges;
use crate::office::store::index::{NumberIndex, RingNumbers};

impl NumberIndex for SqliteIndex {
    fn count_lost(&self, site: &str, ring: &str) -> Result<usize, ArchiveError> {
        let many = "SELECT count(*) FROM given_up WHERE site = ?1 AND ring = ?2";
        Ok(self.db.prepare_cached(many)?.query_row(params![site, ring], |row| row.get(0))?)
    }

    fn insert_lost(
        &self,
        site: &str,
        ring: &str,
        (first, last): (i64, i64),
        reason: &str,
    ) -> Result<(), ArchiveError> {
        self.change(
            "INSERT OR IGNORE INTO given_up (site, ring, first, last, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![site, ring, first, last, reason],
        )?;
        Ok(())
    }

    fn lost(&self, site: &str, ring: &str) -> Result<Vec<(u64, u64, String)>, ArchiveError> {
        let query = "SELECT first, last, reason FROM given_up WHERE site = ?1 AND ring = ?2";
        rows(&self.db, query, params![site, ring], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
    }

    fn has_room_for_ring(&self, site: &str, ring: &str, most: u64) -> Result<bool, ArchiveError> {
        let query = "SELECT count(*) < ?3 OR max(ring = ?2) FROM rings WHERE site = ?1";
        let mut query = self.db.prepare_cached(query)?;
        Ok(query.query_row(params![site, ring, most], |row| row.get(0))?)
    }

    fn confirm_ring(
        &self,
        site: &str,
        ring: &str,
        confirmed: u64,
    ) -> Result<(u64, i64), ArchiveError> {
        self.change(
            "INSERT INTO rings (site, ring, confirmed) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET confirmed = max(confirmed, ?3)",
            params![site, ring, confirmed],
        )?;
        let query = "SELECT complete, asked FROM rings WHERE site = ?1 AND ring = ?2";
        Ok(self.db.query_row(query, params![site, ring], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    fn set_ring_search(
        &self,
        site: &str,
        ring: &str,
        complete: u64,
        asked: i64,
    ) -> Result<(), ArchiveError> {
        self.change(
            "UPDATE rings SET complete = ?3, asked = ?4 WHERE site = ?1 AND ring = ?2",
            params![site, ring, complete, asked],
        )?;
        Ok(())
    }

    fn received(&self, site: &str, ring: &str) -> Result<Ranges, ArchiveError> {
        let mut received = Ranges::default();
        let query = "SELECT seq FROM events WHERE site = ?1 AND ring = ?2 ORDER BY seq";
        let mut query = self.db.prepare_cached(query)?;
        let mut rows = query.query(params![site, ring])?;
        while let Some(row) = rows.next()? {
            let seq: u64 = row.get(0)?;
            received.add(seq, seq + 1);
        }
        Ok(received)
    }

    fn accounted(
        &self,
        site: &str,
        ring: &str,
        from: u64,
        to: u64,
    ) -> Result<Ranges, ArchiveError> {
        let mut accounted = Ranges::default();
        let mut query = self.db.prepare_cached(
            "SELECT seq, seq FROM events WHERE site = ?1 AND ring = ?2 AND seq BETWEEN ?3 AND ?4
             UNION ALL SELECT first, last FROM given_up WHERE site = ?1 AND ring = ?2 AND last >= ?3 AND first <= ?4",
        )?;
        let mut rows = query.query(params![site, ring, from, to])?;
        while let Some(row) = rows.next()? {
            accounted.add(row.get(0)?, row.get::<_, u64>(1)?.saturating_add(1));
        }
        Ok(accounted)
    }

    fn rings(&self, site: Option<&str>) -> Result<Vec<RingNumbers>, ArchiveError> {
        let sql = "SELECT e.site, e.ring, max(max(e.seq), coalesce(r.confirmed, 0)), coalesce(r.confirmed, 0),
             coalesce(r.complete, 0) FROM events e
             LEFT JOIN rings r ON r.site = e.site AND r.ring = e.ring WHERE (?1 IS NULL OR e.site = ?1)
             GROUP BY e.site, e.ring ORDER BY e.site, e.ring";
        rows(&self.db, sql, params![site], |row| {
            Ok(RingNumbers {
                site: row.get(0)?,
                ring: row.get(1)?,
                highest: row.get(2)?,
                confirmed: row.get(3)?,
                complete: row.get(4)?,
            })
        })
    }
}
