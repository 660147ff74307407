//! Discovery: finds cameras on the local network and asks them for their streams (WS-Discovery, ONVIF).
//!
//! * [`interfaces`]: network interfaces, from answers of the kernel; pure.
//! * [`xml`]: bounded reader of XML; pure. [`ws_discovery`]: the probe and its answers; pure.
//! * [`soap`]: envelopes, faults and the `UsernameToken`; pure. [`http`]: HTTP requests and responses; pure.
//! * [`devices`]: what answered, bounded and joined; pure.
//! * [`device`]: the ONVIF messages of a device, [`media`]: of its streams; pure. [`stream_uri`]: addresses that a
//!   camera names; pure.
//! * [`interview`]: the order of the questions to one camera, and its login; pure, over [`interview::Exchange`].
//! * [`report`]: what was found: main and sub-stream, clock, warnings; pure. [`config_text`]: a configuration of it;
//!   pure.
//! * [`multicast`]: UDP sockets. [`http_client`]: TCP connections.
//!
//! What belongs here: what the command `taimat discover` sends and reads. What does not: anything that the agent
//! uses; the agent listens on no socket, and neither does this module beyond the answers to its own questions.
//!
//! Everything that comes in is text of strangers: it is bounded here and escaped where it is printed
//! ([`crate::escape`]). **Only the address that answered is asked:** of an address that a camera names, port and path
//! are used, so no answer can send a question or a login to another machine.

pub mod config_text;
pub mod device;
pub mod devices;
pub mod http;
pub mod http_client;
pub mod interfaces;
pub mod interview;
pub mod media;
pub mod multicast;
#[cfg(all(test, feature = "sim"))]
mod onvif_tests;
pub mod report;
pub mod soap;
pub mod stream_uri;
pub mod ws_discovery;
pub mod xml;

/// Characters of one text of a camera (name, model, zone) that are kept at most: a table has one line each.
pub const TEXT_MAX: usize = 128;

/// A text of a camera without blanks around it, cut at [`TEXT_MAX`] characters.
pub(crate) fn short(text: &str) -> String {
    text.trim().chars().take(TEXT_MAX).collect()
}
