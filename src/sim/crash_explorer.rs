//! Lives of a card: the real engine records into a tiny ring while everything goes wrong, and at every moment at which the power
//! may go the cards it could leave are opened and checked.
//!
//! What belongs here: the life and its moments. What does not: the cards of one moment ([`super::crash_image`]), the promises
//! ([`super::oracle`]).

use std::collections::HashSet;
use std::sync::Arc;

use super::barrier::Barrier;
use super::crash_image::Images;
use super::faulty_disk::{FaultyDisk, Point};
use super::oracle::{ImageCache, Oracle, Violation};
use super::rng::{Rng, mix};
use super::workload::{Action, Workload, settings, stamp};
use crate::storage::engine::Engine;
use crate::storage::{StorageRequest, StorageUpdate};

/// Bytes on a card that is not full.
const ROOM: u64 = 1 << 30;
/// Actions of one life.
const ACTIONS: u32 = 400;

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct CrashEffort {
    /// Images in all.
    pub images: u64,
    /// Sectors on their way up to which every subset is tried.
    pub exhaustive: usize,
    /// Images of a moment with more.
    pub random: u64,
    /// One in so many moments is looked at.
    pub one_in: u64,
}

impl CrashEffort {
    /// Everything the design asks for, `images` times.
    pub fn full(images: u64) -> CrashEffort {
        CrashEffort { images, exhaustive: 12, random: 64, one_in: 1 }
    }

    /// A little of everything, for every day.
    pub fn small(images: u64) -> CrashEffort {
        CrashEffort { images, exhaustive: 5, random: 16, one_in: 7 }
    }
}

/// One image: life, moment, number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashPoint {
    /// Seed of the life.
    pub seed: u64,
    /// Its moment.
    pub point: u64,
    /// The image of this moment; all of them where it is not said.
    pub image: Option<u64>,
}

/// A broken promise and the image that shows it.
#[derive(Debug)]
pub struct Failure {
    /// Where to find it again.
    pub place: CrashPoint,
    /// How the image was made.
    pub kind: &'static str,
    /// The promise.
    pub broken: Violation,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Summary {
    /// Lives begun.
    pub lives: u64,
    /// Images made.
    pub images: u64,
    /// Different ones among them.
    pub unique: HashSet<u64>,
    /// Images opened and checked: one seen before is checked again only where more is promised.
    pub checked: u64,
    /// Moments of which every subset was tried, and the others.
    pub points: (u64, u64),
    /// Durable records looked for, over all checked images.
    pub records: u64,
    /// What broke.
    pub broken: Vec<Failure>,
    /// What the card did up to the moment that is replayed.
    pub story: Vec<String>,
}

impl Summary {
    /// How many of what broke are of a kind.
    pub fn count(&self, kind: fn(&Violation) -> bool) -> usize {
        self.broken.iter().filter(|failure| kind(&failure.broken)).count()
    }
}

/// Broken promises after which a run ends: more of the same help nobody.
const ENOUGH: usize = 5;

/// Runs lives from `seed` on until `effort.images` were tried or enough is broken: one promise where a barrier is missing.
pub fn run(seed: u64, effort: CrashEffort, without: Option<Barrier>) -> Summary {
    let mut summary = Summary::default();
    let mut seed = seed;
    let enough = if without.is_some() { 1 } else { ENOUGH };
    while summary.images < effort.images && summary.broken.len() < enough {
        summary = Life::new(seed, effort, without, None, summary).live();
        seed += 1;
    }
    summary
}

/// Makes one image of one life again, or all of one moment, and checks them.
pub fn replay(place: CrashPoint, effort: CrashEffort, without: Option<Barrier>) -> Summary {
    Life::new(place.seed, effort, without, Some(place), Summary::default()).live()
}

/// How an action ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is carried out.
    Whole,
    /// The power goes somewhere in it.
    PowerCut,
    /// The process dies somewhere in it.
    Kill,
}

struct Life {
    seed: u64,
    effort: CrashEffort,
    without: Option<Barrier>,
    only: Option<CrashPoint>,
    disk: FaultyDisk,
    engine: Option<Engine>,
    oracle: Oracle,
    known: ImageCache,
    script: Workload,
    /// What goes wrong, apart from the script, so that both replay.
    luck: Rng,
    point: u64,
    /// Images checked under what is promised now.
    seen: (u64, HashSet<u64>),
    summary: Summary,
}

impl Life {
    fn new(seed: u64, effort: CrashEffort, without: Option<Barrier>, only: Option<CrashPoint>, mut summary: Summary) -> Life {
        summary.lives += 1;
        let disk = FaultyDisk::new(without);
        disk.take_points();
        Life {
            seed,
            effort,
            without,
            only,
            disk,
            engine: None,
            oracle: Oracle::default(),
            known: ImageCache::default(),
            script: Workload::new(seed),
            luck: Rng::new(mix(seed)),
            point: 0,
            seen: (0, HashSet::new()),
            summary,
        }
    }

    fn live(mut self) -> Summary {
        self.start();
        for _ in 0..ACTIONS {
            if self.is_over() {
                break;
            }
            match self.luck.below(160) {
                0..=2 => self.act(End::PowerCut),
                3..=4 => self.act(End::Kill),
                5 => self.stop(),
                6 => {
                    let after = 1 + self.luck.below(3);
                    self.disk.fail_sync_after(after, &mut self.luck);
                }
                7 => self.disk.fail_write_after(1 + self.luck.below(3)),
                8 => self.disk.fail_read_after(1 + self.luck.below(30)),
                9 => self.disk.leave_only([0, ROOM][self.luck.below(2) as usize]),
                10 => self.disk.slow(self.luck.below(3) * 100_000),
                _ => self.act(End::Whole),
            }
        }
        self.summary
    }

    /// Nothing more to find out: enough was tried, or this life has broken a promise.
    fn is_over(&self) -> bool {
        let broken = self.summary.broken.last().is_some_and(|failure| failure.place.seed == self.seed);
        self.engine.is_none() || broken || self.only.is_none() && self.summary.images >= self.effort.images
    }

    /// The next action, and how it ends.
    fn act(&mut self, end: End) {
        let action = self.script.act();
        if let Action::Order(order) = &action {
            self.oracle.requested(order);
        }
        let out = self.give(&action);
        self.script.pass(self.disk.take_time());
        let mut points = self.disk.take_points();
        if end != End::Whole {
            points.truncate(1 + self.luck.below(points.len() as u64) as usize);
        }
        let last = points.last().cloned();
        for point in points {
            self.oracle.done(&point.done);
            self.explore(&point, false);
        }
        match end {
            End::Whole => {}
            End::PowerCut => return self.power_cut(last),
            End::Kill => {
                last.iter().for_each(|point| self.disk.killed_at(point));
                return self.dark();
            }
        }
        self.apply_updates(&out);
        if let Some(point) = last {
            self.explore(&point, true);
        }
    }

    fn give(&mut self, action: &Action) -> Vec<StorageUpdate> {
        let mut out = Vec::new();
        let now = stamp(self.script.now);
        if let Some(engine) = &mut self.engine {
            match action {
                Action::Frame(frame) => engine.frame(frame, &mut out),
                Action::Skipped(skip) => engine.skipped(*skip, &mut out),
                Action::Order(order) => engine.request(now, order.clone(), &mut out),
                Action::Idle => engine.idle(now, &mut out),
            }
        }
        out
    }

    fn apply_updates(&mut self, update: &[StorageUpdate]) {
        self.oracle.observed(update);
        for update in update {
            match update {
                StorageUpdate::Enqueued { entry_id } => self.script.stored(*entry_id, true),
                StorageUpdate::NotEnqueued { entry_id, .. } => self.script.stored(*entry_id, false),
                _ => {}
            }
        }
    }

    /// The power goes and comes back: the card is any of the images of the moment.
    fn power_cut(&mut self, last: Option<Point>) {
        let card = match last {
            Some(point) => {
                let images = Images::enumerate(&point, 0, 64);
                let number = self.luck.below(images.of_cuts());
                let image = images.get(number, &point, &self.oracle, self.without, &mut self.luck);
                self.oracle = image.oracle.unwrap_or_else(|| self.oracle.clone());
                image.card
            }
            None => self.disk.durable(),
        };
        self.disk.power_on_with(card);
        self.dark();
    }

    fn stop(&mut self) {
        let order = StorageRequest::Stop;
        self.oracle.requested(&order);
        let out = self.give(&Action::Order(order));
        let points = self.disk.take_points();
        for point in points {
            self.oracle.done(&point.done);
            self.explore(&point, false);
        }
        self.apply_updates(&out);
        self.dark();
    }

    fn dark(&mut self) {
        self.script.pass(1_000_000 + self.luck.below(5_000_000));
        self.script.restart();
        self.start();
    }

    /// The agent starts; moments inside recovery are looked at like any other.
    fn start(&mut self) {
        self.engine = None;
        // A start whose own write or flush fails ends with the reason, and the service manager starts it again.
        // A read, a write and a flush may each be about to fail once.
        for _ in 0..4 {
            let opened = Engine::open(Arc::new(self.disk.clone()), &settings(), stamp(self.script.now));
            let points = self.disk.take_points();
            let last = points.last().cloned();
            for point in points {
                self.oracle.done(&point.done);
                self.explore(&point, false);
            }
            let (engine, update) = match opened {
                Ok(opened) => opened,
                Err(_) => {
                    // A ring that never had room asks for some, and gets it.
                    self.disk.leave_only(ROOM);
                    continue;
                }
            };
            self.engine = Some(engine);
            if let Some(StorageUpdate::Started(found)) = update.first() {
                self.oracle.reconcile(&self.disk.live());
                self.note(None, "start", self.oracle.check_found(found));
                let newest = found.newest.as_ref().map_or(0, |(entry_id, _)| entry_id.0);
                self.script.found(found.entries.iter().map(|(entry_id, _)| *entry_id), newest);
            }
            self.apply_updates(&update);
            return last.into_iter().for_each(|point| self.explore(&point, true));
        }
        self.note(None, "start", Err(Violation::Service("the ring does not open in four tries".into())));
    }

    /// Tries the images of a moment.
    fn explore(&mut self, point: &Point, idle: bool) {
        self.point += 1;
        let chosen = mix(self.seed ^ mix(self.point));
        if self.only.is_some_and(|only| self.point <= only.point) {
            self.summary.story.push(format!("{:>5} {}{}", self.point, point.done, if idle { ", and said so" } else { "" }));
        }
        let wanted = self.only.map_or(chosen.is_multiple_of(self.effort.one_in), |only| only.point == self.point);
        if !wanted || self.is_over() && self.engine.is_some() {
            return;
        }
        self.known.learn(&point.durable);
        let images = Images::enumerate(point, self.effort.exhaustive, self.effort.random);
        let points = &mut self.summary.points;
        *if images.exhaustive { &mut points.0 } else { &mut points.1 } += 1;
        for number in 0..images.count() {
            if self.only.is_some_and(|only| only.image.is_some_and(|image| image != number)) {
                continue;
            }
            let mut rng = Rng::new(mix(chosen ^ number));
            let image = images.get(number, point, &self.oracle, self.without, &mut rng);
            self.summary.images += 1;
            self.summary.unique.insert(image.card.hash());
            if self.seen_before(image.card.hash() ^ u64::from(idle)) {
                continue;
            }
            self.summary.checked += 1;
            self.summary.records += self.oracle.records();
            let checked = image.check(&self.oracle, &self.known, idle, self.script.now, self.without);
            self.note(Some(number), image.kind, checked);
            if self.summary.broken.last().is_some_and(|failure| failure.place.seed == self.seed) {
                return;
            }
        }
    }

    fn seen_before(&mut self, image: u64) -> bool {
        if self.seen.0 != self.oracle.version {
            self.seen = (self.oracle.version, HashSet::new());
        }
        !self.seen.1.insert(image)
    }

    fn note(&mut self, image: Option<u64>, kind: &'static str, checked: Result<(), Violation>) {
        if let Err(broken) = checked {
            let place = CrashPoint { seed: self.seed, point: self.point, image };
            self.summary.broken.push(Failure { place, kind, broken });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_power_cut_of_a_small_seeded_set_breaks_a_promise() {
        let summary = run(1, CrashEffort::small(20_000), None);
        assert!(summary.broken.is_empty(), "{:?}", summary.broken);
        assert!(summary.lives > 3 && summary.points.0 > 1000 && summary.records > 100_000, "{} lives were empty", summary.lives);
    }

    #[test]
    fn without_any_one_barrier_a_promise_is_broken() {
        for barrier in Barrier::ALL {
            let summary = run(1, CrashEffort::small(100_000), Some(barrier));
            let what = barrier.what();
            assert!(!summary.broken.is_empty(), "{}: {what}, and nobody noticed in {} images", barrier.name(), summary.images);
        }
    }

    #[test]
    fn a_failure_is_found_again_by_its_place() {
        let summary = run(1, CrashEffort::small(20_000), Some(Barrier::RecordFlush));
        let failure = &summary.broken[0];
        let again = replay(failure.place, CrashEffort::small(1), Some(Barrier::RecordFlush));
        assert_eq!((again.broken[0].place, &again.broken[0].broken), (failure.place, &failure.broken));
        assert!(replay(failure.place, CrashEffort::small(1), None).broken.is_empty());
    }
}
