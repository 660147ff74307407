//! ⇄ The office's MQTT client: subscribes to devices, hands what comes to the configuration thread, publishes its answers, shows its presence.
//!
//! What belongs here: connecting and passing on. What does not: storing (`office_stub`), batches and hashing
//! ([`super::archive_thread`]).

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::archive::Archive;
use super::archive_thread::{self, Intake, OutgoingAnswer};
use super::retention::Retention;
use crate::clock::SystemClock;
use crate::escape::shown;
use crate::settings::Protocol;
use crate::units::SiteId;
use crate::uplink::client::{self, ClientEvent, Connection, Disconnected, Options, Sender};
use crate::uplink::failover::ConnectFault;
use crate::uplink::topics;

/// Pause between connections.
const PAUSE: Duration = Duration::from_secs(2);
/// For `stopping` to leave at the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// A session that the broker closes so soon may be another's: brokers end the older of two with one client id.
const STOLEN_WITHIN: Duration = Duration::from_secs(15);
const STOLEN: &str = ". Does another office run with the same --host? The broker ends one session for the other";
/// What is said of a connection we close ourselves.
const CLOSING: &str = "closing";
/// Commands waiting to be published at most.
pub const COMMANDS: usize = 16;
/// Answers waiting for the client at most; the others stay with the configuration thread, which waits.
const WAITING: usize = 64;
/// How often the presence is said again, and how long after a device has come: devices come together, and one word is for all.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(30);
const ANNOUNCE_AFTER: Duration = Duration::from_secs(1);

/// A command to publish: site, name, payload.
pub type Command = (SiteId, String, Vec<u8>);

/// What an office is reported when it starts.
pub struct OfficeService {
    /// How to reach the broker.
    pub options: Options,
    /// The version is open: 3.1.1 where 5 fails.
    pub any_version: bool,
    /// Its name in its presence topic.
    pub host: String,
    /// Only these sites; all of them when empty.
    pub sites: Vec<SiteId>,
    /// What it releases.
    pub retention: Retention,
}

impl OfficeService {
    fn filters(&self) -> Vec<String> {
        if self.sites.is_empty() {
            return vec![topics::ALL_UP.to_owned()];
        }
        self.sites.iter().map(|site| topics::up(site, "#")).collect()
    }
}

/// Runs the office until `shutdown`; every line for people goes to `line`.
///
/// # Errors
/// When the system gives no thread.
pub async fn run(
    archive: Archive,
    mut office: OfficeService,
    mut commands: mpsc::Receiver<Command>,
    mut stop: watch::Receiver<bool>,
    mut line: impl FnMut(String),
) -> anyhow::Result<()> {
    let presence = topics::host_state(&office.host);
    office.options.will = Some((presence.clone(), br#"{"v":1,"state":"lost"}"#.to_vec(), true));
    let (work, answers) = archive_thread::start(archive, office.retention, Arc::new(SystemClock::new()))?;
    let mut session = ServiceSession { presence, work, answers, waiting: VecDeque::new(), retain: true, announce: None };
    while !*stop.borrow() {
        let started = Instant::now();
        let (sender, mut connection) = client::connect(&office.options);
        sender.subscribe(&office.filters());
        session.waiting.clear();
        session.announce = None;
        let ended = session.converse(&sender, &mut connection, &mut commands, &mut stop, &office.options, &mut line).await;
        if *stop.borrow() {
            let until = Instant::now() + CLOSE_WITHIN;
            while let Ok(Ok(_)) = timeout(until.saturating_duration_since(Instant::now()), connection.poll()).await {}
            return Ok(());
        }
        let stolen = if started.elapsed() < STOLEN_WITHIN && ended.reason.contains("closed by peer") { STOLEN } else { "" };
        let reason = client::in_flags(&ended.reason);
        line(shown(&format!("no broker at {}:{}: {reason}{stolen}", office.options.host, office.options.port)));
        if let Some((_, _, retain)) = office.options.will.as_mut().filter(|_| ended.fault == ConnectFault::Retain) {
            *retain = false;
        }
        let other = if office.options.protocol == Protocol::V5 { Protocol::V311 } else { Protocol::V5 };
        if office.any_version && ended.fault == ConnectFault::Version {
            office.options.protocol = other;
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
    Ok(())
}

struct ServiceSession {
    presence: String,
    work: Intake,
    answers: mpsc::Receiver<OutgoingAnswer>,
    waiting: VecDeque<(String, Vec<u8>)>,
    /// The broker keeps our presence.
    retain: bool,
    /// When we say again that we are here; nothing while there is no connection.
    announce: Option<Instant>,
}

impl ServiceSession {
    /// One connection to its end.
    async fn converse(
        &mut self,
        sender: &Sender,
        connection: &mut Connection,
        commands: &mut mpsc::Receiver<Command>,
        stop: &mut watch::Receiver<bool>,
        options: &Options,
        line: &mut impl FnMut(String),
    ) -> Disconnected {
        loop {
            let mut poll = pin!(connection.poll());
            let seen = loop {
                while let Some((topic, payload)) = self.waiting.front()
                    && sender.publish(0, topic, payload.clone(), false)
                {
                    self.waiting.pop_front();
                }
                let announce = self.announce;
                tokio::select! {
                    seen = &mut poll => break seen,
                    () = sleep_until(announce.unwrap_or_else(Instant::now)), if announce.is_some() => self.publish_presence(sender),
                    Some(answer) = self.answers.recv(), if self.waiting.len() < WAITING => match answer {
                        OutgoingAnswer::Publish(topic, payload) => self.waiting.push_back((topic, payload)),
                        OutgoingAnswer::Line(text) => line(shown(&text)),
                    },
                    Some((site, name, payload)) = commands.recv() => {
                        self.waiting.push_back((topics::dn(&site, &format!("cmd/{name}")), payload));
                    }
                    _ = stop.wait_for(|stop| *stop) => {
                        sender.publish(0, &self.presence, br#"{"v":1,"state":"stopping"}"#.to_vec(), self.retain);
                        sender.disconnect();
                        break Err(Disconnected { reason: CLOSING.into(), fault: ConnectFault::Lost });
                    }
                }
            };
            match seen {
                Ok(ClientEvent::Connected(limits)) => {
                    line(format!("office connected to {}:{}", options.host, options.port));
                    self.retain = limits.retain;
                    self.publish_presence(sender);
                }
                Ok(ClientEvent::Subscribed(granted)) if granted.iter().any(Result::is_err) => {
                    line("the broker refuses the office's subscription: look at its access list".into());
                }
                Ok(ClientEvent::Message(topic, payload)) => self.take(topic, payload),
                Ok(_) => {}
                Err(ended) => return ended,
            }
        }
    }

    /// Says that the archive is here, and when to say it again: a broker may lose it, or keep nothing.
    fn publish_presence(&mut self, sender: &Sender) {
        sender.publish(0, &self.presence, br#"{"v":1,"state":"online"}"#.to_vec(), self.retain);
        self.announce = Some(Instant::now() + ANNOUNCE_EVERY);
    }

    /// Hands a message to the configuration thread, which never makes us wait.
    fn take(&mut self, topic: String, payload: Vec<u8>) {
        if topic.ends_with("/up/state") {
            // A device has come: where nothing is retained it does not know of us.
            self.announce = self.announce.map(|at| at.min(Instant::now() + ANNOUNCE_AFTER));
        }
        self.work.hand(topic, payload);
    }
}
