//! Strict reader of segment files, written only from ISO/IEC 14496-12 and
//! [`crate::format::on_disk`].
//!
//! It reads every box to the end of the file and accepts no deviation.

use crate::format::block::BLOCK;
use crate::format::mp4::{all, box_at, path};
use crate::format::record::{RECORD_BOX, RingRecord};
use crate::format::segment_head::{SegmentHead, head_digest};
use crate::storage::Gap;
use crate::units::{Digest, Timestamp};

/// One record in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentAt {
    /// Record number.
    pub seq: u64,
    /// Offset of its box, bytes.
    pub offset: usize,
    /// Bytes from the offset to the end of its `mdat`.
    pub len: usize,
    /// Start and end of its footage or gap.
    pub span: (Timestamp, Timestamp),
    /// The gap of a gap record.
    pub gap: Option<Gap>,
    /// Chain digests of the record before and of this one.
    pub links: (Digest, Digest),
}

/// Content of a file.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The head; `None` for a file without footage.
    pub head: Option<SegmentHead>,
    /// The records before the first error.
    pub records: Vec<SegmentAt>,
    /// Offset of the first error, and its description.
    pub tear: Option<(usize, &'static str)>,
    /// Whole records after the first error.
    pub behind: Vec<SegmentAt>,
}

/// Reads a file.
pub fn read(bytes: &[u8]) -> Reading {
    let Some((head, mut at)) = SegmentHead::decode(bytes) else {
        return Reading::default();
    };
    let mut reading =
        Reading { tear: head_fault(bytes, &head).map(|why| (0, why)), ..Reading::default() };
    let mut next = (head.first_seq, head.previous);
    let end = head.end() as usize;
    while reading.tear.is_none() && (at as usize) < end {
        match step(bytes, at as usize, &head, next) {
            Ok(Step::Free) => at = end as u64,
            Ok(Step::Record(record, padded)) => {
                next = (record.seq + 1, record.links.1);
                reading.records.push(*record);
                at += padded;
            }
            Err(why) => reading.tear = Some((at as usize, why)),
        }
    }
    let copy = bytes.get(end..).and_then(|copy| box_at(copy, 0));
    let at_end = at as usize == end && copy == Some((*b"uuid", bytes.len() - end));
    if reading.tear.is_none() && !at_end {
        reading.tear =
            Some((at as usize, "the file does not end with the second copy of its head"));
    }
    if let Some((tear, _)) = reading.tear {
        reading.behind = behind(bytes, tear, &head, next.0);
    }
    reading.head = Some(head);
    reading
}

/// Whole records of this lap after a tear, at page boundaries.
fn behind(bytes: &[u8], tear: usize, head: &SegmentHead, mut seq: u64) -> Vec<SegmentAt> {
    let mut found = Vec::new();
    for at in (tear + BLOCK as usize..head.end() as usize).step_by(BLOCK as usize) {
        let record = RingRecord::decode(&bytes[at..])
            .filter(|record| record.lap == head.lap && record.seq >= seq);
        if let Some(Ok(Step::Record(lies, _))) =
            record.map(|record| step(bytes, at, head, (record.seq, record.previous)))
        {
            seq = lies.seq + 1;
            found.push(*lies);
        }
    }
    found
}

enum Step {
    Free,
    Record(Box<SegmentAt>, u64),
}

/// Checks that the head equals a new encoding of its fields; a torn head does not.
fn head_fault(bytes: &[u8], head: &SegmentHead) -> Option<&'static str> {
    let written = head.encode();
    // The content of its padding is undefined.
    let used = (0..3).fold(0, |at, _| at + box_at(&written, at).map_or(0, |(_, len)| len));
    let written = &written[..written.len().min(used + 8)];
    let moov = all(bytes, b"moov");
    let traks = moov.first().map_or(0, |moov| all(moov, b"trak").len());
    match () {
        () if bytes.get(..written.len()) != Some(written) => {
            Some("the head is not what its own header says")
        }
        () if traks == 0 => Some("the file has no track"),
        () => None,
    }
}

fn step(
    bytes: &[u8],
    at: usize,
    head: &SegmentHead,
    (seq, previous): (u64, Digest),
) -> Result<Step, &'static str> {
    let (name, len) = box_at(bytes, at).ok_or("no box")?;
    if name == *b"free" {
        return if at + len == head.end() as usize {
            Ok(Step::Free)
        } else {
            Err("a `free` box that does not end before the second head")
        };
    }
    let record = RingRecord::decode(&bytes[at..]).ok_or("neither a record nor `free`")?;
    let whole = bytes[..head.end() as usize]
        .get(at..at + record.len as usize)
        .ok_or("a record longer than its file")?;
    if !record.intact(whole) {
        return Err("a record with a wrong checksum");
    }
    if (record.lap, record.seq, record.previous) != (head.lap, seq, previous) {
        return Err("a record that does not continue the chain");
    }
    if record.gap.is_none() && record.head != head_digest(&head.tracks) {
        return Err("a record of another head");
    }
    fragment(&whole[RECORD_BOX..], &record, head.tracks.len())?;
    let end = at + whole.len();
    // A `free` box fills the block if its header fits, else also the next block.
    let padded = if (end as u64).is_multiple_of(BLOCK) {
        end
    } else {
        (end + 8).next_multiple_of(BLOCK as usize)
    };
    if padded > end && box_at(bytes, end) != Some((*b"free", padded - end)) {
        return Err("padding of a wrong length");
    }
    let (from, to) =
        record.gap.map_or((record.start, end_of(&record)), |(to, ..)| (record.start, to));
    let links = (record.previous, record.link());
    let lies =
        SegmentAt { seq, offset: at, len: whole.len(), span: (from, to), gap: record.gap(), links };
    Ok(Step::Record(Box::new(lies), (padded - at) as u64))
}

fn end_of(record: &RingRecord) -> Timestamp {
    record.start.at(record.start.mono.plus_micros(record.duration))
}

/// Checks that `moof` and `mdat` fill the record and that samples fill the `mdat` without gap or
/// overlap.
fn fragment(content: &[u8], record: &RingRecord, tracks: usize) -> Result<(), &'static str> {
    if record.gap.is_some() {
        return if content.is_empty() { Ok(()) } else { Err("a gap record with content") };
    }
    let (_, moof) = box_at(content, 0).filter(|(name, _)| name == b"moof").ok_or("no `moof`")?;
    let (_, mdat) = box_at(content, moof).filter(|(name, _)| name == b"mdat").ok_or("no `mdat`")?;
    if moof + mdat != content.len() {
        return Err("bytes after the `mdat`");
    }
    let boxes = &content[8..moof];
    path(boxes, &[b"mfhd"]).ok_or("no `mfhd`")?;
    let trafs = all(boxes, b"traf");
    if trafs.is_empty() || trafs.len() > tracks {
        return Err("tracks that the file does not have");
    }
    let mut at = moof + 8;
    for traf in trafs {
        path(traf, &[b"tfdt"]).ok_or("a `traf` without `tfdt`")?;
        let head = path(traf, &[b"tfhd"]).ok_or("a `traf` without `tfhd`")?;
        let run = path(traf, &[b"trun"]).ok_or("a `traf` without `trun`")?;
        if read_u32(run, 8) != Some(at) {
            return Err("samples that do not start at the end of the ones before");
        }
        at += sample_bytes(head, run)
            .ok_or("a `trun` of a wrong length, or samples without a size")?;
    }
    if at == content.len() { Ok(()) } else { Err("samples that do not fill the `mdat`") }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<usize> {
    bytes
        .get(at..at + 4)
        .map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]) as usize)
}

/// Bytes of all samples of a run: sizes are in the `trun` (ISO/IEC 14496-12 8.8.8), or one size for
/// all in the `tfhd` (8.8.7).
fn sample_bytes(head: &[u8], run: &[u8]) -> Option<usize> {
    let (flags, samples) = (read_u32(run, 0)? & 0xff_ffff, read_u32(run, 4)?);
    let fields = [0x100, 0x200, 0x400, 0x800].map(|bit| usize::from(flags & bit != 0));
    let (first, each) = (12 + 4 * usize::from(flags & 4 != 0), 4 * fields.iter().sum::<usize>());
    if flags & 1 == 0 || run.len() != first + samples * each {
        return None;
    }
    if fields[1] == 1 {
        return (0..samples)
            .map(|sample| read_u32(run, first + sample * each + 4 * fields[0]))
            .sum();
    }
    let given = read_u32(head, 0)? & 0xff_ffff;
    let before = [(1, 8), (2, 4), (8, 4)]
        .iter()
        .filter(|(bit, _)| given & bit != 0)
        .map(|(_, len)| len)
        .sum::<usize>();
    (given & 0x10 != 0).then(|| read_u32(head, 8 + before)).flatten().map(|size| size * samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::faulty_disk::FaultyDisk;
    use crate::sim::workload::{Workload, settings};
    use crate::storage::disk::FileId;
    use crate::storage::engine::Engine;
    use std::sync::Arc;

    #[test]
    fn a_changed_byte_in_any_box_of_a_segment_is_found() {
        let disk = FaultyDisk::new(None);
        let (mut engine, _) =
            Engine::open(Arc::new(disk.clone()), &settings(), Default::default()).unwrap();
        let mut script = Workload::new(3);
        let mut out = Vec::new();
        for _ in 0..40 {
            engine.frame(&script.picture(), &mut out);
        }
        let bytes = disk.live().file(FileId::Segment(0)).unwrap().bytes();
        let reading = read(&bytes);
        assert_eq!(reading.tear, None);
        assert!(reading.records.len() > 2, "{}", reading.records.len());
        for record in &reading.records {
            for at in
                [0, 4, 24, 60, 184, 200, record.len - 1, record.len, record.len + 2, record.len + 4]
            {
                let mut damaged = bytes.clone();
                // The third byte of a length, too: one more block is still a wrong length.
                damaged[record.offset + at] ^= 0x10;
                let found = read(&damaged).tear.map(|(at, _)| at);
                assert_eq!(found, Some(record.offset), "byte {at} of record {}", record.seq);
            }
        }
        for at in [4, 100, 300] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            let read = read(&damaged);
            assert!(read.head.is_none() || read.tear.is_some(), "byte {at} of the head");
        }
    }
}
