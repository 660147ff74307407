//! Video track: pictures of the codec that comes, which need not be that of the SDP.

use super::limits::OTHER_CODEC_MIN;
use super::parameter_sets::ParameterSets;
use super::payload::{Piece, pieces};
use super::pictures::Pictures;
use super::source::Ordered;
use super::{Received, Unwrap};
use crate::camera::Codec;
use crate::camera::quirk::{Quirk, QuirkCounts};
use crate::camera::track_format::TrackFormat;
use crate::settings::Transport;

/// The packets of a video track as access units.
pub(super) struct Video {
    pub(super) pictures: Pictures,
    codec: Codec,
    tcp: bool,
    unwrap: Unwrap,
    other: Option<OtherCodec>,
    /// Quirks of the track itself, and of the pictures of a codec that was left.
    quirks: QuirkCounts,
}

/// Watches for the other codec until the first picture came out.
struct OtherCodec {
    codec: Codec,
    sets: ParameterSets,
    packets: u32,
}

impl Video {
    pub(super) fn new(format: &TrackFormat, transport: Transport) -> Result<Video, String> {
        let tcp = transport == Transport::Tcp;
        let (codec, other) = match format.encoding.as_str() {
            "h264" => (Codec::H264, Codec::H265),
            "h265" => (Codec::H265, Codec::H264),
            name => return Err(format!("taimat does not record {name} video")),
        };
        let sets = ParameterSets::new(codec, format.fmtp.as_deref());
        let mut quirks = QuirkCounts::default();
        if sets.are_unknown() {
            quirks.note(Quirk::SetsMissing);
        }
        let unknown = ParameterSets::new(other, None);
        Ok(Video {
            pictures: Pictures::new(codec, sets, tcp)?,
            codec,
            tcp,
            unwrap: Unwrap::default(),
            other: Some(OtherCodec { codec: other, sets: unknown, packets: 0 }),
            quirks,
        })
    }

    pub(super) fn packet(&mut self, packet: &Ordered<'_>) {
        if self.other.is_some() {
            self.watch_other(packet.payload);
        }
        let time = self.unwrap.next(packet.time);
        self.pictures.packet(packet, time);
    }

    pub(super) fn quirks(&self, sum: &mut QuirkCounts) {
        sum.add(&self.quirks);
        sum.add(&self.pictures.quirks);
    }

    fn watch_other(&mut self, payload: &[u8]) {
        if self.pictures.out.iter().any(|out| matches!(out, Received::Unit(_))) {
            self.other = None;
            return;
        }
        let Some(other) = &mut self.other else { return };
        if !looks_like(other.codec, payload) {
            return;
        }
        other.packets = other.packets.saturating_add(1);
        let _ = pieces(other.codec, payload, |piece| {
            if let Piece::Whole(nal) = piece
                && let Some(kind) = set_kind(other.codec, nal)
            {
                let _ = other.sets.offer(kind, nal);
            }
        });
        let (sent, promised) = (other.codec.as_str(), self.codec.as_str());
        if other.sets.resolve() == Ok(true) {
            let Some(other) = self.other.take() else { return };
            if let Ok(pictures) = Pictures::new(other.codec, other.sets, self.tcp) {
                self.quirks.add(&self.pictures.quirks);
                self.quirks.note(Quirk::OtherCodec);
                self.pictures = pictures;
                self.codec = other.codec;
            }
        } else if other.packets == OTHER_CODEC_MIN {
            let why = format!(
                "the camera seems to send {sent}, while its SDP says {promised}; without parameter \
                 sets in the stream it cannot be recorded"
            );
            self.pictures.out.push_back(Received::Bad(why));
        }
    }
}

/// True for a payload that this codec has often, and the other one never.
fn looks_like(codec: Codec, payload: &[u8]) -> bool {
    let Some(head) = payload.first_chunk::<2>() else { return false };
    match codec {
        Codec::H265 => {
            let kind = head[0] >> 1;
            head[0] & 0x81 == 0
                && head[1] == 1
                && matches!(kind, 0 | 1 | 19..=21 | 32..=35 | 39 | 40 | 48 | 49)
        }
        // What H.265 calls 47 and above is free in it, or its layer is not 0.
        _ => matches!(
            head[0],
            0x67 | 0x68 | 0x65 | 0x61 | 0x41 | 0x27 | 0x28 | 0x25 | 0x7c | 0x5c | 0x78
        ),
    }
}

/// The kind of a parameter set, for NAL units that are one beyond doubt.
pub(super) fn set_kind(codec: Codec, nal: &[u8]) -> Option<usize> {
    match (codec, nal) {
        (Codec::H265, [head @ (0x40 | 0x42 | 0x44), 1, ..]) => Some(usize::from(head >> 1) - 32),
        (Codec::H264, [0x27 | 0x47 | 0x67, 66 | 77 | 88 | 100 | 110 | 122 | 244, ..]) => Some(1),
        (Codec::H264, [0x28 | 0x48 | 0x68, ..]) => Some(2),
        _ => None,
    }
}
