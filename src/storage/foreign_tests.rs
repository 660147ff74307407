//! Parts of another device's card in our directory: under the name of one of ours or under a free one. None is taken, sent or written
//! over, and each is named. And files that somebody cut or made longer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;

use super::check::check;
use super::disk::{Disk, FileId};
use super::engine::Engine;
use super::engine_tests::{Bench, small};
use super::journal_layout::copy_b;
use super::open::{StorageFault, snapshot_geometry};
use super::recovery::read;
use super::rot_tests::{exported, told};
use super::*;
use crate::format::card_id::CardId;
use crate::settings::StorageSettings;
use crate::sim::cow_image::CowImage;
use crate::sim::faulty_disk::FaultyDisk;
use crate::sim::rng::Rng;
use crate::units::{SiteId, Timestamp};

fn of_site(site: &str) -> StorageSettings {
    StorageSettings { site: SiteId::parse(site).ok(), ..small() }
}

/// A ring that was stopped in order, in its second lap, with entries and snapshots of this byte.
fn ring(site: &str, byte: u8, seconds: i64) -> Bench {
    let mut bench = Bench::new(of_site(site));
    for entry_id in 1..=6 {
        let still = (entry_id <= 2).then(|| vec![byte; 9000]);
        bench.order(StorageRequest::Enqueue {
            entry_id: EntryId(entry_id),
            entry: vec![byte; 700],
            snapshot: still,
        });
    }
    bench.record(seconds);
    bench.order(StorageRequest::Stop);
    bench
}

fn copy(from: &CowImage, file: FileId, to: &mut CowImage, name: FileId) {
    let bytes = from.read(file, 0, from.len(file)).unwrap();
    to.create(name, bytes.len() as u64);
    to.write(name, 0, &bytes);
}

fn card_of(disk: &FaultyDisk) -> CardId {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    read(&shared).unwrap().card
}

fn entries(update: &[StorageUpdate]) -> Vec<Vec<u8>> {
    let of = |update: &StorageUpdate| match update {
        StorageUpdate::Started(found) => found.entries.clone(),
        StorageUpdate::Found { entries } => entries.clone(),
        _ => Vec::new(),
    };
    update.iter().flat_map(of).map(|(_, bytes)| bytes).collect()
}

/// What is exchanged.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Journal,
    CopyA,
    CopyB,
    Snapshots,
    /// So many segments take the names of ours, which are gone.
    Instead(usize),
    /// So many segments take the names of ours, which get free ones.
    Renamed(usize),
    /// So many segments under free names.
    Beside(usize),
}

const PARTS: [Part; 11] = [
    Part::Journal,
    Part::CopyA,
    Part::CopyB,
    Part::Snapshots,
    Part::Instead(1),
    Part::Instead(5),
    Part::Renamed(1),
    Part::Renamed(3),
    Part::Renamed(8),
    Part::Beside(1),
    Part::Beside(8),
];

/// Puts it in; gives the files that hold something foreign now.
fn put(part: Part, ours: &mut CowImage, theirs: &CowImage, rng: &mut Rng) -> Vec<FileId> {
    let free = |n: usize| FileId::Segment(20 + n as u32);
    let first = rng.below(8) as usize;
    let file = |n: usize| FileId::Segment(((first + n) % 8) as u32);
    let (half, len) = (copy_b(64) as usize, 64 * 4096);
    match part {
        Part::Journal => copy(theirs, FileId::Journal, ours, FileId::Journal),
        Part::CopyA => {
            ours.write(FileId::Journal, 0, &theirs.read(FileId::Journal, 0, len).unwrap())
        }
        Part::CopyB => {
            ours.write(FileId::Journal, half, &theirs.read(FileId::Journal, half, len).unwrap())
        }
        Part::Snapshots => copy(theirs, FileId::Snapshots, ours, FileId::Snapshots),
        Part::Instead(count) => (0..count).for_each(|n| copy(theirs, file(n), ours, file(n))),
        Part::Renamed(count) => {
            for n in 0..count {
                copy(&ours.clone(), file(n), ours, free(n));
                copy(theirs, file(n), ours, file(n));
            }
        }
        Part::Beside(count) => (0..count).for_each(|n| copy(theirs, file(n), ours, free(n))),
    }
    match part {
        Part::Journal | Part::CopyA | Part::CopyB => vec![FileId::Journal],
        Part::Snapshots => vec![FileId::Snapshots],
        Part::Instead(count) | Part::Renamed(count) => (0..count).map(file).collect(),
        Part::Beside(count) => (0..count).map(free).collect(),
    }
}

/// A start names each foreign part, and takes no entry and no snapshot from it.
fn start_sends_nothing_of(
    part: Part,
    files: &[FileId],
    disk: &FaultyDisk,
    now: Timestamp,
    name: &str,
) {
    let (mut engine, mut update) =
        Engine::open(Arc::new(disk.clone()), &of_site("km-17"), now).unwrap();
    while let Some(more) = engine.found().unwrap() {
        update.push(more);
    }
    let entries = entries(&update);
    assert!(
        entries.iter().all(|entry| entry.iter().all(|byte| *byte == 1)),
        "{name}: an entry of another card would be sent"
    );
    assert_eq!(entries.len(), if part == Part::Journal { 0 } else { 6 }, "{name}");
    for file in files {
        let names = |update: &StorageUpdate| matches!(update, StorageUpdate::Trouble { detail, lost: true } if detail.starts_with(&file.name()));
        assert!(
            update.iter().any(names),
            "{name}: a start does not name {}: {update:?}",
            file.name()
        );
    }
    let still = snapshots::read(disk, snapshot_geometry(&small()), EntryId(1));
    assert!(
        still.is_err() == (part == Part::Snapshots)
            && still.is_ok_and(|still| still[0] == 1) == (part != Part::Snapshots),
        "{name}"
    );
}

fn try_part(part: Part, ours: &Bench, theirs: &Bench, rng: &mut Rng) {
    let (id, whole) = (card_of(&ours.disk), exported(&ours.disk));
    let (mut card, other) = (ours.disk.durable(), theirs.disk.durable());
    let files = put(part, &mut card, &other, rng);
    let name = format!("{part:?} {files:?}");
    let disk = FaultyDisk::with(card.clone(), None);
    assert_eq!(card_of(&disk), id, "{name}: whose card it is");
    let lines = told(&disk);
    for file in &files {
        let names = |line: &String| {
            line.starts_with(&file.name())
                && line.contains("another card")
                && line.contains("taimat ring list")
        };
        assert!(lines.iter().any(names), "{name}: check does not name {}: {lines:?}", file.name());
    }
    let kept = exported(&disk);
    match part {
        Part::Instead(_) => assert!(kept.is_subset(&whole), "{name}"),
        _ => assert_eq!(kept, whole, "{name}: our own footage"),
    }
    start_sends_nothing_of(part, &files, &disk, ours.now(), &name);
    assert_eq!(exported(&disk), kept, "{name}: after a start");
    // Two laps later every foreign byte is where it was, or kept under a name that says so.
    let mut bench = ours.go_on(disk.clone());
    bench.record(120);
    for file in &files {
        let (file, shift) = if matches!(file, FileId::Segment(_)) {
            (*file, *file)
        } else {
            (FileId::Foreign(0), *file)
        };
        let len = card.len(shift);
        assert_eq!(
            disk.read(file, 0, len).unwrap(),
            card.read(shift, 0, len).unwrap(),
            "{name}: {} was written over",
            shift.name()
        );
    }
    assert!(
        bench.engine.ring.index().live().iter().all(|segment| segment.head.card == id),
        "{name}"
    );
    let shared: Arc<dyn Disk> = Arc::new(disk);
    let foreign =
        |problem: &super::check_report::CheckProblem| problem.what.contains("another card");
    let problems = check(&shared, |_, _| {}).unwrap().problems;
    assert!(problems.iter().any(foreign), "{name}: {problems:?}");
}

#[test]
fn no_part_of_another_card_is_taken_sent_or_written_over() {
    let mut rng = Rng::new(18);
    let ours = ring("km-17", 1, 120);
    // A card that does not say its site has as much of a voice as one of ours.
    for site in ["", "km-18"] {
        // Theirs is older in one case and newer in the other: generations and laps are lower and higher than ours.
        for seconds in [90, 200] {
            let theirs = ring(site, 2, seconds);
            PARTS.iter().for_each(|part| try_part(*part, &ours, &theirs, &mut rng));
        }
    }
}

#[test]
fn a_whole_card_goes_on_at_its_site_and_is_refused_elsewhere() {
    let bench = ring("km-17", 1, 120);
    let card = bench.disk.durable();
    let disk = FaultyDisk::with(card.clone(), None);
    let refused =
        Engine::open(Arc::new(disk.clone()), &of_site("km-18"), bench.now()).err().unwrap();
    assert!(
        matches!(refused, StorageFault::OtherSite) && refused.to_string().contains("ring export"),
        "{refused}"
    );
    assert_eq!(disk.durable().hash(), card.hash(), "and not a byte of it is touched");
    // Another board of the same site has nothing but the card.
    let (_, update) = Engine::open(Arc::new(disk), &of_site("km-17"), bench.now()).unwrap();
    assert_eq!(entries(&update).len(), 6);
    assert!(
        !update.iter().any(|update| matches!(update, StorageUpdate::Trouble { .. })),
        "{update:?}"
    );
}

#[test]
fn missing_snapshots_that_entries_wait_for_are_named() {
    let mut bench = ring("km-17", 1, 60);
    let mut card = bench.disk.durable();
    card.remove(FileId::Snapshots);
    bench.disk = FaultyDisk::with(card, None);
    assert!(
        told(&bench.disk).iter().any(|line| line.contains(snapshots::LOST)),
        "{:?}",
        told(&bench.disk)
    );
    bench.restart(of_site("km-17"));
    let names = |update: &StorageUpdate| matches!(update, StorageUpdate::Trouble { detail, lost: true } if detail == snapshots::LOST);
    assert!(bench.update.iter().any(names), "{:?}", bench.update);
}

fn checked(disk: &FaultyDisk) -> super::check_report::CheckReport {
    check(&(Arc::new(disk.clone()) as Arc<dyn Disk>), |_, _| {}).unwrap()
}

fn problems(disk: &FaultyDisk) -> Vec<String> {
    checked(disk).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn snapshots_that_were_cut_or_grew_are_named() {
    for (len, expected, lost) in [
        (0, "bytes instead of", true),
        (4096, "4096 bytes instead of", true),
        (1 << 33, "what lies behind is never read", false),
    ] {
        let mut bench = ring("km-17", 1, 60);
        let mut card = bench.disk.durable();
        let before = card.file(FileId::Snapshots).unwrap().bytes();
        card.create(FileId::Snapshots, before.len().max(len as usize).min(before.len() * 4) as u64);
        card.write(FileId::Snapshots, 0, &before);
        if lost {
            card.create(FileId::Snapshots, len);
        }
        bench.disk = FaultyDisk::with(card, None);
        let lines = problems(&bench.disk);
        assert!(
            lines.iter().any(|line| line.contains("snapshots.taimat") && line.contains(expected)),
            "{len}: {lines:?}"
        );
        let still = |bench: &Bench| {
            snapshots::read(&bench.disk, snapshot_geometry(&small()), EntryId(1)).is_ok()
        };
        assert_eq!(still(&bench), !lost);
        bench.restart(of_site("km-17"));
        let names = |update: &StorageUpdate| match update {
            StorageUpdate::Trouble { detail, lost: of_loss } => {
                detail.contains(expected) && *of_loss == lost
            }
            _ => false,
        };
        assert!(bench.update.iter().any(names), "{len}: {:?}", bench.update);
        assert_eq!(still(&bench), !lost, "a start does not throw away what is there");
    }
}

#[test]
fn an_earlier_copy_of_the_journal_is_named_and_counts_on() {
    let mut bench = super::rot_tests::stopped();
    let before = bench.disk.durable();
    let first = bench.restart(small());
    bench.record(60);
    bench.order(StorageRequest::Stop);
    let mut card = bench.disk.durable();
    copy(&before, FileId::Journal, &mut card, FileId::Journal);
    let disk = FaultyDisk::with(card, None);
    assert!(problems(&disk).iter().any(|what| what.contains("earlier copy")), "check names it");
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let read = super::recovery::read(&shared).unwrap();
    assert!(read.troubles.iter().any(|what| what.contains("earlier copy")), "list names it");
    let (_, update) = Engine::open(shared, &small(), bench.now()).unwrap();
    let named = |update: &StorageUpdate| matches!(update, StorageUpdate::Trouble { detail, lost: true } if detail.contains("earlier copy"));
    assert!(update.iter().any(named), "a start names it");
    let Some(StorageUpdate::Started(second)) = update.into_iter().next() else {
        panic!("no start")
    };
    assert_eq!(second.boot, Boot(first.boot.0 + 1), "no boot comes twice");
}

#[test]
fn a_journal_that_grew_is_read_as_it_was_made() {
    let mut bench = ring("km-17", 1, 60);
    let waiting = |disk: &FaultyDisk| checked(disk).entries;
    let entries = waiting(&bench.disk);
    assert!(entries > 0);
    let mut card = bench.disk.durable();
    let before = card.file(FileId::Journal).unwrap().bytes();
    card.create(FileId::Journal, 4 * before.len() as u64);
    card.write(FileId::Journal, 0, &before);
    bench.disk = FaultyDisk::with(card, None);
    assert_eq!(waiting(&bench.disk), entries);
    let lines = problems(&bench.disk);
    assert!(
        lines.iter().any(|line| line.contains("journal.taimat") && line.contains("never read")),
        "{lines:?}"
    );
    bench.restart(of_site("km-17"));
    assert_eq!(waiting(&bench.disk), entries);
}

#[test]
fn a_journal_some_blocks_too_short_or_too_long_is_named() {
    for blocks in [-9, -5, -2, -1, 1, 2, 5, 9] {
        let mut bench = ring("km-17", 1, 60);
        let entries = checked(&bench.disk).entries;
        let mut card = bench.disk.durable();
        let before = card.file(FileId::Journal).unwrap().bytes();
        let len = (before.len() as i64 + blocks * 4096) as usize;
        card.create(FileId::Journal, len as u64);
        card.write(FileId::Journal, 0, &before[..len.min(before.len())]);
        bench.disk = FaultyDisk::with(card, None);
        let stated = format!("has {len} bytes instead of {}", before.len());
        let lines = problems(&bench.disk);
        assert!(lines.iter().any(|line| line.contains(&stated)), "{blocks}: {lines:?}");
        bench.restart(of_site("km-17"));
        let names = |update: &StorageUpdate| match update {
            StorageUpdate::Trouble { detail, lost } => {
                detail.contains(&stated) && *lost == (blocks < 0)
            }
            _ => false,
        };
        assert!(bench.update.iter().any(names), "{blocks}: {:?}", bench.update);
        assert_eq!(checked(&bench.disk).entries, entries, "{blocks}");
    }
}

/// The numbers whose records end before byte `end` of a segment's file, and all numbers it holds.
fn numbers_before(bench: &Bench, at: usize, end: u64) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let segment = &bench.engine.ring.index().live()[at];
    let found =
        super::scan::walk(&bench.disk, segment, super::scan::ScanDepth::Content).unwrap().found;
    let (mut before, mut all) = (BTreeSet::new(), BTreeSet::new());
    for found in found {
        let super::scan::ScanItem::Record(offset, record) = found else { panic!("damaged") };
        if offset + u64::from(record.len) <= end {
            before.insert(record.seq);
        }
        all.insert(record.seq);
    }
    (before, all)
}

#[test]
fn a_segment_that_was_cut_or_grown_costs_what_was_cut_off() {
    let bench = ring("km-17", 1, 120);
    let (live, whole) = (bench.engine.ring.index().live().len(), exported(&bench.disk));
    for (at, blocks) in (0..live).flat_map(|at| [9_u64, 8, 30].map(|blocks| (at, blocks))) {
        let file = FileId::Segment(bench.engine.ring.index().live()[at].head.segment);
        let mut card = bench.disk.durable();
        let bytes = card.read(file, 0, card.len(file)).unwrap();
        let len = blocks * 4096 + 100;
        card.create(file, len);
        card.write(file, 0, &bytes[..bytes.len().min(len as usize)]);
        let disk = FaultyDisk::with(card, None);
        let (left, all) = numbers_before(&bench, at, len);
        let expected: BTreeSet<u64> =
            whole.iter().copied().filter(|seq| !all.contains(seq) || left.contains(seq)).collect();
        let name = format!("segment {at} with {len} bytes");
        assert_eq!(exported(&disk), expected, "{name}");
        assert!(
            told(&disk).iter().any(|line| line.starts_with(&file.name()) && line.contains("bytes")),
            "{name}: {:?}",
            told(&disk)
        );
        let mut after = bench.go_on(disk.clone());
        assert_eq!(exported(&disk), expected, "{name}: after a start");
        after.record(8);
        let new: BTreeSet<u64> = exported(&disk).difference(&whole).copied().collect();
        assert!(new.len() >= 3, "{name}: no number is given twice");
    }
}

#[test]
fn damage_in_the_newest_segment_is_told_at_one_start_only() {
    let records = |bench: &Bench| {
        let index = super::head_selection::heads(&bench.disk).unwrap().index;
        super::scan::walk(
            &bench.disk,
            index.live().last().unwrap(),
            super::scan::ScanDepth::Records,
        )
        .unwrap()
        .found
        .len()
    };
    let mut bench =
        (120..).map(|seconds| ring("km-17", 1, seconds)).find(|bench| records(bench) > 2).unwrap();
    let (file, at) = {
        let live = bench.engine.ring.index().live();
        let newest = live.last().unwrap();
        let found =
            super::scan::walk(&bench.disk, newest, super::scan::ScanDepth::Records).unwrap().found;
        let super::scan::ScanItem::Record(offset, _) = found[0] else { panic!() };
        (FileId::Segment(newest.head.segment), offset + 300)
    };
    let byte = bench.disk.read(file, at, 1).unwrap()[0];
    bench.disk.write(file, at, &[byte ^ 1]).unwrap();
    bench.disk.sync(file).unwrap();
    let damage = |found: &Recovered| {
        found.repairs.iter().filter(|repair| repair.kind == RepairKind::Damaged).count()
    };
    assert_eq!(damage(&bench.restart(of_site("km-17"))), 1);
    bench.record(2);
    let counts = bench.update.iter().find_map(|update| {
        if let StorageUpdate::Counts(counts) = update { Some(*counts) } else { None }
    });
    assert_eq!(counts.unwrap().damaged, 1, "counted");
    bench.order(StorageRequest::Stop);
    assert_eq!(damage(&bench.restart(of_site("km-17"))), 0, "the next start tells it again");
}
