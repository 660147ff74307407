//! The payloads, as `docs/mqtt.md` documents them: the only types serde shows to the outside. Unknown fields are ignored on
//! the way in, so that an older box understands a newer office; every message carries `v` where its meaning may change.

use serde::{Deserialize, Serialize};

pub use crate::evidence::manifest::{Manifest, Purpose};
use crate::units::{ClockQuality, Digest, RingId};

/// `up/event`: a CloudEvents 1.0 envelope in structured JSON mode. A device writes every field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Always `1.0`.
    pub specversion: String,
    /// ULID, stable across retries.
    pub id: String,
    /// `taimat/{site}`.
    pub source: String,
    /// E.g. `vn.taimat.motion.start.v1`.
    #[serde(rename = "type")]
    pub kind: String,
    /// RFC 3339 wall time of what it tells.
    pub time: String,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// Gap-free number within `ring`, from 1.
    pub seq: u64,
    /// Name of the ring on the card: a replaced card is another, and numbers begin again.
    #[serde(default)]
    pub ring: RingId,
    /// How far `time` can be trusted.
    pub clock: ClockQuality,
    /// Start number of the agent.
    pub boot: u32,
    /// Monotonic microseconds of what it tells, within `crash_loop`.
    pub mono: u64,
    /// The particulars, by `type`.
    pub data: serde_json::Value,
}

/// `up/birth`, retained: who this device is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Birth {
    /// 1.
    pub v: u32,
    /// Agent version.
    pub version: String,
    /// Name of the ring on the card.
    #[serde(default)]
    pub ring: RingId,
    /// Start number, within `ring`.
    pub boot: u32,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// Camera in words, e.g. `h264 1920x1080 + aac`; empty until it played.
    pub camera: String,
    /// Bytes of the ring.
    pub ring_bytes: u64,
    /// Oldest footage, RFC 3339.
    pub oldest: Option<String>,
    /// How far our wall clock can be trusted.
    pub clock: ClockQuality,
    /// Whether the last stop was in order.
    pub clean_start: bool,
}

/// `up/health`, every minute. Cumulative counters are since this start.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Health {
    /// 1.
    pub v: u32,
    /// Wall time, RFC 3339.
    pub t: String,
    /// How far it can be trusted.
    pub clock: ClockQuality,
    /// Name of the ring on the card: watermarks count in it.
    #[serde(default)]
    pub ring: RingId,
    /// Start number.
    pub boot: u32,
    /// Seconds since this start.
    pub uptime: u64,
    /// The main stream: `recording`, `starting` or what is wrong, e.g. `unreachable` ([`crate::camera::CameraFault::as_str`]).
    pub camera: String,
    /// The same of the sub-stream, `playing` when it does; not there when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Record sequence written / durable / confirmed by the office.
    pub watermarks: Watermarks,
    /// What waits for the office.
    pub backlog: Backlog,
    /// Counters by room, flat, each `room.name`.
    pub counters: std::collections::BTreeMap<String, u64>,
}

/// How far footage has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Watermarks {
    /// Highest durable record.
    pub durable: u64,
    /// Highest event `seq` made.
    pub event: u64,
    /// Highest event `seq` such that it and everything before is receipted.
    pub confirmed: u64,
}

/// What waits for the office.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Backlog {
    /// Entries.
    pub n: u64,
    /// Bytes of events and files.
    pub bytes: u64,
    /// Age of the oldest in seconds.
    pub oldest: u64,
}

/// `dn/cmd/{name}`: a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// From the topic, not the payload.
    #[serde(skip)]
    pub name: String,
    /// The caller's own id: the same id is answered, not carried out again.
    pub req_id: String,
    /// RFC 3339 time after which it must not be carried out.
    #[serde(default)]
    pub expires: Option<String>,
    /// Arguments, by command.
    #[serde(flatten)]
    pub args: serde_json::Map<String, serde_json::Value>,
}

impl Command {
    /// A whole number among the arguments; in a signed command every argument is a text.
    pub fn number(&self, key: &str) -> Option<u64> {
        let value = self.args.get(key)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }
}

/// `up/rsp`: the answer to a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Of the command.
    pub req_id: String,
    /// Of the command.
    pub cmd: String,
    /// `ok`, `accepted` (a file follows) or `error`.
    pub status: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Result, by command.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data: serde_json::Value,
}

/// `up/state`, retained, and the will.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// 1.
    pub v: u32,
    /// `online`, `stopping` (stopped in order) or `missing_records` (the will).
    pub state: String,
    /// Name of the ring on the card.
    #[serde(default)]
    pub ring: RingId,
    /// Start number.
    pub boot: u32,
    /// Connection number, rising over the life of `ring`: a state with a lower one is late and ignored.
    pub conn: u64,
    /// RFC 3339.
    pub t: String,
}

/// `dn/ack`: what the office archive has, sent after its fsync.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub enum Ack {
    /// An event is stored.
    Event {
        /// Its ULID.
        id: String,
        /// SHA-256 of the payload as it was received.
        sha256: Digest,
    },
    /// Answer to every `init` and every few chunks: what of a file is there.
    Have {
        /// File id.
        fid: String,
        /// Everything below this offset is there.
        upto: u64,
        /// Holes above it that are known to be missing, `[from, to)`.
        #[serde(default)]
        missing: Vec<(u64, u64)>,
    },
    /// An event will never be stored: something in it breaks the rules of `docs/mqtt.md`.
    #[serde(rename = "event-refused")]
    EventRefused {
        /// SHA-256 of the payload as it was received: its `id` may be what is wrong with it.
        sha256: Digest,
        /// Which field, and why.
        reason: String,
    },
    /// A file is stored, whole and with the right hash.
    Stored {
        /// File id.
        fid: String,
        /// SHA-256 of its bytes as stored.
        sha256: Digest,
    },
    /// A file cannot be stored: why, and whether to try again later.
    Refused {
        /// File id.
        fid: String,
        /// For people.
        reason: String,
    },
}
