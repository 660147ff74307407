//! Directory check: notices a ring directory that was removed, replaced or unmounted.
//!
//! Open files take writes after they were deleted, so no write would fail.

use std::time::Duration;

use super::StorageUpdate;
use super::disk::{Disk as _, FileId};
use super::engine::Engine;
use crate::units::MonoTime;

/// Interval of the check: one `stat` of a name.
const INTERVAL: Duration = Duration::from_secs(2);

impl Engine {
    /// Continues in memory, with an alarm, once the ring directory is gone.
    pub(super) fn check_dir(&mut self, now: MonoTime, out: &mut Vec<StorageUpdate>) {
        if now < self.next_dir_check {
            return;
        }
        self.next_dir_check = now.plus(INTERVAL);
        if self.ring.is_in_memory() && self.card.holds(FileId::Journal) {
            return;
        }
        let Some(detail) = self.card.lost_dir() else {
            return;
        };
        if !self.ring.is_in_memory() {
            self.ring.switch_to_memory();
            out.push(StorageUpdate::CardLost { journal: false, detail: detail.clone() });
        }
        if !self.card.holds(FileId::Journal) {
            self.card.hold_in_memory(FileId::Journal, self.journal.size());
            self.card.hold_in_memory(FileId::Snapshots, self.snapshots.size());
            out.push(StorageUpdate::CardLost { journal: true, detail });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::disk::RealDisk;
    use super::super::engine_tests::small;
    use super::*;
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
            assert_eq!(reports.len(), 2, "each once: {out:?}");
            let word = if replaced { "replaced" } else { "removed" };
            assert!(reports.iter().all(|(_, detail)| detail.contains(word)), "{reports:?}");
        }
    }
}
