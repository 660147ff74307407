//! Canvas: planar 4:2:0 with polygons whose edges are smooth.

use crate::sim::scene::Picture;

/// A colour, red, green, blue, 0..255.
pub(super) type Rgb = [f32; 3];

/// The colour scaled by a factor.
pub(super) fn lit(colour: Rgb, light: f32) -> Rgb {
    colour.map(|part| (part * light).min(255.0))
}

/// Luma and chroma of a colour (ITU-R BT.601, video range).
pub(super) fn yuv([r, g, b]: Rgb) -> [f32; 3] {
    [
        16.0 + 0.257 * r + 0.504 * g + 0.098 * b,
        128.0 - 0.148 * r - 0.291 * g + 0.439 * b,
        128.0 + 0.439 * r - 0.368 * g - 0.071 * b,
    ]
}

/// Draws into a picture; coordinates are pixels of luma.
pub(super) struct Canvas<'a> {
    pub(super) picture: &'a mut Picture,
}

impl Canvas<'_> {
    /// Fills a polygon; `alpha` 1 covers what is below.
    pub(super) fn polygon(&mut self, points: &[[f32; 2]], colour: Rgb, alpha: f32) {
        let [y, u, v] = yuv(colour);
        let Picture { width, height, y: luma, u: cb, v: cr } = &mut *self.picture;
        fill(luma, (*width, *height), points, 1.0, y, alpha);
        let half = (*width / 2, *height / 2);
        fill(cb, half, points, 0.5, u, alpha);
        fill(cr, half, points, 0.5, v, alpha);
    }

    /// Fills an ellipse around a centre.
    pub(super) fn ellipse(&mut self, centre: [f32; 2], radii: [f32; 2], colour: Rgb, alpha: f32) {
        let points: Vec<[f32; 2]> = (0..20)
            .map(|n| {
                let (sin, cos) = (n as f32 * std::f32::consts::TAU / 20.0).sin_cos();
                [centre[0] + radii[0] * cos, centre[1] + radii[1] * sin]
            })
            .collect();
        self.polygon(&points, colour, alpha);
    }

    /// Adds the glow of a lamp: full at the centre, nothing at `radius`.
    pub(super) fn glow(&mut self, centre: [f32; 2], radius: f32, strength: f32) {
        let falloff = |x: f32, y: f32| {
            let r = ((x - centre[0]).powi(2) + (y - centre[1]).powi(2)).sqrt() / radius;
            strength * (1.0 - r).max(0.0).powi(2)
        };
        let Picture { width, height, y, u, v } = &mut *self.picture;
        let rows = span(centre[1], radius, *height);
        for row in rows {
            for column in span(centre[0], radius, *width) {
                let add = falloff(column as f32, row as f32);
                let pixel = &mut y[row * *width + column];
                *pixel = (f32::from(*pixel) + add).min(235.0) as u8;
                if (row | column) & 1 == 0 {
                    // Warm light.
                    let at = row / 2 * (*width / 2) + column / 2;
                    let warm = (add * 0.10) as u8;
                    if let (Some(cb), Some(cr)) = (u.get_mut(at), v.get_mut(at)) {
                        *cb = cb.saturating_sub(warm).max(100);
                        *cr = cr.saturating_add(warm / 2).min(150);
                    }
                }
            }
        }
    }
}

/// The pixels within `radius` of `centre`, inside of `size`.
fn span(centre: f32, radius: f32, size: usize) -> std::ops::Range<usize> {
    let clamp = |value: f32| value.clamp(0.0, size as f32) as usize;
    clamp(centre - radius)..clamp(centre + radius + 1.0)
}

/// Fills a polygon of a plane (even-odd rule), four lines of samples a row.
fn fill(
    plane: &mut [u8],
    (width, height): (usize, usize),
    points: &[[f32; 2]],
    scale: f32,
    value: f32,
    alpha: f32,
) {
    const LINES: usize = 4;
    let ys = points.iter().map(|point| point[1] * scale);
    let top = ys.clone().fold(f32::MAX, f32::min).clamp(0.0, height as f32) as usize;
    let bottom = (ys.fold(f32::MIN, f32::max).clamp(0.0, height as f32) + 1.0) as usize;
    let mut cover = vec![0.0_f32; width];
    let mut crossings: Vec<f32> = Vec::new();
    for row in top..bottom.min(height) {
        let (mut left, mut right) = (width, 0);
        for line in 0..LINES {
            let y = row as f32 + (line as f32 + 0.5) / LINES as f32;
            crossings.clear();
            for (n, a) in points.iter().enumerate() {
                let b = points[(n + 1) % points.len()];
                let (ay, by) = (a[1] * scale, b[1] * scale);
                if (ay <= y) != (by <= y) {
                    crossings.push((a[0] + (b[0] - a[0]) * (y - ay) / (by - ay)) * scale);
                }
            }
            crossings.sort_by(f32::total_cmp);
            for pair in crossings.chunks_exact(2) {
                let (from, to) =
                    (pair[0].clamp(0.0, width as f32), pair[1].clamp(0.0, width as f32));
                let (first, last) = (from as usize, (to as usize).min(width - 1));
                for (at, cover) in cover.iter_mut().enumerate().take(last + 1).skip(first) {
                    let inside = to.min(at as f32 + 1.0) - from.max(at as f32);
                    *cover += inside.max(0.0) / LINES as f32;
                }
                (left, right) = (left.min(first), right.max(last + 1));
            }
        }
        for at in left..right.max(left) {
            let share = (cover[at] * alpha).min(1.0);
            cover[at] = 0.0;
            let pixel = &mut plane[row * width + at];
            *pixel = (f32::from(*pixel) + (value - f32::from(*pixel)) * share + 0.5) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polygon_covers_its_area_even_outside_of_the_picture() {
        let mut picture = Picture {
            width: 32,
            height: 16,
            y: vec![16; 512],
            u: vec![128; 128],
            v: vec![128; 128],
        };
        let mut canvas = Canvas { picture: &mut picture };
        canvas.polygon(&[[4.0, 4.0], [12.5, 4.0], [12.5, 8.0], [4.0, 8.0]], [255.0; 3], 1.0);
        canvas.polygon(&[[-50.0, -9.0], [90.0, -9.0], [90.0, 1.0], [-50.0, 1.0]], [255.0; 3], 1.0);
        assert_eq!((picture.y[4 * 32 + 4], picture.y[4 * 32 + 3]), (235, 16));
        let edge = picture.y[5 * 32 + 12];
        assert!((120..132).contains(&edge), "half a pixel is half covered: {edge}");
        assert_eq!((picture.y[0], picture.y[31], picture.y[32]), (235, 235, 16));
    }
}
