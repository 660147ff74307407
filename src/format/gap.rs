//! Gaps in a recording, with their reasons as stored in gap records and sent in events.

use crate::units::Timestamp;

/// A time range without footage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// End of the footage before the gap.
    pub from: Timestamp,
    /// Start of the footage after the gap; equal to `from` while unknown.
    pub to: Timestamp,
    /// Reason.
    pub reason: GapReason,
    /// Bytes lost; 0 if unknown.
    pub bytes: u64,
}

impl Gap {
    /// Microseconds by which the wall clock was set back in the gap; 0 if its times are in order. Its
    /// length is unknown then.
    pub fn set_back(&self) -> u64 {
        self.from.wall.0.saturating_sub(self.to.wall.0).max(0) as u64
    }

    /// The gap with an end that is not before its begin: one in which the clock was set back ends
    /// where it begins.
    #[must_use]
    pub fn in_order(self) -> Gap {
        Gap { to: Timestamp { wall: self.to.wall.max(self.from.wall), ..self.to }, ..self }
    }
}

/// Reasons for missing footage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum GapReason {
    /// The camera sent no frames, or they were lost on the way for over half a second.
    CameraDown = 1,
    /// Storage was too slow; frames were dropped up to the next key frame.
    FellBehind = 2,
    /// The power was cut or the agent was killed.
    PowerCut = 3,
    /// The footage was evicted although it was pinned, or before it was requested.
    EvictedPinned = 4,
    /// A record on the card was damaged.
    Damaged = 5,
    /// The card rejected a write or a flush.
    DiskError = 6,
    /// The agent was stopped in an orderly way.
    Stopped = 7,
    /// An access unit is larger than a segment can hold.
    TooLarge = 8,
    /// Frames arrived without a key frame before them, or since their parameters changed, so that they
    /// cannot be decoded.
    NoKeyFrame = 9,
    /// No file holds the records, and no head lists them as evicted.
    Missing = 10,
    /// The camera changed its parameter sets too soon after the last change: each change that is
    /// recorded begins a segment.
    ParameterChanges = 11,
}

impl GapReason {
    /// Decodes the reason of a gap record.
    pub fn from_byte(byte: u8) -> Option<GapReason> {
        use GapReason::*;
        let all = [
            CameraDown,
            FellBehind,
            PowerCut,
            EvictedPinned,
            Damaged,
            DiskError,
            Stopped,
            TooLarge,
            NoKeyFrame,
            Missing,
            ParameterChanges,
        ];
        all.into_iter().find(|reason| *reason as u8 == byte)
    }

    /// True for gaps that begin in an earlier boot, by another monotonic clock.
    pub fn is_between_starts(self) -> bool {
        matches!(self, GapReason::PowerCut | GapReason::Stopped)
    }

    /// The word used in messages and tables.
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
            GapReason::ParameterChanges => "parameter_changes",
        }
    }
}
