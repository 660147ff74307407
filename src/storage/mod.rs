//! Storage: a ring of always-playable fMP4 segments, its journal and its snapshots, safe against power cuts.
//!
//! * [`fragment`]: frames → `moof` and `mdat`. [`range_set`]: sets of record numbers. The bytes themselves: [`crate::format`].
//! * [`head_selection`]: which copy of a segment's head counts.
//! * [`segment_index`]: what is in the ring, in memory. [`scan`]: reading a segment record by record. [`footage_query`]: finding footage. `damage_exclusion`: without
//!   what cannot be read. [`missing_records`]: what is in no file.
//! * [`recovery`]: the decision table for what is found after a power cut. [`check`]: reading a ring as its next owner would.
//!   [`scrub`]: the same a segment an hour.
//! * [`ring`]: append, recycle. `reuse_policy`: what is evicted. [`pins`]: who wants what kept. [`locks`]: what must be kept until somebody says otherwise.
//! * [`clock_history`]: what time it was on a board that did not know. [`wear`]: how long the card will last.
//! * [`journal`]: fixed checksummed slots, two copies far apart: outbox entries and cells. `journal_slot`: one of them. `journal_load`: all at a start. `side_files`: their sizes.
//! * [`identity`]: whose parts lie in the directory. [`foreign`]: what is done about those of another card.
//! * [`snapshots`]: fixed slots for snapshots that wait for the office.
//! * [`messages`]: orders and updates. [`engine`]: one owner of ring + journal + stills: frames and orders in, updates out. Pure over [`disk::Disk`].
//!   [`open`]: opening it. [`pending_queries`]: waiting for footage that is asked for.
//! * [`fallback`]: the card with memory behind it. [`disk`] ⇄: the trait and the real disk. [`thread`] ⇄: the engine's thread.
//!
//! What belongs here: everything that touches the card. What does not: what an event is, when to cut a clip.

pub mod pending_queries;
pub mod fallback;
pub mod check;
mod reuse_policy;
pub mod clock_history;
pub mod disk;
pub mod engine;
#[cfg(all(test, feature = "sim"))]
mod engine_tests;
#[cfg(all(test, feature = "sim"))]
mod power_tests;
pub mod fragment;
pub mod head_selection;
mod damage_exclusion;
#[cfg(all(test, feature = "sim"))]
mod loss_tests;
pub mod segment_index;
pub mod journal;
pub mod foreign;
pub mod identity;
mod journal_load;
pub mod footage_query;
pub mod locks;
pub mod missing_records;
pub mod pins;
pub mod range_set;
pub mod recovery;
#[cfg(all(test, feature = "sim"))]
mod recovery_tests;
pub mod ring;
#[cfg(all(test, feature = "sim"))]
mod rot_tests;
#[cfg(all(test, feature = "sim"))]
mod foreign_tests;
pub mod scrub;
pub mod side_files;
mod journal_slot;
pub mod open;
pub mod snapshots;
pub mod messages;
pub mod thread;
pub mod scan;
pub mod wear;

use std::sync::Arc;

pub use crate::format::fragment_ref::FragmentRef;
pub use crate::format::gap::{Gap, GapReason};
pub use messages::{Cell, Recovered, Repair, RepairKind, StorageCounts, StorageRequest, StorageUpdate};

use crate::camera::TrackParams;
use crate::units::{Boot, EntryId, MonoTime, WallTime};

/// Which footage is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanQuery {
    /// By the monotonic clock of one boot; extended back to the key frame at or before `from`.
    Mono {
        /// The boot whose clock it is.
        boot: Boot,
        /// First moment.
        from: MonoTime,
        /// Last moment.
        to: MonoTime,
        /// Only records with a higher number: how the rest of a query that was cut is asked for. 0 for all.
        after: u64,
    },
    /// By wall time; extended back to the key frame at or before `from`.
    Wall {
        /// First moment.
        from: WallTime,
        /// Last moment.
        to: WallTime,
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
    /// Records inside that cannot be read, `[first, last]`: each is a gap too.
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
    fn snapshot(&self, entry_id: EntryId) -> Result<Vec<u8>, ReadFault>;
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
