//! What the uplink tells: connections, receipts, refusals, alarms; and what is told to those who listen in other dialects.
//!
//! What belongs here: what follows from each of them. What does not: commands ([`super::commands`]), the exchange (the uplink room).

use serde_json::json;

use super::desk::{Note, What, letter};
use super::entry::{Body, Entry};
use super::events::{self, kind};
use super::{Agent, Effect};
use crate::config::machine;
use crate::units::{Stamp, Ticket};
use crate::uplink::{Alarm, ReturnReason, UplinkNews, UplinkOrder, mirror};

/// Microseconds between two events of the same alarm of the uplink.
const ALARM_EVERY: u64 = 3_600_000_000;

impl Agent {
    pub(super) fn uplink_news(&mut self, now: Stamp, news: UplinkNews, out: &mut Vec<Effect>) {
        match news {
            UplinkNews::Up { conn } => {
                tracing::info!(conn, "connected to the office's broker");
                self.connected = true;
                self.outbox.up();
                let (birth, moving) = (self.birth(now), self.incidents.is_moving());
                let greeting = mirror::greeting(self.settings.uplink.integrations, &self.site, &birth, moving, now.wall);
                tell_mirrors(greeting, out);
            }
            UplinkNews::Down { reason, refused } => {
                tracing::warn!(refused, "no broker: {reason}");
                self.connected = false;
                self.configure(now, machine::Input::NoSession(reason), out);
            }
            UplinkNews::Session { epoch, broker } => self.configure(now, machine::Input::Session { epoch, broker }, out),
            UplinkNews::Document { bytes, len } => self.configure(now, machine::Input::Document { bytes, len }, out),
            UplinkNews::Confirm(bytes) => self.configure(now, machine::Input::Confirm(bytes), out),
            UplinkNews::Receipted { ticket } => {
                self.outbox.receipted(ticket);
                self.gauges.receipted += 1;
                self.let_go(ticket);
            }
            UplinkNews::Returned { ticket, why: ReturnReason::Unreadable(reason) } => {
                self.outbox.receipted(ticket);
                self.spoiled(now, ticket, &reason);
            }
            UplinkNews::Returned { ticket, why: ReturnReason::Refused(reason) } => self.refused(now, ticket, &reason),
            UplinkNews::Alarm { what, detail } => self.alarm(now, what, &detail),
            UplinkNews::Command(command) => self.command(now, *command, out),
            UplinkNews::Counts(counts) => self.gauges.uplink = counts,
            UplinkNews::Closed => self.uplink_closed(now, out),
        }
    }

    /// The words of an event that is to be sent. One that cannot be read stays on the card: the next start may read it.
    pub(super) fn fetched(&mut self, now: Stamp, ticket: Ticket, outcome: Result<Vec<u8>, String>, out: &mut Vec<Effect>) {
        if self.desk.held(ticket).is_none() {
            return;
        }
        match outcome.and_then(|bytes| Entry::decode(&bytes)).map(|entry| entry.body) {
            Ok(Body::Event { id, payload, .. }) => {
                out.push(Effect::Uplink(UplinkOrder::Send { ticket, letter: letter(id, payload) }));
            }
            Ok(Body::File(_)) => self.refused(now, ticket, "not the event it was"),
            Err(reason) => self.refused(now, ticket, &reason),
        }
    }

    /// A person is needed. Told once an hour each: a broker that refuses does so again and again.
    fn alarm(&mut self, now: Stamp, what: Alarm, detail: &str) {
        tracing::error!(what = what.word(), "{detail}");
        let quiet = self.alarms.get(&what).is_some_and(|told| now.mono.since(*told) < ALARM_EVERY);
        if !quiet {
            self.alarms.insert(what, now.mono);
            self.event(now, kind::UPLINK, None, json!({"what": what.word(), "detail": events::text(detail)}));
        }
    }

    /// A refused entry stays on the card as a dead letter and is told once: somebody must look, nothing is deleted.
    fn refused(&mut self, now: Stamp, ticket: Ticket, reason: &str) {
        self.outbox.refused(ticket);
        let what = match self.desk.held(ticket).map(|held| &held.what) {
            // Telling of a refusal that is refused would never end.
            Some(What::Event { note: Note::Refusal, .. }) => return,
            Some(What::Event { seq, .. }) => json!({"seq": seq}),
            Some(What::File(manifest)) => json!({"file": manifest.name}),
            None => return,
        };
        tracing::error!(%reason, "refused for good: kept as a dead letter");
        self.event(now, kind::REFUSED, None, json!({"what": what, "reason": events::text(reason)}));
    }

    /// Tells those who listen in other dialects whether anything moves.
    pub(super) fn mirror_motion(&mut self, at: Stamp, out: &mut Vec<Effect>) {
        tell_mirrors(mirror::motion(self.settings.uplink.integrations, &self.site, self.incidents.is_moving(), at.wall), out);
    }
}

/// To those who listen in other dialects.
pub(super) fn tell_mirrors(messages: impl IntoIterator<Item = mirror::Message>, out: &mut Vec<Effect>) {
    let order = |(topic, payload, retain)| Effect::Uplink(UplinkOrder::Mirror { topic, payload, retain });
    out.extend(messages.into_iter().map(order));
}
