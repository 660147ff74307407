//! MOG2, the adaptive mixture of Gaussians of Z. Zivkovic, with OpenCV's documented defaults.
//!
//! "Improved adaptive Gaussian mixture model for background subtraction", ICPR 2004; number of
//! modes after Zivkovic and van der Heijden, Pattern Recognition Letters 27, 2006. History 500,
//! five modes, variance threshold 16. Shadow detection is off: it needs colour, and on grey
//! pictures it would remove every darker object. The mask is opened with a 3x3 kernel; blobs of 0.1
//! % of the picture count.

use taimat::analytics::detect::picture::Picture;

use super::{Grey, Mask, Peer, dilated, eroded, large};

/// Largest number of modes of a pixel.
const MODES: usize = 5;
/// History in pictures: the inverse of the lowest learning rate.
const HISTORY: f32 = 500.0;
/// Squared distances in variances: for the background, and for a mode.
const BACKGROUND: f32 = 16.0;
const BELONGS: f32 = 9.0;
/// Share of the weight that belongs to the background.
const RATIO: f32 = 0.9;
/// Variance of a new mode, and its bounds.
const VARIANCE: [f32; 3] = [15.0, 4.0, 75.0];
/// Complexity reduction: weight subtracted from rare modes.
const REDUCTION: f32 = 0.05;
/// Smallest blob, as a share of the picture.
const BLOB: f64 = 0.001;

#[derive(Debug, Clone, Copy, Default)]
struct Mode {
    weight: f32,
    mean: f32,
    variance: f32,
}

#[derive(Default)]
pub struct Mog2 {
    pixels: Vec<[Mode; MODES]>,
    pictures: u32,
}

impl Peer for Mog2 {
    fn look(&mut self, picture: &Picture) -> Mask {
        let Grey { width, pixels: now, .. } = Grey::of(picture, 320);
        if self.pixels.len() != now.len() {
            self.pixels = vec![[Mode::default(); MODES]; now.len()];
            self.pictures = 0;
        }
        self.pictures += 1;
        let alpha = (1.0 / (2.0 * self.pictures as f32)).max(1.0 / HISTORY);
        let differs: Vec<bool> = self
            .pixels
            .iter_mut()
            .zip(&now)
            .map(|(modes, pixel)| !is_scene(modes, f32::from(*pixel), alpha))
            .collect();
        let cells = dilated(&eroded(&differs, width), width);
        let motion = self.pictures > 1
            && large(&cells, width, (BLOB * now.len() as f64) as usize).contains(&true);
        Mask { width, cells, motion }
    }
}

/// Updates the model with a value; true if the value is background.
fn is_scene(modes: &mut [Mode; MODES], value: f32, alpha: f32) -> bool {
    let (mut scene, mut taken, mut before) = (false, false, 0.0);
    for mode in modes.iter_mut().filter(|mode| mode.weight > 0.0) {
        let background = before < RATIO;
        before += mode.weight;
        let distance = value - mode.mean;
        let squared = distance * distance;
        mode.weight -= alpha * (mode.weight + REDUCTION);
        if background {
            scene |= !taken && squared < BACKGROUND * mode.variance;
        }
        if !taken && squared < BELONGS * mode.variance {
            taken = true;
            mode.weight += alpha;
            let rate = alpha / mode.weight.max(alpha);
            mode.mean += rate * distance;
            mode.variance =
                (mode.variance + rate * (squared - mode.variance)).clamp(VARIANCE[1], VARIANCE[2]);
        }
        mode.weight = mode.weight.max(0.0);
    }
    if !taken {
        let last = modes.iter().position(|mode| mode.weight <= 0.0).unwrap_or(MODES - 1);
        modes[last] = Mode { weight: alpha, mean: value, variance: VARIANCE[0] };
    }
    let sum: f32 = modes.iter().map(|mode| mode.weight).sum();
    modes.iter_mut().for_each(|mode| mode.weight /= sum.max(1e-6));
    modes.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    scene
}
