//! Track parameters: turns the codec parameters of `retina` into sample entries for MP4 files.

use retina::codec::VideoParametersCodec;

use super::{CameraFault, Codec, Failure, TrackKind, TrackParams};
use crate::units::Digest;

/// Largest size of a track's parameter sets together, bytes: those of cameras have some dozens.
const SETS_MAX: usize = 4096;
/// Largest size of a sample entry without its parameter sets, bytes.
const ENTRY_MORE: usize = 512;

/// Checks the size of parameter sets. A segment head has a size limit, and a larger one could never
/// be read again.
///
/// # Errors
/// When the parameter sets are too large.
fn fits(bytes: usize) -> Result<(), Failure> {
    let why = || {
        (
            CameraFault::NoKeyFrame,
            format!(
                "parameter sets of {bytes} bytes are too large: at most {SETS_MAX} bytes are recorded"
            ),
        )
    };
    if bytes <= SETS_MAX { Ok(()) } else { Err(why()) }
}

/// The parameters of a video track.
///
/// # Errors
/// When the codec cannot be recorded.
pub(super) fn video_params(
    params: &retina::codec::VideoParameters,
) -> Result<TrackParams, Failure> {
    let (codec, sets) = match params.codec_params() {
        VideoParametersCodec::H264 { sps, pps } => (Codec::H264, vec![sps, pps]),
        VideoParametersCodec::H265 { vps, sps, pps } => (Codec::H265, vec![vps, sps, pps]),
        _ => return Err((CameraFault::NoVideo, "taimat does not record this video codec".into())),
    };
    let bytes = sets.iter().map(|set| set.len()).sum();
    fits(bytes)?;
    let annex_b =
        sets.iter().flat_map(|set| [0, 0, 0, 1].into_iter().chain(set.iter().copied())).collect();
    let built = params.mp4_sample_entry().build();
    let sample_entry =
        built.map_err(|error| (CameraFault::Protocol, format!("parameter sets: {error}")))?;
    fits(sample_entry.len().saturating_sub(ENTRY_MORE))?;
    let (width, height) = params.pixel_dimensions();
    let size =
        (u16::try_from(width).unwrap_or(u16::MAX), u16::try_from(height).unwrap_or(u16::MAX));
    let digest = Digest::of(&sample_entry);
    Ok(TrackParams {
        kind: TrackKind::Video,
        codec,
        timescale: 90_000,
        sample_entry,
        annex_b,
        size,
        digest,
    })
}

pub(super) fn audio_params(
    encoding: &str,
    params: &retina::codec::AudioParameters,
) -> Option<TrackParams> {
    let (codec, sample_entry) = match encoding {
        "mpeg4-generic" => (Codec::Aac, params.mp4_sample_entry().build().ok()?),
        "pcma" => {
            (Codec::PcmAlaw, g711_entry(b"alaw", params.clock_rate(), params.channels().get()))
        }
        "pcmu" => {
            (Codec::PcmMulaw, g711_entry(b"ulaw", params.clock_rate(), params.channels().get()))
        }
        _ => return None,
    };
    if sample_entry.len() > SETS_MAX {
        return None;
    }
    let digest = Digest::of(&sample_entry);
    let (kind, timescale) = (TrackKind::Audio, params.clock_rate());
    Some(TrackParams {
        kind,
        codec,
        timescale,
        sample_entry,
        annex_b: Vec::new(),
        size: (0, 0),
        digest,
    })
}

/// An `AudioSampleEntry` (ISO/IEC 14496-12 12.2.3) for G.711, with the type names of QuickTime.
fn g711_entry(name: &[u8; 4], rate: u32, channels: u16) -> Vec<u8> {
    let mut entry = Vec::with_capacity(36);
    entry.extend(36_u32.to_be_bytes());
    entry.extend(name);
    entry.extend([0, 0, 0, 0, 0, 0, 0, 1]);
    entry.extend([0; 8]);
    entry.extend(channels.to_be_bytes());
    entry.extend(16_u16.to_be_bytes());
    entry.extend([0; 4]);
    entry.extend((rate << 16).to_be_bytes());
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_over_4_kib_are_rejected() {
        assert_eq!(fits(4096), Ok(()));
        assert!(
            matches!(fits(4097), Err((CameraFault::NoKeyFrame, detail)) if detail.contains("4097 bytes"))
        );
    }
}
