//! Fragment builder: cuts frames into `moof` and `mdat` with decode times and composition offsets.

use std::sync::Arc;

use super::GapReason;
use crate::camera::{Frame, TrackKind, TrackParams};
use crate::format::mp4::{Sample, TrackRun, moof};
use crate::format::record::{RECORD_BOX, padded, ticks};
use crate::units::Timestamp;

/// Length of video after which a fragment ends, microseconds. Bounds what a power cut can lose
/// (promise P1). One more frame is added if it fits the padding.
pub const FRAGMENT_MAX: i64 = 1_000_000;
/// Audio later than the end of the fragment's video that still belongs to it, microseconds: more is
/// a wrong time, which would make the sound track longer than the picture.
const AUDIO_AHEAD: i64 = 2_000_000;
/// Most audio frames in one fragment: half of [`FRAMES_MAX`]. The rest waits for the next one.
const AUDIO_FRAMES_MAX: usize = FRAMES_MAX / 2;
/// Most frames in one fragment: twice 1 s of 120 fps video with 50 audio frames. Bounds the `moof`.
const FRAMES_MAX: usize = 512;

/// Maps the presentation times of a run to the media clock of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Number of the run.
    pub run: u32,
    /// Presentation time of the first frame of the run, microseconds.
    pub pts: i64,
    /// The same moment on the media clock, microseconds.
    pub media: u64,
}

impl Anchor {
    /// The presentation time of `frame` on the media clock, in ticks of its track.
    fn tick(&self, frame: &Frame) -> u64 {
        let scale = frame.params.timescale;
        let base = ticks(self.media, scale) as i64;
        let origin = (i128::from(self.pts) * i128::from(scale) / 1_000_000) as i64;
        (base + frame.pts - origin).max(0) as u64
    }

    /// The presentation time of `frame` on the media clock, in microseconds.
    fn micros(&self, frame: &Frame) -> u64 {
        let scale = u128::from(frame.params.timescale.max(1));
        (u128::from(self.tick(frame)) * 1_000_000 / scale) as u64
    }
}

/// Frames of the next fragment. The first is a video frame unless there is only audio.
#[derive(Debug, Default)]
pub struct FragmentBuilder {
    frames: Vec<Arc<Frame>>,
    /// Highest video presentation time so far, ticks.
    latest: i64,
    bytes: usize,
    /// A run with B-frames: a video frame arrived after one with a later presentation time.
    reordered: Option<u32>,
    /// Run of the previous fragment.
    previous_run: Option<u32>,
    /// Start of the previous fragment on the media clock, microseconds.
    previous_media: u64,
}

/// A fragment without a record number or a place in the ring.
#[derive(Debug)]
pub struct Fragment {
    /// `moof` and `mdat`, with decode times relative to `media`.
    pub content: Vec<u8>,
    /// Capture time of its first frame.
    pub start: Timestamp,
    /// The fragment starts with a key frame.
    pub key: bool,
    /// Start of its video on the media clock, microseconds.
    pub media: u64,
    /// Milliseconds by which its audio starts before `media`, rounded up.
    pub lead: u16,
    /// Duration, microseconds.
    pub duration: u64,
    /// Its latest picture on the media clock, microseconds.
    pub last: u64,
    /// Bytes of samples.
    pub payload: u32,
    /// Number of frames.
    pub frames: u32,
    /// Number of audio frames dropped because they belong before the previous fragment, or far
    /// behind this one.
    pub dropped_audio: u32,
}

impl FragmentBuilder {
    /// True when no frame is gathered.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The first frame.
    pub fn first(&self) -> Option<&Arc<Frame>> {
        self.frames.first()
    }

    /// The last frame.
    pub fn last(&self) -> Option<&Arc<Frame>> {
        self.frames.last()
    }

    /// Bytes of samples gathered.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The tracks of the gathered frames, video first.
    pub fn tracks(&self) -> Vec<Arc<TrackParams>> {
        let of = |kind| {
            self.frames.iter().find(|frame| frame.kind() == kind).map(|frame| frame.params.clone())
        };
        [of(TrackKind::Video), of(TrackKind::Audio)].into_iter().flatten().collect()
    }

    /// True when `frame` begins the next fragment.
    ///
    /// The fragment ends when `frame` cannot be added, before a key frame, and after one second. In
    /// the last two cases it ends only before a video frame later than all frames so far. B-frames
    /// thus stay with the frames they refer to. An audio frame ends no fragment, whatever its time.
    pub fn ends_before(&self, frame: &Frame, room: usize) -> bool {
        let length = self.length_before(frame);
        let should = frame.pts > self.latest && (frame.key || length >= FRAGMENT_MAX);
        let video = frame.kind() == TrackKind::Video;
        video && !self.is_empty() && (should || self.cannot_add(frame, room))
    }

    /// True when an audio frame fits the gathered frames.
    pub fn takes_audio(&self, frame: &Frame, room: usize) -> bool {
        let audio = self.frames.iter().filter(|old| old.kind() == TrackKind::Audio).count();
        audio < AUDIO_FRAMES_MAX && !self.cannot_add(frame, room)
    }

    /// Capture time of the newest gathered video frame; of the first frame if there is none.
    pub fn newest_video(&self) -> Option<Timestamp> {
        let video = self.frames.iter().rev().find(|frame| frame.kind() == TrackKind::Video);
        video.or(self.frames.first()).map(|frame| frame.at)
    }

    /// Media time of the earliest gathered frame of the leading track, microseconds.
    pub fn earliest(&self, anchor: &Anchor) -> Option<u64> {
        let kind = self.first()?.kind();
        let leading = self.frames.iter().filter(|frame| frame.kind() == kind);
        leading.map(|frame| anchor.micros(frame)).min()
    }

    /// Leaves out gathered audio without video that lies outside of `range` on the media clock.
    /// Returns the number of frames left out.
    pub fn bound_audio(&mut self, anchor: &Anchor, range: std::ops::Range<u64>) -> u64 {
        if self.frames.iter().any(|frame| frame.kind() == TrackKind::Video) {
            return 0;
        }
        let gathered = self.frames.len();
        self.frames.retain(|frame| range.contains(&anchor.micros(frame)));
        self.bytes = self.frames.iter().map(|frame| frame.data.len()).sum();
        (gathered - self.frames.len()) as u64
    }

    /// True when `frame` belongs to another run or track layout, or exceeds a limit.
    fn cannot_add(&self, frame: &Frame, room: usize) -> bool {
        self.first().is_some_and(|first| frame.run != first.run)
            || self.bytes + frame.data.len() > room
            || self.frames.len() >= FRAMES_MAX
            || self
                .frames
                .iter()
                .any(|old| old.kind() == frame.kind() && old.params.digest != frame.params.digest)
    }

    /// Microseconds from the first frame to `frame`.
    fn length_before(&self, frame: &Frame) -> i64 {
        self.first().map_or(0, |first| frame.pts_micros() - first.pts_micros())
    }

    /// True when `frame` fits the padding of the last block of a fragment that has lasted a second.
    ///
    ///  Adding the frame then costs no block; at 1 Mbit/s this saves one in three fragments a
    /// block. Never true in a run with B-frames, or before the run is known to have none, because
    /// they would be separated from the frame.
    pub fn fits_padding(
        &self,
        frame: &Arc<Frame>,
        room: usize,
        anchor: &Anchor,
        layout: &[Arc<TrackParams>],
    ) -> bool {
        let plain = self.reordered != Some(frame.run) && self.previous_run == Some(frame.run);
        let picture = frame.kind() == TrackKind::Video
            && !frame.key
            && self.length_before(frame) >= FRAGMENT_MAX;
        if !plain || !picture || self.cannot_add(frame, room) {
            return false;
        }
        let blocks = |frames: &[Arc<Frame>]| {
            let runs: Vec<TrackRun> = runs(frames, anchor, None, layout);
            let payload: usize = frames.iter().map(|frame| frame.data.len()).sum();
            padded((RECORD_BOX + moof(0, &runs).len() + 8 + payload) as u64)
        };
        blocks(&[&self.frames[..], std::slice::from_ref(frame)].concat()) <= blocks(&self.frames)
    }

    /// Adds a frame; the caller has checked [`FragmentBuilder::ends_before`].
    pub fn push(&mut self, frame: Arc<Frame>) {
        if frame.kind() == TrackKind::Video {
            let pictures = self.frames.iter().any(|old| old.kind() == TrackKind::Video);
            if pictures && frame.pts < self.latest {
                self.reordered = Some(frame.run);
            }
            self.latest = if pictures { self.latest.max(frame.pts) } else { frame.pts };
        }
        self.bytes += frame.data.len();
        self.frames.push(frame);
    }

    /// Builds the fragment and resets the builder.
    ///
    /// `next` is the frame behind the fragment, if it belongs to the same run; it gives the
    /// duration of the last sample. `layout` gives the track numbers.
    pub fn finish(
        &mut self,
        anchor: &Anchor,
        next: Option<&Frame>,
        layout: &[Arc<TrackParams>],
        number: u32,
    ) -> Option<Fragment> {
        let mut frames = std::mem::take(&mut self.frames);
        self.bytes = 0;
        let first = frames.first()?.clone();
        let scale = u64::from(first.params.timescale.max(1));
        let leading = frames.iter().filter(|frame| frame.kind() == first.kind());
        let media = leading.map(|frame| anchor.tick(frame)).min()? * 1_000_000 / scale;
        // A file that begins with the previous fragment has no place for older audio.
        let oldest =
            if self.previous_run == Some(anchor.run) { self.previous_media } else { media };
        let leading = frames.iter().filter(|frame| frame.kind() == first.kind());
        let last = leading.map(|frame| anchor.micros(frame)).max()?;
        let newest = last.saturating_add(AUDIO_AHEAD as u64);
        let on_time = |frame: &Frame| (oldest..=newest).contains(&anchor.micros(frame));
        let gathered = frames.len();
        frames.retain(|frame| frame.kind() == TrackKind::Video || on_time(frame));
        self.previous_run = Some(anchor.run);
        self.previous_media = media;
        let mut runs = runs(&frames, anchor, next, layout);
        let payload: usize = frames.iter().map(|frame| frame.data.len()).sum();
        // Video is the first track of every layout; audio without video is the only track.
        let length: u64 =
            runs.first()?.samples.iter().map(|sample| u64::from(sample.duration)).sum();
        let ahead = |run: &TrackRun| {
            let scale = layout[run.track as usize - 1].timescale;
            (ticks(media, scale).saturating_sub(run.start) * 1000).div_ceil(u64::from(scale.max(1)))
        };
        let lead = runs.iter().map(ahead).max()?.min(u64::from(u16::MAX)) as u16;
        for run in &mut runs {
            run.start =
                run.start.wrapping_sub(ticks(media, layout[run.track as usize - 1].timescale));
        }
        let mut content = moof(number, &runs);
        content.reserve(payload + 8);
        content.extend((payload as u32 + 8).to_be_bytes());
        content.extend(b"mdat");
        for params in layout {
            for frame in frames.iter().filter(|frame| frame.kind() == params.kind) {
                content.extend_from_slice(&frame.data);
            }
        }
        Some(Fragment {
            content,
            start: first.at,
            key: first.key && first.kind() == TrackKind::Video,
            media,
            lead,
            duration: length * 1_000_000 / scale,
            last,
            payload: payload as u32,
            frames: frames.len() as u32,
            dropped_audio: (gathered - frames.len()) as u32,
        })
    }
}

/// The samples of every track that has any.
fn runs(
    frames: &[Arc<Frame>],
    anchor: &Anchor,
    next: Option<&Frame>,
    layout: &[Arc<TrackParams>],
) -> Vec<TrackRun> {
    let of = |(track, params): (usize, &Arc<TrackParams>)| {
        run(track as u32 + 1, params, frames, anchor, next)
    };
    layout.iter().enumerate().filter_map(of).collect()
}

/// The samples of one track.
///
/// The decode times are the sorted presentation times. This order is valid because a fragment ends
/// only before a frame later than all earlier frames.
fn run(
    track: u32,
    params: &TrackParams,
    frames: &[Arc<Frame>],
    anchor: &Anchor,
    next: Option<&Frame>,
) -> Option<TrackRun> {
    let mine: Vec<&Arc<Frame>> =
        frames.iter().filter(|frame| frame.kind() == params.kind).collect();
    let shown: Vec<u64> = mine.iter().map(|frame| anchor.tick(frame)).collect();
    let mut decoded = shown.clone();
    decoded.sort_unstable();
    // Decode times rise strictly, whatever the presentation times are.
    for i in 1..decoded.len() {
        decoded[i] = decoded[i].max(decoded[i - 1] + 1);
    }
    let after = next.filter(|next| next.kind() == params.kind).map(|next| anchor.tick(next));
    let usual = decoded.windows(2).map(|pair| pair[1] - pair[0]).next_back();
    let end = after.unwrap_or_else(|| {
        decoded.last().copied().unwrap_or(0) + usual.unwrap_or(u64::from(params.timescale) / 25)
    });
    let samples = mine.iter().enumerate().map(|(i, frame)| Sample {
        duration: decoded.get(i + 1).copied().unwrap_or(end).saturating_sub(decoded[i]) as u32,
        size: frame.data.len() as u32,
        sync: frame.key,
        offset: (shown[i] as i64 - decoded[i] as i64) as i32,
    });
    Some(TrackRun { track, start: *decoded.first()?, samples: samples.collect() })
}

/// The content of a new record, before it has a number and a place. For fields without a comment
/// see [`crate::format::record::RingRecord`].
#[derive(Debug, Clone)]
pub struct NewFragment<'a> {
    /// Capture time of the first frame, or start of the gap.
    pub start: Timestamp,
    /// Starts with a key frame.
    pub key: bool,
    /// Bytes of samples.
    pub payload: u32,
    /// Start on the media clock, microseconds.
    pub media: u64,
    /// Milliseconds by which the audio starts before `media`, rounded up.
    pub lead: u16,
    /// Duration, microseconds.
    pub duration: u64,
    /// For a gap record: its end, reason and bytes lost.
    pub gap: Option<(Timestamp, GapReason, u64)>,
    /// `moof` and `mdat` with decode times relative to `media`; empty for a gap record.
    pub content: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::StreamRole;
    use crate::format::record::tests::video;
    use crate::units::{MonoTime, Timestamp};

    fn frame(pts_ms: i64, key: bool) -> Arc<Frame> {
        let at = Timestamp { mono: MonoTime(pts_ms as u64 * 1000), ..Timestamp::default() };
        let data = vec![7; 10].into();
        Arc::new(Frame {
            role: StreamRole::Main,
            params: video(1),
            data,
            key,
            pts: pts_ms * 90,
            run: 1,
            at,
            lost: 0,
        })
    }

    /// Presentation times, in milliseconds, at which a stream of (milliseconds, key) is cut.
    fn cuts(stream: &[(i64, bool)]) -> Vec<i64> {
        let mut builder = FragmentBuilder::default();
        let mut starts = Vec::new();
        for (pts, key) in stream {
            let next = frame(*pts, *key);
            if builder.is_empty() || builder.ends_before(&next, 1 << 20) {
                starts.push(*pts);
                builder = FragmentBuilder::default();
            }
            builder.push(next);
        }
        starts
    }

    #[test]
    fn a_fragment_ends_before_a_key_frame_or_after_a_second() {
        let stream: Vec<_> = (0..100).map(|i| (i * 40, i % 38 == 0)).collect();
        assert_eq!(cuts(&stream), [0, 1000, 1520, 2520, 3040]);
    }

    /// Frames per fragment at 25 fps with a key frame every two seconds; input: (frame number,
    /// bytes).
    fn lengths(pictures: &[(i64, usize)]) -> Vec<u32> {
        let (mut builder, mut lengths) = (FragmentBuilder::default(), Vec::new());
        let (anchor, layout) = (Anchor { run: 1, pts: 0, media: 0 }, [video(1)]);
        for (n, (at, bytes)) in pictures.iter().enumerate() {
            let next = Frame {
                data: vec![7; *bytes].into(),
                ..Frame::clone(&frame(at * 40, n % 50 == 0))
            };
            let next = Arc::new(next);
            let along = builder.ends_before(&next, 1 << 20)
                && builder.fits_padding(&next, 1 << 20, &anchor, &layout);
            if !along && builder.ends_before(&next, 1 << 20) {
                lengths.push(builder.finish(&anchor, Some(&next), &layout, 1).unwrap().frames);
            }
            builder.push(next);
            if along {
                lengths.push(builder.finish(&anchor, None, &layout, 1).unwrap().frames);
            }
        }
        lengths
    }

    #[test]
    fn a_frame_that_fits_the_padding_joins_the_fragment() {
        let in_order = |bytes| (0..201).map(|n| (n, bytes)).collect::<Vec<_>>();
        assert_eq!(
            lengths(&in_order(10)),
            [25, 25, 26, 24, 26, 24, 26, 24],
            "B-frames cannot be ruled out in the first second"
        );
        assert_eq!(lengths(&in_order(4090)), [25; 8], "an added frame needs another block");
        let late = |n| [n, 4, 3][usize::from(n == 3) + 2 * usize::from(n == 4)];
        assert_eq!(
            lengths(&in_order(10).iter().map(|(n, bytes)| (late(*n), *bytes)).collect::<Vec<_>>()),
            [25; 8],
            "a run with B-frames"
        );
    }

    #[test]
    fn a_fragment_never_begins_with_a_b_frame() {
        // Decode order of an IBBP stream: after one second a fragment may begin with a P, never
        // with a B.
        let stream: Vec<_> = (0..20)
            .flat_map(|i| [(i * 120 + 80, i == 0), (i * 120, false), (i * 120 + 40, false)])
            .collect();
        for start in cuts(&stream) {
            assert_eq!(start % 120, 80, "a fragment begins with the B-frame at {start} ms");
        }
    }

    #[test]
    fn composition_offsets_restore_presentation_order() {
        let mut builder = FragmentBuilder::default();
        for (pts, key) in
            [(80, true), (0, false), (40, false), (200, false), (120, false), (160, false)]
        {
            builder.push(frame(pts, key));
        }
        let anchor = Anchor { run: 1, pts: 0, media: 0 };
        let video = run(1, &video(1), &builder.frames, &anchor, Some(&frame(320, false))).unwrap();
        let shown: Vec<i64> = video
            .samples
            .iter()
            .scan(0, |at, sample| {
                let shown = *at + i64::from(sample.offset);
                *at += i64::from(sample.duration);
                Some(shown / 90)
            })
            .collect();
        assert_eq!(shown, [80, 0, 40, 200, 120, 160]);
    }

    #[test]
    fn media_time_follows_the_anchor() {
        let mut builder = FragmentBuilder::default();
        builder.push(frame(5000, true));
        builder.push(frame(5040, false));
        let anchor = Anchor { run: 1, pts: 4_000_000, media: 70_000_000 };
        let fragment = builder.finish(&anchor, Some(&frame(5080, false)), &[video(1)], 1).unwrap();
        assert_eq!((fragment.media, fragment.duration, fragment.key), (71_000_000, 80_000, true));
        assert!(builder.is_empty());
    }

    #[test]
    fn late_audio_keeps_its_time_and_older_audio_is_dropped() {
        let sample_entry = vec![0, 0, 0, 8, b'a', b'l', b'a', b'w'];
        let digest = crate::units::Digest::of(&sample_entry);
        let (kind, codec) = (TrackKind::Audio, crate::camera::Codec::PcmAlaw);
        let params = TrackParams {
            kind,
            codec,
            timescale: 8000,
            sample_entry,
            annex_b: Vec::new(),
            size: (0, 0),
            digest,
        };
        let params = Arc::new(params);
        let sound = |ms: i64| {
            let (pts, data) = (ms * 8, vec![1; 160].into());
            Arc::new(Frame { params: params.clone(), data, pts, ..Frame::clone(&frame(0, true)) })
        };
        let (mut builder, layout) = (FragmentBuilder::default(), [video(1), params.clone()]);
        let anchor = Anchor { run: 1, pts: 0, media: 10_000_000 };
        let mut cut = |frames: &[Arc<Frame>]| {
            frames.iter().for_each(|frame| builder.push(frame.clone()));
            builder.finish(&anchor, None, &layout, 1).unwrap()
        };
        let first = cut(&[frame(0, true), sound(-20), sound(0), frame(40, false)]);
        assert_eq!(
            (first.lead, first.dropped_audio, first.frames),
            (0, 1, 3),
            "audio before the first video frame is dropped"
        );
        let second = cut(&[frame(80, true), sound(20), frame(120, false), sound(40)]);
        assert_eq!((second.media, second.lead, second.dropped_audio), (10_080_000, 60, 0));
        let third = cut(&[frame(160, true), sound(79), sound(80)]);
        assert_eq!(
            (third.lead, third.dropped_audio),
            (80, 1),
            "audio older than the previous fragment is dropped"
        );
    }
}
