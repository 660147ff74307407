//! Detection: from a picture to regions that differ from the background.

pub mod picture;
pub mod background;
pub mod hole_fill;
pub mod low_light;
pub mod activity_map;
pub mod blobs;
pub mod stages;
