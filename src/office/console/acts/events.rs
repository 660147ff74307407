//! Handled events, notes, notes of locks, shown ranges.

use super::sessions::{REASON_MAX, check_text};
use crate::listed_enum::listed_enum;
use crate::office::console::audit::record::{Act, Actor, AuditNumber, Entry, Origin};
use crate::office::console::audit::shown::{REPORT_MAX, merge, seconds};
use crate::office::console::error::ConsoleError;
use crate::office::console::people::session::Session;
use crate::office::console::tables::Result;
use crate::office::console::tables::rows::LockNote;
use crate::office::console::writer::Store;
use crate::units::{SiteId, WallTime};

/// Notes of one event at most.
const NOTES_MAX: u32 = 100;
/// Characters of an event's or file's id at most.
const ID_MAX: usize = 128;
/// Characters of a lock's title at most.
const TITLE_MAX: usize = 200;

listed_enum! {
    /// What an officer decided about an event.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Verdict {
        /// It was what it looked like.
        Real,
        /// It was nothing.
        FalseAlarm,
    }

    /// All verdicts.
    pub const ALL;
}

impl Verdict {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Real => "real",
            Verdict::FalseAlarm => "false_alarm",
        }
    }

    /// The verdict of a name.
    pub fn parse(name: &str) -> Option<Verdict> {
        Verdict::ALL.into_iter().find(|verdict| verdict.as_str() == name)
    }
}

/// The user of an act; the tables of this file need one.
fn user_of(by: &Origin) -> Result<i64> {
    match by.who {
        Actor::User { id, .. } => Ok(id),
        _ => Err(ConsoleError::Invalid("only a user of the console can do this".to_owned())),
    }
}

impl Store {
    /// Marks an event as handled (`None`: as not handled), with a note or without.
    ///
    /// # Errors
    /// `Invalid` when the note is too long; `Conflict` when the event has 100 notes.
    pub fn handle_event(
        &mut self,
        by: &Origin,
        now: WallTime,
        (site, event): (&SiteId, &str),
        verdict: Option<Verdict>,
        note: Option<&str>,
    ) -> Result<AuditNumber> {
        check_text("an event's id", event, ID_MAX)?;
        let user = user_of(by)?;
        let name = verdict.map(Verdict::as_str);
        let handle = Entry::of(Act::EventHandle).site(site).object("event").object(event);
        let mut entries = vec![handle.object(name.unwrap_or("open"))];
        let note = note.map(str::trim).filter(|note| !note.is_empty());
        entries.extend(note.map(|note| note_entry(site, event, note)));
        let handled = self.act(by, now, |tables| {
            let key = (site.as_str(), event);
            tables.set_handled(key, user, name, now)?;
            if let Some(note) = note {
                add_note(tables, key, user, note, now)?;
            }
            Ok(((), entries))
        })?;
        Ok(handled.1)
    }

    /// Writes a note to an event.
    ///
    /// # Errors
    /// As [`Store::handle_event`].
    pub fn add_note(
        &mut self,
        by: &Origin,
        now: WallTime,
        (site, event): (&SiteId, &str),
        note: &str,
    ) -> Result<AuditNumber> {
        check_text("an event's id", event, ID_MAX)?;
        let (user, note) = (user_of(by)?, note.trim());
        if note.is_empty() {
            return Err(ConsoleError::Invalid("the note is empty".to_owned()));
        }
        let entry = note_entry(site, event, note);
        let added = self.act(by, now, |tables| {
            add_note(tables, (site.as_str(), event), user, note, now)?;
            Ok(((), vec![entry]))
        })?;
        Ok(added.1)
    }

    /// Keeps what officers wrote to a lock. The lock itself belongs to the archive, which makes it
    /// after the record of the act `lock` ([`Store::record`]) and gives its number.
    ///
    /// # Errors
    /// `Invalid` when a text is too long.
    pub fn note_lock(
        &mut self,
        by: &Origin,
        now: WallTime,
        note: &LockNote,
    ) -> Result<AuditNumber> {
        check_text("a title", &note.title, TITLE_MAX)?;
        check_text("a case number", &note.case, TITLE_MAX)?;
        let user = user_of(by)?;
        let site = SiteId::parse(&note.site).map_err(ConsoleError::Invalid)?;
        let entry = Entry::of(Act::Lock).site(&site).object("lock").object(note.id.to_string());
        let note = LockNote { at: now, ..note.clone() };
        let kept = self.act(by, now, |tables| {
            tables.set_lock_note(&note, user)?;
            Ok(((), vec![entry.object("noted")]))
        })?;
        Ok(kept.1)
    }

    /// Merges ranges that were on a session's screen, microseconds of wall time; returns the seconds
    /// of this file that the session has seen. No record: `playback.stop` carries the sum.
    ///
    /// # Errors
    /// `Invalid` for more than 64 ranges at once.
    pub fn shown(
        &mut self,
        session: &Session,
        (site, fid): (&SiteId, &str),
        ranges: &[(i64, i64)],
    ) -> Result<i64> {
        check_text("a file's id", fid, ID_MAX)?;
        if ranges.len() > REPORT_MAX {
            let text = format!("a report has at most {REPORT_MAX} ranges, not {}", ranges.len());
            return Err(ConsoleError::Invalid(text));
        }
        let tables = self.tables();
        tables.begin()?;
        let kept = (|| {
            let known = tables.shown_ranges(&session.id, site.as_str(), fid)?;
            let merged = merge(&known, ranges);
            if merged != known {
                let whose = (session.id.as_str(), session.user);
                tables.replace_shown(whose, (site.as_str(), fid), &merged)?;
            }
            tables.commit()?;
            Ok(seconds(&merged))
        })();
        if kept.is_err() {
            tables.roll_back();
        }
        kept
    }
}

/// A note is in the trail by its digest: the event's note itself can be read beside the event.
fn note_entry(site: &SiteId, event: &str, note: &str) -> Entry {
    Entry::of(Act::EventNote).site(site).object("event").object(event).reason(note)
}

fn add_note(
    tables: &crate::office::console::tables::Tables,
    (site, event): (&str, &str),
    user: i64,
    note: &str,
    now: WallTime,
) -> Result<()> {
    check_text("a note", note, REASON_MAX)?;
    if tables.note_count(site, event)? >= NOTES_MAX {
        return Err(ConsoleError::Conflict(format!(
            "the event has {NOTES_MAX} notes, the most possible"
        )));
    }
    tables.insert_note((site, event), user, note, now)
}
