//! The same clip without its sound, for browsers that cannot decode G.711.
//!
//! Each box of a sound track (`trak`, `trex`, `traf`) gets the type `free`, which every reader
//! skips (ISO/IEC 14496-12 8.1.2), and its content becomes zeros. So does what is in an `mdat` and in no
//! picture: every sample of sound. All offsets stay, so a range of this file is the same range of
//! the stored one with some bytes changed. The stored file is the evidence and never changes.

use std::ops::Range;

use super::{ClipFault, ReadRange};

/// The type that a reader skips.
const FREE: [u8; 4] = *b"free";

/// What changes; rising offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patches {
    /// Where types of boxes lie that become `free`.
    names: Vec<u64>,
    /// What becomes zeros; apart from each other.
    zeros: Vec<Range<u64>>,
}

impl Patches {
    /// Patches that empty boxes, given by their places, and other parts of a file.
    pub(super) fn new(
        boxes: impl Iterator<Item = Range<u64>>,
        parts: impl Iterator<Item = Range<u64>>,
    ) -> Patches {
        let (mut names, mut zeros): (Vec<u64>, Vec<Range<u64>>) =
            boxes.map(|place| (place.start + 4, place.start + 8..place.end)).unzip();
        names.sort_unstable();
        names.shrink_to_fit();
        zeros.extend(parts);
        zeros.retain(|part| part.start < part.end);
        zeros.sort_unstable_by_key(|part| part.start);
        zeros.dedup_by(|next, kept| {
            let touches = next.start <= kept.end;
            if touches {
                kept.end = kept.end.max(next.end);
            }
            touches
        });
        zeros.shrink_to_fit();
        Patches { names, zeros }
    }

    /// True if the file without sound is the stored one.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.zeros.is_empty()
    }

    /// Changes `bytes`, which begin at `offset` of the stored file.
    pub fn apply(&self, offset: u64, bytes: &mut [u8]) {
        let end = offset.saturating_add(bytes.len() as u64);
        let place = |at: u64| (at.clamp(offset, end) - offset) as usize;
        let first = self.zeros.partition_point(|part| part.end <= offset);
        for part in self.zeros[first..].iter().take_while(|part| part.start < end) {
            bytes[place(part.start)..place(part.end)].fill(0);
        }
        let first = self.names.partition_point(|name| name.saturating_add(4) <= offset);
        for name in self.names[first..].iter().take_while(|name| **name < end) {
            for (at, byte) in (*name..).zip(FREE).filter(|(at, _)| (offset..end).contains(at)) {
                bytes[place(at)] = byte;
            }
        }
    }

    /// Reads a range of the file without sound; `read` reads the stored file.
    ///
    /// # Errors
    /// The store fails.
    pub fn read(&self, range: Range<u64>, mut read: impl ReadRange) -> Result<Vec<u8>, ClipFault> {
        let mut bytes = read(range.clone()).map_err(ClipFault::Unreadable)?;
        self.apply(range.start, &mut bytes);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_equals_the_slice_of_the_whole() {
        let boxes = [26..44, 1..9, 10..19];
        let patches = Patches::new(boxes.into_iter(), [46..48, 44..46, 22..22].into_iter());
        let stored: Vec<u8> = (100..150).collect();
        let mut whole = stored.clone();
        patches.apply(0, &mut whole);
        assert_eq!(whole[..9], [100, 101, 102, 103, 104, b'f', b'r', b'e', b'e']);
        assert_eq!(whole[9..20], [109, 110, 111, 112, 113, b'f', b'r', b'e', b'e', 0, 119]);
        assert_eq!(whole[26..34], [126, 127, 128, 129, b'f', b'r', b'e', b'e']);
        assert!(whole[34..48].iter().all(|byte| *byte == 0));
        assert_eq!(whole[48..], [148, 149]);
        for start in 0..50 {
            for end in start..=50 {
                let read = |range: Range<u64>| {
                    Ok(stored[range.start as usize..range.end as usize].to_vec())
                };
                let got = patches.read(start..end, read).unwrap();
                assert_eq!(got, whole[start as usize..end as usize], "{start}..{end}");
            }
        }
    }
}
