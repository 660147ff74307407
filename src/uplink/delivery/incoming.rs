//! What the link hears: the broker's answers to publishes, the archive's receipts, commands.
//!
//! What belongs here: what each of them changes. What does not: what is published next ([`super`]).

use super::super::file_transfer::Transfer;
use super::super::topics::DownTopic;
use super::super::wire::Ack;
use super::super::{Alarm, ReturnReason, UplinkUpdate, emqx_file_transfer, topics};
use super::{Acked, Delivery, DeliveryEffect, PublishClass, PublishSubject, Token};
use crate::remote_config::signed_document::DOCUMENT_MAX;
use crate::units::{Digest, EntryId, MonoTime, Timestamp};

/// How long a broker over its quota is left alone: first and longest.
const BUSY_FIRST: u64 = 10_000_000;
const BUSY_LONGEST: u64 = 300_000_000;
/// How long a kind of message that we may not publish rests.
const FORBIDDEN: u64 = 600_000_000;

/// Bytes of a confirmation at most: an id, a digest and a nonce.
const CONFIRM_MAX: usize = 1024;
/// Seconds over which devices spread a command to all of them, unless it says `within`, and the longest that may say.
const SPREAD: u64 = 30;
const SPREAD_MAX: u64 = 3600;
/// Commands to all devices that wait at most; more are not for one device to hold.
const LATER_MAX: usize = 16;
/// Archives known to be online at most: an office has one or two, and names come from the broker.
const HOSTS_MAX: usize = 16;

impl Delivery {
    /// A message came.
    pub fn message(&mut self, now: Timestamp, topic: &str, payload: &[u8], out: &mut Vec<DeliveryEffect>) {
        match topics::read_down(&self.site, topic) {
            Some(DownTopic::Host(host)) if self.gate.host(now) => self.host(now.mono, host, payload),
            Some(DownTopic::Host(_)) => {}
            Some(DownTopic::Ack) => match serde_json::from_slice::<Ack>(payload) {
                Ok(ack) => self.ack(now.mono, ack, out),
                Err(error) => _ = self.gate.unread::<()>(now, "dn/ack", &error.to_string()),
            },
            Some(DownTopic::Command(name)) => {
                out.extend(self.gate.command(now, name, payload).map(UplinkUpdate::Command).map(DeliveryEffect::News));
            }
            Some(DownTopic::Fleet(name)) => self.fleet_command(now, name, payload),
            Some(DownTopic::Document) if !self.gate.document(now) => {}
            Some(DownTopic::Document) => {
                let bytes = if payload.len() > DOCUMENT_MAX { Vec::new() } else { payload.to_vec() };
                out.push(DeliveryEffect::News(UplinkUpdate::Document { bytes, len: payload.len() }));
            }
            Some(DownTopic::Confirm) if payload.len() <= CONFIRM_MAX && self.gate.confirm(now) => {
                out.push(DeliveryEffect::News(UplinkUpdate::Confirm(payload.to_vec())));
            }
            Some(DownTopic::Confirm) => {}
            None => {
                if let Some(answer) = emqx_file_transfer::answer(topic, payload) {
                    self.emqx_answer(now.mono, answer, out);
                }
            }
        }
        self.advance(now, out);
    }

    /// A command to all devices waits its own part of the spread, so that they do not all answer at once.
    fn fleet_command(&mut self, now: Timestamp, name: &str, payload: &[u8]) {
        let Some(command) = self.gate.command(now, name, payload).filter(|_| self.later.len() < LATER_MAX) else {
            return;
        };
        let spread = command.number("within").unwrap_or(SPREAD).min(SPREAD_MAX) * 1_000_000;
        let own = Digest::of(format!("{} {}", self.site, command.req_id).as_bytes());
        let part = u64::from(u32::from_be_bytes([own.0[0], own.0[1], own.0[2], own.0[3]]));
        self.later.push((now.mono.plus_micros((spread * part) >> 32), command));
    }

    fn host(&mut self, now: MonoTime, host: &str, payload: &[u8]) {
        let online = serde_json::from_slice::<serde_json::Value>(payload).is_ok_and(|state| state["state"] == "online");
        let full = self.hosts.len() >= HOSTS_MAX && !self.hosts.contains(host);
        let known = if online { full || !self.hosts.insert(host.to_owned()) } else { !self.hosts.remove(host) };
        // An archive that has just come may lack what its predecessor was sent.
        if online && !known {
            self.events.values_mut().for_each(|event| event.due = event.due.min(now));
            self.files.values_mut().for_each(Transfer::restart);
        }
    }

    fn by_fid(&mut self, fid: &str) -> Option<(EntryId, &mut Transfer)> {
        self.files.iter_mut().find(|(_, file)| file.fid == fid).map(|(entry_id, file)| (*entry_id, file))
    }

    /// The archive says what it has.
    fn ack(&mut self, now: MonoTime, ack: Ack, out: &mut Vec<DeliveryEffect>) {
        match ack {
            Ack::Event { id, sha256 } => {
                let found = self.events.iter().find(|(_, event)| event.id == id && event.digest == sha256);
                if let Some(entry_id) = found.map(|(entry_id, _)| *entry_id) {
                    self.events.remove(&entry_id);
                    self.receipted(entry_id, out);
                }
            }
            Ack::EventRefused { sha256, reason } => {
                let found = self.events.iter().find(|(_, event)| event.digest == sha256);
                if let Some(entry_id) = found.map(|(entry_id, _)| *entry_id) {
                    self.returned(entry_id, ReturnReason::Refused(format!("the office refuses it: {reason}")), out);
                }
            }
            Ack::Have { fid, upto, missing } => {
                let Some((entry_id, file)) = self.by_fid(&fid) else {
                    return;
                };
                file.have(now, upto, &missing);
                if file.is_hopeless() {
                    self.returned(
                        entry_id,
                        ReturnReason::Refused("the office asked for the whole file again and again".into()),
                        out,
                    );
                }
            }
            Ack::Stored { fid, sha256 } => match self.by_fid(&fid) {
                Some((entry_id, file)) if file.manifest.sha256 == sha256 => {
                    self.forget_file(entry_id);
                    self.receipted(entry_id, out);
                }
                Some((_, file)) => file.unheard(now),
                None => {}
            },
            Ack::Refused { fid, reason } => {
                if let Some((entry_id, _)) = self.by_fid(&fid) {
                    self.returned(entry_id, ReturnReason::Refused(reason), out);
                }
            }
        }
    }

    /// EMQX says what became of a part of a file.
    fn emqx_answer(&mut self, now: MonoTime, answer: emqx_file_transfer::EmqxReply, out: &mut Vec<DeliveryEffect>) {
        let Some((entry_id, file)) = self.by_fid(&answer.fid) else {
            return;
        };
        match answer.part {
            _ if !answer.good => {
                tracing::warn!(file = file.manifest.name, "EMQX: {}", answer.reason);
                file.unheard(now);
            }
            emqx_file_transfer::EmqxMessage::Init => file.have(now, 0, &[]),
            emqx_file_transfer::EmqxMessage::Chunk => file.confirmed(now),
            emqx_file_transfer::EmqxMessage::Fin => {
                self.forget_file(entry_id);
                self.receipted(entry_id, out);
            }
        }
    }

    pub(super) fn receipted(&mut self, entry_id: EntryId, out: &mut Vec<DeliveryEffect>) {
        self.counts.receipts += 1;
        out.push(DeliveryEffect::News(UplinkUpdate::Receipted { entry_id }));
    }

    pub(super) fn returned(&mut self, entry_id: EntryId, why: ReturnReason, out: &mut Vec<DeliveryEffect>) {
        self.events.remove(&entry_id);
        self.forget_file(entry_id);
        out.push(DeliveryEffect::News(UplinkUpdate::Returned { entry_id, why }));
    }

    fn forget_file(&mut self, entry_id: EntryId) {
        self.counts.file_retries += self.files.remove(&entry_id).map_or(0, |file| file.retries);
    }

    /// The broker answered a publish.
    pub fn acked(&mut self, now: Timestamp, token: Token, acked: Acked, out: &mut Vec<DeliveryEffect>) {
        let Some((_, about)) = self.tokens.remove(&token) else {
            return;
        };
        if let PublishSubject::File(_, bytes @ 1..) = about {
            self.pace.acked(now.mono, bytes);
        }
        match acked {
            Acked::Taken => {
                self.counts.acked += 1;
                self.busy.1 = 0;
                if let PublishSubject::File(entry_id, 0) = about
                    && let Some(file) = self.files.get_mut(&entry_id)
                {
                    file.taken(now.mono);
                }
            }
            Acked::Unheard => {
                if let PublishSubject::File(entry_id, _) = about
                    && let Some(file) = self.files.get_mut(&entry_id)
                {
                    file.unheard(now.mono);
                }
            }
            Acked::Busy(reason) => self.broker_busy(now.mono, about, &reason),
            Acked::Forbidden(reason) => self.forbid(now.mono, about.class(), reason, out),
            Acked::Invalid(reason) => {
                self.counts.refused += 1;
                if let PublishSubject::Event(entry_id) | PublishSubject::File(entry_id, _) = about {
                    self.returned(entry_id, ReturnReason::Refused(reason), out);
                }
            }
        }
        self.advance(now, out);
    }

    fn broker_busy(&mut self, now: MonoTime, about: PublishSubject, reason: &str) {
        let (_, times) = self.busy;
        let pause = BUSY_FIRST.saturating_mul(1 << times.min(10)).min(BUSY_LONGEST);
        tracing::warn!(pause_s = pause / 1_000_000, "the broker takes nothing for now: {reason}");
        self.busy = (now.plus_micros(pause), times + 1);
        match about {
            PublishSubject::Event(entry_id) => self.events.get_mut(&entry_id).into_iter().for_each(|event| event.due = now),
            PublishSubject::File(entry_id, _) => self.files.get_mut(&entry_id).into_iter().for_each(Transfer::restart),
            PublishSubject::Other => {}
        }
    }

    /// We may not publish this kind of message: somebody must look, and asking again at once helps nobody.
    fn forbid(&mut self, now: MonoTime, class: PublishClass, reason: String, out: &mut Vec<DeliveryEffect>) {
        self.counts.refused += 1;
        if self.forbidden.insert(class, now.plus_micros(FORBIDDEN)).is_none() {
            let what = match class {
                PublishClass::Event => "events",
                PublishClass::File => "files",
                PublishClass::Other => "state, health or answers",
            };
            let detail = format!("the broker does not let this box publish {what} ({reason}): look at its access list");
            out.push(DeliveryEffect::News(UplinkUpdate::Alarm { what: Alarm::NotAuthorized, detail }));
        }
        self.files.values_mut().filter(|_| class == PublishClass::File).for_each(Transfer::restart);
        self.events.values_mut().filter(|_| class == PublishClass::Event).for_each(|event| event.due = now);
    }
}
