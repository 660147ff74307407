//! State machine of the configuration: `idle → staged → trial → committed` or rolled back.
//!
//! 1. A document must be signed, new, unexpired, for this device, and replace the running
//!    configuration ([`super::admission`]).
//! 2. Its text is validated with the files that it names ([`ConfigEffect::Judge`]).
//! 3. `staged` is stored with the text.
//! 4. `trial` is stored.
//! 5. The change is applied to the modules that it touches, always with a fresh session with the
//!    broker; or the device restarts under it.
//! 6. A proven change is stored as committed ([`super::trial`]). Otherwise the rollback is stored,
//!    and the last known good configuration is applied.
//!
//! On a card that rejects writes, a change without a restart is tried too: a power cut then
//! restores the configuration before.
//!
//! [`ConfigMachine::handle`] is a pure function of state, time and one input.

use std::sync::Arc;

use serde_json::{Value, json};

use super::action::{AfterSave, Candidate, ConfigEffect, ConfigInput, FileFound};
use super::mutation::Safeguard;
use super::progress::{Progress, missing};
use super::rejection::{RejectReason, Rejection};
use super::signed_command::{self, CommandRequest};
use super::state_record::{ConfigPhase, ConfigState};
use super::status_report;
use super::token_bucket::TokenBucket;
use super::validation;
use crate::fault_switch::FaultSwitch;
use crate::settings::diff::SettingsDiff;
use crate::settings::{Broker, Settings, UplinkSettings};
use crate::units::{Digest, MonoTime, SiteId, Timestamp};

/// Commands that wait for the save of their number at most.
pub const COMMANDS_MAX: usize = 16;
/// Rate limit of validly signed commands: a burst of 50, then 20 a second. An office that watches a
/// device sends a few a minute.
const SIGNED: TokenBucket = TokenBucket::new(50, 50_000);
/// Microseconds of a save at most: a hung card must not delay a rollback for longer. The save may
/// wait in the queue of the configuration thread behind dry runs.
pub const SAVE_WITHIN: u64 = 120_000_000;
/// Microseconds of a validation at most: it reads files and may probe a camera.
pub const JUDGE_WITHIN: u64 = 300_000_000;

/// Settings of the stored configurations at a boot.
#[derive(Debug, Clone)]
pub struct ProvenSettings {
    /// The last known good settings, or their replacement when those cannot be read.
    pub good: Settings,
    /// The settings of the bootstrap.
    pub bootstrap: Settings,
    /// The settings of a trial that continues.
    pub trying: Option<Settings>,
}

/// Counts of rejections for their rate limit.
#[derive(Debug, Clone)]
pub(super) struct RejectionCounts {
    pub(super) since: MonoTime,
    /// Rejections since `since`.
    pub(super) published: u32,
    /// Rejections without an event since the last event.
    pub(super) suppressed: u32,
}

/// The state machine of one device.
#[derive(Debug, Clone)]
pub struct ConfigMachine {
    pub(super) site: SiteId,
    pub(super) record: ConfigState,
    pub(super) good: Arc<Settings>,
    pub(super) bootstrap: Arc<Settings>,
    pub(super) trying: Option<Arc<Settings>>,
    pub(super) progress: Option<Progress>,
    pub(super) judging: Option<Candidate>,
    /// Start of the running save, and the steps after it. `waiting` holds those of the next one.
    saving: Option<(MonoTime, Vec<AfterSave>)>,
    waiting: Vec<AfterSave>,
    waiting_text: Option<String>,
    pub(super) epoch: u64,
    pub(super) streams: bool,
    pub(super) footage_at: Option<MonoTime>,
    pub(super) at: MonoTime,
    /// An edited file that waits for the end of the current change.
    pub(super) file: Option<Box<FileFound>>,
    /// Error of the last save.
    pub(super) unsaved: Option<String>,
    /// Id and rejection of the newest document that was not staged.
    pub(super) refused: Option<(String, Rejection)>,
    /// Fingerprints of rejected documents, oldest first.
    pub(super) reported: Vec<Digest>,
    pub(super) rejections: RejectionCounts,
    commands: usize,
    /// Rate limit of validly signed commands; forged ones take no token.
    signed: TokenBucket,
    /// Confirmations that cannot be read, or mean something else.
    pub(super) bad_confirms: TokenBucket,
    seed: [u8; 32],
    drawn: u64,
    pub(super) switch: FaultSwitch<Safeguard>,
}

impl ConfigMachine {
    /// The state machine after a boot that [`super::crash_loop::note`] has counted. `seed` is 32
    /// random bytes.
    pub fn new(
        record: ConfigState,
        known: ProvenSettings,
        seed: [u8; 32],
        now: Timestamp,
    ) -> ConfigMachine {
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
            reported: Vec::new(),
            rejections: RejectionCounts { since: now.mono, published: 0, suppressed: 0 },
            commands: 0,
            signed: SIGNED,
            bad_confirms: TokenBucket::of_warnings(),
            seed,
            drawn: 0,
            switch: FaultSwitch::NONE,
            record,
        };
        if let Some(trial) = machine.record.trial().filter(|_| machine.trying.is_some()) {
            // A new process must give all evidence again.
            machine.progress = Some(Progress::new(now.mono, !trial.needs.picture));
        }
        machine
    }

    /// The state machine without one safeguard, for simulated worlds.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn without(self, safeguard: Option<Safeguard>) -> ConfigMachine {
        ConfigMachine { switch: FaultSwitch::only(safeguard), ..self }
    }

    /// The state.
    pub fn record(&self) -> &ConfigState {
        &self.record
    }

    /// Records that the boot could not be stored.
    pub fn set_unsaved(&mut self, reason: String) {
        self.unsaved = Some(reason);
    }

    /// Handles one input and appends its effects to `out`.
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

    /// Treats an overdue save or validation as failed: a hung card must not prevent a rollback.
    fn abandon_change(&mut self, now: Timestamp, out: &mut Vec<ConfigEffect>) {
        if self.switch.disables(Safeguard::CardDeadline) {
            return;
        }
        if self.saving.as_ref().is_some_and(|(since, _)| now.mono.since(*since) >= SAVE_WITHIN) {
            let reason = format!("no answer for {} s", SAVE_WITHIN / 1_000_000);
            self.saved(now, self.record.generation, Err(reason), out);
        }
        if let Some(Candidate { version, since, .. }) = &self.judging
            && now.mono.since(*since) >= JUDGE_WITHIN
        {
            let reason =
                format!("card or camera did not answer for {} s", JUDGE_WITHIN / 1_000_000);
            self.judged(
                now,
                version.sha256,
                Err(Rejection::new(RejectReason::Unreadable, reason)),
                out,
            );
        }
    }

    /// Time at which the running save or validation is overdue.
    pub(super) fn answer_deadline(&self) -> MonoTime {
        let saving = self.saving.as_ref().map(|(since, _)| since.plus_micros(SAVE_WITHIN));
        let judging =
            self.judging.as_ref().map(|candidate| candidate.since.plus_micros(JUDGE_WITHIN));
        saving.into_iter().chain(judging).min().unwrap_or(MonoTime(u64::MAX))
    }

    /// The settings in force.
    pub fn in_force(&self) -> Settings {
        let rest = match self.record.rest {
            super::state_record::SafeMode::Good => self.good.as_ref().clone(),
            super::state_record::SafeMode::Safe => {
                super::crash_loop::safe(&self.bootstrap, &self.good)
            }
        };
        let settings =
            self.trying.as_deref().filter(|_| self.progress.is_some()).cloned().unwrap_or(rest);
        Settings { uplink: self.uplink(&settings), ..settings }
    }

    /// The uplink settings with the brokers to try. A trial uses only its new brokers, or all of
    /// its own when none is new. Otherwise the bootstrap's brokers follow, so that one living
    /// broker is enough.
    fn uplink(&self, settings: &Settings) -> UplinkSettings {
        let mut brokers = settings.uplink.brokers();
        if self.progress.is_some() && self.record.trial().is_some_and(|trial| trial.needs.session) {
            let new = validation::unproven(settings, &self.record.proven);
            let only: Vec<Broker> =
                brokers.iter().filter(|broker| new.contains(&broker.address())).cloned().collect();
            return settings.uplink.with_brokers(if only.is_empty() { &brokers } else { &only });
        }
        let safe = self.record.rest == super::state_record::SafeMode::Safe;
        let others =
            if safe { self.good.uplink.brokers() } else { self.bootstrap.uplink.brokers() };
        if !self.switch.disables(Safeguard::Bootstrap) {
            let more: Vec<Broker> =
                others.into_iter().filter(|other| !brokers.contains(other)).collect();
            brokers.extend(more);
        }
        settings.uplink.with_brokers(&brokers)
    }

    /// True during a change.
    pub fn is_busy(&self) -> bool {
        self.judging.is_some() || self.record.phase != ConfigPhase::Idle
    }

    /// Difference between the settings in force and `next`.
    pub fn change_to(&self, next: &Settings) -> SettingsDiff {
        let force = self.in_force();
        let now = Settings { uplink: self.good.uplink.clone(), ..force };
        SettingsDiff::between(&now, next)
    }

    /// Saves the record; `then` follows after the save.
    pub(super) fn save(
        &mut self,
        then: AfterSave,
        text: Option<String>,
        out: &mut Vec<ConfigEffect>,
    ) {
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

    fn saved(
        &mut self,
        now: Timestamp,
        generation: u64,
        outcome: Result<(), String>,
        out: &mut Vec<ConfigEffect>,
    ) {
        if generation != self.record.generation {
            // This save was abandoned; a newer one follows it in the queue.
            return;
        }
        if let Err(reason) = &outcome
            && self.unsaved.is_none()
        {
            tracing::error!(
                reason,
                "configuration not stored, the card rejects writes; check the card"
            );
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
            AfterSave::Refused => {
                out.push(ConfigEffect::Report(self.report()));
                self.resume_file(now, out);
            }
            AfterSave::Carry => {
                self.commands = self.commands.saturating_sub(1);
                out.push(ConfigEffect::Carry);
            }
            AfterSave::Nothing => {}
        }
    }

    /// Checks the permission for a command. `Ok(true)`: execute it at [`ConfigEffect::Carry`],
    /// after its number is stored. `Ok(false)`: execute it now; it needs no signature.
    ///
    /// # Errors
    /// The rejection.
    pub fn command(
        &mut self,
        now: Timestamp,
        asked: CommandRequest<'_>,
        out: &mut Vec<ConfigEffect>,
    ) -> Result<bool, Rejection> {
        if self.good.remote.keys.is_empty() || !asked.args.contains_key("sig") {
            return signed_command::unsigned(&self.good.remote.keys, asked).map(|()| false);
        }
        let highest = |key: &str| self.record.commands.get(key).copied().unwrap_or(0);
        let signed =
            signed_command::check(&self.site, &self.good.remote.keys, asked, now, highest)?;
        if self.commands >= COMMANDS_MAX || !self.signed.take(now.mono) {
            return Err(Rejection::new(RejectReason::Busy, "too many commands at once"));
        }
        self.commands += 1;
        self.record.commands.insert(signed.key, signed.n);
        self.save(AfterSave::Carry, None, out);
        Ok(true)
    }

    /// Each enrolled key with its highest command number. A command at or below it is a replay, so
    /// its signature need not be verified.
    pub fn signers(&self) -> Vec<(String, u64)> {
        let highest = |id: &String| self.record.commands.get(id).copied().unwrap_or(0);
        self.good
            .remote
            .keys
            .iter()
            .map(|key| key.id())
            .map(|id| (id.clone(), highest(&id)))
            .collect()
    }

    /// Clears the crash counter: a requested stop is not a crash.
    fn stop(&mut self, out: &mut Vec<ConfigEffect>) {
        self.record.exits.at.clear();
        self.record.exits.stopped = true;
        self.save(AfterSave::Nothing, None, out);
    }

    /// Resumes a deferred local edit, and requests the document that was rejected as busy.
    pub(super) fn resume_deferred(&mut self, now: Timestamp, out: &mut Vec<ConfigEffect>) {
        out.push(ConfigEffect::Ask);
        self.resume_file(now, out);
    }

    fn resume_file(&mut self, now: Timestamp, out: &mut Vec<ConfigEffect>) {
        if let Some(found) = self.file.take() {
            self.file(now, found, out);
        }
    }

    /// A nonce: 32 unpredictable hexadecimal digits.
    pub(super) fn draw(&mut self) -> String {
        self.drawn += 1;
        let mut bytes = self.seed.to_vec();
        bytes.extend(self.drawn.to_be_bytes());
        Digest::of(&bytes).hex()[..32].to_owned()
    }

    /// Payload of `up/config/reported` (docs/mqtt.md).
    pub fn report(&self) -> Value {
        let record = self.record();
        let on_trial = self.progress.as_ref().and(record.trial());
        let in_force = on_trial.map_or(&record.committed, |trial| &trial.next);
        let mut value = json!({
            "v": 1, "id": in_force.id, "version": in_force.version, "sha256": in_force.sha256, "origin": in_force.origin,
            "phase": self.as_str(), "committed": status_report::brief(&record.committed), "older": record.older.iter().map(status_report::brief).collect::<Vec<_>>(),
            "bootstrap": record.bootstrap.sha256, "file": record.file, "keys": self.keys(), "seen": record.seen,
            "stored": self.unsaved.is_none(),
        });
        if let Some(reason) = &self.unsaved {
            value["not_stored"] = json!(reason);
        }
        if let Some(trial) = record.trial() {
            value["trial"] = json!({"id": trial.next.id, "sha256": trial.next.sha256, "version": trial.next.version,
                "restart": trial.restart, "starts": trial.starts, "left_s": trial.limit.saturating_sub(trial.ran) / 1_000_000});
            if let (ConfigPhase::Trial(_), Some(progress)) = (&record.phase, &self.progress) {
                value["trial"]["missing"] = json!(missing(trial.needs, progress));
                value["nonce"] = json!(progress.session.as_ref().map(|(_, nonce)| nonce));
            }
        }
        if let Some(last) = &record.last {
            value["last"] = json!({"id": last.next.id, "sha256": last.next.sha256, "version": last.next.version, "at": last.at,
                "refusal": last.refusal});
        }
        if let Some((id, refusal)) = &self.refused {
            value["refused"] = json!({"id": id, "refusal": refusal});
        }
        value
    }

    /// The enrolled keys, for reports and `taimat config show`.
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
