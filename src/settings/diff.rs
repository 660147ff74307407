//! Difference between two settings, by section, so that a change reaches only the modules it
//! touches.

use super::{Settings, StorageSettings};

/// The sections that a change touches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettingsDiff {
    /// The camera's sessions are opened again.
    pub camera: bool,
    /// The session with the broker is opened again.
    pub uplink: bool,
    /// The detector gets the new settings.
    pub motion: bool,
    /// The next clip uses the new settings.
    pub clip: bool,
    /// The ring gets new limits while it records.
    pub storage: bool,
    /// The keys or the time of a trial change.
    pub remote: bool,
    /// Changed keys that take effect only at a boot.
    pub restart: Vec<&'static str>,
}

impl SettingsDiff {
    /// The difference from `old` to `new`.
    pub fn between(old: &Settings, new: &Settings) -> SettingsDiff {
        SettingsDiff {
            camera: old.camera != new.camera,
            uplink: old.uplink != new.uplink,
            motion: old.motion != new.motion,
            clip: old.clip != new.clip,
            storage: limits(&old.storage) != limits(&new.storage),
            remote: old.remote != new.remote,
            restart: restart(&old.storage, &new.storage),
        }
    }

    /// Host and port of each broker that the change tries; `None` if it tries none.
    pub fn tried_brokers(&self, next: &Settings) -> Option<String> {
        self.uplink.then(|| {
            let brokers = next.uplink.brokers();
            let names: Vec<String> =
                brokers.iter().map(|broker| format!("{}:{}", broker.host, broker.port)).collect();
            names.join(" ")
        })
    }

    /// Names of the changed sections, in the order of docs/config.md.
    pub fn section_names(&self) -> Vec<&'static str> {
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

/// The keys that storage changes while it records.
fn limits(storage: &StorageSettings) -> (u64, u8, u64) {
    (storage.budget, storage.pin_quota, storage.endurance)
}

/// Changed keys of the layout or the place of the ring, which is read only when the ring is opened.
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
    fn a_change_touches_only_its_own_section() {
        let old = test_settings();
        let mut new = old.clone();
        new.motion.sensitivity = 7;
        assert_eq!(
            SettingsDiff::between(&old, &new),
            SettingsDiff { motion: true, ..SettingsDiff::default() }
        );
        new.storage.budget *= 2;
        new.uplink.fallbacks = new.uplink.brokers();
        assert_eq!(
            SettingsDiff::between(&old, &new).section_names(),
            ["storage", "motion", "uplink"]
        );
        assert!(
            SettingsDiff::between(&old, &new).restart.is_empty(),
            "the ring changes its budget while it records"
        );
    }

    #[test]
    fn a_change_of_the_uplink_names_the_brokers_it_tries() {
        let old = test_settings();
        let mut new = old.clone();
        new.motion.sensitivity = 7;
        assert_eq!(SettingsDiff::between(&old, &new).tried_brokers(&new), None);
        (new.uplink.host, new.uplink.port) = ("office-b".into(), 8884);
        let change = SettingsDiff::between(&old, &new);
        assert_eq!(change.tried_brokers(&new).as_deref(), Some("office-b:8884"));
    }

    #[test]
    fn a_new_layout_of_the_ring_needs_a_restart() {
        let old = test_settings();
        let mut new = old.clone();
        new.storage.segment = 2 << 20;
        new.storage.dir = "/elsewhere".into();
        assert_eq!(SettingsDiff::between(&old, &new).restart, ["storage.dir", "storage.segment"]);
    }
}
