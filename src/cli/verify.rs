//! `taimat verify`: checks a clip.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::escape::{shown, shown_json, shown_path};
use crate::evidence::verify::{Report, check};
use crate::regular_file::{Links, read};
use crate::storage::missing_records::numbers;

/// Arguments of `taimat verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A clip made by taimat.
    file: PathBuf,
    /// One JSON document instead of lines.
    #[arg(long)]
    json: bool,
}

/// Maximum size of a clip, which is read whole: twice a ring of the default size in one export.
const CLIP_MAX: u64 = 16 << 30;
/// Exit code of a consistent, unsigned clip. 0 is kept for signed clips, so that a script cannot
/// mistake an unsigned clip for a proof.
const UNSIGNED: u8 = 3;

/// Checks that a clip has the records of its about box, whole, chained, and after their head.
///
/// Exit codes: 3 consistent and unsigned, 1 damaged or altered, 2 not a clip or unreadable; 0 is
/// kept for signed clips.
///
/// # Errors
/// The report cannot be written as JSON.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let read = read(&args.file, Links::Follow, CLIP_MAX)
        .map_err(|error| format!("cannot be read: {error}"));
    let report = match read.and_then(|bytes| check(&bytes)) {
        Ok(report) => report,
        Err(reason) => {
            match args.json {
                true => println!("{}", shown_json(&json!({"file": args.file, "error": reason}))?),
                false => eprintln!("{}: {reason}", shown_path(&args.file)),
            }
            return Ok(ExitCode::from(2));
        }
    };
    if args.json {
        println!("{}", shown_json(&report)?);
    } else {
        show(&report);
    }
    Ok(if report.problems.is_empty() { ExitCode::from(UNSIGNED) } else { ExitCode::FAILURE })
}

fn show(report: &Report) {
    let word = |key: &str| shown(report.about[key].as_str().unwrap_or("?"));
    println!(
        "site {}, {} to {} (clock: {})",
        word("site"),
        word("from"),
        word("to"),
        word("clock")
    );
    println!("sha256 {}", report.sha256.hex());
    for gap in report.about["gaps"].as_array().into_iter().flatten() {
        let part = |at: usize| shown(gap[at].as_str().unwrap_or("?"));
        println!("gap {} to {}: {}", part(0), part(1), part(2));
    }
    let (first, last) = report.numbers.unwrap_or_default();
    for ((from, to), (begin, end)) in report.missing.iter().zip(&report.missing_times) {
        println!(
            "{} not in it, {} to {}, as its about box says",
            numbers(*from, *to),
            shown(begin),
            shown(end)
        );
    }
    report.problems.iter().for_each(|problem| println!("{}", shown(&problem.to_string())));
    match report.problems.is_empty() {
        true => println!(
            "CONSISTENT, UNSIGNED: {} records, {first} to {last} as the about box says, each whole and following from the one before.",
            report.records
        ),
        false => println!(
            "NOT CONSISTENT: {} records, {} problems.",
            report.records,
            report.problems.len()
        ),
    }
    println!(
        "Nothing is signed in this version{}: this finds damage in any bit and clumsy changes, not a forger who\n\
         writes head, records and about box anew. Compare the sha256 with the one the office's archive keeps.",
        if report.problems.is_empty() { " (exit code 3, not 0)" } else { "" }
    );
}
