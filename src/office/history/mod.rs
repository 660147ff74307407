//! What pages show of events and health messages, made as rows of their own when they arrive.
//!
//! * [`motion`]: the messages of one motion event become one row. [`health`]: figures of a health
//!   message, and the differences of its counters.
//!
//! The messages of one motion event may arrive in any order, so every combination here gives the
//! same row whatever the order.
//!
//! What belongs here: judgement of values, without I/O. What does not: SQL
//! (`office/store/sqlite`).

pub(crate) mod health;
pub(crate) mod motion;

use serde_json::Value;

use crate::units::WallTime;

/// Seconds of a step of the recent health history.
pub(crate) const MINUTE: i64 = 60;
/// Seconds of a step of the old health history, and of the counts.
pub(crate) const HOUR: i64 = 3_600;
/// Bytes of a name (rule, zone, reason) in the history at most; a device's own names are shorter.
const NAME_MAX: usize = 64;
/// Microseconds that a device's clock may be ahead of the office's, as for files.
const AHEAD_MAX: i64 = 86_400_000_000;

/// A gap in the footage, of an event `gap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GapEntry {
    pub(crate) start: WallTime,
    pub(crate) end: WallTime,
    pub(crate) reason: String,
    pub(crate) bytes: u64,
}

/// The gap that the data of an event `gap` names; `None` without two times in their order.
pub(crate) fn gap_in(data: &Value, received: WallTime) -> Option<GapEntry> {
    let time = |key: &str| time_in(&data[key], received);
    let (start, end) = (time("from")?, time("to")?);
    (start <= end).then(|| GapEntry {
        start,
        end,
        reason: name_in(&data["reason"]),
        bytes: data["bytes"].as_u64().filter(|bytes| i64::try_from(*bytes).is_ok()).unwrap_or(0),
    })
}

/// A device's time, at most a day ahead of the receipt: a wrong clock must not put a row before all
/// others for years.
fn time_in(value: &Value, received: WallTime) -> Option<WallTime> {
    let time = WallTime::parse(value.as_str()?).ok()?;
    Some(time.min(received.plus_micros(AHEAD_MAX)))
}

/// A name, cut at the bound; empty for another type.
fn name_in(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    text[..text.floor_char_boundary(NAME_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gap_without_times_in_order_is_left_out() {
        let now = WallTime(1_795_000_000_000_000);
        let gap = |from: &str, to: &str| {
            gap_in(&json!({"from": from, "to": to, "reason": "power_cut", "bytes": 7}), now)
        };
        let good = gap("2026-11-18T10:00:00Z", "2026-11-18T10:20:00Z").unwrap();
        assert_eq!((good.reason.as_str(), good.bytes), ("power_cut", 7));
        assert_eq!(good.end.0 - good.start.0, 1_200_000_000);
        assert_eq!(gap("2026-11-18T10:20:00Z", "2026-11-18T10:00:00Z"), None);
        assert_eq!(gap("yesterday", "2026-11-18T10:00:00Z"), None);
        let ahead = gap("2026-11-18T10:00:00Z", "2099-01-01T00:00:00Z").unwrap();
        assert_eq!(ahead.end, now.plus_micros(AHEAD_MAX));
    }

    #[test]
    fn a_name_is_cut_between_characters() {
        assert_eq!(name_in(&json!("đ".repeat(40))).len(), 64);
        assert_eq!(name_in(&json!("x".to_owned() + &"đ".repeat(40))).len(), 63);
    }
}
