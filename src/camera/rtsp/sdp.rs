//! The session description (SDP, RFC 4566) of a DESCRIBE response, read liberally.
//!
//! Only media, their formats and their control URLs are needed; a line that cannot be read is
//! skipped.

use std::num::NonZeroU16;

use super::limits::{SDP_LINES_MAX, SDP_MEDIA_MAX};
use crate::camera::TrackKind;
use crate::camera::quirk::{Quirk, QuirkCounts};
use crate::camera::track_format::TrackFormat;

/// A description of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sdp {
    /// Control URL of the whole session.
    pub control: Option<String>,
    /// Video and audio, in their order.
    pub media: Vec<MediaDescription>,
    /// Names of all media, for operators: the encoding, or the kind.
    pub names: Vec<String>,
}

/// One video or audio of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaDescription {
    /// Its payload.
    pub format: TrackFormat,
    /// Its control URL, as it came.
    pub control: Option<String>,
    /// It has `a=sendonly`: with ONVIF a back channel, from the client to the camera.
    pub sendonly: bool,
}

/// The lines of one `m=` block.
#[derive(Default)]
struct Block {
    kind: String,
    /// Payload types of the `m=` line.
    types: Vec<u8>,
    /// Payload type, encoding name, clock rate and channels of each `a=rtpmap`.
    maps: Vec<(u8, String, Option<u32>, Option<NonZeroU16>)>,
    /// Payload type and parameters of each `a=fmtp`.
    fmtp: Vec<(u8, String)>,
    control: Option<String>,
    sendonly: bool,
}

/// Reads an SDP.
pub fn parse(bytes: &[u8], quirks: &mut QuirkCounts) -> Sdp {
    let text = String::from_utf8_lossy(bytes);
    let mut sdp = Sdp::default();
    let mut block: Option<Block> = None;
    let lines = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    for line in lines.take(SDP_LINES_MAX) {
        let Some((kind, value)) = line.split_once('=') else {
            quirks.note(Quirk::SdpLine);
            continue;
        };
        let value = value.trim();
        let read = match (kind.trim(), &mut block) {
            ("m", _) => {
                sdp.take(block.take(), quirks);
                if sdp.names.len() >= SDP_MEDIA_MAX {
                    quirks.note(Quirk::SdpLine);
                    return sdp;
                }
                let media = media_line(value);
                let read = media.is_some();
                block = media;
                read
            }
            ("a", Some(block)) => block.attribute(value),
            ("a", None) => {
                if let Some(control) = attribute(value, "control") {
                    sdp.control = Some(control.to_owned());
                }
                true
            }
            // Not needed, and some cameras send them without their ends.
            ("o", _) => value.split_ascii_whitespace().count() == 6,
            ("c", _) => value.split_ascii_whitespace().count() == 3,
            ("t", _) => value.split_ascii_whitespace().all(|word| word.parse::<u64>().is_ok()),
            (kind, _) => kind.len() == 1,
        };
        if !read {
            quirks.note(Quirk::SdpLine);
        }
    }
    sdp.take(block, quirks);
    sdp
}

impl Sdp {
    fn take(&mut self, block: Option<Block>, quirks: &mut QuirkCounts) {
        let Some(block) = block else { return };
        let kind = match block.kind.as_str() {
            "video" => TrackKind::Video,
            "audio" => TrackKind::Audio,
            _ => {
                self.names.push(block.kind);
                return;
            }
        };
        let format = block.format(kind, quirks);
        let name = if format.encoding.is_empty() { &block.kind } else { &format.encoding };
        self.names.push(name.clone());
        let Block { control, sendonly, .. } = block;
        self.media.push(MediaDescription { format, control, sendonly });
    }
}

/// Reads the value of an `m=` line: kind, port, protocol, payload types.
fn media_line(value: &str) -> Option<Block> {
    let mut words = value.split_ascii_whitespace();
    let kind = words.next()?.to_ascii_lowercase();
    let types = words.skip(1).filter_map(|word| word.parse().ok().filter(|pt| *pt < 128)).collect();
    Some(Block { kind, types, ..Block::default() })
}

/// The value of an attribute, with blanks around its name tolerated.
fn attribute<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let (own, value) = value.split_once(':')?;
    own.trim().eq_ignore_ascii_case(name).then(|| value.trim())
}

/// Divides `96 rest` into the payload type and the rest.
fn numbered(value: &str) -> Option<(u8, &str)> {
    let end = value.find(|c: char| !c.is_ascii_digit())?;
    Some((value[..end].parse().ok()?, value[end..].trim()))
}

impl Block {
    /// Reads an attribute. False if it should be readable and is not.
    fn attribute(&mut self, value: &str) -> bool {
        if let Some(control) = attribute(value, "control") {
            self.control = Some(control.to_owned());
        } else if value.trim().eq_ignore_ascii_case("sendonly") {
            self.sendonly = true;
        } else if let Some(map) = attribute(value, "rtpmap") {
            let Some((payload_type, map)) = numbered(map) else { return false };
            let mut parts = map.split('/').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let rate = parts.next().and_then(|rate| rate.parse().ok()).filter(|rate| *rate > 0);
            let channels = parts.next().and_then(|channels| channels.parse().ok());
            self.maps.push((payload_type, name, rate, channels));
            return rate.is_some();
        } else if let Some(parameters) = attribute(value, "fmtp") {
            let Some((payload_type, parameters)) = numbered(parameters) else { return false };
            self.fmtp.push((payload_type, parameters.to_owned()));
        }
        true
    }

    /// The format: of several payload types the first with a known encoding.
    fn format(&self, kind: TrackKind, quirks: &mut QuirkCounts) -> TrackFormat {
        let known = |encoding: &str| match kind {
            TrackKind::Video => matches!(encoding, "h264" | "h265"),
            TrackKind::Audio => matches!(encoding, "mpeg4-generic" | "pcma" | "pcmu"),
        };
        let listed = || self.maps.iter().filter(|map| self.types.contains(&map.0));
        let map = listed()
            .find(|map| known(&map.1))
            .or_else(|| self.maps.iter().find(|map| known(&map.1)))
            .or_else(|| listed().next());
        let payload_type = map.map(|map| map.0).or(self.types.first().copied()).unwrap_or(96);
        let fmtp = self.fmtp.iter().find(|fmtp| fmtp.0 == payload_type).or(self.fmtp.first());
        let fmtp = fmtp.map(|fmtp| fmtp.1.clone());
        let default_rate = if kind == TrackKind::Video { 90_000 } else { 8_000 };
        let (encoding, clock_rate, channels) = match map {
            Some((_, encoding, rate, channels)) => {
                (encoding.clone(), rate.unwrap_or(default_rate), *channels)
            }
            None => {
                let encoding = match payload_type {
                    0 if kind == TrackKind::Audio => "pcmu",
                    8 if kind == TrackKind::Audio => "pcma",
                    _ => {
                        quirks.note(Quirk::SdpLine);
                        guessed(fmtp.as_deref())
                    }
                };
                (encoding.to_owned(), default_rate, None)
            }
        };
        if !self.types.contains(&payload_type) {
            quirks.note(Quirk::SdpLine);
        }
        TrackFormat { kind, encoding, clock_rate, channels, fmtp, payload_type }
    }
}

/// The encoding that format parameters belong to.
fn guessed(fmtp: Option<&str>) -> &'static str {
    match fmtp {
        Some(text) if text.contains("sprop-vps") => "h265",
        Some(text)
            if text.contains("sprop-parameter-sets") || text.contains("packetization-mode") =>
        {
            "h264"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Sdp, bool) {
        let mut quirks = QuirkCounts::default();
        let sdp = parse(text.as_bytes(), &mut quirks);
        (sdp, quirks.seen().next().is_some())
    }

    const VIDEO: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0I=,aM4=\r\na=control:track1\r\n";

    fn is_video(media: &MediaDescription) -> bool {
        let format = &media.format;
        (format.encoding.as_str(), format.clock_rate, format.payload_type, format.kind)
            == ("h264", 90_000, 96, TrackKind::Video)
            && format.fmtp.as_deref() == Some("packetization-mode=1;sprop-parameter-sets=Z0I=,aM4=")
            && media.control.as_deref() == Some("track1")
    }

    #[test]
    fn a_regular_description_is_read_without_quirks() {
        let (sdp, odd) = read(&format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=cam\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n{VIDEO}\
             m=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000/1\r\na=control:track2\r\n"
        ));
        assert!(!odd && is_video(&sdp.media[0]));
        assert_eq!(sdp.control.as_deref(), Some("*"));
        let audio = &sdp.media[1].format;
        assert_eq!(
            (audio.encoding.as_str(), audio.clock_rate, audio.channels, audio.payload_type),
            ("pcma", 8000, NonZeroU16::new(1), 8)
        );
        assert_eq!(sdp.names, ["h264", "pcma"]);
    }

    #[test]
    fn short_and_odd_lines_are_skipped() {
        for (name, text) in [
            (
                "H3C",
                format!(
                    "v=0\r\no=- 1001 1 IN\r\ns=VCP\r\nm=application 0 RTP/AVP 107\r\nc=IN\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\n{VIDEO}"
                ),
            ),
            (
                "numbers",
                format!(
                    "v=0\no=- 1698143674.978737 -8959200248001175080 IN\nt=0 2EC08200\n{VIDEO}"
                ),
            ),
            ("no equals sign", format!("v=0\r\nhello\r\n\u{fffd}\r\n{VIDEO}")),
            ("nothing before", format!("x y=1\r\n{VIDEO}")),
            (
                "bytes",
                String::from_utf8_lossy(&[b"s=\xff\xfe\r\nzz\r\n", VIDEO.as_bytes()].concat())
                    .into_owned(),
            ),
            ("lone CR", format!("v=0\rjunk\r{}", VIDEO.replace("\r\n", "\r"))),
        ] {
            let (sdp, odd) = read(&text);
            assert!(odd && is_video(&sdp.media[0]), "{name}: {sdp:?}");
        }
    }

    #[test]
    fn formats_are_found_behind_odd_maps() {
        for (name, text, encoding, rate) in [
            ("blanks", "m=video 0 RTP/AVP 96\na=rtpmap: 96  H264 / 90000\n", "h264", 90_000),
            ("no clock rate", "m=video 0 RTP/AVP 96\na=rtpmap:96 H265\n", "h265", 90_000),
            ("clock rate 0", "m=video 0 RTP/AVP 96\na=rtpmap:96 H264/0\n", "h264", 90_000),
            (
                "no map",
                "m=video 0 RTP/AVP 96\na=fmtp:96 sprop-parameter-sets=Z0I=,aM4=\n",
                "h264",
                90_000,
            ),
            (
                "no map, H.265",
                "m=video 0 RTP/AVP 96\na=fmtp:96 sprop-vps=AA;sprop-sps=BB\n",
                "h265",
                90_000,
            ),
            (
                "several types",
                "m=video 0 RTP/AVP 26 97\na=rtpmap:26 JPEG/90000\na=rtpmap:97 H264/90000\n",
                "h264",
                90_000,
            ),
            ("another type", "m=video 0 RTP/AVP 96\na=rtpmap:98 H264/90000\n", "h264", 90_000),
            ("static sound", "m=audio 0 RTP/AVP 0\n", "pcmu", 8_000),
            ("short m line", "m=video\na=rtpmap:96 H264/90000\n", "h264", 90_000),
            ("capitals", "m=VIDEO 0 RTP/AVP 96\na=RTPMAP:96 h264/90000\n", "h264", 90_000),
        ] {
            let (sdp, _) = read(text);
            let format = &sdp.media[0].format;
            assert_eq!((format.encoding.as_str(), format.clock_rate), (encoding, rate), "{name}");
        }
    }

    #[test]
    fn an_endless_description_is_cut_off() {
        let (sdp, odd) = read(&VIDEO.repeat(1000));
        assert!(odd && sdp.media.len() == SDP_MEDIA_MAX);
        let (sdp, _) = read(&"a=control:x\r\n".repeat(100_000));
        assert!(sdp.media.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_description_panics(bytes in proptest::collection::vec(proptest::sample::select(b"vmoca=:/ 0968-\r\n\xffHrtpmapfmtp".to_vec()), 0..200)) {
            parse(&bytes, &mut QuirkCounts::default());
        }
    }
}
