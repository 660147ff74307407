//! Sessions and their purposes.

use rusqlite::params;

use super::rows::SessionRow;
use super::{Result, Tables};
use crate::office::console::people::purpose::{Purpose, PurposeKind};
use crate::office::console::people::session::Session;
use crate::units::{Digest, WallTime};

/// A session as stored, with its last use.
pub struct StoredSession {
    /// The session.
    pub session: Session,
    /// Last use, to the minute.
    pub used: WallTime,
    /// The user may not log in any more.
    pub is_disabled: bool,
}

impl Tables {
    pub(in crate::office::console) fn session(
        &self,
        digest: &Digest,
    ) -> Result<Option<StoredSession>> {
        let sql = "SELECT s.id, s.user, u.name, u.language, s.source, s.made, s.used, s.until, s.purpose, s.case_no, s.purpose_until,
                u.disabled, u.demo
            FROM sessions s JOIN users u ON u.id = s.user WHERE s.digest = ?1";
        let found = self.first(sql, [digest.0], |row| {
            let kind = PurposeKind::parse(&row.get::<_, String>(8)?);
            let (case, until) = (row.get(9)?, WallTime(row.get(10)?));
            let session = Session {
                id: row.get(0)?,
                user: row.get(1)?,
                name: row.get(2)?,
                language: row.get(3)?,
                grants: Vec::new(),
                purpose: kind.map(|kind| Purpose { kind, case, until }),
                from: row.get(4)?,
                made: WallTime(row.get(5)?),
                until: WallTime(row.get(7)?),
                is_demo: row.get(12)?,
            };
            Ok(StoredSession { session, used: WallTime(row.get(6)?), is_disabled: row.get(11)? })
        })?;
        let Some(mut found) = found else { return Ok(None) };
        found.session.grants = self.grants(found.session.user)?;
        Ok(Some(found))
    }

    /// Sessions in the table, newest first; some may have ended by their time.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn sessions(&self) -> Result<Vec<SessionRow>> {
        let sql =
            "SELECT s.id, s.user, u.name, s.source, s.made, s.used, s.until, s.purpose, s.case_no
            FROM sessions s JOIN users u ON u.id = s.user ORDER BY s.made DESC, s.id";
        self.rows(sql, [], |row| {
            Ok(SessionRow {
                id: row.get(0)?,
                user: row.get(1)?,
                name: row.get(2)?,
                from: row.get(3)?,
                made: WallTime(row.get(4)?),
                used: WallTime(row.get(5)?),
                until: WallTime(row.get(6)?),
                purpose: row.get(7)?,
                case: row.get(8)?,
            })
        })
    }

    pub(in crate::office::console) fn insert_session(
        &self,
        digest: &Digest,
        session: &Session,
    ) -> Result<()> {
        self.change(
            "INSERT INTO sessions (digest, id, user, source, made, used, until) VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)",
            params![digest.0, session.id, session.user, session.from, session.made.0, session.until.0],
        )?;
        self.change(
            "UPDATE users SET last_login = ?2 WHERE id = ?1",
            params![session.user, session.made.0],
        )
        .map(|_| ())
    }

    /// Deletes sessions that ended by their time, and the user's oldest beyond `keep`.
    pub(in crate::office::console) fn delete_old_sessions(
        &self,
        user: i64,
        keep: u32,
        now: WallTime,
        idle_since: WallTime,
    ) -> Result<()> {
        let sql = "DELETE FROM sessions WHERE until <= ?1 OR used <= ?2";
        self.change(sql, params![now.0, idle_since.0])?;
        self.change(
            "DELETE FROM sessions WHERE user = ?1 AND id NOT IN
                (SELECT id FROM sessions WHERE user = ?1 ORDER BY made DESC, id LIMIT ?2)",
            params![user, keep],
        )
        .map(|_| ())
    }

    pub(in crate::office::console) fn set_used(&self, id: &str, now: WallTime) -> Result<()> {
        let sql = "UPDATE sessions SET used = ?2 WHERE id = ?1 AND used < ?2";
        self.change(sql, params![id, now.0]).map(|_| ())
    }

    pub(in crate::office::console) fn delete_session(&self, id: &str) -> Result<bool> {
        Ok(self.change("DELETE FROM sessions WHERE id = ?1", [id])? > 0)
    }

    pub(in crate::office::console) fn delete_sessions_of(&self, user: i64) -> Result<usize> {
        self.change("DELETE FROM sessions WHERE user = ?1", [user])
    }

    pub(in crate::office::console) fn set_purpose(
        &self,
        id: &str,
        purpose: &Purpose,
    ) -> Result<bool> {
        let sql =
            "UPDATE sessions SET purpose = ?2, case_no = ?3, purpose_until = ?4 WHERE id = ?1";
        let Purpose { kind, case, until } = purpose;
        Ok(self.change(sql, params![id, kind.as_str(), case, until.0])? > 0)
    }
}
