//! Fuzz target of the clip index: no file of a device panics, or leads outside of itself.
#![no_main]

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use taimat::evidence::manifest::Manifest;
use taimat::format::record::{RECORD_BOX, seal};
use taimat::office::media::clip_index::index;
use taimat::office::media::key_frame::key_frame;

const MANIFEST: &str = r#"{"v":1,"site":"km-17","name":"c.mp4","purpose":"clip","media_type":"video/mp4","size":0,
    "sha256":"0000000000000000000000000000000000000000000000000000000000000000","event":"e","from":"2026-09-21T14:13:20.000Z",
    "to":"2026-09-21T14:13:23.000Z","clock":"ntp","records":[1,3],"gaps":[],"part":1,"last":true}"#;

// The first byte chooses whether the checksums of all records are made right.
fuzz_target!(|data: &[u8]| {
    let Some((choice, clip)) = data.split_first() else { return };
    let mut clip = clip.to_vec();
    let is_record = |at: &usize| clip[*at..].starts_with(b"uuidtaimat-recd");
    let records: Vec<usize> = (4..clip.len()).filter(is_record).map(|at| at - 4).collect();
    for at in records.into_iter().filter(|_| choice & 1 == 1) {
        if let Some(record) = clip.get_mut(at..at + RECORD_BOX) {
            seal(record, &[]);
        }
    }
    let mut manifest: Manifest = serde_json::from_str(MANIFEST).expect("a manifest");
    manifest.size = clip.len() as u64;
    let read = |range: Range<u64>| {
        assert!(range.start <= range.end && range.end <= clip.len() as u64, "outside of the file");
        Ok(clip[range.start as usize..range.end as usize].to_vec())
    };
    let Ok(found) = index(&manifest, read) else { return };
    for number in 0..found.fragments.len().min(16) {
        let _ = key_frame(&found, number, read);
    }
    let whole = found.patches.read(0..manifest.size, read).expect("the whole file");
    let (from, to) = (manifest.size / 3, manifest.size - manifest.size / 4);
    let part = found.patches.read(from.min(to)..to, read).expect("a part");
    assert_eq!(part, whole[from.min(to) as usize..to as usize]);
});
