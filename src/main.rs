//! The program: sets up logging, runs the command line and returns the exit code.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser;
use taimat::log_tail::LogTail;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::writer::MakeWriterExt as _;
use tracing_subscriber::prelude::*;

/// Environment variable with the log levels: `debug`, or by module `info,taimat::storage=debug`.
const LOG_VARIABLE: &str = "TAIMAT_LOG";

/// Libraries that log a line for each packet of a camera: they log errors alone, unless the variable
/// names them.
const PACKET_LOGGERS: [&str; 2] = ["retina", "h264_reader"];

/// The levels with those of [`PACKET_LOGGERS`].
fn quietened(levels: Targets, text: &str) -> Targets {
    let unnamed = PACKET_LOGGERS.into_iter().filter(|name| !text.contains(name));
    levels.with_targets(unnamed.map(|name| (name, LevelFilter::ERROR)))
}

/// Parses levels. A word that is neither a level nor `MODULE=LEVEL` is an error: alone it would be
/// taken for a module, which silences all others.
fn levels_of(text: &str) -> Result<Targets, String> {
    let is_known = |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
    match text.split(',').find(|part| !is_known(part.trim())) {
        Some(part) => Err(format!("{part:?} is no level; use error, warn, info, debug or trace")),
        None => text.parse::<Targets>().map_err(|error| error.to_string()),
    }
}

/// Exit code for a closed standard output: 128 + SIGPIPE, as shells report it.
const STDOUT_CLOSED: i32 = 141;
/// Exit code for output that cannot be written, e.g. to a full disk: `EX_IOERR` of sysexits.h.
const OUTPUT_FAILED: i32 = 74;

fn main() -> ExitCode {
    // Footage, archives and keys are readable by their user only, also without a unit that sets
    // UMask=.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // `println!` panics when `head` closes the pipe: that ends the program without an error
        // message.
        let text = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        if text.starts_with("failed printing to stdout: Broken pipe") {
            std::process::exit(STDOUT_CLOSED);
        }
        if text.starts_with("failed printing to std") {
            // Standard error may be what failed.
            let _ = writeln!(std::io::stderr(), "taimat: output not written: {text}");
            std::process::exit(OUTPUT_FAILED);
        }
        default_hook(panic);
    }));
    let cli = taimat::cli::Cli::parse();
    let wanted = std::env::var(LOG_VARIABLE).ok();
    let wanted = wanted.as_deref().unwrap_or_default();
    let parsed = Some(wanted).filter(|text| !text.trim().is_empty()).map(levels_of);
    let default = || cli.default_log().parse::<Targets>().unwrap_or_default();
    let levels = parsed.as_ref().and_then(|parsed| parsed.as_ref().ok()).cloned();
    let levels = quietened(levels.unwrap_or_else(default), wanted);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr.and(LogTail::shared()))
        .with_ansi(std::io::stderr().is_terminal())
        // A log line that stderr rejects is lost. Reporting that on stderr would panic.
        .log_internal_errors(false);
    // The whole registry is filtered: with a filter of the layer alone, tests/peers missed log lines.
    tracing_subscriber::registry().with(levels).with(layer).init();
    if let Some(Err(error)) = parsed {
        tracing::warn!(variable = LOG_VARIABLE, %error, "log levels not understood, using the default");
    }
    match taimat::cli::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("taimat: {}", taimat::escape::shown_lines(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_log_each_packet_log_errors_unless_named() {
        use tracing::Level;
        for (text, warns, own) in [
            ("info", false, Level::INFO),
            ("debug", false, Level::DEBUG),
            ("info,retina=warn", true, Level::INFO),
        ] {
            let levels = quietened(levels_of(text).unwrap(), text);
            let target = "retina::codec::h264";
            assert_eq!(levels.would_enable(target, &Level::WARN), warns, "{text}");
            assert!(levels.would_enable(target, &Level::ERROR), "{text}");
            assert!(levels.would_enable("taimat::camera", &own), "{text}");
        }
    }
}
