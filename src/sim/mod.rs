//! Simulated environment of a device: the demo shows it, and tests inject faults into it.
//!
//! * [`scene`]: a road and its traffic. [`street`]: places in perspective, for the demo. [`encode`]: pictures → H.264.
//! * [`camera`]: RTSP camera (`camera_options`: its configuration, `rtp`: its packets, `rtsp_auth`: its login).
//!   [`broker`]: MQTT broker of the demo.
//! * [`onvif_camera`]: what a camera answers to WS-Discovery and ONVIF, also an odd one.
//! * [`faulty_broker`]: MQTT broker with faults. [`mqtt_codec`]: its packets.
//! * [`faulty_proxy`]: TCP proxy with network faults.
//! * `quirky_camera`: pure RTSP camera with the quirks of cameras in the field. `camera_session`: the
//!   device's client with it; `camera_plan`: its plan and record. `camera_verdict`: what was recorded against what was sent.
//! * [`rng`]: random numbers from a seed.
//! * [`cow_image`]: copy-on-write card images. [`faulty_disk`]: card that loses power.
//! * [`office_stub`]: office in memory. [`world`]: the whole agent in a simulated environment.
//! * [`workload`]: camera and agent on a tiny ring. [`strict_reader`]: second reader of segments.
//! * [`oracle`]: promises of storage. [`violation`]: broken ones. [`segment_cache`]: parsed segments.
//!   `footage_order`, `found_check`: order of records and of entries.
//! * [`crash_explorer`]: card lives with power cuts. [`crash_image`]: one card after a cut,
//!   checked.
//!   [`barrier`]: flushes and write orders that can be removed.
//! * `reference_model`: ring and journal against a naive model. `model_action`: its actions.
//!   `model_segment`: its segments.
//! * [`office`]: disk and index of the office with faults.
//! * [`config_world`]: device under configuration changes. [`config_scenarios`]: the changes.
//!   [`faulty_files`]: its state directory. [`config_faults`]: search for unreachable devices.
//!
//! What belongs here: stand-ins for the environment of a device. What does not: code that a device
//! needs (the device's build leaves this module out).

pub(crate) mod office_stub;
pub(crate) mod barrier;
pub(crate) mod violation;
pub mod broker;
pub mod camera;
mod camera_options;
#[cfg(test)]
pub(crate) mod camera_plan;
#[cfg(test)]
pub(crate) mod camera_session;
#[cfg(test)]
mod camera_tests;
#[cfg(test)]
pub(crate) mod camera_verdict;
pub(crate) mod cow_image;
pub(crate) mod crash_explorer;
pub(crate) mod faulty_disk;
pub mod encode;
pub mod onvif_camera;
pub mod faulty_broker;
pub(crate) mod crash_image;
pub(crate) mod segment_cache;
#[cfg(test)]
pub(crate) mod model_action;
#[cfg(test)]
mod model_segment;
#[cfg(test)]
pub(crate) mod reference_model;
pub(crate) mod office;
mod footage_order;
mod found_check;
pub(crate) mod oracle;
pub mod faulty_proxy;
#[cfg(test)]
pub(crate) mod quirky_camera;
pub mod rng;
mod rtp;
mod rtsp_auth;
pub(crate) mod config_world;
pub mod scene;
pub mod street;
pub(crate) mod faulty_files;
pub(crate) mod config_faults;
pub(crate) mod workload;
pub(crate) mod strict_reader;
pub(crate) mod config_scenarios;
pub mod mqtt_codec;
pub(crate) mod world;

/// Stands in `taimat sim --help`. `tests/run ships` looks for these words in a binary with `sim`, and for their absence in what ships.
pub const MARKER: &str =
    "This build has the simulator and its fault switches; what ships has neither.";
