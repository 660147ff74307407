//! ⇄ `taimat ring lock`: on the box or a laptop, where there is no office to send the command.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use super::{Dir, Range};
use crate::clock::{Clock as _, SystemClock};
use crate::storage::Cell;
use crate::storage::disk::{DirFault, Disk, FileId, RealDisk};
use crate::storage::journal::Journal;
use crate::storage::locks::{Lock, records};
use crate::storage::recovery::look;

/// Arguments of `taimat ring lock`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    range: Range,
    /// Why it must be kept, e.g. a case number.
    #[arg(long)]
    reason: String,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (from, to) = args.range.moments()?;
    let disk: Arc<dyn Disk> = match RealDisk::open(&args.dir.dir, false) {
        Err(DirFault::InUse(dir)) => {
            return Err(anyhow!("an agent records into {}: send it `office cmd SITE lock` instead", dir.display()));
        }
        opened => Arc::new(opened?),
    };
    let index = look(&disk)?.index;
    let (first, last) = records(disk.as_ref(), &index, u64::MAX, from, to)?.context("nothing is recorded between these times")?;
    let len = disk.files()?.get(&FileId::Journal).copied();
    let (mut journal, kept) = Journal::open(disk.clone(), 0, Some(len.context("the ring has no journal")?))?;
    let mut locks = kept.locks().map_err(anyhow::Error::msg)?;
    let id = format!("here-{}", SystemClock::new().now().wall.0 / 1_000_000);
    let lock = Lock { id, from, to, first, last, reason: args.reason };
    locks.add(lock.clone()).map_err(anyhow::Error::msg)?;
    journal.save(Cell::Locks, locks.encode())?;
    println!("locked {}: records {first} to {last}", lock.id);
    Ok(ExitCode::SUCCESS)
}
