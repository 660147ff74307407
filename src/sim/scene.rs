//! Drawn road scene: sky, houses, verge, road, and traffic at planned times.
//!
//! A seed and a time give the same picture at any size, so main and sub-stream show one scene.

use super::rng::{Rng, mix};
use crate::analytics::SceneChange;

/// A moving object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A car or lorry.
    Vehicle,
    /// A pedestrian.
    Person,
}

/// One crossing of the road: ground truth for detectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crossing {
    /// Time of entry into the picture, seconds.
    pub begin: f64,
    /// Duration, seconds.
    pub seconds: f64,
    /// The object.
    pub who: Actor,
    /// Direction: true from left to right.
    pub rightwards: bool,
    /// Position of its lower edge, 0 (top) to 1 (bottom).
    pub ground: f32,
    /// Height as a share of the picture, 0..1.
    pub height: f32,
    /// Brightness, 0..255.
    pub luma: u8,
}

/// A disturbance of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Disturbance {
    /// Only the noise of the sensor.
    None,
    /// The exposure changes every 10 s.
    Exposure,
    /// Clouds: the light changes slowly.
    Clouds,
    /// The infrared filter switches at second 20: no colour, lower brightness.
    IrSwitch,
    /// The pole shakes by one or two pixels.
    Shake,
    /// Rain streaks.
    Rain,
    /// Headlights sweep over the road.
    Headlights,
    /// Dark and very noisy.
    Night,
    /// A tree sways at the left.
    Sway,
    /// Insects fly in front of the lens at night.
    Insects,
    /// The bitrate is a tenth of the usual one.
    LowBitrate,
    /// The lens is covered from second 30 on, as in all further ones.
    Covered,
    /// The lens is out of focus.
    Blurred,
    /// The camera is turned.
    Moved,
    /// The picture is frozen, including its noise.
    Frozen,
    /// The picture is black.
    Black,
}

/// Start of tampering, seconds.
pub const TAMPERED: f64 = 30.0;

impl Disturbance {
    /// Disturbances that must not cause motion events.
    pub const WEATHER: [Disturbance; 11] = [
        Disturbance::None,
        Disturbance::Exposure,
        Disturbance::Clouds,
        Disturbance::IrSwitch,
        Disturbance::Shake,
        Disturbance::Rain,
        Disturbance::Headlights,
        Disturbance::Night,
        Disturbance::Sway,
        Disturbance::Insects,
        Disturbance::LowBitrate,
    ];
    /// Tampering with the camera.
    pub const TAMPER: [Disturbance; 5] = [
        Disturbance::Covered,
        Disturbance::Blurred,
        Disturbance::Moved,
        Disturbance::Frozen,
        Disturbance::Black,
    ];

    /// `change` of the `scene` event for this tampering; `None` for other disturbances.
    pub fn tampering(self) -> Option<&'static str> {
        let change = match self {
            Disturbance::Covered => SceneChange::Covered,
            Disturbance::Blurred => SceneChange::Blurred,
            Disturbance::Moved => SceneChange::Moved,
            Disturbance::Frozen => SceneChange::Frozen,
            Disturbance::Black => SceneChange::Black,
            _ => return None,
        };
        Some(change.as_str())
    }

    /// True if the camera is tampered with at `time`.
    fn tampers(self, time: f64) -> bool {
        time >= TAMPERED && Disturbance::TAMPER.contains(&self)
    }
}

/// The scene.
#[derive(Debug, Clone)]
pub struct Scene {
    seed: u64,
    disturbance: Disturbance,
    crossings: Vec<Crossing>,
}

/// A picture in planar 4:2:0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels, even.
    pub width: usize,
    /// Height in pixels, even.
    pub height: usize,
    /// Luma.
    pub y: Vec<u8>,
    /// Chroma (Cb), half size.
    pub u: Vec<u8>,
    /// Chroma (Cr), half size.
    pub v: Vec<u8>,
}

/// Start of the first crossing, seconds: a detector learns the empty road before it.
const FIRST: f64 = 9.0;
/// Interval of crossings, seconds: longer than `quiet_after`, so each is an event of its own.
const EVERY: f64 = 14.0;

impl Scene {
    /// The scene of a seed, with crossings for `seconds` seconds.
    pub fn new(seed: u64, disturbance: Disturbance, seconds: f64) -> Scene {
        let mut rng = Rng::new(seed);
        let mut crossings = Vec::new();
        let mut begin = FIRST;
        while begin < seconds {
            let vehicle = crossings.len() % 2 == 0;
            crossings.push(Crossing {
                begin,
                seconds: if vehicle { 3.5 } else { 5.5 },
                who: if vehicle { Actor::Vehicle } else { Actor::Person },
                rightwards: rng.one_in(2),
                ground: 0.66 + rng.below(16) as f32 / 100.0,
                height: if vehicle { 0.20 } else { 0.26 },
                luma: if rng.one_in(2) { 205 } else { 35 },
            });
            begin += EVERY + rng.below(20) as f64 / 10.0;
        }
        Scene { seed, disturbance, crossings }
    }

    /// Ground truth: all crossings.
    pub fn crossings(&self) -> &[Crossing] {
        &self.crossings
    }

    /// The picture at second `time`.
    pub fn draw(&self, time: f64, width: usize, height: usize) -> Picture {
        let time = if self.disturbance == Disturbance::Frozen { time.min(TAMPERED) } else { time };
        let frame = (time * 30.0) as u64;
        let (dx, dy) = match self.disturbance {
            Disturbance::Shake => {
                (((time * 7.0).sin() * 1.6) as i32, ((time * 5.3).cos() * 1.2) as i32)
            }
            Disturbance::Moved if time >= TAMPERED => (width as i32 * 2 / 5, -(height as i32) / 6),
            _ => (0, 0),
        };
        let light = self.light(time);
        let mut picture =
            Picture { width, height, y: vec![0; width * height], u: Vec::new(), v: Vec::new() };
        let cells = 320.0 / width as f32;
        for row in 0..height {
            let y = (row as i32 + dy) as f32 / height as f32;
            for column in 0..width {
                let x = column as i32 + dx;
                let (cx, cy) = ((x as f32 * cells) as u64, (row as i32 + dy) as f32 * cells);
                let texture = (mix(self.seed ^ cx << 20 ^ (cy as u64)) % 41) as i32 - 20;
                let base =
                    ground(x as f32 / width as f32, y) + texture * if y < 0.3 { 1 } else { 2 } / 2;
                picture.y[row * width + column] = base.clamp(0, 255) as u8;
            }
        }
        self.draw_sway(&mut picture, time);
        for crossing in
            self.crossings.iter().filter(|crossing| !self.disturbance.tampers(crossing.begin))
        {
            draw_crossing(&mut picture, crossing, time);
        }
        self.draw_tampering(&mut picture, time);
        self.finish(&mut picture, light, frame);
        let chroma = (width / 2) * (height / 2);
        let grey = self.disturbance == Disturbance::IrSwitch && time >= 20.0;
        (picture.u, picture.v) =
            if grey { (vec![128; chroma], vec![128; chroma]) } else { self.colours(&picture) };
        picture
    }

    /// Brightness factor of the whole picture.
    fn light(&self, time: f64) -> f32 {
        match self.disturbance {
            Disturbance::Exposure if (time as u64 / 10) % 2 == 1 => 1.35,
            Disturbance::Clouds => 0.85 + 0.15 * ((time * 0.6).sin() as f32),
            Disturbance::IrSwitch if time >= 20.0 => 0.7,
            Disturbance::Night | Disturbance::Insects => 0.35,
            _ => 1.0,
        }
    }

    fn draw_sway(&self, picture: &mut Picture, time: f64) {
        if self.disturbance != Disturbance::Sway {
            return;
        }
        let lean = ((time * 2.1).sin() * 0.02) as f32;
        fill(picture, [0.02 + lean, 0.1, 0.16, 0.45], |i| 70 + (mix(i) % 60) as u8);
    }

    fn draw_tampering(&self, picture: &mut Picture, time: f64) {
        match self.disturbance {
            _ if !self.disturbance.tampers(time) => {}
            Disturbance::Covered => {
                picture.y.iter_mut().for_each(|pixel| *pixel = 60 + *pixel / 32)
            }
            Disturbance::Black => picture.y.fill(6),
            Disturbance::Blurred => blur(picture),
            _ => {}
        }
    }

    /// Applies light, rain, headlights, insects and sensor noise.
    fn finish(&self, picture: &mut Picture, light: f32, frame: u64) {
        let noise = if self.disturbance == Disturbance::Night { 12 } else { 2 };
        for (i, pixel) in picture.y.iter_mut().enumerate() {
            let bits = mix(self.seed ^ frame.wrapping_mul(0x9e37) ^ i as u64);
            let grain = (bits % (2 * noise + 1)) as i32 - noise as i32;
            *pixel = ((f32::from(*pixel) * light) as i32 + grain).clamp(0, 255) as u8;
        }
        if self.disturbance == Disturbance::Rain {
            let mut rng = Rng::new(self.seed ^ frame);
            for _ in 0..80 {
                let (x, y) = (rng.below(1000) as f32 / 1000.0, rng.below(950) as f32 / 1000.0);
                fill(picture, [x, y, 0.002, 0.05], |_| 215);
            }
        }
        if self.disturbance == Disturbance::Insects {
            for insect in 0..3_u64 {
                // Each moves to another place a few times a second, and is invisible in between.
                let spot = mix(self.seed ^ insect << 40 ^ (frame / 4)) % 10_000;
                let (x, y) = ((spot % 100) as f32 / 100.0, (spot / 100) as f32 / 100.0);
                if !spot.is_multiple_of(3) {
                    fill(picture, [x, y, 0.03, 0.03], |_| 190);
                }
            }
        }
        if self.disturbance == Disturbance::Headlights {
            let sweep = (frame % 150) as f32 / 150.0;
            let (width, height) = (picture.width, picture.height);
            for row in height * 6 / 10..height {
                for column in 0..width {
                    let near = (column as f32 / width as f32 - sweep).abs();
                    let pixel = &mut picture.y[row * width + column];
                    *pixel = (f32::from(*pixel) * (1.0 + 0.8 * (0.2 - near).max(0.0) / 0.2))
                        .min(255.0) as u8;
                }
            }
        }
    }

    fn colours(&self, picture: &Picture) -> (Vec<u8>, Vec<u8>) {
        let (width, height) = (picture.width / 2, picture.height / 2);
        let tint = |row: usize| match row * 10 / height.max(1) {
            0..=2 => (140, 118),
            3..=5 => (120, 122),
            _ => (127, 129),
        };
        let rows = |pick: fn((u8, u8)) -> u8| {
            (0..height).flat_map(|row| std::iter::repeat_n(pick(tint(row)), width)).collect()
        };
        (rows(|tint| tint.0), rows(|tint| tint.1))
    }
}

/// Brightness of the empty scene: sky, houses, verge, road with its line.
fn ground(x: f32, y: f32) -> i32 {
    match y {
        y if y < 0.25 => 190,
        y if y < 0.45 => 110 + (((x * 9.0) as i32) % 3) * 22,
        y if y < 0.55 => 85,
        y if (0.735..0.745).contains(&y) && (x * 14.0).fract() < 0.5 => 200,
        _ => 105,
    }
}

/// Fills a rectangle (x, y, width, height in 0..1) with brightness by pixel number.
fn fill(picture: &mut Picture, place: [f32; 4], luma: impl Fn(u64) -> u8) {
    let (w, h) = (picture.width as f32, picture.height as f32);
    let clamp = |value: f32, top: f32| (value * top).clamp(0.0, top) as usize;
    let (left, right) = (clamp(place[0], w), clamp(place[0] + place[2], w));
    let (top, bottom) = (clamp(place[1], h), clamp(place[1] + place[3], h));
    for row in top..bottom {
        for column in left..right {
            // The texture moves with the object.
            let number = ((row - top) * 320 / picture.height) as u64 * 1000
                + ((column - left) * 320 / picture.width) as u64;
            picture.y[row * picture.width + column] = luma(number);
        }
    }
}

/// Box blur of an unfocused lens: the mean over a fortieth of the picture, horizontally then
/// vertically.
fn blur(picture: &mut Picture) {
    let (width, height) = (picture.width, picture.height);
    let reach = (width / 40).max(1);
    let mean = |line: Vec<u8>| -> Vec<u8> {
        let around = |at: usize| &line[at.saturating_sub(reach)..(at + reach + 1).min(line.len())];
        (0..line.len())
            .map(|at| {
                (around(at).iter().map(|p| u32::from(*p)).sum::<u32>() / around(at).len() as u32)
                    as u8
            })
            .collect()
    };
    for row in picture.y.chunks_exact_mut(width) {
        row.copy_from_slice(&mean(row.to_vec()));
    }
    for column in 0..width {
        let line = mean((0..height).map(|row| picture.y[row * width + column]).collect());
        (0..height).for_each(|row| picture.y[row * width + column] = line[row]);
    }
}

fn draw_crossing(picture: &mut Picture, crossing: &Crossing, time: f64) {
    let way = (time - crossing.begin) / crossing.seconds;
    if !(0.0..=1.0).contains(&way) {
        return;
    }
    let width = crossing.height * if crossing.who == Actor::Vehicle { 1.2 } else { 0.22 };
    let way = if crossing.rightwards { way } else { 1.0 - way } as f32;
    let left = way * (1.0 + width) - width;
    let top = crossing.ground - crossing.height;
    let luma = crossing.luma;
    let painted = move |number: u64| luma.saturating_add((mix(number) % 24) as u8);
    match crossing.who {
        Actor::Vehicle => {
            fill(
                picture,
                [left, top + crossing.height * 0.35, width, crossing.height * 0.55],
                painted,
            );
            fill(picture, [left + width * 0.2, top, width * 0.55, crossing.height * 0.4], painted);
            fill(
                picture,
                [left + width * 0.25, top + 0.015, width * 0.45, crossing.height * 0.25],
                |_| 70,
            );
            for wheel in [0.12, 0.7] {
                fill(
                    picture,
                    [left + width * wheel, crossing.ground - 0.03, width * 0.16, 0.03],
                    |_| 15,
                );
            }
        }
        Actor::Person => {
            let stride = ((time * 8.0).sin() * 0.012) as f32;
            fill(picture, [left + width * 0.25, top, width * 0.5, crossing.height * 0.2], |_| 150);
            fill(
                picture,
                [left, top + crossing.height * 0.2, width, crossing.height * 0.4],
                painted,
            );
            for leg in [stride, -stride] {
                fill(
                    picture,
                    [
                        left + width * 0.3 + leg,
                        top + crossing.height * 0.6,
                        width * 0.3,
                        crossing.height * 0.4,
                    ],
                    painted,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_time_give_the_same_picture() {
        let scene = Scene::new(1, Disturbance::None, 60.0);
        assert_eq!(scene.draw(3.0, 64, 36), scene.draw(3.0, 64, 36));
        assert_ne!(
            scene.draw(3.0, 64, 36),
            Scene::new(2, Disturbance::None, 60.0).draw(3.0, 64, 36)
        );
    }

    #[test]
    fn a_crossing_changes_pixels_where_the_truth_says() {
        let scene = Scene::new(1, Disturbance::None, 60.0);
        let crossing = scene.crossings()[0];
        let empty = scene.draw(crossing.begin - 1.0, 320, 180);
        let busy = scene.draw(crossing.begin + crossing.seconds / 2.0, 320, 180);
        let changed = empty.y.iter().zip(&busy.y).filter(|(a, b)| a.abs_diff(**b) > 30).count();
        assert!(changed > 500, "{changed} pixels changed");
    }

    const SIZE: (usize, usize) = (320, 180);

    /// The picture at `time` with a disturbance, and without.
    fn both(disturbance: Disturbance, time: f64) -> (Picture, Picture) {
        let draw = |disturbance| Scene::new(1, disturbance, 60.0).draw(time, SIZE.0, SIZE.1);
        (draw(disturbance), draw(Disturbance::None))
    }

    /// Mean brightness of the columns and rows.
    fn mean(
        picture: &Picture,
        columns: std::ops::Range<usize>,
        rows: std::ops::Range<usize>,
    ) -> f64 {
        let pixels = rows.flat_map(|row| columns.clone().map(move |column| row * SIZE.0 + column));
        let (sum, count) = pixels
            .fold((0.0, 0.0), |(sum, count), at| (sum + f64::from(picture.y[at]), count + 1.0));
        sum / count
    }

    /// How many times brighter the disturbed picture is.
    fn light(disturbance: Disturbance, time: f64) -> f64 {
        let (disturbed, plain) = both(disturbance, time);
        mean(&disturbed, 0..SIZE.0, 0..SIZE.1) / mean(&plain, 0..SIZE.0, 0..SIZE.1)
    }

    /// Pixels in these columns that differ by more than the noise of the sensor.
    fn changed(a: &Picture, b: &Picture, columns: std::ops::Range<usize>) -> usize {
        let pixels =
            a.y.iter().zip(&b.y).enumerate().filter(|(at, _)| columns.contains(&(at % SIZE.0)));
        pixels.filter(|(_, (a, b))| a.abs_diff(**b) > 8).count()
    }

    #[test]
    fn exposure_jumps_clouds_swell_and_night_is_dark() {
        assert!((0.99..1.01).contains(&light(Disturbance::Exposure, 5.0)));
        assert!((1.2..1.36).contains(&light(Disturbance::Exposure, 15.0)));
        let clouds: Vec<f64> =
            (0..20).map(|second| light(Disturbance::Clouds, f64::from(second) / 2.0)).collect();
        let lowest = clouds.iter().copied().fold(f64::MAX, f64::min);
        let highest = clouds.iter().copied().fold(0.0, f64::max);
        assert!((0.68..0.75).contains(&lowest) && (0.95..1.01).contains(&highest), "{clouds:?}");
        assert!((0.3..0.4).contains(&light(Disturbance::Night, 5.0)));
    }

    #[test]
    fn night_is_noisier_than_day() {
        let still = |disturbance, time| Scene::new(1, disturbance, 60.0).draw(time, SIZE.0, SIZE.1);
        let noise =
            |disturbance| changed(&still(disturbance, 5.0), &still(disturbance, 5.1), 0..SIZE.0);
        assert_eq!(noise(Disturbance::None), 0);
        assert!(noise(Disturbance::Night) > SIZE.0 * SIZE.1 / 4);
    }

    #[test]
    fn the_ir_filter_removes_colour_and_light_at_second_20() {
        let (before, plain) = both(Disturbance::IrSwitch, 19.9);
        assert_eq!(before, plain);
        let (after, plain) = both(Disturbance::IrSwitch, 20.1);
        assert!(
            after.u.iter().chain(&after.v).all(|colour| *colour == 128)
                && plain.u.iter().any(|colour| *colour != 128)
        );
        assert!((0.65..0.75).contains(&light(Disturbance::IrSwitch, 20.1)));
    }

    #[test]
    fn a_shaking_pole_moves_the_whole_picture_by_a_pixel() {
        // At second 0.2 the shift is one pixel horizontally and none vertically.
        let (shaken, plain) = both(Disturbance::Shake, 0.2);
        let wrong = |dx: usize| {
            let inner = (0..SIZE.0 * SIZE.1).filter(|at| at % SIZE.0 + dx < SIZE.0);
            inner.filter(|at| shaken.y[*at].abs_diff(plain.y[at + dx]) > 8).count()
        };
        assert!(
            wrong(0) > 5_000 && wrong(1) == 0,
            "{} pixels differ unmoved, {} moved",
            wrong(0),
            wrong(1)
        );
    }

    #[test]
    fn rain_falls_in_bright_streaks_that_never_stay() {
        let (now, plain) = both(Disturbance::Rain, 5.0);
        let (later, _) = both(Disturbance::Rain, 5.1);
        let streaks = changed(&now, &plain, 0..SIZE.0);
        assert!((100..2_000).contains(&streaks), "{streaks} pixels of rain");
        assert!(changed(&now, &later, 0..SIZE.0) > streaks, "the drops do not fall");
    }

    #[test]
    fn headlights_sweep_over_the_road_and_nothing_else() {
        for time in [1.0, 2.5, 4.0] {
            let (lit, plain) = both(Disturbance::Headlights, time);
            assert_eq!(lit.y[..SIZE.0 * 100], plain.y[..SIZE.0 * 100], "the sky is lit");
            let near = (time / 5.0 * SIZE.0 as f64) as usize;
            let bright = mean(&lit, near - 10..near + 10, 108..180)
                / mean(&plain, near - 10..near + 10, 108..180);
            let far = (near + 160) % 300;
            assert!(bright > 1.5, "{bright} at column {near}");
            assert_eq!(changed(&lit, &plain, far..far + 10), 0, "second {time}");
        }
    }

    #[test]
    fn insects_are_never_long_in_one_place() {
        let places = |time| {
            let (now, _) = both(Disturbance::Insects, time);
            now.y
                .iter()
                .enumerate()
                .filter(|(_, pixel)| **pixel > 170)
                .map(|(at, _)| at)
                .collect::<Vec<_>>()
        };
        let (one, other) = (places(4.0), places(4.5));
        assert!(!one.is_empty() || !other.is_empty());
        assert_ne!(one, other);
    }

    #[test]
    fn every_tampering_begins_at_its_second_and_shows() {
        for disturbance in Disturbance::TAMPER {
            let (before, plain) = both(disturbance, TAMPERED - 0.5);
            assert_eq!(before, plain, "{disturbance:?}");
            let draw = |time| Scene::new(1, disturbance, 60.0).draw(time, SIZE.0, SIZE.1);
            let (now, later) = (draw(TAMPERED + 1.0), draw(TAMPERED + 2.0));
            assert_eq!(now == later, disturbance == Disturbance::Frozen, "{disturbance:?}");
            assert!(
                disturbance == Disturbance::Frozen || changed(&now, &plain, 0..SIZE.0) > 10_000,
                "{disturbance:?}"
            );
        }
    }

    #[test]
    fn a_tree_sways_at_the_left_and_only_there() {
        let draw = |time| both(Disturbance::Sway, time);
        let ((one, plain), (other, _)) = (draw(4.0), draw(5.5));
        assert!(changed(&one, &other, 0..70) > 1_000 && changed(&one, &plain, 0..70) > 2_000);
        assert_eq!(changed(&one, &plain, 70..SIZE.0), 0);
    }
}
