//! Scene: detects changes of the whole scene and removes shake and slow light.
//!
//! * [`scene_change`]: exposure, infrared and frozen pictures, from one picture to the next.
//! * [`tamper`]: a covered, blurred, black or moved camera, against the usual appearance.
//! * [`stabilize`]: compensates shake and slow changes of light.
//!
//! What belongs here: properties of the whole picture. What does not: single regions
//! ([`super::detect`]), objects ([`super::track`]).

pub(crate) mod scene_change;
pub(crate) mod stabilize;
pub(crate) mod tamper;
