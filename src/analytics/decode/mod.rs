//! Decoding: selects access units, decodes them and limits the cost.
//!
//! * [`scheduler`]: decides what is decoded and analysed, and when the analyzer sleeps.
//! * [`decoder`]: decodes H.264 and H.265. [`frame_num`]: detects lost reference pictures.
//! * [`size_trigger`]: wakes the analyzer by access unit sizes.
//! * [`load_governor`]: limits CPU share and temperature.
//!
//! What belongs here: the way from an access unit to a picture that is due. What does not: the
//! analysis of pictures ([`super::detector`]), threads, clocks.

pub mod scheduler;
pub mod decoder;
pub(crate) mod frame_num;
pub(crate) mod size_trigger;
pub(crate) mod load_governor;
