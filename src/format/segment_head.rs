//! Segment heads: file, tracks and evictions of a segment, in two copies ([`super::on_disk`]).

use std::sync::Arc;

use super::big_endian::BigEndianReader;
use super::block::{BLOCK, is_padded, pad, padded};
use super::card_id::{CARD_ID, CardId};
use super::fragment_ref::FragmentRef;
use super::mp4::{BoxWriter, box_at, head_boxes};
use super::record::{MARK, RingRecord};
use crate::camera::{Codec, TrackKind, TrackParams};
use crate::units::{Boot, ClockQuality, Digest, MonoTime, Timestamp, WallTime};

/// Extended type of a segment header.
pub const SEGMENT_TYPE: [u8; 16] = *b"taimat-segm-v2\0\0";
/// Extended type of the copy of a segment header at the end of the file.
pub const COPY_TYPE: [u8; 16] = *b"taimat-copy-v2\0\0";
/// Version of the fields of a head.
const VERSION: u16 = 3;
/// Extended type of a segment header in format 1, which this version does not read.
const OLDER_TYPE: [u8; 16] = *b"taimat-segm-v1\0\0";
/// Largest head, bytes. Sample entries have a few hundred bytes.
pub const HEAD_MAX: usize = 64 * 1024;
/// Most stretches that a head lists as present; the newest are kept. An unbroken ring has one stretch;
/// each pinned stretch between evicted ones adds one. A loss in an older, unlisted stretch is not
/// detected.
pub const PRESENT_MAX: usize = 64;
/// Most evictions in a head: one, more only after the ring was made smaller. Beyond it, the last
/// stretch covers the rest.
pub const EVICTED_MAX: usize = 16;

/// Reason why records are no longer in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EvictionCause {
    /// The ring is full; they were the oldest without a pin.
    Oldest = 1,
    /// They were pinned, but pins exceeded their quota.
    Pinned = 2,
    /// The size of the ring or of its segments was changed.
    Resized = 3,
    /// Their file was missing or unreadable when the ring was opened.
    Missing = 4,
    /// Numbers skipped because recovery could not determine which numbers were in use.
    Skipped = 5,
}

impl EvictionCause {
    fn from_byte(byte: u8) -> Option<EvictionCause> {
        use EvictionCause::{Missing, Oldest, Pinned, Resized, Skipped};
        [Oldest, Pinned, Resized, Missing, Skipped].into_iter().find(|cause| *cause as u8 == byte)
    }

    /// The word used in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            EvictionCause::Oldest => "oldest",
            EvictionCause::Pinned => "pinned",
            EvictionCause::Resized => "resized",
            EvictionCause::Missing => "missing",
            EvictionCause::Skipped => "skipped",
        }
    }
}

/// A stretch of evicted records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eviction {
    /// Reason.
    pub cause: EvictionCause,
    /// First record number.
    pub first: u64,
    /// Last record number.
    pub last: u64,
}

/// The records of the ring around a segment, present and evicted, as its head lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordInventory {
    /// Evictions for this segment, or since the one before was started.
    pub evicted: Vec<Eviction>,
    /// Stretches of records in the ring before this segment, without the evicted ones.
    pub present: Vec<(u64, u64)>,
}

/// The head of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentHead {
    /// The card on which it was recorded.
    pub card: CardId,
    /// Number of the file.
    pub segment: u32,
    /// Counts the starts of segments over all files of the ring, from 1.
    pub lap: u32,
    /// Boot that started the segment.
    pub boot: Boot,
    /// Number of its first record.
    pub first_seq: u64,
    /// Chain digest of the record before the first one.
    pub previous: Digest,
    /// Time at which the segment begins.
    pub start: Timestamp,
    /// Start of its first sample, audio or video, on the media clock, microseconds. Its decode
    /// times count from here.
    pub media: u64,
    /// Length of the file, bytes.
    pub size: u64,
    /// Its tracks, video first.
    pub tracks: Vec<Arc<TrackParams>>,
    /// Evictions and present records.
    pub inventory: RecordInventory,
}

impl SegmentHead {
    /// The head of a segment, padded to whole blocks, without the `free` box over the rest.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = head_boxes(&self.tracks, None);
        let body = self.body();
        let mut header = BoxWriter::default();
        header.put_u32(24 + body.len() as u32 + 4);
        header.put(b"uuid");
        header.put(&SEGMENT_TYPE);
        header.put(&body);
        // The checksum covers `ftyp` and `moov` too: no player could open a file with a torn
        // `moov`.
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out), header.bytes());
        header.put_u32(crc);
        out.extend(header.finish());
        pad(&mut out);
        out
    }

    /// The second copy: whole blocks for the end of the file, without `ftyp` and `moov`, which can
    /// be rebuilt from the tracks.
    pub fn encode_copy(&self) -> Vec<u8> {
        let body = self.body();
        let len = copy_len(body.len());
        let mut out = BoxWriter::default();
        out.put_u32(len as u32);
        out.put(b"uuid");
        out.put(&COPY_TYPE);
        out.put(&body);
        out.put(&vec![0; len - 24 - body.len() - 8]);
        let crc = crc32c::crc32c(out.bytes());
        out.put_u32(crc);
        out.put_u32(len as u32);
        out.finish()
    }

    /// Offset of the second copy. Records and the `free` box over the rest end here.
    pub fn end(&self) -> u64 {
        self.size.saturating_sub(copy_len(self.body().len()) as u64)
    }

    /// The mark that the first fragment of the segment carries; it adds this head to the hash
    /// chain.
    pub fn mark(&self) -> [u8; MARK] {
        let (mut mark, digest) = ([0; MARK], Digest::of(&self.body()));
        mark.copy_from_slice(&digest.0[..MARK]);
        mark
    }

    /// True when both copies decode to this head. Only parameter sets beyond the limits of the
    /// format fail; such a head is never written.
    pub fn is_readable(&self) -> bool {
        let (head, copy) = (self.encode(), self.encode_copy());
        let reads = |read: Option<SegmentHead>| read.as_ref() == Some(self);
        head.len() <= HEAD_MAX
            && copy.len() <= HEAD_MAX
            && reads(SegmentHead::decode(&head).map(|(head, _)| head))
            && reads(SegmentHead::decode_copy(&copy))
    }

    fn body(&self) -> Vec<u8> {
        let mut body = BoxWriter::default();
        body.put_u16(VERSION);
        body.put_u16(0);
        body.put_u32(self.segment);
        body.put_u32(self.lap);
        body.put_u32(self.boot.0);
        body.put_u64(self.first_seq);
        body.put(&self.previous.0);
        body.put_u64(self.start.mono.0);
        body.put_u64(self.start.wall.0 as u64);
        let RecordInventory { evicted, present } = &self.inventory;
        body.put(&[
            self.start.quality as u8,
            self.tracks.len() as u8,
            evicted.len() as u8,
            present.len() as u8,
        ]);
        body.put_u64(self.size);
        body.put_u64(self.media);
        body.put(&self.card.bytes());
        for track in &self.tracks {
            put_track(&mut body, track);
        }
        for Eviction { cause, first, last } in evicted {
            body.put(&[*cause as u8]);
            body.put_u64(*first);
            body.put_u64(*last);
        }
        for (first, last) in present {
            body.put_u64(*first);
            body.put_u64(*last);
        }
        body.finish()
    }

    fn read_body(from: &mut BigEndianReader<'_>) -> Option<SegmentHead> {
        if from.u16()? != VERSION {
            return None;
        }
        from.u16()?;
        let (segment, lap, boot, first_seq) =
            (from.u32()?, from.u32()?, Boot(from.u32()?), from.u64()?);
        let previous = from.digest()?;
        let (mono, wall) = (MonoTime(from.u64()?), WallTime(from.u64()? as i64));
        let counts = from.take(4)?;
        let (size, media) = (from.u64()?, from.u64()?);
        let card = CardId::read(from.take(CARD_ID)?)?;
        let tracks = (0..counts[1]).map(|_| take_track(from)).collect::<Option<Vec<_>>>()?;
        let mut evicted = Vec::new();
        for _ in 0..counts[2] {
            let cause = EvictionCause::from_byte(from.take(1)?[0])?;
            evicted.push(Eviction { cause, first: from.u64()?, last: from.u64()? });
        }
        let present =
            (0..counts[3]).map(|_| Some((from.u64()?, from.u64()?))).collect::<Option<Vec<_>>>()?;
        let start = Timestamp { mono, wall, quality: ClockQuality::from_byte(counts[0]) };
        let inventory = RecordInventory { evicted, present };
        Some(SegmentHead {
            card,
            segment,
            lap,
            boot,
            first_seq,
            previous,
            start,
            media,
            size,
            tracks,
            inventory,
        })
    }

    /// Decodes the head at the start of a segment file. Returns it with its padded length; `None`
    /// if it is damaged or was never written.
    pub fn decode(bytes: &[u8]) -> Option<(SegmentHead, u64)> {
        let at = header_at(bytes)?;
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
        Some((SegmentHead::read_body(&mut BigEndianReader::new(&covered[at + 24..]))?, head_len))
    }

    /// Decodes the second copy from whole blocks at the end of a segment file; `None` if it is
    /// damaged or was never written.
    pub fn decode_copy(bytes: &[u8]) -> Option<SegmentHead> {
        let len = copy_len_at_end(bytes)?;
        let copy = bytes.get(bytes.len().checked_sub(len)?..)?;
        let (covered, stored) = copy.split_at(len - 8);
        if box_at(copy, 0) != Some((*b"uuid", len)) || copy[8..24] != COPY_TYPE {
            return None;
        }
        if crc32c::crc32c(covered).to_be_bytes() != stored[..4] {
            return None;
        }
        SegmentHead::read_body(&mut BigEndianReader::new(&covered[24..]))
    }
}

/// True when the first bytes of a segment file are a head of an older format.
pub fn is_older(bytes: &[u8]) -> bool {
    // Require a valid checksum: a flipped bit must not make the head of this version look older.
    let whole = |at: usize| {
        let (_, len) = box_at(bytes, at)?;
        let (covered, stored) = bytes.get(..at + len)?.split_at((at + len).checked_sub(4)?);
        Some(crc32c::crc32c(covered).to_be_bytes() == stored)
    };
    let older = |at: usize| match (bytes.get(at + 8..at + 24), bytes.get(at + 24..at + 26)) {
        (Some(kind), _) if kind == OLDER_TYPE => true,
        (Some(kind), Some(version)) => {
            kind == SEGMENT_TYPE && version == 2_u16.to_be_bytes() && whole(at) == Some(true)
        }
        _ => false,
    };
    header_at(bytes).is_some_and(older)
}

/// Offset of the segment header, behind exactly one `ftyp` and one `moov`.
fn header_at(bytes: &[u8]) -> Option<usize> {
    [b"ftyp", b"moov"]
        .iter()
        .try_fold(0, |at, name| Some(at + box_at(bytes, at).filter(|(found, _)| found == *name)?.1))
}

/// Bytes of the second copy of a header with a body of `body` bytes.
fn copy_len(body: usize) -> usize {
    (24 + body + 8).next_multiple_of(BLOCK as usize)
}

/// Bytes of the second copy at the end of `bytes`, by its own length field.
pub fn copy_len_at_end(bytes: &[u8]) -> Option<usize> {
    let len =
        u32::from_be_bytes(bytes.get(bytes.len().checked_sub(4)?..)?.try_into().ok()?) as usize;
    (len >= BLOCK as usize && len <= HEAD_MAX && len.is_multiple_of(BLOCK as usize)).then_some(len)
}

/// The digest of a head: SHA-256 of `ftyp` and `moov` without a duration, built from the tracks.
///
///  It covers codec, sizes, timescale, matrix and parameter sets, and is the same for a segment and
/// for every clip of it. Each record contains it.
pub fn head_digest(tracks: &[Arc<TrackParams>]) -> Digest {
    Digest::of(&head_boxes(tracks, None))
}

fn put_track(out: &mut BoxWriter, track: &TrackParams) {
    out.put(&[if track.kind == TrackKind::Video { 1 } else { 2 }, codec_byte(track.codec)]);
    out.put_u32(track.timescale);
    out.put_u16(track.size.0);
    out.put_u16(track.size.1);
    for bytes in [&track.sample_entry, &track.annex_b] {
        out.put_u32(bytes.len() as u32);
        out.put(bytes);
    }
}

fn take_track(from: &mut BigEndianReader<'_>) -> Option<Arc<TrackParams>> {
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
    [Codec::H264, Codec::H265, Codec::Aac, Codec::PcmMulaw, Codec::PcmAlaw]
        .into_iter()
        .find(|codec| codec_byte(*codec) == byte)
}

/// A segment that holds footage.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its head, with the number of the file that holds the segment now.
    pub head: Arc<SegmentHead>,
    /// Bytes of its padded head, i.e. the offset of its first record.
    pub head_len: u64,
    /// End of records and free space; the second copy of the head follows.
    pub end: u64,
    /// Digest of its head ([`head_digest`]).
    pub layout: Digest,
    /// Number of the file in which it was started. Differs from `head.segment` if the file was
    /// renamed.
    pub named: u32,
}

impl Segment {
    /// True when the file is shorter than its head states.
    pub fn is_cut(&self) -> bool {
        self.end < self.head.end()
    }

    /// The fragment that `record` at `offset` of this segment holds; `None` for a gap record.
    pub fn fragment(&self, record: &RingRecord, offset: u64) -> Option<FragmentRef> {
        let RingRecord {
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
            gap: None,
            ..
        } = record.clone()
        else {
            return None;
        };
        let (segment, base, layout) = (self.head.segment, self.head.media, self.layout);
        Some(FragmentRef {
            seq,
            segment,
            lap,
            offset,
            len,
            key,
            boot,
            start,
            duration,
            media,
            lead,
            base,
            payload,
            layout,
        })
    }

    /// Its head as written, with the number of the file in which it was started.
    pub fn written(&self) -> SegmentHead {
        SegmentHead { segment: self.named, ..SegmentHead::clone(&self.head) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::video;
    use super::*;

    fn inventory() -> RecordInventory {
        let evicted = vec![Eviction { cause: EvictionCause::Oldest, first: 2, last: 40 }];
        RecordInventory { evicted, present: vec![(41, 60), (80, 999)] }
    }

    fn start() -> Timestamp {
        Timestamp { mono: MonoTime(11), wall: WallTime(-12), quality: ClockQuality::Ntp }
    }

    #[test]
    fn a_head_round_trips_and_any_flipped_bit_is_detected() {
        let head = SegmentHead {
            card: CardId::read(b"0123456789abcdef").unwrap(),
            segment: 4,
            lap: 9,
            boot: Boot(2),
            first_seq: 1000,
            previous: Digest([5; 32]),
            start: start(),
            media: 123_456_789,
            size: 1 << 24,
            tracks: vec![video(1)],
            inventory: inventory(),
        };
        let bytes = head.encode();
        assert_eq!(bytes.len() % BLOCK as usize, 0);
        assert_eq!(SegmentHead::decode(&bytes), Some((head, bytes.len() as u64)));
        let header = bytes.windows(16).position(|w| w == SEGMENT_TYPE).unwrap() - 8;
        let end = header + box_at(&bytes, header).unwrap().1;
        for at in 0..end {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(
                SegmentHead::decode(&damaged),
                None,
                "a flipped bit at {at} was not detected"
            );
        }
        assert_eq!(SegmentHead::decode(&vec![0; 8192]), None);
    }

    fn head_with(entry: usize, fill: u8) -> SegmentHead {
        let mut track = TrackParams::clone(&video(1));
        track.sample_entry = vec![fill; entry];
        track.sample_entry[..8].copy_from_slice(&[
            0,
            0,
            (entry >> 8) as u8,
            entry as u8,
            b'a',
            b'v',
            b'c',
            b'1',
        ]);
        track.digest = Digest::of(&track.sample_entry);
        let (segment, lap, boot, previous) = (4, 9, Boot(2), Digest([5; 32]));
        let tracks = vec![Arc::new(track)];
        SegmentHead {
            card: CardId::default(),
            segment,
            lap,
            boot,
            first_seq: 1000,
            previous,
            start: start(),
            media: 1,
            size: 1 << 24,
            tracks,
            inventory: inventory(),
        }
    }

    #[test]
    fn a_head_of_any_length_round_trips() {
        for entry in 40..2100 {
            let head = head_with(entry, 0);
            let bytes = head.encode();
            assert_eq!(
                SegmentHead::decode(&bytes),
                Some((head, bytes.len() as u64)),
                "a sample entry of {entry} bytes"
            );
        }
    }

    #[test]
    fn a_torn_head_over_an_older_head_is_rejected() {
        for entry in (40..1500).step_by(61) {
            let (old, new) = (head_with(entry, 1).encode(), head_with(entry, 2).encode());
            for arrived in 0..1_u32 << 8 {
                let sector = |(i, (old, new)): (usize, (&u8, &u8))| {
                    if arrived >> (i / 512) & 1 == 1 { *new } else { *old }
                };
                let torn: Vec<u8> = old.iter().zip(&new).enumerate().map(sector).collect();
                let whole = torn == old || torn == new;
                assert!(
                    whole || SegmentHead::decode(&torn).is_none(),
                    "entry of {entry} bytes, sectors {arrived:b}"
                );
            }
        }
    }
}
