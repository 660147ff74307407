//! Search for unreachable devices: every kind of configuration change with a fault at every
//! operation.
//!
//! A fault is a power cut, a refusal or damage at one operation of the card. Afterwards the faults
//! end and one broker answers; the device must then accept another change.

use std::collections::BTreeSet;

use super::config_scenarios::{FAR, NEW, OLD, Scenario};
use super::config_world::ConfigWorld;
use super::faulty_files::FileFault;
use crate::remote_config::mutation::Safeguard;
use crate::remote_config::state_record::SafeMode;

/// Result of an enumeration.
#[derive(Debug, Default)]
pub struct Summary {
    /// Worlds that ran.
    pub worlds: u64,
    /// Power cuts in all worlds.
    pub cuts: u64,
    /// Card operations that were refused or damaged.
    pub faults: u64,
    /// States of the state machine that occurred.
    pub states: BTreeSet<String>,
    /// Worlds in which the device stayed unreachable.
    pub stranded: Vec<String>,
}

/// Extent of an enumeration.
#[derive(Debug, Clone, Copy)]
pub struct ConfigEffort {
    /// Distance between faulty operations; 1: every operation.
    pub stride: u64,
    /// Distance between second faults after the first one; 0: no second fault.
    pub second: u64,
    /// Stop at the first unreachable device.
    pub first_only: bool,
}

/// Runs all worlds; `without` removes a safeguard.
pub fn enumerate(effort: ConfigEffort, without: Option<Safeguard>) -> Summary {
    let mut summary = Summary::default();
    for scenario in Scenario::ALL {
        // A local edit replaces the set-up, so the old broker is no longer one of the device's.
        let brokers: &[&'static str] = match scenario {
            Scenario::GoodHand => &[NEW],
            Scenario::Move => &[FAR, OLD],
            _ => &[NEW, OLD],
        };
        for alive in brokers.iter().copied() {
            let (ops, steps) = one(scenario, alive, Vec::new(), None, without, &mut summary);
            for at in (1..=ops).step_by(effort.stride as usize) {
                for fault in FileFault::ALL {
                    if effort.first_only && !summary.stranded.is_empty() {
                        return summary;
                    }
                    let (ops, _) =
                        one(scenario, alive, vec![(at, fault)], None, without, &mut summary);
                    let seconds = (at + 1..=ops)
                        .step_by(effort.second.max(1) as usize)
                        .take_while(|_| effort.second > 0);
                    for second in seconds {
                        for again in [FileFault::Before, FileFault::Refused] {
                            one(
                                scenario,
                                alive,
                                vec![(at, fault), (second, again)],
                                None,
                                without,
                                &mut summary,
                            );
                        }
                    }
                }
            }
            // Also cuts at steps of the world, between operations, where nothing is being written.
            for step in (1..=steps.min(120)).step_by(effort.stride as usize) {
                one(scenario, alive, Vec::new(), Some(step), without, &mut summary);
            }
        }
    }
    summary
}

/// Runs one world and returns the numbers of operations and steps of its scenario.
fn one(
    scenario: Scenario,
    alive: &'static str,
    faults: Vec<(u64, FileFault)>,
    step: Option<u64>,
    without: Option<Safeguard>,
    summary: &mut Summary,
) -> (u64, u64) {
    let mut world = ConfigWorld::new(without);
    world.files.state().faults = faults.clone();
    world.cut_at_step = step;
    let cuts_before = world.cuts;
    world.play(scenario);
    let (ops, steps) = (world.files.state().ops, world.steps);
    summary.worlds += 1;
    summary.cuts += world.cuts - cuts_before;
    summary.faults += world.files.state().refusals;
    let waits = world.waits_for_its_card();
    let alive = if alive == FAR && !world.knows(FAR) { NEW } else { alive };
    if waits || !world.is_under_control(alive) {
        let record = world
            .machine
            .as_ref()
            .map(|machine| (machine.as_str(), machine.record().rest == SafeMode::Safe));
        summary.stranded.push(format!(
            "{scenario:?}, then only {alive} answers, {faults:?}, cut at step {step:?}: {record:?}"
        ));
    }
    summary.states.append(&mut world.states);
    (ops, steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_change_with_one_card_fault_makes_a_device_unreachable() {
        let summary = enumerate(ConfigEffort { stride: 23, second: 0, first_only: false }, None);
        println!(
            "{} worlds, {} states, {} cuts",
            summary.worlds,
            summary.states.len(),
            summary.cuts
        );
        assert!(summary.stranded.is_empty(), "{:#?}", summary.stranded);
        assert!(
            summary.states.len() > 20 && summary.worlds > 200,
            "{} {}",
            summary.states.len(),
            summary.worlds
        );
    }

    #[test]
    fn two_consecutive_faults_make_no_device_unreachable() {
        // This stride is longer than a scenario: only the next operation fails, too.
        let summary = enumerate(ConfigEffort { stride: 29, second: 1000, first_only: false }, None);
        assert!(
            summary.stranded.is_empty() && summary.worlds > 200,
            "{} {:#?}",
            summary.worlds,
            summary.stranded
        );
    }

    #[test]
    #[ignore = "a minute; taimat sim --config-states runs the complete search"]
    fn without_each_safeguard_a_device_is_unreachable() {
        for without in Safeguard::ALL {
            let summary =
                enumerate(ConfigEffort { stride: 3, second: 0, first_only: true }, Some(without));
            assert!(
                !summary.stranded.is_empty(),
                "no world is unreachable without {}",
                without.name()
            );
        }
    }
}
