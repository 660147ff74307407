//! Reactions to uplink updates: connection state, receipts, rejections and alarms; also feeds the
//! third-party integrations.
//!
//! What belongs to commands is in [`super::commands`]; the MQTT exchange is in [`crate::uplink`].

use std::time::Duration;

use serde_json::json;

use super::events::{self, kind};
use super::outbox_entry::{Body, Entry};
use super::spool::{EntryKind, Note, event_message};
use super::{Agent, AgentEffect};
use crate::remote_config::action;
use crate::units::{EntryId, Timestamp};
use crate::uplink::{Alarm, PLANNED_ENDS, ReturnReason, UplinkRequest, UplinkUpdate, integrations};

/// Minimum time between two events of the same alarm.
const ALARM_INTERVAL: Duration = Duration::from_secs(3600);

/// Logs the end of a connection or of a try: a planned one is no fault, and a person must mend a
/// refusal.
fn log_down(broker: &str, reason: &str, refused: bool) {
    if PLANNED_ENDS.contains(&reason) {
        tracing::info!(broker, reason, "broker connection closed as planned; the next one follows");
    } else if refused {
        tracing::error!(
            broker,
            reason,
            "the broker refuses this device; mend what the reason names; retrying"
        );
    } else {
        tracing::warn!(broker, reason, "no broker connection; retrying");
    }
}

/// The reason with the broker that was tried: a trial may have several.
fn with_broker(broker: &str, reason: String) -> String {
    if broker.is_empty() { reason } else { format!("{broker}: {reason}") }
}

impl Agent {
    pub(super) fn uplink_update(
        &mut self,
        now: Timestamp,
        update: UplinkUpdate,
        out: &mut Vec<AgentEffect>,
    ) {
        match update {
            UplinkUpdate::Up { conn } => {
                tracing::debug!(conn, "subscribed");
                self.connected = true;
                self.outbox.up();
                let (birth, moving) = (self.birth(now), self.motion_events.is_moving());
                let greeting = integrations::greeting(
                    self.settings.uplink.integrations,
                    &self.site,
                    &birth,
                    moving,
                    now.wall,
                );
                publish_integrations(greeting, out);
            }
            UplinkUpdate::Down { reason, refused, broker } => {
                log_down(&broker, &reason, refused);
                self.connected = false;
                let reason = with_broker(&broker, reason);
                self.configure(now, action::ConfigInput::NoSession(reason), out);
            }
            UplinkUpdate::Session { epoch, broker } => {
                tracing::info!(broker = format!("{}:{}", broker.0, broker.1), "broker connected");
                self.configure(now, action::ConfigInput::Session { epoch, broker }, out)
            }
            UplinkUpdate::Document { bytes, len } => {
                self.configure(now, action::ConfigInput::Document { bytes, len }, out)
            }
            UplinkUpdate::Confirm(bytes) => {
                self.configure(now, action::ConfigInput::Confirm(bytes), out)
            }
            UplinkUpdate::Receipted { entry_id } => {
                self.outbox.receipted(entry_id);
                self.gauges.receipted += 1;
                self.release_entry(entry_id);
            }
            UplinkUpdate::Returned { entry_id, why: ReturnReason::Unreadable(reason) } => {
                self.outbox.receipted(entry_id);
                self.spoiled(now, entry_id, &reason);
            }
            UplinkUpdate::Returned { entry_id, why: ReturnReason::Refused(reason) } => {
                self.refused(now, entry_id, &reason)
            }
            UplinkUpdate::Alarm { what, detail } => self.alarm(now, what, &detail),
            UplinkUpdate::Command(command) => self.command(now, *command, out),
            UplinkUpdate::Counts(counts) => self.gauges.uplink = counts,
            UplinkUpdate::Closed => self.uplink_closed(now, out),
        }
    }

    /// Sends an event whose payload storage has read from the journal. An unreadable one stays
    /// there: the next boot may be able to read it.
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
                out.push(AgentEffect::Uplink(UplinkRequest::Send {
                    entry_id,
                    message: event_message(id, payload),
                }));
            }
            Ok(Body::File(_)) => {
                self.refused(now, entry_id, "its journal slot holds another entry")
            }
            Err(reason) => self.refused(now, entry_id, &reason),
        }
    }

    /// Reports an alarm that needs an operator: in the log, and once an hour as an event.
    fn alarm(&mut self, now: Timestamp, what: Alarm, detail: &str) {
        tracing::error!(what = what.as_str(), detail, "uplink alarm; an operator must act");
        let quiet = self
            .alarms
            .get(&what)
            .is_some_and(|at| now.mono.since(*at) < ALARM_INTERVAL.as_micros() as u64);
        if !quiet {
            self.alarms.insert(what, now.mono);
            self.event(
                now,
                kind::UPLINK,
                None,
                json!({"what": what.as_str(), "detail": events::text(detail)}),
            );
        }
    }

    /// Keeps a rejected entry among the dead letters and reports it once. Nothing is deleted.
    fn refused(&mut self, now: Timestamp, entry_id: EntryId, reason: &str) {
        self.outbox.refused(entry_id);
        let what = match self.spool.entry_mut(entry_id).map(|held| &held.what) {
            // An event about a rejected rejection event would repeat without end.
            Some(EntryKind::Event { note: Note::Rejection, .. }) => return,
            Some(EntryKind::Event { seq, .. }) => json!({"seq": seq}),
            Some(EntryKind::File(manifest)) => json!({"file": manifest.name}),
            None => return,
        };
        tracing::error!(reason, %what, "entry rejected, kept on the card as a dead letter; it is sent again after the next boot");
        self.event(now, kind::REFUSED, None, json!({"what": what, "reason": events::text(reason)}));
    }

    /// Publishes the motion state to the integrations.
    pub(super) fn publish_motion_state(&mut self, at: Timestamp, out: &mut Vec<AgentEffect>) {
        publish_integrations(
            integrations::motion(
                self.settings.uplink.integrations,
                &self.site,
                self.motion_events.is_moving(),
                at.wall,
            ),
            out,
        );
    }
}

/// Publishes messages to the integrations.
pub(super) fn publish_integrations(
    messages: impl IntoIterator<Item = integrations::Message>,
    out: &mut Vec<AgentEffect>,
) {
    let request = |(topic, payload, retain)| {
        AgentEffect::Uplink(UplinkRequest::Integration { topic, payload, retain })
    };
    out.extend(messages.into_iter().map(request));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_missing_session_names_its_broker() {
        let reason = || "connection refused".to_owned();
        assert_eq!(with_broker("office-b:8884", reason()), "office-b:8884: connection refused");
        assert_eq!(with_broker("", reason()), reason(), "none was tried");
    }
}
