//! Regions of foreground cells, and the tests that separate objects from light and weather.

use super::hole_fill;
use crate::analytics::detect::picture::Grid;
use crate::analytics::detect::stages::{Stage, Stages};
use crate::analytics::params::{
    BLOB_MAX_SHARE, CONTACT_DARK, CONTACT_MOST, CONTACT_NOISE, LIGHT_CHANGE, LIGHT_CHANGE_ROUGH,
    LIGHT_GRADIENT, LIT_MIN, LIT_REACH, LIT_ROUGH, LIT_SHARE, LOCAL_LIGHT_CELLS,
};

/// A connected region of foreground cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Blob {
    /// Left, top, right, bottom in cells, right and bottom exclusive.
    pub bbox: [f32; 4],
    /// Number of cells.
    pub area: f32,
    /// Indices of its cells in the grid, ascending.
    pub cells: Vec<usize>,
}

impl Blob {
    /// A blob from ascending cell indices.
    fn from_cells(cells: Vec<usize>, grid: Grid) -> Blob {
        let (mut left, mut top, mut right, mut bottom) = (grid.width, grid.height, 0, 0);
        for at in &cells {
            let (x, y) = (at % grid.width, at / grid.width);
            (left, top, right, bottom) =
                (left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1));
        }
        Blob {
            bbox: [left as f32, top as f32, right as f32, bottom as f32],
            area: cells.len() as f32,
            cells,
        }
    }

    /// The blob with all cells that it encloses on all four sides: a windscreen of the colour of
    /// the road belongs to the car.
    pub fn filled(self, grid: Grid) -> Blob {
        let [left, top, right, bottom] = self.bbox.map(|v| v as usize);
        let mut rows = vec![(right, left); bottom - top];
        let mut columns = vec![(bottom, top); right - left];
        let widen = |(low, high): &mut (usize, usize), at: usize| {
            (*low, *high) = ((*low).min(at), (*high).max(at))
        };
        for at in &self.cells {
            let (x, y) = (at % grid.width, at / grid.width);
            widen(&mut rows[y - top], x);
            widen(&mut columns[x - left], y);
        }
        let is_in = |x: usize, y: usize| {
            let ((from, to), (high, low)) = (rows[y - top], columns[x - left]);
            (from..=to).contains(&x) && (high..=low).contains(&y)
        };
        let all = (top..bottom).flat_map(|y| (left..right).map(move |x| (x, y)));
        Blob::from_cells(
            all.filter(|(x, y)| is_in(*x, *y)).map(|(x, y)| y * grid.width + x).collect(),
            grid,
        )
    }

    /// For each cell of the grid whether it and its eight neighbours belong to the blob.
    fn inside(&self, grid: Grid) -> Vec<bool> {
        let mut own = vec![false; grid.cells()];
        self.cells.iter().for_each(|at| own[*at] = true);
        let mut inside = vec![false; grid.cells()];
        for at in self
            .cells
            .iter()
            .copied()
            .filter(|at| *at > grid.width && *at + grid.width + 1 < own.len())
        {
            let rows = [at - grid.width, at, at + grid.width];
            inside[at] = rows.iter().all(|row| own[row - 1] && own[*row] && own[row + 1]);
        }
        inside
    }

    /// The centre of the bounding box, in cells.
    pub fn centre(&self) -> [f32; 2] {
        [(self.bbox[0] + self.bbox[2]) / 2.0, (self.bbox[1] + self.bbox[3]) / 2.0]
    }
}

/// A picture and its background, for the tests of regions.
pub struct Scene<'a> {
    /// Grid of both.
    pub grid: Grid,
    /// Brightness of the picture, steps of 255.
    pub cells: &'a [u8],
    /// Mean brightness of the background, steps of 255.
    pub mean: &'a [f32],
    /// Shade by brightness: the logarithm in [`OCTAVE`] steps for each doubling.
    table: [i16; 256],
}

/// Steps of shade in a doubling of brightness.
const OCTAVE: f32 = 64.0;
/// [`LIGHT_GRADIENT`] in them.
const LOCAL_LIGHT_STEP: f32 = LIGHT_GRADIENT * OCTAVE / core::f32::consts::LN_2;

impl<'a> Scene<'a> {
    /// A scene of `cells` before the background `mean`.
    pub fn new(grid: Grid, cells: &'a [u8], mean: &'a [f32]) -> Scene<'a> {
        // Four steps are added, so that noise in the dark does not count as a doubling.
        let table = std::array::from_fn(|cell| (OCTAVE * (cell as f32 + 4.0).log2()) as i16);
        Scene { grid, cells, mean, table }
    }

    /// Shade of a cell minus the shade of its background; positive is brighter.
    fn shade(&self, at: usize) -> i16 {
        self.table[usize::from(self.cells[at])] - self.table[usize::from(self.mean[at] as u8)]
    }

    /// The blob without the contact shadow under it. From below upwards each column grows darker
    /// until the body starts. Only the lowest part can be shadow ([`CONTACT_MOST`]), so that dark
    /// trousers stay.
    pub fn without_shadow(&self, blob: Blob) -> Blob {
        let width = self.grid.width;
        let [left, top, right, bottom] = blob.bbox.map(|v| v as usize);
        let highest = bottom - (((bottom - top) as f32 * CONTACT_MOST) as usize).min(bottom - top);
        let mut own = vec![false; (right - left) * (bottom - top)];
        blob.cells
            .iter()
            .for_each(|at| own[(at / width - top) * (right - left) + at % width - left] = true);
        let mut floor = vec![bottom; right - left];
        for (column, floor) in floor.iter_mut().enumerate() {
            let has = |row: usize| own[(row - top) * (right - left) + column];
            let shade = |row: usize| self.shade(row * width + left + column);
            let Some(lowest) = (highest..bottom).rev().find(|row| has(*row)) else { continue };
            let mut darkest = 0;
            let mut row = lowest;
            while row > highest
                && has(row)
                && shade(row) <= darkest + CONTACT_NOISE
                && shade(row) < 0
            {
                darkest = darkest.min(shade(row));
                row -= 1;
            }
            // A contact shadow takes most of the light: a lighter region is not removed.
            if darkest <= CONTACT_DARK {
                *floor = row + 1;
            }
        }
        let above = |at: &usize| at / width < floor[at % width - left];
        Blob::from_cells(blob.cells.iter().copied().filter(above).collect(), self.grid)
    }

    /// Mean shade of the nine cells around each cell of a box, row by row: noise in the dark is no
    /// structure. Outside of the picture the edge cell is repeated.
    fn softened(&self, [left, top, right, bottom]: [usize; 4]) -> Vec<f32> {
        let Grid { width, height } = self.grid;
        let mut rows = (top..bottom + 2).map(|y| {
            let row = y.clamp(1, height) - 1;
            (left..right + 2)
                .map(|x| self.shade(row * width + x.clamp(1, width) - 1))
                .collect::<Vec<_>>()
        });
        let mut soft = Vec::with_capacity((right - left) * (bottom - top));
        let (mut above, mut here) =
            (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
        for below in rows {
            let sums: Vec<i16> = above
                .iter()
                .zip(&here)
                .zip(&below)
                .map(|((above, here), below)| above + here + below)
                .collect();
            soft.extend(
                sums.windows(3).map(|three| f32::from(three[0] + three[1] + three[2]) / 9.0),
            );
            (above, here) = (here, below);
        }
        soft
    }

    /// The blob's cells that are at least two cells away from the edges of the picture.
    fn inner(&self, blob: &Blob) -> impl Iterator<Item = usize> {
        let Grid { width, height } = self.grid;
        blob.cells.iter().copied().filter(move |at| {
            let (x, y) = (at % width, at / width);
            x >= 2 && y >= 2 && x + 3 < width && y + 3 < height
        })
    }

    /// The largest shade difference of each inner cell to its right and lower neighbour.
    fn steps(&self, blob: &Blob) -> Vec<(usize, f32)> {
        let width = self.grid.width;
        let place @ [left, top, right, _] = blob.bbox.map(|v| v as usize);
        let soft = self.softened(place);
        // The outline of the region is left out: every region has an edge there.
        let inside = blob.inside(self.grid);
        let step = |at: usize| {
            let of = (at / width - top) * (right - left) + at % width - left;
            (at, (soft[of + 1] - soft[of]).abs().max((soft[of + right - left] - soft[of]).abs()))
        };
        self.inner(blob)
            .filter(|at| inside[*at] && inside[at + 1] && inside[at + width])
            .map(step)
            .collect()
    }

    /// True for light on an unchanged surface: its shade has no edges inside.
    pub fn is_local_light(&self, blob: &Blob) -> bool {
        let mut steps: Vec<f32> = self.steps(blob).into_iter().map(|(_, step)| step).collect();
        if steps.len() < LOCAL_LIGHT_CELLS {
            return false;
        }
        let index = steps.len() * 8 / 10;
        let (_, percentile, _) = steps.select_nth_unstable_by(index, f32::total_cmp);
        *percentile < LOCAL_LIGHT_STEP
    }

    /// The objects inside a large region that is mostly a lit surface. Empty when there are none,
    /// or when the region is mostly objects.
    pub fn in_light(&self, blob: &Blob, least: f32) -> Vec<Blob> {
        if blob.area < LIT_MIN {
            return Vec::new();
        }
        let width = self.grid.width;
        let mut rough = vec![0_u8; self.grid.cells()];
        for (at, step) in self.steps(blob) {
            rough[at] = u8::from(step >= LOCAL_LIGHT_STEP);
        }
        let window = LIT_REACH;
        let is_rough = |at: &usize| {
            let (x, y) = (at % width, at / width);
            let rows = y.saturating_sub(window)..(y + window + 1).min(self.grid.height);
            let columns = x.saturating_sub(window)..(x + window + 1).min(width);
            let count: u32 = rows
                .flat_map(|row| &rough[row * width..][columns.clone()])
                .map(|rough| u32::from(*rough))
                .sum();
            count as f32 >= LIT_ROUGH * ((2 * window + 1) * (2 * window + 1)) as f32
        };
        let mut clean = vec![0; self.grid.cells()];
        blob.cells.iter().filter(|at| is_rough(at)).for_each(|at| clean[*at] = 1);
        let objects = find(&clean, self.grid, least);
        let area: f32 = objects.iter().map(|object| object.area).sum();
        if area < LIT_SHARE * blob.area { objects } else { Vec::new() }
    }

    /// True when the fine structure of the region equals that of the background, in another light.
    pub fn is_light_change(&self, blob: &Blob) -> bool {
        let width = self.grid.width;
        let (mut own, mut theirs, mut both, mut count) = (0.0_f32, 0.0_f32, 0.0_f32, 0.0_f32);
        for at in self.inner(blob) {
            let around = [at - 2, at + 2, at - 2 * width, at + 2 * width];
            let now = f32::from(self.cells[at])
                - around.iter().map(|near| f32::from(self.cells[*near])).sum::<f32>() / 4.0;
            let then =
                self.mean[at] - around.iter().map(|near| self.mean[*near]).sum::<f32>() / 4.0;
            (own, theirs, both, count) =
                (own + now * now, theirs + then * then, both + now * then, count + 1.0);
        }
        // A background without structure correlates by chance only.
        theirs > LIGHT_CHANGE_ROUGH * LIGHT_CHANGE_ROUGH * count
            && both > LIGHT_CHANGE * (own * theirs).sqrt()
    }

    /// True for a region that is too large for an object ([`BLOB_MAX_SHARE`]): rain, fog or light.
    pub fn is_weather(&self, blob: &Blob) -> bool {
        blob.area > BLOB_MAX_SHARE * self.grid.cells() as f32
    }
}

/// Sets each cell that has at least `least` foreground cells among the nine around it.
fn vote(foreground: &[u8], grid: Grid, least: u8) -> Vec<u8> {
    let width = grid.width;
    let mut out = vec![0; foreground.len()];
    let mut sums = vec![0_u8; width];
    for y in 1..grid.height - 1 {
        let [above, here, below] =
            [y - 1, y, y + 1].map(|row| &foreground[row * width..(row + 1) * width]);
        for (sum, ((above, here), below)) in sums.iter_mut().zip(above.iter().zip(here).zip(below))
        {
            *sum = above + here + below;
        }
        let three = sums.iter().zip(&sums[1..]).zip(&sums[2..]);
        for (into, ((left, middle), right)) in
            out[y * width + 1..(y + 1) * width - 1].iter_mut().zip(three)
        {
            *into = u8::from(left + middle + right >= least);
        }
    }
    out
}

/// The foreground without single cells and small gaps.
pub fn cleaned(foreground: &[bool], grid: Grid, stages: Stages) -> Vec<u8> {
    let raw: Vec<u8> = foreground.iter().map(|foreground| u8::from(*foreground)).collect();
    let mut clean = vote(&vote(&raw, grid, 5), grid, 3);
    if stages.has(Stage::HoleFill) {
        hole_fill::fill(&mut clean, grid);
    }
    clean
}

/// Indices of the cells that are not 0, ascending. Blocks of zeros are skipped at once: most cells
/// are 0.
pub fn differing(cells: &[u8]) -> impl Iterator<Item = usize> {
    const TOGETHER: usize = 64;
    let parts = cells
        .chunks(TOGETHER)
        .enumerate()
        .filter(|(_, part)| part.iter().fold(0, |any, cell| any | cell) != 0);
    parts
        .flat_map(|(n, part)| (n * TOGETHER..).zip(part))
        .filter(|(_, cell)| **cell != 0)
        .map(|(at, _)| at)
}

/// The connected regions of at least `least` cells.
pub fn find(clean: &[u8], grid: Grid, least: f32) -> Vec<Blob> {
    let Grid { width, height } = grid;
    let mut rest = clean.to_vec();
    let mut blobs = Vec::new();
    let mut stack = Vec::new();
    for start in differing(clean) {
        if rest[start] == 0 {
            continue;
        }
        rest[start] = 0;
        stack.push(start);
        let mut cells = Vec::new();
        while let Some(at) = stack.pop() {
            cells.push(at);
            let (x, y) = (at % width, at / width);
            // Regions join over a gap of one cell: the head and body of a person are often apart by
            // one.
            for row in y.saturating_sub(2)..(y + 3).min(height) {
                let (left, right) =
                    (row * width + x.saturating_sub(2), row * width + (x + 3).min(width));
                for (near, rest) in (left..).zip(&mut rest[left..right]) {
                    if std::mem::take(rest) != 0 {
                        stack.push(near);
                    }
                }
            }
        }
        if cells.len() as f32 >= least {
            cells.sort_unstable();
            blobs.push(Blob::from_cells(cells, grid));
        }
    }
    blobs
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { width: 80, height: 60 };

    fn textured() -> Vec<f32> {
        (0..GRID.cells()).map(|at| 90.0 + ((at * 7919) % 60) as f32).collect()
    }

    fn square(left: usize, top: usize, side: usize) -> Blob {
        let mut foreground = vec![false; GRID.cells()];
        for row in top..top + side {
            foreground[row * GRID.width + left..][..side].fill(true);
        }
        find(&cleaned(&foreground, GRID, Stages::ALL), GRID, 1.0).remove(0)
    }

    fn painted(mean: &[f32], blob: &Blob, paint: impl Fn(usize, f32) -> f32) -> Vec<u8> {
        let mut cells: Vec<u8> = mean.iter().map(|mean| *mean as u8).collect();
        blob.cells.iter().for_each(|at| cells[*at] = paint(*at, mean[*at]).clamp(0.0, 255.0) as u8);
        cells
    }

    #[test]
    fn single_cells_are_no_blob_and_gaps_are_filled() {
        let mut foreground = vec![false; GRID.cells()];
        foreground[20 * GRID.width + 20] = true;
        for row in 30..42 {
            foreground[row * GRID.width + 30..][..12].fill(true);
        }
        foreground[36 * GRID.width + 34..][..4].fill(false);
        let blobs = find(&cleaned(&foreground, GRID, Stages::ALL), GRID, 4.0);
        assert_eq!(blobs.len(), 1);
        assert!(blobs[0].area >= 140.0, "{}", blobs[0].area);
    }

    #[test]
    fn a_lit_wall_is_light_and_a_painted_box_is_an_object() {
        let (mean, blob) = (textured(), square(30, 20, 16));
        let lit = painted(&mean, &blob, |_, mean| mean * 1.5);
        let boxed =
            painted(
                &mean,
                &blob,
                |at, _| if (at / 4 + at / 80 / 4) % 2 == 0 { 170.0 } else { 210.0 },
            );
        let scene = |cells| Scene::new(GRID, cells, &mean);
        assert!(scene(&lit).is_local_light(&blob) && scene(&lit).is_light_change(&blob));
        assert!(!scene(&boxed).is_local_light(&blob) && !scene(&boxed).is_light_change(&blob));
    }

    #[test]
    fn an_object_in_light_is_separated_from_the_light() {
        let (mean, blob) = (vec![60.0; GRID.cells()], square(10, 10, 40));
        let checked = |at: usize| (at / 3 + at / GRID.width / 3).is_multiple_of(2);
        let box_at = |at: usize| {
            (26..38).contains(&(at % GRID.width)) && (20..40).contains(&(at / GRID.width))
        };
        let with_box = painted(&mean, &blob, |at, mean| {
            if box_at(at) { if checked(at) { 200.0 } else { 30.0 } } else { mean * 1.5 }
        });
        let parts = Scene::new(GRID, &with_box, &mean).in_light(&blob, 36.0);
        let [part] = &parts[..] else { panic!("{} parts", parts.len()) };
        assert!(
            part.bbox[0] >= 22.0
                && part.bbox[1] >= 16.0
                && part.bbox[2] <= 42.0
                && part.bbox[3] <= 44.0,
            "{:?}",
            part.bbox
        );
        let none =
            |cells: Vec<u8>| Scene::new(GRID, &cells, &mean).in_light(&blob, 36.0).is_empty();
        assert!(none(painted(&mean, &blob, |_, mean| mean * 1.5)), "light only");
        assert!(
            none(painted(&mean, &blob, |at, _| if checked(at) { 200.0 } else { 30.0 })),
            "object only"
        );
    }

    #[test]
    fn a_cast_shadow_is_removed_and_dark_trousers_are_kept() {
        let (mean, blob) = (vec![120.0; GRID.cells()], square(20, 20, 24));
        let rows_left = |paint: &dyn Fn(usize, f32) -> f32| {
            let cells = painted(&mean, &blob, |at, mean| paint(at / GRID.width, mean));
            let rest = Scene::new(GRID, &cells, &mean).without_shadow(blob.clone());
            rest.bbox[3] - rest.bbox[1]
        };
        let full = blob.bbox[3] - blob.bbox[1];
        let (under, light) = (full - (full * CONTACT_MOST).floor(), 41.0 - blob.bbox[1]);
        assert_eq!(
            rows_left(&|row, mean| if row < 41 { mean + 70.0 } else { mean * 0.15 }),
            light,
            "the whole shadow is removed"
        );
        assert!(
            rows_left(&|row, mean| if row < 32 { mean + 70.0 } else { mean * 0.15 }) >= under,
            "a lower half that is dark stays"
        );
        assert_eq!(
            rows_left(&|row, mean| if row < 41 { mean + 70.0 } else { mean * 0.6 }),
            full,
            "a grey region is no shadow"
        );
    }

    #[test]
    fn a_window_of_the_colour_of_the_road_is_part_of_the_car() {
        let blob = square(20, 20, 24);
        let window = |at: &usize| (26..36).contains(&(at % GRID.width)) && at / GRID.width > 26;
        let open_below =
            Blob::from_cells(blob.cells.iter().copied().filter(|at| !window(at)).collect(), GRID);
        let with_window = Blob::from_cells(
            blob.cells.iter().copied().filter(|at| !window(at) || at / GRID.width > 36).collect(),
            GRID,
        );
        assert_eq!(with_window.filled(GRID).area, blob.area);
        assert_eq!(open_below.clone().filled(GRID).area, open_below.area, "legs stay apart");
    }
}
