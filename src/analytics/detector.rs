//! The motion detector: turns pictures into updates, for the agent and for `eval-motion`.

use std::time::Duration;

use super::params::{BLOB_MIN, HOLD, STAND_MAX, WARM_UP};
use super::scene::scene_change;
use super::scene_model::{Foreground, SceneModel};
use super::{AnalyticsUpdate, SceneChange, SuppressReason, Suppressed};
use crate::analytics::detect::activity_map::ActivityMap;
use crate::analytics::detect::background::{BackgroundModel, FOREGROUND, OBJECT};
use crate::analytics::detect::blobs::{self, Blob, Scene};
use crate::analytics::detect::low_light::LowLightDetector;
use crate::analytics::detect::picture::{Grid, LumaGrid, Picture, downscale, textures};
use crate::analytics::detect::stages::{Stage, Stages};
use crate::analytics::scene::tamper::TamperDetector;
use crate::analytics::track::event_lifecycle::{EventTracker, TrackedScene};
use crate::analytics::track::tracker::{Track, Tracker};
use crate::settings::MotionSettings;
use crate::units::{MonoTime, Timestamp};

/// The picture of the last [`Detector::peek`] and its foreground.
struct Peeked {
    at: Timestamp,
    now: LumaGrid,
    foreground: Foreground,
}

/// Cells of the rejected regions for whose reason `accepts` is true. Regions that light or their
/// place explains must not raise the activity of the place: a road whose cars were explained once
/// would explain all that follow.
fn cells_of(
    rejected: &[(SuppressReason, Blob)],
    grid: Grid,
    accepts: impl Fn(SuppressReason) -> bool,
) -> Vec<bool> {
    let mut cells = vec![false; grid.cells()];
    let accepted = rejected.iter().filter(|(why, _)| accepts(*why));
    accepted.flat_map(|(_, blob)| &blob.cells).for_each(|at| cells[*at] = true);
    cells
}

/// The detector of one camera.
pub struct Detector {
    coarse: f32,
    stages: Stages,
    scene_changes: scene_change::SceneChangeDetector,
    tamper: TamperDetector,
    scene_model: Option<SceneModel>,
    tracker: Tracker,
    event_tracker: EventTracker,
    /// The result of the last peek. The next call of [`Detector::analyze`] is usually for the same
    /// picture.
    peeked: Option<Peeked>,
    /// Time before which no object is reported.
    hold_until: MonoTime,
    suppressed: Suppressed,
    /// Cells of objects in the last picture, for the overlay and the scores of `eval-motion`.
    mask: Vec<bool>,
}

/// Scale of the size and difference thresholds: 1 at sensitivity 5, about 3 at 1, about 0.3 at 10.
fn coarseness(sensitivity: u8) -> f32 {
    1.3_f32.powi(5 - i32::from(sensitivity))
}

impl Detector {
    /// A detector that has analysed no picture. Snapshots have at most `snapshot_max` bytes.
    pub fn new(settings: MotionSettings, snapshot_max: usize, stages: Stages) -> Detector {
        Detector {
            coarse: coarseness(settings.sensitivity),
            stages,
            scene_changes: scene_change::SceneChangeDetector::default(),
            tamper: TamperDetector::default(),
            scene_model: None,
            tracker: Tracker::default(),
            event_tracker: EventTracker::new(settings, snapshot_max),
            peeked: None,
            hold_until: MonoTime::default(),
            suppressed: Suppressed::default(),
            mask: Vec::new(),
        }
    }

    /// Applies other settings. The learned scene stays, unless the sensitivity changed.
    pub fn reconfigure(
        &mut self,
        settings: MotionSettings,
        at: Timestamp,
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        let coarse = coarseness(settings.sensitivity);
        if coarse != self.coarse {
            self.coarse = coarse;
            self.interrupted();
        }
        self.event_tracker.reconfigure(settings, at, out);
        if let Some(scene_model) = &mut self.scene_model {
            scene_model.unmasked =
                self.event_tracker.rules().unmasked_cells(scene_model.background.grid());
        }
    }

    /// Restarts after an interruption of the stream: the scene is learned again, and no event
    /// starts meanwhile.
    pub fn interrupted(&mut self) {
        self.scene_model = None;
        self.peeked = None;
        self.scene_changes = scene_change::SceneChangeDetector::default();
        self.tracker = Tracker::default();
    }

    /// True while a tentative object is in view: more pictures are worth their cost.
    pub fn is_unsure(&self) -> bool {
        self.stages.has(Stage::Closer) && self.tracker.is_unsure()
    }

    /// True when no object is in view, no warm-up or hold is running, and no event is open.
    pub fn is_quiet(&self, at: Timestamp) -> bool {
        self.tracker.tracks.is_empty()
            && at.mono >= self.hold_until
            && self.scene_model.is_some()
            && !self.event_tracker.is_open()
    }

    /// Counts of the regions and objects that started no event.
    pub fn suppressed(&self) -> Suppressed {
        self.suppressed
    }

    /// The events with their rules and line counts.
    pub fn event_tracker(&self) -> &EventTracker {
        &self.event_tracker
    }

    /// All objects in view.
    pub fn tracks(&self) -> &[Track] {
        &self.tracker.tracks
    }

    /// Cells of objects in the last picture, in rows of the grid; `None` before the first.
    pub fn mask(&self) -> Option<(Grid, &[bool])> {
        let scene_model = self.scene_model.as_ref()?;
        Some((scene_model.background.grid(), &self.mask))
    }

    /// True during a warm-up or hold, when no object is reported.
    pub fn is_holding(&self, at: Timestamp) -> bool {
        at.mono < self.hold_until
    }

    /// Announces that the next picture starts a GOP.
    pub fn key_frame(&mut self) {
        self.scene_changes.key_frame();
    }

    /// Analyses the next picture and appends its updates to `out`.
    pub fn analyze(&mut self, picture: &Picture, at: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        let peeked = self.peeked.take().filter(|peeked| peeked.at == at);
        let (now, found) = peeked.map_or_else(
            || (self.scaled(picture), None),
            |peeked| (peeked.now, Some(peeked.foreground)),
        );
        self.mask.clear();
        self.mask.resize(now.grid.cells(), false);
        let tampered = self.tamper.analyze(&now, at);
        out.extend(tampered.map(|change| AnalyticsUpdate::Scene { change, at }));
        let change = self
            .scene_changes
            .analyze(&now, self.tamper.doubts(), at)
            .filter(|_| self.stages.has(Stage::SceneChange));
        if matches!(change, Some(SceneChange::IrOn | SceneChange::IrOff)) {
            self.tamper.forget();
        }
        match &self.scene_model {
            Some(scene_model) if scene_model.background.grid() == now.grid => {}
            _ => {
                self.seed(&now, at);
                self.hold_until = at.mono.plus(WARM_UP);
                return;
            }
        }
        if let Some(change) = change {
            self.report_scene_change(change, &now, at, out);
        } else {
            self.compare(picture, &now, found, at, out);
        }
        self.event_tracker.end_quiet(at, &self.tracker.tracks, out);
    }

    /// The picture at the size of the learned scene, or at its own where the shape is another one.
    fn scaled(&self, picture: &Picture) -> LumaGrid {
        let own = Grid::new(picture.width, picture.height);
        let learned = self.scene_model.as_ref().map(|scene_model| scene_model.background.grid());
        downscale(learned.filter(|grid| grid.has_shape_of(own)).unwrap_or(own), picture)
    }

    fn seed(&mut self, now: &LumaGrid, at: Timestamp) {
        let background = BackgroundModel::new(
            &now.cells,
            &textures(&now.cells, now.grid),
            now.grid,
            self.coarse.sqrt(),
            self.stages,
        );
        let unmasked = self.event_tracker.rules().unmasked_cells(now.grid);
        self.scene_model = Some(SceneModel {
            background,
            activity_map: ActivityMap::new(now.grid),
            low_light: LowLightDetector::new(now.grid),
            unmasked,
            warmed: 0,
            last_at: at,
        });
        self.tracker = Tracker::default();
    }

    /// Reports a change of the whole scene once per hold and learns the scene again. Open events
    /// continue.
    fn report_scene_change(
        &mut self,
        change: SceneChange,
        now: &LumaGrid,
        at: Timestamp,
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        if at.mono >= self.hold_until {
            out.push(AnalyticsUpdate::Scene { change, at });
        }
        if change != SceneChange::Frozen {
            self.hold_until = self.hold_until.max(at.mono.plus(HOLD));
            self.seed(now, at);
        }
    }

    /// True when a picture may show an object. Nothing is learned or reported.
    pub fn peek(&mut self, picture: &Picture, at: Timestamp) -> bool {
        let now = self.scaled(picture);
        let Some(mut scene_model) =
            self.scene_model.take().filter(|scene_model| scene_model.background.grid() == now.grid)
        else {
            return true;
        };
        let foreground = scene_model.foreground(&now, self.stages);
        let scene = Scene::new(now.grid, &foreground.cells, scene_model.background.mean());
        let has_objects = || {
            let (objects, _) = self.sort(&scene, &scene_model.activity_map, &foreground.clean);
            !objects.is_empty()
        };
        let shows = foreground.global || at.mono < self.hold_until || has_objects();
        self.scene_model = Some(scene_model);
        self.peeked = Some(Peeked { at, now, foreground });
        shows
    }

    /// Compares a picture with the background, tracks its objects and updates the background.
    /// `found` is its foreground, where it is known already.
    fn compare(
        &mut self,
        picture: &Picture,
        now: &LumaGrid,
        found: Option<Foreground>,
        at: Timestamp,
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        let Some(mut scene_model) = self.scene_model.take() else { return };
        let seconds = (at.mono.since(scene_model.last_at.mono) as f32 / 1e6).clamp(0.01, 5.0);
        scene_model.last_at = at;
        let foreground = found.unwrap_or_else(|| scene_model.foreground(now, self.stages));
        if foreground.global && self.stages.has(Stage::SceneChange) {
            self.scene_model = Some(scene_model);
            return self.report_scene_change(SceneChange::Exposure, now, at, out);
        }
        if at.mono < self.hold_until {
            scene_model.low_light.learn(|_| false, seconds);
            scene_model.background.warm(&foreground.cells, &foreground.texture, scene_model.warmed);
            let scene = Scene::new(now.grid, &foreground.cells, scene_model.background.mean());
            let (_, rejected) = self.sort(&scene, &scene_model.activity_map, &foreground.clean);
            let lit = cells_of(&rejected, now.grid, |why| why == SuppressReason::LocalLight);
            scene_model
                .activity_map
                .learn(blobs::differing(&foreground.clean).filter(|at| !lit[*at]), seconds);
            scene_model.warmed += 1;
            self.scene_model = Some(scene_model);
            return;
        }
        let scene = Scene::new(now.grid, &foreground.cells, scene_model.background.mean());
        let (objects, rejected) = self.sort(&scene, &scene_model.activity_map, &foreground.clean);
        rejected.iter().for_each(|(why, _)| self.suppressed.count(*why));
        let restless = |blob: &Blob| {
            if self.stages.has(Stage::BackgroundActivity) {
                scene_model.activity_map.usual(blob) / blob.area
            } else {
                0.0
            }
        };
        let restless: Vec<f32> = objects.iter().map(restless).collect();
        let (owners, lost) = self.tracker.step(&objects, &restless, at, now.grid, self.stages);
        let kinds = self.kinds(now.grid, &foreground.clean, &objects, &owners, at);
        scene_model.low_light.learn(|at| kinds[at] == OBJECT, seconds);
        scene_model.background.learn(&foreground.cells, &foreground.texture, &kinds, seconds);
        let explained = cells_of(&rejected, now.grid, |why| {
            matches!(why, SuppressReason::LocalLight | SuppressReason::BackgroundActivity)
        });
        let unexplained = blobs::differing(&foreground.clean)
            .filter(|at| kinds[*at] == FOREGROUND && !explained[*at]);
        scene_model.activity_map.learn(unexplained, seconds);
        for track in lost.iter().filter(|track| !track.is_confirmed() && !track.has_travelled()) {
            let followed = track.last.mono.since(track.first.mono) as f32 / 1e6 + seconds;
            scene_model.activity_map.learn_lost(track.bbox, track.area, followed);
        }
        self.scene_model = Some(scene_model);
        self.track_and_report(picture, at, &lost, out);
    }

    /// Sorts the regions into objects and rejected regions with their reason.
    fn sort(
        &self,
        scene: &Scene<'_>,
        activity_map: &ActivityMap,
        clean: &[u8],
    ) -> (Vec<Blob>, Vec<(SuppressReason, Blob)>) {
        let (mut objects, mut rejected) = (Vec::new(), Vec::new());
        let stages = self.stages;
        let least = BLOB_MIN * self.coarse;
        let mut found = Vec::new();
        for blob in blobs::find(clean, scene.grid, least) {
            let parts =
                if stages.has(Stage::Lit) { scene.in_light(&blob, least) } else { Vec::new() };
            if parts.is_empty() {
                found.push(blob);
            } else {
                found.extend(parts);
                rejected.push((SuppressReason::LocalLight, blob));
            }
        }
        for blob in found {
            let known = self
                .tracker
                .tracks
                .iter()
                .any(|track| track.is_confirmed() && overlap(track.bbox, blob.bbox));
            let why = match () {
                () if scene.is_weather(&blob) => Some(SuppressReason::Weather),
                () if stages.has(Stage::LocalLight) && scene.is_local_light(&blob) => {
                    Some(SuppressReason::LocalLight)
                }
                () if stages.has(Stage::LightChange) && scene.is_light_change(&blob) => {
                    Some(SuppressReason::LightChange)
                }
                () if stages.has(Stage::BackgroundActivity)
                    && !known
                    && activity_map.explains(&blob) =>
                {
                    Some(SuppressReason::BackgroundActivity)
                }
                () => None,
            };
            match why {
                None => {
                    let blob =
                        if stages.has(Stage::Shadow) { scene.without_shadow(blob) } else { blob };
                    objects.push(if stages.has(Stage::HoleFill) {
                        blob.filled(scene.grid)
                    } else {
                        blob
                    });
                }
                Some(why) => rejected.push((why, blob)),
            }
        }
        (objects, rejected)
    }

    /// The class of each cell for the background model. Objects are not learned, unless they stand
    /// for too long.
    fn kinds(
        &mut self,
        grid: Grid,
        clean: &[u8],
        objects: &[Blob],
        owners: &[Option<u64>],
        at: Timestamp,
    ) -> Vec<u8> {
        let mut kinds: Vec<u8> = clean.iter().map(|clean| clean * FOREGROUND).collect();
        let stand_max = if self.stages.has(Stage::Stand) { STAND_MAX } else { Duration::ZERO };
        for (blob, owner) in objects.iter().zip(owners) {
            let track = self.tracker.tracks.iter().find(|track| Some(track.id) == *owner);
            let stands =
                track.is_some_and(|track| at.mono.duration_since(track.moved.mono) > stand_max);
            let stays_out = track.is_some_and(|track| !track.is_scenery() && !stands);
            for cell in &blob.cells {
                self.mask[*cell] = true;
                if stays_out {
                    let (x, y) = (cell % grid.width, cell / grid.width);
                    for row in y.saturating_sub(1)..(y + 2).min(grid.height) {
                        kinds[row * grid.width + x.saturating_sub(1)
                            ..row * grid.width + (x + 2).min(grid.width)]
                            .fill(OBJECT);
                    }
                }
            }
        }
        kinds
    }

    /// Passes the confirmed objects to the rules and reports their events.
    fn track_and_report(
        &mut self,
        picture: &Picture,
        at: Timestamp,
        lost: &[Track],
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        if self.tamper.is_blinded() {
            self.suppressed.count(SuppressReason::SceneChange);
            return;
        }
        let confirmed = |tracks: &[Track]| {
            tracks.iter().filter(|track| track.is_confirmed()).cloned().collect::<Vec<_>>()
        };
        let lost = confirmed(lost);
        let objects = confirmed(&self.tracker.tracks);
        let seen = TrackedScene { picture, at, objects: &objects, lost: &lost };
        self.event_tracker.update(&seen, &mut self.suppressed, out);
    }

    /// Ends all open events: no more pictures will come.
    pub fn finish(&mut self, at: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        self.event_tracker.finish(at, out);
    }
}

/// True when two boxes share cells.
fn overlap(one: [f32; 4], other: [f32; 4]) -> bool {
    one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3]
}

#[cfg(test)]
#[path = "detector_tests.rs"]
mod tests;
