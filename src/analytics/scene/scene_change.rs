//! Scene changes: detects exposure steps, infrared switches and frozen pictures.
//!
//! These changes must never look like objects.

use crate::analytics::SceneChange;
use crate::analytics::detect::picture::LumaGrid;
use crate::analytics::params::{
    COLOUR_ABOVE, FROZEN_AFTER, GREY_BELOW, LIGHT_STEP, NOISE_MOST, SAME_CELL, SAME_MEAN,
    SAME_SHARE, STEP_WITHIN, USUAL_FOLLOWS,
};
use crate::units::Timestamp;

/// Compares each picture with the one before it, and each GOP with the one before it.
#[derive(Debug, Default)]
pub struct SceneChangeDetector {
    previous: Option<LumaGrid>,
    last: Timestamp,
    /// The next picture starts a GOP.
    starts_gop: bool,
    /// The last picture of the previous GOP, and its capture time.
    previous_end: Option<(Vec<u8>, Timestamp)>,
    /// Usual distance between the ends of two GOPs, steps of 255.
    usual_distance: f32,
    /// Time since which the ends of GOPs have contradicted `frozen`.
    contradicted_since: Option<Timestamp>,
    frozen: bool,
    grey: bool,
}

impl SceneChangeDetector {
    /// Announces that the next picture starts a GOP.
    pub fn key_frame(&mut self) {
        self.starts_gop = true;
    }

    /// The change of the whole scene since the picture before, if any. A picture that is `doubted`
    /// (by the tamper detector) cannot be frozen: a covered lens has no noise either.
    pub fn analyze(&mut self, now: &LumaGrid, doubted: bool, at: Timestamp) -> Option<SceneChange> {
        let previous_at = std::mem::replace(&mut self.last, at);
        let starts_gop = std::mem::take(&mut self.starts_gop);
        let Some(previous) = self.previous.replace(now.clone()) else {
            self.grey = now.colour < GREY_BELOW;
            return None;
        };
        if starts_gop && !doubted && self.record_gop_end(&previous.cells, previous_at) {
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
        // Between pictures that are far apart a cloud changes the light as much as an exposure
        // step.
        (at.mono.duration_since(previous_at.mono) <= STEP_WITHIN
            && is_step(&previous.cells, &now.cells))
        .then_some(SceneChange::Exposure)
    }

    /// Records the last picture of a GOP. Returns true when the scene is frozen from now on. Within
    /// a GOP an encoder may leave out all noise of a live scene, so that every picture repeats the
    /// first: only the ends of GOPs can be compared.
    fn record_gop_end(&mut self, end: &[u8], at: Timestamp) -> bool {
        let Some((previous, since)) = self.previous_end.replace((end.to_vec(), at)) else {
            return false;
        };
        if self.is_same(&previous, end) == self.frozen {
            self.contradicted_since = None;
            return false;
        }
        let since = *self.contradicted_since.get_or_insert(since);
        if at.mono.duration_since(since.mono) < FROZEN_AFTER {
            return false;
        }
        self.contradicted_since = None;
        self.frozen = !self.frozen;
        self.frozen
    }

    /// True when two GOPs end alike, up to the rounding of the encoder. Other GOPs update the usual
    /// distance.
    fn is_same(&mut self, one: &[u8], other: &[u8]) -> bool {
        let apart = one.iter().zip(other).map(|(a, b)| a.abs_diff(*b));
        // A moving object must not count as noise: each cell is limited.
        let (sum, most) = apart.fold((0_u32, 0), |(sum, most), apart| {
            (sum + u32::from(apart.min(NOISE_MOST)), apart.max(most))
        });
        let mean = sum as f32 / one.len().max(1) as f32;
        let within = SAME_MEAN.max(SAME_SHARE * self.usual_distance);
        let same = one.len() == other.len() && most <= SAME_CELL && mean <= within;
        if !same {
            self.usual_distance += (mean - self.usual_distance)
                * if self.usual_distance == 0.0 { 1.0 } else { USUAL_FOLLOWS };
        }
        same
    }
}

fn is_step(previous: &[u8], now: &[u8]) -> bool {
    !(1.0 / LIGHT_STEP..=LIGHT_STEP).contains(&median_ratio(previous, now))
}

/// Median of the brightness ratio of the cells: an object changes some cells, light changes all.
fn median_ratio(previous: &[u8], now: &[u8]) -> f32 {
    let mut ratios: Vec<f32> = previous
        .iter()
        .zip(now)
        .step_by(13)
        .map(|(a, b)| (f32::from(*b) + 4.0) / (f32::from(*a) + 4.0))
        .collect();
    let middle = ratios.len() / 2;
    if ratios.is_empty() { 1.0 } else { *ratios.select_nth_unstable_by(middle, f32::total_cmp).1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::detect::picture::Grid;
    use crate::units::MonoTime;

    /// The changes reported for `looks` pictures at five a second, twenty a GOP, each of 32 x 18
    /// cells drawn by `cell(look, at)`.
    fn reported(
        looks: u64,
        colour: impl Fn(u64) -> f32,
        cell: impl Fn(u64, u64) -> u64,
    ) -> Vec<(u64, SceneChange)> {
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
                scene_changes
                    .analyze(&LumaGrid { grid, cells, colour: colour(look) }, false, at)
                    .map(|change| (look, change)),
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
        assert_eq!(reported(200, |_| 9.0, live), []);
        // The encoder still rounds the first four of each ten differently.
        let coded = |look: u64, at: u64| {
            if look > 50 && look % 10 > 3 { street(at) } else { live(look, at) }
        };
        let frozen = reported(200, |_| 9.0, coded);
        assert!(
            matches!(frozen[..], [(look, SceneChange::Frozen)] if look < 51 + 50),
            "{frozen:?}"
        );
        // An encoder with spare bits refines the frozen picture: each GOP ends nearer to the
        // original.
        let rough = |look: u64, at: u64| {
            u64::from(noise(look / 10, at) * 25 + at % 25 < 60 / (look / 10 - 3))
        };
        let polished = |look: u64, at: u64| {
            if look > 50 { street(at) + rough(look, at) } else { live(look, at) }
        };
        let polished = reported(200, |_| 9.0, polished);
        assert!(
            matches!(polished[..], [(look, SceneChange::Frozen)] if look < 51 + 50),
            "{polished:?}"
        );
        let walker = |look: u64, at: u64| if at == look % 576 { 250 } else { street(at) };
        assert_eq!(
            reported(200, |_| 9.0, walker),
            [],
            "a pedestrian crosses a picture without noise"
        );
        let again = reported(
            400,
            |_| 9.0,
            |look, at| {
                if (50..150).contains(&look) || look > 250 { street(at) } else { live(look, at) }
            },
        );
        assert_eq!(again.len(), 2, "{again:?}");
        // Without a usual distance the first GOPs end alike only within rounding.
        let first =
            reported(200, |_| 9.0, |look, at| street(at) + u64::from((look / 20 + at) % 60 == 0));
        assert!(matches!(first[..], [(look, SceneChange::Frozen)] if look < 60), "{first:?}");
        assert_eq!(
            reported(200, |_| 9.0, |look, at| street(at) + u64::from((look / 20 + at) % 20 == 0)),
            []
        );
    }

    #[test]
    fn a_live_scene_without_coded_noise_is_not_frozen() {
        assert_eq!(reported(200, |_| 9.0, |look, at| street(at) + noise(look / 20, at)), []);
    }

    #[test]
    fn colour_loss_is_ir_and_a_light_step_is_exposure() {
        let live = |look: u64, at: u64| street(at) + noise(look, at);
        let filter = reported(60, |look| if (20..40).contains(&look) { 0.0 } else { 9.0 }, live);
        assert_eq!(filter, [(20, SceneChange::IrOn), (40, SceneChange::IrOff)]);
        let step = reported(
            40,
            |_| 9.0,
            |look, at| if look < 20 { live(look, at) } else { live(look, at) * 13 / 10 },
        );
        assert_eq!(step, [(20, SceneChange::Exposure)]);
    }
}
