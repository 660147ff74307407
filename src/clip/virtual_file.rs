//! Virtual clip file: `ftyp`, `moov` and `uuid` (about) boxes, followed by the ring's fragments in
//! place.
//!
//! Decode times count from the start of the clip. Nothing is copied: the fragments are pinned, so
//! the file can be read repeatedly until the office has it. What belongs here: the order of the
//! pieces. What does not: box contents ([`crate::format::record`]), the content of the about box
//! ([`crate::evidence::manifest`]).

use std::sync::{Arc, Mutex, PoisonError};

use super::FileSource;
use crate::evidence::manifest::ABOUT_BOX;
use crate::format::mp4::{head_boxes, move_times};
use crate::format::record::{RECORD_BOX, seal};
use crate::storage::{FootageReader, GapReason, Span};
use crate::units::EntryId;

/// A clip that is read from the ring without being copied.
pub struct VirtualClip {
    head: Vec<u8>,
    span: Span,
    /// Start of its decode times on the media clock, in microseconds.
    base: u64,
    /// Timescale of each track in ticks per second.
    scales: Vec<u32>,
    /// Offset of each fragment in the clip, and the length of the clip as the last element.
    starts: Vec<u64>,
    reader: Arc<dyn FootageReader>,
    /// The last fragment read and its index: chunks are smaller than fragments, and a card is slow.
    last: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
}

impl VirtualClip {
    /// Assembles a clip from `span`; `about` is the JSON of its about box.
    pub fn assemble(span: &Span, about: &[u8], reader: Arc<dyn FootageReader>) -> VirtualClip {
        let base =
            span.fragments.first().map_or(0, |f| f.media.saturating_sub(u64::from(f.lead) * 1000));
        let end = span.fragments.last().map_or(base, |f| f.media + f.duration);
        let mut head = head_boxes(&span.tracks, Some(end.saturating_sub(base)));
        head.extend(((24 + about.len()) as u32).to_be_bytes());
        head.extend(b"uuid");
        head.extend(ABOUT_BOX);
        head.extend(about);
        let mut starts = vec![head.len() as u64];
        for fragment in &span.fragments {
            starts.push(starts[starts.len() - 1] + u64::from(fragment.len));
        }
        let scales = span.tracks.iter().map(|track| track.timescale).collect();
        VirtualClip {
            head,
            span: span.clone(),
            base,
            scales,
            starts,
            reader,
            last: Mutex::new(None),
        }
    }

    /// The bytes of fragment `index`, from memory when it was the last one read.
    fn fragment(&self, index: usize) -> Result<Arc<Vec<u8>>, String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = last.as_ref().filter(|(cached, _)| *cached == index) {
            return Ok(bytes.clone());
        }
        let fragment = &self.span.fragments[index];
        let mut bytes = self.reader.fragment(fragment).map_err(|fault| fault.to_string())?;
        if bytes.len() as u64 != self.starts[index + 1] - self.starts[index] {
            return Err(format!("record {} changed its length", fragment.seq));
        }
        if let Some((record, content)) = bytes.split_at_mut_checked(RECORD_BOX) {
            move_times(content, &self.scales, fragment.base, self.base);
            seal(record, content);
        }
        let bytes = Arc::new(bytes);
        *last = Some((index, bytes.clone()));
        Ok(bytes)
    }

    /// The piece that holds `offset`, and the position in it. Piece 0 is the head, piece n is
    /// fragment n - 1.
    fn find(&self, offset: u64) -> (usize, usize) {
        let piece = self.starts.partition_point(|start| *start <= offset);
        let base = if piece == 0 { 0 } else { self.starts[piece - 1] };
        (piece, (offset - base) as usize)
    }
}

impl FileSource for VirtualClip {
    fn len(&self) -> u64 {
        self.starts[self.starts.len() - 1]
    }

    fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, String> {
        let end = offset.saturating_add(u64::from(len));
        if end > self.len() {
            return Err(format!(
                "bytes {offset}..{end} are outside the clip of {} bytes",
                self.len()
            ));
        }
        let mut out = Vec::with_capacity(len as usize);
        while out.len() < len as usize {
            let (piece, within) = self.find(offset + out.len() as u64);
            let wanted = len as usize - out.len();
            let bytes = if piece == 0 { None } else { Some(self.fragment(piece - 1)?) };
            let rest = &bytes.as_deref().unwrap_or(&self.head)[within..];
            out.extend_from_slice(&rest[..rest.len().min(wanted)]);
        }
        Ok(out)
    }

    fn unreadable(&self) -> Vec<(u64, GapReason)> {
        self.span.unreadable(self.reader.as_ref())
    }
}

/// A snapshot in its snapshot slot.
pub struct SnapshotFile {
    entry_id: EntryId,
    len: u64,
    reader: Arc<dyn FootageReader>,
}

impl SnapshotFile {
    /// The snapshot of outbox entry `entry_id`, with `len` bytes.
    pub fn new(entry_id: EntryId, len: u64, reader: Arc<dyn FootageReader>) -> SnapshotFile {
        SnapshotFile { entry_id, len, reader }
    }
}

impl FileSource for SnapshotFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, String> {
        let bytes = self.reader.snapshot(self.entry_id).map_err(|fault| fault.to_string())?;
        bytes.read(offset, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{FragmentRef, ReadFault};
    use crate::units::{Boot, Digest, Timestamp};

    struct Footage;

    impl FootageReader for Footage {
        fn fragment(&self, fragment: &FragmentRef) -> Result<Vec<u8>, ReadFault> {
            match fragment.seq {
                9 => Err(ReadFault::Gone("seg-00001.mp4 offset 4096".into())),
                seq => Ok(vec![seq as u8; fragment.len as usize]),
            }
        }

        fn snapshot(&self, _: EntryId) -> Result<Vec<u8>, ReadFault> {
            Ok(vec![7; 10])
        }
    }

    fn fragment(seq: u64, len: u32) -> FragmentRef {
        FragmentRef {
            seq,
            segment: 0,
            lap: 1,
            offset: 0,
            len,
            key: true,
            boot: Boot(1),
            start: Timestamp::default(),
            duration: 1_000_000,
            media: seq * 1_000_000,
            lead: 0,
            base: 0,
            payload: len,
            layout: Digest::default(),
        }
    }

    fn clip(fragments: Vec<FragmentRef>) -> VirtualClip {
        let span = Span {
            fragments,
            tracks: Vec::new(),
            gaps: Vec::new(),
            damaged: Vec::new(),
            more: false,
        };
        VirtualClip::assemble(&span, b"{}", Arc::new(Footage))
    }

    #[test]
    fn reads_of_any_size_add_up_to_the_whole_file() {
        let clip = clip(vec![fragment(1, 30), fragment(2, 5), fragment(3, 70)]);
        let whole = clip.read(0, clip.len() as u32).unwrap();
        assert!(whole.ends_with(&[3; 70]) && whole[whole.len() - 105..whole.len() - 75] == [1; 30]);
        for size in [1, 3, 7, 64] {
            let mut pieced = Vec::new();
            while (pieced.len() as u64) < clip.len() {
                let len = size.min(clip.len() as u32 - pieced.len() as u32);
                pieced.extend(clip.read(pieced.len() as u64, len).unwrap());
            }
            assert_eq!(pieced, whole, "in pieces of {size}");
        }
    }

    #[test]
    fn unreadable_footage_is_an_error_that_names_the_file() {
        let clip = clip(vec![fragment(1, 30), fragment(9, 5)]);
        assert!(clip.read(clip.len() - 5, 5).unwrap_err().contains("seg-00001.mp4"));
        assert!(clip.read(clip.len() - 35, 30).is_ok(), "the fragment before it is readable");
    }

    #[test]
    fn a_read_past_the_end_is_an_error() {
        let clip = clip(vec![fragment(1, 30)]);
        assert!(clip.read(clip.len() - 1, 2).is_err());
        assert!(SnapshotFile::new(EntryId(1), 10, Arc::new(Footage)).read(5, 6).is_err());
    }
}
