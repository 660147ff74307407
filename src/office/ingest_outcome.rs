//! Reactions of the archive to one message: receipt, report, file work, command.

use serde_json::Value;

use super::change::Change;
use super::notice::{Fault, Notice};
use super::part_cache::{Check, Flush};
use crate::units::{ClockQuality, WallTime};
use crate::uplink::wire::Ack;

/// The time of receipt.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// RFC 3339, for the index.
    pub text: &'a str,
    /// Seconds since 1970 (Unix time).
    pub seconds: i64,
}

/// A fault of one message or file.
#[derive(Debug)]
pub struct Complaint {
    /// The kind.
    pub fault: Fault,
    /// Particulars for the operator; it may hold a device's text.
    pub detail: String,
    /// Free space on the archive's disk would solve it.
    pub is_disk_full: bool,
}

/// A command to a site.
#[derive(Debug)]
pub struct SiteCommand {
    /// Last level of the topic: `event-get`.
    pub name: &'static str,
    /// The payload, still without `expires`.
    pub body: Value,
}

/// Reactions to one message.
#[derive(Debug, Default)]
pub struct IngestOutcome {
    /// Payload for the site's `dn/ack`.
    pub ack: Option<Ack>,
    /// A report to the operator.
    pub notice: Option<Notice>,
    /// A fault.
    pub complaint: Option<Complaint>,
    /// A complete file to flush and hash; the result goes to `Archive::checked`.
    pub check: Option<Check>,
    /// An unfinished file to flush; the result goes to `Archive::flushed`.
    pub flush: Option<Flush>,
    /// A command to the site.
    pub command: Option<SiteCommand>,
    /// Any other message to the site: topic and payload.
    pub publish: Option<(String, Vec<u8>)>,
    /// What pages show differently, once the message is durable.
    pub change: Option<Change>,
    /// The time that the device named in a message of now, and the quality of its clock.
    pub device_time: Option<(WallTime, ClockQuality)>,
}

impl IngestOutcome {
    /// An acknowledgement without further reactions.
    pub(super) fn ack(ack: Ack) -> IngestOutcome {
        IngestOutcome { ack: Some(ack), ..IngestOutcome::default() }
    }

    /// A fault without an acknowledgement.
    pub(super) fn fault(fault: Fault, detail: String) -> IngestOutcome {
        let complaint = Some(Complaint { fault, detail, is_disk_full: false });
        IngestOutcome { complaint, ..IngestOutcome::default() }
    }
}
