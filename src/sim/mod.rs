//! The simulated world: what the demo shows and the tests break.
//!
//! * [`scene`]: a road and what crosses it. [`encode`]: pictures → H.264. [`camera`] ⇄: an RTSP camera. [`broker`] ⇄: a broker.
//! * [`faulty_broker`] ⇄: a broker with a temper ([`mqtt_codec`] ⇄: its packets). [`faulty_proxy`] ⇄: a bad way to any broker.
//! * [`rng`]: randomness from a seed. [`faulty_disk`]: a card that loses power. [`office_stub`]: an office in memory. [`world`]: all of it with the agent.
//! * [`cow_image`]: pages that copies share, and what a power cut may leave. [`barrier`]: what can be taken away. [`workload`]: a camera and an
//!   agent that want everything at once. [`strict_reader`]: a second reader of segments. [`oracle`]: what was promised ([`violation`], [`image_cache`]). [`crash_image`]: one card
//!   after a cut, checked. [`crash_explorer`]: lives of cards, cut everywhere. [`reference_model`]: ring and journal against a naive model.
//! * [`office`]: the office's disk and index, full, refusing, locked and cut.
//! * [`config_world`]: a device as its configuration sees it. [`config_scenarios`]: configurations for it. [`faulty_files`]: where they are kept. [`config_faults`]: whether anything can strand it.
//!
//! What belongs here: stand-ins for what a device meets. What does not: anything a device needs (the edge build leaves this out).

pub mod office_stub;
pub mod barrier;
pub mod violation;
pub mod broker;
pub mod camera;
pub mod cow_image;
pub mod crash_explorer;
pub mod faulty_disk;
pub mod encode;
pub mod faulty_broker;
pub mod crash_image;
pub mod image_cache;
pub mod reference_model;
pub mod office;
pub mod oracle;
pub mod faulty_proxy;
pub mod rng;
pub mod config_world;
pub mod scene;
pub mod faulty_files;
pub mod config_faults;
pub mod workload;
pub mod strict_reader;
pub mod config_scenarios;
pub mod mqtt_codec;
pub mod world;

/// Stands in `taimat sim --help`. `tests/run ships` looks for these words in a binary with `sim`, and for their absence in what ships.
pub const MARKER: &str = "This build has the simulator and its fault switches; what ships has neither.";
