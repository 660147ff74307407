//! What the link hears: the broker's answers to publishes, the archive's receipts, commands.
//!
//! What belongs here: what each of them changes. What does not: what is published next ([`super`]).

use super::super::topics::Down;
use super::super::transfer::Transfer;
use super::super::wire::Ack;
use super::super::{Alarm, ReturnReason, UplinkNews, emqx, topics};
use super::{About, Acked, Class, Effect, Link, Token};
use crate::config::document::DOCUMENT_MAX;
use crate::units::{Digest, Mono, Stamp, Ticket};

/// How long a broker over its quota is left alone: first and longest.
const BUSY_FIRST: u64 = 10_000_000;
const BUSY_LONGEST: u64 = 300_000_000;
/// How long a kind of message that we may not publish rests.
const FORBIDDEN: u64 = 600_000_000;

/// Bytes of a confirmation at most: an id, a digest and a nonce.
const CONFIRM_MAX: usize = 1024;
/// Seconds over which boxes spread a command to all of them, unless it says `within`, and the longest that may say.
const SPREAD: u64 = 30;
const SPREAD_MAX: u64 = 3600;
/// Commands to all boxes that wait at most; more are not for one box to hold.
const LATER_MAX: usize = 16;
/// Archives known to be online at most: an office has one or two, and names come from the broker.
const HOSTS_MAX: usize = 16;

impl Link {
    /// A message came.
    pub fn message(&mut self, now: Stamp, topic: &str, payload: &[u8], out: &mut Vec<Effect>) {
        match topics::read_down(&self.site, topic) {
            Some(Down::Host(host)) if self.gate.host(now) => self.host(now.mono, host, payload),
            Some(Down::Host(_)) => {}
            Some(Down::Ack) => match serde_json::from_slice::<Ack>(payload) {
                Ok(ack) => self.ack(now.mono, ack, out),
                Err(error) => _ = self.gate.unread::<()>(now, "dn/ack", &error.to_string()),
            },
            Some(Down::Command(name)) => {
                out.extend(self.gate.command(now, name, payload).map(UplinkNews::Command).map(Effect::News));
            }
            Some(Down::Fleet(name)) => self.fleet_command(now, name, payload),
            Some(Down::Document) if !self.gate.document(now) => {}
            Some(Down::Document) => {
                let bytes = if payload.len() > DOCUMENT_MAX { Vec::new() } else { payload.to_vec() };
                out.push(Effect::News(UplinkNews::Document { bytes, len: payload.len() }));
            }
            Some(Down::Confirm) if payload.len() <= CONFIRM_MAX && self.gate.confirm(now) => {
                out.push(Effect::News(UplinkNews::Confirm(payload.to_vec())));
            }
            Some(Down::Confirm) => {}
            None => {
                if let Some(answer) = emqx::answer(topic, payload) {
                    self.emqx_answer(now.mono, answer, out);
                }
            }
        }
        self.advance(now, out);
    }

    /// A command to all boxes waits its own part of the spread, so that they do not all answer at once.
    fn fleet_command(&mut self, now: Stamp, name: &str, payload: &[u8]) {
        let Some(command) = self.gate.command(now, name, payload).filter(|_| self.later.len() < LATER_MAX) else {
            return;
        };
        let spread = command.number("within").unwrap_or(SPREAD).min(SPREAD_MAX) * 1_000_000;
        let own = Digest::of(format!("{} {}", self.site, command.req_id).as_bytes());
        let part = u64::from(u32::from_be_bytes([own.0[0], own.0[1], own.0[2], own.0[3]]));
        self.later.push((now.mono.plus_micros((spread * part) >> 32), command));
    }

    fn host(&mut self, now: Mono, host: &str, payload: &[u8]) {
        let online = serde_json::from_slice::<serde_json::Value>(payload).is_ok_and(|state| state["state"] == "online");
        let full = self.hosts.len() >= HOSTS_MAX && !self.hosts.contains(host);
        let known = if online { full || !self.hosts.insert(host.to_owned()) } else { !self.hosts.remove(host) };
        // An archive that has just come may lack what its predecessor was sent.
        if online && !known {
            self.events.values_mut().for_each(|event| event.due = event.due.min(now));
            self.files.values_mut().for_each(Transfer::restart);
        }
    }

    fn by_fid(&mut self, fid: &str) -> Option<(Ticket, &mut Transfer)> {
        self.files.iter_mut().find(|(_, file)| file.fid == fid).map(|(ticket, file)| (*ticket, file))
    }

    /// The archive says what it has.
    fn ack(&mut self, now: Mono, ack: Ack, out: &mut Vec<Effect>) {
        match ack {
            Ack::Event { id, sha256 } => {
                let found = self.events.iter().find(|(_, event)| event.id == id && event.digest == sha256);
                if let Some(ticket) = found.map(|(ticket, _)| *ticket) {
                    self.events.remove(&ticket);
                    self.receipted(ticket, out);
                }
            }
            Ack::EventRefused { sha256, reason } => {
                let found = self.events.iter().find(|(_, event)| event.digest == sha256);
                if let Some(ticket) = found.map(|(ticket, _)| *ticket) {
                    self.returned(ticket, ReturnReason::Refused(format!("the office refuses it: {reason}")), out);
                }
            }
            Ack::Have { fid, upto, missing } => {
                let Some((ticket, file)) = self.by_fid(&fid) else {
                    return;
                };
                file.have(now, upto, &missing);
                if file.is_hopeless() {
                    self.returned(
                        ticket,
                        ReturnReason::Refused("the office asked for the whole file again and again".into()),
                        out,
                    );
                }
            }
            Ack::Stored { fid, sha256 } => match self.by_fid(&fid) {
                Some((ticket, file)) if file.manifest.sha256 == sha256 => {
                    self.forget_file(ticket);
                    self.receipted(ticket, out);
                }
                Some((_, file)) => file.unheard(now),
                None => {}
            },
            Ack::Refused { fid, reason } => {
                if let Some((ticket, _)) = self.by_fid(&fid) {
                    self.returned(ticket, ReturnReason::Refused(reason), out);
                }
            }
        }
    }

    /// EMQX says what became of a part of a file.
    fn emqx_answer(&mut self, now: Mono, answer: emqx::Answer, out: &mut Vec<Effect>) {
        let Some((ticket, file)) = self.by_fid(&answer.fid) else {
            return;
        };
        match answer.part {
            _ if !answer.good => {
                tracing::warn!(file = file.manifest.name, "EMQX: {}", answer.reason);
                file.unheard(now);
            }
            emqx::Part::Init => file.have(now, 0, &[]),
            emqx::Part::Chunk => file.confirmed(now),
            emqx::Part::Fin => {
                self.forget_file(ticket);
                self.receipted(ticket, out);
            }
        }
    }

    pub(super) fn receipted(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        self.counts.receipts += 1;
        out.push(Effect::News(UplinkNews::Receipted { ticket }));
    }

    pub(super) fn returned(&mut self, ticket: Ticket, why: ReturnReason, out: &mut Vec<Effect>) {
        self.events.remove(&ticket);
        self.forget_file(ticket);
        out.push(Effect::News(UplinkNews::Returned { ticket, why }));
    }

    fn forget_file(&mut self, ticket: Ticket) {
        self.counts.file_retries += self.files.remove(&ticket).map_or(0, |file| file.retries);
    }

    /// The broker answered a publish.
    pub fn acked(&mut self, now: Stamp, token: Token, acked: Acked, out: &mut Vec<Effect>) {
        let Some((_, about)) = self.tokens.remove(&token) else {
            return;
        };
        if let About::File(_, bytes @ 1..) = about {
            self.pace.acked(now.mono, bytes);
        }
        match acked {
            Acked::Taken => {
                self.counts.acked += 1;
                self.busy.1 = 0;
                if let About::File(ticket, 0) = about
                    && let Some(file) = self.files.get_mut(&ticket)
                {
                    file.taken(now.mono);
                }
            }
            Acked::Unheard => {
                if let About::File(ticket, _) = about
                    && let Some(file) = self.files.get_mut(&ticket)
                {
                    file.unheard(now.mono);
                }
            }
            Acked::Busy(reason) => self.broker_busy(now.mono, about, &reason),
            Acked::Forbidden(reason) => self.forbid(now.mono, about.class(), reason, out),
            Acked::Invalid(reason) => {
                self.counts.refused += 1;
                if let About::Event(ticket) | About::File(ticket, _) = about {
                    self.returned(ticket, ReturnReason::Refused(reason), out);
                }
            }
        }
        self.advance(now, out);
    }

    fn broker_busy(&mut self, now: Mono, about: About, reason: &str) {
        let (_, times) = self.busy;
        let pause = BUSY_FIRST.saturating_mul(1 << times.min(10)).min(BUSY_LONGEST);
        tracing::warn!(pause_s = pause / 1_000_000, "the broker takes nothing for now: {reason}");
        self.busy = (now.plus_micros(pause), times + 1);
        match about {
            About::Event(ticket) => self.events.get_mut(&ticket).into_iter().for_each(|event| event.due = now),
            About::File(ticket, _) => self.files.get_mut(&ticket).into_iter().for_each(Transfer::restart),
            About::Other => {}
        }
    }

    /// We may not publish this kind of message: somebody must look, and asking again at once helps nobody.
    fn forbid(&mut self, now: Mono, class: Class, reason: String, out: &mut Vec<Effect>) {
        self.counts.refused += 1;
        if self.forbidden.insert(class, now.plus_micros(FORBIDDEN)).is_none() {
            let what = match class {
                Class::Event => "events",
                Class::File => "files",
                Class::Other => "state, health or answers",
            };
            let detail = format!("the broker does not let this box publish {what} ({reason}): look at its access list");
            out.push(Effect::News(UplinkNews::Alarm { what: Alarm::NotAuthorized, detail }));
        }
        self.files.values_mut().filter(|_| class == Class::File).for_each(Transfer::restart);
        self.events.values_mut().filter(|_| class == Class::Event).for_each(|event| event.due = now);
    }
}
