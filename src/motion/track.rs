//! Things over time: nearest match along a constant velocity, and when a thing is believed.
//!
//! What belongs here: identity and movement. What does not: where movement matters ([`super::rules`]).

use super::PictureBox;
use super::blobs::Blob;
use super::limits::{COAST, HEIGHT, HITS, REACH, STRAIGHT, TRACKS_MAX, TRAVEL, WIDTH};
use crate::units::Stamp;

/// A thing.
#[derive(Debug, Clone)]
pub struct Track {
    /// Its number.
    pub id: u64,
    /// Left, top, right, bottom in cells.
    pub place: [f32; 4],
    /// Cells.
    pub area: f32,
    /// First seen.
    pub first: Stamp,
    /// Last seen.
    pub last: Stamp,
    /// Believed to be a thing.
    pub confirmed: bool,
    start: [f32; 2],
    velocity: [f32; 2],
    path: f32,
    hits: u32,
}

fn centre(place: [f32; 4]) -> [f32; 2] {
    [(place[0] + place[2]) / 2.0, (place[1] + place[3]) / 2.0]
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sqrt()
}

impl Track {
    /// Degrees clockwise from "up" of its way so far; `None` before it has gone anywhere.
    pub fn direction(&self) -> Option<f32> {
        let now = centre(self.place);
        let (dx, dy) = (now[0] - self.start[0], now[1] - self.start[1]);
        (distance(now, self.start) >= TRAVEL).then(|| dx.atan2(-dy).to_degrees().rem_euclid(360.0))
    }

    /// Where it is, in 0..=1.
    pub fn picture_box(&self) -> PictureBox {
        let (w, h) = (WIDTH as f32, HEIGHT as f32);
        let [left, top, right, bottom] = self.place;
        [left / w, top / h, (right - left) / w, (bottom - top) / h]
    }

    /// Where it stands: the bottom centre of its box, in 0..=1.
    pub fn anchor(&self) -> [f32; 2] {
        [(self.place[0] + self.place[2]) / 2.0 / WIDTH as f32, self.place[3] / HEIGHT as f32]
    }

    /// How sure: by hits and size.
    pub fn score(&self) -> f32 {
        (self.hits as f32 / 12.0).min(1.0) * 0.5 + (self.area / 600.0).min(1.0) * 0.5
    }

    fn take(&mut self, blob: &Blob, at: Stamp) {
        let (was, is) = (centre(self.place), blob.centre());
        let seconds = (at.mono.since(self.last.mono) as f32 / 1e6).max(0.01);
        let step = [(is[0] - was[0]) / seconds, (is[1] - was[1]) / seconds];
        self.velocity = [0, 1].map(|i| self.velocity[i] * 0.5 + step[i] * 0.5);
        self.path += distance(was, is);
        (self.place, self.area, self.last) = (blob.place, blob.area, at);
        self.hits += 1;
        let net = distance(is, self.start);
        self.confirmed |= self.hits >= HITS && net >= TRAVEL && net / self.path.max(0.1) > STRAIGHT;
    }
}

/// All things in view.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Things, oldest first.
    pub tracks: Vec<Track>,
    made: u64,
}

impl Tracker {
    /// Matches the blobs of a picture to the things; gives tracks that ended without being believed, for the model to doubt.
    pub fn step(&mut self, blobs: &[Blob], at: Stamp) {
        let mut pairs = Vec::new();
        for (t, track) in self.tracks.iter().enumerate() {
            let seconds = at.mono.since(track.last.mono) as f32 / 1e6;
            let here = centre(track.place);
            let expected = [here[0] + track.velocity[0] * seconds, here[1] + track.velocity[1] * seconds];
            let reach = REACH + (track.place[2] - track.place[0]).max(track.place[3] - track.place[1]) / 2.0;
            for (b, blob) in blobs.iter().enumerate() {
                let gap = distance(expected, blob.centre()).min(distance(here, blob.centre()) + 2.0);
                if gap <= reach {
                    pairs.push((gap, t, b));
                }
            }
        }
        pairs.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (mut taken, mut used) = (vec![false; self.tracks.len()], vec![false; blobs.len()]);
        for (_, t, b) in pairs {
            if !taken[t] && !used[b] {
                (taken[t], used[b]) = (true, true);
                self.tracks[t].take(&blobs[b], at);
            }
        }
        for (b, blob) in blobs.iter().enumerate() {
            if !used[b] && self.tracks.len() < TRACKS_MAX {
                self.made += 1;
                let (place, area, start) = (blob.place, blob.area, blob.centre());
                let (id, velocity, path, hits) = (self.made, [0.0; 2], 0.0, 1);
                self.tracks.push(Track { id, place, area, first: at, last: at, confirmed: false, start, velocity, path, hits });
            }
        }
        self.tracks.retain(|track| at.mono.since(track.last.mono) <= COAST);
    }
}
