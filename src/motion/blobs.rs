//! From differing cells to things: joined regions, and the tests a region must pass to be a thing rather than light.
//!
//! What belongs here: regions of one picture. What does not: regions over time ([`super::track`]).

use super::limits::{BLOB_MAX_SHARE, HEIGHT, LIGHT_GRADIENT, WIDTH};
use super::model::Model;

/// A region that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Blob {
    /// Left, top, right, bottom in cells, right and bottom exclusive.
    pub place: [f32; 4],
    /// Cells.
    pub area: f32,
    /// Its cells.
    pub cells: Vec<usize>,
}

impl Blob {
    /// Its middle.
    pub fn centre(&self) -> [f32; 2] {
        [(self.place[0] + self.place[2]) / 2.0, (self.place[1] + self.place[3]) / 2.0]
    }
}

/// Removes single cells and closes small holes: a cell stays when at least `least` of the nine around it differ.
fn vote(front: &[bool], least: u32) -> Vec<bool> {
    let mut out = vec![false; front.len()];
    for y in 1..HEIGHT - 1 {
        for x in 1..WIDTH - 1 {
            let count: u32 =
                (y - 1..=y + 1).map(|row| (x - 1..=x + 1).map(|c| u32::from(front[row * WIDTH + c])).sum::<u32>()).sum();
            out[y * WIDTH + x] = count >= least;
        }
    }
    out
}

/// The regions of at least `least` cells.
pub fn find(front: &[bool], least: f32) -> Vec<Blob> {
    let mut rest = vote(&vote(front, 5), 3);
    let mut blobs = Vec::new();
    let mut stack = Vec::new();
    for start in 0..rest.len() {
        if !rest[start] {
            continue;
        }
        rest[start] = false;
        stack.push(start);
        let mut cells = Vec::new();
        let (mut left, mut top, mut right, mut bottom) = (WIDTH, HEIGHT, 0, 0);
        while let Some(at) = stack.pop() {
            cells.push(at);
            let (x, y) = (at % WIDTH, at / WIDTH);
            (left, top, right, bottom) = (left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1));
            // Two cells of reach: a person's head and body are often apart by one.
            for row in y.saturating_sub(2)..(y + 3).min(HEIGHT) {
                for column in x.saturating_sub(2)..(x + 3).min(WIDTH) {
                    let near = row * WIDTH + column;
                    if rest[near] {
                        rest[near] = false;
                        stack.push(near);
                    }
                }
            }
        }
        if cells.len() as f32 >= least {
            let place = [left as f32, top as f32, right as f32, bottom as f32];
            blobs.push(Blob { place, area: cells.len() as f32, cells });
        }
    }
    blobs
}

/// False for regions that are light on an unchanged surface, or as large as weather.
pub fn is_thing(blob: &Blob, cells: &[u8], model: &Model) -> bool {
    if blob.area > BLOB_MAX_SHARE * (WIDTH * HEIGHT) as f32 {
        return false;
    }
    let log = |at: usize| ((f32::from(cells[at]) + 8.0) / (f32::from(model.expected(at)) + 8.0)).ln();
    let mut steps: Vec<f32> = blob
        .cells
        .iter()
        .filter(|at| **at % WIDTH + 1 < WIDTH && **at + WIDTH < cells.len())
        .map(|at| {
            let here = log(*at);
            (log(at + 1) - here).abs().max((log(at + WIDTH) - here).abs())
        })
        .collect();
    if steps.is_empty() {
        return false;
    }
    let index = steps.len() * 8 / 10;
    let (_, percentile, _) = steps.select_nth_unstable_by(index.min(blob.cells.len() - 1), f32::total_cmp);
    *percentile >= LIGHT_GRADIENT
}

/// True when the scene's edges around a region are stronger in the remembered background than now: what differs is a place
/// something has left, not something.
pub fn is_ghost(blob: &Blob, cells: &[u8], model: &Model) -> bool {
    let [left, top, right, bottom] = blob.place.map(|v| v as usize);
    let (mut now, mut then) = (0_u32, 0_u32);
    for row in [top, bottom.saturating_sub(1)] {
        for column in left..right.min(WIDTH - 1) {
            let at = row * WIDTH + column;
            if row > 0 {
                now += u32::from(cells[at].abs_diff(cells[at - WIDTH]));
                then += u32::from(model.expected(at).abs_diff(model.expected(at - WIDTH)));
            }
        }
    }
    for column in [left, right.saturating_sub(1)] {
        for row in top..bottom {
            let at = row * WIDTH + column;
            if column > 0 {
                now += u32::from(cells[at].abs_diff(cells[at - 1]));
                then += u32::from(model.expected(at).abs_diff(model.expected(at - 1)));
            }
        }
    }
    then > now * 2 && then > 200
}
