//! MQTT client of the office: subscription, ingest, answers, presence.
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock, waits")]

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::archive::Archive;
use super::archive_link::{ArchiveLink, Intake};
use super::archive_thread::{self, OutgoingAnswer};
use super::notice::Notice;
use super::retention::Retention;
use crate::settings::Protocol;
use crate::units::SiteId;
use crate::uplink::client::{self, ClientEvent, Connection, Disconnected, Options, Sender};
use crate::uplink::failover::ConnectFault;
use crate::uplink::topics;

/// Pause between two connections.
const RECONNECT_PAUSE: Duration = Duration::from_secs(2);
/// Time for the state `stopping` to reach the broker.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Age of a session below which its end may mean a second client with the same id: a broker ends
/// the older session (MQTT 5.0, 3.1.4; MQTT 3.1.1, 3.1.4).
const DUPLICATE_WITHIN: Duration = Duration::from_secs(15);
/// Reason of a disconnect that this office starts.
const CLOSING: &str = "closing";
/// Answers queued in the client at most; the archive thread then waits.
const WAITING: usize = 64;
/// Pause between two publications of the presence.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(30);
/// Delay of the presence after a device came online: devices come together, and one publication
/// reaches all.
const PRESENCE_DELAY: Duration = Duration::from_secs(1);

/// A command to publish.
pub struct Command {
    /// The device's site.
    pub site: SiteId,
    /// Last level of the topic.
    pub name: String,
    /// JSON.
    pub payload: Vec<u8>,
}

/// Parameters of a receiving office.
pub struct OfficeService {
    /// Connection to the broker.
    pub options: Options,
    /// Use the other MQTT version when the broker rejects the one in `options`.
    pub any_version: bool,
    /// Name of this office in its presence topic.
    pub host: String,
    /// The sites to receive; empty for all.
    pub sites: Vec<SiteId>,
    /// Retention of files and events.
    pub retention: Retention,
    /// Link to the archive thread; the console keeps its client.
    pub link: ArchiveLink,
}

impl OfficeService {
    fn filters(&self) -> Vec<String> {
        if self.sites.is_empty() {
            return vec![topics::ALL_UP.to_owned()];
        }
        self.sites.iter().map(|site| topics::up(site, "#")).collect()
    }
}

/// Runs the office until `stop` is true; calls `report` for each notice.
///
/// # Errors
/// When the operating system starts no thread.
pub async fn run(
    archive: Archive,
    mut office: OfficeService,
    mut commands: mpsc::Receiver<Command>,
    mut stop: watch::Receiver<bool>,
    mut report: impl FnMut(Notice),
) -> std::io::Result<()> {
    let presence = topics::host_state(&office.host);
    office.options.will = Some((presence.clone(), br#"{"v":1,"state":"lost"}"#.to_vec(), true));
    let (intake, answers) = archive_thread::start(archive, office.retention, office.link.clone())?;
    let mut session = ServiceSession {
        presence,
        intake,
        answers,
        waiting: VecDeque::new(),
        can_retain: true,
        presence_at: None,
    };
    while !*stop.borrow() {
        let started = Instant::now();
        let (sender, mut connection) = client::connect(&office.options);
        sender.subscribe(&office.filters());
        session.waiting.clear();
        session.presence_at = None;
        let ended = session
            .converse(
                &sender,
                &mut connection,
                &mut commands,
                &mut stop,
                &office.options,
                &mut report,
            )
            .await;
        if *stop.borrow() {
            let until = Instant::now() + CLOSE_TIMEOUT;
            while let Ok(Ok(_)) =
                timeout(until.saturating_duration_since(Instant::now()), connection.poll()).await
            {
            }
            return Ok(());
        }
        report(Notice::Disconnected {
            host: office.options.host.clone(),
            port: office.options.port,
            reason: crate::uplink::connection_end::in_flags(&ended.reason),
            may_be_duplicate: started.elapsed() < DUPLICATE_WITHIN
                && ended.reason.contains("closed by peer"),
        });
        if let Some((_, _, retain)) =
            office.options.will.as_mut().filter(|_| ended.fault == ConnectFault::Retain)
        {
            *retain = false;
        }
        let other =
            if office.options.protocol == Protocol::V5 { Protocol::V311 } else { Protocol::V5 };
        if office.any_version && ended.fault == ConnectFault::Version {
            office.options.protocol = other;
        }
        tokio::select! {
            () = sleep(RECONNECT_PAUSE) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
    Ok(())
}

struct ServiceSession {
    presence: String,
    intake: Intake,
    answers: mpsc::Receiver<OutgoingAnswer>,
    waiting: VecDeque<(String, Vec<u8>)>,
    /// The broker supports retained messages.
    can_retain: bool,
    /// Next publication of the presence; `None` without a connection.
    presence_at: Option<Instant>,
}

impl ServiceSession {
    /// Runs one connection until it ends.
    async fn converse(
        &mut self,
        sender: &Sender,
        connection: &mut Connection,
        commands: &mut mpsc::Receiver<Command>,
        stop: &mut watch::Receiver<bool>,
        options: &Options,
        report: &mut impl FnMut(Notice),
    ) -> Disconnected {
        loop {
            let mut poll = pin!(connection.poll());
            let seen = loop {
                while let Some((topic, payload)) = self.waiting.front()
                    && sender.publish(0, topic, payload.clone(), false)
                {
                    self.waiting.pop_front();
                }
                let presence_at = self.presence_at;
                tokio::select! {
                    seen = &mut poll => break seen,
                    () = sleep_until(presence_at.unwrap_or_else(Instant::now)), if presence_at.is_some() => {
                        self.publish_presence(sender);
                    }
                    Some(answer) = self.answers.recv(), if self.waiting.len() < WAITING => match answer {
                        OutgoingAnswer::Publish(topic, payload) => self.waiting.push_back((topic, payload)),
                        OutgoingAnswer::Notice(notice) => report(notice),
                    },
                    Some(Command { site, name, payload }) = commands.recv() => {
                        self.waiting.push_back((topics::dn(&site, &format!("cmd/{name}")), payload));
                    }
                    _ = stop.wait_for(|stop| *stop) => {
                        sender.publish(0, &self.presence, br#"{"v":1,"state":"stopping"}"#.to_vec(), self.can_retain);
                        sender.disconnect();
                        break Err(Disconnected { reason: CLOSING.into(), fault: ConnectFault::Lost });
                    }
                }
            };
            match seen {
                Ok(ClientEvent::Connected(limits)) => {
                    report(Notice::Connected { host: options.host.clone(), port: options.port });
                    self.can_retain = limits.retain;
                    self.publish_presence(sender);
                }
                Ok(ClientEvent::Subscribed(granted)) if granted.iter().any(Result::is_err) => {
                    report(Notice::SubscriptionRejected);
                }
                Ok(ClientEvent::Message(topic, payload)) => self.take(topic, payload),
                Ok(_) => {}
                Err(ended) => return ended,
            }
        }
    }

    /// Publishes the presence and sets its next publication: a broker may lose a retained message
    /// or support none.
    fn publish_presence(&mut self, sender: &Sender) {
        sender.publish(0, &self.presence, br#"{"v":1,"state":"online"}"#.to_vec(), self.can_retain);
        self.presence_at = Some(Instant::now() + PRESENCE_INTERVAL);
    }

    /// Queues a message for the archive thread; never blocks.
    fn take(&mut self, topic: String, payload: Vec<u8>) {
        if topic.ends_with("/up/state") {
            // A new device does not know the presence when the broker retains nothing.
            self.presence_at = self.presence_at.map(|at| at.min(Instant::now() + PRESENCE_DELAY));
        }
        self.intake.hand(topic, payload);
    }
}
