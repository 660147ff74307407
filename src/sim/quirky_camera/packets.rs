//! Payloads of pictures and sound, and the packets around them.

use super::footage::{Picture, Sound, Video, delimiter, recovery_point, sei};
use super::quirks::CameraQuirk::{self, *};

/// Largest payload of a packet.
const PAYLOAD_MAX: usize = 1400;

/// A payload with its marker bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) bytes: Vec<u8>,
    pub(super) marker: bool,
    /// A unit of its own with another stamp, this many ticks before that of the picture.
    pub(super) before: u32,
}

impl Payload {
    fn new(bytes: Vec<u8>, marker: bool) -> Payload {
        Payload { bytes, marker, before: 0 }
    }
}

/// The payloads of one picture. `at` is its place in the session.
pub(super) fn picture(
    has: impl Fn(CameraQuirk) -> bool,
    video: Video,
    picture: &Picture,
    sets: &[Vec<u8>],
    at: u64,
) -> Vec<Payload> {
    let mut nals: Vec<Vec<u8>> = Vec::new();
    if has(AudBeforeEach) {
        nals.push(delimiter(video));
    }
    let with_sets = match () {
        () if has(SetsOutOfBandOnly) || has(SetsOwnUnit) => false,
        () if has(SetsEachPicture) => true,
        () => picture.key,
    };
    let mut out = Vec::new();
    if with_sets {
        nals.extend(sets.iter().cloned());
    } else if has(SetsOwnUnit) && picture.key {
        let last = sets.len() - 1;
        out.extend(sets.iter().enumerate().map(|(i, set)| Payload::new(set.clone(), i == last)));
    }
    if has(RecoveryPoint) && picture.key {
        nals.push(recovery_point(video));
    }
    if has(MarkOnSei) {
        out.push(Payload::new(sei(video, false), true));
    }
    if has(SeiOnlyUnits) && at % 5 == 3 {
        out.push(Payload { bytes: sei(video, false), marker: true, before: 1800 });
    }
    if has(SeiOnlyUnits) && at % 5 == 4 {
        out.push(Payload { bytes: delimiter(video), marker: true, before: 1800 });
    }
    nals.extend(picture.slices.iter().cloned());
    if has(FillerBehind) {
        nals.push(match video {
            Video::H264 => vec![12, 0xff, 0xff, 0xff, 0x80],
            Video::H265 => vec![38 << 1, 1, 0xff, 0xff, 0x80],
        });
    }
    let bodies = match () {
        () if has(AnnexBWhole) => whole(&nals),
        () if has(AnnexBInPayload) => nals.into_iter().map(with_start_code).collect(),
        () if has(Aggregated) => aggregated(video, nals),
        () => nals,
    };
    for (at, body) in bodies.iter().enumerate() {
        let pieces = fragments(&has, video, body);
        let last = pieces.len() - 1;
        let ends = at + 1 == bodies.len();
        out.extend(
            pieces.into_iter().enumerate().map(|(i, piece)| Payload::new(piece, ends && i == last)),
        );
    }
    add_odd_packets(&has, video, at, &mut out);
    for payload in &mut out {
        payload.marker = match () {
            () if has(MarkEveryPacket) => true,
            () if has(MarkNever) => false,
            () => payload.marker,
        };
    }
    out
}

/// Packets of no use before and behind a picture.
fn add_odd_packets(
    has: &impl Fn(CameraQuirk) -> bool,
    video: Video,
    at: u64,
    out: &mut Vec<Payload>,
) {
    if has(SeiAfterPicture) {
        out.extend([0, 1].map(|_| Payload::new(sei(video, video == Video::H265), true)));
    }
    if has(ZeroLengthNal) && at % 10 == 5 {
        out.insert(0, Payload::new(Vec::new(), false));
        // An aggregate with an empty unit.
        out.insert(
            0,
            Payload::new(
                match video {
                    Video::H264 => vec![24, 0, 0, 0, 2, 9, 0xf0],
                    Video::H265 => vec![48 << 1, 1, 0, 0, 0, 3, 35 << 1, 1, 0x50],
                },
                false,
            ),
        );
    }
    if has(IllegalNal) && at % 10 == 5 {
        let odd: [Vec<u8>; 2] = match video {
            Video::H264 => [vec![0, 1, 2, 3], vec![0x1f, 1, 2, 3]],
            Video::H265 => [vec![63 << 1, 1, 2, 3], vec![44 << 1, 1, 2, 3]],
        };
        for bytes in odd {
            out.insert(0, Payload::new(bytes, false));
        }
    }
}

fn with_start_code(nal: Vec<u8>) -> Vec<u8> {
    [&[0, 0, 0, 1], &nal[..]].concat()
}

/// All units in one, parted by start codes, as long as they fit a packet.
fn whole(nals: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    for nal in nals {
        match out.last_mut() {
            Some(last) if last.len() + nal.len() + 4 <= PAYLOAD_MAX => {
                last.extend([0, 0, 0, 1]);
                last.extend(nal);
            }
            _ => out.push(nal.clone()),
        }
    }
    out
}

/// Aggregation packets of what fits (RFC 6184 5.7.1, RFC 7798 4.4.2).
fn aggregated(video: Video, nals: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut group: Vec<Vec<u8>> = Vec::new();
    let close = |group: &mut Vec<Vec<u8>>, out: &mut Vec<Vec<u8>>| {
        let nals = std::mem::take(group);
        if nals.len() < 2 {
            return out.extend(nals);
        }
        let mut bytes = match video {
            Video::H264 => vec![0x60 | 24],
            Video::H265 => vec![48 << 1, 1],
        };
        for nal in nals {
            bytes.extend((nal.len() as u16).to_be_bytes());
            bytes.extend(nal);
        }
        out.push(bytes);
    };
    for nal in nals {
        let size: usize = group.iter().map(|nal| nal.len() + 2).sum();
        if size + nal.len() + 4 > PAYLOAD_MAX {
            close(&mut group, &mut out);
        }
        if nal.len() + 4 > PAYLOAD_MAX {
            out.push(nal);
        } else {
            group.push(nal);
        }
    }
    close(&mut group, &mut out);
    out
}

/// A unit in one payload or in fragments (RFC 6184 5.8, RFC 7798 4.4.3).
fn fragments(has: &impl Fn(CameraQuirk) -> bool, video: Video, nal: &[u8]) -> Vec<Vec<u8>> {
    let fragmented = nal.len() > PAYLOAD_MAX || has(FuStartAndEnd) && nal.len() < 200;
    if !fragmented || nal.len() < 4 {
        return vec![nal.to_vec()];
    }
    // A start code in front belongs to the first fragment.
    let code = if nal.starts_with(&[0, 0, 0, 1]) { 4 } else { 0 };
    let (head, kind, body) = match video {
        Video::H264 => (vec![nal[code] & 0xe0 | 28], nal[code] & 31, &nal[code + 1..]),
        Video::H265 => {
            (vec![nal[code] & 0x81 | 49 << 1, nal[code + 1]], nal[code] >> 1 & 63, &nal[code + 2..])
        }
    };
    let pieces: Vec<&[u8]> = body.chunks(PAYLOAD_MAX - 3).collect();
    let last = pieces.len() - 1;
    let mut out = Vec::new();
    for (i, piece) in pieces.iter().enumerate() {
        let kind = if has(FuChangesType) && i > 0 { 1 } else { kind };
        let flags = if i == 0 { 0x80 } else { 0 } | if i == last { 0x40 } else { 0 };
        out.push([&head[..], &[flags | kind], piece].concat());
        if has(FuEmpty) && i < last {
            out.push([&head[..], &[kind]].concat());
        }
    }
    out
}

/// The payloads of sound frames `frames`; every payload is one packet.
pub(super) fn sound(
    has: impl Fn(CameraQuirk) -> bool,
    sound: Sound,
    frames: &[Vec<u8>],
) -> Vec<Payload> {
    if sound != Sound::Aac {
        return frames.iter().map(|frame| Payload::new(frame.clone(), false)).collect();
    }
    let head = |frames: &[Vec<u8>]| {
        let mut bytes = ((frames.len() * 16) as u16).to_be_bytes().to_vec();
        for frame in frames {
            bytes.extend(((frame.len() as u16) << 3).to_be_bytes());
        }
        bytes
    };
    let mut out = Vec::new();
    if has(SoundAacFragments) {
        for frame in frames {
            let of_one = head(std::slice::from_ref(frame));
            let (first, second) = frame.split_at(frame.len() / 2);
            out.push(Payload::new([&of_one, first].concat(), false));
            out.push(Payload::new([&of_one, second].concat(), true));
        }
        return out;
    }
    out.push(Payload::new([head(frames), frames.concat()].concat(), true));
    if has(SoundAacEmptyPacket) {
        out.push(Payload::new(Vec::new(), true));
    }
    out
}

/// What the header of an RTP packet says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) seq: u16,
    pub(super) stamp: u32,
    pub(super) ssrc: u32,
    pub(super) payload_type: u8,
}

/// An RTP packet (RFC 3550 5.1).
pub(super) fn rtp(has: impl Fn(CameraQuirk) -> bool, head: Head, payload: &Payload) -> Vec<u8> {
    let mut first = 0x80;
    if has(RtpPadding) {
        first |= 0x20;
    }
    if has(RtpExtension) {
        first |= 0x12;
    }
    let mut out = vec![first, head.payload_type | if payload.marker { 0x80 } else { 0 }];
    out.extend(head.seq.to_be_bytes());
    out.extend(head.stamp.wrapping_sub(payload.before).to_be_bytes());
    out.extend(head.ssrc.to_be_bytes());
    if has(RtpExtension) {
        out.extend(*b"csr1csr2");
        out.extend([0xab, 0xac, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
    out.extend(&payload.bytes);
    if has(RtpPadding) {
        out.extend([0, 0, 0, 4]);
    }
    out
}

/// A Sender Report (RFC 3550 6.4.1); `wall` is microseconds since 1970.
pub(super) fn sender_report(ssrc: u32, stamp: u32, wall: i64) -> Vec<u8> {
    let seconds = (wall.div_euclid(1_000_000) + 2_208_988_800) as u32;
    let fraction = ((wall.rem_euclid(1_000_000) as u64) << 32) / 1_000_000;
    let mut out = vec![0x80, 200, 0, 6];
    for word in [ssrc, seconds, fraction as u32, stamp, 1000, 100_000] {
        out.extend(word.to_be_bytes());
    }
    out
}

/// RTCP BYE (RFC 3550 6.6).
pub(super) fn bye(ssrc: u32) -> Vec<u8> {
    [&[0x81, 203, 0, 1], &ssrc.to_be_bytes()[..]].concat()
}

/// An interleaved frame (RFC 2326 10.12).
pub(super) fn interleaved(channel: u8, packet: &[u8]) -> Vec<u8> {
    [&[b'$', channel], &(packet.len() as u16).to_be_bytes()[..], packet].concat()
}
