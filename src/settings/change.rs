//! What differs between two settings, room by room: a change reaches only the rooms it touches.
//!
//! What belongs here: telling groups apart, and which keys are read only at a start. What does not: applying anything (the agent's).

use super::{Settings, StorageSettings};

/// The rooms a change touches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// The camera's sessions begin anew.
    pub camera: bool,
    /// The session with the broker begins anew under other settings.
    pub uplink: bool,
    /// The detector goes on with other settings.
    pub motion: bool,
    /// The next clip is cut otherwise.
    pub clip: bool,
    /// The ring has another bound.
    pub storage: bool,
    /// Who may sign, or the length of a trial.
    pub remote: bool,
    /// Keys that are read only at a start.
    pub restart: Vec<&'static str>,
}

impl Change {
    /// From `old` to `new`.
    pub fn between(old: &Settings, new: &Settings) -> Change {
        Change {
            camera: old.camera != new.camera,
            uplink: old.uplink != new.uplink,
            motion: old.motion != new.motion,
            clip: old.clip != new.clip,
            storage: limits(&old.storage) != limits(&new.storage),
            remote: old.remote != new.remote,
            restart: restart(&old.storage, &new.storage),
        }
    }

    /// The groups by name, in the order of the file.
    pub fn words(&self) -> Vec<&'static str> {
        let storage = self.storage || !self.restart.is_empty();
        let groups = [
            (self.camera, "camera"),
            (storage, "storage"),
            (self.motion, "motion"),
            (self.clip, "clip"),
            (self.uplink, "uplink"),
            (self.remote, "remote"),
        ];
        groups.into_iter().filter(|(changed, _)| *changed).map(|(_, word)| word).collect()
    }
}

/// What storage can change while it records.
fn limits(storage: &StorageSettings) -> (u64, u8, u64) {
    (storage.budget, storage.pin_quota, storage.endurance)
}

/// The keys of storage that shape its files or choose its place: they are read when it is opened.
fn restart(old: &StorageSettings, new: &StorageSettings) -> Vec<&'static str> {
    let keys = [
        (old.dir != new.dir, "storage.dir"),
        (old.require_mount != new.require_mount, "storage.require_mount"),
        (old.segment != new.segment, "storage.segment"),
        (old.journal_slots != new.journal_slots, "storage.journal_slots"),
        (old.snapshot_slots != new.snapshot_slots, "storage.snapshot_slots"),
        (old.still_bytes != new.still_bytes, "storage.snapshot_size"),
    ];
    keys.into_iter().filter(|(changed, _)| *changed).map(|(_, key)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::test_settings;

    #[test]
    fn a_change_touches_only_its_own_room() {
        let old = test_settings();
        let mut new = old.clone();
        new.motion.sensitivity = 7;
        assert_eq!(Change::between(&old, &new), Change { motion: true, ..Change::default() });
        new.storage.budget *= 2;
        new.uplink.fallbacks = new.uplink.brokers();
        assert_eq!(Change::between(&old, &new).words(), ["storage", "motion", "uplink"]);
        assert!(Change::between(&old, &new).restart.is_empty(), "the ring's bound can change while it records");
    }

    #[test]
    fn what_shapes_files_needs_a_restart_and_is_named() {
        let old = test_settings();
        let mut new = old.clone();
        (new.storage.segment, new.storage.dir) = (2 << 20, "/elsewhere".into());
        assert_eq!(Change::between(&old, &new).restart, ["storage.dir", "storage.segment"]);
    }
}
