//! Boxes of ISO/IEC 14496-12 in bytes that a device made: bounded, and strict about lengths.

use std::ops::Range;

use super::limits::BOXES_MAX;

/// A box in a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBox {
    /// Its type.
    pub name: [u8; 4],
    /// Its place, with its header.
    pub place: Range<usize>,
}

impl FoundBox {
    /// The place of its content.
    pub fn content(&self) -> Range<usize> {
        self.place.start + 8..self.place.end
    }
}

/// The boxes that fill `within` of `bytes`.
///
/// # Errors
/// A length does not fit, or there are more than [`BOXES_MAX`].
pub fn children(bytes: &[u8], within: Range<usize>) -> Result<Vec<FoundBox>, &'static str> {
    let mut found = Vec::new();
    let mut at = within.start;
    while at < within.end {
        if found.len() == BOXES_MAX {
            return Err("too many boxes at one level");
        }
        let (name, len) = header(bytes, at).ok_or("a box ends in its header")?;
        let end = at.checked_add(len).filter(|end| *end <= within.end);
        let place = at..end.ok_or("a box ends behind the one around it")?;
        at = place.end;
        found.push(FoundBox { name, place });
    }
    Ok(found)
}

/// Type and length of the box at `at`. A length below that of a header is none.
pub fn header(bytes: &[u8], at: usize) -> Option<([u8; 4], usize)> {
    crate::format::mp4::box_at(bytes, at)
}

/// The first box of a type in `within`.
///
/// # Errors
/// A length does not fit, or there is no such box.
pub fn child(bytes: &[u8], within: Range<usize>, name: &[u8; 4]) -> Result<FoundBox, &'static str> {
    let mut found = children(bytes, within)?.into_iter();
    found.find(|found| found.name == *name).ok_or("a box of the head is missing")
}

/// The box that `names` leads to from `within`, one name for each level.
///
/// # Errors
/// A length does not fit, or a box is missing.
pub fn descend(
    bytes: &[u8],
    within: Range<usize>,
    names: &[&[u8; 4]],
) -> Result<Range<usize>, &'static str> {
    names.iter().try_fold(within, |within, name| Ok(child(bytes, within, name)?.content()))
}

/// 32 bits, big endian.
pub fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_do_not_fit_are_errors() {
        let good = [0, 0, 0, 8, b'f', b'r', b'e', b'e', 0, 0, 0, 9, b'm', b'd', b'a', b't', 7];
        let found = children(&good, 0..good.len()).unwrap();
        assert_eq!(found.iter().map(|b| b.place.clone()).collect::<Vec<_>>(), [0..8, 8..17]);
        for (at, byte) in [(3, 7), (3, 0), (11, 10), (8, 255)] {
            let mut bad = good;
            bad[at] = byte;
            assert!(children(&bad, 0..bad.len()).is_err(), "byte {at} is {byte}");
        }
        let many = [0, 0, 0, 8, b'f', b'r', b'e', b'e'].repeat(BOXES_MAX + 1);
        assert!(children(&many, 0..many.len()).unwrap_err().contains("too many"));
    }
}
