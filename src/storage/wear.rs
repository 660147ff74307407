//! Wear: computes the used life of the card and the days left at the current pace.

use std::time::Duration;

use crate::units::MonoTime;

/// Percent of the life of the card at which it should be replaced.
pub const ALARM: u8 = 80;
/// Shortest time over which the pace is measured.
const PACE_MIN: Duration = Duration::from_secs(600);

/// Wear of the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wear {
    /// Percent of its life used; above 100 when exceeded, 0 if unknown.
    pub percent: u8,
    /// Days left at this pace; 0 if unknown.
    pub days_left: u32,
}

/// Bytes written so far, and the rated endurance.
#[derive(Debug, Clone, Copy)]
pub struct WriteLoad {
    /// Bytes written over the life of the ring.
    pub lifetime: u64,
    /// Bytes written since this boot.
    pub written: u64,
    /// Start of this boot.
    pub since: MonoTime,
    /// Current time.
    pub now: MonoTime,
    /// Bytes that may be written to the card by its data sheet (`storage.endurance`); 0 when not
    /// configured.
    pub endurance: u64,
    /// Percent of its life used, as reported by the device; `None` if it reports nothing.
    pub device: Option<u8>,
}

impl WriteLoad {
    /// The wear: the larger of the report of the device and the share of the rated endurance.
    pub fn wear(&self) -> Wear {
        let sheet = (u128::from(self.lifetime) * 100)
            .checked_div(u128::from(self.endurance))
            .unwrap_or(0)
            .min(255) as u8;
        Wear { percent: sheet.max(self.device.unwrap_or(0)), days_left: self.days_left() }
    }

    fn days_left(&self) -> u32 {
        let lasted = self.now.duration_since(self.since);
        if self.endurance == 0 || self.written == 0 || lasted < PACE_MIN {
            return 0;
        }
        let left = u128::from(self.endurance.saturating_sub(self.lifetime));
        let day = Duration::from_secs(86_400).as_micros();
        u32::try_from(left * lasted.as_micros() / u128::from(self.written) / day)
            .unwrap_or(u32::MAX)
    }
}

/// Parses `life_time`: two hexadecimal numbers, one for each kind of memory, that count started
/// tenths of its life. 0x0b means beyond its life (JESD84-B51 7.4.40).
pub(super) fn life_percent(text: &str) -> Option<u8> {
    let tenths = text
        .split_whitespace()
        .filter_map(|word| u8::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    tenths.filter(|tenths| (1..=11).contains(tenths)).max().map(|tenths| tenths * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emmc_life_is_the_worse_of_its_two_memory_types() {
        assert_eq!(life_percent("0x01 0x03\n"), Some(30));
        assert_eq!(life_percent("0x00 0x00\n"), None, "not defined");
        assert_eq!(life_percent("0x0b 0x01"), Some(110));
    }

    fn load() -> WriteLoad {
        // 2 Mbit/s for a day on a card rated for 128 TB: 21.6 GB a day.
        let (since, now) = (MonoTime(0), MonoTime(86_400_000_000));
        WriteLoad {
            lifetime: 64_000_000_000_000,
            written: 21_600_000_000,
            since,
            now,
            endurance: 128_000_000_000_000,
            device: None,
        }
    }

    #[test]
    fn half_of_the_rated_writes_leaves_half_of_the_life() {
        assert_eq!(load().wear(), Wear { percent: 50, days_left: 2962 });
    }

    #[test]
    fn a_worse_device_report_overrides_the_rated_endurance() {
        assert_eq!(WriteLoad { device: Some(90), ..load() }.wear().percent, 90);
        assert_eq!(WriteLoad { endurance: 0, ..load() }.wear(), Wear::default());
        assert_eq!(
            WriteLoad { now: MonoTime(60_000_000), ..load() }.wear().days_left,
            0,
            "one minute is too short"
        );
    }
}
