//! What one outbox entry is on the card: the thing pending to the office, and the agent's own small state as of that entry. The
//! two share a slot, so no power cut can separate an event from the counter that numbered it or from the clip it still owes.
//!
//! What belongs here: that format (JSON, because 4 KiB are written either way) and its bounds. What does not: order of
//! delivery (the outbox), slots (storage's journal).

use serde::{Deserialize, Serialize};

use crate::evidence::manifest::{Manifest, Purpose};
use crate::outbox::Priority;
use crate::units::{Boot, MonoTime, RingId, Timestamp, WallTime};
use crate::uplink::bandwidth::DataSpent;

/// Events open at once at most: more is a crowd, and the crowd is already being recorded. Bounds the state in an entry.
pub const OPEN_MAX: usize = 8;
/// Clips pending but not yet cut at most, for the same bound. More are refused by name (`clip: shed`, `busy`).
pub const OWED_MAX: usize = 8;
/// Names of zones listed in one event at most; the count of all goes beside them.
pub const ZONES_MAX: usize = 8;

/// One entry of the outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The agent's state right after this entry.
    #[serde(rename = "a")]
    pub after: AgentState,
    /// What is pending.
    #[serde(rename = "b")]
    pub body: Body,
}

/// What is pending to the office.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// An event.
    #[serde(rename = "e")]
    Event {
        /// Its ULID.
        id: String,
        /// Its number.
        seq: u64,
        /// How it is treated. Entries of before have none: they are [`EventClass::Other`], which is never dropped for its age.
        #[serde(rename = "c", default, skip_serializing_if = "EventClass::is_other")]
        class: EventClass,
        /// Its payload, JSON.
        payload: String,
    },
    /// A file; its bytes are footage in the ring or the still of this entry.
    #[serde(rename = "f")]
    File(Box<Manifest>),
}

impl Body {
    /// The outbox lane it travels in.
    pub fn priority(&self) -> Priority {
        match self {
            Body::Event { class: EventClass::Update, .. } => Priority::Update,
            Body::Event { class: EventClass::Access, .. } => Priority::Access,
            Body::Event { class: EventClass::Other | EventClass::Shed | EventClass::Rejection, .. } => Priority::Event,
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
    /// The ring the number counts in.
    #[serde(rename = "r", default)]
    pub ring: RingId,
    /// Number of the next event.
    #[serde(rename = "s")]
    pub next_seq: u64,
    /// Events that have begun and not ended.
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<OpenEvent>,
    /// Clips promised and not yet entries of their own.
    #[serde(rename = "w", default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<PendingClip>,
    /// What is used of the data budget.
    #[serde(rename = "d", default)]
    pub spent: DataSpent,
}

/// An event that has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenEvent {
    /// ULID of its start event.
    #[serde(rename = "e")]
    pub event: String,
    /// Boot it began in.
    #[serde(rename = "b")]
    pub boot: Boot,
    /// When it began.
    #[serde(rename = "t")]
    pub began: Timestamp,
}

/// A clip that is promised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingClip {
    /// The event it shows, or the `req_id` of the request it answers.
    #[serde(rename = "e")]
    pub event: String,
    /// What for.
    #[serde(rename = "p")]
    pub purpose: Purpose,
    /// Which piece, from 1: a change of the camera's parameters splits a clip.
    #[serde(rename = "n")]
    pub part: u32,
    /// The footage.
    #[serde(rename = "r")]
    pub range: ClipRange,
    /// Only records with a higher number: what earlier parts already hold.
    #[serde(rename = "a", default)]
    pub after: u64,
}

/// Which footage a clip shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClipRange {
    /// By the monotonic clock of one start of the agent: what events know.
    #[serde(rename = "m")]
    Mono(Boot, MonoTime, MonoTime),
    /// By wall time: what people ask for.
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
    /// Says where the bytes stop making sense; such an entry was written by another version.
    pub fn decode(bytes: &[u8]) -> Result<Entry, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::storage::journal::ENTRY_MAX;
    use crate::units::ClockQuality;
    use crate::uplink::bandwidth::SPENT_MAX;

    /// A record number no ring reaches: ten a second for 300 years.
    const RECORD: u64 = 100_000_000_000;

    /// The longest state the bounds allow.
    pub fn full_after() -> AgentState {
        let late = Timestamp { mono: MonoTime(u64::MAX >> 12), wall: WallTime(i64::MAX >> 10), quality: ClockQuality::Camera };
        let open = OpenEvent { event: "Z".repeat(26), boot: Boot(u32::MAX), began: late };
        let range = ClipRange::Mono(Boot(u32::MAX), late.mono, late.mono);
        let owed = PendingClip { event: "Z".repeat(64), purpose: Purpose::Requested, part: 9, range, after: u64::MAX >> 12 };
        AgentState {
            ring: RingId(u64::MAX),
            next_seq: u64::MAX >> 12,
            open: vec![open; OPEN_MAX],
            owed: vec![owed; OWED_MAX],
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
    fn an_entry_survives_the_journal_and_nonsense_is_an_error() {
        for class in [EventClass::Other, EventClass::Update, EventClass::Access, EventClass::Shed, EventClass::Rejection] {
            let body = Body::Event { id: "01J".into(), seq: 7, class, payload: "{\"a\":\"é\"}".into() };
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
        assert_eq!(of(EventClass::Other), golden(""), "as every entry was before there was a class");
        assert_eq!(Entry::decode(golden("").as_bytes()), Ok(entry(EventClass::Other)));
    }
}
