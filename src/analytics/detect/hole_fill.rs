//! Region filling (morphology): sets background cells that the foreground encloses.

use crate::analytics::detect::picture::Grid;
use crate::analytics::params::HOLE_MAX;

/// A run: adjacent background cells of one row.
struct Run {
    row: usize,
    /// First column.
    from: usize,
    /// Column after the last one.
    to: usize,
    /// An earlier run of the same region; its own index for the first run of a region.
    region: usize,
}

/// Index of the first run of the region that a run belongs to.
fn region_of(runs: &[Run], mut run: usize) -> usize {
    while runs[run].region != run {
        run = runs[run].region;
    }
    run
}

/// Sets enclosed background cells: a window of a car, a coat of the colour of the wall. A region
/// that reaches the edge of the picture is not enclosed, and one of more than [`HOLE_MAX`] cells
/// stays.
///
/// Regions are labelled by runs, row after row (Rosenfeld and Pfaltz 1966): most rows are one run.
pub fn fill(mask: &mut [u8], grid: Grid) {
    // Run 0 stands for the area outside of the picture.
    let mut runs = vec![Run { row: 0, from: 0, to: 0, region: 0 }];
    let mut above = 0;
    for (row, cells) in mask.chunks_exact(grid.width).enumerate() {
        let first = runs.len();
        let mut from = 0;
        for part in cells.split(|cell| *cell != 0) {
            let (start, to) = (from, from + part.len());
            from = to + 1;
            if start == to {
                continue;
            }
            let own = runs.len();
            let at_edge = row == 0 || row + 1 == grid.height || start == 0 || to == grid.width;
            runs.push(Run { row, from: start, to, region: if at_edge { 0 } else { own } });
            while above < first && runs[above].from < to {
                if runs[above].to > start {
                    let (one, other) = (region_of(&runs, above), region_of(&runs, own));
                    runs[one.max(other)].region = one.min(other);
                }
                // The run above may also touch the next run of this row.
                if runs[above].to > to {
                    break;
                }
                above += 1;
            }
        }
        above = first;
    }
    let regions: Vec<usize> = (0..runs.len()).map(|run| region_of(&runs, run)).collect();
    let mut sizes = vec![0; runs.len()];
    runs.iter().zip(&regions).for_each(|(run, region)| sizes[*region] += run.to - run.from);
    for (run, region) in runs.iter().zip(regions).filter(|(_, region)| *region != 0) {
        if sizes[region] <= HOLE_MAX {
            mask[run.row * grid.width + run.from..run.row * grid.width + run.to].fill(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enclosed_regions_are_filled_and_open_ones_stay() {
        let filled = |drawn: &[&str]| {
            let grid = Grid { width: drawn[0].len(), height: drawn.len() };
            let mut mask: Vec<u8> =
                drawn.concat().bytes().map(|cell| u8::from(cell == b'#')).collect();
            fill(&mut mask, grid);
            let text: Vec<String> = mask
                .chunks(grid.width)
                .map(|row| row.iter().map(|cell| if *cell == 0 { '.' } else { '#' }).collect())
                .collect();
            text
        };
        let open = ["............", ".#########..", ".#.......#..", ".#.......#..", "............"];
        assert_eq!(filled(&open), open);
        let beside = [
            "............",
            "..##########",
            "..#.........",
            "..#.........",
            "..##########",
            "............",
        ];
        assert_eq!(filled(&beside), beside);
        let spiral = [
            "..........",
            ".########.",
            ".#......#.",
            ".#.####.#.",
            ".#.#..#.#.",
            ".#.####.#.",
            ".#......#.",
            ".########.",
            "..........",
        ];
        let full = [
            "..........",
            ".########.",
            ".########.",
            ".########.",
            ".########.",
            ".########.",
            ".########.",
            ".########.",
            "..........",
        ];
        assert_eq!(filled(&spiral), full);
        let cup = ["..........", ".#..##..#.", ".#..##..#.", ".########.", ".........."];
        assert_eq!(filled(&cup), cup);
        let closed =
            ["..........", ".########.", ".#..##..#.", ".#......#.", ".########.", ".........."];
        assert_eq!(filled(&closed)[2..4], [".########.", ".########."]);
    }
}
