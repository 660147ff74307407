//! Tests of the frame clock on simulated cameras. The generator states true capture times, and
//! shares nothing with the estimator.

use super::frame_clock::FrameClock;
use super::{Codec, Frame, StreamRole, TrackKind, TrackParams};
use crate::units::{Digest, MonoTime, Timestamp};
use std::sync::Arc;

/// A frame as it leaves the camera and arrives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// True capture time, microseconds.
    pub(super) captured: i64,
    /// The camera's stamp, microseconds.
    pub(super) stamp: i64,
    pub(super) arrival: i64,
    pub(super) key: bool,
    pub(super) sound: bool,
}

/// A frame as it was placed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Got {
    pub(super) sent: Sent,
    pub(super) at: i64,
    pub(super) pts: i64,
}

pub(super) fn stamp(micros: i64) -> Timestamp {
    Timestamp { mono: MonoTime(micros as u64), ..Timestamp::default() }
}

pub(super) fn params(kind: TrackKind) -> Arc<TrackParams> {
    let (codec, timescale) = match kind {
        TrackKind::Video => (Codec::H264, 1_000_000),
        TrackKind::Audio => (Codec::PcmAlaw, 1_000_000),
    };
    Arc::new(TrackParams {
        kind,
        codec,
        timescale,
        sample_entry: Vec::new(),
        annex_b: Vec::new(),
        size: (0, 0),
        digest: Digest::of(&[kind as u8]),
    })
}

/// Plays a session into a clock. Every frame comes out once, in order; sound may be left out.
pub(super) fn play(clock: &mut FrameClock, sent: &[Sent]) -> Vec<Got> {
    let tracks = [params(TrackKind::Video), params(TrackKind::Audio)];
    let mut got = Vec::new();
    let mut take = |clock: &mut FrameClock, now: i64| {
        while let Some(frame) = clock.pop(stamp(now)) {
            let n = u32::from_be_bytes(frame.data[..4].try_into().unwrap()) as usize;
            got.push(Got { sent: sent[n], at: frame.at.mono.0 as i64, pts: frame.pts });
        }
    };
    for (n, frame) in sent.iter().enumerate() {
        clock.push(Frame {
            role: StreamRole::Main,
            params: tracks[usize::from(frame.sound)].clone(),
            data: (n as u32).to_be_bytes().to_vec().into(),
            key: frame.key,
            pts: frame.stamp,
            run: 0,
            at: stamp(frame.arrival),
            lost: 0,
        });
        take(clock, frame.arrival);
    }
    clock.flush();
    take(clock, sent.last().map_or(0, |frame| frame.arrival));
    got
}

/// 25 pictures a second from second 100 on, with a GOP of a second and arrivals 5 to 35 ms late.
pub(super) fn camera(pictures: i64, stamps: impl Fn(i64) -> i64) -> Vec<Sent> {
    (0..pictures)
        .map(|n| {
            let captured = 100_000_000 + n * 40_000;
            let arrival = captured + 5_000 + n * 7919 % 30_000;
            Sent { captured, stamp: stamps(n), arrival, key: n % 25 == 0, sound: false }
        })
        .collect()
}

/// Asserts the promises for all frames: times rise, none is in the future.
pub(super) fn check(got: &[Got]) {
    for pair in got.windows(2) {
        assert!(pair[1].pts > pair[0].pts, "presentation time does not rise: {pair:?}");
        assert!(pair[1].at >= pair[0].at, "capture time goes back: {pair:?}");
    }
    for one in got {
        assert!(one.at <= one.sent.arrival, "in the future: {one:?}");
    }
}

/// Largest error of the capture times from frame `from` on, microseconds.
pub(super) fn worst(got: &[Got], from: usize) -> i64 {
    got[from..].iter().map(|one| (one.at - one.sent.captured).abs()).max().unwrap_or(0)
}

/// Plays one session of pictures and returns the largest error from frame `from` on.
fn error_of(sent: &[Sent], from: usize) -> i64 {
    let got = play(&mut FrameClock::new(0), sent);
    assert_eq!(got.len(), sent.len());
    check(&got);
    let span = got[got.len() - 1].pts - got[from].pts;
    let wall = sent[sent.len() - 1].captured - sent[from].captured;
    assert!((span - wall).abs() <= wall / 100 + 100_000, "{span} for {wall}");
    worst(&got, from)
}

#[test]
fn arrival_jitter_does_not_reach_the_capture_time() {
    let sent = camera(500, |n| n * 40_000);
    let got = play(&mut FrameClock::new(0), &sent);
    check(&got);
    for pair in got.windows(2) {
        assert!((pair[1].pts - pair[0].pts - 40_000).abs() <= 2_500, "{pair:?}");
    }
}

#[test]
fn stamps_25_percent_fast_are_dated_right() {
    let sent = camera(3000, |n| n * 50_000);
    let error = error_of(&sent, 0);
    assert!(error < 1_000_000, "{error}");
    let error = error_of(&sent, 200);
    assert!(error < 200_000, "{error}");
}

#[test]
fn stamps_30_percent_slow_are_dated_right() {
    let error = error_of(&camera(3000, |n| n * 28_000), 0);
    assert!(error < 2_000_000, "{error}");
    let error = error_of(&camera(3000, |n| n * 28_000), 300);
    assert!(error < 300_000, "{error}");
}

#[test]
fn frozen_stamps_are_dated_by_arrival() {
    let error = error_of(&camera(1000, |_| 7_000_000), 0);
    assert!(error < 200_000, "{error}");
}

#[test]
fn a_clock_set_back_3_s_is_repaired() {
    let error = error_of(&camera(1000, |n| n * 40_000 - if n >= 125 { 3_000_000 } else { 0 }), 0);
    assert!(error < 200_000, "{error}");
}

#[test]
fn paired_stamps_are_spread() {
    let sent = camera(500, |n| n / 2 * 80_000);
    let got = play(&mut FrameClock::new(0), &sent);
    check(&got);
    for pair in got[50..].windows(2) {
        let step = pair[1].pts - pair[0].pts;
        assert!((35_000..=45_000).contains(&step), "{pair:?}");
    }
}

#[test]
fn key_frames_stamped_200_ms_early_are_repaired() {
    let back = |n: i64| if n % 25 == 0 && n > 0 { 200_000 } else { 0 };
    let error = error_of(&camera(1000, |n| n * 40_000 - back(n)), 0);
    assert!(error < 100_000, "{error}");
}
