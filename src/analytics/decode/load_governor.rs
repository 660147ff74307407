//! How much looking the board can afford: a share of one core, and a temperature. Motion gives way, recording never does.
//!
//! What belongs here: the choice of a mode. What does not: measuring (the analytics thread), what a mode means ([`super::scheduler`]).

use crate::analytics::params::{COOLER, STRAIN_EASY, STRAIN_WINDOW};

/// How pictures are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnalysisRate {
    /// As the settings say.
    Full,
    /// Half as often.
    HalfRate,
    /// Key frames only, reported as degraded.
    KeyFrames,
}

/// The strain of one analyzer.
pub struct LoadGovernor {
    budget: f32,
    max_temperature: u8,
    load: AnalysisRate,
    hot: bool,
    began: u64,
    spent: u64,
    /// Windows in a row that were well within the budget.
    easy: u32,
}

impl LoadGovernor {
    /// May take `percent` of a core, and heat the board to `max_temperature` degrees.
    pub fn new(percent: u8, max_temperature: u8) -> LoadGovernor {
        let budget = f32::from(percent) / 100.0;
        LoadGovernor { budget, max_temperature, load: AnalysisRate::Full, hot: false, began: 0, spent: 0, easy: 0 }
    }

    /// How to look.
    pub fn mode(&self) -> AnalysisRate {
        if self.hot { AnalysisRate::KeyFrames } else { self.load }
    }

    /// Notes work of so many microseconds until `now`, and the temperature when it is known.
    pub fn charge(&mut self, micros: u64, temperature: Option<u8>, now: u64) {
        if let Some(degrees) = temperature {
            let limit = if self.hot { self.max_temperature.saturating_sub(COOLER) } else { self.max_temperature };
            self.hot = degrees >= limit;
        }
        self.spent += micros;
        let elapsed = now.saturating_sub(self.began);
        if elapsed < STRAIN_WINDOW {
            return;
        }
        let load = self.spent as f32 / elapsed as f32;
        (self.began, self.spent) = (now, 0);
        self.easy = if load < self.budget / 3.0 { self.easy + 1 } else { 0 };
        self.load = match self.load {
            AnalysisRate::Full if load > self.budget => AnalysisRate::HalfRate,
            AnalysisRate::HalfRate if load > self.budget => AnalysisRate::KeyFrames,
            AnalysisRate::HalfRate if self.easy >= STRAIN_EASY => AnalysisRate::Full,
            AnalysisRate::KeyFrames if self.easy >= STRAIN_EASY => AnalysisRate::HalfRate,
            same => same,
        };
        if self.easy >= STRAIN_EASY {
            self.easy = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Modes after each five seconds of such a load in percent.
    fn modes(load_governor: &mut LoadGovernor, from: u64, windows: u64, percent: u64) -> Vec<AnalysisRate> {
        (1..=windows)
            .map(|n| {
                load_governor.charge(percent * 50_000, None, (from + n) * 5_000_000);
                load_governor.mode()
            })
            .collect()
    }

    #[test]
    fn overload_halves_the_rate_then_leaves_key_frames_only() {
        let mut load_governor = LoadGovernor::new(50, 80);
        assert_eq!(
            modes(&mut load_governor, 0, 3, 70),
            [AnalysisRate::HalfRate, AnalysisRate::KeyFrames, AnalysisRate::KeyFrames]
        );
        let back = modes(&mut load_governor, 3, 13, 10);
        assert_eq!((back[4], back[5], back[12]), (AnalysisRate::KeyFrames, AnalysisRate::HalfRate, AnalysisRate::Full));
        assert!(modes(&mut load_governor, 16, 20, 40).iter().all(|mode| *mode == AnalysisRate::Full), "within the budget");
    }

    #[test]
    fn a_hot_board_sees_key_frames_only_until_it_has_cooled_down() {
        let mut load_governor = LoadGovernor::new(50, 80);
        let mut mode = |degrees| {
            load_governor.charge(0, Some(degrees), 1);
            load_governor.mode()
        };
        assert_eq!(
            [79, 80, 77, 75, 74].map(&mut mode),
            [AnalysisRate::Full, AnalysisRate::KeyFrames, AnalysisRate::KeyFrames, AnalysisRate::KeyFrames, AnalysisRate::Full]
        );
    }
}
