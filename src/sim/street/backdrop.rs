//! The empty street of each place: ground by its material, then houses, trees and lamps.

use super::Place;
use super::canvas::{Canvas, Rgb, lit, yuv};
use super::lens::Lens;
use crate::sim::rng::mix;
use crate::sim::scene::Picture;

/// Samples a pixel in each direction.
const FINE: usize = 2;
const ASPHALT: Rgb = [96.0, 97.0, 102.0];
const PAINT: Rgb = [214.0, 214.0, 206.0];
const GRASS: Rgb = [92.0, 116.0, 62.0];
const PAVING: Rgb = [158.0, 150.0, 140.0];
const EARTH: Rgb = [136.0, 116.0, 90.0];

/// Height of the street lamps, metres.
pub(super) const LAMP: f32 = 4.6;
/// Feet of the street lamps of the lane at night, x and z.
pub(super) const LAMPS: [[f32; 2]; 3] = [[-3.2, 15.0], [6.4, 27.0], [1.0, 46.0]];

/// The direction of the road of [`Place::Road`]: x for each z.
pub(super) const SLANT: f32 = -0.42;
/// Where that road crosses z = 0.
pub(super) const ROAD_X: f32 = 9.0;
/// The direction of the lane at night, and where it crosses z = 0.
pub(super) const LANE: (f32, f32) = (0.26, -4.2);

/// Draws the empty street.
pub(super) fn draw(place: Place, lens: Lens, width: usize, height: usize) -> Picture {
    let mut picture = Picture {
        width,
        height,
        y: vec![0; width * height],
        u: vec![0; width * height / 4],
        v: vec![0; width * height / 4],
    };
    for row in 0..height / 2 {
        for column in 0..width / 2 {
            let mut chroma = [0.0; 2];
            for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let (x, y) = (column * 2 + dx, row * 2 + dy);
                let [luma, u, v] = yuv(pixel(place, lens, x, y, height));
                picture.y[y * width + x] = luma as u8;
                chroma = [chroma[0] + u / 4.0, chroma[1] + v / 4.0];
            }
            let at = row * (width / 2) + column;
            (picture.u[at], picture.v[at]) = (chroma[0] as u8, chroma[1] as u8);
        }
    }
    let mut canvas = Canvas { picture: &mut picture };
    standing(&mut canvas, place, lens);
    picture
}

/// The mean colour of the samples of a pixel.
fn pixel(place: Place, lens: Lens, column: usize, row: usize, height: usize) -> Rgb {
    let mut sum = [0.0; 3];
    for n in 0..FINE * FINE {
        let offset = |n: usize| (n as f32 + 0.5) / FINE as f32;
        let (x, y) = (column as f32 + offset(n % FINE), row as f32 + offset(n / FINE));
        let colour = match lens.ground(x, y) {
            Some([x, z]) => lit(ground(place, x, z), light(place, x, z)),
            None => sky(place, y / height as f32),
        };
        (0..3).for_each(|part| sum[part] += colour[part] / (FINE * FINE) as f32);
    }
    sum
}

fn sky(place: Place, y: f32) -> Rgb {
    let t = (y * 4.0).min(1.0);
    let blend = |a: Rgb, b: Rgb| [0, 1, 2].map(|part| a[part] + (b[part] - a[part]) * t);
    match place {
        Place::Road => blend([122.0, 164.0, 212.0], [206.0, 220.0, 230.0]),
        Place::Junction => blend([168.0, 180.0, 190.0], [216.0, 218.0, 216.0]),
        Place::NightLane => blend([8.0, 10.0, 20.0], [24.0, 25.0, 34.0]),
    }
}

/// Smooth noise of the ground, -1..1, of grains of `size` metres.
fn noise(x: f32, z: f32, size: f32) -> f32 {
    let (gx, gz) = (x / size, z / size);
    let (fx, fz) = (gx - gx.floor(), gz - gz.floor());
    let value = |dx: i64, dz: i64| {
        let (x, z) = (gx.floor() as i64 + dx, gz.floor() as i64 + dz);
        (mix((x as u64) << 32 ^ (z as u64 & 0xffff_ffff)) % 2001) as f32 / 1000.0 - 1.0
    };
    let (near, far) = (
        value(0, 0) + (value(1, 0) - value(0, 0)) * fx,
        value(0, 1) + (value(1, 1) - value(0, 1)) * fx,
    );
    near + (far - near) * fz
}

/// The colour of the ground by day.
fn ground(place: Place, x: f32, z: f32) -> Rgb {
    let rough = 1.0 + 0.05 * noise(x, z, 0.35) + 0.05 * noise(x, z, 2.3);
    let wild = 1.0 + 0.10 * noise(x, z, 0.6) + 0.12 * noise(x, z, 3.7);
    let colour = match place {
        Place::Road => {
            let aside = (x - ROAD_X - SLANT * z) / (1.0 + SLANT * SLANT).sqrt();
            let along = z * (1.0 + SLANT * SLANT).sqrt();
            match aside.abs() {
                a if a < 0.09 && along.rem_euclid(6.0) < 3.0 => PAINT,
                a if a < 3.55 => ASPHALT,
                a if a < 3.72 => PAINT,
                a if a < 4.3 => lit(ASPHALT, 0.92),
                a if a < 5.4 => return lit(EARTH, wild),
                _ => return lit(GRASS, wild),
            }
        }
        Place::Junction => junction(x, z),
        Place::NightLane => {
            let aside = (x - LANE.1 - LANE.0 * z) / (1.0 + LANE.0 * LANE.0).sqrt();
            match aside.abs() {
                a if a < 2.4 => [112.0, 110.0, 106.0],
                a if a < 2.75 => [84.0, 84.0, 82.0],
                a if a < 5.0 => return lit(PAVING, 0.8 * wild),
                _ => return lit(EARTH, 0.8 * wild),
            }
        }
    };
    lit(colour, rough)
}

/// A street across at z 14 to 21, one ahead at x -4 to 4, and a crossing for people.
fn junction(x: f32, z: f32) -> Rgb {
    let across = (14.0..21.0).contains(&z);
    let ahead = x.abs() < 3.8;
    let zebra = (21.6..24.4).contains(&z) && ahead;
    match (across, ahead) {
        _ if zebra && (x + 3.8).rem_euclid(1.0) < 0.5 => PAINT,
        (true, false) if (17.42..17.58).contains(&z) && x.rem_euclid(4.0) < 2.0 => PAINT,
        (false, true) if x.abs() < 0.08 && z > 26.0 && z.rem_euclid(4.0) < 2.0 => PAINT,
        (false, true) if (24.9..25.3).contains(&z) && x < 0.0 => PAINT,
        (true, _) | (_, true) => ASPHALT,
        _ if (13.7..21.3).contains(&z) || x.abs() < 4.1 => lit(PAVING, 1.15),
        _ => {
            let tile = (x.rem_euclid(1.2) < 0.06) || (z.rem_euclid(1.2) < 0.06);
            lit(PAVING, if tile { 0.82 } else { 0.98 })
        }
    }
}

/// Brightness of the ground: the sun by day, lamps at night.
pub(super) fn light(place: Place, x: f32, z: f32) -> f32 {
    if place != Place::NightLane {
        return 1.0;
    }
    let lamp = |foot: &[f32; 2]| {
        let away = (x - foot[0]).powi(2) + (z - foot[1]).powi(2);
        0.85 * (LAMP * LAMP / (LAMP * LAMP + away)).powf(1.7)
    };
    0.13 + LAMPS.iter().map(lamp).sum::<f32>()
}

/// Draws what stands beside the street, far things first.
fn standing(canvas: &mut Canvas<'_>, place: Place, lens: Lens) {
    let mut set = Set { canvas, lens, place };
    match place {
        Place::Road => {
            for n in 0..9 {
                let x = -62.0 + n as f32 * 14.0;
                set.tree([x, 95.0 + (n % 3) as f32 * 9.0], 9.0 + (n % 4) as f32, n);
            }
            set.house([-4.0, 58.0], [11.0, 4.6, 8.0], [226.0, 206.0, 160.0]);
            set.house([11.0, 52.0], [9.0, 7.4, 8.0], [196.0, 214.0, 206.0]);
            set.tree([20.0, 44.0], 6.5, 3);
            set.house([24.0, 40.0], [8.0, 4.2, 7.0], [232.0, 222.0, 204.0]);
            set.tree([-19.0, 38.0], 7.0, 6);
            set.pole([-9.5, 17.5], 7.0);
            set.pole([-21.0, 42.0], 7.0);
        }
        Place::Junction => {
            set.tree([0.0, 120.0], 10.0, 1);
            for (n, z) in [66.0, 52.0, 39.0, 27.0].into_iter().enumerate() {
                let tall = [10.0, 7.0, 9.0, 6.4][n];
                let colours = [
                    [214.0, 190.0, 150.0],
                    [180.0, 196.0, 206.0],
                    [224.0, 214.0, 190.0],
                    [206.0, 166.0, 140.0],
                ];
                set.house([-12.5, z], [11.0, tall, 11.5], colours[n]);
                set.house([12.8, z + 2.0], [11.0, 11.5 - tall * 0.5, 11.5], colours[3 - n]);
            }
            set.tree([-5.6, 25.0], 4.6, 2);
            set.tree([6.0, 33.0], 5.0, 5);
            set.pole([5.0, 23.0], 6.5);
        }
        Place::NightLane => {
            set.house([-13.0, 44.0], [12.0, 7.0, 9.0], [150.0, 140.0, 120.0]);
            set.house([18.0, 48.0], [12.0, 6.0, 9.0], [150.0, 150.0, 140.0]);
            set.house([-13.5, 27.0], [11.0, 5.0, 10.0], [170.0, 150.0, 126.0]);
            set.house([13.6, 29.0], [9.0, 7.6, 11.0], [140.0, 150.0, 156.0]);
            set.tree([-7.4, 19.5], 4.6, 4);
            for foot in LAMPS.iter().rev() {
                set.lamp(*foot);
            }
        }
    }
}

/// Draws things that stand.
struct Set<'a, 'b> {
    canvas: &'a mut Canvas<'b>,
    lens: Lens,
    place: Place,
}

impl Set<'_, '_> {
    fn face(&mut self, points: &[[f32; 3]], colour: Rgb) {
        let seen: Option<Vec<[f32; 2]>> =
            points.iter().map(|point| self.lens.project(*point)).collect();
        if let Some(seen) = seen {
            self.canvas.polygon(&seen, colour, 1.0);
        }
    }

    /// A house with its front at `z`; width, height, depth.
    fn house(&mut self, [x, z]: [f32; 2], [wide, tall, deep]: [f32; 3], colour: Rgb) {
        let dim = light(self.place, x - x.signum() * wide / 2.0, z) * 0.9 + 0.1;
        let dim = if self.place == Place::NightLane { dim * 0.8 } else { dim };
        let (left, right) = (x - wide / 2.0, x + wide / 2.0);
        let inner = if x > 0.0 { left } else { right };
        let side =
            [[inner, 0.0, z], [inner, 0.0, z + deep], [inner, tall, z + deep], [inner, tall, z]];
        self.face(&side, lit(colour, 0.68 * dim));
        for n in 0..(deep / 2.6) as usize {
            let z = z + 1.0 + n as f32 * 2.6;
            self.windows(tall, dim, n, |up, along| [inner, up, z + along]);
        }
        let front = [[left, 0.0, z], [right, 0.0, z], [right, tall, z], [left, tall, z]];
        self.face(&front, lit(colour, 0.95 * dim));
        for n in 0..(wide / 2.6) as usize {
            let x = left + 0.8 + n as f32 * 2.6;
            self.windows(tall, dim, n + 7, |up, along| [x + along, up, z - 0.02]);
        }
        let edge = 0.5;
        let roof = [
            [left - edge, tall, z - edge],
            [right + edge, tall, z - edge],
            [right, tall + 0.9, z + deep * 0.4],
            [left, tall + 0.9, z + deep * 0.4],
        ];
        self.face(&roof, lit([150.0, 74.0, 58.0], dim));
    }

    /// A column of windows, one a storey; at night some are lit.
    fn windows(&mut self, tall: f32, dim: f32, seed: usize, at: impl Fn(f32, f32) -> [f32; 3]) {
        for storey in 0..(tall / 3.0) as usize {
            let up = 0.9 + storey as f32 * 3.0;
            let on = mix((seed * 31 + storey * 7) as u64 + tall as u64).is_multiple_of(4);
            let night = self.place == Place::NightLane;
            let glass =
                if night && on { [232.0, 190.0, 110.0] } else { lit([74.0, 88.0, 98.0], dim) };
            let quad = [at(up, 0.0), at(up, 1.2), at(up + 1.4, 1.2), at(up + 1.4, 0.0)];
            self.face(&quad, glass);
        }
    }

    fn tree(&mut self, [x, z]: [f32; 2], tall: f32, seed: u64) {
        let dim = light(self.place, x, z);
        let trunk = [
            [x - 0.16, 0.0, z],
            [x + 0.16, 0.0, z],
            [x + 0.12, tall * 0.6, z],
            [x - 0.12, tall * 0.6, z],
        ];
        self.face(&trunk, lit([92.0, 72.0, 54.0], dim));
        let Some(crown) = self.lens.project([x, tall * 0.72, z]) else { return };
        let radius = tall * 0.30 * self.lens.scale([x, tall * 0.72, z]);
        for n in 0..60_u64 {
            let bits = mix(seed << 16 ^ n);
            let (angle, away) = ((bits % 628) as f32 / 100.0, ((bits >> 12) % 100) as f32 / 100.0);
            let (sin, cos) = angle.sin_cos();
            let at = [crown[0] + radius * away * cos, crown[1] + radius * 0.9 * away * sin];
            let shade = dim * (0.72 - 0.34 * away * sin + ((bits >> 20) % 20) as f32 / 100.0);
            let leaf = radius * 0.34;
            self.canvas.ellipse(at, [leaf, leaf * 0.8], lit([86.0, 122.0, 62.0], shade), 0.85);
        }
    }

    fn pole(&mut self, [x, z]: [f32; 2], tall: f32) {
        let dim = light(self.place, x, z);
        let post = [[x - 0.1, 0.0, z], [x + 0.1, 0.0, z], [x + 0.07, tall, z], [x - 0.07, tall, z]];
        self.face(&post, lit([132.0, 132.0, 130.0], dim));
        let arm = [
            [x - 0.9, tall - 0.5, z],
            [x + 0.9, tall - 0.5, z],
            [x + 0.9, tall - 0.36, z],
            [x - 0.9, tall - 0.36, z],
        ];
        self.face(&arm, lit([110.0, 108.0, 104.0], dim));
    }

    fn lamp(&mut self, [x, z]: [f32; 2]) {
        let post =
            [[x - 0.07, 0.0, z], [x + 0.07, 0.0, z], [x + 0.05, LAMP, z], [x - 0.05, LAMP, z]];
        self.face(&post, [70.0, 70.0, 72.0]);
        let head = [x, LAMP, z];
        if let Some(pixel) = self.lens.project(head) {
            let metre = self.lens.scale(head);
            self.canvas.glow(pixel, metre * 2.6, 90.0);
            self.canvas.ellipse(pixel, [metre * 0.3, metre * 0.13], [255.0, 240.0, 205.0], 1.0);
        }
    }
}
