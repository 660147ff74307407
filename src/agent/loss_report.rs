//! Losses not yet reported. They accumulate here until the journal accepts another event, however
//! long storage stalls.
//!
//! What belongs here: counting losses by reason, and `shed` events. What does not: choosing what is
//! shed (the outbox).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Agent;
use super::events::kind;
use super::spool::{EntryKind, Note};
use crate::listed_enum::listed_enum;
use crate::outbox::ShedReason;
use crate::units::Timestamp;

/// Sequence number ranges in one event: an entry must fit one journal slot.
pub const RANGES_MAX: usize = 10;
/// Files named in one event, for the same reason.
pub const FILES_MAX: usize = 6;
/// Lost files whose event ids are kept until they are reported; further files are only counted.
const NAMES_MAX: usize = 64;

listed_enum! {
    /// Why events or files were lost.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum LossReason {
        /// The outbox exceeded its bound.
        OutboxFull,
        /// Recovery found entries that this version cannot decode.
        Unreadable,
        /// Storage stalled, and the spool was full. Such events never got a sequence number.
        StorageStalled,
        /// The entry did not fit a journal slot.
        TooLarge,
        /// The entry outlived its maximum age ([`crate::outbox`]).
        Expired,
    }

    /// All reasons.
    const ALL;
}

impl LossReason {
    /// The word used in payloads.
    pub fn as_str(self) -> &'static str {
        match self {
            LossReason::OutboxFull => "outbox_full",
            LossReason::Unreadable => "unreadable",
            LossReason::StorageStalled => "storage_stalled",
            LossReason::TooLarge => "too_large",
            LossReason::Expired => "expired",
        }
    }
}

/// Losses of one reason.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct LossTotals {
    events: u64,
    seq: Vec<(u64, u64)>,
    files: u64,
    file_events: Vec<String>,
    bytes: u64,
    entries: u64,
    joined: bool,
}

impl LossTotals {
    /// Adds a range of sequence numbers. The ranges stay sorted and disjoint.
    fn add(&mut self, range: (u64, u64)) {
        self.seq.push(range);
        self.seq.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(self.seq.len());
        for (first, last) in self.seq.drain(..) {
            match merged.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        self.seq = merged;
    }

    /// Merges the closest ranges until they fit one event.
    fn join(&mut self) {
        while self.seq.len() > RANGES_MAX {
            let distance = |at: &usize| self.seq[at + 1].0 - self.seq[*at].1;
            let at = (0..self.seq.len() - 1).min_by_key(distance).unwrap_or(0);
            self.seq[at].1 = self.seq.remove(at + 1).1;
            self.joined = true;
        }
    }
}

/// All losses since the last report.
#[derive(Debug, Default)]
pub struct UnreportedLosses {
    lost: BTreeMap<LossReason, LossTotals>,
}

impl UnreportedLosses {
    /// Counts an event without a sequence number.
    pub fn event(&mut self, why: LossReason) {
        self.lost.entry(why).or_default().events += 1;
    }

    /// Counts the event with this sequence number.
    fn numbered(&mut self, why: LossReason, seq: u64) {
        let lost = self.lost.entry(why).or_default();
        lost.events += 1;
        lost.add((seq, seq));
    }

    /// Keeps the counts and drops the numbers, which count in a ring that is no longer reported. Its
    /// entries are on the card still, and the next boot sends them.
    pub fn forget_numbers(&mut self) {
        self.lost.values_mut().for_each(|lost| lost.seq.clear());
    }

    /// Counts a file of `bytes` that belongs to `event`.
    pub fn file(&mut self, why: LossReason, event: String, bytes: u64) {
        let lost = self.lost.entry(why).or_default();
        lost.files += 1;
        lost.bytes += bytes;
        if lost.file_events.len() < NAMES_MAX {
            lost.file_events.push(event);
        }
    }

    /// Counts entries that cannot be decoded. `seq` is the range that can contain the numbers of
    /// their events.
    pub fn unreadable(&mut self, entries: u64, seq: Option<(u64, u64)>) {
        let lost = self.lost.entry(LossReason::Unreadable).or_default();
        lost.entries += entries;
        seq.into_iter().for_each(|range| lost.add(range));
    }

    /// Counts the losses of a shed `shed` event again. They must fit one event: else each shed
    /// report would lead to several. Its files are only counted.
    fn again(&mut self, payload: &str) {
        let data = serde_json::from_str::<Value>(payload).unwrap_or_default()["data"].take();
        let why = LossReason::ALL.into_iter().find(|why| data["reason"] == why.as_str());
        let (Some(why), Ok(reported)) = (why, serde_json::from_value::<LossTotals>(data)) else {
            return;
        };
        let lost = self.lost.entry(why).or_default();
        lost.events += reported.events;
        lost.files += reported.files;
        lost.bytes += reported.bytes;
        lost.entries += reported.entries;
        lost.joined |= reported.joined;
        reported.seq.into_iter().for_each(|range| lost.add(range));
        lost.join();
    }

    /// The data of the next event. Losses without sequence numbers are reported only while storage
    /// keeps up.
    fn take(&mut self, storage_keeps_up: bool) -> Option<Value> {
        let why = *self
            .lost
            .keys()
            .find(|why| **why != LossReason::StorageStalled || storage_keeps_up)?;
        let lost = self.lost.get_mut(&why)?;
        let seq: Vec<(u64, u64)> = lost.seq.drain(..lost.seq.len().min(RANGES_MAX)).collect();
        let file_events: Vec<String> =
            lost.file_events.drain(..lost.file_events.len().min(FILES_MAX)).collect();
        // One report can take several events. Each counts what it names; the last one counts the
        // rest.
        let more = !lost.seq.is_empty() || !lost.file_events.is_empty();
        let joined = lost.joined;
        let named = seq.iter().map(|(first, last)| last - first + 1).sum::<u64>();
        let (events, files) = if more {
            (named.min(lost.events), (file_events.len() as u64).min(lost.files))
        } else {
            (lost.events, lost.files)
        };
        lost.events -= events;
        lost.files -= files;
        let bytes = std::mem::take(&mut lost.bytes);
        let entries = std::mem::take(&mut lost.entries);
        if !more {
            self.lost.remove(&why);
        }
        let mut data = json!({"reason": why.as_str(), "events": events, "files": files});
        for (key, value, empty) in [
            ("seq", json!(seq), seq.is_empty()),
            ("file_events", json!(file_events), file_events.is_empty()),
            ("bytes", json!(bytes), bytes == 0),
            ("entries", json!(entries), entries == 0),
            ("merged", json!(true), !joined),
        ] {
            if !empty {
                data[key] = value;
            }
        }
        Some(data)
    }
}

impl Agent {
    /// Releases the entries that the outbox has shed, and counts them as losses.
    pub(super) fn note_shed(&mut self) {
        for (entry_id, shed) in self.outbox.take_shed() {
            let why = if shed == ShedReason::Expired {
                LossReason::Expired
            } else {
                LossReason::OutboxFull
            };
            match self.release_entry(entry_id) {
                Some(EntryKind::Event { seq, note, .. }) => {
                    if self.spool.is_of_this_ring(entry_id) {
                        self.unreported.numbered(why, seq);
                    } else {
                        self.unreported.event(why);
                    }
                    if let Note::Shed(payload) = note {
                        self.unreported.again(&payload);
                    }
                }
                Some(EntryKind::File(manifest)) => {
                    self.unreported.file(why, manifest.event, manifest.size)
                }
                None => {}
            }
        }
    }

    /// Reports losses as events while the spool has room.
    pub(super) fn report_losses(&mut self, now: Timestamp) {
        while self.spool.has_room()
            && let Some(data) = self.unreported.take(self.spool.is_clear())
        {
            tracing::error!(%data, "outbox entries lost; the shed event names them");
            self.event(now, kind::SHED, None, data);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The longest data a `shed` event can have.
    pub fn longest() -> Value {
        let seq = vec![(1_000_000_000_000, 1_000_000_000_001); RANGES_MAX];
        let file_events = vec!["Z".repeat(64); FILES_MAX];
        let lost = LossTotals {
            events: 1 << 40,
            seq,
            files: 1 << 40,
            file_events,
            bytes: 1 << 40,
            entries: 1 << 40,
            joined: true,
        };
        UnreportedLosses { lost: BTreeMap::from([(LossReason::StorageStalled, lost)]) }
            .take(true)
            .unwrap()
    }

    #[test]
    fn reports_name_exactly_the_lost_numbers() {
        let mut unreported = UnreportedLosses::default();
        let gone: Vec<u64> = (1..=60).filter(|seq| seq % 3 != 0).collect();
        gone.iter().for_each(|seq| unreported.numbered(LossReason::OutboxFull, *seq));
        let (mut named, mut events) = (Vec::new(), 0);
        while let Some(data) = unreported.take(true) {
            assert!(data["seq"].as_array().unwrap().len() <= RANGES_MAX);
            let lost: LossTotals = serde_json::from_value(data).unwrap();
            events += lost.events;
            named.extend(lost.seq.into_iter().flat_map(|(first, last)| first..=last));
        }
        assert_eq!((named, events), (gone.clone(), gone.len() as u64));
    }

    #[test]
    fn losses_of_a_shed_report_are_reported_again() {
        let mut unreported = UnreportedLosses::default();
        unreported.numbered(LossReason::OutboxFull, 7);
        unreported.file(LossReason::OutboxFull, "e".into(), 9);
        let payload = json!({"data": unreported.take(true).unwrap()}).to_string();
        unreported.again(&payload);
        assert_eq!(
            unreported.take(true).unwrap(),
            json!({"reason": "outbox_full", "events": 1, "files": 1, "seq": [[7, 7]], "bytes": 9})
        );
    }

    #[test]
    fn many_repeated_losses_merge_into_one_marked_event() {
        let mut unreported = UnreportedLosses::default();
        for seq in (0..60).map(|n| n * 10 + n % 7) {
            let payload =
                json!({"data": {"reason": "outbox_full", "events": 1, "seq": [[seq, seq]]}})
                    .to_string();
            unreported.again(&payload);
        }
        let data = unreported.take(true).unwrap();
        assert_eq!((data["events"].as_u64(), data["merged"].as_bool()), (Some(60), Some(true)));
        assert!(unreported.take(true).is_none());
    }
}
