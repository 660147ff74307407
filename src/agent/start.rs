//! What the last start left on the card: counters, entries owed to the office, events that were open when the power went.
//!
//! What belongs here: taking it up, and telling what could not be. What does not: finding it (storage).

use serde_json::json;

use super::desk::What;
use super::entry::{After, Body, Entry};
use super::events::{self, kind};
use super::{Agent, Effect, Phase, jobs};
use crate::evidence::manifest::Purpose;
use crate::outbox::{Kind, Outbox};
use crate::storage::Recovered;
use crate::units::{RingId, Stamp, Ticket};
use crate::uplink::UplinkOrder;

/// Holes, and repairs, told one by one after a start; the start event has their number.
const START_GAPS_MAX: usize = 32;
/// [`kind::ACCESS`] as it stands in a payload.
const ACCESS: &str = "vn.taimat.access.v1";

impl Agent {
    /// Takes up where the last start ended: counters, what is owed, events that were open when the power went.
    pub(super) fn started(&mut self, now: Stamp, found: Recovered, out: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Starting) {
            return;
        }
        self.found(found.entries);
        self.phase = Phase::Running;
        (self.ring, self.boot) = (found.ring, found.boot);
        self.outbox = Outbox::new(self.settings.uplink.outbox_bytes, found.slots);
        self.gauges.durable = found.last_seq;
        self.gauges.oldest = found.extent.map(|(oldest, _)| oldest.wall);
        self.gauges.clean_start = found.clean;
        self.next_health = now.mono;
        self.locks = found.locks;
        let Left { entries, best } = std::mem::take(&mut self.left);
        let read = |(ticket, bytes): (Ticket, Vec<u8>)| (ticket, Entry::decode(&bytes).ok().map(|entry| entry.after));
        let newest = found.newest.map(read);
        let after = taken_up(found.ring, newest.as_ref(), best);
        let newest = newest.map_or(Ticket(0), |(ticket, _)| ticket);
        self.desk.begin(newest, after.next_seq);
        for (count, seq) in unreadable(newest, after.next_seq, &entries) {
            self.untold.unreadable(count, seq);
        }
        self.gauges.uplink.spent = after.spent;
        out.push(Effect::Uplink(UplinkOrder::Spent(after.spent)));
        self.take_over(after, out);
        let unreadable = self.restore(now, &entries);
        out.push(Effect::Open { boot: found.boot });
        out.push(Effect::Uplink(UplinkOrder::Birth(Box::new(self.birth(now)))));
        self.tell_signers(out);
        let particulars = json!({
            "version": env!("CARGO_PKG_VERSION"), "clean": found.clean, "repaired": found.repairs.len(), "gaps": found.gaps.len(),
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

    /// Takes down entries found at start, until all are found.
    pub(super) fn found(&mut self, entries: Vec<(Ticket, Vec<u8>)>) {
        if !matches!(self.phase, Phase::Starting) {
            return;
        }
        for (ticket, bytes) in entries {
            let Ok(Entry { after, body }) = Entry::decode(&bytes) else {
                self.left.entries.push((ticket, None));
                continue;
            };
            let seq = match &body {
                Body::Event { seq, .. } => *seq,
                Body::File(_) => after.next_seq,
            };
            self.left.entries.push((ticket, Some((seq, after.next_seq))));
            self.left.best = Some((ticket, after));
            self.desk.restore(ticket, lane_of(&body), body);
        }
    }

    /// Takes up the entries still owed to the office; gives the number of those written by a version that cannot be read.
    fn restore(&mut self, now: Stamp, entries: &[(Ticket, Option<Numbers>)]) -> usize {
        let unreadable: Vec<Ticket> =
            entries.iter().filter(|(_, numbers)| numbers.is_none()).map(|(ticket, _)| *ticket).collect();
        for ticket in &unreadable {
            tracing::error!(ticket = ticket.0, "an outbox entry cannot be read: dropped");
        }
        self.jobs.done.0.extend(&unreadable);
        for (ticket, held) in self.desk.stored() {
            match &held.what {
                // A clip enters the outbox once its footage is found and pinned again.
                What::File(manifest) if manifest.purpose != Purpose::Snapshot => self.jobs.lost_sight.0.push_back(ticket),
                _ => self.outbox.push(now.mono, ticket, held.meta()),
            }
        }
        unreadable.len()
    }
}

/// Where an entry lies in the sequence: the number of its event, or the next one where it is a file, and the next one after it.
type Numbers = (u64, u64);

/// What of the last start's entries must be known until all of them are.
#[derive(Default)]
pub struct Left {
    /// In the order of their tickets; nothing is known of those that cannot be read.
    entries: Vec<(Ticket, Option<Numbers>)>,
    /// The state after the newest that can be read.
    best: Option<(Ticket, After)>,
}

/// The state to go on from. Where the newest entry cannot be read, that of the newest that can, with a number that no event can
/// have had: an entry is one event at most, so numbers never ran ahead of tickets. In a ring that was named anew numbers begin at 1.
fn taken_up(ring: RingId, newest: Option<&(Ticket, Option<After>)>, best: Option<(Ticket, After)>) -> After {
    let Some((newest, after)) = newest else {
        return After::default();
    };
    let Some((ticket, after)) = after.clone().map(|after| (*newest, after)).or(best) else {
        return After { next_seq: newest.0 + 1, ..After::default() };
    };
    let base = if after.ring == ring { after.next_seq } else { 1 };
    After { next_seq: base + (newest.0 - ticket.0), ..after }
}

/// Entries that cannot be read, by run: how many, and the numbers their events had, as far as their neighbours tell. Numbers in it
/// may also belong to entries that were delivered long ago.
fn unreadable(newest: Ticket, next_seq: u64, entries: &[(Ticket, Option<Numbers>)]) -> Vec<(u64, Option<(u64, u64)>)> {
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
    for (ticket, numbers) in entries {
        let Some((seq, next_seq)) = numbers else {
            run = Some(run.map_or((*ticket, 1), |(first, count)| (first, count + 1)));
            continue;
        };
        close(&mut run, low, (ticket.0, *seq));
        low = *next_seq;
    }
    close(&mut run, low, end);
    runs
}

/// The lane an entry found at start travels in.
fn lane_of(body: &Body) -> Kind {
    match body {
        Body::Event { payload, .. } if payload.contains(kind::MOTION_UPDATE) => Kind::Update,
        Body::Event { payload, .. } if payload.contains(ACCESS) => Kind::Access,
        Body::Event { .. } => Kind::Event,
        Body::File(manifest) => jobs::lane_of(manifest.purpose),
    }
}
