//! Tests of the analyzer on coded streams: stream faults start no events, and sleep misses none.

use std::sync::OnceLock;

use super::*;
use crate::analytics::{MotionPhase, MotionUpdate};
use crate::camera::{Codec, StreamRole, TrackParams};
use crate::sim::encode::Camera264;
use crate::sim::scene::{Disturbance, Scene};
use crate::units::MonoTime;

const FPS: u64 = 10;

/// A coded scene of `seconds`; objects cross it until second `until`.
fn coded(size: (usize, usize), seconds: u64, until: f64) -> Vec<Frame> {
    coded_by(
        Camera264::new(size.0, size.1, FPS as u32, 400_000).unwrap(),
        size,
        seconds,
        until,
        |number| number,
    )
}

/// The same by another encoder. Each picture shows the scene at the picture number that `number_of`
/// returns.
fn coded_by(
    mut encoder: Camera264,
    size: (usize, usize),
    seconds: u64,
    until: f64,
    number_of: impl Fn(u64) -> u64,
) -> Vec<Frame> {
    let scene = Scene::new(7, Disturbance::None, until);
    let mut params = None;
    (0..seconds * FPS)
        .map(|number| {
            let picture = scene.draw(number_of(number) as f64 / FPS as f64, size.0, size.1);
            let unit = encoder.encode(&picture, number).unwrap();
            let params = params.get_or_insert_with(|| {
                let sets = unit.nals.iter().filter(|nal| matches!(nal[0] & 0x1f, 7 | 8));
                let annex_b: Vec<u8> =
                    sets.flat_map(|nal| [&[0, 0, 0, 1], &nal[..]].concat()).collect();
                Arc::new(TrackParams {
                    kind: TrackKind::Video,
                    codec: Codec::H264,
                    timescale: 90_000,
                    sample_entry: Vec::new(),
                    digest: Digest::of(&annex_b),
                    annex_b,
                    size: (size.0 as u16, size.1 as u16),
                })
            });
            let data: Vec<u8> = unit
                .nals
                .iter()
                .flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], &nal[..]].concat())
                .collect();
            let at = Timestamp {
                mono: MonoTime(1_000_000 + number * 1_000_000 / FPS),
                ..Timestamp::default()
            };
            Frame {
                role: StreamRole::Sub,
                params: params.clone(),
                data: data.into(),
                key: unit.key,
                pts: 0,
                run: 1,
                at,
                lost: 0,
            }
        })
        .collect()
}

/// 30 s of an empty road, at two sizes.
fn empty() -> &'static [Vec<Frame>; 2] {
    static EMPTY: OnceLock<[Vec<Frame>; 2]> = OnceLock::new();
    EMPTY.get_or_init(|| [coded((320, 176), 30, 0.0), coded((480, 272), 30, 0.0)])
}

fn watch(settings: MotionSettings, frames: &[Frame]) -> (Vec<AnalyticsUpdate>, AnalyticsCounts) {
    let mut analyzer = Analyzer::new(settings, 1 << 20, Stages::ALL);
    let mut out = Vec::new();
    for frame in frames {
        analyzer.frame(&Arc::new(frame.clone()), &mut |_, _, _| (), &mut out);
    }
    (out, analyzer.counts())
}

fn awake() -> MotionSettings {
    MotionSettings { gating: false, ..MotionSettings::default() }
}

fn starts(update: &[AnalyticsUpdate]) -> Vec<&MotionUpdate> {
    let motion = |update: &'_ AnalyticsUpdate| matches!(update, AnalyticsUpdate::Motion(motion) if motion.phase == MotionPhase::Start);
    let starts = update.iter().filter(|update| motion(update));
    starts
        .filter_map(
            |update| if let AnalyticsUpdate::Motion(motion) = update { Some(motion) } else { None },
        )
        .collect()
}

#[track_caller]
fn assert_silent(frames: &[Frame]) -> AnalyticsCounts {
    let (update, counts) = watch(awake(), frames);
    assert!(starts(&update).is_empty(), "{:?}", starts(&update));
    assert!(counts.decoded > 50, "no pictures were decoded: {counts:?}");
    counts
}

#[test]
fn unreported_losses_start_no_event_and_are_counted() {
    let frames: Vec<Frame> = empty()[0]
        .iter()
        .enumerate()
        .filter(|(n, frame)| frame.key || n % 13 != 5)
        .map(|(_, frame)| frame.clone())
        .collect();
    let counts = assert_silent(&frames);
    assert!(counts.failed > 5, "{counts:?}");
}

#[test]
fn after_a_loss_nothing_is_decoded_before_a_key_frame() {
    let mut frames = empty()[0].clone();
    frames[103].lost = 4;
    let (_, all) = watch(awake(), &empty()[0]);
    let counts = assert_silent(&frames);
    assert_eq!(all.decoded - counts.decoded, 17, "from picture 103 to the key frame at 120");
}

#[test]
fn truncated_slices_start_no_event() {
    let mut frames = empty()[0].clone();
    for frame in frames.iter_mut().filter(|frame| !frame.key).step_by(9) {
        // The slice is the last NAL unit; its length field must match its remaining bytes.
        let cut = frame.data.len() / 3;
        let mut data = frame.data[..frame.data.len() - cut].to_vec();
        let sei = u32::from_be_bytes(data[..4].try_into().unwrap()) as usize + 4;
        let slice = (data.len() - sei - 4) as u32;
        data[sei..sei + 4].copy_from_slice(&slice.to_be_bytes());
        frame.data = data.into();
    }
    assert_silent(&frames);
}

#[test]
fn a_change_of_resolution_starts_no_event() {
    let [small, large] = empty();
    let mut frames = small[..150].to_vec();
    frames.extend(large[160..].iter().cloned());
    assert_silent(&frames);
}

/// The GOPs of two films in turns, of 2 s each, with other parameter sets at each of them.
fn in_turns(one: &[Frame], other: &[Frame]) -> Vec<Frame> {
    let pairs = one.iter().zip(other).enumerate();
    pairs
        .map(|(number, (one, other))| {
            let is_other = number / 20 % 2 == 1;
            let mut frame = if is_other { other } else { one }.clone();
            let digest = Digest::of(&[u8::from(is_other)]);
            frame.params = Arc::new(TrackParams { digest, ..TrackParams::clone(&frame.params) });
            assert_eq!(frame.key, number % 20 == 0);
            frame
        })
        .collect()
}

#[test]
fn motion_is_found_while_parameter_sets_take_turns() {
    let frames = coded((320, 176), 45, 30.0);
    for settings in [awake(), MotionSettings::default()] {
        let (one_set, _) = watch(settings.clone(), &frames);
        let (two_sets, _) = watch(settings, &in_turns(&frames, &frames));
        assert_eq!(starts(&one_set).len(), 2, "{:?}", starts(&one_set));
        assert_eq!(starts(&two_sets).len(), 2, "{:?}", starts(&two_sets));
    }
}

#[test]
fn motion_is_found_while_two_sizes_take_turns() {
    let [small, large] = [(320, 176), (480, 272)].map(|size| coded(size, 45, 30.0));
    let (updates, _) = watch(awake(), &in_turns(&small, &large));
    assert_eq!(starts(&updates).len(), 2, "{updates:?}");
    let [small, large] = empty();
    assert_silent(&in_turns(small, large));
}

/// An analyzer that has seen two shapes take turns, and its updates.
fn learning(wide: &[Frame], high: &[Frame]) -> (Analyzer, Vec<AnalyticsUpdate>) {
    let mut analyzer = Analyzer::new(awake(), 1 << 20, Stages::ALL);
    let mut out = Vec::new();
    for frame in in_turns(wide, high) {
        analyzer.frame(&Arc::new(frame), &mut |_, _, _| (), &mut out);
    }
    (analyzer, out)
}

#[test]
fn shapes_that_take_turns_are_reported_as_learning() {
    let [wide, high] = [(320, 176), (240, 192)].map(|size| coded(size, 30, 0.0));
    let (mut analyzer, mut out) = learning(&wide, &high);
    let since = analyzer.learning_since().unwrap();
    assert!(since.mono < MonoTime(2_000_000), "{since:?}");
    for frame in &wide[..100] {
        analyzer.frame(&Arc::new(later(frame)), &mut |_, _, _| (), &mut out);
    }
    assert_eq!((analyzer.learning_since(), starts(&out)), (None, vec![]));
}

#[test]
fn a_scene_is_not_learned_while_motion_is_off() {
    let [wide, high] = [(320, 176), (240, 192)].map(|size| coded(size, 30, 0.0));
    let (mut analyzer, mut out) = learning(&wide, &high);
    let since = analyzer.learning_since().unwrap();
    for enabled in [false, true] {
        analyzer.reconfigure(MotionSettings { enabled, ..awake() }, since, &mut out);
        assert_eq!(analyzer.learning_since(), None, "enabled: {enabled}");
    }
}

/// The same frame 30 s later.
fn later(frame: &Frame) -> Frame {
    let mut frame = frame.clone();
    frame.at.mono = frame.at.mono.plus_secs(30);
    frame
}

#[test]
fn a_reconnect_in_the_middle_of_a_gop_starts_no_event() {
    let mut frames = empty()[0].clone();
    frames.iter_mut().skip(107).for_each(|frame| frame.run = 2);
    assert_silent(&frames);
    // A camera that starts up may send a grey key frame first.
    let grey = crate::sim::scene::Picture {
        width: 320,
        height: 176,
        y: vec![128; 320 * 176],
        u: vec![128; 160 * 88],
        v: vec![128; 160 * 88],
    };
    let mut encoder = Camera264::new(320, 176, FPS as u32, 400_000).unwrap();
    let unit = encoder.encode(&grey, 0).unwrap();
    let data: Vec<u8> = unit
        .nals
        .iter()
        .flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], &nal[..]].concat())
        .collect();
    frames[120].data = data.into();
    assert_silent(&frames);
}

#[test]
fn sleep_decodes_few_pictures_and_misses_no_crossing() {
    let frames = coded((320, 176), 45, 30.0);
    let (awake, all) = watch(awake(), &frames);
    let (asleep, few) = watch(MotionSettings::default(), &frames);
    assert_eq!(starts(&awake).len(), 2, "{:?}", starts(&awake));
    assert_eq!(starts(&asleep).len(), 2, "{:?}", starts(&asleep));
    for (one, other) in starts(&awake).iter().zip(starts(&asleep)) {
        assert!(
            one.started_at.mono.0.abs_diff(other.started_at.mono.0) < 700_000,
            "{one:?} and {other:?}"
        );
    }
    assert!(few.wakes >= 1 && all.wakes == 0);
    let (_, quiet) = watch(MotionSettings::default(), &empty()[0]);
    assert!(quiet.decoded < 200, "{quiet:?}");
}

/// Adds filler data (H.264 7.3.2.7): larger access units that show nothing new.
fn fill(frames: &mut [Frame]) {
    let filler = [&201_u32.to_be_bytes()[..], &[12], &[255; 199], &[0x80]].concat();
    for frame in frames {
        frame.data = [&frame.data[..], &filler.repeat(20)].concat().into();
    }
}

#[test]
fn a_live_scene_with_long_gops_is_not_frozen() {
    // GOPs of ten seconds with 20 pictures that repeat the first, as of an encoder that leaves out
    // all noise between key frames.
    let encoder = Camera264::of_quality(320, 176, FPS as u32, 18).unwrap();
    let mut frames = coded_by(encoder, (320, 176), 30, 0.0, |number| number / 20 * 20);
    for (number, frame) in frames.iter_mut().enumerate() {
        assert_eq!(frame.key, number % 20 == 0);
        frame.at.mono = MonoTime(1_000_000 + number as u64 * 500_000);
    }
    fill(&mut frames[153..156]);
    let (update, counts) = watch(MotionSettings::default(), &frames);
    assert!(counts.wakes > 0, "{counts:?}");
    assert!(
        !update.iter().any(|update| matches!(update, AnalyticsUpdate::Scene { .. })),
        "{update:?}"
    );
}

#[test]
fn an_analyzer_woken_by_sizes_falls_asleep_again() {
    let mut frames = empty()[0].clone();
    fill(&mut frames[150..156]);
    let mut analyzer = Analyzer::new(MotionSettings::default(), 1 << 20, Stages::ALL);
    let (mut out, mut asleep) = (Vec::new(), Vec::new());
    for frame in &frames {
        analyzer.frame(&Arc::new(frame.clone()), &mut |_, _, _| (), &mut out);
        asleep.push(analyzer.is_asleep());
    }
    let counts = analyzer.counts();
    assert!(asleep[149] && !asleep[156] && asleep[299], "{asleep:?}");
    assert_eq!((counts.wakes, counts.failed), (1, 0), "{counts:?}");
    let fell = |at: &usize| asleep[*at] && !asleep[at - 1];
    assert!((1..300).filter(fell).all(|at| frames[at].key), "it falls asleep with a key frame");
}

#[test]
fn pictures_with_b_frames_are_analysed_in_display_order() {
    let mut order = ReorderBuffer::default();
    let picture =
        || Box::new(Picture { width: 2, height: 2, y: vec![0; 4], u: vec![0], v: vec![0] });
    let mut shown = Vec::new();
    // Decoded as I P B B P B B P B B, 100 ms apart.
    for at in [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11] {
        let at = Timestamp { mono: MonoTime(1_000_000 + at * 100_000), ..Timestamp::default() };
        shown.extend(order.next(at, picture()).map(|(at, _)| (at.mono.0 - 1_000_000) / 100_000));
    }
    assert_eq!(
        shown,
        [0, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        "two are lost until the reorder depth is known"
    );
}

#[test]
fn pictures_out_of_order_start_no_event_with_gating_on() {
    let mut frames = empty()[0].clone();
    for pair in frames.chunks_exact_mut(2) {
        let at = pair[0].at;
        pair[0].at = pair[1].at;
        pair[1].at = at;
    }
    let (update, counts) = watch(MotionSettings::default(), &frames);
    assert!(starts(&update).is_empty() && counts.analysed > 50, "{counts:?}");
}

/// The id of a request, and its picture or the reason why there is none.
type SnapshotAnswer = (String, Result<(Timestamp, Vec<u8>), String>);

/// Requests a snapshot before frame number `at` and returns the answers.
fn answers_to_request(
    settings: MotionSettings,
    frames: &[Frame],
    at: usize,
) -> Vec<SnapshotAnswer> {
    let mut analyzer = Analyzer::new(settings, 1 << 20, Stages::ALL);
    let mut out = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        if number == at {
            analyzer.request_snapshot("r1".into(), frame.at.mono);
        }
        analyzer.frame(&Arc::new(frame.clone()), &mut |_, _, _| (), &mut out);
        analyzer.take_snapshots(frame.at.mono, &mut out);
    }
    let snapshot_requests = out.into_iter().filter_map(|update| match update {
        AnalyticsUpdate::RequestedSnapshot { req_id, outcome } => Some((req_id, outcome)),
        _ => None,
    });
    snapshot_requests.collect()
}

#[test]
fn a_requested_snapshot_is_taken_awake_or_asleep() {
    let frames = &empty()[0];
    let off = MotionSettings { enabled: false, ..MotionSettings::default() };
    let keys: Vec<usize> =
        frames.iter().enumerate().filter(|(_, frame)| frame.key).map(|(at, _)| at).collect();
    let key_after = |at: usize| *keys.iter().find(|key| **key >= at).unwrap();
    for (settings, at, shown) in [
        (awake(), 155, 155),
        (MotionSettings::default(), 261, key_after(261)),
        (off, 151, key_after(151)),
    ] {
        let snapshot_requests = answers_to_request(settings, frames, at);
        let [(req_id, Ok((taken, jpeg)))] = &snapshot_requests[..] else {
            panic!("{snapshot_requests:?}")
        };
        assert_eq!((req_id.as_str(), taken.mono), ("r1", frames[shown].at.mono));
        assert!(jpeg.starts_with(&[0xff, 0xd8, 0xff]) && jpeg.ends_with(&[0xff, 0xd9]));
    }
}

#[test]
fn a_snapshot_request_times_out_without_a_camera() {
    let frames = &empty()[0][..100];
    let mut analyzer = Analyzer::new(awake(), 1 << 20, Stages::ALL);
    let mut out = Vec::new();
    analyzer.request_snapshot("r1".into(), frames[0].at.mono);
    analyzer.take_snapshots(frames[0].at.mono.plus_secs(14), &mut out);
    assert!(out.is_empty());
    analyzer.take_snapshots(frames[0].at.mono.plus_secs(15), &mut out);
    assert!(
        matches!(&out[..], [AnalyticsUpdate::RequestedSnapshot { outcome: Err(_), .. }]),
        "{out:?}"
    );
}
