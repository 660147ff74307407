//! Integration tests of the real binary with real peers.
//!
//! Peers are cameras (simulated, and GStreamer's RTSP server with real footage), Mosquitto with
//! client certificates, the office, and ffmpeg as an independent reader. `tests/run --full` also
//! runs the ignored tests, which take minutes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod cameras;
mod card;
mod chain;
mod clip_index;
mod config;
mod decode;
mod demo;
mod deploy;
mod deploy_broker;
mod discover;
mod edge;
mod outages;
mod harness;
#[path = "../common/footage.rs"]
mod footage;
mod third_party;
#[path = "../common/mqtt.rs"]
mod mqtt;
