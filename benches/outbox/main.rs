//! Cost of the outbox: durable events a second, and bytes of flash per event, with budgets.
//!
//! Run: `cargo bench --bench outbox`; flushes dominate, so the dev profile gives nearly the same.
//! The directory is `TAIMAT_BENCH_DIR`, or a new one under `target/`: a tmpfs does not flush.
#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::sync::Arc;
use std::time::Instant;

use taimat::format::card_id::CardId;
use taimat::storage::disk::{Disk, RealDisk};
use taimat::storage::journal::Journal;
use taimat::storage::journal_layout::BATCH_MAX;
use taimat::units::EntryId;

/// Budgets: events a second in a burst, bytes of flash per event.
const RATE: f64 = 2_000.0;
const BYTES: f64 = 25.0 * 1024.0;
/// Size of a usual entry, bytes: a motion event with the agent's state.
const ENTRY: usize = 900;

fn measure(batch: usize, events: u64) {
    let parent = std::env::var("TAIMAT_BENCH_DIR")
        .unwrap_or_else(|_| format!("{}/target", env!("CARGO_MANIFEST_DIR")));
    let dir = tempfile::tempdir_in(parent).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path(), false).unwrap());
    let (mut journal, _) = Journal::open(disk, CardId::default(), 4096, None).unwrap();
    journal.start_boot().unwrap();
    let (started, bytes_before, flushes_before) =
        (Instant::now(), journal.written_bytes, journal.flushes);
    let mut next = 1;
    while next <= events {
        let entries = (next..next + batch as u64)
            .map(|entry_id| (EntryId(entry_id), vec![7; ENTRY]))
            .collect();
        journal.enqueue_all(entries).unwrap();
        // Each event is delivered while later ones are stored, so its tombstone is part of the
        // cost.
        (next..next + batch as u64).for_each(|entry_id| journal.release(EntryId(entry_id)));
        next += batch as u64;
    }
    journal.write_tombstones().unwrap();
    let (seconds, stored) = (started.elapsed().as_secs_f64(), (next - 1) as f64);
    let bytes = (journal.written_bytes - bytes_before) as f64;
    let flushes = (journal.flushes - flushes_before) as f64;
    println!(
        "{batch:>3} together: {:>7.0} durable events/s (budget {RATE:.0} in a burst), {:>6.0} bytes of flash each (budget {BYTES:.0}), {:.2} flushes each",
        stored / seconds,
        bytes / stored,
        flushes / stored
    );
}

fn main() {
    measure(1, 200);
    measure(8, 1_600);
    measure(BATCH_MAX, 12_800);
}
