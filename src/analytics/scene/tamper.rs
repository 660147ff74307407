//! Tamper detection: finds covered, defocused, black or moved cameras.
//!
//! It compares the whole picture with its usual appearance. Each sign must last before it is
//! reported, because a passing lorry covers the lens for a second, too.

use crate::analytics::SceneChange;
use crate::analytics::detect::picture::{Grid, LumaGrid};
use crate::analytics::params::{
    BLACK_BELOW, BLACK_EVEN, BLUR_SHARE, COVER_EVEN, COVER_SHARE, ELSEWHERE, KNOWN_EDGES,
    SAME_PLACE, TAMPER_INTERVAL, TAMPER_LASTS, TAMPER_SECONDS, TAMPER_WARM,
};
use crate::units::{MonoTime, Timestamp};

/// Side of the blocks in which brightness is compared, cells.
const BLOCK: usize = 16;

/// Properties of a picture that tampering changes.
#[derive(Clone)]
struct TamperSigns {
    /// Mean brightness of each block.
    blocks: Vec<f32>,
    /// Edge strength at every second cell of every second row.
    edges: Vec<f32>,
    /// Root mean square of `edges`.
    edge: f32,
    /// Mean of `blocks`.
    mean: f32,
    /// Mean deviation of `blocks` from `mean`.
    spread: f32,
}

impl TamperSigns {
    fn measure(small: &LumaGrid) -> TamperSigns {
        let (grid, cells) = (small.grid, &small.cells);
        let columns = grid.width / BLOCK;
        let mut blocks = vec![0.0; columns * (grid.height / BLOCK)];
        for (row, line) in
            cells.chunks_exact(grid.width).enumerate().take(grid.height / BLOCK * BLOCK)
        {
            for (block, part) in
                blocks[row / BLOCK * columns..].iter_mut().zip(line.chunks_exact(BLOCK))
            {
                *block +=
                    part.iter().map(|cell| f32::from(*cell)).sum::<f32>() / (BLOCK * BLOCK) as f32;
            }
        }
        let edges: Vec<f32> = edge_positions(grid)
            .map(|at| {
                let across = cells[at + 1].abs_diff(cells[at - 1]);
                let down = cells[at + grid.width].abs_diff(cells[at - grid.width]);
                f32::from(across) + f32::from(down)
            })
            .collect();
        // Blur widens an edge and keeps its sum: only the squares show it.
        let edge = mean(&edges.iter().map(|edge| edge * edge).collect::<Vec<_>>()).sqrt();
        let average = mean(&blocks);
        let spread = mean(&blocks.iter().map(|block| (block - average).abs()).collect::<Vec<_>>());
        TamperSigns { blocks, edges, edge, mean: average, spread }
    }

    fn follow(&mut self, now: &TamperSigns, share: f32) {
        let follow = |own: &mut f32, now: f32| *own += (now - *own) * share;
        self.blocks.iter_mut().zip(&now.blocks).for_each(|(own, now)| follow(own, *now));
        self.edges.iter_mut().zip(&now.edges).for_each(|(own, now)| follow(own, *now));
        follow(&mut self.edge, now.edge);
        follow(&mut self.mean, now.mean);
        follow(&mut self.spread, now.spread);
    }
}

fn edge_positions(grid: Grid) -> impl Iterator<Item = usize> {
    let rows = (2..grid.height - 2).step_by(2);
    rows.flat_map(move |y| (2..grid.width - 2).step_by(2).map(move |x| y * grid.width + x))
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

/// Pearson correlation of two series.
fn correlation(one: &[f32], other: &[f32]) -> f32 {
    let (a, b) = (mean(one), mean(other));
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (x, y) in one.iter().zip(other) {
        (aa, bb, ab) = (aa + (x - a) * (x - a), bb + (y - b) * (y - b), ab + (x - a) * (y - b));
    }
    if aa * bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}

/// Compares pictures with the usual appearance of the scene.
#[derive(Default)]
pub struct TamperDetector {
    usual: Option<TamperSigns>,
    /// Usual correlation of the edges of a normal picture with the usual edges.
    fit: f32,
    checks: u32,
    next_check: MonoTime,
    suspect: Option<(SceneChange, Timestamp)>,
    reported: Option<SceneChange>,
}

impl TamperDetector {
    /// Learns the usual appearance again: the scene is known to have changed.
    pub fn forget(&mut self) {
        *self = TamperDetector { reported: self.reported, ..TamperDetector::default() };
    }

    /// True while the picture does not show the scene. A suspected blur counts before it is
    /// reported: smeared edges look like objects, and no passing object blurs the whole picture.
    pub fn is_blinded(&self) -> bool {
        self.reported.is_some() || matches!(self.suspect, Some((SceneChange::Blurred, _)))
    }

    /// True while the picture may not show the scene.
    pub fn doubts(&self) -> bool {
        self.reported.is_some() || self.suspect.is_some()
    }

    /// Analyses a picture. Returns a change that has lasted long enough, and [`SceneChange::Clear`]
    /// at its end.
    pub fn analyze(&mut self, small: &LumaGrid, at: Timestamp) -> Option<SceneChange> {
        if at.mono < self.next_check {
            return None;
        }
        self.next_check = at.mono.plus(TAMPER_INTERVAL);
        let now = TamperSigns::measure(small);
        let Some(usual) = self.usual.as_mut().filter(|usual| usual.edges.len() == now.edges.len())
        else {
            self.usual = Some(now);
            self.checks = 1;
            self.fit = 1.0;
            return None;
        };
        let fits = correlation(&usual.edges, &now.edges);
        let verdict = if self.checks < TAMPER_WARM {
            None
        } else {
            sign_of_tampering(usual, &now, fits, self.fit)
        };
        let Some(change) = verdict else {
            self.checks += 1;
            let share =
                (TAMPER_INTERVAL.as_secs_f32() / TAMPER_SECONDS).max(1.0 / self.checks as f32);
            usual.follow(&now, share);
            self.fit += (fits - self.fit) * share.max(0.05);
            self.suspect = None;
            return self.reported.take().map(|_| SceneChange::Clear);
        };
        let (_, since) = *self.suspect.get_or_insert((change, at));
        self.suspect = Some((change, since));
        if self.reported.is_some() || at.mono.duration_since(since.mono) < TAMPER_LASTS {
            return None;
        }
        if change == SceneChange::Moved {
            // The new view is the scene from now on.
            *self = TamperDetector::default();
        } else {
            self.reported = Some(change);
        }
        Some(change)
    }
}

/// The sign of tampering in a picture, if any.
fn sign_of_tampering(
    usual: &TamperSigns,
    now: &TamperSigns,
    fits: f32,
    fit: f32,
) -> Option<SceneChange> {
    if now.mean < BLACK_BELOW
        && now.spread < BLACK_EVEN
        && usual.mean - now.mean > BLACK_BELOW / 2.0
    {
        return Some(SceneChange::Black);
    }
    let has_edges = now.edge >= COVER_SHARE * usual.edge;
    if now.spread < COVER_EVEN * usual.spread && !has_edges {
        return Some(SceneChange::Covered);
    }
    if has_edges && fit > KNOWN_EDGES && fits < ELSEWHERE * fit {
        return Some(SceneChange::Moved);
    }
    let same_place = correlation(&usual.blocks, &now.blocks) > SAME_PLACE;
    // Night and fog lower the contrast of the whole picture; a defocused lens lowers sharpness more
    // than contrast.
    let sharpness = (now.edge / (now.spread + 3.0)) / (usual.edge / (usual.spread + 3.0)).max(0.01);
    if same_place {
        return (sharpness < BLUR_SHARE && now.edge < BLUR_SHARE * usual.edge)
            .then_some(SceneChange::Blurred);
    }
    (!has_edges).then_some(SceneChange::Covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { width: 320, height: 180 };

    fn hash(i: u64) -> u64 {
        i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
            >> 33
    }

    /// A street: blocks of 24 cells in different greys, with noise, displaced by `aside` cells.
    fn street(number: u64, aside: usize) -> Vec<f32> {
        (0..GRID.cells())
            .map(|at| {
                let (x, y) = (at % GRID.width + aside, at / GRID.width + aside * 2 / 3);
                60.0 + (hash((x / 24 * 100 + y / 24) as u64) % 120) as f32
                    + (hash(at as u64 ^ number << 32) % 5) as f32
            })
            .collect()
    }

    fn blurred(cells: &[f32]) -> Vec<f32> {
        (0..cells.len())
            .map(|at| {
                let (x, y) = (at % GRID.width, at / GRID.width);
                let near = (y.saturating_sub(5)..(y + 6).min(GRID.height)).flat_map(|row| {
                    (x.saturating_sub(5)..(x + 6).min(GRID.width))
                        .map(move |column| row * GRID.width + column)
                });
                let (sum, count) =
                    near.fold((0.0, 0.0), |(sum, count), at| (sum + cells[at], count + 1.0));
                sum / count
            })
            .collect()
    }

    /// The changes reported, with the seconds after the 20th, from which on pictures come from
    /// `after`.
    fn reported(after: impl Fn(u64) -> Vec<f32>) -> Vec<(SceneChange, f64)> {
        let mut tamper = TamperDetector::default();
        let mut out = Vec::new();
        for number in 0..200_u64 {
            let second = number as f64 / 5.0;
            let cells = if second < 20.0 { street(number, 0) } else { after(number) };
            let small = LumaGrid {
                grid: GRID,
                cells: cells.iter().map(|cell| *cell as u8).collect(),
                colour: 10.0,
            };
            let at =
                Timestamp { mono: MonoTime(1_000_000 + number * 200_000), ..Timestamp::default() };
            out.extend(tamper.analyze(&small, at).map(|change| (change, second - 20.0)));
        }
        out
    }

    #[test]
    fn each_tampering_is_reported_once_within_ten_seconds() {
        let once = |reported: Vec<(SceneChange, f64)>| match reported.as_slice() {
            [(change, late)] if *late < 10.0 => Some(*change),
            _ => None,
        };
        let noise = |number: u64, at: usize| (hash(at as u64 ^ number << 32) % 5) as f32;
        assert_eq!(
            once(reported(|n| (0..GRID.cells()).map(|at| noise(n, at)).collect())),
            Some(SceneChange::Black)
        );
        assert_eq!(
            once(reported(|n| (0..GRID.cells()).map(|at| 70.0 + noise(n, at)).collect())),
            Some(SceneChange::Covered)
        );
        assert_eq!(once(reported(|n| street(n, 147))), Some(SceneChange::Moved));
        let soft = blurred(&street(0, 0));
        assert_eq!(
            once(reported(|n| soft
                .iter()
                .enumerate()
                .map(|(at, cell)| cell + noise(n, at))
                .collect())),
            Some(SceneChange::Blurred)
        );
    }

    #[test]
    fn night_is_no_tampering_and_the_end_of_a_cover_is_reported() {
        assert_eq!(reported(|n| street(n, 0).iter().map(|cell| cell * 0.4 + 8.0).collect()), []);
        let back = reported(|n| if n < 150 { vec![70.0; GRID.cells()] } else { street(n, 0) });
        assert_eq!(
            back.iter().map(|(change, _)| *change).collect::<Vec<_>>(),
            [SceneChange::Covered, SceneChange::Clear]
        );
    }
}
