//! Zones: where movement matters.
//!
//! What belongs here: polygons and points. What does not: tracking.

use crate::settings::{Zone, ZoneKind};

/// The zone there is when none is configured.
const WHOLE: &str = "all";

/// True when a point lies in a polygon (crossing number; Shimrat 1962).
pub fn inside(polygon: &[[f32; 2]], point: [f32; 2]) -> bool {
    let previous = polygon.iter().cycle().skip(polygon.len().saturating_sub(1));
    let crossings = polygon.iter().zip(previous).filter(|(a, b)| {
        (a[1] > point[1]) != (b[1] > point[1]) && point[0] < (b[0] - a[0]) * (point[1] - a[1]) / (b[1] - a[1]) + a[0]
    });
    crossings.count() % 2 == 1
}

/// The zones a thing standing at `anchor` is in; empty when it does not matter.
pub fn zones_of(zones: &[Zone], anchor: [f32; 2]) -> Vec<String> {
    let hit = |zone: &&Zone| inside(&zone.polygon, anchor);
    if zones.iter().filter(|zone| zone.kind != ZoneKind::Include).any(|zone| hit(&zone)) {
        return Vec::new();
    }
    if zones.iter().all(|zone| zone.kind != ZoneKind::Include) {
        return vec![WHOLE.to_owned()];
    }
    zones.iter().filter(|zone| zone.kind == ZoneKind::Include).filter(hit).map(|zone| zone.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str, kind: ZoneKind, polygon: &[[f32; 2]]) -> Zone {
        Zone { name: name.into(), kind, polygon: polygon.to_vec() }
    }

    #[test]
    fn without_zones_the_whole_picture_is_one_and_exclusion_wins() {
        let left = zone("left", ZoneKind::Include, &[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]);
        let tree = zone("tree", ZoneKind::Exclude, &[[0.0, 0.0], [0.2, 0.0], [0.2, 1.0], [0.0, 1.0]]);
        assert_eq!(zones_of(&[], [0.9, 0.9]), ["all"]);
        assert_eq!(zones_of(std::slice::from_ref(&tree), [0.9, 0.9]), ["all"]);
        let both = [left, tree];
        assert_eq!(zones_of(&both, [0.3, 0.5]), ["left"]);
        assert!(zones_of(&both, [0.1, 0.5]).is_empty() && zones_of(&both, [0.8, 0.5]).is_empty());
    }
}
