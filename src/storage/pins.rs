//! Pins: protect footage from eviction (promise P5).

use std::collections::BTreeMap;

use super::{PinClass, PinId};

/// Most pins: pending clips (≤ 8) and clips in transfer (limited by the slots of the journal).
pub const PINS_MAX: usize = 8192;

/// A range of records to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pin {
    class: PinClass,
    first: u64,
    last: u64,
    /// Order of creation; earlier pins have lower numbers.
    order: u64,
}

/// All pins.
#[derive(Debug, Default)]
pub struct Pins {
    pins: BTreeMap<PinId, Pin>,
    /// First and last record of pins that the quota dropped and whose owner needs them still: their
    /// footage stays until it is evicted, and is lost then. At most [`PINS_MAX`]; a further one is
    /// not followed.
    dropped: BTreeMap<PinId, (u64, u64)>,
    made: u64,
}

impl Pins {
    /// Pins records `first..=last`; `u64::MAX` pins everything from `first` on. Replaces a pin with
    /// the same id. False if there are too many pins.
    pub fn set(&mut self, id: PinId, class: PinClass, first: u64, last: u64) -> bool {
        if self.pins.len() >= PINS_MAX && !self.pins.contains_key(&id) {
            return false;
        }
        self.made += 1;
        self.dropped.remove(&id);
        let order = self.pins.get(&id).map_or(self.made, |pin| pin.order);
        self.pins.insert(id, Pin { class, first, last, order });
        true
    }

    /// Releases a pin whose footage is no longer needed.
    pub fn remove(&mut self, id: PinId) {
        self.pins.remove(&id);
        self.dropped.remove(&id);
    }

    /// Drops a pin whose footage is still needed, because pins exceed their quota.
    pub fn drop_over_quota(&mut self, id: PinId) {
        if let Some(pin) = self.pins.remove(&id)
            && self.dropped.len() < PINS_MAX
        {
            self.dropped.insert(id, (pin.first, pin.last));
        }
    }

    /// True when a record from `first` to `last` belongs to a dropped pin, so that its eviction is a loss.
    pub fn is_any_dropped(&self, first: u64, last: u64) -> bool {
        self.dropped.values().any(|(from, to)| *from <= last && first <= *to)
    }

    /// True when any record of `first..=last` is pinned.
    pub fn holds(&self, first: u64, last: u64) -> bool {
        self.pins.values().any(|pin| pin.first <= last && first <= pin.last)
    }

    /// The pin to release next: the oldest of the lowest class.
    pub fn weakest(&self) -> Option<PinId> {
        let (id, _) = self.pins.iter().min_by_key(|(_, pin)| (pin.class, pin.order))?;
        Some(*id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_pin_of_the_lowest_class_is_released_first() {
        let mut pins = Pins::default();
        pins.set(PinId(1), PinClass::Lock, 1, 5);
        pins.set(PinId(2), PinClass::Event, 6, 9);
        pins.set(PinId(3), PinClass::Requested, 1, 2);
        pins.set(PinId(4), PinClass::Requested, 1, 2);
        for expected in [3, 4, 2, 1] {
            let id = pins.weakest().unwrap();
            assert_eq!(id, PinId(expected));
            pins.remove(id);
        }
    }

    #[test]
    fn narrowing_a_pin_keeps_its_age() {
        let mut pins = Pins::default();
        pins.set(PinId(1), PinClass::Event, 1, u64::MAX);
        pins.set(PinId(2), PinClass::Event, 1, 2);
        assert!(pins.holds(1_000_000, 1_000_001));
        pins.set(PinId(1), PinClass::Event, 3, 4);
        assert!(!pins.holds(5, 9));
        assert_eq!(pins.weakest(), Some(PinId(1)));
    }

    #[test]
    fn a_dropped_pin_is_followed_until_released_or_set_again() {
        let mut pins = Pins::default();
        for id in [1, 2] {
            pins.set(PinId(id), PinClass::Event, 5, 9);
            pins.drop_over_quota(PinId(id));
        }
        assert!(pins.is_any_dropped(9, 9) && !pins.is_any_dropped(10, 10) && !pins.holds(5, 9));
        pins.remove(PinId(1));
        assert!(pins.is_any_dropped(5, 5));
        pins.set(PinId(2), PinClass::Event, 7, 9);
        assert!(!pins.is_any_dropped(0, u64::MAX) && pins.holds(7, 7));
    }
}
