//! The storage room: a ring of always-playable fMP4 segments, its journal and its snapshots, safe against power cuts.
//!
//! * [`document`]: the on-disk format, byte by byte; the other files implement it.
//! * [`mod@format`]: encode and decode records and heads. [`boxes`]: the MP4 boxes. [`fragment`]: frames → `moof` and `mdat`.
//! * [`index`]: what is in the ring, in memory. [`walk`]: reading a segment record by record. [`locate`]: finding footage.
//! * [`recovery`]: the decision table for what is found after a power cut. [`check`]: reading a ring as its next owner would.
//! * [`ring`]: append, recycle, evict. [`pins`]: who wants what kept. [`locks`]: what must be kept until somebody says otherwise.
//! * [`dates`]: what time it was on a board that did not know. [`wear`]: how long the card will last.
//! * [`journal`]: fixed checksummed slots, two copies far apart: outbox entries and cells.
//! * [`stills`]: fixed slots for snapshots that wait for the office.
//! * [`engine`]: one owner of ring + journal + stills: frames and orders in, news out. Pure over [`disk::Disk`].
//!   [`start`]: opening it. [`answers`]: waiting for footage that is asked for.
//! * [`card`]: the card with memory behind it. [`disk`] ⇄: the trait and the real disk. [`thread`] ⇄: the engine's thread.
//!
//! What belongs here: everything that touches the card. What does not: what an event is, when to cut a clip.

pub mod answers;
pub mod boxes;
pub mod card;
pub mod check;
pub mod dates;
pub mod disk;
pub mod document;
pub mod engine;
#[cfg(all(test, feature = "sim"))]
mod engine_tests;
#[cfg(all(test, feature = "sim"))]
mod power_tests;
pub mod format;
pub mod fragment;
pub mod index;
pub mod journal;
pub mod locate;
pub mod locks;
pub mod pins;
pub mod recovery;
pub mod ring;
pub mod start;
pub mod stills;
pub mod thread;
pub mod walk;
pub mod wear;

use std::sync::Arc;

use crate::camera::TrackParams;
use crate::units::{Boot, Digest, Mono, Stamp, Ticket, Wall};

/// Where one durable fragment lies and what it holds. Its bytes never change while it is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentRef {
    /// Record sequence number: gap-free over the life of the ring, across laps and boots.
    pub seq: u64,
    /// Index of the segment file.
    pub segment: u32,
    /// The segment's lap when this was written; a reader checks it.
    pub lap: u32,
    /// Offset in the file of the record's `uuid` box.
    pub offset: u64,
    /// Bytes from there to the end of its `mdat` (without padding).
    pub len: u32,
    /// The first video sample is a key frame.
    pub key: bool,
    /// Boot it was written in.
    pub boot: Boot,
    /// Times of its first video sample (first sample where there is no video).
    pub start: Stamp,
    /// Media microseconds it covers.
    pub duration: u64,
    /// Start on the ring's own media clock in microseconds: monotonic over laps and boots, what `tfdt` is made from.
    pub media: u64,
    /// Milliseconds by which its sound begins before its first picture.
    pub lead: u16,
    /// Where the decode times of its segment count from, microseconds on the media clock.
    pub base: u64,
    /// Bytes of samples in it.
    pub payload: u32,
    /// Digest of the track layout (all sample entries) it needs.
    pub layout: Digest,
}

/// A hole in the recording, on disk and in news: what is lost is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The last moment before the hole.
    pub from: Stamp,
    /// The first moment after it; equal to `from` while it is not known.
    pub to: Stamp,
    /// Why.
    pub reason: GapReason,
    /// Bytes lost, 0 where nobody can know.
    pub bytes: u64,
}

/// Why footage is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum GapReason {
    /// The camera sent nothing.
    CameraDown = 1,
    /// Storage was too slow; frames were skipped to the next key frame.
    FellBehind = 2,
    /// The power was cut or the agent was killed.
    PowerCut = 3,
    /// Evicted although somebody still wanted it.
    EvictedWanted = 4,
    /// A record was damaged on the card.
    Damaged = 5,
    /// The card refused a write or a flush.
    DiskError = 6,
    /// The agent was stopped in order.
    Stopped = 7,
    /// An access unit is larger than a segment can hold.
    TooLarge = 8,
    /// Pictures came that nobody can decode, because no key frame came before them.
    NoKeyFrame = 9,
}

impl GapReason {
    /// The reason a stored byte stands for.
    pub fn from_byte(byte: u8) -> Option<GapReason> {
        use GapReason::*;
        let all = [CameraDown, FellBehind, PowerCut, EvictedWanted, Damaged, DiskError, Stopped, TooLarge, NoKeyFrame];
        all.into_iter().find(|reason| *reason as u8 == byte)
    }

    /// The word used in payloads and tables.
    pub fn word(self) -> &'static str {
        match self {
            GapReason::CameraDown => "camera_down",
            GapReason::FellBehind => "fell_behind",
            GapReason::PowerCut => "power_cut",
            GapReason::EvictedWanted => "evicted_wanted",
            GapReason::Damaged => "damaged",
            GapReason::DiskError => "disk_error",
            GapReason::Stopped => "stopped",
            GapReason::TooLarge => "too_large",
            GapReason::NoKeyFrame => "no_key_frame",
        }
    }
}

/// Which footage is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanQuery {
    /// By the monotonic clock of one boot; extended back to the key frame at or before `from`.
    Mono {
        /// The boot whose clock it is.
        boot: Boot,
        /// First moment.
        from: Mono,
        /// Last moment.
        to: Mono,
        /// Only records with a higher number: how the rest of a query that was cut is asked for. 0 for all.
        after: u64,
    },
    /// By wall time; extended back to the key frame at or before `from`.
    Wall {
        /// First moment.
        from: Wall,
        /// Last moment.
        to: Wall,
        /// Only records with a higher number, as above.
        after: u64,
    },
    /// Exactly these records, e.g. after a restart.
    Seq {
        /// First record.
        first: u64,
        /// Last record.
        last: u64,
    },
}

/// Footage found: consecutive fragments of one track layout, starting on a key frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The fragments in order, at least one.
    pub fragments: Vec<FragmentRef>,
    /// The tracks, in track-id order (video first): what a `moov` is made from.
    pub tracks: Vec<Arc<TrackParams>>,
    /// Holes inside.
    pub gaps: Vec<Gap>,
    /// True when the query reached further but a file cannot go on here: the track layout changed, or the clock was set back
    /// and the same wall time comes again. Ask again with `after` = the last record of this span.
    pub more: bool,
}

/// Name of a pin, the agent's own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinId(pub u64);

/// Why footage is pinned; lower classes go first when the pin quota is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PinClass {
    /// A clip somebody asked for.
    Requested,
    /// The clip of an event.
    Event,
    /// Locked as evidence.
    Lock,
}

/// What the agent may ask of the storage thread. Frames come by the same lane.
#[derive(Debug, Clone, PartialEq)]
pub enum StorageOrder {
    /// Keep everything from `from` on, until [`StorageOrder::Locate`] with the same pin narrows it or it is unpinned.
    PinOpen {
        /// The pin.
        pin: PinId,
        /// Its class.
        class: PinClass,
        /// From when.
        from: Mono,
    },
    /// Find footage and pin exactly it. Answered by [`StorageNews::Located`] once everything up to the end of the query is
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
    /// Store an outbox entry (and its snapshot), then say [`StorageNews::Enqueued`].
    Enqueue {
        /// Its ticket; higher than every ticket before.
        ticket: Ticket,
        /// The entry, at most `journal::ENTRY_MAX` bytes.
        entry: Vec<u8>,
        /// A snapshot that belongs to it, at most one still slot.
        still: Option<Vec<u8>>,
    },
    /// Forget an outbox entry (lazily: a power cut may bring it back).
    Release {
        /// The ticket.
        ticket: Ticket,
    },
    /// Store a small named state, then say [`StorageNews::CellSaved`]. The newest wins.
    SaveCell {
        /// Which one.
        cell: Cell,
        /// Its bytes, at most `journal::ENTRY_MAX`.
        bytes: Vec<u8>,
    },
    /// The recording has a hole for a reason only the agent knows (the camera is down).
    NoteGap(Gap),
    /// Keep the footage between two moments as evidence; answered by [`StorageNews::Locked`]. The same id replaces.
    Lock {
        /// Its name.
        id: String,
        /// First moment; extended back to the key frame before it.
        from: Wall,
        /// Last moment; may lie ahead.
        to: Wall,
        /// Why.
        reason: String,
    },
    /// Let a lock go; answered by [`StorageNews::Unlocked`].
    Unlock {
        /// Its name.
        id: String,
    },
    /// The ring may take so many bytes from now on.
    Resize {
        /// Bytes of all segment files together.
        budget: u64,
    },
    /// Write everything out, record a clean stop, and say [`StorageNews::Stopped`].
    Stop,
}

/// The named small states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cell {
    /// Phases of a configuration change.
    Configuration = 1,
    /// How the clocks of each start are read ([`dates`]).
    Clock = 2,
    /// The evidence locks ([`locks`]).
    Locks = 3,
}

/// What storage tells the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum StorageNews {
    /// First news after start: what was found.
    Started(Box<Recovered>),
    /// Everything up to and including this record survives a power cut.
    Durable {
        /// The record.
        seq: u64,
        /// End of the footage in it.
        until: Stamp,
    },
    /// The entry survives a power cut.
    Enqueued {
        /// Its ticket.
        ticket: Ticket,
    },
    /// The entry could not be stored: the journal is full or failed.
    NotEnqueued {
        /// Its ticket.
        ticket: Ticket,
        /// Why, for people.
        reason: String,
    },
    /// The cell survives a power cut.
    CellSaved {
        /// Which one.
        cell: Cell,
    },
    /// Answer to [`StorageOrder::Locate`]; `None` when nothing of it is in the ring.
    Located {
        /// The pin.
        pin: PinId,
        /// What was found, now pinned.
        span: Option<Span>,
    },
    /// A hole was recorded.
    Hole(Gap),
    /// A pin lost footage to the quota.
    PinLost {
        /// The pin.
        pin: PinId,
    },
    /// Answer to [`StorageOrder::Lock`].
    Locked {
        /// The name that was asked for.
        id: String,
        /// The lock, in the journal now, or why there is none.
        outcome: Result<locks::Lock, String>,
    },
    /// Answer to [`StorageOrder::Unlock`]: the lock that was let go, or why not.
    Unlocked {
        /// The name that was asked for.
        id: String,
        /// What was let go.
        outcome: Result<locks::Lock, String>,
    },
    /// The wall clock was set, and footage of this start is dated anew where that helps.
    ClockSet(dates::ClockSet),
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
    /// Counters, about once a minute.
    Counts(StorageCounts),
    /// Answer to [`StorageOrder::Stop`].
    Stopped,
}

/// What was found at start.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recovered {
    /// Number of this start.
    pub boot: Boot,
    /// Highest record sequence in the ring, 0 when it is empty.
    pub last_seq: u64,
    /// Times of the oldest and newest footage.
    pub extent: Option<(Stamp, Stamp)>,
    /// Outbox entries not released, by ticket.
    pub entries: Vec<(Ticket, Vec<u8>)>,
    /// The highest ticket ever stored and its entry, released or not: it carries the counters on.
    pub newest: Option<(Ticket, Vec<u8>)>,
    /// The cells.
    pub cells: Vec<(Cell, Vec<u8>)>,
    /// Holes found or made at start (a power cut, damaged records).
    pub gaps: Vec<Gap>,
    /// What was put right or given up, record by record.
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

/// Something recovery met and dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// File name.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// What it was.
    pub kind: RepairKind,
    /// Bytes given up.
    pub bytes: u64,
    /// Microseconds of footage given up, 0 where nobody can know.
    pub micros: u64,
}

/// What recovery meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairKind {
    /// The last write of a start was cut; its begin was overwritten with free space.
    Torn,
    /// Records amid others cannot be read; they are left alone and passed over.
    Damaged,
    /// The head of a file cannot be read; the file is free to use.
    Head,
}

impl RepairKind {
    /// The word used in payloads and tables.
    pub fn word(self) -> &'static str {
        match self {
            RepairKind::Torn => "torn",
            RepairKind::Damaged => "damaged",
            RepairKind::Head => "head",
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
}

/// Reads durable footage and snapshots from another thread.
pub trait FootageReader: Send + Sync {
    /// The bytes of a fragment: its `uuid` record, `moof` and `mdat`, checksum verified.
    ///
    /// # Errors
    /// Says which file and offset cannot be read or no longer hold this record.
    fn fragment(&self, fragment: &FragmentRef) -> Result<Vec<u8>, ReadFault>;

    /// The snapshot stored with an outbox entry.
    ///
    /// # Errors
    /// Says why when it is gone or damaged.
    fn still(&self, ticket: Ticket) -> Result<Vec<u8>, ReadFault>;
}

/// Why footage could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadFault {
    /// It was recycled: lap or sequence differ.
    #[error("{0}: no longer there")]
    Gone(String),
    /// It is there but its checksum is wrong.
    #[error("{0}: damaged")]
    Damaged(String),
    /// The card refused.
    #[error("{0}")]
    Io(String),
}
