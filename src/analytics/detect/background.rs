//! The background model: foreground or background for each cell, by sample consensus.
//!
//! Each cell keeps some samples of its brightness and of the texture around it (ViBe, Barnich and
//! Van Droogenbroeck 2011; texture and feedback as in SuBSENSE, St-Charles et al. 2015). The
//! decision radius of each cell follows its noise (PBAS, Hofmann et al. 2012).

use crate::analytics::detect::picture::Grid;
use crate::analytics::detect::stages::{Stage, Stages};
use crate::analytics::params::{
    ABSORB, AGREE, BLINK_DOWN, BLINK_MAX, BLINK_UP, MEAN_SECONDS, RADIUS, RADIUS_BRIGHT,
    RADIUS_DARK, RADIUS_MAX, RENEW, RESTLESS_SCALE, RESTLESS_SECONDS, SAMPLES, TEXTURE_WEIGHT,
};

/// Cells of a row that are classified together. The compiler vectorises over them, and most blocks
/// of this size are decided after a few samples.
const TOGETHER: usize = 32;
/// One byte for each of these cells.
type Lanes = [u8; TOGETHER];

/// One sample of [`TOGETHER`] neighbouring cells, aligned to a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Sample {
    cells: Lanes,
    textures: Lanes,
}

/// The background of one camera.
pub struct BackgroundModel {
    grid: Grid,
    /// The samples of all cells: for each row its [`SAMPLES`] samples, each [`across`] blocks wide.
    /// The last block of a row may be wider than the row; its excess lanes repeat the last cell and
    /// are never read.
    known: Vec<Sample>,
    /// Mean brightness of each cell.
    mean: Vec<f32>,
    /// Mean distance to the nearest samples.
    restless: Vec<f32>,
    /// Steps that unexplained changes add to the radius.
    blink: Vec<f32>,
    /// Distance of each cell from its nearest sample in the last picture.
    near: Vec<u8>,
    differed: Vec<bool>,
    /// States of pseudo-random generators. Only statistics depend on them, no secrets.
    random: u64,
    dice: [u32; TOGETHER],
    coarse: f32,
    stages: Stages,
}

/// A block of a row from column `from`, or its left or right neighbours. Outside of the picture the
/// edge cell is repeated.
fn lanes(picture: &[u8], grid: Grid, row: usize, from: usize, aside: Aside) -> Lanes {
    let row = &picture[row * grid.width..][..grid.width];
    let first = (from + aside as usize).checked_sub(1);
    match first.and_then(|first| row.get(first..)?.first_chunk()) {
        Some(inner) => *inner,
        None => std::array::from_fn(|lane| {
            row[(from + lane + aside as usize).saturating_sub(1).min(row.len() - 1)]
        }),
    }
}

/// Which cells of a row: the cells themselves or their neighbours.
#[derive(Clone, Copy)]
enum Aside {
    Left = 0,
    Here = 1,
    Right = 2,
}

impl Aside {
    /// One of the three, chosen by random bits.
    fn any(bits: u64) -> Aside {
        [Aside::Left, Aside::Here, Aside::Right][(bits % 3) as usize]
    }
}

/// Blocks of [`TOGETHER`] cells in a row.
fn across(grid: Grid) -> usize {
    grid.width.div_ceil(TOGETHER)
}

/// Cell class: an object covers the cell, which is not learned.
pub const OBJECT: u8 = 2;
/// Cell class: the cell differs from the background and belongs to no object.
pub const FOREGROUND: u8 = 1;

impl BackgroundModel {
    /// A background learned from one picture; each sample is that of a random neighbour. `coarse`
    /// scales the radius: a larger value makes the model less sensitive.
    pub fn new(
        cells: &[u8],
        textures: &[u8],
        grid: Grid,
        coarse: f32,
        stages: Stages,
    ) -> BackgroundModel {
        let count = grid.cells();
        let nothing = Sample { cells: [0; TOGETHER], textures: [0; TOGETHER] };
        let mut model = BackgroundModel {
            grid,
            known: vec![nothing; across(grid) * SAMPLES * grid.height],
            mean: cells.iter().map(|cell| f32::from(*cell)).collect(),
            restless: vec![RADIUS / RESTLESS_SCALE; count],
            blink: vec![0.0; count],
            near: vec![0; count],
            differed: vec![false; count],
            random: 0x5eed,
            dice: std::array::from_fn(|lane| 0x9e37_79b9_u32.wrapping_mul(lane as u32 + 1)),
            coarse,
            stages,
        };
        for row in 0..grid.height {
            for sample in 0..SAMPLES {
                let bits = model.next();
                let (from, aside) = (model.beside(row, bits / 3), Aside::any(bits));
                let of = |picture, left| lanes(picture, grid, from, left, aside);
                for (known, left) in model.known(row, sample) {
                    *known = Sample { cells: of(cells, left), textures: of(textures, left) };
                }
            }
        }
        model
    }

    /// The grid of the model.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Mean brightness of the background in each cell, 0..=255.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    fn next(&mut self) -> u64 {
        // Xorshift (Marsaglia 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Sample number `sample` of a row's blocks, each with its first column.
    fn known(&mut self, row: usize, sample: usize) -> impl Iterator<Item = (&mut Sample, usize)> {
        let across = across(self.grid);
        let samples = &mut self.known[(row * SAMPLES + sample) * across..][..across];
        samples.iter_mut().zip((0..).step_by(TOGETHER))
    }

    /// The row above, the row itself or the row below, chosen by random bits and clamped to the
    /// picture.
    fn beside(&self, row: usize, bits: u64) -> usize {
        (row + (bits % 3) as usize).clamp(1, self.grid.height) - 1
    }

    /// The decision radius of each cell: a sample at a smaller distance agrees with the cell.
    fn reaches(&self) -> Vec<u8> {
        let reach = |((mean, restless), blink): ((&f32, &f32), &f32)| {
            let bright = (mean * (1.0 / RADIUS_BRIGHT)).min(1.0);
            let least = RADIUS * (RADIUS_DARK + (1.0 - RADIUS_DARK) * bright);
            let reach = (restless * RESTLESS_SCALE).max(least).min(RADIUS_MAX) + blink;
            // Through `i32` and without `clamp`, which may panic: the loop then vectorises.
            (reach * self.coarse) as i32 as u8
        };
        self.mean.iter().zip(&self.restless).zip(&self.blink).map(reach).collect()
    }

    /// Classifies a picture: true for each cell that differs from the background. Nothing is
    /// learned. A cell is compared with its samples until enough of them agree.
    pub fn classify(&mut self, cells: &[u8], textures: &[u8]) -> Vec<bool> {
        let counted = if self.stages.has(Stage::Texture) { u8::MAX } else { 0 };
        let reaches = self.reaches();
        let mut foreground = vec![false; self.grid.cells()];
        let across = across(self.grid);
        let blocks =
            (0..self.grid.height).flat_map(|row| (0..across).map(move |block| (row, block)));
        for (row, block) in blocks {
            let left = block * TOGETHER;
            let of = |picture| lanes(picture, self.grid, row, left, Aside::Here);
            let (cell, texture, reach) = (of(cells), of(textures), of(&reaches));
            let (mut agree, mut nearest) = ([0_u8; TOGETHER], [u8::MAX; TOGETHER]);
            for known in
                self.known[row * SAMPLES * across + block..].iter().step_by(across).take(SAMPLES)
            {
                // Without branches, so that the loop vectorises.
                for lane in 0..TOGETHER {
                    let bits = (known.textures[lane] ^ texture[lane]) & counted;
                    let apart = known.cells[lane]
                        .abs_diff(cell[lane])
                        .saturating_add(TEXTURE_WEIGHT * bits.count_ones() as u8);
                    let looks = agree[lane] < AGREE;
                    nearest[lane] = if looks { nearest[lane].min(apart) } else { nearest[lane] };
                    agree[lane] += u8::from(looks & (apart < reach[lane]));
                }
                if agree.iter().fold(AGREE, |least, agree| least.min(*agree)) == AGREE {
                    break;
                }
            }
            let first = row * self.grid.width + left;
            let end = (first + TOGETHER).min((row + 1) * self.grid.width);
            for (foreground, agree) in foreground[first..end].iter_mut().zip(&agree) {
                *foreground = *agree < AGREE;
            }
            self.near[first..end].copy_from_slice(&nearest[..end - first]);
        }
        foreground
    }

    /// Learns the picture of the last [`BackgroundModel::classify`]. `kinds` is the class of each
    /// cell: 0 for background, [`FOREGROUND`] or [`OBJECT`].
    ///
    /// Each cell decides at random on its own whether it is replaced. The cells of a row replace
    /// the same sample number and take it from a neighbour on the same side. The content of one
    /// cell stays as random as with a choice of its own, and memory access is predictable.
    pub fn learn(&mut self, cells: &[u8], textures: &[u8], kinds: &[u8], seconds: f32) {
        let [renew, absorb] = [odds(seconds / RENEW), odds(seconds / ABSORB)];
        let (grid, across) = (self.grid, across(self.grid));
        self.follow(cells, kinds, seconds);
        for row in 0..grid.height {
            let bits = self.next();
            // A cell may replace one of its own samples and may receive one of a background
            // neighbour.
            let (own, gift) = ((bits >> 16) as usize % SAMPLES, (bits >> 24) as usize % SAMPLES);
            let (from, aside) = (self.beside(row, bits >> 50), Aside::any(bits >> 40));
            for left in (0..grid.width).step_by(TOGETHER) {
                let of = |picture, row, aside| lanes(picture, grid, row, left, aside);
                self.dice.iter_mut().for_each(|dice| *dice = xorshift(*dice));
                let (kind, theirs) = (of(kinds, row, Aside::Here), of(kinds, from, aside));
                let (mut renews, mut gets) = ([0; TOGETHER], [0; TOGETHER]);
                for lane in 0..TOGETHER {
                    let (dice, learns) = (self.dice[lane], kind[lane] != OBJECT);
                    let chance = if kind[lane] == FOREGROUND { absorb } else { renew };
                    renews[lane] = u8::from(learns & (dice & 0xffff <= chance));
                    gets[lane] = u8::from(learns & (theirs[lane] == 0) & (dice >> 16 <= renew));
                }
                let block = left / TOGETHER;
                for (sample, from, aside, takes) in
                    [(own, row, Aside::Here, renews), (gift, from, aside, gets)]
                {
                    let seen = Sample {
                        cells: of(cells, from, aside),
                        textures: of(textures, from, aside),
                    };
                    self.known[(row * SAMPLES + sample) * across + block].replace(&seen, &takes);
                }
            }
        }
    }

    /// Updates the mean brightness, the noise and the blinking of each cell. The loops have no
    /// branches, as in [`BackgroundModel::classify`].
    fn follow(&mut self, cells: &[u8], kinds: &[u8], seconds: f32) {
        let mean_follow = (seconds / MEAN_SECONDS).min(1.0);
        for ((mean, cell), kind) in self.mean.iter_mut().zip(cells).zip(kinds) {
            let part = if *kind == OBJECT || *kind == FOREGROUND { 0.0 } else { mean_follow };
            *mean += (f32::from(*cell) - *mean) * part;
        }
        let restless_follow = (seconds / RESTLESS_SECONDS).min(1.0);
        let feedback = self.stages.has(Stage::Feedback);
        let states = self.restless.iter_mut().zip(&mut self.blink).zip(&mut self.differed);
        for ((kind, near), ((restless, blink), differed)) in
            kinds.iter().zip(&self.near).zip(states)
        {
            let (learns, differs) = (*kind != OBJECT, *kind == FOREGROUND);
            let part = if learns & feedback { restless_follow } else { 0.0 };
            *restless += (f32::from(*near) - *restless) * part;
            let change = if differs == *differed { -BLINK_DOWN * seconds } else { BLINK_UP };
            *blink = (*blink + if learns & feedback { change } else { 0.0 }).clamp(0.0, BLINK_MAX);
            *differed = if learns { differs } else { *differed };
        }
    }

    /// Learns a picture of the warm-up as background: it replaces one sample of every cell.
    pub fn warm(&mut self, cells: &[u8], textures: &[u8], number: usize) {
        let grid = self.grid;
        for row in 0..grid.height {
            let of = |picture, left| lanes(picture, grid, row, left, Aside::Here);
            for (known, left) in self.known(row, number % SAMPLES) {
                *known = Sample { cells: of(cells, left), textures: of(textures, left) };
            }
        }
        let follow = (1.0 / (number + 2) as f32).max(0.05);
        for (mean, cell) in self.mean.iter_mut().zip(cells) {
            *mean += (f32::from(*cell) - *mean) * follow;
        }
        for (restless, near) in self.restless.iter_mut().zip(&self.near) {
            *restless += (f32::from(*near) - *restless) * 0.1;
        }
    }

    /// Scales the brightness of the model, after the light has drifted further than is compensated.
    pub fn relight(&mut self, gain: f32) {
        let table: Vec<u8> = (0..=255).map(|cell| (cell as f32 * gain).min(255.0) as u8).collect();
        let cells = self.known.iter_mut().flat_map(|known| &mut known.cells);
        cells.for_each(|cell| *cell = table[usize::from(*cell)]);
        self.mean.iter_mut().for_each(|mean| *mean = (*mean * gain).min(255.0));
    }
}

impl Sample {
    /// Replaces the lanes whose byte in `takes` is 1 by those of `seen`.
    fn replace(&mut self, seen: &Sample, takes: &Lanes) {
        // Without branches, as in [`BackgroundModel::classify`].
        for (known, now) in [(&mut self.cells, &seen.cells), (&mut self.textures, &seen.textures)] {
            for lane in 0..TOGETHER {
                let mask = takes[lane].wrapping_neg();
                known[lane] = known[lane] & !mask | now[lane] & mask;
            }
        }
    }
}

/// A probability 0..=1 as a threshold for 16 random bits.
fn odds(chance: f32) -> u32 {
    (chance.clamp(0.0, 1.0) * 65_535.0) as u32
}

/// The next state of a 32-bit xorshift generator (Marsaglia 2003). `bits` must not be 0.
fn xorshift(mut bits: u32) -> u32 {
    bits ^= bits << 13;
    bits ^= bits >> 17;
    bits ^ bits << 5
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// Two blocks and a part of a third wide.
    const GRID: Grid = Grid { width: 70, height: 24 };
    const OLD: u8 = 10;
    const NEW: u8 = 200;

    /// Brightness and texture of each sample of a cell.
    fn remembered(
        model: &BackgroundModel,
        row: usize,
        column: usize,
    ) -> impl Iterator<Item = (u8, u8)> {
        let across = across(GRID);
        let samples = model.known[row * SAMPLES * across..][..SAMPLES * across]
            .iter()
            .skip(column / TOGETHER)
            .step_by(across);
        samples
            .map(move |known| (known.cells[column % TOGETHER], known.textures[column % TOGETHER]))
    }

    /// Number of samples of each cell that come from the new picture, after `looks` updates that
    /// each renew `share` of the cells.
    fn renewed(kind: impl Fn(usize) -> u8, looks: usize, share: f32) -> Vec<usize> {
        let count = GRID.cells();
        let (old, new) = (vec![OLD; count], vec![NEW; count]);
        let kinds: Vec<u8> = (0..count).map(kind).collect();
        let mut model = BackgroundModel::new(&old, &old, GRID, 1.0, Stages::ALL);
        (0..looks).for_each(|_| model.learn(&new, &new, &kinds, RENEW * share));
        assert!(
            model.known.iter().all(|known| known.cells == known.textures),
            "brightness and texture come from one picture"
        );
        let new = |at: usize| {
            remembered(&model, at / GRID.width, at % GRID.width)
                .filter(|known| *known == (NEW, NEW))
                .count()
        };
        (0..count).map(new).collect()
    }

    fn mean(samples: &[usize]) -> f32 {
        samples.iter().sum::<usize>() as f32 / samples.len() as f32
    }

    #[test]
    fn each_cell_renews_one_sample_and_one_of_a_neighbour() {
        let once = renewed(|_| 0, 1, 1.0);
        assert!(once.iter().all(|samples| (1..=2).contains(samples)), "{once:?}");
        // Two of twenty are replaced, less those that are replaced twice.
        assert!((1.85..=2.0).contains(&mean(&once)), "{}", mean(&once));
        let often = renewed(|_| 0, 14, 1.0);
        assert!(
            (14.5..15.6).contains(&mean(&often)),
            "{} of 20 (1 - 0.95^28 = 0.76)",
            mean(&often)
        );
    }

    #[test]
    fn cells_of_a_row_are_renewed_independently() {
        let quarter = renewed(|_| 0, 1, 0.25);
        assert!((0.45..0.55).contains(&mean(&quarter)), "{} of two quarters", mean(&quarter));
        for row in quarter.chunks_exact(GRID.width) {
            let none = row.iter().filter(|samples| **samples == 0).count();
            assert!((22..58).contains(&none), "{none} of 70 replaced no sample (0.75 x 0.75 = 39)");
        }
    }

    #[test]
    fn samples_come_from_the_cell_and_its_eight_neighbours() {
        let cells: Vec<u8> = (0..GRID.cells()).map(|at| (at % GRID.width * 3) as u8).collect();
        let textures: Vec<u8> = (0..GRID.cells()).map(|at| (at / GRID.width * 10) as u8).collect();
        let mut model = BackgroundModel::new(&cells, &textures, GRID, 1.0, Stages::ALL);
        let brighter: Vec<u8> = cells.iter().map(|cell| cell + 1).collect();
        (0..8).for_each(|_| model.learn(&brighter, &textures, &vec![0; GRID.cells()], RENEW));
        let (mut given, mut own) = (std::collections::BTreeSet::new(), 0);
        for (row, column) in
            (0..GRID.height).flat_map(|row| (0..GRID.width).map(move |column| (row, column)))
        {
            for (cell, texture) in remembered(&model, row, column) {
                let (right, down) =
                    (i32::from(cell / 3) - column as i32, i32::from(texture / 10) - row as i32);
                assert!(
                    right.abs() <= 1 && down.abs() <= 1,
                    "{right} right and {down} down of {column}, {row}"
                );
                if cell % 3 == 1 {
                    given.insert((right, down));
                    own += usize::from((right, down) == (0, 0));
                }
            }
        }
        assert_eq!(given.len(), 9, "{given:?}");
        let own = own as f32 / GRID.cells() as f32;
        assert!(
            (6.0..8.5).contains(&own),
            "{own} of 8 renewals, less what was replaced again, and a ninth of 8 gifts"
        );
    }

    #[test]
    fn objects_are_not_learned_and_other_differences_are() {
        let kinds = |at: usize| match at % GRID.width {
            20..40 => OBJECT,
            50..66 => FOREGROUND,
            _ => 0,
        };
        let samples = renewed(kinds, 14, 1.0);
        let of = |columns: Range<usize>| {
            let cells = samples
                .iter()
                .enumerate()
                .filter(move |(at, _)| columns.contains(&(at % GRID.width)));
            cells.map(|(_, samples)| *samples).collect::<Vec<_>>()
        };
        assert!(of(20..40).iter().all(|samples| *samples == 0), "an object was learned");
        // 14 x RENEW / ABSORB = 7.5 samples are replaced; background neighbours at the sides add
        // some.
        let inside = of(51..65);
        assert!(
            (5.5..7.0).contains(&mean(&inside)),
            "{} of 20 (1 - 0.95^7.5 = 0.32)",
            mean(&inside)
        );
    }
}
