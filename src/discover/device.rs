//! The ONVIF Device service: its questions and their answers.

use super::short;
use super::xml::Element;
use crate::units::WallTime;

/// Where the Device service is unless the camera says otherwise.
pub const PATH: &str = "/onvif/device_service";
const NAMESPACE: &str = "http://www.onvif.org/ver10/device/wsdl";
/// Characters of a path at most.
const PATH_MAX: usize = 256;

/// A question: the body of its request and the name of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The element in the body.
    pub body: String,
    /// The element of the answer.
    pub answer: String,
}

/// The question `name` with `inner` inside.
pub(super) fn question(namespace: &str, name: &str, inner: &str) -> Question {
    Question {
        body: format!("<{name} xmlns=\"{namespace}\">{inner}</{name}>"),
        answer: format!("{name}Response"),
    }
}

/// The camera's clock; the standard lets everyone ask it.
pub fn ask_time() -> Question {
    question(NAMESPACE, "GetSystemDateAndTime", "")
}

/// Maker, model and firmware.
pub fn ask_information() -> Question {
    question(NAMESPACE, "GetDeviceInformation", "")
}

/// The services, by namespace.
pub fn ask_services() -> Question {
    question(NAMESPACE, "GetServices", "<IncludeCapability>false</IncludeCapability>")
}

/// The services as older cameras name them.
pub fn ask_capabilities() -> Question {
    question(NAMESPACE, "GetCapabilities", "<Category>All</Category>")
}

/// The camera's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CameraTime {
    /// Its time, UTC.
    pub utc: Option<WallTime>,
    /// Minutes of its local time east of UTC.
    pub offset: Option<i32>,
    /// Its time zone, as it names it.
    pub zone: Option<String>,
    /// It is set by NTP; `None` where the camera does not say.
    pub ntp: Option<bool>,
}

/// Reads the answer to [`ask_time`].
pub fn time(answer: &Element) -> CameraTime {
    let Some(inner) = answer.child("SystemDateAndTime") else { return CameraTime::default() };
    let (utc, local) =
        (inner.child("UTCDateTime").and_then(civil), inner.child("LocalDateTime").and_then(civil));
    let zone = inner.text_at(&["TimeZone", "TZ"]).map(short);
    let shown = utc.zip(local).map(|(utc, local)| (local.0 - utc.0) / 60_000_000);
    // 15 h: the largest offset is +14:00, and a local time of another day is an error of the camera.
    let shown = shown.filter(|minutes| minutes.abs() <= 15 * 60).map(|minutes| minutes as i32);
    let offset = shown.or_else(|| zone.as_deref().and_then(posix_offset));
    let from_local = || Some(local?.plus_micros(-60_000_000 * i64::from(offset?)));
    let ntp = inner.text_at(&["DateTimeType"]).map(|kind| kind.eq_ignore_ascii_case("NTP"));
    CameraTime { utc: utc.or_else(from_local), offset, zone, ntp }
}

/// A time of ONVIF as if it were UTC.
fn civil(element: &Element) -> Option<WallTime> {
    let number = |path: &[&str]| Some(element.number_at(path)? as i64);
    let year = i16::try_from(number(&["Date", "Year"])?).ok()?;
    let part = |path: &[&str]| i8::try_from(number(path)?).ok();
    let date =
        jiff::civil::Date::new(year, part(&["Date", "Month"])?, part(&["Date", "Day"])?).ok()?;
    // A leap second is the second before.
    let second = part(&["Time", "Second"])?.min(59);
    let time =
        jiff::civil::Time::new(part(&["Time", "Hour"])?, part(&["Time", "Minute"])?, second, 0);
    let zoned = date.to_datetime(time.ok()?).to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(WallTime(zoned.timestamp().as_microsecond()))
}

/// Minutes east of UTC of a zone in POSIX form, without its summer time: `CST-8` is 480.
fn posix_offset(zone: &str) -> Option<i32> {
    let rest = match zone.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>')?.1,
        None => zone.trim_start_matches(|c: char| c.is_ascii_alphabetic()),
    };
    let (sign, rest) = match rest.chars().next()? {
        '-' => (1, &rest[1..]),
        '+' => (-1, &rest[1..]),
        _ => (-1, rest),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(rest.len());
    let mut numbers = rest[..end].split(':').map(|digits| digits.parse::<i32>().ok());
    let (hours, minutes) = (numbers.next()??, numbers.next().unwrap_or(Some(0))?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// What a camera says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Information {
    /// Maker.
    pub maker: String,
    /// Model.
    pub model: String,
    /// Version of its firmware.
    pub firmware: String,
}

/// Reads the answer to [`ask_information`].
pub fn information(answer: &Element) -> Information {
    let text = |name: &str| short(answer.text_at(&[name]).unwrap_or_default());
    Information {
        maker: text("Manufacturer"),
        model: text("Model"),
        firmware: text("FirmwareVersion"),
    }
}

/// Port and path of a service. The address is always the one that answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// TCP port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Service {
    /// Port and path of an address that a camera names: `http://…`, or a path alone.
    pub fn parse(text: &str) -> Option<Service> {
        let text = text.trim();
        let fits = text.len() <= PATH_MAX && text.chars().all(|c| c.is_ascii_graphic());
        if !fits {
            return None;
        }
        let Some(rest) =
            text.get(..7).filter(|s| s.eq_ignore_ascii_case("http://")).map(|_| &text[7..])
        else {
            return text.starts_with('/').then(|| Service { port: 80, path: text.to_owned() });
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = if path.is_empty() { "/" } else { path };
        // Behind the bracket of an IPv6 address.
        let host_end = authority.rfind(']').map_or(0, |at| at + 1);
        let port = match authority[host_end..].rsplit_once(':') {
            Some((_, port)) => port.parse().ok().filter(|port| *port != 0)?,
            None => 80,
        };
        Some(Service { port, path: path.to_owned() })
    }
}

/// The media services of a camera.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MediaServices {
    /// Media 1 (`ver10`).
    pub first: Option<Service>,
    /// Media 2 (`ver20`).
    pub second: Option<Service>,
}

/// Reads the answer to [`ask_services`].
pub fn services(answer: &Element) -> MediaServices {
    let find = |namespace: &str| {
        let service = answer.all("Service").find(|service| {
            service.text_at(&["Namespace"]).is_some_and(|text| text.contains(namespace))
        })?;
        Service::parse(service.text_at(&["XAddr"])?)
    };
    MediaServices { first: find("/ver10/media/wsdl"), second: find("/ver20/media/wsdl") }
}

/// Reads the answer to [`ask_capabilities`].
pub fn capabilities(answer: &Element) -> MediaServices {
    let first = answer.text_at(&["Capabilities", "Media", "XAddr"]).and_then(Service::parse);
    let path = ["Capabilities", "Extension", "Media2", "XAddr"];
    MediaServices { first, second: answer.text_at(&path).and_then(Service::parse) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::xml::parse;

    fn moment(name: &str, hour: u8, day: u8) -> String {
        format!(
            "<t:{name}><t:Time><t:Hour>{hour}</t:Hour><t:Minute>5</t:Minute><t:Second>60</t:Second></t:Time>\
             <t:Date><t:Year>2026</t:Year><t:Month>11</t:Month><t:Day>{day}</t:Day></t:Date></t:{name}>"
        )
    }

    fn of(inner: &str) -> CameraTime {
        let text = format!("<R><SystemDateAndTime>{inner}</SystemDateAndTime></R>");
        time(&parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn the_offset_is_that_of_local_time_or_of_the_zone() {
        let zone = "<TimeZone><TZ>CST-8</TZ></TimeZone><DateTimeType>NTP</DateTimeType>";
        let both = of(&format!(
            "{zone}{}{}",
            moment("UTCDateTime", 23, 30),
            moment("LocalDateTime", 6, 30)
        ));
        assert_eq!(both.offset, Some(480), "17 h are no offset");
        let both = of(&format!(
            "{zone}{}{}",
            moment("UTCDateTime", 3, 30),
            moment("LocalDateTime", 10, 30)
        ));
        assert_eq!((both.offset, both.ntp), (Some(420), Some(true)));
        assert_eq!(both.utc.unwrap().rfc3339(), "2026-11-30T03:05:59.000Z");
        let local = of(&format!("{zone}{}", moment("LocalDateTime", 11, 30)));
        assert_eq!(local.utc, both.utc, "UTC follows from local time and zone");
        assert_eq!(of(&moment("UTCDateTime", 25, 30)).utc, None);
        assert_eq!(of(""), CameraTime::default());
    }

    #[test]
    fn posix_zones_count_to_the_west() {
        for (zone, minutes) in [
            ("CST-8", Some(480)),
            ("<+07>-7", Some(420)),
            ("GMT+05:30", Some(-330)),
            ("EST5EDT,M3.2.0,M11.1.0", Some(-300)),
            ("UTC0", Some(0)),
            ("Asia/Ho_Chi_Minh", None),
            ("X-99", None),
            ("<", None),
            ("", None),
        ] {
            assert_eq!(posix_offset(zone), minutes, "{zone}");
        }
    }

    #[test]
    fn only_port_and_path_of_an_address_are_used() {
        let service = |port, path: &str| Some(Service { port, path: path.into() });
        for (text, wanted) in [
            ("http://10.0.0.2/onvif/device_service", service(80, "/onvif/device_service")),
            (" HTTP://[fe80::1]:8899/a?b ", service(8899, "/a?b")),
            ("http://cam.local", service(80, "/")),
            ("/onvif/Media", service(80, "/onvif/Media")),
            ("https://10.0.0.2/x", None),
            ("http://10.0.0.2:0/x", None),
            ("http://10.0.0.2:http/x", None),
            ("http://a/b\r\nX: y", None),
            ("", None),
        ] {
            assert_eq!(Service::parse(text), wanted, "{text}");
        }
    }
}
