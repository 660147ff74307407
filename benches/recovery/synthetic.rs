//! Synthetic ring of 128 GB in sparse files: valid heads and records, mostly without samples.
//!
//! The engine records the newest file with real samples.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use taimat::format::block::{free_block, padded};
use taimat::format::card_id::CardId;
use taimat::format::record::{MARK, RECORD_BOX, RingRecord};
use taimat::format::segment_head::{RecordInventory, SegmentHead, head_digest};
use taimat::settings::{StorageSettings, parse};
use taimat::storage::disk::{FileId, RealDisk};
use taimat::storage::engine::Engine;
use taimat::storage::head_selection::read_head;
use taimat::storage::scan::{ScanDepth, ScanItem, walk};
use taimat::units::{Boot, ClockQuality, Digest, MonoTime, Timestamp, WallTime};

use crate::footage::{FPS, Footage};

/// Number of segment files.
pub const FILES: u32 = 8192;
/// Size of a segment file, bytes.
const SIZE: u64 = 16 << 20;
/// Bit rate, bits a second.
const RATE: u64 = 2_000_000;
/// Bytes at the start of a file that [`Synthetic::solidify`] fills: the kernel's read-ahead of a
/// head.
const SOLID: usize = 128 << 10;
/// Size of a record of one second, bytes: its box, a `moof` of 25 frames, the samples.
const RECORD: usize = RECORD_BOX + 508 + (RATE / 8) as usize;

/// The synthetic ring.
pub struct Synthetic {
    /// Its directory.
    pub dir: PathBuf,
    /// Bytes that a tear destroys: file, offset of the record's second half, length.
    torn: Option<(u32, u64, Vec<u8>)>,
}

pub fn settings(dir: &Path) -> StorageSettings {
    let text = format!(
        "site = \"bench\"\ncamera.main_url = \"rtsp://x/\"\nuplink.host = \"localhost\"\n[storage]\ndir = {dir:?}\nbudget = \"{} GiB\"\n",
        (u64::from(FILES) * SIZE) >> 30
    );
    parse::parse(&text, &|_| Err("none".into())).unwrap().storage
}

impl Synthetic {
    /// Creates all files in their first lap; the last one is unused.
    pub fn new(dir: &Path) -> Synthetic {
        std::fs::create_dir(dir).unwrap();
        let (tracks, zeros) =
            (vec![Footage::new(RATE, None).params()], vec![0; RECORD - RECORD_BOX]);
        let (mut seq, mut previous) = (1, Digest::default());
        for segment in 0..FILES {
            let file = File::create(dir.join(FileId::Segment(segment).name())).unwrap();
            file.set_len(SIZE).unwrap();
            if segment == FILES - 1 {
                break;
            }
            let (size, lap, boot, tracks) = (SIZE, segment + 1, Boot(1), tracks.clone());
            let (first_seq, start, media) = (seq, stamp(seq), seq * 1_000_000);
            let (layout, inventory) = (head_digest(&tracks), RecordInventory::default());
            let card = CardId::default();
            let head = SegmentHead {
                card,
                segment,
                lap,
                boot,
                first_seq,
                previous,
                start,
                media,
                size,
                tracks,
                inventory,
            };
            let (bytes, end) = (head.encode(), head.end());
            file.write_all_at(&bytes, 0).unwrap();
            file.write_all_at(&head.encode_copy(), end).unwrap();
            let mut at = bytes.len() as u64;
            while at + padded(RECORD as u64) <= end {
                // Only the newest file is read with its samples, so only its last record needs a
                // valid end.
                let content: &[u8] = if segment == FILES - 2 { &zeros } else { &[] };
                let record = RingRecord { head: layout, ..record(seq, lap, previous) };
                file.write_all_at(&record.encode(content), at).unwrap();
                previous = record.link();
                seq += 1;
                at += padded(RECORD as u64);
            }
            file.write_all_at(&free_block(end - at), at).unwrap();
        }
        Synthetic { dir: dir.to_owned(), torn: None }
    }

    /// Records with the engine until `segment` reaches its fill level, then stops as at a power
    /// cut;
    /// returns a description of the fill level.
    pub fn fill(&mut self, segment: u32, part: f64) -> String {
        let disk = Arc::new(RealDisk::open(&self.dir, false).unwrap());
        let (mut engine, _) =
            Engine::open(disk, &settings(&self.dir), Timestamp::default()).unwrap();
        let (mut footage, mut out) = (Footage::new(RATE, Some(2 * FPS as usize)), Vec::new());
        loop {
            footage.by_ref().take(FPS as usize).for_each(|frame| engine.frame(&frame, &mut out));
            let Some((at, records)) = self.records(segment) else { continue };
            if at as f64 >= part * SIZE as f64 {
                let percent = at as f64 * 100.0 / SIZE as f64;
                return format!(
                    "{} records, {percent:.0} % full, {}",
                    records.len(),
                    footage.words
                );
            }
        }
    }

    /// End of the records of a file that the engine recorded, and the records.
    fn records(&self, segment: u32) -> Option<(u64, Vec<(u64, RingRecord)>)> {
        let disk = RealDisk::open_read_only(&self.dir).unwrap();
        let head =
            read_head(&disk, segment, SIZE).unwrap().filter(|found| found.head.lap >= FILES)?;
        let walked = walk(&disk, &head, ScanDepth::Records).unwrap();
        let record = |found| {
            if let ScanItem::Record(at, record) = found { Some((at, record)) } else { None }
        };
        Some((walked.at, walked.found.into_iter().filter_map(record).collect()))
    }

    /// Tears the last record of file 0: its second half and the `free` header after it are absent.
    /// A
    /// second call tears it again after recovery has repaired it.
    pub fn tear(&mut self) {
        if self.torn.is_none() {
            let (end, records) = self.records(0).unwrap();
            let (at, _) = records.last().unwrap();
            let mut whole = vec![0; (end - at) as usize + 4096];
            self.file(0).read_exact_at(&mut whole, *at).unwrap();
            let half = whole.len() / 2;
            whole[half..].fill(0);
            self.torn = Some((0, *at, whole));
        }
        let (segment, at, bytes) = self.torn.as_ref().unwrap();
        self.file(*segment).write_all_at(bytes, *at).unwrap();
    }

    /// Fills the sparse bytes after the heads with zeros: reading a head then costs as much as on a
    /// full card.
    pub fn solidify(&self) {
        for segment in 0..FILES {
            let file = self.file(segment);
            let mut begin = vec![0; SOLID];
            file.read_exact_at(&mut begin, 0).unwrap();
            file.write_all_at(&begin, 0).unwrap();
        }
    }

    /// Damages the heads of `count` files, spread over the ring.
    pub fn damage_heads(&self, count: u32) {
        for n in 0..count {
            let file = self.file(100 + n * (FILES - 200) / count);
            let mut head = vec![0; 4096];
            file.read_exact_at(&mut head, 0).unwrap();
            let mark = head.windows(11).position(|bytes| bytes == b"taimat-segm").unwrap();
            file.write_all_at(&[0xa5; 8], (mark + 40) as u64).unwrap();
        }
    }

    fn file(&self, segment: u32) -> File {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.dir.join(FileId::Segment(segment).name()))
            .unwrap()
    }
}

/// Start of record `seq`, before the footage of the engine.
fn stamp(seq: u64) -> Timestamp {
    Timestamp {
        mono: MonoTime(seq * 1_000_000),
        wall: WallTime(1_794_000_000_000_000 + seq as i64 * 1_000_000),
        quality: ClockQuality::Ntp,
    }
}

fn record(seq: u64, lap: u32, previous: Digest) -> RingRecord {
    RingRecord {
        seq,
        lap,
        boot: Boot(1),
        len: RECORD as u32,
        start: stamp(seq),
        key: !seq.is_multiple_of(2),
        payload: (RATE / 8) as u32,
        media: seq * 1_000_000,
        duration: 1_000_000,
        lead: 0,
        gap: None,
        mark: [0; MARK],
        previous,
        content: Digest::default(),
        head: Digest::default(),
    }
}
