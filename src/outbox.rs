//! The outbox: which entry goes to the office next. The entries themselves lie in storage's journal; here is only their order.
//!
//! | lane, highest first | what | dropped after | shed, first to go |
//! |---|---|---|---|
//! | `Event` | somebody must hear of it | never | 6th |
//! | `Snapshot` | the still of an event | 7 days | 5th |
//! | `AccessTrail` | who commanded, and who was refused | never | 1st |
//! | `Update` | updates of an event that goes on | 6 h | 2nd |
//! | `VirtualClip` | the clip of an event | never: the ring's own end is its end | 4th |
//! | `Requested` | a range somebody asked for | 7 days | 3rd |
//!
//! Within a lane oldest first; after an outage the newest events go before the backlog, because somebody may be waiting for them.
//! Every tenth pick goes to the oldest file, so that a stream of events cannot starve it, nor one lane of files another. Ages count
//! from when the entry was taken up in this start. Within a lane the oldest is shed first; nothing in flight ever is.
//!
//! What belongs here: order, window, the bound and what is shed to keep it. What does not: bytes, topics, receipts' meaning.

use std::collections::{BTreeMap, BTreeSet};

use crate::units::{EntryId, MonoTime};
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
/// Telling of so many entries takes fewer events than they leave room for ([`crate::agent::loss_report`]).
const SLACK_MIN: usize = 4;
/// Entries of the smallest outbox that can be reported of what it shed.
const ENTRIES_MIN: usize = 8;
const HOUR: u64 = 3_600_000_000;

/// What an entry is, in the order of its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// An event somebody must hear of.
    Event,
    /// The still of an event.
    Snapshot,
    /// Who commanded, and who was refused: whatever strangers send, it never costs anything else.
    Access,
    /// News of an event that goes on.
    Update,
    /// The clip of an event.
    Clip,
    /// A range somebody asked for.
    Requested,
}

/// The lanes, highest first.
const LANES: [Priority; 6] =
    [Priority::Event, Priority::Snapshot, Priority::Access, Priority::Update, Priority::Clip, Priority::Requested];
/// The order in which entries are dropped when the outbox is full.
const SHED_ORDER: [Priority; 6] =
    [Priority::Access, Priority::Update, Priority::Requested, Priority::Clip, Priority::Snapshot, Priority::Event];

impl Priority {
    fn is_file(self) -> bool {
        matches!(self, Priority::Snapshot | Priority::Clip | Priority::Requested)
    }

    /// Microseconds after which it is of no use any more.
    fn expires(self) -> Option<u64> {
        match self {
            Priority::Update => Some(6 * HOUR),
            Priority::Snapshot | Priority::Requested => Some(7 * 24 * HOUR),
            Priority::Event | Priority::Access | Priority::Clip => None,
        }
    }
}

/// What the outbox knows of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryMeta {
    /// Its lane.
    pub kind: Priority,
    /// Bytes to be sent.
    pub bytes: u64,
}

/// Why an entry was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShedReason {
    /// The outbox was over its bound.
    Full,
    /// It was too old.
    Expired,
}

/// The order of delivery.
#[derive(Debug)]
pub struct Outbox {
    max_bytes: u64,
    max_entries: usize,
    entries: BTreeMap<EntryId, (EntryMeta, MonoTime)>,
    /// What waits, by lane: neither in flight nor dead.
    lanes: BTreeMap<Priority, BTreeSet<EntryId>>,
    in_flight: BTreeSet<EntryId>,
    /// Refused for good: kept, never sent again in this run.
    dead: BTreeSet<EntryId>,
    /// Events that go first after an outage.
    urgent: BTreeSet<EntryId>,
    shed: Vec<(EntryId, ShedReason)>,
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
            lanes: LANES.map(|kind| (kind, BTreeSet::new())).into(),
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
    pub fn push(&mut self, now: MonoTime, entry_id: EntryId, meta: EntryMeta) {
        self.bytes += meta.bytes;
        self.entries.insert(entry_id, (meta, now));
        self.lanes.entry(meta.kind).or_default().insert(entry_id);
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
            self.drop_entry(victim, ShedReason::Full);
        }
    }

    fn drop_entry(&mut self, entry_id: EntryId, why: ShedReason) {
        self.receipted(entry_id);
        self.shed.push((entry_id, why));
    }

    /// The entry to give up: of the least valuable lane, the oldest; dead messages, which nobody will fetch, before what waits.
    fn victim(&self) -> Option<EntryId> {
        let first = |kind: Priority| self.lanes.get(&kind)?.first().copied();
        let dead = |kind: Priority| {
            self.dead.iter().find(|entry_id| self.entries.get(entry_id).is_some_and(|(meta, _)| meta.kind == kind))
        };
        SHED_ORDER.into_iter().find_map(|kind| dead(kind).copied().or_else(|| first(kind)))
    }

    /// Gives up what is too old.
    pub fn expire(&mut self, now: MonoTime) {
        for kind in LANES {
            let Some(longest) = kind.expires() else {
                continue;
            };
            // Tickets rise with age, so the first one is the oldest.
            while let Some(entry_id) = self.lanes.get(&kind).and_then(BTreeSet::first).copied()
                && self.entries.get(&entry_id).is_some_and(|(_, since)| now.since(*since) > longest)
            {
                self.drop_entry(entry_id, ShedReason::Expired);
            }
        }
    }

    /// Entries dropped since the last call: the caller lets them go and tells it.
    pub fn take_shed(&mut self) -> Vec<(EntryId, ShedReason)> {
        std::mem::take(&mut self.shed)
    }

    /// The next entry to hand to the uplink; in flight from now on.
    pub fn pick(&mut self) -> Option<EntryId> {
        if self.in_flight.len() >= WINDOW {
            return None;
        }
        let entry_id = self.next()?;
        self.picks = self.picks.wrapping_add(1);
        self.wait_no_more(entry_id);
        self.in_flight.insert(entry_id);
        Some(entry_id)
    }

    fn next(&self) -> Option<EntryId> {
        let files =
            self.in_flight.iter().filter_map(|entry_id| self.entries.get(entry_id)).filter(|(meta, _)| meta.kind.is_file());
        let files_allowed = files.count() < FILES;
        let first = |kind: &Priority| self.lanes.get(kind)?.first().copied();
        if let Some(urgent) = self.urgent.first() {
            return Some(*urgent);
        }
        let oldest_file = || LANES.iter().filter(|kind| kind.is_file()).filter_map(first).min();
        let aged = (files_allowed && self.picks % AGEING == AGEING - 1).then(oldest_file).flatten();
        aged.or_else(|| LANES.iter().filter(|kind| files_allowed || !kind.is_file()).find_map(first))
    }

    fn wait_no_more(&mut self, entry_id: EntryId) {
        if let Some((meta, _)) = self.entries.get(&entry_id) {
            self.lanes.entry(meta.kind).or_default().remove(&entry_id);
        }
        self.urgent.remove(&entry_id);
    }

    /// An entry is settled: the office has it, or it cannot be delivered.
    pub fn receipted(&mut self, entry_id: EntryId) {
        self.wait_no_more(entry_id);
        if let Some((meta, _)) = self.entries.remove(&entry_id) {
            self.bytes -= meta.bytes;
        }
        self.in_flight.remove(&entry_id);
        self.dead.remove(&entry_id);
    }

    /// An entry is refused for good: it stays, and is not sent again.
    pub fn refused(&mut self, entry_id: EntryId) {
        self.in_flight.remove(&entry_id);
        if self.entries.contains_key(&entry_id) {
            self.wait_no_more(entry_id);
            self.dead.insert(entry_id);
        }
    }

    /// The office asks for an entry: one that waits goes next. True when it is in flight, where only the uplink can hurry it.
    pub fn prioritize(&mut self, entry_id: EntryId) -> bool {
        if self.lanes.values().any(|lane| lane.contains(&entry_id)) {
            self.urgent.insert(entry_id);
        }
        self.in_flight.contains(&entry_id)
    }

    /// How full it is, of its bound that is nearer.
    pub fn percent(&self) -> u64 {
        let entries = self.entries.len() as u64 * 100 / self.max_entries as u64;
        entries.max(self.bytes.saturating_mul(100) / self.max_bytes.max(1))
    }

    /// Entries that go before everything else: at the office's wish, or after an outage.
    pub fn prioritized(&self) -> usize {
        self.urgent.len()
    }

    /// Entries that were refused for good and are kept.
    pub fn dead_letters(&self) -> u64 {
        self.dead.len() as u64
    }

    /// The link is back: the newest events overtake what piled up.
    pub fn up(&mut self) {
        let events = self.lanes.get(&Priority::Event).into_iter().flatten().rev();
        self.urgent = events.take(NEWEST_FIRST).copied().collect();
    }

    /// What waits.
    pub fn backlog(&self, now: MonoTime) -> Backlog {
        let oldest = self.entries.values().map(|(_, since)| now.since(*since) / 1_000_000).max().unwrap_or(0);
        Backlog { n: self.entries.len() as u64, bytes: self.bytes, oldest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta(kind: Priority) -> EntryMeta {
        EntryMeta { kind, bytes: 100 }
    }

    fn filled(kinds: &[Priority]) -> Outbox {
        let mut outbox = Outbox::new(1 << 20, 1000);
        for (i, kind) in kinds.iter().enumerate() {
            outbox.push(MonoTime(i as u64), EntryId(i as u64 + 1), meta(*kind));
        }
        outbox
    }

    #[test]
    fn events_overtake_files_and_files_are_few_at_a_time() {
        let mut outbox = filled(&[Priority::Clip, Priority::Clip, Priority::Clip, Priority::Event, Priority::Snapshot]);
        let order: Vec<u64> = std::iter::from_fn(|| outbox.pick()).map(|entry_id| entry_id.0).collect();
        assert_eq!(order, [4, 5, 1], "at most {FILES} files in flight");
    }

    #[test]
    fn after_an_outage_the_newest_events_go_first() {
        let mut outbox = filled(&[Priority::Event; 30]);
        outbox.up();
        let order: Vec<u64> = std::iter::from_fn(|| outbox.pick()).map(|entry_id| entry_id.0).collect();
        assert_eq!(order[..10], [23, 24, 25, 26, 27, 28, 29, 30, 1, 2]);
    }

    #[test]
    fn a_stream_of_events_cannot_starve_a_clip() {
        let mut outbox = filled(&[Priority::Clip]);
        let mut sent = Vec::new();
        for i in 0..40 {
            outbox.push(MonoTime(i), EntryId(i + 10), meta(Priority::Event));
            sent.extend(outbox.pick());
            if let Some(entry_id) = sent.last() {
                outbox.receipted(*entry_id);
            }
        }
        assert!(sent.contains(&EntryId(1)));
    }

    #[test]
    fn what_is_shed_is_the_least_valuable_and_is_named() {
        let mut outbox = Outbox::new(350, 1000);
        for (entry_id, kind) in
            [(1, Priority::Event), (2, Priority::Clip), (3, Priority::Update), (4, Priority::Event), (5, Priority::Event)]
        {
            outbox.push(MonoTime(0), EntryId(entry_id), meta(kind));
        }
        assert_eq!(outbox.take_shed(), [(EntryId(3), ShedReason::Full), (EntryId(2), ShedReason::Full)]);
        assert_eq!(outbox.backlog(MonoTime(0)).n, 3);
    }

    #[test]
    fn a_lane_of_files_cannot_starve_another() {
        let mut outbox = filled(&[Priority::Requested]);
        let mut sent = Vec::new();
        for i in 0..40 {
            outbox.push(MonoTime(i), EntryId(i + 10), meta(Priority::Snapshot));
            let entry_id = outbox.pick().unwrap();
            outbox.receipted(entry_id);
            sent.push(entry_id);
        }
        assert!(sent.contains(&EntryId(1)));
    }

    #[test]
    fn expired_entries_are_dropped_but_no_event_and_no_clip() {
        let mut outbox = filled(&[Priority::Update, Priority::Event, Priority::Snapshot, Priority::Clip]);
        outbox.expire(MonoTime(5 * HOUR));
        assert!(outbox.take_shed().is_empty());
        outbox.expire(MonoTime(7 * HOUR));
        assert_eq!(outbox.take_shed(), [(EntryId(1), ShedReason::Expired)]);
        outbox.expire(MonoTime(1000 * HOUR));
        assert_eq!(outbox.take_shed(), [(EntryId(3), ShedReason::Expired)]);
        assert_eq!(outbox.backlog(MonoTime(0)).n, 2);
    }

    #[test]
    fn a_dead_letter_is_counted_never_resent_and_shed_first() {
        let mut outbox = Outbox::new(350, 1000);
        outbox.push(MonoTime(0), EntryId(1), meta(Priority::Event));
        let entry_id = outbox.pick().unwrap();
        outbox.refused(entry_id);
        assert_eq!((outbox.pick(), outbox.dead_letters(), outbox.backlog(MonoTime(0)).n), (None, 1, 1));
        for entry_id in 2..5 {
            outbox.push(MonoTime(0), EntryId(entry_id), meta(Priority::Event));
        }
        assert_eq!(outbox.take_shed(), [(EntryId(1), ShedReason::Full)]);
    }

    #[test]
    fn an_event_the_office_asks_for_goes_next() {
        let mut outbox = filled(&[Priority::Event; 5]);
        outbox.prioritize(EntryId(4));
        assert_eq!(outbox.pick(), Some(EntryId(4)));
        outbox.prioritize(EntryId(4));
        assert_eq!(outbox.pick(), Some(EntryId(1)), "it is on its way already");
    }

    #[test]
    fn a_hundred_thousand_entries_are_sent_in_order() {
        let mut outbox = Outbox::new(1 << 30, 200_000);
        for entry_id in 1..=100_000 {
            outbox.push(MonoTime(0), EntryId(entry_id), meta(Priority::Event));
        }
        for entry_id in 1..=100_000 {
            assert_eq!(outbox.pick(), Some(EntryId(entry_id)));
            outbox.receipted(EntryId(entry_id));
        }
    }

    #[derive(Debug, Clone)]
    enum Action {
        Push(Priority),
        Next,
        Receipt(usize),
        Up,
    }

    fn action() -> impl Strategy<Value = Action> {
        let kind = prop_oneof![
            Just(Priority::Event),
            Just(Priority::Update),
            Just(Priority::Snapshot),
            Just(Priority::Clip),
            Just(Priority::Requested)
        ];
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
                        outbox.push(MonoTime(0), EntryId(next), meta(kind));
                        owed.insert(EntryId(next));
                        next += 1;
                        for (shed, _) in outbox.take_shed() {
                            prop_assert!(owed.remove(&shed) && !flying.contains(&shed));
                        }
                    }
                    Action::Next => if let Some(entry_id) = outbox.pick() {
                        prop_assert!(owed.contains(&entry_id) && !flying.contains(&entry_id));
                        flying.push(entry_id);
                    },
                    Action::Receipt(which) if !flying.is_empty() => {
                        let entry_id = flying.remove(which % flying.len());
                        outbox.receipted(entry_id);
                        owed.remove(&entry_id);
                    }
                    Action::Receipt(_) => {}
                    Action::Up => outbox.up(),
                }
                prop_assert!(flying.len() <= WINDOW);
                prop_assert_eq!(outbox.backlog(MonoTime(0)).n, owed.len() as u64);
                prop_assert!(owed.len() <= 20.max(WINDOW));
            }
        }
    }
}
