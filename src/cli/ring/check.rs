//! `taimat ring check`.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::{Dir, Progress, refuse_no_ring};
use crate::escape::shown_json_line;
use crate::storage::check::check;
use crate::storage::check_report::{CheckProblem, Remedy};
use crate::storage::clock_history::ClockHistory;
use crate::storage::disk::{Disk, FileId, RealDisk, segments};
use crate::storage::recovery::recover;
use crate::storage::{Repair, RepairKind};

/// Arguments of `taimat ring check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    dir: Dir,
    /// First repair the segments as the next start of the agent does: restore the `free` header at a torn write, and rewrite a damaged
    /// copy of a head from the other one. Journal and snapshots are not changed. Not while an agent runs.
    #[arg(long)]
    repair: bool,
    /// One JSON document instead of lines.
    #[arg(long)]
    json: bool,
}

/// What to do about problems.
const NEXT: &str = "What to do: stop writing to this card. Copy what is left with taimat ring export (it leaves gaps out and names them), send it \
     with this list to the office, then replace the card where there are more than a few.";

/// Next step when nothing is lost.
const NEXT_START: &str = "What to do: nothing is lost. The next start of the agent or its scrub rewrites the damaged copies; ring check --repair rewrites heads.";
/// Next step for the operator when nothing is lost.
const NEXT_PERSON: &str = "What to do: nothing is lost. The lines above say what each of these files is and what to do with it.";
/// The former name of the snapshots file, in two parts because the name is retired.
const FORMER_SNAPSHOTS: &str = concat!("stills", ".taimat");

/// Reports a file with the former name, which the agent ignores.
fn former_snapshots(dir: &Path) -> Option<String> {
    let there = dir.join(FORMER_SNAPSHOTS).exists();
    let next = match dir.join(FileId::Snapshots.name()).exists() {
        false => "rename it so before the next start, and snapshots that wait are sent",
        true => "there is one already, which is used: remove the old one",
    };
    there.then(|| {
        format!("{FORMER_SNAPSHOTS}: the former name of {}: {next}", FileId::Snapshots.name())
    })
}

/// A lock that keeps every agent from recording here.
fn lock_problem(dir: &Path) -> Option<CheckProblem> {
    let what = RealDisk::lock_fault(dir)?;
    Some(CheckProblem { file: "lock".into(), offset: 0, what, remedy: Remedy::Person })
}

/// Names what is no file as what it is: nothing in it can be damaged.
fn name_no_files(dir: &Path, problems: &mut Vec<CheckProblem>) {
    for (file, what) in RealDisk::no_files(dir) {
        problems.retain(|problem| problem.file != file);
        problems.push(CheckProblem { file, offset: 0, what, remedy: Remedy::Person });
    }
}

/// The next step for the worst problem.
fn next_step(problems: &[CheckProblem]) -> Option<&'static str> {
    let any = |remedy: Remedy| problems.iter().any(|problem| problem.remedy == remedy);
    [(Remedy::Export, NEXT), (Remedy::Person, NEXT_PERSON), (Remedy::Start, NEXT_START)]
        .into_iter()
        .find_map(|(remedy, next)| any(remedy).then_some(next))
}

/// Reports a repair of `--repair`, or damage that it cannot repair.
fn sentence(repair: &Repair) -> String {
    let Repair { file, offset, kind, bytes, lost, .. } = repair;
    match (kind, lost) {
        (RepairKind::Torn, _) => format!(
            "repaired: {file} offset {offset}: a torn write of {bytes} bytes is free space again"
        ),
        (RepairKind::Copy, _) => {
            format!("repaired: {file} offset {offset}: a damaged copy was rewritten from the other")
        }
        (RepairKind::Head, _) => {
            format!("not repaired: {file}: both copies of its head are unreadable")
        }
        (RepairKind::Missing | RepairKind::Damaged, Some(lost)) => {
            format!("not repaired: {lost}: they cannot be restored")
        }
        (RepairKind::Missing | RepairKind::Damaged, None) => {
            format!("not repaired: {file} offset {offset}: {bytes} bytes are damaged")
        }
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    refuse_no_ring(&args.dir.dir)?;
    let disk: Arc<dyn Disk> = match args.repair {
        // Opened for recording; fails while an agent runs.
        true => Arc::new(RealDisk::open(&args.dir.dir, false)?) as Arc<dyn Disk>,
        false => Arc::new(RealDisk::open_read_only(&args.dir.dir)?),
    };
    let mut repairs = Vec::new();
    if args.repair {
        repairs =
            recover(disk.as_ref(), &segments(&disk.files()?), ClockHistory::default(), 0).repairs;
    }
    if let Some(former) = former_snapshots(&args.dir.dir) {
        eprintln!("{former}");
    }
    let mut progress = Progress::new("checking");
    let mut checked = check(&disk, |done, all| progress.at(done as u64, all as u64))?;
    name_no_files(&args.dir.dir, &mut checked.problems);
    checked.problems.extend(lock_problem(&args.dir.dir));
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
            "{} segments ({} blank), {} records, {:.1} MiB of samples, {} gap(s), {} entries for the office, {} lock(s): {} problem(s)",
            checked.segments + checked.blank,
            checked.blank,
            checked.records,
            checked.payload as f64 / 1_048_576.0,
            checked.gap_records,
            checked.entries,
            checked.locks,
            checked.problems.len()
        );
        if checked.recycled > 0 {
            println!(
                "{} segment(s) were recycled by the agent while they were read: nothing is said of them",
                checked.recycled
            );
        }
        if let Some(next) = next_step(&checked.problems) {
            println!("{next}");
        }
    }
    Ok(if checked.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Usage;

    #[test]
    fn a_directory_without_a_ring_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for (name, repair) in [("", false), ("", true), ("gone", true)] {
            let args = Args { dir: Dir { dir: dir.path().join(name) }, repair, json: false };
            assert!(run(args).unwrap_err().is::<Usage>(), "{name:?}");
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 0, "no lock, no directory");
    }

    #[test]
    fn only_what_is_lost_asks_for_an_export() {
        let problem = |remedy: Remedy| CheckProblem {
            file: "seg".into(),
            offset: 0,
            what: "x".into(),
            remedy,
        };
        assert_eq!(next_step(&[]), None);
        assert_eq!(next_step(&[problem(Remedy::Start)]), Some(NEXT_START));
        assert_eq!(next_step(&[problem(Remedy::Start), problem(Remedy::Export)]), Some(NEXT));
    }

    #[test]
    fn a_lock_that_is_no_file_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(lock_problem(dir.path()), None, "a ring that no agent has opened");
        std::fs::write(dir.path().join("lock"), "").unwrap();
        assert_eq!(lock_problem(dir.path()), None);
        std::fs::remove_file(dir.path().join("lock")).unwrap();
        std::fs::create_dir(dir.path().join("lock")).unwrap();
        assert!(lock_problem(dir.path()).unwrap().to_string().contains("not a file"));
    }

    #[test]
    fn what_is_no_file_is_named_as_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(
            std::process::Command::new("mkfifo")
                .arg(at("seg-00001.mp4"))
                .status()
                .unwrap()
                .success()
        );
        std::fs::create_dir(at("seg-00002.mp4")).unwrap();
        std::os::unix::fs::symlink("/nowhere", at("seg-00003.mp4")).unwrap();
        std::fs::create_dir(at("seg-odd")).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open_read_only(dir.path()).unwrap());
        let mut problems = check(&disk, |_, _| {}).unwrap().problems;
        name_no_files(dir.path(), &mut problems);
        problems.sort_by(|one, other| one.file.cmp(&other.file));
        let of_segments: Vec<_> =
            problems.iter().filter(|problem| problem.file.starts_with("seg")).collect();
        let words = ["a named pipe", "a directory", "a symbolic link"];
        assert_eq!(of_segments.len(), words.len(), "{problems:?}");
        for (problem, word) in of_segments.iter().zip(words) {
            assert!(problem.what.contains(word), "{problem}");
            assert_eq!(problem.remedy, Remedy::Person);
        }
    }

    #[test]
    fn a_file_of_the_former_name_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(former_snapshots(dir.path()), None);
        std::fs::write(dir.path().join(FORMER_SNAPSHOTS), "").unwrap();
        assert!(former_snapshots(dir.path()).unwrap().contains("rename it"));
        std::fs::write(dir.path().join(FileId::Snapshots.name()), "").unwrap();
        assert!(former_snapshots(dir.path()).unwrap().contains("remove the old one"));
    }
}
