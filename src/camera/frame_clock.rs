//! The frame clock of one stream: gives frames of both tracks their capture times.
//!
//! Frames go in with the camera's stamps and their arrival, and come out with corrected
//! presentation times, run and capture time. While a burst arrives, at the start of a session and
//! after a freeze, they are held: what the burst ends with says how old its first frame is.

use std::collections::VecDeque;

use super::clock_belief::ClockReport;
use super::quirk::QuirkCounts;
use super::sound_clock::{SoundClock, SoundCounts, SoundObserved};
use super::timeline::{Observed, Timeline};
use super::{Frame, TrackKind};
use crate::units::Timestamp;

/// Frames held in a burst: 5 s of 60 fps video with 50 audio frames a second. When full, the burst
/// counts as over.
const HELD_MAX: usize = 600;
/// Bytes held in a burst: 5 s of 12 Mbit/s. When full, the burst counts as over.
const HELD_BYTES_MAX: usize = 8 << 20;

/// A frame that waits for its times.
#[derive(Debug)]
enum Held {
    Video(Frame, Observed),
    Audio(Frame, SoundObserved),
}

/// The clock of one stream, over all its sessions.
#[derive(Debug)]
pub struct FrameClock {
    video: Timeline,
    sound: SoundClock,
    /// Number of the current run.
    run: u32,
    held: VecDeque<Held>,
    held_bytes: usize,
}

impl FrameClock {
    /// A clock whose next session is run `run` + 1.
    pub fn new(run: u32) -> FrameClock {
        FrameClock {
            video: Timeline::default(),
            sound: SoundClock::default(),
            run,
            held: VecDeque::new(),
            held_bytes: 0,
        }
    }

    /// Starts another session of the camera. The caller has taken all frames with
    /// [`FrameClock::flush`].
    pub fn restart(&mut self) {
        self.video.restart();
        self.sound.restart();
    }

    /// Number of the newest run.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Adds a frame. Its `pts` is the camera's stamp, unwrapped, in ticks of its track and with any
    /// origin; its `at` is the arrival. `run` is ignored.
    pub fn push(&mut self, frame: Frame) {
        let (stamp, arrival) = (frame.pts_micros(), frame.at);
        self.held_bytes += frame.data.len();
        self.held.push_back(match frame.kind() {
            TrackKind::Video => {
                let observed = self.video.observe(stamp, arrival, frame.key);
                Held::Video(frame, observed)
            }
            TrackKind::Audio => {
                let observed = self.sound.observe(stamp, arrival);
                Held::Audio(frame, observed)
            }
        });
        if self.held.len() > HELD_MAX || self.held_bytes > HELD_BYTES_MAX {
            self.video.end_burst();
        }
    }

    /// The next frame with its times; `None` when there is none, or a burst may continue. Called
    /// after each frame, and at least twice a second.
    pub fn pop(&mut self, now: Timestamp) -> Option<Frame> {
        while !self.held.is_empty() && !self.video.in_burst(now) {
            let held = self.held.pop_front()?;
            if let Some(frame) = self.placed(held) {
                return Some(frame);
            }
        }
        None
    }

    /// Ends the wait for the end of a burst: the session ended. [`FrameClock::pop`] then returns
    /// all frames.
    pub fn flush(&mut self) {
        self.video.end_burst();
    }

    fn placed(&mut self, held: Held) -> Option<Frame> {
        match held {
            Held::Video(frame, observed) => {
                self.held_bytes -= frame.data.len();
                let placed = self.video.place(observed);
                if placed.new_run {
                    self.run += 1;
                    self.sound.follow();
                }
                let pts = ticks(placed.pts, frame.params.timescale);
                Some(Frame { pts, run: self.run, at: placed.at, ..frame })
            }
            Held::Audio(frame, observed) => {
                self.held_bytes -= frame.data.len();
                let placed = self.sound.place(observed)?;
                let pts = ticks(placed.pts, frame.params.timescale);
                Some(Frame { pts, run: self.run, at: placed.at, ..frame })
            }
        }
    }

    /// A change in whether the camera's stamps can be trusted, once.
    pub fn report(&mut self) -> Option<ClockReport> {
        self.video.report()
    }

    /// Deviations of the picture's stamps in this session.
    pub fn quirks(&self) -> &QuirkCounts {
        self.video.quirks()
    }

    /// Corrections of the sound so far.
    pub fn sound_counts(&self) -> SoundCounts {
        self.sound.counts()
    }
}

/// Microseconds in ticks of a track, rounded.
fn ticks(micros: i64, timescale: u32) -> i64 {
    let scaled = i128::from(micros) * i128::from(timescale);
    ((scaled + 500_000).div_euclid(1_000_000)) as i64
}
