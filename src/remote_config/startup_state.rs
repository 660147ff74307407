//! Boot over any [`Files`]: load or make the record, count the boot, take an edited file on trial.
//!
//! A simulated world boots through the same code as a device.

use super::crash_loop::{self, BootDecision};
use super::local_edit;
use super::mutation::Safeguard;
use super::rejection::{RejectReason, Rejection};
use super::state_machine::ProvenSettings;
use super::state_record::{ConfigPhase, ConfigState, ConfigVersion, Needs, Trial};
use super::state_store::{self, Files};
use super::validation;
use crate::fault_switch::FaultSwitch;
use crate::settings::Settings;
use crate::settings::diff::SettingsDiff;
use crate::settings::parse::{self, Problem, Problems, ReadFile};
use crate::units::Digest;

/// Input of a boot.
pub struct FoundFiles<'a> {
    /// Files of the record.
    pub files: &'a dyn Files,
    /// Files that survive the process but not a reboot. Exits are counted there too, so that a card
    /// that rejects writes cannot hide a crash loop.
    pub volatile: Option<&'a dyn Files>,
    /// Text of the configuration file, or the error of reading it.
    pub file: Result<String, String>,
    /// Name of the configuration file, for messages.
    pub name: String,
    /// Reads the files that a configuration names.
    pub read: ReadFile<'a>,
    /// Identity of the boot.
    pub start: BootDecision,
    /// The safeguard that a simulation removes.
    pub switch: FaultSwitch<Safeguard>,
}

/// Result of a boot.
pub struct StartupState {
    /// The record with this boot; stored unless `unsaved` is set.
    pub record: ConfigState,
    /// Settings of the configurations in the record.
    pub known: ProvenSettings,
    /// Rejection of the configuration file.
    pub refused: Option<Rejection>,
    /// Error of storing the record.
    pub unsaved: Option<String>,
    /// The process ended in order before this boot.
    pub stopped: bool,
}

/// Boots.
///
/// # Errors
/// The bad keys of the configuration file, when no last known good configuration exists.
pub fn prepare(found: &FoundFiles<'_>) -> Result<StartupState, Problems> {
    let mut unsaved = None;
    let record = match state_store::load(found.files) {
        Some(record) => record,
        None => found.first(&mut unsaved)?,
    };
    let mut record = record;
    if let Some(exits) = found.volatile.and_then(state_store::exits) {
        record.exits = exits;
    }
    let stopped = std::mem::take(&mut record.exits.stopped);
    let (record, refused) = found.noted(record, &mut unsaved);
    let (record, known) = found.known(record)?;
    state_store::heal(found.files, &record);
    Ok(StartupState { record, known, refused, unsaved, stopped })
}

impl FoundFiles<'_> {
    fn unreadable(&self, reason: &str) -> Problems {
        Problems(vec![Problem { key: self.name.clone(), reason: reason.to_owned() }])
    }

    /// A new record, for a device without one or with two damaged copies.
    fn first(&self, unsaved: &mut Option<String>) -> Result<ConfigState, Problems> {
        let text = self.file.as_ref().map_err(|reason| self.unreadable(reason))?;
        let settings = parse::parse(text, self.read)?;
        let proven = settings.uplink.brokers().iter().map(|broker| broker.address()).collect();
        let record =
            ConfigState::of_file(Digest::of(text.as_bytes()), self.start.at.clone(), proven);
        *unsaved = state_store::save(self.files, &record, Some(text)).err();
        Ok(record)
    }

    /// Counts the boot, and takes an edited file on trial.
    fn noted(
        &self,
        mut record: ConfigState,
        unsaved: &mut Option<String>,
    ) -> (ConfigState, Option<Rejection>) {
        crash_loop::note(&mut record, &self.start, self.switch);
        self.volatile.into_iter().for_each(|volatile| state_store::save_exits(volatile, &record));
        let (text, refused) = self.edited(&mut record);
        if let Err(reason) = state_store::save(self.files, &record, text.as_deref()) {
            tracing::error!(
                reason,
                "boot not recorded, the card rejects writes; a trial is rolled back"
            );
            if !self.switch.disables(Safeguard::CountedStart) {
                crash_loop::not_noted(&mut record, &reason, &self.start.at);
            }
            *unsaved = Some(reason);
        }
        (record, refused)
    }

    /// Takes an edited file on trial, unless another change is.
    fn edited(&self, record: &mut ConfigState) -> (Option<String>, Option<Rejection>) {
        let Ok(text) = &self.file else {
            return (None, None);
        };
        let sha256 = Digest::of(text.as_bytes());
        if record.phase != ConfigPhase::Idle || sha256 == record.file {
            return (None, None);
        }
        let judged = validation::judge(text, self.read);
        if judged.is_ok() {
            local_edit::warn(self.files, record, text);
        }
        record.file = sha256;
        let settings = match judged {
            Ok(_) if sha256 == record.committed.sha256 => return (None, None),
            Ok(settings) => settings,
            Err(refusal) => return (None, Some(refusal)),
        };
        let good = self.parse(&record.committed);
        let change =
            good.as_ref().map(|good| SettingsDiff::between(good, &settings)).unwrap_or_default();
        let limit = good.map_or(settings.remote.trial, |good| good.remote.trial) * 1_000_000;
        let needs = Needs { session: change.uplink, ..Needs::default() };
        let next = ConfigVersion::of_file(sha256, self.start.at.clone());
        let brokers = change.tried_brokers(&settings);
        tracing::info!(id = next.id, groups = ?change.section_names(), brokers, "configuration file edited; its trial begins");
        record.phase = ConfigPhase::Trial(Box::new(Trial {
            next,
            starts: 1,
            ran: 0,
            limit,
            needs,
            camera: change.camera,
            restart: true,
        }));
        (Some(text.clone()), None)
    }

    fn parse(&self, version: &ConfigVersion) -> Option<Settings> {
        parse::parse(&state_store::text(self.files, &version.sha256)?, self.read).ok()
    }

    /// The settings of the configurations in the record. The one before replaces a configuration
    /// that can no longer be read, for example because a file it names is gone.
    fn known(&self, mut record: ConfigState) -> Result<(ConfigState, ProvenSettings), Problems> {
        let local = self
            .file
            .as_ref()
            .map_err(|reason| self.unreadable(reason))
            .and_then(|text| parse::parse(text, self.read));
        let kept = [&record.committed].into_iter().chain(&record.older).chain([&record.bootstrap]);
        let good = kept.into_iter().find_map(|version| self.parse(version));
        let bootstrap = self.parse(&record.bootstrap);
        let known = match (good, bootstrap, local) {
            (Some(good), bootstrap, local) => {
                let bootstrap = bootstrap.or(local.ok()).unwrap_or_else(|| good.clone());
                ProvenSettings { good, bootstrap, trying: None }
            }
            (None, _, Ok(local)) => {
                ProvenSettings { good: local.clone(), bootstrap: local, trying: None }
            }
            (None, _, Err(problems)) => return Err(problems),
        };
        let trying = record.trial().and_then(|trial| self.parse(&trial.next));
        if record.trial().is_some() && trying.is_none() {
            record.roll_back(
                Rejection::new(RejectReason::Trial, "its text or a file it names cannot be read"),
                self.start.at.clone(),
            );
        }
        Ok((record, ProvenSettings { trying, ..known }))
    }
}
