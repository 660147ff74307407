//! `taimat config`: shows the configurations of this device and requests a rollback.
//!
//! The running agent finds the request and decides.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::print_text;
use crate::agent::config_thread::REQUEST;
use crate::escape::{shown_json, shown_lines, shown_path};
use crate::remote_config::durable_files::RealFiles;
use crate::remote_config::local_edit;
use crate::remote_config::startup::state_dir;
use crate::remote_config::state_record::{ChangeOutcome, ConfigPhase, ConfigState, ConfigVersion};
use crate::remote_config::state_store::{self, Files};
use crate::remote_config::validation;
use crate::settings::load;
use crate::units::Digest;

/// Arguments of `taimat config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent's configuration file.
    #[arg(long, global = true, default_value = "/etc/taimat/taimat.toml")]
    config: PathBuf,
    /// The agent's state directory (run --state).
    #[arg(long, global = true)]
    state: Option<PathBuf>,
    #[command(subcommand)]
    what: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Show the configuration in force and the result of the last change.
    Show {
        /// Print the text of the last known good configuration instead.
        #[arg(long)]
        text: bool,
        /// Print the stored state as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the stored configurations, newest first.
    History,
    /// Roll back to an older configuration: it is tried like any change. The agent finds the
    /// request within two seconds.
    Rollback {
        /// Number of the older configuration in `history`.
        #[arg(default_value_t = 1)]
        nth: usize,
    },
}

/// Runs the command.
///
/// # Errors
/// There is no readable state.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let dir = args.state.clone().unwrap_or_else(|| state_dir(&args.config));
    if !dir.is_dir() {
        bail!("{}: no stored configuration; was the agent started with --state?", shown_path(&dir));
    }
    let files = RealFiles::open(&dir).map_err(anyhow::Error::msg)?;
    let record = state_store::load(&files)
        .with_context(|| format!("{}: no readable record", shown_path(&dir)))?;
    match args.what {
        ConfigCommand::Show { json: true, .. } => {
            let mut shown = serde_json::to_value(&record)?;
            shown["file_problem"] = serde_json::json!(file_problem(&args.config, &record));
            println!("{}", shown_json(&shown)?);
        }
        ConfigCommand::Show { text: true, .. } => {
            let text = state_store::text(&files, &record.committed.sha256);
            print_text(&text.context("its text is unreadable")?);
        }
        ConfigCommand::Show { .. } => {
            show(&record);
            let problem = file_problem(&args.config, &record)
                .or_else(|| file_differs(&args.config, &files, &record));
            if let Some(problem) = problem {
                println!("{}", shown_lines(&problem));
            }
        }
        ConfigCommand::History => history(&record),
        ConfigCommand::Rollback { nth } => {
            let Some(old) = nth.checked_sub(1).and_then(|nth| record.older.get(nth)) else {
                bail!("there is no older configuration {nth}: see taimat config history");
            };
            let request = format!("{}\n", nth - 1);
            files.write(REQUEST, request.as_bytes()).map_err(anyhow::Error::msg)?;
            println!("rollback to {} requested: taimat config show prints the outcome", line(old));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(record: &ConfigState) {
    let phase = match &record.phase {
        ConfigPhase::Idle => "no change in progress".to_owned(),
        ConfigPhase::Staged(trial) => format!("staged: {}", line(&trial.next)),
        ConfigPhase::Trial(trial) => {
            let (ran, limit) = (trial.ran / 1_000_000, trial.limit / 1_000_000);
            format!(
                "on trial, {ran} of {limit} s, {} start(s): {}",
                trial.starts,
                line(&trial.next)
            )
        }
    };
    println!("{phase}");
    println!("last known good: {}", line(&record.committed));
    if record.rest == crate::remote_config::state_record::SafeMode::Safe {
        println!("SAFE MODE: the process ended repeatedly under this configuration");
    }
    if let Some(last) = &record.last {
        println!("last change: {} at {}: {}", last.next.id, last.at, outcome(last));
    }
}

fn outcome(last: &ChangeOutcome) -> String {
    match &last.refusal {
        None => "committed".to_owned(),
        Some(refusal) if refusal.is_rollback() => format!("rolled back: {}", refusal.detail),
        Some(refusal) => format!("refused: {}", refusal.line()),
    }
}

/// Why the configuration file is not in force though it was edited; `None` for a file that is, or
/// that a remote change replaced.
fn file_problem(path: &Path, record: &ConfigState) -> Option<String> {
    let name = shown_path(path);
    let text = match load::read(path) {
        Ok(text) => text,
        Err(reason) => {
            return Some(format!(
                "{name} cannot be read, so the last known good is in force: {reason}"
            ));
        }
    };
    let sha256 = Digest::of(text.as_bytes());
    let known = [&record.committed, &record.bootstrap].into_iter().chain(&record.older);
    let tried = match &record.phase {
        ConfigPhase::Idle => None,
        ConfigPhase::Staged(trial) | ConfigPhase::Trial(trial) => Some(&trial.next),
    };
    if known.chain(tried).any(|version| version.sha256 == sha256) {
        return None;
    }
    if let Err(refusal) = validation::judge(&text, &load::read) {
        return Some(format!(
            "{name} was edited and is rejected, so the last known good stays in force: {}",
            refusal.line()
        ));
    }
    let why = match &record.last {
        Some(last) if last.next.sha256 == sha256 => "its trial failed, see the last change",
        _ if record.file == sha256 => "it was rejected, see the agent's log",
        _ => "the agent has not read it yet; it looks every two seconds",
    };
    Some(format!("{name} was edited and is not in force: {why}"))
}

/// What an edit of the configuration file would undo: the office has changed keys since.
fn file_differs(path: &Path, files: &dyn Files, record: &ConfigState) -> Option<String> {
    let text = load::read(path).ok()?;
    let is_idle = matches!(record.phase, ConfigPhase::Idle);
    let keys = local_edit::set_back(files, record, &text).filter(|_| is_idle)?;
    Some(format!(
        "{} differs from the one in force, and an edit of it sets back {keys}: start from `taimat config show --text`",
        shown_path(path)
    ))
}

fn history(record: &ConfigState) {
    println!("0  {}", line(&record.committed));
    record.older.iter().enumerate().for_each(|(n, old)| println!("{}  {}", n + 1, line(old)));
    println!("bootstrap  {}", line(&record.bootstrap));
}

fn line(version: &ConfigVersion) -> String {
    format!("{} sha256 {} of {}", version.id, &version.sha256.hex()[..16], version.at)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::remote_config::rejection::{RejectReason, Rejection};

    #[test]
    fn an_edit_that_would_undo_a_push_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taimat.toml");
        let files = RealFiles::open(dir.path()).unwrap();
        let file = "site = \"a\"\nmotion.sensitivity = 5\n";
        let pushed = "site = \"a\"\nmotion.sensitivity = 4\n";
        std::fs::write(&path, file).unwrap();
        let digest = |text: &str| Digest::of(text.as_bytes());
        let mut record = ConfigState::of_file(digest(file), String::new(), BTreeSet::new());
        state_store::save(&files, &record, Some(file)).unwrap();
        assert_eq!(file_differs(&path, &files, &record), None);
        record.commit(ConfigVersion::of_file(digest(pushed), String::new()), String::new());
        state_store::save(&files, &record, Some(pushed)).unwrap();
        let problem = file_differs(&path, &files, &record).unwrap();
        assert!(problem.contains("sets back motion.sensitivity: start from"), "{problem}");
        let edited = format!("{file}motion.fps = 4\n");
        assert_eq!(local_edit::set_back(&files, &record, &edited).unwrap(), "motion.sensitivity");
    }

    #[test]
    fn the_end_of_a_trial_is_called_a_rollback() {
        let next = ConfigVersion::of_file(Digest::default(), String::new());
        let mut last = ChangeOutcome { next, refusal: None, at: String::new() };
        assert_eq!(outcome(&last), "committed");
        for (why, said) in [
            (RejectReason::Trial, "rolled back: missing"),
            (RejectReason::Replaced, "rolled back: missing"),
            (RejectReason::Probe, "refused: probe: missing"),
        ] {
            last.refusal = Some(Rejection::new(why, "missing"));
            assert_eq!(outcome(&last), said);
        }
    }

    #[test]
    fn a_rejected_edit_of_the_file_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taimat.toml");
        let good = "site = \"km-17\"\ncamera.main_url = \"rtsp://x/\"\nstorage.dir = \"/r\"\n\
                    uplink.host = \"localhost\"\n";
        let mut record =
            ConfigState::of_file(Digest::of(good.as_bytes()), String::new(), BTreeSet::new());
        let problem = |text: &str, record: &ConfigState| {
            std::fs::write(&path, text).unwrap();
            file_problem(&path, record)
        };
        assert_eq!(problem(good, &record), None);
        let unread = problem(&format!("{good}motion.sensitivity = 3\n"), &record).unwrap();
        assert!(unread.contains("has not read it yet"), "{unread}");
        let bad = format!("{good}motion.sensitivity = 77\n");
        record.file = Digest::of(bad.as_bytes());
        let rejected = problem(&bad, &record).unwrap();
        assert!(rejected.contains("rejected") && rejected.contains("motion.sensitivity"));
        std::fs::remove_file(&path).unwrap();
        assert!(file_problem(&path, &record).unwrap().contains("cannot be read"));
    }
}
