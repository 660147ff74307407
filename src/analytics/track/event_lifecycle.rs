//! The life of an event: one may be open for each rule, from the object that began it to the quiet that ends it.
//!
//! What belongs here: begins, updates, ends, cooldown, stills. What does not: whether a rule fires ([`crate::analytics::track::rules`]).

use crate::analytics::detect::picture::Picture;
use crate::analytics::params::{GONE_AFTER, STAND_MAX, STILL_AFTER, TURN, UPDATE_EVERY};
use crate::analytics::track::rules::{RuleVerdict, Rules};
use crate::analytics::track::snapshot::BestPicture;
use crate::analytics::track::tracker::Track;
use crate::analytics::{AnalyticsUpdate, MotionPhase, MotionUpdate, PictureBox, SuppressReason, Suppressed};
use crate::settings::MotionSettings;
use crate::settings::rules::Rule;
use crate::units::Timestamp;

/// An event in progress.
struct OpenEvent {
    motion: u64,
    began: Timestamp,
    /// An object of it was last seen.
    seen: Timestamp,
    updated: Timestamp,
    zones: Vec<String>,
    direction: Option<f32>,
    place: PictureBox,
    score: f32,
    tracks: Vec<u64>,
    suppressed: u32,
    continued_from: Option<u64>,
    best: BestPicture,
    still_sent: bool,
    /// All its objects have gone over the edge of the picture, since then.
    gone: Option<Timestamp>,
}

/// What one rule has open, and what it remembers for the next.
#[derive(Default)]
struct RuleState {
    open: Option<OpenEvent>,
    /// The end of the last event, for the cooldown.
    ended: Option<Timestamp>,
    suppressed: u32,
    /// Things whose start was suppressed: counted once.
    ignored: Vec<u64>,
}

/// The events of one camera.
pub struct EventTracker {
    settings: MotionSettings,
    still_max: usize,
    rules: Rules,
    threads: Vec<RuleState>,
    motions: u64,
}

/// What the events need to know of a picture.
pub struct TrackedScene<'a> {
    /// The picture.
    pub picture: &'a Picture,
    /// When it was taken.
    pub at: Timestamp,
    /// Believed objects that are in it.
    pub objects: &'a [Track],
    /// Believed objects that were lost before it.
    pub lost: &'a [Track],
}

impl EventTracker {
    /// Nothing has happened yet.
    pub fn new(settings: MotionSettings, still_max: usize) -> EventTracker {
        let rules = Rules::new(&settings.rules, &settings.zones, settings.cooldown, settings.utc_offset);
        let threads = rules.all().iter().map(|_| RuleState::default()).collect();
        EventTracker { settings, still_max, rules, threads, motions: 0 }
    }

    /// Goes on with other settings. What is open stays so while its rule keeps its name and place; else it ends.
    pub fn reconfigure(&mut self, settings: MotionSettings, at: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        let mut rules = Rules::new(&settings.rules, &settings.zones, settings.cooldown, settings.utc_offset);
        rules.count_on(&self.rules);
        let names = |rules: &Rules| rules.all().iter().map(|rule| rule.name.clone()).collect::<Vec<_>>();
        if names(&rules) != names(&self.rules) {
            self.finish(at, out);
            self.threads = rules.all().iter().map(|_| RuleState::default()).collect();
        }
        (self.rules, self.settings) = (rules, settings);
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Something is going on.
    pub fn is_open(&self) -> bool {
        self.threads.iter().any(|thread| thread.open.is_some())
    }

    /// The objects of open events.
    pub fn tracks(&self) -> Vec<u64> {
        self.threads.iter().filter_map(|thread| thread.open.as_ref()).flat_map(|open| open.tracks.clone()).collect()
    }

    /// Believed objects that a rule fires for begin or carry on an event.
    pub fn update(&mut self, seen: &TrackedScene<'_>, suppressed: &mut Suppressed, out: &mut Vec<AnalyticsUpdate>) {
        for number in 0..self.threads.len() {
            self.note_gone(number, seen);
            let here = seen.objects.iter().filter(|track| track.last == seen.at).map(|track| (track, false));
            let objects = seen.lost.iter().map(|track| (track, true)).chain(here);
            for (track, gone) in objects {
                match self.rules.judge(number, track, gone, seen.at) {
                    RuleVerdict::Fires(zones) => self.fires(number, track, &zones, seen, suppressed, out),
                    RuleVerdict::Refused(why) => suppressed.count(why),
                    RuleVerdict::Nothing => {}
                }
            }
            if let Some(open) = &mut self.threads[number].open
                && !open.still_sent
                && seen.at.mono.since(open.began.mono) >= STILL_AFTER
            {
                open.send_still(self.rules.zones(), self.still_max, out);
            }
        }
        self.rules.forget(|id| seen.objects.iter().any(|track| track.id == id));
    }

    fn fires(
        &mut self,
        number: usize,
        track: &Track,
        zones: &[String],
        seen: &TrackedScene<'_>,
        suppressed: &mut Suppressed,
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        let rule = self.rules.all()[number].clone();
        let at = seen.at;
        let thread = &mut self.threads[number];
        // Who comes when everybody has left is another story.
        let is_another = |open: &OpenEvent| {
            !open.tracks.contains(&track.id) && open.gone.is_some_and(|gone| track.first.mono.since(gone.mono) >= GONE_AFTER)
        };
        if thread.open.as_ref().is_some_and(is_another) {
            self.end(number, at, &rule, out);
        }
        let thread = &mut self.threads[number];
        if thread.open.is_none() && !thread.may_begin(track, at, rule.cooldown) {
            self.rules.take_back(number, track.id);
            return suppressed.count(SuppressReason::Cooldown);
        }
        let open = match &mut thread.open {
            Some(open) => open,
            None => {
                self.motions += 1;
                let missed = std::mem::take(&mut thread.suppressed);
                thread.open.insert(OpenEvent::new(self.motions, track, at, missed, &rule))
            }
        };
        open.gone = None;
        let fresh = open.take(track, zones, at);
        if open.best.offer(track.picture_box(), seen.picture, at) {
            open.score = open.score.max(track.score());
        }
        let started = open.updated.mono.0 == 0;
        let phase = if started { MotionPhase::Start } else { MotionPhase::Update };
        if started || fresh && at.mono.since(open.updated.mono) >= UPDATE_EVERY {
            open.updated = at;
            out.push(AnalyticsUpdate::Motion(open.motion_update(phase, at, &rule)));
        }
    }

    /// Notes when the last object of an event has left over the picture's edge.
    fn note_gone(&mut self, number: usize, seen: &TrackedScene<'_>) {
        let Some(open) = &mut self.threads[number].open else { return };
        let still_here = seen.objects.iter().any(|track| open.tracks.contains(&track.id));
        let left = seen.lost.iter().filter(|track| open.tracks.contains(&track.id) && track.goes_out());
        if let Some(last) = left.map(|track| track.last).max_by_key(|at| at.mono)
            && !still_here
        {
            open.gone = Some(last);
        }
    }

    /// Ends events after their quiet, or cuts them at their longest and goes on with others.
    pub fn end_quiet(&mut self, at: Timestamp, objects: &[Track], out: &mut Vec<AnalyticsUpdate>) {
        for number in 0..self.threads.len() {
            let Some(open) = &self.threads[number].open else { continue };
            let quiet = at.mono.since(open.seen.mono) >= self.settings.quiet_after;
            let long = at.mono.since(open.began.mono) >= self.settings.max_event;
            if !quiet && !long {
                continue;
            }
            let rule = self.rules.all()[number].clone();
            let (before, zones) = (open.motion, open.zones.clone());
            self.end(number, at, &rule, out);
            let still_here = |track: &&Track| self.rules.has_fired(number, track.id) && track.last == at;
            if !quiet && let Some(track) = objects.iter().find(still_here) {
                self.motions += 1;
                let mut next = OpenEvent::new(self.motions, track, at, 0, &rule);
                (next.began, next.continued_from, next.updated) = (at, Some(before), at);
                next.take(track, &zones, at);
                out.push(AnalyticsUpdate::Motion(next.motion_update(MotionPhase::Start, at, &rule)));
                self.threads[number].open = Some(next);
            }
        }
    }

    fn end(&mut self, number: usize, at: Timestamp, rule: &Rule, out: &mut Vec<AnalyticsUpdate>) {
        let quiet_after = self.settings.quiet_after;
        let thread = &mut self.threads[number];
        if let Some(mut open) = thread.open.take() {
            open.send_still(self.rules.zones(), self.still_max, out);
            let quiet = open.gone.is_some() || at.mono.since(open.seen.mono) >= quiet_after;
            let end = if quiet { open.seen } else { at };
            out.push(AnalyticsUpdate::Motion(open.motion_update(MotionPhase::End, end, rule)));
            thread.ended = Some(at);
        }
    }

    /// Ends whatever is open: no more pictures will come.
    pub fn finish(&mut self, at: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        for number in 0..self.threads.len() {
            let rule = self.rules.all()[number].clone();
            self.end(number, at, &rule, out);
        }
    }
}

impl RuleState {
    /// The cooldown: starts within it are counted, not reported.
    fn may_begin(&mut self, track: &Track, at: Timestamp, cooldown: u64) -> bool {
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
    fn new(motion: u64, track: &Track, at: Timestamp, suppressed: u32, rule: &Rule) -> OpenEvent {
        OpenEvent {
            motion,
            began: track.first,
            seen: at,
            updated: Timestamp::default(),
            zones: Vec::new(),
            direction: None,
            place: track.picture_box(),
            score: 0.0,
            tracks: Vec::new(),
            suppressed,
            continued_from: None,
            best: BestPicture::default(),
            // A rule without snapshots has had its own.
            still_sent: !rule.snapshot,
            gone: None,
        }
    }

    /// Takes a confirmed object in; true when something worth an update changed.
    fn take(&mut self, track: &Track, zones: &[String], at: Timestamp) -> bool {
        if at.mono.since(track.moved.mono) < STAND_MAX {
            self.seen = at;
        }
        self.place = track.picture_box();
        self.score = self.score.max(track.score());
        let mut fresh = !self.tracks.contains(&track.id);
        if fresh {
            self.tracks.push(track.id);
        }
        for zone in zones {
            if !self.zones.contains(zone) {
                self.zones.push(zone.clone());
                fresh = true;
            }
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

    fn motion_update(&self, phase: MotionPhase, at: Timestamp, rule: &Rule) -> MotionUpdate {
        MotionUpdate {
            event_no: self.motion,
            phase,
            at,
            started_at: self.began,
            rule: rule.name.clone(),
            clip: rule.clip,
            priority: rule.priority,
            zones: self.zones.clone(),
            direction: self.direction,
            bbox: self.place,
            score: self.score,
            tracks: self.tracks.len() as u32,
            suppressed: self.suppressed,
            continued_from: self.continued_from,
        }
    }

    fn send_still(&mut self, zones: &[crate::settings::Zone], most: usize, out: &mut Vec<AnalyticsUpdate>) {
        if std::mem::replace(&mut self.still_sent, true) {
            return;
        }
        if let Some((at, jpeg)) = self.best.jpeg(zones, most) {
            out.push(AnalyticsUpdate::Still { motion: self.motion, at, jpeg });
        }
    }
}
