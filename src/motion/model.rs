//! What the empty scene looks like: a few remembered samples per cell, each its brightness and the texture around it (sample
//! consensus, ViBe by Barnich and Van Droogenbroeck 2011; texture and feedback as in SuBSENSE, St-Charles et al. 2015), with a
//! radius per cell that learns how restless the cell is (PBAS, Hofmann et al. 2012).
//!
//! What belongs here: foreground or not, cell by cell. What does not: what the foreground is.

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
    /// A cheap stream of numbers; only statistics depend on it.
    random: u64,
    coarse: f32,
    stages: Stages,
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
    pub fn learn(&mut self, cells: &[u8], textures: &[u8], kinds: &[u8], seconds: f32) {
        let renew = odds(seconds / RENEW);
        let absorb = odds(seconds / ABSORB);
        self.follow(cells, kinds, seconds);
        for (at, kind) in kinds.iter().enumerate() {
            if *kind == THING {
                continue;
            }
            let bits = self.next();
            let differs = *kind == DIFFERS;
            if bits as u16 <= if differs { absorb } else { renew } {
                self.remember(at, (bits >> 16) as usize % SAMPLES, cells[at], textures[at]);
            }
            if !differs && (bits >> 32) as u16 <= renew {
                let other = self.neighbour(at, bits >> 48);
                if kinds[other] != THING {
                    self.remember(other, (bits >> 24) as usize % SAMPLES, cells[at], textures[at]);
                }
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
fn odds(chance: f32) -> u16 {
    (chance.clamp(0.0, 1.0) * 65_535.0) as u16
}
