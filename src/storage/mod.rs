//! The storage room: a ring of always-playable fMP4 segments, its journal and its snapshots, safe against power cuts.
//!
//! * [`document`]: the on-disk format, byte by byte; the other files implement it.
//! * [`mod@format`]: encode and decode records. [`head`]: heads of segments, and [`heads`]: which of their copies counts. [`boxes`]: the
//!   MP4 boxes. [`fragment`]: frames → `moof` and `mdat`. [`ranges`]: sets of record numbers.
//! * [`index`]: what is in the ring, in memory. [`walk`]: reading a segment record by record. [`locate`]: finding footage. `leave_out`: without
//!   what cannot be read. [`lost`]: what is in no file.
//! * [`recovery`]: the decision table for what is found after a power cut. [`check`]: reading a ring as its next owner would.
//!   [`scrub`]: the same a segment an hour.
//! * [`ring`]: append, recycle. `choose`: what is evicted. [`pins`]: who wants what kept. [`locks`]: what must be kept until somebody says otherwise.
//! * [`dates`]: what time it was on a board that did not know. [`wear`]: how long the card will last.
//! * [`journal`]: fixed checksummed slots, two copies far apart: outbox entries and cells. `slot`: one of them. `kept`: all at a start.
//! * [`identity`]: whose parts lie in the directory. [`foreign`]: what is done about those of another card.
//! * [`stills`]: fixed slots for snapshots that wait for the office.
//! * [`talk`]: orders and news. [`engine`]: one owner of ring + journal + stills: frames and orders in, news out. Pure over [`disk::Disk`].
//!   [`start`]: opening it. [`answers`]: waiting for footage that is asked for.
//! * [`card`]: the card with memory behind it. [`disk`] ⇄: the trait and the real disk. [`thread`] ⇄: the engine's thread.
//!
//! What belongs here: everything that touches the card. What does not: what an event is, when to cut a clip.

pub mod answers;
pub mod boxes;
pub mod card;
pub mod check;
mod choose;
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
pub mod head;
pub mod heads;
mod leave_out;
#[cfg(all(test, feature = "sim"))]
mod loss_tests;
pub mod index;
pub mod journal;
pub mod foreign;
pub mod identity;
mod kept;
pub mod locate;
pub mod locks;
pub mod lost;
pub mod pins;
pub mod ranges;
pub mod recovery;
#[cfg(all(test, feature = "sim"))]
mod recovery_tests;
pub mod ring;
#[cfg(all(test, feature = "sim"))]
mod rot_tests;
#[cfg(all(test, feature = "sim"))]
mod foreign_tests;
pub mod scrub;
mod slot;
pub mod start;
pub mod stills;
pub mod talk;
pub mod thread;
pub mod walk;
pub mod wear;

use std::sync::Arc;

pub use talk::{Cell, Recovered, Repair, RepairKind, StorageCounts, StorageNews, StorageOrder};

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

impl FragmentRef {
    /// The last moment it covers.
    pub fn end(&self) -> Stamp {
        self.start.after(self.duration)
    }
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
    EvictedPinned = 4,
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
    /// Its records are in no file, and nothing says that they were evicted.
    Missing = 10,
}

impl GapReason {
    /// The reason a stored byte stands for.
    pub fn from_byte(byte: u8) -> Option<GapReason> {
        use GapReason::*;
        let all = [CameraDown, FellBehind, PowerCut, EvictedPinned, Damaged, DiskError, Stopped, TooLarge, NoKeyFrame, Missing];
        all.into_iter().find(|reason| *reason as u8 == byte)
    }

    /// True for holes that begin in an earlier start, by another monotonic clock.
    pub fn is_between_starts(self) -> bool {
        matches!(self, GapReason::PowerCut | GapReason::Stopped)
    }

    /// The word used in payloads and tables.
    pub fn word(self) -> &'static str {
        match self {
            GapReason::CameraDown => "camera_down",
            GapReason::FellBehind => "fell_behind",
            GapReason::PowerCut => "power_cut",
            GapReason::EvictedPinned => "evicted_pinned",
            GapReason::Damaged => "damaged",
            GapReason::DiskError => "disk_error",
            GapReason::Stopped => "stopped",
            GapReason::TooLarge => "too_large",
            GapReason::NoKeyFrame => "no_key_frame",
            GapReason::Missing => "missing",
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
    /// Records inside that cannot be read, `[first, last]`: each is a hole too.
    pub damaged: Vec<(u64, u64)>,
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
