//! Bounds of a clip that is read. A device decides what a clip contains; these decide its cost.

/// Bytes of `ftyp` and `moov` together at most: a segment head on a card has the same bound.
pub const INIT_MAX: u64 = 64 << 10;
/// Bytes of the about box at most: a manifest has 4 KiB, with `digest` and names some more.
pub const ABOUT_MAX: u64 = 16 << 10;
/// Bytes of a `moof` at most: 512 samples of 16 bytes each, twice over.
pub const MOOF_MAX: u64 = 16 << 10;
/// Tracks at most: a device records one of video and one of sound.
pub const TRACKS_MAX: usize = 4;
/// Boxes at one level at most: the largest level of a head has 7.
pub const BOXES_MAX: usize = 64;
/// Runs of the samples of a track in one fragment at most: a device writes one.
pub const RUNS_MAX: usize = 4;
/// Fragments at most: a file of 2 GiB at 4 Mbit/s has 4,300; this is a day of 1 s each.
pub const FRAGMENTS_MAX: usize = 90_000;
/// Bytes read for one index at most: [`FRAGMENTS_MAX`] times [`WINDOW`], and the head.
pub const READ_MAX: u64 = 96 << 20;
/// Bytes read at a fragment at first: its record and mostly its whole `moof`.
pub const WINDOW: u64 = 1 << 10;
/// Bytes of a key frame at most: the camera's reader accepts access units of 9 MiB.
pub const KEY_FRAME_MAX: u64 = 9 << 20;
/// Distance between a record's own wall time and the computed one that is marked, microseconds.
pub const STRAY_MIN: i64 = 500_000;
