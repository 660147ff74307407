//! Limit of track changes: which change of a track's parameters may begin a segment.
//!
//! A segment has one track layout, so each change of the parameter sets begins another one, however
//! little the current one holds. A camera that changes them each second would evict the whole
//! history within minutes.
//!
//! What belongs here: the decision, and when the operator hears of it. What does not: the gap of what
//! is left out (`super::engine_gaps`).

use std::time::Duration;

use crate::camera::{Frame, TrackKind};
use crate::units::{Digest, MonoTime};

/// Shortest time between two changes of a track that are recorded. A person who sets a camera, or
/// one that switches at dusk, needs longer; a segment of 16 MiB holds some 30 s of a usual stream,
/// so the ring keeps about a third of its time in the worst case.
const CHANGE_INTERVAL: Duration = Duration::from_secs(10);
/// Shortest gap of pictures that are left out: two sets that take turns at each picture would fill
/// card and outbox with gaps. Shorter than a GOP of two seconds, so half of such a stream is kept.
const LEFT_OUT_MIN: Duration = Duration::from_millis(1500);
/// Changes without a pause of [`QUIET`] that are reported though all are recorded: they shorten what
/// the ring holds.
const CHANGES_MAX: u64 = 6;
/// The tracks count as stable after this long without a change.
const QUIET: Duration = Duration::from_secs(300);

/// What the operator hears of tracks that change again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackChangeReport {
    /// False at the begin of the changes, true after five minutes without one.
    pub is_stable: bool,
    /// Changes so far.
    pub changes: u64,
    /// Frames left out so far.
    pub left_out: u64,
}

/// One kind of track.
#[derive(Debug, Default)]
struct Track {
    /// The parameters that are recorded; `None` before the first frame.
    held: Option<Digest>,
    /// The parameters of the latest frame.
    latest: Option<Digest>,
    /// Time of the last change that was recorded.
    changed: Option<MonoTime>,
    /// Time of the first frame of the gap; `None` while frames are recorded.
    left_out: Option<MonoTime>,
}

impl Track {
    /// True if a frame that may begin to be recorded is.
    fn admits(&mut self, digest: Digest, now: MonoTime) -> bool {
        let passed = |since: Option<MonoTime>, least: Duration| {
            since.is_none_or(|since| now.duration_since(since) >= least)
        };
        let is_held = self.held.is_none_or(|held| held == digest);
        let admits = match is_held {
            true => passed(self.left_out, LEFT_OUT_MIN),
            false => passed(self.changed, CHANGE_INTERVAL),
        };
        if !admits {
            self.left_out.get_or_insert(now);
            return false;
        }
        if !is_held {
            self.changed = Some(now);
        }
        self.held = Some(digest);
        self.left_out = None;
        true
    }
}

/// The changes of both tracks.
#[derive(Debug, Default)]
pub(super) struct TrackChanges {
    video: Track,
    audio: Track,
    /// Time of the latest change; `None` while the tracks are stable.
    latest: Option<MonoTime>,
    changes: u64,
    left_out: u64,
    is_reported: bool,
}

impl TrackChanges {
    /// True if `frame` is recorded. A picture that is no key frame is not judged: it cannot begin a
    /// segment.
    pub(super) fn admits(&mut self, frame: &Frame) -> bool {
        let (now, digest) = (frame.at.mono, frame.params.digest);
        let video = frame.kind() == TrackKind::Video;
        if video && !frame.key {
            return true;
        }
        let track = if video { &mut self.video } else { &mut self.audio };
        if track.latest.replace(digest).is_some_and(|latest| latest != digest) {
            self.changes += 1;
            self.latest = Some(now);
        }
        track.admits(digest, now)
    }

    /// Counts a frame that is left out.
    pub(super) fn note_left_out(&mut self) {
        self.left_out += 1;
    }

    /// The report that is due, once at the begin of the changes and once at their end.
    pub(super) fn report(&mut self, now: MonoTime) -> Option<TrackChangeReport> {
        let latest = self.latest?;
        let is_stable = now.duration_since(latest) >= QUIET;
        let is_due = match self.is_reported {
            true => is_stable,
            false => !is_stable && (self.left_out > 0 || self.changes >= CHANGES_MAX),
        };
        let report =
            TrackChangeReport { is_stable, changes: self.changes, left_out: self.left_out };
        self.is_reported |= is_due;
        if is_stable {
            (self.latest, self.changes, self.left_out) = (None, 0, 0);
            self.is_reported = false;
        }
        is_due.then_some(report)
    }
}
