//! RTCP: Sender Reports and BYE of compound packets (RFC 3550 6), read tolerantly.

/// Packets of one compound that are looked at: real ones have two or three.
const PACKETS_MAX: usize = 32;
/// Seconds from 1900, where NTP begins, to 1970.
const NTP_TO_UNIX: i64 = 2_208_988_800;

/// What an RTCP packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtcpItem {
    /// A Sender Report: the camera's wall clock at an RTP time stamp.
    SenderReport {
        /// The source that it is about.
        ssrc: u32,
        /// Microseconds since 1970 by the camera's clock. A camera without a clock says what it
        /// likes.
        wall_micros: i64,
        /// The RTP time stamp of the same instant.
        rtp_time: u32,
    },
    /// The source leaves.
    Bye {
        /// The source, 0 where the packet names none.
        ssrc: u32,
    },
}

/// Reads a compound packet. What cannot be read is passed over; what follows a wrong length is not
/// looked at.
pub fn read(compound: &[u8]) -> impl Iterator<Item = RtcpItem> + '_ {
    let mut rest = compound;
    let packets = std::iter::from_fn(move || {
        let [first, kind, high, low, ..] = *rest else { return None };
        let length = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        if first >> 6 != 2 {
            return None;
        }
        // The last packet may be cut off: its beginning is still of use.
        let (packet, more) = rest.split_at(length.min(rest.len()));
        rest = more;
        Some((kind, packet))
    });
    packets.take(PACKETS_MAX).filter_map(|(kind, packet)| item(kind, packet))
}

fn item(kind: u8, packet: &[u8]) -> Option<RtcpItem> {
    let word = |at: usize| {
        packet.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
    };
    match kind {
        200 => {
            let micros = (u64::from(word(12)?) * 1_000_000) >> 32;
            let seconds = i64::from(word(8)?) - NTP_TO_UNIX;
            let wall_micros = seconds * 1_000_000 + micros as i64;
            Some(RtcpItem::SenderReport { ssrc: word(4)?, wall_micros, rtp_time: word(16)? })
        }
        203 => Some(RtcpItem::Bye { ssrc: word(4).unwrap_or(0) }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(seconds: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 200, 0, 6, 0, 0, 0, 7];
        packet.extend(seconds.to_be_bytes());
        packet.extend([0x80, 0, 0, 0, 0, 0, 0, 90, 0, 0, 0, 1, 0, 0, 0, 2]);
        packet
    }

    #[test]
    fn a_compound_yields_its_report_and_its_bye() {
        let mut compound = report(2_208_988_801);
        compound.extend([0x81, 202, 0, 1, 0, 0, 0, 7]);
        compound.extend([0x81, 203, 0, 1, 0, 0, 0, 7]);
        let items: Vec<RtcpItem> = read(&compound).collect();
        let wall_micros = 1_500_000;
        assert_eq!(
            items,
            [
                RtcpItem::SenderReport { ssrc: 7, wall_micros, rtp_time: 90 },
                RtcpItem::Bye { ssrc: 7 }
            ]
        );
    }

    #[test]
    fn a_clock_of_1900_and_of_2036_is_read() {
        for (seconds, wall) in [(0, -2_208_988_800), (u32::MAX, 2_085_978_495)] {
            let report = report(seconds);
            let Some(RtcpItem::SenderReport { wall_micros, .. }) = read(&report).next() else {
                panic!("no report");
            };
            assert_eq!(wall_micros, wall * 1_000_000 + 500_000);
        }
    }

    #[test]
    fn cut_and_foreign_packets_yield_what_is_whole() {
        let whole = report(2_208_988_801);
        for cut in 0..whole.len() {
            let items = read(&whole[..cut]).count();
            assert_eq!(items, usize::from(cut >= 20), "{cut} bytes");
        }
        assert_eq!(read(&[0x81, 203, 0, 0]).next(), Some(RtcpItem::Bye { ssrc: 0 }));
        assert_eq!(read(&[0x80, 201, 0, 1, 0, 0, 0, 7, 1, 2, 3, 4]).count(), 0);
        let many = [0x80, 203, 0, 0].repeat(10_000);
        assert_eq!(read(&many).count(), PACKETS_MAX);
    }
}
