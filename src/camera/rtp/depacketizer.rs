//! Depacketizer: the one place that knows `retina`'s depacketizers, through its hidden interface.
//!
//! The version is pinned. A new one must pass the golden tests of this module. What it gets is
//! already in order and cut into pictures, so that none of its own checks can fail: NAL units of one
//! picture share a time stamp of our making, and a delimiter with the next stamp ends the picture.

use std::num::NonZeroU32;

use bytes::Bytes;
use retina::codec::{CodecItem, Depacketizer, FrameFormat, ParametersRef};
use retina::rtp::PacketMeta;
use retina::testutil::DepacketizeBuf;
use retina::{PacketContext, Timestamp};

use super::limits::{BUFFER_KEEP, PAYLOAD_MAX};
use super::nal::{header_len, without_trailing_zeros};
use crate::camera::track_format::TrackFormat;
use crate::camera::track_params::{audio_params, video_params};
use crate::camera::{Codec, TrackParams};

/// First size of a buffer, bytes; it grows to twice the largest picture.
const BUFFER_START: usize = 64 << 10;

fn meta(time: Timestamp, mark: bool, loss: u16) -> PacketMeta {
    let ctx = PacketContext::dummy();
    PacketMeta { ctx, stream_id: 0, timestamp: time, sequence_number: 0, ssrc: 0, mark, loss }
}

fn video_clock() -> NonZeroU32 {
    const { NonZeroU32::new(90_000).unwrap() }
}

fn new_video(codec: Codec, fmtp: Option<&str>) -> Result<Depacketizer, String> {
    let name = if codec == Codec::H265 { "h265" } else { "h264" };
    let mut inner = Depacketizer::new("video", name, 90_000, None, fmtp)?;
    inner.set_frame_format(FrameFormat::MP4);
    Ok(inner)
}

/// Assembles NAL units of one picture after the other into MP4 samples.
pub(super) struct PictureAssembler {
    codec: Codec,
    inner: Depacketizer,
    buffer: DepacketizeBuf,
    /// Number of the picture, which is its time stamp.
    picture: i64,
    /// What the depacketizer still has from before: the next packet makes it drop that.
    stale: bool,
    /// Bytes of this picture so far.
    bytes: usize,
}

impl PictureAssembler {
    pub(super) fn new(codec: Codec) -> Result<PictureAssembler, String> {
        Ok(PictureAssembler {
            codec,
            inner: new_video(codec, None)?,
            buffer: DepacketizeBuf::new(BUFFER_START),
            picture: 0,
            stale: false,
            bytes: 0,
        })
    }

    /// Bytes of the open picture so far.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Adds an RTP payload: a whole NAL unit or a fragment of one.
    ///
    /// # Errors
    /// What the depacketizer does not like. The picture is dropped.
    pub(super) fn payload(&mut self, payload: &[u8]) -> Result<(), String> {
        let time = Timestamp::new(self.picture, video_clock(), 0).ok_or("too many pictures")?;
        let meta = meta(time, false, u16::from(std::mem::take(&mut self.stale)));
        self.bytes += payload.len();
        let pushed = self.buffer.push(&mut self.inner, meta, payload);
        let refused = self.inner.pull().map(|item| match item {
            Ok(_) => "an unexpected picture".to_owned(),
            Err(error) => format!("{error:?}"),
        });
        let result = pushed.and(refused.map_or(Ok(()), Err));
        if result.is_err() {
            self.drop_picture();
        }
        result
    }

    /// Adds a whole NAL unit of any size.
    ///
    /// # Errors
    /// As [`Self::payload`].
    pub(super) fn nal(&mut self, nal: &[u8]) -> Result<(), String> {
        if nal.len() <= PAYLOAD_MAX {
            return self.payload(nal);
        }
        let (header, body) = nal.split_at(header_len(self.codec));
        let count = body.chunks(PAYLOAD_MAX).count();
        let mut payload = Vec::with_capacity(PAYLOAD_MAX + 3);
        for (at, piece) in body.chunks(PAYLOAD_MAX).enumerate() {
            payload.clear();
            fragment_head(self.codec, header, at == 0, at + 1 == count, &mut payload);
            payload.extend_from_slice(piece);
            self.payload(&payload)?;
        }
        Ok(())
    }

    /// Ends a fragmented NAL unit whose last fragment has no end bit.
    ///
    /// # Errors
    /// As [`Self::payload`].
    pub(super) fn end_fragments(&mut self, header: &[u8]) -> Result<(), String> {
        let mut payload = Vec::with_capacity(3);
        fragment_head(self.codec, header, false, true, &mut payload);
        self.payload(&payload)
    }

    /// The finished picture.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn finish(&mut self) -> Result<Bytes, String> {
        let delimiter: &[u8] =
            if self.codec == Codec::H265 { &[0x46, 1, 0x50] } else { &[9, 0xf0] };
        self.picture += 1;
        let time = Timestamp::new(self.picture, video_clock(), 0).ok_or("too many pictures")?;
        self.buffer.push(&mut self.inner, meta(time, false, 0), delimiter)?;
        let item = self.inner.pull();
        self.drop_picture();
        match item {
            Some(Ok(CodecItem::VideoFrame(frame))) => {
                let mut sample = frame.into_data();
                if self.codec == Codec::H265 {
                    strip_trailing_zeros(&mut sample);
                }
                Ok(Bytes::from(sample))
            }
            Some(Err(error)) => Err(format!("{error:?}")),
            _ => Err("no picture".to_owned()),
        }
    }

    /// Drops the open picture.
    pub(super) fn drop_picture(&mut self) {
        self.picture += 1;
        self.stale = true;
        if self.bytes > BUFFER_KEEP
            && let Ok(inner) = new_video(self.codec, None)
        {
            // Both at once: the old depacketizer has positions within the old buffer.
            self.inner = inner;
            self.buffer = DepacketizeBuf::new(BUFFER_START);
            self.stale = false;
        }
        self.bytes = 0;
    }
}

/// Takes the zeros behind each NAL unit out of a sample: they belong to the byte stream, and `retina`
/// leaves them out in H.264 alone.
fn strip_trailing_zeros(sample: &mut Vec<u8>) {
    let (mut from, mut to) = (0, 0);
    while let Some((length, rest)) = sample[from..].split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some(nal) = rest.get(..length) else { return };
        let kept = without_trailing_zeros(nal).len();
        if to != from || kept < length {
            sample[to..to + 4].copy_from_slice(&(kept as u32).to_be_bytes());
            sample.copy_within(from + 4..from + 4 + kept, to + 4);
        }
        from += 4 + length;
        to += 4 + kept;
    }
    sample.truncate(to);
}

/// The head of a fragment (RFC 6184 5.8, RFC 7798 4.4.3).
fn fragment_head(codec: Codec, header: &[u8], start: bool, end: bool, out: &mut Vec<u8>) {
    let marks = u8::from(start) << 7 | u8::from(end) << 6;
    match (codec, header) {
        (Codec::H265, [first, second, ..]) => {
            out.extend([first & 0x81 | 49 << 1, *second, marks | first >> 1 & 0x3f]);
        }
        (_, [first, ..]) => out.extend([first & 0xe0 | 28, marks | first & 0x1f]),
        (_, []) => {}
    }
}

/// The parameter sets of an SDP: VPS, SPS and PPS, each empty where there is none.
pub(super) fn sdp_sets(codec: Codec, fmtp: &str) -> Option<[Vec<u8>; 3]> {
    // A trailing semicolon, or a word without a value, is no reason to ignore the rest.
    let usable: Vec<&str> =
        fmtp.split(';').map(str::trim).filter(|part| part.contains('=')).collect();
    let inner = new_video(codec, Some(&usable.join(";"))).ok()?;
    let Some(ParametersRef::Video(params)) = inner.parameters() else { return None };
    use retina::codec::VideoParametersCodec as Sets;
    match params.codec_params() {
        Sets::H264 { sps, pps } => Some([Vec::new(), sps.to_vec(), pps.to_vec()]),
        Sets::H265 { vps, sps, pps } => Some([vps.to_vec(), sps.to_vec(), pps.to_vec()]),
        _ => None,
    }
}

/// The parameters of a track with these sets.
///
/// # Errors
/// Why they cannot be used.
pub(super) fn params_of(codec: Codec, sets: &[Vec<u8>; 3]) -> Result<TrackParams, String> {
    let mut inner = new_video(codec, None)?;
    let mut buffer = DepacketizeBuf::new(BUFFER_START);
    let time = Timestamp::new(0, video_clock(), 0).ok_or("no time")?;
    for set in sets.iter().filter(|set| !set.is_empty()) {
        buffer.push(&mut inner, meta(time, false, 0), set)?;
    }
    let slice: &[u8] = if codec == Codec::H265 { &[0x26, 1, 0x80] } else { &[0x65, 0x80] };
    buffer.push(&mut inner, meta(time, true, 0), slice)?;
    let _ = inner.pull();
    let Some(ParametersRef::Video(params)) = inner.parameters() else {
        return Err("parameter sets are incomplete".to_owned());
    };
    video_params(params).map_err(|(_, why)| why)
}

/// A frame of audio: its data and its time in ticks.
pub(super) type AudioFrame = (Bytes, i64);

/// Takes audio frames out of packets.
pub(super) struct AudioDepacketizer {
    inner: Depacketizer,
    buffer: DepacketizeBuf,
    clock: NonZeroU32,
    format: TrackFormat,
}

impl AudioDepacketizer {
    /// A depacketizer and the parameters of its track.
    ///
    /// # Errors
    /// Why this audio cannot be recorded.
    pub(super) fn new(format: &TrackFormat) -> Result<(AudioDepacketizer, TrackParams), String> {
        let clock = NonZeroU32::new(format.clock_rate).ok_or("audio without a clock rate")?;
        let inner = new_audio(format)?;
        let Some(ParametersRef::Audio(params)) = inner.parameters() else {
            return Err(format!("taimat does not record this kind of {}", format.encoding));
        };
        let params = audio_params(&format.encoding, params)
            .ok_or_else(|| format!("taimat does not record this kind of {}", format.encoding))?;
        let buffer = DepacketizeBuf::new(BUFFER_START);
        Ok((AudioDepacketizer { inner, buffer, clock, format: format.clone() }, params))
    }

    /// Takes the frames of one packet.
    ///
    /// # Errors
    /// What is wrong with the packet. What began before it is dropped.
    pub(super) fn payload(
        &mut self,
        payload: &[u8],
        (time, mark, lost): (i64, bool, bool),
        mut frame: impl FnMut(AudioFrame),
    ) -> Result<(), String> {
        let time = Timestamp::new(time, self.clock, 0).ok_or("time stamp out of range")?;
        let meta = meta(time, mark, u16::from(lost));
        let mut result = self.buffer.push(&mut self.inner, meta, payload);
        while let Some(item) = self.inner.pull() {
            match item {
                Ok(CodecItem::AudioFrame(found)) => {
                    // A copy: `retina` keeps the data in a packet of its own size.
                    frame((Bytes::copy_from_slice(found.data()), found.timestamp().timestamp()));
                }
                Ok(_) => {}
                Err(error) => result = Err(description(&error)),
            }
        }
        if result.is_err() {
            // Whatever state is left: the next packet begins with none.
            self.inner = new_audio(&self.format)?;
        }
        result
    }
}

fn new_audio(format: &TrackFormat) -> Result<Depacketizer, String> {
    // The configuration of AAC says its channels; the SDP says nothing, or 1, or the truth.
    let channels = format.channels.filter(|_| format.encoding != "mpeg4-generic");
    let fmtp = format.fmtp.as_deref();
    let mut inner =
        Depacketizer::new("audio", &format.encoding, format.clock_rate, channels, fmtp)?;
    inner.set_frame_format(FrameFormat::MP4);
    Ok(inner)
}

/// The words of an error, without its context.
fn description(error: &retina::codec::DepacketizeError) -> String {
    let all = format!("{error:?}");
    let from = all.find("description: \"").map_or(0, |at| at + 14);
    all[from..].trim_end_matches("\" }").to_owned()
}
