//! Pinhole camera on a pole, and places on the ground. Metres; x right, y up, z ahead.

/// Height of the camera above the ground.
const HEIGHT: f32 = 5.2;
/// Focal length in widths of the picture: 64 degrees across.
const FOCAL: f32 = 0.8;
/// Nearest distance that is drawn.
const NEAR: f32 = 1.0;

/// The camera at one size of picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lens {
    width: f32,
    height: f32,
    sin: f32,
    cos: f32,
}

impl Lens {
    /// A lens that looks down by `pitch` radians.
    pub(super) fn new(width: usize, height: usize, pitch: f32) -> Lens {
        let (sin, cos) = pitch.sin_cos();
        Lens { width: width as f32, height: height as f32, sin, cos }
    }

    /// The pixel of a point; `None` behind or beside the lens.
    pub(super) fn project(&self, [x, y, z]: [f32; 3]) -> Option<[f32; 2]> {
        let above = y - HEIGHT;
        let depth = z * self.cos - above * self.sin;
        let up = z * self.sin + above * self.cos;
        let scale = FOCAL * self.width / depth;
        (depth > NEAR).then(|| [self.width / 2.0 + x * scale, self.height / 2.0 - up * scale])
    }

    /// Pixels of a metre at a point.
    pub(super) fn scale(&self, [_, y, z]: [f32; 3]) -> f32 {
        FOCAL * self.width / (z * self.cos - (y - HEIGHT) * self.sin).max(NEAR)
    }

    /// The point of the ground that a pixel shows; `None` above the horizon.
    pub(super) fn ground(&self, column: f32, row: f32) -> Option<[f32; 2]> {
        let (right, up) = (
            (column - self.width / 2.0) / (FOCAL * self.width),
            (self.height / 2.0 - row) / (FOCAL * self.width),
        );
        let down = self.sin - up * self.cos;
        (down > 0.004).then(|| {
            let far = HEIGHT / down;
            [right * far, (self.cos + up * self.sin) * far]
        })
    }
}

/// A place on the ground with a heading: where a thing stands and looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pose {
    /// Its middle, x and z.
    pub(super) at: [f32; 2],
    /// Unit vector of its heading, x and z.
    pub(super) ahead: [f32; 2],
}

impl Pose {
    /// The point `along` ahead, `aside` to the right and `up` above the middle.
    pub(super) fn point(&self, along: f32, aside: f32, up: f32) -> [f32; 3] {
        let [ax, az] = self.ahead;
        [self.at[0] + ax * along + az * aside, up, self.at[1] + az * along - ax * aside]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_of_the_ground_is_found_again_in_its_pixel() {
        let lens = Lens::new(1280, 720, 0.22);
        for point in [[0.0, 20.0], [-8.0, 35.0], [3.0, 11.0]] {
            let [column, row] = lens.project([point[0], 0.0, point[1]]).unwrap();
            let [x, z] = lens.ground(column, row).unwrap();
            assert!((x - point[0]).abs() < 0.01 && (z - point[1]).abs() < 0.01, "{x} {z}");
        }
        assert!(lens.project([0.0, 0.0, -40.0]).is_none() && lens.ground(640.0, 10.0).is_none());
    }
}
