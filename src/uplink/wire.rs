//! MQTT payloads as `docs/mqtt.md` documents them.
//!
//! Unknown fields are ignored on input, so that an older device understands a newer office.
//! Messages whose meaning may change carry `v`.

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
    /// RFC 3339 wall time of the event.
    pub time: String,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// Gap-free sequence number within `ring`, from 1.
    pub seq: u64,
    /// Id of the ring on the card. A replaced card has another ring, and numbers start again.
    #[serde(default)]
    pub ring: RingId,
    /// Quality of the clock behind `time`.
    pub clock: ClockQuality,
    /// Boot number of the agent.
    pub boot: u32,
    /// Monotonic time of the event in microseconds, within `boot`.
    pub mono: u64,
    /// Data of the event, by `type`.
    pub data: serde_json::Value,
}

/// `up/birth`, retained: identity and capabilities of the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Birth {
    /// 1.
    pub v: u32,
    /// Agent version.
    pub version: String,
    /// Id of the ring on the card.
    #[serde(default)]
    pub ring: RingId,
    /// Boot number, within `ring`.
    pub boot: u32,
    /// Capabilities of this version.
    pub capabilities: Vec<String>,
    /// Tracks of the camera, e.g. `h264 1920x1080 + aac`; empty until it has played.
    pub camera: String,
    /// Size of the ring in bytes.
    pub ring_bytes: u64,
    /// RFC 3339 time of the oldest footage; `None` while the ring is empty.
    pub oldest: Option<String>,
    /// Quality of the device's wall clock.
    pub clock: ClockQuality,
    /// Whether the previous boot ended with an ordered shutdown.
    pub clean_start: bool,
    /// Privacy zones of the configuration; `None` from a version that does not report them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy_zones: Option<u32>,
    /// Seconds between two health messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_every: Option<u32>,
    /// Bytes that may be published in a day (UTC); 0: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_budget: Option<u64>,
    /// Bytes that may be published in a month (UTC); 0: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month_budget: Option<u64>,
}

/// `up/health`, every minute. Counters accumulate since boot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Health {
    /// 1.
    pub v: u32,
    /// Wall time, RFC 3339.
    pub t: String,
    /// Quality of the clock behind `t`.
    pub clock: ClockQuality,
    /// Id of the ring on the card, in which the watermarks count.
    #[serde(default)]
    pub ring: RingId,
    /// Boot number.
    pub boot: u32,
    /// Seconds since boot of the agent.
    pub uptime: u64,
    /// The main stream: `recording`, `starting` or its fault, e.g. `unreachable`
    /// ([`crate::camera::CameraFault::as_str`]).
    pub camera: String,
    /// The same for the sub-stream, with `playing`; absent without a sub-stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Progress of records and events.
    pub watermarks: Watermarks,
    /// Entries pending for the office.
    pub backlog: Backlog,
    /// Counters by module, each `module.name`.
    pub counters: std::collections::BTreeMap<String, u64>,
}

/// Progress of records and events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Watermarks {
    /// Number of the newest durable record.
    pub durable: u64,
    /// Highest `seq` assigned to an event.
    pub event: u64,
    /// Highest `seq` up to which every event is receipted.
    pub confirmed: u64,
}

/// Entries pending for the office.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Backlog {
    /// Number of entries.
    pub n: u64,
    /// Bytes of events and files.
    pub bytes: u64,
    /// Age of the oldest in seconds.
    pub oldest: u64,
}

/// `dn/cmd/{name}`: a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Name of the command, from the topic.
    #[serde(skip)]
    pub name: String,
    /// Id chosen by the sender. A repeated id gets the same answer and is not executed again.
    pub req_id: String,
    /// RFC 3339 time after which it must not be executed.
    #[serde(default)]
    pub expires: Option<String>,
    /// Arguments, by command.
    #[serde(flatten)]
    pub args: serde_json::Map<String, serde_json::Value>,
}

impl Command {
    /// An integer argument. In a signed command every argument is a string.
    pub fn number(&self, key: &str) -> Option<u64> {
        let value = self.args.get(key)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }
}

/// `up/rsp`: the answer to a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// `req_id` of the command.
    pub req_id: String,
    /// Name of the command.
    pub cmd: String,
    /// `ok`, `accepted` (a file follows) or `error`.
    pub status: String,
    /// Explanation as text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Result, by command.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data: serde_json::Value,
}

/// `up/state`, retained; also the will.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// 1.
    pub v: u32,
    /// `online`, `stopping` (ordered shutdown) or `lost` (the will).
    pub state: String,
    /// Id of the ring on the card.
    #[serde(default)]
    pub ring: RingId,
    /// Boot number.
    pub boot: u32,
    /// Connection number, increasing over the life of `ring`. A state with a lower number than the
    /// last one is outdated.
    pub conn: u64,
    /// RFC 3339 wall time.
    pub t: String,
}

/// `dn/ack`: receipts of the office's archive, sent after its fsync.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub enum Ack {
    /// An event is stored.
    Event {
        /// Its ULID.
        id: String,
        /// SHA-256 of the payload as received.
        sha256: Digest,
    },
    /// Received bytes of a file: the answer to every `init` and to every few chunks.
    Have {
        /// File id.
        fid: String,
        /// Every byte below this offset is received.
        upto: u64,
        /// Missing ranges `[from, to)` above it.
        #[serde(default)]
        missing: Vec<(u64, u64)>,
    },
    /// An event is rejected permanently because it violates `docs/mqtt.md`.
    #[serde(rename = "event-refused")]
    EventRefused {
        /// SHA-256 of the payload as received, because its `id` may be the invalid field.
        sha256: Digest,
        /// The field and the violation.
        reason: String,
    },
    /// A file is stored completely, with the right hash.
    Stored {
        /// File id.
        fid: String,
        /// SHA-256 of its bytes as stored.
        sha256: Digest,
    },
    /// A file is rejected.
    Refused {
        /// File id.
        fid: String,
        /// Cause as text.
        reason: String,
    },
}
