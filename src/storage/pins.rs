//! Who wants which footage kept (promise P5).
//!
//! What belongs here: pins and the order in which they are dropped. What does not: which file that concerns ([`super::ring`]).

use std::collections::BTreeMap;

use super::{PinClass, PinId};

/// Pins at once at most: clips pending (≤ 8) and clips on their way to the office (bounded by the journal's slots).
pub const PINS_MAX: usize = 8192;

/// Footage somebody wants kept, by record numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pin {
    class: PinClass,
    first: u64,
    last: u64,
    /// Age: pins made earlier are lower.
    order: u64,
}

/// All pins.
#[derive(Debug, Default)]
pub struct Pins {
    pins: BTreeMap<PinId, Pin>,
    made: u64,
}

impl Pins {
    /// Keeps records `first..=last`; `u64::MAX` keeps everything from `first` on. Replaces a pin of the same name. False when
    /// there are too many.
    pub fn set(&mut self, id: PinId, class: PinClass, first: u64, last: u64) -> bool {
        if self.pins.len() >= PINS_MAX && !self.pins.contains_key(&id) {
            return false;
        }
        self.made += 1;
        let order = self.pins.get(&id).map_or(self.made, |pin| pin.order);
        self.pins.insert(id, Pin { class, first, last, order });
        true
    }

    /// Lets go.
    pub fn remove(&mut self, id: PinId) {
        self.pins.remove(&id);
    }

    /// True when some record of `first..=last` is pinned.
    pub fn holds(&self, first: u64, last: u64) -> bool {
        self.pins.values().any(|pin| pin.first <= last && first <= pin.last)
    }

    /// The pin to give up next: the oldest of the lowest class.
    pub fn weakest(&self) -> Option<(PinId, u64, u64)> {
        let weakest = self.pins.iter().min_by_key(|(_, pin)| (pin.class, pin.order))?;
        Some((*weakest.0, weakest.1.first, weakest.1.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_pin_of_the_lowest_class_goes_first() {
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
