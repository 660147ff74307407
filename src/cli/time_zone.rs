//! Time zone of input and output. Records are in UTC; operators use local time.
//!
//! What belongs here: times that operators read and write. What does not: times in payloads and files, which are always UTC.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::units::WallTime;

/// A zone for reading and showing times.
#[derive(Debug, Clone)]
pub struct DisplayZone(TimeZone);

impl DisplayZone {
    /// `UTC`, `local` (this machine's), or a name such as `Asia/Ho_Chi_Minh`.
    ///
    /// # Errors
    /// The zone is unknown.
    pub fn parse(text: &str) -> Result<DisplayZone, String> {
        match text {
            "UTC" | "utc" => Ok(DisplayZone(TimeZone::UTC)),
            "local" => TimeZone::try_system()
                .map(DisplayZone)
                .map_err(|error| format!("this machine's zone is unknown: {error}")),
            name => TimeZone::get(name).map(DisplayZone).map_err(|error| error.to_string()),
        }
    }

    /// Reads a time; a time without an offset is in this zone.
    ///
    /// # Errors
    /// The text is no time. A time that the zone skips or repeats (a clock change) needs an offset.
    pub fn read(&self, text: &str) -> Result<WallTime, String> {
        let Ok(civil) =
            text.trim().trim_end_matches(|c: char| c.is_whitespace()).parse::<DateTime>()
        else {
            return WallTime::parse(text);
        };
        if text.parse::<jiff::Timestamp>().is_ok() {
            return WallTime::parse(text);
        }
        let zoned = self.0.to_ambiguous_zoned(civil).unambiguous();
        // Where the calendar ends, every zone has the same last moment.
        if zoned.is_err() && civil.year() == DateTime::MAX.year() {
            return WallTime::parse(text);
        }
        zoned
            .map(|zoned| WallTime(zoned.timestamp().as_microsecond()))
            .map_err(|error| format!("{text:?}: {error}: write it with its offset"))
    }

    /// A time in this zone with its offset, e.g. `2026-11-24T09:10:00.000+07:00`; `Z` in UTC.
    pub fn show(&self, wall: WallTime) -> String {
        if self.0 == TimeZone::UTC {
            return wall.rfc3339();
        }
        wall.timestamp().to_zoned(self.0.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
    }
}

impl std::str::FromStr for DisplayZone {
    type Err = String;

    fn from_str(text: &str) -> Result<DisplayZone, String> {
        DisplayZone::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_an_offset_is_read_in_the_zone_and_shown_in_it() {
        let two_ten = WallTime::parse("2026-11-24T02:10:00Z").unwrap();
        let hanoi = DisplayZone(TimeZone::fixed(jiff::tz::offset(7)));
        assert_eq!(hanoi.read("2026-11-24T09:10:00"), Ok(two_ten));
        assert_eq!(hanoi.read("2026-11-24 09:10"), Ok(two_ten));
        assert_eq!(hanoi.read("2026-11-24T02:10:00Z"), Ok(two_ten));
        assert_eq!(hanoi.show(two_ten), "2026-11-24T09:10:00.000+07:00");
        assert_eq!(DisplayZone::parse("UTC").unwrap().show(two_ten), "2026-11-24T02:10:00.000Z");
        assert!(hanoi.read("9999-12-31T23:59:59Z").unwrap() > two_ten);
        assert!(hanoi.read("9999-12-31T23:59:59").unwrap() > two_ten);
        assert!(hanoi.read("yesterday").is_err());
        assert!(DisplayZone::parse("Mars/Olympus").is_err());
    }
}
