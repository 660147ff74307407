//! ZoneMinder's detector (zoneminder.readthedocs.io, "Defining Zones", "Reference Image Blend").
//!
//! The reference blends in 6.25 % of every picture. Pixels that differ by 25 pass a 3x3 filter and
//! form blobs. Its default zones suit a camera at a door; here a blob of 0.1 % of the picture
//! counts, which is in its favour.

use taimat::analytics::detect::picture::Picture;

use super::{Grey, Mask, Peer, dilated, eroded, large};

/// Weight of a new picture in the reference.
const BLEND: f32 = 0.0625;
/// Smallest difference of a pixel, 0..255.
const THRESHOLD: f32 = 25.0;
/// Smallest blob, as a share of the picture.
const BLOB: f64 = 0.001;
/// Share of the picture above which the change counts as light (`max alarm area`).
const MOST: f64 = 0.75;

#[derive(Default)]
pub struct ZoneMinder {
    reference: Vec<f32>,
}

impl Peer for ZoneMinder {
    fn look(&mut self, picture: &Picture) -> Mask {
        let Grey { width, pixels: now, .. } = Grey::of(picture, 640);
        if self.reference.len() != now.len() {
            self.reference = now.iter().map(|pixel| f32::from(*pixel)).collect();
        }
        let differs: Vec<bool> = now
            .iter()
            .zip(&self.reference)
            .map(|(pixel, mean)| (f32::from(*pixel) - mean).abs() > THRESHOLD)
            .collect();
        // The filter keeps pixels of complete 3x3 blocks.
        let filtered = dilated(&eroded(&differs, width), width);
        let cells = large(&filtered, width, (BLOB * now.len() as f64) as usize);
        let share = cells.iter().filter(|cell| **cell).count() as f64 / cells.len() as f64;
        for (mean, pixel) in self.reference.iter_mut().zip(&now) {
            *mean += BLEND * (f32::from(*pixel) - *mean);
        }
        Mask { width, motion: share > 0.0 && share < MOST, cells }
    }
}
