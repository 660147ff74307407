//! Changes of the scene as a whole from one picture to the next, which must never look like things: exposure, infrared, a frozen
//! picture.
//!
//! What belongs here: judging neighbours in time. What does not: the slow marks of tampering ([`super::tamper`]).

use std::collections::VecDeque;

use super::SceneChange;
use super::limits::{
    COLOUR_ABOVE, FROZEN_AFTER, FROZEN_FRESH, FROZEN_LOOKS, FROZEN_OVER, GREY_BELOW, LIGHT_STEP, SAME_CELL, SAME_WITHIN,
    STEP_WITHIN,
};
use super::luma::Small;
use crate::units::Stamp;

/// Remembers the picture before.
#[derive(Debug, Default)]
pub struct Gate {
    before: Option<Small>,
    last: Stamp,
    /// Pictures of the last seconds: when, and whether each was the same as the one before.
    same: VecDeque<(u64, bool)>,
    frozen: bool,
    grey: bool,
}

impl Gate {
    /// What changed as a whole since the picture before, if anything.
    pub fn look(&mut self, now: &Small, at: Stamp) -> Option<SceneChange> {
        let apart = at.mono.since(std::mem::replace(&mut self.last, at).mono);
        let Some(before) = self.before.replace(now.clone()) else {
            self.grey = now.colour < GREY_BELOW;
            return None;
        };
        let same = is_same(&before.cells, &now.cells);
        let frozen = self.is_frozen(same, at);
        if frozen && !std::mem::replace(&mut self.frozen, frozen) {
            return Some(SceneChange::Frozen);
        }
        self.frozen = frozen;
        if same {
            return None;
        }
        if !self.grey && now.colour < GREY_BELOW {
            self.grey = true;
            return Some(SceneChange::IrOn);
        }
        if self.grey && now.colour > COLOUR_ABOVE {
            self.grey = false;
            return Some(SceneChange::IrOff);
        }
        // Between pictures far apart a cloud changes the light as much as a step does.
        (apart <= STEP_WITHIN && is_step(&before.cells, &now.cells)).then_some(SceneChange::Exposure)
    }
}

impl Gate {
    /// True when nearly no picture of the last seconds brought anything new: a still picture is coded anew at each key frame.
    fn is_frozen(&mut self, same: bool, at: Stamp) -> bool {
        self.same.push_back((at.mono.0, same));
        while self.same.get(1).is_some_and(|(second, _)| at.mono.0.saturating_sub(*second) >= FROZEN_AFTER) {
            self.same.pop_front();
        }
        let long = self.same.front().is_some_and(|(first, _)| at.mono.0.saturating_sub(*first) >= FROZEN_AFTER);
        let fresh = self.same.iter().filter(|(_, same)| !same).count();
        // Once frozen it is until nearly every picture is new again: else it would be told at each key frame.
        let most = if self.frozen { FROZEN_OVER } else { FROZEN_FRESH };
        long && self.same.len() >= FROZEN_LOOKS && fresh as f32 <= most * self.same.len() as f32
    }
}

/// True when two pictures differ by no more than an encoder's rounding.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let apart = one.iter().zip(other).map(|(a, b)| a.abs_diff(*b));
    let (sum, most) = apart.fold((0_u32, 0), |(sum, most), apart| (sum + u32::from(apart), apart.max(most)));
    most <= SAME_CELL && sum as f32 <= SAME_WITHIN * one.len() as f32
}

fn is_step(before: &[u8], now: &[u8]) -> bool {
    !(1.0 / LIGHT_STEP..=LIGHT_STEP).contains(&median_ratio(before, now))
}

/// Median of the brightness ratio cell by cell: a thing changes some cells, light changes all.
fn median_ratio(before: &[u8], now: &[u8]) -> f32 {
    let mut ratios: Vec<f32> =
        before.iter().zip(now).step_by(13).map(|(a, b)| (f32::from(*b) + 4.0) / (f32::from(*a) + 4.0)).collect();
    let middle = ratios.len() / 2;
    if ratios.is_empty() { 1.0 } else { *ratios.select_nth_unstable_by(middle, f32::total_cmp).1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::motion::luma::Grid;
    use crate::units::Mono;

    /// Changes told for pictures at five a second, each of 32 x 18 cells drawn by `cell(look, at)`.
    fn told(looks: u64, colour: impl Fn(u64) -> f32, cell: impl Fn(u64, u64) -> u64) -> Vec<(u64, SceneChange)> {
        let mut gate = Gate::default();
        let grid = Grid { width: 32, height: 18 };
        let mut out = Vec::new();
        for look in 0..looks {
            let cells = (0..grid.cells() as u64).map(|at| cell(look, at).min(255) as u8).collect();
            let at = Stamp { mono: Mono(look * 200_000), ..Stamp::default() };
            out.extend(gate.look(&Small { grid, cells, colour: colour(look) }, at).map(|change| (look, change)));
        }
        out
    }

    fn street(at: u64) -> u64 {
        60 + at * 7919 % 120
    }

    fn noise(look: u64, at: u64) -> u64 {
        (look * 31 + at * 17) * 2_654_435_761 % 97 % 4
    }

    #[test]
    fn a_picture_that_stands_still_is_told_once_though_it_is_coded_anew_and_a_live_one_never() {
        let live = |look: u64, at: u64| street(at) + noise(look, at);
        assert_eq!(told(200, |_| 9.0, live), []);
        // Ten pictures a GOP: the first three of each are still rounded differently.
        let coded = |look: u64, at: u64| if look > 50 && look % 10 > 3 { street(at) } else { live(look, at) };
        let frozen = told(200, |_| 9.0, coded);
        assert!(matches!(frozen[..], [(look, SceneChange::Frozen)] if look < 51 + 50), "{frozen:?}");
        let walker = |look: u64, at: u64| if at == look % 576 { 250 } else { street(at) };
        assert_eq!(told(200, |_| 9.0, walker), [], "somebody walks through a clean picture");
    }

    #[test]
    fn colour_that_goes_and_comes_is_the_filter_and_a_step_of_light_is_exposure() {
        let live = |look: u64, at: u64| street(at) + noise(look, at);
        let filter = told(60, |look| if (20..40).contains(&look) { 0.0 } else { 9.0 }, live);
        assert_eq!(filter, [(20, SceneChange::IrOn), (40, SceneChange::IrOff)]);
        let step = told(40, |_| 9.0, |look, at| if look < 20 { live(look, at) } else { live(look, at) * 13 / 10 });
        assert_eq!(step, [(20, SceneChange::Exposure)]);
    }
}
