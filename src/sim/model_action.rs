//! Random actions on the ring and its reference model.

use super::rng::Rng;
use crate::storage::PinClass;

/// Largest batch of entries: the journal of the workload has eight slots.
pub(super) const BATCH_MAX: u64 = 3;

/// An action on engine and model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Record this many actions of the workload.
    Record(u64),
    /// Pin everything from this many microseconds ago on: pin, class, microseconds.
    PinOpen(u64, PinClass, u64),
    /// Pin records: pin, class, first, last.
    Pin(u64, PinClass, u64, u64),
    /// Release a pin.
    Unpin(u64),
    /// Store a batch of this many entries.
    Enqueue(u64),
    /// Release the oldest entry.
    Release,
    /// Let 30 s pass and compare the counters.
    Count,
    /// Make the flush after this many fail.
    FailFlush(u64),
    /// Stop in order and boot.
    Restart,
    /// Cut the power and boot.
    PowerCut,
}

impl Action {
    pub(super) fn random(rng: &mut Rng, newest: u64) -> Action {
        let class = [PinClass::Requested, PinClass::Event, PinClass::Lock][rng.below(3) as usize];
        let (pin, first) = (1 + rng.below(6), 1 + rng.below(newest + 2));
        match rng.below(100) {
            0..=54 => Action::Record(1 + rng.below(30)),
            55..=59 => Action::PinOpen(pin, class, rng.below(4_000_000)),
            60..=69 => {
                Action::Pin(pin, class, first.max(newest.saturating_sub(20)), first + rng.below(12))
            }
            70..=75 => Action::Unpin(pin),
            76..=83 => Action::Enqueue(1 + rng.below(BATCH_MAX)),
            84..=89 => Action::Release,
            90..=92 => Action::Count,
            93..=94 => Action::FailFlush(1 + rng.below(BATCH_MAX)),
            95..=96 => Action::Restart,
            _ => Action::PowerCut,
        }
    }
}
