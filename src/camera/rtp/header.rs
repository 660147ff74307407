//! RTP header: reads one packet (RFC 3550 5.1), tolerant where the payload is still found.

use std::ops::Range;

/// Length of the fixed header, bytes.
const FIXED: usize = 12;

/// The fields of an RTP header that are used, and where the payload lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The marker bit.
    pub(super) marker: bool,
    /// The payload type.
    pub(super) payload_type: u8,
    /// The sequence number.
    pub(super) seq: u16,
    /// The time stamp.
    pub(super) time: u32,
    /// The synchronisation source.
    pub(super) ssrc: u32,
    /// The payload within the packet, without CSRCs, extension and padding.
    pub(super) payload: Range<usize>,
    /// The padding length cannot be right; the payload reaches to the end.
    pub(super) bad_padding: bool,
}

impl Header {
    /// Reads the header of a packet.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Header, &'static str> {
        let fixed: &[u8; FIXED] = bytes.first_chunk().ok_or("RTP packet under 12 bytes")?;
        if fixed[0] >> 6 != 2 {
            return Err("RTP version other than 2");
        }
        let mut start = FIXED + 4 * usize::from(fixed[0] & 0x0f);
        if fixed[0] & 0x10 != 0 {
            let length = bytes.get(start + 2..start + 4).ok_or("RTP header extension cut off")?;
            start += 4 + 4 * usize::from(u16::from_be_bytes([length[0], length[1]]));
        }
        if start > bytes.len() {
            return Err("RTP header longer than its packet");
        }
        let padding = match bytes.last() {
            Some(last) if fixed[0] & 0x20 != 0 => usize::from(*last),
            _ => 0,
        };
        let padded = fixed[0] & 0x20 != 0;
        let bad_padding = padded && (padding == 0 || padding > bytes.len() - start);
        let end = if bad_padding { bytes.len() } else { bytes.len() - padding };
        Ok(Header {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            seq: u16::from_be_bytes([fixed[2], fixed[3]]),
            time: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            payload: start..end,
            bad_padding,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![first, 0xe0, 1, 2, 0, 0, 0, 5, 0, 0, 0, 9];
        packet.extend_from_slice(rest);
        packet
    }

    #[test]
    fn csrcs_extension_and_padding_are_no_payload() {
        let rest = [0, 0, 0, 1, 0xbe, 0xde, 0, 1, 9, 9, 9, 9, 7, 8, 0, 2];
        let packet = packet(0xb1, &rest);
        let header = Header::parse(&packet).unwrap();
        assert_eq!(packet[header.payload.clone()], [7, 8]);
        assert!(header.marker && header.payload_type == 96 && !header.bad_padding);
        assert_eq!((header.seq, header.time, header.ssrc), (0x102, 5, 9));
    }

    #[test]
    fn an_impossible_padding_is_payload() {
        for last in [0, 200] {
            let packet = packet(0xa0, &[7, last]);
            let header = Header::parse(&packet).unwrap();
            assert!(header.bad_padding && packet[header.payload] == [7, last]);
        }
    }

    #[test]
    fn a_cut_header_is_refused() {
        for bad in
            [packet(0x40, &[1]), packet(0x8f, &[1]), packet(0x90, &[0, 0, 0, 9]), vec![0x80; 11]]
        {
            assert!(Header::parse(&bad).is_err(), "{bad:?}");
        }
    }
}
