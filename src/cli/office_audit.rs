//! `taimat office audit`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::office_file;
use super::office_user::ensure_owner;
use crate::clock::{Clock as _, SystemClock};
use crate::escape::{shown_json, shown_json_line};
use crate::office::console::audit::record::{Act, Entry, Origin};
use crate::office::console::tables::Tables;
use crate::office::console::writer::{Store, console_dir, verify_read_only};
use crate::office::office_config::OfficeConfig;

/// Records read at once.
const BATCH: u32 = 1_000;

/// End of `taimat office audit --help`.
const AFTER_HELP: &str = "\
verify finds every changed, removed, exchanged or added record, and a trail that was cut off at its end.
Who can write the whole directory can write all of it again: note the head that verify prints elsewhere
(the office's log has it at each start of its console) and compare. docs/audit-trail.md describes the format.";

/// Arguments of `taimat office audit`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    #[command(subcommand)]
    what: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuditCommand {
    /// Verify the audit trail; exit code 1 when something is wrong with it. The office may be running.
    Verify {
        /// The archive's directory.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// JSON instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Write the whole audit trail to standard output, one JSON object a line; itself an act in the trail.
    Export {
        /// The archive's directory.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Why, in words; the record of the export has it.
        #[arg(long)]
        reason: String,
    },
}

/// Runs `taimat office audit`.
///
/// # Errors
/// When there is no console, or it cannot be read.
pub(super) fn run(args: Args, config: &OfficeConfig) -> anyhow::Result<ExitCode> {
    let archive = |dir: Option<PathBuf>| office_file::dir(dir, config);
    match args.what {
        AuditCommand::Verify { dir, json } => verify(&archive(dir)?, json),
        AuditCommand::Export { dir, reason } => export(&archive(dir)?, reason),
    }
}

fn verify(dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let report = verify_read_only(&console_dir(dir))?;
    let code = if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        println!("{}", shown_json(&report)?);
        return Ok(code);
    }
    report.notes.iter().for_each(|note| println!("note: {note}"));
    let (n, digest) = (report.head.n, report.head.digest.hex());
    match &report.fault {
        None => println!("{n} records, all sound"),
        Some(fault) => {
            println!("record {}: {}; {n} records before it are sound", fault.n, fault.what)
        }
    }
    println!("head {n} {digest}");
    Ok(code)
}

fn export(dir: &Path, reason: String) -> anyhow::Result<ExitCode> {
    ensure_owner(dir)?;
    let dir = console_dir(dir);
    // Refuses where there is none, before a store is made.
    let tables = Tables::open_read_only(&dir)?;
    let by = Origin::command_line(rustix::process::getuid().as_raw());
    let entry = Entry::of(Act::AuditExport).reason(reason);
    let last = Store::open(&dir)?.record(&by, SystemClock::new().now().wall, entry)?.0;
    let mut out = std::io::stdout().lock();
    let mut after = 0;
    while after < last {
        let batch = tables.audit_after(after, BATCH)?;
        let Some(end) = batch.last() else { break };
        after = end.n;
        for record in batch.into_iter().filter(|record| record.n <= last) {
            let line = json!({"n": record.n, "digest": record.digest, "text": record.text, "reason": record.reason});
            writeln!(out, "{}", shown_json_line(&line)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
