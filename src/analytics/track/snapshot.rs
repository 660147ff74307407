//! Snapshots: choose the best picture of an event and encode it as a JPEG.
//!
//! Privacy zones are blacked out.

use jpeg_encoder::{ColorType, Encoder};

use crate::analytics::PictureBox;
use crate::analytics::detect::picture::Picture;
use crate::analytics::track::rules::inside;
use crate::settings::{Zone, ZoneKind};
use crate::units::Timestamp;

/// JPEG qualities, tried in turn until the file is small enough.
const QUALITIES: [u8; 4] = [85, 70, 50, 30];

/// The best picture so far: the one with the largest object that is completely in view.
#[derive(Default)]
pub struct BestPicture {
    kept: Option<(f32, Timestamp, Picture)>,
}

impl BestPicture {
    /// Offers a picture with an object at `bbox`. Returns true when it is the best so far.
    pub fn offer(&mut self, bbox: PictureBox, picture: &Picture, at: Timestamp) -> bool {
        let whole = bbox[0] > 0.01 && bbox[0] + bbox[2] < 0.99;
        let value = bbox[2] * bbox[3] * if whole { 2.0 } else { 1.0 };
        let better = self.kept.as_ref().is_none_or(|(best, ..)| value > *best);
        if better {
            self.kept = Some((value, at, picture.clone()));
        }
        better
    }

    /// The best picture as a JPEG of at most `max_bytes`, with its capture time. `None` without a
    /// picture, or when no quality is small enough.
    pub fn jpeg(&self, zones: &[Zone], max_bytes: usize) -> Option<(Timestamp, Vec<u8>)> {
        let (_, at, picture) = self.kept.as_ref()?;
        Some((*at, jpeg(picture, zones, max_bytes)?))
    }
}

/// A picture as a JPEG of at most `max_bytes` bytes; `None` when no quality is small enough.
pub fn jpeg(picture: &Picture, zones: &[Zone], max_bytes: usize) -> Option<Vec<u8>> {
    let pixels = ycbcr(picture, zones);
    QUALITIES.iter().find_map(|quality| {
        let mut jpeg = Vec::new();
        let encoder = Encoder::new(&mut jpeg, *quality);
        encoder
            .encode(&pixels, picture.width as u16, picture.height as u16, ColorType::Ycbcr)
            .ok()?;
        (jpeg.len() <= max_bytes).then_some(jpeg)
    })
}

/// Interleaved YCbCr (ITU-T T.871), black inside privacy zones.
fn ycbcr(picture: &Picture, zones: &[Zone]) -> Vec<u8> {
    let (width, height) = (picture.width, picture.height);
    let private: Vec<&Zone> = zones.iter().filter(|zone| zone.kind == ZoneKind::Privacy).collect();
    let mut pixels = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        for column in 0..width {
            let point = [(column as f32 + 0.5) / width as f32, (row as f32 + 0.5) / height as f32];
            let chroma =
                (row / 2).min(height / 2 - 1) * (width / 2) + (column / 2).min(width / 2 - 1);
            if private.iter().any(|zone| inside(&zone.polygon, point)) {
                pixels.extend([0, 128, 128]);
            } else {
                pixels.extend([
                    picture.y[row * width + column],
                    picture.u[chroma],
                    picture.v[chroma],
                ]);
            }
        }
    }
    pixels
}
