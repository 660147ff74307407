//! What is kept of configurations on the card: which one runs, which ones ran before, and how far a change has come.
//!
//! A record is two lines: the SHA-256 of the second in 64 hex digits, and one JSON object. The highest `generation` of the copies
//! that are whole counts. The texts it names lie beside it, each in a file of its own named by its SHA-256 ([`super::state_store`]).
//!
//! What belongs here: the format. What does not: files, and what follows from a record ([`super::crash_loop`], [`super::state_machine`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::rejection::Rejection;
use crate::units::Digest;

/// Configurations kept beside the last known good one and the bootstrap.
pub const OLDER_MAX: usize = 2;
/// Bytes of a record at most: far above what the bounded lists can hold, so that a damaged length cannot fill memory.
pub const RECORD_MAX: usize = 64 << 10;

/// One configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigVersion {
    /// How it is called: `file-…`, `rollback-…`, or key and number.
    pub id: String,
    /// The number its key gave it; 0 for what came by hand.
    pub version: u64,
    /// SHA-256 of its text.
    pub sha256: Digest,
    /// Where it came from.
    pub origin: Origin,
    /// RFC 3339 time of when it came, as well as that was known.
    pub at: String,
}

/// Where a configuration came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The file on the box, edited by hand.
    File,
    /// `taimat config rollback` on the box.
    Rollback,
    /// A document signed by the key with this id.
    Key(String),
}

impl ConfigVersion {
    /// The file as it lies on the box.
    pub fn of_file(sha256: Digest, at: String) -> ConfigVersion {
        ConfigVersion { id: format!("file-{}", &sha256.hex()[..8]), version: 0, sha256, origin: Origin::File, at }
    }

    /// An older one, called back by hand.
    #[must_use]
    pub fn called_back(&self, at: String) -> ConfigVersion {
        let id = format!("rollback-{}", &self.sha256.hex()[..8]);
        ConfigVersion { id, version: 0, sha256: self.sha256, origin: Origin::Rollback, at }
    }
}

/// How far a change has come; written before its effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigPhase {
    /// None is on its way.
    Idle,
    /// It is judged and stored, and not yet in force.
    Staged(Box<Trial>),
    /// It is in force until it has proven itself or its time is over.
    Trial(Box<Trial>),
}

/// A change that has to prove itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// What is tried.
    pub next: ConfigVersion,
    /// Starts of the process inside it.
    pub starts: u32,
    /// Microseconds it has been in force, over all of them.
    pub ran: u64,
    /// Microseconds it may.
    pub limit: u64,
    /// What it must show.
    pub needs: Needs,
    /// It changes where the pictures come from.
    pub camera: bool,
    /// It must be read from its text at a start.
    pub restart: bool,
}

/// What a change must show under its own settings. What failed before is not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Needs {
    /// A fresh session with the broker, and the office's confirmation on it.
    pub session: bool,
    /// A key frame.
    pub picture: bool,
    /// A fragment that survives a power cut.
    pub footage: bool,
}

/// What runs while nothing is on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SafeMode {
    /// The last known good configuration.
    #[default]
    Good,
    /// It brought the process down again and again: only recording and the bootstrap's broker.
    Safe,
}

/// How the last change ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeOutcome {
    /// Which one.
    pub next: ConfigVersion,
    /// Why it was taken back; `None` when it is in force.
    pub refusal: Option<Rejection>,
    /// RFC 3339.
    pub at: String,
}

/// Starts of the process since the machine was switched on that were not asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exits {
    /// Names the run of the kernel.
    pub kernel: String,
    /// Seconds since it began, of each start.
    pub at: Vec<u64>,
}

/// Everything that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigState {
    /// 1.
    pub v: u32,
    /// Rises with every write.
    pub generation: u64,
    /// The last known good configuration.
    pub committed: ConfigVersion,
    /// The ones before it, newest first.
    pub older: Vec<ConfigVersion>,
    /// The file as it was when the box was set up, or has proven itself since: never written remotely.
    pub bootstrap: ConfigVersion,
    /// SHA-256 of the file when it was last looked at: another one is a hand's work.
    pub file: Digest,
    /// The change on its way.
    pub phase: ConfigPhase,
    /// What runs while there is none.
    pub rest: SafeMode,
    /// Highest version each key has signed.
    pub seen: BTreeMap<String, u64>,
    /// Highest number of a command of each key.
    pub commands: BTreeMap<String, u64>,
    /// Brokers over which a change was confirmed.
    pub proven: BTreeSet<(String, u16)>,
    /// How the last change ended.
    pub last: Option<ChangeOutcome>,
    /// How the process has been ending.
    pub exits: Exits,
}

impl ConfigState {
    /// Of a box that has only its file.
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
            commands: BTreeMap::new(),
            proven,
            last: None,
            exits: Exits::default(),
        }
    }

    /// Every text it needs.
    pub fn texts(&self) -> BTreeSet<Digest> {
        let next = self.trial().map(|trial| trial.next.sha256);
        let kept = [self.committed.sha256, self.bootstrap.sha256].into_iter().chain(self.older.iter().map(|old| old.sha256));
        kept.chain(next).collect()
    }

    /// The change on its way.
    pub fn trial(&self) -> Option<&Trial> {
        match &self.phase {
            ConfigPhase::Idle => None,
            ConfigPhase::Staged(trial) | ConfigPhase::Trial(trial) => Some(trial),
        }
    }

    /// The change becomes the last known good configuration.
    pub fn commit(&mut self, next: ConfigVersion, at: String) {
        let before = std::mem::replace(&mut self.committed, next.clone());
        self.older.retain(|old| old.sha256 != next.sha256 && old.sha256 != before.sha256);
        if before.sha256 != next.sha256 {
            self.older.insert(0, before);
        }
        self.older.truncate(OLDER_MAX);
        (self.phase, self.rest) = (ConfigPhase::Idle, SafeMode::Good);
        self.last = Some(ChangeOutcome { next, refusal: None, at });
    }

    /// The change is taken back.
    pub fn roll_back(&mut self, refusal: Rejection, at: String) {
        if let Some(trial) = self.trial() {
            self.last = Some(ChangeOutcome { next: trial.next.clone(), refusal: Some(refusal), at });
        }
        self.phase = ConfigPhase::Idle;
    }

    /// The bytes of one copy.
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{}\n{json}\n", Digest::of(json.as_bytes()).hex()).into_bytes()
    }

    /// Reads a copy; `None` when it is damaged.
    pub fn decode(bytes: &[u8]) -> Option<ConfigState> {
        let (digest, json) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
        let json = json.strip_suffix('\n')?;
        let whole = bytes.len() <= RECORD_MAX && Digest::from_hex(digest)? == Digest::of(json.as_bytes());
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
    fn a_copy_that_is_cut_or_altered_is_not_read() {
        let record = ConfigState::of_file(Digest::of(b"x"), "t".into(), BTreeSet::from([("a".to_owned(), 1)]));
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
        let wanted: BTreeSet<Digest> = ["b", "d", "c", "file"].map(|name| Digest::of(name.as_bytes())).into();
        assert_eq!(record.texts(), wanted);
    }

    #[test]
    fn what_is_taken_back_leaves_its_reason_and_nothing_else() {
        let mut record = ConfigState::of_file(Digest::of(b"file"), String::new(), BTreeSet::new());
        let before = record.clone();
        let trial =
            Trial { next: version("a"), starts: 1, ran: 0, limit: 1, needs: Needs::default(), camera: false, restart: false };
        record.phase = ConfigPhase::Trial(Box::new(trial));
        let refusal = Rejection::new(RejectReason::Trial, "no confirmation");
        record.roll_back(refusal.clone(), "t".into());
        let last = Some(ChangeOutcome { next: version("a"), refusal: Some(refusal), at: "t".into() });
        assert_eq!(record, ConfigState { last, ..before });
    }
}
