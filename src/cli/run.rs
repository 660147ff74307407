//! `taimat run`: runs the agent.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: starts a thread or task, starts a process, reads the environment"
)]

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::check_config;
use crate::agent::runtime::{self, RunEnd};
use crate::clock::{Clock as _, SystemClock};
use crate::escape::shown_path;
use crate::remote_config::startup;
use crate::units::counted;
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
    let started =
        match startup::load_startup(&args.config, &state, crate::clock::seed()?, clock.now()) {
            Ok(started) => started,
            Err(problems) => {
                // The same list as of `check-config`, which also looks into the files that are named.
                let problems = check_config::problems(&args.config).unwrap_or(problems);
                eprintln!(
                    "{}: {}\n{problems}",
                    shown_path(&args.config),
                    counted(problems.0.len(), "problem")
                );
                return Ok(ExitCode::from(2));
            }
        };
    let wakeup = WakeupCoalescer::default();
    let resting = wakeup.clone();
    let rest = move || resting.park(MAX_DELAY);
    let runtime = runtime().on_thread_park(rest).build()?;
    let outcome = runtime.block_on(async {
        let stop = on_signal_within(STOP_LIMITS)?;
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
    Err(error).context("restart under another configuration")
}

/// Catches SIGXFSZ for the life of the process, which would end at the file size limit of `ulimit -f`
/// or of a unit: the write fails with EFBIG instead and is handled as any fault of the disk.
///
/// # Errors
/// The signal cannot be caught.
pub fn survive_file_size_limit() -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let _registered = runtime.enter();
    signal(SignalKind::from_raw(libc::SIGXFSZ)).map(|_| ())
}

/// A runtime with one thread and few blocking threads.
pub fn runtime() -> Builder {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(BLOCKING_THREADS);
    builder
}

/// Time limits of an ordered stop; beyond them the process exits without it.
#[derive(Debug, Clone, Copy)]
struct StopLimits {
    /// Until the main thread takes up the request.
    answer: Duration,
    /// Until the process has ended.
    end: Duration,
}

/// The main thread waits 100 ms at most; the steps of a stop have 23 s (`agent/shutdown.rs`), and the unit waits 40 s (`TimeoutStopSec=`).
const STOP_LIMITS: StopLimits =
    StopLimits { answer: Duration::from_secs(5), end: Duration::from_secs(30) };

/// Becomes true with the first SIGTERM or SIGINT; the second ends the process at once with exit
/// code 128 + its number.
///
/// # Errors
/// Signals cannot be caught.
pub fn on_signal() -> anyhow::Result<watch::Receiver<bool>> {
    signals(None)
}

/// Like [`on_signal`], and ends the process if the stop exceeds its time limits.
fn on_signal_within(limits: StopLimits) -> anyhow::Result<watch::Receiver<bool>> {
    signals(Some(limits))
}

/// Signals have a thread and a runtime of their own: a busy main thread must not block the end of the process.
fn signals(limits: Option<StopLimits>) -> anyhow::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let (answer, answered) = watch::channel(false);
    let mut asked = receiver.clone();
    // Runs on the caller's runtime, and only as long as it.
    tokio::spawn(async move {
        if asked.wait_for(|stop| *stop).await.is_ok() {
            let _ = answer.send(true);
        }
    });
    let (ready, caught) = sync_channel(1);
    let listen = move || {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        runtime.block_on(async {
            let both = signal(SignalKind::terminate())
                .and_then(|first| Ok((first, signal(SignalKind::interrupt())?)));
            match both {
                Ok(both) => {
                    let _ = ready.send(Ok(()));
                    listen_for_signals(both, &sender, answered, limits).await;
                }
                Err(error) => _ = ready.send(Err(error)),
            }
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(listen)?;
    caught.recv().context("the thread for signals has ended")??;
    Ok(receiver)
}

async fn listen_for_signals(
    (mut terminate, mut interrupt): (Signal, Signal),
    sender: &watch::Sender<bool>,
    answered: watch::Receiver<bool>,
    limits: Option<StopLimits>,
) {
    let first = tokio::select! {
        _ = terminate.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
        // All receivers were dropped.
        () = sender.closed() => return,
    };
    tracing::info!(signal = first.as_raw_value(), "stopping; a second signal ends at once");
    let _ = sender.send(true);
    let overdue = async {
        match limits {
            Some(limits) => wait_for_stop(answered, limits).await,
            None => std::future::pending().await,
        }
    };
    let second = tokio::select! {
        _ = terminate.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
        reason = overdue => {
            tracing::error!("{reason}: the process ends without an ordered stop; the next start recovers what was recorded");
            std::process::exit(1);
        }
    };
    std::process::exit(128 + second.as_raw_value());
}

/// Returns the reason when a stop has taken too long.
async fn wait_for_stop(mut answered: watch::Receiver<bool>, limits: StopLimits) -> String {
    let asked = Instant::now();
    let answer = async {
        if answered.wait_for(|answered| *answered).await.is_err() {
            // The main thread's runtime has ended, and the process ends next.
            std::future::pending::<()>().await;
        }
    };
    if timeout(limits.answer, answer).await.is_err() {
        return format!("the main thread has not answered for {} s", limits.answer.as_secs());
    }
    tokio::time::sleep_until(asked + limits.end).await;
    format!("the stop is not done after {} s", limits.end.as_secs())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_stop_that_takes_too_long_is_noticed_and_why() {
        let limits =
            StopLimits { answer: Duration::from_millis(50), end: Duration::from_millis(200) };
        runtime().build().unwrap().block_on(async {
            let (answer, answered) = watch::channel(false);
            let reason = wait_for_stop(answered.clone(), limits).await;
            assert!(reason.contains("has not answered"), "{reason}");
            answer.send(true).unwrap();
            let begin = Instant::now();
            let reason = wait_for_stop(answered, limits).await;
            assert!(reason.contains("not done") && begin.elapsed() >= limits.end, "{reason}");
        });
    }

    #[test]
    fn a_file_size_limit_is_an_error_of_the_write() {
        survive_file_size_limit().unwrap();
        // The default action of the signal would end this process.
        let id = rustix::process::getpid();
        let status = Command::new("kill").args(["-XFSZ", &id.to_string()]).status().unwrap();
        assert!(status.success());
        std::thread::sleep(Duration::from_millis(100));
    }

    #[test]
    fn signals_are_caught_beside_a_runtime_and_end_with_it() {
        let stop = runtime().build().unwrap().block_on(async { on_signal() }).unwrap();
        assert!(!*stop.borrow());
    }

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
