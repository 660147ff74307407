//! Crash images: possible cards after a power cut, each opened with the real engine and checked.
//!
//! An image is built from durable content and writes in flight of one point
//! ([`super::crash_explorer`]).

use std::sync::Arc;

use super::barrier::Barrier;
use super::cow_image::{Choices, CowImage, PAGE, erase_block};
use super::faulty_disk::{FaultyDisk, Point};
use super::oracle::{Oracle, SegmentCache, Violation};
use super::rng::Rng;
use super::strict_reader;
use super::workload::{SEGMENT, SEGMENTS, Workload, settings};
use crate::format::segment_head::{HEAD_MAX, SegmentHead};
use crate::storage::check::check;
use crate::storage::disk::{Disk, FileId};
use crate::storage::engine::Engine;
use crate::storage::open::snapshot_geometry;
use crate::storage::{Recovered, RepairKind, StorageUpdate, snapshots};

/// Numbers of images beyond the subsets: torn pages, destroyed erase blocks, bit rot.
const TORN: u64 = 2;
const HIT: u64 = 2;
const ROT: u64 = 1;
/// Number of images with a removed segment file or two exchanged ones.
const NAMES: u64 = 2;
/// Largest number of reads of one boot: each page as head, as record and as content, and the slots.
const READS: u64 = 3 * SEGMENTS * SEGMENT / PAGE as u64 + 16;
/// Duration of a power cut, microseconds.
const DARK: u64 = 3_000_000;

/// The images of one point.
pub struct Images {
    choices: Choices,
    subsets: u64,
    /// True if all subsets are included, not a random choice.
    pub exhaustive: bool,
    unsure: u64,
    unseen: u64,
}

/// One card image.
pub struct Image {
    /// Content of the card.
    pub card: CowImage,
    /// Promises on this card; `None`: those of the point.
    pub oracle: Option<Oracle>,
    /// True if durable bytes were damaged.
    damaged: bool,
    /// True if every gap in time must have a gap record.
    gaps: bool,
    /// Description of the damage.
    pub kind: &'static str,
    /// The card before damage that `ring check` must report.
    before: Option<CowImage>,
}

impl Images {
    /// The images of `point`: all subsets of at most `exhaustive` sectors in flight, else `random`
    /// ones.
    pub fn enumerate(point: &Point, exhaustive: usize, random: u64) -> Images {
        let choices = Choices::new(&point.durable, &point.pending);
        let all = choices.len() <= exhaustive && choices.outcomes() <= 1 << exhaustive;
        let subsets = if all { choices.outcomes() } else { random };
        Images {
            subsets,
            exhaustive: all,
            unsure: point.unsure.len() as u64,
            unseen: ROT + NAMES,
            choices,
        }
    }

    /// Number of images.
    pub fn count(&self) -> u64 {
        let hits = if self.choices.is_empty() { 0 } else { TORN + HIT };
        self.subsets + hits + self.unsure + self.unseen
    }

    /// Number of images that a power cut can cause. They come first; the others are bit rot and
    /// names.
    pub fn of_cuts(&self) -> u64 {
        self.count() - self.unseen
    }

    /// Image `number`; `rng` is the same for the same number.
    pub fn get(
        &self,
        number: u64,
        point: &Point,
        oracle: &Oracle,
        without: Option<Barrier>,
        rng: &mut Rng,
    ) -> Image {
        let hits = if self.choices.is_empty() { 0 } else { TORN + HIT };
        let whole = |kind, card| Image {
            card,
            oracle: None,
            damaged: false,
            gaps: true,
            kind,
            before: None,
        };
        match number.checked_sub(self.subsets) {
            None if self.exhaustive => {
                whole("subset", self.choices.outcome(&point.durable, number))
            }
            None => whole("random subset", self.random(number, point, rng)),
            Some(n) if n < hits && n < TORN => whole("torn page", self.torn(point, rng)),
            Some(n) if n < hits => self.hit(point, oracle, without, rng),
            Some(n) if n < hits + self.unsure => {
                let mut card = self.choices.apply(&point.durable, |_, states| rng.below(states));
                point
                    .unsure
                    .iter()
                    .nth((n - hits) as usize)
                    .into_iter()
                    .for_each(|file| card.remove(*file));
                whole("lost name", card)
            }
            Some(n) if n < hits + self.unsure + ROT => self.rotten(point, oracle, rng),
            Some(n) if n == hits + self.unsure + ROT => exchanged(point, oracle, rng),
            Some(_) => gone(point, oracle, rng),
        }
    }

    /// A random outcome: no sector, all, a prefix, all but one, then any subset.
    fn random(&self, number: u64, point: &Point, rng: &mut Rng) -> CowImage {
        let sectors = self.choices.len() as u64;
        let at = rng.below(sectors);
        let keep = [5, 25, 50, 75, 95][rng.below(5) as usize];
        self.choices.apply(&point.durable, |i, states| match number {
            0 => 0,
            1 => states - 1,
            n if n % 4 == 2 => (states - 1) * u64::from((i as u64) < at),
            n if n % 4 == 3 => (states - 1) * u64::from(i as u64 != at),
            _ if rng.below(100) < keep => 1 + rng.below(states - 1),
            _ => 0,
        })
    }

    /// A page under a write holds neither its old nor its new content.
    fn torn(&self, point: &Point, rng: &mut Rng) -> CowImage {
        let mut card = self.choices.apply(&point.durable, |_, states| rng.below(states));
        let (file, at) = target(point, rng);
        card.spoil(file, at / PAGE * PAGE..(at / PAGE + 1) * PAGE, &junk(rng));
        card
    }

    /// The erase block under a write is destroyed with its durable content.
    fn hit(
        &self,
        point: &Point,
        oracle: &Oracle,
        without: Option<Barrier>,
        rng: &mut Rng,
    ) -> Image {
        let mut card = self.choices.apply(&point.durable, |_, states| rng.below(states));
        let mut oracle = oracle.clone();
        let (file, at) = target(point, rng);
        let range = erase_block(file, at, without == Some(Barrier::Apart));
        card.spoil(file, range.clone(), &junk(rng));
        // Recovery reads only the newest segment. Damage in a segment abandoned after a refused
        // write is found later, when it is read.
        let gaps = !matches!(file, FileId::Segment(segment) if oracle.is_abandoned(segment));
        excuse(&mut oracle, file, &range);
        Image { card, oracle: Some(oracle), damaged: true, gaps, kind: "erase block", before: None }
    }

    /// One durable bit is flipped.
    fn rotten(&self, point: &Point, oracle: &Oracle, rng: &mut Rng) -> Image {
        let mut card = point.durable.clone();
        let mut oracle = oracle.clone();
        let files: Vec<FileId> = card.files().map(|(file, _)| file).collect();
        let file = files[rng.below(files.len() as u64) as usize];
        let slots = u64::from(settings().journal_slots) * PAGE as u64;
        let at = match file {
            FileId::Journal => (rng.below(2) * (4 << 20) + rng.below(slots)) as usize,
            _ => rng.below(card.len(file) as u64) as usize,
        };
        let byte = card.read(file, at, 1).map_or(0, |bytes| bytes[0]);
        card.write(file, at, &[byte ^ (1 << rng.below(8))]);
        // Only the record of this byte may be lost: heads have a second copy, and padding is
        // unused.
        excuse(&mut oracle, file, &(at..at + 1));
        let before = is_covered(&point.durable, file, at).then(|| point.durable.clone());
        Image { card, oracle: Some(oracle), damaged: true, gaps: false, kind: "bit rot", before }
    }
}

/// True if a byte of a segment or of the journal is covered by a checksum.
fn is_covered(card: &CowImage, file: FileId, at: usize) -> bool {
    let page = card.read(file, at / PAGE * PAGE, PAGE).unwrap_or_default();
    match file {
        // A slot that a refused flush left torn is reported already.
        FileId::Journal => page
            .split_last_chunk()
            .is_some_and(|(covered, stored)| crc32c::crc32c(covered).to_be_bytes() == *stored),
        FileId::Snapshots | FileId::Foreign(_) => false,
        FileId::Segment(_) => {
            let reading =
                strict_reader::read(&card.read(file, 0, card.len(file)).unwrap_or_default());
            let records = reading
                .records
                .iter()
                .any(|lies| (lies.offset..lies.offset + lies.len).contains(&at));
            let used = reading
                .head
                .as_ref()
                .map_or(0, |head| head.encode().iter().rposition(|byte| *byte != 0).unwrap_or(0));
            (records || at <= used) && !is_superseded(card, reading.head.as_ref())
        }
    }
}

/// True if a later file starts with the same record. The engine dropped this file after a rejected
/// write or flush, so rot in it costs nothing.
fn is_superseded(card: &CowImage, head: Option<&SegmentHead>) -> bool {
    let later = |file: FileId| {
        let other = card
            .read(file, 0, card.len(file).min(HEAD_MAX))
            .and_then(|bytes| SegmentHead::decode(&bytes));
        other.zip(head).is_some_and(|((other, _), head)| {
            other.first_seq == head.first_seq && other.lap > head.lap
        })
    };
    card.lengths().into_keys().filter(|file| matches!(file, FileId::Segment(_))).any(later)
}

/// The segments of a card that hold records, oldest first.
fn with_records(card: &CowImage) -> Vec<u32> {
    let mut found: Vec<(u64, u32)> = Vec::new();
    for (file, pages) in card.files() {
        let FileId::Segment(number) = file else { continue };
        let reading = strict_reader::read(&pages.bytes());
        found.extend(
            reading
                .head
                .filter(|_| !reading.records.is_empty())
                .map(|head| (head.first_seq, number)),
        );
    }
    found.sort_unstable();
    found.into_iter().map(|(_, number)| number).collect()
}

/// An image with two exchanged segment names.
fn exchanged(point: &Point, oracle: &Oracle, rng: &mut Rng) -> Image {
    let (mut card, mut oracle) = (point.durable.clone(), oracle.clone());
    let files = with_records(&card);
    if files.len() < 2 {
        return Image {
            card,
            oracle: Some(oracle),
            damaged: true,
            gaps: false,
            kind: "two names exchanged",
            before: None,
        };
    }
    let one = rng.below(files.len() as u64) as usize;
    let (one, other) =
        (files[one], files[(one + 1 + rng.below(files.len() as u64 - 1) as usize) % files.len()]);
    card.exchange(FileId::Segment(one), FileId::Segment(other));
    oracle.exchange(one, other);
    let before = Some(point.durable.clone());
    Image {
        card,
        oracle: Some(oracle),
        damaged: true,
        gaps: false,
        kind: "two names exchanged",
        before,
    }
}

/// An image without one segment file. It is not the newest: only an ordered stop records that one.
fn gone(point: &Point, oracle: &Oracle, rng: &mut Rng) -> Image {
    let (mut card, mut oracle) = (point.durable.clone(), oracle.clone());
    let files = with_records(&card);
    let mut before = None;
    if files.len() > 1 {
        let file = files[rng.below(files.len() as u64 - 1) as usize];
        card.remove(FileId::Segment(file));
        oracle.excuse(file, &(0..usize::MAX));
        oracle.excuse_end();
        // A file in reuse is already recorded as evicted.
        before = (crate::sim::footage_order::is_expected(&point.durable, file))
            .then(|| point.durable.clone());
    }
    Image { card, oracle: Some(oracle), damaged: true, gaps: false, kind: "a file gone", before }
}

/// All lines of `ring check`.
fn reported(card: &CowImage) -> Vec<String> {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::with(card.clone(), None));
    let checked = check(&disk, |_, _| {});
    checked
        .map(|it| it.torn.iter().chain(&it.problems).map(ToString::to_string).collect())
        .unwrap_or_default()
}

fn excuse(oracle: &mut Oracle, file: FileId, range: &std::ops::Range<usize>) {
    match file {
        FileId::Segment(segment) => {
            oracle.excuse(segment, range);
            oracle.excuse_end();
        }
        FileId::Snapshots => oracle.excuse_stills(),
        // The other copy is in another erase block, so no loss is allowed.
        FileId::Journal | FileId::Foreign(_) => {}
    }
}

/// A random position in a write in flight.
fn target(point: &Point, rng: &mut Rng) -> (FileId, usize) {
    let write = &point.pending[rng.below(point.pending.len() as u64) as usize];
    (write.file, write.offset + rng.below(write.bytes.len() as u64) as usize)
}

/// A page of ones, zeros or noise.
fn junk(rng: &mut Rng) -> Arc<[u8; PAGE]> {
    let mut page = [[0xff, 0][rng.below(2) as usize]; PAGE];
    if rng.one_in(2) {
        page.iter_mut().for_each(|byte| *byte = rng.bits() as u8);
    }
    Arc::new(page)
}

impl Image {
    /// Checks the card before recovery, after it, and after new footage.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn check(
        &self,
        oracle: &Oracle,
        known: &SegmentCache,
        idle: bool,
        now: u64,
        without: Option<Barrier>,
    ) -> Result<(), Violation> {
        let oracle = self.oracle.as_ref().unwrap_or(oracle);
        if self.before.as_ref().is_some_and(|before| reported(before) == reported(&self.card)) {
            return Err(Violation::Unreported(format!(
                "{}: ring check reports the same as before",
                self.kind
            )));
        }
        if !self.damaged {
            oracle.check_pulled(&self.card, known, idle)?;
        }
        let disk = FaultyDisk::with(self.card.clone(), without);
        let (_, first) = start(&disk, now)?;
        oracle.check_found(&first)?;
        let disk = FaultyDisk::with(disk.durable(), without);
        let (mut engine, second) = start(&disk, now + DARK)?;
        same(&first, &second)?;
        let geometry = snapshot_geometry(&settings());
        oracle.check_stills(&second, |entry_id| snapshots::read(&disk, geometry, entry_id).ok())?;
        let mut script = Workload::new(now);
        script.now = now + 2 * DARK;
        script.restart();
        let mut out = Vec::new();
        while script.now < now + 2 * DARK + 200_000 {
            engine.frame(&script.picture(), &mut out);
        }
        engine.request(
            super::workload::stamp(script.now),
            crate::storage::StorageRequest::Stop,
            &mut out,
        );
        if !out.iter().any(|update| matches!(update, StorageUpdate::Durable { .. })) {
            return Err(Violation::Service(format!("no record follows recovery: {out:?}")));
        }
        match disk.take_begun() {
            started if started.is_empty() => {
                oracle.check_ring(&disk.live(), known, first.last_seq, self.gaps)
            }
            started => oracle.after(&started, first.last_seq).check_ring(
                &disk.live(),
                known,
                first.last_seq,
                self.gaps,
            ),
        }
    }
}

/// Opens the ring on a card and returns what recovery found.
fn start(disk: &FaultyDisk, now: u64) -> Result<(Engine, Recovered), Violation> {
    let opened = Engine::open(Arc::new(disk.clone()), &settings(), super::workload::stamp(now));
    let (engine, update) =
        opened.map_err(|fault| Violation::Service(format!("the ring does not open: {fault}")))?;
    let reads = disk.reads();
    if reads > READS {
        return Err(Violation::Service(format!("a boot made {reads} reads, more than {READS}")));
    }
    match update.into_iter().next() {
        Some(StorageUpdate::Started(found)) => Ok((engine, *found)),
        other => Err(Violation::Service(format!("the first update is {other:?}"))),
    }
}

/// Checks that a second recovery finds the same and repairs nothing.
fn same(first: &Recovered, second: &Recovered) -> Result<(), Violation> {
    let ring = |found: &Recovered| {
        (
            found.last_seq,
            found.extent,
            found.entries.clone(),
            found.newest.clone(),
            found.cells.clone(),
        )
    };
    if ring(first) != ring(second) {
        let of = |found: &Recovered| (found.last_seq, found.extent, found.entries.len());
        return Err(Violation::Service(format!(
            "two recoveries differ: {:?}, then {:?}",
            of(first),
            of(second)
        )));
    }
    // Damage between records stays and is reported at every boot; a tear must be repaired.
    let torn = second.repairs.iter().any(|repair| repair.kind == RepairKind::Torn);
    match (torn, second.damaged_slots) {
        (false, 0) => Ok(()),
        (torn, slots) => Err(Violation::Service(format!(
            "a second recovery repairs again: {slots} slots, a tear: {torn}"
        ))),
    }
}
