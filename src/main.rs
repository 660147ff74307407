//! ⇄ The story: logging, the command line, the exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser;
use taimat::log_tail::LogTail;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::MakeWriterExt as _;

/// Exit code of a program whose reader went away, as shells know it: 128 and SIGPIPE.
const READER_GONE: i32 = 141;

fn main() -> ExitCode {
    // Footage, archives and keys are for the user who runs this, also where no unit sets UMask=.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // `println!` panics when `head` has seen enough; that is an end, not a fault.
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|text| text.starts_with("failed printing to stdout: Broken pipe")) {
            std::process::exit(READER_GONE);
        }
        usual(panic);
    }));
    let cli = taimat::cli::Cli::parse();
    let filter = EnvFilter::try_from_env("TAIMAT_LOG").unwrap_or_else(|_| EnvFilter::new(cli.default_log()));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr.and(LogTail::shared()))
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match taimat::cli::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("taimat: {}", taimat::escape::shown_lines(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}
