//! The same clip without its sound, for browsers that cannot decode G.711.
//!
//! Each box of a sound track (`trak`, `trex`, `traf`) gets the type `free`, which every reader
//! skips (ISO/IEC 14496-12 8.1.2). All offsets stay, so a range of this file is the same range of
//! the stored one with some types changed. The stored file is the evidence and never changes.

use std::ops::Range;

use super::{ClipFault, ReadRange};

/// The type that a reader skips.
const FREE: [u8; 4] = *b"free";

/// Where the types lie that change; rising offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patches {
    names: Vec<u64>,
}

impl Patches {
    /// Patches at these offsets.
    pub(super) fn new(mut names: Vec<u64>) -> Patches {
        names.sort_unstable();
        names.shrink_to_fit();
        Patches { names }
    }

    /// True if the file has no sound.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Changes the types in `bytes`, which begin at `offset` of the stored file.
    pub fn apply(&self, offset: u64, bytes: &mut [u8]) {
        let end = offset.saturating_add(bytes.len() as u64);
        let first = self.names.partition_point(|name| name.saturating_add(4) <= offset);
        for name in self.names[first..].iter().take_while(|name| **name < end) {
            for (at, byte) in (*name..).zip(FREE) {
                let place = at.checked_sub(offset).and_then(|at| usize::try_from(at).ok());
                if let Some(place) = place.and_then(|at| bytes.get_mut(at)) {
                    *place = byte;
                }
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
        let patches = Patches::new(vec![40, 3, 9]);
        let stored: Vec<u8> = (100..150).collect();
        let mut whole = stored.clone();
        patches.apply(0, &mut whole);
        assert_eq!(
            (&whole[3..7], &whole[9..13], &whole[40..44]),
            (&FREE[..], &FREE[..], &FREE[..])
        );
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
