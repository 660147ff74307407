//! Crash exploration: the real engine records into a tiny ring with faults; cards after cuts are
//! checked.
//!
//! After every operation the possible cards of a power cut are opened and checked. A *life* is one
//! seeded run; a *point* is one moment of it at which the power may fail.

use std::collections::HashSet;
use std::sync::Arc;

use super::barrier::Barrier;
use super::crash_image::Images;
use super::faulty_disk::{FaultyDisk, Point};
use super::oracle::{Oracle, SegmentCache, Violation};
use super::rng::{Rng, mix};
use super::workload::{Action, Workload, settings, stamp};
use crate::storage::engine::Engine;
use crate::storage::{StorageRequest, StorageUpdate};

/// Free bytes of a card that is not full.
const ROOM: u64 = 1 << 30;
/// Actions of one life.
const ACTIONS: u32 = 400;

/// Extent of an exploration.
#[derive(Debug, Clone, Copy)]
pub struct CrashEffort {
    /// Number of images in all.
    pub images: u64,
    /// Largest number of sectors in flight for which every subset is tried.
    pub exhaustive: usize,
    /// Random images of a point with more sectors.
    pub random: u64,
    /// Every how many points one is explored.
    pub one_in: u64,
}

impl CrashEffort {
    /// The complete exploration, up to `images` images.
    pub fn full(images: u64) -> CrashEffort {
        CrashEffort { images, exhaustive: 12, random: 64, one_in: 1 }
    }

    /// A short exploration for daily tests, up to `images` images.
    #[cfg(test)]
    pub fn small(images: u64) -> CrashEffort {
        CrashEffort { images, exhaustive: 5, random: 16, one_in: 7 }
    }
}

/// Position of an image: life, point, number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashPoint {
    /// Seed of the life.
    pub seed: u64,
    /// Point of the life, from 1.
    pub point: u64,
    /// Image of this point; `None` for all images.
    pub image: Option<u64>,
}

/// A broken promise, and the image that shows it.
#[derive(Debug)]
pub struct Failure {
    /// Position for [`replay`].
    pub place: CrashPoint,
    /// Kind of the image.
    pub kind: &'static str,
    /// The broken promise.
    pub broken: Violation,
}

/// Result of an exploration.
#[derive(Debug, Default)]
pub struct Summary {
    /// Lives started.
    pub lives: u64,
    /// Images made.
    pub images: u64,
    /// Hashes of different images.
    pub unique: HashSet<u64>,
    /// Images opened and checked; a known image is checked again only after a new promise.
    pub checked: u64,
    /// Points with every subset tried, and other points.
    pub points: (u64, u64),
    /// Durable records verified, over all checked images.
    pub records: u64,
    /// Broken promises.
    pub broken: Vec<Failure>,
    /// Operations of the card up to the replayed point.
    pub operations: Vec<String>,
}

impl Summary {
    /// Number of broken promises of one kind.
    pub fn count(&self, kind: fn(&Violation) -> bool) -> usize {
        self.broken.iter().filter(|failure| kind(&failure.broken)).count()
    }
}

/// Broken promises after which a run ends: more of the same add no information.
const ENOUGH: usize = 5;

/// Runs lives from `seed` on, until `effort.images` images were tried or enough promises are
/// broken.
///
/// Without a barrier one broken promise is enough.
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

/// Builds one image of a life again, or all images of one point, and checks them.
pub fn replay(place: CrashPoint, effort: CrashEffort, without: Option<Barrier>) -> Summary {
    Life::new(place.seed, effort, without, Some(place), Summary::default()).live()
}

/// End of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The action completes.
    Whole,
    /// The power fails during the action.
    PowerCut,
    /// The process is killed during the action.
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
    known: SegmentCache,
    script: Workload,
    /// Randomness of faults, apart from the workload's, so that both can be replayed.
    luck: Rng,
    point: u64,
    /// Version of the promises, and hashes of the images checked under it.
    seen: (u64, HashSet<u64>),
    summary: Summary,
}

impl Life {
    fn new(
        seed: u64,
        effort: CrashEffort,
        without: Option<Barrier>,
        only: Option<CrashPoint>,
        mut summary: Summary,
    ) -> Life {
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
            known: SegmentCache::default(),
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

    /// True after enough images, or when this life has broken a promise.
    fn is_over(&self) -> bool {
        let broken =
            self.summary.broken.last().is_some_and(|failure| failure.place.seed == self.seed);
        self.engine.is_none()
            || broken
            || self.only.is_none() && self.summary.images >= self.effort.images
    }

    /// Runs the next action to `end`.
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

    /// Cuts the power and starts again on a random image of the point.
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

    /// Opens the ring; points inside recovery are explored, too.
    fn start(&mut self) {
        self.engine = None;
        // A failed write or flush ends a boot, and the service manager starts it again.
        // One read, one write and one flush may each be set to fail.
        for _ in 0..4 {
            let opened =
                Engine::open(Arc::new(self.disk.clone()), &settings(), stamp(self.script.now));
            let points = self.disk.take_points();
            let last = points.last().cloned();
            for point in points {
                self.oracle.done(&point.done);
                self.explore(&point, false);
            }
            let (engine, update) = match opened {
                Ok(opened) => opened,
                Err(_) => {
                    // A ring without room on the card gets room.
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
        self.note(
            None,
            "start",
            Err(Violation::Service("the ring does not open in four attempts".into())),
        );
    }

    /// Checks the images of a point.
    fn explore(&mut self, point: &Point, idle: bool) {
        self.point += 1;
        let chosen = mix(self.seed ^ mix(self.point));
        if self.only.is_some_and(|only| self.point <= only.point) {
            self.summary.operations.push(format!(
                "{:>5} {}{}",
                self.point,
                point.done,
                if idle { ", reported" } else { "" }
            ));
        }
        let wanted = self
            .only
            .map_or(chosen.is_multiple_of(self.effort.one_in), |only| only.point == self.point);
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
            let checked =
                image.check(&self.oracle, &self.known, idle, self.script.now, self.without);
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
        assert!(
            summary.lives > 3 && summary.points.0 > 1000 && summary.records > 100_000,
            "{} lives did too little",
            summary.lives
        );
    }

    #[test]
    fn without_any_one_barrier_a_promise_is_broken() {
        for barrier in Barrier::ALL {
            let summary = run(1, CrashEffort::small(100_000), Some(barrier));
            let what = barrier.what();
            assert!(
                !summary.broken.is_empty(),
                "{}: {what}, and no check failed in {} images",
                barrier.name(),
                summary.images
            );
        }
    }

    #[test]
    fn a_failure_is_found_again_by_its_place() {
        let summary = run(1, CrashEffort::small(20_000), Some(Barrier::RecordFlush));
        let failure = &summary.broken[0];
        let again = replay(failure.place, CrashEffort::small(1), Some(Barrier::RecordFlush));
        assert_eq!(
            (again.broken[0].place, &again.broken[0].broken),
            (failure.place, &failure.broken)
        );
        assert!(replay(failure.place, CrashEffort::small(1), None).broken.is_empty());
    }
}
