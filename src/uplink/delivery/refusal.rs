//! Publishes that the broker refuses with a PubAck reason that MQTT 5 does not list there.
//!
//! rumqttc ends the connection at such a PubAck, without the packet id (ADR 0001). Here it is the
//! refusal of one of the publishes in flight, and the next connection follows at once.
//!
//! | reason | refused is |
//! |---|---|
//! | packet too large (0x95) | the largest publish in flight: the refused one is at most as large |
//! | server unavailable, server busy, message rate too high (0x88, 0x89, 0x96) | none: publishes pause |
//! | any other | unknown: publishes go one at a time, and the one that is alone in flight at three such ends in a row is refused |
//!
//! What belongs here: who is refused, and what is learned from it. What does not: the reconnect
//! ([`super::super::failover`]), the bytes ([`super::super::client`]).

use std::collections::BTreeSet;

use super::super::ReturnReason;
use super::super::broker_reason::sentence;
use super::{
    CHUNK_FLOOR, Delivery, DeliveryEffect, PublishSubject, QUEUED_MAX, QueuedMessage, Token,
    UnackedPublish,
};
use crate::units::{EntryId, Timestamp};

/// Ends of a connection in a row after which the only publish in flight is refused. A broker that
/// ends sessions with an unknown reason of its own looks the same once or twice.
const STRIKES: u32 = 3;
/// Accepted publishes after which several may be in flight again: four windows.
const SINGLE_PUBLISHES: u32 = 64;
/// Topics of small messages that are refused until the next connection; the device has 10 or so.
const MUTED_MAX: usize = 16;
const PACKET_TOO_LARGE: u8 = 0x95;

/// The publish that was alone in flight.
#[derive(Debug, PartialEq, Eq)]
struct Suspect {
    /// The topic names an answer or a chunk; events share one topic.
    topic: String,
    event: Option<EntryId>,
    code: u8,
}

/// What refusals without a packet id have taught.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The next connection continues this one.
    continues: bool,
    /// The smallest payload that the broker refused for its size.
    refused_size: Option<usize>,
    /// Topics of small messages that the broker refuses.
    muted: BTreeSet<String>,
    /// Publishes to be accepted before several may be in flight.
    single: u32,
    suspect: Option<Suspect>,
    strikes: u32,
}

impl Refusals {
    /// True while publishes go one at a time.
    pub(super) fn is_single(&self) -> bool {
        self.single > 0
    }

    /// True unless the broker refused a payload of this size or smaller.
    pub(super) fn fits(&self, payload: usize) -> bool {
        self.refused_size.is_none_or(|refused| payload < refused)
    }

    /// The smallest payload that the broker refused for its size.
    pub(super) fn refused_size(&self) -> Option<usize> {
        self.refused_size
    }

    /// True for the topic of small messages that the broker refuses.
    pub(super) fn is_muted(&self, topic: &str) -> bool {
        self.muted.contains(topic)
    }

    /// A connection was made. Returns true when it continues the last one; any other forgets the
    /// limit and the refused topics, which an operator may have mended.
    pub(super) fn connected(&mut self) -> bool {
        let continues = std::mem::take(&mut self.continues);
        if !continues {
            self.refused_size = None;
            self.muted.clear();
        }
        continues
    }

    /// The connection was lost for another reason.
    pub(super) fn lost(&mut self) {
        self.continues = false;
    }

    /// The broker accepted a publish.
    pub(super) fn accepted(&mut self, publish: &UnackedPublish) {
        self.single = self.single.saturating_sub(1);
        self.suspect.take_if(|suspect| {
            suspect.topic == publish.topic && suspect.event == event_of(publish.subject)
        });
    }

    /// Counts an end with one publish in flight. Returns true when that one is refused.
    fn strike(&mut self, suspect: Suspect) -> bool {
        let same = self.suspect.as_ref() == Some(&suspect);
        self.strikes = if same { self.strikes + 1 } else { 1 };
        self.suspect = Some(suspect);
        self.strikes >= STRIKES
    }
}

fn event_of(subject: PublishSubject) -> Option<EntryId> {
    match subject {
        PublishSubject::Event(entry_id) => Some(entry_id),
        PublishSubject::File(..) | PublishSubject::Other => None,
    }
}

impl Delivery {
    /// The broker refused one of these publishes with an unlisted reason. The connection is over;
    /// [`Delivery::interrupted`] or [`Delivery::lost`] follows.
    pub fn refused_one_of(
        &mut self,
        now: Timestamp,
        code: u8,
        in_flight: &[Token],
        out: &mut Vec<DeliveryEffect>,
    ) {
        self.refusals.continues = true;
        let known = || in_flight.iter().filter(|token| self.unacked.contains_key(token));
        match code {
            PACKET_TOO_LARGE => {
                let bytes = |token: &&Token| self.unacked.get(token).map_or(0, |sent| sent.bytes);
                let largest = known().max_by_key(bytes).copied();
                if let Some(publish) = largest.and_then(|token| self.unacked.remove(&token)) {
                    self.learn_size(publish.bytes);
                    self.refused_size(publish.subject, &publish.topic, sentence(code), out);
                }
            }
            0x88 | 0x89 | 0x96 => {
                self.broker_busy(now.mono, PublishSubject::Other, &sentence(code));
            }
            _ => {
                self.refusals.single = SINGLE_PUBLISHES;
                let only = known().next().copied().filter(|_| known().count() == 1);
                match only {
                    Some(token) => self.suspected(token, code, out),
                    None => self.refusals.suspect = None,
                }
            }
        }
    }

    /// Chunks stay below a size that was refused.
    fn learn_size(&mut self, bytes: usize) {
        let bytes = bytes.max(1);
        let known = self.refusals.refused_size.unwrap_or(usize::MAX);
        self.refusals.refused_size = Some(bytes.min(known));
        let below = u32::try_from(bytes - 1).unwrap_or(u32::MAX).max(CHUNK_FLOOR);
        self.chunk_now = self.chunk_now.min(below);
        self.chunk_learned = self.chunk_learned.min(below);
    }

    fn suspected(&mut self, token: Token, code: u8, out: &mut Vec<DeliveryEffect>) {
        let Some(publish) = self.unacked.get(&token) else { return };
        let event = event_of(publish.subject);
        if !self.refusals.strike(Suspect { topic: publish.topic.clone(), event, code }) {
            return;
        }
        self.refusals.suspect = None;
        self.counts.refused += 1;
        let Some(UnackedPublish { subject, topic, .. }) = self.unacked.remove(&token) else {
            return;
        };
        let reason = format!("the broker rejects it: {}", sentence(code));
        tracing::warn!(topic, reason, "publish refused; it is not sent again");
        match subject {
            PublishSubject::Event(entry_id) | PublishSubject::File(entry_id, _) => {
                self.returned(entry_id, ReturnReason::Refused(reason), out);
            }
            PublishSubject::Other if self.refusals.muted.len() < MUTED_MAX => {
                self.refusals.muted.insert(topic);
            }
            PublishSubject::Other => {}
        }
    }

    /// The connection ended after [`Delivery::refused_one_of`], and the next follows at once: no
    /// outage is reported, archives that are online stay so until the broker sends their states, and
    /// small messages in flight are sent again.
    pub fn interrupted(&mut self, reason: &str) {
        tracing::info!(reason, "connecting again after a refused publish");
        self.connected = None;
        self.bandwidth.lost();
        self.queued.retain(|message| !message.retain);
        for publish in std::mem::take(&mut self.unacked).into_values().rev() {
            let Some(QueuedMessage { topic, payload, retain }) = publish.small else { continue };
            // What every connection begins with is published by it.
            if retain || topic.ends_with("/config/get") {
                continue;
            }
            if self.queued.len() < QUEUED_MAX {
                self.queued.push_front(QueuedMessage { topic, payload, retain });
            } else {
                self.counts.answers_dropped += 1;
            }
        }
    }
}
