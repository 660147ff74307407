//! The phase machine: `idle → staged → trial → committed | rolled back`. A plain function of its state, the time and one input.
//!
//! 1. A document is read and must be signed, new, for this device, in time, and replace what runs ([`super::admission`]).
//! 2. Its text is judged, with the files it names ([`ConfigEffect::Judge`]).
//! 3. `staged` is written down with its text.
//! 4. `trial` is written down.
//! 5. It is applied: the modules it touches, and always a fresh session with the broker; or the device starts again under it.
//! 6. It proves itself ([`super::trial`]), is written down as committed, or is taken back: written down, then the last known good
//!    configuration is applied.
//!
//! Where the card takes nothing, a change that needs no restart is tried all the same: a power cut then leads back to what was.
//!
//! What belongs here: inputs, effects, what is in force, and the order of notes. What does not: any I/O.

use std::sync::Arc;

use serde_json::{Value, json};

use super::admission::Candidate;
use super::mutation::Safeguard;
use super::rejection::{RejectReason, Rejection};
use super::signed_command::{self, CommandRequest};
use super::state_record::{ConfigPhase, ConfigState};
use super::status_report;
use super::token_bucket::TokenBucket;
use super::trial::Progress;
use super::validation;
use crate::settings::diff::SettingsDiff;
use crate::settings::{Broker, Settings, UplinkSettings};
use crate::units::{Digest, MonoTime, SiteId, Timestamp};

/// Commands whose number is being written down at most.
pub const COMMANDS_MAX: usize = 16;
/// Validly signed commands: so many at once, and then one in so many microseconds (20 a second). One office watching a device needs a
/// few a minute.
const SIGNED: TokenBucket = TokenBucket::new(50, 50_000);
/// Microseconds a record may be on its way to the card: a card that hangs keeps no roll-back waiting for longer. Dry runs before it in
/// the configuration thread's queue take their time too.
pub const SAVE_WITHIN: u64 = 120_000_000;
/// Microseconds a text may be judged: files are read, a camera is asked.
pub const JUDGE_WITHIN: u64 = 300_000_000;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigInput {
    /// Time passes.
    Tick,
    /// A document came from the office; `len` is how long it was.
    Document {
        /// Its bytes, none when there were too many.
        bytes: Vec<u8>,
        /// How many there were.
        len: usize,
    },
    /// Answer to [`ConfigEffect::Judge`] of the text with this digest.
    Judged(Digest, Result<Box<Settings>, Rejection>),
    /// Answer to [`ConfigEffect::Save`] of the record of this generation: how it failed, if it did.
    Saved(u64, Result<(), String>),
    /// The file on the device is another than before.
    File(Box<FileFound>),
    /// `taimat config rollback`: the nth of the older ones, from 0.
    CallBack(usize),
    /// Connected to a broker, under the settings applied as the `epoch`th.
    Session {
        /// As [`ConfigEffect::Apply`] named it.
        epoch: u64,
        /// Which broker.
        broker: (String, u16),
    },
    /// That connection ended, or none came about.
    NoSession(String),
    /// `dn/config/confirm` came.
    Confirm(Vec<u8>),
    /// The main stream plays.
    Picture,
    /// The main stream does not, and why.
    NoPicture(String),
    /// Footage up to this moment is durable.
    Footage(MonoTime),
    /// The device is asked to stop.
    Stop,
}

/// What a look at the file found.
#[derive(Debug, Clone, PartialEq)]
pub struct FileFound {
    /// Its text.
    pub text: String,
    /// What it says.
    pub outcome: Result<Box<Settings>, Rejection>,
}

/// One thing to be done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigEffect {
    /// Judge a text; of `None` the one that is kept under this digest.
    Judge {
        /// The text.
        text: Option<String>,
        /// Its digest.
        sha256: Digest,
        /// The settings in force: another camera than theirs is asked before it is tried; `None` when there is nothing to lose.
        probe: Option<Box<Settings>>,
    },
    /// Keep the record, and first the text.
    Save(Box<ConfigState>, Option<String>),
    /// Go on under these settings.
    Apply(Box<Applied>),
    /// Stop in order and start again.
    Restart,
    /// Publish `up/config/reported`, retained.
    Report(Value),
    /// Tell it as an event.
    Event(Value),
    /// Ask the office for the document that should run.
    Ask,
    /// The number of the oldest waiting command is kept: carry it out.
    Carry,
}

/// Settings to go on under.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The settings; their brokers are those to try, in order.
    pub settings: Settings,
    /// Comes back with sessions made under them.
    pub epoch: u64,
    /// End the session and begin another; otherwise they only count for the next one.
    pub fresh: bool,
}

/// What to do when a record is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AfterSave {
    Try,
    Apply,
    Committed,
    RolledBack { restart: bool },
    Refused,
    Carry,
    Nothing,
}

/// The settings a device knows, as they were when it started.
#[derive(Debug, Clone)]
pub struct ProvenSettings {
    /// The last known good ones, or what stands in for them.
    pub good: Settings,
    /// What the device was set up with.
    pub bootstrap: Settings,
    /// What is on trial since before the start.
    pub trying: Option<Settings>,
}

/// The machine of one device.
#[derive(Debug, Clone)]
pub struct ConfigMachine {
    pub(super) site: SiteId,
    pub(super) record: ConfigState,
    pub(super) good: Arc<Settings>,
    pub(super) bootstrap: Arc<Settings>,
    pub(super) trying: Option<Arc<Settings>>,
    pub(super) progress: Option<Progress>,
    pub(super) judging: Option<Candidate>,
    /// A record on its way to the card since when, and what follows; the rest waits for its turn.
    saving: Option<(MonoTime, Vec<AfterSave>)>,
    waiting: Vec<AfterSave>,
    waiting_text: Option<String>,
    pub(super) epoch: u64,
    pub(super) streams: bool,
    pub(super) footage_at: Option<MonoTime>,
    pub(super) at: MonoTime,
    /// A change of the file that came while another was under way.
    pub(super) file: Option<Box<FileFound>>,
    /// Why the card does not keep records.
    pub(super) unsaved: Option<String>,
    /// The newest document that was refused before it was staged.
    pub(super) refused: Option<(String, Rejection)>,
    pub(super) told: Vec<Digest>,
    /// Since when refusals are counted, how many were reported, and how many were not.
    pub(super) refusals: (MonoTime, u32, u32),
    commands: usize,
    /// The share of validly signed commands; what is forged never takes of it.
    signed: TokenBucket,
    /// Confirmations that cannot be read, or mean something else.
    pub(super) bad_confirms: TokenBucket,
    seed: [u8; 32],
    drawn: u64,
    pub(super) without: Option<Safeguard>,
}

impl ConfigMachine {
    /// The machine after a start that [`super::crash_loop::note`] has noted. `seed` is 32 random bytes.
    pub fn new(record: ConfigState, known: ProvenSettings, seed: [u8; 32], now: Timestamp) -> ConfigMachine {
        let ProvenSettings { good, bootstrap, trying } = known;
        let mut machine = ConfigMachine {
            site: good.site.clone(),
            good: Arc::new(good),
            bootstrap: Arc::new(bootstrap),
            trying: trying.map(Arc::new),
            progress: None,
            judging: None,
            saving: None,
            waiting: Vec::new(),
            waiting_text: None,
            epoch: 0,
            streams: false,
            footage_at: None,
            at: now.mono,
            file: None,
            unsaved: None,
            refused: None,
            told: Vec::new(),
            refusals: (now.mono, 0, 0),
            commands: 0,
            signed: SIGNED,
            bad_confirms: TokenBucket::of_warnings(),
            seed,
            drawn: 0,
            without: None,
            record,
        };
        if let Some(trial) = machine.record.trial().filter(|_| machine.trying.is_some()) {
            // The process is new: everything must be shown again.
            machine.progress = Some(Progress::new(now.mono, !trial.needs.picture));
        }
        machine
    }

    /// The same machine without one of its promises, for simulated worlds.
    #[must_use]
    pub fn without(self, guarantee: Option<Safeguard>) -> ConfigMachine {
        ConfigMachine { without: guarantee, ..self }
    }

    /// What is kept.
    pub fn record(&self) -> &ConfigState {
        &self.record
    }

    /// The card could not write this start down, and why.
    pub fn set_unsaved(&mut self, reason: String) {
        self.unsaved = Some(reason);
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Timestamp, input: ConfigInput, out: &mut Vec<ConfigEffect>) {
        self.pass(now.mono);
        match input {
            ConfigInput::Tick => {}
            ConfigInput::Document { bytes, len } => self.document(now, &bytes, len, out),
            ConfigInput::Judged(sha256, outcome) => self.judged(now, sha256, outcome, out),
            ConfigInput::Saved(generation, outcome) => self.saved(now, generation, outcome, out),
            ConfigInput::File(found) => self.file(now, found, out),
            ConfigInput::CallBack(nth) => self.call_back(now, nth, out),
            ConfigInput::Session { epoch, broker } => self.session(now, epoch, broker, out),
            ConfigInput::NoSession(reason) => self.no_session(reason),
            ConfigInput::Confirm(bytes) => self.confirm(&bytes),
            ConfigInput::Picture => self.picture(),
            ConfigInput::NoPicture(reason) => self.no_picture(reason),
            ConfigInput::Footage(until) => self.footage(until),
            ConfigInput::Stop => self.stop(out),
        }
        self.abandon_change(now, out);
        self.advance(now, out);
    }

    /// A card that does not answer counts as one that refuses: what is on trial must be taken back whatever it does.
    fn abandon_change(&mut self, now: Timestamp, out: &mut Vec<ConfigEffect>) {
        if self.without == Some(Safeguard::CardDeadline) {
            return;
        }
        if self.saving.as_ref().is_some_and(|(since, _)| now.mono.since(*since) >= SAVE_WITHIN) {
            let reason = format!("it has not answered for {} s", SAVE_WITHIN / 1_000_000);
            self.saved(now, self.record.generation, Err(reason), out);
        }
        if let Some(Candidate { version, since, .. }) = &self.judging
            && now.mono.since(*since) >= JUDGE_WITHIN
        {
            let reason = format!("the card, or what was asked, has not answered for {} s", JUDGE_WITHIN / 1_000_000);
            self.judged(now, version.sha256, Err(Rejection::new(RejectReason::Unreadable, reason)), out);
        }
    }

    /// When an answer of the card is overdue.
    pub(super) fn patience_ends(&self) -> MonoTime {
        let saving = self.saving.as_ref().map(|(since, _)| since.plus_micros(SAVE_WITHIN));
        let judging = self.judging.as_ref().map(|candidate| candidate.since.plus_micros(JUDGE_WITHIN));
        saving.into_iter().chain(judging).min().unwrap_or(MonoTime(u64::MAX))
    }

    /// The settings in force.
    pub fn in_force(&self) -> Settings {
        let rest = match self.record.rest {
            super::state_record::SafeMode::Good => self.good.as_ref().clone(),
            super::state_record::SafeMode::Safe => super::crash_loop::safe(&self.bootstrap, &self.good),
        };
        let settings = self.trying.as_deref().filter(|_| self.progress.is_some()).cloned().unwrap_or(rest);
        Settings { uplink: self.uplink(&settings), ..settings }
    }

    /// The uplink's settings with every broker that may be tried: on trial only what is tried, of that first what is new; else also
    /// those the device was set up with, so that one living broker is enough.
    fn uplink(&self, settings: &Settings) -> UplinkSettings {
        let mut brokers = settings.uplink.brokers();
        if self.progress.is_some() && self.record.trial().is_some_and(|trial| trial.needs.session) {
            let new = validation::unproven(settings, &self.record.proven);
            let only: Vec<Broker> = brokers.iter().filter(|broker| new.contains(&broker.address())).cloned().collect();
            return settings.uplink.with_brokers(if only.is_empty() { &brokers } else { &only });
        }
        let safe = self.record.rest == super::state_record::SafeMode::Safe;
        let others = if safe { self.good.uplink.brokers() } else { self.bootstrap.uplink.brokers() };
        if self.without != Some(Safeguard::Bootstrap) {
            let more: Vec<Broker> = others.into_iter().filter(|other| !brokers.contains(other)).collect();
            brokers.extend(more);
        }
        settings.uplink.with_brokers(&brokers)
    }

    /// True while a change is under way.
    pub fn is_busy(&self) -> bool {
        self.judging.is_some() || self.record.phase != ConfigPhase::Idle
    }

    /// What differs between what is in force and `next`.
    pub fn change_to(&self, next: &Settings) -> SettingsDiff {
        let force = self.in_force();
        let now = Settings { uplink: self.good.uplink.clone(), ..force };
        SettingsDiff::between(&now, next)
    }

    /// Keeps the record as it is now; `then` follows when it is kept.
    pub(super) fn save(&mut self, then: AfterSave, text: Option<String>, out: &mut Vec<ConfigEffect>) {
        self.waiting.push(then);
        self.waiting_text = text.or(self.waiting_text.take());
        self.save_next(out);
    }

    fn save_next(&mut self, out: &mut Vec<ConfigEffect>) {
        if self.saving.is_some() || self.waiting.is_empty() {
            return;
        }
        self.record.generation += 1;
        self.saving = Some((self.at, std::mem::take(&mut self.waiting)));
        out.push(ConfigEffect::Save(Box::new(self.record.clone()), self.waiting_text.take()));
    }

    fn saved(&mut self, now: Timestamp, generation: u64, outcome: Result<(), String>, out: &mut Vec<ConfigEffect>) {
        if generation != self.record.generation {
            // The answer to one that was dropped. The newer record is behind it in the same queue.
            return;
        }
        if let Err(reason) = &outcome
            && self.unsaved.is_none()
        {
            tracing::error!("the card does not keep the configuration: {reason}");
        }
        self.unsaved = outcome.err();
        for then in self.saving.take().map(|(_, then)| then).unwrap_or_default() {
            self.then(now, then, out);
        }
        self.save_next(out);
    }

    fn then(&mut self, now: Timestamp, then: AfterSave, out: &mut Vec<ConfigEffect>) {
        match then {
            AfterSave::Try => self.start_trial(now, out),
            AfterSave::Apply => self.apply_trial(now.mono, out),
            AfterSave::Committed => self.committed(now, out),
            AfterSave::RolledBack { restart } => self.rolled_back(now, restart, out),
            AfterSave::Refused => out.push(ConfigEffect::Report(self.report())),
            AfterSave::Carry => {
                self.commands = self.commands.saturating_sub(1);
                out.push(ConfigEffect::Carry);
            }
            AfterSave::Nothing => {}
        }
    }

    /// Whether a command may be carried out. `Ok(true)`: when [`ConfigEffect::Carry`] says that its number is kept. `Ok(false)`: now, no key
    /// is enrolled, and this command needs none.
    ///
    /// # Errors
    /// Why not.
    pub fn command(&mut self, now: Timestamp, asked: CommandRequest<'_>, out: &mut Vec<ConfigEffect>) -> Result<bool, Rejection> {
        if self.good.remote.keys.is_empty() || !asked.args.contains_key("sig") {
            return signed_command::unsigned(&self.good.remote.keys, asked).map(|()| false);
        }
        let highest = |key: &str| self.record.commands.get(key).copied().unwrap_or(0);
        let signed = signed_command::check(&self.site, &self.good.remote.keys, asked, now, highest)?;
        if self.commands >= COMMANDS_MAX || !self.signed.take(now.mono) {
            return Err(Rejection::new(RejectReason::Busy, "too many commands at once"));
        }
        self.commands += 1;
        self.record.commands.insert(signed.key, signed.n);
        self.save(AfterSave::Carry, None, out);
        Ok(true)
    }

    /// Each enrolled key, and the highest number it has used: what is not above it need not be verified.
    pub fn signers(&self) -> Vec<(String, u64)> {
        let highest = |id: &String| self.record.commands.get(id).copied().unwrap_or(0);
        self.good.remote.keys.iter().map(|key| key.id()).map(|id| (id.clone(), highest(&id))).collect()
    }

    /// Everything that can be looked at in a stop: it was asked for, so it is no crash.
    fn stop(&mut self, out: &mut Vec<ConfigEffect>) {
        self.record.exits.at.clear();
        self.save(AfterSave::Nothing, None, out);
    }

    /// A hand's work that waited, and the office's answer to what was busy.
    pub(super) fn resume_deferred(&mut self, now: Timestamp, out: &mut Vec<ConfigEffect>) {
        out.push(ConfigEffect::Ask);
        if let Some(found) = self.file.take() {
            self.file(now, found, out);
        }
    }

    /// 32 hex digits nobody can guess.
    pub(super) fn draw(&mut self) -> String {
        self.drawn += 1;
        let mut bytes = self.seed.to_vec();
        bytes.extend(self.drawn.to_be_bytes());
        Digest::of(&bytes).hex()[..32].to_owned()
    }

    /// What the office is reported: always what is true.
    pub fn report(&self) -> Value {
        status_report::reported(self)
    }

    /// What `taimat config show` prints beside the record, and every report carries.
    pub(super) fn keys(&self) -> Value {
        json!(
            self.good
                .remote
                .keys
                .iter()
                .map(|key| json!({"name": key.name, "key": key.id(), "scope": key.scope.as_str()}))
                .collect::<Vec<_>>()
        )
    }
}
