//! Agent process of the power-cut tests: the real binary, with its promises read from its log.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::process::taimat;

/// Timeout of an ordered stop.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Writes a configuration that records `main_url` into `ring`, without broker and motion.
///
/// # Errors
/// The files cannot be written.
pub fn configure(
    dir: &Path,
    main_url: &str,
    ring: &Path,
    storage: &str,
) -> std::io::Result<PathBuf> {
    let (login, config) = (dir.join("login"), dir.join("taimat.toml"));
    std::fs::write(&login, "admin:taimat\n")?;
    let text = format!(
        "site = \"km-17\"\n[camera]\nmain_url = \"{main_url}\"\nlogin_file = \"{}\"\n[storage]\ndir = \"{}\"\n{storage}\n\
         [motion]\nenabled = false\n[uplink]\nhost = \"127.0.0.1\"\nport = 9\n",
        login.display(),
        ring.display()
    );
    std::fs::write(&config, text)?;
    Ok(config)
}

/// Promises read from the log so far.
#[derive(Default)]
struct Heard {
    /// Highest record logged as durable.
    durable: AtomicU64,
    /// Number of records logged as durable.
    records: AtomicU64,
    /// Time of the start event, after recovery.
    started: Mutex<Option<Instant>>,
    log: Mutex<String>,
}

impl Heard {
    fn line(&self, line: &str) {
        if line.contains("event kind=\"start\"") {
            *self.started.lock().unwrap() = Some(Instant::now());
        }
        let number =
            line.split("seq=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        if let Some(number) = number.filter(|_| line.contains("durable")) {
            self.durable.fetch_max(number, Ordering::SeqCst);
            self.records.fetch_add(1, Ordering::SeqCst);
        }
        let mut log = self.log.lock().unwrap();
        log.push_str(line);
        log.push('\n');
    }
}

/// A running agent; killed when dropped.
pub struct Agent {
    child: Child,
    started: Instant,
    heard: Arc<Heard>,
    reader: Option<JoinHandle<()>>,
}

impl Agent {
    /// Starts the agent.
    ///
    /// # Errors
    /// The binary cannot be run.
    pub fn start(config: &Path) -> anyhow::Result<Agent> {
        let mut command = taimat();
        command.args(["run", "--config"]).arg(config).env("TAIMAT_LOG", "info,taimat::agent=debug");
        let started = Instant::now();
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let (heard, pipe) = (Arc::new(Heard::default()), child.stderr.take().context("no pipe")?);
        let listening = heard.clone();
        let reader = std::thread::spawn(move || {
            BufReader::new(pipe)
                .lines()
                .map_while(Result::ok)
                .for_each(|line| listening.line(&line));
        });
        Ok(Agent { child, started, heard, reader: Some(reader) })
    }

    /// Highest record logged as durable; 0 before the first.
    pub fn promised(&self) -> u64 {
        self.heard.durable.load(Ordering::SeqCst)
    }

    /// Number of records logged as durable.
    pub fn acknowledged(&self) -> u64 {
        self.heard.records.load(Ordering::SeqCst)
    }

    /// Milliseconds from the start of the process to the start event that follows recovery.
    pub fn started_after(&self) -> Option<u64> {
        self.heard
            .started
            .lock()
            .unwrap()
            .map(|at| at.duration_since(self.started).as_millis() as u64)
    }

    pub fn log(&self) -> String {
        self.heard.log.lock().unwrap().clone()
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    /// Sends SIGTERM and waits for an ordered stop.
    ///
    /// # Errors
    /// The agent does not end, or has another exit code than 0.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let until = Instant::now() + STOP_WITHIN;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the agent ended with {status}\n{}", self.log());
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        anyhow::bail!("the agent did not stop\n{}", self.log())
    }

    /// Checks that the agent still runs.
    ///
    /// # Errors
    /// Its log, if the agent has ended.
    pub fn still_runs(&mut self) -> anyhow::Result<()> {
        let status = self.child.try_wait()?;
        ensure!(status.is_none(), "the agent ended by itself: {status:?}\n{}", self.log());
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}
