//! Boot of the remote configuration: reads record and file, counts the boot, chooses the
//! settings.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads or writes files, reads the environment"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::crash_loop::BootDecision;
use super::durable_files::RealFiles;
use super::rejection::Rejection;
use super::startup_state::{FoundFiles, StartupState, prepare};
use super::state_machine::ConfigMachine;
use super::state_record::SafeMode;
use super::state_store::Files;
use super::validation;
use crate::fault_switch::FaultSwitch;
use crate::settings::parse::{Problem, Problems};
use crate::settings::{Settings, StorageSettings, load};
use crate::units::Timestamp;

/// Settings and configuration state after a boot.
pub struct Startup {
    /// The settings in force.
    pub settings: Settings,
    /// The state machine and its files; `None` when the state directory cannot be made.
    pub configured: Option<Configured>,
}

/// The state machine, its files, and the configuration file of the device.
pub struct Configured {
    /// The state machine.
    pub machine: ConfigMachine,
    /// The files of the record.
    pub files: Arc<dyn Files>,
    /// The configuration file.
    pub file: PathBuf,
    /// Second counter of exits, in `runtime`; `None` without that directory.
    pub volatile: Option<Arc<dyn Files>>,
    /// The state directory; `taimat config` writes its requests into it.
    pub state: PathBuf,
    /// Rejection of the configuration file at this boot.
    pub refused: Option<Rejection>,
    /// The process ended in order before this boot.
    pub stopped: bool,
    /// `$RUNTIME_DIRECTORY` (systemd.exec(5)), a directory in memory.
    pub runtime: Option<PathBuf>,
}

impl Configured {
    /// A small ring in memory; only in safe mode, after an unusable card caused a crash loop.
    pub fn last_resort(&self) -> Option<StorageSettings> {
        let safe =
            self.machine.record().rest == SafeMode::Safe && self.machine.record().trial().is_none();
        self.in_memory().filter(|_| safe)
    }

    /// A small ring in memory, without a crash loop first: more boots do not give a full card room
    /// for a ring.
    pub fn in_memory(&self) -> Option<StorageSettings> {
        let dir = self.runtime.as_ref()?.join("ring");
        Some(StorageSettings {
            dir,
            require_mount: false,
            budget: 32 << 20,
            segment: 4 << 20,
            journal_slots: 256,
            snapshot_slots: 4,
            still_bytes: 256 << 10,
            pin_quota: 50,
            endurance: 0,
            site: None,
        })
    }
}

/// The default state directory, beside the configuration file.
pub fn state_dir(file: &Path) -> PathBuf {
    file.with_extension("state")
}

/// Boots the remote configuration.
///
/// # Errors
/// The bad keys of the configuration file, when no last known good configuration exists.
pub fn load_startup(
    file: &Path,
    state: &Path,
    seed: [u8; 32],
    now: Timestamp,
) -> Result<Startup, Problems> {
    if !state.exists() {
        // Without a stored configuration the file must be valid; a bad one leaves no directory behind.
        load::load(file)?;
    }
    let files: Arc<dyn Files> = match RealFiles::open(state) {
        Ok(files) => Arc::new(files),
        Err(reason) => {
            tracing::error!(
                reason,
                "remote configuration disabled, the state directory cannot be made; check the card"
            );
            return Ok(Startup { settings: load::load(file)?, configured: None });
        }
    };
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    let volatile = runtime.as_ref().and_then(|dir| RealFiles::open(dir).ok());
    let volatile: Option<Arc<dyn Files>> = volatile.map(|files| Arc::new(files) as Arc<dyn Files>);
    let found = FoundFiles {
        files: files.as_ref(),
        volatile: volatile.as_deref(),
        file: load::read(file),
        name: file.display().to_string(),
        read: &load::read,
        start: start(now.wall.rfc3339()),
        switch: FaultSwitch::NONE,
    };
    let StartupState { record, known, refused, unsaved, stopped } = prepare(&found)?;
    report_file(&found, refused.as_ref());
    let mut machine = ConfigMachine::new(record, known, seed, now);
    if let Some(reason) = unsaved {
        machine.set_unsaved(reason);
    }
    let settings = machine.in_force();
    tracing::info!(
        phase = machine.as_str(),
        sha256 = machine.record().loaded().sha256.hex(),
        "configuration loaded"
    );
    let (file, state) = (file.to_owned(), state.to_owned());
    Ok(Startup {
        settings,
        configured: Some(Configured {
            machine,
            files,
            file,
            volatile,
            state,
            refused,
            stopped,
            runtime,
        }),
    })
}

/// Reports a configuration file that is not in force because it cannot be read or has bad keys.
fn report_file(found: &FoundFiles<'_>, refused: Option<&Rejection>) {
    if let Err(reason) = &found.file {
        tracing::error!(
            file = found.name,
            reason,
            "the configuration file cannot be read; the last known good configuration is in force; restore the file"
        );
    }
    // A start with the same bad file says it again; the event is sent once.
    let bad = found.file.as_ref().ok().filter(|_| refused.is_none());
    let bad = bad.and_then(|text| validation::judge(text, &load::read).err());
    for Problem { key, reason } in bad.iter().chain(refused).flat_map(|bad| &bad.errors) {
        tracing::error!(
            file = found.name,
            key,
            reason,
            "the configuration file is refused; the last known good configuration is in force; correct the file, then restart"
        );
    }
}

/// Identity and uptime of the kernel.
fn start(at: String) -> BootDecision {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let uptime = read("/proc/uptime")
        .split('.')
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(0);
    BootDecision { kernel: read("/proc/sys/kernel/random/boot_id").trim().to_owned(), uptime, at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_config::crash_loop::STARTS_MAX;
    use crate::remote_config::rejection::RejectReason;

    struct Device {
        dir: tempfile::TempDir,
    }

    impl Device {
        fn new() -> Device {
            let device = Device { dir: tempfile::tempdir().unwrap() };
            device.edit(5);
            device
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("taimat.toml")
        }

        fn edit(&self, sensitivity: u8) {
            let text = format!(
                "site = \"km-17\"\ncamera.main_url = \"rtsp://x/\"\nstorage.dir = \"/r\"\nuplink.host = \"localhost\"\nmotion.sensitivity = {sensitivity}\n"
            );
            std::fs::write(self.path(), text).unwrap();
        }

        fn start(&self) -> Result<Startup, Problems> {
            load_startup(&self.path(), &state_dir(&self.path()), [1; 32], Timestamp::default())
        }

        fn started(&self) -> (u8, &'static str) {
            let started = self.start().unwrap();
            let word = started.configured.unwrap().machine.as_str();
            (started.settings.motion.sensitivity, word)
        }
    }

    #[test]
    fn an_edited_file_is_on_trial_for_three_boots() {
        let here = Device::new();
        assert_eq!(here.started(), (5, "idle"));
        here.edit(7);
        let text = std::fs::read_to_string(here.path()).unwrap();
        for _ in 0..STARTS_MAX {
            let started = here.start().unwrap();
            let machine = started.configured.unwrap().machine;
            assert_eq!((started.settings.motion.sensitivity, machine.as_str()), (7, "trial"));
            let named = machine.record().loaded().sha256;
            assert_eq!(named, crate::units::Digest::of(text.as_bytes()), "the log names it");
        }
        assert_eq!(here.started(), (5, "rolled_back"));
        assert_eq!(here.started(), (5, "rolled_back"), "the same file is not tried again");
    }

    #[test]
    fn a_bad_or_missing_file_boots_the_last_known_good() {
        let here = Device::new();
        here.started();
        std::fs::write(here.path(), "site = 1").unwrap();
        let started = here.start().unwrap();
        let refused = started.configured.unwrap().refused.unwrap();
        assert!(started.settings.motion.sensitivity == 5 && refused.why == RejectReason::Invalid);
        std::fs::remove_file(here.path()).unwrap();
        assert_eq!(here.started().0, 5);
    }

    #[test]
    fn without_a_record_the_file_must_be_valid() {
        let here = Device::new();
        std::fs::write(here.path(), "site = 1").unwrap();
        assert!(here.start().err().unwrap().0.len() > 1);
        assert!(!state_dir(&here.path()).exists(), "a refused first start leaves nothing behind");
        here.edit(3);
        std::fs::write(state_dir(&here.path()), "a file where the directory should be").unwrap();
        let started = here.start().unwrap();
        assert!(started.configured.is_none_or(|configured| configured.machine.unsaved.is_some()));
        assert_eq!(started.settings.motion.sensitivity, 3, "the device records under the file");
    }

    #[test]
    fn without_both_copies_of_the_record_the_file_is_used() {
        let here = Device::new();
        here.started();
        here.edit(8);
        for copy in ["a", "b"] {
            std::fs::write(state_dir(&here.path()).join(format!("record.{copy}")), "damaged")
                .unwrap();
        }
        assert_eq!(here.started(), (8, "idle"));
    }
}
