//! How restless each region is: a tree is in motion all day, and only what exceeds it is news.
//!
//! What belongs here: the memory of regions. What does not: single cells (the model's feedback).

use super::blobs::Blob;
use super::limits::{CHURN_SECONDS, CHURN_TIMES, TILE};
use super::luma::Grid;

/// Share of the cells of each tile that differ without being a believed thing.
pub struct Churn {
    grid: Grid,
    columns: usize,
    tiles: Vec<f32>,
    looks: f32,
}

impl Churn {
    /// Nothing known.
    pub fn new(grid: Grid) -> Churn {
        let columns = grid.width.div_ceil(TILE);
        Churn { grid, columns, tiles: vec![0.0; columns * grid.height.div_ceil(TILE)], looks: 0.0 }
    }

    fn tile(&self, at: usize) -> usize {
        at / self.grid.width / TILE * self.columns + at % self.grid.width / TILE
    }

    /// Learns a picture: `counts(cell)` for every cell that differs and is no believed thing.
    pub fn learn(&mut self, restless: impl Iterator<Item = usize>, seconds: f32) {
        let mut now = vec![0.0; self.tiles.len()];
        for at in restless {
            now[self.tile(at)] += 1.0 / (TILE * TILE) as f32;
        }
        self.looks += 1.0;
        let follow = (seconds / CHURN_SECONDS).max(1.0 / self.looks).min(1.0);
        for (tile, now) in self.tiles.iter_mut().zip(now) {
            *tile += (now - *tile) * follow;
        }
    }

    /// True when a blob is no more than its region does anyway.
    pub fn explains(&self, blob: &Blob) -> bool {
        let mut touched: Vec<usize> = blob.cells.iter().map(|at| self.tile(*at)).collect();
        touched.dedup();
        touched.sort_unstable();
        touched.dedup();
        let usual: f32 = touched.iter().map(|tile| self.tiles[*tile]).sum::<f32>() * (TILE * TILE) as f32;
        blob.area < usual * CHURN_TIMES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { width: 80, height: 40 };

    fn blob(left: usize, width: usize) -> Blob {
        let cells: Vec<usize> = (10..22).flat_map(|row| (left..left + width).map(move |x| row * 80 + x)).collect();
        Blob { place: [left as f32, 10.0, (left + width) as f32, 22.0], area: cells.len() as f32, cells }
    }

    #[test]
    fn a_tree_explains_itself_and_not_who_stands_before_it_nor_who_is_elsewhere() {
        let mut churn = Churn::new(GRID);
        let tree = blob(8, 8);
        for n in 0..100 {
            let half = tree.cells.iter().copied().filter(|at| (at + n) % 3 == 0);
            churn.learn(half, 0.2);
        }
        let leaves = Blob { area: 40.0, ..tree.clone() };
        assert!(churn.explains(&leaves));
        assert!(!churn.explains(&tree), "everything at once is more than the tree does");
        assert!(!churn.explains(&blob(50, 8)));
    }
}
