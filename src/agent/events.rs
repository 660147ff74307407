//! Event kinds, and the CloudEvents 1.0 JSON payload of each.
//!
//! What belongs here: names, envelopes, the data of each kind. What does not: deciding that
//! something is an event.

use serde_json::{Value, json};

use super::outbox_entry::{EventClass, ZONES_MAX};
use crate::analytics::MotionUpdate;
use crate::camera::StreamRole;
use crate::camera::clock_belief::{ClockFault, ClockReport};
use crate::settings::rules::RulePriority;
use crate::storage::locks::Lock;
use crate::storage::missing_records::MissingRecords;
use crate::storage::{Gap, Repair, TrackChangeReport};
use crate::units::{Boot, RingId, SiteId, Timestamp};
use crate::uplink::wire;

/// Bytes of free text in one event, as encoded in the journal: error chains are long, and an entry
/// must fit one journal slot.
const TEXT_MAX: usize = 400;

/// The `type` of each event, without the prefix `vn.taimat.` and the suffix `.v1`.
pub mod kind {
    /// The agent started.
    pub const START: &str = "start";
    /// The agent shuts down in order.
    pub const STOP: &str = "stop";
    /// A motion event began.
    pub const MOTION_START: &str = "motion.start";
    /// A motion event continues; its heading or zones changed.
    pub const MOTION_UPDATE: &str = "motion.update";
    /// A motion event ended.
    pub const MOTION_END: &str = "motion.end";
    /// The scene as a whole changed.
    pub const SCENE: &str = "scene";
    /// The detector gets no usable pictures; recording continues.
    pub const BLIND: &str = "analytics.unavailable";
    /// The detector gets pictures again.
    pub const SEEING: &str = "analytics.available";
    /// A stream of the camera stopped.
    pub const CAMERA_DOWN: &str = "camera.down";
    /// A stream of the camera plays again.
    pub const CAMERA_UP: &str = "camera.up";
    /// The camera's time stamps cannot be trusted, or can again.
    pub const CAMERA_CLOCK: &str = "camera.clock";
    /// The camera changes its parameter sets again and again, or no longer does.
    pub const CAMERA_PARAMETERS: &str = "camera.parameters";
    /// Footage is missing.
    pub const GAP: &str = "gap";
    /// A promised clip or snapshot cannot be delivered.
    pub const FILE_LOST: &str = "file.lost";
    /// Outbox entries were dropped to keep its bound.
    pub const SHED: &str = "shed";
    /// Storage reported a fault.
    pub const STORAGE: &str = "storage.fault";
    /// Recovery or the scrub repaired damage, or could not.
    pub const REPAIR: &str = "storage.repair";
    /// The storage device rejects writes or is nearly worn out; an operator must replace it.
    pub const CARD: &str = "card";
    /// The wall clock was set.
    pub const CLOCK: &str = "clock";
    /// Footage was locked as evidence, or released.
    pub const LOCK: &str = "lock";
    /// The uplink needs an operator: a rejected login, a forbidden topic, an expiring certificate.
    pub const UPLINK: &str = "uplink.alarm";
    /// A configuration was staged, committed, rolled back or rejected.
    pub const CONFIG: &str = "config";
    /// A command was accepted or rejected where keys are enrolled.
    pub const ACCESS: &str = "access";
    /// The broker or the office rejected an entry permanently.
    pub const REFUSED: &str = "delivery.refused";
}

/// The delivery class of an event kind.
pub fn class_of(kind: &str) -> EventClass {
    match kind {
        kind::MOTION_UPDATE => EventClass::Update,
        kind::ACCESS => EventClass::Access,
        kind::SHED => EventClass::Shed,
        kind::REFUSED => EventClass::Rejection,
        _ => EventClass::Other,
    }
}

/// The attributes of a CloudEvents envelope, besides `data`.
pub struct Envelope<'a> {
    /// Its ULID.
    pub id: &'a str,
    /// The site.
    pub site: &'a SiteId,
    /// One of [`kind`].
    pub kind: &'a str,
    /// The moment the event describes.
    pub at: Timestamp,
    /// Its sequence number.
    pub seq: u64,
    /// The ring in which `seq` counts.
    pub ring: RingId,
    /// Boot of the agent.
    pub boot: Boot,
}

/// The payload as stored in the journal and published.
pub fn payload(envelope: &Envelope<'_>, data: Value) -> String {
    let event = wire::Event {
        specversion: "1.0".into(),
        id: envelope.id.to_owned(),
        source: format!("taimat/{}", envelope.site),
        kind: format!("vn.taimat.{}.v1", envelope.kind),
        time: envelope.at.wall.rfc3339(),
        datacontenttype: "application/json".into(),
        seq: envelope.seq,
        ring: envelope.ring,
        clock: envelope.at.quality,
        boot: envelope.boot.0,
        mono: envelope.at.mono.0,
        data,
    };
    serde_json::to_string(&event).unwrap_or_default()
}

/// The payload with another number in another ring; unchanged if it is no event.
pub fn renumbered(payload: &str, seq: u64, ring: RingId) -> String {
    let Ok(event) = serde_json::from_str::<wire::Event>(payload) else {
        return payload.to_owned();
    };
    serde_json::to_string(&wire::Event { seq, ring, ..event }).unwrap_or_default()
}

/// Data of a report about the camera's time stamps.
pub fn camera_clock(role: StreamRole, report: &ClockReport) -> Value {
    let rate = (report.rate.clamp(0.0, 1000.0) * 1000.0).round() / 1000.0;
    let fault = report.fault.map_or("none", ClockFault::as_str);
    json!({"stream": role.as_str(), "fault": fault, "rate": rate})
}

/// Data of a motion event. `event` is the id of its start event.
pub fn motion(motion: &MotionUpdate, event: &str) -> Value {
    let zones: Vec<&String> = motion.zones.iter().take(ZONES_MAX).collect();
    let bbox: Vec<f64> = motion.bbox.iter().map(|v| rounded(f64::from(*v))).collect();
    let mut data = json!({
        "event": event,
        "started_at": motion.started_at.wall.rfc3339(),
        "rule": motion.rule,
        "zones": zones,
        "box": bbox,
        "score": rounded(f64::from(motion.score)),
        "tracks": motion.tracks,
    });
    if motion.zones.len() > ZONES_MAX {
        data["zone_count"] = json!(motion.zones.len());
    }
    if motion.priority != RulePriority::Normal {
        data["priority"] = json!(motion.priority.as_str());
    }
    if let Some(direction) = motion.direction {
        data["heading"] = json!(direction.round());
    }
    if motion.suppressed > 0 {
        data["suppressed"] = json!(motion.suppressed);
    }
    data
}

/// Data of a report about parameter sets that change again and again.
pub fn camera_parameters(report: &TrackChangeReport) -> Value {
    let TrackChangeReport { is_stable, changes, left_out } = report;
    let state = if *is_stable { "stable" } else { "unstable" };
    json!({"stream": "main", "state": state, "changes": changes, "left_out": left_out})
}

/// Data of a gap event. It does not end before it begins: a clock that was set back is named.
pub fn gap(gap: &Gap) -> Value {
    let (set_back, to) = (gap.set_back(), gap.to.wall.max(gap.from.wall));
    let mut data = json!({"from": gap.from.wall.rfc3339(), "to": to.rfc3339(), "reason": gap.reason.as_str(), "bytes": gap.bytes});
    if set_back > 0 {
        data["set_back_ms"] = json!(set_back.div_ceil(1000));
    }
    data
}

/// Data of a repair event.
pub fn repair(repair: &Repair) -> Value {
    let Repair { file, offset, kind, bytes, micros, lost } = repair;
    let mut data = json!({"file": file, "offset": offset, "what": kind.as_str(), "bytes": bytes, "ms": micros / 1000});
    if let (Some(records), Some(data)) = (lost.as_ref().map(self::lost), data.as_object_mut()) {
        data.extend(records.as_object().cloned().unwrap_or_default());
    }
    data
}

/// Lost records, with the times of the footage around them; null where there is none.
pub fn lost(lost: &MissingRecords) -> Value {
    let time = |stamp: Option<Timestamp>| stamp.map(|stamp| stamp.wall.rfc3339());
    let mut data = json!({"first": lost.first, "last": lost.last, "from": time(lost.from), "to": time(lost.to)});
    if lost.gaps > 1 {
        data["gaps"] = json!(lost.gaps);
    }
    data
}

/// A lock as shown in events and answers.
pub fn lock(lock: &Lock) -> Value {
    let Lock { id, from, to, first, last, reason, missing } = lock;
    let last = (*last != u64::MAX).then_some(*last);
    let mut data = json!({"id": id, "from": from.rfc3339(), "to": to.rfc3339(), "records": [first, last], "reason": reason});
    if !missing.is_empty() {
        data["missing"] = json!(missing);
    }
    data
}

/// Free text with credentials masked, cut to `TEXT_MAX` bytes.
pub fn text(text: &str) -> String {
    let text = crate::redact::masked(text);
    let mut left = TEXT_MAX;
    let fits = |c: &char| {
        let len = stored_len(*c);
        let fits = len <= left;
        left = left.saturating_sub(len);
        fits
    };
    text.chars().take_while(fits).collect()
}

/// Bytes of a character in the journal. A payload is JSON inside JSON, so an escaped character is
/// escaped twice.
fn stored_len(c: char) -> usize {
    match c {
        '"' | '\\' => 4,
        '\u{8}' | '\t' | '\n' | '\u{c}' | '\r' => 3,
        '\0'..='\u{1f}' => 7,
        _ => c.len_utf8(),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::MotionPhase;
    use crate::storage::GapReason;
    use crate::storage::journal_layout::ENTRY_MAX;
    use crate::units::{ClockQuality, MonoTime, WallTime};

    fn at() -> Timestamp {
        Timestamp {
            mono: MonoTime(5_000_000),
            wall: WallTime(1_790_000_000_000_000),
            quality: ClockQuality::Ntp,
        }
    }

    fn crowded(zones: usize) -> MotionUpdate {
        MotionUpdate {
            event_no: 1,
            phase: MotionPhase::Update,
            at: at(),
            started_at: at(),
            rule: "r".repeat(32),
            clip: true,
            priority: RulePriority::Normal,
            zones: vec!["z".repeat(32); zones],
            direction: Some(271.6),
            bbox: [0.123_456, 1.0 / 3.0, 0.5, 0.25],
            score: 0.987_6,
            tracks: 3,
            suppressed: 2,
            continued_from: None,
        }
    }

    #[test]
    fn an_event_is_encoded_as_a_cloudevents_envelope() {
        let site = SiteId::parse("km-17").unwrap();
        let envelope = Envelope {
            id: "01JX",
            site: &site,
            kind: kind::MOTION_START,
            at: at(),
            seq: 7,
            ring: RingId(9),
            boot: Boot(3),
        };
        let golden = r#"{"specversion":"1.0","id":"01JX","source":"taimat/km-17","type":"vn.taimat.motion.start.v1","time":"2026-09-21T14:13:20.000Z","datacontenttype":"application/json","seq":7,"ring":"0000000000000009","clock":"ntp","boot":3,"mono":5000000,"data":{"box":[0.123,0.333,0.5,0.25],"event":"01JX","heading":272.0,"rule":"rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr","score":0.988,"started_at":"2026-09-21T14:13:20.000Z","suppressed":2,"tracks":3,"zones":["zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"]}}"#;
        assert_eq!(payload(&envelope, motion(&crowded(1), "01JX")), golden);
    }

    /// The longest data of each kind that holds text or lists.
    fn largest() -> Vec<(&'static str, Value)> {
        let (id, worst) = ("Z".repeat(26), text(&"\u{1}".repeat(9_000)));
        let (from, to) = (WallTime(i64::MAX >> 10), WallTime(i64::MAX >> 10));
        let (first, last, name) = (1 << 50, 1 << 51, "n".repeat(96));
        let held = Lock {
            id: "i".repeat(36),
            from,
            to,
            first,
            last,
            reason: "\u{1}".repeat(80),
            missing: vec![(1 << 50, 1 << 51)],
        };
        let mut locked = lock(&held);
        locked["action"] = json!("unlock");
        locked["req_id"] = json!("r".repeat(64));
        let longest_gap =
            Gap { from: at(), to: at(), reason: GapReason::EvictedPinned, bytes: u64::MAX };
        vec![
            (kind::MOTION_UPDATE, motion(&crowded(20), &id)),
            (kind::STORAGE, json!({"detail": worst, "lost": true, "suppressed_count": u64::MAX})),
            (
                kind::CAMERA_DOWN,
                json!({"stream": "main", "fault": "no_key_frame", "detail": worst}),
            ),
            (
                kind::FILE_LOST,
                json!({"event": "r".repeat(64), "file": name, "part": u32::MAX, "reason": worst}),
            ),
            (kind::REFUSED, json!({"what": {"file": name}, "reason": worst})),
            (kind::UPLINK, json!({"what": "not_authorized", "detail": worst})),
            (kind::SHED, super::super::loss_report::tests::longest()),
            (kind::LOCK, locked),
            (kind::GAP, gap(&longest_gap)),
        ]
    }

    #[test]
    fn the_largest_event_of_each_kind_fits_its_journal_slot() {
        use super::super::outbox_entry::{Body, Entry, tests::full_after};
        let site = SiteId::parse(&"s".repeat(32)).unwrap();
        let id = "Z".repeat(26);
        for (kind, data) in largest() {
            let (seq, ring, boot) = (u64::MAX, RingId(u64::MAX), Boot(u32::MAX));
            let envelope = Envelope { id: &id, site: &site, kind, at: at(), seq, ring, boot };
            let payload = payload(&envelope, data);
            let len = payload.len();
            let body = Body::Event { id: id.clone(), seq, class: class_of(kind), payload };
            let bytes = Entry { after: full_after(), body }.encode();
            assert!(
                bytes.len() <= ENTRY_MAX,
                "{kind} of {len} bytes makes an entry of {}",
                bytes.len()
            );
        }
    }

    #[test]
    fn text_is_cut_between_characters_at_its_journal_size() {
        for (text_in, len) in [
            ("ế".repeat(500), 133),
            ("\"".repeat(500), 100),
            ("\u{1}".repeat(500), 57),
            ("a".repeat(500), 400),
        ] {
            let cut = text(&text_in);
            assert_eq!(cut.chars().count(), len);
            let nested = serde_json::to_string(&serde_json::to_string(&cut).unwrap()).unwrap();
            assert!(nested.len() <= TEXT_MAX + 6, "{} bytes", nested.len());
        }
        assert_eq!(text("line\n\t\"quoted\""), "line\n\t\"quoted\"");
    }
}
