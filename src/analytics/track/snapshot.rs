//! The still of an event: its best picture, with privacy zones blacked out, as a JPEG.
//!
//! What belongs here: choosing and encoding. What does not: when it is sent.

use jpeg_encoder::{ColorType, Encoder};

use crate::analytics::PictureBox;
use crate::analytics::detect::picture::Picture;
use crate::analytics::track::rules::inside;
use crate::settings::{Zone, ZoneKind};
use crate::units::Timestamp;

/// Qualities tried in turn until the file is small enough.
const QUALITIES: [u8; 4] = [85, 70, 50, 30];

/// The best picture so far: the one with the largest object that is whole.
#[derive(Default)]
pub struct BestPicture {
    kept: Option<(f32, Timestamp, Picture)>,
}

impl BestPicture {
    /// Offers a picture with an object at `place`; true when it is the best so far.
    pub fn offer(&mut self, place: PictureBox, picture: &Picture, at: Timestamp) -> bool {
        let whole = place[0] > 0.01 && place[0] + place[2] < 0.99;
        let worth = place[2] * place[3] * if whole { 2.0 } else { 1.0 };
        let better = self.kept.as_ref().is_none_or(|(best, ..)| worth > *best);
        if better {
            self.kept = Some((worth, at, picture.clone()));
        }
        better
    }

    /// The JPEG and when its picture was taken; `None` when there is no picture or it cannot be made small enough.
    pub fn jpeg(&self, zones: &[Zone], most: usize) -> Option<(Timestamp, Vec<u8>)> {
        let (_, at, picture) = self.kept.as_ref()?;
        Some((*at, jpeg(picture, zones, most)?))
    }
}

/// A picture as a JPEG of at most `most` bytes; `None` when it cannot be made small enough.
pub fn jpeg(picture: &Picture, zones: &[Zone], most: usize) -> Option<Vec<u8>> {
    let pixels = ycbcr(picture, zones);
    QUALITIES.iter().find_map(|quality| {
        let mut jpeg = Vec::new();
        let encoder = Encoder::new(&mut jpeg, *quality);
        encoder.encode(&pixels, picture.width as u16, picture.height as u16, ColorType::Ycbcr).ok()?;
        (jpeg.len() <= most).then_some(jpeg)
    })
}

/// Interleaved YCbCr (ITU-T T.871), black where nobody may look.
fn ycbcr(picture: &Picture, zones: &[Zone]) -> Vec<u8> {
    let (width, height) = (picture.width, picture.height);
    let private: Vec<&Zone> = zones.iter().filter(|zone| zone.kind == ZoneKind::Privacy).collect();
    let mut pixels = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        for column in 0..width {
            let point = [(column as f32 + 0.5) / width as f32, (row as f32 + 0.5) / height as f32];
            let chroma = (row / 2).min(height / 2 - 1) * (width / 2) + (column / 2).min(width / 2 - 1);
            match private.iter().any(|zone| inside(&zone.polygon, point)) {
                true => pixels.extend([0, 128, 128]),
                false => pixels.extend([picture.y[row * width + column], picture.u[chroma], picture.v[chroma]]),
            }
        }
    }
    pixels
}
