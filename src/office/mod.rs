//! The commune office's side: a reference archive that any other subscriber could replace from `docs/mqtt.md` alone.
//!
//! * [`archive`] ⇄: SQLite and files: what is receipted is on the disk. [`host`] ⇄: the MQTT subscriber.
//! * [`configs`] ⇄: documents sent to boxes and what they answered. [`rollout`]: one change to many boxes, in waves, pure.
//!   [`template`]: one text for many boxes.
//!
//! What belongs here: keeping what boxes send, receipts, looking at it. What does not: anything a box needs (this is a Cargo
//! feature the edge build leaves out).

pub mod archive;
pub mod configs;
pub mod host;
pub mod rollout;
pub mod template;
