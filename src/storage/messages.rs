//! What is said between the storage thread and the agent: orders one way, updates the other.
//!
//! What belongs here: those words. What does not: footage and gaps themselves ([`super`]), carrying an order out ([`super::engine`]).

use super::{Gap, PinClass, PinId, Span, SpanQuery, clock_history, locks};
use crate::units::{Boot, EntryId, MonoTime, RingId, Timestamp, WallTime};

/// What the agent may ask of the storage thread. Frames come by the same lane.
#[derive(Debug, Clone, PartialEq)]
pub enum StorageRequest {
    /// Keep everything from `from` on, until [`StorageRequest::Locate`] with the same pin narrows it or it is unpinned.
    PinOpen {
        /// The pin.
        pin: PinId,
        /// Its class.
        class: PinClass,
        /// From when.
        from: MonoTime,
    },
    /// Find footage and pin exactly it. Answered by [`StorageUpdate::Located`] once everything up to the end of the query is
    /// durable, or at once with what there is when the end is in the past.
    Locate {
        /// The pin; replaces an open pin of the same name.
        pin: PinId,
        /// Its class.
        class: PinClass,
        /// Which footage.
        query: SpanQuery,
    },
    /// Let a pin go.
    Unpin {
        /// The pin.
        pin: PinId,
    },
    /// Store an outbox entry (and its snapshot), then say [`StorageUpdate::Enqueued`].
    Enqueue {
        /// Its entry id; higher than every entry id before.
        entry_id: EntryId,
        /// The entry, at most `journal::ENTRY_MAX` bytes.
        entry: Vec<u8>,
        /// A snapshot that belongs to it, at most one still slot.
        still: Option<Vec<u8>>,
    },
    /// Store several entries without snapshots, of consecutive entry ids, at most `journal::BATCH_MAX`; each is answered. All are
    /// stored or none, and a power cut in between leaves the first so many.
    EnqueueAll {
        /// Tickets and entries.
        entries: Vec<(EntryId, Vec<u8>)>,
    },
    /// Forget outbox entries (lazily: a power cut may bring them back).
    Release {
        /// Their entry ids.
        entry_ids: Vec<EntryId>,
    },
    /// Read an outbox entry; answered by [`StorageUpdate::Fetched`].
    Fetch {
        /// Its entry id.
        entry_id: EntryId,
    },
    /// Store a small named state, then say [`StorageUpdate::CellSaved`]. The newest wins.
    SaveCell {
        /// Which one.
        cell: Cell,
        /// Its bytes, at most `journal::ENTRY_MAX`.
        bytes: Vec<u8>,
    },
    /// The recording has a gap for a reason only the agent knows (the camera is down).
    NoteGap(Gap),
    /// Keep the footage between two moments as evidence; answered by [`StorageUpdate::Locked`]. The same id replaces.
    Lock {
        /// Its name.
        id: String,
        /// First moment; extended back to the key frame before it.
        from: WallTime,
        /// Last moment; may lie ahead.
        to: WallTime,
        /// Why.
        reason: String,
    },
    /// Let a lock go; answered by [`StorageUpdate::Unlocked`].
    Unlock {
        /// Its name.
        id: String,
    },
    /// The ring has other bounds from now on.
    Resize {
        /// Bytes of all segment files together.
        budget: u64,
        /// Percent of it that pins may hold.
        pin_quota: u8,
        /// Bytes the card may be written with over its life; 0 when nobody has said.
        endurance: u64,
    },
    /// Write everything out, record a clean stop, and say [`StorageUpdate::Stopped`].
    Stop,
}

/// The named small states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cell {
    /// Phases of a configuration change.
    Configuration = 1,
    /// How the clocks of each start are read ([`clock_history`]).
    Clock = 2,
    /// The evidence locks ([`locks`]).
    Locks = 3,
}

/// What storage tells the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum StorageUpdate {
    /// Before the first updates: outbox entries older than those in it, a piece at a time and oldest first.
    Found {
        /// Tickets and entries, as in [`Recovered`].
        entries: Vec<(EntryId, Vec<u8>)>,
    },
    /// First updates after start: what was found.
    Started(Box<Recovered>),
    /// Everything up to and including this record survives a power cut.
    Durable {
        /// The record.
        seq: u64,
        /// End of the footage in it.
        until: Timestamp,
    },
    /// The entry survives a power cut.
    Enqueued {
        /// Its entry id.
        entry_id: EntryId,
    },
    /// The entry could not be stored: the journal is full or failed.
    NotEnqueued {
        /// Its entry id.
        entry_id: EntryId,
        /// Why, for people.
        reason: String,
    },
    /// Answer to [`StorageRequest::Fetch`].
    Fetched {
        /// Its entry id.
        entry_id: EntryId,
        /// The entry, or why it cannot be read.
        outcome: Result<Vec<u8>, String>,
    },
    /// The cell survives a power cut.
    CellSaved {
        /// Which one.
        cell: Cell,
    },
    /// Answer to [`StorageRequest::Locate`]; `None` when nothing of it is in the ring.
    Located {
        /// The pin.
        pin: PinId,
        /// What was found, now pinned.
        span: Option<Span>,
    },
    /// A gap was recorded.
    Hole(Gap),
    /// Footage that is locked as evidence is lost; the lock says now what is missing.
    LockBroken {
        /// The lock.
        lock: locks::Lock,
        /// What was lost of it since the last start.
        lost: Vec<super::missing_records::MissingRecords>,
    },
    /// A pin lost footage to the quota.
    PinLost {
        /// The pin.
        pin: PinId,
    },
    /// Answer to [`StorageRequest::Lock`].
    Locked {
        /// The name that was asked for.
        id: String,
        /// The lock, in the journal now, or why there is none.
        outcome: Result<locks::Lock, String>,
    },
    /// Answer to [`StorageRequest::Unlock`]: the lock that was released, or why not.
    Unlocked {
        /// The name that was asked for.
        id: String,
        /// What was released.
        outcome: Result<locks::Lock, String>,
    },
    /// The wall clock was set, and footage of this start is dated again where that helps.
    ClockSet(clock_history::ClockSet),
    /// The card takes nothing any more: from now on everything is kept in memory only. A person is needed.
    CardLost {
        /// What it said last.
        detail: String,
    },
    /// The card is nearly worn out. Told once a start.
    CardWorn {
        /// Percent of its life.
        percent: u8,
    },
    /// The card misbehaves: words for people. Recording goes on as well as it can.
    Trouble {
        /// What happened: names file and offset.
        detail: String,
        /// Whether footage or entries were lost by it.
        lost: bool,
    },
    /// Something was found damaged or put right while recording.
    Repaired(Repair),
    /// Counters, about once a minute.
    Counts(StorageCounts),
    /// Answer to [`StorageRequest::Stop`].
    Stopped,
}

/// What was found at start.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recovered {
    /// Name of this ring, as old as its journal.
    pub ring: RingId,
    /// Number of this start.
    pub boot: Boot,
    /// Outbox entries the journal can hold: an existing one keeps its size, whatever the settings say.
    pub slots: u32,
    /// Highest record sequence in the ring, 0 when it is empty.
    pub last_seq: u64,
    /// Times of the oldest and newest footage.
    pub extent: Option<(Timestamp, Timestamp)>,
    /// Outbox entries not released, by entry id, unless they were reported before ([`StorageUpdate::Found`]). Empty is one that cannot be
    /// read.
    pub entries: Vec<(EntryId, Vec<u8>)>,
    /// The highest entry id ever stored and its entry, released or not: it carries the counters on.
    pub newest: Option<(EntryId, Vec<u8>)>,
    /// The cells.
    pub cells: Vec<(Cell, Vec<u8>)>,
    /// Holes found or made at start (a power cut, damaged records).
    pub gaps: Vec<Gap>,
    /// What was put right or dropped, record by record.
    pub repairs: Vec<Repair>,
    /// Damaged slots of the journal.
    pub damaged_slots: u32,
    /// The evidence locks.
    pub locks: Vec<locks::Lock>,
    /// True when the last stop was in order.
    pub clean: bool,
    /// Microseconds recovery took.
    pub took: u64,
}

/// Something recovery or the scrub met and dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// File name.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// What it was.
    pub kind: RepairKind,
    /// Bytes dropped.
    pub bytes: u64,
    /// Microseconds of footage dropped, 0 where nobody can know.
    pub micros: u64,
    /// Which records were dropped, where that is known.
    pub lost: Option<super::missing_records::MissingRecords>,
}

/// What recovery meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairKind {
    /// The last write of a start was cut; its begin was overwritten with free space.
    Torn,
    /// Records amid others cannot be read; they are left alone and passed over.
    Damaged,
    /// The head of a file cannot be read, neither copy of it.
    Head,
    /// One of two copies was damaged and was written again from the other: nothing is lost.
    Copy,
    /// Records that should be there are in no file.
    Missing,
}

impl RepairKind {
    /// The word used in payloads and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            RepairKind::Torn => "torn",
            RepairKind::Damaged => "damaged",
            RepairKind::Head => "head",
            RepairKind::Copy => "copy",
            RepairKind::Missing => "missing",
        }
    }
}

/// Counters of the storage thread since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorageCounts {
    /// Sample bytes recorded.
    pub payload: u64,
    /// Bytes handed to the device, all files.
    pub written: u64,
    /// Flushes.
    pub syncs: u64,
    /// Frames recorded.
    pub frames: u64,
    /// Frames skipped because we fell behind.
    pub skipped: u64,
    /// Bytes of the ring now in use by footage.
    pub used: u64,
    /// Bytes of the ring's budget.
    pub budget: u64,
    /// Bytes by which that is less than `storage.budget`, because the card has no room for them.
    pub short: u64,
    /// When the oldest footage in the ring was taken.
    pub oldest: Option<WallTime>,
    /// Bytes pinned.
    pub pinned: u64,
    /// Longest flush in microseconds since the last report.
    pub slowest_sync: u64,
    /// Bytes free (available to us) on the file system.
    pub available: u64,
    /// Bytes handed to the device over the life of this ring.
    pub lifetime: u64,
    /// Percent of the card's life used: what the device says, or `lifetime` against `storage.endurance`; 0 where nobody knows.
    pub worn: u8,
    /// Days until the card is worn out at the pace of this start; 0 where nobody knows.
    pub days_left: u32,
    /// Nothing reaches the card: recording is in memory only.
    pub in_memory: bool,
    /// Old segments read by the scrub.
    pub scrubbed: u64,
    /// Records that it found damaged.
    pub damaged: u64,
}
