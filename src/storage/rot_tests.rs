//! Bit rot and missing files: each is reported and costs at most the record it hits.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::check::check;
use super::check_report::Remedy;
use super::disk::{Disk, FileId};
use super::engine_tests::{Bench, small};
use super::footage_query::locate;
use super::open::snapshot_geometry;
use super::recovery::read;
use super::scan::{ScanDepth, ScanItem, walk};
use super::thread::CardReader;
use super::*;
use crate::clip::FileSource as _;
use crate::clip::virtual_file::VirtualClip;
use crate::format::block::{BLOCK, padded};
use crate::sim::cow_image::CowImage;
use crate::sim::faulty_disk::FaultyDisk;
use crate::sim::rng::Rng;
use crate::units::Timestamp;

/// Number of places tried.
const PLACES: u64 = 500;

/// A ring in its second lap after an orderly stop, with pending entries and snapshots.
pub(super) fn stopped() -> Bench {
    let mut bench = Bench::new(small());
    for entry_id in 1..=6 {
        let snapshot = (entry_id <= 2).then(|| vec![entry_id as u8; 9000]);
        bench.order(StorageRequest::Enqueue {
            entry_id: EntryId(entry_id),
            entry: vec![entry_id as u8; 700],
            snapshot,
        });
    }
    bench.order(StorageRequest::Release { entry_ids: vec![EntryId(4)] });
    bench.record(120);
    bench.order(StorageRequest::Stop);
    bench
}

/// The ranges of the ring that a checksum or a comparison covers.
fn covered(disk: &FaultyDisk) -> Vec<(FileId, Range<u64>)> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut places = Vec::new();
    for segment in read(&shared).unwrap().index.live() {
        let file = FileId::Segment(segment.head.segment);
        places.push((file, 0..segment.head_len.min(600)));
        let walked = walk(disk, segment, ScanDepth::Content).unwrap();
        for found in &walked.found {
            let ScanItem::Record(at, record) = found else { panic!("damaged") };
            let (end, padded) = (at + u64::from(record.len), at + padded(record.len.into()));
            places.push((file, *at..(end + 8).min(padded)));
        }
        if walked.at < segment.end {
            places.push((file, walked.at..walked.at + 8));
        }
        places.push((file, segment.end..segment.end + 500));
    }
    for (file, len) in disk.files().unwrap() {
        let blocks = (0..len)
            .step_by(BLOCK as usize)
            .filter(|at| disk.read(file, *at, 4096).unwrap().iter().any(|byte| *byte != 0));
        match file {
            FileId::Segment(_) | FileId::Foreign(_) => {}
            FileId::Journal => places.extend(blocks.map(|at| (file, at..at + BLOCK))),
            FileId::Snapshots => {
                for slot in 0..2 {
                    let at = slot * u64::from(small().still_bytes);
                    places.push((file, at..at + 24));
                    places.push((file, at + 2048..at + 2048 + 24));
                    places.push((file, at + BLOCK..at + BLOCK + 9000));
                }
            }
        }
    }
    places
}

/// The lines that `taimat ring check` reports.
pub(super) fn told(disk: &FaultyDisk) -> Vec<String> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let checked = check(&shared, |_, _| {}).unwrap();
    checked.torn.iter().chain(&checked.problems).map(ToString::to_string).collect()
}

/// The record numbers in an export of the whole ring; each record is read and verified.
pub(super) fn exported(disk: &FaultyDisk) -> BTreeSet<u64> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let index = read(&shared).unwrap().index;
    let reader = Arc::new(CardReader::new(shared.clone(), snapshot_geometry(&small())));
    let (mut after, mut seqs) = (0, BTreeSet::new());
    let query = |after| SpanQuery::Wall { from: WallTime(i64::MIN), to: WallTime(i64::MAX), after };
    while let Some(span) = locate(disk, &index, u64::MAX, &query(after)).unwrap() {
        let more = span.more;
        after = span.fragments.last().unwrap().seq;
        let unreadable = span.unreadable(reader.as_ref());
        if let Some(span) = span.without(&unreadable) {
            let clip = VirtualClip::assemble(&span, b"{}", reader.clone());
            clip.read(0, clip.len() as u32).unwrap();
            seqs.extend(span.fragments.iter().map(|fragment| fragment.seq));
        }
        if !more {
            break;
        }
    }
    seqs
}

fn flipped(card: &CowImage, file: FileId, at: u64, bit: u64) -> FaultyDisk {
    let mut card = card.clone();
    let byte = card.read(file, at as usize, 1).unwrap()[0];
    card.write(file, at as usize, &[byte ^ (1 << bit)]);
    FaultyDisk::with(card, None)
}

#[test]
fn a_flipped_bit_is_reported_and_costs_at_most_its_record() {
    let bench = stopped();
    let card = bench.disk.durable();
    let (places, whole) = (covered(&bench.disk), exported(&bench.disk));
    assert!(
        told(&bench.disk).is_empty() && whole.len() > 40,
        "{} {:?}",
        whole.len(),
        told(&bench.disk)
    );
    let (mut rng, mut unreported, mut lost) = (Rng::new(18), Vec::new(), Vec::new());
    for _ in 0..PLACES {
        let (file, range) = &places[rng.below(places.len() as u64) as usize];
        let (at, bit) = (range.start + rng.below(range.end - range.start), rng.below(8));
        let disk = flipped(&card, *file, at, bit);
        if told(&disk).is_empty() {
            unreported.push((*file, at));
        }
        let gone = whole.difference(&exported(&disk)).count();
        if gone > 1 {
            lost.push((*file, at, gone));
        }
    }
    assert!(
        unreported.is_empty() && lost.is_empty(),
        "{} unreported {unreported:?}, {} cost more than a record {lost:?}",
        unreported.len(),
        lost.len()
    );
}

#[test]
fn a_flipped_bit_costs_a_boot_at_most_one_record() {
    let bench = stopped();
    let card = bench.disk.durable();
    let (places, whole) = (covered(&bench.disk), exported(&bench.disk));
    let mut rng = Rng::new(19);
    let mut wrong = Vec::new();
    for _ in 0..200 {
        let (file, range) = &places[rng.below(places.len() as u64) as usize];
        let at = range.start + rng.below(range.end - range.start);
        let disk = flipped(&card, *file, at, rng.below(8));
        super::engine::Engine::open(Arc::new(disk.clone()), &small(), Timestamp::default())
            .unwrap();
        let gone = whole.difference(&exported(&disk)).count();
        if gone > 1 {
            wrong.push((*file, at, gone));
        }
    }
    assert!(wrong.is_empty(), "{} cost more than a record: {wrong:?}", wrong.len());
}

#[test]
fn the_scrub_reports_rot_once_and_repairs_a_copy() {
    let mut bench = Bench::new(small());
    bench.record(60);
    let (file, end, at) = {
        let live = bench.engine.ring.index().live();
        (FileId::Segment(live[0].head.segment), live[0].end, live[0].head_len)
    };
    for at in [at + 3000, end + 40] {
        let byte = bench.disk.read(file, at, 1).unwrap()[0];
        bench.disk.write(file, at, &[byte ^ 4]).unwrap();
        bench.disk.sync(file).unwrap();
    }
    bench.update.clear();
    for _ in 0..20 {
        bench.wait(3_600_000_000);
        (0..100).for_each(|_| bench.wait(1_000_000));
    }
    let repair = |update: &StorageUpdate| {
        if let StorageUpdate::Repaired(repair) = update {
            Some((repair.kind, repair.offset))
        } else {
            None
        }
    };
    let reported: Vec<_> = bench.update.iter().filter_map(repair).collect();
    assert_eq!(reported, [(RepairKind::Copy, end), (RepairKind::Damaged, at)]);
    let counts = bench.update.iter().rev().find_map(|update| {
        if let StorageUpdate::Counts(counts) = update { Some(*counts) } else { None }
    });
    assert!(
        counts.is_some_and(|counts| counts.scrubbed >= 15 && counts.damaged == 1),
        "{counts:?}"
    );
}

#[test]
fn a_card_of_format_1_is_rejected_with_a_remedy() {
    let bench = stopped();
    let mut card = bench.disk.durable();
    let file = FileId::Segment(0);
    let head = card.read(file, 0, 4096).unwrap();
    let at = head.windows(14).position(|bytes| bytes == b"taimat-segm-v2").unwrap();
    card.write(file, at + 13, b"1");
    let disk = FaultyDisk::with(card.clone(), None);
    let refused =
        super::engine::Engine::open(Arc::new(disk.clone()), &small(), Timestamp::default())
            .err()
            .unwrap()
            .to_string();
    assert!(refused.contains("seg-00000.mp4") && refused.contains("ring export"), "{refused}");
    assert_eq!(disk.durable().hash(), card.hash(), "the card was modified");
    assert!(told(&disk).iter().any(|line| line.contains("older taimat")));
}

#[test]
fn tracks_too_large_for_a_head_are_reported_as_one_gap() {
    let mut bench = Bench::new(small());
    bench.record(30);
    let mut track = crate::camera::TrackParams::clone(&crate::format::record::tests::video(2));
    track.annex_b = vec![7; 70_000];
    bench.stream(&Arc::new(track), 20);
    bench.record(10);
    let is_gap = |update: &StorageUpdate| matches!(update, StorageUpdate::Gap(gap) if gap.reason == GapReason::TooLarge);
    assert_eq!(bench.update.iter().filter(|update| is_gap(update)).count(), 1);
    bench.is_whole();
}

#[test]
fn a_deleted_segment_file_is_reported() {
    let bench = stopped();
    let files: Vec<FileId> = bench
        .disk
        .files()
        .unwrap()
        .into_keys()
        .filter(|file| matches!(file, FileId::Segment(_)))
        .collect();
    for file in files {
        let mut card = bench.disk.durable();
        card.remove(file);
        let told = told(&FaultyDisk::with(card, None));
        assert!(told.iter().any(|line| line.contains("missing")), "{}: {told:?}", file.name());
    }
}

#[test]
fn a_rotten_copy_is_mended_by_a_start_and_a_record_is_not() {
    let bench = stopped();
    let shared: Arc<dyn Disk> = Arc::new(bench.disk.clone());
    let first = read(&shared).unwrap().index.live()[0].clone();
    let file = FileId::Segment(first.head.segment);
    for (at, remedy) in [
        (40, Remedy::Start),
        (first.end + 40, Remedy::Start),
        (first.head_len + 3000, Remedy::Export),
    ] {
        let shared: Arc<dyn Disk> = Arc::new(flipped(&bench.disk.durable(), file, at, 2));
        let problems = check(&shared, |_, _| {}).unwrap().problems;
        assert!(
            !problems.is_empty() && problems.iter().all(|problem| problem.remedy == remedy),
            "{at}: {problems:?}"
        );
    }
}

#[test]
fn a_segment_removed_by_hand_is_not_called_evicted() {
    let bench = stopped();
    let shared: Arc<dyn Disk> = Arc::new(bench.disk.clone());
    let middle = read(&shared).unwrap().index.live()[3].head.segment;
    let mut card = bench.disk.durable();
    card.remove(FileId::Segment(middle));
    let shared: Arc<dyn Disk> = Arc::new(FaultyDisk::with(card, None));
    let checked = check(&shared, |_, _| {}).unwrap();
    assert_eq!((checked.evicted, checked.problems.is_empty()), (0, false));
}

#[test]
fn two_exchanged_segments_are_reported_and_cost_nothing() {
    let bench = stopped();
    let whole = exported(&bench.disk);
    let count = bench.disk.files().unwrap().len() as u32 - 2;
    for (one, other) in (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other))) {
        let mut card = bench.disk.durable();
        card.exchange(FileId::Segment(one), FileId::Segment(other));
        let disk = FaultyDisk::with(card, None);
        assert_eq!(
            told(&disk).iter().filter(|line| line.contains("name")).count(),
            2,
            "{one} and {other}: {:?}",
            told(&disk)
        );
        assert_eq!(exported(&disk), whole, "{one} and {other}");
        super::engine::Engine::open(Arc::new(disk.clone()), &small(), Timestamp::default())
            .unwrap();
        assert_eq!(exported(&disk), whole, "{one} and {other} after a start");
    }
}
