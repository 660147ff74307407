//! Queries, pins and locks of the engine: pins future footage, answers queries once their footage
//! is durable, and adds and releases evidence locks.

use super::engine::Engine;
use super::footage_query::{explain_absence, locate_with_rest};
use super::locks::{Lock, records};
use super::pending_query::PendingQuery;
use super::span_edges::{RecordingState, name_edges};
use super::{Cell, PinClass, PinId, SpanQuery, StorageUpdate};
use crate::units::{MonoTime, Timestamp, WallTime};

/// Most queries that may wait; further ones are answered at once.
const WAITING_MAX: usize = 64;

impl Engine {
    /// Pins all footage from the last key frame at or before `from` on.
    pub(super) fn pin_open(&mut self, pin: PinId, class: PinClass, from: MonoTime) {
        let before =
            self.recent.iter().rev().find(|fragment| fragment.key && fragment.start <= from);
        let first =
            before.or(self.recent.front()).map_or(self.ring.newest() + 1, |fragment| fragment.seq);
        self.ring.pins.set(pin, class, first, u64::MAX);
    }

    pub(super) fn query(
        &mut self,
        now: Timestamp,
        pin: PinId,
        class: PinClass,
        query: SpanQuery,
        out: &mut Vec<StorageUpdate>,
    ) {
        let waiting = PendingQuery::new(now.mono, pin, class, query);
        if waiting.is_due(now.mono, self.boot, self.until) || self.waiting.len() >= WAITING_MAX {
            self.answer(now, &waiting, out);
        } else {
            self.waiting.push(waiting);
        }
    }

    fn answer(&mut self, now: Timestamp, waiting: &PendingQuery, out: &mut Vec<StorageUpdate>) {
        let PendingQuery { pin, class, query, .. } = waiting;
        let (disk, index, newest) = (self.card.as_ref(), self.ring.index(), self.ring.newest());
        let span = match locate_with_rest(disk, index, newest, query) {
            Ok(Some((mut span, around))) => {
                let state = RecordingState { boot: self.boot, now, newest, open: self.open_gap };
                name_edges(&around, query, &state, &mut span);
                Some(span)
            }
            Ok(None) => explain_absence(disk, index, newest, query),
            Err(fault) => {
                out.push(StorageUpdate::Trouble { detail: fault.to_string(), lost: false });
                None
            }
        };
        match span
            .as_ref()
            .and_then(|span| Some((span.fragments.first()?.seq, span.fragments.last()?.seq)))
        {
            Some((first, last)) => {
                self.ring.pins.set(*pin, *class, first, last);
            }
            None => self.ring.pins.remove(*pin),
        }
        out.push(StorageUpdate::Located { pin: *pin, span });
    }

    /// Answers the queries whose end is durable or that have timed out.
    pub(super) fn answer_due(&mut self, now: Timestamp, out: &mut Vec<StorageUpdate>) {
        let (boot, durable) = (self.boot, self.until);
        let due = |waiting: &PendingQuery| waiting.is_due(now.mono, boot, durable);
        let (ready, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(due);
        self.waiting = pending;
        for waiting in ready {
            self.answer(now, &waiting, out);
        }
    }

    /// Locks footage as evidence if it exists and the pin quota allows it.
    pub(super) fn lock(
        &mut self,
        id: String,
        span: (WallTime, WallTime),
        reason: String,
        out: &mut Vec<StorageUpdate>,
    ) {
        let outcome = self.try_lock(&id, span, reason);
        out.push(StorageUpdate::Locked { id, outcome });
    }

    fn try_lock(
        &mut self,
        id: &str,
        (from, to): (WallTime, WallTime),
        reason: String,
    ) -> Result<Lock, String> {
        if from >= to {
            return Err(format!("from ({from}) must lie before to ({to})"));
        }
        let found = records(self.card.as_ref(), self.ring.index(), self.ring.newest(), from, to);
        let (first, last) = match found.map_err(|fault| fault.to_string())? {
            _ if from > self.until.wall => (self.ring.newest() + 1, u64::MAX),
            Some((first, _)) if to > self.until.wall => (first, u64::MAX),
            Some(found) => found,
            None => return Err("the ring holds no footage of this range".into()),
        };
        let mut lock =
            Lock { id: id.to_owned(), from, to, first, last, reason, missing: Vec::new() };
        lock.add_missing(&lock.within(&self.ring.index().lost));
        self.ring.check_lock_quota(
            self.locks.list().iter().filter(|other| other.id != id).chain([&lock]),
        )?;
        self.change_locks(|locks| locks.add(lock.clone()))?;
        Ok(lock)
    }

    /// Changes the locks, stores them and updates their pins. Reverts the change if the journal
    /// fails.
    fn change_locks<T>(
        &mut self,
        change: impl FnOnce(&mut super::locks::Locks) -> Result<T, String>,
    ) -> Result<T, String> {
        let before = self.locks.clone();
        let done = change(&mut self.locks)?;
        if let Err(fault) = self.journal.save(Cell::Locks, self.locks.encode()) {
            self.locks = before;
            return Err(fault.to_string());
        }
        self.pin_locks();
        Ok(done)
    }

    /// Pins the locked footage.
    pub(super) fn pin_locks(&mut self) {
        for (pin, lock) in self.locks.pins() {
            self.ring.pins.set(pin, PinClass::Lock, lock.first, lock.last);
        }
    }

    /// Releases a lock.
    pub(super) fn unlock(&mut self, id: String, out: &mut Vec<StorageUpdate>) {
        let missing = || format!("there is no lock {id:?}");
        let outcome =
            self.change_locks(|locks| locks.remove(&id).ok_or_else(missing)).map(|(pin, lock)| {
                self.ring.pins.remove(pin);
                lock
            });
        out.push(StorageUpdate::Unlocked { id, outcome });
    }

    /// Narrows locks whose end lay in the future, once the end is recorded.
    pub(super) fn narrow_locks(&mut self, out: &mut Vec<StorageUpdate>) {
        let (until, newest) = (self.until.wall, self.ring.newest());
        let open = |lock: &Lock| lock.last == u64::MAX && lock.to <= until;
        let due: Vec<Lock> = self.locks.list().into_iter().filter(open).collect();
        for lock in due {
            if let Err(detail) = self.change_locks(|locks| locks.add(Lock { last: newest, ..lock }))
            {
                out.push(StorageUpdate::Trouble { detail, lost: false });
            }
        }
    }
}
