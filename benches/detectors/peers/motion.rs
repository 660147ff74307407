//! Motion's detector (motion-project.github.io, `motion_config`): counts pixels that differ from a
//! reference.
//!
//! Defaults: `noise_tune on` from `noise_level 32`, `minimum_motion_frames 1`, no despeckling, no
//! light switch; pixels that differ for `static_object_time` (10 s) join the reference. One value
//! differs:
//! its `threshold 1500` suits a camera indoors, and a distant pedestrian has a third of that. Here
//! 0.1 % of the picture counts, as for the other peers, which is in its favour.

use taimat::analytics::detect::picture::Picture;

use super::{Grey, Mask, Peer};

/// Smallest share of changed pixels for motion.
const THRESHOLD: f64 = 0.001;
/// Initial noise level: smallest difference of a pixel, 0..255.
const NOISE: f32 = 32.0;
/// Noise tuning: factor of the mean difference of all pixels, and a margin.
const TUNED: [f32; 2] = [3.0, 11.0];
/// Share of the noise level below which the reference takes over a pixel.
const CLOSE: f32 = 0.2;
/// Time after which a static object joins the reference, seconds.
const STATIC: f64 = 10.0;

pub struct Motion {
    reference: Vec<u8>,
    /// Number of pictures in which each pixel has differed.
    differed: Vec<u16>,
    patience: u16,
    noise: f32,
}

impl Motion {
    /// A detector for `fps` pictures a second.
    pub fn new(fps: f64) -> Motion {
        Motion {
            reference: Vec::new(),
            differed: Vec::new(),
            patience: (STATIC * fps) as u16,
            noise: NOISE,
        }
    }

    /// Moves the noise level half way to the tuned value.
    fn tune(&mut self, now: &[u8]) {
        let sum: u64 = now
            .iter()
            .zip(&self.reference)
            .map(|(now, before)| u64::from(now.abs_diff(*before)))
            .sum();
        self.noise =
            (self.noise + TUNED[0] * sum as f32 / now.len().max(1) as f32 + TUNED[1]) / 2.0;
    }
}

impl Peer for Motion {
    fn look(&mut self, picture: &Picture) -> Mask {
        // The threshold is in pixels of the input picture, usually a sub-stream.
        let Grey { width, pixels: now, .. } = Grey::of(picture, 640);
        if self.reference.len() != now.len() {
            self.reference = now.clone();
            self.differed = vec![0; now.len()];
        }
        let noise = self.noise as u8;
        let cells: Vec<bool> = now
            .iter()
            .zip(&self.reference)
            .map(|(now, before)| now.abs_diff(*before) > noise)
            .collect();
        self.tune(&now);
        let close = (self.noise * CLOSE) as u8;
        for (at, pixel) in now.iter().enumerate() {
            let (reference, differed) = (&mut self.reference[at], &mut self.differed[at]);
            match () {
                () if pixel.abs_diff(*reference) <= close || *differed > self.patience => {
                    (*reference, *differed) = (*pixel, 0)
                }
                () if cells[at] => *differed += 1,
                () => (*reference, *differed) = (reference.midpoint(*pixel), 0),
            }
        }
        let motion =
            cells.iter().filter(|cell| **cell).count() as f64 > THRESHOLD * cells.len() as f64;
        Mask { width, cells, motion }
    }
}
