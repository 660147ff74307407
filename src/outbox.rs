//! The outbox: which entry goes to the office next. The entries themselves lie in storage's journal; here is only their order.
//!
//! Lanes, highest first: events > snapshots > motion updates > clips of events > requested clips. Within a lane oldest first;
//! after an outage the newest events go before the backlog, because somebody may be waiting for them. Every tenth pick goes to
//! the files, so that a stream of events cannot starve them.
//!
//! What belongs here: order, window, the bound and what is shed to keep it. What does not: bytes, topics, receipts' meaning.

use std::collections::{BTreeMap, BTreeSet};

use crate::units::{Mono, Ticket};
use crate::uplink::wire::Backlog;

/// Entries in flight at most: the broker's smallest usual Receive Maximum is 20 (Mosquitto's default), and a file needs one place.
pub const WINDOW: usize = 16;
/// Of these, files: two keep the link busy while one waits for an answer.
const FILES: usize = 2;
/// Every so many picks a file goes first.
const AGEING: u32 = 10;
/// Events that overtake the backlog after an outage.
const NEWEST_FIRST: usize = 8;
/// Journal slots kept free: the one of the newest entry cannot be used again, and drafts are on their way.
const SPARE: u32 = 16;
/// Once over its bound, the outbox sheds until this part of it is free, and [`SLACK_MIN`] entries. The events that tell of it then
/// fit: otherwise each would push out another entry, and that one the next, without end.
const SLACK: u64 = 16;
/// Telling of so many entries takes fewer events than they leave room for ([`crate::agent::shed`]).
const SLACK_MIN: usize = 4;
/// Entries of the smallest outbox that can be told of what it shed.
const ENTRIES_MIN: usize = 8;

/// What an entry is, in the order of its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An event somebody must hear of.
    Event,
    /// The still of an event.
    Snapshot,
    /// News of an event that goes on.
    Update,
    /// The clip of an event.
    Clip,
    /// A range somebody asked for.
    Requested,
}

/// The order in which entries are given up when the outbox is full.
const SHED_ORDER: [Kind; 5] = [Kind::Update, Kind::Requested, Kind::Clip, Kind::Snapshot, Kind::Event];

impl Kind {
    fn is_file(self) -> bool {
        matches!(self, Kind::Snapshot | Kind::Clip | Kind::Requested)
    }
}

/// What the outbox knows of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Its lane.
    pub kind: Kind,
    /// Bytes to be sent.
    pub bytes: u64,
}

/// The order of delivery.
#[derive(Debug)]
pub struct Outbox {
    max_bytes: u64,
    max_entries: usize,
    entries: BTreeMap<Ticket, (Meta, Mono)>,
    in_flight: BTreeSet<Ticket>,
    /// Refused for good: kept, never sent again in this run.
    dead: BTreeSet<Ticket>,
    /// Events that go first after an outage.
    urgent: BTreeSet<Ticket>,
    shed: Vec<Ticket>,
    bytes: u64,
    picks: u32,
}

impl Outbox {
    /// An outbox of at most `max_bytes`, and of as many entries as the `slots` of the journal for them allow.
    pub fn new(max_bytes: u64, slots: u32) -> Outbox {
        Outbox {
            max_bytes,
            max_entries: (slots.saturating_sub(SPARE) as usize).max(ENTRIES_MIN),
            entries: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            dead: BTreeSet::new(),
            urgent: BTreeSet::new(),
            shed: Vec::new(),
            bytes: 0,
            picks: 0,
        }
    }

    /// Another bound in bytes; what is over it is shed with the next entry.
    pub fn resize(&mut self, max_bytes: u64) {
        self.max_bytes = max_bytes;
    }

    /// Takes an entry that is stored.
    pub fn push(&mut self, now: Mono, ticket: Ticket, meta: Meta) {
        self.bytes += meta.bytes;
        self.entries.insert(ticket, (meta, now));
        if self.entries.len() > self.max_entries || self.bytes > self.max_bytes {
            self.shed();
        }
    }

    fn shed(&mut self) {
        let entries = self.max_entries - (self.max_entries / SLACK as usize).max(SLACK_MIN);
        let bytes = self.max_bytes - self.max_bytes / SLACK;
        while (self.entries.len() > entries || self.bytes > bytes)
            && let Some(victim) = self.victim()
        {
            self.receipted(victim);
            self.shed.push(victim);
        }
    }

    /// The entry to give up: of the least valuable lane, the oldest, never one in flight.
    fn victim(&self) -> Option<Ticket> {
        let idle = |kind: Kind| {
            let mut lane = self.entries.iter().filter(move |(_, (meta, _))| meta.kind == kind);
            lane.find(|(ticket, _)| !self.in_flight.contains(ticket)).map(|(ticket, _)| *ticket)
        };
        SHED_ORDER.into_iter().find_map(idle)
    }

    /// Entries given up since the last call: the caller lets them go and tells it.
    pub fn take_shed(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.shed)
    }

    /// The next entry to hand to the uplink; in flight from now on.
    pub fn pick(&mut self) -> Option<Ticket> {
        if self.in_flight.len() >= WINDOW {
            return None;
        }
        let files = self.in_flight.iter().filter_map(|ticket| self.entries.get(ticket)).filter(|(meta, _)| meta.kind.is_file());
        let files_allowed = files.count() < FILES;
        let waits = |(ticket, _): &(&Ticket, &(Meta, Mono))| !self.in_flight.contains(ticket) && !self.dead.contains(ticket);
        let files_first = self.picks % AGEING == AGEING - 1;
        let rank = |(ticket, (meta, _)): &(&Ticket, &(Meta, Mono))| {
            let early = self.urgent.contains(ticket) || files_first && meta.kind.is_file();
            (!early, meta.kind, **ticket)
        };
        let candidates = self.entries.iter().filter(waits).filter(|(_, (meta, _))| files_allowed || !meta.kind.is_file());
        let ticket = *candidates.min_by_key(rank)?.0;
        self.picks = self.picks.wrapping_add(1);
        self.urgent.remove(&ticket);
        self.in_flight.insert(ticket);
        Some(ticket)
    }

    /// An entry is settled: the office has it, or it cannot be delivered.
    pub fn receipted(&mut self, ticket: Ticket) {
        if let Some((meta, _)) = self.entries.remove(&ticket) {
            self.bytes -= meta.bytes;
        }
        self.in_flight.remove(&ticket);
        self.dead.remove(&ticket);
        self.urgent.remove(&ticket);
    }

    /// An entry is refused for good: it stays, and is not sent again.
    pub fn refused(&mut self, ticket: Ticket) {
        self.in_flight.remove(&ticket);
        self.dead.insert(ticket);
    }

    /// The link is back: the newest events overtake what piled up.
    pub fn up(&mut self) {
        let events =
            self.entries.iter().rev().filter(|(ticket, (meta, _))| meta.kind == Kind::Event && !self.in_flight.contains(ticket));
        self.urgent = events.take(NEWEST_FIRST).map(|(ticket, _)| *ticket).collect();
    }

    /// What waits.
    pub fn backlog(&self, now: Mono) -> Backlog {
        let oldest = self.entries.values().map(|(_, since)| now.since(*since) / 1_000_000).max().unwrap_or(0);
        Backlog { n: self.entries.len() as u64, bytes: self.bytes, oldest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta(kind: Kind) -> Meta {
        Meta { kind, bytes: 100 }
    }

    fn filled(kinds: &[Kind]) -> Outbox {
        let mut outbox = Outbox::new(1 << 20, 1000);
        for (i, kind) in kinds.iter().enumerate() {
            outbox.push(Mono(i as u64), Ticket(i as u64 + 1), meta(*kind));
        }
        outbox
    }

    #[test]
    fn events_overtake_files_and_files_are_few_at_a_time() {
        let mut outbox = filled(&[Kind::Clip, Kind::Clip, Kind::Clip, Kind::Event, Kind::Snapshot]);
        let order: Vec<u64> = std::iter::from_fn(|| outbox.pick()).map(|ticket| ticket.0).collect();
        assert_eq!(order, [4, 5, 1], "at most {FILES} files in flight");
    }

    #[test]
    fn after_an_outage_the_newest_events_go_first_and_then_the_oldest() {
        let mut outbox = filled(&[Kind::Event; 30]);
        outbox.up();
        let order: Vec<u64> = std::iter::from_fn(|| outbox.pick()).map(|ticket| ticket.0).collect();
        assert_eq!(order[..10], [23, 24, 25, 26, 27, 28, 29, 30, 1, 2]);
    }

    #[test]
    fn a_stream_of_events_cannot_starve_a_clip() {
        let mut outbox = filled(&[Kind::Clip]);
        let mut sent = Vec::new();
        for i in 0..40 {
            outbox.push(Mono(i), Ticket(i + 10), meta(Kind::Event));
            sent.extend(outbox.pick());
            if let Some(ticket) = sent.last() {
                outbox.receipted(*ticket);
            }
        }
        assert!(sent.contains(&Ticket(1)));
    }

    #[test]
    fn what_is_shed_is_the_least_valuable_and_is_named() {
        let mut outbox = Outbox::new(350, 1000);
        for (ticket, kind) in [(1, Kind::Event), (2, Kind::Clip), (3, Kind::Update), (4, Kind::Event), (5, Kind::Event)] {
            outbox.push(Mono(0), Ticket(ticket), meta(kind));
        }
        assert_eq!(outbox.take_shed(), [Ticket(3), Ticket(2)]);
        assert_eq!(outbox.backlog(Mono(0)).n, 3);
    }

    #[derive(Debug, Clone)]
    enum Action {
        Push(Kind),
        Next,
        Receipt(usize),
        Up,
    }

    fn action() -> impl Strategy<Value = Action> {
        let kind =
            prop_oneof![Just(Kind::Event), Just(Kind::Update), Just(Kind::Snapshot), Just(Kind::Clip), Just(Kind::Requested)];
        prop_oneof![kind.prop_map(Action::Push), Just(Action::Next), any::<usize>().prop_map(Action::Receipt), Just(Action::Up)]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_sent_twice_or_over_the_bound(actions in proptest::collection::vec(action(), 1..300)) {
            let mut outbox = Outbox::new(2_000, 30);
            let (mut owed, mut flying, mut next) = (BTreeSet::new(), Vec::new(), 1);
            for action in actions {
                match action {
                    Action::Push(kind) => {
                        outbox.push(Mono(0), Ticket(next), meta(kind));
                        owed.insert(Ticket(next));
                        next += 1;
                        for shed in outbox.take_shed() {
                            prop_assert!(owed.remove(&shed) && !flying.contains(&shed));
                        }
                    }
                    Action::Next => if let Some(ticket) = outbox.pick() {
                        prop_assert!(owed.contains(&ticket) && !flying.contains(&ticket));
                        flying.push(ticket);
                    },
                    Action::Receipt(which) if !flying.is_empty() => {
                        let ticket = flying.remove(which % flying.len());
                        outbox.receipted(ticket);
                        owed.remove(&ticket);
                    }
                    Action::Receipt(_) => {}
                    Action::Up => outbox.up(),
                }
                prop_assert!(flying.len() <= WINDOW);
                prop_assert_eq!(outbox.backlog(Mono(0)).n, owed.len() as u64);
                prop_assert!(owed.len() <= 20.max(WINDOW));
            }
        }
    }
}
