//! Cars, motorbikes and people: extruded outlines, shaded by the way their faces look.

use super::canvas::{Canvas, Rgb, lit};
use super::lens::{Lens, Pose};

/// Something that moves through a street.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mover {
    /// A car.
    Car,
    /// A motorbike with its rider.
    Motorbike,
    /// A pedestrian.
    Person,
}

/// An outline in the plane of length and height, metres, front to the right.
type Outline = &'static [[f32; 2]];

const CAR: Outline = &[
    [-2.05, 0.28],
    [-2.12, 0.82],
    [-1.95, 0.96],
    [-1.35, 1.44],
    [0.35, 1.46],
    [1.05, 0.98],
    [1.95, 0.84],
    [2.12, 0.6],
    [2.05, 0.28],
];
/// Faces of [`CAR`] that are glass, by their first point.
const CAR_GLASS: [usize; 2] = [2, 4];
const CAR_WINDOWS: [Outline; 2] = [
    &[[-1.72, 0.97], [-1.25, 1.37], [-0.45, 1.39], [-0.45, 0.97]],
    &[[-0.35, 0.97], [-0.35, 1.39], [0.3, 1.39], [0.88, 0.97]],
];
const BIKE: Outline = &[
    [-0.85, 0.5],
    [-0.8, 0.78],
    [-0.1, 0.74],
    [0.35, 1.0],
    [0.5, 0.95],
    [0.55, 0.45],
    [0.0, 0.25],
];
const RIDER: Outline = &[
    [-0.4, 0.74],
    [-0.34, 1.2],
    [-0.2, 1.42],
    [0.02, 1.36],
    [0.42, 1.02],
    [0.36, 0.94],
    [0.05, 1.05],
    [0.0, 0.78],
];
const RIDER_LEG: Outline =
    &[[-0.3, 0.62], [-0.3, 0.8], [0.3, 0.74], [0.36, 0.35], [0.2, 0.33], [0.15, 0.6]];
const GLASS: Rgb = [38.0, 46.0, 56.0];
const TYRE: Rgb = [24.0, 24.0, 26.0];

/// The light on a thing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Light {
    /// Brightness of all faces.
    pub(super) ambient: f32,
    /// It is night: lamps are on.
    pub(super) night: bool,
}

/// Draws one thing.
pub(super) struct Brush<'a, 'b> {
    pub(super) canvas: &'a mut Canvas<'b>,
    pub(super) lens: Lens,
    pub(super) light: Light,
}

impl Brush<'_, '_> {
    /// Draws `mover` at `pose`; `phase` moves legs.
    pub(super) fn draw(&mut self, mover: Mover, pose: Pose, colour: Rgb, phase: f32) {
        self.shadow(mover, pose);
        match mover {
            Mover::Car => self.car(pose, colour),
            Mover::Motorbike => self.motorbike(pose, colour),
            Mover::Person => self.person(pose, colour, phase),
        }
    }

    fn face(&mut self, points: &[[f32; 3]], colour: Rgb, alpha: f32) {
        let seen: Option<Vec<[f32; 2]>> =
            points.iter().map(|point| self.lens.project(*point)).collect();
        if let Some(seen) = seen {
            self.canvas.polygon(&seen, lit(colour, self.light.ambient), alpha);
        }
    }

    fn shadow(&mut self, mover: Mover, pose: Pose) {
        let (long, wide) = match mover {
            Mover::Car => (2.3, 1.05),
            Mover::Motorbike => (0.9, 0.4),
            Mover::Person => (0.35, 0.35),
        };
        let shift = if self.light.night { 0.0 } else { 0.35 };
        for (grow, alpha) in [(1.12, 0.28), (0.95, 0.38)] {
            let ring: Vec<[f32; 3]> = (0..16)
                .map(|n| {
                    let (sin, cos) = (n as f32 * std::f32::consts::TAU / 16.0).sin_cos();
                    let square = |v: f32| v.signum() * v.abs().sqrt();
                    let point =
                        pose.point(long * grow * square(cos), wide * grow * square(sin), 0.02);
                    [point[0] + shift, point[1], point[2]]
                })
                .collect();
            let kept = self.light.ambient;
            self.light.ambient = kept * 0.25;
            self.face(&ring, [60.0, 60.0, 66.0], alpha);
            self.light.ambient = kept;
        }
    }

    /// True if the right side of a pose faces the camera.
    fn shows_right(pose: Pose) -> bool {
        let right = pose.point(0.0, 1.0, 0.0);
        let aside = [right[0] - pose.at[0], right[2] - pose.at[1]];
        aside[0] * pose.at[0] + aside[1] * pose.at[1] < 0.0
    }

    /// An outline as a solid of a width: its faces from far to near, then its near side.
    fn solid(&mut self, pose: Pose, outline: Outline, half: f32, colour: Rgb, glass: &[usize]) {
        let near = if Self::shows_right(pose) { half } else { -half };
        let far: Vec<[f32; 3]> = outline.iter().map(|p| pose.point(p[0], -near, p[1])).collect();
        self.face(&far, lit(colour, 0.55), 1.0);
        let mut faces: Vec<usize> = (0..outline.len() - 1).collect();
        let depth = |n: &usize| {
            let (a, b) = (outline[*n], outline[*n + 1]);
            let middle = pose.point((a[0] + b[0]) / 2.0, 0.0, (a[1] + b[1]) / 2.0);
            middle[0].hypot(middle[2]) - middle[1]
        };
        faces.sort_by(|a, b| depth(b).total_cmp(&depth(a)));
        for n in faces {
            let (a, b) = (outline[n], outline[n + 1]);
            let level = ((b[0] - a[0]) / (b[0] - a[0]).hypot(b[1] - a[1])).max(0.0);
            let shade = 0.62 + 0.5 * level;
            let colour = if glass.contains(&n) { GLASS } else { colour };
            let quad = [(a, -half), (a, half), (b, half), (b, -half)]
                .map(|(p, aside)| pose.point(p[0], aside, p[1]));
            self.face(&quad, lit(colour, shade), 1.0);
        }
        let side: Vec<[f32; 3]> = outline.iter().map(|p| pose.point(p[0], near, p[1])).collect();
        self.face(&side, lit(colour, 0.82), 1.0);
    }

    fn side(&mut self, pose: Pose, outline: &[[f32; 2]], aside: f32, colour: Rgb) {
        let points: Vec<[f32; 3]> = outline.iter().map(|p| pose.point(p[0], aside, p[1])).collect();
        self.face(&points, colour, 1.0);
    }

    fn wheel(&mut self, pose: Pose, along: f32, radius: f32, aside: f32) {
        for (part, colour) in [(1.0, TYRE), (0.55, [120.0, 122.0, 126.0])] {
            let ring: Vec<[f32; 2]> = (0..14)
                .map(|n| {
                    let (sin, cos) = (n as f32 * std::f32::consts::TAU / 14.0).sin_cos();
                    [along + radius * part * cos, radius + radius * part * sin]
                })
                .collect();
            self.side(pose, &ring, aside, colour);
        }
    }

    fn car(&mut self, pose: Pose, colour: Rgb) {
        self.solid(pose, CAR, 0.88, colour, &CAR_GLASS);
        let near = if Self::shows_right(pose) { 0.89 } else { -0.89 };
        for window in CAR_WINDOWS {
            self.side(pose, window, near, GLASS);
        }
        for along in [-1.3, 1.3] {
            self.wheel(pose, along, 0.33, near * 1.01);
        }
        for aside in [-0.62, 0.62] {
            self.lamps(pose, 2.1, aside, 0.68);
        }
    }

    /// Front and rear lamp, if the camera sees them.
    fn lamps(&mut self, pose: Pose, along: f32, aside: f32, up: f32) {
        let comes = pose.ahead[0] * pose.at[0] + pose.ahead[1] * pose.at[1] < 0.0;
        let (along, colour) = if comes {
            (along + 0.03, [255.0, 250.0, 225.0])
        } else {
            (-along - 0.03, [215.0, 30.0, 24.0])
        };
        let lamp = [(-0.16, -0.09), (0.16, -0.09), (0.16, 0.09), (-0.16, 0.09)]
            .map(|(x, y)| pose.point(along, aside + x, up + y));
        let kept = self.light.ambient;
        self.light.ambient = if self.light.night { 1.0 } else { kept };
        self.face(&lamp, colour, 1.0);
        self.light.ambient = kept;
        let centre = pose.point(along, aside, up);
        if let Some(pixel) = self.lens.project(centre).filter(|_| self.light.night) {
            let metre = self.lens.scale(centre);
            let (reach, strength) = if comes { (1.1, 190.0) } else { (0.45, 60.0) };
            self.canvas.glow(pixel, metre * reach, strength);
        }
    }

    fn motorbike(&mut self, pose: Pose, colour: Rgb) {
        let near = if Self::shows_right(pose) { 0.13 } else { -0.13 };
        for along in [-0.62, 0.62] {
            self.wheel(pose, along, 0.29, 0.0);
        }
        self.solid(pose, BIKE, 0.12, colour, &[]);
        self.side(pose, RIDER_LEG, -near, [40.0, 44.0, 60.0]);
        self.solid(pose, RIDER, 0.2, [196.0, 190.0, 176.0], &[]);
        self.side(pose, RIDER_LEG, near * 1.6, [52.0, 56.0, 74.0]);
        self.head(pose.point(-0.08, 0.0, 1.58), 0.16, [176.0, 36.0, 40.0]);
        self.lamps(pose, 0.62, 0.0, 0.9);
    }

    fn head(&mut self, at: [f32; 3], radius: f32, colour: Rgb) {
        if let Some(pixel) = self.lens.project(at) {
            let radius = radius * self.lens.scale(at);
            let colour = lit(colour, self.light.ambient);
            self.canvas.ellipse(pixel, [radius, radius * 1.08], colour, 1.0);
            let shine = [pixel[0] - radius * 0.25, pixel[1] - radius * 0.3];
            self.canvas.ellipse(shine, [radius * 0.4, radius * 0.35], lit(colour, 1.35), 0.6);
        }
    }

    fn person(&mut self, pose: Pose, colour: Rgb, phase: f32) {
        let swing = phase.sin() * 0.34;
        let limb = |from: [f32; 2], to: [f32; 2], wide: f32| {
            [
                [from[0] - wide, from[1]],
                [from[0] + wide, from[1]],
                [to[0] + wide, to[1]],
                [to[0] - wide, to[1]],
            ]
        };
        // Seen from ahead or behind, the sides of a step would vanish: turn it half to the camera.
        let [x, z] = pose.at;
        let far = x.hypot(z).max(0.1);
        let across = [z / far, -x / far];
        let along = pose.ahead[0] * across[0] + pose.ahead[1] * across[1];
        let sign = if along < 0.0 { -1.0 } else { 1.0 };
        let flat = Pose { at: pose.at, ahead: across.map(|part| part * sign) };
        let (dark, skin) = ([48.0, 50.0, 62.0], [188.0, 140.0, 110.0]);
        self.side(flat, &limb([0.0, 0.86], [-swing, 0.04], 0.085), 0.0, lit(dark, 0.8));
        self.side(flat, &limb([-0.02, 1.36], [-swing * 0.8, 0.84], 0.055), 0.0, lit(colour, 0.7));
        self.side(flat, &limb([0.0, 0.86], [swing, 0.04], 0.085), 0.0, dark);
        let torso = [[-0.2, 1.4], [0.2, 1.4], [0.19, 0.82], [-0.19, 0.82]];
        self.side(flat, &torso, 0.0, colour);
        self.side(
            flat,
            &limb([0.04, 1.36], [swing * 0.8 + 0.04, 0.84], 0.055),
            0.0,
            lit(colour, 0.85),
        );
        self.head(flat.point(0.02, 0.0, 1.55), 0.13, skin);
        // A conical hat.
        let hat = [[-0.3, 1.6], [0.02, 1.8], [0.34, 1.6]];
        self.side(flat, &hat, 0.0, [214.0, 196.0, 148.0]);
    }
}
