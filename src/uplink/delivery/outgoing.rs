//! Publish order: small messages first, then due events, then files at their bandwidth.
//!
//! The answers to publishes are handled in [`super::incoming`].

use std::collections::BTreeMap;

use super::super::bandwidth::Throttle;
use super::super::file_transfer::{Transfer, TransferStep};
use super::super::wire::{Purpose, State};
use super::super::{ReturnReason, UplinkUpdate, emqx_file_transfer, topics};
use super::{
    Delivery, DeliveryEffect, HEADER, PublishClass, PublishSubject, QueuedMessage,
    RECEIPT_TIMEOUT_MAX, UnackedPublish,
};
use crate::settings::FileProtocol;
use crate::units::{EntryId, MonoTime, Timestamp};

impl Delivery {
    /// The payload of `up/state` for connection `conn`.
    pub fn state(&self, state: &str, conn: u64, now: Timestamp) -> Vec<u8> {
        let ring = self.presence_ring.unwrap_or_default();
        let state =
            State { v: 1, state: state.into(), ring, boot: self.boot, conn, t: now.wall.rfc3339() };
        serde_json::to_vec(&state).unwrap_or_default()
    }

    /// Notes the earliest end of the certificates in use, seconds since 1970.
    pub fn note_certificate_end(&mut self, end: u64) {
        self.counts.certificate_end = end;
    }

    /// Handles bytes of a file that were read.
    pub fn chunk(
        &mut self,
        now: Timestamp,
        entry_id: EntryId,
        offset: u64,
        bytes: Result<Vec<u8>, String>,
        out: &mut Vec<DeliveryEffect>,
    ) {
        let Some(file) = self.files.get_mut(&entry_id) else {
            return;
        };
        match bytes {
            Ok(bytes) => {
                let len = bytes.len() as u64;
                if self.connected.is_some()
                    && let Some(again) = file.sent(now.mono, offset, len)
                {
                    self.counts.resent += again;
                    self.bandwidth.sent(now.mono, len);
                    if let Some(file) = self.files.get(&entry_id) {
                        let topic = self.file_topic(file, &offset.to_string());
                        self.publish(
                            now,
                            PublishSubject::File(entry_id, len),
                            topic,
                            bytes,
                            false,
                            out,
                        );
                    }
                }
            }
            Err(reason) => {
                self.cancel(entry_id);
                self.returned(entry_id, ReturnReason::Unreadable(reason), out);
            }
        }
        self.advance(now, out);
    }

    /// Publishes what is due now.
    pub fn advance(&mut self, now: Timestamp, out: &mut Vec<DeliveryEffect>) {
        let due = self.scheduled.extract_if(.., |scheduled| scheduled.at <= now.mono);
        out.extend(
            due.map(|scheduled| DeliveryEffect::Update(UplinkUpdate::Command(scheduled.command))),
        );
        self.limiter.report_drops(now);
        if self.connected.is_none() {
            return;
        }
        if self.limiter.should_rerequest(now) {
            self.request_config();
        }
        while self.has_room()
            && let Some(QueuedMessage { topic, payload, retain }) = self.queued.pop_front()
        {
            if self.refusals.is_muted(&topic) {
                self.counts.refused += 1;
            } else if self.fits(&topic, payload.len()) {
                self.publish(now, PublishSubject::Other, topic, payload, retain, out);
            } else {
                self.counts.refused += 1;
                tracing::warn!(
                    topic,
                    bytes = payload.len(),
                    "message dropped, larger than the broker takes; raise its limit"
                );
            }
        }
        if now.mono < self.busy.until {
            return;
        }
        let allowed = |forbidden: &BTreeMap<PublishClass, MonoTime>, class| {
            forbidden.get(&class).is_none_or(|until| now.mono >= *until)
        };
        while self.has_room()
            && allowed(&self.forbidden, PublishClass::Event)
            && let Some(entry_id) = self
                .events
                .iter()
                .find(|(_, event)| event.due <= now.mono)
                .map(|(entry_id, _)| *entry_id)
        {
            self.send_event(now, entry_id, out);
        }
        let has_receiver =
            self.protocol == FileProtocol::Emqx || self.assume_archive || !self.hosts.is_empty();
        if has_receiver
            && now.mono >= self.files_from
            && allowed(&self.forbidden, PublishClass::File)
        {
            for entry_id in self.files.keys().copied().collect::<Vec<_>>() {
                self.advance_file(now, entry_id, out);
            }
        }
    }

    /// True when another publish stays within the window, counted from the oldest unacknowledged
    /// one.
    fn has_room(&self) -> bool {
        let window = if self.refusals.is_single() { 1 } else { self.window };
        self.unacked
            .first_key_value()
            .is_none_or(|(oldest, _)| self.next_token + 1 - oldest < window)
    }

    fn fits(&self, topic: &str, payload: usize) -> bool {
        topic.len() + payload + HEADER <= self.limits.max_packet as usize
            && self.refusals.fits(payload)
    }

    fn send_event(&mut self, now: Timestamp, entry_id: EntryId, out: &mut Vec<DeliveryEffect>) {
        let topic = topics::up(&self.site, "event");
        let Some(event) = self.events.get_mut(&entry_id) else {
            return;
        };
        event.due = now.mono.plus_micros(event.receipt_timeout.as_micros() as u64);
        event.receipt_timeout = (event.receipt_timeout * 2).min(RECEIPT_TIMEOUT_MAX);
        let payload = event.payload.clone();
        if std::mem::replace(&mut event.published, true) {
            self.counts.resent += payload.len() as u64;
        }
        if self.fits(&topic, payload.len()) {
            self.publish(now, PublishSubject::Event(entry_id), topic, payload, false, out);
        } else {
            self.too_large(entry_id, payload.len(), out);
        }
    }

    fn too_large(&mut self, entry_id: EntryId, bytes: usize, out: &mut Vec<DeliveryEffect>) {
        let max = self.limits.max_packet;
        let reason = match self.refusals.refused_size() {
            Some(refused) if bytes >= refused => {
                self.counts.refused += 1;
                format!("{bytes} bytes are too many: the broker refused a message of {refused}")
            }
            _ => format!("{bytes} bytes exceed the broker's maximum packet size of {max}"),
        };
        self.returned(entry_id, ReturnReason::Refused(reason), out);
    }

    fn advance_file(&mut self, now: Timestamp, entry_id: EntryId, out: &mut Vec<DeliveryEffect>) {
        let chunk = self.bandwidth.chunk(self.chunk_now);
        while self.has_room()
            && let Some(file) = self.files.get_mut(&entry_id)
            && let Some(step) = file.next_step(now.mono, chunk)
        {
            if let TransferStep::Read { offset, len } = step {
                match self.bandwidth.throttle(now, len, file.manifest.purpose != Purpose::Clip) {
                    None => {
                        file.start_step(now.mono, step);
                        out.push(DeliveryEffect::Read { entry_id, offset, len });
                    }
                    Some(Throttle::InFlight) => {}
                    Some(Throttle::Cap | Throttle::Budget | Throttle::Quiet) => {
                        file.throttled(now.mono)
                    }
                }
                return;
            }
            file.start_step(now.mono, step);
            let Some(file) = self.files.get(&entry_id) else {
                return;
            };
            let (tail, payload) = self.encode_step(file, step);
            let topic = self.file_topic(file, &tail);
            if !self.fits(&topic, payload.len()) {
                return self.too_large(entry_id, payload.len(), out);
            }
            self.publish(now, PublishSubject::File(entry_id, 0), topic, payload, false, out);
        }
    }

    /// The end of the topic, and the payload, of `init` or `fin`.
    fn encode_step(&self, file: &Transfer, step: TransferStep) -> (String, Vec<u8>) {
        match (self.protocol, step == TransferStep::Init) {
            (FileProtocol::Own, true) => ("init".into(), file.manifest.bytes()),
            (FileProtocol::Own, false) => ("fin".into(), b"{\"v\":1}".to_vec()),
            (FileProtocol::Emqx, true) => ("init".into(), emqx_file_transfer::init(&file.manifest)),
            (FileProtocol::Emqx, false) => (emqx_file_transfer::fin(&file.manifest), Vec::new()),
        }
    }

    fn publish(
        &mut self,
        now: Timestamp,
        subject: PublishSubject,
        topic: String,
        payload: Vec<u8>,
        retain: bool,
        out: &mut Vec<DeliveryEffect>,
    ) {
        self.next_token += 1;
        self.counts.bytes += payload.len() as u64;
        self.bandwidth.count(now, (topic.len() + payload.len() + HEADER) as u64);
        let small = (subject == PublishSubject::Other).then(|| QueuedMessage {
            topic: topic.clone(),
            payload: payload.clone(),
            retain,
        });
        let (bytes, topic_name) = (payload.len(), topic.clone());
        self.unacked.insert(
            self.next_token,
            UnackedPublish { sent_at: now.mono, subject, topic: topic_name, bytes, small },
        );
        out.push(DeliveryEffect::Publish {
            token: self.next_token,
            topic,
            payload,
            retain: retain && self.limits.retain,
        });
    }
}
