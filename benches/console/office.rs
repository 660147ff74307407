//! The office under test as a process.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::http::Client;
use super::process::{Running, free_port, taimat, wait_for};

/// A directory for archives on a real disk: a tmpfs does not flush. `TAIMAT_BENCH_DIR`, or one
/// under `target/`.
pub fn work_dir() -> tempfile::TempDir {
    let parent = std::env::var("TAIMAT_BENCH_DIR")
        .unwrap_or_else(|_| format!("{}/target", env!("CARGO_MANIFEST_DIR")));
    tempfile::Builder::new().prefix("console-bench-").tempdir_in(parent).unwrap()
}

fn is_open(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// `taimat office run` with its console on loopback.
pub struct Office {
    pub process: Running,
    pub web: u16,
}

impl Office {
    /// Starts it over the archive in `dir`, with further words; `broker` is the broker's port.
    pub fn start(dir: &Path, broker: u16, words: &[&str]) -> Office {
        let web = free_port();
        let log = std::fs::File::create(dir.with_extension("log")).unwrap();
        let mut command = taimat();
        command
            .args(["office", "run", "--broker", "127.0.0.1", "--port"])
            .arg(broker.to_string())
            .args(["--web", &format!("127.0.0.1:{web}"), "--dir"])
            .arg(dir)
            .args(words);
        let process = Running::start(command.stdout(Stdio::null()).stderr(log));
        wait_for("the console did not come up", 60, || is_open(web));
        Office { process, web }
    }

    /// Connects as the session of `cookie`.
    pub fn client(&self, cookie: &str) -> Client {
        Client::open(self.web, cookie, Ipv4Addr::LOCALHOST).unwrap()
    }

    /// Resident memory, MiB.
    pub fn rss(&self) -> f64 {
        self.status("VmRSS:") / 1024.0
    }

    /// CPU seconds used so far (proc(5): ticks of 1/100 s).
    pub fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    fn status(&self, key: &str) -> f64 {
        let path = format!("/proc/{}/status", self.process.0.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// A copy of an archive, so that each measurement begins with the same one.
pub fn copy(from: &Path, to: PathBuf) -> PathBuf {
    let _ = std::fs::remove_dir_all(&to);
    let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(&to).status();
    assert!(copied.unwrap().success());
    to
}
