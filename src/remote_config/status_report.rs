//! Reports to the office: versions and `config` events, without secrets.

use serde_json::{Value, json};

use super::rejection::Rejection;
use super::state_record::ConfigVersion;
use crate::settings::diff::SettingsDiff;
use crate::units::Digest;

/// Bad keys in one event at most: an event fits one journal slot.
const EVENT_KEYS: usize = 6;
/// Characters of a key or reason in an event at most.
const EVENT_REASON: usize = 160;

/// A version, as `up/config/reported` names it.
pub(super) fn brief(version: &ConfigVersion) -> Value {
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
