//! The sound clock: binds audio frames to the clock of the picture.
//!
//! Both tracks are placed on the monotonic clock by their least-delayed arrivals, so neither trusts
//! an origin that the camera states. A clock of the sound that runs fast or slow is corrected in
//! the time stamps. Where a frame still lies too far from its place, whole frames are left out or
//! time of whole frames is inserted; the bytes of a frame never change.

use std::time::Duration;

use super::timeline::{Observed, Placed, Timeline};
use crate::units::{MonoTime, Timestamp};

/// Divergence from the picture's clock that is corrected by whole frames, microseconds.
const DIVERGENCE_MAX: i64 = 100_000;
/// Most correction of a time stamp, as a part of the frame's duration: sound that is 12 % off.
const SLEW: i64 = 8;
/// Usual duration of a frame before it is known, microseconds: 160 samples at 8 kHz.
const DURATION: i64 = 20_000;

/// Corrections of the sound by whole frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SoundCounts {
    /// Frames left out, because the sound ran ahead of the picture.
    pub dropped: u64,
    /// Frames for whose duration there is no sound, because it fell behind the picture.
    pub padded: u64,
}

/// Least time between two lines of log about corrected sound: a camera whose sessions are short must
/// not fill the log.
const NOTICE_INTERVAL: Duration = Duration::from_secs(60);

/// Decides when corrected sound is logged: once in each session, and at most once a minute.
#[derive(Debug, Default)]
pub struct SoundNotice {
    /// Counts at the begin of the session.
    before: SoundCounts,
    logged: bool,
    /// Time of the latest line.
    last: Option<MonoTime>,
}

impl SoundNotice {
    /// A session begins, with these counts.
    pub fn restart(&mut self, counts: SoundCounts) {
        (self.before, self.logged) = (counts, false);
    }

    /// The corrections of this session, when they are to be logged now.
    pub fn due(&mut self, counts: SoundCounts, now: MonoTime) -> Option<SoundCounts> {
        let early = self.last.is_some_and(|last| now.duration_since(last) < NOTICE_INTERVAL);
        if self.logged || early || counts == self.before {
            return None;
        }
        (self.logged, self.last) = (true, Some(now));
        Some(SoundCounts {
            dropped: counts.dropped - self.before.dropped,
            padded: counts.padded - self.before.padded,
        })
    }
}

/// An audio frame whose arrival is learned, but which has no time yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct SoundObserved(Observed);

/// The clock of an audio track, over all sessions of its stream.
#[derive(Debug, Default)]
pub(super) struct SoundClock {
    timeline: Timeline,
    /// End of the frame before; `None` before the first.
    end: Option<i64>,
    /// The picture of this session was placed: sound before it has no file to be in.
    follows: bool,
    counts: SoundCounts,
}

impl SoundClock {
    /// Starts another session.
    pub(super) fn restart(&mut self) {
        self.timeline.restart();
        self.follows = false;
        self.end = None;
    }

    /// The first picture of the session has its time.
    pub(super) fn follow(&mut self) {
        self.follows = true;
    }

    /// Learns from an arrival.
    pub(super) fn observe(&mut self, stamp: i64, arrival: Timestamp) -> SoundObserved {
        self.timeline.in_burst(arrival);
        SoundObserved(self.timeline.observe(stamp, arrival, true))
    }

    /// Places a frame; `None` when it is left out.
    pub(super) fn place(&mut self, observed: SoundObserved) -> Option<Placed> {
        let placed = self.timeline.place(observed.0);
        if !self.follows {
            return None;
        }
        let duration = match self.timeline.usual_step() {
            0 => DURATION,
            usual => usual,
        };
        let Some(end) = self.end else {
            self.end = Some(placed.pts + duration);
            return Some(placed);
        };
        let off = placed.pts - end;
        if off < -DIVERGENCE_MAX {
            self.counts.dropped += 1;
            return None;
        }
        let pts = if off > DIVERGENCE_MAX {
            let missing = off / duration.max(1);
            self.counts.padded += missing as u64;
            end + missing * duration
        } else {
            end + off.clamp(-duration / SLEW, duration / SLEW)
        };
        self.end = Some(pts + duration);
        let at = (placed.at.mono.0 as i64).min(pts).max(0);
        Some(Placed { pts, at: placed.at.at(MonoTime(at as u64)), new_run: false })
    }

    /// Corrections so far.
    pub(super) fn counts(&self) -> SoundCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrected_sound_is_logged_once_a_session_and_a_minute() {
        let mut notice = SoundNotice::default();
        let (mut lines, mut counts) = (Vec::new(), SoundCounts::default());
        for second in 0..600 {
            // Ten minutes: one session, then one of 20 s after the other.
            if second == 0 || second >= 300 && second % 20 == 0 {
                notice.restart(counts);
            }
            counts.dropped += u64::from(second % 10 == 5);
            counts.padded += 2 * u64::from(second % 10 == 5);
            if let Some(logged) = notice.due(counts, MonoTime(second * 1_000_000)) {
                lines.push((second, logged.dropped, logged.padded));
            }
        }
        let shorts = [(305, 1, 2), (365, 1, 2), (425, 1, 2), (485, 1, 2), (545, 1, 2)];
        assert_eq!(lines, [&[(5, 1, 2)], &shorts[..]].concat());
    }
}
