//! Stand-in for the RTP module until it is merged: retina's depacketizers on bare packets.
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use retina::codec::{CodecItem, Depacketizer, FrameFormat, ParametersRef};
use retina::testutil::DepacketizeBuf;

use super::quirk::QuirkCounts;
use super::track_format::TrackFormat;
use super::track_params::{audio_params, video_params};
use super::{TrackKind, TrackParams};
use crate::units::MonoTime;

pub enum Received {
    Unit(MediaUnit),
    Bad(String),
}
pub struct MediaUnit {
    pub data: Bytes,
    pub rtp_time: i64,
    pub arrival: MonoTime,
    pub key: bool,
    pub lost: u32,
    pub params: Option<Arc<TrackParams>>,
}
pub struct TrackReceiver {
    depacketizer: Depacketizer,
    buffer: DepacketizeBuf,
    format: TrackFormat,
    time: Option<i64>,
    sequence: Option<u16>,
    known: bool,
    out: VecDeque<Received>,
    quirks: QuirkCounts,
}
impl TrackReceiver {
    pub fn new(
        format: &TrackFormat,
        _: crate::settings::Transport,
    ) -> Result<TrackReceiver, String> {
        let media = if format.kind == TrackKind::Video { "video" } else { "audio" };
        let mut depacketizer = Depacketizer::new(
            media,
            &format.encoding,
            format.clock_rate,
            format.channels,
            format.fmtp.as_deref(),
        )?;
        depacketizer.set_frame_format(FrameFormat::MP4);
        let buffer = DepacketizeBuf::new(1 << 16);
        Ok(TrackReceiver {
            depacketizer,
            buffer,
            format: format.clone(),
            time: None,
            sequence: None,
            known: false,
            out: VecDeque::new(),
            quirks: QuirkCounts::default(),
        })
    }
    pub fn packet(&mut self, bytes: &[u8], arrival: MonoTime) {
        if bytes.len() < 12 {
            return;
        }
        let mut at = 12 + 4 * usize::from(bytes[0] & 15);
        if bytes[0] & 0x10 != 0 && bytes.len() >= at + 4 {
            at += 4 + 4 * usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        }
        let pad = if bytes[0] & 0x20 != 0 { usize::from(bytes[bytes.len() - 1]) } else { 0 };
        let Some(payload) = bytes.get(at..bytes.len().saturating_sub(pad)) else { return };
        let stamp = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let time = match self.time {
            Some(last) => last + i64::from(stamp.wrapping_sub(last as u32) as i32),
            None => i64::from(stamp),
        };
        self.time = Some(time);
        let sequence = u16::from_be_bytes([bytes[2], bytes[3]]);
        let loss = self.sequence.map_or(0, |last| sequence.wrapping_sub(last).wrapping_sub(1));
        let loss = if loss > 30000 { 0 } else { loss };
        self.sequence = Some(sequence);
        let meta = retina::rtp::PacketMeta {
            ctx: retina::PacketContext::dummy(),
            stream_id: 0,
            timestamp: retina::Timestamp::new(
                time,
                NonZeroU32::new(self.format.clock_rate).unwrap_or(NonZeroU32::MIN),
                0,
            )
            .unwrap(),
            sequence_number: sequence,
            ssrc: 0,
            mark: bytes[1] & 0x80 != 0,
            loss,
        };
        if let Err(why) = self.buffer.push(&mut self.depacketizer, meta, payload) {
            self.out.push_back(Received::Bad(why));
        }
        while let Some(item) = self.depacketizer.pull() {
            let unit = match item {
                Ok(CodecItem::VideoFrame(frame)) => {
                    let mut params = None;
                    if (!self.known || frame.has_new_parameters())
                        && let Some(ParametersRef::Video(video)) = self.depacketizer.parameters()
                        && let Ok(found) = video_params(video)
                    {
                        self.known = true;
                        params = Some(Arc::new(found));
                    }
                    let (key, lost, rtp_time) = (
                        frame.is_random_access_point(),
                        frame.loss().into(),
                        frame.timestamp().timestamp(),
                    );
                    MediaUnit {
                        data: frame.into_data().into(),
                        rtp_time,
                        arrival,
                        key,
                        lost,
                        params,
                    }
                }
                Ok(CodecItem::AudioFrame(frame)) => {
                    let mut params = None;
                    if !self.known
                        && let Some(ParametersRef::Audio(audio)) = self.depacketizer.parameters()
                    {
                        self.known = true;
                        params = audio_params(&self.format.encoding, audio).map(Arc::new);
                    }
                    MediaUnit {
                        data: Bytes::copy_from_slice(frame.data()),
                        rtp_time: frame.timestamp().timestamp(),
                        arrival,
                        key: true,
                        lost: frame.loss().into(),
                        params,
                    }
                }
                Ok(_) => continue,
                Err(error) => {
                    self.out.push_back(Received::Bad(format!("{error:?}")));
                    continue;
                }
            };
            self.out.push_back(Received::Unit(unit));
        }
    }
    pub fn tick(&mut self, _: MonoTime) {}
    pub fn poll(&mut self) -> Option<Received> {
        self.out.pop_front()
    }
    pub fn quirks(&self) -> &QuirkCounts {
        &self.quirks
    }
}
