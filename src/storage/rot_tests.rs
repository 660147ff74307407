//! Rot and absence: a bit that turned over somewhere in a ring, a segment file that is gone, two that have each other's names. Each is
//! told, and costs at most the record it hits.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::check::check;
use super::disk::{Disk, FileId};
use super::engine_tests::{Bench, small};
use super::format::{BLOCK, padded};
use super::locate::locate;
use super::recovery::look;
use super::start::still_geometry;
use super::thread::Reader;
use super::walk::{Depth, Found, walk};
use super::*;
use crate::clip::FileSource as _;
use crate::clip::assemble::Clip;
use crate::sim::card::Card;
use crate::sim::disk::SimDisk;
use crate::sim::rng::Rng;

/// Places that are tried.
const PLACES: u64 = 500;

/// A ring that was stopped in order, in its second lap, with entries and snapshots that wait.
pub(super) fn stopped() -> Bench {
    let mut bench = Bench::new(small());
    for ticket in 1..=6 {
        let still = (ticket <= 2).then(|| vec![ticket as u8; 9000]);
        bench.order(StorageOrder::Enqueue { ticket: Ticket(ticket), entry: vec![ticket as u8; 700], still });
    }
    bench.order(StorageOrder::Release { tickets: vec![Ticket(4)] });
    bench.record(120);
    bench.order(StorageOrder::Stop);
    bench
}

/// Everything that is covered: what was written and means something.
fn covered(disk: &SimDisk) -> Vec<(FileId, Range<u64>)> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut places = Vec::new();
    for segment in look(&shared).unwrap().index.live() {
        let file = FileId::Segment(segment.head.segment);
        places.push((file, 0..segment.head_len.min(600)));
        let walked = walk(disk, segment, Depth::Content).unwrap();
        for found in &walked.found {
            let Found::Record(at, record) = found else { panic!("damaged") };
            let (end, padded) = (at + u64::from(record.len), at + padded(record.len.into()));
            places.push((file, *at..(end + 8).min(padded)));
        }
        if walked.at < segment.end {
            places.push((file, walked.at..walked.at + 8));
        }
        places.push((file, segment.end..segment.end + 500));
    }
    for (file, len) in disk.files().unwrap() {
        let blocks =
            (0..len).step_by(BLOCK as usize).filter(|at| disk.read(file, *at, 4096).unwrap().iter().any(|byte| *byte != 0));
        match file {
            FileId::Segment(_) | FileId::Foreign(_) => {}
            FileId::Journal => places.extend(blocks.map(|at| (file, at..at + BLOCK))),
            FileId::Stills => {
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

/// What `ring check` tells, every line of it.
pub(super) fn told(disk: &SimDisk) -> Vec<String> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let checked = check(&shared, |_, _| {}).unwrap();
    checked.torn.iter().chain(&checked.problems).map(ToString::to_string).collect()
}

/// The numbers of all fragments that an export of everything holds, each read whole.
pub(super) fn exported(disk: &SimDisk) -> BTreeSet<u64> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let index = look(&shared).unwrap().index;
    let reader = Arc::new(Reader::new(shared.clone(), still_geometry(&small())));
    let (mut after, mut seqs) = (0, BTreeSet::new());
    let query = |after| SpanQuery::Wall { from: Wall(i64::MIN), to: Wall(i64::MAX), after };
    while let Some(span) = locate(disk, &index, u64::MAX, &query(after)).unwrap() {
        let more = span.more;
        after = span.fragments.last().unwrap().seq;
        let unreadable = span.unreadable(reader.as_ref());
        if let Some(span) = span.without(&unreadable) {
            let clip = Clip::assemble(&span, b"{}", reader.clone());
            clip.read(0, clip.len() as u32).unwrap();
            seqs.extend(span.fragments.iter().map(|fragment| fragment.seq));
        }
        if !more {
            break;
        }
    }
    seqs
}

fn flipped(card: &Card, file: FileId, at: u64, bit: u64) -> SimDisk {
    let mut card = card.clone();
    let byte = card.read(file, at as usize, 1).unwrap()[0];
    card.write(file, at as usize, &[byte ^ (1 << bit)]);
    SimDisk::with(card, None)
}

#[test]
fn one_bit_in_500_covered_places_is_told_and_costs_at_most_its_record() {
    let bench = stopped();
    let card = bench.disk.durable();
    let (places, whole) = (covered(&bench.disk), exported(&bench.disk));
    assert!(told(&bench.disk).is_empty() && whole.len() > 40, "{} {:?}", whole.len(), told(&bench.disk));
    let (mut rng, mut untold, mut lost) = (Rng::new(18), Vec::new(), Vec::new());
    for _ in 0..PLACES {
        let (file, range) = &places[rng.below(places.len() as u64) as usize];
        let (at, bit) = (range.start + rng.below(range.end - range.start), rng.below(8));
        let disk = flipped(&card, *file, at, bit);
        if told(&disk).is_empty() {
            untold.push((*file, at));
        }
        let gone = whole.difference(&exported(&disk)).count();
        if gone > 1 {
            lost.push((*file, at, gone));
        }
    }
    assert!(untold.is_empty() && lost.is_empty(), "{} untold {untold:?}, {} cost more {lost:?}", untold.len(), lost.len());
}

#[test]
fn a_bit_in_any_place_costs_a_start_at_most_one_record() {
    let bench = stopped();
    let card = bench.disk.durable();
    let (places, whole) = (covered(&bench.disk), exported(&bench.disk));
    let mut rng = Rng::new(19);
    let mut wrong = Vec::new();
    for _ in 0..200 {
        let (file, range) = &places[rng.below(places.len() as u64) as usize];
        let at = range.start + rng.below(range.end - range.start);
        let disk = flipped(&card, *file, at, rng.below(8));
        super::engine::Engine::open(Arc::new(disk.clone()), &small(), Stamp::default()).unwrap();
        let gone = whole.difference(&exported(&disk)).count();
        if gone > 1 {
            wrong.push((*file, at, gone));
        }
    }
    assert!(wrong.is_empty(), "{} cost more: {wrong:?}", wrong.len());
}

#[test]
fn the_scrub_tells_rot_once_and_writes_a_rotten_copy_again() {
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
    bench.news.clear();
    for _ in 0..20 {
        bench.wait(3_600_000_000);
        (0..100).for_each(|_| bench.wait(1_000_000));
    }
    let repair =
        |news: &StorageNews| if let StorageNews::Repaired(repair) = news { Some((repair.kind, repair.offset)) } else { None };
    let told: Vec<_> = bench.news.iter().filter_map(repair).collect();
    assert_eq!(told, [(RepairKind::Copy, end), (RepairKind::Damaged, at)]);
    let counts =
        bench.news.iter().rev().find_map(|news| if let StorageNews::Counts(counts) = news { Some(*counts) } else { None });
    assert!(counts.is_some_and(|counts| counts.scrubbed >= 15 && counts.damaged == 1), "{counts:?}");
}

#[test]
fn a_card_of_the_first_format_is_refused_with_the_way_out() {
    let bench = stopped();
    let mut card = bench.disk.durable();
    let file = FileId::Segment(0);
    let head = card.read(file, 0, 4096).unwrap();
    let at = head.windows(14).position(|bytes| bytes == b"taimat-segm-v2").unwrap();
    card.write(file, at + 13, b"1");
    let disk = SimDisk::with(card.clone(), None);
    let refused = super::engine::Engine::open(Arc::new(disk.clone()), &small(), Stamp::default()).err().unwrap().to_string();
    assert!(refused.contains("seg-00000.mp4") && refused.contains("ring export"), "{refused}");
    assert_eq!(disk.durable().hash(), card.hash(), "and not a byte of it is touched");
    assert!(told(&disk).iter().any(|line| line.contains("older taimat")));
}

#[test]
fn a_head_that_could_not_be_read_again_is_a_named_hole_and_never_written() {
    let mut bench = Bench::new(small());
    bench.record(30);
    let mut track = crate::camera::TrackParams::clone(&super::format::tests::video(2));
    track.annex_b = vec![7; 70_000];
    bench.stream(&Arc::new(track), 20);
    bench.record(10);
    let tells = |news: &StorageNews| matches!(news, StorageNews::Hole(gap) if gap.reason == GapReason::TooLarge);
    assert_eq!(bench.news.iter().filter(|news| tells(news)).count(), 1);
    bench.is_whole();
}

#[test]
fn a_segment_file_that_is_gone_is_named() {
    let bench = stopped();
    let files: Vec<FileId> = bench.disk.files().unwrap().into_keys().filter(|file| matches!(file, FileId::Segment(_))).collect();
    for file in files {
        let mut card = bench.disk.durable();
        card.remove(file);
        let told = told(&SimDisk::with(card, None));
        assert!(told.iter().any(|line| line.contains("missing")), "{}: {told:?}", file.name());
    }
}

#[test]
fn two_segments_that_changed_names_are_named_and_nothing_is_lost() {
    let bench = stopped();
    let whole = exported(&bench.disk);
    let count = bench.disk.files().unwrap().len() as u32 - 2;
    for (one, other) in (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other))) {
        let mut card = bench.disk.durable();
        card.exchange(FileId::Segment(one), FileId::Segment(other));
        let disk = SimDisk::with(card, None);
        assert_eq!(told(&disk).iter().filter(|line| line.contains("name")).count(), 2, "{one} and {other}: {:?}", told(&disk));
        assert_eq!(exported(&disk), whole, "{one} and {other}");
        super::engine::Engine::open(Arc::new(disk.clone()), &small(), Stamp::default()).unwrap();
        assert_eq!(exported(&disk), whole, "{one} and {other} after a start");
    }
}
