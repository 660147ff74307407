//! Archive of the office: ingest of MQTT messages in batches, and their receipts.
//!
//! The archive is an index and a store of files ([`super::store`]). A message has no
//! receipt before it is flushed; a repeated message is stored once. The archive checks names, sizes
//! and offsets of devices before they reach the disk.
//!
//! One batch is one transaction with one flush. Receipts leave after the commit, and memory changes
//! after it. When the index rejects one message, the whole batch is rolled back, and the state in
//! memory of its files is dropped and read again.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::error::{ArchiveError, Named as _};
use super::ingest_outcome::{IngestOutcome, Now};
use super::notice::{Fault, office_span};
use super::part_cache::{Key, PartialFile};
use super::safeguards::IngestRule;
use super::store::{self, FileStore, Index};
use crate::fault_switch::FaultSwitch;
use crate::units::SiteId;
use crate::uplink::topics;

/// Sites at most: a country has fewer communes.
const SITES_MAX: u64 = 10_000;

/// The archive: index, files, and the state of unfinished files.
pub struct Archive {
    pub(super) index: Box<dyn Index>,
    pub(super) files: Arc<dyn FileStore>,
    /// A cache: the index knows all unfinished files.
    pub(super) parts: HashMap<Key, PartialFile>,
    /// Files of the open transaction; a rollback drops them from `parts`.
    pub(super) touched: Vec<Key>,
    /// Numbers each state of an unfinished file, so that a late result is recognized.
    pub(super) turns: u64,
    /// Unix time of the last search for gaps, for each site; bounded as the sites are.
    pub(super) looked_at: HashMap<SiteId, i64>,
    /// The ring that another one replaced last, and its Unix time, for each site; bounded likewise.
    pub(super) replaced: HashMap<SiteId, (String, i64)>,
    /// The safeguard that a simulation has removed.
    pub(super) switch: FaultSwitch<IngestRule>,
}

impl Archive {
    /// Opens the archive in `dir`, or makes one.
    ///
    /// # Errors
    /// When directory or index cannot be used.
    pub fn open(dir: &Path) -> Result<Archive, ArchiveError> {
        let (index, files) = store::open(dir)?;
        Archive::open_over(index, files)
    }

    /// Opens an archive for writing, and makes none.
    ///
    /// # Errors
    /// `NotFound` when `dir` holds no archive; otherwise as [`Archive::open`].
    pub fn open_existing(dir: &Path) -> Result<Archive, ArchiveError> {
        store::ensure_there(dir)?;
        Archive::open(dir)
    }

    /// Opens an archive for queries, beside the office that writes it.
    ///
    /// # Errors
    /// `NotFound` when `dir` holds no archive; otherwise the failure of the database.
    pub fn open_read_only(dir: &Path) -> Result<Archive, ArchiveError> {
        let (index, files) = store::open_read_only(dir)?;
        Ok(Archive::over(index, files))
    }

    /// Opens an archive over any index and file store, or makes one.
    ///
    /// # Errors
    /// When index or file store fails.
    pub(crate) fn open_over(
        index: Box<dyn Index>,
        files: Arc<dyn FileStore>,
    ) -> Result<Archive, ArchiveError> {
        files.prepare()?;
        index.migrate()?;
        Ok(Archive::over(index, files))
    }

    /// An archive over an open index, with an empty cache.
    fn over(index: Box<dyn Index>, files: Arc<dyn FileStore>) -> Archive {
        Archive {
            index,
            files,
            parts: HashMap::new(),
            touched: Vec::new(),
            turns: 0,
            looked_at: HashMap::new(),
            replaced: HashMap::new(),
            switch: FaultSwitch::NONE,
        }
    }

    /// Removes a safeguard, to show that the simulator notices.
    #[cfg(any(test, feature = "sim"))]
    pub fn take_away(&mut self, rule: IngestRule) {
        self.switch = FaultSwitch::only(Some(rule));
    }

    /// The index.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn index(&self) -> &dyn Index {
        &*self.index
    }

    /// The file store, for the thread that flushes and hashes.
    pub fn files_below(&self) -> Arc<dyn FileStore> {
        self.files.clone()
    }

    /// Schedules the removal of unfinished files that the index does not know; a crash left them.
    pub(super) fn find_left_parts(&mut self) -> Result<(), ArchiveError> {
        let found =
            self.files.list_unfinished().named(|| "list of the unfinished files".to_owned())?;
        let mut left = Vec::new();
        for (key, _) in found {
            if !self.index.is_part_key(&key)? {
                left.push(key);
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        self.index.within(|index| left.iter().try_for_each(|key| index.insert_removal(key)))
    }

    /// Stores messages of `taimat/v1/{site}/up/…` in one transaction. The returned receipts are
    /// true: their messages are durable.
    ///
    /// # Errors
    /// When index or disk fails: nothing of the batch is stored or receipted; the devices send
    /// again.
    pub fn take_all(
        &mut self,
        messages: &[(String, Vec<u8>)],
        now: Now<'_>,
    ) -> Result<Vec<(SiteId, IngestOutcome)>, ArchiveError> {
        self.touched.clear();
        match self.take_within(messages, now) {
            Ok(outcomes) => {
                outcomes.iter().for_each(|(_, outcome)| self.apply_outcome(outcome, now.seconds));
                Ok(outcomes)
            }
            Err(error) => {
                self.index.roll_back();
                if !self.switch.disables(IngestRule::CommitBeforeMemory) {
                    let touched = std::mem::take(&mut self.touched);
                    touched.iter().for_each(|key| _ = self.parts.remove(key));
                }
                Err(error)
            }
        }
    }

    /// Runs `work` in one transaction, which is rolled back on an error.
    pub(super) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Archive) -> Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        self.index.begin_transaction()?;
        let done = work(self).and_then(|value| self.index.commit().map(|()| value));
        if done.is_err() {
            self.index.roll_back();
        }
        done
    }

    fn take_within(
        &mut self,
        messages: &[(String, Vec<u8>)],
        now: Now<'_>,
    ) -> Result<Vec<(SiteId, IngestOutcome)>, ArchiveError> {
        self.index.begin_transaction()?;
        let outcomes = self.take_each(messages, now)?;
        if self.switch.disables(IngestRule::CommitBeforeReceipt) {
            self.index.defer_commit();
        } else {
            self.index.commit()?;
        }
        Ok(outcomes)
    }

    fn take_each(
        &mut self,
        messages: &[(String, Vec<u8>)],
        now: Now<'_>,
    ) -> Result<Vec<(SiteId, IngestOutcome)>, ArchiveError> {
        let mut outcomes = Vec::with_capacity(messages.len());
        for (topic, payload) in messages {
            let Some((site, tail)) = topics::read_up(topic) else {
                continue;
            };
            let _span = office_span(Some(site.as_str())).entered();
            let outcome = self.take_one(&site, tail, payload, now)?;
            outcomes.push((site, outcome));
        }
        Ok(outcomes)
    }

    fn take_one(
        &mut self,
        site: &SiteId,
        tail: &str,
        payload: &[u8],
        now: Now<'_>,
    ) -> Result<IngestOutcome, ArchiveError> {
        if !self.note_site(site, now.text)? {
            return Ok(IngestOutcome::fault(
                Fault::TooManySites,
                format!("the maximum is {SITES_MAX}"),
            ));
        }
        match tail {
            "event" => self.event(site, payload, now),
            "state" => self.state(site, payload, now),
            "birth" => self.birth(site, payload),
            "health" => self.health(site, payload, now),
            "rsp" => self.reply(site, payload, now),
            "config/get" | "config/reported" => self.take_config(site, tail, payload, now.text),
            _ => match tail.strip_prefix("file/").and_then(|rest| rest.split_once('/')) {
                Some((fid, verb))
                    if fid.len() == 32 && fid.bytes().all(|b| b.is_ascii_hexdigit()) =>
                {
                    self.file((site.clone(), fid.to_owned()), verb, payload, now)
                }
                _ => Ok(IngestOutcome::default()),
            },
        }
    }

    /// Records the time of a site's last message; false for a new site beyond the bound.
    fn note_site(&self, site: &SiteId, now: &str) -> Result<bool, ArchiveError> {
        let site = site.as_str();
        if self.index.set_seen(site, now)? {
            return Ok(true);
        }
        if self.index.count_sites()? >= SITES_MAX {
            return Ok(false);
        }
        self.index.insert_site(site, now)?;
        Ok(true)
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
