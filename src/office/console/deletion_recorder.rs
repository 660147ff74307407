//! Thread `deletions`: brings what the retention deleted into the audit trail.
//!
//! The index sums up deletions in the transaction that makes them. This thread compares the sums
//! with those of the trail, from its start on: it misses no deletion, whenever the office ended.
#![expect(clippy::disallowed_methods, reason = "shell: starts a thread, waits")]

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::acts::Recorded;
use super::handle::Console;
use super::tables::Result;
use super::writer::{Store, console_dir, has_console};
use crate::clock::{Clock, SystemClock};
use crate::office::queries::Reader;
use crate::office::queries::rows::DeletedTotal;
use crate::office::retention::DAY;

/// Pause between two comparisons: a table of three rows for each site is read.
const INTERVAL: Duration = Duration::from_secs(10);

/// Who writes the records.
enum Trail {
    /// The console of the running web listener.
    Console(Console),
    /// The console database of the archive in this directory, if it has one.
    Archive(PathBuf),
}

/// The running thread. Dropping it compares once more and ends it.
pub struct DeletionRecorder {
    running: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl DeletionRecorder {
    /// Starts the thread for the archive in `archive`, which an office has upgraded. Without a
    /// `console` the records go to the archive's console database while there is one.
    ///
    /// # Errors
    /// When the index cannot be read or the thread not be started.
    pub fn start(archive: &Path, console: Option<Console>) -> anyhow::Result<DeletionRecorder> {
        let trail = console.map_or_else(|| Trail::Archive(archive.to_owned()), Trail::Console);
        let reader = Reader::open(archive)?;
        let mut recorder = Recorder {
            reader,
            trail,
            clock: SystemClock::new(),
            days: HashMap::new(),
            known: HashSet::new(),
            is_failing: false,
        };
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("deletions".into()).spawn(move || {
            loop {
                recorder.compare();
                if stopped.recv_timeout(INTERVAL) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return recorder.compare();
                }
            }
        })?;
        Ok(DeletionRecorder { running: Some((stop, thread)) })
    }
}

impl Drop for DeletionRecorder {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

struct Recorder {
    reader: Reader,
    trail: Trail,
    clock: SystemClock,
    /// Day of a site's last record since the start; sites of the index bound it.
    days: HashMap<String, i64>,
    /// The sums that the trail has whole.
    known: HashSet<DeletedTotal>,
    is_failing: bool,
}

impl Recorder {
    fn compare(&mut self) {
        let compared = self.try_compare();
        if let Err(error) = &compared
            && !self.is_failing
        {
            tracing::warn!(%error, "deletions of the retention not yet in the audit trail; free space and check the directory console/, the office tries again every 10 s");
        }
        self.is_failing = compared.is_err();
    }

    fn try_compare(&mut self) -> anyhow::Result<()> {
        let totals = self.reader.deleted_totals()?;
        let day = self.clock.now().wall.0.div_euclid(DAY);
        let is_due = |total: &DeletedTotal| self.days.get(&total.site) != Some(&day);
        if !totals.iter().any(|total| is_due(total) && !self.known.contains(total)) {
            return Ok(());
        }
        let recorded = self.record(totals.clone(), day)?;
        let Some(Recorded { sites, has_withheld }) = recorded else { return Ok(()) };
        self.days.extend(sites.into_iter().map(|site| (site, day)));
        if !has_withheld {
            self.known = totals.into_iter().collect();
        }
        Ok(())
    }

    /// Writes records of the sites that have none of this day; `None` without a console.
    fn record(&self, totals: Vec<DeletedTotal>, day: i64) -> Result<Option<Recorded>> {
        let days = self.days.clone();
        let is_due = move |site: &str| days.get(site) != Some(&day);
        match &self.trail {
            Trail::Console(console) => console
                .act(move |store, now| store.record_deletions(now, &totals, is_due))
                .map(Some),
            Trail::Archive(archive) if has_console(archive)? => {
                let now = self.clock.now().wall;
                Store::open(&console_dir(archive))?.record_deletions(now, &totals, is_due).map(Some)
            }
            Trail::Archive(_) => Ok(None),
        }
    }
}
