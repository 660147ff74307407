//! One motion event from its start, updates and end, in whatever order they arrive.

use serde_json::Value;

use super::{name_in, time_in};
use crate::units::{ClockQuality, WallTime};

/// Zones of one motion event at most: a device has 32.
const ZONES_MAX: usize = 32;

/// A motion event, as far as its messages have arrived.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MotionEvent {
    /// Id of the start event.
    pub(crate) id: String,
    pub(crate) start: WallTime,
    /// `None` before the end, and when the device did not see it.
    pub(crate) end: Option<WallTime>,
    /// The worst quality among the messages.
    pub(crate) clock: ClockQuality,
    pub(crate) rule: String,
    /// Sorted.
    pub(crate) zones: Vec<String>,
    /// `low`, `high`, or empty for normal.
    pub(crate) priority: String,
    /// Degrees clockwise from up, of the newest message that has it.
    pub(crate) direction: Option<f64>,
    /// Time of that message.
    pub(crate) direction_at: WallTime,
    pub(crate) score: f64,
    pub(crate) objects: u64,
    pub(crate) seconds: Option<u64>,
    pub(crate) is_closed: bool,
    /// The start event is among the messages.
    pub(crate) has_start: bool,
    /// `clip` of the end: `planned`, `off`, `shed`, or empty.
    pub(crate) clip_plan: String,
    /// `reason` of an end that the device did not see: `stopped`, `restart`, or empty.
    pub(crate) end_reason: String,
}

/// The part of an event's type between `vn.taimat.` and `.v1`.
pub(crate) fn short_kind(kind: &str) -> &str {
    kind.strip_prefix("vn.taimat.").and_then(|kind| kind.strip_suffix(".v1")).unwrap_or(kind)
}

impl MotionEvent {
    /// What one message says about its motion event; `None` when it names none.
    pub(crate) fn of(
        kind: &str,
        id: &str,
        (time, clock): (&str, ClockQuality),
        data: &Value,
        received: WallTime,
    ) -> Option<MotionEvent> {
        let phase = short_kind(kind).strip_prefix("motion.")?;
        let event = match phase {
            "start" => id,
            "update" | "end" => {
                data["event"].as_str().filter(|id| super::super::message_ingest::is_id(id))?
            }
            _ => return None,
        };
        let time = time_in(&Value::from(time), received).unwrap_or(received);
        let start = time_in(&data["started_at"], received).unwrap_or(time);
        let direction = data["heading"].as_f64().filter(|degrees| degrees.is_finite());
        let is_closed = phase == "end";
        let end_reason = if is_closed { name_in(&data["reason"]) } else { String::new() };
        let mut zones: Vec<String> =
            data["zones"].as_array().into_iter().flatten().map(name_in).collect();
        zones.sort_unstable();
        zones.dedup();
        zones.truncate(ZONES_MAX);
        Some(MotionEvent {
            id: event.to_owned(),
            start: start.min(time),
            // After a power cut the message is as late as the next boot: the end is not known.
            end: Some(time).filter(|_| is_closed && end_reason != "restart"),
            clock,
            rule: name_in(&data["rule"]),
            zones,
            priority: name_in(&data["priority"]),
            direction,
            direction_at: if direction.is_some() { time } else { WallTime(i64::MIN) },
            score: data["score"].as_f64().filter(|score| score.is_finite()).unwrap_or(0.0),
            objects: data["tracks"].as_u64().map_or(0, |objects| objects.min(1_000)),
            seconds: data["seconds"]
                .as_u64()
                .filter(|_| is_closed)
                .map(|s| s.min(u64::from(u32::MAX))),
            is_closed,
            has_start: phase == "start",
            clip_plan: if is_closed { name_in(&data["clip"]) } else { String::new() },
            end_reason,
        })
    }

    /// Adds another message of the same motion event. The order of messages does not matter.
    pub(crate) fn add(&mut self, other: &MotionEvent) {
        // The start says when and by which rule; without it the earliest and the first in order.
        let takes_start = match (self.has_start, other.has_start) {
            (false, true) => true,
            (true, false) => false,
            _ => (other.start, &other.rule) < (self.start, &self.rule),
        };
        if takes_start {
            self.start = other.start;
        }
        if self.rule.is_empty() || takes_start && !other.rule.is_empty() {
            self.rule.clone_from(&other.rule);
        }
        self.has_start |= other.has_start;
        self.clock = self.clock.min(other.clock);
        self.zones.extend(other.zones.iter().cloned());
        self.zones.sort_unstable();
        self.zones.dedup();
        self.zones.truncate(ZONES_MAX);
        if self.priority.is_empty() {
            self.priority.clone_from(&other.priority);
        }
        if other.direction_at > self.direction_at {
            (self.direction, self.direction_at) = (other.direction, other.direction_at);
        }
        self.score = self.score.max(other.score);
        self.objects = self.objects.max(other.objects);
        if other.is_closed {
            self.is_closed = true;
            self.end = self.end.max(other.end);
            self.seconds = self.seconds.max(other.seconds);
            if self.clip_plan.is_empty() {
                self.clip_plan.clone_from(&other.clip_plan);
            }
            if self.end_reason.is_empty() {
                self.end_reason.clone_from(&other.end_reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: WallTime = WallTime(1_795_000_000_000_000);

    fn part(phase: &str, time: &str, data: Value) -> MotionEvent {
        let kind = format!("vn.taimat.motion.{phase}.v1");
        MotionEvent::of(&kind, "M", (time, ClockQuality::Ntp), &data, NOW).unwrap()
    }

    /// The messages of one event, as a device sends them.
    fn parts() -> Vec<MotionEvent> {
        let start = "2026-11-18T02:10:00.000Z";
        vec![
            part(
                "start",
                start,
                json!({"event": "M", "started_at": start, "rule": "gate", "zones": ["road"], "score": 0.4, "tracks": 1}),
            ),
            part(
                "update",
                "2026-11-18T02:10:05.000Z",
                json!({"event": "M", "started_at": start, "rule": "gate", "zones": ["gate"], "score": 0.9, "tracks": 3, "heading": 90.0}),
            ),
            part(
                "update",
                "2026-11-18T02:10:09.000Z",
                json!({"event": "M", "started_at": start, "rule": "gate", "zones": ["road"], "score": 0.5, "tracks": 1, "heading": 180.0}),
            ),
            part(
                "end",
                "2026-11-18T02:10:12.000Z",
                json!({"event": "M", "started_at": start, "rule": "gate", "zones": ["road"], "score": 0.5, "tracks": 1, "seconds": 12, "clip": "planned"}),
            ),
        ]
    }

    #[test]
    fn start_updates_and_end_become_one_motion_event() {
        let parts = parts();
        let mut whole = parts[0].clone();
        assert!(!whole.is_closed && whole.end.is_none());
        parts[1..].iter().for_each(|part| whole.add(part));
        assert!(whole.is_closed);
        assert_eq!(whole.end.map(WallTime::rfc3339).unwrap(), "2026-11-18T02:10:12.000Z");
        assert_eq!((whole.seconds, whole.objects, whole.score), (Some(12), 3, 0.9));
        assert_eq!(whole.direction, Some(180.0));
        assert_eq!(whole.zones, ["gate", "road"]);
        assert_eq!((whole.rule.as_str(), whole.clip_plan.as_str()), ("gate", "planned"));
    }

    #[test]
    fn an_end_that_a_power_cut_hid_has_no_time() {
        let start = "2026-11-18T02:10:00.000Z";
        let end = part(
            "end",
            "2026-11-18T09:00:00.000Z",
            json!({"event": "M", "started_at": start, "clip": "planned", "reason": "restart"}),
        );
        assert_eq!((end.is_closed, end.end, end.start.rfc3339().as_str()), (true, None, start));
        let stopped = part(
            "end",
            "2026-11-18T02:11:00.000Z",
            json!({"event": "M", "started_at": start, "clip": "off", "reason": "stopped"}),
        );
        assert!(stopped.end.is_some());
    }

    #[test]
    fn an_update_without_the_id_of_its_start_is_left_out() {
        for data in [json!({}), json!({"event": ""}), json!({"event": "a/b"}), json!({"event": 7})]
        {
            let kind = "vn.taimat.motion.update.v1";
            assert_eq!(
                MotionEvent::of(kind, "U", ("", ClockQuality::Ntp), &data, NOW),
                None,
                "{data}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_order_of_messages_gives_the_same_row(order in Just([0, 1, 2, 3, 1, 3]).prop_shuffle()) {
            let parts = parts();
            let mut expected = parts[0].clone();
            parts.iter().for_each(|part| expected.add(part));
            let mut whole = parts[order[0]].clone();
            order[1..].iter().for_each(|at| whole.add(&parts[*at]));
            // An order may lack nothing: each message stands in it.
            prop_assert_eq!(whole, expected);
        }
    }
}
