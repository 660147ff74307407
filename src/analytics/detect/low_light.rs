//! Low-light detection: finds faint objects at night by the energy of windows of cells.
//!
//! No cell of a faint object leaves the noise, but all of them together do. The noise of each cell
//! is measured, and a window must exceed the noise of its cells.

use crate::analytics::detect::picture::Grid;
use crate::analytics::params::{
    FAINT, FAINT_AROUND, FAINT_CLIP, FAINT_DARK, FAINT_FLOOR, FAINT_LOOKS, FAINT_NEAR, FAINT_OUT,
    FAINT_REACH, FAINT_WIDE, RESTLESS_SECONDS,
};

/// The low-light detector of one scene.
pub struct LowLightDetector {
    grid: Grid,
    /// Noise of each cell: the mean square of its distance from the background.
    noise: Vec<f32>,
    /// Number of pictures learned.
    learned: u32,
    /// Distance of each cell of the last picture from its background, in units of its noise and
    /// relative to its surroundings: the remaining light of a headlight covers both. Empty by day.
    apart: Vec<f32>,
}

impl LowLightDetector {
    /// A detector without measurements. It marks no cell before [`FAINT_LOOKS`] pictures.
    pub fn new(grid: Grid) -> LowLightDetector {
        LowLightDetector {
            grid,
            noise: vec![FAINT_FLOOR; grid.cells()],
            learned: 0,
            apart: Vec::new(),
        }
    }

    /// Measures a picture. By day it does nothing.
    pub fn analyze(&mut self, mean: &[f32], cells: &[u8]) {
        self.apart.clear();
        if !is_dark(mean) {
            return;
        }
        let noise = |noise: &f32| noise.max(FAINT_FLOOR).sqrt();
        let pairs = self.noise.iter().zip(mean.iter().zip(cells));
        self.apart.extend(pairs.map(|(own, (mean, cell))| (f32::from(*cell) - mean) / noise(own)));
        let clipped: Vec<f32> =
            self.apart.iter().map(|apart| apart.clamp(-FAINT_AROUND, FAINT_AROUND)).collect();
        let around = window_means(&clipped, self.grid, FAINT_WIDE);
        self.apart.iter_mut().zip(around).for_each(|(apart, around)| *apart -= around);
    }

    /// Adds the cells of faint objects in the last measured picture to the foreground.
    pub fn mark(&self, foreground: &mut [bool]) {
        if self.apart.is_empty() || self.learned < FAINT_LOOKS {
            return;
        }
        let excess: Vec<f32> =
            self.apart.iter().map(|apart| (apart * apart).min(FAINT_CLIP)).collect();
        let wide = window_means(&excess, self.grid, FAINT_REACH);
        let near = window_means(&excess, self.grid, [1, 1]);
        for ((foreground, wide), near) in foreground.iter_mut().zip(wide).zip(near) {
            *foreground |= wide > FAINT && near > FAINT_NEAR;
        }
    }

    /// Learns the noise of all cells that no object covers. A distance far beyond the noise is
    /// limited: a headlight that swept by is no noise.
    pub fn learn(&mut self, covered: impl Fn(usize) -> bool, seconds: f32) {
        if self.apart.is_empty() {
            return;
        }
        self.learned += 1;
        let (follow, out) = match self.learned {
            // The first pictures set the level of the noise.
            learned if learned < FAINT_LOOKS => (1.0 / learned as f32, f32::INFINITY),
            _ => ((seconds / RESTLESS_SECONDS).min(1.0), FAINT_OUT),
        };
        for (at, (noise, apart)) in self.noise.iter_mut().zip(&self.apart).enumerate() {
            if !covered(at) {
                let own = noise.max(FAINT_FLOOR);
                *noise += ((apart * apart).min(out) * own - *noise) * follow;
            }
        }
    }
}

/// True at night: at least half of the scene is dark.
fn is_dark(mean: &[f32]) -> bool {
    let dark = mean.iter().step_by(7).filter(|mean| **mean < FAINT_DARK).count();
    dark * 2 > mean.len().div_ceil(7)
}

/// Mean of the window around each cell, which extends `across` and `down` cells to each side; 0
/// where the window leaves the picture.
fn window_means(cells: &[f32], grid: Grid, [across, down]: [usize; 2]) -> Vec<f32> {
    let Grid { width, height } = grid;
    let mut out = vec![0.0; cells.len()];
    let mut columns = vec![0.0_f32; width];
    let share = 1.0 / ((2 * across + 1) * (2 * down + 1)) as f32;
    for y in 0..height {
        for (x, column) in columns.iter_mut().enumerate() {
            *column += cells[y * width + x];
            if y > 2 * down {
                *column -= cells[(y - 2 * down - 1) * width + x];
            }
        }
        if y < 2 * down {
            continue;
        }
        let mut sum: f32 = columns[..2 * across].iter().sum();
        for x in across..width - across {
            sum += columns[x + across];
            out[(y - down) * width + x] = sum * share;
            sum -= columns[x - across];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { width: 80, height: 60 };

    /// A picture of `cell` plus uniform noise of up to `steps` to each side.
    fn noisy(look: u64, steps: u64, cell: impl Fn(usize) -> f32) -> Vec<u8> {
        let noise = |at: usize| {
            let bits = (look << 32 ^ at as u64)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(31)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((bits >> 33) % (2 * steps + 1)) as f32 - steps as f32
        };
        (0..GRID.cells()).map(|at| (cell(at) + noise(at)).clamp(0.0, 255.0) as u8).collect()
    }

    /// Cells marked inside a box of 7 x 18 cells, and outside of it, when `shown` follows forty
    /// pictures of the empty scene.
    fn marked(mean: f32, steps: u64, shown: impl Fn(usize) -> f32) -> (usize, usize) {
        let background = vec![mean; GRID.cells()];
        let mut low_light = LowLightDetector::new(GRID);
        for look in 0..40 {
            low_light.analyze(&background, &noisy(look, steps, |_| mean));
            low_light.learn(|_| false, 0.2);
        }
        low_light.analyze(&background, &noisy(99, steps, shown));
        let mut foreground = vec![false; GRID.cells()];
        low_light.mark(&mut foreground);
        // At the border the window has no surroundings.
        let all = (12..GRID.height - 12)
            .flat_map(|y| (12..GRID.width - 12).map(move |x| y * GRID.width + x));
        let (inside, outside): (Vec<usize>, Vec<usize>) =
            all.filter(|at| foreground[*at]).partition(|at| is_object(*at));
        (inside.len(), outside.len())
    }

    fn is_object(at: usize) -> bool {
        (36..43).contains(&(at % GRID.width)) && (20..38).contains(&(at / GRID.width))
    }

    /// A checked object: it deviates from the mean by `steps`, up and down cell by cell.
    fn painted(at: usize, mean: f32, steps: f32) -> f32 {
        mean + if !is_object(at) {
            0.0
        } else if at.is_multiple_of(3) {
            -steps
        } else {
            steps
        }
    }

    #[test]
    fn a_person_at_noise_level_is_detected_and_noise_is_not() {
        let (inside, outside) = marked(35.0, 6, |at| painted(at, 35.0, 10.0));
        assert!(inside > 80 && outside < 20, "{inside} inside and {outside} outside");
        assert_eq!(marked(35.0, 6, |_| 35.0), (0, 0));
        assert_eq!(
            marked(120.0, 6, |at| painted(at, 120.0, 10.0)),
            (0, 0),
            "by day the detector is off"
        );
    }

    #[test]
    fn even_light_and_bright_rain_are_no_low_light_objects() {
        let (inside, outside) = marked(35.0, 6, |_| 44.0);
        assert!(inside + outside < 36, "{inside} inside and {outside} outside are marked");
        assert_eq!(
            marked(35.0, 6, |at| if at % 80 == 40 && at / 80 == 30 { 220.0 } else { 35.0 }),
            (0, 0)
        );
    }

    #[test]
    fn a_window_is_the_mean_of_its_cells() {
        let cells: Vec<f32> = (0..GRID.cells()).map(|at| (at * 7919 % 97) as f32).collect();
        let means = window_means(&cells, GRID, [3, 4]);
        let plain = |x: usize, y: usize| {
            let rows = (y - 4..=y + 4)
                .flat_map(|row| (x - 3..=x + 3).map(move |column| row * GRID.width + column));
            rows.map(|at| cells[at]).sum::<f32>() / 63.0
        };
        for (x, y) in [(3, 4), (40, 30), (76, 55)] {
            assert!((means[y * GRID.width + x] - plain(x, y)).abs() < 0.01, "{x}, {y}");
        }
        assert_eq!((means[0], means[4 * GRID.width + 2]), (0.0, 0.0));
    }
}
