//! RTSP (RFC 2326): the session with a camera.
//!
//! * [`message`], [`headers`], [`sdp`], [`control_url`]: what the camera sends, read liberally; pure.
//! * [`auth`]: Digest and Basic; pure.
//! * [`client`], [`set_up`], [`incoming`], [`keep_alive`]: the client machine, time and bytes in; pure.
//! * [`limits`]: every limit of a session.
//! * [`connection`]: TCP and UDP sockets; [`stream_task`], [`session_loop`]: the task of one stream.
//!
//! It is liberal in what it reads: a deviation that leaves no doubt about what is meant is counted
//! as a [`super::quirk::Quirk`] and tolerated.

pub mod auth;
pub mod client;
mod connection;
pub mod control_url;
pub mod headers;
mod incoming;
pub mod keep_alive;
pub mod limits;
pub mod message;
mod open_body;
pub mod sdp;
mod session_loop;
pub mod set_up;
mod stream_task;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod stub_tests;

pub use stream_task::{Stream, run};
