//! The hash chain over the records of the ring: each record names the digest of the one before, so that nothing can be taken
//! out, put in or exchanged later without breaking it.
//!
//! What belongs here: the link function. What does not: where records lie (storage), signing (evidence).

use crate::units::Digest;

/// The digest of a record: SHA-256 over `b"taimat-chain-v1"`, the digest before it, and the record's own core bytes, which hold
/// the digest of its content.
pub fn link(previous: &Digest, core: &[u8]) -> Digest {
    let mut bytes = Vec::with_capacity(15 + 32 + core.len());
    bytes.extend_from_slice(b"taimat-chain-v1");
    bytes.extend_from_slice(&previous.0);
    bytes.extend_from_slice(core);
    Digest::of(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_depends_on_what_went_before_and_on_every_byte() {
        let first = link(&Digest::default(), b"a");
        assert_ne!(link(&first, b"b"), link(&Digest::default(), b"b"));
        assert_ne!(link(&first, b"b"), link(&first, b"c"));
        assert_eq!(&first.hex()[..8], "6a641af9");
    }
}
