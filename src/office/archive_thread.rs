//! ⇄ The keeper: the thread that owns the archive, and one beside it that flushes and hashes files. The event loop that talks to the
//! broker waits for neither: what it hears goes into lanes ([`super::ingest_queue`]), one for each site.
//!
//! What belongs here: batches, threads, tidying, telling what went wrong. What does not: what is kept (`office_stub`), MQTT
//! ([`super::service`]).

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::archive::{Archive, IngestOutcome};
use super::file_store::{DigestError, FileStore, flush_and_hash};
use super::ingest_queue::{IngestQueue, Message};
use super::partial_files::{BYTES_REFUSED, Check, Flush};
use super::retention::{Released, Retention};
use crate::clock::Clock;
use crate::units::{Digest, SiteId, Timestamp};
use crate::uplink::topics;

/// Messages taken in one transaction.
const BATCH: usize = 256;
/// Bytes of messages taken in one transaction: chunks are large.
const BATCH_BYTES: usize = 8 << 20;
/// Answers on their way to the broker: a receipt waits behind as many of somebody else's.
const ANSWERS: usize = 128;
/// Files waiting to be flushed or hashed; two of a site at most travel at a time.
const JOBS: usize = 1024;
/// How often what is too old or too much goes; then slice by slice until nothing is left to go.
const TIDY_EVERY: Duration = Duration::from_secs(600);
/// How often checks without an answer are looked for, and what was dropped is removed.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How often one kind of trouble of one site is reported, and kinds reported apart at most.
const TELL_EVERY: Duration = Duration::from_secs(60);
const KINDS: usize = 256;
/// What is reported of messages that found no room.
const OVER_BUDGET: &str = "messages over the site's budget, without a receipt: it sends them again";
/// What is reported of messages that the index refuses, and of files it does not take in.
const NOT_KEPT: &str = "messages NOT KEPT: the index refuses. None has a receipt, so the devices keep them and send them again";
const FILES_NOT_KEPT: &str = "files NOT KEPT: no receipt, the devices keep them and send them again";
/// How long nothing must be refused until all is said to be well: a device may send one bad message every few seconds.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// What it gives.
pub enum OutgoingAnswer {
    /// To be published.
    Publish(String, Vec<u8>),
    /// For people who watch.
    Line(String),
}

/// For the hash thread, and its answer.
enum FileJob {
    Check(Check),
    Flush(Flush),
}

enum FileJobResult {
    Checked(Check, Result<Digest, DigestError>),
    Flushed(Flush, std::io::Result<()>),
}

/// What there is to do at once.
#[derive(Default)]
struct Round {
    messages: Vec<Message>,
    done: VecDeque<FileJobResult>,
    dropped: HashMap<SiteId, u64>,
}

#[derive(Default)]
struct PendingMessages {
    queue: IngestQueue,
    /// In the order the hash thread gave them: a flush that failed must be known before a digest behind it. Bounded by [`JOBS`].
    done: VecDeque<FileJobResult>,
    dropped: HashMap<SiteId, u64>,
    closed: bool,
}

struct IntakeShared {
    waiting: Mutex<PendingMessages>,
    update: Condvar,
    clock: Arc<dyn Clock>,
}

impl IntakeShared {
    fn lock(&self) -> MutexGuard<'_, PendingMessages> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where messages go in; the threads end when it is dropped.
pub struct Intake(Arc<IntakeShared>);

impl Intake {
    /// Hands over a message from `taimat/v1/{site}/up/…`; it never waits. What finds no room gets no receipt.
    pub fn hand(&self, topic: String, payload: Vec<u8>) {
        let Some((site, _)) = topics::read_up(&topic) else {
            return;
        };
        let mut waiting = self.0.lock();
        if let Some(lost) = waiting.queue.push(&site, (topic, payload), self.0.clock.now().mono) {
            *waiting.dropped.entry(lost).or_default() += 1;
        }
        self.0.update.notify_one();
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.update.notify_one();
    }
}

/// Starts the two threads.
///
/// # Errors
/// When the system gives no thread.
pub fn start(
    archive: Archive,
    retention: Retention,
    clock: Arc<dyn Clock>,
) -> std::io::Result<(Intake, mpsc::Receiver<OutgoingAnswer>)> {
    let (answers, answered) = mpsc::channel(ANSWERS);
    let (jobs, todo) = sync_channel::<FileJob>(JOBS);
    let session = Arc::new(IntakeShared { waiting: Mutex::default(), update: Condvar::new(), clock: clock.clone() });
    let (files, done) = (archive.files_below(), session.clone());
    std::thread::Builder::new().name("hash".into()).spawn(move || {
        for job in todo {
            let result = execute(&*files, job);
            done.lock().done.push_back(result);
            done.update.notify_one();
        }
    })?;
    let now = Instant::now();
    let (troubles, refusing, desk_of) = (Troubles::default(), Refusing::default(), session.clone());
    let archive_thread = ArchiveThread {
        archive,
        retention,
        session: desk_of,
        answers,
        jobs,
        troubles,
        refusing,
        tidied: None,
        looked: now,
        going: None,
    };
    std::thread::Builder::new().name("archive".into()).spawn(move || archive_thread.run())?;
    Ok((Intake(session), answered))
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

/// What went wrong, reported once a minute for each site and kind.
#[derive(Default)]
struct Troubles(HashMap<(String, &'static str), (Instant, u64)>);

impl Troubles {
    /// Counts one; gives the line when it is time for one.
    fn count(&mut self, site: &str, kind: &'static str, many: u64, detail: &str) -> Option<String> {
        let now = Instant::now();
        if self.0.len() >= KINDS && !self.0.contains_key(&(site.to_owned(), kind)) {
            self.0.retain(|_, (told, suppressed_count)| told.elapsed() < TELL_EVERY || *suppressed_count > 0);
            if self.0.len() >= KINDS {
                return None;
            }
        }
        let known = self.0.entry((site.to_owned(), kind));
        let (told, suppressed_count) = match known {
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert((now, 0));
                (None, many)
            }
            std::collections::hash_map::Entry::Occupied(old) => {
                let (told, suppressed_count) = old.into_mut();
                *suppressed_count += many;
                if told.elapsed() < TELL_EVERY {
                    return None;
                }
                *told = now;
                (Some(()), std::mem::take(suppressed_count))
            }
        };
        let since = if told.is_some() { " since the last word" } else { "" };
        // What SQLite and the system say of a full disk.
        let is_full = detail.contains("is full") || detail.contains("No space left") || detail.contains("os error 28");
        let room = if is_full { ": make room on the archive's disk" } else { "" };
        let detail = if detail.is_empty() { String::new() } else { format!(" ({detail}{room})") };
        Some(format!("{site}  {suppressed_count} {kind}{since}{detail}"))
    }

    /// What was counted and not reported, a minute after the last word.
    fn due(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for ((site, kind), (told, suppressed_count)) in &mut self.0 {
            if *suppressed_count > 0 && told.elapsed() >= TELL_EVERY {
                lines.push(format!("{site}  {suppressed_count} {kind} since the last word"));
                (*told, *suppressed_count) = (Instant::now(), 0);
            }
        }
        lines
    }
}

/// What index and disk refused, until they take everything again.
#[derive(Default)]
struct Refusing {
    many: u64,
    last: Option<Instant>,
    /// Bytes of files were refused, and none were written since.
    bytes: bool,
}

impl Refusing {
    fn refused(&mut self, bytes: bool, now: Instant) {
        (self.many, self.last) = (self.many + 1, Some(now));
        self.bytes |= bytes;
    }

    /// The line, once, when a batch was taken whole and nothing has been refused for a while.
    fn well(&mut self, now: Instant) -> Option<String> {
        let quiet = self.last.is_some_and(|last| now.saturating_duration_since(last) >= WELL_AFTER);
        if !quiet || self.bytes {
            return None;
        }
        let Refusing { many, .. } = std::mem::take(self);
        Some(format!(
            "office  all is well again: index and disk take everything; {many} messages had been refused, and are sent again"
        ))
    }
}

struct ArchiveThread {
    archive: Archive,
    retention: Retention,
    session: Arc<IntakeShared>,
    answers: mpsc::Sender<OutgoingAnswer>,
    jobs: SyncSender<FileJob>,
    troubles: Troubles,
    refusing: Refusing,
    tidied: Option<Instant>,
    looked: Instant,
    /// What the slices of this tidying have released so far.
    going: Option<Released>,
}

impl ArchiveThread {
    fn run(mut self) {
        let now = self.session.clock.now();
        match self.archive.moves((&now.wall.rfc3339(), seconds(now))) {
            Ok(checks) => checks.into_iter().for_each(|check| self.give(FileJob::Check(check))),
            Err(error) => self.trouble("office", "starts that cannot see to moves cut short", 1, &format!("{error:#}")),
        }
        while let Some(Round { messages, done, dropped }) = self.wait() {
            let now = self.session.clock.now();
            dropped.into_iter().for_each(|(site, many)| self.trouble(site.as_str(), OVER_BUDGET, many, ""));
            self.take(&messages, now);
            done.into_iter().for_each(|done| self.take_done(done, now));
            self.run_maintenance(now);
            self.tidy(now);
        }
    }

    /// Waits for something to do, a few seconds at most; `None` at the end.
    fn wait(&self) -> Option<Round> {
        let until = Instant::now() + POLL_INTERVAL;
        let session = self.session.clone();
        let mut waiting = session.lock();
        loop {
            let now = session.clock.now().mono;
            let messages = waiting.queue.take(BATCH, BATCH_BYTES, now);
            if !messages.is_empty() || !waiting.done.is_empty() {
                let (done, dropped) = (std::mem::take(&mut waiting.done), std::mem::take(&mut waiting.dropped));
                return Some(Round { messages, done, dropped });
            }
            if waiting.closed {
                return None;
            }
            let budget = waiting.queue.wait(now).map_or(POLL_INTERVAL, |micros| Duration::from_micros(micros.max(10_000)));
            let left = until.saturating_duration_since(Instant::now()).min(budget);
            if Instant::now() >= until || self.going.is_some() {
                return Some(Round { dropped: std::mem::take(&mut waiting.dropped), ..Round::default() });
            }
            waiting = session.update.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A batch that the index refuses is tried message by message: one bad message must not cost the others their receipt.
    fn take(&mut self, messages: &[Message], now: Timestamp) {
        if messages.is_empty() {
            return;
        }
        let text = now.wall.rfc3339();
        let at = (text.as_str(), seconds(now));
        let outcomes = match self.archive.take_all(messages, at) {
            Ok(outcomes) => outcomes,
            Err(_) => messages.iter().flat_map(|message| self.take_alone(message, at)).collect(),
        };
        for (site, outcome) in outcomes {
            self.publish(&site, outcome, now);
        }
        if let Some(line) = self.refusing.well(Instant::now()) {
            self.send_answer(OutgoingAnswer::Line(line));
        }
    }

    fn take_alone(&mut self, message: &Message, now: (&str, i64)) -> Vec<(SiteId, IngestOutcome)> {
        self.archive.take_all(std::slice::from_ref(message), now).unwrap_or_else(|error| {
            // No receipt: the device keeps it and sends it again.
            let site = topics::read_up(&message.0).map_or_else(String::new, |(site, _)| site.to_string());
            self.refusing.refused(false, Instant::now());
            self.trouble(&site, NOT_KEPT, 1, &format!("{error:#}"));
            Vec::new()
        })
    }

    fn take_done(&mut self, done: FileJobResult, now: Timestamp) {
        let text = now.wall.rfc3339();
        match done {
            FileJobResult::Checked(check, digest) => match self.archive.checked(&check, &digest, (&text, seconds(now))) {
                Ok(outcome) => self.publish(&check.site, outcome, now),
                Err(error) => self.trouble(check.site.as_str(), FILES_NOT_KEPT, 1, &format!("{error:#}")),
            },
            FileJobResult::Flushed(flush, flushed) => {
                if let Err(error) = self.archive.flushed(&flush, &flushed, seconds(now)) {
                    self.trouble(flush.file.site.as_str(), "flushes of unfinished files refused", 1, &format!("{error:#}"));
                }
            }
        }
    }

    fn publish(&mut self, site: &SiteId, outcome: IngestOutcome, now: Timestamp) {
        if let Some(ack) = outcome.ack {
            self.send_answer(OutgoingAnswer::Publish(topics::dn(site, "ack"), serde_json::to_vec(&ack).unwrap_or_default()));
        }
        if let Some((topic, payload)) = outcome.publish {
            self.send_answer(OutgoingAnswer::Publish(topic, payload));
        }
        if let Some((name, mut body)) = outcome.ask {
            body["expires"] = serde_json::json!(now.wall.plus_micros(3_600_000_000).rfc3339());
            self.send_answer(OutgoingAnswer::Publish(topics::dn(site, &format!("cmd/{name}")), body.to_string().into_bytes()));
        }
        self.refusing.bytes &= outcome.flush.is_none() && outcome.check.is_none();
        outcome.flush.into_iter().for_each(|flush| self.give(FileJob::Flush(flush)));
        outcome.check.into_iter().for_each(|check| self.give(FileJob::Check(check)));
        if let Some((kind, detail)) = outcome.complaint {
            if kind == BYTES_REFUSED {
                self.refusing.refused(true, Instant::now());
            }
            self.trouble(site.as_str(), kind, 1, &detail);
        }
        if let Some(line) = outcome.line {
            self.send_answer(OutgoingAnswer::Line(line));
        }
    }

    /// Hands a file to the hash thread; when it has too many, the device says `fin` again.
    fn give(&mut self, job: FileJob) {
        if let Err(refused) = self.jobs.try_send(job) {
            let (std::sync::mpsc::TrySendError::Full(job) | std::sync::mpsc::TrySendError::Disconnected(job)) = refused;
            let (FileJob::Check(check) | FileJob::Flush(Flush { file: check, .. })) = &job;
            self.archive.unchecked(check);
        }
    }

    fn trouble(&mut self, site: &str, kind: &'static str, many: u64, detail: &str) {
        if let Some(line) = self.troubles.count(site, kind, many, detail) {
            self.send_answer(OutgoingAnswer::Line(line));
        }
    }

    fn send_answer(&self, answer: OutgoingAnswer) {
        // Without anybody to talk to the broker the office is ending.
        let _ = self.answers.blocking_send(answer);
    }

    /// Sees to checks without an answer, to what is to be removed, and to what was not reported.
    fn run_maintenance(&mut self, now: Timestamp) {
        if self.looked.elapsed() < POLL_INTERVAL {
            return;
        }
        self.looked = Instant::now();
        let again = self.archive.overdue(seconds(now));
        again.into_iter().for_each(|check| self.give(FileJob::Check(check)));
        if let Err(error) = self.archive.sweep() {
            self.trouble("office", "removals refused", 1, &format!("{error:#}"));
        }
        self.troubles.due().into_iter().for_each(|line| self.send_answer(OutgoingAnswer::Line(line)));
    }

    /// One slice of what is too old or too much, when it is time.
    fn tidy(&mut self, now: Timestamp) {
        if self.going.is_none() && self.tidied.is_some_and(|at| at.elapsed() < TIDY_EVERY) {
            return;
        }
        self.tidied = Some(Instant::now());
        let mut sum = self.going.take().unwrap_or_default();
        match self.archive.release_expired(&self.retention, now.wall) {
            Ok(gone) => sum.add(gone),
            Err(error) => {
                sum.more = false;
                self.trouble("office", "tidyings refused", 1, &format!("{error:#}"));
            }
        }
        if sum.more {
            self.going = Some(sum);
            return;
        }
        if sum.files + sum.events + sum.parts > 0 {
            let (files, bytes, events, parts) = (sum.files, sum.bytes, sum.events, sum.parts);
            self.send_answer(OutgoingAnswer::Line(format!(
                "let go: {files} files of {bytes} bytes, {events} events, {parts} unfinished files"
            )));
        }
        for (site, share) in &sum.sites {
            let (files, bytes) = (share.files, share.bytes);
            self.send_answer(OutgoingAnswer::Line(format!(
                "{site}  let go: {files} files of {bytes} bytes, {} to {}",
                share.first, share.last
            )));
        }
        if sum.over > 0 {
            self.trouble("office", "tidyings that leave too many bytes: locked, or nobody's share is that large", 1, "");
        }
    }
}

fn seconds(now: Timestamp) -> i64 {
    now.wall.0.div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_reported_with_the_next_step() {
        let line = Troubles::default().count("km-17", NOT_KEPT, 1, "database or disk is full").unwrap();
        assert!(line.contains("keep them and send them again") && line.contains("make room"), "{line}");
        let line = Troubles::default().count("km-17", BYTES_REFUSED, 1, "No space left on device (os error 28)").unwrap();
        assert!(line.contains("send them again") && line.contains("make room"), "{line}");
        let locked = Troubles::default().count("km-17", NOT_KEPT, 1, "database is locked").unwrap();
        assert!(!locked.contains("make room"), "{locked}");
    }

    #[test]
    fn that_all_is_well_again_is_said_once_after_a_quiet_minute() {
        let begin = Instant::now();
        let after = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut refusing = Refusing::default();
        assert_eq!(refusing.well(after(1000)), None, "nothing was ever refused");
        refusing.refused(false, after(0));
        refusing.refused(false, after(30));
        assert_eq!(refusing.well(after(89)), None);
        let line = refusing.well(after(90)).unwrap();
        assert!(line.contains("well again") && line.contains("2 messages"), "{line}");
        assert_eq!(refusing.well(after(500)), None, "it was said");
        refusing.refused(true, after(600));
        assert_eq!(refusing.well(after(900)), None, "no bytes were written since");
        refusing.bytes = false;
        assert!(refusing.well(after(901)).is_some());
    }
}
