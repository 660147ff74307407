//! ⇄ The uplink task: connects, drives the [`Delivery`], reconnects. One task owns client and event loop.
//!
//! What belongs here: waiting, DNS. What does not: what is pending ([`super::delivery`]), where to connect next and when ([`super::failover`]),
//! reading (`super::file_reader`).

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{self, ClientEvent, Connection, Disconnected, Options, Sender};
use super::delivery::{Delivery, DeliveryEffect, connection_number};
use super::failover::{Attempt, BrokerSelector, ConnectFault};
use super::file_reader::{FileReader, Piece, ReadRequest};
use super::{Alarm, UplinkRequest, UplinkUpdate, cert_expiry, emqx_file_transfer, tls, topics};
use crate::clock::Clock;
use crate::settings::{Broker, FileProtocol, UplinkSettings, parse};
use crate::units::{Boot, MonoTime, SiteId, Timestamp};
use crate::wakeup::WakeupCoalescer;
use crate::watchdog::Heartbeat;

/// How often the link hears that time passes.
const TICK: Duration = Duration::from_millis(100);
/// How often a long pause shows that the task lives.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// What is said of a connection that ends because other settings are to be tried.
const FRESH: &str = "other settings are tried";
/// For `stopping` to be acknowledged at the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// For a name to be resolved when its first address does not answer.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
/// Files wait a random part of a tenth of the outage, up to this many microseconds: devices that lost the same broker come back one
/// after the other.
const CALM_MAX: u64 = 60_000_000;
/// Microseconds between two warnings about the same certificate.
const WARN_EVERY: u64 = 24 * 3600 * 1_000_000;

/// Microseconds after which a device that hears no commands for wariness listens to them again.
const WARY_FOR: u64 = 3600 * 1_000_000;
/// Messages after which everybody else on this thread has a turn: a flood must not keep the camera waiting.
const TURN_AFTER: u32 = 16;

/// What the uplink begins with.
pub struct UplinkStart {
    /// The office's brokers.
    pub settings: UplinkSettings,
    /// Who this is.
    pub site: SiteId,
    /// Which start of it.
    pub boot: Boot,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// That of the runtime this runs on: nobody rests while a piece of a file is read.
    pub wakeup: WakeupCoalescer,
}

/// Runs the uplink until [`UplinkRequest::Close`] or until the orders end.
pub async fn run(
    start: UplinkStart,
    orders: mpsc::Receiver<UplinkRequest>,
    update: mpsc::Sender<UplinkUpdate>,
    heartbeat: Heartbeat,
) {
    let UplinkStart { settings, site, boot, clock, wakeup } = start;
    let link = Delivery::new(site.clone(), boot.0, &settings);
    let session = BrokerSelector::new(1 + settings.fallbacks.len(), settings.protocol);
    // One read at a time and file, two files at a time: this cannot fill.
    let (read, pieces) = mpsc::channel(8);
    let (waiting, down_since, warned_at) = (VecDeque::new(), clock.now().mono, MonoTime(0));
    let mut uplink = Uplink {
        settings,
        epoch: 0,
        fresh: false,
        wary: (0, MonoTime(0)),
        messages: 0,
        site,
        boot,
        clock,
        wakeup,
        orders,
        update,
        link,
        session,
        reader: FileReader::new(read),
        pieces,
        tries: 0,
        waiting,
        heartbeat,
        down_since,
        warned_at,
    };
    let mut open = uplink.await_birth().await;
    while open {
        let Some(ended) = uplink.connection().await else {
            break;
        };
        let now = uplink.clock.now();
        uplink.down_since = now.mono;
        let pause = uplink.session.ended(now.mono, ended.fault, random());
        let mut out = Vec::new();
        if ended.fault == ConnectFault::TooLarge {
            uplink.grow_wary(now.mono, &mut out);
        }
        uplink.link.lost(ended.reason, ended.fault == ConnectFault::Refused, &mut out);
        uplink.execute(out, None).await;
        let fresh = std::mem::take(&mut uplink.fresh);
        if fresh {
            continue;
        }
        open = uplink.pause(Duration::from_micros(pause)).await;
        uplink.fresh = false;
    }
    let _ = uplink.update.send(UplinkUpdate::Closed).await;
}

/// Uniform in 0..1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// Another address of a host whose first one does not answer: of two families one may be a black gap. `None` goes by name.
async fn address(broker: &Broker, attempt: Attempt) -> Option<String> {
    if attempt.misses == 0 {
        return None;
    }
    let looked_up = timeout(RESOLVE_WITHIN, tokio::net::lookup_host((broker.host.as_str(), broker.port))).await.ok()?.ok()?;
    let addresses: Vec<std::net::IpAddr> = looked_up.map(|address| address.ip()).collect();
    let chosen = addresses.get(attempt.misses % addresses.len().max(1)).filter(|_| addresses.len() > 1)?;
    Some(if chosen.is_ipv6() { format!("[{chosen}]") } else { chosen.to_string() })
}

struct Uplink {
    settings: UplinkSettings,
    /// Names `settings` in what is reported of sessions.
    epoch: u64,
    /// How often a message was too large, and ended the connection, and when last: it may be a retained one, which would end every other.
    wary: (u8, MonoTime),
    /// Since the last turn of others.
    messages: u32,
    /// This connection ended because other settings are to be tried at once.
    fresh: bool,
    site: SiteId,
    boot: Boot,
    clock: Arc<dyn Clock>,
    wakeup: WakeupCoalescer,
    orders: mpsc::Receiver<UplinkRequest>,
    update: mpsc::Sender<UplinkUpdate>,
    link: Delivery,
    session: BrokerSelector,
    reader: FileReader,
    pieces: mpsc::Receiver<Piece>,
    /// To connect, in this start.
    tries: u32,
    /// Publishes the client had no room for.
    waiting: VecDeque<(u64, String, Vec<u8>, bool)>,
    heartbeat: Heartbeat,
    /// Since when there is no connection.
    down_since: MonoTime,
    /// When people were last reported of a certificate.
    warned_at: MonoTime,
}

/// What one turn of the loop found.
enum TaskEvent {
    Seen(Result<ClientEvent, Disconnected>),
    /// This connection is dropped.
    GiveUp(Disconnected),
    /// It is closed in order.
    Closed,
}

impl Uplink {
    /// One connection from CONNECT to its end; `None` when we closed it.
    async fn connection(&mut self) -> Option<Disconnected> {
        self.tries = self.tries.saturating_add(1);
        let conn = connection_number(self.boot, self.tries);
        let attempt = self.session.attempt();
        let brokers = self.settings.brokers();
        let broker = brokers.get(attempt.broker).or(brokers.first())?.clone();
        if broker.tls.is_none() && broker.login.is_some() && !parse::is_local(&broker.host) {
            tracing::warn!(broker = %broker.host, "the password goes unencrypted to the broker (uplink.allow_plain): set uplink.ca_file");
        }
        self.check_certificates(&broker).await;
        if broker.shows_login() {
            tracing::warn!(
                host = broker.host,
                "the login goes to this broker in the clear (uplink.allow_plain): anybody on the way can read it"
            );
        }
        let options = match self.options(conn, &broker, attempt).await {
            Ok(options) => options,
            Err(error) => return Some(Disconnected { reason: format!("{error:#}"), fault: ConnectFault::Refused }),
        };
        let (sender, mut connection) = client::connect(&options);
        sender.subscribe(&self.filters(&options.client_id));
        self.waiting.clear();
        let mut closing = None;
        loop {
            if self.messages >= TURN_AFTER {
                self.messages = 0;
                tokio::task::yield_now().await;
            }
            match self.turn(&sender, &mut connection, conn, &mut closing).await {
                TaskEvent::Closed => return None,
                TaskEvent::GiveUp(ended) => return Some(ended),
                TaskEvent::Seen(Err(_)) if closing.is_some() => return None,
                TaskEvent::Seen(Err(ended)) => return Some(ended),
                TaskEvent::Seen(Ok(ClientEvent::Subscribed(granted))) => {
                    if let Some(ended) = self.subscribed(&granted, &options.client_id).await {
                        return Some(ended);
                    }
                }
                TaskEvent::Seen(Ok(seen)) => self.handle_client_event(seen, conn, &broker, &sender).await,
            }
        }
    }

    /// Tells what the broker does not let us hear. Without receipts, or without knowing whether an archive is there, the connection
    /// is of no use.
    async fn subscribed(&mut self, granted: &[Result<(), String>], client_id: &str) -> Option<Disconnected> {
        let filters = self.filters(client_id);
        let refused = filters
            .iter()
            .zip(granted)
            .enumerate()
            .find_map(|(at, (filter, granted))| granted.as_ref().err().map(|reason| (at, format!("{filter} ({reason})"))));
        let (at, what) = refused?;
        let detail = format!("the broker refuses the subscription to {what}: look at its access list");
        let _ = self.update.send(UplinkUpdate::Alarm { what: Alarm::NotAuthorized, detail: detail.clone() }).await;
        (at < topics::of_box(&self.site, self.wary.0).len())
            .then_some(Disconnected { reason: detail, fault: ConnectFault::Refused })
    }

    /// Listens to less, and says so once.
    fn grow_wary(&mut self, now: MonoTime, out: &mut Vec<DeliveryEffect>) {
        if self.wary.0 == 0 {
            out.push(DeliveryEffect::News(UplinkUpdate::Document { bytes: Vec::new(), len: client::PACKET_MAX as usize }));
        }
        self.wary = ((self.wary.0 + 1).min(topics::WARY_MAX), now);
        self.link.set_deaf(self.wary.0 == topics::WARY_MAX);
        tracing::error!(
            level = self.wary.0,
            "a message too large to be taken ended the session: less is subscribed to from now on"
        );
    }

    /// True when it is time to listen to commands again.
    fn is_calm(&mut self, now: MonoTime) -> bool {
        let calm = self.wary.0 > 1 && now.since(self.wary.1) >= WARY_FOR;
        if calm {
            self.wary = (1, now);
            self.link.set_deaf(false);
        }
        calm
    }

    fn filters(&self, client_id: &str) -> Vec<String> {
        let mut filters = topics::of_box(&self.site, self.wary.0);
        filters.extend((self.wary.0 < 2).then(|| topics::FLEET.to_owned()));
        if self.settings.files == FileProtocol::Emqx {
            filters.push(emqx_file_transfer::answers(client_id));
        }
        filters
    }

    /// Waits for something to be seen, carrying out orders meanwhile.
    async fn turn(
        &mut self,
        sender: &Sender,
        connection: &mut Connection,
        conn: u64,
        closing: &mut Option<Instant>,
    ) -> TaskEvent {
        let mut poll = pin!(connection.poll());
        loop {
            self.heartbeat.beat();
            let mut out = Vec::new();
            let now = self.clock.now();
            tokio::select! {
                seen = &mut poll => return TaskEvent::Seen(seen),
                order = self.orders.recv(), if closing.is_none() => match order {
                    Some(UplinkRequest::Close) | None if !self.link.is_connected() => return TaskEvent::Closed,
                    Some(UplinkRequest::Close) | None => {
                        *closing = Some(Instant::now() + CLOSE_WITHIN);
                        let going = self.link.state("stopping", conn, now);
                        sender.publish(0, &topics::up(&self.site, "state"), going, self.link.retains());
                        sender.disconnect();
                    }
                    Some(order) => {
                        self.order(now, order, &mut out);
                        if self.fresh {
                            return TaskEvent::GiveUp(Disconnected { reason: FRESH.into(), fault: ConnectFault::Lost });
                        }
                    }
                },
                Some((entry_id, offset, bytes)) = self.pieces.recv() => self.link.chunk(now, entry_id, offset, bytes, &mut out),
                () = sleep_until(closing.unwrap_or_else(|| Instant::now() + TICK)) => {
                    if closing.is_some() {
                        return TaskEvent::Closed;
                    }
                    self.link.advance(now, &mut out);
                }
            }
            if self.link.is_overdue(now.mono) {
                return TaskEvent::GiveUp(Disconnected { reason: "no PubAck in time".into(), fault: ConnectFault::Lost });
            }
            if self.is_calm(now.mono) && closing.is_none() {
                return TaskEvent::GiveUp(Disconnected {
                    reason: "listening to commands again".into(),
                    fault: ConnectFault::Lost,
                });
            }
            if self.session.is_on_fallback(now.mono) && closing.is_none() {
                return TaskEvent::GiveUp(Disconnected {
                    reason: "going back to the preferred broker".into(),
                    fault: ConnectFault::Lost,
                });
            }
            self.execute(out, Some(sender)).await;
        }
    }

    async fn handle_client_event(&mut self, seen: ClientEvent, conn: u64, broker: &Broker, sender: &Sender) {
        let mut out = Vec::new();
        let now = self.clock.now();
        match seen {
            ClientEvent::Connected(limits) => {
                self.session.connected(now.mono);
                let session = UplinkUpdate::Session { epoch: self.epoch, broker: broker.address() };
                let _ = self.update.send(session).await;
                let calm = (now.mono.since(self.down_since) / 10).min(CALM_MAX);
                self.link.connected(now, conn, limits, (calm as f64 * random()) as u64, &mut out);
            }
            ClientEvent::Acked(token, acked) => self.link.acked(now, token, acked, &mut out),
            ClientEvent::Message(topic, payload) => {
                self.messages += 1;
                self.link.message(now, &topic, &payload, &mut out);
            }
            ClientEvent::Subscribed(_) | ClientEvent::Other => {}
        }
        self.execute(out, Some(sender)).await;
    }

    /// Tells once a day of certificates that end soon.
    async fn check_certificates(&mut self, broker: &Broker) {
        let now: Timestamp = self.clock.now();
        let Some(tls) =
            broker.tls.as_ref().filter(|_| self.warned_at == MonoTime(0) || now.mono.since(self.warned_at) > WARN_EVERY)
        else {
            return;
        };
        for (key, end) in tls::ends(tls) {
            let Some(days) = cert_expiry::near(end, now) else {
                continue;
            };
            self.warned_at = now.mono;
            let detail = format!("the certificate in uplink.{key} ends at {} ({days} days): bring another", end.rfc3339());
            let _ = self.update.send(UplinkUpdate::Alarm { what: Alarm::Certificate, detail }).await;
        }
    }

    /// Takes an order; other settings are the shell's too.
    fn order(&mut self, now: Timestamp, order: UplinkRequest, out: &mut Vec<DeliveryEffect>) {
        if let UplinkRequest::Settings { settings, epoch, fresh } = &order {
            if *fresh || settings.brokers() != self.settings.brokers() || settings.protocol != self.settings.protocol {
                self.session = BrokerSelector::new(1 + settings.fallbacks.len(), settings.protocol);
            }
            (self.settings, self.epoch) = (settings.as_ref().clone(), *epoch);
            self.fresh |= *fresh;
        }
        self.link.order(now, order, out);
    }

    async fn options(&self, conn: u64, broker: &Broker, attempt: Attempt) -> anyhow::Result<Options> {
        let settings = &self.settings;
        let address = address(broker, attempt).await;
        let name = address.is_some().then_some(broker.host.as_str());
        let state = self.link.state("lost", conn, self.clock.now());
        Ok(Options {
            // A broker that binds the client id to the certificate's common name, the site, then binds it to what was asked for.
            client_id: self.site.to_string(),
            host: address.unwrap_or_else(|| broker.host.clone()),
            port: broker.port,
            tls: broker.tls.as_ref().map(|tls| tls::config(tls, name)).transpose()?,
            login: broker.login.clone(),
            keep_alive: settings.keep_alive,
            protocol: attempt.protocol,
            will: Some((topics::up(&self.site, "state"), state, attempt.retain)),
        })
    }

    /// Does what the link wants; without a connection only its updates.
    async fn execute(&mut self, effects: Vec<DeliveryEffect>, sender: Option<&Sender>) {
        for effect in effects {
            match effect {
                DeliveryEffect::News(update) => {
                    let _ = self.update.send(update).await;
                }
                DeliveryEffect::Read { entry_id, offset, len } => {
                    let Some(source) = self.link.source(entry_id) else { continue };
                    let wanted = ReadRequest { entry_id, offset, len, source, hurry: self.wakeup.low_latency() };
                    if let Err(error) = self.reader.read(wanted) {
                        tracing::error!("a piece of a file is not read, the next session asks for it again: {error}");
                    }
                }
                DeliveryEffect::Publish { token, topic, payload, retain } => {
                    self.waiting.push_back((token, topic, payload, retain))
                }
            }
        }
        while let (Some(sender), Some((token, topic, payload, retain))) = (sender, self.waiting.front()) {
            if !sender.publish(*token, topic, payload.clone(), *retain) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Takes orders until the birth message is among them; the agent sends it first. False when it was reported to close.
    async fn await_birth(&mut self) -> bool {
        while !self.link.is_born() {
            match self.orders.recv().await {
                None | Some(UplinkRequest::Close) => return false,
                Some(order) => self.order(self.clock.now(), order, &mut Vec::new()),
            }
        }
        self.fresh = false;
        true
    }

    /// Waits, taking orders meanwhile; false when it was reported to close.
    async fn pause(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            self.heartbeat.beat();
            let left = until.saturating_duration_since(Instant::now());
            let now = self.clock.now();
            let mut out = Vec::new();
            match timeout(left.min(BEAT_EVERY), self.orders.recv()).await {
                Err(_) if left <= BEAT_EVERY => return true,
                Err(_) => {}
                Ok(None | Some(UplinkRequest::Close)) => return false,
                Ok(Some(order)) => self.order(now, order, &mut out),
            }
            self.execute(out, None).await;
            if self.fresh {
                return true;
            }
        }
    }
}
