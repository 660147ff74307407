//! ULID generator (github.com/ulid/spec): 48 bits of milliseconds and 80 random bits in Crockford's
//! base 32.
//!
//! The seed comes from the caller, so that a simulation repeats its ids.

use crate::units::{Digest, WallTime};

/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A source of ULIDs: unpredictable without its seed.
#[derive(Debug)]
pub struct Ulids {
    seed: [u8; 32],
    made: u64,
}

impl Ulids {
    /// A source from 32 random bytes.
    pub fn new(seed: [u8; 32]) -> Ulids {
        Ulids { seed, made: 0 }
    }

    /// The next id, at the wall time `at`. Times before 1970 count as 1970.
    pub fn next(&mut self, at: WallTime) -> String {
        self.made += 1;
        let mut bytes = self.seed.to_vec();
        bytes.extend(self.made.to_be_bytes());
        let random = Digest::of(&bytes).0;
        let millis = (at.0.max(0) / 1000) as u128 & 0xffff_ffff_ffff;
        let tail = random[..10].iter().fold(0_u128, |value, byte| value << 8 | u128::from(*byte));
        let value = millis << 80 | tail;
        (0..26)
            .rev()
            .map(|digit| char::from(ALPHABET[(value >> (digit * 5)) as usize & 31]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulids_differ_sort_by_time_and_repeat_with_their_seed() {
        let (mut one, mut two) = (Ulids::new([1; 32]), Ulids::new([1; 32]));
        let early = one.next(WallTime(1_000_000));
        assert_eq!(early, two.next(WallTime(1_000_000)));
        assert_ne!(early, one.next(WallTime(1_000_000)));
        assert!(early < one.next(WallTime(1_790_000_000_000_000)));
        assert_eq!((early.len(), &early[..10]), (26, "00000000Z8"));
    }
}
