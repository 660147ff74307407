//! Motion's detector with its defaults (motion-project.github.io, `motion_config`): changed pixels against a reference picture,
//! counted. `threshold 1500`, `noise_level 32`; what differs for `static_object_time` (10 s) becomes part of the reference; no
//! despeckling, no light switch, `minimum_motion_frames 1`.

use taimat::motion::luma::Picture;

use super::{Grey, Mask, Peer};

/// Changed pixels that are motion.
const THRESHOLD: usize = 1500;
/// Steps of 255 a pixel must differ.
const NOISE: u8 = 32;
/// The reference takes a pixel over as it is when it differs by less than this share of the noise.
const CLOSE: f32 = 0.2;
/// Seconds after which something that stands still belongs to the scene.
const STATIC: f64 = 10.0;

pub struct Motion {
    reference: Vec<u8>,
    /// Pictures for which each pixel has differed.
    differed: Vec<u16>,
    patience: u16,
}

impl Motion {
    /// For so many pictures a second.
    pub fn new(fps: f64) -> Motion {
        Motion { reference: Vec::new(), differed: Vec::new(), patience: (STATIC * fps) as u16 }
    }
}

impl Peer for Motion {
    fn look(&mut self, picture: &Picture) -> Mask {
        // Its threshold is in pixels of the picture it is given, and its users give it a sub-stream.
        let Grey { width, pixels: now, .. } = Grey::of(picture, 640);
        if self.reference.len() != now.len() {
            (self.reference, self.differed) = (now.clone(), vec![0; now.len()]);
        }
        let cells: Vec<bool> = now.iter().zip(&self.reference).map(|(now, before)| now.abs_diff(*before) > NOISE).collect();
        let close = (f32::from(NOISE) * CLOSE) as u8;
        for (at, pixel) in now.iter().enumerate() {
            let (reference, differed) = (&mut self.reference[at], &mut self.differed[at]);
            match () {
                () if pixel.abs_diff(*reference) <= close || *differed > self.patience => (*reference, *differed) = (*pixel, 0),
                () if cells[at] || *differed > 0 && pixel.abs_diff(*reference) > NOISE => *differed += 1,
                () => (*reference, *differed) = (reference.midpoint(*pixel), 0),
            }
        }
        let motion = cells.iter().filter(|cell| **cell).count() > THRESHOLD;
        Mask { width, cells, motion }
    }
}
