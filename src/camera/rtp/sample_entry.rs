//! Sample entry with several picture parameter sets: `retina` writes one.

use crate::camera::TrackParams;
use crate::units::Digest;

/// Largest size of all sets in a sample entry, bytes: that of a segment head (`track_params`).
const ENTRY_MAX: usize = 4096;

/// Adds picture parameter sets to those that a track has.
///
/// # Errors
/// There is no room, or the sample entry is not as expected.
pub(super) fn add_pps(mut params: TrackParams, more: &[Vec<u8>]) -> Result<TrackParams, String> {
    if more.is_empty() {
        return Ok(params);
    }
    let mut added = Vec::new();
    for pps in more {
        let length = u16::try_from(pps.len()).map_err(|_| "a parameter set is too large")?;
        added.extend(length.to_be_bytes());
        added.extend_from_slice(pps);
        params.annex_b.extend([0, 0, 0, 1]);
        params.annex_b.extend_from_slice(pps);
    }
    let entry = &mut params.sample_entry;
    if entry.len() + added.len() > ENTRY_MAX {
        return Err(format!("parameter sets over {ENTRY_MAX} bytes together"));
    }
    let at = insert_place(entry, more.len()).ok_or("a sample entry without its sets")?;
    let (place, config) = at;
    entry.splice(place..place, added.iter().copied());
    grow(entry, 0, added.len());
    grow(entry, config, added.len());
    params.digest = Digest::of(&params.sample_entry);
    Ok(params)
}

/// Where more sets belong, and where the box begins that holds them. Their number is written.
fn insert_place(entry: &mut [u8], more: usize) -> Option<(usize, usize)> {
    let find = |name: &[u8]| entry.windows(4).position(|window| window == name);
    if let Some(name) = find(b"avcC") {
        // ISO/IEC 14496-15 5.3.3.1: five bytes, then the SPS after their number, then the PPS.
        let sps = name + 4 + 5;
        (entry.get(sps)? & 0x1f == 1).then_some(())?;
        let count = sps + 3 + length(entry, sps + 1)?;
        let end = count + 3 + length(entry, count + 1)?;
        let number = entry.get_mut(count)?;
        *number = number.checked_add(u8::try_from(more).ok()?)?;
        return Some((end, name - 4));
    }
    // 8.3.3.1: 22 bytes, then arrays of NAL units, each after its type and number.
    let name = find(b"hvcC")?;
    let mut at = name + 4 + 22;
    let arrays = *entry.get(at)?;
    at += 1;
    for _ in 0..arrays {
        let kind = entry.get(at)? & 0x3f;
        let count = length(entry, at + 1)?;
        let mut end = at + 3;
        for _ in 0..count {
            end += 2 + length(entry, end)?;
        }
        if kind == 34 {
            let number = u16::try_from(count + more).ok()?.to_be_bytes();
            entry.get_mut(at + 1..at + 3)?.copy_from_slice(&number);
            return Some((end, name - 4));
        }
        at = end;
    }
    None
}

fn length(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 2)?;
    Some(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
}

/// Makes the box at `at` larger.
fn grow(entry: &mut [u8], at: usize, by: usize) {
    if let Some(size) = entry.get_mut(at..at + 4).and_then(|bytes| bytes.first_chunk_mut::<4>()) {
        *size = (u32::from_be_bytes(*size).saturating_add(by as u32)).to_be_bytes();
    }
}
