//! ⇄ The zone in which people write and read times. Records are in UTC; an officer thinks in the clock on the wall.
//!
//! What belongs here: that. What does not: times in payloads and files, which are always UTC.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::units::Wall;

/// A zone that times are read and shown in.
#[derive(Debug, Clone)]
pub struct Zone(TimeZone);

impl Zone {
    /// `UTC`, `local` (this machine's), or a name such as `Asia/Ho_Chi_Minh`.
    ///
    /// # Errors
    /// When there is no such zone.
    pub fn parse(text: &str) -> Result<Zone, String> {
        match text {
            "UTC" | "utc" => Ok(Zone(TimeZone::UTC)),
            "local" => TimeZone::try_system().map(Zone).map_err(|error| format!("this machine's zone is not known: {error}")),
            name => TimeZone::get(name).map(Zone).map_err(|error| error.to_string()),
        }
    }

    /// Reads a time: with an offset it stands for itself, without one it is in this zone.
    ///
    /// # Errors
    /// Says what is wrong; a time that the zone skips or has twice (a clock change) must be written with its offset.
    pub fn read(&self, text: &str) -> Result<Wall, String> {
        let Ok(civil) = text.trim().trim_end_matches(|c: char| c.is_whitespace()).parse::<DateTime>() else {
            return Wall::parse(text);
        };
        if text.parse::<jiff::Timestamp>().is_ok() {
            return Wall::parse(text);
        }
        let zoned = self.0.to_ambiguous_zoned(civil).unambiguous();
        zoned
            .map(|zoned| Wall(zoned.timestamp().as_microsecond()))
            .map_err(|error| format!("{text:?}: {error}: write it with its offset"))
    }

    /// A time in this zone with its offset, e.g. `2026-11-24T09:10:00.000+07:00`; `Z` in UTC.
    pub fn show(&self, wall: Wall) -> String {
        if self.0 == TimeZone::UTC {
            return wall.rfc3339();
        }
        let time = jiff::Timestamp::from_microsecond(wall.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        time.to_zoned(self.0.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
    }
}

impl std::str::FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Zone, String> {
        Zone::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_an_offset_is_read_in_the_zone_and_shown_in_it() {
        let two_ten = Wall::parse("2026-11-24T02:10:00Z").unwrap();
        let hanoi = Zone(TimeZone::fixed(jiff::tz::offset(7)));
        assert_eq!(hanoi.read("2026-11-24T09:10:00"), Ok(two_ten));
        assert_eq!(hanoi.read("2026-11-24 09:10"), Ok(two_ten));
        assert_eq!(hanoi.read("2026-11-24T02:10:00Z"), Ok(two_ten));
        assert_eq!(hanoi.show(two_ten), "2026-11-24T09:10:00.000+07:00");
        assert_eq!(Zone::parse("UTC").unwrap().show(two_ten), "2026-11-24T02:10:00.000Z");
        assert!(hanoi.read("yesterday").is_err());
        assert!(Zone::parse("Mars/Olympus").is_err());
    }
}
