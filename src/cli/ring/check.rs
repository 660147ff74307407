//! ⇄ `taimat ring check`.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::{Dir, Progress};
use crate::escape::shown_json_line;
use crate::storage::check::check;
use crate::storage::clock_history::ClockHistory;
use crate::storage::disk::{Disk, RealDisk, segments};
use crate::storage::recovery::recover;
use crate::storage::{Repair, RepairKind};

/// Arguments of `taimat ring check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    dir: Dir,
    /// First do what the next start of an agent would: put the `free` header back over a cut write. Nothing else is changed.
    #[arg(long)]
    repair: bool,
    /// One JSON document instead of lines.
    #[arg(long)]
    json: bool,
}

/// What to do about problems.
const NEXT: &str = "What to do: stop writing to this card. Copy what is left with taimat ring export (it leaves holes out and names them), send it \
     with this list to the office, then replace the card where there are more than a few.";

/// What `--repair` did, or could not do.
fn sentence(repair: &Repair) -> String {
    let Repair { file, offset, kind, bytes, lost, .. } = repair;
    match (kind, lost) {
        (RepairKind::Torn, _) => format!("repaired: {file} offset {offset}: a cut write of {bytes} bytes is free space again"),
        (RepairKind::Copy, _) => format!("repaired: {file} offset {offset}: a damaged copy is written again from the other"),
        (RepairKind::Head, _) => format!("not repaired: {file}: neither copy of its head can be read"),
        (RepairKind::Missing | RepairKind::Damaged, Some(lost)) => format!("not repaired: {lost}: nothing brings them back"),
        (RepairKind::Missing | RepairKind::Damaged, None) => {
            format!("not repaired: {file} offset {offset}: {bytes} bytes are damaged")
        }
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let disk: Arc<dyn Disk> = match args.repair {
        // Opened for recording: refused while an agent runs.
        true => Arc::new(RealDisk::open(&args.dir.dir, false)?) as Arc<dyn Disk>,
        false => Arc::new(RealDisk::open_read_only(&args.dir.dir)?),
    };
    let mut repairs = Vec::new();
    if args.repair {
        repairs = recover(disk.as_ref(), &segments(&disk.files()?), ClockHistory::default(), 0).repairs;
    }
    let mut progress = Progress::new("checking");
    let checked = check(&disk, |done, all| progress.at(done as u64, all as u64))?;
    let told: Vec<_> = repairs
        .iter()
        .map(|repair| json!({"file": repair.file, "offset": repair.offset, "what": repair.kind.as_str(), "bytes": repair.bytes, "ms": repair.micros / 1000}))
        .collect();
    if args.json {
        let mut document = serde_json::to_value(&checked)?;
        document["repairs"] = json!(told);
        println!("{}", shown_json_line(&document)?);
    } else {
        repairs.iter().for_each(|repair| println!("{}", sentence(repair)));
        checked.torn.iter().chain(&checked.problems).for_each(|problem| println!("{problem}"));
        println!(
            "{} segments ({} blank), {} records, {:.1} MiB of samples, {} named hole(s), {} entries for the office, {} lock(s): {} problem(s)",
            checked.segments + checked.blank,
            checked.blank,
            checked.records,
            checked.payload as f64 / 1_048_576.0,
            checked.holes,
            checked.entries,
            checked.locks,
            checked.problems.len()
        );
        if !checked.problems.is_empty() {
            println!("{NEXT}");
        }
    }
    Ok(if checked.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
