//! Pictures at analysis size: box-averaged luma, texture and the amount of colour.

use crate::analytics::params::{SIDE, TEXTURE_NOISE, TEXTURE_SHIFT};

/// A decoded picture, planar 4:2:0, 8 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Luma (Y), `width * height` bytes.
    pub y: Vec<u8>,
    /// Chroma (Cb), `(width / 2) * (height / 2)` bytes.
    pub u: Vec<u8>,
    /// Chroma (Cr), as many bytes.
    pub v: Vec<u8>,
}

/// Size of an analysed picture in cells. Cells are square, so that speed and size mean the same in
/// both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grid {
    /// Cells in a row.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
}

impl Grid {
    /// The grid for pictures of a size in pixels: the longest side has [`SIDE`] cells.
    pub fn new(width: usize, height: usize) -> Grid {
        let longest = width.max(height).max(1);
        let scale = |pixels: usize| ((pixels * SIDE + longest / 2) / longest).max(8);
        Grid { width: scale(width), height: scale(height) }
    }

    /// True when a picture of the other shape may be scaled to this grid: cameras round their sizes
    /// to blocks of 16 pixels, which is 3 % of a side of 540.
    pub fn has_shape_of(self, other: Grid) -> bool {
        self.width.abs_diff(other.width) * 32 <= self.width
            && self.height.abs_diff(other.height) * 32 <= self.height
    }

    /// Number of cells.
    pub fn cells(self) -> usize {
        self.width * self.height
    }
}

/// A picture scaled down to the grid.
#[derive(Debug, Clone, PartialEq)]
pub struct LumaGrid {
    /// Size in cells; `cells` has its rows one after the other.
    pub grid: Grid,
    /// Mean luma of each cell, 0..=255.
    pub cells: Vec<u8>,
    /// Median distance of the chroma from grey, steps of 255.
    pub colour: f32,
}

/// Scales a picture down to a grid: its own or that of a learned scene. A picture smaller than the
/// grid is scaled up by repetition.
pub fn downscale(grid: Grid, picture: &Picture) -> LumaGrid {
    let edges = |n: usize, size: usize| -> Vec<(usize, usize)> {
        (0..n)
            .map(|i| (i * size / n, ((i + 1) * size / n).max(i * size / n + 1).min(size)))
            .collect()
    };
    let (columns, rows) = (edges(grid.width, picture.width), edges(grid.height, picture.height));
    let is_halved = picture.width == 2 * grid.width;
    let mut cells = Vec::with_capacity(grid.cells());
    // Rows are summed before columns: that loop vectorises.
    let mut sums = vec![0_u32; picture.width];
    for (top, bottom) in rows {
        sums.fill(0);
        for line in
            picture.y[top * picture.width..bottom * picture.width].chunks_exact(picture.width)
        {
            sums.iter_mut().zip(line).for_each(|(sum, pixel)| *sum += u32::from(*pixel));
        }
        let high = bottom - top;
        if is_halved {
            // A shortcut for the usual sub-stream: a division for every cell would take most of the
            // time.
            let share = (1_u32 << 16).div_ceil(2 * high as u32);
            cells.extend(
                sums.chunks_exact(2).map(|pair| (((pair[0] + pair[1]) * share) >> 16) as u8),
            );
        } else {
            let mean = |(left, right): &(usize, usize)| {
                sums[*left..*right].iter().sum::<u32>() / (high * (right - left)) as u32
            };
            cells.extend(columns.iter().map(|columns| mean(columns) as u8));
        }
    }
    LumaGrid { grid, cells, colour: from_grey(&picture.u).max(from_grey(&picture.v)) }
}

/// Median distance of a chroma plane from grey. The median ignores single coloured objects: a red
/// car at night does not make it day.
fn from_grey(plane: &[u8]) -> f32 {
    let mut counts = [0_u32; 129];
    plane.iter().step_by(7).for_each(|p| counts[usize::from(p.abs_diff(128))] += 1);
    let half = counts.iter().sum::<u32>() / 2;
    let mut seen = 0;
    let median = counts.iter().position(|count| {
        seen += count;
        seen > half
    });
    median.unwrap_or(0) as f32
}

/// The texture around each cell: one bit for each of eight neighbours two cells away, set when it
/// differs from the cell (a local binary similarity pattern; Bilodeau et al. 2013). A change of
/// light leaves it unchanged.
pub fn textures(cells: &[u8], grid: Grid) -> Vec<u8> {
    const REACH: usize = 2;
    let mut out = vec![0; cells.len()];
    let (width, height) = (grid.width, grid.height);
    for y in REACH..height - REACH {
        let row = y * width;
        let here = &cells[row + REACH..row + width - REACH];
        let into = &mut out[row + REACH..row + width - REACH];
        let around = [(0, 0), (0, 2), (0, 4), (2, 0), (2, 4), (4, 0), (4, 2), (4, 4)];
        for (bit, (down, right)) in around.into_iter().enumerate() {
            let from = (y + down - REACH) * width + right;
            let there = &cells[from..from + width - 2 * REACH];
            for ((into, here), there) in into.iter_mut().zip(here).zip(there) {
                let apart = here.abs_diff(*there) > (here >> TEXTURE_SHIFT) + TEXTURE_NOISE;
                *into |= u8::from(apart) << bit;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_square_whatever_the_shape_of_the_picture() {
        let sizes = [(640, 360), (1920, 1080), (1280, 960), (160, 120), (1080, 1920), (768, 432)];
        let grids = sizes
            .map(|(width, height)| Grid::new(width, height))
            .map(|grid| (grid.width, grid.height));
        assert_eq!(grids, [(320, 180), (320, 180), (320, 240), (320, 240), (180, 320), (320, 180)]);
    }

    #[test]
    fn a_cell_is_the_mean_of_its_pixels_at_every_scale() {
        for (width, height) in [(640, 360), (700, 400), (160, 90)] {
            let y = (0..width * height).map(|i| ((i % width) * 200 / width) as u8).collect();
            let chroma = vec![128; (width / 2) * (height / 2)];
            let picture = Picture { width, height, y, u: chroma.clone(), v: chroma };
            let small = downscale(Grid::new(width, height), &picture);
            for (column, cell) in small.cells[..320].iter().enumerate() {
                let expected = (column as f32 + 0.5) * 200.0 / 320.0;
                assert!(
                    (f32::from(*cell) - expected).abs() < 2.0,
                    "{width}: {column} is {cell}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn texture_is_unchanged_by_a_change_of_light() {
        let grid = Grid { width: 32, height: 16 };
        let cells: Vec<u8> =
            (0..grid.cells()).map(|at| if (at / 3) % 2 == 0 { 60 } else { 150 }).collect();
        let brighter: Vec<u8> = cells.iter().map(|cell| (f32::from(*cell) * 1.3) as u8).collect();
        assert_eq!(textures(&cells, grid), textures(&brighter, grid));
        assert!(textures(&cells, grid).iter().any(|bits| *bits != 0));
    }
}
