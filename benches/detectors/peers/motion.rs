//! Motion's detector (motion-project.github.io, `motion_config`): changed pixels against a reference picture, counted. With its
//! defaults (`noise_tune on` from `noise_level 32`, `minimum_motion_frames 1`, no despeckling, no light switch; what differs for
//! `static_object_time`, 10 s, becomes part of the reference) but for one: its `threshold 1500` is made for a camera in a room, and
//! somebody who crosses a road far away has a third of that. Here 0.1 % of the picture counts, which favours it, as with the others.

use taimat::analytics::detect::picture::Picture;

use super::{Grey, Mask, Peer};

/// Share of the pixels that must have changed for it to be motion.
const THRESHOLD: f64 = 0.001;
/// Steps of 255 a pixel must differ at first.
const NOISE: f32 = 32.0;
/// What tuning makes of it: so many times the mean difference of all pixels, and a margin.
const TUNED: [f32; 2] = [3.0, 11.0];
/// The reference takes a pixel over as it is when it differs by less than this share of the noise.
const CLOSE: f32 = 0.2;
/// Seconds after which something that stands still belongs to the scene.
const STATIC: f64 = 10.0;

pub struct Motion {
    reference: Vec<u8>,
    /// Pictures for which each pixel has differed.
    differed: Vec<u16>,
    patience: u16,
    noise: f32,
}

impl Motion {
    /// For so many pictures a second.
    pub fn new(fps: f64) -> Motion {
        Motion { reference: Vec::new(), differed: Vec::new(), patience: (STATIC * fps) as u16, noise: NOISE }
    }

    /// Half way to what the mean difference says.
    fn tune(&mut self, now: &[u8]) {
        let sum: u64 = now.iter().zip(&self.reference).map(|(now, before)| u64::from(now.abs_diff(*before))).sum();
        self.noise = (self.noise + TUNED[0] * sum as f32 / now.len().max(1) as f32 + TUNED[1]) / 2.0;
    }
}

impl Peer for Motion {
    fn look(&mut self, picture: &Picture) -> Mask {
        // Its threshold is in pixels of the picture it is given, and its users give it a sub-stream.
        let Grey { width, pixels: now, .. } = Grey::of(picture, 640);
        if self.reference.len() != now.len() {
            (self.reference, self.differed) = (now.clone(), vec![0; now.len()]);
        }
        let noise = self.noise as u8;
        let cells: Vec<bool> = now.iter().zip(&self.reference).map(|(now, before)| now.abs_diff(*before) > noise).collect();
        self.tune(&now);
        let close = (self.noise * CLOSE) as u8;
        for (at, pixel) in now.iter().enumerate() {
            let (reference, differed) = (&mut self.reference[at], &mut self.differed[at]);
            match () {
                () if pixel.abs_diff(*reference) <= close || *differed > self.patience => (*reference, *differed) = (*pixel, 0),
                () if cells[at] => *differed += 1,
                () => (*reference, *differed) = (reference.midpoint(*pixel), 0),
            }
        }
        let motion = cells.iter().filter(|cell| **cell).count() as f64 > THRESHOLD * cells.len() as f64;
        Mask { width, cells, motion }
    }
}
