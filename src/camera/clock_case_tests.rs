//! Cases from the field and their variations: clocks of cameras and their sound.

use super::clock_belief::ClockFault;
use super::frame_clock::FrameClock;
use super::timeline_tests::{Got, Sent, camera, check, play, worst};

/// Plays a session of pictures; returns the largest error from frame `from` on, microseconds.
fn error_of(sent: &[Sent], from: usize) -> i64 {
    let got = play(&mut FrameClock::new(0), sent);
    assert_eq!(got.len(), sent.len());
    check(&got);
    worst(&got, from)
}

#[test]
fn stamps_in_milliseconds_are_dated_right() {
    let sent: Vec<Sent> = (0..3000_i64)
        .map(|n| {
            let captured = 100_000_000 + n * 100_000 / 3;
            let (stamp, arrival) = (n * 100 / 3 * 1000, captured + 9_000 + n % 7 * 3_000);
            Sent { captured, stamp, arrival, key: n % 30 == 0, sound: false }
        })
        .collect();
    assert!(error_of(&sent, 0) < 60_000);
}

#[test]
fn a_clock_set_forward_or_back_any_number_of_times_is_repaired() {
    for step in [-86_400_000_000, -60_000_000, -900_000, -200_000, 700_000, 3_600_000_000_i64] {
        let sent = camera(2000, |n| n * 40_000 + n / 170 * step);
        let error = error_of(&sent, 0);
        assert!(error < 300_000, "{step}: {error}");
    }
}

#[test]
fn stamps_that_lose_200_ms_at_each_key_frame_are_repaired() {
    let error = error_of(&camera(2000, |n| n * 40_000 - n / 25 * 200_000), 0);
    assert!(error < 600_000, "{error}");
}

#[test]
fn three_frames_with_one_stamp_are_spread() {
    let error = error_of(&camera(2000, |n| n / 3 * 120_000), 10);
    assert!(error < 100_000, "{error}");
}

#[test]
fn random_stamps_are_dated_by_arrival() {
    let error = error_of(&camera(2000, |n| n * 7_919_000_003 % 4_294_967_291), 0);
    assert!(error < 600_000, "{error}");
}

#[test]
fn single_damaged_stamps_move_nothing_else() {
    let damage = |n: i64| if n % 40 == 17 { n % 80 * 90_000_000 - 300_000_000 } else { 0 };
    let error = error_of(&camera(2000, |n| n * 40_000 + damage(n)), 0);
    assert!(error < 100_000, "{error}");
}

#[test]
fn stamps_of_another_clock_rate_are_dated_right() {
    let error = error_of(&camera(4000, |n| n * 40_000 * 90 / 8), 800);
    assert!(error < 300_000, "{error}");
    let error = error_of(&camera(4000, |n| n * 40_000 * 8 / 90), 800);
    assert!(error < 300_000, "{error}");
}

#[test]
fn a_camera_that_pauses_its_clock_is_dated_right_after_it() {
    let mut sent = camera(1000, |n| n * 40_000);
    for frame in &mut sent[400..] {
        frame.captured += 8_000_000;
        frame.arrival += 8_000_000;
    }
    assert!(error_of(&sent, 0) < 100_000);
}

#[test]
fn a_pre_buffer_of_5_s_is_dated_in_the_past() {
    let mut sent = camera(1000, |n| n * 40_000);
    for (n, frame) in sent[..125].iter_mut().enumerate() {
        frame.arrival = 105_000_000 + n as i64 * 500;
    }
    let got = play(&mut FrameClock::new(0), &sent);
    check(&got);
    assert!(worst(&got, 0) < 100_000, "{}", worst(&got, 0));
    assert!(got.windows(2).all(|pair| (30_000..60_000).contains(&(pair[1].pts - pair[0].pts))));
}

#[test]
fn a_freeze_of_30_s_and_its_burst_keep_their_spacing() {
    for drain in [0, 4_000, 10_000] {
        for rate in [1.0, 1.25] {
            let mut sent = camera(4000, |n| (n as f64 * 40_000.0 * rate) as i64);
            for n in 1500..2250 {
                let arrival = sent[2250].captured + (n - 1500) * drain;
                sent[n as usize].arrival = arrival;
            }
            let mut last = 0;
            for frame in &mut sent {
                frame.arrival = frame.arrival.max(last + 10);
                last = frame.arrival;
            }
            let error = error_of(&sent, 300);
            assert!(error < 400_000, "{drain} us a frame, rate {rate}: {error}");
        }
    }
}

#[test]
fn a_session_after_another_does_not_date_backwards() {
    let mut clock = FrameClock::new(7);
    let first = play(&mut clock, &camera(250, |n| n * 40_000));
    clock.restart();
    // It repeats the last five seconds.
    let mut sent = camera(500, |n| 9_000_000_000 + n * 40_000);
    for frame in &mut sent {
        frame.captured += 6_000_000;
        frame.arrival = (frame.arrival + 6_000_000).max(111_000_000);
    }
    let second = play(&mut clock, &sent);
    check(&[first, second.clone()].concat());
    assert_eq!(clock.run(), 9);
    assert!(worst(&second, 130) < 100_000);
}

#[test]
fn b_frames_keep_their_order_whatever_the_rate_is() {
    for rate in [1.0, 1.25, 0.75] {
        let mut sent = camera(3000, |n| (n as f64 * 40_000.0 * rate) as i64);
        for group in sent[1..].chunks_exact_mut(3).filter(|group| group.iter().all(|f| !f.key)) {
            let arrivals = [group[2].arrival, group[2].arrival + 10, group[2].arrival + 20];
            group.rotate_right(1);
            for (frame, arrival) in group.iter_mut().zip(arrivals) {
                frame.arrival = arrival;
            }
        }
        let mut got = play(&mut FrameClock::new(0), &sent);
        assert!(got.iter().all(|one| one.at <= one.sent.arrival));
        got.sort_by_key(|one| one.pts);
        let rises = |pair: &[Got]| pair[1].sent.captured > pair[0].sent.captured;
        assert!(got.windows(2).all(|pair| rises(pair) && pair[1].pts > pair[0].pts), "{rate}");
    }
}

/// The faults that a clock reports while it plays.
fn reports(sent: &[Sent]) -> Vec<(Option<ClockFault>, i64)> {
    let mut clock = FrameClock::new(0);
    let mut reports = Vec::new();
    for one in sent.chunks(25) {
        play(&mut clock, one);
        reports.extend(clock.report().map(|report| (report.fault, (report.rate * 100.0) as i64)));
    }
    reports
}

#[test]
fn a_clock_that_cannot_be_believed_is_reported_once() {
    assert_eq!(reports(&camera(9000, |n| n * 40_010)), []);
    assert_eq!(reports(&camera(9000, |n| n / 2 * 80_000)), []);
    let fast = reports(&camera(9000, |n| n * 50_000));
    assert!(matches!(fast[..], [(Some(ClockFault::Fast), 120..=128)]), "{fast:?}");
    let slow = reports(&camera(9000, |n| n * 30_000));
    assert!(matches!(slow[..], [(Some(ClockFault::Slow), 72..=78)]), "{slow:?}");
    let frozen = reports(&camera(9000, |_| 0));
    assert!(matches!(frozen[..], [(Some(ClockFault::Frozen), _)]), "{frozen:?}");
    let jumps = reports(&camera(9000, |n| n * 40_000 - if n % 25 == 0 { 200_000 } else { 0 }));
    assert!(matches!(jumps[..], [(Some(ClockFault::Jumps), _)]), "{jumps:?}");
}

#[test]
fn a_camera_that_repairs_itself_is_believed_again() {
    let back = camera(30_000, |n| if n < 5000 { 0 } else { n * 40_000 });
    let reported = reports(&back);
    assert!(
        matches!(reported[..], [(Some(ClockFault::Frozen), _), (None, 99..=101)]),
        "{reported:?}"
    );
}

/// A camera with sound of 20 ms; stamp and arrival of each audio frame come from its number and its
/// true time.
fn with_sound(seconds: i64, every: i64, sound: impl Fn(i64, i64) -> (i64, i64)) -> Vec<Sent> {
    let mut sent = camera(seconds * 25, |n| 33_333_000_000 + n * 40_000);
    for n in 0..seconds * 1_000_000 / every {
        let captured = 100_000_000 + n * every;
        let (stamp, arrival) = sound(n, captured + 5_000 + n * 31 % 11 * 1_000);
        sent.push(Sent { captured, stamp, arrival, key: true, sound: true });
    }
    sent.sort_by_key(|frame| frame.arrival);
    sent
}

/// Asserts that sound rises, lies near its true time, and ends with the picture at each minute.
/// Returns frames sent, kept, dropped and padded.
fn sound_of(sent: &[Sent]) -> (usize, usize, u64, u64) {
    let mut clock = FrameClock::new(0);
    let got = play(&mut clock, sent);
    let (sound, video): (Vec<Got>, Vec<Got>) = got.iter().partition(|one| one.sent.sound);
    check(&video);
    assert_eq!(video.len(), sent.iter().filter(|frame| !frame.sound).count());
    for pair in sound.windows(2) {
        assert!(pair[1].pts > pair[0].pts, "{pair:?}");
    }
    for one in &sound {
        let off = one.pts - one.sent.captured;
        let start = one.sent.captured < 110_000_000;
        assert!(off.abs() < if start { 1_100_000 } else { 300_000 }, "{off}: {one:?}");
    }
    for end in (160_000_000..video[video.len() - 1].pts).step_by(60_000_000) {
        let before = |all: &[Got]| all.iter().rev().find(|one| one.pts <= end).map(|one| one.pts);
        let off = before(&video).unwrap() - before(&sound).unwrap();
        assert!(off.abs() <= 100_000, "sound ends {off} us before the picture at {end}");
    }
    let counts = clock.sound_counts();
    let all = sent.iter().filter(|frame| frame.sound).count();
    (all, sound.len(), counts.dropped, counts.padded)
}

#[test]
fn sound_with_an_origin_of_its_own_lies_with_its_picture() {
    let (all, kept, dropped, padded) = sound_of(&with_sound(120, 20_000, |n, at| (n * 20_000, at)));
    assert!(kept + 30 >= all && dropped + padded == 0, "{all} {kept} {dropped} {padded}");
}

#[test]
fn sound_that_runs_fast_or_slow_loses_nothing() {
    for every in [19_048, 19_802, 20_202, 21_053] {
        let sent = with_sound(300, every, |n, at| (n * 20_000, at));
        let (all, kept, dropped, padded) = sound_of(&sent);
        assert!(kept + 30 >= all && dropped + padded <= 10, "{every}: {kept} {dropped} {padded}");
    }
}

#[test]
#[ignore = "ten hours of sound; tests/run --full"]
fn sound_that_runs_a_thousandth_fast_for_ten_hours_stays() {
    let (all, kept, ..) = sound_of(&with_sound(36_000, 19_980, |n, at| (n * 20_000, at)));
    assert!(kept + 30 >= all, "{kept} of {all}");
}

#[test]
fn sound_with_frozen_or_jumping_stamps_lies_with_its_picture() {
    let (all, kept, ..) = sound_of(&with_sound(120, 20_000, |_, at| (7, at)));
    assert!(kept + all / 20 >= all, "frozen: {kept} of {all}");
    let jumps = |n: i64| n * 20_000 + n / 1000 * 3_600_000_000 - n / 1500 * 9_000_000_000;
    let (all, kept, ..) = sound_of(&with_sound(120, 20_000, |n, at| (jumps(n), at)));
    assert!(kept + all / 20 >= all, "jumps: {kept} of {all}");
}

#[test]
fn sound_that_comes_a_second_at_a_time_lies_with_its_picture() {
    let batch = |n: i64, _| (n * 20_000, 100_985_000 + n / 50 * 1_000_000 + n % 50 * 100);
    let (all, kept, ..) = sound_of(&with_sound(120, 20_000, batch));
    assert!(kept + all / 20 >= all, "{kept} of {all}");
}

#[test]
fn a_hole_in_the_sound_is_time_of_whole_frames() {
    let mut sent = with_sound(120, 20_000, |n, at| (n * 20_000, at));
    sent.retain(|frame| !frame.sound || !(130_000_000..140_000_000).contains(&frame.captured));
    let (_, _, dropped, padded) = sound_of(&sent);
    assert!(dropped == 0 && (495..=505).contains(&padded), "{dropped} {padded}");
}
