//! Admission of a change: a signed document, an edited file or a rollback is staged or rejected.

use std::sync::Arc;

use serde_json::json;

use super::action::{AfterSave, Candidate, ConfigEffect, FileFound};
use super::mutation::Safeguard;
use super::rejection::{RejectReason, Rejection};
use super::signed_document::Document;
use super::state_machine::ConfigMachine;
use super::state_record::{ChangeOutcome, ConfigPhase, ConfigVersion, Origin, Trial};
use super::status_report;
use super::validation::{self, CurrentConfig};
use crate::settings::Settings;
use crate::units::{Digest, MonoTime, Timestamp};

/// Rejections published as events in a minute at most; the next event counts the others.
const REJECTIONS_MAX: u32 = 20;
/// Microseconds of that minute.
const REJECTIONS_WITHIN: u64 = 60_000_000;
/// Rejected documents remembered: a retained document arrives with every connection and is reported
/// once.
const REPORTED_MAX: usize = 16;

impl ConfigMachine {
    pub(super) fn document(
        &mut self,
        now: Timestamp,
        bytes: &[u8],
        len: usize,
        out: &mut Vec<ConfigEffect>,
    ) {
        let fingerprint = Digest::of(format!("{len} {}", Digest::of(bytes).hex()).as_bytes());
        let document = match self.acceptable(now, bytes, len) {
            Ok(Some(document)) => document,
            Ok(None) => return,
            Err((id, refusal)) => {
                if !self.reported.contains(&fingerprint) {
                    self.reported.push(fingerprint);
                    self.reported.drain(..self.reported.len().saturating_sub(REPORTED_MAX));
                    self.refuse(&id, refusal, out);
                }
                return;
            }
        };
        let version = version_of(&document, now);
        tracing::info!(
            id = version.id,
            "configuration received, the signature is valid; it is validated next"
        );
        self.judge(version, Some(document.config), out);
    }

    /// A document to validate; `None` for one that was validated before.
    fn acceptable(
        &self,
        now: Timestamp,
        bytes: &[u8],
        len: usize,
    ) -> Result<Option<Document>, (String, Rejection)> {
        let document = Document::decode(bytes, len).map_err(|refusal| ("?".to_owned(), refusal))?;
        let key = document.authentic(&self.site, &self.good.remote.keys).map_err(|refusal| {
            // A key outside its scope has signed this document for this device, so the id names the
            // key. With any other rejection the signer is unproven, and the id must not name one.
            let signature = document.sig.as_ref().filter(|_| refusal.why == RejectReason::Scope);
            (id_of(signature.map_or("?", |signature| &signature.key), document.version), refusal)
        })?;
        let id = id_of(&key, document.version);
        let judged = self.judging.as_ref().map(|candidate| &candidate.version);
        let last = self.record.last.as_ref().map(|last| &last.next);
        let trying = self.record.trial().map(|trial| &trial.next);
        let known = [judged, last, trying, Some(&self.record.committed)].into_iter().flatten();
        if known.into_iter().any(|known| known.id == id && known.sha256 == document.sha256()) {
            // A retained document arrives with every connection.
            return Ok(None);
        }
        let highest = self.record.seen.get(&key).copied().unwrap_or(0);
        let was_rejected = self.record.rejected.get(&key) == Some(&document.sha256());
        let was_in_force =
            self.record.older.iter().any(|old| old.id == id && old.sha256 == document.sha256());
        if document.version <= highest
            && (was_rejected && document.version == highest || was_in_force)
        {
            return Ok(None);
        }
        let running = self.record.committed.sha256;
        let refusal = if document.version <= highest {
            Rejection::new(
                RejectReason::Replayed,
                format!("version {} is not higher than {highest}", document.version),
            )
        } else if let Err(refusal) = document.in_time(now) {
            refusal
        } else if self.is_busy() {
            Rejection::new(RejectReason::Busy, "another change is under way")
        } else if document.prev_sha256 != running {
            Rejection::new(
                RejectReason::Stale,
                format!(
                    "it replaces {}, this device runs {}",
                    document.prev_sha256.hex(),
                    running.hex()
                ),
            )
        } else {
            return Ok(Some(document));
        };
        Err((id, refusal))
    }

    /// Reports a rejection before the trial.
    pub(super) fn refuse(&mut self, id: &str, refusal: Rejection, out: &mut Vec<ConfigEffect>) {
        if let Some(suppressed_count) = self.may_publish_rejection() {
            tracing::warn!(
                id,
                suppressed_count,
                reason = refusal.line(),
                "configuration rejected before its trial; the running one stays"
            );
            let mut data = status_report::event("refused", id, None, Some(&refusal));
            if suppressed_count > 0 {
                data["suppressed_count"] = json!(suppressed_count);
            }
            out.push(ConfigEffect::Event(data));
        }
        self.refused = Some((id.to_owned(), refusal));
        out.push(ConfigEffect::Report(self.report()));
    }

    /// The number of rejections without an event since the last one; `None` over the limit. A
    /// stranger who reaches the broker must not fill the outbox.
    fn may_publish_rejection(&mut self) -> Option<u32> {
        let counts = &mut self.rejections;
        if self.at.since(counts.since) >= REJECTIONS_WITHIN {
            counts.since = self.at;
            counts.published = 0;
        }
        counts.published += 1;
        let is_allowed = counts.published <= REJECTIONS_MAX;
        counts.suppressed += u32::from(!is_allowed);
        is_allowed.then(|| std::mem::take(&mut counts.suppressed))
    }

    fn judge(&mut self, version: ConfigVersion, text: Option<String>, out: &mut Vec<ConfigEffect>) {
        let sha256 = version.sha256;
        self.judging = Some(Candidate { version, text: text.clone(), since: self.at });
        let probe = self.streams.then(|| Box::new(self.in_force()));
        out.push(ConfigEffect::Judge { text, sha256, probe });
    }

    pub(super) fn judged(
        &mut self,
        now: Timestamp,
        sha256: Digest,
        outcome: Result<Box<Settings>, Rejection>,
        out: &mut Vec<ConfigEffect>,
    ) {
        let Some(Candidate { version, text, .. }) =
            self.judging.take_if(|candidate| candidate.version.sha256 == sha256)
        else {
            return;
        };
        if let Origin::Key(key) = &version.origin {
            // The version counts as used, so that a replay of the document is rejected.
            self.record.seen.insert(key.clone(), version.version);
        }
        let against = CurrentConfig { good: &self.good, proven: &self.record.proven };
        let continuity = |settings: Box<Settings>| match validation::check_continuity(
            &settings,
            against,
            &version.origin,
        ) {
            Err(_) if self.switch.disables(Safeguard::KeyOverlap) => Ok(settings),
            checked => checked.map(|()| settings),
        };
        match outcome.and_then(continuity) {
            Ok(settings) => self.stage(version, *settings, text, out),
            Err(refusal) => {
                self.record.note_rejected(&version);
                self.record.last = Some(ChangeOutcome {
                    next: version.clone(),
                    refusal: Some(refusal.clone()),
                    at: now.wall.rfc3339(),
                });
                self.refuse(&version.id, refusal, out);
                self.save(AfterSave::Refused, None, out);
            }
        }
    }

    /// Stores the change before its trial.
    fn stage(
        &mut self,
        next: ConfigVersion,
        settings: Settings,
        text: Option<String>,
        out: &mut Vec<ConfigEffect>,
    ) {
        let change = self.change_to(&settings);
        let restart = !change.restart.is_empty() || settings.site != self.site;
        let trial = Trial {
            needs: self.needs(&next.origin, &change),
            starts: 0,
            ran: 0,
            limit: self.good.remote.trial.saturating_mul(1_000_000),
            camera: change.camera,
            restart,
            next,
        };
        let event = status_report::staged(&trial.next, &change);
        let brokers = change.tried_brokers(&settings);
        tracing::info!(id = trial.next.id, groups = ?change.section_names(), brokers, restart = ?change.restart, "configuration staged; its trial follows");
        self.record.phase = ConfigPhase::Staged(Box::new(trial));
        self.refused = None;
        self.trying = Some(Arc::new(settings));
        out.push(ConfigEffect::Event(event));
        if self.switch.disables(Safeguard::JournalFirst) {
            return self.apply_trial(MonoTime(0), out);
        }
        self.save(AfterSave::Try, text, out);
    }

    pub(super) fn file(
        &mut self,
        now: Timestamp,
        found: Box<FileFound>,
        out: &mut Vec<ConfigEffect>,
    ) {
        let sha256 = Digest::of(found.text.as_bytes());
        if self.is_busy() {
            return self.file_during_change(now, sha256, found, out);
        }
        if sha256 == self.record.file {
            return;
        }
        self.record.file = sha256;
        let version = ConfigVersion::of_file(sha256, now.wall.rfc3339());
        match found.outcome {
            Ok(_) if sha256 == self.record.committed.sha256 => {
                tracing::info!(id = version.id, "the configuration file is the one in force again");
                self.save(AfterSave::Nothing, None, out)
            }
            Ok(settings) => self.stage(version, *settings, Some(found.text), out),
            Err(refusal) => {
                self.refuse(&version.id, refusal, out);
                self.save(AfterSave::Nothing, None, out);
            }
        }
    }

    /// A newer edit ends the trial of an older one: who mistyped an address and corrects it does not
    /// wait for the rollback without pictures. A bad edit, which may be half written, and one during a
    /// change of the office wait for the end.
    fn file_during_change(
        &mut self,
        now: Timestamp,
        sha256: Digest,
        found: Box<FileFound>,
        out: &mut Vec<ConfigEffect>,
    ) {
        let trial = self.record.trial().filter(|trial| trial.next.origin == Origin::File);
        match (trial, &found.outcome) {
            (Some(trial), _) if trial.next.sha256 == sha256 => self.file = None,
            (Some(_), Ok(_)) => {
                self.file = Some(found);
                let detail = "the configuration file was edited again during its trial";
                self.roll_back(now, Rejection::new(RejectReason::Replaced, detail), out);
            }
            (_, outcome) => {
                let problem = outcome.as_ref().err().map(Rejection::line).unwrap_or_default();
                tracing::warn!(
                    problem,
                    "the configuration file was edited during a change; it is judged after the end of that change"
                );
                self.file = Some(found);
            }
        }
    }

    pub(super) fn call_back(&mut self, now: Timestamp, nth: usize, out: &mut Vec<ConfigEffect>) {
        let Some(old) = self.record.older.get(nth).filter(|_| !self.is_busy()) else {
            let detail = if self.is_busy() {
                "another change is under way"
            } else {
                "no older configuration has this number"
            };
            return self.refuse("rollback", Rejection::new(RejectReason::Busy, detail), out);
        };
        let version = old.called_back(now.wall.rfc3339());
        self.judge(version, None, out);
    }
}

fn id_of(key: &str, version: u64) -> String {
    format!("{key}-{version}")
}

fn version_of(document: &Document, now: Timestamp) -> ConfigVersion {
    let key = document.sig.as_ref().map(|signature| signature.key.clone()).unwrap_or_default();
    let (version, sha256) = (document.version, document.sha256());
    ConfigVersion {
        id: id_of(&key, version),
        version,
        sha256,
        origin: Origin::Key(key),
        at: now.wall.rfc3339(),
    }
}
