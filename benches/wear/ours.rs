//! Recording with our engine on a card, in simulated or real time, and the parts of its bytes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use taimat::format::block::padded;
use taimat::settings::parse;
use taimat::storage::StorageUpdate;
use taimat::storage::disk::RealDisk;
use taimat::storage::engine::Engine;
use taimat::storage::head_selection::heads;
use taimat::storage::scan::{ScanDepth, ScanItem, walk};
use taimat::units::Timestamp;

use crate::card::Card;
use crate::footage::{FPS, Footage};

/// A recorder of endless footage.
pub struct Ours {
    engine: Engine,
    footage: Footage,
    dir: PathBuf,
    now: Timestamp,
    /// Last field: the engine must close its files before the unmount.
    card: Card,
}

/// Cost of recording since the start, or between two readings.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Sample bytes.
    pub payload: u64,
    /// Bytes written to the file system.
    pub handed: u64,
    /// Bytes written to the device.
    pub device: u64,
    /// Flushes.
    pub flushes: u64,
}

/// Overhead bytes, each ÷ payload.
pub struct Shares {
    /// `uuid` record, `moof` and the header of `mdat`.
    pub boxes: f64,
    /// Padding to the block boundary.
    pub padding: f64,
    /// The block after each fragment, with the `free` header.
    pub free: f64,
    /// Segment heads.
    pub heads: f64,
}

impl Ours {
    /// A new ring of `bytes` on a card mounted with `options`.
    pub fn new(bytes: u64, footage: Footage, options: &str) -> Option<Ours> {
        let card = Card::new(options)?;
        let dir = card.mount().join("ring");
        let text = format!(
            "site = \"bench\"\ncamera.main_url = \"rtsp://x/\"\nuplink.host = \"localhost\"\n[storage]\ndir = {dir:?}\n\
             budget = \"{} MiB\"\n",
            bytes >> 20
        );
        let settings = parse::parse(&text, &|_| Err("none".into())).unwrap().storage;
        let disk = Arc::new(RealDisk::open(&dir, false).unwrap());
        let (engine, _) = Engine::open(disk, &settings, Timestamp::default()).unwrap();
        Some(Ours { engine, footage, dir, now: Timestamp::default(), card })
    }

    /// Records `seconds` of footage, at full speed or in real time; returns the seconds it took.
    pub fn record(&mut self, seconds: u64, as_a_camera: bool) -> f64 {
        let (started, mut out) = (Instant::now(), Vec::new());
        for second in 1..=seconds {
            for frame in self.footage.by_ref().take(FPS as usize) {
                self.engine.frame(&frame, &mut out);
                self.now = frame.at;
            }
            if as_a_camera {
                std::thread::sleep(
                    (started + Duration::from_secs(second))
                        .saturating_duration_since(Instant::now()),
                );
            }
        }
        started.elapsed().as_secs_f64()
    }

    /// The cost so far. The engine reports counters every 30 s of footage: two readings must not be
    /// closer.
    pub fn cost(&mut self) -> Cost {
        let mut out = Vec::new();
        self.engine.idle(self.now, &mut out);
        let counts = out.iter().find_map(|update| {
            if let StorageUpdate::Counts(counts) = update { Some(*counts) } else { None }
        });
        let counts = counts.unwrap();
        Cost {
            payload: counts.payload,
            handed: counts.written,
            device: self.card.written(),
            flushes: counts.syncs,
        }
    }

    /// The overhead bytes, counted from the content of the ring.
    pub fn shares(&self) -> Shares {
        let disk = RealDisk::open_read_only(&self.dir).unwrap();
        let index = heads(&disk).unwrap().index;
        let (mut payload, mut boxes, mut padding, mut free, mut heads) = (0, 0, 0, 0, 0);
        for segment in index.live() {
            heads += segment.head_len + 4096 + (segment.head.size - segment.end);
            for found in walk(&disk, segment, ScanDepth::Records).unwrap().found {
                let ScanItem::Record(_, record) = found else { continue };
                let len = u64::from(record.len);
                payload += u64::from(record.payload);
                boxes += len - u64::from(record.payload);
                padding += padded(len) - len;
                free += 4096;
            }
        }
        let share = |bytes: u64| bytes as f64 / payload as f64;
        Shares {
            boxes: share(boxes),
            padding: share(padding),
            free: share(free),
            heads: share(heads),
        }
    }
}

impl Cost {
    /// The difference to `before`.
    pub fn since(self, before: Cost) -> Cost {
        Cost {
            payload: self.payload - before.payload,
            handed: self.handed - before.handed,
            device: self.device - before.device,
            flushes: self.flushes - before.flushes,
        }
    }

    /// Bytes to the device ÷ payload.
    pub fn amplification(&self) -> f64 {
        self.device as f64 / self.payload as f64
    }

    /// Bytes to the file system ÷ payload.
    pub fn handed(&self) -> f64 {
        self.handed as f64 / self.payload as f64
    }

    /// Start of every line: bytes to the device, and the file system's part of them.
    pub fn words(&self) -> String {
        let (all, handed) = (self.amplification(), self.handed());
        format!("{all:.4} (handed over {handed:.4}, ext4 adds {:.4})", all - handed)
    }
}
