//! Cameras with wrong clocks, recorded by the storage engine on a simulated card: what lies on the
//! card is whole, lasts as long as it took, and costs one flush a second.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use super::engine::Engine;
use super::engine_tests::{audio, small};
use super::*;
use crate::camera::frame_clock::FrameClock;
use crate::camera::{Frame, StreamRole, TrackParams};
use crate::format::record::tests::video;
use crate::settings::StorageSettings;
use crate::sim::faulty_disk::FaultyDisk;
use crate::units::{MonoTime, Timestamp};

/// Seconds that each camera records.
const SECONDS: i64 = 60;

fn at(micros: i64) -> Timestamp {
    Timestamp { mono: MonoTime(micros as u64), ..Timestamp::default() }
}

fn frame(params: &Arc<TrackParams>, pts: i64, key: bool, arrival: i64) -> Frame {
    Frame {
        role: StreamRole::Main,
        params: params.clone(),
        data: vec![7; 160].into(),
        key,
        pts,
        run: 0,
        at: at(arrival),
        lost: 0,
    }
}

/// Records pictures with the stamps (90 kHz) of `picture`, and sound of 20 ms that comes every
/// `every` microseconds with the stamps (8 kHz) of `sound`.
fn recorded(picture: impl Fn(i64) -> i64, every: i64, sound: impl Fn(i64) -> i64) -> (u64, i64) {
    let settings = StorageSettings { budget: 64 << 20, segment: 1 << 20, ..small() };
    let disk = FaultyDisk::new(None);
    let now = at(1_000_000);
    let (mut engine, mut out) = Engine::open(Arc::new(disk.clone()), &settings, now).unwrap();
    let (tracks, mut clock) = ([video(1), audio()], FrameClock::new(0));
    let (mut pictures, mut sounds, mut given) = (0, 0, 0);
    for now in (2_000_000..2_000_000 + SECONDS * 1_000_000).step_by(1_000) {
        let due = now - 2_000_000;
        if due >= pictures * 40_000 {
            clock.push(frame(&tracks[0], picture(pictures), pictures % 25 == 0, now));
            pictures += 1;
        }
        while due >= sounds * every {
            clock.push(frame(&tracks[1], sound(sounds), true, now));
            sounds += 1;
        }
        while let Some(frame) = clock.pop(at(now)) {
            given += u64::from(frame.kind() == crate::camera::TrackKind::Video);
            engine.frame(&Arc::new(frame), &mut out);
        }
        if now % 200_000 == 0 {
            engine.idle(at(now), &mut out);
        }
    }
    engine.request(at(2_000_000 + SECONDS * 1_000_000), StorageRequest::Stop, &mut out);
    let disk: Arc<dyn super::disk::Disk> = Arc::new(disk);
    let checked = super::check::check(&disk, |_, _| {}).unwrap();
    assert_eq!(checked.problems, []);
    assert_eq!((checked.holes, given), (0, pictures as u64), "a picture is missing");
    (checked.records, engine.media_end as i64)
}

fn whole(case: &str, (records, lasts): (u64, i64)) {
    assert!(records <= SECONDS as u64 + 5, "{case}: {records} records in {SECONDS} s");
    let off = lasts - SECONDS * 1_000_000;
    assert!(off.abs() <= SECONDS * 10_000, "{case}: {SECONDS} s last {lasts} us");
}

#[test]
fn cameras_with_wrong_stamps_leave_a_whole_ring() {
    let right = |n: i64| n * 160;
    let back = |n: i64| if n % 25 == 0 { 18_000 } else { 0 };
    whole("fast", recorded(|n| n * 4500, 20_000, right));
    whole("slow", recorded(|n| n * 2700, 20_000, right));
    whole("frozen", recorded(|_| 123_456, 20_000, right));
    whole("set back 3 s", recorded(|n| n * 3600 - n / 125 * 270_000, 20_000, right));
    whole("pairs", recorded(|n| n / 2 * 7200, 20_000, right));
    whole("back at key frames", recorded(|n| n * 3600 - back(n), 20_000, right));
}

#[test]
fn cameras_with_wrong_sound_leave_a_whole_ring() {
    let picture = |n: i64| 3_000_000_000 + n * 3600;
    whole("no origin", recorded(picture, 20_000, |n| 1_000_000 + n * 160));
    whole("5 % fast", recorded(picture, 19_048, |n| n * 160));
    whole("5 % slow", recorded(picture, 21_053, |n| n * 160));
    whole("1 % slow", recorded(picture, 20_202, |n| n * 160));
    whole("frozen", recorded(picture, 20_000, |_| 7));
}
