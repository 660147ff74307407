//! ⇄ The story: logging, the command line, the exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser;
use taimat::tail::Tail;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::MakeWriterExt as _;

fn main() -> ExitCode {
    let cli = taimat::cli::Cli::parse();
    let filter = EnvFilter::try_from_env("TAIMAT_LOG").unwrap_or_else(|_| EnvFilter::new(cli.default_log()));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr.and(Tail::ours()))
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match taimat::cli::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("taimat: {error:#}");
            ExitCode::FAILURE
        }
    }
}
