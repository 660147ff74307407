//! Decisions of a boot: continue or end a trial, count exits, enter safe mode.
//!
//! | found | decision |
//! |---|---|
//! | `staged` | its trial begins with this boot, boot 1 |
//! | `trial`, boot 3 or less, time left | the trial continues, one boot more |
//! | `trial`, boot 4, or its time is over | the change is rolled back |
//! | five unrequested exits in ten minutes of one kernel's uptime | safe mode; a trial is rolled back |
//! | the record cannot be written | a trial is rolled back |

use super::mutation::Safeguard;
use super::rejection::{RejectReason, Rejection};
use super::state_record::{ConfigPhase, ConfigState, SafeMode, Trial};
use crate::fault_switch::FaultSwitch;
use crate::settings::Settings;

/// Boots of the process in one trial at most: the fourth rolls back a configuration that crashes
/// the process.
pub const STARTS_MAX: u32 = 3;
/// Unrequested exits of a crash loop.
pub const EXITS_MAX: usize = 5;
/// Seconds of uptime in which the exits of a crash loop lie.
pub const EXITS_WITHIN: u64 = 600;

/// Identity and time of a boot of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootDecision {
    /// `boot_id` of the kernel (random(4)); empty when it cannot be read, and exits are then not
    /// counted.
    pub kernel: String,
    /// Uptime of the kernel, seconds.
    pub uptime: u64,
    /// RFC 3339 time of the boot.
    pub at: String,
}

/// Counts a boot in the record, which must be stored before the settings apply. `switch` removes
/// a safeguard in simulations.
pub fn note(record: &mut ConfigState, start: &BootDecision, switch: FaultSwitch<Safeguard>) {
    if record.exits.kernel != start.kernel {
        record.exits.at.clear();
        record.exits.kernel.clone_from(&start.kernel);
    }
    if !start.kernel.is_empty() {
        record.exits.at.push(start.uptime);
    }
    record.exits.at.retain(|at| start.uptime.saturating_sub(*at) < EXITS_WITHIN);
    // The first boot follows no exit, so five exits are six boots.
    if record.exits.at.len() > EXITS_MAX && !switch.disables(Safeguard::SafeMode) {
        let detail = format!("{EXITS_MAX} exits in {} min", EXITS_WITHIN / 60);
        record.roll_back(Rejection::new(RejectReason::Trial, detail), start.at.clone());
        record.rest = SafeMode::Safe;
        record.exits.at.clear();
    }
    match &mut record.phase {
        ConfigPhase::Idle => {}
        ConfigPhase::Staged(trial) => {
            record.phase =
                ConfigPhase::Trial(Box::new(Trial { starts: 1, ..trial.as_ref().clone() }))
        }
        ConfigPhase::Trial(trial) => {
            trial.starts += 1;
            let (many, over) = (trial.starts > STARTS_MAX, trial.ran >= trial.limit);
            if many && !switch.disables(Safeguard::Starts) {
                let detail =
                    format!("the process started {} times while it was on trial", trial.starts);
                record.roll_back(Rejection::new(RejectReason::Trial, detail), start.at.clone());
                // The cause of the exits is rolled back.
                record.exits.at.clear();
            } else if over && !switch.disables(Safeguard::Deadline) {
                record.roll_back(
                    Rejection::new(
                        RejectReason::Trial,
                        "its time was over before it proved itself",
                    ),
                    start.at.clone(),
                );
            }
        }
    }
    record.generation += 1;
}

/// Rolls back a trial when the record cannot be written: an uncounted boot must not run it.
pub fn not_noted(record: &mut ConfigState, reason: &str, at: &str) {
    if record.trial().is_some() {
        record.roll_back(
            Rejection::new(
                RejectReason::NotStored,
                format!("this boot could not be recorded: {reason}"),
            ),
            at.to_owned(),
        );
    }
}

/// The settings of safe mode: the bootstrap's, with the main stream and the keys of the last known
/// good configuration, and without motion detection.
#[must_use]
pub fn safe(bootstrap: &Settings, good: &Settings) -> Settings {
    let mut settings = bootstrap.clone();
    settings.camera = good.camera.clone();
    settings.camera.sub_url = None;
    settings.remote = good.remote.clone();
    settings.motion.enabled = false;
    settings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::remote_config::state_record::{ConfigVersion, Exits, Needs};
    use crate::units::Digest;

    fn record(phase: ConfigPhase) -> ConfigState {
        ConfigState {
            phase,
            ..ConfigState::of_file(Digest::of(b"file"), String::new(), BTreeSet::new())
        }
    }

    fn trial(starts: u32, ran: u64) -> Box<Trial> {
        let next = ConfigVersion::of_file(Digest::of(b"next"), String::new());
        Box::new(Trial {
            next,
            starts,
            ran,
            limit: 600,
            needs: Needs::default(),
            camera: false,
            restart: false,
        })
    }

    fn start(kernel: &str, uptime: u64) -> BootDecision {
        BootDecision { kernel: kernel.into(), uptime, at: "t".into() }
    }

    #[test]
    fn every_row_of_the_table_of_boots() {
        let noted = |phase: ConfigPhase| {
            let mut record = record(phase);
            note(&mut record, &start("k", 1), FaultSwitch::NONE);
            record
        };
        assert_eq!(noted(ConfigPhase::Idle).phase, ConfigPhase::Idle);
        assert_eq!(noted(ConfigPhase::Staged(trial(0, 0))).phase, ConfigPhase::Trial(trial(1, 0)));
        assert_eq!(
            noted(ConfigPhase::Trial(trial(2, 599))).phase,
            ConfigPhase::Trial(trial(3, 599))
        );
        for over in [trial(3, 0), trial(1, 600)] {
            let after = noted(ConfigPhase::Trial(over));
            assert_eq!(after.phase, ConfigPhase::Idle);
            assert_eq!(after.last.unwrap().refusal.unwrap().why, RejectReason::Trial);
        }
        let mut unwritten = noted(ConfigPhase::Trial(trial(1, 0)));
        not_noted(&mut unwritten, "read-only", "t");
        assert_eq!(
            (unwritten.phase, unwritten.last.unwrap().refusal.unwrap().why),
            (ConfigPhase::Idle, RejectReason::NotStored)
        );
    }

    #[test]
    fn five_exits_in_ten_minutes_are_a_crash_loop() {
        let mut at = record(ConfigPhase::Idle);
        for (n, uptime) in [10, 20, 30, 40, 50].into_iter().enumerate() {
            note(&mut at, &start("k", uptime), FaultSwitch::NONE);
            assert_eq!(at.rest, SafeMode::Good, "{n} exits");
        }
        at.phase = ConfigPhase::Trial(trial(0, 0));
        note(&mut at, &start("k", 60), FaultSwitch::NONE);
        assert_eq!(
            (at.rest, &at.phase),
            (SafeMode::Safe, &ConfigPhase::Idle),
            "the trial is rolled back"
        );
        let calm = |starts: &[(&str, u64)]| {
            let mut record = record(ConfigPhase::Idle);
            starts.iter().for_each(|(kernel, uptime)| {
                note(&mut record, &start(kernel, *uptime), FaultSwitch::NONE)
            });
            record
        };
        let slow: Vec<(&str, u64)> = (0..20).map(|n| ("k", n * 130)).collect();
        assert_eq!(calm(&slow).rest, SafeMode::Good, "five exits in eleven minutes");
        let cuts: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
        let cuts: Vec<(&str, u64)> = cuts.iter().map(|kernel| (kernel.as_str(), 20)).collect();
        assert_eq!(calm(&cuts).rest, SafeMode::Good, "power cuts are no crash loop");
        assert_eq!(calm(&[("", 1); 20]).exits, Exits::default());
    }
}
