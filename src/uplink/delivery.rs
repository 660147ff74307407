//! The link: what is published when, and when a message counts as delivered. A PubAck only means that the broker has it;
//! delivered means that the office's archive said so, with the hash.
//!
//! | the broker's answer to a publish | what follows |
//! |---|---|
//! | taken | the receipt is awaited |
//! | nobody subscribes (0x10) | again when an archive comes online, or after 10 s, doubling to 5 min |
//! | quota, packet id in use, unspecified (0x97, 0x91, 0x80, 0x83) | nothing goes out for 10 s, doubling to 5 min |
//! | not authorised (0x87) | an alarm; events, or files, rest for 10 min or until the next connection |
//! | topic or payload invalid (0x90, 0x99), larger than the broker's packets | a dead message with an alarm: it comes back |
//!
//! What belongs here: the exchange, pure: inputs are what the broker and the card did, effects what to publish and to read; what
//! is asked for here, what goes out in `outgoing`, what is heard in `incoming`, how much of it in `admission`. What does not: sockets and packet ids
//! ([`super::task`]), the way's speed ([`super::bandwidth`]).

mod incoming;
mod admission;
mod outgoing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::admission::IncomingLimiter;
use super::bandwidth::{Bandwidth, CHUNK_MIN};
use super::file_transfer::Transfer;
use super::wire::{Birth, Command, Reply, State};
use super::{Message, UplinkCounts, UplinkRequest, UplinkUpdate, emqx_file_transfer, topics};
use crate::settings::{FileProtocol, UplinkSettings};
use crate::units::{Boot, Digest, EntryId, MonoTime, SiteId, Timestamp};

/// Microseconds an event waits for its receipt before it is published again; doubled each time up to the longest.
const RECEIPT_WITHIN: u64 = 10_000_000;
const RECEIPT_LONGEST: u64 = 300_000_000;
/// Publishes without PubAck at most, whatever the broker allows: the distance from the oldest unacknowledged one to the newest,
/// so that packet ids cannot meet.
const WINDOW: u64 = 16;
/// Of the broker's Receive Maximum so many are left for others of this session.
const RESERVE: u64 = 4;
/// Bytes of topic and header allowed for beside a chunk.
const OVERHEAD: u32 = 256;
/// Bytes of an MQTT packet beside topic and payload: headers, lengths, packet id, no properties.
const HEADER: usize = 16;
/// Answers and births waiting for a connection at most; older ones are dropped, the caller asks again.
const UNSENT_MAX: usize = 32;
/// The oldest publish without PubAck for so long, microseconds: the connection is dead, whatever TCP says.
const ACK_WITHIN: u64 = 45_000_000;

/// The number of a connection: higher than every one before on this ring. Tries of one start have 32 bits of their own, so that no
/// number of them reaches into the next start.
pub fn connection_number(boot: Boot, tries: u32) -> u64 {
    u64::from(boot.0) << 32 | u64::from(tries)
}

/// What names a publish until its PubAck.
pub type Token = u64;

/// What the broker said of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acked {
    /// It has it.
    Taken,
    /// It had nobody to give it to.
    Unheard,
    /// Not now: a quota, a fault of its own.
    Busy(String),
    /// We may not publish there.
    Forbidden(String),
    /// Never: the publish itself is wrong.
    Invalid(String),
}

/// What the broker allows, as its CONNACK says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerLimits {
    /// Publishes without PubAck at most.
    pub receive_max: u16,
    /// Bytes of one packet at most.
    pub max_packet: u32,
    /// It keeps retained messages.
    pub retain: bool,
}

/// One thing for the shell to do.
#[derive(Debug, Clone, PartialEq)]
pub enum DeliveryEffect {
    /// Publish with QoS 1.
    Publish {
        /// Come back with [`Delivery::acked`] under this name.
        token: Token,
        /// Where to.
        topic: String,
        /// What.
        payload: Vec<u8>,
        /// Keep as the topic's last value.
        retain: bool,
    },
    /// Read bytes of a file and come back with [`Delivery::chunk`].
    Read {
        /// The file's message.
        entry_id: EntryId,
        /// From.
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// Tell the agent.
    News(UplinkUpdate),
}

/// An event on its way.
struct InFlightEvent {
    id: String,
    payload: Vec<u8>,
    digest: Digest,
    /// When to publish it (again).
    due: MonoTime,
    /// How long the next receipt may take.
    patience: u64,
    /// It was published before.
    sent: bool,
}

/// What a publish is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishSubject {
    Other,
    Event(EntryId),
    /// `init`, `fin`, or a chunk of so many bytes.
    File(EntryId, u64),
}

/// What may be forbidden on its own.
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

/// The link of one device.
pub struct Delivery {
    site: SiteId,
    boot: u32,
    /// Largest chunk by the settings, and by the broker.
    chunk: u32,
    chunk_now: u32,
    dialect: FileProtocol,
    connected: Option<u64>,
    limits: BrokerLimits,
    window: u64,
    hosts: BTreeSet<String>,
    /// Archives cannot be heard: they are taken to be there.
    deaf: bool,
    events: BTreeMap<EntryId, InFlightEvent>,
    files: BTreeMap<EntryId, Transfer>,
    /// Files wait until then after an outage, so that a commune's devices do not all begin at once.
    files_from: MonoTime,
    /// Small messages that go first: state, birth, answers, health.
    unsent: VecDeque<(String, Vec<u8>, bool)>,
    birth: Option<Box<Birth>>,
    /// When each unacknowledged publish left, and what it is about.
    tokens: BTreeMap<Token, (MonoTime, PublishSubject)>,
    next_token: Token,
    pace: Bandwidth,
    /// The broker is over a quota until then, and how often in a row it said so.
    busy: (MonoTime, u32),
    /// What we may not publish, until when.
    forbidden: BTreeMap<PublishClass, MonoTime>,
    /// Commands to all devices, and when their turn is here.
    later: Vec<(MonoTime, Box<Command>)>,
    /// How much of what comes is looked at.
    gate: IncomingLimiter,
    counts: UplinkCounts,
    /// Why there is no connection, as it was reported last.
    told: Option<String>,
}

impl Delivery {
    /// A link that is not connected.
    pub fn new(site: SiteId, boot: u32, settings: &UplinkSettings) -> Delivery {
        Delivery {
            site,
            boot,
            chunk: settings.chunk,
            chunk_now: settings.chunk,
            dialect: settings.files,
            connected: None,
            limits: BrokerLimits { receive_max: 1, max_packet: u32::MAX, retain: true },
            window: 1,
            hosts: BTreeSet::new(),
            deaf: false,
            events: BTreeMap::new(),
            files: BTreeMap::new(),
            files_from: MonoTime(0),
            unsent: VecDeque::new(),
            birth: None,
            tokens: BTreeMap::new(),
            next_token: 0,
            pace: Bandwidth::new(settings.pace),
            busy: (MonoTime(0), 0),
            forbidden: BTreeMap::new(),
            later: Vec::new(),
            gate: IncomingLimiter::default(),
            counts: UplinkCounts::default(),
            told: None,
        }
    }

    /// True once the birth message is known, which names the ring: nothing is said before it.
    pub fn is_born(&self) -> bool {
        self.birth.is_some()
    }

    /// True between CONNACK and the end of the connection.
    pub fn is_connected(&self) -> bool {
        self.connected.is_some()
    }

    /// Whether archives can be heard at all.
    pub fn set_deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// True when the broker keeps retained messages.
    pub fn retains(&self) -> bool {
        self.limits.retain
    }

    /// The payload of `up/state` for connection `conn`.
    pub fn state(&self, state: &str, conn: u64, now: Timestamp) -> Vec<u8> {
        let ring = self.birth.as_ref().map(|birth| birth.ring).unwrap_or_default();
        let state = State { v: 1, state: state.into(), ring, boot: self.boot, conn, t: now.wall.rfc3339() };
        serde_json::to_vec(&state).unwrap_or_default()
    }

    /// The broker took us, and these are its limits. Files wait `calm` microseconds.
    pub fn connected(&mut self, now: Timestamp, conn: u64, limits: BrokerLimits, calm: u64, out: &mut Vec<DeliveryEffect>) {
        self.connected = Some(conn);
        self.limits = limits;
        self.told = None;
        self.counts.connects += 1;
        self.window = WINDOW.min(u64::from(limits.receive_max).saturating_sub(RESERVE).max(1));
        self.chunk_now = self.chunk.min(limits.max_packet.saturating_sub(OVERHEAD)).max(CHUNK_MIN.min(limits.max_packet / 2));
        self.files_from = now.mono.plus_micros(calm);
        (self.busy, self.forbidden) = ((MonoTime(0), 0), BTreeMap::new());
        for event in self.events.values_mut() {
            (event.due, event.patience) = (now.mono, RECEIPT_WITHIN);
        }
        self.files.values_mut().for_each(Transfer::reconnected);
        let online = (topics::up(&self.site, "state"), self.state("online", conn, now), true);
        self.unsent.push_front(online);
        self.request_config();
        out.push(DeliveryEffect::News(UplinkUpdate::Up { conn }));
        self.report_counts(out);
        self.send_birth();
        self.advance(now, out);
    }

    /// The connection is gone; everything in flight stays ours.
    pub fn lost(&mut self, reason: String, refused: bool, out: &mut Vec<DeliveryEffect>) {
        let was = self.connected.take();
        self.tokens.clear();
        self.hosts.clear();
        self.pace.lost();
        self.unsent.retain(|(_, _, retain)| !retain);
        // A broker that is away for a day is reported once, and again when the reason is another.
        if was.is_some() || self.told.as_ref() != Some(&reason) {
            self.told = Some(reason.clone());
            out.push(DeliveryEffect::News(UplinkUpdate::Down { reason, refused }));
        }
    }

    /// Takes an order; `Close` is the shell's.
    pub fn order(&mut self, now: Timestamp, order: UplinkRequest, out: &mut Vec<DeliveryEffect>) {
        match order {
            UplinkRequest::Send { entry_id, message: Message::Event { id, payload } } => {
                let (digest, due) = (Digest::of(&payload), now.mono);
                self.events.insert(entry_id, InFlightEvent { id, payload, digest, due, patience: RECEIPT_WITHIN, sent: false });
            }
            UplinkRequest::Send { entry_id, message: Message::File { manifest, source } } => {
                self.files.insert(entry_id, Transfer::new(*manifest, source));
            }
            UplinkRequest::Cancel { entry_id } => self.cancel(entry_id),
            UplinkRequest::Again { entry_id } => {
                if let Some(event) = self.events.get_mut(&entry_id).filter(|_| self.gate.resend(now)) {
                    event.due = now.mono;
                }
            }
            UplinkRequest::Birth(birth) => {
                self.birth = Some(birth);
                self.send_birth();
            }
            UplinkRequest::Spent(spent) => self.pace.restore(spent),
            UplinkRequest::Signers(signers) => self.gate.set_signers(signers),
            UplinkRequest::Health(health) if self.connected.is_some() => {
                let payload = serde_json::to_vec(&health).unwrap_or_default();
                self.keep_retained((topics::up(&self.site, "health"), payload, false));
                self.report_counts(out);
            }
            UplinkRequest::Mirror { topic, payload, retain } if self.connected.is_some() => {
                self.keep_retained((topic, payload, retain))
            }
            UplinkRequest::Reply(reply) => self.reply(&reply),
            UplinkRequest::Reported(payload) if self.connected.is_some() => {
                self.keep_retained((topics::up(&self.site, "config/reported"), payload, true));
            }
            UplinkRequest::AskForConfig if self.connected.is_some() => self.request_config(),
            UplinkRequest::Settings { settings, .. } => self.change(&settings),
            // What is reported is reported again with the next connection, and the document is asked for then.
            UplinkRequest::Health(_)
            | UplinkRequest::Mirror { .. }
            | UplinkRequest::Reported(_)
            | UplinkRequest::AskForConfig
            | UplinkRequest::Close => {}
        }
        self.advance(now, out);
    }

    fn report_counts(&mut self, out: &mut Vec<DeliveryEffect>) {
        let retries: u64 = self.files.values().map(|file| file.retries).sum();
        let file_retries = self.counts.file_retries + retries;
        let (unsigned_dropped, unverified_dropped, other_dropped) = self.gate.dropped();
        let counts = UplinkCounts {
            file_retries,
            unsigned_dropped,
            unverified_dropped,
            other_dropped,
            rate: self.pace.rate(),
            spent: self.pace.spent(),
            ..self.counts
        };
        out.push(DeliveryEffect::News(UplinkUpdate::Counts(counts)));
    }

    /// Other settings: the pace changes at once, the chunk with the next connection. The dialect of files already on their way must
    /// not change under them: they begin again.
    fn change(&mut self, settings: &UplinkSettings) {
        self.chunk = settings.chunk;
        self.pace.change(settings.pace);
        if std::mem::replace(&mut self.dialect, settings.files) != settings.files {
            self.files.values_mut().for_each(Transfer::restart);
        }
    }

    fn request_config(&mut self) {
        self.keep_retained((topics::up(&self.site, "config/get"), b"{\"v\":1}".to_vec(), false));
    }

    fn reply(&mut self, reply: &Reply) {
        let payload = serde_json::to_vec(reply).unwrap_or_default();
        self.keep_retained((topics::up(&self.site, "rsp"), payload, false));
    }

    fn keep_retained(&mut self, message: (String, Vec<u8>, bool)) {
        if self.unsent.len() >= UNSENT_MAX {
            // What is retained tells who this is and how it is: no number of answers may push it out.
            let oldest = self.unsent.iter().position(|(_, _, retain)| !retain).unwrap_or(0);
            self.unsent.remove(oldest);
            self.counts.answers_dropped += 1;
        }
        self.unsent.push_back(message);
    }

    fn send_birth(&mut self) {
        if let (Some(birth), Some(_)) = (&self.birth, self.connected) {
            let payload = serde_json::to_vec(birth).unwrap_or_default();
            self.keep_retained((topics::up(&self.site, "birth"), payload, true));
        }
    }

    /// A file is not wanted any more; the office is reported where it knows of it.
    fn cancel(&mut self, entry_id: EntryId) {
        if let Some(file) = self.files.remove(&entry_id) {
            self.keep_retained((self.file_topic(&file, "abort"), b"{\"v\":1}".to_vec(), false));
        }
        self.events.remove(&entry_id);
    }

    fn file_topic(&self, file: &Transfer, tail: &str) -> String {
        match self.dialect {
            FileProtocol::Own => topics::up(&self.site, &format!("file/{}/{tail}", file.fid)),
            FileProtocol::Emqx => emqx_file_transfer::topic(&file.fid, tail),
        }
    }

    /// The file of a message, for reading.
    pub fn source(&self, entry_id: EntryId) -> Option<crate::clip::SharedFile> {
        self.files.get(&entry_id).map(|file| file.source.clone())
    }

    /// True when the oldest publish waits for its PubAck for too long: the connection is dead, whatever TCP says.
    pub fn is_overdue(&self, now: MonoTime) -> bool {
        self.tokens.first_key_value().is_some_and(|(_, (since, _))| now.since(*since) >= ACK_WITHIN)
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
