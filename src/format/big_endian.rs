//! Big-endian fields: reads the integers and digests of records and heads.

use crate::units::Digest;

/// Reads big-endian integers from the front of a slice.
pub(super) struct BigEndianReader<'a> {
    rest: &'a [u8],
}

impl<'a> BigEndianReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> BigEndianReader<'a> {
        BigEndianReader { rest: bytes }
    }

    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(front)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn digest(&mut self) -> Option<Digest> {
        Some(Digest(self.take(32)?.try_into().ok()?))
    }
}
