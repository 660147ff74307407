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

/// What a cell remembers.
#[derive(Clone, Copy)]
struct Memory {
    cells: [u8; SAMPLES],
    textures: [u8; SAMPLES],
}

/// The background of one camera.
pub struct Model {
    grid: Grid,
    memory: Vec<Memory>,
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
            memory: vec![Memory { cells: [0; SAMPLES], textures: [0; SAMPLES] }; count],
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
                model.memory[at].cells[n] = cells[from];
                model.memory[at].textures[n] = textures[from];
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

    fn reach(&self, at: usize) -> u32 {
        let bright = (self.mean[at] / RADIUS_BRIGHT).min(1.0);
        let least = RADIUS * (RADIUS_DARK + (1.0 - RADIUS_DARK) * bright);
        let goal = (self.restless[at] * RESTLESS_SCALE).clamp(least, RADIUS_MAX) + self.blink[at];
        (goal * self.coarse) as u32
    }

    /// Marks what differs; learns nothing.
    pub fn look(&mut self, cells: &[u8], textures: &[u8]) -> Vec<bool> {
        let weight = if self.stages.has(Stage::Texture) { TEXTURE_WEIGHT } else { 0 };
        let mut front = vec![false; self.grid.cells()];
        for at in 0..front.len() {
            let (cell, texture, reach) = (cells[at], textures[at], self.reach(at));
            let memory = &self.memory[at];
            let (mut agree, mut nearest) = (0, u32::MAX);
            for (sample, bits) in memory.cells.iter().zip(&memory.textures) {
                let apart = u32::from(sample.abs_diff(cell)) + weight * (bits ^ texture).count_ones();
                nearest = nearest.min(apart);
                agree += usize::from(apart < reach);
                if agree >= AGREE {
                    break;
                }
            }
            front[at] = agree < AGREE;
            self.near[at] = nearest.min(255) as u8;
        }
        front
    }

    /// Learns the picture that was last looked at. `kinds` says of each cell 0: background, [`DIFFERS`] or [`THING`].
    pub fn learn(&mut self, cells: &[u8], textures: &[u8], kinds: &[u8], seconds: f32) {
        let renew = odds(seconds / RENEW);
        let absorb = odds(seconds / ABSORB);
        let follow = (seconds / RESTLESS_SECONDS).min(1.0);
        let mean_follow = (seconds / MEAN_SECONDS).min(1.0);
        let feedback = self.stages.has(Stage::Feedback);
        for at in 0..kinds.len() {
            if kinds[at] == THING {
                continue;
            }
            let bits = self.next();
            let differs = kinds[at] == DIFFERS;
            if feedback {
                self.restless[at] += (f32::from(self.near[at]) - self.restless[at]) * follow;
                let blinked = differs != self.differed[at];
                let change = if blinked { BLINK_UP } else { -BLINK_DOWN * seconds };
                self.blink[at] = (self.blink[at] + change).clamp(0.0, BLINK_MAX);
            }
            self.differed[at] = differs;
            if bits as u16 <= if differs { absorb } else { renew } {
                self.remember(at, (bits >> 16) as usize % SAMPLES, cells[at], textures[at]);
            }
            if differs {
                continue;
            }
            self.mean[at] += (f32::from(cells[at]) - self.mean[at]) * mean_follow;
            if (bits >> 32) as u16 <= renew {
                let other = self.neighbour(at, bits >> 48);
                if kinds[other] != THING {
                    self.remember(other, (bits >> 24) as usize % SAMPLES, cells[at], textures[at]);
                }
            }
        }
    }

    fn remember(&mut self, at: usize, n: usize, cell: u8, texture: u8) {
        self.memory[at].cells[n] = cell;
        self.memory[at].textures[n] = texture;
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

    /// Takes a cell over into the background at once: a ghost, or a thing that was left.
    pub fn absorb(&mut self, at: usize, cell: u8, texture: u8) {
        self.memory[at] = Memory { cells: [cell; SAMPLES], textures: [texture; SAMPLES] };
        self.mean[at] = f32::from(cell);
    }

    /// Scales all brightness: the light has drifted further than is compensated.
    pub fn relight(&mut self, gain: f32) {
        let scale = |cell: u8| (f32::from(cell) * gain).min(255.0) as u8;
        for memory in &mut self.memory {
            memory.cells = memory.cells.map(scale);
        }
        self.mean.iter_mut().for_each(|mean| *mean = (*mean * gain).min(255.0));
    }
}

/// A chance from 0 to 1 as a threshold for 16 random bits.
fn odds(chance: f32) -> u16 {
    (chance.clamp(0.0, 1.0) * 65_535.0) as u16
}
