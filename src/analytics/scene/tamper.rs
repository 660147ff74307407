//! Marks of tampering: a lens that is covered, out of focus or blind, a camera that looks elsewhere. Each must last before it is
//! reported, because a lorry covers a lens for a second, too.
//!
//! What belongs here: the picture as a whole against what it has long been. What does not: changes from one picture to the next
//! ([`crate::analytics::scene::scene_change`]).

use crate::analytics::SceneChange;
use crate::analytics::detect::picture::{Grid, LumaGrid};
use crate::analytics::params::{
    BLACK_BELOW, BLACK_EVEN, BLUR_SHARE, COVER_EVEN, COVER_SHARE, ELSEWHERE, KNOWN_EDGES, SAME_PLACE, TAMPER_EVERY, TAMPER_LASTS,
    TAMPER_SECONDS, TAMPER_WARM,
};
use crate::units::Timestamp;

/// Cells of one side of the blocks in which brightness is compared.
const BLOCK: usize = 16;

/// A picture in a few numbers.
#[derive(Clone)]
struct TamperSigns {
    /// Mean brightness of each block.
    blocks: Vec<f32>,
    /// Strength of the edges at every second cell of every second row.
    edges: Vec<f32>,
    /// Root of the mean square of `edges`.
    edge: f32,
    /// Mean and spread of `blocks`.
    mean: f32,
    spread: f32,
}

impl TamperSigns {
    fn measure(small: &LumaGrid) -> TamperSigns {
        let (grid, cells) = (small.grid, &small.cells);
        let columns = grid.width / BLOCK;
        let mut blocks = vec![0.0; columns * (grid.height / BLOCK)];
        for (row, line) in cells.chunks_exact(grid.width).enumerate().take(grid.height / BLOCK * BLOCK) {
            for (block, part) in blocks[row / BLOCK * columns..].iter_mut().zip(line.chunks_exact(BLOCK)) {
                *block += part.iter().map(|cell| f32::from(*cell)).sum::<f32>() / (BLOCK * BLOCK) as f32;
            }
        }
        let edges: Vec<f32> = edge_places(grid)
            .map(|at| {
                let across = cells[at + 1].abs_diff(cells[at - 1]);
                let down = cells[at + grid.width].abs_diff(cells[at - grid.width]);
                f32::from(across) + f32::from(down)
            })
            .collect();
        // Blur spreads an edge without taking from its sum: only the squares show it.
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

fn edge_places(grid: Grid) -> impl Iterator<Item = usize> {
    let rows = (2..grid.height - 2).step_by(2);
    rows.flat_map(move |y| (2..grid.width - 2).step_by(2).map(move |x| y * grid.width + x))
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

/// Correlation of two rows of numbers.
fn likeness(one: &[f32], other: &[f32]) -> f32 {
    let (a, b) = (mean(one), mean(other));
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (x, y) in one.iter().zip(other) {
        (aa, bb, ab) = (aa + (x - a) * (x - a), bb + (y - b) * (y - b), ab + (x - a) * (y - b));
    }
    if aa * bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}

/// Remembers how the scene has long looked.
#[derive(Default)]
pub struct TamperDetector {
    usual: Option<TamperSigns>,
    /// How well a normal picture's edges fit.
    fit: f32,
    looks: u32,
    next: u64,
    suspect: Option<(SceneChange, Timestamp)>,
    told: Option<SceneChange>,
}

impl TamperDetector {
    /// The scene is known to look otherwise from now on: it is learned again.
    pub fn forget(&mut self) {
        *self = TamperDetector { told: self.told, ..TamperDetector::default() };
    }

    /// True while what is seen is not the scene. What seems blurred is not judged even before it is reported: edges that smear look
    /// like objects, and nothing that passes takes the edges of the whole picture.
    pub fn is_blinded(&self) -> bool {
        self.told.is_some() || matches!(self.suspect, Some((SceneChange::Blurred, _)))
    }

    /// True while what is seen may not be the scene.
    pub fn doubts(&self) -> bool {
        self.told.is_some() || self.suspect.is_some()
    }

    /// Looks at a picture; gives what has lasted long enough to be reported, and [`SceneChange::Clear`] when it is over.
    pub fn analyze(&mut self, small: &LumaGrid, at: Timestamp) -> Option<SceneChange> {
        if at.mono.0 < self.next {
            return None;
        }
        self.next = at.mono.0 + TAMPER_EVERY;
        let now = TamperSigns::measure(small);
        let Some(usual) = self.usual.as_mut().filter(|usual| usual.edges.len() == now.edges.len()) else {
            (self.usual, self.looks, self.fit) = (Some(now), 1, 1.0);
            return None;
        };
        let fits = likeness(&usual.edges, &now.edges);
        let verdict = if self.looks < TAMPER_WARM { None } else { judge(usual, &now, fits, self.fit) };
        let Some(change) = verdict else {
            self.looks += 1;
            let share = (TAMPER_EVERY as f32 / 1e6 / TAMPER_SECONDS).max(1.0 / self.looks as f32);
            usual.follow(&now, share);
            self.fit += (fits - self.fit) * share.max(0.05);
            self.suspect = None;
            return self.told.take().map(|_| SceneChange::Clear);
        };
        let (_, since) = *self.suspect.get_or_insert((change, at));
        self.suspect = Some((change, since));
        if self.told.is_some() || at.mono.since(since.mono) < TAMPER_LASTS {
            return None;
        }
        if change == SceneChange::Moved {
            // The new view is the scene from now on.
            *self = TamperDetector::default();
        } else {
            self.told = Some(change);
        }
        Some(change)
    }
}

/// What is wrong with a picture, if anything.
fn judge(usual: &TamperSigns, now: &TamperSigns, fits: f32, fit: f32) -> Option<SceneChange> {
    if now.mean < BLACK_BELOW && now.spread < BLACK_EVEN && usual.mean - now.mean > BLACK_BELOW / 2.0 {
        return Some(SceneChange::Black);
    }
    let has_edges = now.edge >= COVER_SHARE * usual.edge;
    if now.spread < COVER_EVEN * usual.spread && !has_edges {
        return Some(SceneChange::Covered);
    }
    if has_edges && fit > KNOWN_EDGES && fits < ELSEWHERE * fit {
        return Some(SceneChange::Moved);
    }
    let same_place = likeness(&usual.blocks, &now.blocks) > SAME_PLACE;
    // Less contrast as a whole is night or fog; less sharpness than contrast is the lens.
    let sharpness = (now.edge / (now.spread + 3.0)) / (usual.edge / (usual.spread + 3.0)).max(0.01);
    if same_place {
        return (sharpness < BLUR_SHARE && now.edge < BLUR_SHARE * usual.edge).then_some(SceneChange::Blurred);
    }
    (!has_edges).then_some(SceneChange::Covered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MonoTime;

    const GRID: Grid = Grid { width: 320, height: 180 };

    fn hash(i: u64) -> u64 {
        i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
    }

    /// Houses of 24 cells in different greys, with noise.
    fn street(number: u64, aside: usize) -> Vec<f32> {
        (0..GRID.cells())
            .map(|at| {
                let (x, y) = (at % GRID.width + aside, at / GRID.width + aside * 2 / 3);
                60.0 + (hash((x / 24 * 100 + y / 24) as u64) % 120) as f32 + (hash(at as u64 ^ number << 32) % 5) as f32
            })
            .collect()
    }

    fn blurred(cells: &[f32]) -> Vec<f32> {
        (0..cells.len())
            .map(|at| {
                let (x, y) = (at % GRID.width, at / GRID.width);
                let near = (y.saturating_sub(5)..(y + 6).min(GRID.height))
                    .flat_map(|row| (x.saturating_sub(5)..(x + 6).min(GRID.width)).map(move |column| row * GRID.width + column));
                let (sum, count) = near.fold((0.0, 0.0), |(sum, count), at| (sum + cells[at], count + 1.0));
                sum / count
            })
            .collect()
    }

    /// What is reported, and how many seconds after the 20th, when pictures become `after`.
    fn told(after: impl Fn(u64) -> Vec<f32>) -> Vec<(SceneChange, f64)> {
        let mut tamper = TamperDetector::default();
        let mut out = Vec::new();
        for number in 0..200_u64 {
            let second = number as f64 / 5.0;
            let cells = if second < 20.0 { street(number, 0) } else { after(number) };
            let small = LumaGrid { grid: GRID, cells: cells.iter().map(|cell| *cell as u8).collect(), colour: 10.0 };
            let at = Timestamp { mono: MonoTime(1_000_000 + number * 200_000), ..Timestamp::default() };
            out.extend(tamper.analyze(&small, at).map(|change| (change, second - 20.0)));
        }
        out
    }

    #[test]
    fn each_kind_of_tampering_is_told_once_within_ten_seconds() {
        let once = |told: Vec<(SceneChange, f64)>| match told.as_slice() {
            [(change, late)] if *late < 10.0 => Some(*change),
            _ => None,
        };
        let noise = |number: u64, at: usize| (hash(at as u64 ^ number << 32) % 5) as f32;
        assert_eq!(once(told(|n| (0..GRID.cells()).map(|at| noise(n, at)).collect())), Some(SceneChange::Black));
        assert_eq!(once(told(|n| (0..GRID.cells()).map(|at| 70.0 + noise(n, at)).collect())), Some(SceneChange::Covered));
        assert_eq!(once(told(|n| street(n, 147))), Some(SceneChange::Moved));
        let soft = blurred(&street(0, 0));
        assert_eq!(
            once(told(|n| soft.iter().enumerate().map(|(at, cell)| cell + noise(n, at)).collect())),
            Some(SceneChange::Blurred)
        );
    }

    #[test]
    fn night_light_is_no_tampering_and_what_is_over_is_told() {
        assert_eq!(told(|n| street(n, 0).iter().map(|cell| cell * 0.4 + 8.0).collect()), []);
        let back = told(|n| if n < 150 { vec![70.0; GRID.cells()] } else { street(n, 0) });
        assert_eq!(back.iter().map(|(change, _)| *change).collect::<Vec<_>>(), [SceneChange::Covered, SceneChange::Clear]);
    }
}
