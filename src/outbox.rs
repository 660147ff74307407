//! Outbox: the delivery order of pending entries, and what is shed when it is full. The entries
//! themselves are in the journal.
//!
//! | priority class, highest first | content | expires after | shed |
//! |---|---|---|---|
//! | `Event` | an event | never | 6th |
//! | `Snapshot` | the snapshot of an event | 7 days | 5th |
//! | `Access` | an access event: accepted and rejected commands | never | 1st |
//! | `Update` | an update of an event in progress | 6 h | 2nd |
//! | `Clip` | the clip of an event | never: its footage ends with the ring | 4th |
//! | `Requested` | a file that a command requested | 7 days | 3rd |
//!
//! Within a class the oldest entry goes first. After an outage the newest events go before the
//! backlog, because they may be urgent. Every tenth pick goes to the oldest file, so that neither
//! events nor another class of files can starve it. Ages count from the moment an entry was added
//! in this boot. Within a class the oldest entry is shed first; entries in flight are never shed.
//!
//! What belongs here: order, window, bound and shedding. What does not: bytes, topics, the meaning
//! of receipts.

use std::collections::{BTreeMap, BTreeSet};

use crate::units::{EntryId, MonoTime};
use crate::uplink::wire::Backlog;

/// Entries in flight. The smallest common Receive Maximum is 20 (the default of Mosquitto), and
/// files need places too.
pub const WINDOW: usize = 16;
/// Files among them: two keep the connection busy while one waits for an answer.
const FILES: usize = 2;
/// Every pick with this number goes to a file.
const AGEING: u32 = 10;
/// Events that overtake the backlog after an outage.
const NEWEST_FIRST: usize = 8;
/// Journal slots kept free. The slot of the newest entry cannot be reused, and drafts are in
/// flight.
const SPARE: u32 = 16;
/// A full outbox sheds until this fraction of its bound is free, and at least [`SLACK_MIN`]
/// entries. The events that report the losses must fit: otherwise each would evict another entry,
/// without end.
const SLACK: u64 = 16;
/// Reporting this many shed entries takes fewer events than they leave room for
/// ([`crate::agent::loss_report`]).
const SLACK_MIN: usize = 4;
/// Entries of the smallest outbox that can report what it shed.
const ENTRIES_MIN: usize = 8;
const HOUR: u64 = 3_600_000_000;

/// Priority class of an entry, highest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// An event.
    Event,
    /// The snapshot of an event.
    Snapshot,
    /// An access event. It is shed first, so that forged commands cannot evict anything else.
    Access,
    /// An update of an event in progress.
    Update,
    /// The clip of an event.
    Clip,
    /// A file that a command requested.
    Requested,
}

/// The priority classes, highest first.
const LANES: [Priority; 6] = [
    Priority::Event,
    Priority::Snapshot,
    Priority::Access,
    Priority::Update,
    Priority::Clip,
    Priority::Requested,
];
/// The order in which a full outbox sheds them.
const SHED_ORDER: [Priority; 6] = [
    Priority::Access,
    Priority::Update,
    Priority::Requested,
    Priority::Clip,
    Priority::Snapshot,
    Priority::Event,
];

impl Priority {
    fn is_file(self) -> bool {
        matches!(self, Priority::Snapshot | Priority::Clip | Priority::Requested)
    }

    /// Maximum age in microseconds; `None` when it does not expire.
    fn expires(self) -> Option<u64> {
        match self {
            Priority::Update => Some(6 * HOUR),
            Priority::Snapshot | Priority::Requested => Some(7 * 24 * HOUR),
            Priority::Event | Priority::Access | Priority::Clip => None,
        }
    }
}

/// Metadata of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryMeta {
    /// Its priority class.
    pub kind: Priority,
    /// Bytes to be sent.
    pub bytes: u64,
}

/// Why an entry was shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShedReason {
    /// The outbox exceeded its bound.
    Full,
    /// The entry exceeded its maximum age.
    Expired,
}

/// The pending entries and their order.
#[derive(Debug)]
pub struct Outbox {
    max_bytes: u64,
    max_entries: usize,
    entries: BTreeMap<EntryId, (EntryMeta, MonoTime)>,
    /// Waiting entries by priority class: neither in flight nor dead.
    lanes: BTreeMap<Priority, BTreeSet<EntryId>>,
    in_flight: BTreeSet<EntryId>,
    /// Dead letters: rejected permanently, kept, and not sent again in this boot.
    dead: BTreeSet<EntryId>,
    /// Entries that go first: the newest events after an outage, and requested ones.
    urgent: BTreeSet<EntryId>,
    shed: Vec<(EntryId, ShedReason)>,
    bytes: u64,
    picks: u32,
}

impl Outbox {
    /// An outbox of at most `max_bytes`, and of as many entries as `slots` journal slots allow.
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

    /// Changes the bound in bytes. The next entry triggers shedding beyond it.
    pub fn resize(&mut self, max_bytes: u64) {
        self.max_bytes = max_bytes;
    }

    /// Adds a stored entry.
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

    /// The entry to shed: the oldest of the least valuable class. Dead letters go before waiting
    /// entries of their class.
    fn victim(&self) -> Option<EntryId> {
        let first = |kind: Priority| self.lanes.get(&kind)?.first().copied();
        let dead = |kind: Priority| {
            self.dead.iter().find(|entry_id| {
                self.entries.get(entry_id).is_some_and(|(meta, _)| meta.kind == kind)
            })
        };
        SHED_ORDER.into_iter().find_map(|kind| dead(kind).copied().or_else(|| first(kind)))
    }

    /// Sheds entries that exceeded their maximum age.
    pub fn expire(&mut self, now: MonoTime) {
        for kind in LANES {
            let Some(longest) = kind.expires() else {
                continue;
            };
            // Entry ids are assigned in order, so the first one is the oldest.
            while let Some(entry_id) = self.lanes.get(&kind).and_then(BTreeSet::first).copied()
                && self.entries.get(&entry_id).is_some_and(|(_, since)| now.since(*since) > longest)
            {
                self.drop_entry(entry_id, ShedReason::Expired);
            }
        }
    }

    /// Entries shed since the last call. The caller releases and reports them.
    pub fn take_shed(&mut self) -> Vec<(EntryId, ShedReason)> {
        std::mem::take(&mut self.shed)
    }

    /// The next entry to send, which is in flight from now on.
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
        let files = self
            .in_flight
            .iter()
            .filter_map(|entry_id| self.entries.get(entry_id))
            .filter(|(meta, _)| meta.kind.is_file());
        let files_allowed = files.count() < FILES;
        let first = |kind: &Priority| self.lanes.get(kind)?.first().copied();
        if let Some(urgent) = self.urgent.first() {
            return Some(*urgent);
        }
        let oldest_file = || LANES.iter().filter(|kind| kind.is_file()).filter_map(first).min();
        let aged = (files_allowed && self.picks % AGEING == AGEING - 1).then(oldest_file).flatten();
        aged.or_else(|| {
            LANES.iter().filter(|kind| files_allowed || !kind.is_file()).find_map(first)
        })
    }

    fn wait_no_more(&mut self, entry_id: EntryId) {
        if let Some((meta, _)) = self.entries.get(&entry_id) {
            self.lanes.entry(meta.kind).or_default().remove(&entry_id);
        }
        self.urgent.remove(&entry_id);
    }

    /// Removes an entry that was receipted or cannot be delivered.
    pub fn receipted(&mut self, entry_id: EntryId) {
        self.wait_no_more(entry_id);
        if let Some((meta, _)) = self.entries.remove(&entry_id) {
            self.bytes -= meta.bytes;
        }
        self.in_flight.remove(&entry_id);
        self.dead.remove(&entry_id);
    }

    /// An entry was rejected permanently: it is kept among the dead letters and not sent again.
    pub fn refused(&mut self, entry_id: EntryId) {
        self.in_flight.remove(&entry_id);
        if self.entries.contains_key(&entry_id) {
            self.wait_no_more(entry_id);
            self.dead.insert(entry_id);
        }
    }

    /// Moves a waiting entry to the front because the office requested it. Returns true when the
    /// entry is in flight: then the uplink must resend it.
    pub fn prioritize(&mut self, entry_id: EntryId) -> bool {
        if self.lanes.values().any(|lane| lane.contains(&entry_id)) {
            self.urgent.insert(entry_id);
        }
        self.in_flight.contains(&entry_id)
    }

    /// Fill level in percent, of entries or bytes, whichever is higher.
    pub fn percent(&self) -> u64 {
        let entries = self.entries.len() as u64 * 100 / self.max_entries as u64;
        entries.max(self.bytes.saturating_mul(100) / self.max_bytes.max(1))
    }

    /// Number of entries that go first.
    pub fn prioritized(&self) -> usize {
        self.urgent.len()
    }

    /// Number of dead letters.
    pub fn dead_letters(&self) -> u64 {
        self.dead.len() as u64
    }

    /// The connection is back: the newest events go before the backlog.
    pub fn up(&mut self) {
        let events = self.lanes.get(&Priority::Event).into_iter().flatten().rev();
        self.urgent = events.take(NEWEST_FIRST).copied().collect();
    }

    /// Number, bytes and age of all entries.
    pub fn backlog(&self, now: MonoTime) -> Backlog {
        let oldest = self
            .entries
            .values()
            .map(|(_, since)| now.since(*since) / 1_000_000)
            .max()
            .unwrap_or(0);
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
        let mut outbox = filled(&[
            Priority::Clip,
            Priority::Clip,
            Priority::Clip,
            Priority::Event,
            Priority::Snapshot,
        ]);
        let order: Vec<u64> =
            std::iter::from_fn(|| outbox.pick()).map(|entry_id| entry_id.0).collect();
        assert_eq!(order, [4, 5, 1], "at most {FILES} files in flight");
    }

    #[test]
    fn after_an_outage_the_newest_events_go_first() {
        let mut outbox = filled(&[Priority::Event; 30]);
        outbox.up();
        let order: Vec<u64> =
            std::iter::from_fn(|| outbox.pick()).map(|entry_id| entry_id.0).collect();
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
        for (entry_id, kind) in [
            (1, Priority::Event),
            (2, Priority::Clip),
            (3, Priority::Update),
            (4, Priority::Event),
            (5, Priority::Event),
        ] {
            outbox.push(MonoTime(0), EntryId(entry_id), meta(kind));
        }
        assert_eq!(
            outbox.take_shed(),
            [(EntryId(3), ShedReason::Full), (EntryId(2), ShedReason::Full)]
        );
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
        let mut outbox =
            filled(&[Priority::Update, Priority::Event, Priority::Snapshot, Priority::Clip]);
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
        assert_eq!(
            (outbox.pick(), outbox.dead_letters(), outbox.backlog(MonoTime(0)).n),
            (None, 1, 1)
        );
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
        prop_oneof![
            kind.prop_map(Action::Push),
            Just(Action::Next),
            any::<usize>().prop_map(Action::Receipt),
            Just(Action::Up)
        ]
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
