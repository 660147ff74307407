//! Storage: a ring of fMP4 segments, a journal and snapshot slots that survive power cuts.
//!
//! Recording:
//! * [`fragment`]: groups frames into a `moof` and `mdat`.
//! * [`ring`]: appends records and recycles segment files; `reuse_policy` selects the next file,
//!   `ring_growth` says when a card that was full is checked for room,
//!   `record_inventory` lists present and evicted records for segment heads,
//!   [`ring_geometry`] has its sizes.
//! * [`track_changes`]: which change of parameter sets may begin a segment.
//! * [`pins`]: footage that must not be evicted. [`locks`]: evidence locks, which outlive restarts.
//! * [`engine`]: owns ring, journal and snapshots; frames and requests in, updates out.
//!   `engine_gaps` records gaps (`open_gap`: one without an end), `engine_audio` keeps audio and
//!   media time in order; `engine_queries` answers queries (`pending_query`: one whose footage is not
//!   durable yet) and keeps locks. [`open`] opens it.
//! * [`messages`]: the requests and updates. [`thread`]: the loop around the engine.
//!
//! Reading:
//! * [`segment_index`]: the segments, in memory. [`scan`]: reads a segment record by record.
//! * [`footage_query`]: finds footage. `damage_exclusion`: removes unreadable records from a span.
//!   `span_edges`: names what a span lacks before its begin and behind its end.
//! * [`clock_history`]: dates footage of boots that began without a valid clock.
//!
//! Recovery:
//! * [`head_selection`]: selects the valid copy of each segment head.
//! * [`recovery`]: the decision table applied when a ring is opened.
//! * [`missing_records`]: record numbers that no file holds. [`range_set`]: sets of record numbers.
//! * [`check`]: verifies a whole ring read-only (`check_segment`: one segment; [`check_report`]: the
//!   result). [`second_look`]: what a reader beside a running agent confirms. [`scrub`]: verifies one
//!   segment an hour.
//! * [`identity`]: selects the card that owns the directory. [`foreign`]: sets aside parts of other
//!   cards.
//!
//! The card:
//! * [`journal`]: outbox entries and cells in checksummed slots, two copies each.
//!   [`journal_layout`]: sizes and offsets. `journal_slot`: the bytes of a slot. `journal_load`:
//!   opens a journal and reads its content (`loaded_journal`).
//! * [`placement`]: whether a ring fits where its settings place it.
//! * [`snapshots`]: fixed slots for JPEGs that wait for the office.
//! * `dir_check`: notices files that are removed or exchanged beside a running agent, by their
//!   `file_mark`.
//! * [`disk`]: the trait for the card, and the real file system. [`fallback`]: a disk that falls
//!   back to memory. [`wear`]: remaining life of the card.
//!
//! What belongs here: everything that touches the card. What does not: the bytes themselves
//! ([`crate::format`]), events, and the decision when a clip is cut.

pub(crate) mod check;
pub(crate) mod check_report;
mod check_segment;
pub(crate) mod clock_history;
mod damage_exclusion;
pub mod disk;
pub mod engine;
mod engine_audio;
mod engine_gaps;
mod engine_queries;
pub(crate) mod fallback;
pub(crate) mod footage_query;
pub(crate) mod foreign;
pub mod fragment;
pub mod head_selection;
pub(crate) mod identity;
pub mod journal;
pub mod journal_layout;
mod journal_load;
mod journal_slot;
mod loaded_journal;
pub(crate) mod locks;
pub(crate) mod messages;
pub(crate) mod missing_records;
pub(crate) mod open;
mod open_gap;
mod pending_query;
pub(crate) mod pins;
pub(crate) mod placement;
pub(crate) mod range_set;
pub mod recovery;
mod reuse_policy;
pub(crate) mod ring;
pub(crate) mod ring_geometry;
mod ring_growth;
mod record_inventory;
mod span_edges;
mod track_changes;
pub mod scan;
pub(crate) mod scrub;
pub(crate) mod second_look;
pub(crate) mod segment_index;
mod dir_check;
mod file_mark;
pub(crate) mod side_files;
pub(crate) mod snapshots;
pub(crate) mod thread;
pub(crate) mod wear;

#[cfg(all(test, feature = "sim"))]
pub(crate) mod beside_tests;
#[cfg(all(test, feature = "sim"))]
mod camera_clock_tests;
#[cfg(all(test, feature = "sim"))]
mod clock_step_tests;
#[cfg(all(test, feature = "sim"))]
mod engine_tests;
#[cfg(all(test, feature = "sim"))]
mod foreign_tests;
#[cfg(all(test, feature = "sim"))]
mod loss_tests;
#[cfg(all(test, feature = "sim"))]
mod pin_loss_tests;
#[cfg(all(test, feature = "sim"))]
mod power_tests;
#[cfg(all(test, feature = "sim"))]
mod recovery_tests;
#[cfg(all(test, feature = "sim"))]
mod rot_tests;
#[cfg(all(test, feature = "sim"))]
mod track_change_tests;

use std::sync::Arc;

pub use crate::format::fragment_ref::FragmentRef;
pub use crate::format::gap::{Gap, GapReason};
pub use messages::{
    Cell, Recovered, Repair, RepairKind, StorageCounts, StorageRequest, StorageUpdate,
};
pub use track_changes::TrackChangeReport;

use crate::camera::TrackParams;
use crate::units::{Boot, EntryId, MonoTime, WallTime};

/// Selects footage by time or by record number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanQuery {
    /// By the monotonic clock of one boot; extended back to the key frame at or before `from`.
    Mono {
        /// The boot that the clock belongs to.
        boot: Boot,
        /// Start of the range.
        from: MonoTime,
        /// End of the range, inclusive.
        to: MonoTime,
        /// Only records with a higher number; 0 for all. Continues a query that [`Span::more`] cut.
        after: u64,
    },
    /// By wall time; extended back to the key frame at or before `from`.
    Wall {
        /// Start of the range.
        from: WallTime,
        /// End of the range, inclusive.
        to: WallTime,
        /// Only records with a higher number; 0 for all. Continues a query that [`Span::more`] cut.
        after: u64,
    },
    /// By record number, e.g. to find the footage of a clip again after a restart.
    Seq {
        /// First record.
        first: u64,
        /// Last record.
        last: u64,
    },
}

/// Footage found: consecutive fragments of one track layout, starting on a key frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Span {
    /// The fragments in order of their numbers, at least one.
    pub fragments: Vec<FragmentRef>,
    /// The tracks in order of their track ids, video first. The `moov` of a clip is built from
    /// them.
    pub tracks: Vec<Arc<TrackParams>>,
    /// Gaps between and beside the fragments.
    pub gaps: Vec<Gap>,
    /// Unreadable records in the range, `[first, last]`. Each is also in `gaps`.
    pub damaged: Vec<(u64, u64)>,
    /// True when the query continues behind this span in another file, because the track layout
    /// changed or the clock was set back. Repeat the query with `after` = the last record of this
    /// span.
    pub more: bool,
}

/// Identifies a pin; the agent assigns the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinId(pub u64);

/// Reason for a pin. When the pin quota is exceeded, the lowest class is released first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PinClass {
    /// A clip that the office requested.
    Requested,
    /// The clip of an event.
    Event,
    /// Footage locked as evidence.
    Lock,
}

/// Reads durable footage and snapshots; usable from any thread.
pub trait FootageReader: Send + Sync {
    /// Returns a fragment: its `uuid` record, `moof` and `mdat`, with verified checksums.
    ///
    /// # Errors
    /// Names the file and offset that could not be read or that no longer hold this record.
    fn fragment(&self, fragment: &FragmentRef) -> Result<Vec<u8>, ReadFault>;

    /// The snapshot stored with an outbox entry.
    ///
    /// # Errors
    /// If the snapshot is gone, damaged or unreadable.
    fn snapshot(&self, entry_id: EntryId) -> Result<Vec<u8>, ReadFault>;
}

/// Reason why footage could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadFault {
    /// The file was recycled: the lap or the record number differs.
    #[error("{0}: no longer there")]
    Gone(String),
    /// The record is there, but its checksum is wrong.
    #[error("{0}: damaged")]
    Damaged(String),
    /// The card reported a read error.
    #[error("{0}")]
    Io(String),
}
