//! The link: what is published when, and when a letter counts as delivered. A PubAck only means that the broker has it;
//! delivered means that the office's archive said so, with the hash.
//!
//! What belongs here: the exchange, pure: inputs are what the broker and the card did, effects what to publish and to read.
//! What does not: sockets and packet ids ([`super::mqtt`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::topics::{self, Down};
use super::transfer::{CHUNK_MIN, Step, Transfer};
use super::wire::{Ack, Birth, Command, Reply, State};
use super::{Letter, ReturnReason, UplinkCounts, UplinkNews, UplinkOrder};
use crate::config::document::DOCUMENT_MAX;
use crate::units::{Boot, Digest, Mono, SiteId, Stamp, Ticket};

/// Microseconds an event waits for its receipt before it is published again; doubled each time up to the longest.
const RECEIPT_WITHIN: u64 = 30_000_000;
const RECEIPT_LONGEST: u64 = 300_000_000;
/// Publishes without PubAck at most, whatever the broker allows.
const WINDOW: usize = 16;
/// Bytes of topic and header allowed for beside a chunk.
const OVERHEAD: u32 = 256;
/// Answers and births waiting for a connection at most; older ones are dropped, the caller asks again.
const UNSENT_MAX: usize = 32;
/// Bytes of a confirmation at most: an id, a digest and a nonce.
const CONFIRM_MAX: usize = 1024;

/// The number of a connection: higher than every one before on this ring. Tries of one start have 32 bits of their own, so that no
/// number of them reaches into the next start.
pub fn connection_number(boot: Boot, tries: u32) -> u64 {
    u64::from(boot.0) << 32 | u64::from(tries)
}

/// What names a publish until its PubAck.
pub type Token = u64;

/// One thing for the shell to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Publish with QoS 1.
    Publish {
        /// Come back with [`Link::acked`] under this name.
        token: Token,
        /// Where to.
        topic: String,
        /// What.
        payload: Vec<u8>,
        /// Keep as the topic's last value.
        retain: bool,
    },
    /// Read bytes of a file and come back with [`Link::chunk`].
    Read {
        /// The file's letter.
        ticket: Ticket,
        /// From.
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// Tell the agent.
    News(UplinkNews),
}

/// An event on its way.
struct EventLetter {
    id: String,
    payload: Vec<u8>,
    digest: Digest,
    /// When to publish it (again).
    due: Mono,
    /// How long the next receipt may take.
    patience: u64,
    /// It was published before.
    sent: bool,
}

/// The link of one box.
pub struct Link {
    site: SiteId,
    boot: u32,
    chunk: u32,
    connected: Option<u64>,
    window: usize,
    hosts: BTreeSet<String>,
    events: BTreeMap<Ticket, EventLetter>,
    files: BTreeMap<Ticket, Transfer>,
    /// Small messages that go first: state, birth, answers, health.
    unsent: VecDeque<(String, Vec<u8>, bool)>,
    birth: Option<Box<Birth>>,
    tokens: BTreeMap<Token, Option<Ticket>>,
    next_token: Token,
    counts: UplinkCounts,
    /// Why there is no connection, as it was told last.
    told: Option<String>,
}

impl Link {
    /// A link that is not connected. `chunk` is the largest chunk in bytes.
    pub fn new(site: SiteId, boot: u32, chunk: u32) -> Link {
        Link {
            site,
            boot,
            chunk,
            connected: None,
            window: WINDOW,
            hosts: BTreeSet::new(),
            events: BTreeMap::new(),
            files: BTreeMap::new(),
            unsent: VecDeque::new(),
            birth: None,
            tokens: BTreeMap::new(),
            next_token: 0,
            counts: UplinkCounts::default(),
            told: None,
        }
    }

    /// True once the birth message is known, which names the ring: nothing is said before it.
    pub fn is_born(&self) -> bool {
        self.birth.is_some()
    }

    /// The payload of `up/state` for connection `conn`.
    pub fn state(&self, state: &str, conn: u64, now: Stamp) -> Vec<u8> {
        let ring = self.birth.as_ref().map(|birth| birth.ring).unwrap_or_default();
        let state = State { v: 1, state: state.into(), ring, boot: self.boot, conn, t: now.wall.rfc3339() };
        serde_json::to_vec(&state).unwrap_or_default()
    }

    /// The broker took us; `receive_max` and `max_packet` are its limits.
    pub fn connected(&mut self, now: Stamp, conn: u64, receive_max: u16, max_packet: u32, out: &mut Vec<Effect>) {
        self.connected = Some(conn);
        self.told = None;
        self.counts.connects += 1;
        self.window = WINDOW.min(usize::from(receive_max).saturating_sub(4).max(1));
        let chunk = self.chunk.min(max_packet.saturating_sub(OVERHEAD)).max(CHUNK_MIN.min(max_packet / 2));
        for event in self.events.values_mut() {
            (event.due, event.patience) = (now.mono, RECEIPT_WITHIN);
        }
        self.files.values_mut().for_each(|file| file.restart(chunk));
        self.chunk = chunk;
        let online = (topics::up(&self.site, "state"), self.state("online", conn, now), true);
        self.unsent.push_front(online);
        self.ask_for_config();
        out.push(Effect::News(UplinkNews::Up { conn }));
        out.push(Effect::News(UplinkNews::Counts(self.counts)));
        self.send_birth();
        self.advance(now.mono, out);
    }

    /// The connection is gone; everything in flight stays ours.
    pub fn lost(&mut self, reason: String, refused: bool, out: &mut Vec<Effect>) {
        let was = self.connected.take();
        self.tokens.clear();
        self.hosts.clear();
        self.unsent.retain(|(_, _, retain)| !retain);
        // A broker that is away for a day is told once, and again when the reason is another.
        if was.is_some() || self.told.as_ref() != Some(&reason) {
            self.told = Some(reason.clone());
            out.push(Effect::News(UplinkNews::Down { reason, refused }));
        }
    }

    /// Takes an order; `Close` is the shell's.
    pub fn order(&mut self, now: Mono, order: UplinkOrder, out: &mut Vec<Effect>) {
        match order {
            UplinkOrder::Send { ticket, letter: Letter::Event { id, payload } } => {
                let digest = Digest::of(&payload);
                self.events.insert(ticket, EventLetter { id, payload, digest, due: now, patience: RECEIPT_WITHIN, sent: false });
            }
            UplinkOrder::Send { ticket, letter: Letter::File { manifest, source } } => {
                self.files.insert(ticket, Transfer::new(*manifest, source, self.chunk));
            }
            UplinkOrder::Birth(birth) => {
                self.birth = Some(birth);
                self.send_birth();
            }
            UplinkOrder::Health(health) if self.connected.is_some() => {
                let payload = serde_json::to_vec(&health).unwrap_or_default();
                self.keep((topics::up(&self.site, "health"), payload, false));
                out.push(Effect::News(UplinkNews::Counts(self.counts)));
            }
            UplinkOrder::Reply(reply) => self.reply(&reply),
            UplinkOrder::Reported(payload) if self.connected.is_some() => {
                self.keep((topics::up(&self.site, "config/reported"), payload, true));
            }
            UplinkOrder::AskForConfig if self.connected.is_some() => self.ask_for_config(),
            UplinkOrder::Settings { settings, .. } => self.chunk = settings.chunk,
            // What is reported is reported anew with the next connection, and the document is asked for then.
            UplinkOrder::Health(_) | UplinkOrder::Reported(_) | UplinkOrder::AskForConfig | UplinkOrder::Close => {}
        }
        self.advance(now, out);
    }

    fn ask_for_config(&mut self) {
        self.keep((topics::up(&self.site, "config/get"), b"{\"v\":1}".to_vec(), false));
    }

    fn reply(&mut self, reply: &Reply) {
        let payload = serde_json::to_vec(reply).unwrap_or_default();
        self.keep((topics::up(&self.site, "rsp"), payload, false));
    }

    fn keep(&mut self, message: (String, Vec<u8>, bool)) {
        if self.unsent.len() >= UNSENT_MAX {
            self.unsent.pop_front();
        }
        self.unsent.push_back(message);
    }

    fn send_birth(&mut self) {
        if let (Some(birth), Some(_)) = (&self.birth, self.connected) {
            let payload = serde_json::to_vec(birth).unwrap_or_default();
            self.keep((topics::up(&self.site, "birth"), payload, true));
        }
    }

    /// A message came.
    pub fn message(&mut self, now: Mono, topic: &str, payload: &[u8], out: &mut Vec<Effect>) {
        match topics::read_down(&self.site, topic) {
            Some(Down::Host(host)) => {
                let online = serde_json::from_slice::<serde_json::Value>(payload).is_ok_and(|state| state["state"] == "online");
                let known = if online { !self.hosts.insert(host.to_owned()) } else { !self.hosts.remove(host) };
                // An archive that has just come may lack what its predecessor was sent.
                if online && !known {
                    self.events.values_mut().for_each(|event| event.due = event.due.min(now));
                    self.files.values_mut().for_each(|file| file.restart(self.chunk));
                }
            }
            Some(Down::Ack) => match serde_json::from_slice::<Ack>(payload) {
                Ok(ack) => self.ack(now, ack, out),
                Err(error) => tracing::warn!("a receipt that cannot be read: {error}"),
            },
            Some(Down::Command(name)) => match serde_json::from_slice::<Command>(payload) {
                Ok(command) => {
                    let command = Box::new(Command { name: name.to_owned(), ..command });
                    out.push(Effect::News(UplinkNews::Command(command)));
                }
                Err(error) => tracing::warn!(name, "a command that cannot be read: {error}"),
            },
            Some(Down::Document) => {
                let bytes = if payload.len() > DOCUMENT_MAX { Vec::new() } else { payload.to_vec() };
                out.push(Effect::News(UplinkNews::Document { bytes, len: payload.len() }));
            }
            Some(Down::Confirm) if payload.len() <= CONFIRM_MAX => {
                out.push(Effect::News(UplinkNews::Confirm(payload.to_vec())));
            }
            Some(Down::Confirm) | None => {}
        }
        self.advance(now, out);
    }

    /// The archive says what it has.
    fn ack(&mut self, now: Mono, ack: Ack, out: &mut Vec<Effect>) {
        let by_fid =
            |files: &BTreeMap<Ticket, Transfer>, fid: &str| files.iter().find(|(_, file)| file.fid == fid).map(|(t, _)| *t);
        match ack {
            Ack::Event { id, sha256 } => {
                let found = self.events.iter().find(|(_, event)| event.id == id && event.digest == sha256);
                if let Some(ticket) = found.map(|(ticket, _)| *ticket) {
                    self.events.remove(&ticket);
                    self.receipted(ticket, out);
                }
            }
            Ack::Have { fid, upto, missing } => {
                if let Some(file) = by_fid(&self.files, &fid).and_then(|ticket| self.files.get_mut(&ticket)) {
                    file.have(now, upto, &missing);
                }
            }
            Ack::Stored { fid, sha256 } => {
                if let Some(ticket) = by_fid(&self.files, &fid) {
                    if self.files.get(&ticket).is_some_and(|file| file.manifest.sha256 == sha256) {
                        self.files.remove(&ticket);
                        self.receipted(ticket, out);
                    } else if let Some(file) = self.files.get_mut(&ticket) {
                        file.restart(self.chunk);
                    }
                }
            }
            Ack::Refused { fid, reason } => {
                if let Some(ticket) = by_fid(&self.files, &fid) {
                    self.returned(ticket, ReturnReason::Refused(reason), out);
                }
            }
        }
    }

    fn receipted(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        self.counts.receipts += 1;
        out.push(Effect::News(UplinkNews::Receipted { ticket }));
    }

    fn returned(&mut self, ticket: Ticket, why: ReturnReason, out: &mut Vec<Effect>) {
        self.events.remove(&ticket);
        self.files.remove(&ticket);
        out.push(Effect::News(UplinkNews::Returned { ticket, why }));
    }

    /// The broker acknowledged a publish, or refused it for good with a reason.
    pub fn acked(&mut self, now: Mono, token: Token, refused: Option<String>, out: &mut Vec<Effect>) {
        let Some(ticket) = self.tokens.remove(&token) else {
            return;
        };
        self.counts.acked += 1;
        if let (Some(ticket), Some(reason)) = (ticket, refused) {
            self.returned(ticket, ReturnReason::Refused(reason), out);
        }
        self.advance(now, out);
    }

    /// Bytes of a file that were asked for.
    pub fn chunk(&mut self, now: Mono, ticket: Ticket, offset: u64, bytes: Result<Vec<u8>, String>, out: &mut Vec<Effect>) {
        let site = self.site.clone();
        let Some(file) = self.files.get_mut(&ticket) else {
            return;
        };
        match bytes {
            Ok(bytes) => {
                if self.connected.is_some()
                    && let Some(again) = file.sent(now, offset, bytes.len() as u64)
                {
                    self.counts.resent += again;
                    let topic = topics::up(&site, &format!("file/{}/{offset}", file.fid));
                    self.publish(Some(ticket), topic, bytes, false, out);
                }
            }
            Err(reason) => {
                let topic = topics::up(&site, &format!("file/{}/abort", file.fid));
                self.keep((topic, b"{\"v\":1}".to_vec(), false));
                self.returned(ticket, ReturnReason::Unreadable(reason), out);
            }
        }
        self.advance(now, out);
    }

    /// Time passes.
    pub fn advance(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if self.connected.is_none() {
            return;
        }
        while self.tokens.len() < self.window
            && let Some((topic, payload, retain)) = self.unsent.pop_front()
        {
            self.publish(None, topic, payload, retain, out);
        }
        while self.tokens.len() < self.window
            && let Some(ticket) = self.events.iter().find(|(_, event)| event.due <= now).map(|(ticket, _)| *ticket)
        {
            self.send_event(now, ticket, out);
        }
        let tickets: Vec<Ticket> = if self.hosts.is_empty() { Vec::new() } else { self.files.keys().copied().collect() };
        for ticket in tickets {
            self.advance_file(now, ticket, out);
        }
    }

    fn send_event(&mut self, now: Mono, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(event) = self.events.get_mut(&ticket) else {
            return;
        };
        event.due = now.plus_micros(event.patience);
        event.patience = (event.patience * 2).min(RECEIPT_LONGEST);
        let payload = event.payload.clone();
        if std::mem::replace(&mut event.sent, true) {
            self.counts.resent += payload.len() as u64;
        }
        self.publish(Some(ticket), topics::up(&self.site, "event"), payload, false, out);
    }

    fn advance_file(&mut self, now: Mono, ticket: Ticket, out: &mut Vec<Effect>) {
        while self.tokens.len() < self.window
            && let Some(step) = self.files.get_mut(&ticket).and_then(|file| file.next(now))
        {
            let Some(file) = self.files.get(&ticket) else {
                return;
            };
            let topic = |tail: &str| topics::up(&self.site, &format!("file/{}/{tail}", file.fid));
            match step {
                Step::Init => {
                    let (topic, payload) = (topic("init"), file.manifest.bytes());
                    self.publish(Some(ticket), topic, payload, false, out);
                }
                Step::Fin => {
                    let topic = topic("fin");
                    self.publish(Some(ticket), topic, b"{\"v\":1}".to_vec(), false, out);
                }
                Step::Read { offset, len } => {
                    out.push(Effect::Read { ticket, offset, len });
                    return;
                }
            }
        }
    }

    fn publish(&mut self, ticket: Option<Ticket>, topic: String, payload: Vec<u8>, retain: bool, out: &mut Vec<Effect>) {
        self.next_token += 1;
        self.counts.bytes += payload.len() as u64;
        self.tokens.insert(self.next_token, ticket);
        out.push(Effect::Publish { token: self.next_token, topic, payload, retain });
    }

    /// The file of a letter, for reading.
    pub fn source(&self, ticket: Ticket) -> Option<crate::clip::SharedFile> {
        self.files.get(&ticket).map(|file| file.source.clone())
    }

    /// True when publishes wait for their PubAck.
    pub fn awaits_acks(&self) -> bool {
        !self.tokens.is_empty()
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
