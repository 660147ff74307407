//! The grid: a picture's luma averaged down to the cells everything else in this room works on.
//!
//! What belongs here: sizes and averages. What does not: anything that remembers a picture.

use super::limits::GRID_SIDE;
use super::picture::Picture;

/// A rectangle of 8-bit cells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grid {
    /// Cells a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// The cells, row by row.
    pub cells: Vec<u8>,
}

impl Grid {
    /// An all-black grid.
    pub fn new(width: usize, height: usize) -> Grid {
        Grid { width, height, cells: vec![0; width * height] }
    }

    /// Whether two grids have the same shape.
    pub fn same_shape(&self, other: &Grid) -> bool {
        self.width == other.width && self.height == other.height
    }

    /// Mean distance between neighbouring cells, in luma steps: how much there is to see.
    pub fn edges(&self) -> f32 {
        let mut sum = 0u64;
        for row in 1..self.height {
            let (above, here) = (&self.cells[(row - 1) * self.width..], &self.cells[row * self.width..]);
            for x in 1..self.width {
                sum += u64::from(here[x].abs_diff(here[x - 1])) + u64::from(here[x].abs_diff(above[x]));
            }
        }
        sum as f32 / (2 * self.width * self.height).max(1) as f32
    }

    /// Smoothed by the mean of 3x3 cells: noise falls to a third, lights stay.
    pub fn smoothed(&self) -> Grid {
        let (width, height) = (self.width, self.height);
        let mut out = self.clone();
        for y in 1..height.saturating_sub(1) {
            for x in 1..width.saturating_sub(1) {
                let mut sum = 0u32;
                for row in y - 1..=y + 1 {
                    let line = &self.cells[row * width + x - 1..row * width + x + 2];
                    sum += line.iter().map(|&c| u32::from(c)).sum::<u32>();
                }
                out.cells[y * width + x] = ((sum + 4) / 9) as u8;
            }
        }
        out
    }
}

/// Averages pictures of one size down to the grid: the longer side becomes [`GRID_SIDE`] cells, cells are square, and small
/// pictures stay as they are.
#[derive(Debug, Clone)]
pub struct Shrink {
    size: (usize, usize),
    columns: Vec<usize>,
    rows: Vec<usize>,
    sums: Vec<u32>,
}

impl Shrink {
    /// Prepares for pictures of `width` x `height` pixels.
    pub fn new(width: usize, height: usize) -> Shrink {
        let longer = width.max(height).max(1);
        let cells = |side: usize| if longer <= GRID_SIDE { side } else { (side * GRID_SIDE + longer / 2) / longer };
        let edges = |side: usize| {
            let count = cells(side).max(1);
            (0..=count).map(|i| i * side / count).collect::<Vec<_>>()
        };
        Shrink { size: (width, height), columns: edges(width), rows: edges(height), sums: vec![0; width] }
    }

    /// Whether it was made for pictures like this one.
    pub fn fits(&self, picture: &Picture) -> bool {
        self.size == (picture.width, picture.height)
    }

    /// The grid of a picture; `picture` must fit.
    pub fn shrink(&mut self, picture: &Picture) -> Grid {
        let mut grid = Grid::new(self.columns.len() - 1, self.rows.len() - 1);
        for (y, line) in grid.cells.chunks_exact_mut(self.columns.len() - 1).enumerate() {
            let (top, bottom) = (self.rows[y], self.rows[y + 1]);
            self.sums.fill(0);
            for row in picture.y.chunks_exact(picture.width).take(bottom).skip(top) {
                self.sums.iter_mut().zip(row).for_each(|(sum, &pixel)| *sum += u32::from(pixel));
            }
            for (cell, span) in line.iter_mut().zip(self.columns.windows(2)) {
                let pixels = ((span[1] - span[0]) * (bottom - top)) as u32;
                let sum: u32 = self.sums[span[0]..span[1]].iter().sum();
                *cell = ((sum + pixels / 2) / pixels.max(1)) as u8;
            }
        }
        grid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_hd_becomes_320_by_180_and_keeps_its_brightness() {
        let picture = Picture::grey(1920, 1080, vec![77; 1920 * 1080]).unwrap();
        let grid = Shrink::new(1920, 1080).shrink(&picture);
        assert_eq!((grid.width, grid.height), (320, 180));
        assert!(grid.cells.iter().all(|&c| c == 77));
    }

    #[test]
    fn four_to_three_keeps_square_cells_and_small_pictures_stay() {
        let grid = Shrink::new(1280, 960).shrink(&Picture::grey(1280, 960, vec![0; 1280 * 960]).unwrap());
        assert_eq!((grid.width, grid.height), (320, 240));
        let grid = Shrink::new(160, 120).shrink(&Picture::grey(160, 120, vec![0; 160 * 120]).unwrap());
        assert_eq!((grid.width, grid.height), (160, 120));
    }

    #[test]
    fn a_cell_is_the_mean_of_its_pixels() {
        let mut y = vec![0; 640 * 360];
        y[0] = 100;
        y[641] = 200;
        let grid = Shrink::new(640, 360).shrink(&Picture::grey(640, 360, y).unwrap());
        assert_eq!(grid.cells[0], 75);
        assert_eq!(grid.cells[1], 0);
    }
}
