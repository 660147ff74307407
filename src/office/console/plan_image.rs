//! The image of the plan: decoded and encoded again, so that only pixels are left of what a user
//! sent. Pure; it blocks for up to a few seconds.

use std::io::Cursor;

use jpeg_encoder::{ColorType as JpegColor, Encoder};
use png::{Decoder, Limits, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Pixels at most: a scan of A3 at 300 dpi has 17.4 million. Decoded they have 80 MB.
const PIXELS_MAX: u64 = 20_000_000;
/// Pixels of a side at most: a strip map is long.
const SIDE_MAX: u64 = 16_384;
/// Scans of a progressive JPEG at most: each goes over all pixels; an encoder makes 10.
const SCANS_MAX: usize = 32;
/// Bytes that the PNG decoder keeps beside the pixels at most.
const PNG_BYTES_MAX: usize = 8 << 20;
/// Quality of a JPEG that is encoded again: lines of a plan stay sharp.
const QUALITY: u8 = 90;

/// Why an image is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageFault {
    /// Too many pixels.
    #[error(
        "the image has {width}x{height} pixels; at most {PIXELS_MAX} in all and {SIDE_MAX} a side: make it smaller"
    )]
    TooLarge {
        /// Pixels.
        width: u64,
        /// Pixels.
        height: u64,
    },
    /// It cannot be decoded.
    #[error("the image cannot be read: {0}")]
    Unreadable(String),
}

/// Types of images that are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageType {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
}

impl ImageType {
    /// The type of a content type; `None` for another one.
    pub fn parse(content_type: &str) -> Option<ImageType> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "image/jpeg" => Some(ImageType::Jpeg),
            "image/png" => Some(ImageType::Png),
            _ => None,
        }
    }

    /// Its content type.
    pub fn as_str(self) -> &'static str {
        match self {
            ImageType::Jpeg => "image/jpeg",
            ImageType::Png => "image/png",
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> ImageFault {
    ImageFault::Unreadable(error.to_string())
}

/// Refuses an image by its head, before memory for its pixels is taken.
fn check(width: u64, height: u64) -> Result<(), ImageFault> {
    let fits = width.max(height) <= SIDE_MAX && width.saturating_mul(height) <= PIXELS_MAX;
    if fits { Ok(()) } else { Err(ImageFault::TooLarge { width, height }) }
}

/// The image with nothing but its pixels: no EXIF, no text, no profile, no bytes behind its end.
///
/// # Errors
/// It has too many pixels, or is no image of its type.
pub fn clean(image: ImageType, bytes: &[u8]) -> Result<Vec<u8>, ImageFault> {
    match image {
        ImageType::Jpeg => jpeg(bytes),
        ImageType::Png => png(bytes),
    }
}

fn jpeg(bytes: &[u8]) -> Result<Vec<u8>, ImageFault> {
    let options = DecoderOptions::new_safe()
        .set_max_width(SIDE_MAX as usize)
        .set_max_height(SIDE_MAX as usize)
        .jpeg_set_max_scans(SCANS_MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    // Any size may stand in the head: the refusal names it.
    let any = options.set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut head = JpegDecoder::new_with_options(Cursor::new(bytes), any);
    head.decode_headers().map_err(unreadable)?;
    let info = head.info().ok_or_else(|| unreadable("no size"))?;
    check(info.width.into(), info.height.into())?;
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    let pixels = decoder.decode().map_err(unreadable)?;
    let mut out = Vec::new();
    let encoder = Encoder::new(&mut out, QUALITY);
    encoder.encode(&pixels, info.width, info.height, JpegColor::Rgb).map_err(unreadable)?;
    Ok(out)
}

fn png(bytes: &[u8]) -> Result<Vec<u8>, ImageFault> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: PNG_BYTES_MAX });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let head = decoder.read_header_info().map_err(unreadable)?;
    check(head.width.into(), head.height.into())?;
    let mut reader = decoder.read_info().map_err(unreadable)?;
    let size = reader.output_buffer_size().ok_or_else(|| unreadable("no size"))?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(unreadable)?;
    pixels.truncate(frame.buffer_size());
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, frame.width, frame.height);
    encoder.set_color(frame.color_type);
    encoder.set_depth(frame.bit_depth);
    let mut writer = encoder.write_header().map_err(unreadable)?;
    writer.write_image_data(&pixels).map_err(unreadable)?;
    writer.finish().map_err(unreadable)?;
    Ok(out)
}

/// A small JPEG for tests.
#[cfg(test)]
pub(crate) fn test_jpeg() -> Vec<u8> {
    let pixels: Vec<u8> = (0..32 * 20 * 3).map(|n| (n * 7 % 251) as u8).collect();
    let mut out = Vec::new();
    Encoder::new(&mut out, 95).encode(&pixels, 32, 20, JpegColor::Rgb).unwrap();
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A PNG of these pixels with a text and bytes behind its end.
    fn test_png(width: u32, height: u32, color: png::ColorType, pixels: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, width, height);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.add_text_chunk("Comment".into(), "SECRET place".into()).unwrap();
        encoder.add_ztxt_chunk("GPS".into(), "SECRET".repeat(100)).unwrap();
        encoder.write_header().unwrap().write_image_data(pixels).unwrap();
        out.extend(b"<script>SECRET</script>");
        out
    }

    fn has(bytes: &[u8], part: &[u8]) -> bool {
        bytes.windows(part.len()).any(|window| window == part)
    }

    /// A JPEG with EXIF, a comment, and bytes behind its end.
    fn laden_jpeg() -> Vec<u8> {
        let plain = test_jpeg();
        let mut laden = plain[..2].to_vec();
        for (marker, text) in [(0xe1_u8, &b"Exif\0\0SECRET GPS"[..]), (0xfe, b"SECRET comment")] {
            laden.extend([0xff, marker]);
            laden.extend((text.len() as u16 + 2).to_be_bytes());
            laden.extend(text);
        }
        laden.extend(&plain[2..]);
        laden.extend(b"PK\x03\x04 SECRET archive");
        laden
    }

    #[test]
    fn only_pixels_are_left_of_an_image() {
        let laden = laden_jpeg();
        let out = clean(ImageType::Jpeg, &laden).unwrap();
        assert!(has(&laden, b"SECRET") && !has(&out, b"SECRET") && !has(&out, b"Exif"));
        assert!(out.starts_with(b"\xff\xd8\xff") && out.ends_with(b"\xff\xd9"));
        let pixels: Vec<u8> = (0..9 * 5 * 3).map(|n| (n * 5) as u8).collect();
        let laden = test_png(9, 5, png::ColorType::Rgb, &pixels);
        let out = clean(ImageType::Png, &laden).unwrap();
        assert!(has(&laden, b"tEXt") && has(&laden, b"SECRET"));
        assert!(!has(&out, b"SECRET") && !has(&out, b"tEXt") && !has(&out, b"zTXt"));
        let mut reader = Decoder::new(Cursor::new(&out[..])).read_info().unwrap();
        let mut again = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut again).unwrap();
        assert_eq!(again, pixels, "a PNG keeps each pixel");
    }

    #[test]
    fn an_image_of_too_many_pixels_is_refused_by_its_head() {
        // 30,000 x 30,000 pixels of one colour: 2.7 GB from a few bytes.
        let mut bomb = test_png(2, 2, png::ColorType::Rgb, &[0; 12]);
        bomb[16..20].copy_from_slice(&30_000_u32.to_be_bytes());
        bomb[20..24].copy_from_slice(&30_000_u32.to_be_bytes());
        let crc = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        let fault = clean(ImageType::Png, &bomb).unwrap_err();
        assert_eq!(fault, ImageFault::TooLarge { width: 30_000, height: 30_000 });
        let mut bomb = test_jpeg();
        let at = bomb.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
        bomb[at + 5..at + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
        let fault = clean(ImageType::Jpeg, &bomb).unwrap_err();
        assert_eq!(fault, ImageFault::TooLarge { width: 60_000, height: 60_000 });
        assert!(check(5_000, 4_000).is_ok() && check(5_000, 4_001).is_err());
        assert!(check(SIDE_MAX + 1, 1).is_err());
    }

    /// CRC-32 of a PNG chunk (ISO/IEC 15948 annex D).
    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
            })
        };
        !bytes.iter().fold(u32::MAX, step)
    }

    #[test]
    fn what_is_no_image_of_its_type_is_refused() {
        let png = test_png(2, 2, png::ColorType::Rgb, &[7; 12]);
        for (image, bytes) in [
            (ImageType::Jpeg, &png[..]),
            (ImageType::Png, &test_jpeg()[..]),
            (ImageType::Jpeg, b"\xff\xd8\xffan image"),
            (ImageType::Png, b"\x89PNG\r\n\x1a\n"),
            (ImageType::Png, b""),
            (ImageType::Jpeg, b"<svg onload='x'/>"),
        ] {
            assert!(matches!(clean(image, bytes), Err(ImageFault::Unreadable(_))), "{bytes:?}");
        }
        assert_eq!(ImageType::parse("image/png; charset=x"), Some(ImageType::Png));
        assert_eq!(ImageType::parse("image/svg+xml"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_images_never_panic(
            damage in prop::collection::vec((any::<u16>(), any::<u8>()), 1..6), cut in any::<u16>(),
        ) {
            let png = test_png(9, 5, png::ColorType::Rgba, &[9; 9 * 5 * 4]);
            for (image, whole) in [(ImageType::Png, png), (ImageType::Jpeg, laden_jpeg())] {
                let mut bytes = whole;
                for (at, byte) in &damage {
                    let at = usize::from(*at) % bytes.len();
                    bytes[at] = *byte;
                }
                bytes.truncate(usize::from(cut) % bytes.len() + 1);
                let _ = clean(image, &bytes);
            }
        }
    }
}
