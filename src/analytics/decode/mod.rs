//! Decoding: which access units are decoded and analysed, by what, and at which cost.

pub mod scheduler;
pub mod decoder;
pub mod frame_num;
pub mod size_trigger;
pub mod load_governor;
