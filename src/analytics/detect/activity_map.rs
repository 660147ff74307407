//! The activity map: the usual share of foreground cells in each tile of the picture.
//!
//! Trees and water move all day. Their regions start events only above their usual activity.

use crate::analytics::detect::blobs::Blob;
use crate::analytics::detect::picture::Grid;
use crate::analytics::params::{CHURN_SECONDS, CHURN_TIMES, TILE};

/// The usual activity of each tile: the share of its cells that differ without an object.
pub struct ActivityMap {
    grid: Grid,
    columns: usize,
    tiles: Vec<f32>,
    /// Seconds of learning so far. The first pictures weigh more.
    elapsed: f32,
}

impl ActivityMap {
    /// A map without activity.
    pub fn new(grid: Grid) -> ActivityMap {
        let columns = grid.width.div_ceil(TILE);
        ActivityMap {
            grid,
            columns,
            tiles: vec![0.0; columns * grid.height.div_ceil(TILE)],
            elapsed: 0.0,
        }
    }

    fn tile(&self, at: usize) -> usize {
        at / self.grid.width / TILE * self.columns + at % self.grid.width / TILE
    }

    /// Learns the foreground cells of a picture that belong to no tracked object. `seconds` is the
    /// time since the last picture.
    pub fn learn(&mut self, cells: impl Iterator<Item = usize>, seconds: f32) {
        let mut now = vec![0.0; self.tiles.len()];
        for at in cells {
            now[self.tile(at)] += 1.0 / (TILE * TILE) as f32;
        }
        self.elapsed += seconds;
        let follow = self.follow(seconds);
        for (tile, now) in self.tiles.iter_mut().zip(now) {
            *tile += (now - *tile) * follow;
        }
    }

    /// Learns a tentative track that was lost without being confirmed: its motion belongs to the
    /// region. `bbox` is its last bounding box in cells, `seconds` the time it was tracked.
    pub fn learn_lost(&mut self, bbox: [f32; 4], area: f32, seconds: f32) {
        let [left, top, right, bottom] = bbox.map(|v| v as usize);
        let dense = area / ((right - left) * (bottom - top)).max(1) as f32;
        let follow = self.follow(seconds);
        let tiles = (top / TILE..bottom.div_ceil(TILE))
            .flat_map(|y| (left / TILE..right.div_ceil(TILE)).map(move |x| (x, y)));
        for (x, y) in tiles {
            let shared = |from: usize, to: usize, tile: usize| {
                to.min((tile + 1) * TILE) - from.max(tile * TILE)
            };
            let share =
                (shared(left, right, x) * shared(top, bottom, y)) as f32 / (TILE * TILE) as f32;
            if let Some(tile) = self.tiles.get_mut(y * self.columns + x) {
                *tile = (*tile + dense * share * follow).min(1.0);
            }
        }
    }

    fn follow(&self, seconds: f32) -> f32 {
        (seconds / CHURN_SECONDS.min(self.elapsed.max(1.0))).min(1.0)
    }

    /// Number of foreground cells that the tiles of a blob usually have.
    pub fn usual(&self, blob: &Blob) -> f32 {
        let mut touched: Vec<usize> = blob.cells.iter().map(|at| self.tile(*at)).collect();
        touched.dedup();
        touched.sort_unstable();
        touched.dedup();
        touched.iter().map(|tile| self.tiles[*tile]).sum::<f32>() * (TILE * TILE) as f32
    }

    /// True when a blob does not exceed the usual activity of its tiles by enough.
    pub fn explains(&self, blob: &Blob) -> bool {
        blob.area < self.usual(blob) * CHURN_TIMES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { width: 80, height: 40 };

    fn blob(left: usize, width: usize) -> Blob {
        let cells: Vec<usize> =
            (10..22).flat_map(|row| (left..left + width).map(move |x| row * 80 + x)).collect();
        Blob {
            bbox: [left as f32, 10.0, (left + width) as f32, 22.0],
            area: cells.len() as f32,
            cells,
        }
    }

    #[test]
    fn usual_activity_explains_small_motion_in_its_region_only() {
        let mut activity_map = ActivityMap::new(GRID);
        let tree = blob(8, 8);
        for n in 0..100 {
            let half = tree.cells.iter().copied().filter(|at| (at + n) % 5 == 0);
            activity_map.learn(half, 0.2);
        }
        let leaves = Blob { area: 40.0, ..tree.clone() };
        assert!(activity_map.explains(&leaves));
        assert!(!activity_map.explains(&tree), "the whole tree at once exceeds its usual activity");
        assert!(!activity_map.explains(&blob(50, 8)));
    }
}
