//! Records of the ring ([`super::on_disk`]): encoding and decoding.

use super::big_endian::BigEndianReader;
use super::gap::{Gap, GapReason};
use super::mp4::BoxWriter;
use crate::units::{Boot, ClockQuality, Digest, MonoTime, Timestamp, WallTime};

/// Bytes of a record box.
pub const RECORD_BOX: usize = 24 + 64 + 24 + 96 + 8;
/// Offset of the checksums in a record box: that of the box, then that of the content.
const CHECKSUMS: usize = RECORD_BOX - 8;
/// Extended type of a record.
pub const RECORD_TYPE: [u8; 16] = *b"taimat-recd-v2\0\0";
/// Version of the fields of a record.
pub const VERSION: u16 = 2;
const FLAG_KEY: u16 = 1;
const FLAG_GAP: u16 = 2;
/// Bytes of a segment header digest in the first fragment of the segment.
pub const MARK: usize = 24;

/// A record without its samples: a fragment or a gap.
#[derive(Debug, Clone, PartialEq)]
pub struct RingRecord {
    /// Record number.
    pub seq: u64,
    /// Lap of its segment.
    pub lap: u32,
    /// Boot that wrote it.
    pub boot: Boot,
    /// Bytes from its box to the end of its `mdat`, without padding.
    pub len: u32,
    /// Capture time of its first frame; start of the gap for a gap record.
    pub start: Timestamp,
    /// Starts with a key frame.
    pub key: bool,
    /// Bytes of samples.
    pub payload: u32,
    /// Start of its video on the media clock, microseconds.
    pub media: u64,
    /// Duration, microseconds.
    pub duration: u64,
    /// Milliseconds by which its audio starts before `media`, rounded up.
    pub lead: u16,
    /// For a gap record: its end, reason and bytes lost.
    pub gap: Option<(Timestamp, GapReason, u64)>,
    /// In the first fragment of a segment: start of the digest of the segment header, which adds
    /// the evictions to the hash chain. Zeros in other records.
    pub mark: [u8; MARK],
    /// Chain digest of the record before.
    pub previous: Digest,
    /// SHA-256 of `moof` and `mdat` with decode times relative to the start of the fragment.
    pub content: Digest,
    /// Digest of the head needed to decode it ([`super::segment_head::head_digest`]).
    pub head: Digest,
}

impl RingRecord {
    /// Encodes the record box for `content` (`moof` and `mdat`, empty for a gap record).
    pub fn encode(&self, content: &[u8]) -> Vec<u8> {
        let mut out = BoxWriter::default();
        out.put_u32(RECORD_BOX as u32);
        out.put(b"uuid");
        out.put(&RECORD_TYPE);
        out.put_u16(VERSION);
        out.put_u16(
            if self.key { FLAG_KEY } else { 0 } | if self.gap.is_some() { FLAG_GAP } else { 0 },
        );
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
        match self.gap {
            Some((end, _, bytes)) => {
                [end.mono.0, end.wall.0 as u64, bytes].iter().for_each(|value| out.put_u64(*value))
            }
            None => out.put(&self.mark),
        }
        out.put(&self.previous.0);
        out.put(&self.content.0);
        out.put(&self.head.0);
        let crc = crc32c::crc32c(out.bytes());
        out.put_u32(crc);
        out.put_u32(crc32c::crc32c(content));
        out.finish()
    }

    /// Decodes a record box; `None` if its checksum is wrong. [`RingRecord::intact`] verifies the
    /// content.
    pub fn decode(bytes: &[u8]) -> Option<RingRecord> {
        let len = (RECORD_BOX as u32).to_be_bytes();
        if bytes.len() < RECORD_BOX
            || bytes[..4] != len
            || bytes[4..8] != *b"uuid"
            || bytes[8..24] != RECORD_TYPE
        {
            return None;
        }
        if crc32c::crc32c(&bytes[..CHECKSUMS]).to_be_bytes() != bytes[CHECKSUMS..CHECKSUMS + 4] {
            return None;
        }
        let mut from = BigEndianReader::new(&bytes[24..RECORD_BOX]);
        let (version, flags) = (from.u16()?, from.u16()?);
        let (lap, seq, boot, len) = (from.u32()?, from.u64()?, Boot(from.u32()?), from.u32()?);
        let (mono, wall) = (MonoTime(from.u64()?), WallTime(from.u64()? as i64));
        let marks = from.take(2)?;
        let lead = from.u16()?;
        let start = Timestamp { mono, wall, quality: ClockQuality::from_byte(marks[0]) };
        let (payload, media, duration) = (from.u32()?, from.u64()?, from.u64()?);
        let mut mark: [u8; MARK] = from.take(MARK)?.try_into().ok()?;
        let mut of_gap = BigEndianReader::new(&mark);
        let (mono, wall, gap_bytes) =
            (MonoTime(of_gap.u64()?), WallTime(of_gap.u64()? as i64), of_gap.u64()?);
        let gap_end = Timestamp { mono, wall, quality: ClockQuality::from_byte(lead as u8) };
        let (previous, content, head) = (from.digest()?, from.digest()?, from.digest()?);
        let gap = match flags & FLAG_GAP {
            0 => None,
            _ => Some((gap_end, GapReason::from_byte(marks[1])?, gap_bytes)),
        };
        let key = flags & FLAG_KEY != 0;
        let lead = if gap.is_some() { 0 } else { lead };
        if gap.is_some() {
            mark = [0; MARK];
        }
        (version == VERSION && len as usize >= RECORD_BOX).then_some(RingRecord {
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
            mark,
            previous,
            content,
            head,
        })
    }

    /// True when `bytes` begin with this record and the checksum of the content is right. `bytes`
    /// must have at least `len` bytes.
    pub fn intact(&self, bytes: &[u8]) -> bool {
        let Some((record, content)) =
            bytes.get(..self.len as usize).and_then(|whole| whole.split_at_checked(RECORD_BOX))
        else {
            return false;
        };
        crc32c::crc32c(content).to_be_bytes() == record[CHECKSUMS + 4..]
            && RingRecord::decode(record).as_ref() == Some(self)
    }

    /// The chain digest of this record.
    pub fn link(&self) -> Digest {
        let encoded = self.encode(&[]);
        crate::format::hash_chain::link(&self.previous, &encoded[24..CHECKSUMS])
    }

    /// End of the record.
    pub fn end(&self) -> Timestamp {
        self.gap.map_or_else(|| self.start.after(self.duration), |(to, ..)| to)
    }

    /// The gap of this record; `None` for a fragment.
    pub fn gap(&self) -> Option<Gap> {
        self.gap.map(|(to, reason, bytes)| Gap { from: self.start, to, reason, bytes })
    }
}

/// Updates the checksums of a record box after its content was moved to another file.
pub fn seal(record: &mut [u8], content: &[u8]) {
    if let Some((covered, stored)) =
        record.split_at_mut_checked(CHECKSUMS).filter(|(_, stored)| stored.len() == 8)
    {
        stored[..4].copy_from_slice(&crc32c::crc32c(covered).to_be_bytes());
        stored[4..].copy_from_slice(&crc32c::crc32c(content).to_be_bytes());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::camera::{Codec, TrackKind, TrackParams};
    use crate::units::hex;

    /// A video track that cannot be decoded, for tests that only move bytes.
    pub(crate) fn video(mark: u8) -> Arc<TrackParams> {
        let sample_entry = vec![0, 0, 0, 9, b'a', b'v', b'c', b'1', mark];
        let digest = Digest::of(&sample_entry);
        let (kind, codec, annex_b) = (TrackKind::Video, Codec::H264, vec![0, 0, 0, 1, 0x67]);
        Arc::new(TrackParams {
            kind,
            codec,
            timescale: 90_000,
            sample_entry,
            annex_b,
            size: (640, 360),
            digest,
        })
    }

    pub(crate) fn record() -> RingRecord {
        RingRecord {
            seq: 7,
            lap: 2,
            boot: Boot(3),
            len: RECORD_BOX as u32 + 5,
            start: Timestamp {
                mono: MonoTime(11),
                wall: WallTime(-12),
                quality: ClockQuality::Ntp,
            },
            key: true,
            payload: 5,
            media: 13,
            duration: 14,
            lead: 0,
            gap: None,
            mark: [3; MARK],
            previous: Digest([1; 32]),
            content: Digest::of(b"hello"),
            head: Digest([2; 32]),
        }
    }

    #[test]
    fn record_bytes_are_fixed() {
        let golden = concat!(
            "000000d875756964",
            "7461696d61742d726563642d76320000",
            "00020001",
            "00000002",
            "0000000000000007",
            "00000003",
            "000000dd",
            "000000000000000b",
            "fffffffffffffff4",
            "03000000",
            "00000005",
            "000000000000000d",
            "000000000000000e",
            "030303030303030303030303030303030303030303030303",
            "0101010101010101010101010101010101010101010101010101010101010101",
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            "0202020202020202020202020202020202020202020202020202020202020202",
        );
        let encoded = record().encode(b"hello");
        assert_eq!(hex(&encoded[..CHECKSUMS]), golden);
        assert_eq!(encoded[CHECKSUMS + 4..], crc32c::crc32c(b"hello").to_be_bytes());
        assert_eq!(encoded.len(), RECORD_BOX);
    }

    #[test]
    fn a_record_round_trips_and_any_flipped_bit_is_detected() {
        let mut bytes = record().encode(b"hello");
        bytes.extend(b"hello");
        let read = RingRecord::decode(&bytes).unwrap();
        assert_eq!(read, record());
        assert!(read.intact(&bytes));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let seen = RingRecord::decode(&damaged).is_none_or(|record| !record.intact(&damaged));
            assert!(seen, "a flipped bit at {at} was not detected");
        }
        assert!(!read.intact(&bytes[..bytes.len() - 1]));
    }

    #[test]
    fn a_gap_record_keeps_its_reason_and_end() {
        let to = Timestamp { mono: MonoTime(99), wall: WallTime(98), quality: ClockQuality::Ntp };
        let gap = RingRecord {
            gap: Some((to, GapReason::PowerCut, 77)),
            key: false,
            len: RECORD_BOX as u32,
            ..record()
        };
        let read = RingRecord::decode(&gap.encode(&[])).unwrap();
        assert_eq!(
            read.gap().unwrap(),
            Gap { from: record().start, to, reason: GapReason::PowerCut, bytes: 77 }
        );
    }
}
