//! Rules of motion events: trigger, zones, size, speed, heading and hours.

use crate::units::{ClockQuality, Timestamp};

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Name, as in events.
    pub name: String,
    /// The trigger.
    pub on: Trigger,
    /// Names of include zones; empty is all of them, or the whole picture without zones.
    pub zones: Vec<String>,
    /// Height of the smallest object at the bottom of the picture, 0 to 1 of the picture's height.
    /// The minimum decreases towards `horizon`.
    pub min_height: f32,
    /// Position of the horizon, 0 to 1 from the top, where the minimum height is 0; 0 is no
    /// perspective.
    pub horizon: f32,
    /// Minimum and maximum speed, picture widths per second.
    pub speed: [f32; 2],
    /// Range of headings, degrees clockwise from up, clockwise from the first to the second; `None`
    /// is every heading.
    pub heading: Option<[f32; 2]>,
    /// Hours of the rule; empty is always.
    pub hours: Vec<Hours>,
    /// Microseconds after an event in which the rule raises no other one; suppressed starts are
    /// counted.
    pub cooldown: u64,
    /// Send a clip of each event.
    pub clip: bool,
    /// Send a snapshot of each event.
    pub snapshot: bool,
    /// Priority, for the operator.
    pub priority: RulePriority,
}

/// Trigger of an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trigger {
    /// An object moves in a zone.
    Presence,
    /// An object enters a zone.
    Enter,
    /// An object leaves a zone.
    Exit,
    /// An object crosses a line.
    Cross {
        /// First and second point `[x, y]`, 0 to 1, origin top left.
        line: [[f32; 2]; 2],
        /// Direction of the crossing.
        way: CrossingDirection,
    },
    /// An object stays in a zone for this time, microseconds.
    Dwell(u64),
}

/// Direction across a line, seen from its first point to its second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossingDirection {
    /// Both directions.
    Any,
    /// From the right to the left.
    Left,
    /// From the left to the right.
    Right,
}

/// Priority of an event, for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RulePriority {
    /// Low.
    Low,
    /// Normal (default).
    Normal,
    /// High.
    High,
}

impl RulePriority {
    /// The priority as it stands in settings and payloads.
    pub fn as_str(self) -> &'static str {
        match self {
            RulePriority::Low => "low",
            RulePriority::Normal => "normal",
            RulePriority::High => "high",
        }
    }
}

/// Hours of a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Weekdays on which the hours begin, one bit each; bit 0 is Monday.
    pub days: u8,
    /// First minute of the day.
    pub from: u16,
    /// End, minute of the day, exclusive; at or before `from` it lies on the next day.
    pub to: u16,
}

/// Minutes of a day.
const DAY: i64 = 1440;

impl Hours {
    /// True when the hours include a local minute, counted from Monday 0:00.
    fn hold(self, minute: i64) -> bool {
        let long = (i64::from(self.to) - i64::from(self.from)).rem_euclid(DAY);
        let long = if long == 0 { DAY } else { long };
        (0..7).filter(|day| self.days >> day & 1 == 1).any(|day| {
            let begin = day * DAY + i64::from(self.from);
            (minute - begin).rem_euclid(7 * DAY) < long
        })
    }
}

impl Rule {
    /// The rule of a configuration without rules: an object in any zone.
    pub fn presence(name: &str, cooldown: u64) -> Rule {
        Rule {
            name: name.into(),
            on: Trigger::Presence,
            zones: Vec::new(),
            min_height: 0.0,
            horizon: 0.0,
            speed: [0.0, f32::INFINITY],
            heading: None,
            hours: Vec::new(),
            cooldown,
            clip: true,
            snapshot: true,
            priority: RulePriority::Normal,
        }
    }

    /// True when the rule applies at `at`, with local time `offset` minutes ahead of UTC. With an
    /// unset clock it applies: a needless event is better than a missing one.
    pub fn applies(&self, at: Timestamp, offset: i32) -> bool {
        if self.hours.is_empty() || at.quality == ClockQuality::Unset {
            return true;
        }
        // 1970-01-01 was a Thursday.
        let minute =
            (at.wall.0.div_euclid(60_000_000) + i64::from(offset) + 3 * DAY).rem_euclid(7 * DAY);
        self.hours.iter().any(|hours| hours.hold(minute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::WallTime;

    #[test]
    fn hours_apply_across_midnight_in_local_time() {
        let night = Hours { days: 0b001_1111, from: 22 * 60, to: 5 * 60 };
        let rule = Rule { hours: vec![night], ..Rule::presence("night", 0) };
        let at = |text: &str| Timestamp {
            wall: WallTime::parse(text).unwrap(),
            quality: ClockQuality::Ntp,
            ..Timestamp::default()
        };
        // 2026-11-20 was a Friday.
        for (time, applies) in [
            ("2026-11-20T23:00:00+07:00", true),
            ("2026-11-21T04:59:00+07:00", true),
            ("2026-11-21T05:00:00+07:00", false),
            ("2026-11-21T23:00:00+07:00", false),
            ("2026-11-23T21:59:00+07:00", false),
            ("2026-11-23T22:00:00+07:00", true),
        ] {
            assert_eq!(rule.applies(at(time), 7 * 60), applies, "{time}");
        }
        assert!(
            rule.applies(
                Timestamp { quality: ClockQuality::Unset, ..at("2026-11-21T12:00:00+07:00") },
                7 * 60
            ),
            "unset clock"
        );
    }
}
