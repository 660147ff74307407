//! Reads the video samples of an MP4 file (ISO/IEC 14496-12 8.6, 8.7) for `eval-motion`: unfragmented files with H.264 or H.265, as
//! cameras' archives and test suites have them.
//!
//! What belongs here: sample tables. What does not: fragmented files; `ffmpeg -c copy` converts them.

use std::sync::Arc;

use bytes::Bytes;

use crate::camera::{Frame, StreamRole, TrackKind, TrackParams};
use crate::format::mp4::{all, box_at, path};
use crate::format::sample_entry::VideoEntry;
use crate::units::{Digest, MonoTime, Timestamp};

/// The video frames of a file in decode order, with `at` counted from 1 s.
///
/// # Errors
/// Names the missing or damaged box.
pub fn frames(file: &[u8]) -> Result<Vec<Frame>, String> {
    let moov = path(file, &[b"moov"]).ok_or("no moov box: not an MP4 file")?;
    let trak = all(moov, b"trak").into_iter().find(|trak| {
        path(trak, &[b"mdia", b"hdlr"]).is_some_and(|hdlr| hdlr.get(8..12) == Some(b"vide"))
    });
    let trak = trak.ok_or("no video track")?;
    let stbl = path(trak, &[b"mdia", b"minf", b"stbl"]).ok_or("no sample table")?;
    let mdhd = path(trak, &[b"mdia", b"mdhd"]).ok_or("no mdhd")?;
    let timescale = read_u32(mdhd, if mdhd.first() == Some(&1) { 20 } else { 12 })?;
    let params = Arc::new(parameters(stbl, timescale)?);
    let sizes = table(stbl, b"stsz")?;
    let count = read_u32(sizes, 8)? as usize;
    let size = |n: usize| match read_u32(sizes, 4) {
        Ok(0) => read_u32(sizes, 12 + 4 * n),
        fixed => fixed,
    };
    let offsets = offsets(stbl, count, size)?;
    let (decode, shift) = (times(stbl, count)?, shifts(stbl, count));
    let keys: Option<Vec<u32>> = table(stbl, b"stss").ok().map(|stss| read_u32s(stss, 8));
    (0..count)
        .map(|n| {
            let start = offsets[n] as usize;
            let data = file
                .get(start..start + size(n)? as usize)
                .ok_or_else(|| format!("sample {n} lies outside the file"))?;
            let pts = decode[n] + shift[n];
            let mono =
                MonoTime(1_000_000 + (pts.max(0) as u64) * 1_000_000 / u64::from(timescale.max(1)));
            let key = keys.as_ref().is_none_or(|keys| keys.contains(&(n as u32 + 1)));
            let at = Timestamp { mono, ..Timestamp::default() };
            Ok(Frame {
                role: StreamRole::Main,
                params: params.clone(),
                data: Bytes::copy_from_slice(data),
                key,
                pts,
                run: 1,
                at,
                lost: 0,
            })
        })
        .collect()
}

/// The parameters of the track with this sample table.
fn parameters(stbl: &[u8], timescale: u32) -> Result<TrackParams, String> {
    let stsd = table(stbl, b"stsd")?;
    let bytes = stsd.get(8..).ok_or("no sample entry")?;
    let entry = VideoEntry::read(bytes)?;
    let (_, len) = box_at(bytes, 0).ok_or("no sample entry")?;
    let sample_entry = bytes[..len.min(bytes.len())].to_vec();
    let digest = Digest::of(&sample_entry);
    Ok(TrackParams {
        kind: TrackKind::Video,
        codec: entry.codec,
        timescale,
        annex_b: entry.annex_b(),
        size: entry.size,
        sample_entry,
        digest,
    })
}

fn offsets(
    stbl: &[u8],
    count: usize,
    size: impl Fn(usize) -> Result<u32, String>,
) -> Result<Vec<u64>, String> {
    let chunks: Vec<u64> = match table(stbl, b"stco") {
        Ok(stco) => read_u32s(stco, 8).into_iter().map(u64::from).collect(),
        Err(_) => read_u32s(table(stbl, b"co64")?, 8)
            .chunks_exact(2)
            .map(|pair| u64::from(pair[0]) << 32 | u64::from(pair[1]))
            .collect(),
    };
    let runs = read_u32s(table(stbl, b"stsc")?, 8);
    let mut out = Vec::with_capacity(count);
    for (chunk, start) in chunks.iter().enumerate() {
        let run = runs
            .chunks_exact(3)
            .rev()
            .find(|run| run[0] as usize <= chunk + 1)
            .ok_or("damaged stsc")?;
        let mut at = *start;
        for _ in 0..run[1] {
            if out.len() < count {
                out.push(at);
                at += u64::from(size(out.len() - 1)?);
            }
        }
    }
    if out.len() == count { Ok(out) } else { Err("damaged chunk table".into()) }
}

fn times(stbl: &[u8], count: usize) -> Result<Vec<i64>, String> {
    let mut now = 0;
    let steps = read_u32s(table(stbl, b"stts")?, 8);
    let each = steps
        .chunks_exact(2)
        .flat_map(|run| std::iter::repeat_n(i64::from(run[1]), run[0] as usize));
    let mut out = Vec::with_capacity(count);
    for step in each.take(count) {
        out.push(now);
        now += step;
    }
    out.resize(count, now);
    Ok(out)
}

fn shifts(stbl: &[u8], count: usize) -> Vec<i64> {
    let runs = table(stbl, b"ctts").map(|ctts| read_u32s(ctts, 8)).unwrap_or_default();
    let each = runs
        .chunks_exact(2)
        .flat_map(|run| std::iter::repeat_n(i64::from(run[1] as i32), run[0] as usize));
    let mut out: Vec<i64> = each.take(count).collect();
    out.resize(count, 0);
    out
}

fn read_u32(bytes: &[u8], at: usize) -> Result<u32, String> {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map(u32::from_be_bytes).ok_or_else(|| "a table ends early".to_owned())
}

fn read_u32s(bytes: &[u8], from: usize) -> Vec<u32> {
    bytes
        .get(from..)
        .unwrap_or_default()
        .chunks_exact(4)
        .map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]))
        .collect()
}

fn table<'a>(stbl: &'a [u8], name: &[u8; 4]) -> Result<&'a [u8], String> {
    path(stbl, &[name]).ok_or_else(|| {
        format!(
            "no {}: convert a fragmented file with ffmpeg -c copy",
            String::from_utf8_lossy(name)
        )
    })
}
