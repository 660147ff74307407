//! Link to the archive thread: messages of devices and requests of the console go in, changes come
//! out.
//!
//! * [`ArchiveLink`] exists before the thread; [`ArchiveClient`] is a handle for the console, and
//!   [`Intake`] the one of the MQTT client.
//!
//! Nothing here blocks the archive thread: queues are bounded, and a full one answers at once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, oneshot};

use super::archive_thread::FileJobResult;
use super::change::{CAPACITY, Change};
use super::error::ArchiveError;
use super::ingest_queue::IngestQueue;
use super::retention::Retention;
use super::retention_rules::RetentionRules;
use crate::clock::Clock;
use crate::units::{SiteId, WallTime};
use crate::uplink::topics;

/// Requests of the console that wait for the archive thread; one takes milliseconds.
const REQUESTS_MAX: usize = 64;

/// Work that waits for the archive thread.
#[derive(Default)]
pub(super) struct PendingWork {
    pub(super) queue: IngestQueue,
    /// In the order of the hash thread: a failed flush must be handled before a later digest. Its
    /// job queue bounds it.
    pub(super) done: VecDeque<FileJobResult>,
    /// Messages without room in the queue, by site, since the last round.
    pub(super) dropped: HashMap<SiteId, u64>,
    /// [`REQUESTS_MAX`] bounds it.
    pub(super) requests: VecDeque<ArchiveRequest>,
    pub(super) is_closed: bool,
}

/// What the archive thread shares with its callers.
pub(super) struct LinkShared {
    pending: Mutex<PendingWork>,
    pub(super) changed: Condvar,
    pub(super) clock: Arc<dyn Clock>,
}

impl LinkShared {
    pub(super) fn lock(&self) -> MutexGuard<'_, PendingWork> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both ends of the archive thread, before it runs. A clone is the same link.
#[derive(Clone)]
pub struct ArchiveLink {
    pub(super) shared: Arc<LinkShared>,
    pub(super) changes: broadcast::Sender<Change>,
}

impl ArchiveLink {
    /// A link; `clock` gives the time of the receipts.
    pub fn new(clock: Arc<dyn Clock>) -> ArchiveLink {
        let shared = LinkShared { pending: Mutex::default(), changed: Condvar::new(), clock };
        let (changes, _) = broadcast::channel(CAPACITY);
        ArchiveLink { shared: Arc::new(shared), changes }
    }

    /// A handle for the console.
    pub fn client(&self) -> ArchiveClient {
        ArchiveClient { shared: self.shared.clone(), changes: self.changes.clone() }
    }
}

/// A request to the archive thread, which alone writes locks and deletes files.
pub(super) enum ArchiveRequest {
    Lock(NewLock, Answer<i64>),
    Unlock(i64, Answer<()>),
    SetRules(RetentionRules, Answer<()>),
    Ceilings(Answer<Retention>),
    RunRetention(Answer<()>),
}

/// Where the answer of a request goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, ArchiveError>>;

/// A lock to make: the retention then deletes nothing of the site between two times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLock {
    /// Site id.
    pub site: String,
    /// Start of the time.
    pub from: WallTime,
    /// End of the time.
    pub to: WallTime,
    /// Reason, 1 to 200 bytes.
    pub reason: String,
}

/// The console's handle of the archive thread. A clone is the same handle.
#[derive(Clone)]
pub struct ArchiveClient {
    shared: Arc<LinkShared>,
    changes: broadcast::Sender<Change>,
}

impl ArchiveClient {
    /// Listens to the changes from now on. A listener that is [`CAPACITY`] behind gets `Lagged`.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Makes a lock; returns its number when it is durable.
    ///
    /// # Errors
    /// `NotFound` for an unknown site, `Invalid` for a wrong range or reason or too many locks,
    /// `Locked` when the archive is busy or ends; otherwise the failure of the database.
    pub async fn lock(&self, lock: NewLock) -> Result<i64, ArchiveError> {
        self.ask(|answer| ArchiveRequest::Lock(lock, answer)).await
    }

    /// Ends a lock.
    ///
    /// # Errors
    /// `NotFound` for an unknown number; otherwise as [`ArchiveClient::lock`].
    pub async fn unlock(&self, id: i64) -> Result<(), ArchiveError> {
        self.ask(|answer| ArchiveRequest::Unlock(id, answer)).await
    }

    /// Replaces the rules of the retention. The archive has none after a start, and then keeps
    /// everything up to the ceilings.
    ///
    /// # Errors
    /// `Invalid` for rules beyond their bounds; otherwise as [`ArchiveClient::lock`].
    pub async fn set_rules(&self, rules: RetentionRules) -> Result<(), ArchiveError> {
        rules.check()?;
        self.ask(|answer| ArchiveRequest::SetRules(rules, answer)).await
    }

    /// The ceilings of the retention: what no rule can exceed.
    ///
    /// # Errors
    /// `Locked` when the archive is busy or ends.
    pub async fn ceilings(&self) -> Result<Retention, ArchiveError> {
        self.ask(ArchiveRequest::Ceilings).await
    }

    /// Begins a pass of the retention now; `Ok` when it has begun.
    ///
    /// # Errors
    /// `Locked` when the archive is busy or ends.
    pub async fn run_retention(&self) -> Result<(), ArchiveError> {
        self.ask(ArchiveRequest::RunRetention).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(Answer<T>) -> ArchiveRequest,
    ) -> Result<T, ArchiveError> {
        let (answer, answered) = oneshot::channel();
        {
            let mut pending = self.shared.lock();
            if pending.is_closed {
                return Err(ArchiveError::Locked("the office is ending".into()));
            }
            if pending.requests.len() >= REQUESTS_MAX {
                return Err(ArchiveError::Locked(
                    "the archive has too many requests; try again".into(),
                ));
            }
            pending.requests.push_back(request(answer));
        }
        self.shared.changed.notify_one();
        answered.await.unwrap_or_else(|_| Err(ArchiveError::Locked("the office is ending".into())))
    }
}

/// Input of the archive thread; both threads end when it is dropped.
pub struct Intake(pub(super) Arc<LinkShared>);

impl Intake {
    /// Queues a message of `taimat/v1/{site}/up/…`; never blocks. A message without room is dropped
    /// and gets no receipt.
    pub fn hand(&self, topic: String, payload: Vec<u8>) {
        let Some((site, _)) = topics::read_up(&topic) else {
            return;
        };
        let mut pending = self.0.lock();
        if let Some(dropped) = pending.queue.push(&site, (topic, payload), self.0.clock.now().mono)
        {
            *pending.dropped.entry(dropped).or_default() += 1;
        }
        self.0.changed.notify_one();
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        let mut pending = self.0.lock();
        pending.is_closed = true;
        // Their callers learn that the office ends.
        pending.requests.clear();
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
#[path = "archive_link_tests.rs"]
mod tests;
