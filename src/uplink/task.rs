//! Uplink task: connects to a broker, drives [`Delivery`] over the connection and reconnects.
//!
//! What belongs here: waiting, DNS lookups. What does not: what is pending ([`super::delivery`]),
//! which broker is next ([`super::failover`]), reading files (`super::file_reader`).
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock, waits, draws random numbers")]

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument as _;

use super::broker_address::{address, name};
use super::client::{self, ClientEvent, Connection, Disconnected, Options, Sender};
use super::closing::Closing;
use super::connection_end;
use super::delivery::{Delivery, DeliveryEffect, Token, connection_number};
use super::failover::{Attempt, BrokerSelector, ConnectFault};
use super::file_reader::{FileReader, Piece, ReadRequest};
use super::subscriptions::Subscriptions;
use super::{Alarm, PLANNED_ENDS, UplinkRequest, UplinkUpdate, cert_expiry, tls, topics};
use crate::clock::{Clock, random};
use crate::settings::{Broker, UplinkSettings};
use crate::units::{Boot, MonoTime, SiteId, Timestamp};
use crate::wakeup::WakeupCoalescer;
use crate::watchdog::Heartbeat;

/// Interval at which time passes for the delivery.
const TICK: Duration = Duration::from_millis(100);
/// Longest time between two heartbeats during a pause.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Longest delay of files after a connect. It is a random part of a tenth of the outage, so that
/// devices that lost the same broker do not resume their files at once.
const FILE_DELAY_MAX: Duration = Duration::from_secs(60);
/// Minimum time between two alarms about the same certificate.
const CERTIFICATE_ALARM_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Messages after which the task yields to the other tasks on its thread: a flood must not delay
/// the camera.
const MESSAGES_PER_TURN: u32 = 16;

/// Everything the uplink task starts with.
pub struct UplinkStart {
    /// Brokers, login and limits.
    pub settings: UplinkSettings,
    /// The site of this device.
    pub site: SiteId,
    /// The current boot.
    pub boot: Boot,
    /// Clock of the device.
    pub clock: Arc<dyn Clock>,
    /// Coalescer of the current Tokio runtime. It does not delay wake-ups while a piece of a file
    /// is read.
    pub wakeup: WakeupCoalescer,
}

/// Runs the uplink until [`UplinkRequest::Close`], or until every sender of requests is dropped.
pub async fn run(
    start: UplinkStart,
    requests: mpsc::Receiver<UplinkRequest>,
    updates: mpsc::Sender<UplinkUpdate>,
    heartbeat: Heartbeat,
) {
    let UplinkStart { settings, site, boot, clock, wakeup } = start;
    let delivery = Delivery::new(site.clone(), boot.0, &settings);
    let selector = BrokerSelector::new(1 + settings.fallbacks.len(), settings.protocol);
    // Two files are sent at once, with one read in flight each: this channel cannot fill.
    let (read, pieces) = mpsc::channel(8);
    let (unsent, down_since, warned_at) = (VecDeque::new(), clock.now().mono, MonoTime(0));
    let mut uplink = Uplink {
        settings,
        epoch: 0,
        fresh: false,
        subscriptions: Subscriptions::default(),
        messages: 0,
        site,
        boot,
        clock,
        wakeup,
        requests,
        updates,
        delivery,
        selector,
        reader: FileReader::new(read),
        pieces,
        tries: 0,
        unsent,
        heartbeat,
        down_since,
        warned_at,
    };
    let mut open = uplink.await_birth().await;
    while open {
        let broker = name(&uplink.settings.brokers(), uplink.selector.attempt().broker);
        let Some(ended) = uplink.connection().await else {
            break;
        };
        let now = uplink.clock.now();
        uplink.down_since = now.mono;
        let ended = connection_end::by_clock(ended, now);
        let fault = uplink.selector.diagnose(now.mono, ended.fault);
        if uplink.selector.continues(now.mono, fault) {
            uplink.delivery.interrupted(&ended.reason);
            continue;
        }
        let pause = uplink.selector.ended(now.mono, fault, random());
        let taken = (fault == ConnectFault::TakenOver)
            .then(|| DeliveryEffect::Update(Alarm::taken_over(&uplink.site, &ended.reason)));
        let mut out: Vec<DeliveryEffect> = taken.into_iter().collect();
        if ended.fault == ConnectFault::TooLarge {
            uplink.reduce_subscriptions(now.mono, &mut out);
        }
        uplink.delivery.lost(ended.reason, ended.fault.needs_operator(), &mut out);
        DeliveryEffect::name_broker(&mut out, &broker);
        uplink.execute(out, None).await;
        if std::mem::take(&mut uplink.fresh) {
            continue;
        }
        open = uplink.pause(Duration::from_micros(pause)).await;
        uplink.fresh = false;
    }
    let _ = uplink.updates.send(UplinkUpdate::Closed).await;
}

/// A publish that the client's queue had no room for.
struct UnsentPublish {
    token: Token,
    topic: String,
    payload: Vec<u8>,
    retain: bool,
}

/// State of the uplink task.
struct Uplink {
    settings: UplinkSettings,
    /// Epoch of `settings`, reported with every session.
    epoch: u64,
    subscriptions: Subscriptions,
    /// Messages received since the task last yielded.
    messages: u32,
    /// True when this connection must end because new settings require a fresh one.
    fresh: bool,
    site: SiteId,
    boot: Boot,
    clock: Arc<dyn Clock>,
    wakeup: WakeupCoalescer,
    requests: mpsc::Receiver<UplinkRequest>,
    updates: mpsc::Sender<UplinkUpdate>,
    delivery: Delivery,
    selector: BrokerSelector,
    reader: FileReader,
    pieces: mpsc::Receiver<Piece>,
    /// Connection attempts since boot.
    tries: u32,
    unsent: VecDeque<UnsentPublish>,
    heartbeat: Heartbeat,
    /// End of the last connection.
    down_since: MonoTime,
    /// Time of the last certificate alarm.
    warned_at: MonoTime,
}

/// Result of one turn of the connection loop.
enum TaskEvent {
    /// An event of the client, or the end of its connection.
    Client(Result<ClientEvent, Disconnected>),
    /// The task drops this connection.
    Drop(Disconnected),
    /// The connection was closed on request.
    Closed,
}

impl TaskEvent {
    fn dropped(reason: &str) -> TaskEvent {
        TaskEvent::Drop(Disconnected { reason: reason.into(), fault: ConnectFault::Lost })
    }
}

impl Uplink {
    /// Runs one connection from CONNECT to its end; `None` when it was closed on request.
    async fn connection(&mut self) -> Option<Disconnected> {
        self.tries = self.tries.saturating_add(1);
        let conn = connection_number(self.boot, self.tries);
        let (attempt, brokers) = (self.selector.attempt(), self.settings.brokers());
        let broker = brokers.get(attempt.broker).or(brokers.first())?.clone();
        let span = tracing::info_span!("uplink", conn, broker = %format_args!("{}:{}", broker.host, broker.port));
        self.connect_to(conn, broker, attempt).instrument(span).await
    }

    async fn connect_to(
        &mut self,
        conn: u64,
        broker: Broker,
        attempt: Attempt,
    ) -> Option<Disconnected> {
        if broker.shows_login() {
            tracing::warn!(
                "the password goes unencrypted to the broker (uplink.allow_plain); set uplink.ca_file"
            );
        }
        self.check_certificates(&broker).await;
        let options = match self.options(conn, &broker, attempt).await {
            Ok(options) => options,
            Err(error) => return Some(connection_end::unusable(&error)),
        };
        let (sender, mut connection) = client::connect(&options);
        sender.subscribe(&self.subscriptions.filters(
            &self.site,
            self.settings.files,
            &options.client_id,
        ));
        self.unsent.clear();
        let mut closing = None;
        loop {
            if self.messages >= MESSAGES_PER_TURN {
                self.messages = 0;
                tokio::task::yield_now().await;
            }
            match self.turn(&sender, &mut connection, conn, &mut closing).await {
                TaskEvent::Closed => return None,
                TaskEvent::Drop(ended) => return Some(ended),
                TaskEvent::Client(Err(_)) if closing.is_some() => return None,
                TaskEvent::Client(Err(ended)) => return Some(ended),
                TaskEvent::Client(Ok(ClientEvent::Subscribed(granted))) => {
                    if let Some(ended) = self.subscribed(&granted, &options.client_id).await {
                        return Some(ended);
                    }
                }
                TaskEvent::Client(Ok(ClientEvent::Connected(limits))) if !limits.at_least_once => {
                    return Some(connection_end::of_qos_0());
                }
                TaskEvent::Client(Ok(event)) => {
                    // What waits stays in the outbox once the session ends.
                    let sender = closing.is_none().then_some(&sender);
                    self.handle_client_event(event, conn, &broker, sender).await
                }
            }
        }
    }

    /// Raises an alarm for a subscription that the broker rejected. Returns the end of the
    /// connection when it is useless: without receipts, or without the state of the archives.
    async fn subscribed(
        &mut self,
        granted: &[Result<(), String>],
        client_id: &str,
    ) -> Option<Disconnected> {
        let filters = self.subscriptions.filters(&self.site, self.settings.files, client_id);
        let (what, is_needed) = self.subscriptions.rejected(&self.site, &filters, granted)?;
        let detail =
            format!("the broker refuses the subscription to {what}: check its access control list");
        let _ = self
            .updates
            .send(UplinkUpdate::Alarm { what: Alarm::NotAuthorized, detail: detail.clone() })
            .await;
        is_needed.then_some(Disconnected { reason: detail, fault: ConnectFault::Refused })
    }

    /// Reduces the subscriptions by one level. The first time it also reports an oversized
    /// document.
    fn reduce_subscriptions(&mut self, now: MonoTime, out: &mut Vec<DeliveryEffect>) {
        if self.subscriptions.reduce(now) {
            out.push(DeliveryEffect::Update(UplinkUpdate::Document {
                bytes: Vec::new(),
                len: client::PACKET_MAX as usize,
            }));
        }
        self.delivery.assume_archive(self.subscriptions.are_receipts_only());
    }

    /// True when the device must subscribe to commands again.
    fn restores_commands(&mut self, now: MonoTime) -> bool {
        let is_due = self.subscriptions.restore_commands(now);
        if is_due {
            self.delivery.assume_archive(false);
        }
        is_due
    }

    /// Waits for the next event of the client, and handles requests meanwhile.
    async fn turn(
        &mut self,
        sender: &Sender,
        connection: &mut Connection,
        conn: u64,
        closing: &mut Option<Closing>,
    ) -> TaskEvent {
        let mut poll = pin!(connection.poll());
        loop {
            self.heartbeat.beat();
            let mut out = Vec::new();
            let now = self.clock.now();
            closing.iter_mut().for_each(|closing| closing.advance(sender));
            tokio::select! {
                event = &mut poll => return TaskEvent::Client(event),
                request = self.requests.recv(), if closing.is_none() => match request {
                    Some(UplinkRequest::Close) | None if !self.delivery.is_connected() => return TaskEvent::Closed,
                    Some(UplinkRequest::Close) | None => {
                        self.unsent.clear();
                        let state = self.delivery.state("stopping", conn, now);
                        *closing = Some(Closing::new(now.mono, &self.site, state, self.delivery.retains()));
                        continue;
                    }
                    Some(request) => {
                        self.handle_request(now, request, &mut out);
                        if self.fresh {
                            return TaskEvent::dropped(PLANNED_ENDS[0]);
                        }
                    }
                },
                Some((entry_id, offset, bytes)) = self.pieces.recv(), if closing.is_none() => self.delivery.chunk(now, entry_id, offset, bytes, &mut out),
                () = sleep(TICK) => match closing {
                    Some(closing) if closing.is_over(self.clock.now().mono) => return TaskEvent::Closed,
                    Some(_) => continue,
                    None => self.delivery.advance(now, &mut out),
                }
            }
            if self.delivery.is_overdue(now.mono) {
                return TaskEvent::dropped("no PubAck in time");
            }
            if self.restores_commands(now.mono) && closing.is_none() {
                return TaskEvent::dropped(PLANNED_ENDS[1]);
            }
            if self.selector.is_on_fallback(now.mono) && closing.is_none() {
                return TaskEvent::dropped(PLANNED_ENDS[2]);
            }
            self.execute(out, Some(sender)).await;
        }
    }

    async fn handle_client_event(
        &mut self,
        event: ClientEvent,
        conn: u64,
        broker: &Broker,
        sender: Option<&Sender>,
    ) {
        let mut out = Vec::new();
        let now = self.clock.now();
        match event {
            ClientEvent::Connected(limits) => {
                self.selector.connected(now.mono);
                let session = UplinkUpdate::Session { epoch: self.epoch, broker: broker.address() };
                let _ = self.updates.send(session).await;
                let outage = now.mono.since(self.down_since);
                let delay_max = (outage / 10).min(FILE_DELAY_MAX.as_micros() as u64);
                let file_delay = (delay_max as f64 * random()) as u64;
                self.delivery.connected(now, conn, limits, file_delay, &mut out);
            }
            ClientEvent::Acked(token, acked) => self.delivery.acked(now, token, acked, &mut out),
            ClientEvent::RefusedOneOf(code, in_flight) => {
                self.delivery.refused_one_of(now, code, &in_flight, &mut out);
            }
            ClientEvent::Message(topic, payload) => {
                self.messages += 1;
                self.delivery.message(now, &topic, &payload, &mut out);
            }
            ClientEvent::Subscribed(_) | ClientEvent::Other => {}
        }
        self.execute(out, sender).await;
    }

    /// Raises an alarm once a day for each certificate that expires soon.
    async fn check_certificates(&mut self, broker: &Broker) {
        let now: Timestamp = self.clock.now();
        let expiries = broker.tls.as_ref().map(tls::expiries).unwrap_or_default();
        let earliest = expiries.iter().map(|(_, end)| end.0 / 1_000_000).min();
        self.delivery.note_certificate_end(earliest.unwrap_or_default().max(0) as u64);
        let pause = CERTIFICATE_ALARM_INTERVAL.as_micros() as u64;
        let is_early = self.warned_at != MonoTime(0) && now.mono.since(self.warned_at) <= pause;
        if is_early {
            return;
        }
        let warning = |(key, end)| cert_expiry::warning(key, end, now);
        for detail in expiries.into_iter().filter_map(warning) {
            self.warned_at = now.mono;
            let _ =
                self.updates.send(UplinkUpdate::Alarm { what: Alarm::Certificate, detail }).await;
        }
    }

    /// Passes a request to the delivery; new settings also concern this task.
    fn handle_request(
        &mut self,
        now: Timestamp,
        request: UplinkRequest,
        out: &mut Vec<DeliveryEffect>,
    ) {
        if let UplinkRequest::Settings { settings, epoch, fresh } = &request {
            if *fresh
                || settings.brokers() != self.settings.brokers()
                || settings.protocol != self.settings.protocol
            {
                self.selector =
                    BrokerSelector::new(1 + settings.fallbacks.len(), settings.protocol);
            }
            self.settings = settings.as_ref().clone();
            self.epoch = *epoch;
            self.fresh |= *fresh;
        }
        self.delivery.request(now, request, out);
    }

    async fn options(
        &self,
        conn: u64,
        broker: &Broker,
        attempt: Attempt,
    ) -> anyhow::Result<Options> {
        let settings = &self.settings;
        let address = address(broker, attempt).await;
        let name = address.is_some().then_some(broker.host.as_str());
        let state = self.delivery.state("lost", conn, self.clock.now());
        Ok(Options {
            // A broker that binds the client id to the certificate's common name compares it with
            // the site.
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

    /// Executes effects of the delivery; without a connection only its updates.
    async fn execute(&mut self, effects: Vec<DeliveryEffect>, sender: Option<&Sender>) {
        for effect in effects {
            match effect {
                DeliveryEffect::Update(update) => {
                    let _ = self.updates.send(update).await;
                }
                DeliveryEffect::Read { entry_id, offset, len } => {
                    let Some(source) = self.delivery.source(entry_id) else { continue };
                    let request = ReadRequest {
                        entry_id,
                        offset,
                        len,
                        source,
                        low_latency: self.wakeup.low_latency(),
                    };
                    if let Err(error) = self.reader.read(request) {
                        tracing::error!(%error, entry_id = entry_id.0, offset, "piece of a file not read; the next session requests it again");
                    }
                }
                DeliveryEffect::Publish { token, topic, payload, retain } => {
                    self.unsent.push_back(UnsentPublish { token, topic, payload, retain })
                }
            }
        }
        while let (Some(sender), Some(publish)) = (sender, self.unsent.front()) {
            if !sender.publish(
                publish.token,
                &publish.topic,
                publish.payload.clone(),
                publish.retain,
            ) {
                return;
            }
            self.unsent.pop_front();
        }
    }

    /// Handles requests until the birth message is among them, which the agent sends first. Returns
    /// false when the uplink must close.
    async fn await_birth(&mut self) -> bool {
        while !self.delivery.is_born() {
            match self.requests.recv().await {
                None | Some(UplinkRequest::Close) => return false,
                Some(request) => self.handle_request(self.clock.now(), request, &mut Vec::new()),
            }
        }
        self.fresh = false;
        true
    }

    /// Pauses, and handles requests meanwhile. Returns false when the uplink must close.
    async fn pause(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            self.heartbeat.beat();
            let left = until.saturating_duration_since(Instant::now());
            let (now, mut out) = (self.clock.now(), Vec::new());
            match timeout(left.min(HEARTBEAT_INTERVAL), self.requests.recv()).await {
                Err(_) if left <= HEARTBEAT_INTERVAL => return true,
                Err(_) => {}
                Ok(None | Some(UplinkRequest::Close)) => return false,
                Ok(Some(request)) => self.handle_request(now, request, &mut out),
            }
            self.execute(out, None).await;
            if self.fresh {
                return true;
            }
        }
    }
}
