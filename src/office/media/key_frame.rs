//! The key frame of a fragment as an access unit with its checked parameter sets.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::boxes::{FoundBox, header};
use super::clip_index::ClipIndex;
use super::limits::{KEY_FRAME_MAX, MOOF_MAX};
use super::samples::sample_runs;
use super::walk::{traf_number, trafs};
use super::{ClipFault, ReadRange};
use crate::camera::rtp::params_of_sets;
use crate::camera::{Frame, StreamRole};
use crate::format::sample_entry::VideoEntry;
use crate::units::{MonoTime, Timestamp, WallTime};

/// The key frame that fragment `number` of a clip starts with, dated by the index.
///
/// Size and codec come from the parameter sets, not from what the file states beside them: they
/// decide how much memory a decoder takes.
///
/// # Errors
/// There is no such fragment, it starts with no key frame, or its boxes are damaged.
pub fn key_frame(
    index: &ClipIndex,
    number: usize,
    mut read: impl ReadRange,
) -> Result<Frame, ClipFault> {
    let track = index.video().ok_or(ClipFault::Absent("no pictures"))?;
    let entry = index.fragments.get(number).ok_or(ClipFault::Absent("no such fragment"))?;
    if !entry.key || !entry.pictures {
        return Err(ClipFault::Absent("the fragment starts with no key frame"));
    }
    let damaged = |what| ClipFault::Damaged { offset: entry.offset, what };
    let mut bytes = |range: Range<u64>| {
        let len = range.end - range.start;
        let bytes = read(range).map_err(ClipFault::Unreadable)?;
        let whole = bytes.len() as u64 == len;
        whole.then_some(bytes).ok_or_else(|| ClipFault::Unreadable("the file is too short".into()))
    };
    let start = bytes(entry.offset..entry.offset + entry.length.min(MOOF_MAX))?;
    let (_, len) = header(&start, 0)
        .filter(|(name, len)| name == b"moof" && *len <= start.len())
        .ok_or(damaged("no moof"))?;
    let sample = first_sample(&start[..len], track.number).map_err(damaged)?;
    if sample.end - sample.start > KEY_FRAME_MAX {
        return Err(ClipFault::TooLarge("a key frame has more than 9 MiB"));
    }
    if sample.end > entry.length {
        return Err(damaged("a sample ends behind its fragment"));
    }
    let data = bytes(entry.offset + sample.start..entry.offset + sample.end)?;
    let video = VideoEntry::read(&track.entry).map_err(|_| damaged("no parameter sets"))?;
    if !video.sets.iter().all(|set| is_one_nal(set)) || !are_nals(&data) {
        return Err(damaged("a NAL unit with another one inside"));
    }
    let params = params_of_sets(video.codec, &video.sets)
        .map_err(|_| damaged("parameter sets that cannot be read"))?;
    let wall = WallTime(entry.wall_us);
    Ok(Frame {
        role: StreamRole::Main,
        params: Arc::new(params),
        data: Bytes::from(data),
        key: true,
        pts: 0,
        run: 0,
        at: Timestamp { mono: MonoTime(0), wall, quality: index.clock },
        lost: 0,
    })
}

/// The place of the first sample of a track, from the start of its `moof`.
fn first_sample(moof: &[u8], track: u32) -> Result<Range<u64>, &'static str> {
    for traf in trafs(moof, 8..moof.len())? {
        if traf_number(moof, &traf)? == track {
            return sample_of(moof, &traf);
        }
    }
    Err("no samples of the track")
}

fn sample_of(moof: &[u8], traf: &FoundBox) -> Result<Range<u64>, &'static str> {
    let runs = sample_runs(moof, traf)?;
    let run = runs.first().ok_or("a traf without samples")?;
    Ok(run.place.start..run.place.start.saturating_add(run.first))
}

/// True if all length-prefixed NAL units of a sample are one NAL unit each.
fn are_nals(sample: &[u8]) -> bool {
    let mut rest = sample;
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        match tail.split_at_checked(length) {
            Some((nal, behind)) if is_one_nal(nal) => rest = behind,
            _ => return false,
        }
    }
    rest.is_empty()
}

/// True without bytes that a decoder takes for the start of a further NAL unit (H.264 7.4.1). A
/// parameter set hidden so would evade the check of the picture's size.
fn is_one_nal(nal: &[u8]) -> bool {
    let zeros = nal.iter().rev().take_while(|byte| **byte == 0).count();
    !nal[..nal.len() - zeros].windows(3).any(|w| w[0] == 0 && w[1] == 0 && w[2] <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nal_unit_inside_another_is_seen() {
        assert!(are_nals(&[0, 0, 0, 4, 0x65, 0, 0, 3, 0, 0, 0, 3, 9, 0, 0]));
        assert!(!are_nals(&[0, 0, 0, 5, 0x65, 0, 0, 1, 0x67]));
        assert!(!are_nals(&[0, 0, 0, 4, 0, 0, 1, 0x67]));
        assert!(!are_nals(&[0, 0, 0, 9, 0x65]) && !are_nals(&[0, 0]));
    }
}
