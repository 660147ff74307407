//! Stabilisation: removes shake and slow changes of light before a picture is compared.

use crate::analytics::detect::picture::Grid;
use crate::analytics::params::{SHAKE_MAX, SHAKE_MIN};

/// Difference beyond which a cell shows another object and is ignored, steps of 255.
const OTHER: f32 = 45.0;

/// Cells that are summed together, so that the loop vectorises.
const TOGETHER: usize = 8;

/// Displacement of the picture against the background, in cells (Lucas and Kanade 1981, one
/// translation for the whole picture). Every third row is enough.
pub fn shift(mean: &[f32], cells: &[u8], grid: Grid) -> [f32; 2] {
    let mut sums = [[0.0_f32; TOGETHER]; 5];
    for y in (2..grid.height - 2).step_by(3) {
        let inner =
            |from: usize| mean[from + 2..from + grid.width - 2].as_chunks::<TOGETHER>().0.iter();
        let here = y * grid.width;
        let (seen, _) = cells[here + 2..here + grid.width - 2].as_chunks::<TOGETHER>();
        let across = inner(here - 1).zip(inner(here + 1));
        let down = inner(here - grid.width).zip(inner(here + grid.width));
        for (((now, mean), (left, right)), (above, below)) in
            seen.iter().zip(inner(here)).zip(across).zip(down)
        {
            // Without branches, so that the loop vectorises.
            for lane in 0..TOGETHER {
                let gx = (right[lane] - left[lane]) / 2.0;
                let gy = (below[lane] - above[lane]) / 2.0;
                let apart = f32::from(now[lane]) - mean[lane];
                let [gx, gy] = if apart.abs() < OTHER { [gx, gy] } else { [0.0; 2] };
                for (sum, part) in
                    sums.iter_mut().zip([gx * gx, gx * gy, gy * gy, gx * apart, gy * apart])
                {
                    sum[lane] += part;
                }
            }
        }
    }
    let [xx, xy, yy, xt, yt] = sums.map(|sum| sum.iter().sum::<f32>());
    let determinant = xx * yy - xy * xy;
    // Without edges in both directions there is no estimate.
    if determinant < 1e-3 * (xx + yy).powi(2) || determinant <= 0.0 {
        return [0.0; 2];
    }
    [(xt * yy - yt * xy) / determinant, (yt * xx - xt * xy) / determinant]
}

/// The picture moved back onto the background; `None` when it does not shake or has moved too far.
pub fn stabilized(mean: &[f32], cells: &[u8], grid: Grid) -> Option<Vec<u8>> {
    let mut total = [0.0_f32; 2];
    let mut moved = None;
    // For shakes of more than a cell the first estimate is too small; the second finds the rest.
    for _ in 0..2 {
        let [dx, dy] = shift(mean, moved.as_deref().unwrap_or(cells), grid);
        total = [total[0] + dx, total[1] + dy];
        let size = total[0].hypot(total[1]);
        if !(SHAKE_MIN..=SHAKE_MAX).contains(&size) {
            return None;
        }
        moved = Some(displaced(cells, grid, total));
    }
    moved
}

/// The picture displaced by `[dx, dy]` cells, with bilinear interpolation.
fn displaced(cells: &[u8], grid: Grid, [dx, dy]: [f32; 2]) -> Vec<u8> {
    let split = |offset: f32| (offset.floor() as i32, ((offset - offset.floor()) * 16.0) as u16);
    // A cell of the background at x is seen at x - shift.
    let ((right, fx), (down, fy)) = (split(-dx), split(-dy));
    let row = |y: i32| {
        let first = (y + down).clamp(0, grid.height as i32 - 1) as usize * grid.width;
        displaced_row(&cells[first..first + grid.width], right)
    };
    // Weights of the four neighbours, of 256.
    let [left, right] = [16 - fx, fx];
    let [a, b, c, d] = [left * (16 - fy), right * (16 - fy), left * fy, right * fy];
    let mut out = vec![0; cells.len()];
    let mut upper = row(0);
    for (y, out) in (1..).zip(out.chunks_exact_mut(grid.width)) {
        let lower = row(y);
        let above = upper.iter().zip(&upper[1..]);
        for ((out, (left, right)), (below, aslant)) in
            out.iter_mut().zip(above).zip(lower.iter().zip(&lower[1..]))
        {
            let [left, right, below, aslant] =
                [u16::from(*left), u16::from(*right), u16::from(*below), u16::from(*aslant)];
            *out = ((left * a + right * b + below * c + aslant * d + 128) >> 8) as u8;
        }
        upper = lower;
    }
    out
}

/// A row displaced by `right` cells, and one cell more. Outside of the picture the edge cell is
/// repeated.
fn displaced_row(row: &[u8], right: i32) -> Vec<u8> {
    let (from, into) = (right.max(0) as usize, (-right).max(0) as usize);
    let inner = &row[from.min(row.len() - 1)..];
    let mut out = vec![row[0]; into];
    out.extend_from_slice(&inner[..inner.len().min(row.len() + 1 - into)]);
    out.resize(row.len() + 1, row[row.len() - 1]);
    out
}

/// Median brightness ratio of picture and background: objects do not affect it.
pub fn light_gain(mean: &[f32], cells: &[u8]) -> f32 {
    let usable = |mean: f32, cell: u8| (16.0..=235.0).contains(&mean) && (8..=247).contains(&cell);
    let pairs = mean.iter().zip(cells).step_by(11).filter(|(mean, cell)| usable(**mean, **cell));
    let mut ratios: Vec<f32> =
        pairs.map(|(mean, cell)| (f32::from(*cell) + 0.5) / (mean + 0.5)).collect();
    let middle = ratios.len() / 2;
    if ratios.is_empty() { 1.0 } else { *ratios.select_nth_unstable_by(middle, f32::total_cmp).1 }
}

/// The picture divided by `gain`: as it would be in the light of the background.
pub fn apply_gain(cells: &[u8], gain: f32) -> Vec<u8> {
    let table: Vec<u8> =
        (0..=255).map(|cell| (cell as f32 / gain + 0.5).min(255.0) as u8).collect();
    cells.iter().map(|cell| table[usize::from(*cell)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { width: 80, height: 60 };

    /// A smooth landscape, displaced by `dx` and `dy` cells.
    fn landscape(dx: f32, dy: f32) -> Vec<u8> {
        let at = |i: usize| ((i % 80) as f32 + dx, (i / 80) as f32 + dy);
        let bright = |(x, y): (f32, f32)| 120.0 + 50.0 * (x / 5.0).sin() + 40.0 * (y / 4.0).cos();
        (0..GRID.cells()).map(|i| bright(at(i)) as u8).collect()
    }

    #[test]
    fn a_shake_of_one_cell_is_removed() {
        let mean: Vec<f32> = landscape(0.0, 0.0).into_iter().map(f32::from).collect();
        let shaken = landscape(1.2, -0.7);
        let off = |cells: &[u8]| {
            cells.iter().zip(&mean).map(|(a, b)| (f32::from(*a) - b).abs()).sum::<f32>()
                / cells.len() as f32
        };
        let stabilized = stabilized(&mean, &shaken, GRID).unwrap();
        assert!(off(&stabilized) * 4.0 < off(&shaken), "{} of {}", off(&stabilized), off(&shaken));
    }

    #[test]
    fn a_still_or_moved_picture_is_not_stabilised() {
        let mean: Vec<f32> = landscape(0.0, 0.0).into_iter().map(f32::from).collect();
        assert_eq!(stabilized(&mean, &landscape(0.0, 0.0), GRID), None);
        assert_eq!(stabilized(&vec![100.0; GRID.cells()], &landscape(1.0, 0.0), GRID), None);
    }

    #[test]
    fn slow_light_is_compensated_with_an_object_in_view() {
        let cells = landscape(0.0, 0.0);
        let mean: Vec<f32> = cells.iter().map(|cell| f32::from(*cell)).collect();
        let mut brighter: Vec<u8> =
            cells.iter().map(|cell| (f32::from(*cell) * 1.2).min(255.0) as u8).collect();
        brighter[..1200].fill(10);
        let gain = light_gain(&mean, &brighter);
        assert!((gain - 1.2).abs() < 0.02, "{gain}");
        assert!(apply_gain(&brighter, gain)[2000].abs_diff(cells[2000]) <= 1);
    }
}
