//! Archive thread and hash thread: batches, receipts, retention, reports of faults.
//!
//! The `archive` thread owns the archive. The `hash` thread flushes and hashes files. The MQTT
//! event loop waits for neither: it puts messages into one bounded queue for each site
//! ([`super::ingest_queue`]).
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock, starts a thread or task")]

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc};

use super::archive::Archive;
pub use super::archive_link::{ArchiveLink, Intake};
use super::archive_link::{ArchiveRequest, LinkShared};
use super::change::Change;
use super::clock_check::{Cause, ClockCheck};
use super::error::ArchiveError;
use super::fault_log::{FaultLog, Rejections};
use super::ingest_outcome::{Complaint, IngestOutcome, Now};
use super::ingest_queue::Message;
use super::notice::{Fault, Notice};
use super::part_cache::{Check, Flush};
use super::retention::{Released, Retention};
use super::retention_rules::SiteDays;
use super::store::FileStore;
use super::store::file_store::{DigestError, flush_and_hash};
use crate::units::{Digest, SiteId, Timestamp};
use crate::uplink::topics;

/// Messages of one transaction at most.
const BATCH: usize = 256;
/// Bytes of one transaction at most: chunks are large.
const BATCH_BYTES: usize = 8 << 20;
/// Answers queued for the broker at most: a receipt waits behind as many answers to other sites.
const ANSWERS: usize = 128;
/// Files queued for the hash thread at most; a device sends two files at a time.
const JOBS: usize = 1024;
/// Pause between two passes of the retention. One pass runs slice by slice without a pause.
const RETENTION_INTERVAL: Duration = Duration::from_secs(600);
/// Pause between two runs of the maintenance: overdue checks, removals, withheld reports.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(5);
/// Lower bound of a wait for the budget of a site.
const BUDGET_WAIT_MIN: Duration = Duration::from_millis(10);
/// Validity of a command that the archive sends, microseconds.
const COMMAND_VALID_MICROS: i64 = 3_600_000_000;

/// Output of the archive thread.
pub enum OutgoingAnswer {
    /// A message to publish: topic and payload.
    Publish(String, Vec<u8>),
    /// A report to the operator.
    Notice(Notice),
}

/// Work of the hash thread.
enum FileJob {
    Check(Check),
    Flush(Flush),
}

pub(super) enum FileJobResult {
    Checked(Check, Result<Digest, DigestError>),
    Flushed(Flush, std::io::Result<()>),
}

/// Work that the archive thread takes at once.
#[derive(Default)]
struct Round {
    messages: Vec<Message>,
    done: VecDeque<FileJobResult>,
    dropped: HashMap<SiteId, u64>,
    requests: VecDeque<ArchiveRequest>,
}

/// Starts the two threads.
///
/// # Errors
/// When the operating system starts no thread.
pub fn start(
    archive: Archive,
    retention: Retention,
    link: ArchiveLink,
) -> std::io::Result<(Intake, mpsc::Receiver<OutgoingAnswer>)> {
    let (answers, answered) = mpsc::channel(ANSWERS);
    let (jobs, queued) = sync_channel::<FileJob>(JOBS);
    let ArchiveLink { shared: intake, changes } = link;
    let (files, results) = (archive.files_below(), intake.clone());
    std::thread::Builder::new().name("hash".into()).spawn(move || {
        for job in queued {
            let result = execute(&*files, job);
            results.lock().done.push_back(result);
            results.changed.notify_one();
        }
    })?;
    let clock_check = ClockCheck::new(intake.clock.now());
    let archive_thread = ArchiveThread {
        archive,
        retention,
        rules: SiteDays::default(),
        intake: intake.clone(),
        answers,
        changes,
        jobs,
        faults: FaultLog::default(),
        rejections: Rejections::default(),
        retention_run: None,
        maintenance_run: Instant::now(),
        retention_pass: None,
        clock_check,
        reported_wait: None,
    };
    std::thread::Builder::new().name("archive".into()).spawn(move || archive_thread.run())?;
    Ok((Intake(intake), answered))
}

fn execute(files: &dyn FileStore, job: FileJob) -> FileJobResult {
    match job {
        FileJob::Check(check) => {
            let digest = flush_and_hash(files, &check.path);
            FileJobResult::Checked(check, digest)
        }
        FileJob::Flush(flush) => {
            let flushed = files.flush(&flush.file.path);
            FileJobResult::Flushed(flush, flushed)
        }
    }
}

struct ArchiveThread {
    archive: Archive,
    retention: Retention,
    rules: SiteDays,
    intake: Arc<LinkShared>,
    answers: mpsc::Sender<OutgoingAnswer>,
    changes: broadcast::Sender<Change>,
    jobs: SyncSender<FileJob>,
    faults: FaultLog,
    rejections: Rejections,
    /// Start of the last slice; `None` before the first.
    retention_run: Option<Instant>,
    maintenance_run: Instant,
    /// Sum of the slices of an unfinished pass.
    retention_pass: Option<Released>,
    clock_check: ClockCheck,
    /// The wait of deletion by age that the operator knows.
    reported_wait: Option<Cause>,
}

impl ArchiveThread {
    fn run(mut self) {
        let now = self.intake.clock.now();
        match self.archive.moves(Now { text: &now.wall.rfc3339(), seconds: seconds(now) }) {
            Ok(checks) => checks.into_iter().for_each(|check| self.submit(FileJob::Check(check))),
            Err(error) => self.failed(None, Fault::RecoveryFailed, &error),
        }
        while let Some(Round { messages, done, dropped, requests }) = self.wait() {
            let now = self.intake.clock.now();
            for (site, count) in dropped {
                let complaint = Complaint {
                    fault: Fault::OverBudget,
                    detail: String::new(),
                    is_disk_full: false,
                };
                self.count(Some(&site), complaint, count);
            }
            self.take(&messages, now);
            done.into_iter().for_each(|done| self.take_done(done, now));
            requests.into_iter().for_each(|request| self.answer(request, now));
            self.run_maintenance(now);
            self.run_retention(now);
        }
    }

    /// Waits for work, at most until the next maintenance; `None` when the input is closed.
    fn wait(&self) -> Option<Round> {
        let until = Instant::now() + MAINTENANCE_INTERVAL;
        let intake = self.intake.clone();
        let mut pending = intake.lock();
        loop {
            let now = intake.clock.now().mono;
            let messages = pending.queue.take(BATCH, BATCH_BYTES, now);
            if !messages.is_empty() || !pending.done.is_empty() || !pending.requests.is_empty() {
                let (done, dropped) =
                    (std::mem::take(&mut pending.done), std::mem::take(&mut pending.dropped));
                let requests = std::mem::take(&mut pending.requests);
                return Some(Round { messages, done, dropped, requests });
            }
            if pending.is_closed {
                return None;
            }
            let budget = pending
                .queue
                .wait(now)
                .map_or(MAINTENANCE_INTERVAL, |wait| wait.max(BUDGET_WAIT_MIN));
            let left = until.saturating_duration_since(Instant::now()).min(budget);
            if Instant::now() >= until || self.retention_pass.is_some() {
                return Some(Round {
                    dropped: std::mem::take(&mut pending.dropped),
                    ..Round::default()
                });
            }
            pending = intake
                .changed
                .wait_timeout(pending, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Stores a batch. When the index rejects it, each message is tried alone: one bad message must
    /// not cost the others their receipt.
    fn take(&mut self, messages: &[Message], now: Timestamp) {
        if messages.is_empty() {
            return;
        }
        let text = now.wall.rfc3339();
        let at = Now { text: &text, seconds: seconds(now) };
        let outcomes = match self.archive.take_all(messages, at) {
            Ok(outcomes) => outcomes,
            Err(_) => messages.iter().flat_map(|message| self.take_alone(message, at)).collect(),
        };
        for (site, outcome) in outcomes {
            self.publish(&site, outcome, now);
        }
        if let Some(notice) = self.rejections.recovered(Instant::now()) {
            self.send_answer(OutgoingAnswer::Notice(notice));
        }
    }

    fn take_alone(&mut self, message: &Message, now: Now<'_>) -> Vec<(SiteId, IngestOutcome)> {
        self.archive.take_all(std::slice::from_ref(message), now).unwrap_or_else(|error| {
            // Without a receipt the device keeps the message and sends it again.
            let (topic, _) = message;
            let site = topics::read_up(topic).map(|(site, _)| site);
            self.rejections.add(false, Instant::now());
            self.failed(site.as_ref(), Fault::MessageNotStored, &error);
            Vec::new()
        })
    }

    fn take_done(&mut self, done: FileJobResult, now: Timestamp) {
        let text = now.wall.rfc3339();
        match done {
            FileJobResult::Checked(check, digest) => {
                match self.archive.checked(
                    &check,
                    &digest,
                    Now { text: &text, seconds: seconds(now) },
                ) {
                    Ok(outcome) => self.publish(&check.site, outcome, now),
                    Err(error) => self.failed(Some(&check.site), Fault::FileNotStored, &error),
                }
            }
            FileJobResult::Flushed(flush, flushed) => {
                if let Err(error) = self.archive.flushed(&flush, flushed, seconds(now)) {
                    self.failed(Some(&flush.file.site), Fault::FlushFailed, &error);
                }
            }
        }
    }

    fn publish(&mut self, site: &SiteId, outcome: IngestOutcome, now: Timestamp) {
        if let Some(ack) = outcome.ack {
            self.send_answer(OutgoingAnswer::Publish(
                topics::dn(site, "ack"),
                serde_json::to_vec(&ack).unwrap_or_default(),
            ));
        }
        if let Some((topic, payload)) = outcome.publish {
            self.send_answer(OutgoingAnswer::Publish(topic, payload));
        }
        if let Some(mut command) = outcome.command {
            command.body["expires"] =
                serde_json::json!(now.wall.plus_micros(COMMAND_VALID_MICROS).rfc3339());
            let topic = topics::dn(site, &format!("cmd/{}", command.name));
            self.send_answer(OutgoingAnswer::Publish(topic, command.body.to_string().into_bytes()));
        }
        self.rejections.disk_is_failing &= outcome.flush.is_none() && outcome.check.is_none();
        outcome.flush.into_iter().for_each(|flush| self.submit(FileJob::Flush(flush)));
        outcome.check.into_iter().for_each(|check| self.submit(FileJob::Check(check)));
        if let Some(complaint) = outcome.complaint {
            if complaint.fault == Fault::ChunkNotStored {
                self.rejections.add(true, Instant::now());
            }
            self.count(Some(site), complaint, 1);
        }
        if let Some(notice) = outcome.notice {
            self.send_answer(OutgoingAnswer::Notice(notice));
        }
        if let Some(change) = outcome.change {
            self.announce(change);
        }
        if let Some(device) = outcome.device_time
            && self.clock_check.heard(device, now)
        {
            // What was due while it waited is due at once.
            self.retention_run = None;
        }
    }

    /// Sends a change to all listeners; without one it is dropped. Never blocks.
    fn announce(&self, change: Change) {
        let _ = self.changes.send(change);
    }

    /// Answers a request of the console. A caller that is gone gets no answer; what it asked for is
    /// done.
    fn answer(&mut self, request: ArchiveRequest, now: Timestamp) {
        match request {
            ArchiveRequest::Lock(lock, answer) => {
                let _ = answer.send(self.archive.make_lock(&lock, now.wall));
            }
            ArchiveRequest::Unlock(id, answer) => {
                let ended = self.archive.unlock(id).and_then(|ended| {
                    let unknown = || ArchiveError::NotFound(format!("there is no lock {id}"));
                    if ended { Ok(()) } else { Err(unknown()) }
                });
                let _ = answer.send(ended);
            }
            ArchiveRequest::SetRules(rules, answer) => {
                self.rules = rules.by_site();
                let _ = answer.send(Ok(()));
            }
            ArchiveRequest::RunRetention(answer) => {
                self.retention_run = None;
                let _ = answer.send(Ok(()));
            }
            ArchiveRequest::Ceilings(answer) => {
                let _ = answer.send(Ok(self.retention));
            }
        }
    }

    /// Hands a file to the hash thread. When its queue is full, the device sends `fin` again.
    fn submit(&mut self, job: FileJob) {
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
            self.jobs.try_send(job)
        {
            let (FileJob::Check(check) | FileJob::Flush(Flush { file: check, .. })) = &job;
            self.archive.unchecked(check);
        }
    }

    fn failed(&mut self, site: Option<&SiteId>, fault: Fault, error: &ArchiveError) {
        self.count(
            site,
            Complaint { fault, detail: error.line(), is_disk_full: error.is_disk_full() },
            1,
        );
    }

    fn count(&mut self, site: Option<&SiteId>, complaint: Complaint, many: u64) {
        if let Some(notice) = self.faults.count(site, complaint, many) {
            self.report(notice);
        }
    }

    /// Reports a fault to the operator and to the pages.
    fn report(&self, notice: Notice) {
        if let Notice::Fault(fault) = &notice {
            let site = fault.site.as_ref().map(SiteId::to_string);
            self.announce(Change::Notice { site, text: notice.to_string() });
        }
        self.send_answer(OutgoingAnswer::Notice(notice));
    }

    fn send_answer(&self, answer: OutgoingAnswer) {
        // The channel is closed only while the office ends.
        let _ = self.answers.blocking_send(answer);
    }

    /// Repeats overdue checks, removes released files, and reports withheld faults.
    fn run_maintenance(&mut self, now: Timestamp) {
        if self.maintenance_run.elapsed() < MAINTENANCE_INTERVAL {
            return;
        }
        self.maintenance_run = Instant::now();
        let overdue = self.archive.overdue(seconds(now));
        overdue.into_iter().for_each(|check| self.submit(FileJob::Check(check)));
        if let Err(error) = self.archive.sweep() {
            self.failed(None, Fault::RemovalFailed, &error);
        }
        self.faults.due().into_iter().for_each(|notice| self.report(notice));
    }

    /// Whether deletion by age waits until the clock is confirmed; reports the begin of a wait and
    /// its end.
    fn must_wait(&mut self, now: Timestamp) -> bool {
        let cause = self.clock_check.waits(now);
        let is_used = self.retention.days > 0 || !self.rules.is_empty();
        match cause {
            Some(cause) if self.reported_wait != Some(cause) && is_used => {
                self.reported_wait = Some(cause);
                tracing::warn!(%cause, clock = %now.wall.rfc3339(),
                    "retention by age waits until the clock is confirmed; check the clock of this machine, a device with a good clock (ntp) or 24 h of running end the wait");
            }
            None if self.reported_wait.take().is_some() => {
                tracing::info!(clock = %now.wall.rfc3339(), "retention by age goes on, the clock is confirmed");
            }
            _ => {}
        }
        cause.is_some()
    }

    /// Runs one slice of the retention when it is due, and reports at the end of a pass.
    fn run_retention(&mut self, now: Timestamp) {
        if self.retention_pass.is_none()
            && self.retention_run.is_some_and(|at| at.elapsed() < RETENTION_INTERVAL)
        {
            return;
        }
        self.retention_run = Some(Instant::now());
        let by_age = !self.must_wait(now);
        let mut sum = self.retention_pass.take().unwrap_or_default();
        let slice = if by_age {
            self.archive.release_by_rules(&self.retention, &self.rules, now.wall)
        } else {
            self.archive.release_by_size(&self.retention, now.wall)
        };
        match slice {
            Ok(slice) => sum.add(slice),
            Err(error) => {
                sum.more = false;
                self.failed(None, Fault::RetentionFailed, &error);
            }
        }
        if sum.more {
            self.retention_pass = Some(sum);
            return;
        }
        if sum.files + sum.events + sum.parts > 0 {
            let Released { files, bytes, events, parts, .. } = sum;
            self.send_answer(OutgoingAnswer::Notice(Notice::Released {
                files,
                bytes,
                events,
                parts,
            }));
        }
        for ((site, purpose), share) in sum.purposes {
            let (files, bytes) = share;
            self.announce(Change::Released { site, purpose, files, bytes });
        }
        for (site, share) in sum.sites {
            self.send_answer(OutgoingAnswer::Notice(Notice::SiteReleased { site, share }));
        }
        if sum.over > 0 {
            let detail = format!("{} bytes over", sum.over);
            self.count(None, Complaint { fault: Fault::OverLimit, detail, is_disk_full: false }, 1);
        }
    }
}

/// Unix time in seconds.
fn seconds(now: Timestamp) -> i64 {
    now.wall.0.div_euclid(1_000_000)
}
