//! Seeded workload of a tiny ring: frames of a camera and requests of an agent.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use super::rng::Rng;
use crate::camera::{Codec, Frame, StreamRole, TrackKind, TrackParams};
use crate::frame_queue::DroppedFrames;
use crate::settings::StorageSettings;
use crate::storage::{Cell, Gap, GapReason, PinClass, PinId, SpanQuery, StorageRequest};
use crate::units::{ClockQuality, Digest, EntryId, MonoTime, Timestamp, WallTime};

/// Segment size, bytes: eight pages.
pub const SEGMENT: u64 = 32 << 10;
/// Segments of the ring.
pub const SEGMENTS: u64 = 6;
/// Microseconds between two pictures.
pub const PICTURE: u64 = 40_000;
/// Wall time minus monotonic time.
const WALL: i64 = 1_790_000_000_000_000;

/// Settings of the tiny ring.
pub fn settings() -> StorageSettings {
    StorageSettings {
        dir: PathBuf::from("/sim"),
        require_mount: false,
        budget: SEGMENT * SEGMENTS,
        segment: SEGMENT,
        journal_slots: 12,
        snapshot_slots: 3,
        still_bytes: 8192,
        pin_quota: 50,
        endurance: 0,
        site: None,
    }
}

/// Timestamp of a monotonic time in microseconds.
pub fn stamp(mono: u64) -> Timestamp {
    Timestamp {
        mono: MonoTime(mono),
        wall: WallTime(WALL + mono as i64),
        quality: ClockQuality::Ntp,
    }
}

/// An action of camera or agent.
#[derive(Debug, Clone)]
pub enum Action {
    /// A frame arrives.
    Frame(Arc<Frame>),
    /// Frames were dropped by the frame queue.
    Skipped(DroppedFrames),
    /// The agent sends a request.
    Order(StorageRequest),
    /// Only time passes.
    Idle,
}

/// A stream of actions.
pub struct Workload {
    /// Random numbers.
    pub rng: Rng,
    /// Monotonic time, microseconds.
    pub now: u64,
    run: u32,
    /// Start of the next GOP, microseconds.
    media: u64,
    /// End of the generated footage, microseconds.
    reached: u64,
    began: u64,
    frames: VecDeque<Arc<Frame>>,
    video: Arc<TrackParams>,
    sound: Option<Arc<TrackParams>>,
    reorders: bool,
    entry_id: u64,
    /// Unreleased entries, and whether they are stored.
    entries: BTreeMap<u64, bool>,
    pin: u64,
    pins: VecDeque<u64>,
}

impl Workload {
    /// The workload of a seed.
    pub fn new(seed: u64) -> Workload {
        Workload {
            rng: Rng::new(seed),
            now: 1_000_000,
            run: 1,
            media: 1_000_000,
            reached: 1_000_000,
            began: 1_000_000,
            frames: VecDeque::new(),
            video: video(1, 40),
            sound: None,
            reorders: false,
            entry_id: 0,
            entries: BTreeMap::new(),
            pin: 0,
            pins: VecDeque::new(),
        }
    }

    /// Advances the clock by microseconds.
    pub fn pass(&mut self, micros: u64) {
        self.now += micros;
    }

    /// The next frame.
    pub fn picture(&mut self) -> Arc<Frame> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                self.now = self.now.max(frame.at.mono.0);
                self.reached = self.reached.max(frame.at.mono.0 + PICTURE);
                return frame;
            }
            self.group();
        }
    }

    /// Continues after a boot with a new camera session.
    pub fn restart(&mut self) {
        self.frames.clear();
        self.run += 1;
        self.media = self.now;
        self.began = self.now;
        self.reached = self.now;
        self.pins.clear();
    }

    /// Notes a stored or rejected entry; a rejected one is enqueued again under another id.
    pub fn stored(&mut self, entry_id: EntryId, stored: bool) {
        if stored {
            self.entries.insert(entry_id.0, true)
        } else {
            self.entries.remove(&entry_id.0)
        };
    }

    /// Takes over the entries found at a boot.
    pub fn found(&mut self, entries: impl Iterator<Item = EntryId>, newest: u64) {
        self.entries = entries.map(|entry_id| (entry_id.0, true)).collect();
        self.entry_id = newest;
    }

    /// Generates a GOP with its sound.
    fn group(&mut self) {
        let pictures = match self.rng.below(12) {
            0 => 30,
            n => 1 + n / 2,
        };
        let order = if self.reorders { reordered(pictures) } else { (0..pictures).collect() };
        for (place, shown) in order.into_iter().enumerate() {
            let len =
                if place == 0 { 200 + self.rng.below(3000) } else { 20 + self.rng.below(200) };
            let at = self.media + shown * PICTURE;
            let frame = self.frame(self.video.clone(), at, len, place == 0);
            self.frames.push_back(frame);
            if let Some(sound) = self.sound.clone() {
                for half in 0..2 {
                    let at = self.media + place as u64 * PICTURE + half * PICTURE / 2;
                    let frame = self.frame(sound.clone(), at, 160, true);
                    self.frames.push_back(frame);
                }
            }
        }
        self.media += pictures * PICTURE;
    }

    fn frame(&mut self, params: Arc<TrackParams>, at: u64, len: u64, key: bool) -> Arc<Frame> {
        let fill = self.rng.bits().to_le_bytes();
        let data: Vec<u8> = (0..len as usize).map(|i| fill[i % 8]).collect();
        let pts = ((at - self.began) * u64::from(params.timescale) / 1_000_000) as i64;
        Arc::new(Frame {
            role: StreamRole::Main,
            params,
            data: data.into(),
            key,
            pts,
            run: self.run,
            at: stamp(at),
            lost: 0,
        })
    }

    /// The next action.
    pub fn act(&mut self) -> Action {
        match self.rng.below(100) {
            0..=64 => Action::Frame(self.picture()),
            65..=70 => self.enqueue(),
            71..=75 => self.release(),
            76..=78 => {
                let bytes = self.rng.bits().to_le_bytes().repeat(1 + self.rng.below(200) as usize);
                Action::Order(StorageRequest::SaveCell { cell: Cell::Login, bytes })
            }
            79..=85 => self.pin(),
            86..=88 => Action::Order(self.outage()),
            89..=91 => self.lose(),
            92..=93 => {
                self.change();
                Action::Frame(self.picture())
            }
            _ => {
                self.pass(self.now % 7 * 10_000);
                Action::Idle
            }
        }
    }

    fn enqueue(&mut self) -> Action {
        if self.rng.one_in(3) {
            return self.enqueue_all();
        }
        self.entry_id += 1;
        let entry_id = EntryId(self.entry_id);
        let (entry, still) = entry(self.entry_id);
        Action::Order(StorageRequest::Enqueue { entry_id, entry, snapshot: still })
    }

    /// Enqueues several entries as one batch.
    fn enqueue_all(&mut self) -> Action {
        let first = self.entry_id + 1;
        self.entry_id += 2 + self.rng.below(3);
        let entries = (first..=self.entry_id)
            .map(|entry_id| (EntryId(entry_id), entry(entry_id).0))
            .collect();
        Action::Order(StorageRequest::EnqueueAll { entries })
    }

    fn release(&mut self) -> Action {
        // The newest entry carries the agent's state; it is released last.
        let oldest = self.entries.keys().next().copied();
        let Some(entry_id) = oldest.filter(|_| self.entries.len() > 1 || self.rng.one_in(4)) else {
            return Action::Idle;
        };
        self.entries.remove(&entry_id);
        Action::Order(StorageRequest::Release { entry_ids: vec![EntryId(entry_id)] })
    }

    fn pin(&mut self) -> Action {
        let class =
            [PinClass::Requested, PinClass::Event, PinClass::Lock][self.rng.below(3) as usize];
        let back = self.rng.below(3_000_000);
        let from = MonoTime(self.now.saturating_sub(back));
        match self.rng.below(3) {
            0 => {
                self.pin += 1;
                self.pins.push_back(self.pin);
                Action::Order(StorageRequest::PinOpen { pin: PinId(self.pin), class, from })
            }
            1 => {
                let pin = PinId(self.pins.back().copied().unwrap_or(1));
                let (from, to) = (stamp(from.0).wall, stamp(self.now).wall);
                Action::Order(StorageRequest::Locate {
                    pin,
                    class,
                    query: SpanQuery::Wall { from, to, after: 0 },
                })
            }
            _ => match self.pins.pop_front() {
                Some(pin) => Action::Order(StorageRequest::Unpin { pin: PinId(pin) }),
                None => Action::Idle,
            },
        }
    }

    /// An outage of the camera.
    fn outage(&mut self) -> StorageRequest {
        self.frames.clear();
        let from = stamp(self.reached);
        let away = 300_000 + self.rng.below(2_000_000);
        self.now = self.now.max(self.media) + away;
        self.run += 1;
        self.media = self.now;
        self.began = self.now;
        self.reached = self.now;
        StorageRequest::NoteGap(Gap {
            from,
            to: stamp(self.now),
            reason: GapReason::CameraDown,
            bytes: 0,
        })
    }

    /// A full frame queue: the rest of this GOP and the next one are dropped.
    fn lose(&mut self) -> Action {
        self.group();
        let lost: Vec<Arc<Frame>> = self.frames.drain(..).collect();
        let shown = lost.iter().map(|frame| frame.at).filter(|at| at.mono.0 < self.media);
        let (from, to) = (shown.clone().min_by_key(|at| at.mono), shown.max_by_key(|at| at.mono));
        let (from, to) = (from.unwrap_or(stamp(self.now)), to.unwrap_or(stamp(self.now)));
        self.now = self.now.max(self.media);
        self.reached = self.media;
        let bytes = lost.iter().map(|frame| frame.data.len() as u64).sum();
        Action::Skipped(DroppedFrames { frames: lost.len() as u32, from, to, bytes })
    }

    /// The camera changes its parameters after this GOP, without a pause.
    fn change(&mut self) {
        match self.rng.below(3) {
            0 => self.video = video(self.rng.below(3) as u8, 40 + self.rng.below(3) as usize * 200),
            1 => self.sound = if self.sound.is_none() { Some(sound()) } else { None },
            _ => self.reorders = !self.reorders,
        }
        self.run += 1;
        self.began = self.media;
    }
}

/// Entry and snapshot of an entry id, always the same.
pub fn entry(entry_id: u64) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut rng = Rng::new(entry_id);
    let entry = (0..1 + rng.below(900)).map(|i| (entry_id * 31 + i) as u8).collect();
    let still = rng.one_in(3).then(|| vec![entry_id as u8 | 1; 100 + rng.below(3900) as usize]);
    (entry, still)
}

/// Reorders groups of one reference picture and two B-pictures.
fn reordered(pictures: u64) -> Vec<u64> {
    let mut order = vec![0];
    let mut shown = 1;
    while shown < pictures {
        let last = (shown + 2).min(pictures - 1);
        order.push(last);
        order.extend(shown..last);
        shown = last + 1;
    }
    order
}

/// A video track with a sample entry of `len` bytes, so that heads end anywhere in a sector.
fn video(mark: u8, len: usize) -> Arc<TrackParams> {
    let mut sample_entry = (len as u32).to_be_bytes().to_vec();
    sample_entry.extend(b"avc1");
    sample_entry.resize(len, mark);
    let digest = Digest::of(&sample_entry);
    let (kind, codec, annex_b) = (TrackKind::Video, Codec::H264, vec![0, 0, 0, 1, 0x67, mark]);
    Arc::new(TrackParams {
        kind,
        codec,
        timescale: 90_000,
        sample_entry,
        annex_b,
        size: (64, 36),
        digest,
    })
}

fn sound() -> Arc<TrackParams> {
    let sample_entry = vec![0, 0, 0, 8, b'a', b'l', b'a', b'w'];
    let digest = Digest::of(&sample_entry);
    let (kind, codec, annex_b) = (TrackKind::Audio, Codec::PcmAlaw, Vec::new());
    Arc::new(TrackParams {
        kind,
        codec,
        timescale: 8000,
        sample_entry,
        annex_b,
        size: (0, 0),
        digest,
    })
}
