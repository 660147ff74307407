//! Fault switch: takes one safeguard away, so that a simulation can show that its check notices. What ships has no such switch:
//! it exists in unit tests and with the feature `sim` only, and everywhere else the question is a constant `false`.
//!
//! What belongs here: the switch. What does not: the safeguards, which each module lists beside what keeps them.
//!
#![cfg_attr(feature = "sim", doc = "With `sim` a switch can be set:\n```")]
#![cfg_attr(
    not(feature = "sim"),
    doc = "Without `sim` there is no way to set one:\n```compile_fail,E0599"
)]
//! use taimat::fault_switch::FaultSwitch;
//! let _ = FaultSwitch::only(Some(1));
//! ```
#![cfg_attr(feature = "sim", doc = "and each of the safeguards has a name:\n```")]
#![cfg_attr(not(feature = "sim"), doc = "and no safeguard has a name:\n```compile_fail,E0603")]
//! use taimat::remote_config::mutation::Safeguard;
//! let _ = Safeguard::Evidence;
//! ```
#![cfg_attr(feature = "sim", doc = "```")]
#![cfg_attr(all(feature = "office", not(feature = "sim")), doc = "```compile_fail,E0603")]
#![cfg_attr(not(feature = "office"), doc = "```compile_fail,E0433")]
//! use taimat::office::safeguards::IngestRule;
//! let _ = IngestRule::TargetFirst;
//! ```
#![cfg_attr(feature = "sim", doc = "nor can a stage of the detector be left out:\n```")]
#![cfg_attr(
    not(feature = "sim"),
    doc = "nor can a stage of the detector be left out:\n```compile_fail,E0599"
)]
//! let _ = taimat::analytics::detect::stages::Stages::without(&[]);
//! ```

use std::marker::PhantomData;

/// Which safeguard is taken away, if any. Without `sim` it has no bytes and no setter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultSwitch<T> {
    #[cfg(any(test, feature = "sim"))]
    off: Option<T>,
    of: PhantomData<T>,
}

impl<T> FaultSwitch<T> {
    /// Everything is in place.
    pub const NONE: FaultSwitch<T> = FaultSwitch {
        #[cfg(any(test, feature = "sim"))]
        off: None,
        of: PhantomData,
    };
}

#[cfg(any(test, feature = "sim"))]
impl<T: Copy + PartialEq> FaultSwitch<T> {
    /// Takes this one away.
    pub fn only(off: Option<T>) -> FaultSwitch<T> {
        FaultSwitch { off, of: PhantomData }
    }

    /// True when this safeguard is taken away.
    pub fn disables(self, safeguard: T) -> bool {
        self.off == Some(safeguard)
    }
}

#[cfg(not(any(test, feature = "sim")))]
impl<T: Copy + PartialEq> FaultSwitch<T> {
    /// No safeguard can be taken away.
    pub const fn disables(self, _safeguard: T) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_disables_one_safeguard_or_none() {
        assert!(FaultSwitch::only(Some(1)).disables(1));
        assert!(!FaultSwitch::only(Some(1)).disables(2));
        assert!(!FaultSwitch::only(None).disables(1) && !FaultSwitch::NONE.disables(1));
    }
}
