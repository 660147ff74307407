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
        let order = self.pins.get(&id).map_or(self.made, |pin| pin.order);
        self.pins.insert(id, Pin { class, first, last, order });
        true
    }

    /// Releases a pin.
    pub fn remove(&mut self, id: PinId) {
        self.pins.remove(&id);
    }

    /// True when any record of `first..=last` is pinned.
    pub fn holds(&self, first: u64, last: u64) -> bool {
        self.pins.values().any(|pin| pin.first <= last && first <= pin.last)
    }

    /// The pin to release next: the oldest of the lowest class; its id, first and last record.
    pub fn weakest(&self) -> Option<(PinId, u64, u64)> {
        let (id, pin) = self.pins.iter().min_by_key(|(_, pin)| (pin.class, pin.order))?;
        Some((*id, pin.first, pin.last))
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
            let (id, ..) = pins.weakest().unwrap();
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
        assert_eq!(pins.weakest().unwrap().0, PinId(1));
    }
}
