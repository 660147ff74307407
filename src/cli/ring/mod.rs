//! `taimat ring list|check|export|lock`: reads a ring while an agent runs, or on a card in a laptop. Only `check --repair` and `lock`
//! write to it, and only while no agent runs.
//!
//! What belongs here: arguments, opening, progress. What does not: reading records ([`crate::storage`]).

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
use crate::escape::shown_path;
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
    /// List footage with its clock quality, gaps and evidence locks; exit code 1 if records are missing or damaged (check verifies
    /// more: heads, copies, journal, snapshots and pictures).
    List(list::Args),
    /// Check every invariant, checksum and digest of a ring; exit code 1 if there is a problem, 2 if there is no ring.
    Check(check::Args),
    /// Copy a range into MP4 files with sound, without re-encoding, and list its gaps.
    Export(export::Args),
    /// Lock a range as evidence until the office releases it with `office cmd SITE unlock`. Not while an agent runs.
    Lock(lock::Args),
}

/// Runs `taimat ring`.
///
/// # Errors
/// The directory cannot be read or the file cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        RingCommand::List(args) => list::run(args),
        RingCommand::Check(args) => check::run(args),
        RingCommand::Export(args) => export::run(&args),
        RingCommand::Lock(args) => lock::run(args),
    }
}

/// A range of time.
#[derive(Debug, clap::Args)]
struct Range {
    /// Start, RFC 3339, e.g. 2026-11-24T02:05:00 (in --zone without an offset); default: the oldest footage.
    #[arg(long)]
    from: Option<String>,
    /// End, in the same form; default: the newest footage.
    #[arg(long)]
    to: Option<String>,
    /// Zone of times without an offset and of the output: UTC, local, or a name such as Asia/Ho_Chi_Minh.
    #[arg(long, default_value = "UTC")]
    zone: DisplayZone,
}

impl Range {
    /// Start and end of the range.
    fn moments(&self) -> anyhow::Result<(crate::units::WallTime, crate::units::WallTime)> {
        let time = |name: &str, text: &Option<String>, default: i64| -> anyhow::Result<_> {
            match text {
                Some(text) => self
                    .zone
                    .read(text)
                    .map_err(|reason| Usage(format!("--{name}: {reason}")).into()),
                None => Ok(crate::units::WallTime(default)),
            }
        };
        let (from, to) = (time("from", &self.from, i64::MIN)?, time("to", &self.to, i64::MAX)?);
        match from < to {
            true => Ok((from, to)),
            false => Err(Usage("--from must lie before --to".into()).into()),
        }
    }
}

/// A length of time for a reader: days, then hours, minutes and seconds.
fn length(micros: u64) -> String {
    let seconds = micros.div_ceil(1_000_000);
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let days = match days {
        0 => String::new(),
        1 => "1 day ".to_owned(),
        days => format!("{days} days "),
    };
    format!("{days}{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60)
}

/// Rejects a directory without a ring: a wrong path must not look like damage.
fn refuse_no_ring(dir: &Path) -> anyhow::Result<()> {
    let what = match RealDisk::open_read_only(dir).map(|disk| disk.files()) {
        Ok(Ok(files)) if !files.is_empty() => return Ok(()),
        Ok(Ok(_)) => "holds no ring: no segment, no journal, no snapshots; --dir is storage.dir of the configuration".to_owned(),
        Ok(Err(fault)) => fault.reason,
        Err(_) => "is no directory; --dir is storage.dir of the configuration".to_owned(),
    };
    Err(Usage(format!("{}: {what}", shown_path(dir))).into())
}

fn open(dir: &Path) -> anyhow::Result<(Arc<dyn Disk>, Index, Locks)> {
    refuse_no_ring(dir)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open_read_only(dir)?);
    let ReadOnlyRing { index, locks, troubles, older, .. } = read(&disk)?;
    if let Some(file) = older {
        anyhow::bail!("{}", StorageFault::Older(file));
    }
    troubles.iter().for_each(|trouble| eprintln!("{trouble}"));
    ensure!(!index.live().is_empty(), "{}: no footage", shown_path(dir));
    Ok((disk, index, locks))
}

/// Shows the progress of long work on a terminal.
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

/// The directory argument of all `ring` commands.
#[derive(Debug, clap::Args)]
struct Dir {
    /// The ring's directory.
    #[arg(long)]
    dir: PathBuf,
}
