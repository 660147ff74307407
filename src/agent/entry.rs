//! What one outbox entry is on the card: the thing owed to the office, and the agent's own small state as of that entry. The
//! two share a slot, so no power cut can separate an event from the counter that numbered it or from the clip it still owes.
//!
//! What belongs here: that format (JSON, because 4 KiB are written either way) and its bounds. What does not: order of
//! delivery (the outbox), slots (storage's journal).

use serde::{Deserialize, Serialize};

use crate::evidence::manifest::{Manifest, Purpose};
use crate::units::{Boot, Mono, RingId, Stamp, Wall};
use crate::uplink::pace::Spent;

/// Events open at once at most: more is a crowd, and the crowd is already being recorded. Bounds the state in an entry.
pub const OPEN_MAX: usize = 8;
/// Clips owed but not yet cut at most, for the same bound. More are refused by name (`clip: shed`, `busy`).
pub const OWED_MAX: usize = 8;
/// Names of zones listed in one event at most; the count of all goes beside them.
pub const ZONES_MAX: usize = 8;

/// One entry of the outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The agent's state right after this entry.
    #[serde(rename = "a")]
    pub after: After,
    /// What is owed.
    #[serde(rename = "b")]
    pub body: Body,
}

/// What is owed to the office.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// An event.
    #[serde(rename = "e")]
    Event {
        /// Its ULID.
        id: String,
        /// Its number.
        seq: u64,
        /// Its payload, JSON.
        payload: String,
    },
    /// A file; its bytes are footage in the ring or the still of this entry.
    #[serde(rename = "f")]
    File(Box<Manifest>),
}

/// The agent's state that must survive a power cut.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct After {
    /// The ring the number counts in.
    #[serde(rename = "r", default)]
    pub ring: RingId,
    /// Number of the next event.
    #[serde(rename = "s")]
    pub next_seq: u64,
    /// Events that have begun and not ended.
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<Open>,
    /// Clips promised and not yet entries of their own.
    #[serde(rename = "w", default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<Owed>,
    /// What is used of the data budget.
    #[serde(rename = "d", default)]
    pub spent: Spent,
}

/// An event that has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// ULID of its start event.
    #[serde(rename = "e")]
    pub event: String,
    /// Boot it began in.
    #[serde(rename = "b")]
    pub boot: Boot,
    /// When it began.
    #[serde(rename = "t")]
    pub began: Stamp,
}

/// A clip that is promised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Owed {
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
    pub range: Range,
    /// Only records with a higher number: what earlier parts already hold.
    #[serde(rename = "a", default)]
    pub after: u64,
}

/// Which footage a clip shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Range {
    /// By the monotonic clock of one start of the agent: what events know.
    #[serde(rename = "m")]
    Mono(Boot, Mono, Mono),
    /// By wall time: what people ask for.
    #[serde(rename = "w")]
    Wall(Wall, Wall),
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
    use crate::units::WallQuality;
    use crate::uplink::pace::SPENT_MAX;

    /// A record number no ring reaches: ten a second for 300 years.
    const RECORD: u64 = 100_000_000_000;

    /// The longest state the bounds allow.
    pub fn full_after() -> After {
        let late = Stamp { mono: Mono(u64::MAX >> 12), wall: Wall(i64::MAX >> 10), quality: WallQuality::Camera };
        let open = Open { event: "Z".repeat(26), boot: Boot(u32::MAX), began: late };
        let range = Range::Mono(Boot(u32::MAX), late.mono, late.mono);
        let owed = Owed { event: "Z".repeat(64), purpose: Purpose::Requested, part: 9, range, after: u64::MAX >> 12 };
        After {
            ring: RingId(u64::MAX),
            next_seq: u64::MAX >> 12,
            open: vec![open; OPEN_MAX],
            owed: vec![owed; OWED_MAX],
            spent: Spent { day: 99_999, today: SPENT_MAX, month: SPENT_MAX },
        }
    }

    #[test]
    fn the_largest_file_entry_fits_its_journal_slot() {
        let gap = (Wall(0).rfc3339(), Wall(0).rfc3339(), "evicted_pinned".to_owned());
        let manifest = Manifest {
            v: 1,
            site: "s".repeat(32),
            name: "n".repeat(96),
            purpose: Purpose::Requested,
            media_type: "video/mp4".into(),
            size: 1 << 40,
            sha256: crate::units::Digest::default(),
            event: "e".repeat(64),
            from: Wall(0).rfc3339(),
            to: Wall(0).rfc3339(),
            clock: WallQuality::Camera,
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
        let body = Body::Event { id: "01J".into(), seq: 7, payload: "{\"a\":\"é\"}".into() };
        let entry = Entry { after: full_after(), body };
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
        assert!(Entry::decode(b"{\"a\":1}").is_err());
    }
}
