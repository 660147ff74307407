//! MQTT packets byte by byte, for tests whose client must not behave.
//!
//! What belongs here: writing and reading one packet. What does not: what is in it, TLS, sessions.

use std::io::Read;

/// A text with its length in front.
pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// A packet: its first byte, its remaining length, the parts of its body.
pub fn packet(first: u8, body: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut left = body.iter().map(|part| part.len()).sum::<usize>();
    loop {
        let byte = (left % 128) as u8;
        left /= 128;
        packet.push(if left > 0 { byte | 0x80 } else { byte });
        if left == 0 {
            break;
        }
    }
    body.iter().for_each(|part| packet.extend_from_slice(part));
    packet
}

/// The next packet: its first byte and its body.
pub fn read_packet(from: &mut impl Read) -> std::io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    let first = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        from.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok((first, body))
}
