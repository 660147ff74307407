//! Delivery with receipts: what to publish when, and when a message counts as delivered.
//!
//! A PubAck only means that the broker has a message. Delivered means that the office's archive has
//! receipted it, with the hash.
//!
//! | answer of the broker to a publish (MQTT 5, 3.4.2.1) | reaction |
//! |---|---|
//! | success | wait for the receipt |
//! | no matching subscribers (0x10) | publish again when an archive comes online, or after 10 s, doubling to 5 min |
//! | quota, packet id in use, unspecified (0x97, 0x91, 0x80, 0x83) | publish nothing for 10 s, doubling to 5 min |
//! | not authorized (0x87) | alarm; events, or files, pause for 10 min or until the next connection |
//! | topic or payload invalid (0x90, 0x99), larger than the broker's packets | returned as rejected |
//! | a code that MQTT 5 does not list here | see `refusal` |
//!
//! What belongs here: the exchange as a pure state machine: requests here, publishes in `outgoing`,
//! received messages in `incoming`, rate limits in `admission`, unlisted PubAck reasons in `refusal`.
//! What does not: sockets and packet ids ([`super::task`]), the bandwidth ([`super::bandwidth`]).

mod incoming;
mod admission;
mod outgoing;
mod refusal;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use self::admission::IncomingLimiter;
use self::refusal::Refusals;
use super::bandwidth::{Bandwidth, CHUNK_MIN};
use super::file_transfer::Transfer;
use super::wire::{Birth, Command, Reply};
use super::{Message, UplinkCounts, UplinkRequest, UplinkUpdate, emqx_file_transfer, topics};
use crate::settings::{FileProtocol, UplinkSettings};
use crate::units::{Boot, Digest, EntryId, MonoTime, RingId, SiteId, Timestamp};

/// Time after which an event without a receipt is published again; doubled each time up to the
/// maximum.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(10);
const RECEIPT_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Limit of unacknowledged publishes, whatever the broker allows. It spans from the oldest to the
/// newest, so that packet ids are not reused.
const WINDOW: u64 = 16;
/// Part of the broker's Receive Maximum that is left to the other publishes of this session.
const RESERVE: u64 = 4;
/// Bytes reserved for topic and header beside a chunk.
const OVERHEAD: u32 = 256;
/// Bytes of a PUBLISH packet besides topic and payload: headers, lengths, packet id, no properties.
const HEADER: usize = 16;
/// Smallest chunk that a broker's refusals lead to. The topic of a chunk is nearly as long.
const CHUNK_FLOOR: u32 = 128;
/// Small messages queued for the broker. The oldest is dropped when the queue is full; its command
/// can be repeated.
const QUEUED_MAX: usize = 32;
/// Time after which a connection without a PubAck for its oldest publish is dead.
const ACK_TIMEOUT: Duration = Duration::from_secs(45);

/// The number of a connection, higher than every earlier one on this ring. The low 32 bits count
/// the attempts of one boot, so that they cannot reach the numbers of the next boot.
pub fn connection_number(boot: Boot, attempts: u32) -> u64 {
    u64::from(boot.0) << 32 | u64::from(attempts)
}

/// Identifies a publish until its PubAck.
pub type Token = u64;

/// The broker's answer to a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acked {
    /// The broker has it.
    Accepted,
    /// No matching subscribers (MQTT 5 reason 0x10).
    NoSubscriber,
    /// The broker is over a quota or has an internal error; holds the reason.
    Busy(String),
    /// The device may not publish to this topic; holds the reason.
    NotAuthorized(String),
    /// The publish itself is invalid; holds the reason.
    Invalid(String),
}

/// Limits of the broker, from its CONNACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerLimits {
    /// Receive Maximum: the limit of unacknowledged publishes.
    pub receive_max: u16,
    /// Maximum Packet Size in bytes.
    pub max_packet: u32,
    /// The broker supports retained messages.
    pub retain: bool,
    /// The broker supports QoS 1, which receipts need.
    pub at_least_once: bool,
}

impl BrokerLimits {
    /// The limits of a broker that supports retained messages and QoS 1.
    pub fn of_broker(receive_max: u16, max_packet: u32) -> BrokerLimits {
        BrokerLimits { receive_max, max_packet, retain: true, at_least_once: true }
    }
}

/// An effect that the uplink task executes.
#[derive(Debug, Clone, PartialEq)]
pub enum DeliveryEffect {
    /// Publish with QoS 1.
    Publish {
        /// Identifies the publish in [`Delivery::acked`].
        token: Token,
        /// Full topic name.
        topic: String,
        /// Payload bytes.
        payload: Vec<u8>,
        /// Publish it as a retained message.
        retain: bool,
    },
    /// Read bytes of a file; answered by [`Delivery::chunk`].
    Read {
        /// The outbox entry of the file.
        entry_id: EntryId,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: u32,
    },
    /// Send an update to the agent.
    Update(UplinkUpdate),
}

/// An event without a receipt.
struct InFlightEvent {
    id: String,
    payload: Vec<u8>,
    digest: Digest,
    /// Time of the next publish.
    due: MonoTime,
    /// Time until the publish after that.
    receipt_timeout: Duration,
    /// True once it was published.
    published: bool,
}

/// The message that a publish belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishSubject {
    Other,
    Event(EntryId),
    /// `init` or `fin` with 0, or a chunk with its number of bytes.
    File(EntryId, u64),
}

/// A class of publishes that the broker can reject separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PublishClass {
    Other,
    Event,
    File,
}

impl PublishSubject {
    fn class(self) -> PublishClass {
        match self {
            PublishSubject::Other => PublishClass::Other,
            PublishSubject::Event(_) => PublishClass::Event,
            PublishSubject::File(..) => PublishClass::File,
        }
    }
}

/// A small message that goes first: state, birth, answers, health.
struct QueuedMessage {
    topic: String,
    payload: Vec<u8>,
    retain: bool,
}

/// A publish without PubAck: the size of its payload, and the message itself if it is a small one.
struct UnackedPublish {
    sent_at: MonoTime,
    subject: PublishSubject,
    topic: String,
    bytes: usize,
    small: Option<QueuedMessage>,
}

/// Pause of all publishes because the broker is over a quota.
#[derive(Default)]
struct BusyPause {
    until: MonoTime,
    /// Busy answers in a row.
    count: u32,
}

/// A command to all devices that waits for its own moment.
struct ScheduledCommand {
    at: MonoTime,
    command: Box<Command>,
}

/// Delivery state of one device.
pub struct Delivery {
    site: SiteId,
    boot: u32,
    /// Largest chunk by the settings.
    chunk: u32,
    /// Largest chunk by the limits of the broker.
    chunk_now: u32,
    /// Largest chunk by the limits that a broker did not announce, from its refusals.
    chunk_learned: u32,
    protocol: FileProtocol,
    connected: Option<u64>,
    limits: BrokerLimits,
    window: u64,
    /// Archives that are online.
    hosts: BTreeSet<String>,
    assume_archive: bool,
    events: BTreeMap<EntryId, InFlightEvent>,
    files: BTreeMap<EntryId, Transfer>,
    /// Files wait until then after an outage, so that the devices of an office do not resume all at
    /// once.
    files_from: MonoTime,
    queued: VecDeque<QueuedMessage>,
    birth: Option<Box<Birth>>,
    /// Ring of the first birth message, which every state names: the will of a connection names it
    /// too, and `conn` counts in it. A card that is lost changes the ring of the events alone.
    presence_ring: Option<RingId>,
    unacked: BTreeMap<Token, UnackedPublish>,
    next_token: Token,
    bandwidth: Bandwidth,
    busy: BusyPause,
    refusals: Refusals,
    /// Classes that the device may not publish, with the end of their pause.
    forbidden: BTreeMap<PublishClass, MonoTime>,
    scheduled: Vec<ScheduledCommand>,
    /// Rate limits of received messages.
    limiter: IncomingLimiter,
    counts: UplinkCounts,
    /// Reason of the outage as last reported; `None` while connected.
    reported_reason: Option<String>,
}

impl Delivery {
    /// A delivery that is not connected.
    pub fn new(site: SiteId, boot: u32, settings: &UplinkSettings) -> Delivery {
        Delivery {
            site,
            boot,
            chunk: settings.chunk,
            chunk_now: settings.chunk,
            chunk_learned: u32::MAX,
            protocol: settings.files,
            connected: None,
            limits: BrokerLimits::of_broker(1, u32::MAX),
            window: 1,
            hosts: BTreeSet::new(),
            assume_archive: false,
            events: BTreeMap::new(),
            files: BTreeMap::new(),
            files_from: MonoTime(0),
            queued: VecDeque::new(),
            birth: None,
            presence_ring: None,
            unacked: BTreeMap::new(),
            next_token: 0,
            bandwidth: Bandwidth::new(settings.pace),
            busy: BusyPause::default(),
            refusals: Refusals::default(),
            forbidden: BTreeMap::new(),
            scheduled: Vec::new(),
            limiter: IncomingLimiter::default(),
            counts: UplinkCounts::default(),
            reported_reason: None,
        }
    }

    /// True once the birth message is known. It names the ring, so nothing is published before it.
    pub fn is_born(&self) -> bool {
        self.birth.is_some()
    }

    /// True between CONNACK and the end of the connection.
    pub fn is_connected(&self) -> bool {
        self.connected.is_some()
    }

    /// Sets whether an archive is assumed to be online because its state is not received.
    pub fn assume_archive(&mut self, assume: bool) {
        self.assume_archive = assume;
    }

    /// True when the broker supports retained messages.
    pub fn retains(&self) -> bool {
        self.limits.retain
    }

    /// The broker accepted the connection. Files wait `file_delay` microseconds.
    pub fn connected(
        &mut self,
        now: Timestamp,
        conn: u64,
        limits: BrokerLimits,
        file_delay: u64,
        out: &mut Vec<DeliveryEffect>,
    ) {
        self.connected = Some(conn);
        self.limits = limits;
        self.reported_reason = None;
        self.counts.connects += 1;
        self.window = WINDOW.min(u64::from(limits.receive_max).saturating_sub(RESERVE).max(1));
        self.chunk_now = self
            .chunk
            .min(limits.max_packet.saturating_sub(OVERHEAD))
            .max(CHUNK_MIN.min(limits.max_packet / 2))
            .min(self.chunk_learned);
        self.files_from = now.mono.plus_micros(file_delay);
        if !self.refusals.connected() {
            self.busy = BusyPause::default();
            self.forbidden = BTreeMap::new();
        }
        for event in self.events.values_mut() {
            event.due = now.mono;
            event.receipt_timeout = RECEIPT_TIMEOUT;
        }
        self.files.values_mut().for_each(Transfer::reconnected);
        let state = self.state("online", conn, now);
        self.queued.push_front(QueuedMessage {
            topic: topics::up(&self.site, "state"),
            payload: state,
            retain: true,
        });
        self.request_config();
        out.push(DeliveryEffect::Update(UplinkUpdate::Up { conn }));
        self.report_counts(out);
        self.send_birth();
        self.advance(now, out);
    }

    /// The connection ended. Everything in flight is sent again after the next connect.
    pub fn lost(&mut self, reason: String, refused: bool, out: &mut Vec<DeliveryEffect>) {
        let was = self.connected.take();
        self.refusals.lost();
        self.unacked.clear();
        self.hosts.clear();
        self.bandwidth.lost();
        self.queued.retain(|message| !message.retain);
        // An outage is reported once, and again when its reason changes.
        if was.is_some() || self.reported_reason.as_ref() != Some(&reason) {
            self.reported_reason = Some(reason.clone());
            out.push(DeliveryEffect::Update(UplinkUpdate::down(reason, refused)));
        }
    }

    /// Handles a request. The uplink task itself handles `Close`.
    pub fn request(
        &mut self,
        now: Timestamp,
        request: UplinkRequest,
        out: &mut Vec<DeliveryEffect>,
    ) {
        match request {
            UplinkRequest::Send { entry_id, message: Message::Event { id, payload } } => {
                let (digest, due) = (Digest::of(&payload), now.mono);
                let event = InFlightEvent {
                    id,
                    payload,
                    digest,
                    due,
                    receipt_timeout: RECEIPT_TIMEOUT,
                    published: false,
                };
                self.events.insert(entry_id, event);
            }
            UplinkRequest::Send { entry_id, message: Message::File { manifest, source } } => {
                self.files.insert(entry_id, Transfer::new(*manifest, source));
            }
            UplinkRequest::Cancel { entry_id } => self.cancel(entry_id),
            UplinkRequest::Resend { entry_id } => {
                if let Some(event) =
                    self.events.get_mut(&entry_id).filter(|_| self.limiter.resend(now))
                {
                    event.due = now.mono;
                }
            }
            UplinkRequest::Birth(birth) => {
                self.presence_ring.get_or_insert(birth.ring);
                self.birth = Some(birth);
                self.send_birth();
            }
            UplinkRequest::Spent(spent) => self.bandwidth.restore(spent),
            UplinkRequest::Signers(signers) => self.limiter.set_signers(signers),
            UplinkRequest::Health(health) if self.connected.is_some() => {
                let payload = serde_json::to_vec(&health).unwrap_or_default();
                self.queue(topics::up(&self.site, "health"), payload, false);
                self.report_counts(out);
            }
            UplinkRequest::Integration { topic, payload, retain } if self.connected.is_some() => {
                self.queue(topic, payload, retain)
            }
            UplinkRequest::Reply(reply) => self.reply(&reply),
            UplinkRequest::Reported(payload) if self.connected.is_some() => {
                self.queue(topics::up(&self.site, "config/reported"), payload, true);
            }
            UplinkRequest::RequestConfig if self.connected.is_some() => self.request_config(),
            UplinkRequest::Settings { settings, .. } => self.change(&settings),
            // The next connection reports the configuration again and requests the document.
            UplinkRequest::Health(_)
            | UplinkRequest::Integration { .. }
            | UplinkRequest::Reported(_)
            | UplinkRequest::RequestConfig
            | UplinkRequest::Close => {}
        }
        self.advance(now, out);
    }

    fn report_counts(&mut self, out: &mut Vec<DeliveryEffect>) {
        let retries: u64 = self.files.values().map(|file| file.retries).sum();
        let file_retries = self.counts.file_retries + retries;
        let dropped = self.limiter.dropped();
        let counts = UplinkCounts {
            file_retries,
            unsigned_dropped: dropped.unsigned,
            unverified_dropped: dropped.unverified,
            other_dropped: dropped.other,
            rate: self.bandwidth.rate(),
            spent: self.bandwidth.spent(),
            ..self.counts
        };
        out.push(DeliveryEffect::Update(UplinkUpdate::Counts(counts)));
    }

    /// Applies new settings: the bandwidth limits at once, the chunk size with the next connection.
    /// When the file protocol changes, every file exchange restarts.
    fn change(&mut self, settings: &UplinkSettings) {
        self.chunk = settings.chunk;
        self.chunk_learned = u32::MAX;
        self.bandwidth.change(settings.pace);
        if std::mem::replace(&mut self.protocol, settings.files) != settings.files {
            self.files.values_mut().for_each(Transfer::restart);
        }
    }

    fn request_config(&mut self) {
        self.queue(topics::up(&self.site, "config/get"), b"{\"v\":1}".to_vec(), false);
    }

    fn reply(&mut self, reply: &Reply) {
        let payload = serde_json::to_vec(reply).unwrap_or_default();
        self.queue(topics::up(&self.site, "rsp"), payload, false);
    }

    fn queue(&mut self, topic: String, payload: Vec<u8>, retain: bool) {
        if self.queued.len() >= QUEUED_MAX {
            // Retained messages carry the identity and state of the device: no number of answers
            // may evict them.
            let oldest = self.queued.iter().position(|message| !message.retain).unwrap_or(0);
            self.queued.remove(oldest);
            self.counts.answers_dropped += 1;
        }
        self.queued.push_back(QueuedMessage { topic, payload, retain });
    }

    fn send_birth(&mut self) {
        if let (Some(birth), Some(_)) = (&self.birth, self.connected) {
            let payload = serde_json::to_vec(birth).unwrap_or_default();
            self.queue(topics::up(&self.site, "birth"), payload, true);
        }
    }

    /// Drops an entry. A file is also aborted at the office, which may know of it.
    fn cancel(&mut self, entry_id: EntryId) {
        if let Some(file) = self.files.remove(&entry_id) {
            self.queue(self.file_topic(&file, "abort"), b"{\"v\":1}".to_vec(), false);
        }
        self.events.remove(&entry_id);
    }

    fn file_topic(&self, file: &Transfer, tail: &str) -> String {
        match self.protocol {
            FileProtocol::Own => topics::up(&self.site, &format!("file/{}/{tail}", file.fid)),
            FileProtocol::Emqx => emqx_file_transfer::topic(&file.fid, tail),
        }
    }

    /// Source of the file of an entry.
    pub fn source(&self, entry_id: EntryId) -> Option<crate::clip::SharedFile> {
        self.files.get(&entry_id).map(|file| file.source.clone())
    }

    /// True when the oldest publish has no PubAck within `ACK_TIMEOUT`: the connection is dead.
    pub fn is_overdue(&self, now: MonoTime) -> bool {
        self.unacked.first_key_value().is_some_and(|(_, publish)| {
            now.since(publish.sent_at) >= ACK_TIMEOUT.as_micros() as u64
        })
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
