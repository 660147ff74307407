//! Rollout driver: signs the documents of a rollout, stores and publishes them, and follows the
//! devices' reports until every device has its outcome.
//!
//! What happens is reported to a [`RolloutObserver`], which also confirms each wave. A message that
//! the broker has not acknowledged is published again in the next session; devices ignore a
//! document that they have already received.
//!
//! What belongs here: the session with the broker, the archive, the order of both. What does not:
//! waves and outcomes ([`super::rollout`]), reading arguments and printing (`cli`).
#![expect(clippy::disallowed_methods, reason = "shell: waits")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use ring::signature::Ed25519KeyPair;
use serde_json::Value;

use super::archive::Archive;
use super::error::ArchiveError;
use super::rollout::{Rollout, Send, TargetState};
use crate::clock::Clock;
use crate::remote_config::signed_document::Document;
use crate::settings::Protocol;
use crate::units::{Digest, MonoTime, SiteId};
use crate::uplink::broker_reason::sentence;
use crate::uplink::client::{self, ClientEvent, Connection, Disconnected, Options, Sender};
use crate::uplink::delivery::Acked;
use crate::uplink::failover::ConnectFault;
use crate::uplink::topics;

/// Filter of the devices' configuration reports.
const ALL_REPORTED: &str = "taimat/v1/+/up/config/reported";
/// Time between two steps when no message arrives.
const STEP_INTERVAL: Duration = Duration::from_millis(200);
/// Sessions that may fail in succession; with [`RETRY_PAUSE`] a broker has 20 s to restart.
const RETRIES_MAX: u32 = 20;
/// Pause before the next session.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Time in which a new session receives the retained reports. Before it is over, no timeout counts:
/// an outcome may have been reported while there was no session.
const RETAINED_WAIT: Duration = Duration::from_secs(2);

/// A change that waits for confirmation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedChange {
    /// The device's site.
    pub site: SiteId,
    /// SHA-256 of the configuration in force.
    pub running: Digest,
    /// Its text; `None` when it was not sent from this archive.
    pub old: Option<String>,
    /// The text to send.
    pub new: String,
}

/// Progress of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A device has a new state.
    State(SiteId, TargetState),
    /// A device with a document reports another phase of the change.
    Phase(SiteId, String),
    /// The document of this id was handed to the broker's client.
    Sent(SiteId, String),
    /// The broker rejects one of the two messages with a device's document.
    Rejected(SiteId, String),
    /// The session ended with this reason; another one follows.
    Disconnected(String),
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::State(site, state) => write!(f, "{site}: {state}"),
            Progress::Phase(site, phase) => write!(f, "{site}: {phase}"),
            Progress::Sent(site, id) => write!(f, "{site}: sent {id}"),
            Progress::Rejected(site, reason) => {
                write!(f, "{site}: the broker rejects a message: {reason}")
            }
            Progress::Disconnected(reason) => write!(f, "{reason}; trying again"),
        }
    }
}

/// Follows a rollout: a command line or a web console.
pub trait RolloutObserver {
    /// Takes a report of progress.
    fn progress(&mut self, progress: Progress);
    /// Decides whether a wave is sent.
    fn confirm(&mut self, changes: &[ProposedChange]) -> bool;
}

/// Where documents are published.
pub trait Publisher {
    /// Queues a message with QoS 1 under a token; returns false when the queue is full.
    fn publish(&self, token: u64, topic: &str, payload: Vec<u8>, retain: bool) -> bool;
}

impl Publisher for Sender {
    fn publish(&self, token: u64, topic: &str, payload: Vec<u8>, retain: bool) -> bool {
        Sender::publish(self, token, topic, payload, retain)
    }
}

/// Why a rollout ended early.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The broker cannot be reached, or refuses the office.
    #[error("{}", .0.reason)]
    Disconnected(Disconnected),
}

/// How many devices have which outcome.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RolloutSummary {
    /// Devices that committed their document.
    pub committed: usize,
    /// Devices that ran their configuration before.
    pub already: usize,
    /// Devices without an outcome: the rollout ended early.
    pub open: usize,
    /// Devices that were not begun.
    pub waiting: usize,
    /// Devices that failed, each with its reason.
    pub failed: Vec<(SiteId, String)>,
    /// Documents stored for their devices and handed to the broker's client.
    pub documents_sent: usize,
}

impl RolloutSummary {
    /// True when every device runs its configuration.
    pub fn is_complete(&self) -> bool {
        self.open == 0 && self.waiting == 0 && self.failed.is_empty()
    }
}

/// What a rollout signs with, and for how long.
pub struct Signing {
    /// The signing key.
    pub key: Ed25519KeyPair,
    /// Its id.
    pub key_id: String,
    /// Time until a document expires.
    pub valid: Duration,
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}, valid for {:?}", self.key_id, self.valid)
    }
}

/// A message that the broker has not acknowledged.
struct Pending {
    site: SiteId,
    topic: String,
    payload: Vec<u8>,
    retain: bool,
    /// Id of the document, until its publication is reported.
    unreported: Option<String>,
    /// The current session's client has it.
    is_queued: bool,
}

/// Drives one rollout. Its messages wait in memory: two for each device of a wave.
pub struct RolloutDriver {
    archive: Archive,
    signing: Signing,
    rollout: Rollout,
    pending: BTreeMap<u64, Pending>,
    last_token: u64,
    /// Devices of which the broker acknowledged a message.
    accepted: BTreeSet<SiteId>,
    documents_sent: usize,
    is_declined: bool,
}

impl RolloutDriver {
    /// A rollout of `texts` to `wave` devices at a time; each device has `timeout` for its outcome.
    ///
    /// # Errors
    /// The archive's documents cannot be read.
    pub fn new(
        archive: Archive,
        signing: Signing,
        texts: BTreeMap<SiteId, String>,
        wave: usize,
        timeout: Duration,
    ) -> Result<RolloutDriver, ArchiveError> {
        let prefix = format!("{}-", signing.key_id);
        let mut used = BTreeMap::new();
        for site in texts.keys() {
            let rows = archive.configs(site)?;
            let own = rows.iter().filter(|row| row.id.starts_with(&prefix));
            let highest = own.map(|row| row.version).max();
            used.extend(highest.map(|highest| (site.clone(), highest)));
        }
        let rollout = Rollout::new(&signing.key_id, texts, used, wave, timeout);
        Ok(RolloutDriver {
            archive,
            signing,
            rollout,
            pending: BTreeMap::new(),
            last_token: 0,
            accepted: BTreeSet::new(),
            documents_sent: 0,
            is_declined: false,
        })
    }

    /// True when no device will get another outcome.
    pub fn is_over(&self) -> bool {
        self.is_declined || self.rollout.is_over()
    }

    /// The outcomes so far.
    pub fn summary(&self) -> RolloutSummary {
        let mut summary =
            RolloutSummary { documents_sent: self.documents_sent, ..RolloutSummary::default() };
        for (site, state) in self.rollout.states() {
            match state {
                TargetState::Committed => summary.committed += 1,
                TargetState::Already => summary.already += 1,
                TargetState::Waiting => summary.waiting += 1,
                TargetState::Asked(_) | TargetState::Sent(..) => summary.open += 1,
                TargetState::Failed(reason) => {
                    summary.failed.push((site.clone(), reason.clone()));
                }
            }
        }
        summary
    }

    /// A new session: its client has none of the pending messages.
    fn session_opened(&mut self) {
        self.pending.values_mut().for_each(|pending| pending.is_queued = false);
    }

    /// Takes a message of the broker.
    fn message(&mut self, topic: &str, payload: &[u8], observer: &mut dyn RolloutObserver) {
        let site = topics::read_up(topic).map(|(site, _)| site);
        let (Some(site), Ok(report)) = (site, serde_json::from_slice::<Value>(payload)) else {
            return;
        };
        let phase_of = |report: &Value| report["phase"].as_str().unwrap_or("?").to_owned();
        let (before, now) = (self.rollout.report(&site).map(phase_of), phase_of(&report));
        let is_sent = self
            .rollout
            .states()
            .any(|(other, state)| *other == site && matches!(state, TargetState::Sent(..)));
        if let Some(state) = self.rollout.reported(&site, report) {
            observer.progress(Progress::State(site, state));
        } else if is_sent && before.as_ref() != Some(&now) {
            observer.progress(Progress::Phase(site, now));
        }
    }

    /// Takes the broker's acknowledgement of a message. A device fails when the broker accepts
    /// neither of its two messages.
    fn acked(&mut self, token: u64, acked: Acked, observer: &mut dyn RolloutObserver) {
        let Some(Pending { site, .. }) = self.pending.remove(&token) else { return };
        let reason = match acked {
            Acked::Accepted | Acked::NoSubscriber => {
                self.accepted.insert(site);
                return;
            }
            Acked::NotAuthorized(reason) | Acked::Invalid(reason) | Acked::Busy(reason) => reason,
        };
        observer.progress(Progress::Rejected(site.clone(), reason.clone()));
        let is_other_open = self.pending.values().any(|pending| pending.site == site);
        if !is_other_open
            && !self.accepted.contains(&site)
            && let Some(state) = self.rollout.rejected(&site, &reason)
        {
            observer.progress(Progress::State(site, state));
        }
    }

    /// The broker refused one of these messages with a reason that the client cannot decode. The
    /// largest is refused: a limit of sizes is the one reason that brokers send (0x95).
    fn refused_one_of(&mut self, code: u8, in_flight: &[u64], observer: &mut dyn RolloutObserver) {
        let size = |token: &&u64| self.pending.get(token).map_or(0, |sent| sent.payload.len());
        if let Some(token) = in_flight.iter().max_by_key(size).copied() {
            self.acked(token, Acked::Invalid(sentence(code)), observer);
        }
    }

    /// Signs, stores and publishes what is due.
    fn step(
        &mut self,
        clock: &dyn Clock,
        publisher: &dyn Publisher,
        observer: &mut dyn RolloutObserver,
    ) -> Result<(), RolloutError> {
        if self.is_declined {
            return Ok(());
        }
        let sends = self.rollout.next(clock.now().mono, |site, state| {
            if !matches!(state, TargetState::Sent(..)) {
                observer.progress(Progress::State(site.clone(), state.clone()));
            }
        });
        if !sends.is_empty() {
            if observer.confirm(&self.proposed(&sends)?) {
                self.sign_and_store(sends, clock)?;
            } else {
                self.is_declined = true;
                sends.iter().for_each(|send| self.rollout.not_sent(&send.site));
            }
        }
        self.publish(publisher, observer);
        Ok(())
    }

    fn proposed(&self, sends: &[Send]) -> Result<Vec<ProposedChange>, ArchiveError> {
        let change = |send: &Send| {
            Ok(ProposedChange {
                site: send.site.clone(),
                running: send.prev,
                old: self.archive.config_text(&send.site, &send.prev)?,
                new: send.text.clone(),
            })
        };
        sends.iter().map(change).collect()
    }

    /// Stores the documents before any is published: a device that asks gets its document, and its
    /// confirmation, from the archive.
    fn sign_and_store(&mut self, sends: Vec<Send>, clock: &dyn Clock) -> Result<(), ArchiveError> {
        // The operator may have taken long to confirm.
        let now = clock.now();
        let valid = i64::try_from(self.signing.valid.as_micros()).unwrap_or(i64::MAX);
        let not_after = now.wall.plus_micros(valid).rfc3339();
        for send in sends {
            let Send { site, version, prev, text } = send;
            self.rollout.sent_at(&site, now.mono);
            let id = format!("{}-{version}", self.signing.key_id);
            let document = Document {
                v: 1,
                site: site.to_string(),
                version,
                prev_sha256: prev,
                not_after: not_after.clone(),
                config: text,
                sig: None,
            };
            let document = document.signed(&self.signing.key);
            self.archive.store_config(&document, &now.wall.rfc3339())?;
            // Retained for a device that connects later. As an answer too, for a device that no
            // longer subscribes to the retained topic.
            for (tail, retain) in [("config/desired", true), ("config/answer", false)] {
                self.last_token += 1;
                let message = Pending {
                    site: site.clone(),
                    topic: topics::dn(&site, tail),
                    payload: document.encode(),
                    retain,
                    unreported: retain.then(|| id.clone()),
                    is_queued: false,
                };
                self.pending.insert(self.last_token, message);
            }
            self.documents_sent += 1;
        }
        Ok(())
    }

    /// Hands pending messages to the client while its queue has room.
    fn publish(&mut self, publisher: &dyn Publisher, observer: &mut dyn RolloutObserver) {
        for (token, pending) in &mut self.pending {
            if pending.is_queued {
                continue;
            }
            let payload = pending.payload.clone();
            if !publisher.publish(*token, &pending.topic, payload, pending.retain) {
                break;
            }
            pending.is_queued = true;
            if let Some(id) = pending.unreported.take() {
                observer.progress(Progress::Sent(pending.site.clone(), id));
            }
        }
    }
}

/// Why a session ended.
enum SessionEnd {
    Failed(RolloutError),
    /// The connection ended; true when it was subscribed before.
    Disconnected(Disconnected, bool),
}

/// Drives the rollout over as many sessions as it takes. With `any_version` 3.1.1 is tried where
/// MQTT 5 fails. [`RolloutDriver::summary`] has the outcomes, after an error too.
///
/// # Errors
/// The archive fails, or the broker cannot be reached. Documents that were sent before stay in
/// force; the same rollout continues when it is run again.
pub async fn run(
    driver: &mut RolloutDriver,
    mut options: Options,
    any_version: bool,
    clock: &dyn Clock,
    observer: &mut dyn RolloutObserver,
) -> Result<(), RolloutError> {
    let mut failures = 0;
    let mut was_subscribed = false;
    loop {
        let (ended, is_subscribed) =
            match session(driver, &options, was_subscribed, clock, observer).await {
                Ok(()) => return Ok(()),
                Err(SessionEnd::Failed(error)) => return Err(error),
                Err(SessionEnd::Disconnected(ended, is_subscribed)) => (ended, is_subscribed),
            };
        if ended.fault == ConnectFault::Version && any_version && options.protocol == Protocol::V5 {
            options.protocol = Protocol::V311;
            continue;
        }
        was_subscribed |= is_subscribed;
        failures = if is_subscribed { 0 } else { failures + 1 };
        // A broker that refuses the office's first session will refuse the next one, too.
        let is_refused = ended.fault == ConnectFault::Refused && !was_subscribed;
        if failures > RETRIES_MAX || is_refused {
            return Err(RolloutError::Disconnected(ended));
        }
        let reason = format!("{}:{}: {}", options.host, options.port, ended.reason);
        observer.progress(Progress::Disconnected(reason));
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// One session, until the rollout is over or the connection ends.
async fn session(
    driver: &mut RolloutDriver,
    options: &Options,
    is_resumed: bool,
    clock: &dyn Clock,
    observer: &mut dyn RolloutObserver,
) -> Result<(), SessionEnd> {
    let (sender, mut connection) = client::connect(options);
    sender.subscribe(&[ALL_REPORTED.to_owned()]);
    driver.session_opened();
    let wait = if is_resumed { RETAINED_WAIT } else { Duration::ZERO };
    let mut ready_at: Option<MonoTime> = None;
    loop {
        let event = next_event(&mut connection, || {
            let now = clock.now().mono;
            if ready_at.is_some_and(|ready| now >= ready) {
                driver.step(clock, &sender, observer)?;
            }
            Ok(driver.is_over())
        });
        match event.await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(ClientEvent::Message(topic, payload)))) => {
                driver.message(&topic, &payload, observer);
            }
            Ok(Some(Ok(ClientEvent::Subscribed(_)))) => {
                ready_at = Some(clock.now().mono.plus_micros(wait.as_micros() as u64));
            }
            Ok(Some(Ok(ClientEvent::Acked(token, acked)))) => driver.acked(token, acked, observer),
            Ok(Some(Ok(ClientEvent::RefusedOneOf(code, in_flight)))) => {
                driver.refused_one_of(code, &in_flight, observer);
            }
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(ended))) => {
                return Err(SessionEnd::Disconnected(ended, ready_at.is_some()));
            }
            Err(error) => return Err(SessionEnd::Failed(error)),
        }
    }
}

/// The next event of the connection; `None` when `step` says that the rollout is over. `step` runs
/// before the wait and every [`STEP_INTERVAL`] of it. A poll is never cut short while the session
/// goes on, because that may lose an event.
async fn next_event(
    connection: &mut Connection,
    mut step: impl FnMut() -> Result<bool, RolloutError>,
) -> Result<Option<Result<ClientEvent, Disconnected>>, RolloutError> {
    let mut poll = std::pin::pin!(connection.poll());
    loop {
        if step()? {
            return Ok(None);
        }
        if let Ok(event) = tokio::time::timeout(STEP_INTERVAL, &mut poll).await {
            return Ok(Some(event));
        }
    }
}

#[cfg(test)]
#[path = "rollout_driver_tests.rs"]
mod tests;
