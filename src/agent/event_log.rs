//! Log line of an event: its level and what it says.
//!
//! What belongs here: the level of each event kind in the log. What does not: the events.

use serde_json::Value;
use tracing::Level;

use super::events::{self, kind};
use crate::camera::{CameraFault, StreamRole};

/// Gap reasons that are no fault: nothing was recorded, so nothing of it was lost.
const NOT_RECORDED: [&str; 2] = ["camera_down", "power_cut"];

/// The log line of an event.
pub(super) struct EventLine {
    kind: String,
    seq: u64,
    level: Level,
    reason: Option<String>,
    detail: Option<String>,
    /// What happened: `action`, `state` or `command` of the data.
    what: Option<String>,
    /// The range of a gap or of lost records.
    from: Option<String>,
    to: Option<String>,
    /// The file of a repair or a loss.
    file: Option<String>,
    /// The version that starts.
    version: Option<String>,
    /// True if the last boot ended with an orderly stop.
    clean: Option<bool>,
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
            detail: first_error(data).or_else(|| text("detail")),
            from: text("from"),
            to: text("to"),
            file: text("file"),
            version: text("version"),
            clean: data["clean"].as_bool(),
            what: ["action", "state", "cmd", "command", "what"].iter().find_map(|key| text(key)),
        }
    }

    /// Writes the line.
    pub(super) fn log(self) {
        let EventLine { kind, seq, level, reason, detail, what, .. } = self;
        let EventLine { from, to, file, version, clean, .. } = self;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    kind, seq, what, reason, detail, from, to, file, version, clean, "event"
                )
            };
        }
        match level {
            Level::ERROR => line!(error),
            Level::WARN => line!(warn),
            Level::DEBUG => line!(debug),
            _ => line!(info),
        }
    }
}

/// The first bad key of a refusal with its reason, and how many follow.
fn first_error(data: &Value) -> Option<String> {
    let errors = data["errors"].as_array()?;
    let first = errors.first()?;
    let said = format!("{}: {}", first["key"].as_str()?, first["reason"].as_str()?);
    let more = match errors.len() {
        1 => String::new(),
        count => format!("; {} more", count - 1),
    };
    Some(events::text(&format!("{said}{more}")))
}

/// ERROR for a loss and where a person must act, WARN for another fault.
fn level(kind: &str, data: &Value) -> Level {
    let is = |key: &str, word: &str| data[key] == word;
    match kind {
        // A command asked for a time without footage; its answer says so.
        kind::FILE_LOST if data["recorded"] == false => Level::WARN,
        kind::FILE_LOST | kind::SHED | kind::REFUSED => Level::ERROR,
        kind::GAP if is("reason", "stopped") => Level::INFO,
        // Its outbreak is one warning (`Agent::track_changes`).
        kind::GAP if is("reason", "parameter_changes") => Level::INFO,
        kind::GAP if NOT_RECORDED.iter().any(|reason| is("reason", reason)) => Level::WARN,
        kind::GAP => Level::ERROR,
        kind::STORAGE if data["lost"] == true => Level::ERROR,
        kind::REPAIR if data["first"].is_u64() => Level::ERROR,
        kind::LOCK if is("action", "broken") => Level::ERROR,
        kind::CARD if is("state", "memory_only") || is("state", "worn") => Level::ERROR,
        kind::CARD => Level::WARN,
        kind::UPLINK => Level::ERROR,
        kind::CAMERA_DOWN if is("fault", "unauthorized") || is("fault", "locked_out") => {
            Level::ERROR
        }
        kind::CONFIG
            if ["refused", "rolled_back", "safe_mode"].iter().any(|word| is("action", word)) =>
        {
            Level::WARN
        }
        kind::STORAGE | kind::REPAIR | kind::CAMERA_DOWN | kind::BLIND => Level::WARN,
        kind::CAMERA_CLOCK if !is("fault", "none") => Level::WARN,
        kind::MOTION_UPDATE => Level::DEBUG,
        _ => Level::INFO,
    }
}

/// Logs a failed try of a camera: a person must mend a login that is refused. The fault of a try that
/// `camera.down` has just named stands in that line alone.
pub(super) fn log_retry(
    role: StreamRole,
    fault: CameraFault,
    detail: &str,
    tries: u32,
    pause: u64,
    is_reported: bool,
) {
    let (stream, fault_name) = (role.as_str(), fault.as_str());
    if is_reported {
        tracing::info!(stream, tries, pause_ms = pause / 1000, "{}", next_step(fault));
        return;
    }
    if matches!(fault, CameraFault::Unauthorized | CameraFault::LockedOut) {
        tracing::error!(
            stream,
            fault = fault_name,
            detail,
            tries,
            pause_ms = pause / 1000,
            "{}",
            next_step(fault)
        );
    } else {
        tracing::warn!(
            stream,
            fault = fault_name,
            detail,
            tries,
            pause_ms = pause / 1000,
            "camera connection failed; retrying after the pause"
        );
    }
}

/// What follows a failed try, and who must act.
fn next_step(fault: CameraFault) -> &'static str {
    match fault {
        CameraFault::Unauthorized | CameraFault::LockedOut => {
            "the camera refuses the login; correct the file of camera.login_file, then restart"
        }
        CameraFault::Protocol | CameraFault::NoVideo => {
            "the camera is asked again after the pause; correct what the detail of camera.down names"
        }
        _ => "the camera is asked again after the pause",
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
            (kind::FILE_LOST, json!({"recorded": false}), Level::WARN),
            (kind::CAMERA_DOWN, json!({"fault": "unauthorized"}), Level::ERROR),
            (kind::CAMERA_DOWN, json!({"fault": "locked_out"}), Level::ERROR),
            (kind::CAMERA_DOWN, json!({"fault": "unreachable"}), Level::WARN),
            (kind::UPLINK, json!({}), Level::ERROR),
            (kind::CARD, json!({"state": "memory_only"}), Level::ERROR),
            (kind::CARD, json!({"state": "no_room"}), Level::WARN),
            (kind::CONFIG, json!({"action": "refused"}), Level::WARN),
            (kind::CONFIG, json!({"action": "committed"}), Level::INFO),
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
        let data = json!({"detail": "1 bad key", "errors": [{"key": "site", "reason": "is bad"}]});
        assert_eq!(EventLine::of(kind::CONFIG, 9, &data).detail.as_deref(), Some("site: is bad"));
        let data = json!({"from": "a", "to": "b", "file": "f", "what": "torn"});
        let line = EventLine::of(kind::REPAIR, 9, &data);
        assert_eq!((line.file.as_deref(), line.what.as_deref()), (Some("f"), Some("torn")));
        let line = EventLine::of(kind::CARD, 8, &json!({"state": "worn"}));
        assert_eq!(line.what.as_deref(), Some("worn"));
    }
}
