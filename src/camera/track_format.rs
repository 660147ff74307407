//! Track format: what an SDP says about the payload of one track.

use std::num::NonZeroU16;

use super::TrackKind;

/// The payload of one track, from its SDP media description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFormat {
    /// Video or audio.
    pub kind: TrackKind,
    /// Encoding name in lower case, e.g. `h264`, `h265`, `mpeg4-generic`, `pcma`, `pcmu`.
    pub encoding: String,
    /// RTP clock rate in Hz, never 0.
    pub clock_rate: u32,
    /// Audio channels; `None` where the SDP has none.
    pub channels: Option<NonZeroU16>,
    /// The parameters of `a=fmtp`, without the payload type; `None` where the SDP has none.
    pub fmtp: Option<String>,
    /// RTP payload type of the SDP: a hint, since cameras send others.
    pub payload_type: u8,
}
