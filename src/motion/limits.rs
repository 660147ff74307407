//! Every threshold of the motion room, with its unit and reason. Distances are in cells of the 320x180 picture.
//!
//! What belongs here: numbers. What does not: what is done with them.

/// Width of the judged picture in cells: a person at 40 m is still 6 cells high, and the model costs milliseconds.
pub const WIDTH: usize = 320;
/// Height of the judged picture in cells.
pub const HEIGHT: usize = 180;

/// Samples kept per cell (ViBe, Barnich and Van Droogenbroeck 2011, uses 20; 14 loses nothing measurable on our clips).
pub const SAMPLES: usize = 14;
/// Samples that must agree for a cell to be background.
pub const AGREE: usize = 2;
/// Luma steps within which a sample agrees, before feedback: sensor noise after box scaling is below 4.
pub const RADIUS: f32 = 14.0;
/// The radius grows to this much at most where the background is restless (a tree, water).
pub const RADIUS_MAX: f32 = 55.0;
/// A background cell replaces a sample once in so many pictures, and one of a neighbour's.
pub const RENEW: u64 = 16;
/// Microseconds of warm-up without events after a start, a reconnect or a change of the whole scene.
pub const WARM_UP: u64 = 4_000_000;

/// Share of all cells that must differ at once for the scene itself to have changed.
pub const GLOBAL_SHARE: f32 = 0.45;
/// Median brightness ratio between two pictures that is a step of exposure, not a cloud.
pub const LIGHT_STEP: f32 = 1.10;
/// Mean chroma distance from grey, steps of 255, below which there is no colour, and above which there is again.
pub const GREY_BELOW: f32 = 1.0;
/// See [`GREY_BELOW`].
pub const COLOUR_ABOVE: f32 = 2.5;
/// Microseconds nothing is judged after a change of the whole scene.
pub const HOLD: u64 = 1_200_000;
/// Pictures in a row that are the same to the last bit until the picture counts as frozen: noise never repeats.
pub const FROZEN_AFTER: u32 = 50;

/// Cells of the smallest thing at sensitivity 5: a person far away.
pub const BLOB_MIN: f32 = 36.0;
/// Share of the picture above which a blob is no thing but light or weather.
pub const BLOB_MAX_SHARE: f32 = 0.5;
/// 80th percentile of the change of log brightness between neighbours inside a blob below which it is light on an unchanged
/// surface, not a thing.
pub const LIGHT_GRADIENT: f32 = 0.035;

/// Pictures a thing must be seen in to be believed.
pub const HITS: u32 = 4;
/// Cells a thing must have travelled from where it was first seen.
pub const TRAVEL: f32 = 6.0;
/// Straightness: net displacement over path length; leaves and insects zigzag.
pub const STRAIGHT: f32 = 0.45;
/// Microseconds a thing may be unseen and still be itself.
pub const COAST: u64 = 700_000;
/// Cells within which a blob continues a track, beside the track's own size.
pub const REACH: f32 = 14.0;
/// Tracks at once at most: beyond it is a crowd or rain, and both are one event.
pub const TRACKS_MAX: usize = 64;

/// Microseconds between two updates of an event.
pub const UPDATE_EVERY: u64 = 1_000_000;
/// Degrees of turn that are worth an update.
pub const TURN: f32 = 45.0;
/// Microseconds without a picture until the detector calls itself blind.
pub const BLIND_AFTER: u64 = 10_000_000;
/// Microseconds after its start at which an event's still is sent, if the event lasts that long.
pub const STILL_AFTER: u64 = 3_000_000;
/// Bytes of access units the sight lane holds: about one GOP of a 2 Mbit/s stream, twice over.
pub const LANE_BYTES: usize = 2 << 20;
/// Largest picture decoded, pixels: 4K. A camera that claims more is lying or hostile.
pub const PIXELS_MAX: usize = 3840 * 2160;
