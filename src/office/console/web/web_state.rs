//! What all requests share: archive, console, events for pages, places for heavy requests.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::{Semaphore, watch};

use super::event_ring::{EventRing, PageEvent};
use super::footage::{Indexes, Opened};
use super::limits::Connections;
use super::metrics::Counts;
use super::problem::{Code, Problem};
use super::start::BrokerAccess;
use crate::clock::Clock;
use crate::office::archive_link::ArchiveClient;
use crate::office::console::Console;
use crate::office::console::error::ConsoleError;
use crate::office::console::people::session::Session;
use crate::office::console::tables::map_tiles::MapTiles;
use crate::office::console::tables::rows::PlaceRow;
use crate::office::error::ArchiveError;
use crate::office::pictures::Pictures;
use crate::office::queries::Reader;
use crate::office::queries::rows::StoredFile;
use crate::units::{Digest, SiteId, WallTime};

/// What all requests share.
pub(crate) struct Web {
    pub(crate) console: Console,
    pub(crate) archive: ArchiveClient,
    pub(crate) reader: Reader,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) broker: Option<BrokerAccess>,
    /// SHA-256 of the token of machines; `None`: only this machine.
    pub(crate) machine_token: Option<Digest>,
    pub(crate) heavy: Arc<Semaphore>,
    pub(crate) commands: Arc<Semaphore>,
    pub(crate) logins: Arc<Semaphore>,
    pub(crate) open: Arc<Mutex<Connections>>,
    pub(crate) counts: Counts,
    pub(crate) ring: Mutex<EventRing>,
    /// Number of the newest event of `ring`.
    pub(crate) newest: watch::Sender<u64>,
    pub(crate) opened: Mutex<Opened>,
    pub(crate) indexes: Mutex<Indexes>,
    pub(crate) pictures: Pictures,
    /// The map of the configuration.
    pub(crate) tiles: Option<MapTiles>,
    /// Held while an image is decoded: its pixels have 80 MB.
    pub(crate) decoding: Mutex<()>,
    /// Open streams of each session.
    pub(crate) streams: Mutex<HashMap<String, usize>>,
    /// Group of each site; a cache, read again when places change and every few seconds.
    pub(crate) groups: RwLock<BTreeMap<String, String>>,
    /// Whether moving pictures of a site need the right `unmasked`; a cache like `groups`.
    pub(crate) privacy: RwLock<HashMap<String, bool>>,
    /// Since when sequence numbers of a site have been missing.
    pub(crate) missing: Mutex<HashMap<String, WallTime>>,
    /// The web's own runtime, for commands.
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) stop: watch::Receiver<bool>,
}

/// Locks what is whole after any panic: counters, and caches that are read again.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Web {
    /// The session of a cookie.
    pub(crate) fn session(&self, cookie: &str) -> Result<Option<Session>, Problem> {
        Ok(self.console.session(cookie)?)
    }

    /// The session of a cookie, without counting as its use.
    pub(crate) fn peek_session(&self, cookie: &str) -> Result<Option<Session>, Problem> {
        Ok(self.console.session_unused(cookie)?)
    }

    /// Places of all sites.
    pub(crate) fn places(&self) -> Result<Vec<PlaceRow>, Problem> {
        Ok(self.console.read(|tables| tables.places())?)
    }

    /// Language of the pages before a log-in.
    pub(crate) fn language(&self) -> Result<String, Problem> {
        let set = self.console.read(|tables| tables.setting("language"))?;
        Ok(set.unwrap_or_else(|| "vi".into()))
    }

    /// Group of every site that the archive or the plan knows.
    pub(crate) fn all_groups(&self) -> BTreeMap<String, String> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a motion event that officers changed to the pages.
    pub(crate) fn tell_motion_event(&self, site: &str, id: &str) -> Result<(), Problem> {
        let Some(event) = self.motion_event_view(site, id)? else { return Ok(()) };
        let data = event.to_string().into();
        let mut ring = lock(&self.ring);
        ring.push(PageEvent { kind: "motion_event", site: Some(site.to_owned()), data });
        self.newest.send_replace(ring.newest());
        Ok(())
    }

    /// Group of a site: `""` without one, `None` for a site that the archive does not know.
    pub(crate) fn group_of(&self, site: &str) -> Result<Option<String>, Problem> {
        if SiteId::parse(site).is_err() {
            return Ok(None);
        }
        let known = self.groups.read().unwrap_or_else(PoisonError::into_inner).get(site).cloned();
        if known.is_some() {
            return Ok(known);
        }
        if self.reader.site(site, WallTime(i64::MAX))?.is_none() {
            return Ok(None);
        }
        // Right after the start, and for a new site, the cache does not have its place yet.
        Ok(Some(self.console.read(|tables| tables.site_groups())?.remove(site).unwrap_or_default()))
    }

    /// Reads the groups of all sites again.
    pub(crate) fn read_groups(&self) -> Result<(), Problem> {
        let placed = self.console.read(|tables| tables.site_groups())?;
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        // Without a place a site has no group, whatever it had.
        for (site, group) in groups.iter_mut() {
            *group = placed.get(site).cloned().unwrap_or_default();
        }
        Ok(())
    }

    /// Group of a site for users who know that it exists.
    pub(crate) fn known_group(&self, site: &str) -> String {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.get(site).cloned().unwrap_or_default()
    }

    /// Remembers that the archive has a site.
    pub(crate) fn note_site(&self, site: &str, group: &str, may_have_zones: bool) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.insert(site.to_owned(), group.to_owned());
        drop(groups);
        let mut privacy = self.privacy.write().unwrap_or_else(PoisonError::into_inner);
        privacy.insert(site.to_owned(), may_have_zones);
    }

    /// Whether a site has privacy zones, by its device's last birth. True for a device that does
    /// not say it.
    pub(crate) fn may_have_privacy_zones(&self, site: &str) -> Result<bool, Problem> {
        let known = self.privacy.read().unwrap_or_else(PoisonError::into_inner).get(site).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let row = self.reader.site(site, WallTime(i64::MAX))?;
        Ok(row.is_none_or(|row| privacy_zones(&row.birth) != Some(0)))
    }

    /// A file of the archive that is not released.
    pub(crate) fn file(&self, site: &str, fid: &str) -> Result<Option<StoredFile>, Problem> {
        Ok(self.reader.file(site, fid)?.filter(|file| !file.is_released))
    }

    /// File id of the newest snapshot.
    pub(crate) fn newest_snapshot(&self, site: &str) -> Result<Option<String>, Problem> {
        Ok(self.reader.snapshot_of(site)?.map(|snapshot| snapshot.fid))
    }
}

/// The number of privacy zones in a birth; `None` where it does not say it.
pub(crate) fn privacy_zones(birth: &serde_json::Value) -> Option<u64> {
    birth["privacy_zones"].as_u64()
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Problem {
        match &error {
            ArchiveError::Invalid(detail) => Problem::bad(detail.clone()),
            ArchiveError::NotFound(_) => Problem::not_found(),
            ArchiveError::Locked(detail) => Problem::new(Code::Busy, detail.clone()),
            ArchiveError::Slow(detail) => Problem::new(Code::Timeout, detail.clone()),
            _ => Problem::new(Code::Internal, error.line()),
        }
    }
}

impl From<ConsoleError> for Problem {
    fn from(error: ConsoleError) -> Problem {
        let detail = error.to_string();
        let code = match &error {
            ConsoleError::LoginFailed => Code::LoginFailed,
            ConsoleError::Locked { retry_after } => {
                return Problem::new(Code::Locked, detail)
                    .with("retry_after", (*retry_after).into());
            }
            ConsoleError::Busy => Code::Busy,
            ConsoleError::WeakPassword(_) => Code::WeakPassword,
            ConsoleError::BadToken => Code::BadToken,
            ConsoleError::NotFound(_) => Code::NotFound,
            ConsoleError::Conflict(_) => Code::Conflict,
            ConsoleError::Invalid(_) => Code::Invalid,
            ConsoleError::Trail(_) | ConsoleError::LogoutUnrecorded(_) => Code::AuditFailed,
            ConsoleError::Storage(_) | ConsoleError::Version { .. } => Code::Internal,
        };
        Problem::new(code, detail)
    }
}
