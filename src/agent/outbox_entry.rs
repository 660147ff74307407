//! Journal format of an outbox entry: one event or file for the office, and the agent's state after
//! it.
//!
//! Both share a slot, so no power cut can separate an event from its sequence number or from its
//! pending clip. The format is JSON: a compact encoding would save nothing, because a slot takes 4
//! KiB either way. The order of delivery belongs to [`crate::outbox`], slots belong to
//! [`crate::storage::journal`].

use serde::{Deserialize, Serialize};

use crate::evidence::manifest::{Manifest, Purpose};
use crate::outbox::Priority;
use crate::units::{Boot, MonoTime, RingId, Timestamp, WallTime};
use crate::uplink::bandwidth::DataSpent;

/// Events open at once. It bounds the state in an entry; a crowd that exceeds it is already being
/// recorded.
pub const OPEN_MAX: usize = 8;
/// Clips pending but not cut yet, for the same bound. Further ones are rejected by name (`clip:
/// shed`, `busy`).
pub const OWED_MAX: usize = 8;
/// Zone names listed in one event, which also carries the number of all.
pub const ZONES_MAX: usize = 8;

/// One entry of the outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The agent's state right after this entry.
    #[serde(rename = "a")]
    pub after: AgentState,
    /// The event or file for the office.
    #[serde(rename = "b")]
    pub body: Body,
}

/// An event or file for the office.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// An event.
    #[serde(rename = "e")]
    Event {
        /// Its ULID.
        id: String,
        /// Its sequence number.
        seq: u64,
        /// Its delivery class. Entries of older cards have none: they are [`EventClass::Other`], which
        /// is never dropped for its age.
        #[serde(rename = "c", default, skip_serializing_if = "EventClass::is_other")]
        class: EventClass,
        /// Its payload: a CloudEvents envelope in JSON.
        payload: String,
    },
    /// A file. Its bytes are footage in the ring, or the snapshot slot of this entry.
    #[serde(rename = "f")]
    File(Box<Manifest>),
}

impl Body {
    /// The outbox lane it travels in.
    pub fn priority(&self) -> Priority {
        match self {
            Body::Event { class: EventClass::Update, .. } => Priority::Update,
            Body::Event { class: EventClass::Access, .. } => Priority::Access,
            Body::Event {
                class: EventClass::Other | EventClass::Shed | EventClass::Rejection,
                ..
            } => Priority::Event,
            Body::File(manifest) => match manifest.purpose {
                Purpose::Snapshot => Priority::Snapshot,
                Purpose::Clip => Priority::Clip,
                Purpose::Requested => Priority::Requested,
            },
        }
    }
}

/// How an event is treated on its way: decided by its kind when it is drafted, and stored with it. Its payload is never searched,
/// because it holds free text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventClass {
    /// Like most: the office must receive it.
    #[default]
    Other,
    /// An update of an event that goes on: of use for some hours.
    Update,
    /// The access trail.
    Access,
    /// A report of what the outbox dropped. Dropped itself, what it reports is reported again.
    Shed,
    /// A report of a refusal. Refused itself, that is not reported.
    Rejection,
}

impl EventClass {
    fn is_other(&self) -> bool {
        *self == EventClass::Other
    }
}

/// The agent's state that must survive a power cut.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AgentState {
    /// The ring in which `next_seq` counts.
    #[serde(rename = "r", default)]
    pub ring: RingId,
    /// Sequence number of the next event.
    #[serde(rename = "s")]
    pub next_seq: u64,
    /// Events in progress.
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<OpenEvent>,
    /// Clips that are pending and not yet entries of their own.
    #[serde(rename = "w", default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<PendingClip>,
    /// Used part of the data budget.
    #[serde(rename = "d", default)]
    pub spent: DataSpent,
}

/// An event in progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenEvent {
    /// ULID of its start event.
    #[serde(rename = "e")]
    pub event: String,
    /// Boot in which it started.
    #[serde(rename = "b")]
    pub boot: Boot,
    /// Time of its start.
    #[serde(rename = "t")]
    pub started_at: Timestamp,
}

/// A clip that is pending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingClip {
    /// The event it shows, or the `req_id` of the request it answers.
    #[serde(rename = "e")]
    pub event: String,
    /// Whether an event or a command requested it.
    #[serde(rename = "p")]
    pub purpose: Purpose,
    /// Number of the part, from 1: a change of the camera's parameters splits a clip.
    #[serde(rename = "n")]
    pub part: u32,
    /// The footage it covers.
    #[serde(rename = "r")]
    pub range: ClipRange,
    /// Only records with a higher number: earlier parts hold the others.
    #[serde(rename = "a", default)]
    pub after: u64,
}

/// The footage that a clip covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClipRange {
    /// By the monotonic clock of one boot, as events use it.
    #[serde(rename = "m")]
    Mono(Boot, MonoTime, MonoTime),
    /// By wall time, as commands use it.
    #[serde(rename = "w")]
    Wall(WallTime, WallTime),
}

impl Entry {
    /// The bytes for the journal.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// When the bytes are no entry of this version.
    pub fn decode(bytes: &[u8]) -> Result<Entry, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::storage::journal_layout::ENTRY_MAX;
    use crate::units::ClockQuality;
    use crate::uplink::bandwidth::SPENT_MAX;

    /// A record number that no ring reaches: ten records a second for 300 years.
    const RECORD: u64 = 100_000_000_000;

    /// The longest state the bounds allow.
    pub fn full_after() -> AgentState {
        let late = Timestamp {
            mono: MonoTime(u64::MAX >> 12),
            wall: WallTime(i64::MAX >> 10),
            quality: ClockQuality::Camera,
        };
        let open = OpenEvent { event: "Z".repeat(26), boot: Boot(u32::MAX), started_at: late };
        let range = ClipRange::Mono(Boot(u32::MAX), late.mono, late.mono);
        let clip = PendingClip {
            event: "Z".repeat(64),
            purpose: Purpose::Requested,
            part: 9,
            range,
            after: u64::MAX >> 12,
        };
        AgentState {
            ring: RingId(u64::MAX),
            next_seq: u64::MAX >> 12,
            open: vec![open; OPEN_MAX],
            owed: vec![clip; OWED_MAX],
            spent: DataSpent { day: 99_999, today: SPENT_MAX, month: SPENT_MAX },
        }
    }

    #[test]
    fn the_largest_file_entry_fits_its_journal_slot() {
        let gap = (WallTime(0).rfc3339(), WallTime(0).rfc3339(), "evicted_pinned".to_owned());
        let manifest = Manifest {
            v: 1,
            site: "s".repeat(32),
            name: "n".repeat(96),
            purpose: Purpose::Requested,
            media_type: "video/mp4".into(),
            size: 1 << 40,
            sha256: crate::units::Digest::default(),
            event: "e".repeat(64),
            from: WallTime(0).rfc3339(),
            to: WallTime(0).rfc3339(),
            clock: ClockQuality::Camera,
            records: (RECORD, RECORD),
            gaps: vec![gap; crate::evidence::manifest::GAPS_MAX],
            missing: vec![(RECORD, RECORD); crate::evidence::manifest::GAPS_MAX],
            part: u32::MAX,
            last: false,
        };
        let bytes = Entry { after: full_after(), body: Body::File(Box::new(manifest)) }.encode();
        assert!(bytes.len() <= ENTRY_MAX, "{} bytes", bytes.len());
    }

    #[test]
    fn an_entry_round_trips_and_invalid_bytes_are_an_error() {
        for class in [
            EventClass::Other,
            EventClass::Update,
            EventClass::Access,
            EventClass::Shed,
            EventClass::Rejection,
        ] {
            let body =
                Body::Event { id: "01J".into(), seq: 7, class, payload: "{\"a\":\"é\"}".into() };
            let entry = Entry { after: full_after(), body };
            assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
        }
        assert!(Entry::decode(b"{\"a\":1}").is_err());
    }

    #[test]
    fn the_class_is_stored_and_may_be_absent() {
        let entry = |class| Entry {
            after: AgentState { ring: RingId(9), next_seq: 8, ..AgentState::default() },
            body: Body::Event { id: "01J".into(), seq: 7, class, payload: "{}".into() },
        };
        let golden = |class: &str| {
            let spent = serde_json::to_string(&DataSpent::default()).expect("it is plain");
            format!(
                r#"{{"a":{{"r":"0000000000000009","s":8,"d":{spent}}},"b":{{"e":{{"id":"01J","seq":7,{class}"payload":"{{}}"}}}}}}"#
            )
        };
        let of = |class| String::from_utf8(entry(class).encode()).expect("JSON is UTF-8");
        assert_eq!(of(EventClass::Update), golden(r#""c":"update","#));
        assert_eq!(of(EventClass::Access), golden(r#""c":"access","#));
        assert_eq!(of(EventClass::Shed), golden(r#""c":"shed","#));
        assert_eq!(of(EventClass::Rejection), golden(r#""c":"rejection","#));
        assert_eq!(
            of(EventClass::Other),
            golden(""),
            "as every entry was before there was a class"
        );
        assert_eq!(Entry::decode(golden("").as_bytes()), Ok(entry(EventClass::Other)));
    }
}
