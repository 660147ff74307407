//! ⇄ `taimat verify`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::evidence::verify::check;

/// Arguments of `taimat verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A clip made by taimat.
    file: PathBuf,
    /// One JSON document instead of lines.
    #[arg(long)]
    json: bool,
}

/// Checks each record's content digest and place in the chain. Exit code 0 whole, 1 altered or damaged, 2 no clip.
///
/// # Errors
/// When the file cannot be read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(&args.file).with_context(|| args.file.display().to_string())?;
    let report = match check(&bytes) {
        Ok(report) => report,
        Err(reason) => {
            eprintln!("{}: {reason}", args.file.display());
            return Ok(ExitCode::from(2));
        }
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        let word = |key: &str| report.about[key].as_str().unwrap_or("?").to_owned();
        println!("site {}, {} to {} (clock: {})", word("site"), word("from"), word("to"), word("clock"));
        println!("sha256 {}", report.sha256.hex());
        report.problems.iter().for_each(|problem| println!("{problem}"));
        let verdict =
            if report.problems.is_empty() { "whole: no record was altered, none is missing between" } else { "NOT WHOLE" };
        println!("{} records: {verdict}. Not signed: this does not prove which box made it.", report.records);
    }
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
