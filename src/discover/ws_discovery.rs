//! WS-Discovery (2005/04): the probe, and the answers of devices.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::xml::{self, XmlError};
use super::{short, soap};

/// IPv4 group of WS-Discovery.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
/// IPv6 group of WS-Discovery, link-local.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xc);
/// UDP port of WS-Discovery.
pub const PORT: u16 = 3702;
/// Bytes of an answer at most: the largest UDP datagram.
pub const DATAGRAM_MAX: usize = 65_507;
/// Devices in one answer at most; a device names itself alone.
pub const MATCHES_MAX: usize = 16;
/// Addresses and scopes of one device at most.
pub const WORDS_MAX: usize = 64;
/// Repetitions of a probe (SOAP-over-UDP, `MULTICAST_UDP_REPEAT`).
const REPEATS: usize = 4;
/// Pause before the first repetition: between `UDP_MIN_DELAY` and `UDP_MAX_DELAY`.
const FIRST_PAUSE: (u64, u64) = (50, 250);
/// No pause is longer (`UDP_UPPER_DELAY`).
const PAUSE_MAX: u64 = 500;

/// The types of devices that are probed, one message each: some cameras answer only to one of them.
pub const TYPES: [(&str, &str); 2] = [
    ("http://www.onvif.org/ver10/network/wsdl", "NetworkVideoTransmitter"),
    ("http://www.onvif.org/ver10/device/wsdl", "Device"),
];

/// A device that answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// Its name for itself, the same on each of its addresses.
    pub endpoint: String,
    /// Addresses of its service, as it names them.
    pub xaddrs: Vec<String>,
    /// Name and hardware from its scopes.
    pub name: Option<String>,
    /// Hardware from its scopes.
    pub hardware: Option<String>,
    /// It is a camera or recorder by its types or scopes, not a printer.
    pub is_onvif: bool,
}

/// The probe for one type; `id` is a UUID, the same for each repetition.
pub fn probe(id: &str, (namespace, name): (&str, &str)) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <e:Envelope xmlns:e=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:w=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\" xmlns:dn=\"{namespace}\">\
         <e:Header><w:MessageID>uuid:{id}</w:MessageID>\
         <w:To e:mustUnderstand=\"true\">urn:schemas-xmlsoap-org:ws:2005:04:discovery</w:To>\
         <w:Action e:mustUnderstand=\"true\">http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</w:Action>\
         </e:Header><e:Body><d:Probe><d:Types>dn:{name}</d:Types></d:Probe></e:Body></e:Envelope>"
    )
}

/// A random UUID (RFC 9562, version 4) of 16 random bytes.
pub fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = crate::units::hex(&bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

/// When a probe is sent, counted from its begin: at once, and [`REPEATS`] times more with doubling pauses. `random` is in 0..1.
pub fn schedule(random: f64) -> Vec<Duration> {
    let (min, max) = FIRST_PAUSE;
    let mut pause = min + ((max - min) as f64 * random.clamp(0.0, 1.0)) as u64;
    let mut at = 0;
    let mut times = vec![Duration::ZERO];
    for _ in 0..REPEATS {
        at += pause;
        times.push(Duration::from_millis(at));
        pause = (pause * 2).min(PAUSE_MAX);
    }
    times
}

/// Reads an answer. Hello messages name their device in the same way.
///
/// # Errors
/// It is no XML; an answer without a device is an empty list.
pub fn matches(datagram: &[u8]) -> Result<Vec<Match>, XmlError> {
    let root = xml::parse(datagram)?;
    let Some(body) = soap::body(&root) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for answer in &body.children {
        found.extend(answer.all("ProbeMatch").take(MATCHES_MAX).map(device));
    }
    found.truncate(MATCHES_MAX);
    Ok(found)
}

/// The words of a list.
fn words<'a>(element: &'a xml::Element, name: &'a str) -> Vec<&'a str> {
    let all = element.all(name).flat_map(|list| list.text.split_whitespace());
    all.take(WORDS_MAX).collect()
}

fn device(element: &xml::Element) -> Match {
    let (types, scopes) = (words(element, "Types"), words(element, "Scopes"));
    let scope = |name: &str| {
        let value = scopes.iter().find_map(|scope| {
            let rest = scope.strip_prefix("onvif://www.onvif.org/")?;
            rest.strip_prefix(name)?.strip_prefix('/')
        })?;
        Some(short(&unquoted(value))).filter(|text| !text.is_empty())
    };
    let is_camera = |name: &&str| {
        let name = name.rsplit(':').next().unwrap_or_default();
        name == TYPES[0].1 || name == TYPES[1].1
    };
    Match {
        endpoint: short(element.text_at(&["EndpointReference", "Address"]).unwrap_or_default()),
        xaddrs: words(element, "XAddrs").into_iter().map(str::to_owned).collect(),
        name: scope("name"),
        hardware: scope("hardware"),
        is_onvif: types.iter().any(is_camera)
            || scopes.iter().any(|scope| scope.starts_with("onvif://")),
    }
}

/// Percent-encoding of a scope undone; what is no UTF-8 then stays as it came.
fn unquoted(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *first == b'%');
        let byte =
            digits.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_repeated_with_doubling_pauses() {
        let millis = |random: f64| -> Vec<u128> {
            schedule(random).iter().map(Duration::as_millis).collect()
        };
        assert_eq!(millis(0.0), [0, 50, 150, 350, 750]);
        assert_eq!(millis(1.0), [0, 250, 750, 1250, 1750]);
    }

    #[test]
    fn a_probe_is_well_formed_and_carries_its_id() {
        let id = uuid([0xff; 16]);
        assert_eq!(id, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        for kind in TYPES {
            let root = xml::parse(probe(&id, kind).as_bytes()).unwrap();
            assert_eq!(root.text_at(&["Header", "MessageID"]), Some(format!("uuid:{id}").as_str()));
            let types = root.text_at(&["Body", "Probe", "Types"]).unwrap();
            assert_eq!(types, format!("dn:{}", kind.1));
        }
    }

    #[test]
    fn an_answer_names_endpoint_addresses_and_scopes() {
        let text = "<SOAP-ENV:Envelope xmlns:SOAP-ENV='x'><SOAP-ENV:Header/><SOAP-ENV:Body><q:ProbeMatches><q:ProbeMatch>\
            <a:EndpointReference><a:Address> urn:uuid:1 </a:Address></a:EndpointReference><q:Types>p:NetworkVideoTransmitter</q:Types>\
            <q:Scopes>onvif://www.onvif.org/name/Road%20cam%zz onvif://www.onvif.org/hardware/X%ff</q:Scopes>\
            <q:XAddrs>http://10.0.0.2/onvif/device_service\n  http://[fe80::1]/onvif/device_service</q:XAddrs>\
            </q:ProbeMatch></q:ProbeMatches></SOAP-ENV:Body></SOAP-ENV:Envelope>";
        let found = matches(text.as_bytes()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].endpoint, "urn:uuid:1");
        assert_eq!(found[0].xaddrs.len(), 2);
        assert_eq!(found[0].name.as_deref(), Some("Road cam%zz"));
        assert_eq!(found[0].hardware.as_deref(), Some("X%ff"));
        assert!(found[0].is_onvif);
    }

    #[test]
    fn a_printer_is_no_camera_and_many_matches_are_cut() {
        let one = "<ProbeMatch><Types>wprt:PrintDeviceType</Types></ProbeMatch>".repeat(100);
        let text = format!("<Envelope><Body><ProbeMatches>{one}</ProbeMatches></Body></Envelope>");
        let found = matches(text.as_bytes()).unwrap();
        assert_eq!(found.len(), MATCHES_MAX);
        assert!(found.iter().all(|device| !device.is_onvif));
        assert_eq!(matches(b"<Envelope/>"), Ok(Vec::new()));
    }
}
