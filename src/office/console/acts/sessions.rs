//! Log-in, log-out, purposes.

use super::people::about;
use super::playback::Ending;
use crate::office::console::audit::record::{Act, AuditNumber, Entry, Origin, Outcome};
use crate::office::console::error::ConsoleError;
use crate::office::console::people::purpose::Purpose;
use crate::office::console::people::session::{IDLE_MINUTES, Session, WHOLE_HOURS};
use crate::office::console::tables::Result;
use crate::office::console::writer::Store;
use crate::units::{Digest, WallTime};

/// Sessions of one user at most: some places of work and a wall; the oldest ends.
const SESSIONS_MAX: u32 = 16;
/// Characters of a reason at most.
pub(super) const REASON_MAX: usize = 2_000;

/// A text within its bound.
pub(super) fn check_text(what: &str, text: &str, max: usize) -> Result<()> {
    let length = text.chars().count();
    if length > max {
        return Err(ConsoleError::Invalid(format!(
            "{what} has {length} characters, at most {max}"
        )));
    }
    Ok(())
}

/// When a session counts as idle that was used last before this.
pub(in crate::office::console) fn idle_since(now: WallTime) -> WallTime {
    now.plus_micros(-IDLE_MINUTES * 60_000_000)
}

impl Store {
    /// Makes a session for a user whose password was right. `cookie` is the digest of the cookie.
    ///
    /// # Errors
    /// `LoginFailed` when the user was disabled meanwhile.
    pub(in crate::office::console) fn begin_session(
        &mut self,
        user: i64,
        from: &str,
        cookie: &Digest,
        purpose: Option<Purpose>,
        now: WallTime,
    ) -> Result<Session> {
        let row = self.tables().user(user)?.filter(|user| !user.is_disabled);
        let row = row.ok_or(ConsoleError::LoginFailed)?;
        let session = Session {
            id: cookie.hex()[..8].to_owned(),
            user,
            name: row.name,
            language: row.language,
            grants: row.grants,
            purpose,
            from: from.to_owned(),
            made: now,
            until: now.plus_micros(WHOLE_HOURS * 3_600_000_000),
            is_demo: row.is_demo,
        };
        let by = session.acts(None, from, now);
        self.act(&by, now, |tables| {
            // The account may have been disabled by another program since it was read.
            tables.user(user)?.filter(|user| !user.is_disabled).ok_or(ConsoleError::LoginFailed)?;
            tables.insert_session(cookie, &session)?;
            tables.delete_old_sessions(user, SESSIONS_MAX, now, idle_since(now))?;
            if let Some(purpose) = &session.purpose {
                tables.set_purpose(&session.id, purpose)?;
            }
            Ok(((), vec![Entry::of(Act::Login)]))
        })?;
        Ok(session)
    }

    /// Ends a session by its own user.
    ///
    /// # Errors
    /// `NotFound` when it ended already.
    pub(in crate::office::console) fn end_session(
        &mut self,
        by: &Origin,
        now: WallTime,
        id: &str,
    ) -> Result<AuditNumber> {
        self.delete_with(by, now, id, vec![Entry::of(Act::Logout)])
    }

    /// Ends a session of a user by another one, or by its own user from elsewhere.
    ///
    /// # Errors
    /// `NotFound` when there is no such session.
    pub fn revoke_session(&mut self, by: &Origin, now: WallTime, id: &str) -> Result<AuditNumber> {
        let rows = self.tables().sessions()?;
        let row = rows.into_iter().find(|row| row.id == id).ok_or_else(|| no_session(id))?;
        let entry = about(Act::SessionRevoke, row.user, &row.name).object("session").object(id);
        self.delete_with(by, now, id, vec![entry])
    }

    fn delete_with(
        &mut self,
        by: &Origin,
        now: WallTime,
        id: &str,
        entries: Vec<Entry>,
    ) -> Result<AuditNumber> {
        self.end_playbacks(now, Ending::Session(id))?;
        let ended = self.act(by, now, |tables| {
            if tables.delete_session(id)? { Ok(((), entries)) } else { Err(no_session(id)) }
        })?;
        Ok(ended.1)
    }

    /// Sets the purpose of a session. The record carries the new purpose.
    ///
    /// # Errors
    /// `NotFound` when the session has ended.
    pub fn set_purpose(
        &mut self,
        by: &Origin,
        now: WallTime,
        session: &str,
        purpose: &Purpose,
        reason: Option<&str>,
    ) -> Result<AuditNumber> {
        check_text("the reason", reason.unwrap_or_default(), REASON_MAX)?;
        let mut by = by.clone();
        by.purpose = Some((purpose.kind, purpose.case.clone()));
        let mut entry = Entry::of(Act::PurposeSet);
        entry.reason = reason.filter(|text| !text.is_empty()).map(str::to_owned);
        let set = self.act(&by, now, |tables| {
            if tables.set_purpose(session, purpose)? {
                Ok(((), vec![entry]))
            } else {
                Err(no_session(session))
            }
        })?;
        Ok(set.1)
    }

    /// Records a wrong name or password, and that it locked.
    ///
    /// # Errors
    /// `Trail` when it cannot be written.
    pub(in crate::office::console) fn login_failed(
        &mut self,
        name: &str,
        from: &str,
        locks: Option<u64>,
        now: WallTime,
    ) -> Result<AuditNumber> {
        let failed = Entry::of(Act::LoginFailed).result(Outcome::Denied);
        let mut entries = vec![failed];
        if let Some(seconds) = locks {
            let locked = Entry::of(Act::LoginLocked).object("seconds").object(seconds.to_string());
            entries.push(locked.result(Outcome::Denied));
        }
        let recorded = self.act(&Origin::unproven(name, from), now, |_| Ok(((), entries)))?;
        Ok(recorded.1)
    }
}

fn no_session(id: &str) -> ConsoleError {
    ConsoleError::NotFound(format!("there is no session {id}"))
}
