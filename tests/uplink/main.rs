//! Uplink tests of the real binary: Mosquitto, NATS, the faulty broker and the faulty proxy.
//!
//! `tests/run --full` also runs the ignored tests, which take minutes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod brokers;
mod files;
mod flood;
mod hostile_device;
mod delivery_soak;
mod pace;
mod harness;
mod scale;
mod documented_subscriber;
mod packet_counter;
#[path = "../common/mqtt.rs"]
mod mqtt;
