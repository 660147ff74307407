//! Motion detectors of four peers, written from their published descriptions.
//!
//! What belongs here: the trait, and what the peers share (grey pictures, blobs). What does not:
//! events
//! and scores, which are the same for all ([`super::score`]).

mod frigate;
mod mog2;
mod motion;
mod zoneminder;

use taimat::analytics::detect::picture::Picture;

/// A grey picture.
#[derive(Debug, Clone)]
pub struct Grey {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<u8>,
}

/// Difference of a picture from the scene: cells in rows of `width`.
#[derive(Debug, Clone)]
pub struct Mask {
    pub width: usize,
    pub cells: Vec<bool>,
    /// The peer reports motion.
    pub motion: bool,
}

/// A peer's motion detector.
pub trait Peer {
    /// Analyses a picture.
    fn look(&mut self, picture: &Picture) -> Mask;
}

/// New detectors of all peers by name, for a rate in pictures a second.
pub fn all(fps: f64) -> Vec<(&'static str, Box<dyn Peer>)> {
    vec![
        ("Frigate", Box::new(frigate::Frigate::default())),
        ("Motion", Box::new(motion::Motion::new(fps))),
        ("ZoneMinder", Box::new(zoneminder::ZoneMinder::default())),
        ("MOG2", Box::new(mog2::Mog2::default())),
    ]
}

impl Grey {
    /// The luma of a picture, averaged down to `width` pixels; never enlarged.
    pub fn of(picture: &Picture, width: usize) -> Grey {
        let width = width.min(picture.width);
        let height = (picture.height * width / picture.width).max(1);
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            let rows = y * picture.height / height
                ..((y + 1) * picture.height / height).max(y * picture.height / height + 1);
            for x in 0..width {
                let columns = x * picture.width / width
                    ..((x + 1) * picture.width / width).max(x * picture.width / width + 1);
                let sum: u32 = rows
                    .clone()
                    .map(|row| {
                        picture.y[row * picture.width..][columns.clone()]
                            .iter()
                            .map(|p| u32::from(*p))
                            .sum::<u32>()
                    })
                    .sum();
                pixels.push((sum / (rows.len() * columns.len()) as u32) as u8);
            }
        }
        Grey { width, height, pixels }
    }
}

/// The mean of each pixel and its eight neighbours.
pub fn blurred(grey: &Grey) -> Vec<u8> {
    let at = |x: usize, y: usize| {
        u32::from(grey.pixels[y.min(grey.height - 1) * grey.width + x.min(grey.width - 1)])
    };
    let mut out = Vec::with_capacity(grey.pixels.len());
    for y in 0..grey.height {
        for x in 0..grey.width {
            let rows = [y.saturating_sub(1), y, y + 1];
            out.push(
                (rows
                    .iter()
                    .map(|y| at(x.saturating_sub(1), *y) + at(x, *y) + at(x + 1, *y))
                    .sum::<u32>()
                    / 9) as u8,
            );
        }
    }
    out
}

/// Dilation with a 3x3 kernel.
pub fn dilated(cells: &[bool], width: usize) -> Vec<bool> {
    let along = |row: &[bool]| -> Vec<bool> {
        (0..width).map(|x| row[x.saturating_sub(1)..(x + 2).min(width)].contains(&true)).collect()
    };
    let rows: Vec<Vec<bool>> = cells.chunks(width).map(along).collect();
    let near = |y: usize| &rows[y.saturating_sub(1)..(y + 2).min(rows.len())];
    (0..cells.len()).map(|at| near(at / width).iter().any(|row| row[at % width])).collect()
}

/// Erosion with a 3x3 kernel; cells beyond the border count as set.
pub fn eroded(cells: &[bool], width: usize) -> Vec<bool> {
    let unset: Vec<bool> = cells.iter().map(|cell| !cell).collect();
    dilated(&unset, width).into_iter().map(|cell| !cell).collect()
}

/// Connected components (eight neighbours), each as its cells.
pub fn blobs(cells: &[bool], width: usize) -> Vec<Vec<usize>> {
    let (mut seen, mut blobs) = (vec![false; cells.len()], Vec::new());
    for start in 0..cells.len() {
        if !cells[start] || seen[start] {
            continue;
        }
        let (mut blob, mut open) = (Vec::new(), vec![start]);
        seen[start] = true;
        while let Some(at) = open.pop() {
            blob.push(at);
            let (x, y) = (at % width, at / width);
            for row in y.saturating_sub(1)..(y + 2).min(cells.len() / width) {
                for column in x.saturating_sub(1)..(x + 2).min(width) {
                    let next = row * width + column;
                    if cells[next] && !seen[next] {
                        seen[next] = true;
                        open.push(next);
                    }
                }
            }
        }
        blobs.push(blob);
    }
    blobs
}

/// The cells of blobs of at least `least` cells.
pub fn large(cells: &[bool], width: usize, least: usize) -> Vec<bool> {
    let mut out = vec![false; cells.len()];
    blobs(cells, width)
        .into_iter()
        .filter(|blob| blob.len() >= least)
        .flatten()
        .for_each(|at| out[at] = true);
    out
}
