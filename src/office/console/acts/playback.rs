//! Playback: each `playback.start` has one `playback.stop`, also when the page goes without a word.

use std::collections::VecDeque;

use super::sessions::idle_since;
use crate::office::console::audit::record::{Act, AuditNumber, Entry, Origin};
use crate::office::console::audit::shown::seconds;
use crate::office::console::error::ConsoleError;
use crate::office::console::tables::playbacks::Playback;
use crate::office::console::tables::{Result, Tables};
use crate::office::console::writer::Store;
use crate::units::{SiteId, WallTime};

/// Microseconds without a report after which a clip has ended: a page reports every five seconds
/// while pictures change, and a paused one may go on.
const SILENT_AFTER: i64 = 2 * 60 * 1_000_000;
/// Stops in one transaction at most: the next minute writes more.
const STOPS_MAX: u32 = 256;

/// Starts of playback that a session may have in a minute: nine cameras change their clip every few
/// seconds at eight times the pace. Each adds two records to the trail, which are kept for good.
const STARTS_A_MINUTE: usize = 120;
/// Starts remembered at most, of all sessions.
const STARTS_MAX: usize = 8_192;

/// Starts of playback of the last minute, by session.
#[derive(Debug, Default)]
pub struct PlaybackStarts(VecDeque<(WallTime, String)>);

impl PlaybackStarts {
    /// Counts a start; false when the session has had too many within a minute.
    fn take(&mut self, session: &str, now: WallTime) -> bool {
        let minute = now.plus_micros(-60_000_000)..=now;
        self.0.retain(|(at, _)| minute.contains(at));
        if self.0.iter().filter(|(_, of)| of == session).count() >= STARTS_A_MINUTE {
            return false;
        }
        if self.0.len() == STARTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, session.to_owned()));
        true
    }
}

/// Which clips end.
#[derive(Debug, Clone, Copy)]
pub enum Ending<'a> {
    /// One file of a session: site and file id.
    File(&'a str, &'a str, &'a str),
    /// All of a session.
    Session(&'a str),
    /// All without a report for two minutes or without a session.
    Silent,
}

/// The stop of a clip: the seconds of the file that the session has had on its screen.
fn stop(tables: &Tables, playback: &Playback) -> Result<(Origin, Entry)> {
    let Playback { site, fid, by } = playback;
    let shown = tables.shown_ranges(&by.session, site, fid)?;
    let entry = Entry::of(Act::PlaybackStop).object("file").object(fid);
    let mut entry = entry.object("seconds").object(seconds(&shown).to_string());
    entry.site = SiteId::parse(site).ok();
    entry.range = shown.first().zip(shown.last()).map(|(a, b)| (WallTime(a.0), WallTime(b.1)));
    Ok((by.clone(), entry))
}

impl Store {
    /// Records that a clip begins to play; one that plays in the same session ends before.
    ///
    /// # Errors
    /// `Trail` when it cannot be written: no byte of it may be sent then. `Busy` when the session
    /// has begun too many in a minute.
    pub fn begin_playback(
        &mut self,
        by: &Origin,
        now: WallTime,
        file: (&str, &str),
        start: Entry,
    ) -> Result<AuditNumber> {
        if !self.starts.take(&by.session, now) {
            return Err(ConsoleError::Busy);
        }
        let begun = self.act_of_many(now, |tables| {
            let former = tables.playback(&by.session, file)?;
            let former = former.map(|former| stop(tables, &former)).transpose()?;
            tables.set_playback(by, file, now)?;
            Ok(((), former.into_iter().chain([(by.clone(), start)]).collect()))
        })?;
        Ok(begun.1)
    }

    /// Notes a report on a clip of a session; false when none of it plays.
    ///
    /// # Errors
    /// When the database fails.
    pub fn note_report(
        &mut self,
        session: &str,
        file: (&str, &str),
        now: WallTime,
    ) -> Result<bool> {
        self.tables().note_report(session, file, now)
    }

    /// Records the stops of clips; returns session, site and file of each.
    ///
    /// # Errors
    /// `Trail` when they cannot be written: the next call tries again.
    pub fn end_playbacks(
        &mut self,
        now: WallTime,
        which: Ending,
    ) -> Result<Vec<(String, String, String)>> {
        let tables = self.tables();
        let ended = match which {
            Ending::File(session, site, fid) => {
                tables.playback(session, (site, fid))?.into_iter().collect()
            }
            Ending::Session(session) => tables.playbacks_of(session, STOPS_MAX)?,
            Ending::Silent => {
                let times = (now, now.plus_micros(-SILENT_AFTER), idle_since(now));
                tables.silent_playbacks(times, STOPS_MAX)?
            }
        };
        if ended.is_empty() {
            return Ok(Vec::new());
        }
        self.act_of_many(now, |tables| {
            let stops = ended.iter().map(|one| {
                let stop = stop(tables, one)?;
                tables.delete_playback(&one.by.session, (&one.site, &one.fid))?;
                Ok(stop)
            });
            Ok(((), stops.collect::<Result<Vec<_>>>()?))
        })?;
        Ok(ended.into_iter().map(|one| (one.by.session, one.site, one.fid)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_begins_a_bounded_number_of_clips_a_minute() {
        let mut starts = PlaybackStarts::default();
        let at = |second: i64| WallTime(1_795_485_600_000_000 + second * 1_000_000);
        let taken = (0..1000).filter(|_| starts.take("a", at(0))).count();
        assert_eq!(taken, STARTS_A_MINUTE);
        assert!(starts.take("b", at(1)), "others are not touched");
        assert!(!starts.take("a", at(59)) && starts.take("a", at(61)));
        // A clock that is set back forgets what lies ahead.
        assert!(starts.take("b", at(-3600)));
        for n in 0..2 * STARTS_MAX {
            assert!(starts.take(&n.to_string(), at(100)));
        }
        assert_eq!(starts.0.len(), STARTS_MAX);
    }
}
