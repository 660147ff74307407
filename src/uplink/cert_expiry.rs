//! Certificate expiry and common name, read from DER (RFC 5280, 4.1.2.5 and 4.1.2.6).
//!
//! Verification of certificates belongs to rustls.

use crate::units::{ClockQuality, Timestamp, WallTime};

/// Days before its end from which on an expiring certificate is reported.
pub const WARN_DAYS: i64 = 30;
const DAY: i64 = 86_400_000_000;

/// Splits one DER element (X.690, 8.1) off: its tag, its content, and the bytes after it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((*tag, content, rest))
}

/// The common name of the certificate's subject. A broker can identify a device by it.
pub fn common_name(der: &[u8]) -> Option<&str> {
    // Object identifier 2.5.4.3 (commonName).
    const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
    let (_, subject, _) = element(element(validity(der)?)?.2)?;
    let mut sets = subject;
    while let Some((_, set, rest)) = element(sets) {
        sets = rest;
        let (_, pair, _) = element(set)?;
        let (_, kind, value) = element(pair)?;
        if kind == COMMON_NAME {
            return std::str::from_utf8(element(value)?.1).ok();
        }
    }
    None
}

/// The end of the certificate's validity.
pub fn not_after(der: &[u8]) -> Option<WallTime> {
    let (_, validity, _) = element(validity(der)?)?;
    let (tag, text, _) = element(element(validity)?.2)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = text.split_at_checked(if tag == 0x17 { 2 } else { 4 })?;
    let year: u32 = year.parse().ok()?;
    let year = match (tag, year) {
        (0x17, 0..50) => 2000 + year,
        (0x17, _) => 1900 + year,
        _ => year,
    };
    let at = |from: usize| rest.get(from..from + 2);
    WallTime::parse(&format!("{year:04}-{}-{}T{}:{}:{}Z", at(0)?, at(2)?, at(4)?, at(6)?, at(8)?))
        .ok()
}

/// The part of the certificate that starts with its validity.
fn validity(der: &[u8]) -> Option<&[u8]> {
    let (_, certificate, _) = element(der)?;
    let (_, mut body, _) = element(certificate)?;
    // The version is optional. Serial number, algorithm and issuer follow.
    if let Some((0xa0, _, rest)) = element(body) {
        body = rest;
    }
    for _ in 0..3 {
        body = element(body)?.2;
    }
    Some(body)
}

/// Whole days until `end`, when they are fewer than [`WARN_DAYS`]; negative after it. `None` while
/// the clock is not set.
pub fn near(end: WallTime, now: Timestamp) -> Option<i64> {
    let days = end.0.saturating_sub(now.wall.0).div_euclid(DAY);
    (now.quality > ClockQuality::Unset && days < WARN_DAYS).then_some(days)
}

/// The warning about a certificate that expires soon; `key` is its key in section `uplink`.
pub fn warning(key: &str, end: WallTime, now: Timestamp) -> Option<String> {
    let days = near(end, now)?;
    Some(format!(
        "the certificate in uplink.{key} expires at {} ({days} days): install a new one",
        end.rfc3339()
    ))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn ends(year: i32, month: u8, day: u8) -> Option<WallTime> {
        let mut params = CertificateParams::new(vec!["km-17".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, month, day);
        not_after(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn the_expiry_is_read_from_utc_time_and_generalized_time() {
        assert_eq!(ends(2027, 3, 9), WallTime::parse("2027-03-09T00:00:00Z").ok());
        assert_eq!(
            ends(2051, 12, 31),
            WallTime::parse("2051-12-31T00:00:00Z").ok(),
            "GeneralizedTime from 2050 on"
        );
    }

    #[test]
    fn invalid_der_has_no_expiry_and_no_name() {
        for bytes in [&b""[..], b"0", &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1], &[0x30; 40]] {
            assert_eq!((not_after(bytes), common_name(bytes)), (None, None));
        }
    }

    #[test]
    fn the_common_name_is_found_after_other_attributes() {
        let mut params = CertificateParams::new(vec!["other".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "a commune");
        let name = |params: &CertificateParams| {
            let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            common_name(made.der()).map(str::to_owned)
        };
        assert_eq!(name(&params), None);
        params.distinguished_name.push(rcgen::DnType::CommonName, "km-17");
        assert_eq!(name(&params).as_deref(), Some("km-17"));
    }

    #[test]
    fn certificate_expiry_is_reported_thirty_days_ahead() {
        let end = WallTime(100 * DAY);
        let now = |day: i64, quality| Timestamp {
            wall: WallTime(day * DAY),
            quality,
            ..Timestamp::default()
        };
        assert_eq!(near(end, now(70, ClockQuality::Ntp)), None);
        assert_eq!(near(end, now(71, ClockQuality::Rtc)), Some(29));
        assert_eq!(near(end, now(101, ClockQuality::Ntp)), Some(-1));
        assert_eq!(near(end, now(99, ClockQuality::Unset)), None);
    }
}
