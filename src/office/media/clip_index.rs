//! Index of a clip: where each fragment lies, when it was recorded, and what a player needs first.

use serde::Serialize;

use super::codec::{TrackCodec, TrackName};
use super::limits::STRAY_MIN;
use super::video_only::Patches;
use super::walk::{Fragment, Source, fragments, head};
use super::wall_times::wall_times;
use super::{ClipFault, ReadRange};
use crate::evidence::manifest::Manifest;
use crate::format::record::RingRecord;
use crate::units::{ClockQuality, WallTime};

/// A range of a file, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ByteRange {
    /// Offset of its first byte.
    pub offset: u64,
    /// Its length.
    pub length: u64,
}

/// One fragment: a `moof` and its `mdat`, to be appended to a player's buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FragmentEntry {
    /// Offset of its `moof` in the file.
    pub offset: u64,
    /// Bytes of `moof` and `mdat`.
    pub length: u64,
    /// Start of its pictures on the file's own clock, which counts from 0, microseconds.
    pub media_us: u64,
    /// Its duration, microseconds.
    pub duration_us: u64,
    /// Start of its pictures, microseconds since 1970 (UTC), by the manifest.
    pub wall_us: i64,
    /// True if it starts with a key frame.
    pub key: bool,
    /// The wall time of its record, if it differs from `wall_us` by more than half a second: the
    /// device's clock was set since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded_wall_us: Option<i64>,
    /// True if it has pictures.
    #[serde(skip)]
    pub pictures: bool,
}

/// A gap in a clip, by the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GapEntry {
    /// Its start, RFC 3339.
    pub from: String,
    /// Its end, RFC 3339.
    pub to: String,
    /// Its reason.
    pub reason: String,
}

/// The head of the file without sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct VideoOnlyInit {
    /// Its length, bytes.
    pub length: u64,
}

/// Index of one clip, as the API answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClipIndex {
    /// The tracks.
    pub codecs: Vec<TrackCodec>,
    /// The initialisation segment: `ftyp` and `moov`.
    pub init: ByteRange,
    /// The fragments in their order.
    pub fragments: Vec<FragmentEntry>,
    /// Wall time of the first frame, RFC 3339.
    pub from: String,
    /// Wall time of the end, RFC 3339.
    pub to: String,
    /// Gaps in the clip.
    pub gaps: Vec<GapEntry>,
    /// Quality of the clock that the times come from.
    pub clock: ClockQuality,
    /// SHA-256 of the stored file; `None` for the file without sound, which is not stored.
    pub sha256: Option<String>,
    /// The head of the file without sound; `None` without sound or without pictures.
    pub video_only_init: Option<VideoOnlyInit>,
    /// What makes the file without sound of the stored one.
    #[serde(skip)]
    pub patches: Patches,
    /// Size of the file, bytes.
    #[serde(skip)]
    pub size: u64,
}

/// Indexes the clip that `manifest` describes; `read` reads a range of it. Reads the head and the
/// start of each fragment, nothing else.
///
/// # Errors
/// The file is no clip, is damaged, exceeds a limit, or cannot be read.
pub fn index(manifest: &Manifest, read: impl ReadRange) -> Result<ClipIndex, ClipFault> {
    let mut source = Source::new(manifest.size, read);
    let head = head(&mut source)?;
    let found = fragments(&mut source, &head)?;
    let both = head.has_both();
    let sound = found.iter().flat_map(|fragment| &fragment.sound);
    let boxes = head.sound.iter().chain(sound).filter(|_| both).cloned();
    let unseen = found.iter().flat_map(|fragment| &fragment.unseen).cloned();
    let patches = Patches::new(boxes, unseen);
    Ok(ClipIndex {
        fragments: entries(manifest, &head.tracks, found),
        codecs: head.tracks,
        init: ByteRange { offset: 0, length: head.init },
        from: manifest.from.clone(),
        to: manifest.to.clone(),
        gaps: manifest.gaps.iter().map(gap).collect(),
        clock: manifest.clock,
        sha256: Some(manifest.sha256.hex()),
        video_only_init: both.then_some(VideoOnlyInit { length: head.init }),
        patches,
        size: manifest.size,
    })
}

fn gap((from, to, reason): &(String, String, String)) -> GapEntry {
    GapEntry { from: from.clone(), to: to.clone(), reason: reason.clone() }
}

/// The entries of all fragments.
fn entries(manifest: &Manifest, tracks: &[TrackCodec], found: Vec<Fragment>) -> Vec<FragmentEntry> {
    let scale = tracks
        .iter()
        .find(|track| track.track == TrackName::Video)
        .map_or(1, |track| track.timescale);
    let base = found
        .first()
        .map_or(0, |first| first.record.media.saturating_sub(u64::from(first.record.lead) * 1000));
    let records: Vec<RingRecord> = found.iter().map(|found| found.record.clone()).collect();
    // A manifest without a readable time leaves the times of the records.
    let stated =
        |text: &str, own: Option<WallTime>| WallTime::parse(text).ok().or(own).unwrap_or_default();
    let from = stated(&manifest.from, records.first().map(|record| record.start.wall));
    let to = stated(&manifest.to, records.last().map(|record| record.end().wall));
    let walls = wall_times(from, to, &records);
    let entry = |(found, wall): (Fragment, i64)| {
        let record = found.record;
        let own = record.start.wall.0;
        FragmentEntry {
            offset: found.moof,
            length: found.len,
            media_us: found
                .video
                .map_or(record.media.saturating_sub(base), |ticks| micros(ticks, scale)),
            duration_us: record.duration,
            wall_us: wall,
            key: record.key,
            recorded_wall_us: (own.abs_diff(wall) > STRAY_MIN.unsigned_abs()).then_some(own),
            pictures: found.video.is_some(),
        }
    };
    found.into_iter().zip(walls).map(entry).collect()
}

/// Ticks as microseconds, rounded.
fn micros(ticks: u64, scale: u32) -> u64 {
    let scale = u128::from(scale.max(1));
    u64::try_from((u128::from(ticks) * 1_000_000 + scale / 2) / scale).unwrap_or(u64::MAX)
}

impl ClipIndex {
    /// The index of the file without sound ([`super::video_only`]); `None` without pictures.
    pub fn video_only(&self) -> Option<ClipIndex> {
        let mut index = self.clone();
        index.codecs.retain(|track| track.track == TrackName::Video);
        if index.codecs.is_empty() {
            return None;
        }
        index.fragments.retain(|fragment| fragment.pictures);
        if !self.patches.is_empty() {
            index.sha256 = None;
        }
        index.video_only_init = None;
        index.patches = Patches::default();
        Some(index)
    }

    /// The video track.
    pub fn video(&self) -> Option<&TrackCodec> {
        self.codecs.iter().find(|track| track.track == TrackName::Video)
    }
}
