//! The tracker: matches regions to tracks, confirms objects and separates moving from standing
//! ones.
//!
//! A region continues the nearest track along its constant velocity.

use std::time::Duration;

use crate::analytics::PictureBox;
use crate::analytics::detect::blobs::Blob;
use crate::analytics::detect::picture::Grid;
use crate::analytics::detect::stages::{Stage, Stages};
use crate::analytics::params::{
    COAST, DENSE, DEVIATION, EDGE, GUST, GUSTY, HITS, REACH, RESTLESS_TRAVEL, SCENERY_AFTER,
    SIZE_RATIO, STEP, TRACKS_MAX, TRAVEL,
};
use crate::units::Timestamp;

/// Time without movement after which a confirmed object stands.
const STANDS_AFTER: Duration = Duration::from_secs(1);

/// The state of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackState {
    /// Not confirmed yet.
    Tentative,
    /// Confirmed, and moving.
    Moving,
    /// Confirmed, and standing.
    Standing,
}

/// A tracked object.
#[derive(Debug, Clone)]
pub struct Track {
    /// Number of the track, unique within one tracker.
    pub id: u64,
    /// Latest bounding box: left, top, right, bottom in cells.
    pub bbox: [f32; 4],
    /// Latest area in cells.
    pub area: f32,
    /// Time of the first detection.
    pub first: Timestamp,
    /// Time of the last detection.
    pub last: Timestamp,
    /// Time of the last movement.
    pub moved: Timestamp,
    /// State of the track.
    pub state: TrackState,
    grid: Grid,
    start: [f32; 4],
    /// Position at the last movement, in cells.
    last_moved_at: [f32; 2],
    velocity: [f32; 2],
    /// Seconds between the last two detections; 0 before the second.
    interval: f32,
    /// Sum of the deviations from the predicted positions beyond the jitter of outlines, in cells.
    deviation: f32,
    detections: u32,
    /// Pictures since the first detection, with or without the object.
    pictures: u32,
    /// Largest share of the object that the usual activity of its region explains: there it must
    /// travel further to be confirmed.
    activity: f32,
}

fn centre(bbox: [f32; 4]) -> [f32; 2] {
    [(bbox[0] + bbox[2]) / 2.0, (bbox[1] + bbox[3]) / 2.0]
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

fn seconds(micros: u64) -> f32 {
    micros as f32 / 1e6
}

impl Track {
    fn new(id: u64, blob: &Blob, at: Timestamp, grid: Grid) -> Track {
        Track {
            id,
            bbox: blob.bbox,
            area: blob.area,
            first: at,
            last: at,
            moved: at,
            state: TrackState::Tentative,
            grid,
            start: blob.bbox,
            last_moved_at: blob.centre(),
            velocity: [0.0; 2],
            interval: 0.0,
            deviation: 0.0,
            detections: 1,
            pictures: 1,
            activity: 0.0,
        }
    }

    /// True for a confirmed object.
    pub fn is_confirmed(&self) -> bool {
        self.state != TrackState::Tentative
    }

    /// True for a tentative object in view for long: a branch, a flag, a reflection.
    pub fn is_scenery(&self) -> bool {
        !self.is_confirmed() && self.last.mono.duration_since(self.first.mono) > SCENERY_AFTER
    }

    /// Direction from the first position, in degrees clockwise from "up". `None` before the object
    /// has travelled.
    pub fn direction(&self) -> Option<f32> {
        let (now, start) = (centre(self.bbox), centre(self.start));
        let (dx, dy) = (now[0] - start[0], now[1] - start[1]);
        (distance(now, start) >= TRAVEL).then(|| dx.atan2(-dy).to_degrees().rem_euclid(360.0))
    }

    /// True when the object has left its first position, confirmed or not.
    pub fn has_travelled(&self) -> bool {
        distance(centre(self.bbox), centre(self.start)) >= TRAVEL
    }

    /// Speed in picture widths a second.
    pub fn speed(&self) -> f32 {
        self.velocity[0].hypot(self.velocity[1]) / self.grid.width.max(1) as f32
    }

    /// Latest bounding box as shares of the picture.
    pub fn picture_box(&self) -> PictureBox {
        let (w, h) = (self.grid.width as f32, self.grid.height as f32);
        let [left, top, right, bottom] = self.bbox;
        [left / w, top / h, (right - left) / w, (bottom - top) / h]
    }

    fn anchor_of(&self, bbox: [f32; 4]) -> [f32; 2] {
        [(bbox[0] + bbox[2]) / 2.0 / self.grid.width as f32, bbox[3] / self.grid.height as f32]
    }

    /// Latest ground position: the bottom centre of the bounding box, 0..=1.
    pub fn anchor(&self) -> [f32; 2] {
        self.anchor_of(self.bbox)
    }

    /// First ground position, 0..=1.
    pub fn first_anchor(&self) -> [f32; 2] {
        self.anchor_of(self.start)
    }

    /// True when a bounding box touches the edge of the picture.
    fn touches_edge(&self, bbox: [f32; 4]) -> bool {
        let (w, h) = (self.grid.width as f32, self.grid.height as f32);
        bbox[0] < EDGE || bbox[1] < EDGE || bbox[2] > w - EDGE || bbox[3] > h - EDGE
    }

    /// True when the object entered over the edge of the picture.
    pub fn entered_over_edge(&self) -> bool {
        self.touches_edge(self.start)
    }

    /// True when the object touches the edge of the picture or is about to.
    pub fn is_leaving(&self) -> bool {
        let soon =
            [0, 1, 2, 3].map(|i| self.bbox[i] + self.velocity[i % 2] * COAST.as_secs_f32() / 2.0);
        self.touches_edge(self.bbox) || self.touches_edge(soon)
    }

    /// Score 0..=1 from the number of detections and the size.
    pub fn score(&self) -> f32 {
        (self.detections as f32 / 12.0).min(1.0) * 0.5 + (self.area / 600.0).min(1.0) * 0.5
    }

    fn expected(&self, at: Timestamp) -> [f32; 2] {
        let ahead = seconds(at.mono.since(self.last.mono));
        let here = centre(self.bbox);
        [here[0] + self.velocity[0] * ahead, here[1] + self.velocity[1] * ahead]
    }

    fn update(&mut self, blob: &Blob, activity: f32, at: Timestamp, stages: Stages) {
        if !self.is_confirmed()
            && !(1.0 / SIZE_RATIO..=SIZE_RATIO).contains(&(blob.area / self.area.max(1.0)))
            && stages.has(Stage::Like)
        {
            // The object has merged or split: its earlier motion is not its own.
            *self = Track { first: self.first, ..Track::new(self.id, blob, at, self.grid) };
            return;
        }
        self.activity = self.activity.max(activity.min(1.0));
        let (was, is) = (centre(self.bbox), blob.centre());
        let size = (blob.bbox[2] - blob.bbox[0]).max(blob.bbox[3] - blob.bbox[1]);
        let ahead = seconds(at.mono.since(self.last.mono)).max(0.01);
        if self.detections > 1 {
            // The jitter of the outline that became the first velocity within a short time is
            // extrapolated over a longer one.
            let wobble = size / 10.0
                * if self.detections == 2 { (ahead / self.interval).max(1.0) } else { 1.0 };
            self.deviation += (distance(self.expected(at), is) - STEP - wobble).max(0.0);
        }
        self.interval = ahead;
        let step = [(is[0] - was[0]) / ahead, (is[1] - was[1]) / ahead];
        let share = if self.detections == 1 { 1.0 } else { 0.5 };
        self.velocity = [0, 1].map(|i| self.velocity[i] * (1.0 - share) + step[i] * share);
        self.bbox = blob.bbox;
        self.area = blob.area;
        self.last = at;
        self.detections += 1;
        if distance(is, self.last_moved_at) > STEP + size / 10.0 {
            self.last_moved_at = is;
            self.moved = at;
        }
        let distance_from_start = distance(is, centre(self.start));
        let follows_prediction =
            self.deviation <= DEVIATION * distance_from_start || !stages.has(Stage::StraightPath);
        let gust = GUST * (self.activity / GUSTY).min(1.0);
        let required = TRAVEL + gust.max(RESTLESS_TRAVEL * self.activity * size);
        let confirmed = self.is_confirmed()
            || self.detections >= HITS
                && self.detections as f32 >= DENSE * self.pictures as f32
                && distance_from_start >= required
                && follows_prediction;
        self.state = if !confirmed {
            TrackState::Tentative
        } else if at.mono.duration_since(self.moved.mono) > STANDS_AFTER {
            TrackState::Standing
        } else {
            TrackState::Moving
        };
    }
}

/// The tracks of one camera.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Tracks, oldest first.
    pub tracks: Vec<Track>,
    last_id: u64,
}

impl Tracker {
    /// Matches the blobs of a picture to the tracks. `activity` is for each blob the share that the
    /// activity map explains. Returns for each blob the id of its track, if any, and the lost
    /// tracks.
    pub fn step(
        &mut self,
        blobs: &[Blob],
        activity: &[f32],
        at: Timestamp,
        grid: Grid,
        stages: Stages,
    ) -> (Vec<Option<u64>>, Vec<Track>) {
        let mut pairs = Vec::new();
        self.tracks.iter_mut().for_each(|track| track.pictures += 1);
        for (t, track) in self.tracks.iter().enumerate() {
            let (expected, here) = (track.expected(at), centre(track.bbox));
            let reach =
                REACH + (track.bbox[2] - track.bbox[0]).max(track.bbox[3] - track.bbox[1]) / 2.0;
            for (b, blob) in blobs.iter().enumerate() {
                let gap =
                    distance(expected, blob.centre()).min(distance(here, blob.centre()) + 2.0);
                if gap <= reach {
                    // A confirmed object is matched before a tentative one.
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
                self.tracks[t].update(&blobs[b], activity[b], at, stages);
            }
        }
        for (blob, owner) in blobs.iter().zip(&mut owners) {
            if owner.is_none() && self.tracks.len() < TRACKS_MAX {
                self.last_id += 1;
                *owner = Some(self.last_id);
                self.tracks.push(Track::new(self.last_id, blob, at, grid));
            }
        }
        // A standing object may be hidden for longer: by a passer-by, or by a coat of the colour of
        // the wall.
        let time_limit =
            |track: &Track| if track.state == TrackState::Standing { COAST * 4 } else { COAST };
        let is_lost =
            |track: &mut Track| at.mono.duration_since(track.last.mono) > time_limit(track);
        let lost = self.tracks.extract_if(.., is_lost).collect();
        (owners, lost)
    }

    /// True while a tentative object is in view.
    pub fn is_unsure(&self) -> bool {
        self.tracks.iter().any(|track| !track.is_confirmed() && !track.is_scenery())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MonoTime;

    const GRID: Grid = Grid { width: 320, height: 180 };

    /// Feeds a box of 8 x 16 cells at the given left edges, ten pictures a second; `None` is a
    /// picture without it. Returns whether it was ever confirmed, and the tracker.
    fn shown(activity: f32, pictures: impl Iterator<Item = Option<f32>>) -> (bool, Tracker) {
        let (mut tracker, mut confirmed) = (Tracker::default(), false);
        for (picture, left) in pictures.enumerate() {
            let at = Timestamp {
                mono: MonoTime(1_000_000 + picture as u64 * 100_000),
                ..Timestamp::default()
            };
            let blobs: Vec<Blob> = left
                .map(|left| Blob {
                    bbox: [left, 100.0, left + 8.0, 116.0],
                    area: 128.0,
                    cells: vec![0],
                })
                .into_iter()
                .collect();
            tracker.step(&blobs, &[activity][..blobs.len()], at, GRID, Stages::ALL);
            confirmed |= tracker.tracks.iter().any(Track::is_confirmed);
        }
        (confirmed, tracker)
    }

    #[test]
    fn a_walker_is_confirmed_after_four_pictures_and_then_stands() {
        let walk = |picture: usize| Some(20.0 + picture.min(20) as f32 * 4.0);
        assert!(!shown(0.0, (0..3).map(walk)).0);
        assert!(shown(0.0, (0..4).map(walk)).0);
        let (_, tracker) = shown(0.0, (0..40).map(walk));
        assert_eq!(tracker.tracks[0].state, TrackState::Standing);
        assert!((85.0..95.0).contains(&tracker.tracks[0].direction().unwrap()));
    }

    #[test]
    fn erratic_or_local_motion_is_never_confirmed() {
        let sways = (0..60)
            .map(|picture: usize| Some(100.0 + [0.0, 3.0, 5.0, 3.0, 0.0, -3.0][picture % 6]));
        assert!(!shown(0.0, sways).0);
        let blinks = (0..60)
            .map(|picture: usize| picture.is_multiple_of(3).then_some(20.0 + picture as f32 * 3.0));
        assert!(!shown(0.0, blinks).0);
        let darts = [20.0, 20.0, 32.0, 32.0, 47.0, 47.0, 58.0, 58.0].into_iter().map(Some);
        assert!(!shown(0.0, darts).0, "it moves in one direction, but in jumps");
        let little = |picture: usize| Some(100.0 + (picture as f32 * 4.0).min(24.0));
        assert!(shown(0.0, (0..10).map(little)).0);
        assert!(!shown(1.0, (0..10).map(little)).0);
    }

    #[test]
    fn objects_in_gust_range_must_travel_further() {
        let way = |cells: f32| {
            (0..14).map(move |picture: usize| Some(100.0 + (picture as f32 * 2.0).min(cells)))
        };
        assert!(
            shown(0.0, way(12.0)).0 && shown(GUSTY / 8.0, way(12.0)).0,
            "without usual activity"
        );
        assert!(!shown(GUSTY, way(12.0)).0, "with usual activity, as far as leaves move");
        assert!(shown(GUSTY, way(26.0)).0, "further than leaves move");
    }

    #[test]
    fn a_merged_track_is_confirmed_like_a_new_one() {
        let mut tracker = Tracker::default();
        let mut confirmed = None;
        for picture in 0..20_u64 {
            // An insect darts about, then a car passes the same place.
            let (left, side) = if picture < 8 {
                (100.0 + [0.0, 9.0, -4.0, 6.0][picture as usize % 4], 8.0)
            } else {
                (60.0 + picture as f32 * 5.0, 30.0)
            };
            let at =
                Timestamp { mono: MonoTime(1_000_000 + picture * 100_000), ..Timestamp::default() };
            let blob = Blob {
                bbox: [left, 100.0, left + side, 100.0 + side],
                area: side * side,
                cells: vec![0],
            };
            tracker.step(&[blob], &[0.0], at, GRID, Stages::ALL);
            confirmed =
                confirmed.or(tracker.tracks.iter().any(Track::is_confirmed).then_some(picture));
        }
        assert_eq!(confirmed, Some(11));
    }
}
