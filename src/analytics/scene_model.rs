//! The learned state of a scene, and the foreground of a picture against it.

use super::params::{GLOBAL_SHARE, GLOBAL_TILE, GLOBAL_TILES, LIGHT_DRIFT, TILE};
use super::scene::stabilize;
use crate::analytics::detect::activity_map::ActivityMap;
use crate::analytics::detect::background::BackgroundModel;
use crate::analytics::detect::blobs;
use crate::analytics::detect::low_light::LowLightDetector;
use crate::analytics::detect::picture::{Grid, LumaGrid, textures};
use crate::analytics::detect::stages::{Stage, Stages};
use crate::units::Timestamp;

/// The learned state of one scene. Another scene starts with a new one.
pub(super) struct SceneModel {
    pub(super) background: BackgroundModel,
    pub(super) activity_map: ActivityMap,
    pub(super) low_light: LowLightDetector,
    /// True for each cell that no exclusion or privacy zone covers.
    pub(super) unmasked: Vec<bool>,
    /// Pictures of the warm-up so far.
    pub(super) warmed: usize,
    /// Capture time of the last analysed picture.
    pub(super) last_at: Timestamp,
}

/// The foreground of a picture: the cells that differ from the background.
pub(super) struct Foreground {
    /// The picture after stabilisation and light compensation.
    pub(super) cells: Vec<u8>,
    pub(super) texture: Vec<u8>,
    /// 1 for each foreground cell, after noise removal.
    pub(super) clean: Vec<u8>,
    /// The whole scene has changed.
    pub(super) global: bool,
}

impl SceneModel {
    /// The foreground of a picture, after stabilisation and light compensation.
    pub(super) fn foreground(&mut self, now: &LumaGrid, stages: Stages) -> Foreground {
        let cells = self.stabilized(&now.cells, stages);
        let texture = textures(&cells, now.grid);
        let mut raw = self.background.classify(&cells, &texture);
        let global = is_global(&raw, now.grid);
        if stages.has(Stage::LowLight) {
            self.low_light.analyze(self.background.mean(), &cells);
            self.low_light.mark(&mut raw);
        }
        raw.iter_mut()
            .zip(&self.unmasked)
            .for_each(|(foreground, unmasked)| *foreground &= *unmasked);
        Foreground { clean: blobs::cleaned(&raw, now.grid, stages), cells, texture, global }
    }

    /// Removes shake and slow changes of light.
    fn stabilized(&mut self, cells: &[u8], stages: Stages) -> Vec<u8> {
        let mut cells = cells.to_vec();
        if stages.has(Stage::Light) {
            let gain = stabilize::light_gain(self.background.mean(), &cells);
            if !(1.0 / LIGHT_DRIFT..=LIGHT_DRIFT).contains(&gain) {
                self.background.relight(gain);
            } else if (gain - 1.0).abs() > 0.01 {
                cells = stabilize::apply_gain(&cells, gain);
            }
        }
        if stages.has(Stage::Shake)
            && let Some(stabilized) =
                stabilize::stabilized(self.background.mean(), &cells, self.background.grid())
        {
            cells = stabilized;
        }
        cells
    }
}

/// True when most cells differ, in all parts of the picture.
fn is_global(raw: &[bool], grid: Grid) -> bool {
    if raw.iter().filter(|cell| **cell).count() as f32 <= GLOBAL_SHARE * raw.len() as f32 {
        return false;
    }
    let side = TILE * 4;
    let columns = grid.width.div_ceil(side);
    let mut tiles = vec![(0_u32, 0_u32); columns * grid.height.div_ceil(side)];
    for (at, differs) in raw.iter().enumerate() {
        let (differing, all) =
            &mut tiles[at / grid.width / side * columns + at % grid.width / side];
        *differing += u32::from(*differs);
        *all += 1;
    }
    let full =
        tiles.iter().filter(|(differ, all)| *differ as f32 > GLOBAL_TILE * *all as f32).count();
    full as f32 >= GLOBAL_TILES * tiles.len() as f32
}
