//! Hash chain: each record contains the digest of the record before it.
//!
//! A record cannot be removed, inserted or exchanged without breaking the chain.

use crate::units::Digest;

/// The chain digest of a record: SHA-256 over `b"taimat-chain-v1"`, the digest of the record
/// before, and the core bytes of the record, which contain the digest of its content.
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
    fn a_link_depends_on_its_predecessor_and_its_bytes() {
        let first = link(&Digest::default(), b"a");
        assert_ne!(link(&first, b"b"), link(&Digest::default(), b"b"));
        assert_ne!(link(&first, b"b"), link(&first, b"c"));
        assert_eq!(&first.hex()[..8], "6a641af9");
    }
}
