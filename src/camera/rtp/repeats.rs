//! Repeats: knows packets that come a second time.
//!
//! Some cameras and relays send packets twice, also over TCP. A packet with the sequence number, the
//! time stamp and the payload of one of the latest is no new one: taken again it would double a
//! picture, or break the one that it stands in.

use std::collections::VecDeque;

use super::header::Header;
use super::limits::REPEATS_MAX;

/// What makes a packet itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packet {
    seq: u16,
    time: u32,
    marker: bool,
    len: usize,
    crc: u32,
}

/// The latest packets of a track.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    latest: VecDeque<Packet>,
}

impl Repeats {
    /// True if this packet came before. Where another packet had its sequence number, the numbers
    /// say nothing, and no packet is taken for a repetition.
    pub(super) fn is_repetition(&mut self, header: &Header, payload: &[u8]) -> bool {
        let (seq, time, marker, len) = (header.seq, header.time, header.marker, payload.len());
        let packet = Packet { seq, time, marker, len, crc: crc32c::crc32c(payload) };
        let mut same = self.latest.iter().filter(|known| known.seq == seq).peekable();
        if same.peek().is_some() && same.all(|known| *known == packet) {
            return true;
        }
        if self.latest.len() >= REPEATS_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(packet);
        false
    }
}
