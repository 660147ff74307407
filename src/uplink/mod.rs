//! The uplink room: one MQTT connection to the office, and what travels on it.
//!
//! * [`topics`], [`wire`]: topic names and payloads, the only serde types seen from outside (documented in `docs/mqtt.md`).
//! * [`file_transfer`]: pure: one file on its way. [`bandwidth`]: how fast files may go. [`emqx_file_transfer`]: the other dialect for files.
//! * [`integrations`]: motion and health in the words of others.
//! * [`delivery`]: pure: what to publish when; receipts; resend after a lost session.
//! * [`failover`]: pure: which broker is tried next, how and when. [`cert_expiry`]: when a certificate ends.
//! * [`client`] ⇄: one connection, both protocol versions. [`tls`] ⇄: what it believes. [`task`] ⇄: the task that
//!   connects, drives the link and reconnects.
//!
//! What belongs here: everything between the agent's messages and the broker's socket. What does not: deciding what is pending
//! (the outbox) or keeping it (storage).

pub mod client;
pub mod emqx_file_transfer;
pub mod cert_expiry;
pub mod delivery;
pub mod integrations;
pub mod task;
pub mod bandwidth;
mod file_reader;
pub mod failover;
pub mod tls;
pub mod topics;
pub mod file_transfer;
pub mod wire;

use std::fmt;

use crate::clip::SharedFile;
use crate::settings::UplinkSettings;
use crate::units::EntryId;

/// What the agent asks of the uplink.
#[derive(Debug)]
pub enum UplinkRequest {
    /// Deliver this; answered by [`UplinkUpdate::Receipted`] or [`UplinkUpdate::Returned`]. In flight until then.
    Send {
        /// The outbox entry it is.
        entry_id: EntryId,
        /// What it is.
        message: Message,
    },
    /// This is not to be delivered any more: a file that the office has heard of is taken back.
    Cancel {
        /// The outbox entry it was.
        entry_id: EntryId,
    },
    /// The office asks for this event again: its receipt, or the event, was lost on the way.
    Again {
        /// The outbox entry it is.
        entry_id: EntryId,
    },
    /// What earlier starts have used of the data budget.
    Spent(bandwidth::DataSpent),
    /// A message in another dialect: published if connected, never queued.
    Mirror {
        /// Where to.
        topic: String,
        /// What.
        payload: Vec<u8>,
        /// Keep as the topic's last value.
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
    /// Who may sign commands, each with the highest number it has used.
    Signers(Vec<(String, u64)>),
    /// Publish `up/config/get`.
    AskForConfig,
    /// Other settings count for the next connection; when `fresh`, this one ends now and the next begins at once.
    Settings {
        /// They.
        settings: Box<UplinkSettings>,
        /// Comes back with [`UplinkUpdate::Session`].
        epoch: u64,
        /// As above.
        fresh: bool,
    },
    /// Publish `offline`, disconnect, end.
    Close,
}

/// One thing pending to the office.
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
        /// What it is.
        manifest: Box<wire::Manifest>,
        /// Where its bytes are.
        source: SharedFile,
    },
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Event { id, payload } => write!(f, "event {id} of {} bytes", payload.len()),
            Message::File { manifest, .. } => write!(f, "file {} of {} bytes", manifest.name, manifest.size),
        }
    }
}

/// What the uplink tells the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum UplinkUpdate {
    /// A session was made, before [`UplinkUpdate::Up`] tells more of it.
    Session {
        /// Of the settings it was made under.
        epoch: u64,
        /// Host and port of the broker.
        broker: (String, u16),
    },
    /// A configuration document came; without its bytes when it is larger than a document may be.
    Document {
        /// Its bytes.
        bytes: Vec<u8>,
        /// How many there were.
        len: usize,
    },
    /// The office confirms a configuration.
    Confirm(Vec<u8>),
    /// Connected and subscribed.
    Up {
        /// Number of this connection: higher than every one before on this device.
        conn: u64,
    },
    /// Connection lost; everything in flight stays the uplink's to deliver after the next connect.
    Down {
        /// Why, for people, without secrets.
        reason: String,
        /// The broker refused us (bad credentials, not authorised): a person is needed.
        refused: bool,
    },
    /// The office archive says it has this, durably, with the right hash.
    Receipted {
        /// The entry.
        entry_id: EntryId,
    },
    /// This cannot be delivered now; the outbox decides.
    Returned {
        /// The entry.
        entry_id: EntryId,
        /// Why.
        why: ReturnReason,
    },
    /// A person is needed, though the connection stands.
    Alarm {
        /// About what.
        what: Alarm,
        /// For people, without secrets.
        detail: String,
    },
    /// A command arrived.
    Command(Box<wire::Command>),
    /// Counters, about once a minute.
    Counts(UplinkCounts),
    /// Answer to [`UplinkRequest::Close`].
    Closed,
}

/// Why a message came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReturnReason {
    /// Its bytes could not be read any more.
    Unreadable(String),
    /// The broker or the office refuses it for good (not authorised, too large): dead-message.
    Refused(String),
}

/// What takes a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// The broker does not let us publish something, or hear what we must hear.
    NotAuthorized,
    /// A certificate ends soon, or has ended.
    Certificate,
}

impl Alarm {
    /// The word used in payloads.
    pub fn as_str(self) -> &'static str {
        match self {
            Alarm::NotAuthorized => "not_authorized",
            Alarm::Certificate => "certificate",
        }
    }
}

/// Counters of the uplink since start.
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
    /// Of these, bytes of events and files that had been published before: what losses cost.
    pub resent: u64,
    /// Publishes the broker refused.
    pub refused: u64,
    /// Times a file's exchange began again because nobody answered.
    pub file_retries: u64,
    /// Commands without a signature that can be good, over their share.
    pub unsigned_dropped: u64,
    /// Commands that were still to be verified, over their share.
    pub unverified_dropped: u64,
    /// Answers and the like that found no room, or no connection.
    pub answers_dropped: u64,
    /// Documents, confirmations, states and receipts that were too many or could not be read.
    pub other_dropped: u64,
    /// Bytes a second to the broker, as measured.
    pub rate: u64,
    /// Bytes published today and this month.
    pub spent: bandwidth::DataSpent,
}
