//! Journal slot: encodes one block with kind, place, generation, key and bytes.
//!
//! Layout: [`crate::format::on_disk`].

use std::collections::BTreeMap;

use crate::format::block::BLOCK;
use crate::format::card_id::{CARD_ID, CardId};

pub(super) const FREE: u8 = 0;
pub(super) const ENTRY: u8 = 1;
pub(super) const CELL: u8 = 2;
pub(super) const START: u8 = 3;
/// Bytes of a slot before its content.
const HEADER: usize = 24 + CARD_ID;

/// The content of a slot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slot {
    pub(super) kind: u8,
    /// Position of the entry in its batch, from 0.
    pub(super) place: u8,
    pub(super) generation: u64,
    pub(super) key: u64,
    /// The card that the slot belongs to.
    pub(super) card: CardId,
    pub(super) bytes: Vec<u8>,
}

impl Slot {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK as usize);
        block.extend(b"TMJ2");
        block.extend([self.kind, self.place]);
        block.extend((self.bytes.len() as u16).to_be_bytes());
        block.extend(self.generation.to_be_bytes());
        block.extend(self.key.to_be_bytes());
        block.extend(self.card.bytes());
        block.extend(&self.bytes);
        block.resize(BLOCK as usize - 4, 0);
        let crc = crc32c::crc32c(&block);
        block.extend(crc.to_be_bytes());
        block
    }

    /// The entry whose tombstone this slot is.
    pub(super) fn tombstone_of(&self) -> Option<u64> {
        let bytes =
            self.bytes.as_slice().try_into().ok().filter(|_| self.kind == FREE && self.key == 0);
        bytes.map(u64::from_be_bytes)
    }

    pub(super) fn decode(block: &[u8]) -> Option<Slot> {
        let (covered, stored) = block.split_at_checked(BLOCK as usize - 4)?;
        if covered[..4] != *b"TMJ2" || crc32c::crc32c(covered).to_be_bytes() != stored {
            return None;
        }
        let len = u16::from_be_bytes([covered[6], covered[7]]) as usize;
        let generation = u64::from_be_bytes(covered[8..16].try_into().ok()?);
        let key = u64::from_be_bytes(covered[16..24].try_into().ok()?);
        let card = CardId::read(&covered[24..])?;
        let bytes = covered.get(HEADER..HEADER + len)?.to_vec();
        Some(Slot { kind: covered[4], place: covered[5], generation, key, card, bytes })
    }
}

/// A slot to be written, without the padding of its block.
#[derive(Debug, Clone)]
pub(super) enum Block {
    Slot(Slot),
    /// The newer of the two copies, read when it is written. After a boot, up to 100,000 slots may
    /// wait.
    Again,
}

pub(super) type Blocks = BTreeMap<usize, Block>;

/// The block of a slot; zeros for none.
pub(super) fn encoded(slot: Option<&Slot>) -> Vec<u8> {
    slot.map_or_else(|| vec![0; BLOCK as usize], Slot::encode)
}

/// The copy that counts, and whether it is copy B.
pub(super) fn newer(a: &[u8], b: &[u8]) -> Option<(Slot, bool)> {
    let (slot_a, slot_b) = (Slot::decode(a), Slot::decode(b));
    let in_b = slot_b
        .as_ref()
        .is_some_and(|b| slot_a.as_ref().is_none_or(|a| a.generation <= b.generation));
    if in_b { Some((slot_b?, true)) } else { Some((slot_a?, false)) }
}

/// Returns zeros for a copy that belongs to another card, and whether it does.
pub(super) fn ours(card: CardId, copy: &[u8]) -> (&[u8], bool) {
    let foreign = Slot::decode(copy).is_some_and(|slot| slot.card != card);
    (if foreign { &[0; BLOCK as usize] } else { copy }, foreign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_bytes_are_fixed() {
        let card = CardId::read(b"0123456789abcdef").unwrap();
        let slot =
            Slot { kind: ENTRY, place: 0, generation: 2, key: 3, card, bytes: b"hi".to_vec() };
        let block = slot.encode();
        assert_eq!(
            &block[..42],
            b"TMJ2\x01\x00\x00\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x030123456789abcdefhi"
        );
        assert_eq!(block.len(), 4096);
        assert_eq!(Slot::decode(&block), Some(slot));
        let mut damaged = block;
        damaged[3000] = 1;
        assert_eq!(Slot::decode(&damaged), None);
    }
}
