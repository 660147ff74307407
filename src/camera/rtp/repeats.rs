//! Repeats: knows packets that come a second time.
//!
//! Some cameras and relays send packets twice, whole pictures twice, or after a stall the GOP before
//! it, also over TCP. A packet with the sequence number, the time stamp and the payload of one of
//! the latest is no new one: taken again it would double a picture, or break the one that it stands
//! in.

use super::header::Header;
use super::limits::REPEATS_MAX;

/// What makes a packet itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packet {
    seq: u16,
    marker: bool,
    time: u32,
    len: u32,
    crc: u32,
}

/// The latest packet of its sequence number.
#[derive(Debug, Clone, Copy)]
struct Kept {
    packet: Packet,
    /// Its place among the new packets of the track.
    at: u64,
    /// Another packet had the same number shortly before.
    shared: bool,
}

/// The latest packets of a track.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// By the low bits of the sequence number; empty until the first packet.
    latest: Vec<Option<Kept>>,
    count: u64,
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
        let (seq, time, marker) = (header.seq, header.time, header.marker);
        let len = payload.len() as u32;
        let packet = Packet { seq, time, marker, len, crc: crc32c::crc32c(payload) };
        if self.latest.is_empty() {
            self.latest.resize(REPEATS_MAX, None);
        }
        let place = &mut self.latest[usize::from(seq) % REPEATS_MAX];
        let recent =
            |known: &Kept| known.packet.seq == seq && self.count - known.at <= REPEATS_MAX as u64;
        let before = place.filter(recent);
        if before.is_some_and(|known| known.packet == packet && !known.shared) {
            return Known::Repeated;
        }
        self.count += 1;
        *place = Some(Kept { packet, at: self.count, shared: before.is_some() });
        if before.is_some() { Known::NumberReused } else { Known::New }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each packet (sequence number, payload) is a repetition.
    fn judged(packets: impl IntoIterator<Item = (u16, u32)>) -> Vec<bool> {
        let mut repeats = Repeats::default();
        let of = |(seq, payload): (u16, u32)| {
            let mut bytes = vec![0x80, 96];
            bytes.extend(seq.to_be_bytes());
            bytes.extend([0; 8]);
            bytes.extend(payload.to_be_bytes());
            let header = Header::parse(&bytes).unwrap();
            let payload = header.payload.clone();
            repeats.compare(&header, &bytes[payload]) == Known::Repeated
        };
        packets.into_iter().map(of).collect()
    }

    #[test]
    fn a_run_of_four_thousand_packets_is_known_again() {
        let run = || (0..4000).map(|at| (60_000_u16.wrapping_add(at), u32::from(at)));
        let found = judged(run().chain(run()).chain(run()));
        assert!(found[..4000].iter().all(|again| !again));
        assert!(found[4000..].iter().all(|again| *again));
    }

    #[test]
    fn a_number_that_comes_again_after_a_wrap_is_new() {
        let found = judged((0..=65_536_u32).map(|at| (at as u16, at % 65_536)));
        assert!(found.iter().all(|again| !again));
    }

    #[test]
    fn numbers_that_several_packets_share_say_nothing() {
        let found = judged([(7, 1), (7, 2), (7, 2), (7, 1), (8, 1), (8, 1)]);
        assert_eq!(found, [false, false, false, false, false, true]);
    }
}
