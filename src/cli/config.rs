//! `taimat config`: shows the configurations of this device and requests a rollback.
//!
//! The running agent finds the request and decides.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::print_text;
use crate::agent::config_thread::REQUEST;
use crate::escape::shown_json;
use crate::remote_config::durable_files::RealFiles;
use crate::remote_config::startup::state_dir;
use crate::remote_config::state_record::{ConfigPhase, ConfigState, ConfigVersion};
use crate::remote_config::state_store::{self, Files as _};

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
    let dir = args.state.unwrap_or_else(|| state_dir(&args.config));
    if !dir.is_dir() {
        bail!("{}: no stored configuration; was the agent started with --state?", dir.display());
    }
    let files = RealFiles::open(&dir).map_err(anyhow::Error::msg)?;
    let record = state_store::load(&files)
        .with_context(|| format!("{}: no readable record", dir.display()))?;
    match args.what {
        ConfigCommand::Show { json: true, .. } => println!("{}", shown_json(&record)?),
        ConfigCommand::Show { text: true, .. } => {
            let text = state_store::text(&files, &record.committed.sha256);
            print_text(&text.context("its text is unreadable")?);
        }
        ConfigCommand::Show { .. } => show(&record),
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
        let how = last.refusal.as_ref().map_or_else(
            || "committed".to_owned(),
            crate::remote_config::rejection::Rejection::line,
        );
        println!("last change: {} at {}: {how}", last.next.id, last.at);
    }
}

fn history(record: &ConfigState) {
    println!("0  {}", line(&record.committed));
    record.older.iter().enumerate().for_each(|(n, old)| println!("{}  {}", n + 1, line(old)));
    println!("bootstrap  {}", line(&record.bootstrap));
}

fn line(version: &ConfigVersion) -> String {
    format!("{} sha256 {} of {}", version.id, &version.sha256.hex()[..16], version.at)
}
