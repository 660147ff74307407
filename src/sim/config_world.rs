//! World of one device under configuration changes: card, process, board, brokers and office with
//! faults.
//!
//! The configuration state machine is the real one, with real texts and signatures. `office` holds
//! the office and the local edits.

mod office;

use std::collections::{BTreeMap, BTreeSet};

use ring::signature::Ed25519KeyPair;
use serde_json::Value;

use super::config_scenarios::{CRASHES, FAR, LATER, NEW, OLD, RESETS, ScenarioText, read, secret};
use super::faulty_files::FaultyFiles;
use crate::fault_switch::FaultSwitch;
use crate::remote_config::action::{ConfigEffect, ConfigInput};
use crate::remote_config::crash_loop::BootDecision;
use crate::remote_config::mutation::Safeguard;
use crate::remote_config::rejection::{RejectReason, Rejection};
use crate::remote_config::signed_document::Document;
use crate::remote_config::startup_state::{FoundFiles, prepare};
use crate::remote_config::state_machine::ConfigMachine;
use crate::remote_config::{state_store, validation};
use crate::settings::Settings;
use crate::units::{ClockQuality, Digest, MonoTime, Timestamp, WallTime};

/// Length of one step in microseconds, with activity and without.
const STEP: u64 = 500_000;
const IDLE: u64 = 5_000_000;
/// Microseconds after the end of the faults within which the device must accept another change: a
/// whole trial, the rollback and the proof.
const FAIR: u64 = 4_000_000_000;
/// Length of one scenario with its faults, microseconds.
const STORMY: u64 = 1_500_000_000;

/// A session with a broker.
#[derive(Debug, Clone, PartialEq)]
struct Session {
    host: String,
    epoch: u64,
}

/// The device, its card, its brokers and its office.
pub struct ConfigWorld {
    /// The state directory on the card.
    pub files: FaultyFiles,
    /// The runtime directory, lost at a power cut.
    volatile: FaultyFiles,
    file: String,
    /// The state machine, while the process runs.
    pub machine: Option<ConfigMachine>,
    /// The settings in force.
    settings: Option<Settings>,
    epoch: u64,
    now: u64,
    /// Start of the process and of the board, microseconds.
    started: (u64, u64),
    boards: u64,
    /// When this configuration was applied.
    applied: u64,
    session: Option<Session>,
    turn: usize,
    alive: BTreeSet<&'static str>,
    picture: bool,
    inputs: Vec<ConfigInput>,
    /// Requests to the configuration thread while the card hangs.
    held: Vec<ConfigEffect>,
    /// Messages from the office that arrive one step later.
    late: Vec<ConfigInput>,
    report: Value,
    texts: BTreeMap<Digest, String>,
    office: Ed25519KeyPair,
    /// The newest document of the office.
    desired: Option<Document>,
    version: u64,
    bomb: u64,
    without: Option<Safeguard>,
    /// States of the state machine that occurred.
    pub states: BTreeSet<String>,
    /// Step of a power cut.
    pub cut_at_step: Option<u64>,
    /// Steps so far.
    pub steps: u64,
    /// Power cuts so far.
    pub cuts: u64,
}

impl ConfigWorld {
    /// A device after its set-up with the old broker and a committed move to the new one.
    ///
    /// `without` is removed only then: earlier, the device would not get through its set-up.
    pub fn new(without: Option<Safeguard>) -> ConfigWorld {
        let file = ScenarioText { hosts: vec![OLD], ..ScenarioText::default() }.toml();
        let mut world = ConfigWorld {
            files: FaultyFiles::default(),
            volatile: FaultyFiles::default(),
            file,
            machine: None,
            settings: None,
            epoch: 0,
            now: 1_000_000,
            started: (0, 0),
            boards: 0,
            applied: 0,
            session: None,
            turn: 0,
            alive: BTreeSet::from([OLD, NEW, FAR]),
            picture: false,
            inputs: Vec::new(),
            held: Vec::new(),
            late: Vec::new(),
            report: Value::Null,
            texts: BTreeMap::new(),
            office: secret(),
            desired: None,
            version: 0,
            bomb: u64::MAX,
            without: None,
            states: BTreeSet::new(),
            cut_at_step: None,
            steps: 0,
            cuts: 0,
        };
        let file = world.file.clone();
        world.texts.insert(Digest::of(file.as_bytes()), file);
        world.power_up();
        for hosts in [vec![OLD, NEW], vec![NEW]] {
            world.run(10_000_000);
            world.send(&ScenarioText { hosts, ..ScenarioText::default() }.toml());
            world.run(60_000_000);
        }
        let at_home = world.report["phase"] == "committed"
            && world.report["committed"]["version"] == world.version;
        assert!(at_home, "the set-up of the device failed: {}", world.report);
        world.take_away(without);
        world.files.state().ops = 0;
        world.steps = 0;
        world
    }

    fn take_away(&mut self, promise: Option<Safeguard>) {
        self.without = promise;
        self.files.state().without = promise;
        self.machine = self.machine.take().map(|machine| machine.without(promise));
    }

    fn stamp(&self) -> Timestamp {
        let mono = MonoTime(self.now - self.started.0);
        Timestamp {
            mono,
            wall: WallTime(1_790_000_000_000_000 + self.now as i64),
            quality: ClockQuality::Ntp,
        }
    }

    fn power_up(&mut self) {
        self.boards += 1;
        self.started.1 = self.now;
        self.files.state().dead = false;
        self.start();
    }

    fn power_off(&mut self) {
        self.machine = None;
        self.session = None;
        self.volatile.state().files.clear();
        self.cuts += 1;
        // A boot of the board takes two seconds.
        self.now += 2_000_000;
    }

    fn start(&mut self) {
        self.now += 1_000_000;
        self.started.0 = self.now - 1_000_000;
        self.machine = None;
        self.session = None;
        self.picture = false;
        self.turn = 0;
        self.epoch = 0;
        self.inputs.clear();
        self.late.clear();
        self.held.clear();
        self.files.state().hangs = false;
        let uptime = (self.now - self.started.1) / 1_000_000;
        let found = FoundFiles {
            files: &self.files,
            volatile: Some(&self.volatile),
            file: Ok(self.file.clone()),
            name: "file".into(),
            read: &read,
            start: BootDecision {
                kernel: format!("kernel {}", self.boards),
                uptime,
                at: String::new(),
            },
            switch: FaultSwitch::only(self.without),
        };
        let prepared = prepare(&found);
        let Ok(prepared) = prepared else {
            return;
        };
        let mut machine =
            ConfigMachine::new(prepared.record, prepared.known, [3; 32], self.stamp())
                .without(self.without);
        if let Some(reason) = prepared.unsaved {
            machine.set_unsaved(reason);
        }
        self.apply(machine.in_force());
        self.machine = Some(machine);
    }

    fn apply(&mut self, settings: Settings) {
        let other = self.settings.as_ref().map(|settings| settings.camera.clone())
            != Some(settings.camera.clone());
        if other {
            self.picture = false;
        }
        self.applied = self.now;
        self.settings = Some(settings);
    }

    /// One step of the world; false if only time passed.
    fn step(&mut self) -> bool {
        self.steps += 1;
        let dead = self.files.state().dead;
        if dead || self.cut_at_step == Some(self.steps) {
            self.power_off();
            self.power_up();
            return true;
        }
        if self.machine.is_none() {
            // The service manager starts the process again after every failure.
            self.start();
            return true;
        }
        if self.fate() {
            return true;
        }
        self.uplink();
        self.camera();
        let mut inputs = std::mem::take(&mut self.inputs);
        inputs.append(&mut self.late);
        let busy = !inputs.is_empty();
        for input in inputs {
            if self.machine.is_some() && !self.files.state().dead {
                self.handle(input);
            }
        }
        self.handle(ConfigInput::Tick);
        busy
    }

    /// Applies the harm of the configuration in force.
    fn fate(&mut self) -> bool {
        let Some(settings) = &self.settings else {
            return false;
        };
        let kind = if settings.motion.enabled { settings.motion.sensitivity } else { 0 };
        let ends = self.now - self.applied >= STEP
            && (kind == CRASHES || kind == LATER && self.now >= self.bomb);
        if self.now - self.applied >= STEP && kind == RESETS {
            self.power_off();
            self.power_up();
            return true;
        }
        if ends {
            self.machine = None;
            self.now += 2_000_000;
        }
        ends
    }

    fn uplink(&mut self) {
        let Some(settings) = self.settings.as_ref().map(|settings| settings.uplink.clone()) else {
            return;
        };
        if let Some(session) = &self.session {
            if !self.alive.contains(session.host.as_str()) {
                self.session = None;
                self.inputs.push(ConfigInput::NoSession("lost".into()));
            }
            return;
        }
        let brokers = settings.brokers();
        let broker = &brokers[self.turn % brokers.len()];
        let right = broker.login.as_ref().is_some_and(|login| login.password.reveal() == "right");
        if !self.alive.contains(broker.host.as_str()) || !right {
            self.turn += 1;
            self.inputs.push(ConfigInput::NoSession("refused".into()));
            return;
        }
        self.session = Some(Session { host: broker.host.clone(), epoch: self.epoch });
        self.inputs.push(ConfigInput::Session { epoch: self.epoch, broker: broker.address() });
        self.request_config();
    }

    /// Sends `up/config/get`; the office answers.
    fn request_config(&mut self) {
        if self.session.is_some()
            && let Some(document) = &self.desired
        {
            let bytes = document.encode();
            self.inputs.push(ConfigInput::Document { len: bytes.len(), bytes });
        }
    }

    fn camera(&mut self) {
        let there = self
            .settings
            .as_ref()
            .is_some_and(|settings| settings.camera.main_url.path() == "/main");
        if there && !self.picture {
            self.picture = true;
            self.inputs.push(ConfigInput::Picture);
        } else if !there && self.picture {
            self.picture = false;
        }
        if !there {
            self.inputs.push(ConfigInput::NoPicture("unreachable".into()));
        }
        if self.picture {
            self.inputs.push(ConfigInput::Footage(self.stamp().mono));
        }
    }

    fn handle(&mut self, input: ConfigInput) {
        let (now, mut out) = (self.stamp(), Vec::new());
        let Some(machine) = &mut self.machine else {
            return;
        };
        machine.handle(now, input, &mut out);
        let record = machine.record();
        let state = format!(
            "{} {:?} {} {} {}",
            machine.as_str(),
            record.rest,
            record.older.len(),
            record.trial().map_or(0, |trial| trial.starts),
            record.committed.id
        );
        self.states.insert(state);
        for effect in out {
            self.execute(effect);
        }
    }

    fn execute(&mut self, effect: ConfigEffect) {
        if !matches!(effect, ConfigEffect::Judge { .. } | ConfigEffect::Save(..)) {
            return self.perform(effect);
        }
        let before = self.inputs.len();
        if !self.files.state().hangs {
            self.perform(effect.clone());
        }
        if self.files.state().hangs {
            // The configuration thread blocks: it answers nothing, and later requests wait.
            self.inputs.truncate(before);
            self.held.push(effect);
        }
    }

    /// Ends the hang of the card.
    fn release(&mut self) {
        self.files.state().hangs = false;
        std::mem::take(&mut self.held).into_iter().for_each(|effect| self.execute(effect));
    }

    fn perform(&mut self, effect: ConfigEffect) {
        match effect {
            ConfigEffect::Judge { text, sha256, .. } => {
                let text = text.or_else(|| state_store::text(&self.files, &sha256));
                let judged = text
                    .ok_or_else(|| Rejection::new(RejectReason::Unreadable, "gone"))
                    .and_then(|text| self.judge(&text));
                self.inputs.push(ConfigInput::Judged(sha256, judged));
            }
            ConfigEffect::Save(record, text) => {
                state_store::save_exits(&self.volatile, &record);
                let saved = state_store::save(&self.files, &record, text.as_deref()).map(|_| ());
                self.inputs.push(ConfigInput::Saved(record.generation, saved));
            }
            ConfigEffect::Apply(applied) => {
                if applied.fresh {
                    self.session = None;
                    self.turn = 0;
                }
                self.epoch = applied.epoch;
                self.apply(applied.settings);
            }
            ConfigEffect::Restart => {
                self.handle(ConfigInput::Stop);
                self.start();
            }
            ConfigEffect::Report(report) if self.session.is_some() => self.office_hears(report),
            ConfigEffect::Ask => self.request_config(),
            ConfigEffect::Report(_) | ConfigEffect::Event(_) | ConfigEffect::Carry => {}
        }
    }

    /// Validates a text as the device does. Without the limit of trials it also accepts an endless
    /// one.
    fn judge(&self, text: &str) -> Result<Box<Settings>, Rejection> {
        let endless =
            self.without == Some(Safeguard::TrialBounded) && text.contains("trial = \"90000 h\"");
        let text = if endless { text.replace("90000 h", "3600 s") } else { text.to_owned() };
        let mut settings = validation::judge(&text, &read)?;
        if endless {
            settings.remote.trial = u64::MAX / 1_000_000;
        }
        Ok(Box::new(settings))
    }

    fn run(&mut self, micros: u64) {
        let until = self.now + micros;
        let mut calm = 0;
        while self.now < until {
            let busy = self.step();
            calm = if busy && !self.only_footage() { 0 } else { calm + 1 };
            self.now += if calm > 8 { IDLE } else { STEP };
        }
    }

    /// True if the last step had no input but footage.
    fn only_footage(&self) -> bool {
        self.inputs.is_empty() && self.session.is_some()
    }
}
