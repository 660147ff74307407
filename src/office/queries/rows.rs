//! Rows for pages. Times are RFC 3339 in UTC with milliseconds.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::units::WallTime;

/// A snapshot of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotRef {
    /// File id.
    pub fid: String,
    /// Time of the picture.
    pub time: String,
}

/// Number and length of gaps in the footage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct GapSum {
    /// How many.
    pub count: u64,
    /// Their length in seconds, inside the asked time.
    pub seconds: u64,
}

/// What an event `camera.down` or `camera.up` of the main stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraReport {
    /// Time of the event.
    pub at: WallTime,
    /// State of the camera in the words of a health message: `recording`, or the fault.
    pub state: String,
}

/// What the archive knows of a site now.
#[derive(Debug, Clone, Serialize)]
pub struct SiteStatus {
    /// Site id.
    pub site: String,
    /// `online`, `stopping`, `lost`, or empty before the first state.
    pub presence: String,
    /// Since when; empty before the first state.
    pub presence_since: String,
    /// Time of the last message.
    pub seen: String,
    /// Id of the known ring.
    pub ring: String,
    /// The device's last birth, or null.
    pub birth: Value,
    /// The device's last health message, or null.
    pub health: Value,
    /// Time of its receipt; empty before the first one.
    pub health_at: String,
    /// The newest report that the camera stopped or plays again, received since then.
    #[serde(skip)]
    pub camera: Option<CameraReport>,
    /// The newest snapshot.
    pub snapshot: Option<SnapshotRef>,
    /// Events stored and not released.
    pub events: u64,
    /// Sequence numbers below the highest that never arrived, those that the device dropped included.
    pub missing_seq: u64,
    /// Files stored and not released.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Gaps since the asked time.
    pub gaps: GapSum,
}

/// Selection of motion events.
#[derive(Debug, Clone)]
pub struct MotionFilter {
    /// Only these sites; `None` for all.
    pub sites: Option<Vec<String>>,
    /// Only this rule.
    pub rule: Option<String>,
    /// Only this zone.
    pub zone: Option<String>,
    /// Only those that start at or after this time.
    pub from: Option<WallTime>,
    /// Only those that start before this time.
    pub to: Option<WallTime>,
    /// Only those whose site, rule, zone or id contains this text, without case and marks. An event with
    /// exactly this id is found at once, and alone.
    pub text: Option<String>,
    /// Sites that the text means beside those, by the names of their places.
    pub text_sites: Vec<String>,
    /// Only these events, each a site and an id; they are looked up one by one.
    pub only: Option<Vec<(String, String)>>,
    /// `next` of the page before.
    pub before: Option<String>,
    /// Rows at most; [`super::ROWS_MAX`] is the bound.
    pub limit: u32,
    /// Rows of the index that are read at most; it may be less than `limit`.
    pub scan: u32,
}

impl Default for MotionFilter {
    fn default() -> MotionFilter {
        MotionFilter {
            sites: None,
            rule: None,
            zone: None,
            from: None,
            to: None,
            text: None,
            text_sites: Vec::new(),
            only: None,
            before: None,
            limit: 100,
            scan: super::SCAN_ROWS,
        }
    }
}

/// A motion event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MotionEventRow {
    /// Id of its start event.
    pub id: String,
    /// Site id.
    pub site: String,
    /// Start.
    pub start: String,
    /// End; null while it is open, and when the device did not see it.
    pub end: Option<String>,
    /// `unset`, `rtc`, `camera`, `ntp`: the worst among its messages.
    pub clock: &'static str,
    /// Name of the rule.
    pub rule: String,
    /// Names of the zones.
    pub zones: Vec<String>,
    /// `low`, `high`, or empty for normal.
    pub priority: String,
    /// Degrees clockwise from up.
    pub direction: Option<f64>,
    /// 0 to 1.
    pub score: f64,
    /// Objects at the same time, the most.
    pub objects: u64,
    /// Duration; null while it is open, and when the device did not see the end.
    pub seconds: Option<u64>,
    /// `open` or `closed`.
    pub state: &'static str,
    /// `planned`, `off`, `shed`, or empty: what the device said of the clip.
    pub clip_plan: String,
    /// `stopped`, `restart`, or empty: why the device did not see the end.
    pub end_reason: String,
    /// File id of the clip, of its first part.
    pub clip: Option<String>,
    /// File id of the snapshot.
    pub snapshot: Option<String>,
}

/// A page of motion events, the newest first. It may be empty and still have a next one: the search
/// ends after [`MotionFilter::scan`] rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MotionPage {
    /// The events.
    pub events: Vec<MotionEventRow>,
    /// For the next page; null after the last one.
    pub next: Option<String>,
    /// Time down to which events were searched; null when all were.
    pub searched_to: Option<String>,
    /// Rows of the index that were read.
    pub scanned: u32,
}

/// Selection of stored events.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only these sites; `None` for all.
    pub sites: Option<Vec<String>>,
    /// Only this kind: the middle of the `type`, e.g. `camera.down`.
    pub kind: Option<String>,
    /// Only those received at or after this time.
    pub from: Option<WallTime>,
    /// Only those received before this time.
    pub to: Option<WallTime>,
    /// `next` of the page before.
    pub before: Option<String>,
    /// Rows at most; [`super::ROWS_MAX`] is the bound.
    pub limit: u32,
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredEvent {
    /// Site id.
    pub site: String,
    /// Id; a second event of one id has `~` and digits behind it.
    pub id: String,
    /// Sequence number.
    pub seq: u64,
    /// Id of the ring.
    pub ring: String,
    /// The middle of the `type`, e.g. `camera.down`.
    pub kind: String,
    /// The device's time.
    pub time: String,
    /// Time of the receipt.
    pub received: String,
    /// `data` of the event.
    pub data: Value,
}

/// A page of stored events, the last received first.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EventPage {
    /// The events.
    pub events: Vec<StoredEvent>,
    /// For the next page; null after the last one.
    pub next: Option<String>,
}

/// A gap in the footage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FootageGap {
    /// Start.
    pub from: String,
    /// End.
    pub to: String,
    /// Reason (docs/mqtt.md, `gap`).
    pub reason: String,
    /// Bytes; 0 when unknown.
    pub bytes: u64,
}

/// A stored file on the axis of its site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AxisSpan {
    /// Time of the first picture.
    pub from: String,
    /// Time of the end.
    pub to: String,
    /// File id.
    pub fid: String,
    /// `clip` or `requested`.
    pub purpose: String,
    /// Clock quality.
    pub clock: String,
    /// Id of its event, or `req_id` of the request.
    pub event: String,
    /// Gaps inside, of the manifest: from, to, reason.
    pub gaps: Value,
}

/// A motion event on the axis of its site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AxisEvent {
    /// Id of its start event.
    pub id: String,
    /// Start.
    pub from: String,
    /// End; null while it is open, and when the device did not see it.
    pub to: Option<String>,
}

/// What is there of a site between two times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SiteAxis {
    /// Site id.
    pub site: String,
    /// Stored footage.
    pub spans: Vec<AxisSpan>,
    /// Gaps in the footage of the ring.
    pub gaps: Vec<FootageGap>,
    /// Motion events.
    pub events: Vec<AxisEvent>,
    /// One of the lists is cut at [`super::ROWS_MAX`].
    pub is_cut: bool,
}

/// A stored file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredFile {
    /// Site id.
    pub site: String,
    /// File id.
    pub fid: String,
    /// The device's name of the file.
    pub name: String,
    /// Key for [`super::Reader::file_read`].
    #[serde(skip)]
    pub key: String,
    /// `clip`, `snapshot`, `requested`.
    pub purpose: String,
    /// `video/mp4` or `image/jpeg`.
    pub media_type: String,
    /// Id of its event, or `req_id` of the request.
    pub event: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
    /// Time of the first picture.
    pub from: String,
    /// Time of the end.
    pub to: String,
    /// Clock quality.
    pub clock: String,
    /// Time of the receipt.
    pub received: String,
    /// The whole manifest.
    pub manifest: Value,
    /// True when it was released: its bytes are gone.
    pub is_released: bool,
}

/// Selection of stored files.
#[derive(Debug, Clone, Default)]
pub struct FileFilter {
    /// Only these sites; `None` for all.
    pub sites: Option<Vec<String>>,
    /// Only this purpose.
    pub purpose: Option<String>,
    /// Only those of this event or request.
    pub event: Option<String>,
    /// Only those that end at or after this time.
    pub from: Option<WallTime>,
    /// Only those that start before this time.
    pub to: Option<WallTime>,
    /// Rows at most, the newest; [`super::ROWS_MAX`] is the bound.
    pub limit: u32,
}

/// Health figures of a site, step by step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HealthSeries {
    /// Seconds of a step.
    pub step: i64,
    /// Unix time of each step, seconds.
    pub t: Vec<i64>,
    /// By name of the figure, one value for each step; null where the device does not say.
    pub series: BTreeMap<&'static str, Vec<Option<u64>>>,
}

/// An interval of a site's presence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PresenceRow {
    /// Start.
    pub from: String,
    /// End; null for the interval that lasts.
    pub to: Option<String>,
    /// `online`, `stopping`, `lost`.
    pub state: String,
}

/// A count of one hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CountRow {
    /// Start of the hour.
    pub hour: String,
    /// Rule; for `zone` the zone; empty for `watched` and `blind`.
    pub rule: String,
    /// `left`, `right`: objects that crossed the rule's line. `event`, `zone`: motion events.
    /// `watched`, `blind`: seconds. Of the rest of the hour nothing is known.
    pub way: String,
    /// How many.
    pub n: u64,
}

/// Stored bytes of a site and purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StorageRow {
    /// Site id.
    pub site: String,
    /// `clip`, `snapshot`, `requested`.
    pub purpose: String,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes received within the last 14 days.
    pub bytes_lately: u64,
    /// Time of the oldest file's first picture.
    pub oldest: String,
}

/// What the retention ever deleted of a site and purpose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeletedTotal {
    /// Site id.
    pub site: String,
    /// `clip`, `snapshot`, `requested`, or `event`: events.
    pub purpose: String,
    /// Files, or events.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Sums of the archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StorageTotals {
    /// By site and purpose.
    pub rows: Vec<StorageRow>,
    /// Announced bytes of unfinished files.
    pub unfinished_bytes: u64,
    /// Free bytes of the disk.
    pub free_bytes: u64,
}

/// What rules of the retention would release now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RetentionPreview {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Time of receipt of the oldest; null when there is none.
    pub oldest: Option<String>,
    /// Files as old that locks protect.
    pub locked: u64,
}

/// A lock of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockEntry {
    /// Number of the lock.
    pub id: i64,
    /// Site id.
    pub site: String,
    /// Start of the locked time.
    pub from: String,
    /// End of the locked time.
    pub to: String,
    /// Reason.
    pub reason: String,
    /// When it was made.
    pub made: String,
    /// Bytes of the stored files that it holds.
    pub bytes: u64,
}
