//! True masks in the format of CDnet 2014, and their comparison with detected cells.
//!
//! One PNG a picture: 255 moving, 0 static, 50 shadow (static, too), 85 and 170 ignored.
#![expect(clippy::disallowed_methods, reason = "shell: starts a process, reads or writes files")]

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::analytics::detect::picture::Grid;
use crate::escape::shown_path;
use crate::regular_file::{Links, read};

/// Bytes of one mask at most.
const MASK_MAX: u64 = 64 << 20;

/// Value of a moving pixel.
const MOVING: u8 = 255;
/// Values outside the region of interest, and unknown.
const UNJUDGED: [u8; 2] = [85, 170];

/// Masks by picture number, from 1.
pub struct Masks {
    width: usize,
    height: usize,
    numbers: Vec<usize>,
    pixels: Vec<u8>,
}

/// Numbers of right and wrong cells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cells {
    /// True positives.
    pub hits: u64,
    /// False positives.
    pub wrong: u64,
    /// False negatives.
    pub missed: u64,
}

impl Cells {
    /// Precision, recall and their harmonic mean; `None` without counted cells.
    pub fn prf(&self) -> Option<[f64; 3]> {
        let (hits, wrong, missed) = (self.hits as f64, self.wrong as f64, self.missed as f64);
        let any = self.hits + self.wrong + self.missed > 0;
        any.then(|| {
            [
                hits / (hits + wrong).max(1.0),
                hits / (hits + missed).max(1.0),
                2.0 * hits / (2.0 * hits + wrong + missed),
            ]
        })
    }

    /// Adds other counts.
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
    /// There is no mask, sizes differ, or ffmpeg fails.
    pub fn read(dir: &Path) -> anyhow::Result<Masks> {
        let files = std::fs::read_dir(dir).with_context(|| shown_path(dir))?;
        let mut names: Vec<String> =
            files.filter_map(|file| file.ok()?.file_name().into_string().ok()).collect();
        names.retain(|name| name.ends_with(".png"));
        names.sort();
        let digits = |name: &String| {
            name.chars().filter(char::is_ascii_digit).collect::<String>().parse().ok()
        };
        let numbers: Vec<usize> = names.iter().filter_map(digits).collect();
        let first = names.first().with_context(|| format!("no masks in {}", shown_path(dir)))?;
        let head = read(&dir.join(first), Links::Follow, MASK_MAX)
            .with_context(|| shown_path(dir.join(first)))?;
        // Width and height of a PNG (ISO/IEC 15948 11.2.2).
        let size = |at: usize| {
            head.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
                as usize
        };
        let (width, height) = (size(16), size(20));
        let pattern = dir.join("*.png");
        let ffmpeg = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-pattern_type", "glob", "-i"])
            .arg(&pattern)
            .args(["-pix_fmt", "gray", "-f", "rawvideo", "-"])
            .output();
        let pixels = ffmpeg.context("ffmpeg, which reads the masks")?.stdout;
        let whole = width > 0
            && pixels.len() == width * height * numbers.len()
            && numbers.len() == names.len();
        ensure!(
            whole,
            "the masks in {} are not {} numbered pictures of {width}x{height}",
            shown_path(dir),
            names.len()
        );
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
