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

/// How a packet compares with the latest ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// No packet had its sequence number.
    New,
    /// It came before.
    Repeated,
    /// Another packet had its sequence number: the numbers say nothing, and no packet is taken for
    /// a repetition.
    NumberReused,
}

impl Repeats {
    /// Compares a packet with the latest ones, and keeps it.
    pub(super) fn compare(&mut self, header: &Header, payload: &[u8]) -> Known {
        let (seq, time, marker, len) = (header.seq, header.time, header.marker, payload.len());
        let packet = Packet { seq, time, marker, len, crc: crc32c::crc32c(payload) };
        let mut same = self.latest.iter().filter(|known| known.seq == seq).peekable();
        let reused = same.peek().is_some();
        if reused && same.all(|known| *known == packet) {
            return Known::Repeated;
        }
        if self.latest.len() >= REPEATS_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(packet);
        if reused { Known::NumberReused } else { Known::New }
    }
}
