//! The camera room: pulls RTSP and hands on frames with a time everybody can trust.
//!
//! * [`supervisor`]: the pure machine: connect, stall, back-off. [`auth_limiter`]: how often a password may be shown, pure.
//! * [`timeline`]: pure: RTP media time → wall time.
//! * [`rtsp`] ⇄: the shell around `retina`.
//!
//! What belongs here: everything between the camera's socket and a [`Frame`]. What does not: writing, decoding, judging.

pub mod auth_limiter;
pub mod rtsp;
#[cfg(all(test, feature = "sim"))]
mod rtsp_tests;
pub mod supervisor;
pub mod timeline;

use std::sync::Arc;

use bytes::Bytes;

use crate::units::{Digest, Timestamp};

/// Which of the camera's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamRole {
    /// The full picture: recorded, never decoded unless there is no sub-stream.
    Main,
    /// The small picture: decoded and analysed, never recorded.
    Sub,
}

impl StreamRole {
    /// The word used in payloads.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamRole::Main => "main",
            StreamRole::Sub => "sub",
        }
    }
}

/// Which track of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrackKind {
    /// Video.
    Video,
    /// Audio.
    Audio,
}

/// The codecs that are stored as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    H265,
    /// ISO/IEC 14496-3 AAC.
    Aac,
    /// ITU-T G.711 mu-law.
    PcmMulaw,
    /// ITU-T G.711 A-law.
    PcmAlaw,
}

impl Codec {
    /// The word used in payloads and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Codec::H264 => "h264",
            Codec::H265 => "h265",
            Codec::Aac => "aac",
            Codec::PcmMulaw => "pcm_mulaw",
            Codec::PcmAlaw => "pcm_alaw",
        }
    }
}

/// What a decoder or a player must know of a track before its first sample. Shared by every frame it is true of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackParams {
    /// Video or audio.
    pub kind: TrackKind,
    /// The codec.
    pub codec: Codec,
    /// Ticks per second of [`Frame::pts`]: 90,000 for video, the sampling rate for audio.
    pub timescale: u32,
    /// The whole sample entry box for `stsd` (ISO/IEC 14496-12 8.5.2), e.g. `avc1` with its `avcC`.
    pub sample_entry: Vec<u8>,
    /// Parameter sets as Annex B (`00 00 00 01` + NAL each), for a decoder; empty for audio.
    pub annex_b: Vec<u8>,
    /// Coded picture size in pixels; (0, 0) for audio.
    pub size: (u16, u16),
    /// SHA-256 of `sample_entry`: what the evidence chain and "did the parameters change" use.
    pub digest: Digest,
}

/// One access unit of video, or one audio frame, as the camera sent it.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Which stream it came from.
    pub role: StreamRole,
    /// Its track's parameters.
    pub params: Arc<TrackParams>,
    /// The sample as MP4 wants it: NAL units each behind a 4-byte big-endian length for video, raw for audio.
    pub data: Bytes,
    /// True when decoding can start here (IDR, CRA or BLA; always true for audio).
    pub key: bool,
    /// Presentation time in ticks of `params.timescale`, continuous within `run`; the origin is arbitrary but the same
    /// instant for video and audio of one run.
    pub pts: i64,
    /// Number of this unbroken stretch of media time: every reconnect and every jump of the camera's clock begins another.
    /// Increases within one start of the agent.
    pub run: u32,
    /// When the picture was taken, on our clocks: monotonic and wall from media time, never simply the arrival time.
    pub at: Timestamp,
    /// RTP packets known to be lost just before this frame.
    pub lost: u32,
}

impl Frame {
    /// Video or audio.
    pub fn kind(&self) -> TrackKind {
        self.params.kind
    }

    /// Seconds × 1,000,000 of `pts`.
    pub fn pts_micros(&self) -> i64 {
        (i128::from(self.pts) * 1_000_000 / i128::from(self.params.timescale.max(1))) as i64
    }
}

impl TrackParams {
    /// Codec, and size where there is one, for people.
    pub fn describe(&self) -> String {
        match self.kind {
            TrackKind::Video => format!("{} {}x{}", self.codec.as_str(), self.size.0, self.size.1),
            TrackKind::Audio => self.codec.as_str().to_owned(),
        }
    }
}

/// Counters of one stream since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CameraCounts {
    /// RTP packets known to be lost on the way.
    pub lost_packets: u64,
    /// Packets that could not be used: damaged, or not what their codec allows.
    pub bad_packets: u64,
}

/// What the camera room tells the agent. Frames never take this way.
#[derive(Debug, Clone, PartialEq)]
pub enum CameraUpdate {
    /// A stream plays: its first key frame arrived.
    Up {
        /// Which stream.
        role: StreamRole,
        /// What it carries, in words for people: e.g. `h264 1920x1080 + aac`, and why there is no sound where some was offered.
        tracks: String,
        /// When.
        at: Timestamp,
    },
    /// A stream stopped. Sent once per outage, however many tries follow.
    Down {
        /// Which stream.
        role: StreamRole,
        /// Why, as a word for machines.
        fault: CameraFault,
        /// Why, as a sentence for people, without secrets.
        detail: String,
        /// When the last frame came, or when the first try began.
        since: Timestamp,
    },
    /// A try to come back failed; the next one comes after a pause.
    Retry {
        /// Which stream.
        role: StreamRole,
        /// Why it failed.
        fault: CameraFault,
        /// The same for people.
        detail: String,
        /// Number of failed tries since the stream last played well for a minute.
        tries: u32,
        /// Microseconds until the next try.
        pause: u64,
    },
    /// New counts, at most every 5 s.
    Counts {
        /// Which stream.
        role: StreamRole,
        /// They.
        counts: CameraCounts,
    },
}

/// Whose fault and what kind: stable words, used in events and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CameraFault {
    /// No TCP connection.
    Unreachable,
    /// The camera refused our credentials.
    Unauthorized,
    /// Too many refused tries: waiting long, because cameras lock accounts.
    LockedOut,
    /// The session did not get as far as PLAY in time or the camera answered nonsense.
    Protocol,
    /// No stream we can record (no video, or an unknown codec).
    NoVideo,
    /// Connected but no frame for the reconnect time.
    Stalled,
    /// Frames, but no key frame for three times the longest GOP this camera has shown.
    NoKeyFrame,
    /// The camera closed the connection.
    Closed,
    /// We are shutting down or were reported to change the camera.
    Stopped,
}

impl CameraFault {
    /// The word used in payloads.
    pub fn as_str(self) -> &'static str {
        match self {
            CameraFault::Unreachable => "unreachable",
            CameraFault::Unauthorized => "unauthorized",
            CameraFault::LockedOut => "locked_out",
            CameraFault::Protocol => "protocol",
            CameraFault::NoVideo => "no_video",
            CameraFault::Stalled => "stalled",
            CameraFault::NoKeyFrame => "no_key_frame",
            CameraFault::Closed => "closed",
            CameraFault::Stopped => "stopped",
        }
    }
}
