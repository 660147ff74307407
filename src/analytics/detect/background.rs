//! What the empty scene looks like: a few remembered samples per cell, each its brightness and the texture around it (sample
//! consensus, ViBe by Barnich and Van Droogenbroeck 2011; texture and feedback as in SuBSENSE, St-Charles et al. 2015), with a
//! radius per cell that learns how restless the cell is (PBAS, Hofmann et al. 2012).
//!
//! What belongs here: foreground or not, cell by cell. What does not: what the foreground is.

use crate::analytics::detect::picture::Grid;
use crate::analytics::detect::stages::{Stage, Stages};
use crate::analytics::params::{
    ABSORB, AGREE, BLINK_DOWN, BLINK_MAX, BLINK_UP, MEAN_SECONDS, RADIUS, RADIUS_BRIGHT, RADIUS_DARK, RADIUS_MAX, RENEW,
    RESTLESS_SCALE, RESTLESS_SECONDS, SAMPLES, TEXTURE_WEIGHT,
};

/// Cells of a row that are judged together: vectors of bytes, and few enough that most are done after a few samples.
const TOGETHER: usize = 32;
/// Something of each of them.
type Lanes = [u8; TOGETHER];

/// One sample of cells side by side, a line of the processor's cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Sample {
    cells: Lanes,
    textures: Lanes,
}

/// The background of one camera.
pub struct BackgroundModel {
    grid: Grid,
    /// What the cells remember: one sample of the first row's cells, then another, and after all of them the next row's. A row's last
    /// cells may be fewer than fit; what is remembered beside them is the last cell's, and means nothing.
    known: Vec<Sample>,
    /// Mean brightness of each cell.
    mean: Vec<f32>,
    /// Mean distance to the nearest samples.
    restless: Vec<f32>,
    /// What unexplained changes add to the radius.
    blink: Vec<f32>,
    /// How far the cell was from its samples in the last look, and whether it differed then.
    near: Vec<u8>,
    differed: Vec<bool>,
    /// Cheap streams of numbers; only statistics depend on them.
    random: u64,
    dice: [u32; TOGETHER],
    coarse: f32,
    stages: Stages,
}

/// Cells of a row of a picture (or what each is) from one on, or those to their left or right; beside the edge of the picture is the
/// edge.
fn lanes(picture: &[u8], grid: Grid, row: usize, from: usize, aside: Aside) -> Lanes {
    let row = &picture[row * grid.width..][..grid.width];
    let first = (from + aside as usize).checked_sub(1);
    match first.and_then(|first| row.get(first..)?.first_chunk()) {
        Some(inner) => *inner,
        None => std::array::from_fn(|lane| row[(from + lane + aside as usize).saturating_sub(1).min(row.len() - 1)]),
    }
}

/// Which neighbours in a row.
#[derive(Clone, Copy)]
enum Aside {
    Left = 0,
    Here = 1,
    Right = 2,
}

impl Aside {
    /// Any of the three, from a random number.
    fn any(bits: u64) -> Aside {
        [Aside::Left, Aside::Here, Aside::Right][(bits % 3) as usize]
    }
}

/// Samples that lie side by side for a row.
fn across(grid: Grid) -> usize {
    grid.width.div_ceil(TOGETHER)
}

/// A confirmed object covers the cell: nothing is learned from it.
pub const THING: u8 = 2;
/// The cell differs, and nothing explains it.
pub const DIFFERS: u8 = 1;

impl BackgroundModel {
    /// A background learned from one picture; every sample a neighbour's. `coarse` scales the radius: above 1 sees less.
    pub fn new(cells: &[u8], textures: &[u8], grid: Grid, coarse: f32, stages: Stages) -> BackgroundModel {
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

    /// The grid it is of.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// The background's brightness of each cell.
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

    /// One sample of a row's cells, and the first column of each.
    fn known(&mut self, row: usize, sample: usize) -> impl Iterator<Item = (&mut Sample, usize)> {
        let across = across(self.grid);
        let samples = &mut self.known[(row * SAMPLES + sample) * across..][..across];
        samples.iter_mut().zip((0..).step_by(TOGETHER))
    }

    /// The row above, the row itself or the row below, from a random number; beside the edge of the picture is the edge.
    fn beside(&self, row: usize, bits: u64) -> usize {
        (row + (bits % 3) as usize).clamp(1, self.grid.height) - 1
    }

    /// How far a sample may be from each cell and agree with it.
    fn reaches(&self) -> Vec<u8> {
        let reach = |((mean, restless), blink): ((&f32, &f32), &f32)| {
            let bright = (mean * (1.0 / RADIUS_BRIGHT)).min(1.0);
            let least = RADIUS * (RADIUS_DARK + (1.0 - RADIUS_DARK) * bright);
            let reach = (restless * RESTLESS_SCALE).max(least).min(RADIUS_MAX) + blink;
            // By way of 32 bits, and without `clamp`, which may panic: so that a vector of cells is one instruction.
            (reach * self.coarse) as i32 as u8
        };
        self.mean.iter().zip(&self.restless).zip(&self.blink).map(reach).collect()
    }

    /// Marks what differs; learns nothing. A cell looks at its samples until enough of them agree.
    pub fn classify(&mut self, cells: &[u8], textures: &[u8]) -> Vec<bool> {
        let counted = if self.stages.has(Stage::Texture) { u8::MAX } else { 0 };
        let reaches = self.reaches();
        let mut front = vec![false; self.grid.cells()];
        let across = across(self.grid);
        let blocks = (0..self.grid.height).flat_map(|row| (0..across).map(move |block| (row, block)));
        for (row, block) in blocks {
            let left = block * TOGETHER;
            let of = |picture| lanes(picture, self.grid, row, left, Aside::Here);
            let (cell, texture, reach) = (of(cells), of(textures), of(&reaches));
            let (mut agree, mut nearest) = ([0_u8; TOGETHER], [u8::MAX; TOGETHER]);
            for known in self.known[row * SAMPLES * across + block..].iter().step_by(across).take(SAMPLES) {
                // Without branches, so that a vector of cells is one instruction.
                for lane in 0..TOGETHER {
                    let bits = (known.textures[lane] ^ texture[lane]) & counted;
                    let apart = known.cells[lane].abs_diff(cell[lane]).saturating_add(TEXTURE_WEIGHT * bits.count_ones() as u8);
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
            for (front, agree) in front[first..end].iter_mut().zip(&agree) {
                *front = *agree < AGREE;
            }
            self.near[first..end].copy_from_slice(&nearest[..end - first]);
        }
        front
    }

    /// Learns the picture that was last looked at. `kinds` says of each cell 0: background, [`DIFFERS`] or [`THING`].
    ///
    /// Each cell has a chance of its own, but those of a row replace the same sample, and get one of the neighbours on the same side: what
    /// one cell remembers is as random as if it chose alone, and the processor knows which memory comes next.
    pub fn learn(&mut self, cells: &[u8], textures: &[u8], kinds: &[u8], seconds: f32) {
        let [renew, absorb] = [odds(seconds / RENEW), odds(seconds / ABSORB)];
        let (grid, across) = (self.grid, across(self.grid));
        self.follow(cells, kinds, seconds);
        for row in 0..grid.height {
            let bits = self.next();
            // Some replace one of their own samples, some get another of a neighbour that is background.
            let (own, gift) = ((bits >> 16) as usize % SAMPLES, (bits >> 24) as usize % SAMPLES);
            let (from, aside) = (self.beside(row, bits >> 50), Aside::any(bits >> 40));
            for left in (0..grid.width).step_by(TOGETHER) {
                let of = |picture, row, aside| lanes(picture, grid, row, left, aside);
                self.dice.iter_mut().for_each(|dice| *dice = xorshift(*dice));
                let (kind, theirs) = (of(kinds, row, Aside::Here), of(kinds, from, aside));
                let (mut renews, mut gets) = ([0; TOGETHER], [0; TOGETHER]);
                for lane in 0..TOGETHER {
                    let (dice, learns) = (self.dice[lane], kind[lane] != THING);
                    let chance = if kind[lane] == DIFFERS { absorb } else { renew };
                    renews[lane] = u8::from(learns & (dice & 0xffff <= chance));
                    gets[lane] = u8::from(learns & (theirs[lane] == 0) & (dice >> 16 <= renew));
                }
                let block = left / TOGETHER;
                for (sample, from, aside, takes) in [(own, row, Aside::Here, renews), (gift, from, aside, gets)] {
                    let seen = Sample { cells: of(cells, from, aside), textures: of(textures, from, aside) };
                    self.known[(row * SAMPLES + sample) * across + block].replace(&seen, &takes);
                }
            }
        }
    }

    /// How bright each cell is, how restless, and how often it blinks; without branches, as in [`BackgroundModel::classify`].
    fn follow(&mut self, cells: &[u8], kinds: &[u8], seconds: f32) {
        let mean_follow = (seconds / MEAN_SECONDS).min(1.0);
        for ((mean, cell), kind) in self.mean.iter_mut().zip(cells).zip(kinds) {
            let part = if *kind == THING || *kind == DIFFERS { 0.0 } else { mean_follow };
            *mean += (f32::from(*cell) - *mean) * part;
        }
        let restless_follow = (seconds / RESTLESS_SECONDS).min(1.0);
        let feedback = self.stages.has(Stage::Feedback);
        let states = self.restless.iter_mut().zip(&mut self.blink).zip(&mut self.differed);
        for ((kind, near), ((restless, blink), differed)) in kinds.iter().zip(&self.near).zip(states) {
            let (learns, differs) = (*kind != THING, *kind == DIFFERS);
            let part = if learns & feedback { restless_follow } else { 0.0 };
            *restless += (f32::from(*near) - *restless) * part;
            let change = if differs == *differed { -BLINK_DOWN * seconds } else { BLINK_UP };
            *blink = (*blink + if learns & feedback { change } else { 0.0 }).clamp(0.0, BLINK_MAX);
            *differed = if learns { differs } else { *differed };
        }
    }

    /// Warm-up: what is seen is taken as background, sample by sample.
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

    /// Scales all brightness: the light has drifted further than is compensated.
    pub fn relight(&mut self, gain: f32) {
        let table: Vec<u8> = (0..=255).map(|cell| (cell as f32 * gain).min(255.0) as u8).collect();
        let cells = self.known.iter_mut().flat_map(|known| &mut known.cells);
        cells.for_each(|cell| *cell = table[usize::from(*cell)]);
        self.mean.iter_mut().for_each(|mean| *mean = (*mean * gain).min(255.0));
    }
}

impl Sample {
    /// Those of the cells that take it get what is seen.
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

/// A chance from 0 to 1 as a threshold for 16 random bits.
fn odds(chance: f32) -> u32 {
    (chance.clamp(0.0, 1.0) * 65_535.0) as u32
}

/// The next of 32 random bits that are not all zero (Marsaglia 2003).
fn xorshift(mut bits: u32) -> u32 {
    bits ^= bits << 13;
    bits ^= bits >> 17;
    bits ^ bits << 5
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// Two blocks and a bit wide.
    const GRID: Grid = Grid { width: 70, height: 24 };
    const OLD: u8 = 10;
    const NEW: u8 = 200;

    /// What a cell remembers: brightness and texture of each sample.
    fn remembered(model: &BackgroundModel, row: usize, column: usize) -> impl Iterator<Item = (u8, u8)> {
        let across = across(GRID);
        let samples = model.known[row * SAMPLES * across..][..SAMPLES * across].iter().skip(column / TOGETHER).step_by(across);
        samples.map(move |known| (known.cells[column % TOGETHER], known.textures[column % TOGETHER]))
    }

    /// How many samples of each cell are of the new picture, after so many looks that renew such a share of the cells.
    fn renewed(kind: impl Fn(usize) -> u8, looks: usize, share: f32) -> Vec<usize> {
        let count = GRID.cells();
        let (old, new) = (vec![OLD; count], vec![NEW; count]);
        let kinds: Vec<u8> = (0..count).map(kind).collect();
        let mut model = BackgroundModel::new(&old, &old, GRID, 1.0, Stages::ALL);
        (0..looks).for_each(|_| model.learn(&new, &new, &kinds, RENEW * share));
        assert!(model.known.iter().all(|known| known.cells == known.textures), "brightness and texture are of one picture");
        let new = |at: usize| remembered(&model, at / GRID.width, at % GRID.width).filter(|known| *known == (NEW, NEW)).count();
        (0..count).map(new).collect()
    }

    fn mean(samples: &[usize]) -> f32 {
        samples.iter().sum::<usize>() as f32 / samples.len() as f32
    }

    #[test]
    fn each_cell_renews_one_sample_and_one_of_a_neighbour() {
        let once = renewed(|_| 0, 1, 1.0);
        assert!(once.iter().all(|samples| (1..=2).contains(samples)), "{once:?}");
        // Two replaced of twenty, less those that are hit twice.
        assert!((1.85..=2.0).contains(&mean(&once)), "{}", mean(&once));
        let often = renewed(|_| 0, 14, 1.0);
        assert!((14.5..15.6).contains(&mean(&often)), "{} of 20 (1 - 0.95^28 = 0.76)", mean(&often));
    }

    #[test]
    fn cells_of_a_row_have_their_chances_each_for_itself() {
        let quarter = renewed(|_| 0, 1, 0.25);
        assert!((0.45..0.55).contains(&mean(&quarter)), "{} of two quarters", mean(&quarter));
        for row in quarter.chunks_exact(GRID.width) {
            let none = row.iter().filter(|samples| **samples == 0).count();
            assert!((22..58).contains(&none), "{none} of 70 took nothing (0.75 x 0.75 = 39)");
        }
    }

    #[test]
    fn a_cell_remembers_only_itself_and_its_eight_neighbours() {
        let cells: Vec<u8> = (0..GRID.cells()).map(|at| (at % GRID.width * 3) as u8).collect();
        let textures: Vec<u8> = (0..GRID.cells()).map(|at| (at / GRID.width * 10) as u8).collect();
        let mut model = BackgroundModel::new(&cells, &textures, GRID, 1.0, Stages::ALL);
        let brighter: Vec<u8> = cells.iter().map(|cell| cell + 1).collect();
        (0..8).for_each(|_| model.learn(&brighter, &textures, &vec![0; GRID.cells()], RENEW));
        let (mut given, mut own) = (std::collections::BTreeSet::new(), 0);
        for (row, column) in (0..GRID.height).flat_map(|row| (0..GRID.width).map(move |column| (row, column))) {
            for (cell, texture) in remembered(&model, row, column) {
                let (right, down) = (i32::from(cell / 3) - column as i32, i32::from(texture / 10) - row as i32);
                assert!(right.abs() <= 1 && down.abs() <= 1, "{right} right and {down} down of {column}, {row}");
                if cell % 3 == 1 {
                    given.insert((right, down));
                    own += usize::from((right, down) == (0, 0));
                }
            }
        }
        assert_eq!(given.len(), 9, "{given:?}");
        let own = own as f32 / GRID.cells() as f32;
        assert!((6.0..8.5).contains(&own), "{own} of 8 renewals, less what was replaced again, and a ninth of 8 gifts");
    }

    #[test]
    fn objects_are_not_learned_and_other_differences_are() {
        let kinds = |at: usize| match at % GRID.width {
            20..40 => THING,
            50..66 => DIFFERS,
            _ => 0,
        };
        let samples = renewed(kinds, 14, 1.0);
        let of = |columns: Range<usize>| {
            let cells = samples.iter().enumerate().filter(move |(at, _)| columns.contains(&(at % GRID.width)));
            cells.map(|(_, samples)| *samples).collect::<Vec<_>>()
        };
        assert!(of(20..40).iter().all(|samples| *samples == 0), "a thing was learned");
        // 14 x RENEW / ABSORB = 7.5 samples hit, at the sides some more by neighbours that are background.
        let inside = of(51..65);
        assert!((5.5..7.0).contains(&mean(&inside)), "{} of 20 (1 - 0.95^7.5 = 0.32)", mean(&inside));
    }
}
