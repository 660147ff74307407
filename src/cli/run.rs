//! ⇄ `taimat run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::agent::wiring;
use crate::clock::SystemClock;
use crate::settings::load;

/// Arguments of `taimat run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file (TOML; every key is in docs/config.md).
    #[arg(long)]
    config: PathBuf,
}

/// Runs the agent until SIGTERM or SIGINT; a second signal ends it at once.
///
/// # Errors
/// When the ring cannot be used. A bad configuration gives exit code 2.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let settings = match load::load(&args.config) {
        Ok(settings) => settings,
        Err(problems) => {
            eprintln!("{}: {} problem(s)\n{problems}", args.config.display(), problems.0.len());
            return Ok(ExitCode::from(2));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let stop = on_signal()?;
        wiring::run(settings, Arc::new(SystemClock::new()), stop).await
    });
    // A card or a camera that hangs must not keep the process from ending.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Becomes true with the first SIGTERM or SIGINT; the second ends the process at once with 128 + its number, as a shell would say.
///
/// # Errors
/// When signals cannot be caught.
pub fn on_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        for first in [true, false] {
            let kind = tokio::select! {
                _ = terminate.recv() => SignalKind::terminate(),
                _ = interrupt.recv() => SignalKind::interrupt(),
            };
            if !first {
                std::process::exit(128 + kind.as_raw_value());
            }
            tracing::info!("stopping; a second signal ends at once");
            let _ = sender.send(true);
        }
    });
    Ok(receiver)
}
