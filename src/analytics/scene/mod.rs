//! The scene as a whole: changes of light, shake, and tampering with the camera.

pub mod scene_change;
pub mod stabilize;
pub mod tamper;
