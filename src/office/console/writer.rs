//! The writer of `console.sqlite`: acts with their records, and the thread `console-db` that
//! carries them out.
//!
//! [`Store::act`] is the only way to an act. Within one transaction it makes the change, appends
//! the records, notes the new head in the head file and commits with a flush. If any step fails,
//! nothing of it remains.
#![expect(clippy::disallowed_methods, reason = "shell: starts a thread, reads or writes files")]

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use super::acts::PlaybackStarts;
use super::audit::chain::{Head, next};
use super::audit::head_file::{HeadFile, KnownHead};
use super::audit::record::{Act, AuditNumber, Entry, Origin};
use super::audit::verify::{Report, verify};
use super::error::ConsoleError;
use super::tables::{NAME, Result, Tables};
use crate::units::WallTime;

/// Calls that wait for the thread; a further one is refused as busy. Each waits for a flush, so
/// the last waits about a second.
const CALLS_MAX: usize = 64;

/// The open store: tables for writing, and the head file.
pub struct Store {
    tables: Tables,
    head_file: HeadFile,
    /// Starts of playback of the last minute.
    pub(super) starts: PlaybackStarts,
}

/// A head that is noted before its commit.
#[derive(Clone, Copy)]
struct Pending {
    head: Head,
    is_restart: bool,
}

/// The directory of the console within an archive's directory.
pub fn console_dir(archive: &Path) -> PathBuf {
    archive.join("console")
}

/// Whether an archive's directory has a console, and with it an audit trail.
///
/// # Errors
/// When that cannot be found out: a trail that cannot be read is no missing one.
pub fn has_console(archive: &Path) -> Result<bool> {
    let path = console_dir(archive).join(NAME);
    path.try_exists().map_err(|error| failed(&path.display().to_string(), &error))
}

fn failed(what: &str, error: &std::io::Error) -> ConsoleError {
    ConsoleError::Storage(format!("{what}: {error}"))
}

impl Store {
    /// Opens the store in `dir`; makes it if it is not there.
    ///
    /// # Errors
    /// When a file cannot be opened, or a newer taimat wrote the database.
    pub fn open(dir: &Path) -> Result<Store> {
        std::fs::create_dir_all(dir).map_err(|error| failed(&dir.display().to_string(), &error))?;
        let tables = Tables::open(dir)?;
        let head_file = HeadFile::open(dir).map_err(|error| failed("audit-head", &error))?;
        Ok(Store { tables, head_file, starts: PlaybackStarts::default() })
    }

    /// Replaces the head file.
    #[cfg(test)]
    pub(super) fn take_head_file(&mut self, head_file: HeadFile) {
        self.head_file = head_file;
    }

    /// The tables, for reading.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Carries out a change with its records: both are durable when this returns, or neither.
    ///
    /// # Errors
    /// The change's error, or `Trail` when the records cannot be written.
    pub(super) fn act<T>(
        &mut self,
        by: &Origin,
        now: WallTime,
        change: impl FnOnce(&Tables) -> Result<(T, Vec<Entry>)>,
    ) -> Result<(T, AuditNumber)> {
        self.act_of_many(now, |tables| {
            let (value, entries) = change(tables)?;
            Ok((value, entries.into_iter().map(|entry| (by.clone(), entry)).collect()))
        })
    }

    /// The same with records of several origins.
    ///
    /// # Errors
    /// As [`Store::act`].
    pub(super) fn act_of_many<T>(
        &mut self,
        now: WallTime,
        change: impl FnOnce(&Tables) -> Result<(T, Vec<(Origin, Entry)>)>,
    ) -> Result<(T, AuditNumber)> {
        let trail = |error: ConsoleError| ConsoleError::Trail(error.to_string());
        self.tables.begin().map_err(trail)?;
        let mut pending = None;
        let done = self.act_within(now, change, &mut pending);
        match (&done, pending) {
            (Ok(_), Some(Pending { head, is_restart })) => {
                let file = &self.head_file;
                let noted = if is_restart { file.restart(head) } else { file.set_committed(head) };
                if let Err(error) = noted {
                    tracing::warn!(%error, "head of the audit trail stays pending; it counts as committed when its record is there");
                }
            }
            (Ok(_), None) => {}
            (Err(_), pending) => {
                self.tables.roll_back();
                self.forget(pending.map(|pending| pending.head));
            }
        }
        done
    }

    fn act_within<T>(
        &self,
        now: WallTime,
        change: impl FnOnce(&Tables) -> Result<(T, Vec<(Origin, Entry)>)>,
        pending: &mut Option<Pending>,
    ) -> Result<(T, AuditNumber)> {
        let trail = |error: ConsoleError| ConsoleError::Trail(error.to_string());
        let before = self.tables.audit_head().map_err(trail)?;
        // Before the change: it may make the first user.
        let interrupted = self.interruption(before)?.map(|entry| (Origin::office(), entry));
        let (value, entries) = change(&self.tables)?;
        if entries.is_empty() {
            return Err(ConsoleError::Invalid("nothing is changed".to_owned()));
        }
        let mut head = before;
        let is_restart = interrupted.is_some();
        for (by, entry) in interrupted.into_iter().chain(entries) {
            let record = next(head, &by, &entry, now);
            self.tables.insert_record(&record).map_err(trail)?;
            head = Head { n: record.n, digest: record.digest };
        }
        *pending = Some(Pending { head, is_restart });
        let noted = self.head_file.set_pending(before, head);
        noted.map_err(|error| ConsoleError::Trail(format!("audit-head: {error}")))?;
        self.tables.commit().map_err(trail)?;
        Ok((value, AuditNumber(head.n)))
    }

    /// A record of what is missing between the trail and its head in the second place.
    fn interruption(&self, head: Head) -> Result<Option<Entry>> {
        let known = self.head_file.read();
        let known = known.map_err(|error| ConsoleError::Trail(format!("audit-head: {error}")))?;
        let entry = |kind: &str, missing: Head| {
            let entry = Entry::of(Act::AuditInterrupted).object(kind);
            Ok(Some(entry.object(missing.n.to_string()).object(missing.digest.hex())))
        };
        match known {
            KnownHead { committed: Some(last), .. } if head.n < last.n => entry("removed", last),
            KnownHead { committed: None, pending: None, .. }
                if head.n > 0 || self.tables.user_count()? > 0 =>
            {
                entry("head_missing", head)
            }
            KnownHead { committed: Some(last), .. } if self.differs(last)? => {
                entry("changed", last)
            }
            KnownHead { is_damaged: true, .. } => entry("head_damaged", head),
            KnownHead { pending: Some(begun), .. } if head.n < begun.n => entry("pending", begun),
            _ => Ok(None),
        }
    }

    fn differs(&self, last: Head) -> Result<bool> {
        Ok(last.n > 0 && self.tables.audit_digest(last.n)? != Some(last.digest))
    }

    /// Takes a pending head back, unless the failed commit is there after all.
    fn forget(&self, pending: Option<Head>) {
        let Some(pending) = pending else { return };
        let is_there = self.tables.audit_head().is_ok_and(|head| head == pending);
        if !is_there && let Err(error) = self.head_file.forget_pending(pending) {
            tracing::warn!(%error, "head of an act that was rolled back stays in audit-head; the next record will say so");
        }
    }

    /// Writes a record of something that changes nothing in the console: a playback, a denial, a
    /// command to a device.
    ///
    /// # Errors
    /// `Trail` when it cannot be written: it must not happen then.
    pub fn record(&mut self, by: &Origin, now: WallTime, entry: Entry) -> Result<AuditNumber> {
        self.act(by, now, |_| Ok(((), vec![entry]))).map(|(_, number)| number)
    }

    /// Blacks out the reason of a record: its text goes, its digest stays, a new record says so.
    ///
    /// # Errors
    /// `NotFound` when the record has no such text.
    pub fn redact_reason(
        &mut self,
        by: &Origin,
        now: WallTime,
        n: u64,
        why: &str,
    ) -> Result<AuditNumber> {
        let entry = Entry::of(Act::AuditRedact).object("record").object(n.to_string()).reason(why);
        let number = self.act(by, now, |tables| {
            if tables.reason(n)?.is_none() {
                return Err(ConsoleError::NotFound(format!("record {n} has no reason in words")));
            }
            Ok(((), vec![entry]))
        })?;
        // In a transaction of its own: the trigger asks for the record. If it fails, the text stays
        // and can be blacked out again.
        self.tables.delete_reason(n)?;
        Ok(number.1)
    }

    /// Verifies the trail.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn verify(&self) -> Result<Report> {
        verify(&self.tables, || self.head_file.read().ok())
    }
}

/// Verifies the trail in `dir`; the office may be running.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn verify_read_only(dir: &Path) -> Result<Report> {
    let read_head = || HeadFile::open_read_only(dir).and_then(|file| file.read()).ok();
    verify(&Tables::open_read_only(dir)?, read_head)
}

type Call = Box<dyn FnOnce(&mut Store) + Send>;

/// Handle of the thread; it ends with its last copy.
#[derive(Clone)]
pub(super) struct Writer {
    calls: mpsc::SyncSender<Call>,
}

impl Writer {
    /// Starts the thread `console-db`.
    pub(super) fn start(mut store: Store) -> std::io::Result<Writer> {
        let (calls, waiting) = mpsc::sync_channel::<Call>(CALLS_MAX);
        std::thread::Builder::new().name("console-db".to_owned()).spawn(move || {
            for call in waiting {
                call(&mut store);
            }
        })?;
        Ok(Writer { calls })
    }

    /// Runs `work` on the thread and waits for its answer.
    ///
    /// # Errors
    /// `Busy` when 64 calls wait; otherwise the error of `work`.
    pub(super) fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        let call: Call = Box::new(move |store| {
            let _ = answer.send(work(store));
        });
        self.calls.try_send(call).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => ConsoleError::Busy,
            mpsc::TrySendError::Disconnected(_) => ended(),
        })?;
        answered.recv().unwrap_or_else(|_| Err(ended()))
    }

    /// Hands `work` over without waiting; false when 64 calls wait.
    pub(super) fn post(&self, work: impl FnOnce(&mut Store) + Send + 'static) -> bool {
        self.calls.try_send(Box::new(work)).is_ok()
    }
}

fn ended() -> ConsoleError {
    ConsoleError::Storage("the console's thread has ended; start the office again".to_owned())
}
