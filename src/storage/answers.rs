//! Questions about footage: pins for what is to come, and queries that wait until their end is durable.
//!
//! What belongs here: when a question is answered, and locks. What does not: finding footage ([`super::locate`]).

use super::engine::Engine;
use super::journal::JournalFault;
use super::locate::locate;
use super::locks::{Lock, records};
use super::{Cell, PinClass, PinId, SpanQuery, StorageNews};
use crate::units::{Mono, Stamp, Wall};

/// Microseconds past the end of a query until it is answered with what there is: a fragment may be one second and a card may
/// stall for a few.
const PATIENCE: u64 = 10_000_000;
/// Queries that may wait at once; more are answered at once.
const WAITING_MAX: usize = 64;

/// A query that waits for its end to be durable.
pub(super) struct Waiting {
    pub(super) pin: PinId,
    class: PinClass,
    query: SpanQuery,
    /// When it is answered with what there is.
    until: Mono,
}

impl Engine {
    /// Keeps everything from the last key frame at or before `from` on.
    pub(super) fn pin_open(&mut self, pin: PinId, class: PinClass, from: Mono) {
        let before = self.recent.iter().rev().find(|(_, begin, key)| *key && *begin <= from);
        let first = before.or(self.recent.front()).map_or(self.ring.newest() + 1, |(seq, ..)| *seq);
        self.ring.pins.set(pin, class, first, u64::MAX);
    }

    pub(super) fn ask(&mut self, now: Stamp, pin: PinId, class: PinClass, query: SpanQuery, out: &mut Vec<StorageNews>) {
        let (durable, until) = match query {
            SpanQuery::Mono { boot, to, .. } => (boot != self.boot || to <= self.until.mono, to.plus_micros(PATIENCE)),
            SpanQuery::Wall { to, .. } => (to <= self.until.wall, now.mono.plus_micros(PATIENCE)),
            SpanQuery::Seq { .. } => (true, now.mono),
        };
        let waiting = Waiting { pin, class, query, until };
        if durable || now.mono >= until || self.waiting.len() >= WAITING_MAX {
            self.answer(&waiting, out);
        } else {
            self.waiting.push(waiting);
        }
    }

    fn answer(&mut self, waiting: &Waiting, out: &mut Vec<StorageNews>) {
        let Waiting { pin, class, query, .. } = waiting;
        let span = match locate(self.card.as_ref(), self.ring.index(), self.ring.newest(), query) {
            Ok(span) => span,
            Err(fault) => {
                out.push(StorageNews::Trouble { detail: fault.to_string(), lost: false });
                None
            }
        };
        match span.as_ref().and_then(|span| Some((span.fragments.first()?.seq, span.fragments.last()?.seq))) {
            Some((first, last)) => {
                self.ring.pins.set(*pin, *class, first, last);
            }
            None => self.ring.pins.remove(*pin),
        }
        out.push(StorageNews::Located { pin: *pin, span });
    }

    /// Answers the queries whose end is durable or whose time is over.
    pub(super) fn answer_due(&mut self, now: Mono, out: &mut Vec<StorageNews>) {
        let until = self.until;
        let due = |waiting: &Waiting| {
            now >= waiting.until
                || match waiting.query {
                    SpanQuery::Mono { to, .. } => to <= until.mono,
                    SpanQuery::Wall { to, .. } => to <= until.wall,
                    SpanQuery::Seq { .. } => true,
                }
        };
        let (ready, still): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(due);
        self.waiting = still;
        for waiting in ready {
            self.answer(&waiting, out);
        }
    }

    /// Locks footage as evidence, if it is there and pins may hold so much.
    pub(super) fn lock(&mut self, id: String, span: (Wall, Wall), reason: String, out: &mut Vec<StorageNews>) {
        let outcome = self.make_lock(&id, span, reason);
        out.push(StorageNews::Locked { id, outcome });
    }

    fn make_lock(&mut self, id: &str, (from, to): (Wall, Wall), reason: String) -> Result<Lock, String> {
        if from >= to {
            return Err(format!("from ({from}) must lie before to ({to})"));
        }
        let found = records(self.card.as_ref(), self.ring.index(), self.ring.newest(), from, to);
        let (first, last) = match found.map_err(|fault| fault.to_string())? {
            _ if from > self.until.wall => (self.ring.newest() + 1, u64::MAX),
            Some((first, _)) if to > self.until.wall => (first, u64::MAX),
            Some(found) => found,
            None => return Err("nothing of it is in the ring".into()),
        };
        let lock = Lock { id: id.to_owned(), from, to, first, last, reason };
        self.ring.afford(self.locks.list().iter().filter(|other| other.id != id).chain([&lock]))?;
        self.change_locks(|locks| locks.add(lock.clone()))?;
        Ok(lock)
    }

    /// Changes the list, pins what it says and writes it; takes everything back when the journal refuses.
    fn change_locks<T>(&mut self, change: impl FnOnce(&mut super::locks::Locks) -> Result<T, String>) -> Result<T, String> {
        let before = self.locks.clone();
        let done = change(&mut self.locks)?;
        if let Err(fault) = self.journal.save(Cell::Locks, self.locks.encode()) {
            self.locks = before;
            return Err(fault.to_string());
        }
        for (pin, lock) in self.locks.pins() {
            self.ring.pins.set(pin, PinClass::Lock, lock.first, lock.last);
        }
        Ok(done)
    }

    /// Lets a lock go.
    pub(super) fn unlock(&mut self, id: String, out: &mut Vec<StorageNews>) {
        let missing = || format!("there is no lock {id:?}");
        let outcome = self.change_locks(|locks| locks.remove(&id).ok_or_else(missing)).map(|(pin, lock)| {
            self.ring.pins.remove(pin);
            lock
        });
        out.push(StorageNews::Unlocked { id, outcome });
    }

    /// Locks whose end lay ahead are narrowed once it is recorded.
    pub(super) fn narrow_locks(&mut self, out: &mut Vec<StorageNews>) {
        let (until, newest) = (self.until.wall, self.ring.newest());
        let open = |lock: &Lock| lock.last == u64::MAX && lock.to <= until;
        let due: Vec<Lock> = self.locks.list().into_iter().filter(open).collect();
        for lock in due {
            if let Err(detail) = self.change_locks(|locks| locks.add(Lock { last: newest, ..lock })) {
                out.push(StorageNews::Trouble { detail, lost: false });
            }
        }
    }

    /// Learns how the clock stands, and keeps what it learned.
    pub(super) fn learn_clock(&mut self, now: Stamp, out: &mut Vec<StorageNews>) {
        let boot = self.boot;
        let Some(set) = self.ring.dates_mut().learn(boot, now) else {
            return;
        };
        let bytes = self.ring.index().dates.encode();
        if let Err(JournalFault::Disk(fault)) = self.journal.save(Cell::Clock, bytes) {
            out.push(StorageNews::Trouble { detail: fault.to_string(), lost: false });
        }
        out.push(StorageNews::ClockSet(set));
    }
}
