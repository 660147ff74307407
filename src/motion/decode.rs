//! Access unit in, picture out: the decoders behind one small trait, and the eye that survives what they meet.
//!
//! What belongs here: choosing and feeding a decoder, starting again at a key frame, picture order. What does not: when to
//! look, what is in the picture. A hardware decoder would be one more [`PictureDecoder`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rust_h264::nal::{NalUnitType, parse_annex_b, parse_avcc, parse_sps_info};

use super::picture::{MAX_PIXELS, Picture, SharedPicture};
use crate::camera::{Codec, Frame, TrackParams};
use crate::units::Stamp;

/// Most pictures held back to bring B-pictures into order: H.264 and H.265 allow 16, cameras use none or 2, and each one
/// costs a frame of latency and up to 14 MB.
const MAX_REORDER: usize = 4;
/// Memory one H.265 picture's own tables may take, in bytes: what 4096x2304 needs, with room.
const H265_PICTURE_BYTES: u64 = 192 << 20;

/// Why an access unit gave no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFault {
    /// The bits are damaged or use what the decoder cannot do.
    #[error("the decoder refused the picture: {0}")]
    Refused(String),
    /// The decoder itself fell over.
    #[error("the decoder panicked on the picture")]
    Panicked,
    /// Not a codec for pictures.
    #[error("no decoder for {0}")]
    NoDecoder(&'static str),
}

/// A decoder of one stream.
pub trait PictureDecoder: Send {
    /// Takes parameter sets as Annex B.
    ///
    /// # Errors
    /// When they are damaged or describe a picture that is too large.
    fn parameters(&mut self, annex_b: &[u8]) -> Result<(), DecodeFault>;
    /// Decodes one access unit (NAL units behind 4-byte lengths); `None` when it held no whole picture. Decoding order.
    ///
    /// # Errors
    /// When the bits are damaged or unsupported. The decoder must then be thrown away.
    fn decode(&mut self, unit: &[u8]) -> Result<Option<Picture>, DecodeFault>;
}

fn refused(why: impl ToString) -> DecodeFault {
    DecodeFault::Refused(why.to_string())
}

/// H.264 through `rust_h264`: it knows interlace, 4:2:2, ten bits and every profile cameras send.
struct H264 {
    decoder: rust_h264::decoder::Decoder,
    interlaced: bool,
}

impl H264 {
    fn feed(&mut self, nals: &[rust_h264::nal::NalUnit<'_>]) -> Result<Option<Picture>, DecodeFault> {
        let mut last = None;
        for nal in nals {
            if nal.nal_unit_type == NalUnitType::Sps {
                self.admit(nal)?;
            }
            last = self.decoder.decode_nal(nal).map_err(refused)?.or(last);
        }
        // The decoder hands out a picture when the next begins; an access unit is whole, so ask at once and save a frame of
        // latency. Two fields may come in two units, and asking between them would give half a picture.
        if !self.interlaced {
            last = self.decoder.flush().or(last);
        }
        last.map(picture_of_h264).transpose()
    }

    /// Refuses pictures that are too large before the decoder makes room for them.
    fn admit(&mut self, nal: &rust_h264::nal::NalUnit<'_>) -> Result<(), DecodeFault> {
        let info = parse_sps_info(nal).map_err(refused)?;
        self.interlaced = !info.progressive;
        if u64::from(info.coded_width) * u64::from(info.coded_height) > MAX_PIXELS {
            return Err(refused(format!("{}x{} is larger than {MAX_PIXELS} pixels", info.coded_width, info.coded_height)));
        }
        Ok(())
    }
}

impl PictureDecoder for H264 {
    fn parameters(&mut self, annex_b: &[u8]) -> Result<(), DecodeFault> {
        self.feed(&parse_annex_b(annex_b)).map(|_| ())
    }

    fn decode(&mut self, unit: &[u8]) -> Result<Option<Picture>, DecodeFault> {
        self.feed(&parse_avcc(unit, 4))
    }
}

fn picture_of_h264(frame: rust_h264::decoder::Frame) -> Result<Picture, DecodeFault> {
    let chroma = (frame.chroma_width() as usize, frame.chroma_height() as usize);
    let size = (frame.width as usize, frame.height as usize);
    let depth = frame.bit_depth;
    let eight = |plane: Vec<u8>| if depth > 8 { ten_bit_pairs(&plane, depth) } else { plane };
    Picture::new(size, chroma, [eight(frame.y), eight(frame.u), eight(frame.v)]).map_err(refused)
}

/// Little-endian 16-bit samples of `depth` bits, to 8 bits.
fn ten_bit_pairs(plane: &[u8], depth: u8) -> Vec<u8> {
    plane.chunks_exact(2).map(|pair| (u16::from_le_bytes([pair[0], pair[1]]) >> (depth - 8)).min(255) as u8).collect()
}

/// H.265 through `rust_h265`, on one thread: the board's other cores belong to the recording and the operating system.
struct H265 {
    decoder: rust_h265::Decoder,
}

impl H265 {
    fn feed(&mut self, nals: &[rust_h265::NalUnit<'_>]) -> Result<Option<Picture>, DecodeFault> {
        let mut last = None;
        for nal in nals {
            last = self.decoder.decode_nal(nal).map_err(refused)?.or(last);
        }
        while let Some(frame) = self.decoder.flush() {
            last = Some(frame);
        }
        last.map(picture_of_h265).transpose()
    }
}

impl PictureDecoder for H265 {
    fn parameters(&mut self, annex_b: &[u8]) -> Result<(), DecodeFault> {
        self.feed(&rust_h265::parse_annex_b(annex_b)).map(|_| ())
    }

    fn decode(&mut self, unit: &[u8]) -> Result<Option<Picture>, DecodeFault> {
        self.feed(&rust_h265::parse_hvcc(unit, 4))
    }
}

fn picture_of_h265(frame: rust_h265::Frame) -> Result<Picture, DecodeFault> {
    let size = (frame.width as usize, frame.height as usize);
    // ITU-T H.265 table 6-1: SubWidthC and SubHeightC.
    let chroma = match frame.chroma_format_idc {
        1 => (size.0 / 2, size.1 / 2),
        2 => (size.0 / 2, size.1),
        3 => size,
        other => return Err(refused(format!("chroma format {other}"))),
    };
    let shift = frame.bit_depth.saturating_sub(8).min(8);
    let eight = |plane: rust_h265::PixelData| match plane {
        rust_h265::PixelData::U8(samples) => samples,
        rust_h265::PixelData::U16(samples) => samples.iter().map(|&s| (s >> shift).min(255) as u8).collect(),
    };
    Picture::new(size, chroma, [eight(frame.y), eight(frame.u), eight(frame.v)]).map_err(refused)
}

fn decoder_for(codec: Codec) -> Result<Box<dyn PictureDecoder>, DecodeFault> {
    let limits = rust_h265::DecodeLimits { max_picture_pixels: MAX_PIXELS, max_picture_memory_bytes: H265_PICTURE_BYTES };
    match codec {
        Codec::H264 => Ok(Box::new(H264 { decoder: rust_h264::decoder::Decoder::new(), interlaced: false })),
        Codec::H265 => Ok(Box::new(H265 { decoder: rust_h265::Decoder::with_limits(limits) })),
        other => Err(DecodeFault::NoDecoder(other.word())),
    }
}

/// Decodes the frames of one camera, whatever they hold: begins at a key frame, begins again after damage, a new run or new
/// parameter sets, and brings B-pictures into order.
#[derive(Default)]
pub struct Eye {
    decoder: Option<Box<dyn PictureDecoder>>,
    params: Option<Arc<TrackParams>>,
    run: Option<u32>,
    order: Order,
}

impl Eye {
    /// Forgets the decoder: the next picture comes from a key frame.
    pub fn reset(&mut self) {
        self.decoder = None;
    }

    /// Decodes one frame; gives the pictures that are ready, in the order they were taken. Frames before a key frame give
    /// none and are no fault.
    ///
    /// # Errors
    /// What the decoder said. Decoding then resumes at the next key frame.
    pub fn decode(&mut self, frame: &Frame) -> Result<Option<(SharedPicture, Stamp)>, DecodeFault> {
        if self.run != Some(frame.run) || self.params.as_ref().is_none_or(|p| p.digest != frame.params.digest) {
            self.run = Some(frame.run);
            self.params = Some(frame.params.clone());
            self.order = Order::default();
            self.reset();
        }
        // A hole in the references would smear through the rest of the group of pictures and look like motion.
        if frame.lost > 0 && !frame.key {
            self.reset();
        }
        if self.decoder.is_none() && !frame.key {
            return Ok(None);
        }
        let picture = match catch_unwind(AssertUnwindSafe(|| self.feed(frame))) {
            Ok(Ok(picture)) => picture,
            Ok(Err(fault)) => return Err(self.give_up(fault)),
            Err(_) => return Err(self.give_up(DecodeFault::Panicked)),
        };
        Ok(picture.and_then(|picture| self.order.next(Arc::new(picture), frame.at)))
    }

    fn feed(&mut self, frame: &Frame) -> Result<Option<Picture>, DecodeFault> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => {
                let mut fresh = decoder_for(frame.params.codec)?;
                fresh.parameters(&frame.params.annex_b)?;
                none.insert(fresh)
            }
        };
        decoder.decode(&frame.data)
    }

    fn give_up(&mut self, fault: DecodeFault) -> DecodeFault {
        self.reset();
        fault
    }
}

/// Whether nothing else refers to this access unit, so that it need not be decoded when nobody looks at it.
/// (ITU-T H.264 7.4.1 `nal_ref_idc`; H.265 7.4.2.2 table 7-1, the even types below 16 are sub-layer non-reference.)
pub fn is_disposable(codec: Codec, unit: &[u8]) -> bool {
    let mut slices = 0;
    let mut rest = unit;
    while let [a, b, c, d, tail @ ..] = rest {
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (Some(&header), Some(next)) = (tail.first(), tail.get(len..)) else { return false };
        rest = next;
        let (is_slice, refers) = match codec {
            Codec::H264 => (matches!(header & 31, 1..=5), header & 0x60 != 0),
            // Only in the highest temporal layer is such a picture surely unused; so never skip H.265.
            _ => (header >> 1 & 63 < 32, true),
        };
        if is_slice && refers {
            return false;
        }
        slices += u32::from(is_slice);
    }
    slices > 0
}

/// Brings pictures from decoding order into the order they were taken. Cameras send no B-pictures, so it holds nothing back
/// until one comes out of order, and then only as many as that stream needs.
#[derive(Default)]
struct Order {
    depth: usize,
    held: Vec<(SharedPicture, Stamp)>,
    last: Option<Stamp>,
}

impl Order {
    fn next(&mut self, picture: SharedPicture, at: Stamp) -> Option<(SharedPicture, Stamp)> {
        if self.last.is_some_and(|last| at.mono <= last.mono) {
            // Too late: its successors are out already. Wait longer from now on.
            self.depth = (self.depth + 1).min(MAX_REORDER);
            return None;
        }
        let place = self.held.partition_point(|(_, held)| held.mono <= at.mono);
        self.held.insert(place, (picture, at));
        if self.held.len() <= self.depth {
            return None;
        }
        let (picture, at) = self.held.remove(0);
        self.last = Some(at);
        Some((picture, at))
    }
}
