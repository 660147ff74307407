//! The analyzer: decides which access units are decoded and which pictures are analysed.
//!
//! The agent's analytics thread and `eval-motion` run the same analyzer.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::analytics::decode::decoder::{Decoded, Decoder};
use crate::analytics::decode::load_governor::{AnalysisRate, LoadGovernor};
use crate::analytics::decode::size_trigger::SizeTrigger;
use crate::analytics::detect::picture::Picture;
use crate::analytics::detect::stages::{Stage, Stages};
use crate::analytics::detector::Detector;
use crate::analytics::params::{
    BUFFERED_BYTES, BUFFERED_FRAMES, CLOSER_FPS, REORDER_MAX, RESIZED_AGAIN, SLEEP_AFTER,
};
use crate::analytics::track::snapshot_requests::SnapshotRequests;
use crate::analytics::{AnalyticsCounts, AnalyticsUpdate};
use crate::camera::{Frame, TrackKind};
use crate::settings::MotionSettings;
use crate::units::{Digest, MonoTime, Timestamp};

/// Puts pictures into display order: streams with B-frames are decoded in another order.
#[derive(Default)]
struct ReorderBuffer {
    waiting: VecDeque<(Timestamp, Box<Picture>)>,
    /// Number of pictures to hold back, learned from the stream.
    depth: usize,
    newest: u64,
    shown: u64,
}

impl ReorderBuffer {
    /// Adds a picture and returns the next one in display order, if one is due.
    fn next(&mut self, at: Timestamp, picture: Box<Picture>) -> Option<(Timestamp, Box<Picture>)> {
        if at.mono.0 < self.newest {
            let later = self.waiting.iter().filter(|(other, _)| other.mono > at.mono).count();
            self.depth =
                self.depth.max(later + usize::from(at.mono.0 < self.shown)).min(REORDER_MAX);
        }
        self.newest = self.newest.max(at.mono.0);
        if at.mono.0 <= self.shown {
            return None;
        }
        let place = self
            .waiting
            .iter()
            .position(|(other, _)| other.mono > at.mono)
            .unwrap_or(self.waiting.len());
        self.waiting.insert(place, (at, picture));
        let next = if self.waiting.len() > self.depth { self.waiting.pop_front() } else { None };
        if let Some((at, _)) = &next {
            self.shown = at.mono.0;
        }
        next
    }
}

/// A decoder and the stream it belongs to.
struct StreamDecoder {
    /// Digest of the track parameters.
    digest: Digest,
    /// Size of the pictures, [`crate::camera::TrackParams::size`].
    size: (u16, u16),
    /// Run of the camera, [`Frame::run`].
    run: u32,
    decoder: Decoder,
}

/// The analyzer of one camera.
pub struct Analyzer {
    settings: MotionSettings,
    stages: Stages,
    detector: Detector,
    decoder: Option<StreamDecoder>,
    reorder_buffer: ReorderBuffer,
    size_trigger: SizeTrigger,
    load_governor: LoadGovernor,
    snapshot_requests: SnapshotRequests,
    /// Size limit of a requested snapshot, bytes.
    snapshot_max: usize,
    counts: AnalyticsCounts,
    /// Monotonic microseconds at which the last analysis was due.
    last_due: u64,
    /// Time since which no object has been in view.
    quiet_since: Option<MonoTime>,
    /// Only key frames are decoded. `buffered` holds the access units from the key frame before the
    /// last one on, for waking up.
    asleep: bool,
    buffered: VecDeque<Arc<Frame>>,
    buffered_bytes: usize,
    last_picture: Option<Timestamp>,
    last_rejection: String,
    /// Time since which no picture has been compared with a learned scene.
    learning_since: Option<Timestamp>,
    /// Time of the last change of size within a run.
    resized: Option<MonoTime>,
}

impl Analyzer {
    /// An analyzer that has received no access unit.
    pub fn new(settings: MotionSettings, snapshot_max: usize, stages: Stages) -> Analyzer {
        Analyzer {
            detector: Detector::new(settings.clone(), snapshot_max, stages),
            load_governor: LoadGovernor::new(settings.cpu, settings.max_temperature),
            settings,
            snapshot_requests: SnapshotRequests::default(),
            snapshot_max,
            stages,
            decoder: None,
            reorder_buffer: ReorderBuffer::default(),
            size_trigger: SizeTrigger::default(),
            counts: AnalyticsCounts::default(),
            last_due: 0,
            quiet_since: None,
            asleep: false,
            buffered: VecDeque::new(),
            buffered_bytes: 0,
            last_picture: None,
            last_rejection: String::new(),
            learning_since: None,
            resized: None,
        }
    }

    /// The detector.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// Counters since the start.
    pub fn counts(&self) -> AnalyticsCounts {
        let (suppressed, lines) =
            (self.detector.suppressed(), self.detector.event_tracker().rules().lines().to_vec());
        AnalyticsCounts { suppressed, lines, ..self.counts.clone() }
    }

    /// Capture time of the last decoded picture, and the last error of the decoder; empty without
    /// one.
    pub fn last_picture(&self) -> (Option<Timestamp>, &str) {
        (self.last_picture, &self.last_rejection)
    }

    /// Time since which pictures have been analysed without a learned scene to compare them with:
    /// no event can start. `None` while there is one.
    pub fn learning_since(&self) -> Option<Timestamp> {
        self.learning_since
    }

    /// The current rate of analysis.
    pub fn rate(&self) -> AnalysisRate {
        self.load_governor.rate()
    }

    /// True while only key frames are decoded because nothing happens.
    pub fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// Records that `frames` access units were dropped before the next one.
    pub fn dropped(&mut self, frames: u32) {
        self.counts.dropped += u64::from(frames);
        self.stop_sleeping();
    }

    /// Charges `micros` of work since the last call, and the temperature of the board when it was
    /// read.
    pub fn charge(&mut self, micros: u64, temperature: Option<u8>, now: Timestamp) {
        self.load_governor.charge(micros, temperature, now.mono.0);
    }

    /// Processes the next access unit. `observe` is called after each analysed picture.
    pub fn frame(
        &mut self,
        frame: &Arc<Frame>,
        observe: &mut dyn FnMut(&Detector, &Picture, Timestamp),
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        if frame.kind() != TrackKind::Video {
            return;
        }
        if !self.settings.enabled {
            return self.serve_snapshot_requests(frame);
        }
        if !self.is_decoding(frame) {
            self.change_stream(frame);
        }
        let quiet = self.detector.tracks().is_empty();
        let size_trigger_fires =
            self.size_trigger.record(frame.data.len(), frame.key, quiet, frame.at);
        if self.load_governor.rate() == AnalysisRate::KeyFrames && !frame.key {
            self.counts.skipped_budget += 1;
            return self.stop_sleeping();
        }
        if !self.asleep {
            self.decode(frame, observe, out);
            return self.consider_sleep(frame);
        }
        self.buffer(frame);
        let too_long = self.buffered_bytes > BUFFERED_BYTES
            || self.buffered.len() > BUFFERED_FRAMES
            || frame.lost > 0;
        if size_trigger_fires || too_long {
            return self.wake(observe, out);
        }
        if frame.key
            && let Some(picture) = self.picture(frame)
        {
            // An object may have appeared since the last key frame: the buffered GOP is decoded.
            if self.detector.peek(&picture, frame.at) {
                return self.wake(observe, out);
            }
            self.analyze_decoded(frame, picture, observe, out);
        }
    }

    /// While analytics is off: decodes a picture only for a requested snapshot, from the next key
    /// frame on.
    fn serve_snapshot_requests(&mut self, frame: &Frame) {
        if !self.snapshot_requests.is_pending() {
            self.decoder = None;
            return;
        }
        if frame.key && !self.is_decoding(frame) {
            self.start_decoding(frame);
        }
        if self.is_decoding(frame) {
            self.picture(frame);
        }
    }

    /// True when the decoder belongs to the stream of this access unit.
    fn is_decoding(&self, frame: &Frame) -> bool {
        self.decoder
            .as_ref()
            .is_some_and(|own| own.digest == frame.params.digest && own.run == frame.run)
    }

    /// Begins to decode another stream. Of the same run, the learned scene stays: a camera that sends
    /// other parameter sets each second would be learned for ever. One change of size is learned again,
    /// because another scaler shows edges in another way; sizes that take turns are learned together.
    fn change_stream(&mut self, frame: &Frame) {
        let own = self.decoder.as_ref().filter(|own| own.run == frame.run);
        let stays = match own.map(|own| own.size == frame.params.size) {
            None => false,
            Some(true) => true,
            Some(false) => self
                .resized
                .replace(frame.at.mono)
                .is_some_and(|last| frame.at.mono.duration_since(last) < RESIZED_AGAIN),
        };
        self.start_decoding(frame);
        self.stop_sleeping();
        self.size_trigger = SizeTrigger::default();
        if !stays {
            self.detector.interrupted();
            self.reorder_buffer = ReorderBuffer::default();
            self.last_due = 0;
        }
    }

    fn start_decoding(&mut self, frame: &Frame) {
        let decoder = Decoder::new(frame.params.codec);
        self.decoder = decoder.map(|decoder| StreamDecoder {
            digest: frame.params.digest,
            size: frame.params.size,
            run: frame.run,
            decoder,
        });
    }

    /// Requests a snapshot: the next decoded picture.
    pub fn request_snapshot(&mut self, req_id: String, now: MonoTime) {
        self.snapshot_requests.request(req_id, now);
    }

    /// Appends the answers to requested snapshots to `out`: pictures, and errors for requests that
    /// timed out.
    pub fn take_snapshots(&mut self, now: MonoTime, out: &mut Vec<AnalyticsUpdate>) {
        self.snapshot_requests.take(now, out);
    }

    /// Falls asleep when no object has been in view for a while and the sizes have a baseline.
    /// Sleep starts with a key frame, so that decoding can resume from it.
    fn consider_sleep(&mut self, frame: &Arc<Frame>) {
        let at = frame.at;
        if !self.settings.gating || !self.stages.has(Stage::Sleep) || !self.detector.is_quiet(at) {
            self.quiet_since = None;
            return;
        }
        let since = *self.quiet_since.get_or_insert(at.mono);
        let long = at.mono.duration_since(since) >= SLEEP_AFTER;
        if long && frame.key && self.size_trigger.is_known() && self.reorder_buffer.depth == 0 {
            self.asleep = true;
            self.buffer(frame);
        }
    }

    fn buffer(&mut self, frame: &Arc<Frame>) {
        if frame.key {
            // Two GOPs are kept: an object that this key frame shows appeared in the GOP before it.
            let keys: Vec<usize> = self
                .buffered
                .iter()
                .enumerate()
                .filter(|(_, buffered)| buffered.key)
                .map(|(at, _)| at)
                .collect();
            let from = keys.last().copied().unwrap_or(self.buffered.len());
            for gone in self.buffered.drain(..from) {
                self.buffered_bytes -= gone.data.len();
            }
        }
        self.buffered_bytes += frame.data.len();
        self.buffered.push_back(frame.clone());
    }

    /// Wakes up: decodes and analyses the buffered access units from the last analysed key frame
    /// on.
    fn wake(
        &mut self,
        observe: &mut dyn FnMut(&Detector, &Picture, Timestamp),
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        let buffered = std::mem::take(&mut self.buffered);
        self.stop_sleeping();
        self.counts.wakes += 1;
        let from = buffered
            .iter()
            .rposition(|frame| frame.key && frame.at.mono.0 <= self.reorder_buffer.shown)
            .unwrap_or(0);
        for frame in buffered.iter().skip(from) {
            self.decode(frame, observe, out);
        }
    }

    fn stop_sleeping(&mut self) {
        self.buffered.clear();
        self.buffered_bytes = 0;
        self.asleep = false;
        self.quiet_since = None;
    }

    fn decode(
        &mut self,
        frame: &Frame,
        observe: &mut dyn FnMut(&Detector, &Picture, Timestamp),
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        if let Some(picture) = self.picture(frame) {
            self.analyze_decoded(frame, picture, observe, out);
        }
    }

    fn analyze_decoded(
        &mut self,
        frame: &Frame,
        picture: Box<Picture>,
        observe: &mut dyn FnMut(&Detector, &Picture, Timestamp),
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        // After waking up, the first key frame was analysed before: its GOP must not start twice.
        if frame.key && frame.at.mono.0 > self.reorder_buffer.shown {
            self.detector.key_frame();
        }
        self.show(picture, frame.at, observe, out);
    }

    fn picture(&mut self, frame: &Frame) -> Option<Box<Picture>> {
        match self.decoder.as_mut()?.decoder.decode(frame) {
            Decoded::Picture(picture) => {
                self.counts.decoded += 1;
                self.last_picture = Some(frame.at);
                self.snapshot_requests.answer_all(
                    &picture,
                    frame.at,
                    &self.settings.zones,
                    self.snapshot_max,
                );
                return Some(picture);
            }
            Decoded::Nothing => {}
            Decoded::Rejected(reason) => {
                self.counts.failed += 1;
                self.last_rejection = reason;
            }
        }
        None
    }

    /// Analyses the next picture in display order, when it is due.
    pub fn show(
        &mut self,
        picture: Box<Picture>,
        at: Timestamp,
        observe: &mut dyn FnMut(&Detector, &Picture, Timestamp),
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        let before = self.reorder_buffer.shown;
        let Some((at, picture)) = self.reorder_buffer.next(at, picture) else {
            return;
        };
        let rate = match self.load_governor.rate() {
            AnalysisRate::HalfRate => self.settings.fps / 2.0,
            _ if self.detector.is_unsure() => CLOSER_FPS.max(self.settings.fps),
            _ => self.settings.fps,
        };
        let step = (1e6 / rate) as u64;
        let due = self.last_due + step;
        // The picture nearest to the due time is analysed, not the first one after it, which would
        // add delay. Of two that are equally near, it is the earlier one; timestamps are rounded.
        let pace = at.mono.0.saturating_sub(before);
        if at.mono.0 + (pace / 2 + 1_000).min(step / 2) < due {
            self.counts.skipped_budget +=
                u64::from(self.load_governor.rate() == AnalysisRate::HalfRate);
            return;
        }
        self.last_due = if at.mono.0 > due + step { at.mono.0 } else { due };
        self.counts.analysed += 1;
        self.detector.analyze(&picture, at, out);
        self.learning_since =
            self.detector.is_holding(at).then(|| self.learning_since.unwrap_or(at));
        observe(&self.detector, &picture, at);
    }

    /// Applies other settings. The learned scene stays where they allow it.
    pub fn reconfigure(
        &mut self,
        settings: MotionSettings,
        at: Timestamp,
        out: &mut Vec<AnalyticsUpdate>,
    ) {
        if self.asleep && !(settings.enabled && settings.gating) {
            // The buffered access units bring the decoder to the next one.
            self.wake(&mut |_, _, _| (), out);
        }
        if !settings.enabled {
            self.detector.finish(at, out);
            self.learning_since = None;
        } else if !self.settings.enabled {
            self.decoder = None;
            self.last_picture = None;
        }
        if (settings.cpu, settings.max_temperature)
            != (self.settings.cpu, self.settings.max_temperature)
        {
            self.load_governor = LoadGovernor::new(settings.cpu, settings.max_temperature);
        }
        self.detector.reconfigure(settings.clone(), at, out);
        self.settings = settings;
    }

    /// Ends all open events: no more pictures will come.
    pub fn finish(&mut self, at: Timestamp, out: &mut Vec<AnalyticsUpdate>) {
        self.detector.finish(at, out);
    }
}

#[cfg(test)]
#[cfg(feature = "sim")]
#[path = "scheduler_tests.rs"]
mod tests;
