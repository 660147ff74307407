//! ⇄ True masks, as CDnet 2014 has them: one PNG a picture, 255 moving, 0 still, 50 shadow (still, too), 85 and 170 not judged.
//!
//! What belongs here: reading and comparing them. What does not: events.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::analytics::detect::picture::Grid;

/// Moving.
const MOVING: u8 = 255;
/// Outside the region of interest, and unknown.
const UNJUDGED: [u8; 2] = [85, 170];

/// Masks by number of picture, counted from 1.
pub struct Masks {
    width: usize,
    height: usize,
    numbers: Vec<usize>,
    pixels: Vec<u8>,
}

/// Cells right and wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cells {
    /// Moving, and said so.
    pub hits: u64,
    /// Still, and called moving.
    pub wrong: u64,
    /// Moving, and not said.
    pub missed: u64,
}

impl Cells {
    /// Precision, recall and their harmonic mean; `None` when nothing was judged.
    pub fn prf(&self) -> Option<[f64; 3]> {
        let (hits, wrong, missed) = (self.hits as f64, self.wrong as f64, self.missed as f64);
        let any = self.hits + self.wrong + self.missed > 0;
        any.then(|| [hits / (hits + wrong).max(1.0), hits / (hits + missed).max(1.0), 2.0 * hits / (2.0 * hits + wrong + missed)])
    }

    /// Adds another's.
    pub fn add(&mut self, other: Cells) {
        self.hits += other.hits;
        self.wrong += other.wrong;
        self.missed += other.missed;
    }
}

impl Masks {
    /// Reads a directory of PNG files of one size through ffmpeg.
    ///
    /// # Errors
    /// When there are none, their sizes differ, or ffmpeg fails.
    pub fn read(dir: &Path) -> anyhow::Result<Masks> {
        let files = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
        let mut names: Vec<String> = files.filter_map(|file| file.ok()?.file_name().into_string().ok()).collect();
        names.retain(|name| name.ends_with(".png"));
        names.sort();
        let digits = |name: &String| name.chars().filter(char::is_ascii_digit).collect::<String>().parse().ok();
        let numbers: Vec<usize> = names.iter().filter_map(digits).collect();
        let first = names.first().with_context(|| format!("no masks in {}", dir.display()))?;
        let head = std::fs::read(dir.join(first))?;
        // Width and height of a PNG (ISO/IEC 15948 11.2.2).
        let size = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes) as usize;
        let (width, height) = (size(16), size(20));
        let pattern = dir.join("*.png");
        let ffmpeg = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-pattern_type", "glob", "-i"])
            .arg(&pattern)
            .args(["-pix_fmt", "gray", "-f", "rawvideo", "-"])
            .output();
        let pixels = ffmpeg.context("ffmpeg, which reads the masks")?.stdout;
        let whole = width > 0 && pixels.len() == width * height * numbers.len() && numbers.len() == names.len();
        ensure!(whole, "the masks in {} are not {} numbered pictures of {width}x{height}", dir.display(), names.len());
        Ok(Masks { width, height, numbers, pixels })
    }

    /// Counts the cells of picture `number`, if it has a mask.
    pub fn compare(&self, number: usize, grid: Grid, moving: &[bool], cells: &mut Cells) {
        let Ok(index) = self.numbers.binary_search(&number) else { return };
        let area = self.width * self.height;
        let mask = &self.pixels[index * area..(index + 1) * area];
        for (row, line) in mask.chunks_exact(self.width).enumerate() {
            let from = row * grid.height / self.height * grid.width;
            for (column, truth) in line.iter().enumerate() {
                let said = moving[from + column * grid.width / self.width];
                match *truth {
                    truth if UNJUDGED.contains(&truth) => {}
                    MOVING if said => cells.hits += 1,
                    MOVING => cells.missed += 1,
                    _ => cells.wrong += u64::from(said),
                }
            }
        }
    }
}
