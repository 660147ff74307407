//! ⇄ The sight thread: takes access units, decodes what the rate allows, asks the detector.
//!
//! What belongs here: the loop, the rate, noticing blindness. What does not: judging pictures ([`super::detector`]).

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::decode::{Decoded, Decoder};
use super::detector::Detector;
use super::limits::BLIND_AFTER;
use super::{SightCounts, SightNews};
use crate::camera::{Frame, Role, TrackKind};
use crate::clock::Clock;
use crate::lane::{Item, LaneReceiver};
use crate::pulse::Pulse;
use crate::settings::MotionSettings;
use crate::units::{Digest, Stamp};

/// How long to wait for a frame before looking at the clock.
const IDLE: Duration = Duration::from_millis(500);
/// Microseconds between counters.
const COUNTS_EVERY: u64 = 30_000_000;

/// What may be asked of the thread.
#[derive(Debug, Clone, PartialEq)]
pub enum SightOrder {
    /// Go on with other settings.
    Settings(MotionSettings),
    /// End after closing what is open.
    Stop,
}

struct Sight {
    settings: MotionSettings,
    detector: Detector,
    decoder: Option<(Digest, u32, Decoder)>,
    counts: SightCounts,
    next_look: u64,
    next_counts: u64,
    last_picture: Option<Stamp>,
    /// When it went blind was told.
    blind: bool,
    /// It has told where its pictures come from.
    seeing: bool,
    last_refusal: String,
}

/// Starts the thread. It ends on [`SightOrder::Stop`] or when every sender of the lane is gone.
///
/// # Errors
/// When the operating system gives no thread.
pub fn start(
    settings: MotionSettings,
    still_max: usize,
    clock: Arc<dyn Clock>,
    mut lane: LaneReceiver<SightOrder>,
    pulse: Pulse,
    news: impl Fn(SightNews) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let mut sight = Sight {
        detector: Detector::new(settings.clone(), still_max),
        settings,
        decoder: None,
        counts: SightCounts::default(),
        next_look: 0,
        next_counts: 0,
        last_picture: None,
        blind: false,
        seeing: false,
        last_refusal: String::new(),
    };
    thread::Builder::new().name("sight".into()).spawn(move || {
        let mut out = Vec::new();
        loop {
            pulse.beat();
            let stop = match lane.next(IDLE) {
                Item::Frame(frame) => {
                    sight.frame(&frame, &mut out);
                    false
                }
                Item::Skipped(skip) => {
                    sight.counts.dropped += u64::from(skip.frames);
                    false
                }
                Item::Quiet => false,
                Item::Order(SightOrder::Settings(settings)) => {
                    sight.settle(settings, clock.now(), &mut out);
                    false
                }
                Item::Order(SightOrder::Stop) | Item::Closed => true,
            };
            let now = clock.now();
            sight.idle(now, &mut out);
            if stop {
                sight.detector.finish(now, &mut out);
            }
            out.drain(..).for_each(&news);
            if stop {
                return;
            }
        }
    })
}

impl Sight {
    fn frame(&mut self, frame: &Frame, out: &mut Vec<SightNews>) {
        if frame.kind() != TrackKind::Video || !self.settings.enabled {
            return;
        }
        let known = self.decoder.as_ref().map(|(digest, run, _)| (*digest, *run));
        if known != Some((frame.params.digest, frame.run)) {
            self.decoder = Decoder::new(frame.params.codec).map(|decoder| (frame.params.digest, frame.run, decoder));
            self.detector.interrupted();
        }
        let Some((_, _, decoder)) = &mut self.decoder else {
            return;
        };
        match decoder.decode(frame) {
            Decoded::Picture(picture) => {
                self.counts.decoded += 1;
                self.last_picture = Some(frame.at);
                self.tell_sight(frame, out);
                if frame.at.mono.0 < self.next_look {
                    return;
                }
                // A little early is on time: camera clocks do not divide evenly.
                self.next_look = frame.at.mono.0 + (0.95e6 / self.settings.fps) as u64;
                self.counts.analysed += 1;
                self.detector.look(&picture, frame.at, out);
            }
            Decoded::Nothing => {}
            Decoded::Refused(reason) => {
                self.counts.failed += 1;
                self.last_refusal = reason;
            }
        }
    }

    /// Goes on with other settings. Off: what is open ends, and being without pictures is no blindness any more.
    fn settle(&mut self, settings: MotionSettings, now: Stamp, out: &mut Vec<SightNews>) {
        if !settings.enabled {
            self.detector.finish(now, out);
            self.blind = false;
        } else if !self.settings.enabled {
            self.detector.interrupted();
            (self.decoder, self.last_picture) = (None, None);
        }
        self.detector.settle(settings.clone());
        self.settings = settings;
    }

    fn tell_sight(&mut self, frame: &Frame, out: &mut Vec<SightNews>) {
        if self.blind || !self.seeing {
            (self.blind, self.seeing) = (false, true);
            let source = if frame.role == Role::Sub { "sub" } else { "main" };
            out.push(SightNews::Seeing { at: frame.at, source: source.into() });
        }
    }

    fn idle(&mut self, now: Stamp, out: &mut Vec<SightNews>) {
        let since = *self.last_picture.get_or_insert(now);
        if self.settings.enabled && !self.blind && now.mono.since(since.mono) >= BLIND_AFTER {
            self.blind = true;
            let why = if self.last_refusal.is_empty() { "no pictures come" } else { &self.last_refusal };
            out.push(SightNews::Blind { since, reason: why.to_owned() });
        }
        if now.mono.0 >= self.next_counts {
            self.next_counts = now.mono.0 + COUNTS_EVERY;
            out.push(SightNews::Counts(self.counts));
        }
    }
}
