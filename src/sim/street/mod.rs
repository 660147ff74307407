//! Streets for the demo: a road, a junction and a lane at night, drawn in perspective.
//!
//! * [`lens`]: a pinhole camera on a pole. [`canvas`]: polygons with smooth edges.
//! * [`backdrop`]: the empty street. [`actors`]: cars, motorbikes and people.
//!
//! What belongs here: pictures that are worth looking at. What does not: the scene of the motion
//! proofs ([`super::scene`]), which must not change.

mod actors;
mod backdrop;
mod canvas;
mod lens;

use std::sync::{Arc, Mutex, PoisonError};

pub use self::actors::Mover;
use self::actors::{Brush, Light};
use self::canvas::{Canvas, Rgb};
use self::lens::{Lens, Pose};
use super::rng::{Rng, mix};
use super::scene::Picture;

/// Angle by which the cameras look down, radians.
const PITCH: f32 = 0.24;
/// Start of the first passage, seconds: a detector learns the empty street before it.
const FIRST: f64 = 9.0;
/// Interval of passages, seconds: longer than `quiet_after`, so each is an event of its own.
const EVERY: f64 = 15.0;
/// Empty streets kept: main and sub-stream.
const BACKDROPS_MAX: usize = 2;
/// Paints of cars and motorbikes, and clothes.
const COLOURS: [Rgb; 6] = [
    [186.0, 38.0, 34.0],
    [226.0, 226.0, 222.0],
    [40.0, 72.0, 140.0],
    [232.0, 190.0, 60.0],
    [60.0, 64.0, 70.0],
    [70.0, 130.0, 110.0],
];

/// Where a camera stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A country road by day.
    Road,
    /// A junction in town under clouds.
    Junction,
    /// A lane with lamps at night.
    NightLane,
}

impl Place {
    /// All places.
    pub const ALL: [Place; 3] = [Place::Road, Place::Junction, Place::NightLane];

    /// Site id of the demo's device there.
    pub fn site(self) -> &'static str {
        match self {
            Place::Road => "demo-road",
            Place::Junction => "demo-junction",
            Place::NightLane => "demo-lane",
        }
    }
}

/// One thing that passes: ground truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Passage {
    /// Time of its start at the edge of the scene, seconds.
    pub begin: f64,
    /// Duration, seconds.
    pub seconds: f64,
    /// What passes.
    pub mover: Mover,
    /// Start and end on the ground, x and z in metres.
    path: [[f32; 2]; 2],
    colour: Rgb,
}

/// A size of picture and its empty street.
type Backdrop = ((usize, usize), Arc<Picture>);

/// A street and what passes through it.
#[derive(Debug, Clone)]
pub struct Street {
    place: Place,
    seed: u64,
    passages: Vec<Passage>,
    backdrops: Arc<Mutex<Vec<Backdrop>>>,
}

impl Street {
    /// The street of a seed, with passages for `seconds` seconds. Places differ in their times.
    pub fn new(place: Place, seed: u64, seconds: f64) -> Street {
        let mut rng = Rng::new(seed ^ (place as u64 + 1) << 40);
        let mut passages = Vec::new();
        let mut begin = FIRST + place as u64 as f64 * 1.7;
        let mut number = 0;
        while begin < seconds {
            let back = rng.one_in(2);
            for (n, mover) in group(place, number).iter().enumerate() {
                let colour = COLOURS[rng.below(COLOURS.len() as u64) as usize];
                let begin = begin + n as f64 * 1.3;
                passages.push(passage(place, *mover, back, begin, colour));
            }
            number += 1;
            begin += EVERY + rng.below(20) as f64 / 10.0;
        }
        Street { place, seed, passages, backdrops: Arc::default() }
    }

    /// Ground truth: all passages. Those of one group are one event.
    pub fn passages(&self) -> &[Passage] {
        &self.passages
    }

    /// The picture at second `time`.
    pub fn draw(&self, time: f64, width: usize, height: usize) -> Picture {
        let lens = Lens::new(width, height, PITCH);
        let mut picture = Picture::clone(&self.backdrop(lens, width, height));
        let mut there: Vec<(Pose, &Passage)> = self
            .passages
            .iter()
            .filter(|passage| (passage.begin..passage.begin + passage.seconds).contains(&time))
            .map(|passage| (passage.pose(time), passage))
            .collect();
        there.sort_by(|a, b| b.0.at[1].total_cmp(&a.0.at[1]));
        let night = self.place == Place::NightLane;
        if night {
            for (pose, passage) in &there {
                if passage.mover != Mover::Person {
                    headlight(&mut picture, lens, *pose);
                }
            }
        }
        let mut canvas = Canvas { picture: &mut picture };
        for (pose, passage) in there {
            let ambient = backdrop::light(self.place, pose.at[0], pose.at[1]).max(0.4);
            let light = Light { ambient, night };
            let phase = ((time - passage.begin) * 7.5) as f32;
            let mut brush = Brush { canvas: &mut canvas, lens, light };
            brush.draw(passage.mover, pose, passage.colour, phase);
        }
        self.grain(&mut picture, (time * 30.0) as u64);
        picture
    }

    /// The empty street at a size, drawn once.
    fn backdrop(&self, lens: Lens, width: usize, height: usize) -> Arc<Picture> {
        // A list of finished pictures is whole after any panic.
        let mut kept = self.backdrops.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, picture)) = kept.iter().find(|(size, _)| *size == (width, height)) {
            return picture.clone();
        }
        if kept.len() == BACKDROPS_MAX {
            kept.remove(0);
        }
        let picture = Arc::new(backdrop::draw(self.place, lens, width, height));
        kept.push(((width, height), picture.clone()));
        picture
    }

    /// Noise of the sensor: one pattern, shifted from picture to picture.
    fn grain(&self, picture: &mut Picture, frame: u64) {
        let strength = if self.place == Place::NightLane { 2 } else { 1 };
        let start = mix(self.seed ^ frame) as usize;
        let mut bits = 0;
        for (at, pixel) in picture.y.iter_mut().enumerate() {
            if at % 16 == 0 {
                bits = mix((start.wrapping_add(at)) as u64);
            }
            let grain = (bits & 15) as i16 * (2 * strength + 1) / 16 - strength;
            bits >>= 4;
            *pixel = (i16::from(*pixel) + grain).clamp(16, 235) as u8;
        }
    }
}

impl Passage {
    /// Where it is at a time.
    fn pose(&self, time: f64) -> Pose {
        let share = ((time - self.begin) / self.seconds) as f32;
        let [from, to] = self.path;
        let way = [to[0] - from[0], to[1] - from[1]];
        let length = way[0].hypot(way[1]);
        Pose {
            at: [from[0] + way[0] * share, from[1] + way[1] * share],
            ahead: way.map(|part| part / length),
        }
    }
}

/// What passes together.
fn group(place: Place, number: usize) -> &'static [Mover] {
    use Mover::{Car, Motorbike, Person};
    let groups: [&[Mover]; 3] = match place {
        Place::Road => [&[Car, Motorbike], &[Motorbike, Motorbike], &[Car]],
        Place::Junction => [&[Motorbike, Person, Car], &[Car, Motorbike], &[Person, Person]],
        Place::NightLane => [&[Motorbike], &[Person], &[Car]],
    };
    groups[number % 3]
}

/// A passage of one thing: its path through the place.
fn passage(place: Place, mover: Mover, back: bool, begin: f64, colour: Rgb) -> Passage {
    let on = |slant: f32, x0: f32, aside: f32, z: f32| [x0 + slant * z + aside, z];
    let lane = if back { 1.0 } else { -1.0 };
    let (path, speed) = match (place, mover) {
        (Place::Road, Mover::Person) => (line(backdrop::SLANT, backdrop::ROAD_X, 4.9), 1.6),
        (Place::Road, _) => {
            let aside = if mover == Mover::Car { 1.8 } else { 2.6 } * -lane;
            let line = [12.0, 66.0].map(|z| on(backdrop::SLANT, backdrop::ROAD_X, aside, z));
            (line, 13.0)
        }
        (Place::Junction, Mover::Person) => ([[-6.4, 23.0], [6.4, 22.8]], 1.9),
        (Place::Junction, _) => {
            let z = 17.5 + lane * 1.8;
            ([[-16.0, z], [16.0, z]], if mover == Mover::Car { 7.0 } else { 6.4 })
        }
        (Place::NightLane, _) => {
            let (slant, x0) = backdrop::LANE;
            let far = if mover == Mover::Person { 24.0 } else { 48.0 };
            let aside = if mover == Mover::Person { 1.9 } else { -0.8 * lane };
            let speed = if mover == Mover::Person { 2.0 } else { 7.5 };
            ([9.0, far].map(|z| on(slant, x0, aside, z)), speed)
        }
    };
    let path = if back { path } else { [path[1], path[0]] };
    let seconds = f64::from((path[1][0] - path[0][0]).hypot(path[1][1] - path[0][1]) / speed);
    Passage { begin, seconds, mover, path, colour }
}

/// A path beside a road.
fn line(slant: f32, x0: f32, aside: f32) -> [[f32; 2]; 2] {
    [14.0, 30.0].map(|z| [x0 + slant * z + aside, z])
}

/// Brightens the ground ahead of a vehicle.
fn headlight(picture: &mut Picture, lens: Lens, pose: Pose) {
    const REACH: f32 = 15.0;
    let corners = [(0.5, -1.0), (0.5, 1.0), (REACH, -4.5), (REACH, 4.5)]
        .map(|(along, aside)| lens.project(pose.point(along, aside, 0.0)));
    let seen = || corners.iter().flatten();
    let (width, height) = (picture.width, picture.height);
    let bound = |part: usize, size: usize| {
        let values = seen().map(|corner| corner[part]);
        let low = values.clone().fold(f32::MAX, f32::min).clamp(0.0, size as f32);
        // A corner behind the lens: up to the edge.
        let high = if seen().count() < 4 { size as f32 } else { values.fold(0.0, f32::max) };
        low as usize..(high.clamp(0.0, size as f32) as usize)
    };
    for row in bound(1, height) {
        for column in bound(0, width) {
            let Some([x, z]) = lens.ground(column as f32, row as f32) else { continue };
            let (dx, dz) = (x - pose.at[0], z - pose.at[1]);
            let along = dx * pose.ahead[0] + dz * pose.ahead[1];
            let aside = (dx * pose.ahead[1] - dz * pose.ahead[0]).abs();
            let wide = 0.7 + along * 0.22;
            if along > 0.6 && along < REACH && aside < wide {
                let share = (1.0 - aside / wide) * (1.0 - along / REACH) * (along / 3.0).min(1.0);
                let pixel = &mut picture.y[row * width + column];
                let ground = f32::from(*pixel) - 16.0;
                *pixel = (16.0 + ground * (1.0 + 2.2 * share) + 26.0 * share).min(235.0) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean difference of two pictures' luma.
    fn apart(a: &Picture, b: &Picture) -> f32 {
        let sum: u32 = a.y.iter().zip(&b.y).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        sum as f32 / a.y.len() as f32
    }

    #[test]
    fn every_passage_is_seen_and_the_street_is_empty_between() {
        for place in Place::ALL {
            let street = Street::new(place, 1, 60.0);
            let empty = street.draw(1.0, 320, 180);
            assert!(apart(&empty, &street.draw(2.0, 320, 180)) < 3.0, "{place:?}: noise alone");
            for passage in street.passages() {
                let middle = street.draw(passage.begin + passage.seconds / 2.0, 320, 180);
                let changed =
                    empty.y.iter().zip(&middle.y).filter(|(a, b)| a.abs_diff(**b) > 12).count();
                assert!(changed > 60, "{place:?}, {:?}: {changed} pixels", passage.mover);
            }
            let ends: Vec<f64> = street.passages().iter().map(|p| p.begin + p.seconds).collect();
            assert!(ends[0] < FIRST + EVERY, "{place:?}: {ends:?}");
        }
    }

    #[test]
    fn one_seed_gives_one_picture_and_night_is_dark() {
        let mean = |place| {
            let picture = Street::new(place, 3, 60.0).draw(10.0, 320, 180);
            assert_eq!(picture, Street::new(place, 3, 60.0).draw(10.0, 320, 180));
            picture.y.iter().map(|p| u32::from(*p)).sum::<u32>() / picture.y.len() as u32
        };
        let [road, junction, night] = Place::ALL.map(mean);
        assert!(road > 90 && junction > 90 && night < 70, "{road} {junction} {night}");
    }
}
