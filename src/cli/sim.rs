//! ⇄ `taimat sim`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use crate::sim::disk::Barrier;
use crate::sim::world;

/// Arguments of `taimat sim`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seed of the first world; the following worlds count up from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many worlds.
    #[arg(long, default_value_t = 20)]
    worlds: u64,
    /// Leave a flush out, to see that the checks notice: ring or journal. Exit code 1 is then what should happen.
    #[arg(long, value_parser = ["ring", "journal"])]
    without_flush: Option<String>,
}

/// Runs the worlds: exit code 0 when every promise held, 1 with the seeds that broke one.
///
/// # Errors
/// Never: a broken promise is an answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let ignored = args.without_flush.map(|which| if which == "ring" { Barrier::Ring } else { Barrier::Journal });
    let (mut cuts, mut lost, mut events, mut files, mut durable, mut failed) = (0, 0, 0, 0, 0, Vec::new());
    for seed in args.seed..args.seed.saturating_add(args.worlds) {
        match world::run(seed, ignored) {
            Ok(summary) => {
                cuts += summary.cuts;
                lost += summary.lost;
                events += summary.events;
                files += summary.files;
                durable += summary.durable;
            }
            Err(wrongs) => {
                println!("seed {seed} FAILED (replay: taimat sim --seed {seed} --worlds 1):\n{wrongs}");
                failed.push(seed);
            }
        }
        if std::io::stderr().is_terminal() {
            eprint!("\r{} of {} worlds ", seed - args.seed + 1, args.worlds);
        }
    }
    println!(
        "{} worlds, {} failed: {cuts} power cuts, {lost} lost sessions, {durable} durable records, {events} events and {files} files delivered",
        args.worlds,
        failed.len()
    );
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
