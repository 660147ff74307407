//! ⇄ The archive: `DIR/taimat.sqlite` and `DIR/files/{site}/{date}/{name}`. Nothing is receipted before it is flushed; everything
//! may come twice and is kept once. A device's word is not trusted: names, sizes and offsets are checked before they touch the disk.
//!
//! Messages are taken in batches, one transaction and one flush each: a receipt leaves after its batch is on the disk, and memory
//! changes after it. A message that the index refuses takes back its batch, and what memory holds of it is read again.
//!
//! What belongs here: opening, batches. What does not: single messages ([`super::message_ingest`], [`super::partial_files`]), MQTT ([`super::service`]),
//! listing (`check`), missing numbers ([`super::sequence_gaps`]), keeping and letting go ([`super::retention`]).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rusqlite::{Connection, params};
use serde_json::Value;

use super::file_store::{DiskStore, FileStore};
use super::index::{self, Index, IndexGuard};
use super::partial_files::{Check, Flush, Key, PartialFile};
use super::safeguards::IngestRule;
use crate::units::SiteId;
use crate::uplink::topics;
use crate::uplink::wire::Ack;

/// Sites at most: more than the communes of a country, and no table grows without an end.
const SITES_MAX: u64 = 10_000;

/// When: RFC 3339, and seconds since 1970.
pub type Now<'a> = (&'a str, i64);

/// What a message led to.
#[derive(Debug, Default)]
pub struct IngestOutcome {
    /// To be published to the site's `dn/ack`.
    pub ack: Option<Ack>,
    /// For people who watch.
    pub line: Option<String>,
    /// What went wrong: its kind, reported once a minute, and particulars of the first.
    pub complaint: Option<(&'static str, String)>,
    /// A file that is all there: its digest is to be found, and reported to [`Archive::checked`].
    pub check: Option<Check>,
    /// A file of which enough is there to be flushed, and reported to [`Archive::flushed`].
    pub flush: Option<Flush>,
    /// A command to the site: name and payload.
    pub ask: Option<(&'static str, Value)>,
    /// Any other message: topic and payload.
    pub publish: Option<(String, Vec<u8>)>,
}

impl IngestOutcome {
    /// Nothing but an answer.
    pub(super) fn ack(ack: Ack) -> IngestOutcome {
        IngestOutcome { ack: Some(ack), ..IngestOutcome::default() }
    }
}

/// The archive.
pub struct Archive {
    pub(super) dir: PathBuf,
    pub(super) index: Index,
    pub(super) files: Arc<dyn FileStore>,
    /// Files on their way, as far as they were of use lately.
    pub(super) parts: HashMap<Key, PartialFile>,
    /// Those the open transaction has to do with.
    pub(super) touched: Vec<Key>,
    /// Counts up; every state of a part has its own.
    pub(super) turns: u64,
    /// When the numbers of a site were looked through; bounded as the sites are.
    pub(super) looked_at: HashMap<SiteId, i64>,
    /// A rule that is taken away, in simulations.
    pub(super) without: Option<IngestRule>,
}

impl Archive {
    /// Opens or makes the archive in `dir`.
    ///
    /// # Errors
    /// When the directory or the database cannot be used.
    pub fn open(dir: &Path) -> anyhow::Result<Archive> {
        std::fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
        index::ensure_room(dir)?;
        let path = dir.join(index::NAME);
        index::check_files(dir)?;
        let db = Connection::open(&path).with_context(|| format!("{}", path.display()))?;
        let archive = Archive::open_over(dir, Index::over(db, None), Arc::new(DiskStore::new(dir)))?;
        index::reserve(dir)?;
        Ok(archive)
    }

    /// Opens or makes an archive over any index and any files: `dir` is what they are called by.
    ///
    /// # Errors
    /// When they refuse.
    pub fn open_over(dir: &Path, index: Index, files: Arc<dyn FileStore>) -> anyhow::Result<Archive> {
        for part in ["files", "partial"] {
            files.make_dir(part).with_context(|| format!("{}", dir.join(part).display()))?;
        }
        files.flush_dir("").with_context(|| format!("{}", dir.display()))?;
        index.migrate(&dir.join(index::NAME))?;
        Ok(Archive::over(dir.to_owned(), index, files))
    }

    /// An archive over an open index, with nothing on its way.
    pub(super) fn over(dir: PathBuf, index: Index, files: Arc<dyn FileStore>) -> Archive {
        let (parts, touched, turns, looked_at, without) = (HashMap::new(), Vec::new(), 0, HashMap::new(), None);
        Archive { dir, index, files, parts, touched, turns, looked_at, without }
    }

    /// An index with a guard over an open database, for [`Archive::open_over`].
    pub fn guarded(db: Connection, guard: Arc<dyn IndexGuard>) -> Index {
        Index::over(db, Some(guard))
    }

    /// Takes a rule away, to see that something breaks.
    pub fn take_away(&mut self, rule: IngestRule) {
        self.without = Some(rule);
    }

    /// Its index, for who looks at it.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Its files, for the thread that flushes and hashes them.
    pub fn files_below(&self) -> Arc<dyn FileStore> {
        self.files.clone()
    }

    /// Unfinished bytes that belong to nothing the index knows: a kill left them.
    pub(super) fn find_left_parts(&mut self) -> anyhow::Result<()> {
        let found = self.files.list("partial").context("partial")?;
        let known = "SELECT EXISTS (SELECT 1 FROM parts WHERE 'partial/' || site || '-' || fid || '.part' = ?1)";
        let mut left = Vec::new();
        for (path, _) in found {
            if !self.index.db.query_row(known, [&path], |row| row.get::<_, bool>(0))? {
                left.push(path);
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        self.index.within(|index| {
            left.iter().try_for_each(|path| index.change("INSERT OR IGNORE INTO removals VALUES (?1)", [path]).map(|_| ()))
        })
    }

    /// Takes messages from `taimat/v1/{site}/up/…`; when it returns, what their receipts promise is on the disk.
    ///
    /// # Errors
    /// When the disk refuses: then there are no receipts, and the devices send again.
    pub fn take_all(&mut self, messages: &[(String, Vec<u8>)], now: Now<'_>) -> anyhow::Result<Vec<(SiteId, IngestOutcome)>> {
        self.touched.clear();
        match self.take_within(messages, now) {
            Ok(outcomes) => {
                outcomes.iter().for_each(|(_, outcome)| self.apply_outcome(outcome, now.1));
                Ok(outcomes)
            }
            Err(error) => {
                self.index.roll_back();
                if self.without != Some(IngestRule::CommitBeforeMemory) {
                    let touched = std::mem::take(&mut self.touched);
                    touched.iter().for_each(|key| _ = self.parts.remove(key));
                }
                Err(error)
            }
        }
    }

    /// Does `what` in one transaction; memory of what it touched is dropped when anything refuses.
    pub(super) fn transaction<T>(&mut self, what: impl FnOnce(&mut Archive) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.index.begin_transaction()?;
        let done = what(self).and_then(|value| self.index.commit().map(|()| value));
        if done.is_err() {
            self.index.roll_back();
        }
        done
    }

    fn take_within(&mut self, messages: &[(String, Vec<u8>)], now: Now<'_>) -> anyhow::Result<Vec<(SiteId, IngestOutcome)>> {
        self.index.begin_transaction()?;
        let outcomes = self.take_each(messages, now)?;
        if self.without == Some(IngestRule::CommitBeforeReceipt) {
            self.index.put_off();
        } else {
            self.index.commit()?;
        }
        Ok(outcomes)
    }

    fn take_each(&mut self, messages: &[(String, Vec<u8>)], now: Now<'_>) -> anyhow::Result<Vec<(SiteId, IngestOutcome)>> {
        let mut outcomes = Vec::with_capacity(messages.len());
        for (topic, payload) in messages {
            let Some((site, tail)) = topics::read_up(topic) else {
                continue;
            };
            let outcome = self.take_one(&site, tail, payload, now)?;
            outcomes.push((site, outcome));
        }
        Ok(outcomes)
    }

    fn take_one(&mut self, site: &SiteId, tail: &str, payload: &[u8], now: Now<'_>) -> anyhow::Result<IngestOutcome> {
        if !self.note_site(site, now.0)? {
            let complaint = Some(("sites beyond the bound", format!("{SITES_MAX} are known")));
            return Ok(IngestOutcome { complaint, ..IngestOutcome::default() });
        }
        match tail {
            "event" => self.event(site, payload, now),
            "state" => self.state(site, payload),
            "birth" => self.birth(site, payload),
            "health" => self.health(site, payload, now),
            "rsp" => self.reply(site, payload, now),
            "config/get" | "config/reported" => self.take_config(site, tail, payload, now.0),
            _ => match tail.strip_prefix("file/").and_then(|rest| rest.split_once('/')) {
                Some((fid, verb)) if fid.len() == 32 && fid.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    self.file((site.clone(), fid.to_owned()), verb, payload, now)
                }
                _ => Ok(IngestOutcome::default()),
            },
        }
    }

    /// Notes that a site was heard; false for a new one when there are too many.
    fn note_site(&self, site: &SiteId, now: &str) -> anyhow::Result<bool> {
        let seen = self.index.change("UPDATE sites SET seen = ?2 WHERE site = ?1", params![site.as_str(), now])?;
        if seen > 0 {
            return Ok(true);
        }
        let many: u64 = self.index.db.query_row("SELECT count(*) FROM sites", [], |row| row.get(0))?;
        if many >= SITES_MAX {
            return Ok(false);
        }
        self.index.change("INSERT INTO sites (site, seen) VALUES (?1, ?2)", params![site.as_str(), now])?;
        Ok(true)
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
