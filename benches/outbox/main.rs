//! What the outbox costs: events a second that are durable, and bytes of flash for each, against their budgets.
//!
//! `cargo bench --bench outbox` (the dev profile says nearly the same: it waits for flushes). The directory is TAIMAT_BENCH_DIR, or a
//! new one under target/: what lies in memory (tmpfs) flushes nothing.
#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::sync::Arc;
use std::time::Instant;

use taimat::storage::disk::{Disk, RealDisk};
use taimat::storage::identity::CardId;
use taimat::storage::journal::{BATCH_MAX, Journal};
use taimat::units::Ticket;

/// Budgets: events a second in a burst, bytes of flash for one event.
const RATE: f64 = 2_000.0;
const BYTES: f64 = 25.0 * 1024.0;
/// Bytes of a usual entry: a motion event beside the agent's state.
const ENTRY: usize = 900;

fn measure(batch: usize, events: u64) {
    let parent = std::env::var("TAIMAT_BENCH_DIR").unwrap_or_else(|_| format!("{}/target", env!("CARGO_MANIFEST_DIR")));
    let dir = tempfile::tempdir_in(parent).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path(), false).unwrap());
    let (mut journal, _) = Journal::open(disk, CardId::default(), 4096, None).unwrap();
    journal.begin().unwrap();
    let (begun, before) = (Instant::now(), journal.written);
    let mut next = 1;
    while next <= events {
        let entries = (next..next + batch as u64).map(|ticket| (Ticket(ticket), vec![7; ENTRY])).collect();
        journal.enqueue_all(entries).unwrap();
        // Each is delivered while the next are stored: its tombstone is part of its cost.
        (next..next + batch as u64).for_each(|ticket| journal.release(Ticket(ticket)));
        next += batch as u64;
    }
    journal.tidy().unwrap();
    let (seconds, stored) = (begun.elapsed().as_secs_f64(), (next - 1) as f64);
    let bytes = (journal.written.0 - before.0) as f64;
    let flushes = (journal.written.1 - before.1) as f64;
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
