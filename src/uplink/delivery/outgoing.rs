//! What the link sends: small messages first, then events that are due, then files at their pace.
//!
//! What belongs here: what is published next. What does not: what the answers to it change ([`super::answers`]).

use std::collections::BTreeMap;

use super::super::bandwidth::Hold;
use super::super::file_transfer::{Step, Transfer};
use super::super::wire::Purpose;
use super::super::{ReturnReason, UplinkNews, emqx_file_transfer, topics};
use super::{About, Class, Effect, HEADER, Link, RECEIPT_LONGEST};
use crate::settings::Dialect;
use crate::units::{Mono, Stamp, Ticket};

impl Link {
    /// Bytes of a file that were asked for.
    pub fn chunk(&mut self, now: Stamp, ticket: Ticket, offset: u64, bytes: Result<Vec<u8>, String>, out: &mut Vec<Effect>) {
        let Some(file) = self.files.get_mut(&ticket) else {
            return;
        };
        match bytes {
            Ok(bytes) => {
                let len = bytes.len() as u64;
                if self.connected.is_some()
                    && let Some(again) = file.sent(now.mono, offset, len)
                {
                    self.counts.resent += again;
                    self.pace.sent(now.mono, len);
                    if let Some(file) = self.files.get(&ticket) {
                        let topic = self.file_topic(file, &offset.to_string());
                        self.publish(now, About::File(ticket, len), topic, bytes, false, out);
                    }
                }
            }
            Err(reason) => {
                self.cancel(ticket);
                self.returned(ticket, ReturnReason::Unreadable(reason), out);
            }
        }
        self.advance(now, out);
    }

    /// Time passes.
    pub fn advance(&mut self, now: Stamp, out: &mut Vec<Effect>) {
        let due = self.later.extract_if(.., |(at, _)| *at <= now.mono);
        out.extend(due.map(|(_, command)| Effect::News(UplinkNews::Command(command))));
        self.gate.tell(now);
        if self.connected.is_none() {
            return;
        }
        if self.gate.asks_again(now) {
            self.ask_for_config();
        }
        while self.has_room()
            && let Some((topic, payload, retain)) = self.unsent.pop_front()
        {
            if self.fits(&topic, payload.len()) {
                self.publish(now, About::Other, topic, payload, retain, out);
            } else {
                tracing::warn!(topic, bytes = payload.len(), "larger than the broker's packets: not said");
            }
        }
        if now.mono < self.busy.0 {
            return;
        }
        let allowed = |forbidden: &BTreeMap<Class, Mono>, class| forbidden.get(&class).is_none_or(|until| now.mono >= *until);
        while self.has_room()
            && allowed(&self.forbidden, Class::Event)
            && let Some(ticket) = self.events.iter().find(|(_, event)| event.due <= now.mono).map(|(ticket, _)| *ticket)
        {
            self.send_event(now, ticket, out);
        }
        let heard = self.dialect == Dialect::Emqx || self.deaf || !self.hosts.is_empty();
        if heard && now.mono >= self.files_from && allowed(&self.forbidden, Class::File) {
            for ticket in self.files.keys().copied().collect::<Vec<_>>() {
                self.advance_file(now, ticket, out);
            }
        }
    }

    /// A further publish stays within the window, counted from the oldest one that is not acknowledged.
    fn has_room(&self) -> bool {
        self.tokens.first_key_value().is_none_or(|(oldest, _)| self.next_token + 1 - oldest < self.window)
    }

    fn fits(&self, topic: &str, payload: usize) -> bool {
        topic.len() + payload + HEADER <= self.limits.max_packet as usize
    }

    fn send_event(&mut self, now: Stamp, ticket: Ticket, out: &mut Vec<Effect>) {
        let topic = topics::up(&self.site, "event");
        let Some(event) = self.events.get_mut(&ticket) else {
            return;
        };
        event.due = now.mono.plus_micros(event.patience);
        event.patience = (event.patience * 2).min(RECEIPT_LONGEST);
        let payload = event.payload.clone();
        if std::mem::replace(&mut event.sent, true) {
            self.counts.resent += payload.len() as u64;
        }
        if self.fits(&topic, payload.len()) {
            self.publish(now, About::Event(ticket), topic, payload, false, out);
        } else {
            self.too_large(ticket, payload.len(), out);
        }
    }

    fn too_large(&mut self, ticket: Ticket, bytes: usize, out: &mut Vec<Effect>) {
        let most = self.limits.max_packet;
        self.returned(
            ticket,
            ReturnReason::Refused(format!("{bytes} bytes are more than the broker's packets hold ({most})")),
            out,
        );
    }

    fn advance_file(&mut self, now: Stamp, ticket: Ticket, out: &mut Vec<Effect>) {
        let chunk = self.pace.chunk(self.chunk_now);
        while self.has_room()
            && let Some(file) = self.files.get_mut(&ticket)
            && let Some(step) = file.wants(now.mono, chunk)
        {
            if let Step::Read { offset, len } = step {
                match self.pace.hold(now, len, file.manifest.purpose != Purpose::Clip) {
                    None => {
                        file.take(now.mono, step);
                        out.push(Effect::Read { ticket, offset, len });
                    }
                    Some(Hold::Flying) => {}
                    Some(Hold::Cap | Hold::Budget | Hold::Quiet) => file.held(now.mono),
                }
                return;
            }
            file.take(now.mono, step);
            let Some(file) = self.files.get(&ticket) else {
                return;
            };
            let (tail, payload) = self.words(file, step);
            let topic = self.file_topic(file, &tail);
            if !self.fits(&topic, payload.len()) {
                return self.too_large(ticket, payload.len(), out);
            }
            self.publish(now, About::File(ticket, 0), topic, payload, false, out);
        }
    }

    /// The end of the topic, and the payload, of `init` or `fin`.
    fn words(&self, file: &Transfer, step: Step) -> (String, Vec<u8>) {
        match (self.dialect, step == Step::Init) {
            (Dialect::Own, true) => ("init".into(), file.manifest.bytes()),
            (Dialect::Own, false) => ("fin".into(), b"{\"v\":1}".to_vec()),
            (Dialect::Emqx, true) => ("init".into(), emqx_file_transfer::init(&file.manifest)),
            (Dialect::Emqx, false) => (emqx_file_transfer::fin(&file.manifest), Vec::new()),
        }
    }

    fn publish(&mut self, now: Stamp, about: About, topic: String, payload: Vec<u8>, retain: bool, out: &mut Vec<Effect>) {
        self.next_token += 1;
        self.counts.bytes += payload.len() as u64;
        self.pace.count(now, (topic.len() + payload.len() + HEADER) as u64);
        self.tokens.insert(self.next_token, (now.mono, about));
        out.push(Effect::Publish { token: self.next_token, topic, payload, retain: retain && self.limits.retain });
    }
}
