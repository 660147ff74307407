//! Clips for tests, built as a device builds them.

use std::ops::Range;
use std::sync::Arc;

use crate::camera::{Codec, TrackKind, TrackParams};
use crate::evidence::manifest::{ABOUT_BOX, Manifest, Purpose, about};
use crate::format::mp4::{Sample, TrackRun, head_boxes, moof};
use crate::format::record::{MARK, RECORD_BOX, RingRecord};
use crate::format::segment_head::head_digest;
use crate::units::{Boot, ClockQuality, Digest, MonoTime, Timestamp, WallTime};

/// Wall time at which the clips of tests begin.
pub const BEGIN: i64 = 1_790_000_000_000_000;

/// One fragment of a second.
#[derive(Debug, Clone)]
pub struct Second {
    /// Boot of the device that recorded it.
    pub boot: u32,
    /// Its start by the device's clock, seconds; as `mono` if the clock was right.
    pub wall: i64,
    /// Its start on the monotonic and the media clock, seconds.
    pub mono: u64,
    /// Video samples; the first one is a key frame.
    pub video: Vec<Vec<u8>>,
    /// Sound samples.
    pub sound: Vec<Vec<u8>>,
}

impl Second {
    /// A second at `mono` with five pictures and three sounds that no decoder reads.
    pub fn at(mono: u64) -> Second {
        let video = (0..5).map(|n| vec![n as u8 + 1; 40 + n]).collect();
        let sound = vec![vec![0x55; 160]; 3];
        Second { boot: 1, wall: mono as i64, mono, video, sound }
    }
}

/// A video track of 640x360 with the `avcC` of a Main profile.
pub fn avc_track() -> Arc<TrackParams> {
    let avcc = [1, 0x4d, 0, 0x1e, 0xff, 0xe1, 0, 2, 0x67, 7, 1, 0, 1, 0x68];
    let mut entry = vec![0; 86];
    entry[4..8].copy_from_slice(b"avc1");
    entry[32..36].copy_from_slice(&[2, 128, 1, 104]);
    entry.extend((avcc.len() as u32 + 8).to_be_bytes());
    entry.extend(b"avcC");
    entry.extend(avcc);
    let len = entry.len() as u32;
    entry[..4].copy_from_slice(&len.to_be_bytes());
    track(TrackKind::Video, Codec::H264, 90_000, entry, (640, 360))
}

/// A sound track of G.711.
pub fn alaw_track() -> Arc<TrackParams> {
    let mut entry = vec![0; 36];
    entry[..8].copy_from_slice(&[0, 0, 0, 36, b'a', b'l', b'a', b'w']);
    entry[15] = 1;
    entry[17 + 8] = 1;
    entry[19 + 8] = 16;
    entry[32..36].copy_from_slice(&(8000_u32 << 16).to_be_bytes());
    track(TrackKind::Audio, Codec::PcmAlaw, 8_000, entry, (0, 0))
}

/// A sound track of AAC (low complexity, 48 kHz, mono).
pub fn aac_track() -> Arc<TrackParams> {
    let mut esds = vec![0, 0, 0, 0, 3, 25, 0, 0, 0, 4, 17, 0x40, 0x15];
    esds.extend([0; 11]);
    esds.extend([5, 2, 0x11, 0x88, 6, 1, 2]);
    let mut entry = vec![0; 36];
    entry[4..8].copy_from_slice(b"mp4a");
    entry[15] = 1;
    entry[25] = 1;
    entry[27] = 16;
    entry[32..36].copy_from_slice(&(48_000_u32 << 16).to_be_bytes());
    entry.extend((esds.len() as u32 + 8).to_be_bytes());
    entry.extend(b"esds");
    entry.extend(esds);
    let len = entry.len() as u32;
    entry[..4].copy_from_slice(&len.to_be_bytes());
    track(TrackKind::Audio, Codec::Aac, 48_000, entry, (0, 0))
}

fn track(
    kind: TrackKind,
    codec: Codec,
    timescale: u32,
    sample_entry: Vec<u8>,
    size: (u16, u16),
) -> Arc<TrackParams> {
    let digest = Digest::of(&sample_entry);
    Arc::new(TrackParams { kind, codec, timescale, sample_entry, annex_b: vec![], size, digest })
}

/// A clip and its manifest. Its first second starts at [`BEGIN`] by the manifest.
pub fn clip(tracks: &[Arc<TrackParams>], seconds: &[Second]) -> (Manifest, Vec<u8>) {
    let base = seconds[0].mono;
    let last = seconds.iter().map(|second| second.mono + 1).max().unwrap_or(base);
    let wall = |second: u64| WallTime(BEGIN + (second - base) as i64 * 1_000_000).rfc3339();
    let mut manifest = Manifest {
        v: 1,
        site: "km-17".into(),
        name: "km-17-clip.mp4".into(),
        purpose: Purpose::Clip,
        media_type: "video/mp4".into(),
        size: 0,
        sha256: Digest::default(),
        event: "e".into(),
        from: wall(base),
        to: wall(last),
        clock: ClockQuality::Ntp,
        records: (1, seconds.len() as u64),
        gaps: vec![(wall(base), wall(base + 1), "camera_down".into())],
        missing: Vec::new(),
        part: 1,
        last: true,
    };
    let mut bytes = head_boxes(tracks, Some((last - base) * 1_000_000));
    let about = about(&manifest);
    bytes.extend((24 + about.len() as u32).to_be_bytes());
    bytes.extend(b"uuid");
    bytes.extend(ABOUT_BOX);
    bytes.extend(about);
    for (number, second) in seconds.iter().enumerate() {
        bytes.extend(record(tracks, number as u64 + 1, second, base));
    }
    manifest.size = bytes.len() as u64;
    manifest.sha256 = Digest::of(&bytes);
    (manifest, bytes)
}

fn record(tracks: &[Arc<TrackParams>], seq: u64, second: &Second, base: u64) -> Vec<u8> {
    let of = |kind| if kind == TrackKind::Video { &second.video } else { &second.sound };
    let used = || tracks.iter().enumerate().filter(|(_, track)| !of(track.kind).is_empty());
    let runs: Vec<TrackRun> = used()
        .map(|(place, track)| {
            let samples = of(track.kind);
            let duration = track.timescale / samples.len() as u32;
            let sample = |(n, bytes): (usize, &Vec<u8>)| {
                let sync = track.kind == TrackKind::Audio || n == 0;
                Sample { duration, size: bytes.len() as u32, sync, offset: 0 }
            };
            let start = (second.mono - base) * u64::from(track.timescale);
            let samples = samples.iter().enumerate().map(sample).collect();
            TrackRun { track: place as u32 + 1, start, samples }
        })
        .collect();
    let payload: Vec<u8> = used().flat_map(|(_, track)| of(track.kind).concat()).collect();
    let mut content = moof(seq as u32, &runs);
    content.extend((payload.len() as u32 + 8).to_be_bytes());
    content.extend(b"mdat");
    content.extend(&payload);
    let wall = WallTime(BEGIN + (second.wall - base as i64) * 1_000_000);
    let mono = MonoTime(second.mono * 1_000_000);
    let record = RingRecord {
        seq,
        lap: 1,
        boot: Boot(second.boot),
        len: (RECORD_BOX + content.len()) as u32,
        start: Timestamp { mono, wall, quality: ClockQuality::Ntp },
        key: !second.video.is_empty(),
        payload: payload.len() as u32,
        media: second.mono * 1_000_000,
        duration: 1_000_000,
        lead: 0,
        gap: None,
        mark: [0; MARK],
        previous: Digest::default(),
        content: Digest::default(),
        head: head_digest(tracks),
    };
    let mut bytes = record.encode(&content);
    bytes.extend(content);
    bytes
}

/// Reads ranges of `bytes`.
pub fn reader(bytes: &[u8]) -> impl FnMut(Range<u64>) -> Result<Vec<u8>, String> {
    move |range: Range<u64>| {
        bytes
            .get(range.start as usize..range.end as usize)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| "behind the end".to_owned())
    }
}
