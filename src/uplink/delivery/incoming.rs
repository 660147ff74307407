//! Received messages: PubAcks of the broker, receipts of the archive, commands and configurations.
//!
//! What is published next is decided in [`super::outgoing`].

use std::time::Duration;

use super::super::file_transfer::Transfer;
use super::super::topics::DownTopic;
use super::super::wire::Ack;
use super::super::{Alarm, ReturnReason, UplinkUpdate, emqx_file_transfer, topics};
use super::{
    Acked, BusyPause, CHUNK_FLOOR, Delivery, DeliveryEffect, PublishClass, PublishSubject,
    ScheduledCommand, Token, UnackedPublish,
};
use crate::remote_config::signed_document::DOCUMENT_MAX;
use crate::units::{Digest, EntryId, MonoTime, Timestamp};

/// Pause after a busy answer of the broker; doubled each time up to the maximum.
const BUSY_PAUSE: Duration = Duration::from_secs(10);
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(300);
/// Pause of a class of messages that the device may not publish.
const FORBIDDEN_PAUSE: Duration = Duration::from_secs(600);
/// Maximum size of a confirmation in bytes: an id, a digest and a nonce.
const CONFIRM_MAX: usize = 1024;
/// Seconds over which devices spread a command to all of them: the default, and the maximum of its
/// argument `within`.
const SPREAD: u64 = 30;
const SPREAD_MAX: u64 = 3600;
/// Scheduled commands to all devices; further ones are dropped.
const SCHEDULED_MAX: usize = 16;
/// Archives tracked as online. An office has one or two, and their names come from the network.
const HOSTS_MAX: usize = 16;

impl Delivery {
    /// Handles a received message.
    pub fn message(
        &mut self,
        now: Timestamp,
        topic: &str,
        payload: &[u8],
        out: &mut Vec<DeliveryEffect>,
    ) {
        match topics::read_down(&self.site, topic) {
            Some(DownTopic::Host(host)) if self.limiter.host(now) => {
                self.host(now.mono, host, payload)
            }
            Some(DownTopic::Host(_)) => {}
            Some(DownTopic::Ack) => match serde_json::from_slice::<Ack>(payload) {
                Ok(ack) => self.ack(now.mono, ack, out),
                Err(error) => _ = self.limiter.unread::<()>(now, "dn/ack", &error.to_string()),
            },
            Some(DownTopic::Command(name)) => {
                out.extend(
                    self.limiter
                        .command(now, name, payload)
                        .map(UplinkUpdate::Command)
                        .map(DeliveryEffect::Update),
                );
            }
            Some(DownTopic::Fleet(name)) => self.fleet_command(now, name, payload),
            Some(DownTopic::Document) if !self.limiter.document(now) => {}
            Some(DownTopic::Document) => {
                let bytes =
                    if payload.len() > DOCUMENT_MAX { Vec::new() } else { payload.to_vec() };
                out.push(DeliveryEffect::Update(UplinkUpdate::Document {
                    bytes,
                    len: payload.len(),
                }));
            }
            Some(DownTopic::Confirm)
                if payload.len() <= CONFIRM_MAX && self.limiter.confirm(now) =>
            {
                out.push(DeliveryEffect::Update(UplinkUpdate::Confirm(payload.to_vec())));
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

    /// Schedules a command to all devices at this site's own moment within the spread, so that they
    /// do not all answer at once.
    fn fleet_command(&mut self, now: Timestamp, name: &str, payload: &[u8]) {
        let Some(command) = self
            .limiter
            .command(now, name, payload)
            .filter(|_| self.scheduled.len() < SCHEDULED_MAX)
        else {
            return;
        };
        let spread = command.number("within").unwrap_or(SPREAD).min(SPREAD_MAX) * 1_000_000;
        let own = Digest::of(format!("{} {}", self.site, command.req_id).as_bytes());
        let part = u64::from(u32::from_be_bytes([own.0[0], own.0[1], own.0[2], own.0[3]]));
        self.scheduled
            .push(ScheduledCommand { at: now.mono.plus_micros((spread * part) >> 32), command });
    }

    fn host(&mut self, now: MonoTime, host: &str, payload: &[u8]) {
        let online = serde_json::from_slice::<serde_json::Value>(payload)
            .is_ok_and(|state| state["state"] == "online");
        let full = self.hosts.len() >= HOSTS_MAX && !self.hosts.contains(host);
        let known = if online {
            full || !self.hosts.insert(host.to_owned())
        } else {
            !self.hosts.remove(host)
        };
        // A new archive may lack what its predecessor received.
        if online && !known {
            self.events.values_mut().for_each(|event| event.due = event.due.min(now));
            self.files.values_mut().for_each(Transfer::restart);
        }
    }

    fn by_fid(&mut self, fid: &str) -> Option<(EntryId, &mut Transfer)> {
        self.files
            .iter_mut()
            .find(|(_, file)| file.fid == fid)
            .map(|(entry_id, file)| (*entry_id, file))
    }

    /// Handles a receipt of the archive.
    fn ack(&mut self, now: MonoTime, ack: Ack, out: &mut Vec<DeliveryEffect>) {
        match ack {
            Ack::Event { id, sha256 } => {
                let found =
                    self.events.iter().find(|(_, event)| event.id == id && event.digest == sha256);
                if let Some(entry_id) = found.map(|(entry_id, _)| *entry_id) {
                    self.events.remove(&entry_id);
                    self.receipted(entry_id, out);
                }
            }
            Ack::EventRefused { sha256, reason } => {
                let found = self.events.iter().find(|(_, event)| event.digest == sha256);
                if let Some(entry_id) = found.map(|(entry_id, _)| *entry_id) {
                    self.returned(
                        entry_id,
                        ReturnReason::Refused(format!("the office rejects it: {reason}")),
                        out,
                    );
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
                        ReturnReason::Refused(
                            "the office requested the whole file repeatedly".into(),
                        ),
                        out,
                    );
                }
            }
            Ack::Stored { fid, sha256 } => match self.by_fid(&fid) {
                Some((entry_id, file)) if file.manifest.sha256 == sha256 => {
                    self.forget_file(entry_id);
                    self.receipted(entry_id, out);
                }
                Some((_, file)) => file.no_subscriber(now),
                None => {}
            },
            Ack::Refused { fid, reason } => {
                if let Some((entry_id, _)) = self.by_fid(&fid) {
                    self.returned(entry_id, ReturnReason::Refused(reason), out);
                }
            }
        }
    }

    /// Handles an answer of EMQX's file transfer.
    fn emqx_answer(
        &mut self,
        now: MonoTime,
        answer: emqx_file_transfer::EmqxReply,
        out: &mut Vec<DeliveryEffect>,
    ) {
        let Some((entry_id, file)) = self.by_fid(&answer.fid) else {
            return;
        };
        match answer.part {
            _ if !answer.good => {
                tracing::warn!(
                    file = file.manifest.name,
                    reason = answer.reason,
                    "EMQX rejected a part of a file; restarting its exchange"
                );
                file.no_subscriber(now);
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
        out.push(DeliveryEffect::Update(UplinkUpdate::Receipted { entry_id }));
    }

    pub(super) fn returned(
        &mut self,
        entry_id: EntryId,
        why: ReturnReason,
        out: &mut Vec<DeliveryEffect>,
    ) {
        self.events.remove(&entry_id);
        self.forget_file(entry_id);
        out.push(DeliveryEffect::Update(UplinkUpdate::Returned { entry_id, why }));
    }

    fn forget_file(&mut self, entry_id: EntryId) {
        self.counts.file_retries += self.files.remove(&entry_id).map_or(0, |file| file.retries);
    }

    /// Handles the broker's answer to a publish.
    pub fn acked(
        &mut self,
        now: Timestamp,
        token: Token,
        acked: Acked,
        out: &mut Vec<DeliveryEffect>,
    ) {
        let Some(publish) = self.unacked.remove(&token) else {
            return;
        };
        self.refusals.accepted(&publish);
        let UnackedPublish { subject, .. } = publish;
        if let PublishSubject::File(_, bytes @ 1..) = subject {
            self.bandwidth.acked(now.mono, bytes);
        }
        match acked {
            Acked::Accepted => {
                self.counts.acked += 1;
                self.busy.count = 0;
                if let PublishSubject::File(entry_id, 0) = subject
                    && let Some(file) = self.files.get_mut(&entry_id)
                {
                    file.accepted(now.mono);
                }
            }
            Acked::NoSubscriber => {
                if let PublishSubject::File(entry_id, _) = subject
                    && let Some(file) = self.files.get_mut(&entry_id)
                {
                    file.no_subscriber(now.mono);
                }
            }
            Acked::Busy(reason) => self.broker_busy(now.mono, subject, &reason),
            Acked::NotAuthorized(reason) => self.forbid(now.mono, subject.class(), reason, out),
            Acked::Invalid(reason) => {
                self.counts.refused += 1;
                if let PublishSubject::Event(entry_id) | PublishSubject::File(entry_id, _) = subject
                {
                    self.returned(entry_id, ReturnReason::Refused(reason), out);
                }
            }
        }
        self.advance(now, out);
    }

    /// The broker takes no message of this size. Chunks become smaller; anything else is dropped.
    pub(super) fn refused_size(
        &mut self,
        subject: PublishSubject,
        topic: &str,
        reason: String,
        out: &mut Vec<DeliveryEffect>,
    ) {
        self.counts.refused += 1;
        match subject {
            PublishSubject::File(entry_id, bytes) if bytes > u64::from(CHUNK_FLOOR) => {
                let half = (bytes as u32 / 2).max(CHUNK_FLOOR);
                if half < self.chunk_now {
                    self.alarm_size(bytes, &reason, &format!("chunks now have {half} bytes"), out);
                    (self.chunk_now, self.chunk_learned) = (half, half);
                }
                self.files.get_mut(&entry_id).into_iter().for_each(Transfer::restart);
            }
            PublishSubject::Event(entry_id) => {
                let bytes = self.events.get(&entry_id).map_or(0, |event| event.payload.len());
                self.alarm_size(bytes as u64, &reason, "an event is dropped", out);
                self.returned(entry_id, ReturnReason::Refused(reason), out);
            }
            PublishSubject::File(entry_id, bytes) => {
                self.alarm_size(bytes, &reason, "a file is dropped", out);
                self.returned(entry_id, ReturnReason::Refused(reason), out);
            }
            PublishSubject::Other => {
                self.alarm_size(0, &reason, &format!("{topic} is dropped"), out)
            }
        }
    }

    fn alarm_size(&self, bytes: u64, reason: &str, outcome: &str, out: &mut Vec<DeliveryEffect>) {
        let what = if bytes > 0 { format!("{bytes} bytes") } else { "this size".to_owned() };
        let detail = format!("the broker takes no message of {what}, {outcome}: {reason}");
        tracing::warn!(detail, "message refused for its size");
        out.push(DeliveryEffect::Update(UplinkUpdate::Alarm { what: Alarm::MessageSize, detail }));
    }

    pub(super) fn broker_busy(&mut self, now: MonoTime, subject: PublishSubject, reason: &str) {
        let factor = 1 << self.busy.count.min(10);
        let pause = BUSY_PAUSE.saturating_mul(factor).min(BUSY_PAUSE_MAX);
        tracing::warn!(pause_s = pause.as_secs(), reason, "broker accepts no publishes; pausing");
        self.busy = BusyPause {
            until: now.plus_micros(pause.as_micros() as u64),
            count: self.busy.count + 1,
        };
        match subject {
            PublishSubject::Event(entry_id) => {
                self.events.get_mut(&entry_id).into_iter().for_each(|event| event.due = now)
            }
            PublishSubject::File(entry_id, _) => {
                self.files.get_mut(&entry_id).into_iter().for_each(Transfer::restart)
            }
            PublishSubject::Other => {}
        }
    }

    /// Pauses a class of messages that the device may not publish. The first time raises an alarm.
    fn forbid(
        &mut self,
        now: MonoTime,
        class: PublishClass,
        reason: String,
        out: &mut Vec<DeliveryEffect>,
    ) {
        self.counts.refused += 1;
        if self
            .forbidden
            .insert(class, now.plus_micros(FORBIDDEN_PAUSE.as_micros() as u64))
            .is_none()
        {
            let what = match class {
                PublishClass::Event => "events",
                PublishClass::File => "files",
                PublishClass::Other => "state, health or answers",
            };
            let detail = format!(
                "the broker does not let this device publish {what} ({reason}): check its access control list"
            );
            out.push(DeliveryEffect::Update(UplinkUpdate::Alarm {
                what: Alarm::NotAuthorized,
                detail,
            }));
        }
        self.files.values_mut().filter(|_| class == PublishClass::File).for_each(Transfer::restart);
        self.events
            .values_mut()
            .filter(|_| class == PublishClass::Event)
            .for_each(|event| event.due = now);
    }
}
