//! RTP: turns the packets of a track into access units and audio frames, tolerantly; pure.
//!
//! ```text
//! packet -> source (SSRC, order, payload type) -> payload (NAL units, fragments)
//!        -> pictures (where a picture begins and ends) -> depacketizer (retina) -> MediaUnit
//! ```
//! Cameras are taken by what they do, not by what they promised: each deviation is counted as a
//! quirk, each lost packet and dropped picture in [`MediaUnit::lost`].
//!
//! What belongs here: all that a packet of RTP or RTCP can say. What does not: sockets, clocks,
//! what a time stamp means (`timeline`).

#[cfg(test)]
mod allocation_tests;
mod audio;
mod depacketizer;
mod header;
mod held;
#[cfg(test)]
mod invalid_nal_tests;
mod keys;
mod limits;
mod marker;
mod nal;
#[cfg(test)]
mod packetiser_tests;
mod parameter_sets;
mod payload;
mod pictures;
mod prefix;
#[cfg(test)]
#[cfg(feature = "sim")]
mod property_tests;
mod repeats;
pub mod rtcp;
mod sample_entry;
mod source;
#[cfg(test)]
mod tests;
mod video;

use std::sync::Arc;

use bytes::Bytes;

use self::audio::Audio;
use self::source::{Ordered, Sink, Source};
use self::video::Video;
#[cfg(feature = "office")]
use super::Codec;
use super::quirk::QuirkCounts;
use super::track_format::TrackFormat;
use super::{TrackKind, TrackParams};
use crate::settings::Transport;
use crate::units::MonoTime;

/// The parameters of a video track with these parameter sets, read from the sets alone.
///
/// # Errors
/// The sets are incomplete or cannot be read.
#[cfg(feature = "office")]
pub(crate) fn params_of_sets(codec: Codec, sets: &[Vec<u8>]) -> Result<TrackParams, String> {
    let mut first = [const { Vec::new() }; 3];
    let mut more = Vec::new();
    for set in sets {
        // Sample entries of others also have SEI messages, which no decoder needs.
        let Some(kind) = video::set_kind(codec, set) else { continue };
        match &mut first[kind] {
            place if place.is_empty() => place.clone_from(set),
            _ if kind == 2 && more.len() < limits::MORE_PPS_MAX => more.push(set.clone()),
            _ => return Err("too many parameter sets".into()),
        }
    }
    sample_entry::add_pps(depacketizer::params_of(codec, &first)?, &more)
}

/// One access unit of video, or one audio frame.
#[derive(Debug, Clone)]
pub struct MediaUnit {
    /// The sample in MP4 form, as [`super::Frame::data`].
    pub data: Bytes,
    /// The time stamp in RTP ticks, unwrapped: it goes on beyond 32 bits, and follows every step.
    pub rtp_time: i64,
    /// Arrival of its first packet.
    pub arrival: MonoTime,
    /// True when a GOP may begin here. At a recovery point decoding is exact only after the
    /// pictures that its `recovery_frame_cnt` says. Always true for audio.
    pub key: bool,
    /// Packets lost, and pictures dropped, directly before it.
    pub lost: u32,
    /// The parameters of the track, when they are new or changed.
    pub params: Option<Arc<TrackParams>>,
}

/// What came out of the packets.
#[derive(Debug, Clone)]
pub enum Received {
    /// An access unit or audio frame.
    Unit(MediaUnit),
    /// What was wrong with a packet.
    Bad(String),
}

/// Takes the RTP packets of one track.
pub struct TrackReceiver {
    source: Source,
    track: Track,
    quirks: QuirkCounts,
}

// One for each track of a session: their sizes do not matter.
#[expect(clippy::large_enum_variant, reason = "two of them exist")]
enum Track {
    Video(Video),
    Audio(Audio),
}

impl TrackReceiver {
    /// A receiver for a track.
    ///
    /// # Errors
    /// Why the track cannot be recorded, as a sentence.
    pub fn new(format: &TrackFormat, transport: Transport) -> Result<TrackReceiver, String> {
        let track = match format.kind {
            TrackKind::Video => Track::Video(Video::new(format, transport)?),
            TrackKind::Audio => Track::Audio(Audio::new(format)?),
        };
        let source = Source::new(format.kind, format.payload_type, transport);
        let mut receiver = TrackReceiver { source, track, quirks: QuirkCounts::default() };
        receiver.sum_quirks();
        Ok(receiver)
    }

    /// One RTP packet, header included, and its arrival.
    pub fn packet(&mut self, bytes: &[u8], arrival: MonoTime) {
        self.source.packet(bytes, arrival, &mut self.track);
        self.sum_quirks();
    }

    /// Releases what waited too long; called every 100 ms.
    pub fn tick(&mut self, now: MonoTime) {
        self.source.release_old(now, &mut self.track);
        if let Track::Video(video) = &mut self.track {
            video.pictures.tick(now);
        }
        self.sum_quirks();
    }

    /// Releases all that is complete, at the end of a session.
    pub fn finish(&mut self) {
        self.source.finish(&mut self.track);
        if let Track::Video(video) = &mut self.track {
            video.pictures.finish();
        }
        self.sum_quirks();
    }

    /// The next access unit or audio frame, or what was wrong with a packet.
    pub fn poll(&mut self) -> Option<Received> {
        match &mut self.track {
            Track::Video(video) => video.pictures.out.pop_front(),
            Track::Audio(audio) => audio.out.pop_front(),
        }
    }

    /// The quirks of the track so far.
    pub fn quirks(&self) -> &QuirkCounts {
        &self.quirks
    }

    fn sum_quirks(&mut self) {
        let mut sum = self.source.quirks;
        if let Track::Video(video) = &self.track {
            video.quirks(&mut sum);
        }
        self.quirks = sum;
    }
}

impl Sink for Track {
    fn ordered(&mut self, packet: Ordered<'_>) {
        match self {
            Track::Video(video) => video.packet(&packet),
            Track::Audio(audio) => audio.packet(&packet),
        }
    }

    fn bad(&mut self, why: &str) {
        let out = match self {
            Track::Video(video) => &mut video.pictures.out,
            Track::Audio(audio) => &mut audio.out,
        };
        if out.len() < limits::OUT_MAX {
            out.push_back(Received::Bad(why.to_owned()));
        }
    }
}

/// Continues 32-bit time stamps beyond their wrap.
#[derive(Debug, Default)]
struct Unwrap(Option<i64>);

impl Unwrap {
    fn next(&mut self, time: u32) -> i64 {
        let next = match self.0 {
            None => i64::from(time),
            Some(before) => before + i64::from(time.wrapping_sub(before as u32) as i32),
        };
        self.0 = Some(next);
        next
    }
}
