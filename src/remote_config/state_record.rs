//! Record of the configuration state: running and older configurations, the current change, exits.
//!
//! A record is two lines: the SHA-256 of the second line in 64 hexadecimal digits, and one JSON
//! object. The whole copy with the highest `generation` counts. Each text lies in a file of its
//! own, named by its SHA-256 ([`super::state_store`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::rejection::Rejection;
use crate::units::Digest;

/// Configurations kept beside the last known good one and the bootstrap.
pub const OLDER_MAX: usize = 2;
/// Bytes of a record at most, far above the bounded lists: a damaged length must not fill the
/// memory.
pub const RECORD_MAX: usize = 64 << 10;

/// One configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigVersion {
    /// `file-…`, `rollback-…`, or key id, `-` and version.
    pub id: String,
    /// Version of a signed document, from 1; 0 for a local edit or rollback.
    pub version: u64,
    /// SHA-256 of the text.
    pub sha256: Digest,
    /// The source.
    pub origin: Origin,
    /// RFC 3339 time of arrival, by the clock of the device at that time.
    pub at: String,
}

/// Source of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration file of the device, edited locally.
    File,
    /// `taimat config rollback` on the device.
    Rollback,
    /// A document signed by the key with this id.
    Key(String),
}

impl ConfigVersion {
    /// The configuration file of the device.
    pub fn of_file(sha256: Digest, at: String) -> ConfigVersion {
        ConfigVersion {
            id: format!("file-{}", &sha256.hex()[..8]),
            version: 0,
            sha256,
            origin: Origin::File,
            at,
        }
    }

    /// A local rollback to this configuration.
    #[must_use]
    pub fn called_back(&self, at: String) -> ConfigVersion {
        let id = format!("rollback-{}", &self.sha256.hex()[..8]);
        ConfigVersion { id, version: 0, sha256: self.sha256, origin: Origin::Rollback, at }
    }
}

/// Phase of a change; stored before it takes effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigPhase {
    /// No change is under way.
    Idle,
    /// A change is validated and stored, not yet in force.
    Staged(Box<Trial>),
    /// A change is in force until it proves itself or its time is over.
    Trial(Box<Trial>),
}

/// A change under trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The configuration under trial.
    pub next: ConfigVersion,
    /// Boots of the process during the trial.
    pub starts: u32,
    /// Microseconds in force so far, over all boots.
    pub ran: u64,
    /// Microseconds in force at most.
    pub limit: u64,
    /// Required evidence.
    pub needs: Needs,
    /// True when the change has another camera.
    pub camera: bool,
    /// True when the change takes effect only at a boot.
    pub restart: bool,
}

/// Evidence that a change must give under its own settings. A part that failed before the change is
/// not required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Needs {
    /// A fresh session with the broker and the office's confirmation on it.
    pub session: bool,
    /// A key frame.
    pub picture: bool,
    /// A durable fragment.
    pub footage: bool,
}

/// The configuration in force without a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SafeMode {
    /// The last known good configuration.
    #[default]
    Good,
    /// Safe mode after a crash loop: recording and the bootstrap's brokers only.
    Safe,
}

/// Outcome of the last change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeOutcome {
    /// The change.
    pub next: ConfigVersion,
    /// The reason of its rejection or rollback; `None` when it was committed.
    pub refusal: Option<Rejection>,
    /// RFC 3339 time of the outcome.
    pub at: String,
}

/// Boots of the process after unrequested exits, since the kernel booted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exits {
    /// `boot_id` of the kernel (random(4)).
    pub kernel: String,
    /// Uptime of the kernel at each boot of the process, seconds.
    pub at: Vec<u64>,
    /// True from an ordered stop to the next boot.
    #[serde(default)]
    pub stopped: bool,
}

/// The stored state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigState {
    /// Format version: 1.
    pub v: u32,
    /// Counts saves.
    pub generation: u64,
    /// The last known good configuration.
    pub committed: ConfigVersion,
    /// Committed configurations before it, newest first.
    pub older: Vec<ConfigVersion>,
    /// The configuration file at installation, or its newest version that proved itself. No remote
    /// change writes it.
    pub bootstrap: ConfigVersion,
    /// SHA-256 of the configuration file at the last check; another one means a local edit.
    pub file: Digest,
    /// Phase of the current change.
    pub phase: ConfigPhase,
    /// The configuration in force without a trial.
    pub rest: SafeMode,
    /// Highest version of a document, by key id.
    pub seen: BTreeMap<String, u64>,
    /// The last document that this device itself rejected or rolled back, by key id: a retained one
    /// returns with every connection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rejected: BTreeMap<String, Digest>,
    /// Highest number of a command, by key id.
    pub commands: BTreeMap<String, u64>,
    /// Brokers over which a change was confirmed: host and port.
    pub proven: BTreeSet<(String, u16)>,
    /// Outcome of the last change; `None` before the first.
    pub last: Option<ChangeOutcome>,
    /// Unrequested exits of the process.
    pub exits: Exits,
}

impl ConfigState {
    /// The state of a device with only its configuration file.
    pub fn of_file(sha256: Digest, at: String, proven: BTreeSet<(String, u16)>) -> ConfigState {
        let version = ConfigVersion::of_file(sha256, at);
        ConfigState {
            v: 1,
            generation: 0,
            committed: version.clone(),
            older: Vec::new(),
            bootstrap: version,
            file: sha256,
            phase: ConfigPhase::Idle,
            rest: SafeMode::Good,
            seen: BTreeMap::new(),
            rejected: BTreeMap::new(),
            commands: BTreeMap::new(),
            proven,
            last: None,
            exits: Exits::default(),
        }
    }

    /// The configuration that a boot loads.
    pub fn loaded(&self) -> &ConfigVersion {
        let rest = if self.rest == SafeMode::Safe { &self.bootstrap } else { &self.committed };
        self.trial().map_or(rest, |trial| &trial.next)
    }

    /// SHA-256 of each text that the record names.
    pub fn texts(&self) -> BTreeSet<Digest> {
        let next = self.trial().map(|trial| trial.next.sha256);
        let kept = [self.committed.sha256, self.bootstrap.sha256]
            .into_iter()
            .chain(self.older.iter().map(|old| old.sha256));
        kept.chain(next).collect()
    }

    /// The staged or tried change.
    pub fn trial(&self) -> Option<&Trial> {
        match &self.phase {
            ConfigPhase::Idle => None,
            ConfigPhase::Staged(trial) | ConfigPhase::Trial(trial) => Some(trial),
        }
    }

    /// Makes `next` the last known good configuration.
    pub fn commit(&mut self, next: ConfigVersion, at: String) {
        let before = std::mem::replace(&mut self.committed, next.clone());
        self.older.retain(|old| old.sha256 != next.sha256 && old.sha256 != before.sha256);
        if before.sha256 != next.sha256 {
            self.older.insert(0, before);
        }
        self.older.truncate(OLDER_MAX);
        self.phase = ConfigPhase::Idle;
        self.rest = SafeMode::Good;
        self.last = Some(ChangeOutcome { next, refusal: None, at });
    }

    /// Rolls the change back.
    pub fn roll_back(&mut self, refusal: Rejection, at: String) {
        if let Some(next) = self.trial().map(|trial| trial.next.clone()) {
            self.note_rejected(&next);
            self.last = Some(ChangeOutcome { next, refusal: Some(refusal), at });
        }
        self.phase = ConfigPhase::Idle;
    }

    /// Remembers a document that this device rejects itself.
    pub fn note_rejected(&mut self, next: &ConfigVersion) {
        if let Origin::Key(key) = &next.origin {
            self.rejected.insert(key.clone(), next.sha256);
        }
    }

    /// Encodes a copy.
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{}\n{json}\n", Digest::of(json.as_bytes()).hex()).into_bytes()
    }

    /// Decodes a copy; `None` when it is damaged.
    pub fn decode(bytes: &[u8]) -> Option<ConfigState> {
        let (digest, json) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
        let json = json.strip_suffix('\n')?;
        let whole =
            bytes.len() <= RECORD_MAX && Digest::from_hex(digest)? == Digest::of(json.as_bytes());
        whole.then(|| serde_json::from_str(json).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_config::rejection::RejectReason;

    fn version(name: &str) -> ConfigVersion {
        ConfigVersion {
            id: name.into(),
            version: 1,
            sha256: Digest::of(name.as_bytes()),
            origin: Origin::Key("k".into()),
            at: String::new(),
        }
    }

    #[test]
    fn a_truncated_or_altered_copy_is_not_decoded() {
        let record = ConfigState::of_file(
            Digest::of(b"x"),
            "t".into(),
            BTreeSet::from([("a".to_owned(), 1)]),
        );
        let bytes = record.encode();
        assert_eq!(ConfigState::decode(&bytes), Some(record));
        for len in 0..bytes.len() {
            assert_eq!(ConfigState::decode(&bytes[..len]), None, "cut at {len}");
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(ConfigState::decode(&bad), None, "altered at {at}");
        }
    }

    #[test]
    fn four_configurations_are_kept() {
        let mut record = ConfigState::of_file(Digest::of(b"file"), String::new(), BTreeSet::new());
        for name in ["a", "b", "c", "d", "b"] {
            record.commit(version(name), String::new());
        }
        let older: Vec<&str> = record.older.iter().map(|old| old.id.as_str()).collect();
        assert_eq!((record.committed.id.as_str(), older), ("b", vec!["d", "c"]));
        let wanted: BTreeSet<Digest> =
            ["b", "d", "c", "file"].map(|name| Digest::of(name.as_bytes())).into();
        assert_eq!(record.texts(), wanted);
    }

    #[test]
    fn a_rollback_leaves_only_its_reason() {
        let mut record = ConfigState::of_file(Digest::of(b"file"), String::new(), BTreeSet::new());
        let before = record.clone();
        let trial = Trial {
            next: version("a"),
            starts: 1,
            ran: 0,
            limit: 1,
            needs: Needs::default(),
            camera: false,
            restart: false,
        };
        record.phase = ConfigPhase::Trial(Box::new(trial));
        let refusal = Rejection::new(RejectReason::Trial, "no confirmation");
        record.roll_back(refusal.clone(), "t".into());
        let last =
            Some(ChangeOutcome { next: version("a"), refusal: Some(refusal), at: "t".into() });
        let rejected = BTreeMap::from([("k".to_owned(), version("a").sha256)]);
        assert_eq!(record, ConfigState { last, rejected, ..before });
    }
}
