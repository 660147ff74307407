//! Gaps in a recording and their reasons, as gap records and events name them.

use crate::units::Timestamp;

/// A gap in the recording, on disk and in updates: what is lost is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The last moment before the gap.
    pub from: Timestamp,
    /// The first moment after it; equal to `from` while it is not known.
    pub to: Timestamp,
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

    /// True for gaps that begin in an earlier start, by another monotonic clock.
    pub fn is_between_starts(self) -> bool {
        matches!(self, GapReason::PowerCut | GapReason::Stopped)
    }

    /// The word used in payloads and tables.
    pub fn as_str(self) -> &'static str {
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
