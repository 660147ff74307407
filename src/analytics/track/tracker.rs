//! Things over time: nearest match along a constant velocity, when an object is confirmed, and whether it moves or stands.
//!
//! What belongs here: identity and movement. What does not: where movement matters ([`crate::analytics::track::rules`]).

use crate::analytics::PictureBox;
use crate::analytics::detect::blobs::Blob;
use crate::analytics::detect::picture::Grid;
use crate::analytics::detect::stages::{Stage, Stages};
use crate::analytics::params::{
    ASTRAY, COAST, DENSE, EDGE, GUST, GUSTY, HITS, LIKE, REACH, RESTLESS_TRAVEL, STEP, STUBBORN, TRACKS_MAX, TRAVEL,
};
use crate::units::Timestamp;

/// What an object is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackState {
    /// Not confirmed yet.
    Tentative,
    /// Believed, and on its way.
    Moving,
    /// Believed, and standing.
    Standing,
}

/// An object.
#[derive(Debug, Clone)]
pub struct Track {
    /// Its number.
    pub id: u64,
    /// Left, top, right, bottom in cells.
    pub bbox: [f32; 4],
    /// Cells.
    pub area: f32,
    /// First seen.
    pub first: Timestamp,
    /// Last seen.
    pub last: Timestamp,
    /// Last seen going somewhere.
    pub moved: Timestamp,
    /// What it is doing.
    pub state: TrackState,
    grid: Grid,
    start: [f32; 4],
    /// Where it was when it last moved.
    rest: [f32; 2],
    velocity: [f32; 2],
    /// Seconds that it was measured over last; 0 before.
    pace: f32,
    /// Cells by which it was elsewhere than its velocity said, beyond what outlines wobble by.
    astray: f32,
    hits: u32,
    /// Pictures since it was first seen, with it or without.
    looks: u32,
    /// How much of it its region does anyway, at most: there it must go further to be confirmed.
    restless: f32,
}

fn centre(place: [f32; 4]) -> [f32; 2] {
    [(place[0] + place[2]) / 2.0, (place[1] + place[3]) / 2.0]
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

fn seconds(micros: u64) -> f32 {
    micros as f32 / 1e6
}

impl Track {
    fn new(id: u64, blob: &Blob, at: Timestamp, grid: Grid) -> Track {
        let (place, area, rest) = (blob.bbox, blob.area, blob.centre());
        let (state, velocity, pace, astray, hits, restless) = (TrackState::Tentative, [0.0; 2], 0.0, 0.0, 1, 0.0);
        Track {
            id,
            bbox: place,
            area,
            first: at,
            last: at,
            moved: at,
            state,
            grid,
            start: place,
            rest,
            velocity,
            pace,
            astray,
            hits,
            looks: 1,
            restless,
        }
    }

    /// Believed to be an object.
    pub fn is_confirmed(&self) -> bool {
        self.state != TrackState::Tentative
    }

    /// In view for long without becoming believable: a branch, a flag, a reflection.
    pub fn is_stubborn(&self) -> bool {
        !self.is_confirmed() && self.last.mono.since(self.first.mono) > STUBBORN
    }

    /// Degrees clockwise from "up" of its way so far; `None` before it has gone anywhere.
    pub fn direction(&self) -> Option<f32> {
        let (now, start) = (centre(self.bbox), centre(self.start));
        let (dx, dy) = (now[0] - start[0], now[1] - start[1]);
        (distance(now, start) >= TRAVEL).then(|| dx.atan2(-dy).to_degrees().rem_euclid(360.0))
    }

    /// It went away from where it was first seen, whether it is confirmed or not.
    pub fn has_travelled(&self) -> bool {
        distance(centre(self.bbox), centre(self.start)) >= TRAVEL
    }

    /// Picture widths a second.
    pub fn speed(&self) -> f32 {
        self.velocity[0].hypot(self.velocity[1]) / self.grid.width.max(1) as f32
    }

    /// Where it is, in 0..=1.
    pub fn picture_box(&self) -> PictureBox {
        let (w, h) = (self.grid.width as f32, self.grid.height as f32);
        let [left, top, right, bottom] = self.bbox;
        [left / w, top / h, (right - left) / w, (bottom - top) / h]
    }

    fn anchor_of(&self, place: [f32; 4]) -> [f32; 2] {
        [(place[0] + place[2]) / 2.0 / self.grid.width as f32, place[3] / self.grid.height as f32]
    }

    /// Where it stands: the bottom centre of its box, in 0..=1.
    pub fn anchor(&self) -> [f32; 2] {
        self.anchor_of(self.bbox)
    }

    /// Where it was first seen standing.
    pub fn first_anchor(&self) -> [f32; 2] {
        self.anchor_of(self.start)
    }

    /// True when a box touches the edge of the picture.
    fn touches_edge(&self, place: [f32; 4]) -> bool {
        let (w, h) = (self.grid.width as f32, self.grid.height as f32);
        place[0] < EDGE || place[1] < EDGE || place[2] > w - EDGE || place[3] > h - EDGE
    }

    /// True when it came into the picture over its edge.
    pub fn came_in(&self) -> bool {
        self.touches_edge(self.start)
    }

    /// True when it is leaving over the picture's edge, or has: it touches it, or was about to.
    pub fn goes_out(&self) -> bool {
        let soon = [0, 1, 2, 3].map(|i| self.bbox[i] + self.velocity[i % 2] * seconds(COAST) / 2.0);
        self.touches_edge(self.bbox) || self.touches_edge(soon)
    }

    /// How sure: by hits and size.
    pub fn score(&self) -> f32 {
        (self.hits as f32 / 12.0).min(1.0) * 0.5 + (self.area / 600.0).min(1.0) * 0.5
    }

    fn expected(&self, at: Timestamp) -> [f32; 2] {
        let ahead = seconds(at.mono.since(self.last.mono));
        let here = centre(self.bbox);
        [here[0] + self.velocity[0] * ahead, here[1] + self.velocity[1] * ahead]
    }

    fn take(&mut self, blob: &Blob, restless: f32, at: Timestamp, stages: Stages) {
        if !self.is_confirmed() && !(1.0 / LIKE..=LIKE).contains(&(blob.area / self.area.max(1.0))) && stages.has(Stage::Like) {
            // It joined another or came apart: what it did before says nothing of what it is now.
            *self = Track { first: self.first, ..Track::new(self.id, blob, at, self.grid) };
            return;
        }
        self.restless = self.restless.max(restless.min(1.0));
        let (was, is) = (centre(self.bbox), blob.centre());
        let size = (blob.bbox[2] - blob.bbox[0]).max(blob.bbox[3] - blob.bbox[1]);
        let ahead = seconds(at.mono.since(self.last.mono)).max(0.01);
        if self.hits > 1 {
            // The wobble of an outline that became its first velocity within a short time is carried further by a longer one.
            let wobble = size / 10.0 * if self.hits == 2 { (ahead / self.pace).max(1.0) } else { 1.0 };
            self.astray += (distance(self.expected(at), is) - STEP - wobble).max(0.0);
        }
        self.pace = ahead;
        let step = [(is[0] - was[0]) / ahead, (is[1] - was[1]) / ahead];
        let share = if self.hits == 1 { 1.0 } else { 0.5 };
        self.velocity = [0, 1].map(|i| self.velocity[i] * (1.0 - share) + step[i] * share);
        (self.bbox, self.area, self.last) = (blob.bbox, blob.area, at);
        self.hits += 1;
        if distance(is, self.rest) > STEP + size / 10.0 {
            (self.rest, self.moved) = (is, at);
        }
        let net = distance(is, centre(self.start));
        let stabilized = self.astray <= ASTRAY * net || !stages.has(Stage::StraightPath);
        let gust = GUST * (self.restless / GUSTY).min(1.0);
        let far = TRAVEL + gust.max(RESTLESS_TRAVEL * self.restless * size);
        let confirmed =
            self.is_confirmed() || self.hits >= HITS && self.hits as f32 >= DENSE * self.looks as f32 && net >= far && stabilized;
        self.state = match confirmed {
            false => TrackState::Tentative,
            true if at.mono.since(self.moved.mono) > 1_000_000 => TrackState::Standing,
            true => TrackState::Moving,
        };
    }
}

/// All objects in view.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Things, oldest first.
    pub tracks: Vec<Track>,
    made: u64,
}

impl Tracker {
    /// Matches the blobs of a picture, and how restless their regions are, to the objects: for each blob the number of its object, if
    /// any, and the objects that are lost.
    pub fn step(
        &mut self,
        blobs: &[Blob],
        restless: &[f32],
        at: Timestamp,
        grid: Grid,
        stages: Stages,
    ) -> (Vec<Option<u64>>, Vec<Track>) {
        let mut pairs = Vec::new();
        self.tracks.iter_mut().for_each(|track| track.looks += 1);
        for (t, track) in self.tracks.iter().enumerate() {
            let (expected, here) = (track.expected(at), centre(track.bbox));
            let reach = REACH + (track.bbox[2] - track.bbox[0]).max(track.bbox[3] - track.bbox[1]) / 2.0;
            for (b, blob) in blobs.iter().enumerate() {
                let gap = distance(expected, blob.centre()).min(distance(here, blob.centre()) + 2.0);
                if gap <= reach {
                    // A confirmed object takes its blob before a guess does.
                    pairs.push((gap - if track.is_confirmed() { 4.0 } else { 0.0 }, t, b));
                }
            }
        }
        pairs.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (mut taken, mut owners) = (vec![false; self.tracks.len()], vec![None; blobs.len()]);
        for (_, t, b) in pairs {
            if !taken[t] && owners[b].is_none() {
                taken[t] = true;
                owners[b] = Some(self.tracks[t].id);
                self.tracks[t].take(&blobs[b], restless[b], at, stages);
            }
        }
        for (blob, owner) in blobs.iter().zip(&mut owners) {
            if owner.is_none() && self.tracks.len() < TRACKS_MAX {
                self.made += 1;
                *owner = Some(self.made);
                self.tracks.push(Track::new(self.made, blob, at, grid));
            }
        }
        // Who stands may be hidden for a while: by a passer-by, or by a coat of the colour of the wall.
        let patience = |track: &Track| if track.state == TrackState::Standing { COAST * 4 } else { COAST };
        let is_lost = |track: &mut Track| at.mono.since(track.last.mono) > patience(track);
        let lost = self.tracks.extract_if(.., is_lost).collect();
        (owners, lost)
    }

    /// True while something is in view that is not decided.
    pub fn is_unsure(&self) -> bool {
        self.tracks.iter().any(|track| !track.is_confirmed() && !track.is_stubborn())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MonoTime;

    const GRID: Grid = Grid { width: 320, height: 180 };

    /// Shows a box of 8 x 16 cells at its left edge by look, ten a second, or nothing; gives whether it was ever confirmed, and the
    /// tracker.
    fn shown(restless: f32, looks: impl Iterator<Item = Option<f32>>) -> (bool, Tracker) {
        let (mut tracker, mut confirmed) = (Tracker::default(), false);
        for (look, left) in looks.enumerate() {
            let at = Timestamp { mono: MonoTime(1_000_000 + look as u64 * 100_000), ..Timestamp::default() };
            let blobs: Vec<Blob> = left
                .map(|left| Blob { bbox: [left, 100.0, left + 8.0, 116.0], area: 128.0, cells: vec![0] })
                .into_iter()
                .collect();
            tracker.step(&blobs, &[restless][..blobs.len()], at, GRID, Stages::ALL);
            confirmed |= tracker.tracks.iter().any(Track::is_confirmed);
        }
        (confirmed, tracker)
    }

    #[test]
    fn a_walker_is_confirmed_after_four_pictures_and_then_stands() {
        let walk = |look: usize| Some(20.0 + look.min(20) as f32 * 4.0);
        assert!(!shown(0.0, (0..3).map(walk)).0);
        assert!(shown(0.0, (0..4).map(walk)).0);
        let (_, tracker) = shown(0.0, (0..40).map(walk));
        assert_eq!(tracker.tracks[0].state, TrackState::Standing);
        assert!((85.0..95.0).contains(&tracker.tracks[0].direction().unwrap()));
    }

    #[test]
    fn erratic_or_local_motion_is_never_confirmed() {
        let sways = (0..60).map(|look: usize| Some(100.0 + [0.0, 3.0, 5.0, 3.0, 0.0, -3.0][look % 6]));
        assert!(!shown(0.0, sways).0);
        let blinks = (0..60).map(|look: usize| look.is_multiple_of(3).then_some(20.0 + look as f32 * 3.0));
        assert!(!shown(0.0, blinks).0);
        let darts = [20.0, 20.0, 32.0, 32.0, 47.0, 47.0, 58.0, 58.0].into_iter().map(Some);
        assert!(!shown(0.0, darts).0, "it goes one way, but by jumps");
        let little = |look: usize| Some(100.0 + (look as f32 * 4.0).min(24.0));
        assert!(shown(0.0, (0..10).map(little)).0);
        assert!(!shown(1.0, (0..10).map(little)).0);
    }

    #[test]
    fn objects_in_gust_range_must_travel_further() {
        let way = |cells: f32| (0..14).map(move |look: usize| Some(100.0 + (look as f32 * 2.0).min(cells)));
        assert!(shown(0.0, way(12.0)).0 && shown(GUSTY / 8.0, way(12.0)).0, "nothing moves there");
        assert!(!shown(GUSTY, way(12.0)).0, "it differs a thirtieth of the time, and this is as far as leaves go");
        assert!(shown(GUSTY, way(26.0)).0, "nothing goes on and on but things");
    }

    #[test]
    fn a_merged_track_is_confirmed_like_a_new_one() {
        let mut tracker = Tracker::default();
        let mut confirmed = None;
        for look in 0..20_u64 {
            // An insect darts about; then a car comes through the same place.
            let (left, side) =
                if look < 8 { (100.0 + [0.0, 9.0, -4.0, 6.0][look as usize % 4], 8.0) } else { (60.0 + look as f32 * 5.0, 30.0) };
            let at = Timestamp { mono: MonoTime(1_000_000 + look * 100_000), ..Timestamp::default() };
            let blob = Blob { bbox: [left, 100.0, left + side, 100.0 + side], area: side * side, cells: vec![0] };
            tracker.step(&[blob], &[0.0], at, GRID, Stages::ALL);
            confirmed = confirmed.or(tracker.tracks.iter().any(Track::is_confirmed).then_some(look));
        }
        assert_eq!(confirmed, Some(11));
    }
}
