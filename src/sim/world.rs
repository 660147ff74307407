//! Simulated world: the whole agent on a simulated card, camera, broker, office and clock, from a
//! seed.
//!
//! It has power cuts, lost sessions and camera outages. At the end all promises are checked; an
//! error names the seed that replays it.

mod chain;
mod device;
mod flood;
mod office_check;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use self::device::{agent, reader, settings};
use self::flood::Flood;
use super::barrier::Barrier;
use super::faulty_disk::FaultyDisk;
use super::office_stub::OfficeStub;
use super::rng::Rng;
use crate::agent::{Agent, AgentEffect, AgentInput};
use crate::analytics::{AnalyticsUpdate, MotionPhase, MotionUpdate};
use crate::camera::{CameraFault, CameraUpdate, Codec, Frame, StreamRole, TrackKind, TrackParams};
use crate::clip::hasher::Hashed;
use crate::settings::Settings;
use crate::storage::check;
use crate::storage::disk::Disk;
use crate::storage::engine::Engine;
use crate::storage::footage_query::locate;
use crate::storage::head_selection::heads;
use crate::storage::thread::CardReader;
use crate::storage::{FootageReader as _, SpanQuery, StorageUpdate};
use crate::units::{ClockQuality, Digest, MonoTime, Timestamp, WallTime};
use crate::uplink::delivery::{self, Delivery};
use crate::uplink::{UplinkUpdate, topics};

/// Length of one step, microseconds.
const STEP: u64 = 100_000;
/// Steps with faults, then steps without, in which everything pending must arrive.
const STORMY: u64 = 1_500;
const CALM: u64 = 6_000;

/// Result of a world.
#[derive(Debug, Default, Clone, Copy)]
pub struct Summary {
    /// Power cuts.
    pub cuts: u64,
    /// Sessions lost.
    pub lost: u64,
    /// Events received by the office.
    pub events: u64,
    /// Files received by the office.
    pub files: u64,
    /// Records reported durable.
    pub durable: u64,
}

struct World {
    rng: Rng,
    flood: Flood,
    disk: FaultyDisk,
    settings: Settings,
    office: OfficeStub,
    now: Timestamp,
    engine: Engine,
    agent: Agent,
    link: Delivery,
    reader: CardReader,
    inputs: VecDeque<AgentInput>,
    conn: u64,
    connected: bool,
    camera_up: bool,
    run: u32,
    frame: u64,
    params: Arc<TrackParams>,
    moving: Option<(u64, u64)>,
    motions: u64,
    /// File and content digest of records reported durable, by number.
    durable: BTreeMap<u64, (u32, Digest)>,
    summary: Summary,
    stormy: bool,
    wrongs: Vec<String>,
}

/// Runs the world of a seed; `without` removes a barrier, to prove that the checks notice.
///
/// # Errors
/// All broken promises.
pub fn run(seed: u64, without: Option<Barrier>) -> Result<Summary, String> {
    let mut world = World::new(seed, without)?;
    for step in 0..STORMY + CALM {
        world.stormy = step < STORMY;
        world.step()?;
    }
    world.check()
}

impl World {
    fn new(seed: u64, without: Option<Barrier>) -> Result<World, String> {
        let settings = settings()?;
        let disk = FaultyDisk::new(without);
        let now = Timestamp {
            mono: MonoTime(1_000_000),
            wall: WallTime(1_790_000_000_000_000),
            quality: ClockQuality::Ntp,
        };
        let sample_entry = vec![0, 0, 0, 8, b'a', b'v', b'c', b'1'];
        let params = TrackParams {
            kind: TrackKind::Video,
            codec: Codec::H264,
            timescale: 90_000,
            digest: Digest::of(&sample_entry),
            sample_entry,
            annex_b: Vec::new(),
            size: (64, 36),
        };
        let (engine, update) = Engine::open(Arc::new(disk.clone()), &settings.storage, now)
            .map_err(|error| error.to_string())?;
        let mut world = World {
            rng: Rng::new(seed),
            flood: Flood::new(seed),
            reader: reader(&disk, &settings),
            agent: agent(&disk, &settings, seed),
            link: Delivery::new(settings.site.clone(), 1, &settings.uplink),
            engine,
            office: OfficeStub::default(),
            now,
            inputs: update.into_iter().map(AgentInput::Storage).collect(),
            conn: 0,
            connected: false,
            camera_up: false,
            run: 0,
            frame: 0,
            params: Arc::new(params),
            moving: None,
            motions: 0,
            durable: BTreeMap::new(),
            summary: Summary::default(),
            stormy: true,
            wrongs: Vec::new(),
            disk,
            settings,
        };
        world.drain();
        Ok(world)
    }

    fn step(&mut self) -> Result<(), String> {
        self.now = self.now.after(STEP);
        self.faults();
        self.camera();
        self.analytics();
        let mut out = Vec::new();
        self.engine.idle(self.now, &mut out);
        self.apply_updates(out);
        self.inputs.push_back(AgentInput::Tick);
        let mut effects = Vec::new();
        self.link.advance(self.now, &mut effects);
        self.link_effects(effects);
        self.flood();
        self.drain();
        if self.disk.is_off() { self.reboot() } else { Ok(()) }
    }

    /// Injects the faults of this step.
    fn faults(&mut self) {
        if !self.stormy {
            if !self.connected {
                self.connect();
            }
            self.camera_up_again();
            return;
        }
        if self.rng.one_in(250) {
            self.disk.cut_after(self.rng.below(12));
        }
        if self.rng.one_in(400) {
            let after = 1 + self.rng.below(4);
            self.disk.fail_sync_after(after, &mut self.rng);
        }
        match self.connected {
            true if self.rng.one_in(120) => self.disconnect(),
            false if self.rng.one_in(60) => self.connect(),
            _ => {}
        }
        match self.camera_up {
            true if self.rng.one_in(300) => {
                self.camera_up = false;
                let (fault, detail) = (CameraFault::Stalled, String::new());
                let update =
                    CameraUpdate::Down { role: StreamRole::Main, fault, detail, since: self.now };
                self.inputs.push_back(AgentInput::Camera(update));
            }
            false if self.rng.one_in(30) => self.camera_up_again(),
            _ => {}
        }
    }

    fn camera_up_again(&mut self) {
        if !self.camera_up {
            self.camera_up = true;
            self.run += 1;
            self.frame = 0;
            let update = CameraUpdate::Up {
                role: StreamRole::Main,
                tracks: "h264 64x36".into(),
                at: self.now,
            };
            self.inputs.push_back(AgentInput::Camera(update));
        }
    }

    fn camera(&mut self) {
        if !self.camera_up {
            return;
        }
        let key = self.frame.is_multiple_of(20);
        let len = if key { 3000 } else { 400 } + self.rng.below(300) as usize;
        let fill = self.rng.bits() as u8;
        let frame = Frame {
            role: StreamRole::Main,
            params: self.params.clone(),
            data: vec![fill; len].into(),
            key,
            pts: self.frame as i64 * 9000,
            run: self.run,
            at: self.now,
            lost: 0,
        };
        self.frame += 1;
        let mut out = Vec::new();
        self.engine.frame(&Arc::new(frame), &mut out);
        self.apply_updates(out);
    }

    /// Sends analytics updates of random motion.
    fn analytics(&mut self) {
        let phase = match &mut self.moving {
            None if self.stormy && self.rng.one_in(150) => {
                self.motions += 1;
                self.moving = Some((self.motions, 20 + self.rng.below(60)));
                MotionPhase::Start
            }
            Some((_, left)) if *left == 0 => MotionPhase::End,
            Some((_, left)) => {
                *left -= 1;
                if *left % 15 == 0 { MotionPhase::Update } else { return }
            }
            None => return,
        };
        let Some((motion, _)) = self.moving else {
            return;
        };
        let at = self.now;
        let update = MotionUpdate::example(motion, phase, at);
        self.inputs.push_back(AgentInput::Analytics(AnalyticsUpdate::Motion(update)));
        if phase == MotionPhase::End {
            let jpeg = vec![motion as u8; 5000];
            self.inputs.push_back(AgentInput::Analytics(AnalyticsUpdate::Snapshot {
                event_no: motion,
                at,
                jpeg,
            }));
            self.moving = None;
        }
    }

    fn connect(&mut self) {
        self.connected = true;
        self.conn += 1;
        let mut out = Vec::new();
        let limits = delivery::BrokerLimits::of_broker(20, 1 << 20);
        self.link.connected(self.now, self.conn, limits, 0, &mut out);
        self.link.message(
            self.now,
            &topics::host_state("office"),
            b"{\"state\":\"online\"}",
            &mut out,
        );
        self.link_effects(out);
    }

    fn disconnect(&mut self) {
        self.summary.lost += 1;
        self.connected = false;
        let mut out = Vec::new();
        self.link.lost("cut".into(), false, &mut out);
        self.link_effects(out);
    }

    /// Applies updates of storage and notes its promises. A device without power sends none.
    fn apply_updates(&mut self, update: Vec<StorageUpdate>) {
        for update in update {
            if let StorageUpdate::Durable { seq, .. } = update {
                self.promised(seq);
            }
            if let StorageUpdate::Gap(gap) = &update {
                self.check_evicted(gap);
            }
            self.inputs.push_back(AgentInput::Storage(update));
        }
    }

    fn promised(&mut self, seq: u64) {
        self.forget_evicted();
        if let Ok(content) = self.content(seq) {
            self.durable.insert(seq, content);
            self.summary.durable += 1;
        }
    }

    /// File and content digest of a record, read from the card.
    fn content(&self, seq: u64) -> Result<(u32, Digest), String> {
        let index = heads(&self.disk).map_err(|fault| fault.to_string())?.index;
        let query = SpanQuery::Seq { first: seq, last: seq };
        let span =
            locate(&self.disk, &index, u64::MAX, &query).map_err(|fault| fault.to_string())?;
        let fragment =
            span.and_then(|span| span.fragments.into_iter().next()).ok_or("not in the ring")?;
        let bytes = self.reader.fragment(&fragment).map_err(|fault| fault.to_string())?;
        Ok((fragment.segment, Digest::of(&bytes)))
    }

    /// Feeds the agent until no input is left.
    fn drain(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            if self.disk.is_off() {
                self.inputs.clear();
                return;
            }
            let mut effects = Vec::new();
            self.agent.handle(self.now, input, &mut effects);
            for effect in effects {
                self.execute(effect);
            }
        }
    }

    fn execute(&mut self, effect: AgentEffect) {
        if self.disk.is_off() {
            return;
        }
        match effect {
            AgentEffect::Storage(order) => {
                let mut out = Vec::new();
                self.engine.request(self.now, order, &mut out);
                // Effects after the power cut are not executed.
                if !self.disk.is_off() {
                    self.apply_updates(out);
                }
            }
            AgentEffect::Uplink(order) => {
                self.flood.order(&order);
                let mut out = Vec::new();
                self.link.request(self.now, order, &mut out);
                self.link_effects(out);
            }
            AgentEffect::Hash(order) => {
                let hashed = Hashed::compute(&order, || {});
                self.inputs.push_back(AgentInput::Hashed(hashed));
            }
            // Other effects do not touch card, office or hashes, and are not simulated.
            _ => {}
        }
    }

    fn link_effects(&mut self, effects: Vec<delivery::DeliveryEffect>) {
        let mut queue: VecDeque<delivery::DeliveryEffect> = effects.into();
        while let Some(effect) = queue.pop_front() {
            let mut more = Vec::new();
            match effect {
                delivery::DeliveryEffect::Update(update) => {
                    self.flood.update(&update);
                    if let UplinkUpdate::Up { .. }
                    | UplinkUpdate::Command(_)
                    | UplinkUpdate::Down { .. }
                    | UplinkUpdate::Receipted { .. }
                    | UplinkUpdate::Returned { .. } = update
                    {
                        self.inputs.push_back(AgentInput::Uplink(update));
                    }
                }
                delivery::DeliveryEffect::Read { entry_id, offset, len } => {
                    if let Some(source) = self.link.source(entry_id) {
                        self.link.chunk(
                            self.now,
                            entry_id,
                            offset,
                            source.read(offset, len),
                            &mut more,
                        );
                    }
                }
                delivery::DeliveryEffect::Publish { token, topic, payload, .. } => {
                    self.broker(token, &topic, &payload, &mut more)
                }
            }
            queue.extend(more);
        }
    }

    /// Delivers a publish through a broker that may drop it, double it, or end the session after
    /// it.
    fn broker(
        &mut self,
        token: u64,
        topic: &str,
        payload: &[u8],
        more: &mut Vec<delivery::DeliveryEffect>,
    ) {
        let mood = if self.stormy { self.rng.below(100) } else { 0 };
        let times = match mood {
            0..=93 => 1,
            94..=96 => 2,
            _ => 0,
        };
        let acks: Vec<_> = (0..times).filter_map(|_| self.office.take(topic, payload)).collect();
        if mood == 96 {
            self.connected = false;
            self.summary.lost += 1;
            return self.link.lost("cut".into(), false, more);
        }
        self.link.acked(self.now, token, delivery::Acked::Accepted, more);
        for ack in acks {
            let bytes = serde_json::to_vec(&ack).unwrap_or_default();
            self.link.message(self.now, &topics::dn(&self.settings.site, "ack"), &bytes, more);
        }
    }

    /// Boots the device from the content of the card.
    fn reboot(&mut self) -> Result<(), String> {
        self.summary.cuts += 1;
        self.disk.power_on(&mut self.rng);
        self.inputs.clear();
        self.now = self.now.at(self.now.mono.plus_secs(5));
        let open = || Engine::open(Arc::new(self.disk.clone()), &self.settings.storage, self.now);
        // A failed flush ends a boot, and the service manager starts it again.
        let (mut engine, update) = open()
            .or_else(|_| open())
            .map_err(|error| format!("the ring did not open after a power cut: {error}"))?;
        let pieces: Result<Vec<_>, _> = std::iter::from_fn(|| engine.found().transpose()).collect();
        self.engine = engine;
        self.agent = agent(&self.disk, &self.settings, self.rng.bits());
        self.link = Delivery::new(
            self.settings.site.clone(),
            self.summary.cuts as u32 + 1,
            &self.settings.uplink,
        );
        self.flood.restart(self.now.mono.0);
        self.connected = false;
        self.camera_up = false;
        self.moving = None;
        self.run += 1;
        self.apply_updates(pieces.map_err(|fault| fault.to_string())?);
        self.apply_updates(update);
        self.check_footage();
        self.drain();
        Ok(())
    }

    /// Drops the promises of records in reused files.
    fn forget_evicted(&mut self) {
        for file in self.disk.take_begun() {
            self.durable.retain(|_, (lies, _)| *lies != file);
        }
    }

    /// Checks that every durable record reads back unchanged or was evicted.
    fn check_footage(&mut self) {
        self.forget_evicted();
        for (seq, content) in &self.durable {
            match self.content(*seq) {
                Ok(now) if now == *content => {}
                Ok(_) => {
                    self.wrongs.push(format!("record {seq} was durable and now reads differently"))
                }
                Err(reason) => {
                    self.wrongs.push(format!("record {seq} was durable and is lost: {reason}"))
                }
            }
        }
    }

    /// Checks all promises.
    fn check(mut self) -> Result<Summary, String> {
        self.check_footage();
        self.check_chain();
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let problems = check::check(&disk, |_, _| {}).map_err(|fault| fault.to_string())?.problems;
        self.wrongs.extend(problems.iter().map(ToString::to_string));
        let mut wrongs = std::mem::take(&mut self.wrongs);
        wrongs.append(&mut self.office.wrongs);
        wrongs.append(&mut office_check::broken(&self.office));
        self.summary.events = self.office.events.len() as u64;
        self.summary.files = self.office.files.len() as u64;
        if wrongs.is_empty() { Ok(self.summary) } else { Err(wrongs.join("\n")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worlds_with_power_cuts_and_lost_sessions_keep_promises() {
        for seed in 1..=6 {
            let summary = run(seed, None).unwrap_or_else(|wrongs| panic!("seed {seed}: {wrongs}"));
            assert!(
                summary.events > 0 && summary.durable > 0,
                "seed {seed} was empty: {summary:?}"
            );
        }
    }

    #[test]
    fn without_each_flush_some_world_breaks_a_promise() {
        for barrier in [Barrier::Ring, Barrier::Journal] {
            let broken = (1..=20).any(|seed| run(seed, Some(barrier)).is_err());
            assert!(broken, "no check fails without {barrier:?}");
        }
    }
}
