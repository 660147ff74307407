//! Frigate's motion detector with its defaults (docs.frigate.video, reference configuration,
//! `motion`).
//!
//! A picture of 100 lines with stretched contrast is compared with a running average. Contours of
//! more than 10 pixels are motion; 80 % of the picture at once is a change of light.

use taimat::analytics::detect::picture::Picture;

use super::{Grey, Mask, Peer, blobs, blurred, dilated};

/// Lines of the analysed picture (`frame_height`).
const LINES: usize = 100;
/// Smallest difference of a pixel, 0..255 (`threshold`).
const THRESHOLD: f32 = 30.0;
/// Smallest contour, pixels (`contour_area`).
const CONTOUR: usize = 10;
/// Weight of a new picture in the average (`frame_alpha`), and during calibration.
const ALPHA: [f32; 2] = [0.01, 0.2];
/// Share of the picture that counts as a change of light (`lightning_threshold`).
const LIGHTNING: f32 = 0.8;
/// Share of the picture below which calibration ends.
const SETTLED: f32 = 0.05;
/// Percentiles of the contrast stretch (`improve_contrast`).
const STRETCH: [f32; 2] = [0.04, 0.96];

pub struct Frigate {
    average: Vec<f32>,
    settling: bool,
}

impl Default for Frigate {
    fn default() -> Frigate {
        Frigate { average: Vec::new(), settling: true }
    }
}

impl Peer for Frigate {
    fn look(&mut self, picture: &Picture) -> Mask {
        let grey = Grey::of(picture, picture.width * LINES / picture.height);
        let width = grey.width;
        let now = blurred(&stretched(grey));
        if self.average.len() != now.len() {
            self.average = now.iter().map(|pixel| f32::from(*pixel)).collect();
        }
        let differs: Vec<bool> = now
            .iter()
            .zip(&self.average)
            .map(|(pixel, mean)| (f32::from(*pixel) - mean).abs() > THRESHOLD)
            .collect();
        let cells = dilated(&differs, width);
        let share = cells.iter().filter(|cell| **cell).count() as f32 / cells.len() as f32;
        self.settling = share > LIGHTNING || self.settling && share >= SETTLED;
        let motion = !self.settling && blobs(&cells, width).iter().any(|blob| blob.len() > CONTOUR);
        let alpha = ALPHA[usize::from(self.settling)];
        for (mean, pixel) in self.average.iter_mut().zip(&now) {
            *mean += alpha * (f32::from(*pixel) - *mean);
        }
        Mask { width, cells, motion }
    }
}

/// Stretches the percentiles to 0 and 255.
fn stretched(mut grey: Grey) -> Grey {
    let mut sorted = grey.pixels.clone();
    sorted.sort_unstable();
    let [low, high] =
        STRETCH.map(|share| f32::from(sorted[((sorted.len() - 1) as f32 * share) as usize]));
    for pixel in &mut grey.pixels {
        *pixel =
            ((f32::from(*pixel) - low) * 255.0 / (high - low).max(1.0)).clamp(0.0, 255.0) as u8;
    }
    grey
}
