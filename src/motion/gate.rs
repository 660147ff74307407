//! Changes of the scene as a whole from one picture to the next, which must never look like things: exposure, infrared, a frozen
//! picture.
//!
//! What belongs here: judging neighbours in time. What does not: the slow marks of tampering ([`super::tamper`]).

use super::SceneChange;
use super::limits::{COLOUR_ABOVE, FROZEN_AFTER, GREY_BELOW, LIGHT_STEP};
use super::luma::Small;
use crate::units::Stamp;

/// Remembers the picture before.
#[derive(Debug, Default)]
pub struct Gate {
    before: Option<Small>,
    /// Since when every picture has been the same.
    same_since: Option<Stamp>,
    frozen: bool,
    grey: bool,
}

impl Gate {
    /// What changed as a whole since the picture before, if anything.
    pub fn look(&mut self, now: &Small, at: Stamp) -> Option<SceneChange> {
        let Some(before) = self.before.replace(now.clone()) else {
            self.grey = now.colour < GREY_BELOW;
            return None;
        };
        if before.cells == now.cells {
            let since = *self.same_since.get_or_insert(at);
            let frozen = at.mono.since(since.mono) >= FROZEN_AFTER;
            return (frozen && !std::mem::replace(&mut self.frozen, frozen)).then_some(SceneChange::Frozen);
        }
        (self.same_since, self.frozen) = (None, false);
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
fn median_ratio(before: &[u8], now: &[u8]) -> f32 {
    let mut ratios: Vec<f32> =
        before.iter().zip(now).step_by(13).map(|(a, b)| (f32::from(*b) + 4.0) / (f32::from(*a) + 4.0)).collect();
    let middle = ratios.len() / 2;
    if ratios.is_empty() { 1.0 } else { *ratios.select_nth_unstable_by(middle, f32::total_cmp).1 }
}
