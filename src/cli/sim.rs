//! `taimat sim`: simulated worlds, crash images, configuration faults and load tests.
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock")]

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::{fleet_sim, load_test};
use crate::office::safeguards::IngestRule;
use crate::remote_config::mutation::Safeguard;
use crate::sim::barrier::Barrier;
use crate::sim::crash_explorer::{self, CrashEffort, CrashPoint, Failure, Summary};
use crate::sim::oracle::Violation;
use crate::sim::{config_faults, office, world};

/// Arguments of `taimat sim`.
#[derive(Debug, clap::Args)]
#[command(after_help = crate::sim::MARKER)]
pub struct Args {
    /// Seed of the first world, or of the first card life; the following seeds count up from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of worlds.
    #[arg(long, default_value_t = 20)]
    worlds: u64,
    /// Instead of worlds, cut the power of a tiny ring at every point and check this many of the
    /// possible cards.
    #[arg(long, value_name = "N")]
    crash_images: Option<u64>,
    /// Remove a flush or a write order, to prove that the checks notice: the expected exit code is
    /// then 1.
    #[arg(long, value_name = "BARRIER", value_parser = Barrier::parse, alias = "without-flush")]
    without: Option<Barrier>,
    /// Remove every barrier in turn, with at most --crash-images images each (1000000), and print
    /// the broken promise.
    #[arg(long)]
    barriers: bool,
    /// Instead, run this many worlds of an office with disk faults, index faults and power cuts.
    #[arg(long, value_name = "N")]
    office_worlds: Option<u64>,
    /// With --office-worlds: remove each ingest rule in turn, with at most this many worlds, and
    /// print the loss.
    #[arg(long, requires = "office_worlds")]
    office_rules: bool,
    /// Instead, try every kind of configuration change with a fault at every operation of the card.
    #[arg(long)]
    config_states: bool,
    /// With --config-states: distance of second faults after the first, in operations.
    #[arg(long, value_name = "N", requires = "config_states", default_value_t = 0)]
    second: u64,
    /// Check only the images of this point of the life of --seed, as a failure prints it.
    #[arg(long, value_name = "POINT", requires = "crash_images")]
    point: Option<u64>,
    /// With --point: check only this image.
    #[arg(long, value_name = "IMAGE", requires = "point")]
    image: Option<u64>,
    /// Instead of worlds, run the agent of this configuration with injected motion, until a signal.
    #[arg(long, value_name = "CONFIG")]
    load_test: Option<PathBuf>,
    /// Instead of worlds, load a broker on this machine and its office with this many devices.
    #[arg(long, value_name = "SITES", requires = "port")]
    fleet: Option<u64>,
    /// The broker's port.
    #[arg(long, requires = "fleet")]
    port: Option<u16>,
    /// With --fleet: events of each device.
    #[arg(long, default_value_t = 100, requires = "fleet")]
    events: u64,
    /// With --fleet: files of each device.
    #[arg(long, default_value_t = 1, requires = "fleet")]
    files: u64,
    /// With --fleet: size of each file, KiB.
    #[arg(long, default_value_t = 256, requires = "fleet")]
    file_kib: usize,
    /// With --fleet: interval of a device's messages, seconds; 0 for full speed.
    #[arg(long, default_value_t = 0, requires = "fleet")]
    every: u64,
    /// With --load-test: motion updates a second.
    #[arg(long, default_value_t = 20, requires = "load_test")]
    rate: u64,
    /// With --load-test: updates between start and end of each event.
    #[arg(long, default_value_t = 8, requires = "load_test")]
    updates: u64,
    /// With --load-test: number of motion events.
    #[arg(long, default_value_t = 1_000_000, requires = "load_test")]
    motions: u64,
}

/// Runs the chosen simulation: exit code 0 if every promise held, 1 with the command that replays a
/// broken one.
///
/// # Errors
/// The agent of a load test cannot run.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(config) = &args.load_test {
        return load_test::run(
            config,
            load_test::LoadTest { rate: args.rate, updates: args.updates, motions: args.motions },
        );
    }
    if let (Some(sites), Some(port)) = (args.fleet, args.port) {
        let (events, files, file_bytes) = (args.events, args.files, args.file_kib << 10);
        let every = Duration::from_secs(args.every);
        return fleet_sim::run(fleet_sim::FleetLoad {
            sites,
            port,
            events,
            files,
            file_bytes,
            every,
        });
    }
    let kept = match (args.barriers, args.crash_images) {
        _ if args.config_states => config_states(args.second),
        _ if args.office_worlds.is_some() => office_worlds(&args),
        (true, images) => barriers(args.seed, images.unwrap_or(1_000_000)),
        (false, Some(images)) => crash_images(&args, images),
        (false, None) => worlds(&args),
    };
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// True if every receipt of the office was true; with removed rules, if a check fails without each.
fn office_worlds(args: &Args) -> bool {
    let (started, worlds) = (Instant::now(), args.office_worlds.unwrap_or_default());
    let seeds = || args.seed..args.seed.saturating_add(worlds);
    if args.office_rules {
        let mut good = true;
        for rule in IngestRule::ALL {
            let lost = seeds().find_map(|seed| office::world::run(seed, Some(rule)).err());
            println!(
                "{:<16} {:<58} {}",
                rule.name(),
                rule.what(),
                lost.as_deref().unwrap_or("NOT NOTICED")
            );
            good &= lost.is_some();
        }
        return good;
    }
    let (mut cuts, mut refusals, mut receipts, mut failed) = (0, 0, 0, 0_u64);
    for seed in seeds() {
        match office::world::run(seed, None) {
            Ok(lived) => {
                (cuts, refusals, receipts) =
                    (cuts + lived.cuts, refusals + lived.refusals, receipts + lived.receipts)
            }
            Err(what) => {
                println!("FAILED {what}\n  replay: taimat sim --office-worlds 1 --seed {seed}");
                failed += 1;
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{worlds} office worlds, {failed} failed: {cuts} power cuts, {refusals} refusals, {receipts} receipts; {seconds:.0} s"
    );
    failed == 0
}

fn worlds(args: &Args) -> bool {
    let (mut cuts, mut lost, mut events, mut files, mut durable, mut failed) =
        (0, 0, 0, 0, 0, Vec::new());
    for seed in args.seed..args.seed.saturating_add(args.worlds) {
        match world::run(seed, args.without) {
            Ok(summary) => {
                cuts += summary.cuts;
                lost += summary.lost;
                events += summary.events;
                files += summary.files;
                durable += summary.durable;
            }
            Err(wrongs) => {
                println!(
                    "seed {seed} FAILED (replay: taimat sim --seed {seed} --worlds 1):\n{wrongs}"
                );
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
    failed.is_empty()
}

fn crash_images(args: &Args, images: u64) -> bool {
    let started = Instant::now();
    let effort = CrashEffort::full(images);
    let summary = match args.point {
        Some(point) => crash_explorer::replay(
            CrashPoint { seed: args.seed, point, image: args.image },
            effort,
            args.without,
        ),
        None => crash_explorer::run(args.seed, effort, args.without),
    };
    // The last 24 operations show how the card came to this state.
    summary
        .operations
        .iter()
        .skip(summary.operations.len().saturating_sub(24))
        .for_each(|line| println!("{line}"));
    let without =
        args.without.map(|barrier| format!(" --without {}", barrier.name())).unwrap_or_default();
    for Failure { place: CrashPoint { seed, point, image }, kind, broken } in &summary.broken {
        let image = image.map(|image| format!(" --image {image}")).unwrap_or_default();
        println!(
            "BROKEN {broken} ({kind})\n  replay: taimat sim --crash-images 1 --seed {seed} --point {point}{image}{without}"
        );
    }
    print_summary(&summary);
    println!("{:.1} s", started.elapsed().as_secs_f64());
    summary.broken.is_empty()
}

fn print_summary(summary: &Summary) {
    let lost = summary.count(|broken| matches!(broken, Violation::Lost(_)));
    let unnamed = summary.count(|broken| matches!(broken, Violation::Unnamed(_)));
    let unplayable = summary.count(|broken| matches!(broken, Violation::Unplayable(_)));
    println!(
        "{} crash images tried ({} different; {} opened, the others had been under the same promises) in {} lives",
        summary.images,
        summary.unique.len(),
        summary.checked,
        summary.lives
    );
    println!(
        "{} moments with every subset tried, {} with a random choice; {} durable records looked for",
        summary.points.0, summary.points.1, summary.records
    );
    println!(
        "{lost} lost, {unnamed} unnamed gaps, {unplayable} unplayable, {} other failures",
        summary.broken.len() - lost - unnamed - unplayable
    );
}

/// Runs all configuration changes, then again without each safeguard: true if no change makes a
/// device unreachable, and without each safeguard one does.
fn config_states(second: u64) -> bool {
    let started = Instant::now();
    let summary = config_faults::enumerate(
        config_faults::ConfigEffort { stride: 1, second, first_only: false },
        None,
    );
    println!(
        "{} worlds, {} states of the machine, {} power cuts, {} refused or damaged operations: {} strandings; {:.0} s",
        summary.worlds,
        summary.states.len(),
        summary.cuts,
        summary.faults,
        summary.stranded.len(),
        started.elapsed().as_secs_f64()
    );
    summary.stranded.iter().for_each(|stranded| println!("STRANDED {stranded}"));
    let mut good = summary.stranded.is_empty();
    for without in Safeguard::ALL {
        let summary = config_faults::enumerate(
            config_faults::ConfigEffort { stride: 1, second: 0, first_only: true },
            Some(without),
        );
        let verdict = summary
            .stranded
            .first()
            .map_or("NOT NOTICED".to_owned(), |stranded| format!("stranded: {stranded}"));
        println!(
            "{:<15} {:<72} {verdict} (world {})",
            without.name(),
            without.what(),
            summary.worlds
        );
        good &= !summary.stranded.is_empty();
    }
    good
}

/// Prints the table of barriers; true if storage is safe with all and unsafe without each.
fn barriers(seed: u64, images: u64) -> bool {
    let mut good = true;
    for without in std::iter::once(None).chain(Barrier::ALL.map(Some)) {
        let summary = crash_explorer::run(seed, CrashEffort::full(images), without);
        let (name, what) =
            without.map_or(("-", "nothing is missing"), |barrier| (barrier.name(), barrier.what()));
        let verdict = match summary.broken.first() {
            Some(Failure { place, kind, broken }) => {
                format!("fails, image {}, life {}: {broken} ({kind})", summary.images, place.seed)
            }
            None => format!("passes {} images", summary.images),
        };
        println!("{name:<17} {what:<58} {verdict}");
        good &= without.is_none() == summary.broken.is_empty();
    }
    good
}
