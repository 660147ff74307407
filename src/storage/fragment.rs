//! Frames → one fragment: decode times, composition offsets, `moof` and `mdat`.
//!
//! What belongs here: when a fragment ends and what is in it, pure. What does not: numbering it, writing it.

use std::sync::Arc;

use super::GapReason;
use crate::camera::{Frame, TrackKind, TrackParams};
use crate::format::mp4::{Sample, TrackRun, moof};
use crate::format::record::{RECORD_BOX, padded, ticks};
use crate::units::Timestamp;

/// Microseconds of video after which a fragment ends: what a power cut may cost (promise P1). A picture more comes along where it fits
/// into the padding.
pub const FRAGMENT_MAX: i64 = 1_000_000;
/// Microseconds of sound behind the first picture at most, so that pictures that stop coming do not keep the sound, and themselves,
/// from the card: a little more than a fragment, because pictures lag behind sound.
const SOUND_MAX: i64 = 1_200_000;
/// Frames in one fragment at most: 1 s of 120 fps video with 50 audio frames, twice over. Bounds the `moof`.
const FRAMES_MAX: usize = 512;

/// Where a run of media time lies on the ring's media clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The run.
    pub run: u32,
    /// Presentation time that was its first, microseconds.
    pub pts: i64,
    /// The same moment on the media clock, microseconds.
    pub media: u64,
}

impl Anchor {
    /// A presentation time of this run on the media clock, in ticks of its track.
    fn tick(&self, frame: &Frame) -> u64 {
        let scale = frame.params.timescale;
        let base = ticks(self.media, scale) as i64;
        let origin = (i128::from(self.pts) * i128::from(scale) / 1_000_000) as i64;
        (base + frame.pts - origin).max(0) as u64
    }
}

/// Frames gathered for the next fragment; the first is a video frame, unless there is only sound.
#[derive(Debug, Default)]
pub struct Gathering {
    frames: Vec<Arc<Frame>>,
    /// Highest video presentation time, ticks.
    latest: i64,
    bytes: usize,
    /// A run in which a picture came after one that is shown later: it has B-frames.
    reordered: Option<u32>,
    /// Run of the fragment finished last, and where it begins on the media clock, microseconds.
    before: Option<(u32, u64)>,
}

/// A fragment ready to be numbered and written.
#[derive(Debug)]
pub struct Fragment {
    /// `moof` and `mdat`, with decode times that count from `media`.
    pub content: Vec<u8>,
    /// When its first picture was taken.
    pub start: Timestamp,
    /// Starts with a key frame.
    pub key: bool,
    /// Its first picture on the media clock, microseconds.
    pub media: u64,
    /// Milliseconds by which its sound begins before that, rounded up.
    pub lead: u16,
    /// Microseconds.
    pub duration: u64,
    /// Sample bytes.
    pub payload: u32,
    /// Frames in it.
    pub frames: u32,
    /// Sound samples that came too late to have a place.
    pub left_out: u32,
}

impl Gathering {
    /// True when nothing is gathered.
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

    /// Sample bytes gathered.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The tracks in it, video first.
    pub fn tracks(&self) -> Vec<Arc<TrackParams>> {
        let of = |kind| self.frames.iter().find(|frame| frame.kind() == kind).map(|frame| frame.params.clone());
        [of(TrackKind::Video), of(TrackKind::Audio)].into_iter().flatten().collect()
    }

    /// True when `frame` begins the next fragment: it must, or it is a video frame where the fragment may end (later than every
    /// frame so far, so that no B-frame is torn from its neighbours) and should (key frame, or a second is full).
    pub fn ends_before(&self, frame: &Frame, room: usize) -> bool {
        let length = self.length_before(frame);
        let should = match frame.kind() {
            TrackKind::Audio => length >= SOUND_MAX,
            TrackKind::Video => frame.pts > self.latest && (frame.key || length >= FRAGMENT_MAX),
        };
        !self.is_empty() && (should || self.has_no_place_for(frame, room))
    }

    /// Another run or layout, or no room.
    fn has_no_place_for(&self, frame: &Frame, room: usize) -> bool {
        self.first().is_some_and(|first| frame.run != first.run)
            || self.bytes + frame.data.len() > room
            || self.frames.len() >= FRAMES_MAX
            || self.frames.iter().any(|old| old.kind() == frame.kind() && old.params.digest != frame.params.digest)
    }

    /// Microseconds from the first frame to `frame`.
    fn length_before(&self, frame: &Frame) -> i64 {
        self.first().map_or(0, |first| frame.pts_micros() - first.pts_micros())
    }

    /// True when `frame`, before which the fragment ends because a second is full, fits into the padding of its last block: taken
    /// along it costs the card nothing, and at 1 Mbit/s a third of all fragments have such a picture behind them. Not in a run
    /// that has B-frames or may still show them: they would be torn from it.
    pub fn takes_along(&self, frame: &Arc<Frame>, room: usize, anchor: &Anchor, layout: &[Arc<TrackParams>]) -> bool {
        let plain = self.reordered != Some(frame.run) && self.before.is_some_and(|(run, _)| run == frame.run);
        let picture = frame.kind() == TrackKind::Video && !frame.key && self.length_before(frame) >= FRAGMENT_MAX;
        if !plain || !picture || self.has_no_place_for(frame, room) {
            return false;
        }
        let blocks = |frames: &[Arc<Frame>]| {
            let runs: Vec<TrackRun> = runs(frames, anchor, None, layout);
            let payload: usize = frames.iter().map(|frame| frame.data.len()).sum();
            padded((RECORD_BOX + moof(0, &runs).len() + 8 + payload) as u64)
        };
        blocks(&[&self.frames[..], std::slice::from_ref(frame)].concat()) <= blocks(&self.frames)
    }

    /// Takes a frame; the caller has asked [`Gathering::ends_before`].
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

    /// Makes the fragment and starts again. `next` is the video frame behind it, where there is one of the same run: it tells
    /// how long the last sample lasts. `layout` is the segment's tracks, which give the track numbers.
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
        // Sound older than the fragment before would have no place in a file that begins there.
        let oldest = self.before.filter(|(run, _)| *run == anchor.run).map_or(media, |(_, media)| media);
        let on_time = |frame: &Frame| anchor.tick(frame) >= ticks(oldest, frame.params.timescale);
        let gathered = frames.len();
        frames.retain(|frame| frame.kind() == TrackKind::Video || on_time(frame));
        self.before = Some((anchor.run, media));
        let mut runs = runs(&frames, anchor, next, layout);
        let payload: usize = frames.iter().map(|frame| frame.data.len()).sum();
        // Video is the first track of every layout, and sound that goes alone is the only one.
        let length: u64 = runs.first()?.samples.iter().map(|sample| u64::from(sample.duration)).sum();
        let ahead = |run: &TrackRun| {
            let scale = layout[run.track as usize - 1].timescale;
            (ticks(media, scale).saturating_sub(run.start) * 1000).div_ceil(u64::from(scale.max(1)))
        };
        let lead = runs.iter().map(ahead).max()?.min(u64::from(u16::MAX)) as u16;
        for run in &mut runs {
            run.start = run.start.wrapping_sub(ticks(media, layout[run.track as usize - 1].timescale));
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
            payload: payload as u32,
            frames: frames.len() as u32,
            left_out: (gathered - frames.len()) as u32,
        })
    }
}

/// The samples of all tracks that have any.
fn runs(frames: &[Arc<Frame>], anchor: &Anchor, next: Option<&Frame>, layout: &[Arc<TrackParams>]) -> Vec<TrackRun> {
    let of = |(track, params): (usize, &Arc<TrackParams>)| run(track as u32 + 1, params, frames, anchor, next);
    layout.iter().enumerate().filter_map(of).collect()
}

/// The samples of one track. Decode times are the presentation times sorted: a valid order for every stream whose fragments end
/// only where all earlier pictures have been shown.
fn run(track: u32, params: &TrackParams, frames: &[Arc<Frame>], anchor: &Anchor, next: Option<&Frame>) -> Option<TrackRun> {
    let mine: Vec<&Arc<Frame>> = frames.iter().filter(|frame| frame.kind() == params.kind).collect();
    let shown: Vec<u64> = mine.iter().map(|frame| anchor.tick(frame)).collect();
    let mut decoded = shown.clone();
    decoded.sort_unstable();
    let after = next.filter(|next| next.kind() == params.kind).map(|next| anchor.tick(next));
    let usual = decoded.windows(2).map(|pair| pair[1] - pair[0]).next_back();
    let end = after.unwrap_or_else(|| decoded.last().copied().unwrap_or(0) + usual.unwrap_or(u64::from(params.timescale) / 25));
    let samples = mine.iter().enumerate().map(|(i, frame)| Sample {
        duration: decoded.get(i + 1).copied().unwrap_or(end).saturating_sub(decoded[i]) as u32,
        size: frame.data.len() as u32,
        sync: frame.key,
        offset: (shown[i] as i64 - decoded[i] as i64) as i32,
    });
    Some(TrackRun { track, start: *decoded.first()?, samples: samples.collect() })
}

/// What a new record says, before it has a number and a place.
#[derive(Debug, Clone)]
pub struct NewFragment<'a> {
    /// See `RingRecord`.
    pub start: Timestamp,
    /// See `RingRecord`.
    pub key: bool,
    /// See `RingRecord`.
    pub payload: u32,
    /// See `RingRecord`.
    pub media: u64,
    /// See `RingRecord`.
    pub lead: u16,
    /// See `RingRecord`.
    pub duration: u64,
    /// See `RingRecord`.
    pub gap: Option<(Timestamp, GapReason, u64)>,
    /// `moof` and `mdat` with decode times that count from `media`; empty for a gap record.
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
        Arc::new(Frame { role: StreamRole::Main, params: video(1), data, key, pts: pts_ms * 90, run: 1, at, lost: 0 })
    }

    /// The fragments a stream of (milliseconds, key) is cut into, as the times of their first frames.
    fn cuts(stream: &[(i64, bool)]) -> Vec<i64> {
        let mut gathering = Gathering::default();
        let mut starts = Vec::new();
        for (pts, key) in stream {
            let next = frame(*pts, *key);
            if gathering.is_empty() || gathering.ends_before(&next, 1 << 20) {
                starts.push(*pts);
                gathering = Gathering::default();
            }
            gathering.push(next);
        }
        starts
    }

    #[test]
    fn a_fragment_ends_before_a_key_frame_or_after_a_second() {
        let stream: Vec<_> = (0..100).map(|i| (i * 40, i % 38 == 0)).collect();
        assert_eq!(cuts(&stream), [0, 1000, 1520, 2520, 3040]);
    }

    /// Numbers of frames in the fragments of 25 pictures a second, each of `bytes`, with a key frame every two seconds.
    fn lengths(pictures: &[(i64, usize)]) -> Vec<u32> {
        let (mut gathering, mut lengths) = (Gathering::default(), Vec::new());
        let (anchor, layout) = (Anchor { run: 1, pts: 0, media: 0 }, [video(1)]);
        for (n, (at, bytes)) in pictures.iter().enumerate() {
            let next = Frame { data: vec![7; *bytes].into(), ..Frame::clone(&frame(at * 40, n % 50 == 0)) };
            let next = Arc::new(next);
            let along = gathering.ends_before(&next, 1 << 20) && gathering.takes_along(&next, 1 << 20, &anchor, &layout);
            if !along && gathering.ends_before(&next, 1 << 20) {
                lengths.push(gathering.finish(&anchor, Some(&next), &layout, 1).unwrap().frames);
            }
            gathering.push(next);
            if along {
                lengths.push(gathering.finish(&anchor, None, &layout, 1).unwrap().frames);
            }
        }
        lengths
    }

    #[test]
    fn a_picture_that_fits_the_padding_joins_the_fragment() {
        let in_order = |bytes| (0..201).map(|n| (n, bytes)).collect::<Vec<_>>();
        assert_eq!(lengths(&in_order(10)), [25, 25, 26, 24, 26, 24, 26, 24], "the first second of a run may yet have B-frames");
        assert_eq!(lengths(&in_order(4090)), [25; 8], "it would need a block of its own");
        let late = |n| [n, 4, 3][usize::from(n == 3) + 2 * usize::from(n == 4)];
        assert_eq!(
            lengths(&in_order(10).iter().map(|(n, bytes)| (late(*n), *bytes)).collect::<Vec<_>>()),
            [25; 8],
            "a run with B-frames"
        );
    }

    #[test]
    fn b_frames_are_never_torn_from_the_pictures_they_need() {
        // Decode order of an IBBP stream: after one second the next P may begin a fragment, a B may not.
        let stream: Vec<_> = (0..20).flat_map(|i| [(i * 120 + 80, i == 0), (i * 120, false), (i * 120 + 40, false)]).collect();
        for start in cuts(&stream) {
            assert_eq!(start % 120, 80, "a fragment begins with the B-frame at {start} ms");
        }
    }

    #[test]
    fn composition_offsets_put_b_frames_back_in_order() {
        let mut gathering = Gathering::default();
        for (pts, key) in [(80, true), (0, false), (40, false), (200, false), (120, false), (160, false)] {
            gathering.push(frame(pts, key));
        }
        let anchor = Anchor { run: 1, pts: 0, media: 0 };
        let video = run(1, &video(1), &gathering.frames, &anchor, Some(&frame(320, false))).unwrap();
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
    fn media_time_goes_on_where_the_anchor_puts_it() {
        let mut gathering = Gathering::default();
        gathering.push(frame(5000, true));
        gathering.push(frame(5040, false));
        let anchor = Anchor { run: 1, pts: 4_000_000, media: 70_000_000 };
        let fragment = gathering.finish(&anchor, Some(&frame(5080, false)), &[video(1)], 1).unwrap();
        assert_eq!((fragment.media, fragment.duration, fragment.key), (71_000_000, 80_000, true));
        assert!(gathering.is_empty());
    }

    #[test]
    fn late_sound_keeps_its_time_and_older_sound_is_counted() {
        let sample_entry = vec![0, 0, 0, 8, b'a', b'l', b'a', b'w'];
        let digest = crate::units::Digest::of(&sample_entry);
        let (kind, codec) = (TrackKind::Audio, crate::camera::Codec::PcmAlaw);
        let params = TrackParams { kind, codec, timescale: 8000, sample_entry, annex_b: Vec::new(), size: (0, 0), digest };
        let params = Arc::new(params);
        let sound = |ms: i64| {
            let (pts, data) = (ms * 8, vec![1; 160].into());
            Arc::new(Frame { params: params.clone(), data, pts, ..Frame::clone(&frame(0, true)) })
        };
        let (mut gathering, layout) = (Gathering::default(), [video(1), params.clone()]);
        let anchor = Anchor { run: 1, pts: 0, media: 10_000_000 };
        let mut cut = |frames: &[Arc<Frame>]| {
            frames.iter().for_each(|frame| gathering.push(frame.clone()));
            gathering.finish(&anchor, None, &layout, 1).unwrap()
        };
        let first = cut(&[frame(0, true), sound(-20), sound(0), frame(40, false)]);
        assert_eq!((first.lead, first.left_out, first.frames), (0, 1, 3), "before the first picture there is nothing");
        let second = cut(&[frame(80, true), sound(20), frame(120, false), sound(40)]);
        assert_eq!((second.media, second.lead, second.left_out), (10_080_000, 60, 0));
        let third = cut(&[frame(160, true), sound(79), sound(80)]);
        assert_eq!((third.lead, third.left_out), (80, 1), "older than the fragment before");
    }
}
