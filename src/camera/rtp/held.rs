//! Packets that are held back, in buffers that are used again.

use super::header::Header;
use super::limits::REORDER_MAX;
use crate::units::MonoTime;

/// A packet that is held back.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    pub(super) seq: u16,
    pub(super) ssrc: u32,
    pub(super) arrival: MonoTime,
    pub(super) lost: u32,
    pub(super) jumped: bool,
}

/// Copies a packet into a buffer of `pool`.
pub(super) fn hold(
    pool: &mut Vec<Vec<u8>>,
    bytes: &[u8],
    header: &Header,
    arrival: MonoTime,
) -> Held {
    let mut buffer = pool.pop().unwrap_or_default();
    buffer.clear();
    buffer.extend_from_slice(bytes);
    let (seq, ssrc) = (header.seq, header.ssrc);
    Held { bytes: buffer, seq, ssrc, arrival, lost: 0, jumped: false }
}

/// Gives a buffer back to `pool`.
pub(super) fn recycle(pool: &mut Vec<Vec<u8>>, bytes: Vec<u8>) {
    if pool.len() < REORDER_MAX {
        pool.push(bytes);
    }
}
