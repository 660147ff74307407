//! What the last start left on the card: counters, entries owed to the office, events that were open when the power went.
//!
//! What belongs here: taking it up, and telling what could not be. What does not: finding it (storage).

use serde_json::json;

use super::desk::{Desk, Held};
use super::entry::{After, Body, Entry};
use super::events::{self, kind};
use super::{Agent, Effect, Phase, jobs};
use crate::evidence::manifest::Purpose;
use crate::outbox::{Kind, Outbox};
use crate::storage::{Recovered, SpanQuery, StorageOrder};
use crate::units::{RingId, Stamp, Ticket};
use crate::uplink::UplinkOrder;

/// Holes, and repairs, told one by one after a start; the start event has their number.
const START_GAPS_MAX: usize = 32;

impl Agent {
    /// Takes up where the last start ended: counters, what is owed, events that were open when the power went.
    pub(super) fn started(&mut self, now: Stamp, found: Recovered, out: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Starting) {
            return;
        }
        self.phase = Phase::Running;
        (self.ring, self.boot) = (found.ring, found.boot);
        self.outbox = Outbox::new(self.settings.uplink.outbox_bytes, found.slots);
        self.gauges.durable = found.last_seq;
        self.gauges.oldest = found.extent.map(|(oldest, _)| oldest.wall);
        self.gauges.clean_start = found.clean;
        self.next_health = now.mono;
        self.locks = found.locks;
        let read = |(ticket, bytes): &(Ticket, Vec<u8>)| (*ticket, Entry::decode(bytes).ok());
        let entries: Vec<_> = found.entries.iter().map(read).collect();
        let newest = found.newest.as_ref().map(read);
        let after = taken_up(found.ring, newest.as_ref(), &entries);
        let newest = newest.map_or(Ticket(0), |(ticket, _)| ticket);
        self.desk = Desk::new(newest, after.next_seq, self.reader.clone());
        for (count, seq) in unreadable(newest, after.next_seq, &entries) {
            self.untold.unreadable(count, seq);
        }
        self.gauges.uplink.spent = after.spent;
        out.push(Effect::Uplink(UplinkOrder::Spent(after.spent)));
        self.take_over(after, out);
        let unreadable = self.restore(now, entries, out);
        out.push(Effect::Open { boot: found.boot });
        out.push(Effect::Uplink(UplinkOrder::Birth(Box::new(self.birth(now)))));
        let particulars = json!({
            "version": env!("CARGO_PKG_VERSION"), "clean": found.clean, "repaired": found.repairs.len(), "holes": found.gaps.len(),
            "recovery_ms": found.took / 1000, "unreadable_entries": unreadable, "damaged_slots": found.damaged_slots,
        });
        self.event(now, kind::START, None, particulars);
        self.configuration_started(now);
        for gap in found.gaps.iter().take(START_GAPS_MAX) {
            self.event(gap.from, kind::GAP, None, events::gap(gap));
        }
        for repair in found.repairs.iter().take(START_GAPS_MAX) {
            self.event(now, kind::REPAIR, None, events::repair(repair));
        }
        self.end_leftover(now, out);
    }

    /// Takes up the entries still owed to the office; gives the number of those written by a version that cannot be read.
    fn restore(&mut self, now: Stamp, entries: Vec<(Ticket, Option<Entry>)>, out: &mut Vec<Effect>) -> usize {
        let mut unreadable = 0;
        for (ticket, entry) in entries {
            let Some(entry) = entry else {
                tracing::error!(ticket = ticket.0, "an outbox entry cannot be read: dropped");
                unreadable += 1;
                out.push(Effect::Storage(StorageOrder::Release { ticket }));
                continue;
            };
            let kind = lane_of(&entry.body);
            let pin = match &entry.body {
                Body::File(manifest) if manifest.purpose != Purpose::Snapshot => {
                    let pin = self.jobs.new_pin();
                    let (first, last) = manifest.records;
                    let class = jobs::pin_class(manifest.purpose);
                    out.push(Effect::Storage(StorageOrder::Locate { pin, class, query: SpanQuery::Seq { first, last } }));
                    Some(pin)
                }
                _ => None,
            };
            let held = Held { body: entry.body, kind, file: None, pin };
            let meta = held.meta();
            self.desk.restore(ticket, held);
            // A clip enters the outbox once its footage is found and pinned again.
            if pin.is_none() {
                self.outbox.push(now.mono, ticket, meta);
            }
        }
        unreadable
    }
}

/// The state to go on from. Where the newest entry cannot be read, that of the newest that can, with a number that no event can
/// have had: an entry is one event at most, so numbers never ran ahead of tickets. In a ring that was named anew numbers begin at 1.
fn taken_up(ring: RingId, newest: Option<&(Ticket, Option<Entry>)>, entries: &[(Ticket, Option<Entry>)]) -> After {
    let Some((newest, entry)) = newest else {
        return After::default();
    };
    let known = entry.as_ref().map(|entry| (*newest, entry)).or_else(|| {
        let readable = |(ticket, entry): &'_ (Ticket, Option<Entry>)| entry.is_some().then_some(*ticket);
        let best = entries.iter().filter_map(readable).max()?;
        entries.iter().find(|(ticket, _)| *ticket == best).and_then(|(ticket, entry)| Some((*ticket, entry.as_ref()?)))
    });
    let Some((ticket, entry)) = known else {
        return After { next_seq: newest.0 + 1, ..After::default() };
    };
    let base = if entry.after.ring == ring { entry.after.next_seq } else { 1 };
    After { next_seq: base + (newest.0 - ticket.0), ..entry.after.clone() }
}

/// Entries that cannot be read, by run: how many, and the numbers their events had, as far as their neighbours tell. Numbers in it
/// may also belong to entries that were delivered long ago.
fn unreadable(newest: Ticket, next_seq: u64, entries: &[(Ticket, Option<Entry>)]) -> Vec<(u64, Option<(u64, u64)>)> {
    let (mut runs, mut low) = (Vec::new(), 1);
    // The run being walked: its first ticket and its length.
    let mut run: Option<(Ticket, u64)> = None;
    let end = (newest.0 + 1, next_seq);
    let mut close = |run: &mut Option<(Ticket, u64)>, low: u64, (ticket, seq): (u64, u64)| {
        if let Some((first, count)) = run.take() {
            let low = low.max(seq.saturating_sub(ticket - first.0)).max(1);
            runs.push((count, (low < seq).then(|| (low, seq - 1))));
        }
    };
    for (ticket, entry) in entries {
        let Some(entry) = entry else {
            run = Some(run.map_or((*ticket, 1), |(first, count)| (first, count + 1)));
            continue;
        };
        let seq = match &entry.body {
            Body::Event { seq, .. } => *seq,
            Body::File(_) => entry.after.next_seq,
        };
        close(&mut run, low, (ticket.0, seq));
        low = entry.after.next_seq;
    }
    close(&mut run, low, end);
    runs
}

/// The lane an entry found at start travels in.
fn lane_of(body: &Body) -> Kind {
    match body {
        Body::Event { payload, .. } if payload.contains(kind::MOTION_UPDATE) => Kind::Update,
        Body::Event { .. } => Kind::Event,
        Body::File(manifest) => jobs::lane_of(manifest.purpose),
    }
}
