//! What officers write to events and locks, and what was on their screens.

use rusqlite::params;

use super::rows::{HandledRow, LockNote, NoteRow, ShownRow};
use super::{Result, Tables};
use crate::units::WallTime;

impl Tables {
    /// Who handled an event; `None` while it is open.
    ///
    /// # Errors
    /// When the database cannot be read, as all below.
    pub fn handled(&self, site: &str, event: &str) -> Result<Option<HandledRow>> {
        let sql = "SELECT u.name, h.at, h.verdict FROM handled h JOIN users u ON u.id = h.user WHERE h.site = ?1 AND h.event = ?2";
        self.first(sql, [site, event], |row| {
            Ok(HandledRow { by: row.get(0)?, at: WallTime(row.get(1)?), verdict: row.get(2)? })
        })
    }

    /// The handled ones of a page of events, each a site and an id, by their places in the page, with
    /// the newest note. One statement: one for each event would be most of the time of a page.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn handled_of_page(
        &self,
        events: &[(&str, &str)],
    ) -> Result<Vec<(usize, HandledRow, Option<String>)>> {
        let sql = "SELECT j.key, u.name, h.at, h.verdict, (SELECT n.text FROM notes n WHERE n.site = h.site AND n.event = h.event
            ORDER BY n.id DESC LIMIT 1) FROM json_each(?1) j CROSS JOIN handled h ON h.site = json_extract(j.value, '$[0]')
            AND h.event = json_extract(j.value, '$[1]') JOIN users u ON u.id = h.user";
        let page = serde_json::to_string(events).unwrap_or_default();
        self.rows(sql, [page], |row| {
            let handled =
                HandledRow { by: row.get(1)?, at: WallTime(row.get(2)?), verdict: row.get(3)? };
            Ok((row.get(0)?, handled, row.get(4)?))
        })
    }

    /// Sites and ids of all handled events; `None` when there are more than `most`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn few_handled(&self, most: usize) -> Result<Option<Vec<(String, String)>>> {
        let sql = "SELECT site, event FROM handled LIMIT ?1";
        let rows = self.rows(sql, [most + 1], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Some(rows).filter(|rows: &Vec<_>| rows.len() <= most))
    }

    pub(in crate::office::console) fn set_handled(
        &self,
        (site, event): (&str, &str),
        user: i64,
        verdict: Option<&str>,
        now: WallTime,
    ) -> Result<()> {
        let Some(verdict) = verdict else {
            let sql = "DELETE FROM handled WHERE site = ?1 AND event = ?2";
            return self.change(sql, [site, event]).map(|_| ());
        };
        self.change(
            "INSERT OR REPLACE INTO handled (site, event, user, at, verdict) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![site, event, user, now.0, verdict],
        )
        .map(|_| ())
    }

    /// The notes to an event, oldest first.
    ///
    /// # Errors
    /// As above.
    pub fn notes(&self, site: &str, event: &str) -> Result<Vec<NoteRow>> {
        let sql = "SELECT u.name, n.at, n.text FROM notes n JOIN users u ON u.id = n.user
            WHERE n.site = ?1 AND n.event = ?2 ORDER BY n.id";
        self.rows(sql, [site, event], |row| {
            Ok(NoteRow { by: row.get(0)?, at: WallTime(row.get(1)?), text: row.get(2)? })
        })
    }

    pub(in crate::office::console) fn note_count(&self, site: &str, event: &str) -> Result<u32> {
        let sql = "SELECT count(*) FROM notes WHERE site = ?1 AND event = ?2";
        Ok(self.first(sql, [site, event], |row| row.get(0))?.unwrap_or(0))
    }

    pub(in crate::office::console) fn insert_note(
        &self,
        (site, event): (&str, &str),
        user: i64,
        text: &str,
        now: WallTime,
    ) -> Result<()> {
        self.change(
            "INSERT INTO notes (site, event, user, at, text) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![site, event, user, now.0, text],
        )
        .map(|_| ())
    }

    /// What officers wrote to the locks.
    ///
    /// # Errors
    /// As above.
    pub fn lock_notes(&self) -> Result<Vec<LockNote>> {
        let sql = "SELECT l.id, l.site, l.title, l.case_no, l.review, u.name, l.at
            FROM lock_notes l JOIN users u ON u.id = l.user ORDER BY l.id";
        self.rows(sql, [], |row| {
            Ok(LockNote {
                id: row.get(0)?,
                site: row.get(1)?,
                title: row.get(2)?,
                case: row.get(3)?,
                review: row.get::<_, Option<i64>>(4)?.map(WallTime),
                by: row.get(5)?,
                at: WallTime(row.get(6)?),
            })
        })
    }

    pub(crate) fn set_lock_note(&self, note: &LockNote, user: i64) -> Result<()> {
        let LockNote { id, site, title, case, review, by: _, at } = note;
        self.change(
            "INSERT OR REPLACE INTO lock_notes (id, site, title, case_no, review, user, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![id, site, title, case, review.map(|time| time.0), user, at.0],
        )
        .map(|_| ())
    }

    /// The ranges of a site that were on a screen between two times.
    ///
    /// # Errors
    /// As above.
    pub fn shown(
        &self,
        site: &str,
        from: WallTime,
        to: WallTime,
        limit: u32,
    ) -> Result<Vec<ShownRow>> {
        let sql = "SELECT s.session, u.name, s.fid, s.start, s.end FROM shown s JOIN users u ON u.id = s.user
            WHERE s.site = ?1 AND s.start < ?3 AND s.end > ?2 ORDER BY s.start LIMIT ?4";
        self.rows(sql, params![site, from.0, to.0, limit], |row| {
            Ok(ShownRow {
                session: row.get(0)?,
                by: row.get(1)?,
                fid: row.get(2)?,
                start: WallTime(row.get(3)?),
                end: WallTime(row.get(4)?),
            })
        })
    }

    /// Ranges of a session and file, as microseconds of wall time.
    pub(in crate::office::console) fn shown_ranges(
        &self,
        session: &str,
        site: &str,
        fid: &str,
    ) -> Result<Vec<(i64, i64)>> {
        let sql = "SELECT start, end FROM shown WHERE session = ?1 AND site = ?2 AND fid = ?3 ORDER BY start";
        self.rows(sql, [session, site, fid], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    pub(in crate::office::console) fn replace_shown(
        &self,
        (session, user): (&str, i64),
        (site, fid): (&str, &str),
        ranges: &[(i64, i64)],
    ) -> Result<()> {
        let sql = "DELETE FROM shown WHERE session = ?1 AND site = ?2 AND fid = ?3";
        self.change(sql, [session, site, fid])?;
        for (start, end) in ranges {
            self.change(
                "INSERT INTO shown (session, user, site, fid, start, end) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![session, user, site, fid, start, end],
            )?;
        }
        Ok(())
    }
}
