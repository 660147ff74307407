//! Trial of a change: required evidence, time limits, commit and rollback.
//!
//! The time of a trial counts while the device runs, over all boots.
//!
//! | limit | value | reason |
//! |---|---|---|
//! | `remote.trial` | 600 s, 60 to 3600 | for all evidence: office and modem may be slow |
//! | [`PICTURE_WITHIN`] | 60 s | for another camera's first key frame: recording is interrupted until then |
//! | [`SETTLE`] | 1 s | a configuration that crashes a thread does so with the next frames |
//! | [`KEEP_EVERY`] | 30 s | interval of saves of the elapsed time: a power cut adds at most this to a trial |
//! | [`STREAMED_WITHIN`] | 30 s | durable footage of this age proves that the device recorded before |

use serde::Deserialize;

use super::action::{AfterSave, Applied, ConfigEffect};
use super::mutation::Safeguard;
use super::progress::{KEEP_EVERY, Progress, missing};
use super::rejection::{RejectReason, Rejection};
use super::state_machine::ConfigMachine;
use super::state_record::{ConfigPhase, Needs, Origin, SafeMode, Trial};
use super::status_report;
use crate::settings::Settings;
use crate::settings::diff::SettingsDiff;
use crate::units::{Digest, MonoTime, Timestamp};

/// Microseconds another camera has for its first key frame.
pub const PICTURE_WITHIN: u64 = 60_000_000;
/// Microseconds a change must be in force before it can be committed.
pub const SETTLE: u64 = 1_000_000;
/// Age of the newest durable footage, in microseconds, up to which the device counts as recording.
pub const STREAMED_WITHIN: u64 = 30_000_000;

/// Payload of `dn/config/confirm` (docs/mqtt.md).
#[derive(Debug, Deserialize)]
struct Confirm {
    id: String,
    sha256: Digest,
    nonce: String,
}

impl ConfigMachine {
    /// Required evidence of a change. A remote change needs a session, a local one only when it
    /// changes the uplink. Picture and footage are required when the device had them before.
    pub(super) fn needs(&self, origin: &Origin, change: &SettingsDiff) -> Needs {
        let is_remote = matches!(origin, Origin::Key(_));
        let recorded = self.footage_at.is_some_and(|at| self.at.since(at) < STREAMED_WITHIN);
        Needs {
            session: is_remote || change.uplink,
            picture: self.streams,
            footage: self.streams && recorded,
        }
    }

    /// Adds the elapsed time to the trial.
    pub(super) fn pass(&mut self, now: MonoTime) {
        let passed = now.since(std::mem::replace(&mut self.at, now));
        if let (ConfigPhase::Trial(trial), Some(_)) = (&mut self.record.phase, &self.progress) {
            trial.ran = trial.ran.saturating_add(passed);
        }
    }

    pub(super) fn start_trial(&mut self, now: Timestamp, out: &mut Vec<ConfigEffect>) {
        let ConfigPhase::Staged(trial) = &self.record.phase else {
            return;
        };
        let trial = trial.clone();
        if self.cannot_outlive(&trial, now, out) {
            return;
        }
        self.record.phase = ConfigPhase::Trial(trial);
        out.push(ConfigEffect::Report(self.report()));
        self.save(AfterSave::Apply, None, out);
    }

    /// Rejects a change that needs a restart and is not stored.
    fn cannot_outlive(
        &mut self,
        trial: &Trial,
        now: Timestamp,
        out: &mut Vec<ConfigEffect>,
    ) -> bool {
        let Some(reason) = self.unsaved.clone().filter(|_| trial.restart) else {
            return false;
        };
        self.trying = None;
        let refusal = Rejection::new(
            RejectReason::NotStored,
            format!("it needs a restart, and the card cannot store it: {reason}"),
        );
        self.record.roll_back(refusal.clone(), now.wall.rfc3339());
        self.refuse_trial(trial, refusal, out);
        self.save(AfterSave::Refused, None, out);
        self.resume_deferred(now, out);
        true
    }

    fn refuse_trial(&self, trial: &Trial, refusal: Rejection, out: &mut Vec<ConfigEffect>) {
        tracing::error!(
            id = trial.next.id,
            reason = refusal.line(),
            "configuration rolled back; the last known good one applies"
        );
        out.push(ConfigEffect::Event(status_report::event(
            "rolled_back",
            &trial.next.id,
            Some(trial.next.sha256),
            Some(&refusal),
        )));
    }

    /// Applies the change after its trial is stored.
    pub(super) fn apply_trial(&mut self, now: MonoTime, out: &mut Vec<ConfigEffect>) {
        let (Some(trial), now) = (self.record.trial().cloned(), now.max(self.at)) else {
            return;
        };
        if trial.restart {
            // When the card failed after `staged` was saved, the boot finds `staged` and begins the
            // trial.
            return out.push(ConfigEffect::Restart);
        }
        self.record.phase = ConfigPhase::Trial(Box::new(trial.clone()));
        self.progress = Some(Progress::new(now, !trial.camera));
        if self.switch.disables(Safeguard::LastGood)
            && let Some(trying) = &self.trying
        {
            self.good = trying.clone();
            self.record.committed = trial.next.clone();
        }
        self.apply(true, out);
        out.push(ConfigEffect::Report(self.report()));
    }

    pub(super) fn apply(&mut self, fresh: bool, out: &mut Vec<ConfigEffect>) {
        self.epoch += u64::from(fresh);
        let settings: Settings = self.in_force();
        out.push(ConfigEffect::Apply(Box::new(Applied { settings, epoch: self.epoch, fresh })));
    }

    pub(super) fn session(
        &mut self,
        now: Timestamp,
        epoch: u64,
        broker: (String, u16),
        out: &mut Vec<ConfigEffect>,
    ) {
        if epoch != self.epoch && !self.switch.disables(Safeguard::FreshSession) {
            return;
        }
        let nonce = self.draw();
        // Without an enrolled key the office has no documents to confirm, so a session is enough.
        let enough = self.good.remote.keys.is_empty();
        if let Some(progress) = &mut self.progress {
            progress.confirmed = enough.then(|| broker.clone()).or(progress.confirmed.take());
            progress.session = Some((broker, nonce));
            progress.no_session = None;
        }
        tracing::debug!(mono = now.mono.0, "broker connected under the settings in force");
        out.push(ConfigEffect::Report(self.report()));
    }

    pub(super) fn no_session(&mut self, reason: String) {
        if let Some(progress) = &mut self.progress {
            progress.session = None;
            progress.no_session = Some(reason);
        }
    }

    /// Takes the confirmation of the office; it counts on the session of its nonce.
    pub(super) fn confirm(&mut self, bytes: &[u8]) {
        let Ok(confirm) = serde_json::from_slice::<Confirm>(bytes) else {
            if self.bad_confirms.take(self.at) {
                tracing::warn!(
                    suppressed = self.bad_confirms.dropped(),
                    "confirmation ignored, it is malformed; check the office"
                );
            }
            return;
        };
        let stale = self.switch.disables(Safeguard::FreshSession);
        let (Some(trial), Some(progress)) = (self.record.trial(), &mut self.progress) else {
            return;
        };
        let right = confirm.id == trial.next.id && confirm.sha256 == trial.next.sha256;
        match &progress.session {
            Some((broker, nonce)) if right && *nonce == confirm.nonce => {
                progress.confirmed = Some(broker.clone())
            }
            _ if stale => progress.confirmed = Some((String::new(), 0)),
            _ if self.bad_confirms.take(self.at) => {
                tracing::warn!(
                    suppressed = self.bad_confirms.dropped(),
                    "confirmation ignored, it is for another document or session"
                );
            }
            _ => {}
        }
    }

    pub(super) fn picture(&mut self) {
        self.streams = true;
        if let Some(progress) = &mut self.progress {
            progress.picture = true;
            progress.no_picture = None;
        }
    }

    pub(super) fn no_picture(&mut self, reason: String) {
        self.streams = false;
        if let Some(progress) = &mut self.progress {
            progress.no_picture = Some(reason);
        }
    }

    pub(super) fn footage(&mut self, until: MonoTime) {
        self.footage_at = Some(self.at);
        if let Some(progress) = &mut self.progress {
            progress.footage |= progress.picture && until > progress.applied;
        }
    }

    /// Latest time of the next [`super::action::ConfigInput::Tick`].
    pub fn deadline(&self) -> MonoTime {
        let (ConfigPhase::Trial(trial), Some(progress)) = (&self.record.phase, &self.progress)
        else {
            return self.answer_deadline();
        };
        let end = self.at.plus_micros(trial.limit.saturating_sub(trial.ran));
        let settled = progress.applied.plus_micros(SETTLE);
        let times = [end, progress.applied.plus_micros(PICTURE_WITHIN), progress.keep_at, settled];
        times
            .into_iter()
            .filter(|time| *time > self.at)
            .min()
            .unwrap_or(end)
            .min(self.answer_deadline())
    }

    /// Commits a proven change; rolls back one whose time is over.
    pub(super) fn advance(&mut self, now: Timestamp, out: &mut Vec<ConfigEffect>) {
        let (ConfigPhase::Trial(trial), Some(progress)) = (&self.record.phase, &mut self.progress)
        else {
            return;
        };
        let missing = missing(trial.needs, progress);
        let age = now.mono.since(progress.applied);
        let proven =
            missing.is_empty() && age >= SETTLE || self.switch.disables(Safeguard::Evidence);
        let blind =
            trial.camera && trial.needs.picture && !progress.picture && age >= PICTURE_WITHIN;
        let over = trial.ran >= trial.limit && !self.switch.disables(Safeguard::Deadline);
        if proven {
            return self.commit(now, out);
        }
        if blind || over {
            let within = if over { trial.limit } else { PICTURE_WITHIN } / 1_000_000;
            let refusal = Rejection::new(
                RejectReason::Trial,
                format!("missing after {within} s: {}", missing.join(", ")),
            );
            return self.roll_back(now, refusal, out);
        }
        if now.mono >= progress.keep_at {
            progress.keep_at = now.mono.plus_micros(KEEP_EVERY);
            self.save(AfterSave::Nothing, None, out);
        }
    }

    fn commit(&mut self, now: Timestamp, out: &mut Vec<ConfigEffect>) {
        let (Some(trial), Some(progress)) = (self.record.trial().cloned(), self.progress.take())
        else {
            return;
        };
        let Some(settings) = self.trying.take() else {
            return;
        };
        self.record.commit(trial.next.clone(), now.wall.rfc3339());
        if trial.next.origin == Origin::File && progress.confirmed.is_some() {
            // The file has proven itself, so it is the new bootstrap.
            self.record.bootstrap = trial.next;
            self.bootstrap = settings.clone();
        }
        self.record.proven.extend(progress.confirmed);
        let known = settings.uplink.brokers().into_iter().chain(self.bootstrap.uplink.brokers());
        let known: Vec<(String, u16)> = known.map(|broker| broker.address()).collect();
        self.record.proven.retain(|broker| known.contains(broker));
        self.good = settings;
        self.save(AfterSave::Committed, None, out);
    }

    pub(super) fn committed(&mut self, now: Timestamp, out: &mut Vec<ConfigEffect>) {
        let version = &self.record.committed;
        tracing::info!(id = version.id, "configuration committed");
        out.push(ConfigEffect::Event(status_report::event(
            "committed",
            &version.id,
            Some(version.sha256),
            None,
        )));
        // The next connection may use the bootstrap's brokers again.
        self.apply(false, out);
        out.push(ConfigEffect::Report(self.report()));
        self.resume_deferred(now, out);
    }

    pub(super) fn roll_back(
        &mut self,
        now: Timestamp,
        refusal: Rejection,
        out: &mut Vec<ConfigEffect>,
    ) {
        let Some(trial) = self.record.trial().cloned() else {
            return;
        };
        // A change that was not applied yet needs no restart to undo it.
        let restart = trial.restart && self.progress.is_some();
        self.record.roll_back(refusal.clone(), now.wall.rfc3339());
        self.progress = None;
        self.trying = None;
        self.refuse_trial(&trial, refusal, out);
        self.save(AfterSave::RolledBack { restart }, None, out);
    }

    pub(super) fn rolled_back(
        &mut self,
        now: Timestamp,
        restart: bool,
        out: &mut Vec<ConfigEffect>,
    ) {
        if restart {
            return out.push(ConfigEffect::Restart);
        }
        self.apply(true, out);
        out.push(ConfigEffect::Report(self.report()));
        self.resume_deferred(now, out);
    }

    /// The phase as it stands in reports: `idle` before the first change, later the last outcome.
    pub fn as_str(&self) -> &'static str {
        match (&self.record.phase, self.record.rest, &self.record.last) {
            (ConfigPhase::Staged(_), ..) => "staged",
            (ConfigPhase::Trial(_), ..) => "trial",
            (ConfigPhase::Idle, SafeMode::Safe, _) => "safe_mode",
            (ConfigPhase::Idle, SafeMode::Good, None) => "idle",
            (ConfigPhase::Idle, SafeMode::Good, Some(last)) if last.refusal.is_none() => {
                "committed"
            }
            (ConfigPhase::Idle, SafeMode::Good, Some(last))
                if last.refusal.as_ref().is_some_and(Rejection::is_rollback) =>
            {
                "rolled_back"
            }
            (ConfigPhase::Idle, SafeMode::Good, Some(_)) => "refused",
        }
    }
}
