//! ⇄ The uplink task: connects, drives the [`Link`], reconnects. One task owns client and event loop.
//!
//! What belongs here: waiting, back-off, reading file pieces off the runtime. What does not: what is owed ([`super::link`]).

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{self, Ended, Options, Seen, Sender};
use super::link::{Effect, Link, connection_number};
use super::{UplinkNews, UplinkOrder, topics};
use crate::clock::Clock;
use crate::pulse::Pulse;
use crate::settings::{Broker, UplinkSettings};
use crate::units::{Boot, Mono, SiteId, Ticket};

/// First and longest pause between connections.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Pause after a refusal: it takes a person, and a broker under a storm of bad logins takes nobody's.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// How often the link hears that time passes.
const TICK: Duration = Duration::from_millis(250);
/// Something in flight and nothing acknowledged for so long: the connection is dead, whatever TCP says.
const ACK_WITHIN: Duration = Duration::from_secs(45);
/// How often a long pause shows that the task lives.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// With another broker than the first for so long, the first is tried again: it may be back.
const BACK_AFTER: Duration = Duration::from_secs(1800);
/// What is said of a connection that ends because other settings are to be tried.
const FRESH: &str = "other settings are tried";
/// For `going` to be acknowledged at the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// A piece of a file that was read.
type Piece = (Ticket, u64, Result<Vec<u8>, String>);

/// Runs the uplink until [`UplinkOrder::Close`] or until the orders end.
pub async fn run(
    settings: UplinkSettings,
    site: SiteId,
    boot: Boot,
    clock: Arc<dyn Clock>,
    orders: mpsc::Receiver<UplinkOrder>,
    news: mpsc::Sender<UplinkNews>,
    pulse: Pulse,
) {
    let link = Link::new(site.clone(), boot.0, settings.chunk);
    // One read at a time and file, two files at a time: this cannot fill.
    let (read, pieces) = mpsc::channel(8);
    let mut uplink = Uplink {
        settings,
        epoch: 0,
        turn: 0,
        fresh: false,
        wary: false,
        site,
        boot,
        clock,
        orders,
        news,
        link,
        read,
        pieces,
        tries: 0,
        waiting: VecDeque::new(),
        pulse,
    };
    let mut failures = 0_u32;
    let mut open = uplink.await_birth().await;
    while open {
        let Some((ended, was_up)) = uplink.connection().await else {
            break;
        };
        // A broker that was there is asked again first; one that was not gives way to the next.
        (failures, uplink.turn) = if was_up { (0, uplink.turn) } else { (failures + 1, uplink.turn + 1) };
        let ceiling = if ended.refused { REFUSED_PAUSE } else { (PAUSE_MIN * 2_u32.pow(failures.min(9))).min(PAUSE_MAX) };
        let mut out = Vec::new();
        if ended.too_large && !std::mem::replace(&mut uplink.wary, true) {
            out.push(Effect::News(UplinkNews::Document { bytes: Vec::new(), len: client::PACKET_MAX as usize }));
        }
        uplink.link.lost(ended.reason, ended.refused, &mut out);
        uplink.carry_out(out, None).await;
        if std::mem::take(&mut uplink.fresh) {
            failures = 0;
            continue;
        }
        open = uplink.pause(PAUSE_MIN / 4 + ceiling.mul_f64(random())).await;
        if std::mem::take(&mut uplink.fresh) {
            failures = 0;
        }
    }
    let _ = uplink.news.send(UplinkNews::Closed).await;
}

/// Uniform in 0..1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

struct Uplink {
    settings: UplinkSettings,
    /// Names `settings` in what is told of sessions.
    epoch: u64,
    /// Which of the brokers is next.
    turn: usize,
    /// A message was too large, and ended the connection: it may be a retained one, which would end every other too.
    wary: bool,
    /// This connection ended because other settings are to be tried at once.
    fresh: bool,
    site: SiteId,
    boot: Boot,
    clock: Arc<dyn Clock>,
    orders: mpsc::Receiver<UplinkOrder>,
    news: mpsc::Sender<UplinkNews>,
    link: Link,
    read: mpsc::Sender<Piece>,
    pieces: mpsc::Receiver<Piece>,
    /// To connect, in this start.
    tries: u32,
    /// Publishes the client had no room for.
    waiting: VecDeque<(u64, String, Vec<u8>, bool)>,
    pulse: Pulse,
}

impl Uplink {
    /// One connection from CONNECT to its end; `None` when we closed it.
    async fn connection(&mut self) -> Option<(Ended, bool)> {
        self.tries = self.tries.saturating_add(1);
        let conn = connection_number(self.boot, self.tries);
        let brokers = self.settings.brokers();
        let broker = brokers[self.turn % brokers.len()].clone();
        let options = match self.options(conn, &broker) {
            Ok(options) => options,
            Err(error) => return Some((Ended { reason: format!("{error:#}"), refused: true, too_large: false }, false)),
        };
        let (sender, mut connection) = client::connect(&options);
        topics::of_box(&self.site, self.wary).iter().for_each(|filter| sender.subscribe(filter));
        self.waiting.clear();
        let (mut up, mut closing) = (false, None);
        let (begun, mut last_ack) = (Instant::now(), Instant::now());
        loop {
            let mut out = Vec::new();
            let seen = {
                let mut poll = pin!(connection.poll());
                loop {
                    self.pulse.beat();
                    let now = self.clock.now();
                    tokio::select! {
                        seen = &mut poll => break seen,
                        order = self.orders.recv(), if closing.is_none() => match order {
                            Some(UplinkOrder::Close) | None if !up => return None,
                            Some(UplinkOrder::Close) | None => {
                                closing = Some(Instant::now() + CLOSE_WITHIN);
                                let going = self.link.state("going", conn, now);
                                sender.publish(0, &topics::up(&self.site, "state"), going, true);
                                sender.disconnect();
                            }
                            Some(order) => {
                                self.order(now.mono, order, &mut out);
                                if self.fresh {
                                    return Some((Ended { reason: FRESH.into(), refused: false, too_large: false }, up));
                                }
                            }
                        },
                        Some((ticket, offset, bytes)) = self.pieces.recv() => self.link.chunk(now.mono, ticket, offset, bytes, &mut out),
                        () = sleep_until(closing.unwrap_or_else(|| Instant::now() + TICK)) => {
                            if closing.is_some() {
                                return None;
                            }
                            self.link.advance(now.mono, &mut out);
                        }
                    }
                    if !self.link.awaits_acks() {
                        last_ack = Instant::now();
                    }
                    if up && !self.turn.is_multiple_of(brokers.len()) && begun.elapsed() > BACK_AFTER {
                        self.turn = 0;
                        return Some((
                            Ended { reason: "the first broker is tried again".into(), refused: false, too_large: false },
                            up,
                        ));
                    }
                    if last_ack.elapsed() > ACK_WITHIN {
                        return Some((Ended { reason: "no PubAck in time".into(), refused: false, too_large: false }, up));
                    }
                    self.carry_out(std::mem::take(&mut out), Some(&sender)).await;
                }
            };
            let now = self.clock.now();
            match seen {
                Ok(Seen::Connected(window, packet)) => {
                    up = true;
                    let session = UplinkNews::Session { epoch: self.epoch, broker: broker.address() };
                    let _ = self.news.send(session).await;
                    self.link.connected(now, conn, window, packet, &mut out);
                }
                Ok(Seen::Acked(token, refused)) => {
                    last_ack = Instant::now();
                    self.link.acked(now.mono, token, refused, &mut out);
                }
                Ok(Seen::Message(topic, payload)) => self.link.message(now.mono, &topic, &payload, &mut out),
                Ok(Seen::Other) => {}
                Err(_) if closing.is_some() => return None,
                Err(ended) => return Some((ended, up)),
            }
            self.carry_out(out, Some(&sender)).await;
        }
    }

    /// Takes an order; other settings are the shell's too.
    fn order(&mut self, now: Mono, order: UplinkOrder, out: &mut Vec<Effect>) {
        if let UplinkOrder::Settings { settings, epoch, fresh } = &order {
            if *fresh || settings.brokers().first() != self.settings.brokers().first() {
                self.turn = 0;
            }
            (self.settings, self.epoch) = (settings.as_ref().clone(), *epoch);
            self.fresh |= *fresh;
        }
        self.link.order(now, order, out);
    }

    fn options(&self, conn: u64, broker: &Broker) -> anyhow::Result<Options> {
        let settings = &self.settings;
        Ok(Options {
            client_id: format!("taimat-{}", self.site),
            host: broker.host.clone(),
            port: broker.port,
            tls: broker.tls.as_ref().map(client::tls_config).transpose()?,
            login: broker.login.clone(),
            keep_alive: settings.keep_alive,
            protocol: settings.protocol,
            will: Some((topics::up(&self.site, "state"), self.link.state("lost", conn, self.clock.now()))),
        })
    }

    /// Does what the link wants; without a connection only its news.
    async fn carry_out(&mut self, effects: Vec<Effect>, sender: Option<&Sender>) {
        for effect in effects {
            match effect {
                Effect::News(news) => {
                    let _ = self.news.send(news).await;
                }
                Effect::Read { ticket, offset, len } => {
                    let Some(source) = self.link.source(ticket) else { continue };
                    let read = self.read.clone();
                    tokio::task::spawn_blocking(move || {
                        let _ = read.blocking_send((ticket, offset, source.read(offset, len)));
                    });
                }
                Effect::Publish { token, topic, payload, retain } => self.waiting.push_back((token, topic, payload, retain)),
            }
        }
        while let (Some(sender), Some((token, topic, payload, retain))) = (sender, self.waiting.front()) {
            if !sender.publish(*token, topic, payload.clone(), *retain) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Takes orders until the birth message is among them; the agent sends it first. False when it was told to close.
    async fn await_birth(&mut self) -> bool {
        while !self.link.is_born() {
            match self.orders.recv().await {
                None | Some(UplinkOrder::Close) => return false,
                Some(order) => self.order(self.clock.now().mono, order, &mut Vec::new()),
            }
        }
        self.fresh = false;
        true
    }

    /// Waits, taking orders meanwhile; false when it was told to close.
    async fn pause(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            self.pulse.beat();
            let left = until.saturating_duration_since(Instant::now());
            let now = self.clock.now().mono;
            let mut out = Vec::new();
            match timeout(left.min(BEAT_EVERY), self.orders.recv()).await {
                Err(_) if left <= BEAT_EVERY => return true,
                Err(_) => {}
                Ok(None | Some(UplinkOrder::Close)) => return false,
                Ok(Some(order)) => self.order(now, order, &mut out),
            }
            self.carry_out(out, None).await;
            if self.fresh {
                return true;
            }
        }
    }
}
