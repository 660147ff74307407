//! Wear: how much of the card's life is used, and how long it will last at this pace.
//!
//! What belongs here: that arithmetic. What does not: asking the device ([`super::disk`]), counting bytes ([`super::ring`]).

use crate::units::MonoTime;

/// Percent of a card's life at which somebody should bring another.
pub const ALARM: u8 = 80;
/// Microseconds a start must have lasted before its pace means anything.
const PACE_AFTER: u64 = 600_000_000;

/// What is known of the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wear {
    /// Percent of its life used, over 100 beyond it; 0 where nobody knows.
    pub percent: u8,
    /// Days left at this pace; 0 where nobody knows.
    pub days_left: u32,
}

/// What has been written and what the card bears.
#[derive(Debug, Clone, Copy)]
pub struct WriteLoad {
    /// Bytes written over the life of the ring.
    pub lifetime: u64,
    /// Bytes written in this start.
    pub written: u64,
    /// How long this start has lasted: from and to.
    pub since: (MonoTime, MonoTime),
    /// Bytes the card may be written with by its data sheet (`storage.endurance`); 0 where nobody has said.
    pub endurance: u64,
    /// What the device itself says, percent.
    pub device: Option<u8>,
}

impl WriteLoad {
    /// The worse of what the device says and what the data sheet allows.
    pub fn wear(&self) -> Wear {
        let sheet = (u128::from(self.lifetime) * 100).checked_div(u128::from(self.endurance)).unwrap_or(0).min(255) as u8;
        Wear { percent: sheet.max(self.device.unwrap_or(0)), days_left: self.days_left() }
    }

    fn days_left(&self) -> u32 {
        let (from, to) = self.since;
        let lasted = to.since(from);
        if self.endurance == 0 || self.written == 0 || lasted < PACE_AFTER {
            return 0;
        }
        let left = u128::from(self.endurance.saturating_sub(self.lifetime));
        let day = 86_400_000_000_u128;
        u32::try_from(left * u128::from(lasted) / u128::from(self.written) / day).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> WriteLoad {
        // 2 Mbit/s for a day on a card of 128 TB: 21.6 GB a day.
        let since = (MonoTime(0), MonoTime(86_400_000_000));
        WriteLoad { lifetime: 64_000_000_000_000, written: 21_600_000_000, since, endurance: 128_000_000_000_000, device: None }
    }

    #[test]
    fn half_of_the_rated_writes_leaves_half_of_the_days() {
        assert_eq!(load().wear(), Wear { percent: 50, days_left: 2962 });
    }

    #[test]
    fn the_cards_own_wear_report_counts_when_it_is_worse() {
        assert_eq!(WriteLoad { device: Some(90), ..load() }.wear().percent, 90);
        assert_eq!(WriteLoad { endurance: 0, ..load() }.wear(), Wear::default());
        assert_eq!(WriteLoad { since: (MonoTime(0), MonoTime(60_000_000)), ..load() }.wear().days_left, 0, "a minute is no pace");
    }
}
