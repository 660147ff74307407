//! Rules of motion: what must happen where and when for an event.
//!
//! What belongs here: what a rule may say. What does not: reading it (`parse_motion`), judging by it (the motion room).

use crate::units::{ClockQuality, Timestamp};

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, as it appears in events.
    pub name: String,
    /// What must happen.
    pub on: Trigger,
    /// In which include zones; none means all of them, or the whole picture.
    pub zones: Vec<String>,
    /// Things less high than this share of the picture's height at its bottom are ignored; smaller ones are allowed towards
    /// `horizon`.
    pub min_height: f32,
    /// Height in the picture, 0..=1 from the top, at which things have no size any more; 0 without perspective.
    pub horizon: f32,
    /// Slowest and fastest speed in picture widths a second.
    pub speed: [f32; 2],
    /// Direction of travel in degrees clockwise from up, from the first to the second clockwise; `None` is every direction.
    pub heading: Option<[f32; 2]>,
    /// When it applies; empty is always.
    pub hours: Vec<Hours>,
    /// Microseconds after an event in which it raises no other; suppressed starts are counted.
    pub cooldown: u64,
    /// Send a clip of its events.
    pub clip: bool,
    /// Send a snapshot of its events.
    pub snapshot: bool,
    /// How urgent its events are, for people.
    pub priority: RulePriority,
}

/// What must happen for an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trigger {
    /// A thing moves in a zone.
    Presence,
    /// It comes into a zone.
    Enter,
    /// It leaves a zone.
    Exit,
    /// It crosses the line from the first point to the second.
    Cross {
        /// The line.
        line: [[f32; 2]; 2],
        /// In which way.
        way: CrossingDirection,
    },
    /// It stays in a zone so many microseconds.
    Dwell(u64),
}

/// Ways across a line, seen from its first point to its second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossingDirection {
    /// Both.
    Any,
    /// From the right to the left.
    Left,
    /// From the left to the right.
    Right,
}

/// How urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RulePriority {
    /// Whenever there is time.
    Low,
    /// As everything.
    Normal,
    /// At once.
    High,
}

impl RulePriority {
    /// The word used in settings and payloads.
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
    /// Bit 0 is Monday. The day is the one on which the hours begin.
    pub days: u8,
    /// Minute of the day.
    pub from: u16,
    /// Minute of the day, exclusive; not later than `from` means on the next day.
    pub to: u16,
}

/// Minutes of a day.
const DAY: i64 = 1440;

impl Hours {
    /// True when these hours hold at a local minute since Monday 0:00.
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
    /// The rule there is when none is configured: whatever moves in any zone.
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

    /// True when it applies at that moment in a place `offset` minutes east of UTC. A clock that nobody has set says nothing: then
    /// it applies, because a needless event is better than a missing one.
    pub fn applies(&self, at: Timestamp, offset: i32) -> bool {
        if self.hours.is_empty() || at.quality == ClockQuality::Unset {
            return true;
        }
        // 1970-01-01 was a Thursday.
        let minute = (at.wall.0.div_euclid(60_000_000) + i64::from(offset) + 3 * DAY).rem_euclid(7 * DAY);
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
        let at =
            |text: &str| Timestamp { wall: WallTime::parse(text).unwrap(), quality: ClockQuality::Ntp, ..Timestamp::default() };
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
            rule.applies(Timestamp { quality: ClockQuality::Unset, ..at("2026-11-21T12:00:00+07:00") }, 7 * 60),
            "unset clock"
        );
    }
}
