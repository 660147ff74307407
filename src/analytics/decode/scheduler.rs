//! From access units to updates: which are decoded, which pictures are looked at, and in which order. The agent's analytics thread and
//! `eval-motion` run the same analyzer.
//!
//! What belongs here: rates, sleep, order, budgets. What does not: judging pictures ([`crate::analytics::detector`]), threads, clocks.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::analytics::decode::decoder::{Decoded, Decoder};
use crate::analytics::decode::load_governor::{AnalysisRate, LoadGovernor};
use crate::analytics::decode::size_trigger::SizeTrigger;
use crate::analytics::detect::picture::Picture;
use crate::analytics::detect::stages::{Stage, Stages};
use crate::analytics::detector::Detector;
use crate::analytics::params::{CLOSER_FPS, HELD_BYTES, HELD_FRAMES, ORDER_MAX, SLEEP_AFTER};
use crate::analytics::track::snapshot_requests::SnapshotRequests;
use crate::analytics::{AnalyticsCounts, AnalyticsUpdate};
use crate::camera::{Frame, TrackKind};
use crate::settings::MotionSettings;
use crate::units::{Digest, MonoTime, Timestamp};

/// Pictures in the order they were taken: streams with B-frames are decoded in another.
#[derive(Default)]
struct ReorderBuffer {
    waiting: VecDeque<(Timestamp, Box<Picture>)>,
    /// Pictures that must wait for an earlier one, learned from the stream.
    depth: usize,
    newest: u64,
    shown: u64,
}

impl ReorderBuffer {
    /// Takes a picture and gives the next one that is due.
    fn next(&mut self, at: Timestamp, picture: Box<Picture>) -> Option<(Timestamp, Box<Picture>)> {
        if at.mono.0 < self.newest {
            let later = self.waiting.iter().filter(|(other, _)| other.mono > at.mono).count();
            self.depth = self.depth.max(later + usize::from(at.mono.0 < self.shown)).min(ORDER_MAX);
        }
        self.newest = self.newest.max(at.mono.0);
        if at.mono.0 <= self.shown {
            return None;
        }
        let place = self.waiting.iter().position(|(other, _)| other.mono > at.mono).unwrap_or(self.waiting.len());
        self.waiting.insert(place, (at, picture));
        let next = if self.waiting.len() > self.depth { self.waiting.pop_front() } else { None };
        if let Some((at, _)) = &next {
            self.shown = at.mono.0;
        }
        next
    }
}

/// the analyzer of one camera.
pub struct Analyzer {
    settings: MotionSettings,
    stages: Stages,
    detector: Detector,
    decoder: Option<(Digest, u32, Decoder)>,
    reorder_buffer: ReorderBuffer,
    sizes: SizeTrigger,
    load_governor: LoadGovernor,
    snapshot_requests: SnapshotRequests,
    /// Bytes of a picture somebody asked for, at most.
    still_max: usize,
    counts: AnalyticsCounts,
    /// When the last look was due.
    last_due: u64,
    /// Since when nothing has been in view.
    quiet_since: Option<u64>,
    /// Only key frames are decoded; what came since the key frame before the last is held for the wakening.
    asleep: bool,
    buffered: VecDeque<Arc<Frame>>,
    held_bytes: usize,
    last_picture: Option<Timestamp>,
    last_refusal: String,
}

impl Analyzer {
    /// An analyzer that has seen nothing.
    pub fn new(settings: MotionSettings, still_max: usize, stages: Stages) -> Analyzer {
        Analyzer {
            detector: Detector::new(settings.clone(), still_max, stages),
            load_governor: LoadGovernor::new(settings.cpu, settings.max_temperature),
            settings,
            snapshot_requests: SnapshotRequests::default(),
            still_max,
            stages,
            decoder: None,
            reorder_buffer: ReorderBuffer::default(),
            sizes: SizeTrigger::default(),
            counts: AnalyticsCounts::default(),
            last_due: 0,
            quiet_since: None,
            asleep: false,
            buffered: VecDeque::new(),
            held_bytes: 0,
            last_picture: None,
            last_refusal: String::new(),
        }
    }

    /// The detector behind it.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// Counters so far.
    pub fn counts(&self) -> AnalyticsCounts {
        let (suppressed, lines) = (self.detector.suppressed(), self.detector.event_tracker().rules().lines().to_vec());
        AnalyticsCounts { suppressed, lines, ..self.counts.clone() }
    }

    /// When the last picture was taken, and why there was none since.
    pub fn last_picture(&self) -> (Option<Timestamp>, &str) {
        (self.last_picture, &self.last_refusal)
    }

    /// How it looks now: everything, less often, or key frames only.
    pub fn mode(&self) -> AnalysisRate {
        self.load_governor.mode()
    }

    /// Only key frames are decoded because nothing happens.
    pub fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// Access units were left out before the next one.
    pub fn skipped(&mut self, frames: u32) {
        self.counts.dropped += u64::from(frames);
        self.release();
    }

    /// Work since the last call took so many microseconds, and the board is so warm.
    pub fn charge(&mut self, micros: u64, temperature: Option<u8>, now: Timestamp) {
        self.load_governor.charge(micros, temperature, now.mono.0);
    }

    /// Takes the next access unit.
    pub fn frame(
        &mut self,
        frame: &Arc<Frame>,
        look: &mut dyn FnMut(&Detector, &Picture, Timestamp),
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        if frame.kind() != TrackKind::Video {
            return;
        }
        if !self.settings.enabled {
            return self.serve_snapshot_requests(frame);
        }
        if !self.knows(frame) {
            self.start_decoding(frame);
            self.detector.interrupted();
            self.release();
            (self.reorder_buffer, self.sizes, self.last_due) = (ReorderBuffer::default(), SizeTrigger::default(), 0);
        }
        let quiet = self.detector.tracks().is_empty();
        let stirs = self.sizes.note(frame.data.len(), frame.key, quiet, frame.at);
        if self.load_governor.mode() == AnalysisRate::KeyFrames && !frame.key {
            self.counts.passed += 1;
            return self.release();
        }
        if !self.asleep {
            self.decode(frame, look, out);
            return self.consider_sleep(frame);
        }
        self.buffer(frame);
        let too_long = self.held_bytes > HELD_BYTES || self.buffered.len() > HELD_FRAMES || frame.lost > 0;
        if stirs || too_long {
            return self.wake(look, out);
        }
        if frame.key
            && let Some(picture) = self.picture(frame)
        {
            // An object that came into view since the last key frame is followed from there on.
            if self.detector.peek(&picture, frame.at) {
                return self.wake(look, out);
            }
            self.decoded(frame, picture, look, out);
        }
    }

    /// Nobody looks for motion: a picture is decoded only when it is asked for, from the next key frame on.
    fn serve_snapshot_requests(&mut self, frame: &Frame) {
        if !self.snapshot_requests.is_asked() {
            self.decoder = None;
            return;
        }
        if frame.key && !self.knows(frame) {
            self.start_decoding(frame);
        }
        if self.knows(frame) {
            self.picture(frame);
        }
    }

    /// True while the decoder is one of the stream this access unit is of.
    fn knows(&self, frame: &Frame) -> bool {
        self.decoder.as_ref().is_some_and(|(digest, run, _)| (*digest, *run) == (frame.params.digest, frame.run))
    }

    fn start_decoding(&mut self, frame: &Frame) {
        self.decoder = Decoder::new(frame.params.codec).map(|decoder| (frame.params.digest, frame.run, decoder));
    }

    /// Somebody wants a picture: the next one that is decoded.
    pub fn request_snapshot(&mut self, req_id: String, now: MonoTime) {
        self.snapshot_requests.request(req_id, now);
    }

    /// Pictures that were asked for, and to whom none came.
    pub fn take_glances(&mut self, now: MonoTime, out: &mut Vec<AnalyticsUpdate>) {
        self.snapshot_requests.take(now, out);
    }

    /// Sleeps when nothing has been in view for a while and the sizes have a baseline that would wake it: from a key frame on, so that
    /// there is one to go on from when it wakes.
    fn consider_sleep(&mut self, frame: &Arc<Frame>) {
        let at = frame.at;
        if !self.settings.gating || !self.stages.has(Stage::Sleep) || !self.detector.is_quiet(at) {
            self.quiet_since = None;
            return;
        }
        let since = *self.quiet_since.get_or_insert(at.mono.0);
        let long = at.mono.0.saturating_sub(since) >= SLEEP_AFTER;
        if long && frame.key && self.sizes.is_known() && self.reorder_buffer.depth == 0 {
            self.asleep = true;
            self.buffer(frame);
        }
    }

    fn buffer(&mut self, frame: &Arc<Frame>) {
        if frame.key {
            // Two GOPs are held: this one, and the one before, in which what this key frame shows came into view.
            let keys: Vec<usize> = self.buffered.iter().enumerate().filter(|(_, held)| held.key).map(|(at, _)| at).collect();
            let from = keys.last().copied().unwrap_or(self.buffered.len());
            for gone in self.buffered.drain(..from) {
                self.held_bytes -= gone.data.len();
            }
        }
        self.held_bytes += frame.data.len();
        self.buffered.push_back(frame.clone());
    }

    /// Wakes: what is held is decoded from the key frame on that was last looked at, and looked at as if it came now.
    fn wake(&mut self, look: &mut dyn FnMut(&Detector, &Picture, Timestamp), out: &mut Vec<AnalyticsUpdate>) {
        let held = std::mem::take(&mut self.buffered);
        self.release();
        self.counts.wakes += 1;
        let from = held.iter().rposition(|frame| frame.key && frame.at.mono.0 <= self.reorder_buffer.shown).unwrap_or(0);
        for frame in held.iter().skip(from) {
            self.decode(frame, look, out);
        }
    }

    fn release(&mut self) {
        self.buffered.clear();
        (self.held_bytes, self.asleep, self.quiet_since) = (0, false, None);
    }

    fn decode(&mut self, frame: &Frame, look: &mut dyn FnMut(&Detector, &Picture, Timestamp), out: &mut Vec<AnalyticsUpdate>) {
        if let Some(picture) = self.picture(frame) {
            self.decoded(frame, picture, look, out);
        }
    }

    fn decoded(
        &mut self,
        frame: &Frame,
        picture: Box<Picture>,
        look: &mut dyn FnMut(&Detector, &Picture, Timestamp),
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        // The key frame that a wakening goes on from was shown already: its GOP must not begin twice.
        if frame.key && frame.at.mono.0 > self.reorder_buffer.shown {
            self.detector.key_frame();
        }
        self.show(picture, frame.at, look, out);
    }

    fn picture(&mut self, frame: &Frame) -> Option<Box<Picture>> {
        let (_, _, decoder) = self.decoder.as_mut()?;
        match decoder.decode(frame) {
            Decoded::Picture(picture) => {
                self.counts.decoded += 1;
                self.last_picture = Some(frame.at);
                self.snapshot_requests.show(&picture, frame.at, &self.settings.zones, self.still_max);
                return Some(picture);
            }
            Decoded::Nothing => {}
            Decoded::Refused(reason) => {
                self.counts.failed += 1;
                self.last_refusal = reason;
            }
        }
        None
    }

    /// Looks at the next picture in order, when it is due.
    pub fn show(
        &mut self,
        picture: Box<Picture>,
        at: Timestamp,
        look: &mut dyn FnMut(&Detector, &Picture, Timestamp),
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        let before = self.reorder_buffer.shown;
        let Some((at, picture)) = self.reorder_buffer.next(at, picture) else {
            return;
        };
        let rate = match self.load_governor.mode() {
            AnalysisRate::HalfRate => self.settings.fps / 2.0,
            _ if self.detector.is_unsure() => CLOSER_FPS.max(self.settings.fps),
            _ => self.settings.fps,
        };
        let step = (1e6 / rate) as u64;
        let due = self.last_due + step;
        // The picture nearest to it, not the next one: pictures come at a pace of their own, and waiting for the next costs time. Of
        // two that are as near, the first; timestamps are rounded.
        let pace = at.mono.0.saturating_sub(before);
        if at.mono.0 + (pace / 2 + 1_000).min(step / 2) < due {
            self.counts.passed += u64::from(self.load_governor.mode() == AnalysisRate::HalfRate);
            return;
        }
        self.last_due = if at.mono.0 > due + step { at.mono.0 } else { due };
        self.counts.analysed += 1;
        self.detector.analyze(&picture, at, out);
        look(&self.detector, &picture, at);
    }

    /// Goes on with other settings: what is known of the scene stays where they allow it.
    pub fn reconfigure(&mut self, settings: MotionSettings, at: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        if self.asleep && !(settings.enabled && settings.gating) {
            // What is held leads the decoder to the next access unit.
            self.wake(&mut |_, _, _| (), out);
        }
        if !settings.enabled {
            self.detector.finish(at, out);
        } else if !self.settings.enabled {
            (self.decoder, self.last_picture) = (None, None);
        }
        if (settings.cpu, settings.max_temperature) != (self.settings.cpu, self.settings.max_temperature) {
            self.load_governor = LoadGovernor::new(settings.cpu, settings.max_temperature);
        }
        self.detector.reconfigure(settings.clone(), at, out);
        self.settings = settings;
    }

    /// No more pictures will come.
    pub fn finish(&mut self, at: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        self.detector.finish(at, out);
    }
}

#[cfg(test)]
#[cfg(feature = "sim")]
#[path = "scheduler_tests.rs"]
mod tests;
