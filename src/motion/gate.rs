//! Changes of the scene as a whole, which must never look like things: exposure, infrared, a frozen picture.
//!
//! What belongs here: judging whole pictures. What does not: parts of them.

use super::SceneChange;
use super::limits::{COLOUR_ABOVE, FROZEN_AFTER, GREY_BELOW, LIGHT_STEP};
use super::luma::Small;

/// Remembers the picture before.
#[derive(Debug, Default)]
pub struct Gate {
    before: Option<Small>,
    same: u32,
    grey: bool,
}

impl Gate {
    /// What changed as a whole since the picture before, if anything.
    pub fn look(&mut self, now: &Small) -> Option<SceneChange> {
        let Some(before) = self.before.replace(now.clone()) else {
            self.grey = now.colour < GREY_BELOW;
            return None;
        };
        if before.cells == now.cells {
            self.same += 1;
            return (self.same == FROZEN_AFTER).then_some(SceneChange::Frozen);
        }
        self.same = 0;
        if !self.grey && now.colour < GREY_BELOW {
            self.grey = true;
            return Some(SceneChange::IrOn);
        }
        if self.grey && now.colour > COLOUR_ABOVE {
            self.grey = false;
            return Some(SceneChange::IrOff);
        }
        let ratio = median_ratio(&before.cells, &now.cells);
        (!(1.0 / LIGHT_STEP..=LIGHT_STEP).contains(&ratio)).then_some(SceneChange::Exposure)
    }
}

/// Median of the brightness ratio cell by cell: a thing changes some cells, light changes all.
pub fn median_ratio(before: &[u8], now: &[u8]) -> f32 {
    let mut ratios: Vec<f32> =
        before.iter().zip(now).step_by(13).map(|(a, b)| (f32::from(*b) + 4.0) / (f32::from(*a) + 4.0)).collect();
    let middle = ratios.len() / 2;
    if ratios.is_empty() { 1.0 } else { *ratios.select_nth_unstable_by(middle, f32::total_cmp).1 }
}
