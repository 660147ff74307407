//! ⇄ The keeper: the thread that owns the archive, and one beside it that flushes and hashes whole files. The event loop that talks
//! to the broker waits for neither.
//!
//! What belongs here: batches, threads, the hourly tidying. What does not: what is kept ([`super::archive`]), MQTT ([`super::host`]).

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::archive::{Archive, Check, Outcome};
use super::keep::Retention;
use crate::clock::Clock;
use crate::units::{Digest, SiteId, Stamp};
use crate::uplink::topics;

/// Messages on their way to the archive: when it is full the broker is not read, and keeps or drops; the boxes send again.
pub const INBOX: usize = 1024;
/// Messages taken in one transaction.
const BATCH: usize = 256;
/// Bytes of messages taken in one transaction: chunks are large.
const BATCH_BYTES: usize = 8 << 20;
/// Answers on their way to the broker.
const ANSWERS: usize = 1024;
/// Files waiting to be hashed; two of a site at most travel at a time.
const CHECKS: usize = 1024;
/// How often what is too old or too much goes.
const TIDY_EVERY: Duration = Duration::from_secs(600);

/// What the keeper takes.
pub enum Work {
    /// A message: topic and payload.
    Message(String, Vec<u8>),
    /// A file was hashed.
    Checked(Check, std::io::Result<Digest>),
}

/// What it gives.
pub enum Answer {
    /// To be published.
    Publish(String, Vec<u8>),
    /// For people who watch.
    Line(String),
}

/// Starts the two threads; they end when the sender is dropped.
///
/// # Errors
/// When the system gives no thread.
pub fn start(
    archive: Archive,
    retention: Retention,
    clock: Arc<dyn Clock>,
) -> std::io::Result<(mpsc::Sender<Work>, mpsc::Receiver<Answer>)> {
    let (work, inbox) = mpsc::channel(INBOX);
    let (answers, answered) = mpsc::channel(ANSWERS);
    let (checks, to_check) = std::sync::mpsc::sync_channel::<Check>(CHECKS);
    let done = work.downgrade();
    std::thread::Builder::new().name("hash".into()).spawn(move || {
        for check in to_check {
            let digest = flush_and_hash(&check.path);
            let Some(done) = done.upgrade() else {
                return;
            };
            if done.blocking_send(Work::Checked(check, digest)).is_err() {
                return;
            }
        }
    })?;
    let keeper = Keeper { archive, retention, clock, answers, checks, tidied: None };
    std::thread::Builder::new().name("archive".into()).spawn(move || keeper.run(inbox))?;
    Ok((work, answered))
}

/// Flushes a file, then reads it: what the digest says is on the disk.
///
/// # Errors
/// When the disk refuses.
pub fn flush_and_hash(path: &Path) -> std::io::Result<Digest> {
    let mut file = File::open(path)?;
    file.sync_all()?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut piece = vec![0; 256 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            n => context.update(&piece[..n]),
        }
    }
    let mut out = Digest::default();
    out.0.copy_from_slice(context.finish().as_ref());
    Ok(out)
}

struct Keeper {
    archive: Archive,
    retention: Retention,
    clock: Arc<dyn Clock>,
    answers: mpsc::Sender<Answer>,
    checks: std::sync::mpsc::SyncSender<Check>,
    tidied: Option<Instant>,
}

impl Keeper {
    fn run(mut self, mut inbox: mpsc::Receiver<Work>) {
        while let Some(first) = inbox.blocking_recv() {
            let (mut messages, mut checked, mut bytes) = (Vec::new(), Vec::new(), 0);
            let mut next = Some(first);
            while let Some(work) = next {
                match work {
                    Work::Message(topic, payload) => {
                        bytes += payload.len();
                        messages.push((topic, payload));
                    }
                    Work::Checked(check, digest) => checked.push((check, digest)),
                }
                next = if messages.len() < BATCH && bytes < BATCH_BYTES { inbox.try_recv().ok() } else { None };
            }
            let now = self.clock.now();
            self.take(&messages, now);
            for (check, digest) in checked {
                match self.archive.checked(&check, &digest, &now.wall.rfc3339()) {
                    Ok(outcome) => self.tell(&check.site, outcome, now),
                    Err(error) => self.say(Answer::Line(format!("NOT KEPT: {} {}: {error:#}", check.site, check.fid))),
                }
            }
            self.tidy(now);
        }
    }

    /// A batch that the disk refuses is tried message by message: one bad message must not cost the others their receipt.
    fn take(&mut self, messages: &[(String, Vec<u8>)], now: Stamp) {
        let (text, seconds) = (now.wall.rfc3339(), now.wall.0.div_euclid(1_000_000));
        let outcomes = match self.archive.take_all(messages, (&text, seconds)) {
            Ok(outcomes) => outcomes,
            Err(_) => messages.iter().flat_map(|message| self.take_alone(message, (&text, seconds))).collect(),
        };
        for (site, outcome) in outcomes {
            self.tell(&site, outcome, now);
        }
        for (topic, payload) in messages {
            match self.archive.take_config(topic, payload, &text) {
                Ok(answer) => {
                    answer.line.into_iter().for_each(|line| self.say(Answer::Line(line)));
                    answer.publish.into_iter().for_each(|(topic, payload)| self.say(Answer::Publish(topic, payload)));
                }
                Err(error) => self.say(Answer::Line(format!("no answer about a configuration: {topic}: {error:#}"))),
            }
        }
    }

    fn take_alone(&mut self, message: &(String, Vec<u8>), now: (&str, i64)) -> Vec<(SiteId, Outcome)> {
        self.archive.take_all(std::slice::from_ref(message), now).unwrap_or_else(|error| {
            // No receipt: the box keeps it and sends it again.
            self.say(Answer::Line(format!("NOT KEPT: {}: {error:#}", message.0)));
            Vec::new()
        })
    }

    fn tell(&mut self, site: &SiteId, outcome: Outcome, now: Stamp) {
        if let Some(ack) = outcome.ack {
            self.say(Answer::Publish(topics::dn(site, "ack"), serde_json::to_vec(&ack).unwrap_or_default()));
        }
        if let Some((name, mut body)) = outcome.ask {
            body["expires"] = serde_json::json!(now.wall.plus_micros(3_600_000_000).rfc3339());
            self.say(Answer::Publish(topics::dn(site, &format!("cmd/{name}")), body.to_string().into_bytes()));
        }
        if let Some(check) = outcome.check {
            // Two files of a site at most travel at a time: this waits for hashing only when hundreds of sites finish at once.
            let _ = self.checks.send(check);
        }
        if let Some(line) = outcome.line {
            self.say(Answer::Line(line));
        }
    }

    fn say(&self, answer: Answer) {
        // Without anybody to talk to the broker the office is ending.
        let _ = self.answers.blocking_send(answer);
    }

    fn tidy(&mut self, now: Stamp) {
        if self.tidied.is_some_and(|at| at.elapsed() < TIDY_EVERY) {
            return;
        }
        self.tidied = Some(Instant::now());
        match self.archive.let_go(&self.retention, now.wall) {
            Ok(gone) if gone.files + gone.events == 0 => {}
            Ok(gone) => {
                self.say(Answer::Line(format!("let go: {} files of {} bytes, {} events", gone.files, gone.bytes, gone.events)))
            }
            Err(error) => self.say(Answer::Line(format!("cannot let go what is too old: {error:#}"))),
        }
    }
}
