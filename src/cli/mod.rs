//! The command line, one file for each subcommand: parses arguments, calls modules, prints tables or JSON, returns exit codes.
//!
//! What belongs here: output and exit codes (0 success, 1 failure, 2 wrong usage; `verify` adds 3). What does not: decisions and
//! storage.

/// Prints a text of several lines, escaped: what a command shows may come from a file, a camera or a network. It stands before all
/// modules in place of the standard macro, so that no command can forget it. JSON is escaped by itself before ([`crate::escape`]).
macro_rules! println {
    ($($text:tt)*) => { ::std::println!("{}", $crate::escape::shown_lines(&::std::format!($($text)*))) };
}
/// The same on standard error.
macro_rules! eprintln {
    ($($text:tt)*) => { ::std::eprintln!("{}", $crate::escape::shown_lines(&::std::format!($($text)*))) };
}

#[cfg(feature = "office")]
mod broker;
pub(crate) mod check_config;
pub(crate) mod config;
#[cfg(feature = "sim")]
pub(crate) mod demo;
#[cfg(feature = "sim")]
mod demo_web;
#[cfg(feature = "office")]
mod text_diff;
pub(crate) mod discover;
pub mod eval_motion;
#[cfg(feature = "sim")]
pub(crate) mod load_test;
#[cfg(feature = "sim")]
pub(crate) mod fleet_sim;
pub(crate) mod keygen;
pub mod mp4_samples;
#[cfg(feature = "office")]
pub(crate) mod office;
#[cfg(feature = "office")]
mod office_audit;
#[cfg(feature = "office")]
pub(crate) mod office_config;
#[cfg(feature = "office")]
mod office_file;
#[cfg(feature = "office")]
mod office_filter;
#[cfg(feature = "office")]
mod office_lock;
#[cfg(feature = "office")]
mod office_print;
#[cfg(feature = "office")]
mod office_trail;
#[cfg(feature = "office")]
mod office_user;
#[cfg(feature = "office")]
mod office_web;
pub(crate) mod probe;
pub(crate) mod ring;
pub mod run;
#[cfg(feature = "sim")]
pub(crate) mod sim;
pub(crate) mod verify;
mod time_zone;

use std::process::ExitCode;

/// The arguments of `taimat`.
#[derive(Debug, clap::Parser)]
#[command(name = "taimat", version = crate::VERSION, about, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    // Operators' commands.
    /// Run the agent beside a camera.
    Run(run::Args),
    /// Check a configuration file and report every bad key at once.
    CheckConfig(check_config::Args),
    /// On the device: show its configurations, or go back to an older one (office config: from the office).
    Config(config::Args),
    /// Find cameras on the local network: their streams, clocks and what to set in them.
    Discover(discover::Args),
    /// Connect to a camera and print what it sends.
    Probe(probe::Args),
    /// On the device: list, check, export or lock the footage on its card (office lock: files in the archive).
    Ring(ring::Args),
    /// Check a clip that left a device.
    Verify(verify::Args),
    /// Make a device's TLS key and certificate request, or an office's signing key.
    Keygen(keygen::Args),
    /// The office: receive and list what devices send; command (lock on a device: office cmd SITE lock) and configure them.
    #[cfg(feature = "office")]
    Office(office::Args),
    // Developers' commands.
    /// Run a demonstration: simulated camera, embedded broker, agent and office on this machine.
    #[cfg(feature = "sim")]
    Demo(demo::Args),
    /// For developers: run the motion detector on video files.
    EvalMotion(eval_motion::Args),
    /// For developers: run simulated worlds with power cuts and lost sessions, and check the guarantees.
    #[cfg(feature = "sim")]
    Sim(sim::Args),
}

/// End of `taimat --help`.
const AFTER_HELP: &str = "\
Exit codes: 0 success, 1 failure, 2 wrong usage; office config push|fleet: 2 nothing was sent;
verify: 3 consistent but unsigned.
Environment: TAIMAT_LOG selects what is logged on stderr, e.g. TAIMAT_LOG=debug or
TAIMAT_LOG=info,taimat::uplink=trace.";

impl Cli {
    /// Default of `TAIMAT_LOG`: simulated agents would log the same lines thousands of times.
    pub fn default_log(&self) -> &'static str {
        match self.command {
            #[cfg(feature = "sim")]
            Command::Sim(_) => "off",
            _ => "info,rumqttd=off",
        }
    }
}

/// A wrong argument that the parser cannot detect: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Runs one command line.
///
/// # Errors
/// The error of the subcommand, with the chain of causes.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Err(error) = run::survive_file_size_limit() {
        tracing::warn!(%error, "a file size limit (ulimit -f) would end this process: SIGXFSZ cannot be caught; start without such a limit");
    }
    match dispatch(cli) {
        Err(error) if error.is::<Usage>() => {
            eprintln!("taimat: {error:#}");
            Ok(ExitCode::from(2))
        }
        outcome => outcome,
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run(args) => run::run(args),
        #[cfg(feature = "sim")]
        Command::Demo(args) => demo::run(args),
        Command::CheckConfig(args) => check_config::run(args),
        Command::Config(args) => config::run(args),
        Command::Discover(args) => discover::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Ring(args) => ring::run(args),
        Command::EvalMotion(args) => eval_motion::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Keygen(args) => keygen::run(args),
        #[cfg(feature = "office")]
        Command::Office(args) => office::run(args),
        #[cfg(feature = "sim")]
        Command::Sim(args) => sim::run(args),
    }
}

/// Prints a whole text: unchanged into a file or a pipe, escaped on a terminal.
fn print_text(text: &str) {
    use std::io::IsTerminal as _;
    match std::io::stdout().is_terminal() {
        true => print!("{}", crate::escape::shown_lines(text)),
        false => print!("{text}"),
    }
}
