//! Tests of the clip index and of the file without sound.

use proptest::prelude::*;

use super::clip_index::{ClipIndex, index};
use super::codec::TrackName;
use super::key_frame::key_frame;
use super::test_clip::{BEGIN, Second, aac_track, alaw_track, avc_track, clip, reader};
use super::{ClipFault, limits};
use crate::evidence::manifest::Manifest;

fn with_sound() -> (Manifest, Vec<u8>) {
    let seconds = [Second::at(10), Second { wall: -1_000_000, ..Second::at(11) }, Second::at(14)];
    clip(&[avc_track(), alaw_track()], &seconds)
}

fn indexed(manifest: &Manifest, bytes: &[u8]) -> ClipIndex {
    index(manifest, reader(bytes)).unwrap()
}

/// The file without sound, made from the whole file.
fn silent(index: &ClipIndex, bytes: &[u8]) -> Vec<u8> {
    index.patches.read(0..bytes.len() as u64, reader(bytes)).unwrap()
}

#[test]
fn an_index_lists_tracks_places_and_times() {
    let (manifest, bytes) = with_sound();
    let index = indexed(&manifest, &bytes);
    let codecs: Vec<_> =
        index.codecs.iter().map(|c| (c.track, c.codec.as_str(), c.width, c.height)).collect();
    let (video, audio) = (TrackName::Video, TrackName::Audio);
    assert_eq!(codecs, [(video, "avc1.4d001e", 640, 360), (audio, "alaw", 0, 0)]);
    assert_eq!(&bytes[index.init.length as usize + 4..][..4], b"uuid");
    for entry in &index.fragments {
        let range = entry.offset as usize..(entry.offset + entry.length) as usize;
        assert_eq!(&bytes[range.start + 4..range.start + 8], b"moof");
        assert!(range.end == bytes.len() || &bytes[range.end + 4..range.end + 8] == b"uuid");
    }
    let times: Vec<_> = index.fragments.iter().map(|f| (f.media_us, f.wall_us - BEGIN)).collect();
    assert_eq!(times, [(0, 0), (1_000_000, 1_000_000), (4_000_000, 4_000_000)]);
    let strays: Vec<_> = index.fragments.iter().map(|f| f.recorded_wall_us.is_some()).collect();
    assert_eq!(strays, [false, true, false], "the clock of the second record was not set");
    assert_eq!(index.gaps[0].reason, "camera_down");
    assert_eq!(index.sha256.as_deref(), Some(manifest.sha256.hex().as_str()));
}

#[test]
fn an_index_as_json_has_the_fields_of_the_contract() {
    let (manifest, bytes) = with_sound();
    let json = serde_json::to_value(indexed(&manifest, &bytes)).unwrap();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["clock", "codecs", "fragments", "from", "gaps", "init", "sha256", "to", "video_only_init"];
    assert_eq!(keys, expected);
    assert_eq!(
        json["codecs"][1],
        serde_json::json!({"track": "audio", "codec": "alaw", "width": 0, "height": 0})
    );
    assert_eq!(json["fragments"][0].as_object().unwrap().len(), 6);
    assert_eq!(json["clock"], "ntp");
}

/// `fuzz/fuzz_targets/clip_index.rs` starts from this file; its first byte is a choice.
#[test]
fn the_seed_of_the_fuzz_target_is_such_a_clip() {
    let (_, bytes) = with_sound();
    let seed = include_bytes!("../../../fuzz/seeds/clip_index/sound");
    assert!(seed.split_first() == Some((&1, &bytes[..])), "write the seed again");
}

#[test]
fn only_the_starts_of_fragments_are_read() {
    let mut seconds: Vec<Second> = (0..20).map(Second::at).collect();
    seconds.iter_mut().for_each(|second| second.video[0] = vec![7; 100_000]);
    let (manifest, bytes) = clip(&[avc_track()], &seconds);
    let mut read = 0;
    index(&manifest, |range: std::ops::Range<u64>| {
        read += range.end - range.start;
        reader(&bytes)(range)
    })
    .unwrap();
    assert!(read <= limits::INIT_MAX + 24 + 20 * limits::WINDOW, "{read} bytes were read");
}

/// Seconds with sound of one size, as G.711 has it, or of many, as AAC has it. Each sample of sound has
/// bytes of its own, which stand nowhere else in the clip.
fn noisy(sizes: [usize; 4]) -> Vec<Second> {
    let sample = |second: u64, (n, size): (usize, usize)| {
        (0..size)
            .map(|at| (0x80 + second * 37 + n as u64 * 11 + at as u64 * 7) as u8 | 0x80)
            .collect()
    };
    (0..4)
        .map(|n| {
            let sound = sizes.into_iter().enumerate().map(|part| sample(n, part)).collect();
            let video = (0..5).map(|p| vec![1 + p as u8 + n as u8 * 8; 70 + p * 9]).collect();
            Second { video, sound, ..Second::at(10 + n) }
        })
        .collect()
}

/// The places of `parts` in `bytes`.
fn places(bytes: &[u8], parts: impl Iterator<Item = Vec<u8>>) -> Vec<std::ops::Range<usize>> {
    let place = |part: Vec<u8>| {
        let at = bytes.windows(part.len()).position(|window| window == part).unwrap();
        at..at + part.len()
    };
    parts.map(place).collect()
}

#[test]
fn no_range_of_the_silent_file_has_a_byte_of_sound() {
    for (track, sizes) in [(alaw_track(), [160; 4]), (aac_track(), [171, 40, 203, 96])] {
        let seconds = noisy(sizes);
        let (manifest, bytes) = clip(&[avc_track(), track], &seconds);
        let index = indexed(&manifest, &bytes);
        let sounds = places(&bytes, seconds.iter().flat_map(|second| second.sound.clone()));
        let pictures = places(&bytes, seconds.iter().flat_map(|second| second.video.clone()));
        let whole = silent(&index, &bytes);
        assert_eq!(whole.len(), bytes.len());
        for place in &sounds {
            let found = whole[place.clone()].iter().filter(|byte| **byte != 0).count();
            assert_eq!(found, 0, "{found} bytes of sound at {place:?}");
        }
        for place in pictures {
            assert_eq!(whole[place.clone()], bytes[place.clone()], "a picture at {place:?}");
        }
        let part = |range: std::ops::Range<usize>| {
            index.patches.read(range.start as u64..range.end as u64, reader(&bytes)).unwrap()
        };
        for at in 0..bytes.len() {
            assert_eq!(part(at..at + 1), whole[at..at + 1], "byte {at}");
        }
        // Across fragments: from inside of each sound into the next fragments.
        for place in &sounds {
            let middle = place.start + place.len() / 2;
            for end in [middle + 1, place.end, middle + 700, bytes.len()] {
                let range = middle..end.min(bytes.len());
                assert_eq!(part(range.clone()), whole[range], "{middle}..{end}");
            }
        }
    }
}

#[test]
fn the_file_without_sound_keeps_lengths_and_pictures() {
    let (manifest, bytes) = with_sound();
    let whole = indexed(&manifest, &bytes);
    let without = silent(&whole, &bytes);
    assert_eq!(without.len(), bytes.len());
    let index = index(&manifest, reader(&without)).unwrap();
    assert_eq!(index.codecs.len(), 1);
    let expected = whole.video_only().unwrap();
    assert_eq!(index.fragments, expected.fragments);
    assert_eq!((index.init, expected.sha256), (whole.init, None));
    assert!(index.patches.is_empty() && index.video_only_init.is_none());
}

#[test]
fn a_fragment_of_sound_alone_is_left_out() {
    let mut seconds = [Second::at(1), Second::at(2), Second::at(3)];
    seconds[1].video.clear();
    let (manifest, bytes) = clip(&[avc_track(), alaw_track()], &seconds);
    let whole = indexed(&manifest, &bytes);
    assert_eq!(whole.fragments.len(), 3);
    assert_eq!(whole.video_only().unwrap().fragments.len(), 2);
    let without = silent(&whole, &bytes);
    let entry = &whole.fragments[1];
    let (moof, mdat) =
        (entry.offset as usize, (entry.offset + entry.length) as usize - 160 * 3 - 8);
    assert_eq!(
        (&without[moof + 4..moof + 8], &without[mdat + 4..mdat + 8]),
        (&b"free"[..], &b"free"[..])
    );
    assert!(without[moof + 8..mdat].iter().all(|byte| *byte == 0));
    assert!(without[mdat + 8..][..160 * 3].iter().all(|byte| *byte == 0));
}

#[test]
fn a_clip_without_sound_has_nothing_to_leave_out() {
    let (manifest, bytes) = clip(&[avc_track()], &[Second::at(1)]);
    let index = indexed(&manifest, &bytes);
    assert!(index.video_only_init.is_none() && silent(&index, &bytes) == bytes);
    assert_eq!(index.video_only().unwrap(), index);
    let (manifest, bytes) = clip(&[alaw_track()], &[Second { video: vec![], ..Second::at(1) }]);
    let index = indexed(&manifest, &bytes);
    assert!(
        index.video_only().is_none()
            && index.codecs.iter().any(|track| track.track == TrackName::Audio)
    );
}

#[test]
fn a_truncated_clip_is_an_error_at_every_length() {
    let (mut manifest, bytes) = with_sound();
    let starts =
        |at: usize| bytes.get(at + 4..at + 24).is_some_and(|b| &b[..15] == b"uuidtaimat-recd");
    for len in 0..bytes.len() {
        manifest.size = len as u64;
        let outcome = index(&manifest, reader(&bytes[..len]));
        let whole = starts(len) && starts(len - 1) != starts(len);
        let first = (0..len).any(starts);
        assert_eq!(outcome.is_ok(), whole && first, "{len} bytes: {outcome:?}");
    }
}

#[test]
fn a_store_that_reads_too_little_is_an_error() {
    let (manifest, bytes) = with_sound();
    let short = |range: std::ops::Range<u64>| {
        reader(&bytes)(range).map(|bytes| bytes[..bytes.len() / 2].to_vec())
    };
    assert!(matches!(index(&manifest, short), Err(ClipFault::Unreadable(_))));
}

proptest! {
    #[test]
    fn any_range_of_the_silent_file_is_a_slice_of_it(start in 0_u64..4000, len in 0_u64..4000) {
        let (manifest, bytes) = with_sound();
        let index = indexed(&manifest, &bytes);
        let whole = silent(&index, &bytes);
        let range = start.min(manifest.size)..(start + len).min(manifest.size);
        let part = index.patches.read(range.clone(), reader(&bytes)).unwrap();
        prop_assert_eq!(&part[..], &whole[range.start as usize..range.end as usize]);
    }

    #[test]
    fn damaged_clips_never_panic_and_places_stay_inside(
        damage in prop::collection::vec((0_usize..5000, any::<u8>()), 1..8), seal in any::<bool>(),
    ) {
        let (manifest, mut bytes) = with_sound();
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if seal {
            reseal(&mut bytes);
        }
        if let Ok(index) = index(&manifest, reader(&bytes)) {
            for (number, entry) in index.fragments.iter().enumerate() {
                prop_assert!(entry.offset + entry.length <= manifest.size);
                let _ = key_frame(&index, number, reader(&bytes));
            }
            silent(&index, &bytes);
        }
    }
}

/// Makes the checksums of all records right, as an attacker would.
fn reseal(bytes: &mut [u8]) {
    let is_record = |at: &usize| bytes[*at..].starts_with(b"uuidtaimat-recd");
    let places: Vec<usize> = (4..bytes.len()).filter(is_record).map(|at| at - 4).collect();
    for at in places {
        if let Some(record) = bytes.get_mut(at..at + crate::format::record::RECORD_BOX) {
            crate::format::record::seal(record, &[]);
        }
    }
}
