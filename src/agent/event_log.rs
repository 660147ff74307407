//! Log line of an event: its level and what it says.
//!
//! What belongs here: the level of each event kind in the log. What does not: the events.

use serde_json::Value;
use tracing::Level;

use super::events::{self, kind};

/// Gap reasons that are no fault: nothing was recorded, so nothing of it was lost.
const NOT_RECORDED: [&str; 2] = ["camera_down", "power_cut"];

/// The log line of an event.
pub(super) struct EventLine {
    kind: String,
    seq: u64,
    level: Level,
    reason: Option<String>,
    detail: Option<String>,
}

impl EventLine {
    /// The line of an event with this data. Its texts are masked here and escaped by the log.
    pub(super) fn of(kind: &str, seq: u64, data: &Value) -> EventLine {
        let text = |key: &str| data[key].as_str().map(events::text);
        EventLine {
            kind: kind.to_owned(),
            seq,
            level: level(kind, data),
            reason: text("reason").or_else(|| text("fault")),
            detail: text("detail"),
        }
    }

    /// Writes the line.
    pub(super) fn log(self) {
        let EventLine { kind, seq, level, reason, detail } = self;
        match level {
            Level::ERROR => tracing::error!(kind, seq, reason, detail, "event"),
            Level::WARN => tracing::warn!(kind, seq, reason, detail, "event"),
            Level::DEBUG => tracing::debug!(kind, seq, reason, detail, "event"),
            _ => tracing::info!(kind, seq, reason, detail, "event"),
        }
    }
}

/// ERROR for a loss, WARN for a fault without one.
fn level(kind: &str, data: &Value) -> Level {
    let is = |key: &str, word: &str| data[key] == word;
    match kind {
        kind::FILE_LOST | kind::SHED | kind::REFUSED => Level::ERROR,
        kind::GAP if is("reason", "stopped") => Level::INFO,
        kind::GAP if NOT_RECORDED.iter().any(|reason| is("reason", reason)) => Level::WARN,
        kind::GAP => Level::ERROR,
        kind::STORAGE if data["lost"] == true => Level::ERROR,
        kind::REPAIR if data["first"].is_u64() => Level::ERROR,
        kind::LOCK if is("action", "broken") => Level::ERROR,
        kind::CARD => Level::ERROR,
        kind::STORAGE | kind::REPAIR | kind::CAMERA_DOWN | kind::BLIND | kind::UPLINK => {
            Level::WARN
        }
        kind::CAMERA_CLOCK if !is("fault", "none") => Level::WARN,
        kind::MOTION_UPDATE => Level::DEBUG,
        _ => Level::INFO,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_loss_is_an_error_and_a_fault_without_one_a_warning() {
        for (kind, data, expected) in [
            (kind::FILE_LOST, json!({"reason": "evicted"}), Level::ERROR),
            (kind::STORAGE, json!({"lost": true}), Level::ERROR),
            (kind::STORAGE, json!({"lost": false}), Level::WARN),
            (kind::LOCK, json!({"action": "broken"}), Level::ERROR),
            (kind::LOCK, json!({"action": "lock", "reason": "x"}), Level::INFO),
            (kind::GAP, json!({"reason": "disk_error"}), Level::ERROR),
            (kind::GAP, json!({"reason": "camera_down"}), Level::WARN),
            (kind::REPAIR, json!({"first": 3, "last": 4}), Level::ERROR),
            (kind::REPAIR, json!({"what": "copy"}), Level::WARN),
            (kind::MOTION_UPDATE, json!({}), Level::DEBUG),
            (kind::MOTION_START, json!({}), Level::INFO),
        ] {
            assert_eq!(level(kind, &data), expected, "{kind} {data}");
        }
    }

    #[test]
    fn the_texts_of_an_event_are_masked_in_its_line() {
        let data = json!({"fault": "unreachable", "detail": "rtsp://u:secret@cam/ is gone"});
        let line = EventLine::of(kind::CAMERA_DOWN, 7, &data);
        assert_eq!(line.reason.as_deref(), Some("unreachable"));
        assert!(!line.detail.unwrap().contains("secret"));
    }
}
