//! `taimat run`: runs the agent.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: starts a thread or task, starts a process, reads the environment"
)]

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::agent::runtime::{self, RunEnd};
use crate::clock::{Clock as _, SystemClock};
use crate::remote_config::startup;
use crate::wakeup::{MAX_DELAY, WakeupCoalescer};

/// Largest number of blocking threads of the runtime, for name look-ups and joins. The allocator
/// keeps an arena for each thread that ever ran in parallel, and its free memory stays resident:
/// with tokio's limit of 512 memory grew for hours.
const BLOCKING_THREADS: usize = 3;

/// Arguments of `taimat run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file (TOML; every key is in docs/config.md).
    #[arg(long)]
    config: PathBuf,
    /// Directory of configurations and their state, best not on the ring's card. Without it: FILE
    /// with .state in place of .toml.
    #[arg(long)]
    state: Option<PathBuf>,
}

/// Runs the agent until SIGTERM or SIGINT; a second signal ends it at once.
///
/// # Errors
/// The ring cannot be used. A bad configuration gives exit code 2.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let clock = Arc::new(SystemClock::new());
    let state = args.state.unwrap_or_else(|| startup::state_dir(&args.config));
    let started = match startup::load_startup(&args.config, &state, runtime::seed()?, clock.now()) {
        Ok(started) => started,
        Err(problems) => {
            eprintln!("{}: {} problem(s)\n{problems}", args.config.display(), problems.0.len());
            return Ok(ExitCode::from(2));
        }
    };
    let wakeup = WakeupCoalescer::default();
    let resting = wakeup.clone();
    let rest = move || resting.park(MAX_DELAY);
    let runtime = runtime().on_thread_park(rest).build()?;
    let outcome = runtime.block_on(async {
        let stop = on_signal()?;
        runtime::run_configured(started.settings, started.configured, clock, wakeup, stop).await
    });
    // A hanging card or camera must not block the end of the process.
    runtime.shutdown_background();
    match outcome? {
        RunEnd::Stopped => Ok(ExitCode::SUCCESS),
        RunEnd::Restart => start_anew(),
    }
}

/// Executes this program again in the same process: the service manager keeps its process id, and a
/// restart needs no manager.
fn start_anew() -> anyhow::Result<ExitCode> {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let error = Command::new("/proc/self/exe").arg0(name).args(words).exec();
    Err(error).context("starting anew under another configuration")
}

/// A runtime with one thread and few blocking threads.
pub fn runtime() -> Builder {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(BLOCKING_THREADS);
    builder
}

/// Becomes true with the first SIGTERM or SIGINT; the second ends the process at once with exit
/// code
/// 128 + its number.
///
/// # Errors
/// Signals cannot be caught.
pub fn on_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn many_waits_at_once_get_few_threads() {
        static READING: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let read = || {
            MOST.fetch_max(READING.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
            READING.fetch_sub(1, Ordering::Relaxed);
        };
        runtime().build().unwrap().block_on(async {
            let reads: Vec<_> = (0..24).map(|_| tokio::task::spawn_blocking(read)).collect();
            for read in reads {
                read.await.unwrap();
            }
        });
        assert_eq!(MOST.load(Ordering::Relaxed), BLOCKING_THREADS);
    }
}
