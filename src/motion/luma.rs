//! Pictures in the size they are judged in: box-averaged luma, and how colourful the whole is.
//!
//! What belongs here: scaling. What does not: decoding.

use super::limits::{HEIGHT, WIDTH};

/// A decoded picture, planar 4:2:0, 8 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Luma, `width * height`.
    pub y: Vec<u8>,
    /// Chroma, `(width / 2) * (height / 2)`.
    pub u: Vec<u8>,
    /// Chroma, likewise.
    pub v: Vec<u8>,
}

/// A picture as the detector sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Small {
    /// `WIDTH * HEIGHT` cells of mean luma.
    pub cells: Vec<u8>,
    /// Mean distance of the chroma from grey, steps of 255.
    pub colour: f32,
}

/// Scales a picture down; pictures smaller than the cells are repeated.
pub fn small(picture: &Picture) -> Small {
    let edges = |n: usize, size: usize| -> Vec<(usize, usize)> {
        (0..n).map(|i| (i * size / n, ((i + 1) * size / n).max(i * size / n + 1).min(size))).collect()
    };
    let (columns, rows) = (edges(WIDTH, picture.width), edges(HEIGHT, picture.height));
    let mut cells = Vec::with_capacity(WIDTH * HEIGHT);
    for (top, bottom) in rows {
        for (left, right) in &columns {
            let mut sum = 0_u32;
            for row in top..bottom {
                sum +=
                    picture.y[row * picture.width + left..row * picture.width + right].iter().map(|p| u32::from(*p)).sum::<u32>();
            }
            cells.push((sum / ((bottom - top) * (right - left)).max(1) as u32) as u8);
        }
    }
    let mean = |plane: &[u8]| {
        let sampled = plane.iter().step_by(7);
        let n = sampled.len().max(1) as f32;
        sampled.map(|p| f32::from(p.abs_diff(128))).sum::<f32>() / n
    };
    Small { cells, colour: (mean(&picture.u) + mean(&picture.v)) / 2.0 }
}
