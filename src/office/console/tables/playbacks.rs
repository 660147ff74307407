//! Clips that play: each has its `playback.start` in the trail and not yet its `playback.stop`.

use rusqlite::params;

use super::{Result, Tables};
use crate::office::console::audit::record::{Actor, Origin};
use crate::office::console::people::purpose::PurposeKind;
use crate::office::console::people::rights::Role;
use crate::units::WallTime;

/// A clip that plays in a session, and whose record its stop is.
#[derive(Debug, Clone)]
pub(in crate::office::console) struct Playback {
    /// Site id.
    pub(in crate::office::console) site: String,
    /// File id.
    pub(in crate::office::console) fid: String,
    /// Who, with session, address and purpose.
    pub(in crate::office::console) by: Origin,
}

const COLUMNS: &str = "session, site, fid, user, name, role, source, purpose, case_no";

fn playback(row: &rusqlite::Row) -> rusqlite::Result<Playback> {
    let who = Actor::User {
        id: row.get(3)?,
        name: row.get(4)?,
        role: Role::parse(&row.get::<_, String>(5)?),
    };
    let purpose = PurposeKind::parse(&row.get::<_, String>(7)?);
    let case: String = row.get(8)?;
    let by = Origin {
        who,
        session: row.get(0)?,
        from: row.get(6)?,
        purpose: purpose.map(|kind| (kind, case)),
    };
    Ok(Playback { site: row.get(1)?, fid: row.get(2)?, by })
}

impl Tables {
    pub(in crate::office::console) fn playback(
        &self,
        session: &str,
        (site, fid): (&str, &str),
    ) -> Result<Option<Playback>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM playbacks WHERE session = ?1 AND site = ?2 AND fid = ?3"
        );
        self.first(&sql, [session, site, fid], playback)
    }

    /// The clips of a session, the oldest reports first.
    pub(in crate::office::console) fn playbacks_of(
        &self,
        session: &str,
        limit: u32,
    ) -> Result<Vec<Playback>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM playbacks WHERE session = ?1 ORDER BY reported LIMIT ?2"
        );
        self.rows(&sql, params![session, limit], playback)
    }

    /// Clips without a report since `reported`, or whose session has ended. A report that lies after
    /// `now` is from before the clock was set back.
    pub(in crate::office::console) fn silent_playbacks(
        &self,
        (now, reported, idle_since): (WallTime, WallTime, WallTime),
        limit: u32,
    ) -> Result<Vec<Playback>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM playbacks WHERE reported <= ?1 OR reported > ?2
            OR session NOT IN (SELECT id FROM sessions WHERE until > ?2 AND used > ?3) ORDER BY reported LIMIT ?4"
        );
        self.rows(&sql, params![reported.0, now.0, idle_since.0, limit], playback)
    }

    pub(in crate::office::console) fn set_playback(
        &self,
        by: &Origin,
        (site, fid): (&str, &str),
        now: WallTime,
    ) -> Result<()> {
        let Actor::User { id, name, role } = &by.who else { return Ok(()) };
        let (kind, case) =
            by.purpose.as_ref().map_or(("", ""), |(kind, case)| (kind.as_str(), case));
        let role = role.map_or("", Role::as_str);
        self.change(
            "INSERT OR REPLACE INTO playbacks (session, site, fid, user, name, role, source, purpose, case_no, reported)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![by.session, site, fid, id, name, role, by.from, kind, case, now.0],
        )
        .map(|_| ())
    }

    /// False when none of it plays.
    pub(in crate::office::console) fn note_report(
        &self,
        session: &str,
        (site, fid): (&str, &str),
        now: WallTime,
    ) -> Result<bool> {
        let sql =
            "UPDATE playbacks SET reported = ?4 WHERE session = ?1 AND site = ?2 AND fid = ?3";
        Ok(self.change(sql, params![session, site, fid, now.0])? > 0)
    }

    pub(in crate::office::console) fn delete_playback(
        &self,
        session: &str,
        (site, fid): (&str, &str),
    ) -> Result<()> {
        let sql = "DELETE FROM playbacks WHERE session = ?1 AND site = ?2 AND fid = ?3";
        self.change(sql, [session, site, fid]).map(|_| ())
    }
}
