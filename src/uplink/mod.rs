//! MQTT uplink: one connection to the broker of the office, and delivery with receipts over it.
//!
//! * [`topics`], [`wire`]: topic names and payloads, documented in `docs/mqtt.md`.
//! * [`delivery`]: pure: what to publish when, receipts, resends after a lost session.
//! * [`file_transfer`]: pure: the exchange of one file. [`bandwidth`]: how fast files are sent.
//!   [`emqx_file_transfer`]: the file protocol of EMQX.
//! * [`integrations`]: messages for Home Assistant, Frigate and ONVIF clients.
//! * [`failover`]: pure: which broker to try next, how and when. [`cert_expiry`]: the end dates of
//!   certificates.
//! * [`client`]: one connection, in either MQTT version. [`tls`]: its TLS configuration.
//!   [`task`]: connects, drives the delivery and reconnects.
//!   `subscriptions`: its topic filters, fewer after an oversized message.
//!   `broker_address`: another address of a broker.
//!
//! What belongs here: everything between the agent's messages and the broker's socket. What does
//! not: deciding what is pending (the outbox) or storing it (storage).

pub mod client;
pub(crate) mod emqx_file_transfer;
pub(crate) mod cert_expiry;
pub(crate) mod delivery;
pub(crate) mod integrations;
pub(crate) mod task;
pub(crate) mod bandwidth;
mod file_reader;
mod broker_address;
pub(crate) mod broker_reason;
pub(crate) mod connection_end;
mod subscriptions;
pub(crate) mod failover;
pub mod tls;
pub mod topics;
pub(crate) mod file_transfer;
pub mod wire;

use std::fmt;

use crate::clip::SharedFile;
use crate::settings::UplinkSettings;
use crate::units::EntryId;

/// A request of the agent to the uplink.
#[derive(Debug)]
pub enum UplinkRequest {
    /// Deliver a message; answered by [`UplinkUpdate::Receipted`] or [`UplinkUpdate::Returned`].
    /// The message is in flight until then.
    Send {
        /// Its outbox entry.
        entry_id: EntryId,
        /// The event or file.
        message: Message,
    },
    /// Stop delivering an entry. A file that the office already knows of is aborted there.
    Cancel {
        /// The outbox entry.
        entry_id: EntryId,
    },
    /// Publish an event again at once, because the office requested it.
    Resend {
        /// Its outbox entry.
        entry_id: EntryId,
    },
    /// Data budget used by earlier boots.
    Spent(bandwidth::DataSpent),
    /// A message for an integration: published if connected, never queued.
    Integration {
        /// Full topic name.
        topic: String,
        /// Payload bytes.
        payload: Vec<u8>,
        /// Publish it as a retained message.
        retain: bool,
    },
    /// Publish the birth message now and on every later connect.
    Birth(Box<wire::Birth>),
    /// Publish a health message if connected; never queued.
    Health(Box<wire::Health>),
    /// Answer a command.
    Reply(Box<wire::Reply>),
    /// Publish `up/config/reported`, retained.
    Reported(Vec<u8>),
    /// Enrolled signing keys, each with the highest command number it has used.
    Signers(Vec<(String, u64)>),
    /// Publish `up/config/get`.
    RequestConfig,
    /// New settings for the next connection. When `fresh`, the current connection ends now and the
    /// next starts at once.
    Settings {
        /// The settings to apply.
        settings: Box<UplinkSettings>,
        /// Epoch of the settings, returned with [`UplinkUpdate::Session`].
        epoch: u64,
        /// True to reconnect now.
        fresh: bool,
    },
    /// Publish the state `stopping`, disconnect and end.
    Close,
}

/// A message for the office.
#[derive(Clone)]
pub enum Message {
    /// An event: CloudEvents JSON.
    Event {
        /// Its ULID, stable across retries.
        id: String,
        /// The whole payload.
        payload: Vec<u8>,
    },
    /// A file with its manifest.
    File {
        /// Name, size, hash and times of the file.
        manifest: Box<wire::Manifest>,
        /// Source of its bytes.
        source: SharedFile,
    },
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Event { id, payload } => write!(f, "event {id} of {} bytes", payload.len()),
            Message::File { manifest, .. } => {
                write!(f, "file {} of {} bytes", manifest.name, manifest.size)
            }
        }
    }
}

impl UplinkUpdate {
    /// The end of a connection; the task names its broker.
    fn down(reason: String, refused: bool) -> UplinkUpdate {
        UplinkUpdate::Down { reason, refused, broker: String::new() }
    }
}

impl delivery::DeliveryEffect {
    /// Names the broker in the end of its connection.
    fn name_broker(effects: &mut [delivery::DeliveryEffect], name: &str) {
        for effect in effects {
            if let delivery::DeliveryEffect::Update(UplinkUpdate::Down { broker, .. }) = effect {
                name.clone_into(broker);
            }
        }
    }
}

/// Reasons of a connection's end that the uplink plans itself.
pub const PLANNED_ENDS: [&str; 3] = [
    "new settings are tried",
    "subscribing to commands again",
    "returning to the preferred broker",
];

/// An update of the uplink for the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum UplinkUpdate {
    /// A session was opened; [`UplinkUpdate::Up`] follows.
    Session {
        /// Epoch of the settings in force.
        epoch: u64,
        /// Host and port of the broker.
        broker: (String, u16),
    },
    /// A configuration document arrived.
    Document {
        /// Its bytes; empty when it exceeds the maximum size of a document.
        bytes: Vec<u8>,
        /// Its length in bytes.
        len: usize,
    },
    /// The office confirmed a configuration.
    Confirm(Vec<u8>),
    /// Connected and subscribed.
    Up {
        /// Number of this connection, higher than every earlier one on this ring.
        conn: u64,
    },
    /// The connection is lost. Everything in flight stays with the uplink, which delivers it after
    /// the next connect.
    Down {
        /// Cause as text, without secrets.
        reason: String,
        /// True when the broker refused the device (bad credentials, not authorized): an operator
        /// must act.
        refused: bool,
        /// Host and port of the broker; empty when none was tried.
        broker: String,
    },
    /// The office's archive has stored this entry durably, with the right hash.
    Receipted {
        /// The entry.
        entry_id: EntryId,
    },
    /// This entry cannot be delivered; the agent decides what follows.
    Returned {
        /// The entry.
        entry_id: EntryId,
        /// The cause.
        why: ReturnReason,
    },
    /// An operator must act, although the connection may be up.
    Alarm {
        /// What it is about.
        what: Alarm,
        /// Cause as text, without secrets.
        detail: String,
    },
    /// A command arrived.
    Command(Box<wire::Command>),
    /// Counters, about once a minute.
    Counts(UplinkCounts),
    /// Answer to [`UplinkRequest::Close`].
    Closed,
}

/// Why a message was returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReturnReason {
    /// Its bytes can no longer be read.
    Unreadable(String),
    /// The broker or the office rejects it permanently (invalid, too large): the agent keeps it
    /// among the dead letters.
    Refused(String),
}

/// A condition that needs an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// The broker rejects a publish or a subscription of the device.
    NotAuthorized,
    /// A certificate expires soon or has expired.
    Certificate,
    /// Another client uses this device's client id.
    ClientId,
    /// The broker takes no message of a size that the device sends.
    MessageSize,
}

impl Alarm {
    /// The alarm for a second client with this device's client id.
    pub(crate) fn taken_over(site: &crate::units::SiteId, reason: &str) -> UplinkUpdate {
        let detail = format!(
            "another client uses this client id, {site}: check that no other device has this device's site or certificate ({reason})"
        );
        UplinkUpdate::Alarm { what: Alarm::ClientId, detail }
    }

    /// The word used in payloads.
    pub fn as_str(self) -> &'static str {
        match self {
            Alarm::NotAuthorized => "not_authorized",
            Alarm::Certificate => "certificate",
            Alarm::ClientId => "client_id",
            Alarm::MessageSize => "message_size",
        }
    }
}

/// Counters of the uplink since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UplinkCounts {
    /// Connections made.
    pub connects: u64,
    /// Publishes acknowledged by the broker.
    pub acked: u64,
    /// Receipts from the office.
    pub receipts: u64,
    /// Payload bytes published.
    pub bytes: u64,
    /// Of these, bytes of events and files that had been published before.
    pub resent: u64,
    /// Publishes that the broker rejected.
    pub refused: u64,
    /// Times a file exchange restarted because the receiver did not answer.
    pub file_retries: u64,
    /// Commands without a valid-looking signature, dropped over their rate limit.
    pub unsigned_dropped: u64,
    /// Commands with a signature to verify, dropped over their rate limit.
    pub unverified_dropped: u64,
    /// Answers and integration messages dropped because the queue was full.
    pub answers_dropped: u64,
    /// Other messages dropped: documents, confirmations, states and receipts that were over their
    /// rate limit or invalid.
    pub other_dropped: u64,
    /// Measured bandwidth to the broker in bytes per second.
    pub rate: u64,
    /// Bytes published today and this month.
    pub spent: bandwidth::DataSpent,
    /// Earliest end of the certificates in use, seconds since 1970; 0 without TLS.
    pub certificate_end: u64,
}
