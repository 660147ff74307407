//! Evidence locks: keep footage until a command releases it; stored in the journal.

use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskFault};
use super::footage_query::locate;
use super::journal_layout::ENTRY_MAX;
use super::range_set::Ranges;
use super::segment_index::Index;
use super::{PinId, SpanQuery};
use crate::units::WallTime;

/// Most locks; they share one slot of the journal.
pub const LOCKS_MAX: usize = 16;
/// Longest reason, bytes.
pub const REASON_MAX: usize = 80;
/// Stretches of lost records that a lock names. All locks share one slot of the journal, so one
/// stretch covers all losses from the first to the last.
pub const LOST_MAX: usize = 1;
/// Longest id, bytes.
pub const ID_MAX: usize = 36;
/// First pin id of locks; pins of the agent count from 1.
const PINS_FROM: u64 = 1 << 63;

/// An evidence lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Its id: the `req_id` of the command that created it.
    pub id: String,
    /// Start of the range, microseconds since 1970.
    pub from: WallTime,
    /// End of the range, microseconds since 1970.
    pub to: WallTime,
    /// First record kept.
    pub first: u64,
    /// Last record kept; `u64::MAX` while `to` lies in the future.
    pub last: u64,
    /// Reason given in the command.
    pub reason: String,
    /// Lost records of the range, as found when the ring was opened. Beyond [`LOST_MAX`] stretches
    /// the last one covers the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<(u64, u64)>,
}

impl Lock {
    /// The part of `numbers` that the lock covers.
    pub fn within(&self, numbers: &Ranges) -> Ranges {
        numbers
            .list()
            .iter()
            .map(|(first, last)| (self.first.max(*first), self.last.min(*last)))
            .collect()
    }

    /// Adds lost records.
    pub fn add_missing(&mut self, lost: &Ranges) {
        let mut all: Ranges = self.missing.iter().copied().collect();
        lost.list().iter().for_each(|(first, last)| all.add(*first, *last));
        let end = all.list().last().map(|(_, last)| *last);
        self.missing = all.list().iter().copied().take(LOST_MAX).collect();
        if let Some((end, last)) = end.zip(self.missing.last_mut()) {
            last.1 = end;
        }
    }
}

/// All locks, each with a number for its pin, unique since this boot.
#[derive(Debug, Default, Clone)]
pub struct Locks {
    locks: Vec<(u64, Lock)>,
    made: u64,
}

impl Locks {
    /// Reads what [`Locks::encode`] wrote.
    ///
    /// # Errors
    /// If another version wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Locks, String> {
        let list: Vec<Lock> = serde_json::from_slice(bytes)
            .map_err(|error| format!("the list of locks cannot be read: {error}"))?;
        let mut locks = Locks::default();
        for lock in list {
            locks.put(lock);
        }
        Ok(locks)
    }

    /// A JSON list.
    pub fn encode(&self) -> Vec<u8> {
        // A list of plain structs cannot fail to be written.
        serde_json::to_vec(&self.list()).unwrap_or_default()
    }

    /// The locks in the order they were made.
    pub fn list(&self) -> Vec<Lock> {
        self.locks.iter().map(|(_, lock)| lock.clone()).collect()
    }

    /// Each lock with its pin id.
    pub fn pins(&self) -> impl Iterator<Item = (PinId, &Lock)> {
        self.locks.iter().map(|(number, lock)| (PinId(PINS_FROM + number), lock))
    }

    /// The lock with this id.
    pub fn get(&self, id: &str) -> Option<&Lock> {
        self.locks.iter().map(|(_, lock)| lock).find(|lock| lock.id == id)
    }

    /// Adds a lock, or replaces the one with the same id.
    ///
    /// # Errors
    /// Names the exceeded limit; nothing has changed then.
    pub fn add(&mut self, lock: Lock) -> Result<(), String> {
        if lock.id.is_empty() || lock.id.len() > ID_MAX {
            return Err(format!("lock id must have 1 to {ID_MAX} bytes"));
        }
        if lock.reason.trim().is_empty() || lock.reason.len() > REASON_MAX {
            return Err(format!("reason must have 1 to {REASON_MAX} bytes"));
        }
        if self.get(&lock.id).is_none() && self.locks.len() >= LOCKS_MAX {
            return Err(format!("there are {LOCKS_MAX} locks already: release one first"));
        }
        let before = self.locks.clone();
        self.put(lock);
        let len = self.encode().len();
        if len > ENTRY_MAX {
            self.locks = before;
            return Err(format!(
                "the list of locks would have {len} bytes; the limit is {ENTRY_MAX}: release one first"
            ));
        }
        Ok(())
    }

    fn put(&mut self, lock: Lock) {
        match self.locks.iter_mut().find(|(_, other)| other.id == lock.id) {
            Some((_, other)) => *other = lock,
            None => {
                self.made += 1;
                self.locks.push((self.made, lock));
            }
        }
    }

    /// Adds lost records to every lock that covers them. Returns each lock with newly lost records.
    pub fn add_missing(&mut self, lost: &Ranges) -> Vec<(Lock, Ranges)> {
        let mut broken = Vec::new();
        for (_, lock) in &mut self.locks {
            let more = lock.within(lost).without(&lock.missing.iter().copied().collect());
            if !more.list().is_empty() {
                lock.add_missing(&more);
                broken.push((lock.clone(), more));
            }
        }
        broken
    }

    /// Removes a lock; returns its pin id.
    pub fn remove(&mut self, id: &str) -> Option<(PinId, Lock)> {
        let at = self.locks.iter().position(|(_, lock)| lock.id == id)?;
        let (number, lock) = self.locks.remove(at);
        Some((PinId(PINS_FROM + number), lock))
    }
}

/// First and last record with footage in a time range, from the key frame before it; `None` if
/// there is none.
///
/// # Errors
/// If the card reports a read error.
pub fn records(
    disk: &dyn Disk,
    index: &Index,
    newest: u64,
    from: WallTime,
    to: WallTime,
) -> Result<Option<(u64, u64)>, DiskFault> {
    let (mut found, mut after) = (None::<(u64, u64)>, 0);
    loop {
        let span = locate(disk, index, newest, &SpanQuery::Wall { from, to, after })?;
        let Some((first, last, more)) = span.and_then(|span| {
            Some((span.fragments.first()?.seq, span.fragments.last()?.seq, span.more))
        }) else {
            return Ok(found);
        };
        found = Some(
            found.map_or((first, last), |(lowest, highest)| (lowest.min(first), highest.max(last))),
        );
        if !more {
            return Ok(found);
        }
        after = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(id: &str, reason: &str) -> Lock {
        Lock {
            id: id.into(),
            from: WallTime(1),
            to: WallTime(2),
            first: 3,
            last: u64::MAX,
            reason: reason.into(),
            missing: Vec::new(),
        }
    }

    #[test]
    fn locks_survive_the_journal_and_are_released_by_id() {
        let mut locks = Locks::default();
        locks.add(lock("a", "case 12/2026")).unwrap();
        locks.add(lock("b", "accident")).unwrap();
        let mut again = Locks::decode(&locks.encode()).unwrap();
        assert_eq!(again.list(), locks.list());
        let (pin, gone) = again.remove("a").unwrap();
        assert_eq!((gone.id.as_str(), again.list().len()), ("a", 1));
        assert!(again.pins().all(|(other, _)| other != pin));
        assert!(again.remove("a").is_none());
    }

    #[test]
    fn a_lock_without_a_reason_or_over_the_limits_changes_nothing() {
        let mut locks = Locks::default();
        assert!(locks.add(lock("a", " ")).unwrap_err().contains("reason"));
        assert!(locks.add(lock(&"x".repeat(37), "y")).unwrap_err().contains("id"));
        for i in 0..LOCKS_MAX {
            locks.add(lock(&format!("{i}"), "y")).unwrap();
        }
        assert!(locks.add(lock("one more", "y")).unwrap_err().contains("release one"));
        assert!(
            locks.add(lock("3", "another reason")).is_ok(),
            "a lock with the same id is replaced"
        );
        assert_eq!(locks.list().len(), LOCKS_MAX);
    }

    #[test]
    fn the_longest_locks_fit_their_slot_or_are_rejected() {
        let mut locks = Locks::default();
        let long = |i: usize| Lock {
            from: WallTime(i64::MIN),
            to: WallTime(i64::MIN),
            first: u64::MAX,
            ..lock(&format!("{i:036}"), &"\"".repeat(80))
        };
        let taken = (0..LOCKS_MAX).filter(|i| locks.add(long(*i)).is_ok()).count();
        assert!(taken >= 8 && locks.encode().len() <= ENTRY_MAX, "{taken}");
    }
}
