//! Annotated video: draws the state of the detector into its pictures.
//!
//! Boxes: grey tentative, blue static, green moving, red in an event. Cells of objects are
//! brighter.
//! Zones are white (include) and black (exclude, privacy), lines yellow. The border is red while an
//! event is open, and yellow while nothing is analysed.
#![expect(clippy::disallowed_methods, reason = "shell: starts a process, reads or writes files")]

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use crate::analytics::detect::picture::Picture;
use crate::analytics::detector::Detector;
use crate::analytics::track::tracker::TrackState;
use crate::escape::shown_path;
use crate::settings::rules::Trigger;
use crate::settings::{MotionSettings, ZoneKind};
use crate::units::Timestamp;

/// Pictures a second of the video; an analysed picture is repeated until the next one.
const FPS: u64 = 10;
/// A colour: Y, U, V.
type Colour = [u8; 3];
const GREY: Colour = [160, 128, 128];
const BLUE: Colour = [80, 220, 100];
const GREEN: Colour = [150, 60, 50];
const RED: Colour = [90, 90, 230];
const YELLOW: Colour = [210, 20, 145];
const WHITE: Colour = [235, 128, 128];
const BLACK: Colour = [16, 128, 128];

/// A video that is being written.
pub struct Overlay {
    path: std::path::PathBuf,
    outlines: Vec<(Vec<[f32; 2]>, Colour)>,
    ffmpeg: Option<Child>,
    written: u64,
    began: Option<Timestamp>,
}

impl Overlay {
    /// Starts a video at `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(path: &Path, settings: &MotionSettings) -> anyhow::Result<Overlay> {
        std::fs::File::create(path).with_context(|| shown_path(path))?;
        let mut outlines = Vec::new();
        for zone in &settings.zones {
            let corners = zone.polygon.iter().chain(zone.polygon.first()).copied().collect();
            outlines.push((corners, if zone.kind == ZoneKind::Include { WHITE } else { BLACK }));
        }
        for rule in &settings.rules {
            if let Trigger::Cross { line, .. } = rule.on {
                outlines.push((line.to_vec(), YELLOW));
            }
        }
        Ok(Overlay { path: path.to_owned(), outlines, ffmpeg: None, written: 0, began: None })
    }

    /// Draws an analysed picture.
    pub fn draw(&mut self, detector: &Detector, picture: &Picture, at: Timestamp) {
        let mut canvas = picture.clone();
        if let Some((grid, mask)) = detector.mask() {
            for (row, line) in
                canvas.y.chunks_exact_mut(picture.width).enumerate().take(picture.height)
            {
                let from = row * grid.height / picture.height * grid.width;
                for (column, pixel) in line.iter_mut().enumerate() {
                    if mask[from + column * grid.width / picture.width] {
                        *pixel = pixel.saturating_add(50);
                    }
                }
            }
        }
        for (corners, colour) in &self.outlines {
            corners.windows(2).for_each(|ends| stroke(&mut canvas, ends[0], ends[1], *colour));
        }
        let open = detector.event_tracker().tracks();
        for track in detector.tracks() {
            let colour = match track.state {
                _ if open.contains(&track.id) => RED,
                TrackState::Tentative => GREY,
                TrackState::Standing => BLUE,
                TrackState::Moving => GREEN,
            };
            rectangle(&mut canvas, track.picture_box(), colour);
        }
        if detector.event_tracker().is_open() {
            rectangle(&mut canvas, [0.0, 0.0, 1.0, 1.0], RED);
        } else if detector.is_holding(at) {
            rectangle(&mut canvas, [0.0, 0.0, 1.0, 1.0], YELLOW);
        }
        self.write(&canvas, at);
    }

    /// Sends a picture to ffmpeg repeatedly up to its time. A failure does not stop the evaluation.
    fn write(&mut self, canvas: &Picture, at: Timestamp) {
        let began = *self.began.get_or_insert(at);
        if self.ffmpeg.is_none() {
            let size = format!("{}x{}", canvas.width, canvas.height);
            self.ffmpeg = Command::new("ffmpeg")
                .args([
                    "-v",
                    "error",
                    "-y",
                    "-f",
                    "rawvideo",
                    "-pix_fmt",
                    "yuv420p",
                    "-s",
                    &size,
                    "-r",
                    &FPS.to_string(),
                    "-i",
                    "-",
                ])
                .args(["-c:v", "libx264", "-crf", "23", "-pix_fmt", "yuv420p"])
                .arg(&self.path)
                .stdin(Stdio::piped())
                .spawn()
                .ok();
        }
        let due = at.mono.since(began.mono) * FPS / 1_000_000 + 1;
        let Some(pipe) = self.ffmpeg.as_mut().and_then(|ffmpeg| ffmpeg.stdin.as_mut()) else {
            return;
        };
        while self.written < due {
            self.written += 1;
            if [&canvas.y, &canvas.u, &canvas.v]
                .into_iter()
                .any(|plane| pipe.write_all(plane).is_err())
            {
                return;
            }
        }
    }

    /// Ends the video.
    pub fn finish(mut self) {
        if let Some(mut ffmpeg) = self.ffmpeg.take() {
            drop(ffmpeg.stdin.take());
            let _ = ffmpeg.wait();
        }
    }
}

fn dot(canvas: &mut Picture, x: usize, y: usize, [luma, u, v]: Colour) {
    let (x, y) = (x.min(canvas.width - 1), y.min(canvas.height - 1));
    let chroma =
        (y / 2).min(canvas.height / 2 - 1) * (canvas.width / 2) + (x / 2).min(canvas.width / 2 - 1);
    canvas.y[y * canvas.width + x] = luma;
    (canvas.u[chroma], canvas.v[chroma]) = (u, v);
}

/// A line two pixels wide.
fn stroke(canvas: &mut Picture, from: [f32; 2], to: [f32; 2], colour: Colour) {
    let (w, h) = (canvas.width as f32 - 1.0, canvas.height as f32 - 1.0);
    let steps = ((to[0] - from[0]).abs() * w).max((to[1] - from[1]).abs() * h).ceil().max(1.0);
    for step in 0..=steps as usize {
        let way = step as f32 / steps;
        let point = [0, 1].map(|i| (from[i] + (to[i] - from[i]) * way).clamp(0.0, 1.0));
        let (x, y) = ((point[0] * w) as usize, (point[1] * h) as usize);
        for (right, down) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            dot(canvas, x + right, y + down, colour);
        }
    }
}

fn rectangle(canvas: &mut Picture, [x, y, width, height]: [f32; 4], colour: Colour) {
    let corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]];
    corners.windows(2).for_each(|ends| stroke(canvas, ends[0], ends[1], colour));
}
