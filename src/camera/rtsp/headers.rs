//! Header values of RTSP that the session needs, from bytes. What cannot be read is left out and
//! counted.

use std::time::Duration;

use crate::camera::quirk::{Quirk, QuirkCounts};

/// The `Session` header of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionHeader {
    /// The session id, as it came.
    pub id: Vec<u8>,
    /// The timeout, if one is given.
    pub timeout: Option<Duration>,
}

/// The `Transport` header of a response: each part is a hint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransportHeader {
    /// The first interleaved channel.
    pub channel: Option<u8>,
    /// The SSRC of the camera's packets.
    pub ssrc: Option<u32>,
    /// The camera's port of RTP and of RTCP.
    pub server_ports: Option<(u16, u16)>,
}

/// The number that text begins with.
fn number(text: &str) -> Option<u64> {
    let text = text.trim().trim_matches('"');
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// Reads a `Session` header (RFC 2326 12.37). `None` when it has no id.
pub fn session(value: &[u8], quirks: &mut QuirkCounts) -> Option<SessionHeader> {
    let mut parts = value.split(|c| *c == b';');
    let id = parts.next()?.trim_ascii().to_vec();
    let mut timeout = None;
    for part in parts {
        let text = String::from_utf8_lossy(part);
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        match number(value).filter(|seconds| *seconds > 0) {
            Some(seconds) if name.trim().eq_ignore_ascii_case("timeout") => {
                timeout = Some(Duration::from_secs(seconds.min(86_400)));
            }
            _ => _ = quirks.note(Quirk::SessionHeader),
        }
    }
    let odd = id.is_empty() || id.iter().any(|byte| *byte <= b' ' || *byte >= 0x7f);
    if odd {
        quirks.note(Quirk::SessionHeader);
    }
    (!id.is_empty() && !id.iter().any(|byte| *byte < b' ')).then_some(SessionHeader { id, timeout })
}

/// Reads a `Transport` header (RFC 2326 12.39).
pub fn transport(value: &[u8], quirks: &mut QuirkCounts) -> TransportHeader {
    let text = String::from_utf8_lossy(value);
    // Of several transports the first one counts.
    let first = text.split(',').next().unwrap_or_default();
    let mut found = TransportHeader::default();
    let pair = |value: &str| {
        let (low, high) = value.split_once('-').unwrap_or((value, ""));
        let low = number(low)?;
        Some((low, number(high).unwrap_or(low + 1)))
    };
    for part in first.split(';').skip(1) {
        if part.starts_with(|c: char| c.is_ascii_whitespace()) {
            quirks.note(Quirk::TransportHeader);
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let readable = match name.trim().to_ascii_lowercase().as_str() {
            "interleaved" => {
                found.channel = pair(value).and_then(|(low, _)| u8::try_from(low).ok());
                found.channel.is_some()
            }
            "ssrc" => {
                found.ssrc = u32::from_str_radix(value.trim().trim_start_matches("0x"), 16).ok();
                found.ssrc.is_some()
            }
            "server_port" => {
                found.server_ports = pair(value).and_then(|(low, high)| {
                    Some((u16::try_from(low).ok()?, u16::try_from(high).ok()?))
                });
                found.server_ports.is_some()
            }
            // `source` is not used: nothing is sent to another host because a camera says so.
            _ => true,
        };
        if !readable {
            quirks.note(Quirk::TransportHeader);
        }
    }
    found
}

/// Whether each entry of an `RTP-Info` header (RFC 2326 12.33) has what it should have.
pub fn is_rtp_info(value: &[u8]) -> bool {
    let text = String::from_utf8_lossy(value).to_ascii_lowercase();
    text.split(",url=").enumerate().all(|(at, entry)| {
        let entry = if at == 0 { entry.trim().strip_prefix("url=") } else { Some(entry) };
        entry.is_some_and(|entry| {
            entry.split(';').skip(1).all(|part| {
                part.split_once('=').is_some_and(|(name, value)| {
                    !matches!(name.trim(), "seq" | "rtptime") || number(value).is_some()
                })
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_headers_are_read_with_odd_parameters() {
        let secs = Duration::from_secs;
        for (value, id, timeout, odd) in [
            (&b"12345678"[..], &b"12345678"[..], None, false),
            (b"12345678;timeout=60", b"12345678", Some(secs(60)), false),
            (b" 12345678 ; Timeout = 30 ;server=7", b"12345678", Some(secs(30)), true),
            (b"a b;timeout=60", b"a b", Some(secs(60)), true),
            (b"-89592;timeout=\"20\"", b"-89592", Some(secs(20)), false),
            (b"1;timeout=60s", b"1", Some(secs(60)), false),
            (b"1;timeout=", b"1", None, true),
            (b"1;timeout=0;", b"1", None, true),
            (b"\xc4\x91;timeout=99999999999999999999", b"\xc4\x91", None, true),
        ] {
            let mut quirks = QuirkCounts::default();
            let found = session(value, &mut quirks);
            assert_eq!(found, Some(SessionHeader { id: id.to_vec(), timeout }));
            assert_eq!(quirks.seen().next().is_some(), odd, "{value:?}");
        }
        assert_eq!(session(b" ;timeout=60", &mut QuirkCounts::default()), None);
        assert_eq!(
            session(b"1\r2", &mut QuirkCounts::default()),
            None,
            "it would divide a request"
        );
    }

    #[test]
    fn transport_headers_are_read_with_blanks_and_gaps() {
        for (value, channel, ssrc, ports, odd) in [
            (
                "RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=5D4A00C6",
                Some(0),
                Some(0x5D4A_00C6),
                None,
                false,
            ),
            ("RTP/AVP/TCP; unicast; interleaved=2-3", Some(2), None, None, true),
            (
                "RTP/AVP/TCP;unicast;Interleaved = 4 - 5 ;mode=\"PLAY\";x",
                Some(4),
                None,
                None,
                false,
            ),
            ("RTP/AVP/TCP;unicast;interleaved=6", Some(6), None, None, false),
            ("RTP/AVP/TCP;interleaved=;ssrc=xyz", None, None, None, true),
            ("RTP/AVP/TCP;unicast;interleaved=900-901", None, None, None, true),
            (
                "RTP/AVP;unicast;client_port=1-2;server_port=6970-6971;source=10.0.0.2",
                None,
                None,
                Some((6970, 6971)),
                false,
            ),
            (
                "RTP/AVP;server_port=6970;ssrc=0x1A, RTP/AVP/TCP",
                None,
                Some(26),
                Some((6970, 6971)),
                false,
            ),
            ("", None, None, None, false),
        ] {
            let mut quirks = QuirkCounts::default();
            let found = transport(value.as_bytes(), &mut quirks);
            assert_eq!(
                (found.channel, found.ssrc, found.server_ports),
                (channel, ssrc, ports),
                "{value}"
            );
            assert_eq!(quirks.seen().next().is_some(), odd, "{value}");
        }
    }

    #[test]
    fn rtp_info_is_readable_only_with_urls_and_numbers() {
        assert!(is_rtp_info(
            b"url=rtsp://h/a,b;seq=1;rtptime=2,url=rtsp://h/track2;seq=10;rtptime=0"
        ));
        assert!(is_rtp_info(b"url=track1"));
        for odd in
            [&b"track1;seq=1000;rtptime=0"[..], b"url=a;seq=;rtptime=x", b"", b"url=a;seq=-1"]
        {
            assert!(!is_rtp_info(odd), "{odd:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_value_panics(value in proptest::collection::vec(proptest::sample::select(b"=,;\"'\\ \t-a1\xff".to_vec()), 0..40)) {
            let mut quirks = QuirkCounts::default();
            session(&value, &mut quirks);
            transport(&value, &mut quirks);
            is_rtp_info(&value);
        }
    }
}
