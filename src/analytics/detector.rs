//! From picture to updates: the same detector in the agent and in `eval-motion`.
//!
//! What belongs here: the order of the steps. What does not: the steps themselves, decoding, threads.

use super::params::{BLOB_MIN, GLOBAL_SHARE, GLOBAL_TILE, GLOBAL_TILES, HOLD, LIGHT_DRIFT, STAND_MAX, TILE, WARM_UP};
use super::scene::{scene_change, stabilize};
use super::{AnalyticsUpdate, SceneChange, SuppressReason, Suppressed};
use crate::analytics::detect::activity_map::ActivityMap;
use crate::analytics::detect::background::{BackgroundModel, DIFFERS, THING};
use crate::analytics::detect::blobs::{self, Blob, Scene};
use crate::analytics::detect::low_light::LowLightDetector;
use crate::analytics::detect::picture::{Grid, LumaGrid, Picture, downscale, textures};
use crate::analytics::detect::stages::{Stage, Stages};
use crate::analytics::scene::tamper::TamperDetector;
use crate::analytics::track::event_lifecycle::{EventTracker, TrackedScene};
use crate::analytics::track::tracker::{Track, Tracker};
use crate::settings::MotionSettings;
use crate::units::Timestamp;

/// What belongs to one scene and is learned again with another.
struct View {
    model: BackgroundModel,
    activity_map: ActivityMap,
    low_light: LowLightDetector,
    /// Cells that may be looked at.
    open: Vec<bool>,
    /// Pictures of the warm-up so far.
    warmed: usize,
    /// When the last picture was looked at.
    last: Timestamp,
}

/// What differs in a picture.
struct Front {
    /// The picture, held still and in the background's light.
    cells: Vec<u8>,
    texture: Vec<u8>,
    /// 1 for every cell that differs, without specks.
    clean: Vec<u8>,
    /// The scene itself has changed.
    global: bool,
}

/// A picture somebody has peeked at, and what it shows.
struct Peeked {
    at: Timestamp,
    now: LumaGrid,
    front: Front,
}

/// True when most cells differ, and everywhere.
fn is_global(raw: &[bool], grid: Grid) -> bool {
    if raw.iter().filter(|cell| **cell).count() as f32 <= GLOBAL_SHARE * raw.len() as f32 {
        return false;
    }
    let side = TILE * 4;
    let columns = grid.width.div_ceil(side);
    let mut tiles = vec![(0_u32, 0_u32); columns * grid.height.div_ceil(side)];
    for (at, differs) in raw.iter().enumerate() {
        let tile = &mut tiles[at / grid.width / side * columns + at % grid.width / side];
        *tile = (tile.0 + u32::from(*differs), tile.1 + 1);
    }
    let full = tiles.iter().filter(|(differ, all)| *differ as f32 > GLOBAL_TILE * *all as f32).count();
    full as f32 >= GLOBAL_TILES * tiles.len() as f32
}

/// Cells of the regions that are no objects for such a reason. What light or its region explains makes no region restless: a lane whose
/// cars were explained once would go on to explain all that follow.
fn cells_of(others: &[(SuppressReason, Blob)], grid: Grid, is_meant: impl Fn(SuppressReason) -> bool) -> Vec<bool> {
    let mut cells = vec![false; grid.cells()];
    let meant = others.iter().filter(|(why, _)| is_meant(*why));
    meant.flat_map(|(_, blob)| &blob.cells).for_each(|at| cells[*at] = true);
    cells
}

/// The detector of one camera.
pub struct Detector {
    coarse: f32,
    stages: Stages,
    scene_changes: scene_change::SceneChangeDetector,
    tamper: TamperDetector,
    view: Option<View>,
    tracker: Tracker,
    event_tracker: EventTracker,
    /// The picture that was just peeked at: most are looked at next.
    peeked: Option<Peeked>,
    /// Nothing is judged before.
    hold_until: u64,
    suppressed: Suppressed,
    /// Cells of objects in the last picture, for whoever draws or measures.
    mask: Vec<bool>,
}

/// Scale of the size and difference thresholds: 1 at sensitivity 5, about 3 at 1, about 0.3 at 10.
fn coarseness(sensitivity: u8) -> f32 {
    1.3_f32.powi(5 - i32::from(sensitivity))
}

impl Detector {
    /// A detector that has seen nothing; stills have at most `still_max` bytes.
    pub fn new(settings: MotionSettings, still_max: usize, stages: Stages) -> Detector {
        Detector {
            coarse: coarseness(settings.sensitivity),
            stages,
            scene_changes: scene_change::SceneChangeDetector::default(),
            tamper: TamperDetector::default(),
            view: None,
            tracker: Tracker::default(),
            event_tracker: EventTracker::new(settings, still_max),
            peeked: None,
            hold_until: 0,
            suppressed: Suppressed::default(),
            mask: Vec::new(),
        }
    }

    /// Goes on with other settings: what is known of the scene stays, unless it was learned for another sensitivity.
    pub fn reconfigure(&mut self, settings: MotionSettings, at: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        let coarse = coarseness(settings.sensitivity);
        if coarse != self.coarse {
            self.coarse = coarse;
            self.interrupted();
        }
        self.event_tracker.reconfigure(settings, at, out);
        if let Some(view) = &mut self.view {
            view.open = self.event_tracker.rules().open_cells(view.model.grid());
        }
    }

    /// The stream was interrupted: the scene is learned again and nothing begins meanwhile.
    pub fn interrupted(&mut self) {
        (self.view, self.peeked) = (None, None);
        self.scene_changes = scene_change::SceneChangeDetector::default();
        self.tracker = Tracker::default();
    }

    /// Something is in view that is not decided: a closer look is worth its cost.
    pub fn is_unsure(&self) -> bool {
        self.stages.has(Stage::Closer) && self.tracker.is_unsure()
    }

    /// Nothing is in view, nothing is learned in a hurry, nothing is open.
    pub fn is_quiet(&self, at: Timestamp) -> bool {
        self.tracker.tracks.is_empty() && at.mono.0 >= self.hold_until && self.view.is_some() && !self.event_tracker.is_open()
    }

    /// What was seen and made no event.
    pub fn suppressed(&self) -> Suppressed {
        self.suppressed
    }

    /// The events, their rules and lines.
    pub fn event_tracker(&self) -> &EventTracker {
        &self.event_tracker
    }

    /// All objects in view.
    pub fn tracks(&self) -> &[Track] {
        &self.tracker.tracks
    }

    /// Cells of objects in the last picture, in rows of the grid; `None` before the first.
    pub fn mask(&self) -> Option<(Grid, &[bool])> {
        let view = self.view.as_ref()?;
        Some((view.model.grid(), &self.mask))
    }

    /// True while nothing is judged.
    pub fn is_holding(&self, at: Timestamp) -> bool {
        at.mono.0 < self.hold_until
    }

    /// The next picture begins a GOP.
    pub fn key_frame(&mut self) {
        self.scene_changes.key_frame();
    }

    /// Looks at the next picture.
    pub fn analyze(&mut self, picture: &Picture, at: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        let peeked = self.peeked.take().filter(|peeked| peeked.at == at);
        let (now, found) = peeked.map_or_else(|| (downscale(picture), None), |peeked| (peeked.now, Some(peeked.front)));
        self.mask.clear();
        self.mask.resize(now.grid.cells(), false);
        let tampered = self.tamper.analyze(&now, at);
        out.extend(tampered.map(|change| AnalyticsUpdate::Scene { change, at }));
        let change = self.scene_changes.analyze(&now, self.tamper.doubts(), at).filter(|_| self.stages.has(Stage::SceneChange));
        if matches!(change, Some(SceneChange::IrOn | SceneChange::IrOff)) {
            self.tamper.forget();
        }
        match &self.view {
            Some(view) if view.model.grid() == now.grid => {}
            _ => {
                self.seed(&now, at);
                self.hold_until = at.mono.0 + WARM_UP;
                return;
            }
        }
        if let Some(change) = change {
            self.scene(change, &now, at, out);
        } else {
            self.compare(picture, &now, found, at, out);
        }
        self.event_tracker.end_quiet(at, &self.tracker.tracks, out);
    }

    fn seed(&mut self, now: &LumaGrid, at: Timestamp) {
        let model = BackgroundModel::new(&now.cells, &textures(&now.cells, now.grid), now.grid, self.coarse.sqrt(), self.stages);
        let open = self.event_tracker.rules().open_cells(now.grid);
        self.view = Some(View {
            model,
            activity_map: ActivityMap::new(now.grid),
            low_light: LowLightDetector::new(now.grid),
            open,
            warmed: 0,
            last: at,
        });
        self.tracker = Tracker::default();
    }

    /// The whole scene changed: reported once per hold, learned again; open events live on.
    fn scene(&mut self, change: SceneChange, now: &LumaGrid, at: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        if at.mono.0 >= self.hold_until {
            out.push(AnalyticsUpdate::Scene { change, at });
        }
        if change != SceneChange::Frozen {
            self.hold_until = self.hold_until.max(at.mono.0 + HOLD);
            self.seed(now, at);
        }
    }

    /// True when a picture shows something to look at more closely; nothing is learned or reported.
    pub fn peek(&mut self, picture: &Picture, at: Timestamp) -> bool {
        let now = downscale(picture);
        let Some(mut view) = self.view.take().filter(|view| view.model.grid() == now.grid) else { return true };
        let front = self.front(&mut view, &now);
        let scene = Scene::new(now.grid, &front.cells, view.model.mean());
        let shows =
            front.global || at.mono.0 < self.hold_until || !self.sort(&scene, &view.activity_map, &front.clean).0.is_empty();
        self.view = Some(view);
        self.peeked = Some(Peeked { at, now, front });
        shows
    }

    /// What differs in a picture, held still and in the background's light.
    fn front(&self, view: &mut View, now: &LumaGrid) -> Front {
        let cells = self.stabilized(view, &now.cells);
        let texture = textures(&cells, now.grid);
        let mut raw = view.model.classify(&cells, &texture);
        let global = is_global(&raw, now.grid);
        if self.stages.has(Stage::LowLight) {
            view.low_light.analyze(view.model.mean(), &cells);
            view.low_light.mark(&mut raw);
        }
        raw.iter_mut().zip(&view.open).for_each(|(front, open)| *front &= *open);
        Front { clean: blobs::cleaned(&raw, now.grid, self.stages), cells, texture, global }
    }

    /// Compares a picture with the background: what differs (where that is not `found` yet), what of it is an object, and what the
    /// background learns.
    fn compare(
        &mut self,
        picture: &Picture,
        now: &LumaGrid,
        found: Option<Front>,
        at: Timestamp,
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        let Some(mut view) = self.view.take() else { return };
        let seconds = (at.mono.since(view.last.mono) as f32 / 1e6).clamp(0.01, 5.0);
        view.last = at;
        let front = found.unwrap_or_else(|| self.front(&mut view, now));
        if front.global && self.stages.has(Stage::SceneChange) {
            self.view = Some(view);
            return self.scene(SceneChange::Exposure, now, at, out);
        }
        if at.mono.0 < self.hold_until {
            view.low_light.learn(|_| false, seconds);
            view.model.warm(&front.cells, &front.texture, view.warmed);
            let scene = Scene::new(now.grid, &front.cells, view.model.mean());
            let others = self.sort(&scene, &view.activity_map, &front.clean).1;
            let lit = cells_of(&others, now.grid, |why| why == SuppressReason::LocalLight);
            view.activity_map.learn(blobs::differing(&front.clean).filter(|at| !lit[*at]), seconds);
            view.warmed += 1;
            self.view = Some(view);
            return;
        }
        let scene = Scene::new(now.grid, &front.cells, view.model.mean());
        let (objects, others) = self.sort(&scene, &view.activity_map, &front.clean);
        others.iter().for_each(|(why, _)| self.suppressed.count(*why));
        let restless = |blob: &Blob| {
            if self.stages.has(Stage::BackgroundActivity) { view.activity_map.usual(blob) / blob.area } else { 0.0 }
        };
        let restless: Vec<f32> = objects.iter().map(restless).collect();
        let (owners, lost) = self.tracker.step(&objects, &restless, at, now.grid, self.stages);
        let kinds = self.kinds(now.grid, &front.clean, &objects, &owners, at);
        view.low_light.learn(|at| kinds[at] == THING, seconds);
        view.model.learn(&front.cells, &front.texture, &kinds, seconds);
        let explained =
            cells_of(&others, now.grid, |why| matches!(why, SuppressReason::LocalLight | SuppressReason::BackgroundActivity));
        let unexplained = blobs::differing(&front.clean).filter(|at| kinds[*at] == DIFFERS && !explained[*at]);
        view.activity_map.learn(unexplained, seconds);
        for track in lost.iter().filter(|track| !track.is_confirmed() && !track.has_travelled()) {
            let followed = track.last.mono.since(track.first.mono) as f32 / 1e6 + seconds;
            view.activity_map.learn_lost(track.bbox, track.area, followed);
        }
        self.view = Some(view);
        self.track_and_report(picture, at, &lost, out);
    }

    /// Shake and slow light taken out.
    fn stabilized(&self, view: &mut View, cells: &[u8]) -> Vec<u8> {
        let mut cells = cells.to_vec();
        if self.stages.has(Stage::Light) {
            let gain = stabilize::light_gain(view.model.mean(), &cells);
            if !(1.0 / LIGHT_DRIFT..=LIGHT_DRIFT).contains(&gain) {
                view.model.relight(gain);
            } else if (gain - 1.0).abs() > 0.01 {
                cells = stabilize::apply_gain(&cells, gain);
            }
        }
        if self.stages.has(Stage::Shake)
            && let Some(stabilized) = stabilize::stabilized(view.model.mean(), &cells, view.model.grid())
        {
            cells = stabilized;
        }
        cells
    }

    /// Regions that are objects, and the others with the reason.
    fn sort(&self, scene: &Scene<'_>, activity_map: &ActivityMap, clean: &[u8]) -> (Vec<Blob>, Vec<(SuppressReason, Blob)>) {
        let (mut objects, mut others) = (Vec::new(), Vec::new());
        let stages = self.stages;
        let least = BLOB_MIN * self.coarse;
        let mut found = Vec::new();
        for blob in blobs::find(clean, scene.grid, least) {
            let parts = if stages.has(Stage::Lit) { scene.in_light(&blob, least) } else { Vec::new() };
            if parts.is_empty() {
                found.push(blob);
            } else {
                found.extend(parts);
                others.push((SuppressReason::LocalLight, blob));
            }
        }
        for blob in found {
            let known = self.tracker.tracks.iter().any(|track| track.is_confirmed() && overlap(track.bbox, blob.bbox));
            let why = match () {
                () if scene.is_weather(&blob) => Some(SuppressReason::Weather),
                () if stages.has(Stage::LocalLight) && scene.is_local_light(&blob) => Some(SuppressReason::LocalLight),
                () if stages.has(Stage::LightChange) && scene.is_light_change(&blob) => Some(SuppressReason::LightChange),
                () if stages.has(Stage::BackgroundActivity) && !known && activity_map.explains(&blob) => {
                    Some(SuppressReason::BackgroundActivity)
                }
                () => None,
            };
            match why {
                None => {
                    let blob = if stages.has(Stage::Shadow) { scene.without_shadow(blob) } else { blob };
                    objects.push(if stages.has(Stage::HoleFill) { blob.filled(scene.grid) } else { blob });
                }
                Some(why) => others.push((why, blob)),
            }
        }
        (objects, others)
    }

    /// What each cell is to the background: nothing is learned from objects, except from those that stand for too long.
    fn kinds(&mut self, grid: Grid, clean: &[u8], objects: &[Blob], owners: &[Option<u64>], at: Timestamp) -> Vec<u8> {
        let mut kinds: Vec<u8> = clean.iter().map(|clean| clean * DIFFERS).collect();
        let stand = self.stages.has(Stage::Stand);
        for (blob, owner) in objects.iter().zip(owners) {
            let track = self.tracker.tracks.iter().find(|track| Some(track.id) == *owner);
            let stands = track.is_some_and(|track| at.mono.since(track.moved.mono) > if stand { STAND_MAX } else { 0 });
            let stays_out = track.is_some_and(|track| !track.is_stubborn() && !stands);
            for cell in &blob.cells {
                self.mask[*cell] = true;
                if stays_out {
                    let (x, y) = (cell % grid.width, cell / grid.width);
                    for row in y.saturating_sub(1)..(y + 2).min(grid.height) {
                        kinds[row * grid.width + x.saturating_sub(1)..row * grid.width + (x + 2).min(grid.width)].fill(THING);
                    }
                }
            }
        }
        kinds
    }

    /// Events of what was seen.
    fn track_and_report(&mut self, picture: &Picture, at: Timestamp, lost: &[Track], out: &mut Vec<AnalyticsUpdate>) {
        if self.tamper.is_blinded() {
            self.suppressed.count(SuppressReason::SceneChange);
            return;
        }
        let confirmed = |tracks: &[Track]| tracks.iter().filter(|track| track.is_confirmed()).cloned().collect::<Vec<_>>();
        let lost = confirmed(lost);
        let objects = confirmed(&self.tracker.tracks);
        let seen = TrackedScene { picture, at, objects: &objects, lost: &lost };
        self.event_tracker.update(&seen, &mut self.suppressed, out);
    }

    /// Ends whatever is open: no more pictures will come.
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
