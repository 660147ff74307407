//! Reactions to storage updates: durable records and entries, repairs, locks, faults and the
//! wall clock.
//!
//! Gaps are in [`super::gap_events`], clips and snapshots in [`super::clip_jobs`], commands about locks in [`super::commands`].

use std::time::Duration;

use serde_json::json;

use super::events::{self, kind};
use super::maintenance_commands::ResendRanges;
use super::{Agent, AgentEffect};
use crate::remote_config::action;
use crate::storage::clock_history::ClockSet;
use crate::storage::messages::Repair;
use crate::storage::open::StorageFault;
use crate::storage::{StorageUpdate, TrackChangeReport};
use crate::units::{Digest, MonoTime, RingId, Timestamp};
use crate::uplink::UplinkRequest;

/// Minimum time between two [`kind::STORAGE`] events. A failing card reports faults continuously, and
/// one event per fault would fill the outbox.
const FAULT_INTERVAL: Duration = Duration::from_secs(60);

/// Limits events about a fault to one per [`FAULT_INTERVAL`].
#[derive(Default)]
pub(super) struct FaultEventLimiter {
    quiet_until: MonoTime,
    suppressed_count: u64,
}

impl FaultEventLimiter {
    /// The number of events suppressed since the last one, if another one may be sent now; else this
    /// one is counted.
    fn pass(&mut self, now: MonoTime) -> Option<u64> {
        if now < self.quiet_until {
            self.suppressed_count += 1;
            return None;
        }
        self.quiet_until = now.plus(FAULT_INTERVAL);
        Some(std::mem::take(&mut self.suppressed_count))
    }
}

impl Agent {
    pub(super) fn storage_update(
        &mut self,
        now: Timestamp,
        update: StorageUpdate,
        out: &mut Vec<AgentEffect>,
    ) {
        match update {
            StorageUpdate::Found { entries } => self.found(entries),
            StorageUpdate::Started(found) => self.started(now, *found, out),
            StorageUpdate::Durable { seq, until } => {
                tracing::debug!(seq, "record durable");
                self.gauges.durable = seq;
                self.configure(now, action::ConfigInput::Footage(until.mono), out);
            }
            StorageUpdate::Enqueued { entry_id } => {
                if let Some((entry_id, meta)) = self.spool.entry_stored(entry_id) {
                    self.outbox.push(now.mono, entry_id, meta);
                    self.answer_with_file(entry_id, out);
                    self.release_replaced(entry_id);
                }
            }
            StorageUpdate::NotEnqueued { entry_id, reason } => {
                if self.spool.store_failed(entry_id, now.mono) {
                    tracing::error!(%reason, "journal rejected an entry; retrying in 5 s");
                }
            }
            StorageUpdate::Fetched { entry_id, outcome } => {
                self.fetched(now, entry_id, outcome, out)
            }
            StorageUpdate::CellSaved { .. } => {}
            StorageUpdate::Located { pin, span } => self.located(now, pin, span, out),
            StorageUpdate::Gap(gap) => self.gap(now, &gap),
            StorageUpdate::TrackChanges(report) => self.track_changes(now, report),
            StorageUpdate::Repaired(repair) => self.repaired(now, &repair),
            StorageUpdate::PinLost { .. } => self.gauges.pins_lost += 1,
            StorageUpdate::Locked { id, outcome } => {
                self.lock_answered(now, "lock", &id, outcome, out)
            }
            StorageUpdate::Unlocked { id, outcome } => {
                self.lock_answered(now, "unlock", &id, outcome, out)
            }
            StorageUpdate::LockBroken { lock, lost } => self.lock_broken(now, &lock, &lost),
            StorageUpdate::ClockSet(set) => self.clock_set(&set),
            StorageUpdate::CardLost { journal, detail } => {
                if journal {
                    self.change_ring(now, out);
                }
                self.card_lost(now, &detail);
            }
            StorageUpdate::CardWorn { percent } => {
                tracing::error!(percent, "card is nearly worn out; replace it");
                self.event(now, kind::CARD, None, json!({"state": "worn", "percent": percent}));
            }
            StorageUpdate::Trouble { detail, lost } => self.trouble(now, &detail, lost),
            StorageUpdate::NoRoom { wanted, available } => self.no_room(now, wanted, available),
            StorageUpdate::Counts(counts) => {
                self.gauges.oldest = counts.oldest;
                self.gauges.storage = counts;
            }
            StorageUpdate::Stopped => self.storage_stopped(out),
        }
    }

    /// Reports a step of the wall clock, so that the office can re-date the earlier records it
    /// already has.
    fn clock_set(&mut self, set: &ClockSet) {
        let ClockSet { before, now, step } = set;
        if set.is_read_again() {
            return;
        }
        tracing::info!(
            before = before.as_str(),
            now = now.quality.as_str(),
            step_ms = step / 1000,
            "wall clock set"
        );
        self.event(
            *now,
            kind::CLOCK,
            None,
            json!({"before": before, "now": now.quality, "step_ms": step / 1000}),
        );
    }

    /// The journal lies in memory from now on, so its numbers are lost at a power cut. They count in
    /// a ring of their own: the next boot from the card would assign the same numbers to other events.
    fn change_ring(&mut self, now: Timestamp, out: &mut Vec<AgentEffect>) {
        let seed = format!("{} {} {} {}", self.ring, self.boot.0, now.mono.0, now.wall.0);
        let digest = Digest::of(seed.as_bytes());
        let ring = RingId(u64::from_be_bytes(std::array::from_fn(|at| digest.0[at])));
        tracing::warn!(from = %self.ring, to = %ring, "event numbers count in another ring from now on");
        self.ring = ring;
        self.spool.change_ring(ring);
        self.unreported.forget_numbers();
        self.wanted = ResendRanges::default();
        out.push(AgentEffect::Uplink(UplinkRequest::Birth(Box::new(self.birth(now)))));
    }

    fn card_lost(&mut self, now: Timestamp, detail: &str) {
        tracing::error!(
            detail,
            "storage takes no more writes, recording continues in RAM only; mend what the detail names, then restart"
        );
        self.event(
            now,
            kind::CARD,
            None,
            json!({"state": "memory_only", "detail": events::text(detail)}),
        );
    }

    fn repaired(&mut self, now: Timestamp, repair: &Repair) {
        let (file, offset, bytes) = (&repair.file, repair.offset, repair.bytes);
        tracing::warn!(
            file,
            offset,
            bytes,
            what = repair.kind.as_str(),
            "scrub found damage on the card; see the storage.repair event"
        );
        self.event(now, kind::REPAIR, None, events::repair(repair));
    }

    fn no_room(&mut self, now: Timestamp, wanted: u64, available: u64) {
        let detail = StorageFault::NoRoom { wanted, available }.to_string();
        tracing::warn!(
            wanted,
            available,
            budget = self.settings.storage.budget,
            "storage.budget does not fit the file system: the ring records in the files that it has; lower storage.budget or free some space"
        );
        let data =
            json!({"state": "no_room", "wanted": wanted, "available": available, "detail": detail});
        self.event(now, kind::CARD, None, data);
    }

    /// Reports a camera that changes its parameter sets again and again, or no longer does.
    fn track_changes(&mut self, now: Timestamp, report: TrackChangeReport) {
        let TrackChangeReport { is_stable, changes, left_out } = report;
        self.gauges.unstable = !is_stable;
        if is_stable {
            tracing::info!(changes, left_out, "camera parameters are stable again");
        } else {
            tracing::warn!(
                changes,
                left_out,
                "the camera changes its parameter sets again and again: one change in 10 s is recorded, the frames between are a gap (parameter_changes); check the camera's resolution, codec and firmware"
            );
        }
        self.event(now, kind::CAMERA_PARAMETERS, None, events::camera_parameters(&report));
    }

    fn trouble(&mut self, now: Timestamp, detail: &str, lost: bool) {
        if lost {
            tracing::error!(
                detail,
                "storage fault: what the detail names is lost, missing or of another card; do what it says, then check the card"
            );
        } else {
            tracing::warn!(
                detail,
                "storage fault; this one lost no data, a loss is reported by itself; check the card if it repeats"
            );
        }
        self.gauges.storage_faults += 1;
        let Some(suppressed_count) = self.storage_faults.pass(now.mono) else { return };
        self.event(
            now,
            kind::STORAGE,
            None,
            json!({"detail": events::text(detail), "lost": lost, "suppressed_count": suppressed_count}),
        );
    }
}
