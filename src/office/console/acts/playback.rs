//! Playback: each `playback.start` has one `playback.stop`, also when the page goes without a word.

use super::sessions::idle_since;
use crate::office::console::audit::record::{Act, AuditNumber, Entry, Origin};
use crate::office::console::audit::shown::seconds;
use crate::office::console::tables::playbacks::Playback;
use crate::office::console::tables::{Result, Tables};
use crate::office::console::writer::Store;
use crate::units::{SiteId, WallTime};

/// Microseconds without a report after which a clip has ended: a page reports every five seconds
/// while pictures change, and a paused one may go on.
const SILENT_AFTER: i64 = 2 * 60 * 1_000_000;
/// Stops in one transaction at most: the next minute writes more.
const STOPS_MAX: u32 = 256;

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
    /// `Trail` when it cannot be written: no byte of it may be sent then.
    pub fn begin_playback(
        &mut self,
        by: &Origin,
        now: WallTime,
        file: (&str, &str),
        start: Entry,
    ) -> Result<AuditNumber> {
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
