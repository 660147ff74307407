//! RTP packetisation of the simulated camera: H.264 payloads, Sender Reports, interleaving in RTSP.

use std::time::Duration;

/// Largest RTP payload: it fits an Ethernet frame. Real cameras keep this limit inside TCP, too.
const RTP_MAX: usize = 1400;

/// An RTP payload.
pub(super) struct Payload {
    pub(super) bytes: Vec<u8>,
    /// True for the last payload of its NAL unit.
    pub(super) ends_nal: bool,
}

/// RTP payloads of a NAL unit (RFC 6184 5.6, 5.8).
pub(super) fn payloads(nal: &[u8]) -> Vec<Payload> {
    if nal.len() <= RTP_MAX {
        return vec![Payload { bytes: nal.to_vec(), ends_nal: true }];
    }
    let pieces: Vec<&[u8]> = nal[1..].chunks(RTP_MAX - 2).collect();
    let last = pieces.len() - 1;
    let fu = |(i, piece): (usize, &&[u8])| {
        let marks = if i == 0 { 0x80 } else { 0 } | if i == last { 0x40 } else { 0 };
        let mut bytes = vec![nal[0] & 0xe0 | 28, marks | nal[0] & 0x1f];
        bytes.extend_from_slice(piece);
        Payload { bytes, ends_nal: i == last }
    };
    pieces.iter().enumerate().map(fu).collect()
}

/// An RTP packet of payload type 96 (RFC 3550 5.1).
pub(super) fn packet(seq: u16, time: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96 | if marker { 0x80 } else { 0 }];
    packet.extend(seq.to_be_bytes());
    packet.extend(time.to_be_bytes());
    packet.extend(*b"taim");
    packet.extend_from_slice(payload);
    packet
}

/// A Sender Report (RFC 3550 6.4.1); `now` is the time since 1970.
pub(super) fn sender_report(now: Duration, time: u32, packets: u32, bytes: u32) -> Vec<u8> {
    let mut report = vec![0x80, 200, 0, 6];
    report.extend(*b"taim");
    report.extend(((now.as_secs() + 2_208_988_800) as u32).to_be_bytes());
    report
        .extend(((u64::from(now.subsec_nanos()) << 32) / 1_000_000_000).to_be_bytes()[4..].iter());
    for value in [time, packets, bytes] {
        report.extend(value.to_be_bytes());
    }
    report
}

/// Appends a packet, interleaved in the RTSP connection (RFC 2326 10.12).
pub(super) fn interleave(out: &mut Vec<u8>, channel: u8, packet: &[u8]) {
    out.extend([b'$', channel]);
    out.extend((packet.len() as u16).to_be_bytes());
    out.extend_from_slice(packet);
}
