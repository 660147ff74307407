//! The real binary with real peers: cameras (simulated, and GStreamer's RTSP server with real footage), Mosquitto with client
//! certificates, the office, ffmpeg as the independent reader. What takes minutes is ignored here and run by `tests/run --full`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod cameras;
mod card;
mod chain;
mod config;
mod decode;
mod demo;
mod deploy;
mod deploy_broker;
mod edge;
mod outages;
mod harness;
#[path = "../common/footage.rs"]
mod footage;
mod third_party;
#[path = "../common/mqtt.rs"]
mod mqtt;
