//! The load governor: lowers the analysis rate above a CPU share or a temperature limit.
//!
//! Analysis gives way; recording never does.

use std::time::Duration;

use crate::analytics::params::{COOL_DOWN, LOAD_EASY, LOAD_WINDOW};

/// The rate of analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnalysisRate {
    /// The rate of the settings.
    Full,
    /// Half of that rate.
    HalfRate,
    /// Key frames only; reported as degraded.
    KeyFrames,
}

/// The load of one analyzer against its limits.
pub struct LoadGovernor {
    budget: f32,
    max_temperature: u8,
    load: AnalysisRate,
    hot: bool,
    window_start: u64,
    spent: u64,
    /// Windows in a row below a third of the budget.
    easy_windows: u32,
}

impl LoadGovernor {
    /// A governor that allows `percent` of a core and a board temperature below `max_temperature`
    /// degrees Celsius.
    pub fn new(percent: u8, max_temperature: u8) -> LoadGovernor {
        let budget = f32::from(percent) / 100.0;
        LoadGovernor {
            budget,
            max_temperature,
            load: AnalysisRate::Full,
            hot: false,
            window_start: 0,
            spent: 0,
            easy_windows: 0,
        }
    }

    /// The rate that load and temperature allow.
    pub fn rate(&self) -> AnalysisRate {
        if self.hot { AnalysisRate::KeyFrames } else { self.load }
    }

    /// Records `micros` of work until `now`, and the temperature when it was read.
    pub fn charge(&mut self, micros: u64, temperature: Option<u8>, now: u64) {
        if let Some(degrees) = temperature {
            let limit = if self.hot {
                self.max_temperature.saturating_sub(COOL_DOWN)
            } else {
                self.max_temperature
            };
            self.hot = degrees >= limit;
        }
        self.spent += micros;
        let elapsed = now.saturating_sub(self.window_start);
        if Duration::from_micros(elapsed) < LOAD_WINDOW {
            return;
        }
        let load = self.spent as f32 / elapsed as f32;
        self.window_start = now;
        self.spent = 0;
        self.easy_windows = if load < self.budget / 3.0 { self.easy_windows + 1 } else { 0 };
        self.load = match self.load {
            AnalysisRate::Full if load > self.budget => AnalysisRate::HalfRate,
            AnalysisRate::HalfRate if load > self.budget => AnalysisRate::KeyFrames,
            AnalysisRate::HalfRate if self.easy_windows >= LOAD_EASY => AnalysisRate::Full,
            AnalysisRate::KeyFrames if self.easy_windows >= LOAD_EASY => AnalysisRate::HalfRate,
            same => same,
        };
        if self.easy_windows >= LOAD_EASY {
            self.easy_windows = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates after each of `windows` windows of 5 s with a load of `percent`.
    fn rates(
        governor: &mut LoadGovernor,
        from: u64,
        windows: u64,
        percent: u64,
    ) -> Vec<AnalysisRate> {
        (1..=windows)
            .map(|n| {
                governor.charge(percent * 50_000, None, (from + n) * 5_000_000);
                governor.rate()
            })
            .collect()
    }

    #[test]
    fn overload_halves_the_rate_then_leaves_key_frames_only() {
        let mut governor = LoadGovernor::new(50, 80);
        assert_eq!(
            rates(&mut governor, 0, 3, 70),
            [AnalysisRate::HalfRate, AnalysisRate::KeyFrames, AnalysisRate::KeyFrames]
        );
        let back = rates(&mut governor, 3, 13, 10);
        assert_eq!(
            (back[4], back[5], back[12]),
            (AnalysisRate::KeyFrames, AnalysisRate::HalfRate, AnalysisRate::Full)
        );
        assert!(
            rates(&mut governor, 16, 20, 40).iter().all(|rate| *rate == AnalysisRate::Full),
            "within the budget"
        );
    }

    #[test]
    fn a_hot_board_analyses_key_frames_only_until_it_cools_down() {
        let mut governor = LoadGovernor::new(50, 80);
        let mut rate = |degrees| {
            governor.charge(0, Some(degrees), 1);
            governor.rate()
        };
        assert_eq!(
            [79, 80, 77, 75, 74].map(&mut rate),
            [
                AnalysisRate::Full,
                AnalysisRate::KeyFrames,
                AnalysisRate::KeyFrames,
                AnalysisRate::KeyFrames,
                AnalysisRate::Full
            ]
        );
    }
}
