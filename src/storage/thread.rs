//! ⇄ The storage thread, and the reader other threads use.
//!
//! What belongs here: the loop around [`Engine`], reading fragments and snapshots for clips. What does not: any decision.

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

/// How often the engine hears that time passes while nothing comes.
const IDLE: Duration = Duration::from_millis(200);
/// Fragments between two such hearings while frames come without a pause.
const BUSY: u32 = 32;

/// Reads footage from any thread, checking that it is still what was pinned.
pub struct CardReader {
    disk: Arc<dyn Disk>,
    snapshots: SnapshotGeometry,
}

impl CardReader {
    /// A reader of what `disk` holds.
    pub fn new(disk: Arc<dyn Disk>, snapshots: SnapshotGeometry) -> CardReader {
        CardReader { disk, snapshots }
    }
}

impl FootageReader for CardReader {
    fn fragment(&self, fragment: &FragmentRef) -> Result<Vec<u8>, ReadFault> {
        let file = FileId::Segment(fragment.segment);
        let place = || format!("{} offset {} record {}", file.name(), fragment.offset, fragment.seq);
        let bytes =
            self.disk.read(file, fragment.offset, fragment.len as usize).map_err(|fault| ReadFault::Io(fault.to_string()))?;
        let Some(record) = RingRecord::decode(&bytes) else {
            let is_ours = bytes.get(8..24) == Some(&RECORD_TYPE);
            return Err(if is_ours { ReadFault::Damaged(place()) } else { ReadFault::Gone(place()) });
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

/// Opens the ring and starts the thread. It ends after [`StorageRequest::Stop`] or when every sender of the lane is gone.
///
/// # Errors
/// When the directory or the card cannot be used; says what to do about it.
pub fn start(
    settings: &StorageSettings,
    clock: Arc<dyn Clock>,
    mut lane: FrameReceiver<StorageRequest>,
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
    // Recovery may have taken long; from here on silence counts.
    heartbeat.beat();
    let work = move || {
        loop {
            match engine.found() {
                Ok(Some(piece)) => update(piece),
                Ok(None) => break,
                // The thread's end ends the process: a new start is the cure, as where the ring cannot be opened.
                Err(fault) => return tracing::error!("the outbox cannot be read: {fault}"),
            }
            heartbeat.beat();
        }
        first.into_iter().for_each(&update);
        let mut busy = 0;
        let mut out = Vec::new();
        loop {
            heartbeat.beat();
            let item = lane.next(IDLE);
            busy += 1;
            let quiet = matches!(item, Received::TimedOut);
            match item {
                Received::Frame(frame) => engine.frame(&frame, &mut out),
                Received::Request(order) => engine.order(clock.now(), order, &mut out),
                Received::Dropped(skip) => engine.skipped(skip, &mut out),
                Received::TimedOut => {}
                Received::Closed => engine.order(clock.now(), StorageRequest::Stop, &mut out),
            }
            if quiet || busy >= BUSY {
                busy = 0;
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
