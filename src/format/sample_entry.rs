//! Video sample entries (ISO/IEC 14496-12 12.1.3, ISO/IEC 14496-15): codec, size, parameter sets.

use super::mp4::{box_at, path};
use crate::camera::Codec;

/// Bytes of a `VisualSampleEntry` before its inner boxes.
const VISUAL: usize = 86;

/// What a video sample entry states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoEntry {
    /// The codec.
    pub codec: Codec,
    /// Picture size in pixels.
    pub size: (u16, u16),
    /// The parameter sets in their order, without lengths or start codes.
    pub sets: Vec<Vec<u8>>,
}

impl VideoEntry {
    /// Reads the sample entry at the start of `bytes`.
    ///
    /// # Errors
    /// Names what is missing or damaged.
    pub fn read(bytes: &[u8]) -> Result<VideoEntry, String> {
        let (name, len) = box_at(bytes, 0).ok_or("no sample entry")?;
        let size = (be_u16(bytes, 32), be_u16(bytes, 34));
        let (Some(width), Some(height)) = size else {
            return Err("short sample entry".into());
        };
        let inner = bytes.get(VISUAL..len).ok_or("short sample entry")?;
        let (codec, sets) = match &name {
            b"avc1" | b"avc3" => (Codec::H264, avc_sets(path(inner, &[b"avcC"]).ok_or("no avcC")?)),
            b"hvc1" | b"hev1" => {
                (Codec::H265, hevc_sets(path(inner, &[b"hvcC"]).ok_or("no hvcC")?))
            }
            _ => {
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(format!("codec {name} is not H.264 or H.265"));
            }
        };
        let sets = sets.ok_or("damaged parameter sets")?;
        Ok(VideoEntry { codec, size: (width, height), sets })
    }

    /// The parameter sets as Annex B: `00 00 00 01` before each.
    pub fn annex_b(&self) -> Vec<u8> {
        let starts = |set: &Vec<u8>| [0, 0, 0, 1].into_iter().chain(set.clone());
        self.sets.iter().flat_map(starts).collect()
    }
}

fn avc_sets(config: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    let mut at = 6;
    for _ in 0..config.get(5)? & 31 {
        at = take_set(config, at, &mut out)?;
    }
    let pictures = *config.get(at)?;
    at += 1;
    for _ in 0..pictures {
        at = take_set(config, at, &mut out)?;
    }
    Some(out)
}

fn hevc_sets(config: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    let mut at = 23;
    for _ in 0..*config.get(22)? {
        let count = be_u16(config, at + 1)?;
        at += 3;
        for _ in 0..count {
            at = take_set(config, at, &mut out)?;
        }
    }
    Some(out)
}

fn take_set(config: &[u8], at: usize, out: &mut Vec<Vec<u8>>) -> Option<usize> {
    let len = usize::from(be_u16(config, at)?);
    out.push(config.get(at + 2..at + 2 + len)?.to_vec());
    Some(at + 2 + len)
}

fn be_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8; 4], config: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut out = vec![0; VISUAL];
        out[4..8].copy_from_slice(name);
        out[32..36].copy_from_slice(&[5, 0, 2, 208]);
        out.extend(((body.len() + 8) as u32).to_be_bytes());
        out.extend(config);
        out.extend(body);
        let len = out.len() as u32;
        out[..4].copy_from_slice(&len.to_be_bytes());
        out
    }

    #[test]
    fn sets_of_both_codecs_are_read() {
        let avc = [1, 77, 0, 30, 255, 0xe1, 0, 2, 0x67, 7, 2, 0, 1, 0x68, 0, 2, 0x68, 9];
        let read = VideoEntry::read(&entry(b"avc1", b"avcC", &avc)).unwrap();
        assert_eq!((read.codec, read.size), (Codec::H264, (1280, 720)));
        assert_eq!(read.sets, [vec![0x67, 7], vec![0x68], vec![0x68, 9]]);
        assert_eq!(read.annex_b()[..6], [0, 0, 0, 1, 0x67, 7]);
        let mut hevc = vec![1; 22];
        hevc.extend([2, 32, 0, 1, 0, 2, 0x40, 1, 33, 0, 1, 0, 1, 0x42]);
        let read = VideoEntry::read(&entry(b"hvc1", b"hvcC", &hevc)).unwrap();
        assert_eq!((read.codec, read.sets), (Codec::H265, vec![vec![0x40, 1], vec![0x42]]));
    }

    #[test]
    fn a_truncated_entry_is_an_error() {
        let avc = [1, 77, 0, 30, 255, 0xe1, 0, 2, 0x67, 7, 1, 0, 1, 0x68];
        let whole = entry(b"avc1", b"avcC", &avc);
        for len in 0..whole.len() {
            assert!(VideoEntry::read(&whole[..len]).is_err(), "{len} bytes");
        }
        assert!(VideoEntry::read(&entry(b"mp4v", b"esds", &avc)).unwrap_err().contains("mp4v"));
    }
}
