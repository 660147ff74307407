//! Shrinks a decoded picture for a page: box-averaged, so that thin things stay visible.

use crate::analytics::detect::picture::Picture;

/// The picture at `width_max` pixels wide or less, with even sides and its shape kept.
pub fn shrink(picture: Picture, width_max: usize) -> Picture {
    if picture.width <= width_max {
        return picture;
    }
    let width = (width_max & !1).max(2);
    let height = (((picture.height * width).div_ceil(picture.width) + 1) & !1).max(2);
    let half = (picture.width / 2, picture.height / 2);
    let chroma = |plane: &[u8]| plane_of(plane, half, (width / 2, height / 2));
    Picture {
        width,
        height,
        y: plane_of(&picture.y, (picture.width, picture.height), (width, height)),
        u: chroma(&picture.u),
        v: chroma(&picture.v),
    }
}

/// A plane of size `from` at size `to`, each sample the mean of those it covers.
fn plane_of(plane: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    let covered = |n: usize, from: usize, to: usize| {
        let start = n * from / to;
        start..((n + 1) * from / to).clamp(start + 1, from.max(start + 1))
    };
    let columns: Vec<_> = (0..to.0).map(|x| covered(x, from.0, to.0)).collect();
    let mut out = Vec::with_capacity(to.0 * to.1);
    for y in 0..to.1 {
        let rows = covered(y, from.1, to.1);
        for columns in &columns {
            let line =
                |row: usize| plane.get(row * from.0 + columns.start..row * from.0 + columns.end);
            let sum: u32 =
                rows.clone().filter_map(line).flatten().map(|value| u32::from(*value)).sum();
            let count = (rows.len() * columns.len()) as u32;
            out.push((sum / count.max(1)) as u8);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Picture {
        let y = (0..width * height).map(|at| ((at % width) * 200 / width) as u8).collect();
        let chroma = vec![90; (width / 2) * (height / 2)];
        Picture { width, height, y, u: chroma.clone(), v: chroma }
    }

    #[test]
    fn a_large_picture_keeps_shape_and_light() {
        for (width, height, expected) in
            [(1920, 1080, (960, 540)), (2304, 1296, (960, 540)), (1000, 701, (960, 674))]
        {
            let small = shrink(picture(width, height), 960);
            assert_eq!((small.width, small.height), expected);
            assert_eq!(small.y.len(), small.width * small.height);
            assert_eq!(small.u, vec![90; (small.width / 2) * (small.height / 2)]);
            let middle = small.y[small.width / 2];
            assert!(middle.abs_diff(100) < 3, "{middle}");
        }
    }

    #[test]
    fn a_small_picture_stays_as_it_is() {
        assert_eq!(shrink(picture(640, 360), 960), picture(640, 360));
        let narrow = shrink(picture(16, 4000), 3);
        assert_eq!((narrow.width, narrow.y.len()), (2, 2 * narrow.height));
    }
}
