//! Regression tests for power cuts that [`crate::sim::crash_explorer`] found.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use super::disk::FileId;
use super::engine::Engine;
use super::journal::Journal;
use super::journal_layout::file_len;
use super::scan::{ScanDepth, ScanEnd, walk};
use super::*;
use crate::format::card_id::CardId;
use crate::sim::cow_image::{Choices, erase_block};
use crate::sim::faulty_disk::FaultyDisk;
use crate::sim::rng::Rng;
use crate::sim::strict_reader;
use crate::sim::workload::{Workload, settings, stamp};
use crate::units::EntryId;

/// A ring and a camera that never stops.
struct Harness {
    disk: FaultyDisk,
    engine: Engine,
    script: Workload,
    update: Vec<StorageUpdate>,
}

fn opened() -> Harness {
    let (disk, script) = (FaultyDisk::new(None), Workload::new(1));
    let (engine, update) =
        Engine::open(Arc::new(disk.clone()), &settings(), stamp(script.now)).unwrap();
    Harness { disk, engine, script, update }
}

impl Harness {
    fn pictures(&mut self, n: usize) {
        for _ in 0..n {
            self.engine.frame(&self.script.picture(), &mut self.update);
        }
    }

    /// Loses everything that was not flushed; the power is back three seconds later.
    fn cut(&mut self) {
        self.disk.power_on_with(self.disk.durable());
        self.script.pass(3_000_000);
        self.script.restart();
        self.start();
    }

    fn start(&mut self) {
        let (engine, update) =
            Engine::open(Arc::new(self.disk.clone()), &settings(), stamp(self.script.now)).unwrap();
        self.engine = engine;
        self.update = update;
    }

    fn found(&self) -> &Recovered {
        let found = self.update.iter().find_map(|update| {
            if let StorageUpdate::Started(found) = update { Some(found) } else { None }
        });
        found.unwrap()
    }

    fn entry_ids(&self) -> Vec<u64> {
        self.found().entries.iter().map(|(entry_id, _)| entry_id.0).collect()
    }

    fn order(&mut self, order: StorageRequest) {
        self.engine.request(stamp(self.script.now), order, &mut self.update);
    }

    fn enqueue(&mut self, entry_id: u64) -> bool {
        self.order(StorageRequest::Enqueue {
            entry_id: EntryId(entry_id),
            entry: vec![entry_id as u8; 900],
            snapshot: None,
        });
        self.update.contains(&StorageUpdate::Enqueued { entry_id: EntryId(entry_id) })
    }

    /// Times between consecutive records without footage and without a gap, milliseconds.
    fn silent(&self) -> Vec<i64> {
        let index = head_selection::heads(&self.disk).unwrap().index;
        let mut spans = Vec::new();
        for segment in index.live() {
            for found in scan::walk(&self.disk, segment, scan::ScanDepth::Content).unwrap().found {
                let scan::ScanItem::Record(_, record) = found else { panic!("damaged") };
                let end = record
                    .gap
                    .map_or(record.start.wall.plus_micros(record.duration as i64), |(to, ..)| {
                        to.wall
                    });
                spans.push((record.start.wall.0, end.0));
            }
        }
        spans.sort_unstable();
        let mut reach = spans[0].0;
        let mut silent = Vec::new();
        for (from, to) in spans {
            silent.extend((from > reach + 50_000).then_some((from - reach) / 1000));
            reach = reach.max(to);
        }
        silent
    }
}

#[test]
fn every_segment_is_playable_after_any_torn_write() {
    for seed in 1..6 {
        let (disk, mut script, mut out) = (FaultyDisk::new(None), Workload::new(seed), Vec::new());
        let (mut engine, _) =
            Engine::open(Arc::new(disk.clone()), &settings(), stamp(script.now)).unwrap();
        disk.take_points();
        for _ in 0..300 {
            engine.frame(&script.picture(), &mut out);
        }
        for point in disk.take_points() {
            let choices = Choices::new(&point.durable, &point.pending);
            for number in 0..choices.outcomes().min(64) {
                let disk = FaultyDisk::with(choices.outcome(&point.durable, number), None);
                Engine::open(Arc::new(disk.clone()), &settings(), stamp(script.now)).unwrap();
                for (file, pages) in
                    disk.live().files().filter(|(file, _)| matches!(file, FileId::Segment(_)))
                {
                    let tear = strict_reader::read(&pages.bytes()).tear;
                    assert_eq!(
                        tear,
                        None,
                        "seed {seed}, {file:?}, outcome {number} of {}",
                        choices.outcomes()
                    );
                }
            }
        }
    }
}

#[test]
fn gathered_footage_is_written_before_the_gap_behind_it() {
    for pictures in 5..15 {
        let mut ring = opened();
        ring.pictures(pictures);
        let (from, to) = (stamp(ring.script.now), stamp(ring.script.now + 300_000));
        ring.order(StorageRequest::NoteGap(Gap {
            from,
            to,
            reason: GapReason::CameraDown,
            bytes: 0,
        }));
        ring.cut();
        ring.pictures(40);
        assert_eq!(ring.silent(), [0_i64; 0], "ms without a gap after {pictures} frames");
    }
}

#[test]
fn a_gap_before_the_first_frame_hides_no_other_gap() {
    let mut ring = opened();
    ring.pictures(40);
    ring.cut();
    let from = stamp(ring.script.now);
    ring.script.pass(400_000);
    let to = stamp(ring.script.now);
    ring.order(StorageRequest::NoteGap(Gap { from, to, reason: GapReason::CameraDown, bytes: 0 }));
    ring.cut();
    ring.pictures(40);
    assert_eq!(ring.silent(), [0_i64; 0], "ms without a gap");
}

#[test]
fn a_journal_can_lose_each_copy_in_turn() {
    let mut ring = opened();
    (1..=5).for_each(|entry_id| assert!(ring.enqueue(entry_id)));
    for copy in [0, 4 << 20] {
        let mut card = ring.disk.durable();
        card.spoil(
            FileId::Journal,
            erase_block(FileId::Journal, copy, false),
            &Arc::new([0xff; 4096]),
        );
        ring.disk.power_on_with(card);
        ring.start();
        assert_eq!(ring.entry_ids(), [1, 2, 3, 4, 5]);
    }
}

#[test]
fn an_entry_offered_twice_is_stored_once() {
    for flush in 1..=2 {
        let mut ring = opened();
        ring.enqueue(1);
        ring.disk.fail_sync_after(flush, &mut Rng::new(flush));
        assert!(!ring.enqueue(2) && ring.enqueue(2));
        ring.start();
        assert_eq!(ring.entry_ids(), [1, 2], "flush {flush}");
        ring.order(StorageRequest::Release { entry_ids: vec![EntryId(1), EntryId(2)] });
        ring.order(StorageRequest::Stop);
        ring.cut();
        assert_eq!(ring.entry_ids(), [0; 0], "flush {flush}");
    }
}

#[test]
fn a_cell_survives_a_failed_flush_and_a_power_cut() {
    for seed in 0..20 {
        let mut ring = opened();
        let save = |ring: &mut Harness, byte| {
            ring.order(StorageRequest::SaveCell { cell: Cell::Login, bytes: vec![byte; 900] });
        };
        save(&mut ring, 1);
        ring.disk.fail_sync_after(2, &mut Rng::new(seed));
        save(&mut ring, 2);
        ring.disk.take_points();
        save(&mut ring, 3);
        for point in ring.disk.take_points() {
            let choices = Choices::new(&point.durable, &point.pending);
            for number in 0..choices.outcomes() {
                ring.disk.power_on_with(choices.outcome(&point.durable, number));
                ring.start();
                let cell = ring.found().cells.first().map(|(_, bytes)| bytes.len());
                assert_eq!(
                    cell,
                    Some(900),
                    "seed {seed}, outcome {number} of {}",
                    choices.outcomes()
                );
            }
        }
    }
}

#[test]
fn a_gap_record_moved_to_another_file_keeps_its_tracks() {
    for flush in 1..=2 {
        let mut ring = opened();
        ring.pictures(40);
        ring.disk.fail_sync_after(flush, &mut Rng::new(1));
        let (from, to) = (stamp(ring.script.now), stamp(ring.script.now + 300_000));
        ring.order(StorageRequest::NoteGap(Gap {
            from,
            to,
            reason: GapReason::FellBehind,
            bytes: 0,
        }));
        let index = head_selection::heads(&ring.disk).unwrap().index;
        assert!(
            index.live().iter().all(|segment| !segment.head.tracks.is_empty()),
            "a segment without tracks is not playable"
        );
    }
}

#[test]
fn a_boot_with_a_failed_flush_keeps_the_boot_number() {
    for seed in 0..20 {
        let mut ring = opened();
        ring.enqueue(1);
        ring.disk.fail_sync_after(1, &mut Rng::new(seed));
        let open = |disk: FaultyDisk| {
            Engine::open(Arc::new(disk), &settings(), stamp(1)).map(|(_, update)| update)
        };
        assert!(open(ring.disk.clone()).is_err());
        ring.disk.take_points();
        open(ring.disk.clone()).unwrap();
        for point in ring.disk.take_points() {
            let choices = Choices::new(&point.durable, &point.pending);
            for number in 0..choices.outcomes() {
                ring.disk.power_on_with(choices.outcome(&point.durable, number));
                ring.start();
                assert!(ring.found().boot > Boot(1), "seed {seed}: the boot number was lost");
            }
        }
    }
}

#[test]
fn a_record_found_after_a_kill_survives_a_power_cut() {
    let mut ring = opened();
    ring.disk.take_points();
    ring.pictures(60);
    for point in ring.disk.take_points() {
        let disk = FaultyDisk::new(None);
        disk.killed_at(&point);
        let last =
            |disk: &FaultyDisk| match &Engine::open(Arc::new(disk.clone()), &settings(), stamp(1))
                .unwrap()
                .1[0]
            {
                StorageUpdate::Started(found) => found.last_seq,
                other => panic!("{other:?}"),
            };
        let found = last(&disk);
        disk.power_on_with(disk.durable());
        assert_eq!(last(&disk), found);
    }
}

#[test]
fn an_entry_reported_at_boot_is_in_both_copies() {
    let mut ring = opened();
    ring.enqueue(1);
    ring.disk.fail_sync_after(2, &mut Rng::new(1));
    assert!(!ring.enqueue(2));
    ring.start();
    let reported = ring.entry_ids();
    let mut card = ring.disk.durable();
    card.spoil(FileId::Journal, erase_block(FileId::Journal, 0, false), &Arc::new([0xff; 4096]));
    ring.disk.power_on_with(card);
    ring.start();
    assert_eq!(ring.entry_ids(), reported);
}

/// Number of records that a query by number finds.
fn readable(ring: &mut Harness, last: u64) -> usize {
    let (mut after, mut count) = (0, 0);
    while after < last {
        let query = SpanQuery::Seq { first: after + 1, last };
        ring.order(StorageRequest::Locate { pin: PinId(1), class: PinClass::Event, query });
        let Some(StorageUpdate::Located { span: Some(span), .. }) = ring.update.pop() else {
            break;
        };
        count += span.fragments.len();
        after = span.fragments.last().unwrap().seq;
    }
    count
}

#[test]
fn a_single_read_error_at_boot_costs_no_footage() {
    let mut ring = opened();
    ring.pictures(80);
    ring.cut();
    let last = ring.found().last_seq;
    let whole = readable(&mut ring, last);
    for read in 3..40 {
        ring.disk.fail_read_after(read);
        let opened = Engine::open(Arc::new(ring.disk.clone()), &settings(), stamp(ring.script.now));
        ring.disk.fail_read_after(u64::MAX);
        let Ok((engine, update)) = opened else { continue };
        ring.engine = engine;
        ring.update = update;
        assert_eq!(
            (ring.found().last_seq, readable(&mut ring, last)),
            (last, whole),
            "read {read}"
        );
    }
}

#[test]
fn a_read_error_during_repair_leaves_no_torn_file() {
    let mut ring = opened();
    ring.pictures(80);
    let newest = |disk: &FaultyDisk| {
        head_selection::heads(disk).unwrap().index.live().last().unwrap().clone()
    };
    let ends = |disk: &FaultyDisk| walk(disk, &newest(disk), ScanDepth::Content).unwrap();
    while ends(&ring.disk).at + 8192 > newest(&ring.disk).end {
        ring.pictures(1);
    }
    let mut card = ring.disk.durable();
    let file = FileId::Segment(newest(&ring.disk).head.segment);
    card.write(file, ends(&ring.disk).at as usize, &[0x55; 4096]);
    for read in 1..60 {
        let disk = FaultyDisk::new(None);
        disk.power_on_with(card.clone());
        assert_eq!(ends(&disk).end, ScanEnd::Torn);
        disk.fail_read_after(read);
        let open = || Engine::open(Arc::new(disk.clone()), &settings(), stamp(ring.script.now));
        let opened = open();
        disk.fail_read_after(u64::MAX);
        // A failed start is followed by another one.
        let _running = opened.or_else(|_| open()).unwrap();
        assert_eq!(ends(&disk).end, ScanEnd::Free, "read {read}");
    }
}

#[test]
fn records_behind_a_bad_sector_keep_their_numbers() {
    let mut ring = opened();
    ring.pictures(80);
    ring.cut();
    let last = ring.found().last_seq;
    let index = head_selection::heads(&ring.disk).unwrap().index;
    let newest = FileId::Segment(index.live().last().unwrap().head.segment);
    ring.disk.fail_reads_of(newest, 4096..4608);
    ring.start();
    assert!(ring.found().last_seq >= last);
    ring.pictures(40);
    ring.disk.fail_reads_of(newest, 0..0);
    ring.start();
    assert!(readable(&mut ring, last) > 0 && ring.found().last_seq > last);
    let before = index.live().last().unwrap().head.first_seq;
    ring.order(StorageRequest::Locate {
        pin: PinId(1),
        class: PinClass::Event,
        query: SpanQuery::Seq { first: before, last },
    });
    let Some(StorageUpdate::Located { span: Some(span), .. }) = ring.update.pop() else {
        panic!("the records are lost")
    };
    assert!(
        span.fragments.iter().all(|fragment| FileId::Segment(fragment.segment) == newest),
        "other records have their numbers"
    );
}

#[test]
fn a_snapshot_in_two_slots_is_read_from_the_whole_one() {
    let geometry = open::snapshot_geometry(&settings());
    for torn in 0..2 {
        let ring = opened();
        let mut snapshots = snapshots::SnapshotStore::open(
            Arc::new(ring.disk.clone()),
            CardId::default(),
            geometry,
            None,
            &[],
        )
        .unwrap();
        for _ in 0..2 {
            snapshots.store(EntryId(7), &[7; 3000]).unwrap();
        }
        let mut card = ring.disk.durable();
        card.write(FileId::Snapshots, torn * geometry.bytes as usize + 5000, &[0; 500]);
        ring.disk.power_on_with(card);
        let len = u64::from(geometry.slots) * geometry.bytes;
        let mut snapshots = snapshots::SnapshotStore::open(
            Arc::new(ring.disk.clone()),
            CardId::default(),
            geometry,
            Some(len),
            &[EntryId(7)],
        )
        .unwrap();
        assert_eq!(
            snapshots::read(&ring.disk, geometry, EntryId(7)).unwrap(),
            [7; 3000],
            "slot {torn} is torn"
        );
        snapshots.store(EntryId(8), &[8; 3000]).unwrap();
        assert_eq!(
            snapshots::read(&ring.disk, geometry, EntryId(7)).unwrap(),
            [7; 3000],
            "slot {torn} is torn"
        );
    }
}

#[test]
fn a_record_with_a_failed_flush_never_counts() {
    for seed in 0..20 {
        let mut ring = opened();
        ring.pictures(20);
        ring.disk.leave_only(0);
        ring.disk.fail_sync_after(1, &mut Rng::new(seed));
        while ring.update.iter().all(|update| !matches!(update, StorageUpdate::Trouble { .. })) {
            ring.pictures(1);
        }
        ring.disk.leave_only(1 << 30);
        ring.start();
        let found = ring.found().last_seq;
        ring.cut();
        assert_eq!(ring.found().last_seq, found, "seed {seed}");
    }
}

#[test]
fn a_batch_hit_by_a_power_cut_keeps_a_prefix() {
    let batch = |from: u64, n: u64| {
        (from..from + n)
            .map(|entry_id| (EntryId(entry_id), vec![entry_id as u8; 700]))
            .collect::<Vec<_>>()
    };
    let disk = FaultyDisk::new(None);
    let (mut journal, _) =
        Journal::open(Arc::new(disk.clone()), CardId::default(), 40, None).unwrap();
    journal.start_boot().unwrap();
    journal.enqueue_all(batch(1, 4)).unwrap();
    // Entries 2 and 3 are delivered before the next batch, entries 1 and 4 before the one after.
    [2, 3].into_iter().for_each(|entry_id| journal.release(EntryId(entry_id)));
    let (mut cut, mut whole) = (0, 0);
    for (begin, n, delivered) in [(5, 5, [1, 4]), (10, 6, [6, 7])] {
        disk.take_points();
        journal.enqueue_all(batch(begin, n)).unwrap();
        for point in disk.take_points() {
            let choices = Choices::new(&point.durable, &point.pending);
            for number in 0..choices.outcomes().min(400) {
                let after = FaultyDisk::with(choices.outcome(&point.durable, number), None);
                // Open the journal twice: a second boot must find what the first one found.
                let found = [0, 1].map(|_| {
                    let (mut journal, kept) = Journal::open(
                        Arc::new(after.clone()),
                        CardId::default(),
                        40,
                        Some(file_len(40)),
                    )
                    .unwrap();
                    journal.start_boot().unwrap();
                    let entry_ids: Vec<u64> =
                        kept.entries.iter().map(|entry_id| entry_id.0).collect();
                    (entry_ids, kept.newest.map(|(entry_id, _)| entry_id.0))
                });
                assert_eq!(found[0], found[1]);
                let (entry_ids, newest) = &found[0];
                let of_batch: Vec<u64> =
                    entry_ids.iter().copied().filter(|entry_id| *entry_id >= begin).collect();
                let until = begin + of_batch.len() as u64;
                assert_eq!(of_batch, (begin..until).collect::<Vec<_>>(), "a gap in a batch");
                assert_eq!(newest.unwrap(), (until - 1).max(begin - 1), "{entry_ids:?}");
                if of_batch.len() < n as usize {
                    cut += 1;
                } else {
                    whole += 1;
                }
            }
        }
        delivered.into_iter().for_each(|entry_id| journal.release(EntryId(entry_id)));
    }
    assert!(cut > 20 && whole > 20, "{cut} cut, {whole} whole");
    let (_, kept) =
        Journal::open(Arc::new(disk), CardId::default(), 40, Some(file_len(40))).unwrap();
    assert_eq!(kept.newest.unwrap().0, EntryId(15));
}
