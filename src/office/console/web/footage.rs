//! Footage that sessions have opened: one record in the audit trail for each file and session and a
//! quarter of an hour, not one for each of the player's hundred ranges.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Web;
use super::call::Call;
use super::problem::Problem;
use super::route::Route;
use super::web_state::lock;
use crate::office::console::acts::Ending;
use crate::office::console::audit::record::{Act, AuditNumber, Entry, Outcome};
use crate::office::media::clip_index::ClipIndex;
use crate::office::queries::rows::StoredFile;
use crate::units::{SiteId, WallTime};

/// Files of sessions that are remembered: nine players of 50 viewers, and as many again. When full,
/// all are forgotten, and the next range writes a record again.
const OPENED_MAX: usize = 1_024;
/// Microseconds after which a file that is still read is recorded again.
const AGAIN_AFTER: i64 = 15 * 60 * 1_000_000;

/// A session and a file.
type Key = (String, String, String);

/// What sessions have opened, with the record of each.
#[derive(Debug, Default)]
pub(crate) struct Opened(HashMap<Key, (WallTime, AuditNumber)>);

impl Opened {
    /// The record of a file that the session opened a moment ago.
    fn number(&self, key: &Key, now: WallTime) -> Option<AuditNumber> {
        let (at, number) = self.0.get(key)?;
        (now.0.saturating_sub(at.0) < AGAIN_AFTER && now >= *at).then_some(*number)
    }

    fn add(&mut self, key: Key, now: WallTime, number: AuditNumber) {
        if self.0.len() >= OPENED_MAX {
            self.0.retain(|_, (at, _)| now.0.saturating_sub(at.0) < AGAIN_AFTER);
        }
        if self.0.len() >= OPENED_MAX {
            self.0.clear();
        }
        self.0.insert(key, (now, number));
    }
}

/// Indexes of clips that are kept: the nine of a player's wall, and as many for another viewer. One
/// of a long clip has some 2 MiB.
const INDEXES_MAX: usize = 18;

/// Indexes of the clips that were read last, by their keys.
#[derive(Default)]
pub(crate) struct Indexes(VecDeque<(String, Arc<ClipIndex>)>);

impl Indexes {
    pub(crate) fn get(&mut self, key: &str) -> Option<Arc<ClipIndex>> {
        let at = self.0.iter().position(|(other, _)| other == key)?;
        let found = self.0.remove(at)?;
        let index = found.1.clone();
        self.0.push_back(found);
        Some(index)
    }

    pub(crate) fn put(&mut self, key: &str, index: Arc<ClipIndex>) {
        if self.0.len() >= INDEXES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((key.to_owned(), index));
    }
}

impl Web {
    /// Records that the session of `call` opens its file, before a byte of it is read. The purpose is
    /// part of the key: another purpose is another record.
    ///
    /// # Errors
    /// When the record cannot be written: the file then stays closed.
    pub(crate) fn open_footage(&self, call: &Call) -> Result<AuditNumber, Problem> {
        let origin = call.origin()?;
        let file = call.file.as_ref().ok_or_else(Problem::not_found)?;
        let purpose = origin.purpose.as_ref().map(|(kind, case)| format!("{kind:?} {case}"));
        let key = (
            origin.session.clone(),
            format!("{}/{}", file.site, file.fid),
            purpose.unwrap_or_default(),
        );
        if let Some(number) = lock(&self.opened).number(&key, call.now) {
            return Ok(number);
        }
        let entry = self.footage_entry(file)?;
        let (site, fid) = (file.site.clone(), file.fid.clone());
        let number = match entry.act {
            Act::PlaybackStart => self
                .console
                .act(move |store, now| store.begin_playback(&origin, now, (&site, &fid), entry))?,
            _ => self.console.record(&origin, entry)?,
        };
        lock(&self.opened).add(key, call.now, number);
        Ok(number)
    }

    /// The record of a file that is opened.
    pub(crate) fn footage_entry(&self, file: &StoredFile) -> Result<Entry, Problem> {
        let act = if file.purpose == "snapshot" { Act::SnapshotView } else { Act::PlaybackStart };
        let mut entry = Entry::of(act).object("file").object(&file.fid);
        if let Ok(site) = SiteId::parse(&file.site) {
            entry = entry.site(&site);
        }
        if let (Ok(from), Ok(to)) = (WallTime::parse(&file.from), WallTime::parse(&file.to)) {
            entry = entry.range(from, to);
        }
        if act == Act::PlaybackStart && self.may_have_privacy_zones(&file.site)? {
            entry = entry.object("unmasked");
        }
        Ok(entry)
    }

    /// Forgets that sessions opened files: the next range of one is a new playback.
    pub(crate) fn close_footage(&self, ended: &[(String, String, String)]) {
        let mut opened = lock(&self.opened);
        for (session, site, fid) in ended {
            let file = format!("{site}/{fid}");
            opened.0.retain(|key, _| key.0 != *session || key.1 != file);
        }
    }

    /// Records the stops of clips whose page has gone without a word.
    pub(crate) fn end_silent_playbacks(&self) {
        match self.console.act(|store, now| store.end_playbacks(now, Ending::Silent)) {
            Ok(ended) => self.close_footage(&ended),
            Err(error) => {
                tracing::warn!(%error, "ends of playbacks not recorded; the office tries again in a minute");
            }
        }
    }

    /// Records that the session of `call` reads the audit trail, once in a quarter of an hour.
    pub(crate) fn open_trail(&self, call: &Call) -> Result<(), Problem> {
        let key = (call.origin()?.session, String::new(), "audit".to_owned());
        if lock(&self.opened).number(&key, call.now).is_none() {
            let number = call.record(Entry::of(Act::AuditRead))?;
            lock(&self.opened).add(key, call.now, number);
        }
        Ok(())
    }
}

impl Web {
    /// Records a refusal, once for each session and row of the route table in a quarter of an hour:
    /// no client fills the trail with refusals.
    pub(crate) fn note_denied(&self, route: &Route, call: &Call) -> Result<(), Problem> {
        let origin = call.origin()?;
        let row = format!("{} {}", route.method.as_str(), route.path);
        let key = (origin.session.clone(), row.clone(), "denied".to_owned());
        if lock(&self.opened).number(&key, call.now).is_some() {
            return Ok(());
        }
        let mut entry = Entry::of(Act::Denied).object("route").object(row).result(Outcome::Denied);
        if let Ok(site) = call.site() {
            entry = entry.site(&site);
        }
        let number = self.console.record(&origin, entry)?;
        lock(&self.opened).add(key, call.now, number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        ("s".into(), n.to_string(), String::new())
    }

    #[test]
    fn a_file_is_recorded_again_after_a_quarter_of_an_hour() {
        let mut opened = Opened::default();
        opened.add(key(1), WallTime(0), AuditNumber(7));
        assert_eq!(opened.number(&key(1), WallTime(AGAIN_AFTER - 1)), Some(AuditNumber(7)));
        assert_eq!(opened.number(&key(1), WallTime(AGAIN_AFTER)), None);
        assert_eq!(opened.number(&key(2), WallTime(0)), None);
    }

    #[test]
    fn the_table_of_opened_files_is_bounded() {
        let mut opened = Opened::default();
        for n in 0..5_000 {
            opened.add(key(n), WallTime(0), AuditNumber(1));
        }
        assert!(opened.0.len() <= OPENED_MAX);
        assert!(opened.number(&key(4_999), WallTime(0)).is_some());
    }
}
