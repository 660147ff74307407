//! `taimat ring lock`: locks footage on a device or on a card in a laptop, without an office.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use super::{Dir, Range, refuse_no_ring};
use crate::clock::{Clock as _, SystemClock};
use crate::escape::shown_path;
use crate::storage::disk::{DirFault, Disk, FileId, RealDisk};
use crate::storage::footage_query::locate;
use crate::storage::journal::Journal;
use crate::storage::locks::{Lock, records};
use crate::storage::missing_records::numbers;
use crate::storage::recovery::{ReadOnlyRing, read};
use crate::storage::segment_index::Index;
use crate::storage::{Cell, SpanQuery};
use crate::units::WallTime;

/// Arguments of `taimat ring lock`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    range: Range,
    /// Reason of the lock, e.g. a case number.
    #[arg(long)]
    reason: String,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    refuse_no_ring(&args.dir.dir)?;
    let ((from, to), zone) = (args.range.moments()?, &args.range.zone);
    let disk: Arc<dyn Disk> = match RealDisk::open(&args.dir.dir, false) {
        Err(DirFault::InUse(dir)) => {
            return Err(anyhow!(
                "an agent records into {}: send it `office cmd SITE lock` instead",
                shown_path(&dir)
            ));
        }
        opened => Arc::new(opened?),
    };
    let ReadOnlyRing { index, card, .. } = read(&disk)?;
    let (first, last) = records(disk.as_ref(), &index, u64::MAX, from, to)?
        .context("nothing is recorded between these times")?;
    let len = disk.files()?.get(&FileId::Journal).copied();
    let (mut journal, kept) =
        Journal::open(disk.clone(), card, 0, Some(len.context("the ring has no journal")?))?;
    let mut locks = kept.locks().map_err(anyhow::Error::msg)?;
    let id = format!("here-{}", SystemClock::new().now().wall.0 / 1_000_000);
    // Without --from or --to it is from the first record to the last.
    let mut lock = Lock { id, from, to, first, last, reason: args.reason, missing: Vec::new() };
    lock.add_missing(&lock.within(&index.lost));
    (lock.from, lock.to) = moments(disk.as_ref(), &index, &lock)?;
    locks.add(lock.clone()).map_err(anyhow::Error::msg)?;
    journal.save(Cell::Locks, locks.encode())?;
    println!(
        "locked {}: records {first} to {last}, {} to {}",
        lock.id,
        zone.show(lock.from),
        zone.show(lock.to)
    );
    lock.missing
        .iter()
        .for_each(|(first, last)| println!("  {} lost already", numbers(*first, *last)));
    Ok(ExitCode::SUCCESS)
}

/// The times of a lock; a missing time is taken from its records.
fn moments(disk: &dyn Disk, index: &Index, lock: &Lock) -> anyhow::Result<(WallTime, WallTime)> {
    let of = |seq: u64| locate(disk, index, u64::MAX, &SpanQuery::Seq { first: seq, last: seq });
    let first =
        of(lock.first)?.and_then(|span| span.fragments.first().map(|fragment| fragment.start.wall));
    let last =
        of(lock.last)?.and_then(|span| span.fragments.last().map(|fragment| fragment.end().wall));
    let from = first.filter(|_| lock.from == WallTime(i64::MIN)).unwrap_or(lock.from);
    Ok((from, last.filter(|_| lock.to == WallTime(i64::MAX)).unwrap_or(lock.to)))
}
