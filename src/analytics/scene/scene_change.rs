//! Changes of the scene as a whole from one picture to the next, which must never look like objects: exposure, infrared, a frozen
//! picture.
//!
//! What belongs here: judging neighbours in time. What does not: the slow marks of tampering ([`crate::analytics::scene::tamper`]).

use crate::analytics::SceneChange;
use crate::analytics::detect::picture::LumaGrid;
use crate::analytics::params::{
    COLOUR_ABOVE, FROZEN_AFTER, GREY_BELOW, LIGHT_STEP, NOISE_MOST, SAME_CELL, SAME_SHARE, SAME_WITHIN, STEP_WITHIN,
    USUAL_FOLLOWS,
};
use crate::units::Timestamp;

/// Remembers the picture before.
#[derive(Debug, Default)]
pub struct SceneChangeDetector {
    before: Option<LumaGrid>,
    last: Timestamp,
    /// The next picture begins a GOP.
    begins: bool,
    /// The last picture of the GOP before, and when it was taken.
    end: Option<(Vec<u8>, Timestamp)>,
    /// How far apart two GOPs usually end, steps of 255.
    usual: f32,
    /// Since when the ends of GOPs have said that [`SceneChangeDetector::frozen`] is wrong.
    otherwise: Option<Timestamp>,
    frozen: bool,
    grey: bool,
}

impl SceneChangeDetector {
    /// The next picture begins a GOP.
    pub fn key_frame(&mut self) {
        self.begins = true;
    }

    /// What changed as a whole since the picture before, if anything. A picture that is `doubted` is not the scene: a covered lens
    /// has no noise either.
    pub fn analyze(&mut self, now: &LumaGrid, doubted: bool, at: Timestamp) -> Option<SceneChange> {
        let shown = std::mem::replace(&mut self.last, at);
        let begins = std::mem::take(&mut self.begins);
        let Some(before) = self.before.replace(now.clone()) else {
            self.grey = now.colour < GREY_BELOW;
            return None;
        };
        if begins && !doubted && self.freezes(&before.cells, shown) {
            return Some(SceneChange::Frozen);
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
        (at.mono.since(shown.mono) <= STEP_WITHIN && is_step(&before.cells, &now.cells)).then_some(SceneChange::Exposure)
    }

    /// A GOP has ended with a picture; true when that shows that the scene stands still from now on. Within a GOP an encoder may leave
    /// all noise of a live scene out, so that every picture repeats the first: only GOPs can be compared.
    fn freezes(&mut self, end: &[u8], at: Timestamp) -> bool {
        let Some((before, since)) = self.end.replace((end.to_vec(), at)) else { return false };
        if self.is_same(&before, end) == self.frozen {
            self.otherwise = None;
            return false;
        }
        let since = *self.otherwise.get_or_insert(since);
        if at.mono.since(since.mono) < FROZEN_AFTER {
            return false;
        }
        self.otherwise = None;
        self.frozen = !self.frozen;
        self.frozen
    }

    /// True when two GOPs end alike, by no more apart than an encoder's rounding; what is usual is learned from the others.
    fn is_same(&mut self, one: &[u8], other: &[u8]) -> bool {
        let apart = one.iter().zip(other).map(|(a, b)| a.abs_diff(*b));
        // What moved between the two says nothing about the noise.
        let (sum, most) = apart.fold((0_u32, 0), |(sum, most), apart| (sum + u32::from(apart.min(NOISE_MOST)), apart.max(most)));
        let mean = sum as f32 / one.len().max(1) as f32;
        let within = SAME_WITHIN.max(SAME_SHARE * self.usual);
        let same = one.len() == other.len() && most <= SAME_CELL && mean <= within;
        if !same {
            self.usual += (mean - self.usual) * if self.usual == 0.0 { 1.0 } else { USUAL_FOLLOWS };
        }
        same
    }
}

fn is_step(before: &[u8], now: &[u8]) -> bool {
    !(1.0 / LIGHT_STEP..=LIGHT_STEP).contains(&median_ratio(before, now))
}

/// Median of the brightness ratio cell by cell: an object changes some cells, light changes all.
fn median_ratio(before: &[u8], now: &[u8]) -> f32 {
    let mut ratios: Vec<f32> =
        before.iter().zip(now).step_by(13).map(|(a, b)| (f32::from(*b) + 4.0) / (f32::from(*a) + 4.0)).collect();
    let middle = ratios.len() / 2;
    if ratios.is_empty() { 1.0 } else { *ratios.select_nth_unstable_by(middle, f32::total_cmp).1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::detect::picture::Grid;
    use crate::units::MonoTime;

    /// Changes reported for pictures at five a second, twenty a GOP, each of 32 x 18 cells drawn by `cell(look, at)`.
    fn told(looks: u64, colour: impl Fn(u64) -> f32, cell: impl Fn(u64, u64) -> u64) -> Vec<(u64, SceneChange)> {
        let mut scene_changes = SceneChangeDetector::default();
        let grid = Grid { width: 32, height: 18 };
        let mut out = Vec::new();
        for look in 0..looks {
            let cells = (0..grid.cells() as u64).map(|at| cell(look, at).min(255) as u8).collect();
            let at = Timestamp { mono: MonoTime(look * 200_000), ..Timestamp::default() };
            if look.is_multiple_of(20) {
                scene_changes.key_frame();
            }
            out.extend(
                scene_changes.analyze(&LumaGrid { grid, cells, colour: colour(look) }, false, at).map(|change| (look, change)),
            );
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
    fn a_frozen_picture_is_reported_once_and_a_live_one_never() {
        let live = |look: u64, at: u64| street(at) + noise(look, at);
        assert_eq!(told(200, |_| 9.0, live), []);
        // The first four of each ten are still rounded differently.
        let coded = |look: u64, at: u64| if look > 50 && look % 10 > 3 { street(at) } else { live(look, at) };
        let frozen = told(200, |_| 9.0, coded);
        assert!(matches!(frozen[..], [(look, SceneChange::Frozen)] if look < 51 + 50), "{frozen:?}");
        // An encoder with bits to spare polishes it: each GOP ends nearer to the truth.
        let rough = |look: u64, at: u64| u64::from(noise(look / 10, at) * 25 + at % 25 < 60 / (look / 10 - 3));
        let polished = |look: u64, at: u64| if look > 50 { street(at) + rough(look, at) } else { live(look, at) };
        let polished = told(200, |_| 9.0, polished);
        assert!(matches!(polished[..], [(look, SceneChange::Frozen)] if look < 51 + 50), "{polished:?}");
        let walker = |look: u64, at: u64| if at == look % 576 { 250 } else { street(at) };
        assert_eq!(told(200, |_| 9.0, walker), [], "somebody walks through a clean picture");
        let again =
            told(400, |_| 9.0, |look, at| if (50..150).contains(&look) || look > 250 { street(at) } else { live(look, at) });
        assert_eq!(again.len(), 2, "{again:?}");
        // With nothing to compare with, the first pictures count as the encoder's rounding only when they are as near as that.
        let first = told(200, |_| 9.0, |look, at| street(at) + u64::from((look / 20 + at) % 60 == 0));
        assert!(matches!(first[..], [(look, SceneChange::Frozen)] if look < 60), "{first:?}");
        assert_eq!(told(200, |_| 9.0, |look, at| street(at) + u64::from((look / 20 + at) % 20 == 0)), []);
    }

    #[test]
    fn a_live_scene_without_coded_noise_is_not_frozen() {
        assert_eq!(told(200, |_| 9.0, |look, at| street(at) + noise(look / 20, at)), []);
    }

    #[test]
    fn colour_loss_is_the_filter_and_a_light_step_is_exposure() {
        let live = |look: u64, at: u64| street(at) + noise(look, at);
        let filter = told(60, |look| if (20..40).contains(&look) { 0.0 } else { 9.0 }, live);
        assert_eq!(filter, [(20, SceneChange::IrOn), (40, SceneChange::IrOff)]);
        let step = told(40, |_| 9.0, |look, at| if look < 20 { live(look, at) } else { live(look, at) * 13 / 10 });
        assert_eq!(step, [(20, SceneChange::Exposure)]);
    }
}
