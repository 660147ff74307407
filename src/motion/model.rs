//! What the empty scene looks like: a few remembered brightnesses per cell (sample consensus, ViBe by Barnich and Van Droogenbroeck
//! 2011) with a radius per cell that learns how restless the cell is (PBAS, Hofmann et al. 2012).
//!
//! What belongs here: foreground or not, cell by cell. What does not: what the foreground is.

use super::limits::{AGREE, HEIGHT, RADIUS, RADIUS_MAX, RENEW, SAMPLES, WIDTH};

const CELLS: usize = WIDTH * HEIGHT;
/// How fast a cell's radius follows its restlessness.
const LEARN: f32 = 0.05;
/// The radius is this many times the mean distance to the nearest samples.
const SCALE: f32 = 5.0;

/// The background of one camera.
pub struct Model {
    samples: Vec<[u8; SAMPLES]>,
    radius: Vec<f32>,
    restless: Vec<f32>,
    /// A cheap stream of numbers; only statistics depend on it.
    random: u64,
    sensitivity: f32,
}

impl Model {
    /// A background learned from one picture; every sample a neighbour's brightness. `sensitivity` scales the radius: above 1 sees
    /// less.
    pub fn new(cells: &[u8], sensitivity: f32) -> Model {
        let mut model = Model {
            samples: vec![[0; SAMPLES]; CELLS],
            radius: vec![RADIUS; CELLS],
            restless: vec![RADIUS / SCALE; CELLS],
            random: 0x5eed,
            sensitivity,
        };
        for at in 0..CELLS {
            for n in 0..SAMPLES {
                let from = model.neighbour(at);
                model.samples[at][n] = cells[from];
            }
        }
        model
    }

    fn next(&mut self) -> u64 {
        // Xorshift (Marsaglia 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn neighbour(&mut self, at: usize) -> usize {
        let bits = self.next();
        let (x, y) = ((at % WIDTH) as i64 + (bits % 3) as i64 - 1, (at / WIDTH) as i64 + (bits / 3 % 3) as i64 - 1);
        y.clamp(0, HEIGHT as i64 - 1) as usize * WIDTH + x.clamp(0, WIDTH as i64 - 1) as usize
    }

    /// Marks what differs, and learns from what does not. `learn` false only looks.
    pub fn look(&mut self, cells: &[u8], learn: bool) -> Vec<bool> {
        let mut front = vec![false; CELLS];
        for at in 0..CELLS {
            let value = cells[at];
            let reach = self.radius[at] * self.sensitivity;
            let (mut agree, mut nearest) = (0, u8::MAX);
            for sample in &self.samples[at] {
                let distance = sample.abs_diff(value);
                nearest = nearest.min(distance);
                if f32::from(distance) < reach {
                    agree += 1;
                    if agree >= AGREE {
                        break;
                    }
                }
            }
            front[at] = agree < AGREE;
            if learn && !front[at] {
                self.learn(at, value, nearest);
            }
        }
        front
    }

    fn learn(&mut self, at: usize, value: u8, nearest: u8) {
        self.restless[at] += (f32::from(nearest) - self.restless[at]) * LEARN;
        let goal = (self.restless[at] * SCALE).clamp(RADIUS, RADIUS_MAX);
        self.radius[at] += (goal - self.radius[at]) * LEARN;
        let bits = self.next();
        if bits.is_multiple_of(RENEW) {
            self.samples[at][(bits >> 8) as usize % SAMPLES] = value;
        }
        if (bits >> 16).is_multiple_of(RENEW) {
            let other = self.neighbour(at);
            self.samples[other][(bits >> 24) as usize % SAMPLES] = value;
        }
    }

    /// Cells that churn: they were foreground and nothing came of it, so the radius grows.
    pub fn doubt(&mut self, at: usize) {
        self.radius[at] = (self.radius[at] * 1.08).min(RADIUS_MAX);
    }

    /// Takes a region over into the background at once: a ghost, or a thing that was left.
    pub fn absorb(&mut self, at: usize, value: u8) {
        self.samples[at] = [value; SAMPLES];
    }

    /// The background's brightness of a cell.
    pub fn expected(&self, at: usize) -> u8 {
        let mut sorted = self.samples[at];
        sorted.sort_unstable();
        sorted[SAMPLES / 2]
    }
}
