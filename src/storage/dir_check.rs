//! Directory check: notices a ring directory or a file in it that was removed, replaced or unmounted.
//!
//! Open files take writes after they were deleted or renamed, so no write would fail.

use std::time::Duration;

use super::disk::{Disk as _, FileId};
use super::engine::Engine;
use super::fallback::is_in_memory;
use super::missing_records::locate_gaps;
use super::range_set::Ranges;
use super::ring::Ring;
use super::{Repair, StorageUpdate};
use crate::format::segment_head::{Eviction, EvictionCause};
use crate::units::MonoTime;

/// Interval of the check.
const INTERVAL: Duration = Duration::from_secs(2);
/// Segment files whose name is looked at in one check, beside the newest one: the 512 files of the
/// default ring in 8 s, in some 0.2 ms each time.
const NAMES_PER_CHECK: usize = 128;

/// When the directory is checked next, and from which segment file on.
#[derive(Debug, Default)]
pub(super) struct DirCheck {
    next: MonoTime,
    file: u32,
}

impl Engine {
    /// Continues in memory, with an alarm, once the ring directory is gone.
    pub(super) fn check_dir(&mut self, now: MonoTime, out: &mut Vec<StorageUpdate>) {
        if now < self.dir_check.next {
            return;
        }
        self.dir_check.next = now.plus(INTERVAL);
        if self.ring.is_in_memory() && self.card.holds(FileId::Journal) {
            return;
        }
        let Some(detail) = self.card.lost_dir() else {
            self.check_side_files(out);
            return self.check_segments(out);
        };
        if !self.ring.is_in_memory() {
            self.ring.switch_to_memory();
        }
        let journal = !self.card.holds(FileId::Journal);
        if journal {
            self.card.hold_in_memory(FileId::Journal, self.journal.size());
            self.card.hold_in_memory(FileId::Snapshots, self.snapshots.size());
        }
        // One report for both: ring and journal are lost at the same instant.
        out.push(StorageUpdate::CardLost { journal, detail });
    }

    /// Continues journal and snapshots in memory once another file has their name: what is written to
    /// the opened one would be gone at the next boot.
    fn check_side_files(&mut self, out: &mut Vec<StorageUpdate>) {
        for file in [FileId::Journal, FileId::Snapshots] {
            let Some(change) = self.card.take_change(file) else { continue };
            let detail =
                format!("{} {}: put it back, then restart taimat", file.name(), change.what);
            match file {
                FileId::Journal if change.is_other => {
                    self.card.hold_in_memory(file, self.journal.size());
                    out.push(StorageUpdate::CardLost { journal: true, detail });
                }
                _ => {
                    if change.is_other {
                        self.card.hold_in_memory(file, self.snapshots.size());
                    }
                    out.push(StorageUpdate::Trouble { detail, lost: true });
                }
            }
        }
    }

    /// Looks at the names of the newest and of some further segment files. One that is another file
    /// now is neither read nor written until the next boot, and its records are missing.
    fn check_segments(&mut self, out: &mut Vec<StorageUpdate>) {
        if self.ring.is_in_memory() {
            return;
        }
        let newest = self.ring.current_file();
        let due = self.ring.files_from(self.dir_check.file, NAMES_PER_CHECK);
        self.dir_check.file = due.last().map_or(0, |last| last + 1);
        let mut lost = Ranges::default();
        for file in newest.into_iter().chain(due) {
            let Some(change) = self.card.take_change(FileId::Segment(file)) else { continue };
            let mut detail = format!("{} {}", FileId::Segment(file).name(), change.what);
            let mut is_lost = true;
            if change.is_other {
                let numbers = self.ring.drop_file(file);
                is_lost = numbers.is_some();
                if let Some((first, last)) = numbers {
                    lost.add(first, last);
                    detail += &format!(
                        ": its records {first} to {last} count as missing, also if a copy holds them"
                    );
                }
                detail += "; it is not touched until the next boot: put the file back, then restart taimat";
                if newest == Some(file) {
                    // What comes next needs the key frame that is lost with the file.
                    self.need_key |= self.builder.first().is_none_or(|first| !first.key);
                    self.flush_all(out);
                }
            } else if change.is_shorter
                && let Some((first, last)) = self.ring.numbers_in(file)
            {
                detail +=
                    &format!(": of its records {first} to {last} those behind its end are lost");
            }
            out.push(StorageUpdate::Trouble { detail, lost: is_lost });
        }
        for gap in locate_gaps(self.card.as_ref(), self.ring.index(), &lost) {
            out.push(StorageUpdate::Repaired(Repair::missing(gap)));
        }
        if !lost.list().is_empty() {
            out.extend(self.broken_locks());
        }
    }
}

impl Ring {
    /// At most `most` segment files of the card from number `first` on that may be used.
    fn files_from(&self, first: u32, most: usize) -> Vec<u32> {
        let files = self.files.range(first..).map(|(file, _)| *file);
        let on_card = files.take_while(|file| !is_in_memory(*file));
        on_card.filter(|file| !self.quarantined.contains(file)).take(most).collect()
    }

    /// The numbers of the records in a file.
    fn numbers_in(&self, file: u32) -> Option<(u64, u64)> {
        let at = self.index.live().iter().position(|segment| segment.head.segment == file);
        at.map(|at| self.numbers_of(at)).filter(|(first, last)| first <= last)
    }

    /// Neither reads nor writes a file until the next boot. Its records are on record as missing;
    /// returns their numbers.
    fn drop_file(&mut self, file: u32) -> Option<(u64, u64)> {
        let numbers = self.numbers_in(file);
        self.close_file(file);
        self.index.forget(file);
        self.quarantined.insert(file);
        if let Some((first, last)) = numbers {
            self.note_eviction(Eviction { cause: EvictionCause::Missing, first, last });
            self.index.lost.add(first, last);
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::disk::RealDisk;
    use super::super::engine_tests::small;
    use super::super::{PinClass, PinId, RepairKind, SpanQuery, StorageRequest};
    use super::*;
    use crate::camera::{Frame, StreamRole};
    use crate::format::record::tests::video;
    use crate::units::{ClockQuality, Timestamp, WallTime};

    #[test]
    fn a_ring_directory_that_is_gone_is_reported_within_5_s() {
        for replaced in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let ring = dir.path().join("ring");
            let disk = Arc::new(RealDisk::open(&ring, false).unwrap());
            let start = Timestamp {
                mono: MonoTime(1_000_000),
                wall: WallTime(1_790_000_000_000_000),
                quality: ClockQuality::Ntp,
            };
            let (mut engine, _) = Engine::open(disk, &small(), start).unwrap();
            let mut out = Vec::new();
            engine.idle(start.after(2_500_000), &mut out);
            let lost = |out: &[StorageUpdate]| -> Vec<(bool, String)> {
                let of = out.iter().filter_map(|update| match update {
                    StorageUpdate::CardLost { journal, detail } => Some((*journal, detail.clone())),
                    _ => None,
                });
                of.collect()
            };
            assert!(lost(&out).is_empty(), "{out:?}");
            std::fs::rename(&ring, dir.path().join("elsewhere")).unwrap();
            if replaced {
                std::fs::create_dir(&ring).unwrap();
                std::fs::write(ring.join("lock"), "").unwrap();
            }
            for second in 3..9 {
                engine.idle(start.after(second * 1_000_000), &mut out);
            }
            let reports = lost(&out);
            assert_eq!(reports.len(), 1, "once, with ring and journal: {out:?}");
            assert!(reports[0].0, "the numbers of events lie in memory, too");
            let word = if replaced { "replaced" } else { "removed" };
            assert!(reports.iter().all(|(_, detail)| detail.contains(word)), "{reports:?}");
        }
    }

    /// An engine on a real directory that has recorded some segments, and sends on.
    struct Recorder {
        dir: tempfile::TempDir,
        engine: Engine,
        now: Timestamp,
        pictures: i64,
        out: Vec<StorageUpdate>,
    }

    impl Recorder {
        fn new(seconds: i64) -> Recorder {
            let dir = tempfile::tempdir().unwrap();
            let now = Timestamp {
                mono: MonoTime(1_000_000),
                wall: WallTime(1_790_000_000_000_000),
                quality: ClockQuality::Ntp,
            };
            let disk = Arc::new(RealDisk::open(&dir.path().join("ring"), false).unwrap());
            let (engine, out) = Engine::open(disk, &small(), now).unwrap();
            let mut recorder = Recorder { dir, engine, now, pictures: 0, out };
            recorder.record(seconds);
            recorder.out.clear();
            recorder
        }

        fn record(&mut self, seconds: i64) {
            for n in 0..seconds * 10 {
                self.now = self.now.after(100_000);
                self.engine.idle(self.now, &mut self.out);
                let frame = Frame {
                    role: StreamRole::Main,
                    params: video(1),
                    data: vec![7; 500].into(),
                    key: n % 10 == 0,
                    pts: self.pictures * 9000,
                    run: 1,
                    at: self.now,
                    lost: 0,
                };
                self.pictures += 1;
                self.engine.frame(&Arc::new(frame), &mut self.out);
            }
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.dir.path().join("ring").join(name)
        }

        fn segment(&self, file: u32) -> std::path::PathBuf {
            self.path(&FileId::Segment(file).name())
        }

        fn troubles(&self) -> Vec<&str> {
            let of = self.out.iter().filter_map(|update| match update {
                StorageUpdate::Trouble { detail, .. } => Some(detail.as_str()),
                StorageUpdate::CardLost { detail, .. } => Some(detail.as_str()),
                _ => None,
            });
            of.collect()
        }

        /// The records that are reported as missing.
        fn missing(&self) -> Vec<(u64, u64)> {
            let of = self.out.iter().filter_map(|update| match update {
                StorageUpdate::Repaired(Repair { kind: RepairKind::Missing, lost, .. }) => {
                    lost.map(|lost| (lost.first, lost.last))
                }
                _ => None,
            });
            of.collect()
        }

        /// Opens the ring again; its footage is that of the segments that are left.
        fn boot(mut self) -> Vec<StorageUpdate> {
            self.engine.request(self.now, StorageRequest::Stop, &mut self.out);
            drop(self.engine);
            let disk = Arc::new(RealDisk::open(&self.dir.path().join("ring"), false).unwrap());
            Engine::open(disk, &small(), self.now.after(1_000_000)).unwrap().1
        }
    }

    #[test]
    fn a_removed_segment_is_reported_within_5_s() {
        let mut recorder = Recorder::new(30);
        std::fs::remove_file(recorder.segment(1)).unwrap();
        recorder.record(5);
        let troubles = recorder.troubles();
        assert!(
            troubles.len() == 1 && troubles[0].contains("seg-00001.mp4 was removed"),
            "{troubles:?}"
        );
        assert_eq!(recorder.missing().len(), 1);
        recorder.record(60);
        assert_eq!(recorder.troubles().len(), 1, "once");
        let boot = recorder.boot();
        let StorageUpdate::Started(found) = &boot[0] else { panic!("{boot:?}") };
        assert!(found.repairs.iter().all(|repair| repair.kind == RepairKind::Missing), "{found:?}");
    }

    #[test]
    fn exchanged_segments_are_neither_read_nor_written() {
        let mut recorder = Recorder::new(30);
        let (one, two) = (recorder.segment(1), recorder.segment(2));
        let aside = recorder.path("aside");
        std::fs::rename(&one, &aside).unwrap();
        std::fs::rename(&two, &one).unwrap();
        std::fs::rename(&aside, &two).unwrap();
        let bytes = [&one, &two].map(|path| std::fs::read(path).unwrap());
        recorder.record(5);
        assert_eq!(recorder.troubles().len(), 2, "{:?}", recorder.troubles());
        let missing = recorder.missing();
        assert_eq!(missing.len(), 1, "one stretch: {missing:?}");
        // Two laps and more.
        recorder.record(120);
        assert!([&one, &two].map(|path| std::fs::read(path).unwrap()) == bytes);
        let query = SpanQuery::Seq { first: missing[0].0, last: missing[0].1 };
        let located = StorageRequest::Locate { pin: PinId(1), class: PinClass::Requested, query };
        recorder.out.clear();
        recorder.engine.request(recorder.now, located, &mut recorder.out);
        recorder.record(12);
        let is_empty = |update: &StorageUpdate| {
            matches!(update, StorageUpdate::Located { span, .. }
                if span.as_ref().is_none_or(|span| span.fragments.is_empty()))
        };
        assert!(recorder.out.iter().any(is_empty), "{:?}", recorder.out);
    }

    #[test]
    fn recording_leaves_a_newest_segment_that_was_replaced() {
        let mut recorder = Recorder::new(30);
        let newest = recorder.engine.ring.current_file().unwrap();
        let path = recorder.segment(newest);
        std::fs::rename(&path, recorder.path("aside")).unwrap();
        std::fs::write(&path, vec![9; small().segment as usize]).unwrap();
        recorder.record(10);
        let trouble = &recorder.troubles()[0];
        assert!(trouble.contains("replaced by another file"), "{trouble}");
        assert!(trouble.contains("count as missing") && !trouble.contains("lost"), "{trouble}");
        assert_eq!(recorder.missing().len(), 1);
        assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 9));
        let durable = recorder.out.iter().rev().find_map(|update| match update {
            StorageUpdate::Durable { seq, .. } => Some(*seq),
            _ => None,
        });
        let disk: Arc<dyn super::super::disk::Disk> =
            Arc::new(RealDisk::open_read_only(&recorder.path("")).unwrap());
        let checked = super::super::check::check(&disk, |_, _| {}).unwrap();
        assert_eq!(checked.numbers.map(|(_, last)| last), durable);
    }

    #[test]
    fn a_truncated_segment_is_named_once_and_recycled() {
        let mut recorder = Recorder::new(30);
        let file = std::fs::OpenOptions::new().write(true).open(recorder.segment(1)).unwrap();
        file.set_len(4096).unwrap();
        recorder.record(5);
        let troubles = recorder.troubles();
        assert!(troubles.len() == 1 && troubles[0].contains("has 4096 bytes"), "{troubles:?}");
        assert!(troubles[0].contains("of its records "), "{troubles:?}");
    }

    #[test]
    fn a_replaced_journal_continues_in_memory_with_an_alarm() {
        let mut recorder = Recorder::new(10);
        let journal = recorder.path("journal.taimat");
        std::fs::copy(&journal, recorder.path("copy")).unwrap();
        std::fs::rename(recorder.path("copy"), &journal).unwrap();
        recorder.record(5);
        let is_alarm = |update: &&StorageUpdate| matches!(update, StorageUpdate::CardLost { journal: true, detail } if detail.contains("journal.taimat"));
        assert_eq!(recorder.out.iter().filter(is_alarm).count(), 1, "{:?}", recorder.out);
    }
}
