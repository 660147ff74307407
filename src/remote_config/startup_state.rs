//! What a device starts with, from what is kept and from its file: over any [`Files`], so that a simulated world starts like a real one.
//!
//! What belongs here: the order of reading, noting and choosing. What does not: the table of starts ([`super::crash_loop`]), real files
//! ([`super::startup`]).

use super::crash_loop::{self, BootDecision};
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

/// What a start has to go by.
pub struct FoundFiles<'a> {
    /// Where records are kept.
    pub files: &'a dyn Files,
    /// What outlives the process but not the run of the kernel: exits are counted there too, so that a card that takes nothing cannot
    /// hide a crash loop.
    pub volatile: Option<&'a dyn Files>,
    /// The file's text, or why it cannot be read.
    pub file: Result<String, String>,
    /// Its name, for messages.
    pub name: String,
    /// Reads what texts name.
    pub read: ReadFile<'a>,
    /// Which start this is.
    pub start: BootDecision,
    /// A promise that is taken away, in simulated worlds.
    pub switch: FaultSwitch<Safeguard>,
}

/// What it goes by.
pub struct StartupState {
    /// Noted, as far as the card takes notes.
    pub record: ConfigState,
    /// The settings it speaks of.
    pub known: ProvenSettings,
    /// What is wrong with the file.
    pub refused: Option<Rejection>,
    /// Why the note was not kept.
    pub unsaved: Option<String>,
}

/// Prepares a start.
///
/// # Errors
/// When there is nothing to run: no configuration that was ever good, and every bad key of the file.
pub fn prepare(found: &FoundFiles<'_>) -> Result<StartupState, Problems> {
    let mut unsaved = None;
    let record = match state_store::load(found.files) {
        Some(record) => record,
        None => found.first(&mut unsaved)?,
    };
    let (record, refused) = found.noted(record, &mut unsaved);
    let (record, known) = found.known(record)?;
    state_store::heal(found.files, &record);
    Ok(StartupState { record, known, refused, unsaved })
}

impl FoundFiles<'_> {
    fn unreadable(&self, reason: &str) -> Problems {
        Problems(vec![Problem { key: self.name.clone(), reason: reason.to_owned() }])
    }

    /// The record of a device that never had one, or lost both copies.
    fn first(&self, unsaved: &mut Option<String>) -> Result<ConfigState, Problems> {
        let text = self.file.as_ref().map_err(|reason| self.unreadable(reason))?;
        let settings = parse::parse(text, self.read)?;
        let proven = settings.uplink.brokers().iter().map(|broker| broker.address()).collect();
        let record = ConfigState::of_file(Digest::of(text.as_bytes()), self.start.at.clone(), proven);
        *unsaved = state_store::save(self.files, &record, Some(text)).err();
        Ok(record)
    }

    /// Notes the start, and the file if a hand has edited it.
    fn noted(&self, mut record: ConfigState, unsaved: &mut Option<String>) -> (ConfigState, Option<Rejection>) {
        if let Some(exits) = self.volatile.and_then(state_store::exits) {
            record.exits = exits;
        }
        crash_loop::note(&mut record, &self.start, self.switch);
        self.volatile.into_iter().for_each(|volatile| state_store::save_exits(volatile, &record));
        let (text, refused) = self.edited(&mut record);
        if let Err(reason) = state_store::save(self.files, &record, text.as_deref()) {
            tracing::error!("this start cannot be written down: {reason}");
            if !self.switch.disables(Safeguard::CountedStart) {
                crash_loop::not_noted(&mut record, &reason, &self.start.at);
            }
            *unsaved = Some(reason);
        }
        (record, refused)
    }

    /// A file that is another than before is on trial from this start on, unless something else is.
    fn edited(&self, record: &mut ConfigState) -> (Option<String>, Option<Rejection>) {
        let Ok(text) = &self.file else {
            return (None, None);
        };
        let sha256 = Digest::of(text.as_bytes());
        if record.phase != ConfigPhase::Idle || sha256 == record.file {
            return (None, None);
        }
        record.file = sha256;
        let settings = match validation::judge(text, self.read) {
            Ok(_) if sha256 == record.committed.sha256 => return (None, None),
            Ok(settings) => settings,
            Err(refusal) => return (None, Some(refusal)),
        };
        let good = self.parse(&record.committed);
        let change = good.as_ref().map(|good| SettingsDiff::between(good, &settings)).unwrap_or_default();
        let limit = good.map_or(settings.remote.trial, |good| good.remote.trial) * 1_000_000;
        let needs = Needs { session: change.uplink, ..Needs::default() };
        let next = ConfigVersion::of_file(sha256, self.start.at.clone());
        tracing::info!(id = next.id, groups = ?change.section_names(), "the file was edited: it is on trial");
        record.phase =
            ConfigPhase::Trial(Box::new(Trial { next, starts: 1, ran: 0, limit, needs, camera: change.camera, restart: true }));
        (Some(text.clone()), None)
    }

    fn parse(&self, version: &ConfigVersion) -> Option<Settings> {
        parse::parse(&state_store::text(self.files, &version.sha256)?, self.read).ok()
    }

    /// The settings the record speaks of. One that cannot be read any more (a file it names is gone) gives way to the one before it.
    fn known(&self, mut record: ConfigState) -> Result<(ConfigState, ProvenSettings), Problems> {
        let by_hand = self.file.as_ref().map_err(|reason| self.unreadable(reason)).and_then(|text| parse::parse(text, self.read));
        let kept = [&record.committed].into_iter().chain(&record.older).chain([&record.bootstrap]);
        let good = kept.into_iter().find_map(|version| self.parse(version));
        let bootstrap = self.parse(&record.bootstrap);
        let known = match (good, bootstrap, by_hand) {
            (Some(good), bootstrap, by_hand) => {
                let bootstrap = bootstrap.or(by_hand.ok()).unwrap_or_else(|| good.clone());
                ProvenSettings { good, bootstrap, trying: None }
            }
            (None, _, Ok(by_hand)) => ProvenSettings { good: by_hand.clone(), bootstrap: by_hand, trying: None },
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
