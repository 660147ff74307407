//! The uplink of the real binary against brokers that are real, and brokers and ways that are bad: Mosquitto, NATS, the hostile
//! broker, the fault proxy. What takes minutes is ignored here and run by `tests/run --full`.
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
