//! Detection: finds the regions of a picture that differ from the background.
//!
//! * [`picture`]: scales pictures down to the grid of cells.
//! * [`background`]: classifies each cell as background or foreground.
//! * [`low_light`]: adds faint objects at night. [`hole_fill`]: fills enclosed cells.
//! * [`blobs`]: joins cells to regions and rejects light and weather.
//! * [`activity_map`]: knows the usual activity of each place.
//! * [`stages`]: names the parts that `eval-motion` can leave out.
//!
//! What belongs here: one picture against what was learned. What does not: objects over time
//! ([`super::track`]), changes of the whole scene ([`super::scene`]).

pub mod picture;
pub(crate) mod background;
pub(crate) mod hole_fill;
pub(crate) mod low_light;
pub(crate) mod activity_map;
pub(crate) mod blobs;
pub mod stages;
