//! Audio track: the frames of AAC (RFC 3640, high bit rate) and G.711.

use std::collections::VecDeque;
use std::sync::Arc;

use super::depacketizer::AudioDepacketizer;
use super::limits::OUT_MAX;
use super::source::Ordered;
use super::{MediaUnit, Received, Unwrap};
use crate::camera::TrackParams;
use crate::camera::track_format::TrackFormat;

/// The packets of an audio track as frames.
pub(super) struct Audio {
    depacketizer: AudioDepacketizer,
    params: Option<Arc<TrackParams>>,
    pub(super) out: VecDeque<Received>,
    unwrap: Unwrap,
    is_aac: bool,
    /// The AAC frame that comes in fragments.
    fragments: Option<Fragments>,
    lost: u32,
}

/// An AAC frame of which some fragments came.
struct Fragments {
    time: i64,
    /// Bytes of the whole frame.
    size: usize,
    /// Bytes so far.
    bytes: usize,
}

impl Audio {
    pub(super) fn new(format: &TrackFormat) -> Result<Audio, String> {
        let is_aac = format.encoding == "mpeg4-generic";
        if is_aac {
            check_aac(format.fmtp.as_deref().unwrap_or_default())?;
        }
        if !matches!(format.encoding.as_str(), "mpeg4-generic" | "pcma" | "pcmu") {
            return Err(format!("taimat does not record {} audio", format.encoding));
        }
        let (depacketizer, params) = AudioDepacketizer::new(format)?;
        Ok(Audio {
            depacketizer,
            params: Some(Arc::new(params)),
            out: VecDeque::new(),
            unwrap: Unwrap::default(),
            is_aac,
            fragments: None,
            lost: 0,
        })
    }

    pub(super) fn packet(&mut self, packet: &Ordered<'_>) {
        let time = self.unwrap.next(packet.time);
        let mut broken = packet.lost > 0 || packet.jumped;
        self.lost = self.lost.saturating_add(packet.lost);
        if broken {
            self.fragments = None;
        }
        if packet.payload.is_empty() {
            return;
        }
        let marker = !self.is_aac || self.ends_frame(packet.payload, time, &mut broken);
        let (out, lost, params) = (&mut self.out, &mut self.lost, &mut self.params);
        let result = self.depacketizer.payload(
            packet.payload,
            (time, marker, broken),
            |(data, rtp_time)| {
                if out.len() >= OUT_MAX {
                    *lost = lost.saturating_add(1);
                    return;
                }
                out.push_back(Received::Unit(MediaUnit {
                    data,
                    rtp_time,
                    arrival: packet.arrival,
                    key: true,
                    lost: std::mem::take(lost),
                    params: params.take(),
                }));
            },
        );
        if let Err(why) = result {
            self.fragments = None;
            self.lost = self.lost.saturating_add(1);
            if self.out.len() < OUT_MAX {
                self.out.push_back(Received::Bad(format!("audio packet: {why}")));
            }
        }
    }

    /// Whether an AAC packet ends a frame, by its sizes: cameras set the marker bit as they like.
    /// A frame whose other fragments do not come is dropped; `broken` is true then.
    fn ends_frame(&mut self, payload: &[u8], time: i64, broken: &mut bool) -> bool {
        let (size, bytes) = match payload {
            [0, 16, high, low, data @ ..] => {
                (usize::from(u16::from_be_bytes([*high, *low]) >> 3), data.len())
            }
            _ => (0, 0),
        };
        let before = self.fragments.take().filter(|open| {
            let goes_on = open.size == size && open.time == time;
            if !goes_on {
                *broken = true;
                self.lost = self.lost.saturating_add(1);
            }
            goes_on
        });
        let bytes = bytes + before.map_or(0, |open| open.bytes);
        if bytes < size {
            self.fragments = Some(Fragments { time, size, bytes });
        }
        bytes >= size
    }
}

/// Accepts the one mode of RFC 3640 that is recorded.
fn check_aac(fmtp: &str) -> Result<(), String> {
    let mode =
        fmtp.split(';').filter_map(|part| part.trim().split_once('=')).find_map(|(key, value)| {
            key.trim().eq_ignore_ascii_case("mode").then(|| value.trim().to_owned())
        });
    match mode {
        Some(mode) if !mode.eq_ignore_ascii_case("aac-hbr") => Err(format!(
            "the camera sends AAC in mode {mode}; taimat records AAC-hbr alone: choose AAC or G.711"
        )),
        _ => Ok(()),
    }
}
