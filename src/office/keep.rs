//! ⇄ What the archive lets go, and what it keeps whatever happens.
//!
//! What belongs here: retention, locks. What does not: storing ([`super::archive`]).

use rusqlite::params;
use serde::Serialize;

use super::archive::Archive;
use crate::units::Wall;

/// Files let go in one go at most: the archive does nothing else meanwhile.
const AT_ONCE: u32 = 200;
const DAY: i64 = 86_400_000_000;

/// How much is kept; 0 is without limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// Days.
    pub days: u32,
    /// Bytes of files.
    pub bytes: u64,
}

/// What was let go.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Events.
    pub events: u64,
}

/// One line of `office locks`.
#[derive(Debug, Serialize)]
pub struct LockRow {
    /// Its number.
    pub id: i64,
    /// Site id.
    pub site: String,
    /// First moment.
    pub start: String,
    /// Last moment.
    pub end: String,
    /// Why.
    pub reason: String,
}

impl Archive {
    /// Lets go what is older than the retention, and the oldest files while there are too many bytes; nothing that touches a lock.
    /// A file stays listed as stored, so that it is not sent again.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn let_go(&mut self, retention: &Retention, now: Wall) -> anyhow::Result<Gone> {
        let mut gone = Gone::default();
        let oldest = (retention.days > 0).then(|| now.plus_micros(-i64::from(retention.days) * DAY).rfc3339());
        let mut kept: u64 =
            self.db.query_row("SELECT coalesce(sum(size), 0) FROM files WHERE gone IS NULL", [], |row| row.get(0))?;
        let mut query = self.db.prepare(
            "SELECT site, fid, path, size, end FROM files f WHERE gone IS NULL AND NOT EXISTS
             (SELECT 1 FROM locks l WHERE l.site = f.site AND l.start <= f.end AND l.end >= f.start) ORDER BY end LIMIT ?1",
        )?;
        let files: Vec<(String, String, String, u64, String)> = query
            .query_map([AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?
            .collect::<Result<_, _>>()?;
        drop(query);
        for (site, fid, path, size, end) in files {
            let too_old = oldest.as_ref().is_some_and(|oldest| end < *oldest);
            let too_much = retention.bytes > 0 && kept > retention.bytes;
            if !too_old && !too_much {
                break;
            }
            // First the word, then the deed: a kill between the two leaves a file nobody lists, never one that is listed and not there.
            self.db.execute("UPDATE files SET gone = ?3 WHERE site = ?1 AND fid = ?2", params![site, fid, now.rfc3339()])?;
            match std::fs::remove_file(self.dir.join(&path)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            kept -= size;
            (gone.files, gone.bytes) = (gone.files + 1, gone.bytes + size);
        }
        if let Some(oldest) = oldest {
            gone.events = self.db.execute(
                "DELETE FROM events WHERE received < ?1 AND time < ?1 AND NOT EXISTS
                 (SELECT 1 FROM locks l WHERE l.site = events.site AND l.start <= events.time AND l.end >= events.time)
                 AND seq <= (SELECT r.complete FROM rings r WHERE r.site = events.site AND r.ring = events.ring)",
                [&oldest],
            )? as u64;
        }
        Ok(gone)
    }

    /// Keeps everything of a site between two moments until [`Archive::unlock`]; gives the lock's number.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn lock(&mut self, site: &str, (start, end): (&str, &str), reason: &str, now: &str) -> anyhow::Result<i64> {
        let insert = "INSERT INTO locks (site, start, end, reason, made) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.db.execute(insert, params![site, start, end, reason, now])?;
        Ok(self.db.last_insert_rowid())
    }

    /// Lets a lock go; false when there is none of that number.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn unlock(&mut self, id: i64) -> anyhow::Result<bool> {
        Ok(self.db.execute("DELETE FROM locks WHERE id = ?1", [id])? > 0)
    }

    /// The locks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn locks(&self) -> anyhow::Result<Vec<LockRow>> {
        let mut query = self.db.prepare("SELECT id, site, start, end, reason FROM locks ORDER BY id")?;
        let rows = query.query_map([], |row| {
            Ok(LockRow { id: row.get(0)?, site: row.get(1)?, start: row.get(2)?, end: row.get(3)?, reason: row.get(4)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
