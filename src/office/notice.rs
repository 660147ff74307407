//! Notices of a running office: received messages, faults, retention, broker connection.
//!
//! Callers match on [`Notice`]; `Display` gives one line without control characters.

use std::fmt;
use std::path::PathBuf;

use crate::escape::shown;
use crate::units::SiteId;

/// A kind of fault. The office reports each kind once a minute and site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The archive knows as many sites as it may.
    TooManySites,
    /// A message violates docs/mqtt.md.
    MessageInvalid,
    /// An event has the id of another one.
    EventConflict,
    /// The queue of the site is full.
    OverBudget,
    /// The index rejects a message.
    MessageNotStored,
    /// A manifest is invalid.
    ManifestInvalid,
    /// The site has as many unfinished files as it may, and all are being checked.
    TooManyParts,
    /// The bytes of an unfinished file lie in too many pieces.
    TooManyPieces,
    /// The disk rejects a chunk.
    ChunkNotStored,
    /// The disk rejects the flush of an unfinished file.
    FlushFailed,
    /// The disk cannot read a complete file.
    FileUnreadable,
    /// A complete file has another SHA-256 than its manifest.
    DigestMismatch,
    /// Index or disk rejects a complete file.
    FileNotStored,
    /// Moves that a crash interrupted cannot be continued.
    RecoveryFailed,
    /// Released files cannot be removed from the disk.
    RemovalFailed,
    /// Retention cannot release files or events.
    RetentionFailed,
    /// The archive is over its size limit, and no file may be released.
    OverLimit,
    /// Two rings of one site are online by turns.
    TwoDevices,
}

impl Fault {
    /// Object, state, cause and next step.
    pub fn text(self) -> &'static str {
        match self {
            Fault::TooManySites => {
                "messages dropped, the archive has its maximum of sites; use a second archive"
            }
            Fault::MessageInvalid => {
                "messages not stored, they violate docs/mqtt.md; check the device"
            }
            Fault::EventConflict => {
                "events stored beside another one, the id is the same and the bytes differ; check the device"
            }
            Fault::OverBudget => {
                "messages dropped, the site is over its budget; the device sends them again"
            }
            Fault::MessageNotStored => {
                "messages not stored, the index rejects them; the device sends them again"
            }
            Fault::ManifestInvalid => "files rejected, the manifest is invalid; check the device",
            Fault::TooManyParts => {
                "files postponed, the site has too many unfinished ones; the device sends them again"
            }
            Fault::TooManyPieces => {
                "chunks dropped, the file is in too many pieces; the device sends them again"
            }
            Fault::ChunkNotStored => {
                "chunks not stored, the disk rejects them; the device sends them again"
            }
            Fault::FlushFailed => {
                "unfinished files not flushed, disk or index rejects it; the device sends them again"
            }
            Fault::FileUnreadable => {
                "files not checked, the disk cannot read them; the device asks again"
            }
            Fault::DigestMismatch => {
                "files requested again, their SHA-256 is not that of the manifest; the device sends them again"
            }
            Fault::FileNotStored => {
                "files not stored, index or disk rejects them; the device sends them again"
            }
            Fault::RecoveryFailed => {
                "interrupted moves not continued, index or disk fails; the next start tries again"
            }
            Fault::RemovalFailed => {
                "released files not removed, index or disk fails; the office tries again"
            }
            Fault::RetentionFailed => {
                "retention stopped, index or disk fails; the office tries again"
            }
            Fault::TwoDevices => {
                "two devices run with one site and end each other's sessions; give each its own site and certificate"
            }
            Fault::OverLimit => {
                "archive over its size limit, locks and shares protect every file; raise --keep-gib or end locks"
            }
        }
    }

    /// True when an operator must act; the office recovers from the other faults itself.
    fn needs_operator(self) -> bool {
        matches!(
            self,
            Fault::TooManySites
                | Fault::RetentionFailed
                | Fault::RemovalFailed
                | Fault::OverLimit
                | Fault::TwoDevices
        )
    }
}

/// Faults of one kind and site since the last report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultReport {
    /// The site; `None` for a fault of the office itself.
    pub site: Option<SiteId>,
    /// The kind.
    pub fault: Fault,
    /// How many.
    pub count: u64,
    /// False for the first report of this kind and site.
    pub is_repeated: bool,
    /// Particulars of the newest; empty when there are none.
    pub detail: String,
    /// The newest would have succeeded with free space on the archive's disk.
    pub is_disk_full: bool,
}

/// Files released of one site.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SiteShare {
    /// Number of files.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Path of the first one, below the archive's directory.
    pub first: String,
    /// Path of the last one, below the archive's directory.
    pub last: String,
}

/// What a running office reports to its operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The office has a session with the broker.
    Connected {
        /// Host name or address of the broker.
        host: String,
        /// Its TCP port.
        port: u16,
    },
    /// The session with the broker ended, or none was established.
    Disconnected {
        /// Host name or address of the broker.
        host: String,
        /// Its TCP port.
        port: u16,
        /// The cause.
        reason: String,
        /// The broker closed the session at once, as it does for a second client with the same id.
        may_be_duplicate: bool,
    },
    /// The broker rejected the subscription.
    SubscriptionRejected,
    /// A device changed its state.
    State {
        /// The device's site.
        site: SiteId,
        /// `online`, `stopping` or `lost`.
        state: String,
    },
    /// An event was stored.
    Event {
        /// The device's site.
        site: SiteId,
        /// Its sequence number.
        seq: u64,
        /// Its time, as the device wrote it.
        time: String,
        /// Its CloudEvents type.
        kind: String,
    },
    /// A file was stored; its SHA-256 is that of the manifest.
    File {
        /// The device's site.
        site: SiteId,
        /// `clip`, `snapshot` or `requested`.
        purpose: String,
        /// Bytes.
        size: u64,
        /// Where it lies.
        path: PathBuf,
    },
    /// The device aborted the transfer of a file.
    FileAborted {
        /// The device's site.
        site: SiteId,
        /// Id of the file: 32 hexadecimal digits.
        fid: String,
    },
    /// The office requested missing events.
    EventsRequested {
        /// The device's site.
        site: SiteId,
        /// Their sequence numbers: `[first, last]`.
        ranges: Vec<[u64; 2]>,
    },
    /// A device reported another configuration or phase than before.
    Configuration {
        /// The device's site.
        site: SiteId,
        /// Id of the document: key and version.
        id: String,
        /// Its phase.
        phase: String,
    },
    /// Retention released files and events.
    Released {
        /// Files.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// Events.
        events: u64,
        /// Unfinished files.
        parts: u64,
    },
    /// Retention released files of one site.
    SiteReleased {
        /// The device's site, as it stands in the index.
        site: String,
        /// The files.
        share: SiteShare,
    },
    /// Something failed.
    Fault(FaultReport),
    /// Index and disk accept everything again.
    Recovered {
        /// Messages that were rejected meanwhile.
        rejected: u64,
    },
}

/// The span of all that the office does for one site: it handles a message, or logs a notice. Without
/// a site it concerns the office itself.
pub(super) fn office_span(site: Option<&str>) -> tracing::Span {
    match site {
        Some(site) => tracing::info_span!("office", site = %shown(site)),
        None => tracing::info_span!("office"),
    }
}

impl Notice {
    /// True for a line of the log, false for a line of output: a message that a device sent.
    pub fn is_log(&self) -> bool {
        match self {
            Notice::State { .. }
            | Notice::Event { .. }
            | Notice::File { .. }
            | Notice::FileAborted { .. }
            | Notice::EventsRequested { .. }
            | Notice::Configuration { .. } => false,
            Notice::Connected { .. }
            | Notice::Disconnected { .. }
            | Notice::SubscriptionRejected
            | Notice::Released { .. }
            | Notice::SiteReleased { .. }
            | Notice::Fault(_)
            | Notice::Recovered { .. } => true,
        }
    }

    /// Logs the notice in the span `office{site}`; without a site in the span `office`.
    pub fn log(&self) {
        let _span = office_span(self.site()).entered();
        match self {
            Notice::Connected { host, port } => tracing::info!(host, port, "broker connected"),
            Notice::Disconnected { host, port, reason, may_be_duplicate } => tracing::warn!(
                host, port, reason = %shown(reason), next_step = may_be_duplicate.then_some(DUPLICATE),
                "broker disconnected; the office connects again"
            ),
            Notice::SubscriptionRejected => {
                tracing::error!("subscription rejected by the broker; check its access list");
            }
            Notice::Released { files, bytes, events, parts } => {
                tracing::info!(files, bytes, events, parts, "retention released files and events");
            }
            Notice::SiteReleased { share, .. } => tracing::info!(
                files = share.files,
                bytes = share.bytes,
                first = share.first,
                last = share.last,
                "retention released files of a site"
            ),
            Notice::Fault(report) => report.log(),
            Notice::Recovered { rejected } => {
                tracing::info!(
                    rejected,
                    "archive recovered, index and disk accept everything; the devices send again"
                );
            }
            output => tracing::info!("{output}"),
        }
    }

    fn site(&self) -> Option<&str> {
        match self {
            Notice::State { site, .. }
            | Notice::Event { site, .. }
            | Notice::File { site, .. }
            | Notice::FileAborted { site, .. }
            | Notice::EventsRequested { site, .. }
            | Notice::Configuration { site, .. } => Some(site.as_str()),
            Notice::SiteReleased { site, .. } => Some(site),
            Notice::Fault(report) => report.site.as_ref().map(SiteId::as_str),
            _ => None,
        }
    }

    /// The line, with what devices wrote.
    fn line(&self) -> String {
        match self {
            Notice::Connected { host, port } => format!("office connected to {host}:{port}"),
            Notice::Disconnected { host, port, reason, may_be_duplicate } => {
                let duplicate =
                    if *may_be_duplicate { format!("; {DUPLICATE}") } else { String::new() };
                format!("no broker at {host}:{port}: {reason}{duplicate}")
            }
            Notice::SubscriptionRejected => {
                "the broker rejects the office's subscription; check its access list".into()
            }
            Notice::State { site, state } => format!("{site}  {state}"),
            Notice::Event { site, seq, time, kind } => {
                format!("{site}  event {seq:>4}  {time}  {kind}")
            }
            Notice::File { site, purpose, size, path } => {
                format!("{site}  {purpose} of {size} bytes, hash checked: {}", path.display())
            }
            Notice::FileAborted { site, fid } => {
                format!("{site}  file {fid} aborted by the device")
            }
            Notice::EventsRequested { site, ranges } => {
                format!("{site}  missing events requested: {ranges:?}")
            }
            Notice::Configuration { site, id, phase } => {
                format!("{site}  configuration {id}: {phase}")
            }
            Notice::Released { files, bytes, events, parts } => {
                format!(
                    "released: {files} files of {bytes} bytes, {events} events, {parts} unfinished files"
                )
            }
            Notice::SiteReleased { site, share } => {
                let SiteShare { files, bytes, first, last } = share;
                format!("{site}  released: {files} files of {bytes} bytes, {first} to {last}")
            }
            Notice::Fault(report) => report.line(),
            Notice::Recovered { rejected } => {
                format!(
                    "office  index and disk accept everything again; the devices send {rejected} rejected messages again"
                )
            }
        }
    }
}

/// Next step when two offices have the same client id.
const DUPLICATE: &str = "check whether another office runs with the same --host: the broker ends one session for the other";
/// Next step when the archive's disk is full.
const FREE_SPACE: &str = "free space on the archive's disk";

impl FaultReport {
    fn log(&self) {
        let FaultReport { fault, count, is_repeated, is_disk_full, .. } = self;
        let (detail, next_step) = (shown(&self.detail), is_disk_full.then_some(FREE_SPACE));
        if *is_disk_full || fault.needs_operator() {
            tracing::error!(count, is_repeated, detail, next_step, "{}", fault.text());
        } else {
            tracing::warn!(count, is_repeated, detail, "{}", fault.text());
        }
    }

    fn line(&self) -> String {
        let site = self.site.as_ref().map_or("office", SiteId::as_str);
        let since = if self.is_repeated { " (since the last report)" } else { "" };
        let next_step = if self.is_disk_full { format!("; {FREE_SPACE}") } else { String::new() };
        let detail = if self.detail.is_empty() {
            String::new()
        } else {
            format!(" ({}{next_step})", self.detail)
        };
        format!("{site}  {} {}{since}{detail}", self.count, self.fault.text())
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.line()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_shows_control_characters_of_a_device_escaped() {
        let site = SiteId::parse("km-17").unwrap();
        let notice =
            Notice::Configuration { site, id: "k-1\u{1b}[2J".into(), phase: "trial\n".into() };
        assert_eq!(notice.to_string(), "km-17  configuration k-1\\x1b[2J: trial\\x0a");
    }

    #[test]
    fn a_fault_of_a_full_disk_names_the_next_step() {
        let site = SiteId::parse("km-17").ok();
        let detail = "database or disk is full".to_owned();
        let mut report = FaultReport {
            site,
            fault: Fault::MessageNotStored,
            count: 2,
            is_repeated: false,
            detail,
            is_disk_full: true,
        };
        let line = Notice::Fault(report.clone()).to_string();
        assert!(
            line.contains("the device sends them again") && line.contains(FREE_SPACE),
            "{line}"
        );
        report.is_disk_full = false;
        let line = Notice::Fault(report).to_string();
        assert!(!line.contains(FREE_SPACE), "{line}");
    }
}
