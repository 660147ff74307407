//! What the uplink tells: connections, receipts, refusals, alarms; and what is reported to those who listen in other dialects.
//!
//! What belongs here: what follows from each of them. What does not: commands ([`super::commands`]), the exchange (the uplink room).

use serde_json::json;

use super::events::{self, kind};
use super::outbox_entry::{Body, Entry};
use super::spool::{EntryKind, Note, event_message};
use super::{Agent, AgentEffect};
use crate::remote_config::state_machine;
use crate::units::{EntryId, Timestamp};
use crate::uplink::{Alarm, ReturnReason, UplinkRequest, UplinkUpdate, integrations};

/// Microseconds between two events of the same alarm of the uplink.
const ALARM_EVERY: u64 = 3_600_000_000;

impl Agent {
    pub(super) fn uplink_update(&mut self, now: Timestamp, update: UplinkUpdate, out: &mut Vec<AgentEffect>) {
        match update {
            UplinkUpdate::Up { conn } => {
                tracing::info!(conn, "connected to the office's broker");
                self.connected = true;
                self.outbox.up();
                let (birth, moving) = (self.birth(now), self.motion_events.is_moving());
                let greeting = integrations::greeting(self.settings.uplink.integrations, &self.site, &birth, moving, now.wall);
                publish_integrations(greeting, out);
            }
            UplinkUpdate::Down { reason, refused } => {
                tracing::warn!(refused, "no broker: {reason}");
                self.connected = false;
                self.configure(now, state_machine::ConfigInput::NoSession(reason), out);
            }
            UplinkUpdate::Session { epoch, broker } => {
                self.configure(now, state_machine::ConfigInput::Session { epoch, broker }, out)
            }
            UplinkUpdate::Document { bytes, len } => {
                self.configure(now, state_machine::ConfigInput::Document { bytes, len }, out)
            }
            UplinkUpdate::Confirm(bytes) => self.configure(now, state_machine::ConfigInput::Confirm(bytes), out),
            UplinkUpdate::Receipted { entry_id } => {
                self.outbox.receipted(entry_id);
                self.gauges.receipted += 1;
                self.release_entry(entry_id);
            }
            UplinkUpdate::Returned { entry_id, why: ReturnReason::Unreadable(reason) } => {
                self.outbox.receipted(entry_id);
                self.spoiled(now, entry_id, &reason);
            }
            UplinkUpdate::Returned { entry_id, why: ReturnReason::Refused(reason) } => self.refused(now, entry_id, &reason),
            UplinkUpdate::Alarm { what, detail } => self.alarm(now, what, &detail),
            UplinkUpdate::Command(command) => self.command(now, *command, out),
            UplinkUpdate::Counts(counts) => self.gauges.uplink = counts,
            UplinkUpdate::Closed => self.uplink_closed(now, out),
        }
    }

    /// The payload of an event that is to be sent. One that cannot be read stays on the card: the next start may read it.
    pub(super) fn fetched(
        &mut self,
        now: Timestamp,
        entry_id: EntryId,
        outcome: Result<Vec<u8>, String>,
        out: &mut Vec<AgentEffect>,
    ) {
        if self.spool.entry_mut(entry_id).is_none() {
            return;
        }
        match outcome.and_then(|bytes| Entry::decode(&bytes)).map(|entry| entry.body) {
            Ok(Body::Event { id, payload, .. }) => {
                out.push(AgentEffect::Uplink(UplinkRequest::Send { entry_id, message: event_message(id, payload) }));
            }
            Ok(Body::File(_)) => self.refused(now, entry_id, "not the event it was"),
            Err(reason) => self.refused(now, entry_id, &reason),
        }
    }

    /// A person is needed. Told once an hour each: a broker that refuses does so again and again.
    fn alarm(&mut self, now: Timestamp, what: Alarm, detail: &str) {
        tracing::error!(what = what.as_str(), "{detail}");
        let quiet = self.alarms.get(&what).is_some_and(|told| now.mono.since(*told) < ALARM_EVERY);
        if !quiet {
            self.alarms.insert(what, now.mono);
            self.event(now, kind::UPLINK, None, json!({"what": what.as_str(), "detail": events::text(detail)}));
        }
    }

    /// A refused entry stays on the card as a dead message and is reported once: somebody must look, nothing is deleted.
    fn refused(&mut self, now: Timestamp, entry_id: EntryId, reason: &str) {
        self.outbox.refused(entry_id);
        let what = match self.spool.entry_mut(entry_id).map(|held| &held.what) {
            // Telling of a refusal that is refused would never end.
            Some(EntryKind::Event { note: Note::Rejection, .. }) => return,
            Some(EntryKind::Event { seq, .. }) => json!({"seq": seq}),
            Some(EntryKind::File(manifest)) => json!({"file": manifest.name}),
            None => return,
        };
        tracing::error!(%reason, "refused for good: kept as a dead letter");
        self.event(now, kind::REFUSED, None, json!({"what": what, "reason": events::text(reason)}));
    }

    /// Tells those who listen in other dialects whether anything moves.
    pub(super) fn publish_motion_state(&mut self, at: Timestamp, out: &mut Vec<AgentEffect>) {
        publish_integrations(
            integrations::motion(self.settings.uplink.integrations, &self.site, self.motion_events.is_moving(), at.wall),
            out,
        );
    }
}

/// To those who listen in other dialects.
pub(super) fn publish_integrations(messages: impl IntoIterator<Item = integrations::Message>, out: &mut Vec<AgentEffect>) {
    let order = |(topic, payload, retain)| AgentEffect::Uplink(UplinkRequest::Mirror { topic, payload, retain });
    out.extend(messages.into_iter().map(order));
}
