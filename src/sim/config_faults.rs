//! Whether anything can strand a device: a change of every kind, cut, refused or damaged at every operation of the card; afterwards the
//! network is fair, one broker answers, and the device must be back under control.
//!
//! What belongs here: trying everything, and counting it. What does not: the world it happens in ([`super::config_world`]).

use std::collections::BTreeSet;

use super::config_scenarios::{FAR, NEW, OLD, Scenario};
use super::config_world::ConfigWorld;
use super::faulty_files::FileFault;
use crate::remote_config::mutation::Safeguard;
use crate::remote_config::state_record::SafeMode;

/// What an enumeration came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Worlds tried.
    pub worlds: u64,
    /// Power cuts in them.
    pub cuts: u64,
    /// Operations of the card that were refused or damaged.
    pub faults: u64,
    /// States of the machine seen.
    pub states: BTreeSet<String>,
    /// Worlds in which the device was never under control again.
    pub stranded: Vec<String>,
}

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct ConfigEffort {
    /// Every so many of the operations is failed at: 1 is each.
    pub stride: u64,
    /// A second fault behind the first, at every so many operations; 0: none.
    pub second: u64,
    /// Stop at the first stranding.
    pub first_only: bool,
}

/// Tries everything; `without` takes a promise away.
pub fn enumerate(effort: ConfigEffort, without: Option<Safeguard>) -> Summary {
    let mut summary = Summary::default();
    for scenario in Scenario::ALL {
        // A hand sets the device up again, and then the old broker is none of its own any more.
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
                    let (ops, _) = one(scenario, alive, vec![(at, fault)], None, without, &mut summary);
                    let seconds = (at + 1..=ops).step_by(effort.second.max(1) as usize).take_while(|_| effort.second > 0);
                    for second in seconds {
                        for again in [FileFault::Before, FileFault::Refused] {
                            one(scenario, alive, vec![(at, fault), (second, again)], None, without, &mut summary);
                        }
                    }
                }
            }
            // A cut at every step of the world too: between operations, where nothing is being written.
            for step in (1..=steps.min(120)).step_by(effort.stride as usize) {
                one(scenario, alive, Vec::new(), Some(step), without, &mut summary);
            }
        }
    }
    summary
}

/// One world; gives the operations and steps its scenario took.
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
        let record = world.machine.as_ref().map(|machine| (machine.as_str(), machine.record().rest == SafeMode::Safe));
        summary.stranded.push(format!("{scenario:?}, then only {alive} lives, {faults:?}, cut at step {step:?}: {record:?}"));
    }
    summary.states.append(&mut world.states);
    (ops, steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_change_strands_a_box_whatever_the_card_does() {
        let summary = enumerate(ConfigEffort { stride: 23, second: 0, first_only: false }, None);
        println!("{} worlds, {} states, {} cuts", summary.worlds, summary.states.len(), summary.cuts);
        assert!(summary.stranded.is_empty(), "{:#?}", summary.stranded);
        assert!(summary.states.len() > 20 && summary.worlds > 200, "{} {}", summary.states.len(), summary.worlds);
    }

    #[test]
    fn two_faults_behind_each_other_strand_no_box() {
        // A stride beyond the end: only the very next operation fails too.
        let summary = enumerate(ConfigEffort { stride: 29, second: 1000, first_only: false }, None);
        assert!(summary.stranded.is_empty() && summary.worlds > 200, "{} {:#?}", summary.worlds, summary.stranded);
    }

    #[test]
    #[ignore = "a minute: taimat sim --config-states does the same, whole"]
    fn without_each_promise_a_box_is_stranded() {
        for without in Safeguard::ALL {
            let summary = enumerate(ConfigEffort { stride: 3, second: 0, first_only: true }, Some(without));
            assert!(!summary.stranded.is_empty(), "{} is missed by nobody", without.name());
        }
    }
}
