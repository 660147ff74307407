//! Marker bit: whether a camera sets it at the ends of its pictures, learned from what follows.

use super::limits::{MARKER_PLAIN_PROOFS, MARKER_PROOFS};

/// What is known about the marker bit of this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// Not enough: pictures of several packets, and of one, whose ends it marked.
    Learning(u8, u8),
    /// It ends a picture.
    Right,
    /// It was set within a picture.
    Wrong,
}

impl Default for Marker {
    fn default() -> Marker {
        Marker::Learning(0, 0)
    }
}

impl Marker {
    /// A picture ended because another one began. `marked`: its last packet had the marker bit;
    /// `unmarked`: another one of it had not. A mark on every packet proves little.
    pub(super) fn ended(&mut self, marked: bool, unmarked: bool) {
        let Marker::Learning(proofs, plain) = self else { return };
        match (marked, unmarked) {
            (true, true) => *proofs += 1,
            (true, false) => *plain += 1,
            (false, _) => *plain = 0,
        }
        if *proofs >= MARKER_PROOFS || *plain >= MARKER_PLAIN_PROOFS {
            *self = Marker::Right;
        }
    }
}
