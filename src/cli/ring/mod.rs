//! `taimat ring list|check|export|lock`: looks into a ring, beside a running agent or on a card in a laptop. Only `check --repair`
//! and `lock` write into it, and only while no agent does.
//!
//! What belongs here: arguments, opening, progress. What does not: reading records (the storage room).

mod check;
mod export;
mod list;
mod lock;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::ensure;

use super::Usage;
use super::time_zone::DisplayZone;
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::locks::Locks;
use crate::storage::open::StorageFault;
use crate::storage::recovery::{ReadOnlyRing, read};
use crate::storage::segment_index::Index;

/// Arguments of `taimat ring`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: RingCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RingCommand {
    /// Show what is recorded, how its clock was, the gaps, and what is locked as evidence; exit code 1 when records are missing or
    /// damaged (check sees more: heads, copies, journal, snapshots, the pictures themselves).
    List(list::Args),
    /// Check every invariant, checksum and digest as the next owner of the card would; exit code 1 when something is wrong, 2 when there is no ring.
    Check(check::Args),
    /// Copy a range into MP4 files, without re-encoding, sound included; gaps are listed.
    Export(export::Args),
    /// Lock a range as evidence: it stays until the office lets it go with `office cmd SITE unlock`. Not beside a running agent.
    Lock(lock::Args),
}

/// Carries it out.
///
/// # Errors
/// When the directory cannot be read or the file cannot be made.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        RingCommand::List(args) => list::run(args),
        RingCommand::Check(args) => check::run(args),
        RingCommand::Export(args) => export::run(&args),
        RingCommand::Lock(args) => lock::run(args),
    }
}

/// Which times are meant.
#[derive(Debug, clap::Args)]
struct Range {
    /// Begin, RFC 3339, e.g. 2026-11-24T02:05:00 (in --zone when it has no offset); the oldest footage otherwise.
    #[arg(long)]
    from: Option<String>,
    /// End, likewise; the newest footage otherwise.
    #[arg(long)]
    to: Option<String>,
    /// Zone of times without an offset, and of what is shown: UTC, local, or a name such as Asia/Ho_Chi_Minh.
    #[arg(long, default_value = "UTC")]
    zone: DisplayZone,
}

impl Range {
    /// The moments meant.
    fn moments(&self) -> anyhow::Result<(crate::units::WallTime, crate::units::WallTime)> {
        let time = |name: &str, text: &Option<String>, default: i64| match text {
            Some(text) => {
                self.zone.read(text).map_err(|reason| anyhow::anyhow!("--{name}: {reason}"))
            }
            None => Ok(crate::units::WallTime(default)),
        };
        let (from, to) = (time("from", &self.from, i64::MIN)?, time("to", &self.to, i64::MAX)?);
        match from < to {
            true => Ok((from, to)),
            false => Err(Usage("--from must lie before --to".into()).into()),
        }
    }
}

/// Refuses a directory that holds nothing of a ring: a wrong name is not damage.
fn refuse_no_ring(dir: &Path) -> anyhow::Result<()> {
    let what = match RealDisk::open_read_only(dir).map(|disk| disk.files()) {
        Ok(Ok(files)) if !files.is_empty() => return Ok(()),
        Ok(Ok(_)) => "holds no ring: no segment, no journal, no snapshots; --dir is storage.dir of the configuration".to_owned(),
        Ok(Err(fault)) => fault.reason,
        Err(_) => "is no directory; --dir is storage.dir of the configuration".to_owned(),
    };
    Err(Usage(format!("{}: {what}", dir.display())).into())
}

fn open(dir: &Path) -> anyhow::Result<(Arc<dyn Disk>, Index, Locks)> {
    refuse_no_ring(dir)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open_read_only(dir)?);
    let ReadOnlyRing { index, locks, troubles, older, .. } = read(&disk)?;
    if let Some(file) = older {
        anyhow::bail!("{}", StorageFault::Older(file));
    }
    troubles.iter().for_each(|trouble| eprintln!("{trouble}"));
    ensure!(!index.live().is_empty(), "{}: nothing is recorded here", dir.display());
    Ok((disk, index, locks))
}

/// Tells on a terminal how far long work is.
struct Progress {
    what: &'static str,
    shown: Option<u64>,
}

impl Progress {
    fn new(what: &'static str) -> Progress {
        Progress { what, shown: std::io::stderr().is_terminal().then_some(u64::MAX) }
    }

    fn at(&mut self, done: u64, all: u64) {
        let percent = done * 100 / all.max(1);
        if self.shown.is_some_and(|shown| shown != percent) {
            self.shown = Some(percent);
            eprint!("\r{} {percent} % {}", self.what, if done == all { "\n" } else { "" });
        }
    }
}

/// The directory every one of these needs.
#[derive(Debug, clap::Args)]
struct Dir {
    /// The ring's directory.
    #[arg(long)]
    dir: PathBuf,
}
