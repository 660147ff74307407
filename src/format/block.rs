//! Blocks: alignment, padding and free space of the files on the card.

use super::mp4::box_at;

/// Alignment of everything on the card, bytes. Cards tear whole pages.
pub const BLOCK: u64 = 4096;

/// Pads to the next block boundary with a `free` box. Adds a block if the rest is too small for a
/// box header.
pub fn pad(bytes: &mut Vec<u8>) {
    let rest = (BLOCK as usize - bytes.len() % BLOCK as usize) % BLOCK as usize;
    let rest = if rest > 0 && rest < 8 { rest + BLOCK as usize } else { rest };
    if rest > 0 {
        bytes.extend((rest as u32).to_be_bytes());
        bytes.extend(b"free");
        bytes.resize(bytes.len() + rest - 8, 0);
    }
}

/// True when the `free` box of [`pad`] leads from `end` to `padded`. No checksum covers this box.
pub fn is_padded(bytes: &[u8], end: usize, padded: usize) -> bool {
    padded == end || box_at(bytes, end) == Some((*b"free", padded - end))
}

/// One block that begins a `free` box over `rest` bytes; empty if `rest` is 0.
pub fn free_block(rest: u64) -> Vec<u8> {
    if rest == 0 {
        return Vec::new();
    }
    let mut block = Vec::with_capacity(BLOCK as usize);
    block.extend((rest as u32).to_be_bytes());
    block.extend(b"free");
    block.resize(BLOCK as usize, 0);
    block
}

/// Bytes of a record of `len` bytes with its padding.
pub fn padded(len: u64) -> u64 {
    let rest = (BLOCK - len % BLOCK) % BLOCK;
    len + if rest > 0 && rest < 8 { rest + BLOCK } else { rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_always_leaves_room_for_a_box_header() {
        for len in [1, 4088, 4089, 4095, 4096, 4097, 8190] {
            let mut bytes = vec![1; len];
            pad(&mut bytes);
            assert_eq!((bytes.len() as u64, bytes.len() % 4096), (padded(len as u64), 0), "{len}");
            if bytes.len() > len {
                assert_eq!(box_at(&bytes, len), Some((*b"free", bytes.len() - len)), "{len}");
            }
        }
    }
}
