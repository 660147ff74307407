//! Keys: at which pictures a GOP may begin.
//!
//! * IDR, and in H.265 CRA and BLA.
//! * A recovery point (SEI). Decoding from there is exact only after the pictures that its
//!   `recovery_frame_cnt` says, which is how intra refresh begins anywhere; until then parts of
//!   the picture may be wrong. Where each picture claims to be one, every eighth counts.
//! * An H.264 picture of I slices alone without SEI, but only when no other key came for 10 s and
//!   for three times the longest GOP: later pictures may refer to earlier ones, but a recording
//!   that never begins is worse.

use super::limits::INTRA_AFTER;
use crate::camera::quirk::{Quirk, QuirkCounts};
use crate::units::MonoTime;

/// Pictures between two recovery points that count.
const RECOVERY_SPACING: u32 = 8;

/// What was seen in a picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// All its slices are of a picture with random access.
    pub(super) random_access: bool,
    /// A recovery point stands before it.
    pub(super) recovery: bool,
    /// All its slices are I slices.
    pub(super) intra: bool,
}

/// Decides which pictures are keys.
#[derive(Debug, Default)]
pub(super) struct KeyRule {
    /// Arrival of the latest key, or of the first picture.
    since: Option<MonoTime>,
    /// Longest time between keys, microseconds.
    longest: u64,
    /// Pictures since the latest key.
    pictures: u32,
    any: bool,
}

impl KeyRule {
    pub(super) fn is_key(&mut self, seen: Seen, at: MonoTime, quirks: &mut QuirkCounts) -> bool {
        let since = *self.since.get_or_insert(at);
        let spaced = !self.any || self.pictures >= RECOVERY_SPACING;
        let recovery = seen.recovery && spaced;
        let patience = INTRA_AFTER.max(self.longest.saturating_mul(3));
        let intra = seen.intra && at.since(since) >= patience;
        let key = seen.random_access || recovery || intra;
        self.pictures = self.pictures.saturating_add(1);
        if !key {
            return false;
        }
        if !seen.random_access {
            quirks.note(if recovery { Quirk::RecoveryPoint } else { Quirk::IntraKey });
        }
        if self.any && (seen.random_access || recovery) {
            self.longest = self.longest.max(at.since(since));
        }
        (self.since, self.pictures, self.any) = (Some(at), 0, true);
        true
    }
}
