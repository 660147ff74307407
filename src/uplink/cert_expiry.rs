//! When a certificate ends, and whose it is: read from its DER (RFC 5280, 4.1.2.5), as little of it as that takes.
//!
//! What belongs here: that date, how near it is, and the name. What does not: judging a certificate (rustls).

use crate::units::{ClockQuality, Timestamp, WallTime};

/// Days before the end from which on people are reported.
pub const WARN_DAYS: i64 = 30;
const DAY: i64 = 86_400_000_000;

/// One DER element: its tag, its content, and what follows it.
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

/// The common name of whom the certificate in `der` is for (RFC 5280, 4.1.2.6): by it a broker may know a device.
pub fn common_name(der: &[u8]) -> Option<&str> {
    // The object identifier 2.5.4.3.
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

/// When the certificate in `der` ends.
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
    WallTime::parse(&format!("{year:04}-{}-{}T{}:{}:{}Z", at(0)?, at(2)?, at(4)?, at(6)?, at(8)?)).ok()
}

/// The certificate from its validity on.
fn validity(der: &[u8]) -> Option<&[u8]> {
    let (_, certificate, _) = element(der)?;
    let (_, mut body, _) = element(certificate)?;
    // The version is optional; then come number, algorithm, issuer.
    if let Some((0xa0, _, rest)) = element(body) {
        body = rest;
    }
    for _ in 0..3 {
        body = element(body)?.2;
    }
    Some(body)
}

/// Whole days until `end`, when it is near enough to be reported; negative when it is over. A clock nobody has set says nothing.
pub fn near(end: WallTime, now: Timestamp) -> Option<i64> {
    let days = end.0.saturating_sub(now.wall.0).div_euclid(DAY);
    (now.quality > ClockQuality::Unset && days < WARN_DAYS).then_some(days)
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
    fn the_end_of_a_certificate_is_read_in_both_forms_of_time() {
        assert_eq!(ends(2027, 3, 9), WallTime::parse("2027-03-09T00:00:00Z").ok());
        assert_eq!(ends(2051, 12, 31), WallTime::parse("2051-12-31T00:00:00Z").ok(), "after 2049 the form is another");
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_end() {
        for bytes in [&b""[..], b"0", &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1], &[0x30; 40]] {
            assert_eq!((not_after(bytes), common_name(bytes)), (None, None));
        }
    }

    #[test]
    fn the_common_name_is_read_wherever_it_stands_in_the_subject() {
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
        let now = |day: i64, quality| Timestamp { wall: WallTime(day * DAY), quality, ..Timestamp::default() };
        assert_eq!(near(end, now(70, ClockQuality::Ntp)), None);
        assert_eq!(near(end, now(71, ClockQuality::Rtc)), Some(29));
        assert_eq!(near(end, now(101, ClockQuality::Ntp)), Some(-1));
        assert_eq!(near(end, now(99, ClockQuality::Unset)), None);
    }
}
