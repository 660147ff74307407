//! Storage thread, and a reader of footage for other threads.
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock, starts a thread or task")]

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::disk::{Disk, FileId, RealDisk};
use super::engine::Engine;
use super::open::snapshot_geometry;
use super::snapshots::{self, SnapshotGeometry};
use super::{FootageReader, FragmentRef, ReadFault, StorageRequest, StorageUpdate};
use crate::clock::Clock;
use crate::format::record::{RECORD_TYPE, RingRecord};
use crate::frame_queue::{FrameReceiver, Received};
use crate::settings::StorageSettings;
use crate::units::EntryId;
use crate::watchdog::Heartbeat;

/// The engine is called at least this often while no frame or request arrives.
const IDLE: Duration = Duration::from_millis(200);
/// The engine is called after this many items while they arrive without a pause.
const BUSY: u32 = 32;

/// Reads footage from any thread, and verifies that it is still the pinned footage.
pub struct CardReader {
    disk: Arc<dyn Disk>,
    snapshots: SnapshotGeometry,
}

impl CardReader {
    /// Returns a reader of `disk`.
    pub fn new(disk: Arc<dyn Disk>, snapshots: SnapshotGeometry) -> CardReader {
        CardReader { disk, snapshots }
    }
}

impl FootageReader for CardReader {
    fn fragment(&self, fragment: &FragmentRef) -> Result<Vec<u8>, ReadFault> {
        let file = FileId::Segment(fragment.segment);
        let place =
            || format!("{} offset {} record {}", file.name(), fragment.offset, fragment.seq);
        let bytes = self
            .disk
            .read(file, fragment.offset, fragment.len as usize)
            .map_err(|fault| ReadFault::Io(fault.to_string()))?;
        let Some(record) = RingRecord::decode(&bytes) else {
            let is_ours = bytes.get(8..24) == Some(&RECORD_TYPE);
            return Err(if is_ours {
                ReadFault::Damaged(place())
            } else {
                ReadFault::Gone(place())
            });
        };
        if (record.seq, record.lap, record.len) != (fragment.seq, fragment.lap, fragment.len) {
            return Err(ReadFault::Gone(place()));
        }
        if record.intact(&bytes) { Ok(bytes) } else { Err(ReadFault::Damaged(place())) }
    }

    fn snapshot(&self, entry_id: EntryId) -> Result<Vec<u8>, ReadFault> {
        snapshots::read(self.disk.as_ref(), self.snapshots, entry_id)
    }
}

/// Opens the ring and starts the thread. The thread ends after [`StorageRequest::Stop`], or when
/// every sender of the frame queue is dropped.
///
/// # Errors
/// If the directory or the card cannot be used; the error names a remedy.
pub fn start(
    settings: &StorageSettings,
    clock: Arc<dyn Clock>,
    mut queue: FrameReceiver<StorageRequest>,
    heartbeat: Heartbeat,
    update: impl Fn(StorageUpdate) + Send + 'static,
) -> anyhow::Result<(JoinHandle<()>, CardReader)> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&settings.dir, settings.require_mount)?);
    let started = Instant::now();
    let opened = Engine::open(disk, settings, clock.now());
    let (mut engine, mut first) = opened.with_context(|| in_dir(&settings.dir))?;
    if let Some(StorageUpdate::Started(found)) = first.first_mut() {
        found.took = started.elapsed().as_micros() as u64;
    }
    let reader = CardReader::new(engine.card(), snapshot_geometry(settings));
    // Recovery may have taken long; the watchdog counts from here.
    heartbeat.beat();
    let work = move || {
        loop {
            match engine.found() {
                Ok(Some(piece)) => update(piece),
                Ok(None) => break,
                // The end of this thread restarts the process, as if the ring could not be opened.
                Err(fault) => {
                    return tracing::error!(error = %fault, "outbox unreadable, disk error; restarting the process");
                }
            }
            heartbeat.beat();
        }
        first.into_iter().for_each(&update);
        let mut since_idle = 0;
        let mut out = Vec::new();
        loop {
            heartbeat.beat();
            let item = queue.next(IDLE);
            since_idle += 1;
            let quiet = matches!(item, Received::TimedOut);
            match item {
                Received::Frame(frame) => engine.frame(&frame, &mut out),
                Received::Request(request) => engine.request(clock.now(), request, &mut out),
                Received::Dropped(skip) => engine.skipped(skip, &mut out),
                Received::TimedOut => {}
                Received::Closed => engine.request(clock.now(), StorageRequest::Stop, &mut out),
            }
            if quiet || since_idle >= BUSY {
                since_idle = 0;
                engine.idle(clock.now(), &mut out);
            }
            let stopped = out.contains(&StorageUpdate::Stopped);
            out.drain(..).for_each(&update);
            if stopped {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("storage".into()).spawn(work)?;
    Ok((thread, reader))
}

fn in_dir(dir: &Path) -> String {
    format!("ring directory {}", dir.display())
}
