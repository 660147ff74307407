//! Encodes and decodes what [`super::document`] describes: segment heads and records.
//!
//! What belongs here: bytes ⇄ values, pure. What does not: where they go ([`super::ring`]).

use std::sync::Arc;

use super::boxes::{Boxes, head_boxes};
use super::index::Segment;
use super::{FragmentRef, Gap, GapReason};
use crate::camera::{Codec, TrackKind, TrackParams};
use crate::units::{Boot, Digest, Mono, Stamp, Wall, WallQuality};

/// Everything is aligned to this: cards tear whole pages.
pub const BLOCK: u64 = 4096;
/// Bytes of a record's box.
pub const RECORD_BOX: usize = 24 + 64 + 24 + 64 + 4;
/// Extended type of a segment header.
pub const SEGMENT_TYPE: [u8; 16] = *b"taimat-segm-v1\0\0";
/// Extended type of a record.
pub const RECORD_TYPE: [u8; 16] = *b"taimat-recd-v1\0\0";
/// Format version in both.
const VERSION: u16 = 1;
const FLAG_KEY: u16 = 1;
const FLAG_GAP: u16 = 2;
/// Bytes of a segment's head at most; sample entries are a few hundred bytes.
pub const HEAD_MAX: usize = 64 * 1024;

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentHead {
    /// Index of the file.
    pub segment: u32,
    /// Which use of a file of this ring it is, counted over all files from 1.
    pub lap: u32,
    /// Start that began it.
    pub boot: Boot,
    /// Number of its first record.
    pub first_seq: u64,
    /// Chain digest of the record before its first.
    pub previous: Digest,
    /// When it begins.
    pub start: Stamp,
    /// Where its decode times count from, on the media clock, microseconds: its first sample, sound or picture.
    pub media: u64,
    /// Length of the file.
    pub size: u64,
    /// Its tracks, video first.
    pub tracks: Vec<Arc<TrackParams>>,
}

/// One record, without its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Number.
    pub seq: u64,
    /// Lap of its segment.
    pub lap: u32,
    /// Start it was written in.
    pub boot: Boot,
    /// Bytes from its box to the end of its `mdat`.
    pub len: u32,
    /// Times of its first picture; of the begin of the hole for a gap record.
    pub start: Stamp,
    /// Key frame first.
    pub key: bool,
    /// Sample bytes.
    pub payload: u32,
    /// On the media clock, microseconds.
    pub media: u64,
    /// Microseconds covered.
    pub duration: u64,
    /// Milliseconds by which its sound begins before its first picture, rounded up.
    pub lead: u16,
    /// For a gap record: its end, reason and bytes.
    pub gap: Option<(Stamp, GapReason, u64)>,
    /// Chain digest of the record before.
    pub previous: Digest,
    /// SHA-256 of `moof` and `mdat` with decode times that count from the fragment's own start.
    pub content: Digest,
}

impl Record {
    /// The record's box in front of `content` (`moof` and `mdat`, empty for a gap record).
    pub fn encode(&self, content: &[u8]) -> Vec<u8> {
        let mut out = Boxes::default();
        out.put_u32(RECORD_BOX as u32);
        out.put(b"uuid");
        out.put(&RECORD_TYPE);
        out.put_u16(VERSION);
        out.put_u16(if self.key { FLAG_KEY } else { 0 } | if self.gap.is_some() { FLAG_GAP } else { 0 });
        out.put_u32(self.lap);
        out.put_u64(self.seq);
        out.put_u32(self.boot.0);
        out.put_u32(self.len);
        out.put_u64(self.start.mono.0);
        out.put_u64(self.start.wall.0 as u64);
        out.put(&[self.start.quality as u8, self.gap.map_or(0, |(_, reason, _)| reason as u8)]);
        out.put_u16(self.gap.map_or(self.lead, |(end, ..)| end.quality as u16));
        out.put_u32(self.payload);
        out.put_u64(self.media);
        out.put_u64(self.duration);
        let (end, bytes) = self.gap.map_or((Stamp::default(), 0), |(end, _, bytes)| (end, bytes));
        out.put_u64(end.mono.0);
        out.put_u64(end.wall.0 as u64);
        out.put_u64(bytes);
        out.put(&self.previous.0);
        out.put(&self.content.0);
        let crc = crc32c::crc32c_append(crc32c::crc32c(out.bytes()), content);
        out.put_u32(crc);
        out.finish()
    }

    /// Reads a record's box; the checksum is checked separately with [`Record::intact`], because it covers the content too.
    pub fn decode(bytes: &[u8]) -> Option<Record> {
        if bytes.len() < RECORD_BOX || bytes[4..8] != *b"uuid" || bytes[8..24] != RECORD_TYPE {
            return None;
        }
        let mut from = Take(&bytes[24..RECORD_BOX]);
        let (version, flags) = (from.u16()?, from.u16()?);
        let (lap, seq, boot, len) = (from.u32()?, from.u64()?, Boot(from.u32()?), from.u32()?);
        let (mono, wall) = (Mono(from.u64()?), Wall(from.u64()? as i64));
        let marks = from.take(2)?;
        let lead = from.u16()?;
        let start = Stamp { mono, wall, quality: WallQuality::from_byte(marks[0]) };
        let (payload, media, duration) = (from.u32()?, from.u64()?, from.u64()?);
        let quality = WallQuality::from_byte(lead as u8);
        let gap_end = Stamp { mono: Mono(from.u64()?), wall: Wall(from.u64()? as i64), quality };
        let gap_bytes = from.u64()?;
        let (previous, content) = (from.digest()?, from.digest()?);
        let gap = match flags & FLAG_GAP {
            0 => None,
            _ => Some((gap_end, GapReason::from_byte(marks[1])?, gap_bytes)),
        };
        let key = flags & FLAG_KEY != 0;
        let lead = if gap.is_some() { 0 } else { lead };
        (version == VERSION && len as usize >= RECORD_BOX).then_some(Record {
            seq,
            lap,
            boot,
            len,
            start,
            key,
            payload,
            media,
            duration,
            lead,
            gap,
            previous,
            content,
        })
    }

    /// True when the checksum over record and content (`bytes` from the record's box on, at least `len`) is right.
    pub fn intact(&self, bytes: &[u8]) -> bool {
        let Some(whole) = bytes.get(..self.len as usize) else {
            return false;
        };
        let (record, content) = whole.split_at(RECORD_BOX);
        let (covered, stored) = record.split_at(RECORD_BOX - 4);
        crc32c::crc32c_append(crc32c::crc32c(covered), content).to_be_bytes() == stored
    }

    /// The chain digest of this record.
    pub fn link(&self) -> Digest {
        let encoded = self.encode(&[]);
        crate::chain::link(&self.previous, &encoded[24..RECORD_BOX - 4])
    }

    /// The fragment this record describes, at `offset` of `segment`; `None` for a gap record.
    pub fn fragment(&self, segment: &Segment, offset: u64) -> Option<FragmentRef> {
        let Record { seq, lap, boot, len, start, key, payload, media, duration, lead, gap: None, .. } = self.clone() else {
            return None;
        };
        let Segment { head, layout, .. } = segment;
        let (segment, base, layout) = (head.segment, head.media, *layout);
        Some(FragmentRef { seq, segment, lap, offset, len, key, boot, start, duration, media, lead, base, payload, layout })
    }

    /// The last moment this record covers.
    pub fn end(&self) -> Stamp {
        self.gap.map_or_else(|| self.start.after(self.duration), |(to, ..)| to)
    }

    /// The hole this record describes.
    pub fn hole(&self) -> Option<Gap> {
        self.gap.map(|(to, reason, bytes)| Gap { from: self.start, to, reason, bytes })
    }
}

impl SegmentHead {
    /// The head of a segment, padded to whole blocks, without the `free` box over the rest.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = head_boxes(&self.tracks, None);
        let mut body = Boxes::default();
        body.put_u16(VERSION);
        body.put_u16(0);
        body.put_u32(self.segment);
        body.put_u32(self.lap);
        body.put_u32(self.boot.0);
        body.put_u64(self.first_seq);
        body.put(&self.previous.0);
        body.put_u64(self.start.mono.0);
        body.put_u64(self.start.wall.0 as u64);
        body.put(&[self.start.quality as u8, self.tracks.len() as u8, 0, 0]);
        body.put_u64(self.size);
        body.put_u64(self.media);
        for track in &self.tracks {
            put_track(&mut body, track);
        }
        let mut header = Boxes::default();
        header.put_u32(24 + body.bytes().len() as u32 + 4);
        header.put(b"uuid");
        header.put(&SEGMENT_TYPE);
        header.put(body.bytes());
        // Over `ftyp` and `moov` too: a head torn in the middle must not pass, no player would open the file.
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out), header.bytes());
        header.put_u32(crc);
        out.extend(header.finish());
        pad(&mut out);
        out
    }

    /// Reads the head at the start of a segment file; gives it and its padded length. `None` when it is damaged or never written.
    pub fn decode(bytes: &[u8]) -> Option<(SegmentHead, u64)> {
        let mut at = 0;
        // `ftyp` and `moov` come first, exactly once each.
        for name in [b"ftyp", b"moov"] {
            at += box_at(bytes, at).filter(|(found, _)| found == name)?.1;
        }
        let (_, len) = box_at(bytes, at).filter(|(name, _)| name == b"uuid")?;
        let (covered, stored) = bytes.get(..at + len)?.split_at((at + len).checked_sub(4)?);
        let head_len = padded((at + len) as u64);
        let kind = covered.get(at + 8..at + 24)?;
        if kind != SEGMENT_TYPE
            || crc32c::crc32c(covered).to_be_bytes() != stored
            || !is_padded(bytes, at + len, head_len as usize)
        {
            return None;
        }
        let mut from = Take(&covered[at + 24..]);
        if from.u16()? != VERSION {
            return None;
        }
        from.u16()?;
        let (segment, lap, boot, first_seq) = (from.u32()?, from.u32()?, Boot(from.u32()?), from.u64()?);
        let previous = from.digest()?;
        let (mono, wall) = (Mono(from.u64()?), Wall(from.u64()? as i64));
        let marks = from.take(4)?;
        let (size, media) = (from.u64()?, from.u64()?);
        let tracks = (0..marks[1]).map(|_| take_track(&mut from)).collect::<Option<Vec<_>>>()?;
        let start = Stamp { mono, wall, quality: WallQuality::from_byte(marks[0]) };
        let head = SegmentHead { segment, lap, boot, first_seq, previous, start, media, size, tracks };
        Some((head, head_len))
    }
}

/// Puts the checksum right in a record's box whose content was moved to another file.
pub fn seal(record: &mut [u8], content: &[u8]) {
    if let Some((covered, stored)) = record.split_at_mut_checked(RECORD_BOX - 4) {
        stored.copy_from_slice(&crc32c::crc32c_append(crc32c::crc32c(covered), content).to_be_bytes());
    }
}

/// Digest of a track layout: of all sample entries in order.
pub fn layout_of(tracks: &[Arc<TrackParams>]) -> Digest {
    let all: Vec<u8> = tracks.iter().flat_map(|track| track.digest.0).collect();
    Digest::of(&all)
}

/// Ticks of a track for a time on the media clock.
pub fn ticks(micros: u64, timescale: u32) -> u64 {
    ((u128::from(micros) * u128::from(timescale) + 500_000) / 1_000_000) as u64
}

/// Fills up to the next block boundary with a `free` box; one more block where the rest is too small for a box header.
pub fn pad(bytes: &mut Vec<u8>) {
    let rest = (BLOCK as usize - bytes.len() % BLOCK as usize) % BLOCK as usize;
    let rest = if rest > 0 && rest < 8 { rest + BLOCK as usize } else { rest };
    if rest > 0 {
        bytes.extend((rest as u32).to_be_bytes());
        bytes.extend(b"free");
        bytes.resize(bytes.len() + rest - 8, 0);
    }
}

/// True when the `free` box that [`pad`] writes leads from `end` to `padded`. It is the one part of a write that no checksum covers.
pub fn is_padded(bytes: &[u8], end: usize, padded: usize) -> bool {
    padded == end || box_at(bytes, end) == Some((*b"free", padded - end))
}

/// One block that begins a `free` box over `rest` bytes; empty when nothing is left.
pub fn free_block(rest: u64) -> Vec<u8> {
    if rest == 0 {
        return Vec::new();
    }
    let mut block = Vec::with_capacity(BLOCK as usize);
    block.extend((rest as u32).to_be_bytes());
    block.extend(b"free");
    block.resize(BLOCK as usize, 0);
    block
}

/// Bytes a record of `len` bytes takes with its padding.
pub fn padded(len: u64) -> u64 {
    let rest = (BLOCK - len % BLOCK) % BLOCK;
    len + if rest > 0 && rest < 8 { rest + BLOCK } else { rest }
}

/// Name and length of the box at `at`.
pub fn box_at(bytes: &[u8], at: usize) -> Option<([u8; 4], usize)> {
    let head = bytes.get(at..at + 8)?;
    let len = u32::from_be_bytes(head[..4].try_into().ok()?) as usize;
    (len >= 8).then_some((head[4..].try_into().ok()?, len))
}

fn put_track(out: &mut Boxes, track: &TrackParams) {
    out.put(&[if track.kind == TrackKind::Video { 1 } else { 2 }, codec_byte(track.codec)]);
    out.put_u32(track.timescale);
    out.put_u16(track.size.0);
    out.put_u16(track.size.1);
    for bytes in [&track.sample_entry, &track.annex_b] {
        out.put_u32(bytes.len() as u32);
        out.put(bytes);
    }
}

fn take_track(from: &mut Take<'_>) -> Option<Arc<TrackParams>> {
    let kind = if from.take(1)?[0] == 1 { TrackKind::Video } else { TrackKind::Audio };
    let codec = codec_of(from.take(1)?[0])?;
    let timescale = from.u32()?;
    let size = (from.u16()?, from.u16()?);
    let len = from.u32()? as usize;
    let sample_entry = from.take(len)?.to_vec();
    let len = from.u32()? as usize;
    let annex_b = from.take(len)?.to_vec();
    let digest = Digest::of(&sample_entry);
    Some(Arc::new(TrackParams { kind, codec, timescale, sample_entry, annex_b, size, digest }))
}

fn codec_byte(codec: Codec) -> u8 {
    match codec {
        Codec::H264 => 1,
        Codec::H265 => 2,
        Codec::Aac => 3,
        Codec::PcmMulaw => 4,
        Codec::PcmAlaw => 5,
    }
}

fn codec_of(byte: u8) -> Option<Codec> {
    [Codec::H264, Codec::H265, Codec::Aac, Codec::PcmMulaw, Codec::PcmAlaw].into_iter().find(|codec| codec_byte(*codec) == byte)
}

/// Reads integers off the front of a slice.
struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(front)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn digest(&mut self) -> Option<Digest> {
        Some(Digest(self.take(32)?.try_into().ok()?))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::units::hex;

    /// A video track nobody can decode, for tests that only move bytes.
    pub(crate) fn video(mark: u8) -> Arc<TrackParams> {
        let sample_entry = vec![0, 0, 0, 9, b'a', b'v', b'c', b'1', mark];
        let digest = Digest::of(&sample_entry);
        let (kind, codec, annex_b) = (TrackKind::Video, Codec::H264, vec![0, 0, 0, 1, 0x67]);
        Arc::new(TrackParams { kind, codec, timescale: 90_000, sample_entry, annex_b, size: (640, 360), digest })
    }

    fn record() -> Record {
        Record {
            seq: 7,
            lap: 2,
            boot: Boot(3),
            len: RECORD_BOX as u32 + 5,
            start: Stamp { mono: Mono(11), wall: Wall(-12), quality: WallQuality::Ntp },
            key: true,
            payload: 5,
            media: 13,
            duration: 14,
            lead: 0,
            gap: None,
            previous: Digest([1; 32]),
            content: Digest::of(b"hello"),
        }
    }

    #[test]
    fn the_bytes_of_a_record_are_pinned() {
        let golden = concat!(
            "000000b475756964",
            "7461696d61742d726563642d76310000",
            "00010001",
            "00000002",
            "0000000000000007",
            "00000003",
            "000000b9",
            "000000000000000b",
            "fffffffffffffff4",
            "03000000",
            "00000005",
            "000000000000000d",
            "000000000000000e",
            "000000000000000000000000000000000000000000000000",
            "0101010101010101010101010101010101010101010101010101010101010101",
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        );
        let encoded = record().encode(b"hello");
        assert_eq!(hex(&encoded[..RECORD_BOX - 4]), golden);
        assert_eq!(encoded.len(), RECORD_BOX);
    }

    #[test]
    fn a_record_survives_the_card_and_any_flipped_bit_is_seen() {
        let mut bytes = record().encode(b"hello");
        bytes.extend(b"hello");
        let read = Record::decode(&bytes).unwrap();
        assert_eq!(read, record());
        assert!(read.intact(&bytes));
        for at in 24..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let seen = Record::decode(&damaged).is_none_or(|record| !record.intact(&damaged));
            assert!(seen, "a flipped bit at {at} went unseen");
        }
        assert!(!read.intact(&bytes[..bytes.len() - 1]));
    }

    #[test]
    fn a_gap_record_keeps_its_reason_and_end() {
        let to = Stamp { mono: Mono(99), wall: Wall(98), quality: WallQuality::Ntp };
        let gap = Record { gap: Some((to, GapReason::PowerCut, 77)), key: false, len: RECORD_BOX as u32, ..record() };
        let read = Record::decode(&gap.encode(&[])).unwrap();
        assert_eq!(read.hole().unwrap(), Gap { from: record().start, to, reason: GapReason::PowerCut, bytes: 77 });
    }

    #[test]
    fn a_segment_head_survives_the_card_and_damage_makes_it_blank() {
        let head = SegmentHead {
            segment: 4,
            lap: 9,
            boot: Boot(2),
            first_seq: 1000,
            previous: Digest([5; 32]),
            start: record().start,
            media: 123_456_789,
            size: 1 << 24,
            tracks: vec![video(1)],
        };
        let bytes = head.encode();
        assert_eq!(bytes.len() % BLOCK as usize, 0);
        assert_eq!(SegmentHead::decode(&bytes), Some((head, bytes.len() as u64)));
        let header = bytes.windows(16).position(|w| w == SEGMENT_TYPE).unwrap() - 8;
        let end = header + box_at(&bytes, header).unwrap().1;
        for at in 0..end {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(SegmentHead::decode(&damaged), None, "a flipped bit at {at} went unseen");
        }
        assert_eq!(SegmentHead::decode(&vec![0; 8192]), None);
    }

    #[test]
    fn padding_always_leaves_room_for_a_box_header() {
        for len in [1, 4088, 4089, 4095, 4096, 4097, 8190] {
            let mut bytes = vec![1; len];
            pad(&mut bytes);
            assert_eq!((bytes.len() as u64, bytes.len() % 4096), (padded(len as u64), 0), "{len}");
            if bytes.len() > len {
                assert_eq!(box_at(&bytes, len), Some((*b"free", bytes.len() - len)), "{len}");
            }
        }
    }

    fn head_with(entry: usize, fill: u8) -> SegmentHead {
        let mut track = TrackParams::clone(&video(1));
        track.sample_entry = vec![fill; entry];
        track.sample_entry[..8].copy_from_slice(&[0, 0, (entry >> 8) as u8, entry as u8, b'a', b'v', b'c', b'1']);
        track.digest = Digest::of(&track.sample_entry);
        let (segment, lap, boot, previous) = (4, 9, Boot(2), Digest([5; 32]));
        let tracks = vec![Arc::new(track)];
        SegmentHead { segment, lap, boot, first_seq: 1000, previous, start: record().start, media: 1, size: 1 << 24, tracks }
    }

    #[test]
    fn a_head_of_any_length_is_as_long_when_it_is_read() {
        for entry in 40..2100 {
            let head = head_with(entry, 0);
            let bytes = head.encode();
            assert_eq!(SegmentHead::decode(&bytes), Some((head, bytes.len() as u64)), "a sample entry of {entry} bytes");
        }
    }

    #[test]
    fn a_head_that_arrived_in_part_over_another_is_no_head() {
        for entry in (40..1500).step_by(61) {
            let (old, new) = (head_with(entry, 1).encode(), head_with(entry, 2).encode());
            for arrived in 0..1_u32 << 8 {
                let sector = |(i, (old, new)): (usize, (&u8, &u8))| if arrived >> (i / 512) & 1 == 1 { *new } else { *old };
                let torn: Vec<u8> = old.iter().zip(&new).enumerate().map(sector).collect();
                let whole = torn == old || torn == new;
                assert!(whole || SegmentHead::decode(&torn).is_none(), "entry of {entry} bytes, sectors {arrived:b}");
            }
        }
    }
}
