//! Audio and media time in the engine: audio ends no fragment, and the media clock never goes back.

use std::sync::Arc;

use super::StorageUpdate;
use super::engine::{Engine, FLUSH_TIMEOUT};
use crate::camera::Frame;
use crate::units::MonoTime;

/// Step of the media clock over frames whose times go back, microseconds.
const MEDIA_STEP: u64 = 1_000;
/// Audio without video that is recorded, as media time behind the end of the footage, microseconds.
/// What lies elsewhere has a wrong time.
const AUDIO_ALONE_MAX: u64 = 10_000_000;
/// Audio frames that may wait for a video frame: [`FLUSH_TIMEOUT`] of AAC or of 10 ms packets. When
/// full, the oldest is dropped and counted.
const EARLY_MAX: usize = 192;

impl Engine {
    /// Adds audio to the fragment, or holds it for the next one. Audio never ends a fragment: only
    /// video and the clock do.
    pub(super) fn audio(&mut self, frame: &Arc<Frame>) {
        if !self.builder.is_empty() && self.builder.takes_audio(frame, self.ring.room()) {
            return self.builder.push(frame.clone());
        }
        if self.early.len() >= EARLY_MAX {
            self.early.remove(0);
            self.ring.counts.skipped += 1;
        }
        self.early.push(frame.clone());
    }

    /// Adds the audio that waits to the fragment, as far as it fits.
    pub(super) fn join_early(&mut self) {
        for early in std::mem::take(&mut self.early) {
            match self.builder.is_empty() || self.builder.takes_audio(&early, self.ring.room()) {
                true => self.builder.push(early),
                false => self.early.push(early),
            }
        }
    }

    /// Writes what is gathered when no video frame has come for [`FLUSH_TIMEOUT`], and not more
    /// often than that.
    pub(super) fn flush_late(&mut self, now: MonoTime, out: &mut Vec<StorageUpdate>) {
        let since = now.duration_since(self.idle_at);
        let quiet = std::mem::take(&mut self.videos) == 0 || since > FLUSH_TIMEOUT;
        self.idle_at = now;
        let early = self.early.first().map(|frame| frame.at);
        let waiting = self.builder.newest_video().or(early);
        let late = waiting.is_some_and(|at| now.duration_since(at.mono) > FLUSH_TIMEOUT);
        if quiet && late && now >= self.next_late_flush {
            self.next_late_flush = now.plus(FLUSH_TIMEOUT);
            self.flush_all(out);
        }
    }

    /// Keeps the media clock of the ring from going back, whatever the times of the frames are:
    /// audio without video that lies elsewhere is left out, and video that lies before the fragment
    /// before moves the anchor.
    pub(super) fn keep_media_order(&mut self) {
        let Some(mut anchor) = self.anchor else { return };
        let (Some(first), Some(last)) = (self.builder.first(), self.media_last) else { return };
        let since = first.at.mono.since(self.until.mono);
        let range = last + 1..self.media_end.saturating_add(since).saturating_add(AUDIO_ALONE_MAX);
        self.ring.counts.skipped += self.builder.bound_audio(&anchor, range);
        let earliest = self.builder.earliest(&anchor);
        if let Some(earliest) = earliest.filter(|earliest| *earliest <= last) {
            anchor.media += last - earliest + MEDIA_STEP;
            self.anchor = Some(anchor);
        }
    }
}
