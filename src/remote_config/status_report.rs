//! Reports to the office: `up/config/reported` and `config` events, without secrets.

use serde_json::{Value, json};

use super::rejection::Rejection;
use super::state_machine::ConfigMachine;
use super::state_record::{ConfigPhase, ConfigVersion};
use super::trial::missing;
use crate::settings::diff::SettingsDiff;
use crate::units::Digest;

/// Bad keys in one event at most: an event fits one journal slot.
const EVENT_KEYS: usize = 6;
/// Characters of a key or reason in an event at most.
const EVENT_REASON: usize = 160;

/// Payload of `up/config/reported` (docs/mqtt.md).
pub fn reported(machine: &ConfigMachine) -> Value {
    let record = machine.record();
    let on_trial = machine.progress.as_ref().and(record.trial());
    let in_force = on_trial.map_or(&record.committed, |trial| &trial.next);
    let mut value = json!({
        "v": 1, "id": in_force.id, "version": in_force.version, "sha256": in_force.sha256, "origin": in_force.origin,
        "phase": machine.as_str(), "committed": brief(&record.committed), "older": record.older.iter().map(brief).collect::<Vec<_>>(),
        "bootstrap": record.bootstrap.sha256, "file": record.file, "keys": machine.keys(), "seen": record.seen,
        "stored": machine.unsaved.is_none(),
    });
    if let Some(reason) = &machine.unsaved {
        value["not_stored"] = json!(reason);
    }
    if let Some(trial) = record.trial() {
        value["trial"] = json!({"id": trial.next.id, "sha256": trial.next.sha256, "version": trial.next.version,
            "restart": trial.restart, "starts": trial.starts, "left_s": trial.limit.saturating_sub(trial.ran) / 1_000_000});
        if let (ConfigPhase::Trial(_), Some(progress)) = (&record.phase, &machine.progress) {
            value["trial"]["missing"] = json!(missing(trial.needs, progress));
            value["nonce"] = json!(progress.session.as_ref().map(|(_, nonce)| nonce));
        }
    }
    if let Some(last) = &record.last {
        value["last"] = json!({"id": last.next.id, "sha256": last.next.sha256, "version": last.next.version, "at": last.at,
            "refusal": last.refusal});
    }
    if let Some((id, refusal)) = &machine.refused {
        value["refused"] = json!({"id": id, "refusal": refusal});
    }
    value
}

fn brief(version: &ConfigVersion) -> Value {
    json!({"id": version.id, "version": version.version, "sha256": version.sha256, "origin": version.origin, "at": version.at})
}

/// `data` of a `config` event (docs/mqtt.md).
pub fn event(action: &str, id: &str, sha256: Option<Digest>, refusal: Option<&Rejection>) -> Value {
    let mut data = json!({"action": action, "id": id});
    if let Some(sha256) = sha256 {
        data["sha256"] = json!(sha256);
    }
    if let Some(refusal) = refusal {
        data["reason"] = json!(refusal.why);
        data["detail"] = json!(refusal.detail);
        let keys: Vec<Value> = refusal.errors.iter().take(EVENT_KEYS).map(key).collect();
        if !keys.is_empty() {
            data["errors"] = json!(keys);
        }
    }
    data
}

fn key(problem: &crate::settings::parse::Problem) -> Value {
    let cut = |text: &str| text.chars().take(EVENT_REASON).collect::<String>();
    json!({"key": cut(&problem.key), "reason": cut(&problem.reason)})
}

/// `data` of the event for a staged change.
pub fn staged(version: &ConfigVersion, change: &SettingsDiff) -> Value {
    let mut data = event("staged", &version.id, Some(version.sha256), None);
    data["origin"] = json!(version.origin);
    data["groups"] = json!(change.section_names());
    data["restart"] = json!(change.restart);
    data
}
