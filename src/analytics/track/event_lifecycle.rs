//! The event lifecycle: starts, updates and ends events, at most one open event for each rule.

use crate::analytics::detect::picture::Picture;
use crate::analytics::params::{GONE_AFTER, SNAPSHOT_AFTER, STAND_MAX, TURN, UPDATE_INTERVAL};
use crate::analytics::track::rules::{RuleVerdict, Rules};
use crate::analytics::track::snapshot::BestPicture;
use crate::analytics::track::tracker::Track;
use crate::analytics::{
    AnalyticsUpdate, MotionPhase, MotionUpdate, PictureBox, SuppressReason, Suppressed,
};
use crate::settings::MotionSettings;
use crate::settings::rules::Rule;
use crate::units::Timestamp;

/// An event in progress.
struct OpenEvent {
    event_no: u64,
    started_at: Timestamp,
    /// Time of the last picture in which an object of the event moved, or stood for less than
    /// [`STAND_MAX`].
    last_active: Timestamp,
    last_update: Timestamp,
    zones: Vec<String>,
    direction: Option<f32>,
    bbox: PictureBox,
    score: f32,
    tracks: Vec<u64>,
    suppressed: u32,
    continued_from: Option<u64>,
    best: BestPicture,
    snapshot_sent: bool,
    /// Time at which the last object left over the edge of the picture; `None` while one is in
    /// view.
    departed_at: Option<Timestamp>,
}

/// The open event of a rule, and its state between events.
#[derive(Default)]
struct RuleState {
    open: Option<OpenEvent>,
    /// End of the last event, for the cooldown.
    ended: Option<Timestamp>,
    suppressed: u32,
    /// Tracks whose start was suppressed: each is counted once.
    ignored: Vec<u64>,
}

/// The events of one camera.
pub struct EventTracker {
    settings: MotionSettings,
    snapshot_max: usize,
    rules: Rules,
    rule_states: Vec<RuleState>,
    last_event_no: u64,
}

/// The confirmed objects of one picture.
pub struct TrackedScene<'a> {
    /// The picture at full size, for snapshots.
    pub picture: &'a Picture,
    /// Capture time of the picture.
    pub at: Timestamp,
    /// Confirmed objects in view.
    pub objects: &'a [Track],
    /// Confirmed objects that were lost since the last picture.
    pub lost: &'a [Track],
}

impl EventTracker {
    /// A tracker without events. Snapshots have at most `snapshot_max` bytes.
    pub fn new(settings: MotionSettings, snapshot_max: usize) -> EventTracker {
        let rules =
            Rules::new(&settings.rules, &settings.zones, settings.cooldown, settings.utc_offset);
        let rule_states = rules.all().iter().map(|_| RuleState::default()).collect();
        EventTracker { settings, snapshot_max, rules, rule_states, last_event_no: 0 }
    }

    /// Applies other settings. Open events continue when the names and the order of the rules are
    /// the same; else they end.
    pub fn reconfigure(
        &mut self,
        settings: MotionSettings,
        at: Timestamp,
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        let mut rules =
            Rules::new(&settings.rules, &settings.zones, settings.cooldown, settings.utc_offset);
        rules.continue_counts(&self.rules);
        let names =
            |rules: &Rules| rules.all().iter().map(|rule| rule.name.clone()).collect::<Vec<_>>();
        if names(&rules) != names(&self.rules) {
            self.finish(at, out);
            self.rule_states = rules.all().iter().map(|_| RuleState::default()).collect();
        }
        self.rules = rules;
        self.settings = settings;
    }

    /// The rules and their state.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// True while an event is open.
    pub fn is_open(&self) -> bool {
        self.rule_states.iter().any(|state| state.open.is_some())
    }

    /// Track ids of the open events.
    pub fn tracks(&self) -> Vec<u64> {
        self.rule_states
            .iter()
            .filter_map(|state| state.open.as_ref())
            .flat_map(|open| open.tracks.clone())
            .collect()
    }

    /// Applies the rules to the confirmed objects: starts events, updates them and sends snapshots.
    pub fn update(
        &mut self,
        scene: &TrackedScene<'_>,
        suppressed: &mut Suppressed,
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        for number in 0..self.rule_states.len() {
            self.record_departure(number, scene);
            let here = scene
                .objects
                .iter()
                .filter(|track| track.last == scene.at)
                .map(|track| (track, false));
            let objects = scene.lost.iter().map(|track| (track, true)).chain(here);
            for (track, gone) in objects {
                match self.rules.judge(number, track, gone, scene.at) {
                    RuleVerdict::Fires(zones) => {
                        self.start_or_update(number, track, &zones, scene, suppressed, out)
                    }
                    RuleVerdict::Rejected(why) => suppressed.count(why),
                    RuleVerdict::Nothing => {}
                }
            }
            if let Some(open) = &mut self.rule_states[number].open
                && !open.snapshot_sent
                && scene.at.mono.duration_since(open.started_at.mono) >= SNAPSHOT_AFTER
            {
                open.send_snapshot(self.rules.zones(), self.snapshot_max, out);
            }
        }
        self.rules.forget(|id| scene.objects.iter().any(|track| track.id == id));
    }

    fn start_or_update(
        &mut self,
        number: usize,
        track: &Track,
        zones: &[String],
        scene: &TrackedScene<'_>,
        suppressed: &mut Suppressed,
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        let rule = self.rules.all()[number].clone();
        let at = scene.at;
        let state = &mut self.rule_states[number];
        // An object that appears after all others have left starts another event.
        let is_another = |open: &OpenEvent| {
            !open.tracks.contains(&track.id)
                && open
                    .departed_at
                    .is_some_and(|gone| track.first.mono.duration_since(gone.mono) >= GONE_AFTER)
        };
        if state.open.as_ref().is_some_and(is_another) {
            self.end(number, at, &rule, out);
        }
        let state = &mut self.rule_states[number];
        if state.open.is_none() && !state.may_start(track, at, rule.cooldown) {
            self.rules.reset_fired(number, track.id);
            return suppressed.count(SuppressReason::Cooldown);
        }
        let open = match &mut state.open {
            Some(open) => open,
            None => {
                self.last_event_no += 1;
                let missed = std::mem::take(&mut state.suppressed);
                state.open.insert(OpenEvent::new(self.last_event_no, track, at, missed, &rule))
            }
        };
        open.departed_at = None;
        let changed = open.add_object(track, zones, at);
        if open.best.offer(track.picture_box(), scene.picture, at) {
            open.score = open.score.max(track.score());
        }
        let started = open.last_update.mono.0 == 0;
        let phase = if started { MotionPhase::Start } else { MotionPhase::Update };
        if started || changed && at.mono.duration_since(open.last_update.mono) >= UPDATE_INTERVAL {
            open.last_update = at;
            out.push(AnalyticsUpdate::Motion(open.motion_update(phase, at, &rule)));
        }
    }

    /// Records when the last object of an event has left over the edge of the picture.
    fn record_departure(&mut self, number: usize, scene: &TrackedScene<'_>) {
        let Some(open) = &mut self.rule_states[number].open else { return };
        let in_view = scene.objects.iter().any(|track| open.tracks.contains(&track.id));
        let left =
            scene.lost.iter().filter(|track| open.tracks.contains(&track.id) && track.is_leaving());
        if let Some(last) = left.map(|track| track.last).max_by_key(|at| at.mono)
            && !in_view
        {
            open.departed_at = Some(last);
        }
    }

    /// Ends events after their quiet time. An event at its longest duration ends, and another one
    /// continues it while an object stays.
    pub fn end_quiet(&mut self, at: Timestamp, objects: &[Track], out: &mut Vec<AnalyticsUpdate>) {
        for number in 0..self.rule_states.len() {
            let Some(open) = &self.rule_states[number].open else { continue };
            let quiet = at.mono.since(open.last_active.mono) >= self.settings.quiet_after;
            let long = at.mono.since(open.started_at.mono) >= self.settings.max_event;
            if !quiet && !long {
                continue;
            }
            let rule = self.rules.all()[number].clone();
            let (before, zones) = (open.event_no, open.zones.clone());
            self.end(number, at, &rule, out);
            let in_view =
                |track: &&Track| self.rules.has_fired(number, track.id) && track.last == at;
            if !quiet && let Some(track) = objects.iter().find(in_view) {
                self.last_event_no += 1;
                let mut next = OpenEvent::new(self.last_event_no, track, at, 0, &rule);
                next.started_at = at;
                next.continued_from = Some(before);
                next.last_update = at;
                next.add_object(track, &zones, at);
                out.push(AnalyticsUpdate::Motion(next.motion_update(
                    MotionPhase::Start,
                    at,
                    &rule,
                )));
                self.rule_states[number].open = Some(next);
            }
        }
    }

    fn end(&mut self, number: usize, at: Timestamp, rule: &Rule, out: &mut Vec<AnalyticsUpdate>) {
        let quiet_after = self.settings.quiet_after;
        let state = &mut self.rule_states[number];
        if let Some(mut open) = state.open.take() {
            open.send_snapshot(self.rules.zones(), self.snapshot_max, out);
            let quiet =
                open.departed_at.is_some() || at.mono.since(open.last_active.mono) >= quiet_after;
            let end = if quiet { open.last_active } else { at };
            out.push(AnalyticsUpdate::Motion(open.motion_update(MotionPhase::End, end, rule)));
            state.ended = Some(at);
        }
    }

    /// Ends all open events: no more pictures will come.
    pub fn finish(&mut self, at: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        for number in 0..self.rule_states.len() {
            let rule = self.rules.all()[number].clone();
            self.end(number, at, &rule, out);
        }
    }
}

impl RuleState {
    /// True when the cooldown has passed. Starts within it are counted.
    fn may_start(&mut self, track: &Track, at: Timestamp, cooldown: u64) -> bool {
        let cooling = self.ended.is_some_and(|ended| at.mono.since(ended.mono) < cooldown);
        if cooling && !self.ignored.contains(&track.id) {
            self.ignored.push(track.id);
            self.suppressed += 1;
        }
        if !cooling {
            self.ignored.clear();
        }
        !cooling
    }
}

impl OpenEvent {
    fn new(event_no: u64, track: &Track, at: Timestamp, suppressed: u32, rule: &Rule) -> OpenEvent {
        OpenEvent {
            event_no,
            started_at: track.first,
            last_active: at,
            last_update: Timestamp::default(),
            zones: Vec::new(),
            direction: None,
            bbox: track.picture_box(),
            score: 0.0,
            tracks: Vec::new(),
            suppressed,
            continued_from: None,
            best: BestPicture::default(),
            // A rule without snapshots never sends one.
            snapshot_sent: !rule.snapshot,
            departed_at: None,
        }
    }

    /// Adds or updates a confirmed object. Returns true when zones, direction or tracks changed.
    fn add_object(&mut self, track: &Track, zones: &[String], at: Timestamp) -> bool {
        if at.mono.duration_since(track.moved.mono) < STAND_MAX {
            self.last_active = at;
        }
        self.bbox = track.picture_box();
        self.score = self.score.max(track.score());
        let mut changed = !self.tracks.contains(&track.id);
        if changed {
            self.tracks.push(track.id);
        }
        for zone in zones {
            if !self.zones.contains(zone) {
                self.zones.push(zone.clone());
                changed = true;
            }
        }
        if let Some(direction) = track.direction() {
            let turned = self.direction.is_none_or(|was| {
                let turn = (was - direction).rem_euclid(360.0);
                turn.min(360.0 - turn) > TURN
            });
            if turned {
                self.direction = Some(direction);
                changed = true;
            }
        }
        changed
    }

    fn motion_update(&self, phase: MotionPhase, at: Timestamp, rule: &Rule) -> MotionUpdate {
        MotionUpdate {
            event_no: self.event_no,
            phase,
            at,
            started_at: self.started_at,
            rule: rule.name.clone(),
            clip: rule.clip,
            priority: rule.priority,
            zones: self.zones.clone(),
            direction: self.direction,
            bbox: self.bbox,
            score: self.score,
            tracks: self.tracks.len() as u32,
            suppressed: self.suppressed,
            continued_from: self.continued_from,
        }
    }

    fn send_snapshot(
        &mut self,
        zones: &[crate::settings::Zone],
        max_bytes: usize,
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        if std::mem::replace(&mut self.snapshot_sent, true) {
            return;
        }
        if let Some((at, jpeg)) = self.best.jpeg(zones, max_bytes) {
            out.push(AnalyticsUpdate::Snapshot { event_no: self.event_no, at, jpeg });
        }
    }
}
