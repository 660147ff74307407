//! What the empty scene looks like: a few remembered samples per cell, each its brightness and the texture around it (sample
//! consensus, ViBe by Barnich and Van Droogenbroeck 2011; texture and feedback as in SuBSENSE, St-Charles et al. 2015), with a
//! radius per cell that learns how restless the cell is (PBAS, Hofmann et al. 2012).
//!
//! What belongs here: foreground or not, cell by cell. What does not: what the foreground is.

use std::ops::Range;

use super::limits::{
    ABSORB, AGREE, BLINK_DOWN, BLINK_MAX, BLINK_UP, MEAN_SECONDS, RADIUS, RADIUS_BRIGHT, RADIUS_DARK, RADIUS_MAX, RENEW,
    RESTLESS_SCALE, RESTLESS_SECONDS, SAMPLES, TEXTURE_WEIGHT,
};
use super::luma::Grid;
use super::stages::{Stage, Stages};

/// Cells that are judged together: vectors of bytes, and few enough that most are done after a few samples.
const TOGETHER: usize = 32;

/// The background of one camera.
pub struct Model {
    grid: Grid,
    /// What the cells remember, sample after sample: one picture of brightness, and one of textures, for each.
    cells: Vec<u8>,
    textures: Vec<u8>,
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

/// A picture to learn, and what each of its cells is.
struct Seen<'a> {
    cells: &'a [u8],
    textures: &'a [u8],
    kinds: &'a [u8],
}

/// A believed thing covers the cell: nothing is learned from it.
pub const THING: u8 = 2;
/// The cell differs, and nothing explains it.
pub const DIFFERS: u8 = 1;

impl Model {
    /// A background learned from one picture; every sample a neighbour's. `coarse` scales the radius: above 1 sees less.
    pub fn new(cells: &[u8], textures: &[u8], grid: Grid, coarse: f32, stages: Stages) -> Model {
        let count = grid.cells();
        let mut model = Model {
            grid,
            cells: vec![0; count * SAMPLES],
            textures: vec![0; count * SAMPLES],
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
        for at in 0..count {
            for n in 0..SAMPLES {
                let bits = model.next();
                let from = model.neighbour(at, bits);
                model.remember(at, n, cells[from], textures[from]);
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

    fn neighbour(&self, at: usize, bits: u64) -> usize {
        let Grid { width, height } = self.grid;
        let (x, y) = ((at % width) as i64 + (bits % 3) as i64 - 1, (at / width) as i64 + (bits / 3 % 3) as i64 - 1);
        y.clamp(0, height as i64 - 1) as usize * width + x.clamp(0, width as i64 - 1) as usize
    }

    /// How far a sample may be from each cell and agree with it.
    fn reaches(&self) -> Vec<u8> {
        let reach = |((mean, restless), blink): ((&f32, &f32), &f32)| {
            let bright = (mean / RADIUS_BRIGHT).min(1.0);
            let least = RADIUS * (RADIUS_DARK + (1.0 - RADIUS_DARK) * bright);
            (((restless * RESTLESS_SCALE).clamp(least, RADIUS_MAX) + blink) * self.coarse) as u8
        };
        self.mean.iter().zip(&self.restless).zip(&self.blink).map(reach).collect()
    }

    /// Marks what differs; learns nothing. A cell looks at its samples until enough of them agree.
    pub fn look(&mut self, cells: &[u8], textures: &[u8]) -> Vec<bool> {
        let weight = if self.stages.has(Stage::Texture) { TEXTURE_WEIGHT } else { 0 };
        let (count, reaches) = (self.grid.cells(), self.reaches());
        let mut front = vec![false; count];
        for start in (0..count).step_by(TOGETHER) {
            let end = count.min(start + TOGETHER);
            let (mut agree, mut nearest) = ([0_u8; TOGETHER], [u8::MAX; TOGETHER]);
            for sample in 0..SAMPLES {
                let (from, to) = (sample * count + start, sample * count + end);
                let seen = cells[start..end].iter().zip(&textures[start..end]);
                let known = self.cells[from..to].iter().zip(&self.textures[from..to]);
                let states = agree.iter_mut().zip(&mut nearest);
                // Without branches, so that a vector of cells is one instruction.
                for ((((cell, texture), (known, bits)), reach), (agree, nearest)) in
                    seen.zip(known).zip(&reaches[start..end]).zip(states)
                {
                    let apart = known.abs_diff(*cell).saturating_add(weight * (bits ^ texture).count_ones() as u8);
                    let looks = *agree < AGREE;
                    *nearest = if looks { (*nearest).min(apart) } else { *nearest };
                    *agree += u8::from(looks & (apart < *reach));
                }
                if agree[..end - start].iter().all(|agree| *agree >= AGREE) {
                    break;
                }
            }
            for (front, agree) in front[start..end].iter_mut().zip(agree) {
                *front = agree < AGREE;
            }
            self.near[start..end].copy_from_slice(&nearest[..end - start]);
        }
        front
    }

    /// Learns the picture that was last looked at. `kinds` says of each cell 0: background, [`DIFFERS`] or [`THING`].
    ///
    /// Each cell has a chance of its own, but 32 side by side replace the same sample, and give to neighbours on the same side: what one
    /// cell remembers is as random as if it chose alone, and a vector of them is written at once.
    pub fn learn(&mut self, cells: &[u8], textures: &[u8], kinds: &[u8], seconds: f32) {
        let chances = [odds(seconds / RENEW), odds(seconds / ABSORB)];
        let seen = Seen { cells, textures, kinds };
        self.follow(cells, kinds, seconds);
        let Grid { width, height } = self.grid;
        for row in 0..height {
            let first = row * width;
            for left in (0..width).step_by(TOGETHER) {
                let (end, bits) = (width.min(left + TOGETHER), self.next());
                self.dice.iter_mut().for_each(|dice| *dice = xorshift(*dice));
                self.renew(&seen, first + left..first + end, (bits >> 16) as usize % SAMPLES, chances);
                // The neighbours on one of nine sides; at the edge of the picture nobody is beside the last column.
                let (right, down) = ((bits >> 48) as usize % 3, (bits >> 48) as usize / 3 % 3);
                let beside = (row + down).clamp(1, height) - 1;
                let (from, to) = ((left + right).max(1) - 1, (end + right - 1).min(width));
                let source = first + from + 1 - right..first + to + 1 - right;
                self.give(&seen, source, beside * width + from, (bits >> 24) as usize % SAMPLES, chances[0]);
            }
        }
    }

    /// Some of these cells replace one of their own samples.
    fn renew(&mut self, seen: &Seen<'_>, range: Range<usize>, sample: usize, [renew, absorb]: [u32; 2]) {
        let mut takes = [0; TOGETHER];
        for ((takes, kind), dice) in takes.iter_mut().zip(&seen.kinds[range.clone()]).zip(&self.dice) {
            let chance = if *kind == DIFFERS { absorb } else { renew };
            *takes = u8::from((*kind != THING) & (*dice & 0xffff <= chance));
        }
        self.replace(seen, range.clone(), range.start, sample, &takes);
    }

    /// Some of these cells, where they are background, replace a sample of the neighbours that begin at `into`.
    fn give(&mut self, seen: &Seen<'_>, range: Range<usize>, into: usize, sample: usize, renew: u32) {
        let mut takes = [0; TOGETHER];
        let kinds = seen.kinds[range.clone()].iter().zip(&seen.kinds[into..]);
        for ((takes, (kind, other)), dice) in takes.iter_mut().zip(kinds).zip(&self.dice) {
            *takes = u8::from((*kind == 0) & (*other != THING) & (*dice >> 16 <= renew));
        }
        self.replace(seen, range, into, sample, &takes);
    }

    /// Those of the cells from `into` on that take it get what is seen in `range` for one of their samples.
    fn replace(&mut self, seen: &Seen<'_>, range: Range<usize>, into: usize, sample: usize, takes: &[u8; TOGETHER]) {
        let into = sample * self.grid.cells() + into;
        let theirs = into..into + range.len();
        let sides = [(&mut self.cells, seen.cells), (&mut self.textures, seen.textures)];
        for (known, now) in sides {
            // Without branches, as in [`Model::look`].
            for ((known, now), takes) in known[theirs.clone()].iter_mut().zip(&now[range.clone()]).zip(takes) {
                let mask = takes.wrapping_neg();
                *known = *known & !mask | now & mask;
            }
        }
    }

    /// How bright each cell is, how restless, and how often it blinks; without branches, as in [`Model::look`].
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

    fn remember(&mut self, at: usize, n: usize, cell: u8, texture: u8) {
        let at = n * self.grid.cells() + at;
        (self.cells[at], self.textures[at]) = (cell, texture);
    }

    /// Warm-up: what is seen is taken as background, sample by sample.
    pub fn warm(&mut self, cells: &[u8], textures: &[u8], number: usize) {
        let follow = 1.0 / (number + 2) as f32;
        for at in 0..cells.len() {
            self.remember(at, number % SAMPLES, cells[at], textures[at]);
            self.mean[at] += (f32::from(cells[at]) - self.mean[at]) * follow.max(0.05);
            self.restless[at] += (f32::from(self.near[at]) - self.restless[at]) * 0.1;
        }
    }

    /// Scales all brightness: the light has drifted further than is compensated.
    pub fn relight(&mut self, gain: f32) {
        let scale = |cell: u8| (f32::from(cell) * gain).min(255.0) as u8;
        self.cells.iter_mut().for_each(|cell| *cell = scale(*cell));
        self.mean.iter_mut().for_each(|mean| *mean = (*mean * gain).min(255.0));
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
    use super::*;

    /// Two blocks and a bit wide.
    const GRID: Grid = Grid { width: 70, height: 24 };
    const OLD: u8 = 10;
    const NEW: u8 = 200;

    /// How many samples of each cell are of the new picture, after `times` whole renewals.
    fn renewed(kind: impl Fn(usize) -> u8, times: usize) -> Vec<usize> {
        let count = GRID.cells();
        let (old, new) = (vec![OLD; count], vec![NEW; count]);
        let kinds: Vec<u8> = (0..count).map(kind).collect();
        let mut model = Model::new(&old, &old, GRID, 1.0, Stages::ALL);
        (0..times).for_each(|_| model.learn(&new, &new, &kinds, RENEW));
        let planes = || model.cells.chunks_exact(count).zip(model.textures.chunks_exact(count));
        assert!(planes().all(|(cells, textures)| cells == textures), "brightness and texture are of one picture");
        (0..count).map(|at| planes().filter(|(cells, _)| cells[at] == NEW).count()).collect()
    }

    #[test]
    fn every_cell_renews_one_sample_and_gets_one_of_a_neighbours_each_time() {
        let once = renewed(|_| 0, 1);
        assert!(once.iter().all(|samples| (1..=10).contains(samples)), "{once:?}");
        // Two replaced of twenty, less those that are hit twice and the gifts that the edge has nobody to give to.
        let mean = |samples: &[usize]| samples.iter().sum::<usize>() as f32 / samples.len() as f32;
        assert!((1.85..2.0).contains(&mean(&once)), "{}", mean(&once));
        let often = renewed(|_| 0, 14);
        assert!((14.5..15.6).contains(&mean(&often)), "{} of 20 (1 - 0.95^28 = 0.76)", mean(&often));
    }

    #[test]
    fn a_thing_is_not_learned_and_what_merely_differs_is_learned_by_itself_alone() {
        let kinds = |at: usize| match at % GRID.width {
            20..40 => THING,
            50..66 => DIFFERS,
            _ => 0,
        };
        let samples = renewed(kinds, 14);
        let of = |columns: Range<usize>| {
            let cells = samples.iter().enumerate().filter(move |(at, _)| columns.contains(&(at % GRID.width)));
            cells.map(|(_, samples)| *samples).collect::<Vec<_>>()
        };
        assert!(of(20..40).iter().all(|samples| *samples == 0), "a thing was learned");
        // 14 x RENEW / ABSORB = 7.5 samples hit, at the sides some more by neighbours that are background.
        let inside = of(51..65);
        let mean = inside.iter().sum::<usize>() as f32 / inside.len() as f32;
        assert!((5.5..7.0).contains(&mean), "{mean} of 20 (1 - 0.95^7.5 = 0.32)");
    }
}
