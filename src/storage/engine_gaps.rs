//! Gap recording of the engine: opens, queues and appends gap records.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use super::fragment::NewFragment;
use super::open_gap::OpenGap;
use super::{Gap, GapReason, StorageUpdate};
use crate::camera::{Frame, TrackKind, TrackParams};
use crate::units::Timestamp;

/// Gaps that may wait to be recorded. When full, the last gap is extended.
const PENDING_GAPS_MAX: usize = 32;
/// Shortest time between two fragments that counts as a gap: 12 frames at 25 fps.
const GAP_MIN: Duration = Duration::from_millis(500);

/// Shortest time between a start and the first footage, and between the last footage and a stop, that
/// is a gap of its own beside the time off: a start or a stop takes some of it anyway.
const ON_MIN: Duration = Duration::from_secs(2);
/// Longest gap in the media clock, microseconds (30 days). Limits the effect of a wrong clock.
const MEDIA_GAP_MAX: i64 = 30 * 24 * 3600 * 1_000_000;

/// Footage that continues this soon behind the begin of a camera outage has lost nothing: its frames
/// came late, in one burst, and their capture times jitter by this much.
const LATE_JITTER: Duration = Duration::from_millis(100);

impl Engine {
    /// Ends the fragment before a frame in front of which pictures were lost for longer than
    /// [`GAP_MIN`]: the time between them is a gap, not the duration of the picture before.
    pub(super) fn end_before_hole(&mut self, frame: &Frame, out: &mut Vec<StorageUpdate>) {
        let Some(newest) = self.builder.newest_video() else { return };
        if frame.lost > 0 && frame.at.mono.duration_since(newest.mono) > GAP_MIN {
            self.flush_all(out);
        }
    }

    /// True for a frame that cannot be decoded behind the gathered ones: its parameters are other
    /// ones and the key frame that began them is missing, or a failed write took its key frame.
    pub(super) fn begins_without_key(&self, frame: &Frame) -> bool {
        let changed = self.decodable.is_some_and(|known| known != frame.params.digest);
        !frame.key && (changed || self.need_key)
    }

    /// Leaves out `frame` and all others up to the next key frame. The gap begins where the footage
    /// ends, as the missing key frame belongs to it.
    pub(super) fn skip_to_key(&mut self, frame: &Frame, out: &mut Vec<StorageUpdate>) {
        if !self.need_key {
            self.flush_all(out);
        }
        if !self.need_key && self.until != Timestamp::default() {
            let from = if self.until.mono < frame.at.mono { self.until } else { frame.at };
            self.extend_open_gap(from, GapReason::NoKeyFrame, 0);
        }
        self.need_key = true;
        self.skip_frame(frame);
    }

    /// Leaves out a frame whose parameters changed too soon. Pictures are left out up to a key frame
    /// that may be recorded again, in a gap of their own; sound is counted, and the pictures go on.
    pub(super) fn leave_out(&mut self, frame: &Frame, out: &mut Vec<StorageUpdate>) {
        self.track_changes.note_left_out();
        self.ring.counts.skipped += 1;
        if frame.kind() == TrackKind::Video {
            let mut from = frame.at;
            if !self.need_key {
                self.flush_all(out);
                if self.until != Timestamp::default() && self.until.mono < from.mono {
                    from = self.until;
                }
            }
            self.need_key = true;
            let reason = GapReason::ParameterChanges;
            if let Some(open) = self.open_gap.take_if(|open| open.reason != reason) {
                let OpenGap { from: begin, reason, bytes } = open;
                from = frame.at;
                self.queue_gap(Gap { from: begin, to: from, reason, bytes });
            }
            self.extend_open_gap(from, reason, frame.data.len() as u64);
        }
        out.extend(self.track_changes.report(frame.at.mono).map(StorageUpdate::TrackChanges));
    }

    /// Counts a frame that cannot be decoded. The gap is recorded when the footage continues.
    pub(super) fn skip_frame(&mut self, frame: &Frame) {
        if frame.kind() == TrackKind::Video && self.ring.newest() > 0 {
            self.ring.counts.skipped += 1;
            self.extend_open_gap(frame.at, GapReason::NoKeyFrame, frame.data.len() as u64);
        }
    }

    /// Opens a gap at `from`, or adds `bytes` to the open gap.
    pub(super) fn extend_open_gap(&mut self, from: Timestamp, reason: GapReason, bytes: u64) {
        let gap = self.open_gap.get_or_insert(OpenGap { from, reason, bytes: 0 });
        gap.bytes += bytes;
        if gap.reason.is_between_starts() {
            let discarded = self.discarded.get_or_insert((from, reason));
            // A stream may begin between two key frames; what keeps it out later says more.
            if discarded.1 == GapReason::NoKeyFrame {
                discarded.1 = reason;
            }
        }
    }

    /// Microseconds on the media clock from the end of the footage to `at`.
    pub(super) fn since_footage(&self, at: Timestamp) -> u64 {
        let since = match self.open_gap {
            Some(gap) if self.until == Timestamp::default() => {
                at.wall.0.saturating_sub(gap.from.wall.0)
            }
            _ if self.until == Timestamp::default() => 0,
            _ => at.mono.since(self.until.mono) as i64,
        };
        since.clamp(0, MEDIA_GAP_MAX) as u64
    }

    /// Ends the gap between two starts where this boot began to leave out pictures, or at `silent`
    /// if it got none: the device was on from there to `to`, and that is a gap with a reason of its
    /// own.
    pub(super) fn split_start_gap(&mut self, to: Timestamp, silent: Option<Timestamp>) {
        let silent = silent.map(|from| (from, GapReason::CameraDown));
        let Some((from, reason)) = self.discarded.take().or(silent) else { return };
        let is_long = to.mono.duration_since(from.mono) > ON_MIN;
        let off = self.open_gap.take_if(|open| is_long && open.reason.is_between_starts());
        if let Some(OpenGap { from: begin, reason: off, bytes }) = off {
            self.queue_gap(Gap { from: begin, to: from, reason: off, bytes: 0 });
            self.open_gap = Some(OpenGap { from, reason, bytes });
        }
    }

    /// Records what is missing up to an orderly stop at `at`, with its reason: the device was on.
    /// Without this the next boot would take it for a part of the stop. A power cut leaves no time
    /// for it, and the gap of the power cut then begins at the last record.
    pub(super) fn end_footage(&mut self, at: Timestamp, out: &mut Vec<StorageUpdate>) {
        self.flush_all(out);
        let newest = self.ring.index().live().last();
        let Some(tracks) = newest.map(|newest| newest.head.tracks.clone()) else { return };
        let media = self.media_end + self.since_footage(at);
        self.split_start_gap(at, Some(at.at(self.started)));
        let is_of_boot = |open: &mut OpenGap| !open.reason.is_between_starts();
        if let Some(OpenGap { from, reason, bytes }) = self.open_gap.take_if(is_of_boot) {
            let to = if at.mono < from.mono { from } else { at };
            self.queue_gap(Gap { from, to, reason, bytes });
        }
        if at.mono.duration_since(self.until.mono.max(self.named_until)) > ON_MIN {
            self.queue_stall_gap(at);
        }
        self.write_gaps(media, &tracks, out);
    }

    /// Records a `camera_down` gap for a stall that was too short for the camera supervisor.
    pub(super) fn queue_stall_gap(&mut self, begin: Timestamp) {
        let end = self.until.mono.max(self.named_until);
        if self.until != Timestamp::default() && begin.mono.duration_since(end) > GAP_MIN {
            self.queue_gap(Gap {
                from: self.until.at(end),
                to: begin,
                reason: GapReason::CameraDown,
                bytes: 0,
            });
        }
    }

    /// Opens the gap of a camera outage; it ends where the footage continues, so that one outage is
    /// one gap. Footage that continued already has recorded it.
    pub(super) fn open_outage(&mut self, gap: Gap) {
        if self.until.mono >= gap.to.mono {
            return;
        }
        self.close_open_gap(&gap);
        // From the end of the footage, unless a gap before this one names what is behind it.
        let named = self.named_until > self.until.mono || self.until == Timestamp::default();
        let from = if named { gap.from } else { self.until };
        self.extend_open_gap(from, gap.reason, gap.bytes);
    }

    /// Queues the open gap if it lies before `gap`. After a power cut, recording is known to
    /// continue behind the newest record.
    fn close_open_gap(&mut self, gap: &Gap) {
        let before =
            |open: &mut OpenGap| open.reason.is_between_starts() || open.from.mono <= gap.from.mono;
        if let Some(OpenGap { from, reason, bytes }) = self.open_gap.take_if(before) {
            self.queue_gap(Gap { from, to: gap.from, reason, bytes });
        }
    }

    /// Adds a gap and records it at once if a segment is open.
    pub(super) fn record_gap(&mut self, gap: Gap, out: &mut Vec<StorageUpdate>) {
        self.close_open_gap(&gap);
        self.queue_gap(gap);
        if self.ring.is_open() {
            self.write_gaps(self.media_end, &[], out);
        }
    }

    /// Queues a gap, or extends the last one if they touch and have the same reason. A gap without
    /// length is none: the footage continued at its begin or before.
    pub(super) fn queue_gap(&mut self, gap: Gap) {
        if is_empty(&gap) {
            return;
        }
        self.named_until = self.named_until.max(gap.to.mono);
        let full = self.pending_gaps.len() >= PENDING_GAPS_MAX;
        let same = |last: &Gap| {
            last.reason == gap.reason
                && gap.from.mono <= last.to.mono
                && last.from.mono <= gap.from.mono
        };
        match self.pending_gaps.last_mut() {
            Some(last) if full || same(last) => {
                last.to = gap.to;
                last.bytes += gap.bytes;
            }
            _ => self.pending_gaps.push(gap),
        }
    }

    /// Records the queued gaps at `media` on the media clock. Gaps that [`super::Recovered`] already
    /// reported are recorded but not reported again.
    pub(super) fn write_gaps(
        &mut self,
        media: u64,
        tracks: &[Arc<TrackParams>],
        out: &mut Vec<StorageUpdate>,
    ) {
        let mut gaps = VecDeque::from(std::mem::take(&mut self.pending_gaps));
        while let Some(gap) = gaps.pop_front() {
            let what = Some((gap.to, gap.reason, gap.bytes));
            let start = gap.from;
            let draft = NewFragment {
                start,
                key: false,
                payload: 0,
                media,
                lead: 0,
                duration: 0,
                gap: what,
                content: &[],
            };
            match self.ring.append(&draft, tracks, out) {
                Ok(_) if gap.reason == GapReason::Damaged => {}
                Ok(_) => out.push(StorageUpdate::Gap(gap)),
                Err(fault) => {
                    // Keep it queued: it must be recorded before the next fragment.
                    out.push(StorageUpdate::Trouble { detail: fault.to_string(), lost: false });
                    gaps.push_front(gap);
                    break;
                }
            }
        }
        self.pending_gaps = gaps.into();
    }
}

/// True for a gap in which nothing is missing. Between two starts only the wall clock compares, and one
/// that was set back hides the length of the gap.
fn is_empty(gap: &Gap) -> bool {
    if gap.reason.is_between_starts() && gap.set_back() > 0 {
        return false;
    }
    let jitter = match gap.reason {
        GapReason::CameraDown => LATE_JITTER.as_micros() as i64,
        _ => 0,
    };
    let wall = gap.to.wall.0.saturating_sub(gap.from.wall.0);
    let mono = gap.to.mono.0 as i64 - gap.from.mono.0 as i64;
    gap.bytes == 0 && wall <= jitter && mono <= jitter
}
