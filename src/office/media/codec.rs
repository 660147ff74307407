//! Codec strings of tracks for a browser's `isTypeSupported` (RFC 6381, ISO/IEC 14496-15 annex E).

use serde::Serialize;

use super::boxes::{FoundBox, be_u32, child, children, descend, header};
use super::limits::TRACKS_MAX;

/// Bytes of a `VisualSampleEntry` before its inner boxes.
const VISUAL: usize = 86;
/// Bytes of an `AudioSampleEntry` before its inner boxes.
const AUDIO: usize = 36;

/// Kind of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TrackName {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// A track of a clip, as a player needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrackCodec {
    /// Pictures or sound.
    pub track: TrackName,
    /// Codec string, e.g. `avc1.64001f`, `hvc1.1.6.L93.B0`, `mp4a.40.2`, `alaw`.
    pub codec: String,
    /// Picture width in pixels; 0 for sound.
    pub width: u16,
    /// Picture height in pixels; 0 for sound.
    pub height: u16,
    /// Track number in `tkhd` and `tfhd`.
    #[serde(skip)]
    pub number: u32,
    /// Ticks of its decode times in a second.
    #[serde(skip)]
    pub timescale: u32,
    /// Its sample entry.
    #[serde(skip)]
    pub entry: Vec<u8>,
}

/// The tracks of a `moov` at `moov` of `bytes`, each with its `trak`.
///
/// # Errors
/// Names what is missing or damaged.
pub fn tracks(
    bytes: &[u8],
    moov: std::ops::Range<usize>,
) -> Result<Vec<(TrackCodec, FoundBox)>, &'static str> {
    let traks = children(bytes, moov)?.into_iter().filter(|found| found.name == *b"trak");
    let found: Vec<_> = traks
        .map(|trak| Ok((track(bytes, trak.content())?, trak)))
        .collect::<Result<_, &'static str>>()?;
    match found.len() {
        0 => Err("no track"),
        1..=TRACKS_MAX => Ok(found),
        _ => Err("too many tracks"),
    }
}

fn track(bytes: &[u8], trak: std::ops::Range<usize>) -> Result<TrackCodec, &'static str> {
    let tkhd = child(bytes, trak.clone(), b"tkhd")?.content();
    let mdia = child(bytes, trak, b"mdia")?.content();
    let mdhd = child(bytes, mdia.clone(), b"mdhd")?.content();
    let hdlr = child(bytes, mdia.clone(), b"hdlr")?.content();
    let stsd = descend(bytes, mdia, &[b"minf", b"stbl", b"stsd"])?;
    // Version and flags, then two times: 8 bytes each in version 1, else 4.
    let behind_times = |content: &std::ops::Range<usize>| {
        content.start + if bytes.get(content.start) == Some(&1) { 20 } else { 12 }
    };
    let field = |content: &std::ops::Range<usize>, at: usize| {
        be_u32(&bytes[..content.end], at).ok_or("a box of the head is too short")
    };
    let number = field(&tkhd, behind_times(&tkhd))?;
    let timescale = field(&mdhd, behind_times(&mdhd))?;
    let name = match &field(&hdlr, hdlr.start + 8)?.to_be_bytes() {
        b"vide" => TrackName::Video,
        b"soun" => TrackName::Audio,
        _ => return Err("a track is neither video nor sound"),
    };
    let entry = stsd.start + 8;
    let (_, len) = header(&bytes[..stsd.end], entry).ok_or("no sample entry")?;
    let entry = bytes[..stsd.end].get(entry..entry + len).ok_or("no sample entry")?;
    if number == 0 || timescale == 0 {
        return Err("a track without a number or a timescale");
    }
    let size = |at: usize| {
        let word = be_u32(entry, 32).filter(|_| name == TrackName::Video);
        word.map_or(0, |word| (word >> at) as u16)
    };
    let (width, height) = (size(16), size(0));
    let (codec, entry) = (codec_string(name, entry), entry.to_vec());
    Ok(TrackCodec { track: name, codec, width, height, number, timescale, entry })
}

/// The codec string of a sample entry: its type, and what its configuration adds. A damaged
/// configuration adds nothing, and no browser supports the bare type.
fn codec_string(track: TrackName, entry: &[u8]) -> String {
    let name: String = entry
        .get(4..8)
        .unwrap_or_default()
        .iter()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(*byte) } else { '_' })
        .collect();
    let inner = if track == TrackName::Video { VISUAL } else { AUDIO }..entry.len();
    let config = |kind: &[u8; 4]| {
        let found = child(entry, inner.clone(), kind).ok()?;
        entry.get(found.content())
    };
    let more = match name.as_str() {
        "avc1" | "avc3" => config(b"avcC").and_then(avc),
        "hvc1" | "hev1" => config(b"hvcC").and_then(hevc),
        "mp4a" => config(b"esds").and_then(aac),
        _ => None,
    };
    more.map_or(name.clone(), |more| format!("{name}.{more}"))
}

/// Profile, constraint flags and level of an `avcC`.
fn avc(config: &[u8]) -> Option<String> {
    let [profile, constraints, level] = config.get(1..4)?.try_into().ok()?;
    Some(format!("{profile:02x}{constraints:02x}{level:02x}"))
}

/// Profile, compatibility, tier, level and constraints of an `hvcC` (ISO/IEC 14496-15 E.3).
fn hevc(config: &[u8]) -> Option<String> {
    let profile = *config.get(1)?;
    let space = ["", "A", "B", "C"].get(usize::from(profile >> 6))?;
    let compatibility = be_u32(config, 2)?.reverse_bits();
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let constraints = config.get(6..12)?;
    let used = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let constraints: String = constraints[..used].iter().map(|byte| format!(".{byte:X}")).collect();
    let level = *config.get(12)?;
    Some(format!("{space}{}.{compatibility:X}.{tier}{level}{constraints}", profile & 0x1f))
}

/// Object types of an `esds` (ISO/IEC 14496-1 7.2.6): of the stream, and of its audio.
fn aac(config: &[u8]) -> Option<String> {
    // ES_Descriptor: an id and flags, before the DecoderConfigDescriptor.
    let es = descriptor(config.get(4..)?, 3)?;
    let flags = *es.get(2)?;
    let url = if flags & 0x40 != 0 { 1 + usize::from(*es.get(3)?) } else { 0 };
    let skipped = 3 + if flags & 0x80 != 0 { 2 } else { 0 } + url;
    let skipped = skipped + if flags & 0x20 != 0 { 2 } else { 0 };
    let decoder = descriptor(es.get(skipped..)?, 4)?;
    let stream = *decoder.first()?;
    let Some(audio) = decoder.get(13..).and_then(|rest| descriptor(rest, 5)) else {
        return Some(format!("{stream:x}"));
    };
    let first = *audio.first()?;
    let kind = match first >> 3 {
        31 => 32 + (u16::from_be_bytes([first, *audio.get(1)?]) >> 5 & 0x3f),
        kind => u16::from(kind),
    };
    Some(format!("{stream:x}.{kind}"))
}

/// The content of the descriptor with this tag at the start of `bytes`.
fn descriptor(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    (*bytes.first()? == tag).then_some(())?;
    let mut len = 0;
    // The length has seven bits in a byte, at most four bytes.
    for (at, byte) in bytes.iter().enumerate().skip(1).take(4) {
        len = len << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            let content = bytes.get(at + 1..)?;
            return content.get(..len);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn avc_names_profile_constraints_and_level() {
        assert_eq!(avc(&[1, 0x64, 0x00, 0x1f]).unwrap(), "64001f");
        assert_eq!(avc(&[1, 0x42, 0xe0, 0x0a]).unwrap(), "42e00a");
        assert_eq!(avc(&[1, 0x42, 0xe0]), None);
    }

    #[test]
    fn hevc_follows_the_examples_of_the_standard() {
        let config = [1, 1, 0x60, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 93];
        assert_eq!(hevc(&config).unwrap(), "1.6.L93.B0");
        // ISO/IEC 14496-15 E.3: progressive, non-packed, main tier, level 3.1; and high tier.
        let main10 = [1, 2, 0x20, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 153];
        assert_eq!(hevc(&main10).unwrap(), "2.4.L153.90");
        let spaced = [1, 0x40 | 0x20 | 1, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 4, 120];
        assert_eq!(hevc(&spaced).unwrap(), "A1.6.H120.0.0.0.0.0.4");
    }

    #[test]
    fn aac_names_its_object_types() {
        let esds = |audio: [u8; 2]| {
            let mut out = vec![0, 0, 0, 0, 3, 0x80, 0x80, 0x80, 31, 0, 0, 0, 4, 0x80, 0x80];
            out.extend([0x80, 20, 0x40, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            out.extend([5, 0x80, 0x80, 0x80, 2, audio[0], audio[1], 6, 1, 2]);
            out
        };
        assert_eq!(aac(&esds([0x11, 0x90])).unwrap(), "40.2");
        assert_eq!(aac(&esds([0xf9, 0x40])).unwrap(), "40.42", "an escaped object type");
        for len in 0..esds([0x11, 0x90]).len() - 3 {
            let _ = aac(&esds([0x11, 0x90])[..len]);
        }
    }

    #[test]
    fn the_entry_of_a_camera_with_aac_is_read() {
        use crate::camera::rtp::{Received, TrackReceiver};
        let fmtp = "mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1188";
        let format = crate::camera::track_format::TrackFormat {
            kind: crate::camera::TrackKind::Audio,
            encoding: "mpeg4-generic".into(),
            clock_rate: 48_000,
            channels: None,
            fmtp: Some(fmtp.into()),
            payload_type: 96,
        };
        let mut receiver = TrackReceiver::new(&format, crate::settings::Transport::Tcp).unwrap();
        let packet = [0x80, 0xe0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 16, 0, 32, 1, 2, 3, 4];
        receiver.packet(&packet, crate::units::MonoTime(1));
        let params = std::iter::from_fn(|| receiver.poll()).find_map(|received| match received {
            Received::Unit(unit) => unit.params,
            _ => None,
        });
        let entry = params.unwrap().sample_entry.clone();
        assert_eq!(codec_string(TrackName::Audio, &entry), "mp4a.40.2");
    }

    #[test]
    fn sound_without_configuration_has_its_bare_type() {
        let mut entry = vec![0; AUDIO];
        entry[4..8].copy_from_slice(b"alaw");
        assert_eq!(codec_string(TrackName::Audio, &entry), "alaw");
        entry[4..8].copy_from_slice(b"\0\"<x");
        assert_eq!(codec_string(TrackName::Audio, &entry), "___x");
    }
}
