//! From picture to news: the same detector in the agent and in `eval-motion`.
//!
//! What belongs here: the order of the steps and the life of an event. What does not: decoding, threads.

use super::limits::{BLOB_MIN, GLOBAL_SHARE, HOLD, STILL_AFTER, TURN, UPDATE_EVERY, WARM_UP};
use super::luma::{Picture, small};
use super::model::Model;
use super::still::Best;
use super::track::{Track, Tracker};
use super::{Motion, MotionPhase, PictureBox, SceneChange, SightNews, blobs, gate, rules};
use crate::settings::MotionSettings;
use crate::units::Stamp;

/// An event in progress.
struct Open {
    motion: u64,
    began: Stamp,
    /// A track last moved in a zone.
    seen: Stamp,
    updated: Stamp,
    zones: Vec<String>,
    direction: Option<f32>,
    place: PictureBox,
    score: f32,
    tracks: Vec<u64>,
    suppressed: u32,
    continued_from: Option<u64>,
    best: Best,
    still_sent: bool,
}

/// The detector of one camera.
pub struct Detector {
    settings: MotionSettings,
    still_max: usize,
    gate: gate::Gate,
    model: Option<Model>,
    tracker: Tracker,
    open: Option<Open>,
    /// Nothing is judged before.
    hold_until: u64,
    /// The end of the last event, for the cooldown.
    ended: Option<Stamp>,
    suppressed: u32,
    /// Tracks whose start was suppressed: counted once.
    ignored: Vec<u64>,
    motions: u64,
}

/// Scale of the size and difference thresholds: 1 at sensitivity 5, about 3 at 1, about 0.4 at 10.
fn coarseness(sensitivity: u8) -> f32 {
    1.3_f32.powi(5 - i32::from(sensitivity))
}

impl Detector {
    /// A detector that has seen nothing; stills have at most `still_max` bytes.
    pub fn new(settings: MotionSettings, still_max: usize) -> Detector {
        Detector {
            settings,
            still_max,
            gate: gate::Gate::default(),
            model: None,
            tracker: Tracker::default(),
            open: None,
            hold_until: 0,
            ended: None,
            suppressed: 0,
            ignored: Vec::new(),
            motions: 0,
        }
    }

    /// Goes on with other settings: what is known of the scene stays, and so does an event that is open.
    pub fn settle(&mut self, settings: MotionSettings) {
        if self.settings.sensitivity != settings.sensitivity {
            // The model was made for the other one.
            self.interrupted();
        }
        self.settings = settings;
    }

    /// The stream was interrupted: the scene is learned anew and nothing begins meanwhile.
    pub fn interrupted(&mut self) {
        self.model = None;
        self.gate = gate::Gate::default();
        self.tracker = Tracker::default();
    }

    /// Looks at the next picture.
    pub fn look(&mut self, picture: &Picture, at: Stamp, out: &mut Vec<SightNews>) {
        let now = small(picture);
        let coarse = coarseness(self.settings.sensitivity);
        let change = self.gate.look(&now);
        let Some(model) = &mut self.model else {
            self.model = Some(Model::new(&now.cells, coarse.sqrt()));
            self.hold_until = at.mono.0 + WARM_UP;
            return;
        };
        let mut front = model.look(&now.cells, true);
        let share = front.iter().filter(|cell| **cell).count() as f32 / front.len() as f32;
        let change = change.or((share > GLOBAL_SHARE).then_some(SceneChange::Exposure));
        if let Some(change) = change {
            self.scene(change, &now.cells, coarse, at, out);
            return self.end_quiet(at, out);
        }
        if at.mono.0 < self.hold_until {
            return self.end_quiet(at, out);
        }
        let found = blobs::find(&front, BLOB_MIN * coarse);
        let mut things = Vec::new();
        for blob in found {
            if blobs::is_ghost(&blob, &now.cells, model) {
                blob.cells.iter().for_each(|cell| model.absorb(*cell, now.cells[*cell]));
            } else if blobs::is_thing(&blob, &now.cells, model) {
                blob.cells.iter().for_each(|cell| front[*cell] = false);
                things.push(blob);
            }
        }
        // What differs and is no thing teaches the cell that it is restless.
        for (cell, _) in front.iter().enumerate().filter(|(_, front)| **front) {
            model.doubt(cell);
        }
        self.tracker.step(&things, at);
        self.judge(picture, at, out);
        self.end_quiet(at, out);
    }

    /// The whole scene changed: told once per hold, learned anew; open events live on.
    fn scene(&mut self, change: SceneChange, cells: &[u8], coarse: f32, at: Stamp, out: &mut Vec<SightNews>) {
        if at.mono.0 >= self.hold_until {
            out.push(SightNews::Scene { change, at });
        }
        if change != SceneChange::Frozen {
            self.hold_until = self.hold_until.max(at.mono.0 + HOLD);
            self.model = Some(Model::new(cells, coarse.sqrt()));
            self.tracker = Tracker::default();
        }
    }

    /// Believed things in zones begin or carry on an event.
    fn judge(&mut self, picture: &Picture, at: Stamp, out: &mut Vec<SightNews>) {
        let zones = &self.settings.zones;
        let counts = |track: &&Track| track.confirmed && track.last == at;
        let hits: Vec<(Track, Vec<String>)> = self
            .tracker
            .tracks
            .iter()
            .filter(counts)
            .map(|track| (track.clone(), rules::zones_of(zones, track.anchor())))
            .filter(|(_, zones)| !zones.is_empty())
            .collect();
        for (track, zones) in hits {
            if self.open.is_none() && !self.may_begin(&track, at) {
                continue;
            }
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    self.motions += 1;
                    let suppressed = std::mem::take(&mut self.suppressed);
                    self.open.insert(Open::new(self.motions, &track, at, suppressed))
                }
            };
            let fresh = open.take(&track, &zones, at);
            if open.best.offer(track.picture_box(), picture, at) {
                open.score = open.score.max(track.score());
            }
            let begun = open.tracks.len() == 1 && open.updated.mono.0 == 0;
            let phase = if begun { MotionPhase::Start } else { MotionPhase::Update };
            if begun || fresh && at.mono.since(open.updated.mono) >= UPDATE_EVERY {
                open.updated = at;
                out.push(SightNews::Motion(open.news(phase, at)));
            }
        }
        if let Some(open) = &mut self.open
            && !open.still_sent
            && at.mono.since(open.began.mono) >= STILL_AFTER
        {
            open.send_still(&self.settings.zones, self.still_max, out);
        }
    }

    /// The cooldown: starts within it are counted, not told.
    fn may_begin(&mut self, track: &Track, at: Stamp) -> bool {
        let cooling = self.ended.is_some_and(|ended| at.mono.since(ended.mono) < self.settings.cooldown);
        if cooling && !self.ignored.contains(&track.id) {
            self.ignored.push(track.id);
            self.suppressed += 1;
        }
        if !cooling {
            self.ignored.clear();
        }
        !cooling
    }

    /// Ends the event after its quiet, or cuts it at its longest and goes on with another.
    fn end_quiet(&mut self, at: Stamp, out: &mut Vec<SightNews>) {
        let Some(open) = &mut self.open else {
            return;
        };
        let quiet = at.mono.since(open.seen.mono) >= self.settings.quiet_after;
        let long = at.mono.since(open.began.mono) >= self.settings.max_event;
        if !quiet && !long {
            return;
        }
        open.send_still(&self.settings.zones, self.still_max, out);
        let end = if quiet { open.seen } else { at };
        out.push(SightNews::Motion(open.news(MotionPhase::End, end)));
        self.ended = Some(at);
        let before = open.motion;
        self.open = None;
        if !quiet && let Some(track) = self.tracker.tracks.iter().find(|track| track.confirmed && track.last == at).cloned() {
            self.motions += 1;
            let mut next = Open::new(self.motions, &track, at, 0);
            (next.began, next.continued_from, next.updated) = (at, Some(before), at);
            next.take(&track, &rules::zones_of(&self.settings.zones, track.anchor()), at);
            out.push(SightNews::Motion(next.news(MotionPhase::Start, at)));
            self.open = Some(next);
        }
    }

    /// Ends whatever is open: no more pictures will come.
    pub fn finish(&mut self, at: Stamp, out: &mut Vec<SightNews>) {
        if let Some(mut open) = self.open.take() {
            open.send_still(&self.settings.zones, self.still_max, out);
            out.push(SightNews::Motion(open.news(MotionPhase::End, at)));
        }
    }
}

impl Open {
    fn new(motion: u64, track: &Track, at: Stamp, suppressed: u32) -> Open {
        Open {
            motion,
            began: track.first,
            seen: at,
            updated: Stamp::default(),
            zones: Vec::new(),
            direction: None,
            place: track.picture_box(),
            score: 0.0,
            tracks: Vec::new(),
            suppressed,
            continued_from: None,
            best: Best::default(),
            still_sent: false,
        }
    }

    /// Takes a believed track in; true when something worth an update changed.
    fn take(&mut self, track: &Track, zones: &[String], at: Stamp) -> bool {
        self.seen = at;
        self.place = track.picture_box();
        self.score = self.score.max(track.score());
        let mut fresh = !self.tracks.contains(&track.id);
        if fresh {
            self.tracks.push(track.id);
        }
        for zone in zones.iter().filter(|zone| !self.zones.contains(zone)).cloned().collect::<Vec<_>>() {
            self.zones.push(zone);
            fresh = true;
        }
        if let Some(direction) = track.direction() {
            let turned = self.direction.is_none_or(|was| {
                let turn = (was - direction).rem_euclid(360.0);
                turn.min(360.0 - turn) > TURN
            });
            if turned {
                self.direction = Some(direction);
                fresh = true;
            }
        }
        fresh
    }

    fn news(&self, phase: MotionPhase, at: Stamp) -> Motion {
        Motion {
            motion: self.motion,
            phase,
            at,
            began: self.began,
            zones: self.zones.clone(),
            direction: self.direction,
            place: self.place,
            score: self.score,
            tracks: self.tracks.len() as u32,
            suppressed: self.suppressed,
            continued_from: self.continued_from,
        }
    }

    fn send_still(&mut self, zones: &[crate::settings::Zone], most: usize, out: &mut Vec<SightNews>) {
        if std::mem::replace(&mut self.still_sent, true) {
            return;
        }
        if let Some((at, jpeg)) = self.best.jpeg(zones, most) {
            out.push(SightNews::Still { motion: self.motion, at, jpeg });
        }
    }
}

#[cfg(test)]
#[path = "detector_tests.rs"]
mod tests;
