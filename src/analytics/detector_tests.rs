//! Tests of the detector on drawn scenes: which objects it reports and which changes it ignores.

use super::*;
use crate::analytics::{MotionPhase, MotionUpdate};
use crate::settings::{Zone, ZoneKind};
use crate::units::MonoTime;

const FPS: u64 = 5;

fn settings() -> MotionSettings {
    crate::settings::test_settings().motion
}

/// A textured scene with noise, with a box of another brightness at `object`.
fn picture(number: u64, light: f32, object: Option<(usize, usize)>) -> Picture {
    let (width, height) = (320, 180);
    let hash = |i: u64| {
        i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
            >> 33
    };
    let mut y: Vec<u8> = (0..width * height)
        .map(|i| {
            let texture = 90 + (hash(i as u64) % 50) as i32;
            let noise = (hash(i as u64 ^ number << 32) % 5) as i32 - 2;
            ((texture as f32 * light) as i32 + noise).clamp(0, 255) as u8
        })
        .collect();
    if let Some((left, top)) = object {
        for row in top..(top + 30).min(height) {
            for column in left..(left + 20).min(width) {
                y[row * width + column] =
                    200 + (hash((row - top) as u64 * 20 + (column - left) as u64) % 40) as u8;
            }
        }
    }
    let chroma = (width / 2) * (height / 2);
    Picture { width, height, y, u: vec![135; chroma], v: vec![122; chroma] }
}

/// The updates of a detector for `seconds` of pictures drawn by `draw(number, second)`.
fn watch(
    settings: MotionSettings,
    seconds: f64,
    draw: impl Fn(u64, f64) -> Picture,
) -> Vec<AnalyticsUpdate> {
    let mut detector = Detector::new(settings, 1 << 20, Stages::ALL);
    let mut out = Vec::new();
    for number in 0..(seconds * FPS as f64) as u64 {
        let second = number as f64 / FPS as f64;
        let at = Timestamp {
            mono: MonoTime(1_000_000 + number * 1_000_000 / FPS),
            ..Timestamp::default()
        };
        detector.analyze(&draw(number, second), at, &mut out);
    }
    out
}

fn walker(second: f64, begin: f64) -> Option<(usize, usize)> {
    let way = (second - begin) / 6.0;
    (0.0..1.0).contains(&way).then_some((10 + (way * 280.0) as usize, 100))
}

fn motions(update: &[AnalyticsUpdate], phase: MotionPhase) -> Vec<&MotionUpdate> {
    update
        .iter()
        .filter_map(|update| match update {
            AnalyticsUpdate::Motion(motion) if motion.phase == phase => Some(motion),
            _ => None,
        })
        .collect()
}

#[test]
fn a_crossing_is_one_event_with_direction_and_snapshot() {
    let update = watch(settings(), 30.0, |n, s| picture(n, 1.0, walker(s, 10.0)));
    let (starts, ends) = (motions(&update, MotionPhase::Start), motions(&update, MotionPhase::End));
    assert_eq!((starts.len(), ends.len()), (1, 1), "{update:?}");
    let late = starts[0].at.mono.since(MonoTime(11_000_000));
    assert!(late < 1_200_000, "it began {late} us late");
    let direction = ends[0].direction.unwrap();
    assert!((80.0..100.0).contains(&direction), "it went right, not {direction}");
    assert_eq!(
        update.iter().filter(|update| matches!(update, AnalyticsUpdate::Snapshot { .. })).count(),
        1
    );
    assert_eq!(ends[0].zones, ["all"]);
}

#[test]
fn an_empty_noisy_scene_is_silent() {
    let update = watch(settings(), 40.0, |n, _| picture(n, 1.0, None));
    assert!(update.is_empty(), "{update:?}");
}

#[test]
fn a_light_step_is_an_exposure_change_and_no_motion() {
    let update = watch(settings(), 30.0, |n, s| picture(n, if s < 15.0 { 1.0 } else { 1.4 }, None));
    assert!(motions(&update, MotionPhase::Start).is_empty(), "{update:?}");
    assert!(update.iter().any(|update| matches!(
        update,
        AnalyticsUpdate::Scene { change: SceneChange::Exposure, .. }
    )));
}

#[test]
fn motion_in_an_excluded_or_privacy_zone_starts_no_event() {
    for kind in [ZoneKind::Exclude, ZoneKind::Privacy] {
        let polygon = vec![[0.0, 0.4], [1.0, 0.4], [1.0, 1.0], [0.0, 1.0]];
        let zones = vec![Zone { name: "road".into(), kind, polygon }];
        let update = watch(MotionSettings { zones, ..settings() }, 30.0, |n, s| {
            picture(n, 1.0, walker(s, 10.0))
        });
        assert!(motions(&update, MotionPhase::Start).is_empty(), "{kind:?}: {update:?}");
    }
}

#[test]
fn starts_within_the_cooldown_are_suppressed_and_counted() {
    let settings = MotionSettings { cooldown: 30_000_000, ..settings() };
    let begins = [10.0, 25.0, 70.0];
    let update = watch(settings, 90.0, |n, s| {
        picture(n, 1.0, begins.iter().find_map(|begin| walker(s, *begin)))
    });
    let starts = motions(&update, MotionPhase::Start);
    assert_eq!(starts.len(), 2, "{update:?}");
    assert!(starts[1].suppressed >= 1);
}

#[test]
fn an_endless_event_is_cut_and_continued() {
    let settings = MotionSettings { max_event: 10_000_000, ..settings() };
    let back_and_forth = |s: f64| {
        let way = ((s - 6.0) / 8.0).fract();
        Some((10 + ((if way < 0.5 { way } else { 1.0 - way }) * 500.0) as usize, 100))
            .filter(|_| s > 6.0)
    };
    let update = watch(settings, 40.0, |n, s| picture(n, 1.0, back_and_forth(s)));
    let starts = motions(&update, MotionPhase::Start);
    assert!(
        starts.iter().any(|start| start.continued_from == Some(start.event_no - 1)),
        "{update:?}"
    );
}

#[test]
fn a_reconnect_starts_no_event() {
    let mut detector = Detector::new(settings(), 1 << 20, Stages::ALL);
    let mut out = Vec::new();
    for number in 0..100_u64 {
        if number == 50 {
            detector.interrupted();
        }
        let at = Timestamp { mono: MonoTime(1_000_000 + number * 200_000), ..Timestamp::default() };
        let grey = Picture { y: vec![128; 320 * 180], ..picture(0, 1.0, None) };
        let shown = if (50..52).contains(&number) { grey } else { picture(number, 1.0, None) };
        detector.analyze(&shown, at, &mut out);
    }
    assert!(motions(&out, MotionPhase::Start).is_empty(), "{out:?}");
}

#[test]
fn flickering_light_raises_no_activity_and_leaves_do() {
    // Of five pictures a second, two show 80 x 60 cells that are lit or full of leaves.
    let restless = |change: fn(usize, u8) -> u8| {
        let mut detector = Detector::new(settings(), 1 << 20, Stages::ALL);
        for number in 0..100_u64 {
            let mut shown = picture(number, 1.0, None);
            for row in (60..120).filter(|_| number > 25 && number % 5 < 2) {
                for column in 100..180 {
                    let cell = &mut shown.y[row * 320 + column];
                    *cell = change(row * 83 + column * 47 + number as usize * 31, *cell);
                }
            }
            let at =
                Timestamp { mono: MonoTime(1_000_000 + number * 200_000), ..Timestamp::default() };
            detector.analyze(&shown, at, &mut Vec::new());
        }
        let scene_model = detector.scene_model.unwrap();
        let cells: Vec<usize> =
            (60..120).flat_map(|row| (100..180).map(move |column| row * 320 + column)).collect();
        scene_model.activity_map.usual(&Blob {
            bbox: [100.0, 60.0, 180.0, 120.0],
            area: cells.len() as f32,
            cells,
        })
    };
    let (lit, leaves) = (
        restless(|_, cell| (f32::from(cell) * 1.5) as u8),
        restless(|at, cell| cell ^ (at % 7 * 30) as u8),
    );
    assert!(lit < 100.0 && leaves > 2000.0, "{lit} and {leaves} cells");
}

#[test]
fn explained_regions_do_not_raise_the_activity_level() {
    // 80 x 60 cells with long-standing activity differ in one picture of three.
    let cells: Vec<usize> =
        (60..120).flat_map(|row| (100..180).map(move |column| row * 320 + column)).collect();
    let area = cells.len() as f32;
    let region = Blob { bbox: [100.0, 60.0, 180.0, 120.0], area, cells: cells.clone() };
    let mut detector = Detector::new(settings(), 1 << 20, Stages::ALL);
    let mut least = area;
    for number in 0..250_u64 {
        if number == 50 {
            let activity_map = &mut detector.scene_model.as_mut().unwrap().activity_map;
            (0..60).for_each(|_| activity_map.learn(cells.iter().copied(), 1.0));
        }
        let mut shown = picture(number, 1.0, None);
        for at in cells.iter().filter(|_| number > 50 && number % 3 == 0) {
            shown.y[*at] ^= ((at / 320 * 83 + at * 47 + number as usize * 31) % 7 * 30) as u8;
        }
        let at = Timestamp { mono: MonoTime(1_000_000 + number * 200_000), ..Timestamp::default() };
        detector.analyze(&shown, at, &mut Vec::new());
        if number >= 50 {
            least = least.min(detector.scene_model.as_ref().unwrap().activity_map.usual(&region));
        }
    }
    // 780 when explained regions raise the level, 410 when only unexplained ones do.
    assert!(least < 600.0, "{least} of {area} cells");
}

#[cfg(feature = "sim")]
#[test]
fn tampering_is_reported_within_ten_seconds() {
    use crate::sim::scene::{Disturbance, Scene, TAMPERED};
    const LOOKS: u64 = 4;
    // With a coarse encoder a covered lens has no noise left, so the picture looks frozen, too.
    let still = [Disturbance::Covered, Disturbance::Blurred, Disturbance::Black]
        .map(|kind| (kind, TAMPERED + 0.5));
    let kinds = Disturbance::TAMPER
        .into_iter()
        .chain([Disturbance::IrSwitch])
        .map(|kind| (kind, f64::INFINITY));
    for (kind, stands) in kinds.chain(still) {
        // No object crosses: every event is false.
        let scene = Scene::new(3, kind, 0.0);
        let mut detector = Detector::new(settings(), 1 << 20, Stages::ALL);
        let mut out = Vec::new();
        for look in 12 * LOOKS..42 * LOOKS {
            let shown = scene.draw((look as f64 / LOOKS as f64).min(stands), 320, 180);
            let picture = Picture { width: 320, height: 180, y: shown.y, u: shown.u, v: shown.v };
            let at = Timestamp {
                mono: MonoTime(1_000_000 + look * 1_000_000 / LOOKS),
                ..Timestamp::default()
            };
            if look.is_multiple_of(2 * LOOKS) {
                detector.key_frame();
            }
            detector.analyze(&picture, at, &mut out);
        }
        assert!(motions(&out, MotionPhase::Start).is_empty(), "{kind:?}: {out:?}");
        let scenes = out.iter().filter_map(|update| match update {
            AnalyticsUpdate::Scene { change, at } => {
                Some((change.as_str(), (at.mono.0 - 1_000_000) as f64 / 1e6 - TAMPERED))
            }
            _ => None,
        });
        let reported: Vec<_> =
            scenes.filter(|(word, _)| !["exposure", "ir_on"].contains(word)).collect();
        match (kind.tampering(), reported.as_slice()) {
            (Some(word), [(actual, late)]) if word == *actual && (0.0..10.0).contains(late) => {}
            (None, []) => {}
            _ => panic!("{kind:?}: {reported:?}"),
        }
    }
}
