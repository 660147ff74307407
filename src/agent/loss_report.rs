//! What was dropped and is not an event yet. It waits here until there is room to tell it, however long the card stands still.
//!
//! What belongs here: counting losses by their reason, and `loss_report` events. What does not: choosing what goes (the outbox).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Agent;
use super::events::kind;
use super::spool::{EntryKind, Note};
use crate::outbox::ShedReason;
use crate::units::Timestamp;

/// Ranges of numbers in one event at most: an entry is one journal slot.
pub const RANGES_MAX: usize = 10;
/// Files named in one event at most, for the same reason.
pub const FILES_MAX: usize = 6;
/// Files whose events are remembered by name until they are reported; more are only counted.
const NAMES_MAX: usize = 64;

/// Why something was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LossReason {
    /// The outbox was over its bound.
    OutboxFull,
    /// Entries found at start were written by a version this one cannot read.
    Unreadable,
    /// The card took nothing, and what waited for it was over its bound. Such events never had a number.
    StorageStalled,
    /// It did not fit a slot of the journal.
    TooLarge,
    /// It was too old to be of use ([`crate::outbox`]).
    Expired,
}

impl LossReason {
    const ALL: [LossReason; 5] =
        [LossReason::OutboxFull, LossReason::Unreadable, LossReason::StorageStalled, LossReason::TooLarge, LossReason::Expired];

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

/// Losses of one kind.
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
    /// Adds numbers; ranges stay in order and apart.
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

    /// Joins the ranges that lie closest until one event can tell them.
    fn join(&mut self) {
        while self.seq.len() > RANGES_MAX {
            let apart = |at: &usize| self.seq[at + 1].0 - self.seq[*at].1;
            let at = (0..self.seq.len() - 1).min_by_key(apart).unwrap_or(0);
            self.seq[at].1 = self.seq.remove(at + 1).1;
            self.joined = true;
        }
    }
}

/// Everything dropped since it was last reported.
#[derive(Debug, Default)]
pub struct UnreportedLosses {
    lost: BTreeMap<LossReason, LossTotals>,
}

impl UnreportedLosses {
    /// An event that never got a number.
    pub fn event(&mut self, why: LossReason) {
        self.lost.entry(why).or_default().events += 1;
    }

    /// The event with this number.
    fn numbered(&mut self, why: LossReason, seq: u64) {
        let lost = self.lost.entry(why).or_default();
        lost.events += 1;
        lost.add((seq, seq));
    }

    /// A file that belongs to `event`.
    pub fn file(&mut self, why: LossReason, event: String, bytes: u64) {
        let lost = self.lost.entry(why).or_default();
        (lost.files, lost.bytes) = (lost.files + 1, lost.bytes + bytes);
        if lost.file_events.len() < NAMES_MAX {
            lost.file_events.push(event);
        }
    }

    /// Entries nobody can read; their events, if they were any, have numbers in `seq`.
    pub fn unreadable(&mut self, entries: u64, seq: Option<(u64, u64)>) {
        let lost = self.lost.entry(LossReason::Unreadable).or_default();
        lost.entries += entries;
        seq.into_iter().for_each(|range| lost.add(range));
    }

    /// What an event reported that is now dropped itself, so that it is reported again: in one event, or telling would take more and more of
    /// them. Files are only counted then.
    fn again(&mut self, payload: &str) {
        let data = serde_json::from_str::<Value>(payload).unwrap_or_default()["data"].take();
        let why = LossReason::ALL.into_iter().find(|why| data["reason"] == why.as_str());
        let (Some(why), Ok(told)) = (why, serde_json::from_value::<LossTotals>(data)) else {
            return;
        };
        let lost = self.lost.entry(why).or_default();
        lost.events += told.events;
        (lost.files, lost.bytes, lost.entries) = (lost.files + told.files, lost.bytes + told.bytes, lost.entries + told.entries);
        lost.joined |= told.joined;
        told.seq.into_iter().for_each(|range| lost.add(range));
        lost.join();
    }

    /// The particulars of the next event to tell; losses without numbers only while the card keeps up.
    fn take(&mut self, card_keeps_up: bool) -> Option<Value> {
        let why = *self.lost.keys().find(|why| **why != LossReason::StorageStalled || card_keeps_up)?;
        let lost = self.lost.get_mut(&why)?;
        let seq: Vec<(u64, u64)> = lost.seq.drain(..lost.seq.len().min(RANGES_MAX)).collect();
        let file_events: Vec<String> = lost.file_events.drain(..lost.file_events.len().min(FILES_MAX)).collect();
        // Every event but the last of several tells what it names; the last tells the rest.
        let more = !lost.seq.is_empty() || !lost.file_events.is_empty();
        let joined = lost.joined;
        let named = seq.iter().map(|(first, last)| last - first + 1).sum::<u64>();
        let (events, files) =
            if more { (named.min(lost.events), (file_events.len() as u64).min(lost.files)) } else { (lost.events, lost.files) };
        (lost.events, lost.files) = (lost.events - events, lost.files - files);
        let (bytes, entries) = (std::mem::take(&mut lost.bytes), std::mem::take(&mut lost.entries));
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
    /// Lets go of what the outbox had to shed, and remembers it until it is reported.
    pub(super) fn note_shed(&mut self) {
        for (entry_id, shed) in self.outbox.take_shed() {
            let why = if shed == ShedReason::Expired { LossReason::Expired } else { LossReason::OutboxFull };
            match self.release_entry(entry_id) {
                Some(EntryKind::Event { seq, note, .. }) => {
                    self.unreported.numbered(why, seq);
                    if let Note::Shed(payload) = note {
                        self.unreported.again(&payload);
                    }
                }
                Some(EntryKind::File(manifest)) => self.unreported.file(why, manifest.event, manifest.size),
                None => {}
            }
        }
    }

    /// Tells what was dropped, as soon as there is room.
    pub(super) fn report_losses(&mut self, now: Timestamp) {
        while self.spool.has_room()
            && let Some(data) = self.unreported.take(self.spool.is_clear())
        {
            tracing::error!(%data, "given up");
            self.event(now, kind::SHED, None, data);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The longest particulars a `loss_report` event can have.
    pub fn longest() -> Value {
        let seq = vec![(1_000_000_000_000, 1_000_000_000_001); RANGES_MAX];
        let file_events = vec!["Z".repeat(64); FILES_MAX];
        let lost =
            LossTotals { events: 1 << 40, seq, files: 1 << 40, file_events, bytes: 1 << 40, entries: 1 << 40, joined: true };
        UnreportedLosses { lost: BTreeMap::from([(LossReason::StorageStalled, lost)]) }.take(true).unwrap()
    }

    #[test]
    fn only_numbers_that_were_given_up_are_named_and_every_one_is() {
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
    fn a_shed_event_that_is_given_up_itself_is_told_again() {
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
    fn what_is_told_again_fits_one_event_that_says_so() {
        let mut unreported = UnreportedLosses::default();
        for seq in (0..60).map(|n| n * 10 + n % 7) {
            let payload = json!({"data": {"reason": "outbox_full", "events": 1, "seq": [[seq, seq]]}}).to_string();
            unreported.again(&payload);
        }
        let data = unreported.take(true).unwrap();
        assert_eq!((data["events"].as_u64(), data["merged"].as_bool()), (Some(60), Some(true)));
        assert!(unreported.take(true).is_none());
    }
}
