//! Camera: receives RTSP streams and passes on frames with reliable capture times.
//!
//! * [`supervisor`]: connect, stall, backoff of one stream; pure.
//! * [`auth_limiter`]: limits the tries of one password; pure.
//! * [`frame_clock`]: gives frames their capture times; [`sound_clock`]: those of audio; pure.
//! * [`timeline`]: maps RTP media time to our clocks; [`stamp_repair`], [`clock_ruler`],
//!   [`clock_belief`]: its parts; pure.
//! * [`session_places`]: which stream does without where a camera has one place; pure.
//! * [`rtsp`]: the RTSP client machine (pure) and the task that drives it.
//! * [`rtp`]: from RTP packets to access units; pure.
//! * [`size_notice`]: when a change of the picture's size is logged; pure.
//! * [`quirk`]: tolerated deviations by name; [`track_format`]: payload of a track, from SDP.
//! * [`track_params`]: codec parameters as sample entries.
//!
//! What belongs here: everything between the camera's socket and a [`Frame`]. What does not:
//! storage, decoding, analysis.

pub(crate) mod auth_limiter;
pub mod clock_belief;
pub(crate) mod clock_ruler;
pub mod frame_clock;
pub mod login_mark;
pub mod quirk;
pub mod rtp;
pub mod rtsp;
#[cfg(all(test, feature = "sim"))]
mod rtsp_tests;
pub(crate) mod session_places;
pub(crate) mod size_notice;
pub mod sound_clock;
pub(crate) mod stamp_repair;
pub(crate) mod supervisor;
pub mod timeline;
#[cfg(test)]
mod timeline_tests;
#[cfg(test)]
mod clock_case_tests;
#[cfg(test)]
mod timeline_proof;
pub mod track_format;
pub(crate) mod track_params;

use std::sync::Arc;

use bytes::Bytes;

use crate::units::{Digest, Timestamp};

/// The cause of a failure, and its detail for operators.
pub type Failure = (CameraFault, String);

/// A stream of the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamRole {
    /// The full-size stream: recorded, and decoded only when there is no sub-stream.
    Main,
    /// The small stream: decoded and analysed, never recorded.
    Sub,
}

impl StreamRole {
    /// The name in payloads.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamRole::Main => "main",
            StreamRole::Sub => "sub",
        }
    }
}

/// A track of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrackKind {
    /// Video.
    Video,
    /// Audio.
    Audio,
}

/// The codecs that are recorded without transcoding.
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
    /// The name in payloads and tables.
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

/// The parameters of a track that a decoder or player needs before its first sample. All frames of
/// the track share them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackParams {
    /// Video or audio.
    pub kind: TrackKind,
    /// The codec.
    pub codec: Codec,
    /// Ticks per second of [`Frame::pts`]: 90,000 for video, the sampling rate for audio.
    pub timescale: u32,
    /// The complete sample entry box for `stsd` (ISO/IEC 14496-12 8.5.2), e.g. `avc1` with its
    /// `avcC`.
    pub sample_entry: Vec<u8>,
    /// Parameter sets for a decoder as Annex B (`00 00 00 01` before each NAL unit); empty for
    /// audio.
    pub annex_b: Vec<u8>,
    /// Coded picture size in pixels; (0, 0) for audio.
    pub size: (u16, u16),
    /// SHA-256 of `sample_entry`. It detects changed parameters and is part of the evidence chain.
    pub digest: Digest,
}

/// One access unit of video, or one audio frame, as the camera sent it.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The stream it belongs to.
    pub role: StreamRole,
    /// The parameters of its track.
    pub params: Arc<TrackParams>,
    /// The sample in MP4 form: for video NAL units, each after its length in 4 bytes, big endian;
    /// for audio the raw frame.
    pub data: Bytes,
    /// True when decoding can start here (IDR, CRA or BLA picture); always true for audio.
    pub key: bool,
    /// Presentation time in ticks of `params.timescale`, corrected: it is the capture time on the
    /// monotonic clock, not the camera's stamp. It rises strictly, except for B-frames.
    pub pts: i64,
    /// Number of this session's media, ascending within one boot of the agent. Each reconnect starts
    /// another run; steps of the camera's clock are repaired.
    pub run: u32,
    /// Capture time on our clocks, derived from media time and the least-delayed arrivals; never
    /// later than the arrival.
    pub at: Timestamp,
    /// RTP packets lost directly before this frame.
    pub lost: u32,
}

impl Frame {
    /// Video or audio.
    pub fn kind(&self) -> TrackKind {
        self.params.kind
    }

    /// `pts` in microseconds.
    pub fn pts_micros(&self) -> i64 {
        (i128::from(self.pts) * 1_000_000 / i128::from(self.params.timescale.max(1))) as i64
    }
}

impl TrackParams {
    /// Codec, and picture size for video, for operators.
    pub fn describe(&self) -> String {
        match self.kind {
            TrackKind::Video => format!("{} {}x{}", self.codec.as_str(), self.size.0, self.size.1),
            TrackKind::Audio => self.codec.as_str().to_owned(),
        }
    }
}

/// Counters of one stream since the start of its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CameraCounts {
    /// RTP packets lost.
    pub lost_packets: u64,
    /// Packets that were damaged or violate their codec.
    pub bad_packets: u64,
    /// Corrections of the sound by whole frames.
    pub sound: sound_clock::SoundCounts,
}

/// An update from a camera task to the agent. Frames go through frame queues instead.
#[derive(Debug, Clone, PartialEq)]
pub enum CameraUpdate {
    /// The stream plays: its first key frame arrived.
    Up {
        /// The stream.
        role: StreamRole,
        /// Tracks for operators, e.g. `h264 1920x1080 + aac`, and why there is no sound where the
        /// camera offers some.
        tracks: String,
        /// Arrival time of the first key frame.
        at: Timestamp,
    },
    /// The stream stopped. Sent once per outage, however many tries follow.
    Down {
        /// The stream.
        role: StreamRole,
        /// The cause, as a name in payloads.
        fault: CameraFault,
        /// The cause, as a sentence for operators, without secrets.
        detail: String,
        /// Arrival time of the last frame, or the start of the first try.
        since: Timestamp,
    },
    /// A try to reconnect failed; the next one follows after a pause.
    Retry {
        /// The stream.
        role: StreamRole,
        /// The cause, as a name in payloads.
        fault: CameraFault,
        /// The cause, as a sentence for operators, without secrets.
        detail: String,
        /// Failed tries since the stream last played for a minute.
        tries: u32,
        /// Microseconds until the next try.
        pause: u64,
        /// [`CameraUpdate::Down`] with the same fault was sent just before.
        is_reported: bool,
    },
    /// The camera accepted the login of the main stream.
    LoginAccepted {
        /// The login.
        login: login_mark::LoginMark,
    },
    /// Changed counters, at most every 5 s.
    Counts {
        /// The stream.
        role: StreamRole,
        /// The counters.
        counts: CameraCounts,
    },
    /// The deviations of this session: after set-up, and when another one is found.
    Quirks {
        /// The stream.
        role: StreamRole,
        /// Counts by name.
        quirks: quirk::QuirkCounts,
    },
    /// The camera's time stamps cannot be trusted, or can again. Footage is dated by arrivals as
    /// well as they allow.
    Clock {
        /// The stream.
        role: StreamRole,
        /// Why they cannot be trusted, and their rate.
        report: clock_belief::ClockReport,
    },
}

/// The cause of an outage. The names are stable: events and tests use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CameraFault {
    /// The TCP connection failed.
    Unreachable,
    /// The camera rejected user and password.
    Unauthorized,
    /// User and password were rejected too often. The next try waits long, because cameras lock
    /// accounts.
    LockedOut,
    /// The session did not reach PLAY in time, or the camera violated the protocol.
    Protocol,
    /// The stream has no video that can be recorded.
    NoVideo,
    /// No frame arrived within the reconnect time.
    Stalled,
    /// No key frame arrived within three times the longest GOP seen from this camera.
    NoKeyFrame,
    /// The camera closed the connection.
    Closed,
    /// The agent is stopping or is changing the camera.
    Stopped,
}

impl CameraFault {
    /// The name in payloads.
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
