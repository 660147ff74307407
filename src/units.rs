//! Shared value types: times, ids, digests and secrets.
//!
//! Time is a value here. Only [`crate::clock`] reads clocks.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Monotonic time: microseconds on the clock of this run of the agent. Comparable only within one
/// [`Boot`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct MonoTime(pub u64);

impl MonoTime {
    /// This instant moved later by `micros`, saturating.
    pub fn plus_micros(self, micros: u64) -> MonoTime {
        MonoTime(self.0.saturating_add(micros))
    }

    /// This instant moved later by whole seconds, saturating.
    pub fn plus_secs(self, secs: u64) -> MonoTime {
        self.plus_micros(secs.saturating_mul(1_000_000))
    }

    /// This instant moved later by `duration`, saturating.
    pub fn plus(self, duration: Duration) -> MonoTime {
        self.plus_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }

    /// Time from `earlier` to this instant; 0 when `earlier` is later.
    pub fn duration_since(self, earlier: MonoTime) -> Duration {
        Duration::from_micros(self.since(earlier))
    }

    /// Microseconds from `earlier` to this instant; 0 when `earlier` is later.
    pub fn since(self, earlier: MonoTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Wall-clock time: microseconds since 1970-01-01T00:00:00Z (UTC without leap seconds, as in
/// POSIX). [`ClockQuality`] states its reliability.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct WallTime(pub i64);

impl WallTime {
    /// This time moved by `micros` (negative is earlier), saturating.
    pub fn plus_micros(self, micros: i64) -> WallTime {
        WallTime(self.0.saturating_add(micros))
    }

    /// Parses RFC 3339 with an offset, e.g. `2026-11-24T09:10:00+07:00`. Without an offset the time
    /// is UTC. The calendar ends with 9999-12-30T22:00:00.999Z: a later time of that year is this one.
    ///
    /// # Errors
    /// When `text` is no such time.
    pub fn parse(text: &str) -> Result<WallTime, String> {
        let with_offset = text.parse::<jiff::Timestamp>();
        let utc =
            || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
        match (with_offset, text.trim().is_empty()) {
            (Ok(_), _) if !offset_fits(text) => {
                Err(format!("{text:?}: an offset is at most 23:59"))
            }
            (Ok(time), _) => Ok(WallTime(time.as_microsecond())),
            (Err(_), false) => match utc() {
                Some(time) => Ok(WallTime(time.timestamp().as_microsecond())),
                None if let Some(end) = end_of_calendar(text) => Ok(end),
                None => Err(format!(
                    "{text:?} is not a time such as 2026-11-24T02:10:00Z or 2026-11-24T09:10:00+07:00"
                )),
            },
            (Err(_), true) => Err("the time is empty".into()),
        }
    }

    /// RFC 3339 text in UTC with milliseconds, e.g. `2026-11-24T02:10:00.000Z`.
    pub fn rfc3339(self) -> String {
        format!("{:.3}", self.timestamp())
    }

    /// For a calendar, which ends with the year 9999: what lies beyond it is its end.
    pub fn timestamp(self) -> jiff::Timestamp {
        let end = if self.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(end)
    }
}

/// The end of the calendar for a time of the last two days of the year 9999, which lie behind it.
fn end_of_calendar(text: &str) -> Option<WallTime> {
    let civil = text.trim().trim_end_matches(['Z', 'z']).parse::<jiff::civil::DateTime>().ok()?;
    let is_last = (civil.year(), civil.month()) == (9999, 12) && civil.day() >= 30;
    is_last.then(|| WallTime(jiff::Timestamp::MAX.as_microsecond()))
}

/// RFC 3339 (5.6) knows offsets up to 23:59; the parser takes more.
fn offset_fits(text: &str) -> bool {
    let time = text.split_once(['T', 't', ' ']).map_or("", |(_, time)| time);
    let time = time.split('[').next().unwrap_or_default();
    let hours =
        time.rsplit_once(['+', '-']).and_then(|(_, offset)| offset.get(..2)?.parse::<u8>().ok());
    hours.is_none_or(|hours| hours <= 23)
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// Reliability of the wall clock, lowest first. Every record and event carries it, because a board
/// without a clock battery starts in 1970 and a court needs to know.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ClockQuality {
    /// The clock has not been set since power-on.
    #[default]
    Unset = 0,
    /// Set from a battery clock or by an operator, not checked since.
    Rtc = 1,
    /// Taken from the camera's own clock.
    Camera = 2,
    /// Disciplined by NTP.
    Ntp = 3,
}

impl ClockQuality {
    /// The quality of a stored byte. Unknown bytes are [`ClockQuality::Unset`], the safe reading.
    pub fn from_byte(byte: u8) -> ClockQuality {
        match byte {
            1 => ClockQuality::Rtc,
            2 => ClockQuality::Camera,
            3 => ClockQuality::Ntp,
            _ => ClockQuality::Unset,
        }
    }

    /// The name in payloads and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            ClockQuality::Unset => "unset",
            ClockQuality::Rtc => "rtc",
            ClockQuality::Camera => "camera",
            ClockQuality::Ntp => "ntp",
        }
    }
}

/// One reading of all clocks: the `now` that every pure decision takes as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timestamp {
    /// Monotonic time.
    pub mono: MonoTime,
    /// Wall-clock time.
    pub wall: WallTime,
    /// Quality of `wall`.
    pub quality: ClockQuality,
}

impl Timestamp {
    /// The same clocks at another monotonic instant: wall time moves by the same distance.
    pub fn at(self, mono: MonoTime) -> Timestamp {
        let moved = mono.0 as i64 - self.mono.0 as i64;
        Timestamp { mono, wall: self.wall.plus_micros(moved), quality: self.quality }
    }

    /// The same clocks `micros` microseconds later.
    pub fn after(self, micros: u64) -> Timestamp {
        self.at(self.mono.plus_micros(micros))
    }
}

/// Number of a start of the agent on this card, counted in the journal. The pair (boot, mono)
/// orders all records.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Boot(pub u32);

/// Id of one ring, drawn at random when its journal was created. Numbers of events, boots and
/// connections count within it; a replaced card has another ring. 16 hex digits as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RingId(pub u64);

impl fmt::Display for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for RingId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RingId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = (text.len() == 16).then(|| u64::from_str_radix(&text, 16).ok()).flatten();
        read.map(RingId).ok_or_else(|| serde::de::Error::custom("not a ring id of 16 hex digits"))
    }
}

/// Site ids that are reserved: topic levels at the place of a site id, and the office's user name
/// at the broker.
pub const RESERVED_SITES: [&str; 5] = ["host", "fleet", "enrol", "witness", "office"];
/// Reserved prefixes of site ids: `claim-` for devices that are not enrolled yet, `taimat-` for the
/// client ids of offices and probes. The client id of a device is its site id.
pub const RESERVED_SITE_PREFIXES: [&str; 2] = ["claim-", "taimat-"];

/// Id of a site, the place of one camera: `[a-z0-9-]{1,32}`. It is a topic level, so two lines in
/// the broker's access list cover a site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SiteId(String);

impl SiteId {
    /// Parses a site id.
    ///
    /// # Errors
    /// When `text` is not 1 to 32 characters of `a-z`, `0-9` and `-`, or is reserved.
    pub fn parse(text: &str) -> Result<SiteId, String> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let reserved = RESERVED_SITES.contains(&text)
            || RESERVED_SITE_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        match text.len() {
            _ if reserved => {
                let names = RESERVED_SITES.join(", ");
                let prefixes =
                    RESERVED_SITE_PREFIXES.map(|prefix| format!("{prefix}*")).join(" and ");
                Err(format!("{text:?} is no site id: {names}, {prefixes} are reserved"))
            }
            1..=32 if text.chars().all(good) => Ok(SiteId(text.to_owned())),
            _ => Err(format!("{text:?} is not a site id: 1 to 32 characters of a-z, 0-9 and '-'")),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A password or key: never printed, never serialised.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret. Call it only to send the secret to the peer that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Id of an outbox entry: unique on this card forever, ascending.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct EntryId(pub u64);

/// A 32-byte SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// SHA-256 (FIPS 180-4) of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        Digest(out)
    }

    /// 64 lower-case hex digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// 16 groups of five decimal digits, each of two bytes, for people who compare them aloud.
    pub fn digits(&self) -> String {
        let groups = self.0.chunks(2).map(|pair| {
            let number = pair.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
            format!("{number:05}")
        });
        groups.collect::<Vec<_>>().join(" ")
    }

    /// Parses 64 hex digits; `None` for other text.
    pub fn from_hex(text: &str) -> Option<Digest> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut out = [0; 32];
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(Digest(out))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::from_hex(&text)
            .ok_or_else(|| serde::de::Error::custom("not a SHA-256 in 64 hex digits"))
    }
}

/// Base 64 (RFC 4648, section 4): keys in PEM, and parameter sets and logins of RTSP.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let value = (0..3)
            .fold(0_u32, |value, i| value << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        (0..4)
            .map(|i| {
                if i <= chunk.len() {
                    char::from(ALPHABET[(value >> (18 - 6 * i)) as usize & 63])
                } else {
                    '='
                }
            })
            .collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// Lower-case hex of any bytes.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A number of things: `1 problem`, `2 problems`.
pub fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_in_digits_has_each_of_its_bits() {
        let digits = Digest::of(b"").digits();
        assert_eq!(
            digits,
            "58288 50242 39164 07188 39675 62664 39279 47396 10158 16868 25755 37708 42133 39195 30802 47189"
        );
        let mut ends = [0; 32];
        (ends[1], ends[30], ends[31]) = (7, 255, 255);
        let digits = Digest(ends).digits();
        assert!(digits.starts_with("00007 00000 ") && digits.ends_with(" 00000 65535"));
    }

    #[test]
    fn a_time_behind_the_end_of_the_calendar_is_its_end() {
        let end = WallTime(jiff::Timestamp::MAX.as_microsecond());
        for text in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59+07:00", "9999-12-31T23:59:59"] {
            assert_eq!(WallTime::parse(text), Ok(end), "{text}");
        }
        for text in ["9999-12-32T00:00:00Z", "10000-01-01T00:00:00Z", "9999-12-31T25:00:00Z"] {
            assert!(WallTime::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_never_shows_in_debug_output() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }

    #[test]
    fn site_ids_that_would_break_a_topic_are_rejected() {
        assert!(SiteId::parse("km-17").is_ok());
        for bad in ["", "Km17", "a/b", "a+b", "a.b", &"x".repeat(33)] {
            assert!(SiteId::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn reserved_site_ids_are_rejected_by_name() {
        for bad in [
            "host",
            "fleet",
            "enrol",
            "witness",
            "office",
            "claim-",
            "claim-0a1b",
            "taimat-office-office",
        ] {
            let reason = SiteId::parse(bad).expect_err(bad);
            assert!(reason.contains(bad) && reason.contains("reserved"), "{reason}");
        }
        for good in ["hosts", "witness-1", "claim", "office-2", "xclaim-1"] {
            assert!(SiteId::parse(good).is_ok(), "{good:?} was rejected");
        }
    }

    #[test]
    fn a_ring_id_round_trips_through_sixteen_hex_digits() {
        let ring = RingId(0x2a);
        assert_eq!(serde_json::to_string(&ring).unwrap(), "\"000000000000002a\"");
        assert_eq!(serde_json::from_str::<RingId>("\"000000000000002a\"").unwrap(), ring);
        assert!(serde_json::from_str::<RingId>("\"2a\"").is_err());
    }

    #[test]
    fn a_digest_round_trips_through_hex() {
        let digest = Digest::of(b"taimat");
        assert_eq!(Digest::from_hex(&digest.hex()), Some(digest));
        assert_eq!(Digest::from_hex("xyz"), None);
    }

    #[test]
    fn wall_time_parses_with_an_offset_and_as_utc_without() {
        let two_ten = WallTime::parse("2026-11-24T02:10:00Z").unwrap();
        assert_eq!(WallTime::parse("2026-11-24T09:10:00+07:00"), Ok(two_ten));
        assert_eq!(WallTime::parse("2026-11-24T02:10:00"), Ok(two_ten));
        assert!(WallTime::parse("Tuesday").unwrap_err().contains("Tuesday"));
        for offset in ["+24:00", "+25:00", "-25:59", "+2500"] {
            let refused = WallTime::parse(&format!("2026-11-24T09:10:00{offset}"));
            assert!(refused.is_err_and(|reason| reason.contains(offset)), "{offset}");
        }
        assert!(WallTime::parse("2026-11-24T09:10:00-23:59").is_ok());
    }

    #[test]
    fn times_beyond_the_calendar_are_its_end_and_never_1970() {
        for (time, shown) in [
            (i64::MAX, "9999-12-30T22:00:00.999Z"),
            (253_402_300_800_000_000, "9999-12-30T22:00:00.999Z"),
            (i64::MIN, "-009999-01-02T01:59:59.000Z"),
        ] {
            assert_eq!(WallTime(time).rfc3339(), shown);
            assert!(WallTime::parse(shown).is_ok(), "{shown}");
        }
        assert_eq!(WallTime(i64::MAX).plus_micros(1), WallTime(i64::MAX));
    }

    #[test]
    fn wall_time_prints_as_rfc3339_in_utc() {
        assert_eq!(WallTime(1_790_000_000_123_456).rfc3339(), "2026-09-21T14:13:20.123Z");
    }
}
