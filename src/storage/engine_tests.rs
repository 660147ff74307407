//! Storage engine on a simulated card: what it keeps, what it evicts, and what it reports.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use super::engine::Engine;
use super::locks::Lock;
use super::*;
use crate::camera::{Codec, Frame, StreamRole, TrackKind, TrackParams};
use crate::format::record::tests::video;
use crate::settings::{StorageSettings, test_settings};
use crate::sim::faulty_disk::FaultyDisk;
use crate::sim::rng::Rng;
use crate::units::{ClockQuality, Digest, Timestamp};

/// Wall time of a bench when its monotonic clock shows 1 s.
pub(super) const NOON: i64 = 1_790_000_000_000_000;
const BLOCK: u64 = 4096;

/// A device without a camera; the tests create the frames.
pub(super) struct Bench {
    pub(super) disk: FaultyDisk,
    settings: StorageSettings,
    pub(super) engine: Engine,
    pub(super) now: Timestamp,
    pub(super) run: u32,
    /// Frames of the current run.
    frames: i64,
    pub(super) update: Vec<StorageUpdate>,
}

pub(super) fn small() -> StorageSettings {
    let segment = 16 * BLOCK;
    StorageSettings {
        segment,
        budget: 8 * segment,
        journal_slots: 64,
        snapshot_slots: 2,
        still_bytes: 16 << 10,
        ..test_settings().storage
    }
}

pub(super) fn audio() -> Arc<TrackParams> {
    let sample_entry = vec![0, 0, 0, 8, b'a', b'l', b'a', b'w'];
    let digest = Digest::of(&sample_entry);
    let (kind, codec) = (TrackKind::Audio, Codec::PcmAlaw);
    Arc::new(TrackParams {
        kind,
        codec,
        timescale: 8000,
        sample_entry,
        annex_b: Vec::new(),
        size: (0, 0),
        digest,
    })
}

impl Bench {
    pub(super) fn new(settings: StorageSettings) -> Bench {
        let now = Timestamp {
            mono: MonoTime(1_000_000),
            wall: WallTime(NOON),
            quality: ClockQuality::Ntp,
        };
        let disk = FaultyDisk::new(None);
        let (engine, update) = Engine::open(Arc::new(disk.clone()), &settings, now).unwrap();
        Bench { disk, settings, engine, now, run: 1, frames: 0, update }
    }

    /// Opens the ring again, as after a power cut. Drops the updates of the last boot.
    pub(super) fn restart(&mut self, settings: StorageSettings) -> Recovered {
        self.now.mono = MonoTime(1_000_000);
        self.settings = settings;
        let (engine, update) =
            Engine::open(Arc::new(self.disk.clone()), &self.settings, self.now).unwrap();
        self.engine = engine;
        self.update = update;
        self.run += 1;
        self.frames = 0;
        match self.update.remove(0) {
            StorageUpdate::Started(found) => *found,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Sets the wall clock, in microseconds since noon.
    pub(super) fn set_clock(&mut self, since_noon: i64) {
        self.now.wall = WallTime(NOON + since_noon);
    }

    /// Continues this bench on another card with the same settings.
    pub(super) fn go_on(&self, disk: FaultyDisk) -> Bench {
        let now = Timestamp { mono: MonoTime(1_000_000), ..self.now };
        let (engine, update) = Engine::open(Arc::new(disk.clone()), &self.settings, now).unwrap();
        Bench {
            disk,
            settings: self.settings.clone(),
            engine,
            now,
            run: self.run + 1,
            frames: 0,
            update,
        }
    }

    pub(super) fn wait(&mut self, micros: u64) {
        self.now = self.now.after(micros);
        self.engine.idle(self.now, &mut self.update);
    }

    /// Records `frames` key frames of another track, 100 ms apart, as a run of its own.
    pub(super) fn stream(&mut self, params: &Arc<TrackParams>, frames: i64) {
        self.run += 1;
        for n in 0..frames {
            self.wait(100_000);
            self.frame(params, n * 9000, true, 500);
        }
        self.run += 1;
        self.frames = 0;
    }

    pub(super) fn frame(&mut self, params: &Arc<TrackParams>, pts: i64, key: bool, len: usize) {
        let (params, data) = (params.clone(), vec![self.frames as u8; len].into());
        let frame = Frame {
            role: StreamRole::Main,
            params,
            data,
            key,
            pts,
            run: self.run,
            at: self.now,
            lost: 0,
        };
        self.engine.frame(&Arc::new(frame), &mut self.update);
    }

    /// Records a frame of `len` bytes after 100 ms.
    fn picture(&mut self, key: bool, len: usize) {
        self.wait(100_000);
        self.frame(&video(1), self.frames * 9000, key, len);
        self.frames += 1;
    }

    /// Records seconds of 10 frames each, with a key frame every two seconds.
    pub(super) fn record(&mut self, seconds: i64) {
        for _ in 0..seconds * 10 {
            self.picture(self.frames % 20 == 0, 500);
        }
    }

    pub(super) fn order(&mut self, order: StorageRequest) {
        self.engine.request(self.now, order, &mut self.update);
    }

    fn lock(&mut self, id: &str, from: i64, to: i64) -> Result<Lock, String> {
        let (from, to) = (WallTime(NOON + from * 1_000_000), WallTime(NOON + to * 1_000_000));
        self.order(StorageRequest::Lock { id: id.into(), from, to, reason: "test".into() });
        match self.update.pop() {
            Some(StorageUpdate::Locked { outcome, .. }) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Numbers of the fragments between two times, in seconds since noon.
    fn find(&mut self, from: i64, to: i64) -> Vec<u64> {
        let (from, to) = (WallTime(NOON + from * 1_000_000), WallTime(NOON + to * 1_000_000));
        self.order(StorageRequest::Locate {
            pin: PinId(1),
            class: PinClass::Requested,
            query: SpanQuery::Wall { from, to, after: 0 },
        });
        self.wait(11_000_000);
        let at = self
            .update
            .iter()
            .rposition(|update| matches!(update, StorageUpdate::Located { .. }))
            .unwrap();
        let StorageUpdate::Located { span, .. } = self.update.remove(at) else { panic!() };
        self.order(StorageRequest::Unpin { pin: PinId(1) });
        span.map_or(Vec::new(), |span| span.fragments.iter().map(|fragment| fragment.seq).collect())
    }
    /// Gaps reported, with their times in tenths of a second since noon.
    pub(super) fn gaps(&self) -> Vec<(GapReason, i64, i64)> {
        let second = |stamp: Timestamp| (stamp.wall.0 - NOON) / 100_000;
        let gap_of = |update: &StorageUpdate| match update {
            StorageUpdate::Gap(gap) => Some((gap.reason, second(gap.from), second(gap.to))),
            _ => None,
        };
        self.update.iter().filter_map(gap_of).collect()
    }

    fn bytes_on_card(&self) -> u64 {
        use super::disk::Disk as _;
        let files = self.disk.files().unwrap();
        files
            .iter()
            .filter(|(file, _)| matches!(file, super::disk::FileId::Segment(_)))
            .map(|(_, len)| len)
            .sum()
    }

    fn durable(&self) -> Option<u64> {
        self.update.iter().rev().find_map(|update| {
            if let StorageUpdate::Durable { seq, .. } = update { Some(*seq) } else { None }
        })
    }

    /// Asserts that the ring has no damage, consecutive record numbers, and a gap for every missing
    /// time.
    pub(super) fn is_whole(&self) {
        let disk: Arc<dyn super::disk::Disk> = Arc::new(self.disk.clone());
        let checked = super::check::check(&disk, |_, _| {}).unwrap();
        assert_eq!(checked.problems, []);
    }
}

#[test]
fn a_short_stall_is_reported_as_a_gap() {
    let mut bench = Bench::new(small());
    bench.record(4);
    bench.wait(3_000_000);
    bench.frames += 30;
    bench.picture(false, 500);
    bench.record(2);
    assert_eq!(bench.gaps(), [(GapReason::CameraDown, 41, 71)]);
    bench.is_whole();
}

#[test]
fn check_names_file_and_offset_of_each_damage() {
    use super::disk::{Disk as _, FileId};
    let mut bench = Bench::new(small());
    bench.order(StorageRequest::Enqueue {
        entry_id: EntryId(1),
        entry: vec![7; 99],
        snapshot: Some(vec![1; 999]),
    });
    bench.record(100);
    bench.is_whole();
    let segment = bench.engine.ring.index().live()[1].clone();
    let (file, offset) = (FileId::Segment(segment.head.segment), segment.head_len);
    let flip = |file: FileId, at: u64| {
        let byte = bench.disk.read(file, at, 1).unwrap()[0];
        bench.disk.write(file, at, &[byte ^ 1]).unwrap();
        bench.disk.sync(file).unwrap();
    };
    flip(file, offset + 3000);
    flip(FileId::Snapshots, BLOCK + 5);
    let disk: Arc<dyn super::disk::Disk> = Arc::new(bench.disk.clone());
    let problems = super::check::check(&disk, |_, _| {}).unwrap().problems;
    let reported: Vec<(&str, u64)> =
        problems.iter().map(|problem| (problem.file.as_str(), problem.offset)).collect();
    assert_eq!(reported, [(file.name().as_str(), offset), ("snapshots.taimat", 0)], "{problems:?}");
    flip(file, 700);
    let problems = super::check::check(&disk, |_, _| {}).unwrap().problems;
    assert!(
        problems.iter().any(|problem| problem.file == file.name() && problem.what.contains("head")),
        "{problems:?}"
    );
}

#[test]
fn a_new_segment_size_keeps_old_footage_until_recycling() {
    let mut bench = Bench::new(small());
    bench.record(200);
    let (budget, newest) = (bench.settings.budget, bench.durable().unwrap());
    let larger = StorageSettings { segment: 24 * BLOCK, ..small() };
    bench.restart(larger);
    assert!(bench.find(199, 200).contains(&newest), "the old footage is kept");
    for second in 0..300 {
        bench.record(1);
        assert!(
            bench.bytes_on_card() <= budget,
            "{} bytes after {second} s",
            bench.bytes_on_card()
        );
    }
    bench.is_whole();
    let sizes: Vec<u64> =
        bench.engine.ring.index().live().iter().map(|segment| segment.head.size).collect();
    assert!(sizes.len() >= 4 && sizes.iter().all(|size| *size == 24 * BLOCK), "{sizes:?}");
}

#[test]
fn a_smaller_budget_evicts_the_oldest_footage_only() {
    let mut bench = Bench::new(small());
    bench.record(200);
    let before = bench.find(0, 200);
    bench.order(StorageRequest::Resize {
        budget: 5 * small().segment,
        pin_quota: small().pin_quota,
        endurance: 0,
    });
    bench.record(20);
    assert!(bench.bytes_on_card() <= 5 * small().segment);
    let after = bench.find(0, 200);
    assert!(after.len() < before.len() && before.ends_with(&after), "{before:?} {after:?}");
    bench.restart(StorageSettings { budget: 12 * small().segment, ..small() });
    bench.record(200);
    assert!(
        bench.bytes_on_card() > 8 * small().segment
            && bench.bytes_on_card() <= 12 * small().segment
    );
    bench.is_whole();
}

#[test]
fn locked_footage_survives_laps_and_restarts_until_unlocked() {
    let mut bench = Bench::new(small());
    bench.record(30);
    let lock = bench.lock("case-7", 10, 14).unwrap();
    bench.record(400);
    assert_eq!(bench.restart(small()).locks, std::slice::from_ref(&lock));
    bench.record(400);
    assert_eq!(bench.find(10, 14), (lock.first..=lock.last).collect::<Vec<_>>());
    bench.order(StorageRequest::Unlock { id: "case-7".into() });
    assert!(matches!(bench.update.pop(), Some(StorageUpdate::Unlocked { outcome: Ok(_), .. })));
    bench.record(400);
    assert_eq!(bench.find(10, 14), [] as [u64; 0]);
    assert!(bench.restart(small()).locks.is_empty());
}

#[test]
fn a_lock_into_the_future_is_narrowed_when_its_end_is_recorded() {
    let mut bench = Bench::new(small());
    bench.record(30);
    let lock = bench.lock("ahead", 28, 40).unwrap();
    assert_eq!(lock.last, u64::MAX);
    bench.record(60);
    let narrowed = &bench.engine.locks.list()[0];
    assert!(narrowed.last < bench.durable().unwrap(), "{narrowed:?}");
    bench.record(400);
    assert_eq!(bench.find(28, 40).len() as u64, narrowed_len(&bench));
}

fn narrowed_len(bench: &Bench) -> u64 {
    let lock = &bench.engine.locks.list()[0];
    lock.last - lock.first + 1
}

#[test]
fn an_impossible_lock_is_rejected_with_the_reason() {
    let mut bench = Bench::new(small());
    bench.record(200);
    assert!(bench.lock("a", 5, 5).unwrap_err().contains("before"));
    assert!(
        bench.lock("a", -900, -800).unwrap_err().contains("not")
            || bench.lock("a", -900, -800).is_err()
    );
    assert!(bench.lock("a", 100, 199).unwrap_err().contains("storage.pin_quota"));
    assert!(bench.engine.locks.list().is_empty());
    bench.disk.read_only(true);
    assert!(bench.lock("a", 195, 199).unwrap_err().contains("read-only"));
    assert!(
        bench.engine.locks.list().is_empty(),
        "a lock that the journal rejected does not count"
    );
}

#[test]
fn a_frame_larger_than_a_segment_is_reported_as_a_gap() {
    let mut bench = Bench::new(small());
    bench.record(30);
    let files = bench.bytes_on_card();
    for _ in 0..20 {
        bench.frames = (bench.frames + 19) / 20 * 20;
        bench.picture(true, 20 * BLOCK as usize);
    }
    bench.frames = (bench.frames + 19) / 20 * 20;
    bench.record(30);
    assert_eq!(
        bench.gaps().iter().filter(|(reason, ..)| *reason == GapReason::TooLarge).count(),
        1,
        "{:?}",
        bench.gaps()
    );
    assert!(
        bench
            .update
            .iter()
            .any(|update| matches!(update, StorageUpdate::Trouble { detail, .. } if detail.contains("storage.segment")))
    );
    assert!(bench.bytes_on_card() >= files);
    bench.is_whole();
}

#[test]
fn frames_without_a_key_frame_are_reported_as_a_gap() {
    let mut bench = Bench::new(small());
    bench.record(4);
    bench.run = 2;
    bench.frames = 5;
    bench.record(4);
    assert_eq!(bench.gaps(), [(GapReason::NoKeyFrame, 41, 56)]);
}

#[test]
fn recording_continues_in_memory_on_a_read_only_card() {
    let mut bench = Bench::new(small());
    bench.record(30);
    let durable = bench.durable().unwrap();
    bench.disk.read_only(true);
    bench.update.clear();
    bench.record(30);
    assert_eq!(bench.durable(), None, "footage in memory is not durable");
    let lost =
        bench.update.iter().filter(|update| matches!(update, StorageUpdate::CardLost { detail, .. } if detail.contains("read-only")));
    assert_eq!(lost.count(), 1);
    assert_eq!(
        bench.gaps().iter().map(|(reason, ..)| *reason).collect::<Vec<_>>(),
        [GapReason::DiskError]
    );
    let (reason, from, to) = bench.gaps()[0];
    assert!(
        to - from <= 80,
        "{reason:?} from {from} to {to}: the gap ends when recording continues in memory"
    );
    assert!(!bench.find(5, 9).is_empty(), "the card stays readable");
    let seen = bench.find(45, 50);
    assert!(seen.len() >= 5, "current footage can be read: {seen:?}");
    bench.disk.read_only(false);
    let found = bench.restart(small());
    assert_eq!((found.last_seq, found.clean), (durable, false));
    bench.record(3);
    assert_eq!(
        bench.gaps()[0].0,
        GapReason::PowerCut,
        "the footage in memory is reported as a gap"
    );
    bench.is_whole();
}

#[test]
fn a_short_write_failure_is_a_gap_and_the_card_stays_in_use() {
    let mut bench = Bench::new(small());
    bench.record(30);
    bench.disk.read_only(true);
    bench.record(2);
    bench.disk.read_only(false);
    bench.record(30);
    assert!(!bench.update.iter().any(|update| matches!(update, StorageUpdate::CardLost { .. })));
    let gaps: Vec<_> =
        bench.gaps().into_iter().filter(|(reason, ..)| *reason == GapReason::DiskError).collect();
    assert!(matches!(gaps[..], [(_, from, to)] if to - from <= 60), "{gaps:?}");
    bench.is_whole();
}

#[test]
fn entries_are_kept_in_memory_when_the_journal_fails() {
    let mut bench = Bench::new(small());
    let entry = |entry_id: u64| StorageRequest::Enqueue {
        entry_id: EntryId(entry_id),
        entry: vec![7; 99],
        snapshot: Some(vec![1; 999]),
    };
    bench.order(entry(1));
    bench.disk.read_only(true);
    for _ in 0..3 {
        bench.order(entry(2));
        assert!(!bench.update.contains(&StorageUpdate::Enqueued { entry_id: EntryId(2) }));
    }
    assert!(bench.update.iter().any(|update| matches!(update, StorageUpdate::CardLost { .. })));
    bench.order(entry(2));
    assert!(bench.update.contains(&StorageUpdate::Enqueued { entry_id: EntryId(2) }));
    let geometry = super::open::snapshot_geometry(&bench.settings);
    assert_eq!(
        super::snapshots::read(bench.engine.card().as_ref(), geometry, EntryId(2)),
        Ok(vec![1; 999])
    );
}

#[test]
fn audio_is_recorded_when_the_video_stops() {
    let mut bench = Bench::new(small());
    let audio = audio();
    let add_audio = |bench: &mut Bench, ms: i64| {
        bench.wait(20_000);
        bench.frame(&audio, ms * 8, true, 160);
    };
    for ms in (0..2000).step_by(20) {
        if ms % 100 == 0 {
            bench.frame(&video(1), ms * 90, ms == 0, 500);
        }
        add_audio(&mut bench, ms);
    }
    let with_pictures = bench.engine.ring.counts.payload;
    for ms in (2000..12_000).step_by(20) {
        add_audio(&mut bench, ms);
        let behind = bench.now.mono.since(bench.engine.until.mono);
        assert!(behind <= 2_400_000, "{behind} us are not durable");
    }
    let audio_only = bench.engine.ring.counts.payload - with_pictures;
    assert!(audio_only >= 8 * 8000, "{audio_only} bytes of ten seconds of audio");
    for i in 0..20 {
        bench.wait(100_000);
        bench.frame(&video(1), (12_000 + i * 100) * 90, i == 0, 500);
    }
    bench.is_whole();
    assert_eq!(bench.engine.ring.counts.skipped, 0);
}

#[test]
fn a_camera_with_a_key_frame_a_minute_is_flushed_every_second() {
    let mut bench = Bench::new(small());
    for _ in 0..600 {
        bench.picture(bench.frames == 0, 300);
        let behind = bench.now.mono.since(bench.engine.until.mono);
        assert!(bench.frames < 15 || behind <= 1_100_000, "{behind} us are not durable");
    }
    bench.is_whole();
}

#[test]
fn footage_of_1970_is_found_by_its_corrected_time() {
    let mut bench = Bench::new(small());
    bench.now = Timestamp {
        mono: MonoTime(1_000_000),
        wall: WallTime(1_000_000),
        quality: ClockQuality::Unset,
    };
    bench.record(20);
    assert_eq!(bench.find(5, 9), [] as [u64; 0]);
    // The clock is set by NTP; the device was switched on at noon.
    let mono = bench.now.mono;
    bench.now = Timestamp {
        mono,
        wall: WallTime(NOON + mono.0 as i64 - 1_000_000),
        quality: ClockQuality::Ntp,
    };
    bench.record(20);
    let found = bench.find(5, 9);
    assert!((4..=7).contains(&found.len()), "{found:?}");
    assert!(
        bench.update.iter().any(|update| matches!(update, StorageUpdate::ClockSet(set) if set.now.quality == ClockQuality::Ntp))
    );
    bench.restart(small());
    assert_eq!(bench.find(5, 9), found, "the next boot finds it too");
}

#[test]
fn a_clock_set_back_an_hour_hides_no_footage() {
    let mut bench = Bench::new(small());
    bench.now.quality = ClockQuality::Rtc;
    bench.now.wall = WallTime(NOON + 3_600_000_000);
    bench.record(20);
    bench.now =
        Timestamp { wall: WallTime(NOON + 20_000_000), quality: ClockQuality::Ntp, ..bench.now };
    bench.record(20);
    let found = bench.find(0, 40);
    assert!(found.len() >= 38, "{} of 40 seconds", found.len());
    bench.is_whole();
}

#[test]
fn the_reported_oldest_footage_advances_with_the_ring() {
    let mut bench = Bench::new(small());
    let mut reported = Vec::new();
    for _ in 0..4 {
        bench.record(40);
        bench.update.drain(..).for_each(|update| {
            if let StorageUpdate::Counts(counts) = update {
                reported.push(counts.oldest);
            }
        });
    }
    let begin =
        |reported: &Option<WallTime>| reported.map_or(0, |wall| (wall.0 - NOON) / 1_000_000);
    assert!(begin(&reported[1]) < 5, "the ring is not in its second lap yet: {reported:?}");
    assert!(
        begin(reported.last().unwrap()) > 60,
        "evicted footage is reported as the oldest: {reported:?}"
    );
}

#[test]
fn a_power_cut_during_recycling_damages_no_record() {
    for seed in 0..200 {
        let (mut bench, mut rng) = (Bench::new(small()), Rng::new(seed));
        bench.record(60);
        bench.disk.cut_after(rng.below(40));
        bench.record(20);
        bench.disk.power_on(&mut rng);
        bench.restart(small());
        let disk: Arc<dyn super::disk::Disk> = Arc::new(bench.disk.clone());
        let mut problems = super::check::check(&disk, |_, _| {}).unwrap().problems;
        // The power cut may tear the head of a file that holds nothing yet.
        problems.retain(|problem| problem.what != "damaged segment head");
        assert_eq!(problems, [], "seed {seed}");
    }
}

#[test]
fn a_ring_without_room_grows_when_there_is_room() {
    let mut bench = Bench::new(small());
    let files = |bench: &Bench| super::disk::segments(&bench.disk.live().lengths()).len();
    while files(&bench) < 5 {
        bench.record(1);
    }
    let taken = bench.disk.live().lengths().values().sum::<u64>();
    bench.disk.leave_only(taken + BLOCK);
    bench.record(120);
    assert_eq!(files(&bench), 5);
    let refused = |bench: &Bench| {
        let stays = |update: &&StorageUpdate| matches!(update, StorageUpdate::Trouble { detail, .. } if detail.contains("stays at"));
        bench.update.iter().filter(stays).count()
    };
    assert_eq!(refused(&bench), 1, "it is reported once while there is no room");
    let counts = |bench: &Bench| {
        let counts = bench.update.iter().rev().find_map(|update| match update {
            StorageUpdate::Counts(counts) => Some(*counts),
            _ => None,
        });
        counts.unwrap()
    };
    bench.wait(70_000_000);
    assert_eq!(
        (counts(&bench).budget, counts(&bench).short),
        (5 * small().segment, 3 * small().segment)
    );
    bench.disk.leave_only(1 << 30);
    bench.wait(70_000_000);
    bench.record(120);
    assert_eq!(files(&bench), 8);
    bench.wait(70_000_000);
    assert_eq!((counts(&bench).budget, counts(&bench).short), (8 * small().segment, 0));
}

#[test]
fn a_ring_whose_budget_does_not_fit_records_and_says_so() {
    let short = |bench: &Bench| {
        let short = |update: &&StorageUpdate| matches!(update, StorageUpdate::NoRoom { wanted, available } if wanted > available);
        bench.update.iter().filter(short).count()
    };
    let mut bench = Bench::new(small());
    bench.record(20);
    bench.restart(small());
    assert_eq!(short(&bench), 0, "its own files count as room");
    let (pin_quota, endurance) = (50, 0);
    bench.order(StorageRequest::Resize { budget: 1 << 43, pin_quota, endurance });
    assert_eq!(short(&bench), 1, "a change is judged at once");
    bench.update.clear();
    bench.restart(StorageSettings { budget: 1 << 43, ..small() });
    assert_eq!(short(&bench), 1, "a start judges the file");
    let before = bench.durable();
    bench.record(5);
    assert!(bench.durable() > before, "it records");
}

#[test]
fn a_card_that_missed_an_ordered_stop_saw_no_power_cut() {
    for (is_stopped, reason) in [(false, GapReason::PowerCut), (true, GapReason::DiskError)] {
        let mut bench = Bench::new(small());
        bench.record(20);
        bench.wait(180_000_000);
        bench.restart(small());
        if is_stopped {
            bench.order(StorageRequest::StoppedBefore);
        }
        bench.record(20);
        let gaps: Vec<GapReason> = bench.gaps().iter().map(|gap| gap.0).collect();
        assert_eq!(gaps, [reason]);
    }
}

#[test]
fn a_first_boot_without_a_picture_is_recorded_as_a_gap() {
    for is_set_late in [false, true] {
        let mut bench = Bench::new(small());
        if is_set_late {
            let (quality, wall) = (ClockQuality::Unset, WallTime(1_000_000));
            bench.now = Timestamp { wall, quality, ..bench.now };
        }
        bench.wait(100_000);
        bench.wait(4_900_000);
        bench.now = bench.now.at(bench.now.mono);
        bench.now.wall = WallTime(NOON + 5_000_000);
        bench.now.quality = ClockQuality::Ntp;
        bench.wait(10_000_000);
        // A second boot without a picture changes nothing.
        for _ in 0..2 {
            bench.restart(small());
            bench.wait(10_000_000);
        }
        bench.record(20);
        assert_eq!(bench.gaps(), [(GapReason::PowerCut, 1, 351)], "{is_set_late}");
        bench.is_whole();
        bench.restart(small());
        bench.record(20);
        assert_eq!(bench.gaps().len(), 1, "the next gap is that of the last restart");
    }
}

#[test]
fn a_first_boot_that_never_had_the_time_begins_no_gap() {
    let mut bench = Bench::new(small());
    let (quality, wall) = (ClockQuality::Unset, WallTime(1_000_000));
    bench.now = Timestamp { wall, quality, ..bench.now };
    bench.wait(10_000_000);
    bench.now = Timestamp { wall: WallTime(NOON), quality: ClockQuality::Ntp, ..bench.now };
    bench.restart(small());
    bench.record(20);
    assert_eq!(bench.gaps(), []);
}

#[test]
fn boots_with_other_clocks_in_one_segment_are_found() {
    let mut bench = Bench::new(small());
    let days = [0, 90_000, -3, -1];
    for day in days {
        bench.now.wall = WallTime(NOON + day * 86_400_000_000);
        bench.restart(small());
        bench.record(1);
        bench.picture(true, 500);
    }
    bench.order(StorageRequest::Stop);
    for day in days {
        let at = day * 86_400;
        assert!(!bench.find(at, at + 3).is_empty(), "the boot of day {day} is not found");
    }
}

#[test]
fn a_query_reads_only_the_segments_around_its_range() {
    let mut bench = Bench::new(small());
    bench.record(4);
    bench.restart(small());
    bench.record(40);
    let boot = bench.engine.boot;
    let mut reads = |query| {
        let before = bench.disk.reads();
        bench.order(StorageRequest::Locate { pin: PinId(1), class: PinClass::Requested, query });
        bench.wait(11_000_000);
        bench.disk.reads() - before
    };
    let all = reads(SpanQuery::Seq { first: 1, last: u64::MAX });
    let (from, to) = (MonoTime(38_000_000), MonoTime(40_000_000));
    let late = reads(SpanQuery::Mono { boot, from, to, after: 0 });
    let wall = |second: i64| WallTime(NOON + second * 1_000_000);
    let early = reads(SpanQuery::Wall { from: wall(6), to: wall(8), after: 0 });
    assert!(late * 2 < all && early < all, "{late} and {early} of {all}");
}

#[test]
fn the_first_segment_of_a_boot_is_found_by_its_clock() {
    let mut bench = Bench::new(small());
    bench.record(60);
    // A lost segment begins another one, with the gap since the last boot as its first record.
    let mut card = bench.disk.durable();
    card.remove(super::disk::FileId::Segment(0));
    bench.disk.power_on_with(card);
    bench.restart(small());
    bench.record(10);
    let (boot, from, to) = (bench.engine.boot, MonoTime(2_000_000), MonoTime(4_000_000));
    let (pin, query) = (PinId(1), SpanQuery::Mono { boot, from, to, after: 0 });
    bench.order(StorageRequest::Locate { pin, class: PinClass::Requested, query });
    bench.wait(11_000_000);
    let located = bench.update.iter().rev().find_map(|update| match update {
        StorageUpdate::Located { span, .. } => Some(span),
        _ => None,
    });
    let Some(Some(span)) = located else { panic!("no footage: {located:?}") };
    assert!(span.fragments.len() >= 2, "{}", span.fragments.len());
}

/// Records on the card and gaps among them.
fn records(bench: &Bench) -> (u64, u64) {
    let disk: Arc<dyn super::disk::Disk> = Arc::new(bench.disk.clone());
    let checked = super::check::check(&disk, |_, _| {}).unwrap();
    assert_eq!(checked.problems, []);
    (checked.records, checked.gap_records)
}

#[test]
fn sound_with_any_time_forces_no_flush_and_no_loss() {
    let far: [fn(i64) -> i64; 5] = [
        |ms| ms + 14_532_000,
        |ms| ms - 33_333_000,
        |ms| ms * 2,
        |ms| ms / 2,
        |ms| (ms * 7919) % 100_000_000 - 50_000_000,
    ];
    for (n, time) in far.into_iter().enumerate() {
        let mut bench = Bench::new(small());
        let audio = audio();
        for i in 0..500 {
            bench.wait(20_000);
            bench.frame(&audio, time(i * 40) * 8, true, 160);
            bench.wait(20_000);
            bench.frame(&video(1), i * 3600, i % 25 == 0, 500);
            bench.frame(&audio, time(i * 40 + 20) * 8, true, 160);
        }
        bench.order(StorageRequest::Stop);
        let (records, gaps) = records(&bench);
        assert!(records <= 22, "case {n}: {records} records in 20 s");
        assert_eq!(gaps, 0, "case {n}");
        assert!(bench.engine.ring.counts.frames >= 500, "case {n}: a picture is missing");
    }
}

#[test]
fn an_outage_is_one_gap_whoever_names_it_first() {
    for (pictures, noted) in [(0, 0), (1, 1), (5, 3), (25, 25), (40, 11)] {
        let mut bench = Bench::new(small());
        bench.record(3);
        bench.picture(true, 500);
        bench.picture(false, 500);
        let from = bench.now;
        bench.wait(1_400_000);
        (bench.run, bench.frames) = (bench.run + 1, 0);
        let to = bench.now.after(100_000);
        let note =
            StorageRequest::NoteGap(Gap { from, to, reason: GapReason::CameraDown, bytes: 0 });
        for i in 0..=pictures {
            if i == noted {
                bench.order(note.clone());
            }
            bench.picture(i % 20 == 0, 500);
        }
        bench.record(4);
        bench.order(StorageRequest::Stop);
        assert_eq!(bench.gaps().len(), 1, "noted at {noted}: {:?}", bench.gaps());
        bench.is_whole();
    }
}

#[test]
fn frames_whose_times_go_back_keep_the_media_clock_rising() {
    let back: [fn(i64) -> i64; 4] = [
        |i| i - if i >= 125 { 75 } else { 0 },
        |_| 0,
        |i| i / 2 * 2,
        |i| i - if i % 25 == 0 { 6 } else { 0 },
    ];
    for time in back {
        let mut bench = Bench::new(small());
        for i in 0..500 {
            bench.wait(40_000);
            bench.frame(&video(1), time(i) * 3600, i % 25 == 0, 500);
        }
        bench.order(StorageRequest::Stop);
        records(&bench);
    }
}

impl Bench {
    /// Records a frame of these parameters after 100 ms, before which `lost` packets were lost.
    fn sent(&mut self, mark: u8, key: bool, lost: u32) {
        self.wait(100_000);
        self.placed(mark, key, lost);
        self.frames += 1;
    }

    fn placed(&mut self, mark: u8, key: bool, lost: u32) {
        let frame = Frame {
            role: StreamRole::Main,
            params: video(mark),
            data: vec![0; 500].into(),
            key,
            pts: self.frames * 9000,
            run: self.run,
            at: self.now,
            lost,
        };
        self.engine.frame(&Arc::new(frame), &mut self.update);
    }
}

#[test]
fn a_new_size_without_its_key_frame_is_one_gap_to_the_next() {
    let mut bench = Bench::new(small());
    bench.record(4);
    // The first key frames of the new size lost a packet each.
    bench.frames += 1;
    bench.wait(100_000);
    for i in 0..199 {
        bench.sent(2, false, u32::from(i % 20 == 0));
    }
    for i in 0..40 {
        bench.sent(2, i % 20 == 0, 0);
    }
    bench.order(StorageRequest::Stop);
    assert_eq!(bench.gaps(), [(GapReason::NoKeyFrame, 41, 241)]);
    bench.is_whole();
}

#[test]
fn the_old_size_goes_on_behind_a_new_one_without_a_key() {
    let mut bench = Bench::new(small());
    bench.record(4);
    (0..20).for_each(|_| bench.sent(2, false, 0));
    (0..20).for_each(|_| bench.sent(1, false, 0));
    (0..20).for_each(|i| bench.sent(1, i == 0, 0));
    bench.order(StorageRequest::Stop);
    assert_eq!(bench.gaps(), [(GapReason::NoKeyFrame, 41, 81)]);
}

#[test]
fn pictures_lost_for_over_half_a_second_are_one_gap() {
    for (missing, gaps) in [(3, 0), (8, 1), (30, 1)] {
        let mut bench = Bench::new(small());
        bench.record(4);
        (0..5).for_each(|i| bench.sent(1, i == 0, 0));
        // What the camera sent meanwhile came as one burst behind the loss.
        bench.frames += missing;
        bench.now = bench.now.after(missing as u64 * 100_000);
        bench.sent(1, false, 40);
        bench.record(4);
        bench.order(StorageRequest::Stop);
        let found = bench.gaps();
        assert_eq!(found.len(), gaps, "{missing}: {found:?}");
        let right = |(reason, from, to): &(_, _, _)| {
            (*reason, *from, *to) == (GapReason::CameraDown, 46, 46 + missing)
        };
        assert!(found.iter().all(right), "{found:?}");
        bench.is_whole();
    }
}

#[test]
fn the_first_durable_frames_are_counted_at_once() {
    let mut bench = Bench::new(small());
    bench.wait(100_000);
    let frames = |bench: &Bench| {
        let counts = bench.update.iter().filter_map(|update| match update {
            StorageUpdate::Counts(counts) => Some(counts.frames),
            _ => None,
        });
        counts.collect::<Vec<_>>()
    };
    assert_eq!(frames(&bench), [0]);
    bench.record(4);
    let found = frames(&bench);
    assert!(found.len() == 2 && found[1] > 0, "{found:?}");
}

#[test]
fn a_lost_key_frame_of_one_size_leaves_nothing_else_out() {
    let mut bench = Bench::new(small());
    (0..20).for_each(|i| bench.sent(1, i == 0, 0));
    // The key frame is lost with its packets; what refers to it is recorded all the same.
    bench.frames += 1;
    bench.now = bench.now.after(100_000);
    bench.sent(1, false, 40);
    (0..18).for_each(|_| bench.sent(1, false, 0));
    (0..20).for_each(|i| bench.sent(1, i == 0, 0));
    bench.order(StorageRequest::Stop);
    assert_eq!((bench.gaps(), bench.engine.ring.counts.frames), (vec![], 59));
    assert_eq!(bench.engine.ring.counts.skipped, 0);
    bench.is_whole();
}

#[test]
fn an_outage_whose_pictures_come_later_leaves_no_gap() {
    for early in [0, 20_000, 100_000] {
        let mut bench = Bench::new(small());
        bench.record(4);
        let from = bench.now;
        // The camera holds its pictures back for 12 s, and sends them with their times.
        bench.wait(1_300_000);
        let to = bench.now.after(10_700_000);
        bench.order(StorageRequest::NoteGap(Gap {
            from,
            to,
            reason: GapReason::CameraDown,
            bytes: 0,
        }));
        bench.now = from.after(100_000 - early);
        for i in 0..120 {
            bench.placed(1, i % 20 == 0, 0);
            bench.frames += 1;
            bench.now = bench.now.after(100_000);
        }
        bench.record(4);
        bench.order(StorageRequest::Stop);
        assert_eq!(bench.gaps(), [], "early by {early}");
        bench.is_whole();
    }
}

#[test]
fn a_full_card_with_two_segments_keeps_recording_on_them() {
    for most in [2, 3] {
        let mut bench = Bench::new(small());
        let files = |bench: &Bench| super::disk::segments(&bench.disk.live().lengths()).len();
        while files(&bench) < most {
            bench.record(1);
        }
        let taken = bench.disk.live().lengths().values().sum::<u64>();
        bench.disk.leave_only(taken + BLOCK);
        bench.record(60);
        let lost = |update: &StorageUpdate| matches!(update, StorageUpdate::CardLost { .. });
        assert!(!bench.update.iter().any(lost), "{most} segments");
        assert_eq!(bench.gaps(), []);
        bench.is_whole();
        bench.disk.leave_only(1 << 30);
        bench.wait(140_000_000);
        bench.run += 1;
        bench.frames = 0;
        bench.record(120);
        assert_eq!(files(&bench), 8, "the ring grows again");
    }
}

#[test]
fn a_card_that_is_full_after_one_segment_is_recorded_on() {
    let mut bench = Bench::new(small());
    bench.record(2);
    assert_eq!(bench.engine.ring.index().live().len(), 1);
    let taken = bench.disk.live().lengths().values().sum::<u64>();
    bench.disk.leave_only(taken + BLOCK);
    bench.record(60);
    let lost = |update: &StorageUpdate| matches!(update, StorageUpdate::CardLost { .. });
    assert!(!bench.update.iter().any(lost));
    assert_eq!(bench.gaps(), []);
    bench.order(StorageRequest::Stop);
    // The next boot finds the same full card.
    bench.restart(small());
    bench.record(60);
    assert!(!bench.update.iter().any(lost));
    bench.is_whole();
}

#[test]
fn footage_in_memory_is_a_gap_after_an_orderly_stop_too() {
    let mut bench = Bench::new(small());
    bench.record(30);
    bench.disk.read_only(true);
    bench.record(30);
    bench.order(StorageRequest::Stop);
    bench.disk.read_only(false);
    bench.restart(small());
    bench.record(3);
    assert!(matches!(bench.gaps()[..], [(_, 285..=301, 601)]), "{:?}", bench.gaps());
    bench.is_whole();
}

#[test]
fn a_stop_records_the_open_gap_with_its_reason() {
    let mut bench = Bench::new(small());
    bench.record(20);
    for n in 0..80 {
        bench.wait(100_000);
        bench.frame(&video(2), n * 9000, false, 500);
    }
    bench.order(StorageRequest::Stop);
    assert_eq!(bench.gaps(), [(GapReason::NoKeyFrame, 201, 280)]);
    bench.is_whole();
    bench.wait(60_000_000);
    bench.restart(small());
    bench.record(4);
    assert_eq!(bench.gaps(), [(GapReason::Stopped, 280, 881)]);
    bench.is_whole();
}

#[test]
fn undecodable_pictures_behind_a_start_are_no_time_off() {
    for is_stopped in [false, true] {
        let mut bench = Bench::new(small());
        bench.record(20);
        bench.order(StorageRequest::Stop);
        bench.wait(60_000_000);
        bench.restart(small());
        for n in 0..80 {
            bench.wait(100_000);
            bench.frame(&video(1), n * 9000, false, 500);
        }
        let off = (GapReason::Stopped, 201, 801);
        if is_stopped {
            bench.order(StorageRequest::Stop);
            assert_eq!(bench.gaps(), [off, (GapReason::NoKeyFrame, 801, 880)]);
            bench.wait(60_000_000);
            bench.restart(small());
            bench.record(4);
            assert_eq!(bench.gaps(), [(GapReason::Stopped, 880, 1481)]);
        } else {
            bench.frames = 80;
            bench.record(4);
            assert_eq!(bench.gaps(), [off, (GapReason::NoKeyFrame, 801, 881)]);
        }
        bench.is_whole();
    }
}

#[test]
fn a_camera_that_sent_nothing_before_a_stop_is_named() {
    let mut bench = Bench::new(small());
    bench.record(20);
    bench.wait(8_000_000);
    bench.order(StorageRequest::Stop);
    assert_eq!(bench.gaps(), [(GapReason::CameraDown, 201, 280)]);
    bench.is_whole();
}
