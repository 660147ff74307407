//! Requests to the storage thread and updates from it.

use super::{Gap, PinClass, PinId, Span, SpanQuery, clock_history, locks};
use crate::units::{Boot, EntryId, MonoTime, RingId, Timestamp, WallTime};

/// Requests to the storage thread. They share the frame queue with the frames.
#[derive(Debug, Clone, PartialEq)]
pub enum StorageRequest {
    /// Keep all footage from `from` on, until [`StorageRequest::Locate`] with the same pin narrows
    /// the pin or it is released.
    PinOpen {
        /// The pin.
        pin: PinId,
        /// Its class.
        class: PinClass,
        /// Start of the footage to keep.
        from: MonoTime,
    },
    /// Find footage and pin exactly that. Answered by [`StorageUpdate::Located`] once everything up
    /// to the end of the query is durable, or at once if the end is in the past.
    Locate {
        /// The pin; replaces an open pin with the same id.
        pin: PinId,
        /// Its class.
        class: PinClass,
        /// The footage to find.
        query: SpanQuery,
    },
    /// Release a pin.
    Unpin {
        /// The pin.
        pin: PinId,
    },
    /// Store an outbox entry and its snapshot; answered by [`StorageUpdate::Enqueued`].
    Enqueue {
        /// Its entry id, higher than all entry ids before.
        entry_id: EntryId,
        /// The entry, at most `journal_layout::ENTRY_MAX` bytes.
        entry: Vec<u8>,
        /// The JPEG that belongs to it, at most one snapshot slot.
        snapshot: Option<Vec<u8>>,
    },
    /// Store several entries without snapshots and with consecutive ids, at most
    /// `journal_layout::BATCH_MAX`. Each is answered. Either all are stored or none; a power cut keeps a
    /// prefix.
    EnqueueAll {
        /// Entry ids and entries.
        entries: Vec<(EntryId, Vec<u8>)>,
    },
    /// Delete outbox entries. Written lazily: a power cut may bring them back.
    Release {
        /// The entry ids.
        entry_ids: Vec<EntryId>,
    },
    /// Read an outbox entry; answered by [`StorageUpdate::Fetched`].
    Fetch {
        /// Its entry id.
        entry_id: EntryId,
    },
    /// Store a small named state; answered by [`StorageUpdate::CellSaved`]. The newest counts.
    SaveCell {
        /// The cell.
        cell: Cell,
        /// Its bytes, at most `journal_layout::ENTRY_MAX`.
        bytes: Vec<u8>,
    },
    /// Record a gap for a reason that only the agent knows, e.g. that the camera is down.
    NoteGap(Gap),
    /// The process ended in order before this boot. A card that has no ordered stop then took no
    /// writes at its end: the footage since is missing for that reason, and not by a power cut.
    StoppedBefore,
    /// An orderly stop began at this time. The next [`StorageRequest::Flush`] records the open gap up
    /// to it: the gap behind it is that of the stop.
    Stopping {
        /// The time of the signal or request.
        at: Timestamp,
    },
    /// Lock footage as evidence; answered by [`StorageUpdate::Locked`]. Replaces a lock with the
    /// same id.
    Lock {
        /// Id of the lock.
        id: String,
        /// Start of the range; extended back to the key frame before it.
        from: WallTime,
        /// End of the range; may lie in the future.
        to: WallTime,
        /// Reason, as free text.
        reason: String,
    },
    /// Release a lock; answered by [`StorageUpdate::Unlocked`].
    Unlock {
        /// Id of the lock.
        id: String,
    },
    /// Change the size limits of the ring.
    Resize {
        /// Most bytes of all segment files together.
        budget: u64,
        /// Percent of the budget that pins may hold.
        pin_quota: u8,
        /// Bytes that may be written to the card by its data sheet; 0 when not configured.
        endurance: u64,
    },
    /// Write what is gathered; more may follow.
    Flush,
    /// Write everything, record an orderly stop, and answer [`StorageUpdate::Stopped`].
    Stop,
}

/// Named small states in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cell {
    /// The camera login that was accepted (`camera::login_mark`).
    Login = 1,
    /// The clock history ([`clock_history`]).
    Clock = 2,
    /// The evidence locks ([`locks`]).
    Locks = 3,
}

/// Updates from storage to the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum StorageUpdate {
    /// Older outbox entries, oldest first and in several updates, sent before
    /// [`StorageUpdate::Started`].
    Found {
        /// Entry ids and entries, as in [`Recovered`].
        entries: Vec<(EntryId, Vec<u8>)>,
    },
    /// The result of recovery.
    Started(Box<Recovered>),
    /// Everything up to and including this record survives a power cut.
    Durable {
        /// Number of the record.
        seq: u64,
        /// End of the footage in it.
        until: Timestamp,
    },
    /// The entry survives a power cut.
    Enqueued {
        /// Its entry id.
        entry_id: EntryId,
    },
    /// The entry was not stored: the journal is full or failed.
    NotEnqueued {
        /// Its entry id.
        entry_id: EntryId,
        /// Reason, for log and operator.
        reason: String,
    },
    /// Answer to [`StorageRequest::Fetch`].
    Fetched {
        /// Its entry id.
        entry_id: EntryId,
        /// The entry, or the reason why it cannot be read.
        outcome: Result<Vec<u8>, String>,
    },
    /// The cell survives a power cut.
    CellSaved {
        /// The cell.
        cell: Cell,
    },
    /// Answer to [`StorageRequest::Locate`]; `None` if the ring knows neither footage nor gaps of
    /// the range.
    Located {
        /// The pin.
        pin: PinId,
        /// The footage found, now pinned.
        span: Option<Span>,
    },
    /// A gap was recorded, or footage of a pin was evicted.
    Gap(Gap),
    /// Footage that is locked as evidence is lost; the lock now names what is missing.
    LockBroken {
        /// The lock.
        lock: locks::Lock,
        /// The records lost since the last boot.
        lost: Vec<super::missing_records::MissingRecords>,
    },
    /// A pin was released because pins exceeded their quota.
    PinLost {
        /// The pin.
        pin: PinId,
    },
    /// Answer to [`StorageRequest::Lock`].
    Locked {
        /// Id of the lock as requested.
        id: String,
        /// The stored lock, or the reason for the rejection.
        outcome: Result<locks::Lock, String>,
    },
    /// Answer to [`StorageRequest::Unlock`].
    Unlocked {
        /// Id of the lock as requested.
        id: String,
        /// The released lock, or the reason for the rejection.
        outcome: Result<locks::Lock, String>,
    },
    /// The wall clock was set; footage of this boot is dated by the new clock where that is better.
    ClockSet(clock_history::ClockSet),
    /// The card rejects writes: recording continues in memory only until the card is replaced.
    CardLost {
        /// True when the journal moved to memory: numbers that are assigned from now on are not on the
        /// card, and the next boot would assign them again.
        journal: bool,
        /// The last error of the card.
        detail: String,
    },
    /// The card is nearly worn out. Sent once a boot.
    CardWorn {
        /// Percent of the life of the card.
        percent: u8,
    },
    /// The card reported an error; recording continues as far as possible.
    Trouble {
        /// Description for log and operator; names file and offset.
        detail: String,
        /// True if footage or entries are lost, or count as missing until a file is put back, or a part
        /// belongs to another card: an operator must act.
        lost: bool,
    },
    /// The file system has no room for the whole budget; the ring records in the files that it has,
    /// and grows while there is room.
    NoRoom {
        /// Bytes still to be allocated.
        wanted: u64,
        /// Bytes available.
        available: u64,
    },
    /// Damage was found or repaired while recording.
    Repaired(Repair),
    /// The camera changes its tracks again and again, or no longer does.
    TrackChanges(super::TrackChangeReport),
    /// Counters, every 30 seconds.
    Counts(StorageCounts),
    /// Answer to [`StorageRequest::Stop`].
    Stopped,
}

/// The state of the ring when it was opened.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recovered {
    /// Id of this ring; drawn with its journal.
    pub ring: RingId,
    /// Number of this boot.
    pub boot: Boot,
    /// Outbox entries that the journal can hold. An existing journal keeps its size when the
    /// settings change.
    pub slots: u32,
    /// Highest record number in the ring, 0 if it is empty.
    pub last_seq: u64,
    /// Times of the oldest and newest footage; `None` if the ring is empty.
    pub extent: Option<(Timestamp, Timestamp)>,
    /// Unreleased outbox entries by entry id, except those reported before
    /// ([`StorageUpdate::Found`]). An unreadable entry has no bytes.
    pub entries: Vec<(EntryId, Vec<u8>)>,
    /// The entry with the highest id ever stored, released or not. It holds the event counters.
    pub newest: Option<(EntryId, Vec<u8>)>,
    /// The cells.
    pub cells: Vec<(Cell, Vec<u8>)>,
    /// Gaps found when the ring was opened, e.g. damaged records.
    pub gaps: Vec<Gap>,
    /// Damage repaired or passed over.
    pub repairs: Vec<Repair>,
    /// Journal slots of which both copies are damaged.
    pub damaged_slots: u32,
    /// The evidence locks.
    pub locks: Vec<locks::Lock>,
    /// True if the last boot ended with an orderly stop.
    pub clean: bool,
    /// Duration of recovery, microseconds.
    pub took: u64,
}

/// Damage that recovery or the scrub found, and repaired where possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// File name.
    pub file: String,
    /// Byte offset in the file.
    pub offset: u64,
    /// Kind of damage.
    pub kind: RepairKind,
    /// Bytes lost.
    pub bytes: u64,
    /// Footage lost, microseconds; 0 if unknown.
    pub micros: u64,
    /// The records lost; `None` if unknown.
    pub lost: Option<super::missing_records::MissingRecords>,
}

impl Repair {
    /// Records that no file of the ring holds any more.
    pub(super) fn missing(records: super::missing_records::MissingRecords) -> Repair {
        Repair {
            file: "ring".into(),
            offset: 0,
            kind: RepairKind::Missing,
            bytes: 0,
            micros: records.micros(),
            lost: Some(records),
        }
    }
}

/// Kinds of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairKind {
    /// The last write of a boot was torn; it was replaced by free space.
    Torn,
    /// Records between others cannot be read; they are left as they are and passed over.
    Damaged,
    /// Neither copy of a segment head can be read.
    Head,
    /// One of two copies was damaged and was rewritten from the other; nothing is lost.
    Copy,
    /// Records that the ring should hold are in no file.
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

/// Counters of the storage thread since this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorageCounts {
    /// Bytes of samples recorded.
    pub payload: u64,
    /// Bytes written to the device, all files.
    pub written: u64,
    /// Flushes.
    pub syncs: u64,
    /// Frames recorded.
    pub frames: u64,
    /// Frames dropped: the frame queue was full, no key frame preceded them, or their parameters
    /// changed too soon.
    pub skipped: u64,
    /// Bytes of segments with footage.
    pub used: u64,
    /// Most bytes of all segment files together.
    pub budget: u64,
    /// Bytes by which the budget is below `storage.budget`, because the card has no room.
    pub short: u64,
    /// Capture time of the oldest footage; `None` if the ring is empty.
    pub oldest: Option<WallTime>,
    /// Bytes of pinned segments.
    pub pinned: u64,
    /// Longest flush since the last report, microseconds.
    pub slowest_sync: u64,
    /// Free bytes of the file system available to this process.
    pub available: u64,
    /// Bytes written to the device over the life of this ring.
    pub lifetime: u64,
    /// Percent of the life of the card used: the report of the device, or `lifetime` against
    /// `storage.endurance`; 0 if unknown.
    pub worn: u8,
    /// Days until the card is worn out at the pace of this boot; 0 if unknown.
    pub days_left: u32,
    /// True when recording continues in memory only.
    pub in_memory: bool,
    /// Segments verified by the scrub.
    pub scrubbed: u64,
    /// Damaged records found by recovery and scrub.
    pub damaged: u64,
}
