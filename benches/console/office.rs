//! The office under test, its broker and its devices, as processes.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::http::Client;
use super::process::{Running, free_port, taimat, wait_for};

/// Sites that send, and size of their files in KiB; every tenth message is a file.
pub const SENDERS: u64 = 17;
const FILE_KIB: u64 = 64;

/// A directory for archives on a real disk: a tmpfs does not flush. `TAIMAT_BENCH_DIR`, or one
/// under `target/`.
pub fn work_dir() -> tempfile::TempDir {
    let parent = std::env::var("TAIMAT_BENCH_DIR")
        .unwrap_or_else(|_| format!("{}/target", env!("CARGO_MANIFEST_DIR")));
    tempfile::Builder::new().prefix("console-bench-").tempdir_in(parent).unwrap()
}

/// A broker without an access list, for synthetic sites.
pub struct Broker {
    _process: Running,
    pub port: u16,
}

impl Broker {
    pub fn start(dir: &Path) -> Broker {
        let (port, path) = (free_port(), dir.join("broker.conf"));
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 10000\nmax_packet_size 524288\n"
        );
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new("mosquitto");
        let process = Running::start(command.arg("-c").arg(&path).stderr(Stdio::null()));
        wait_for("mosquitto did not come up", 10, || is_open(port));
        Broker { _process: process, port }
    }
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

/// The command of sites that send events and files, mixed as a commune sends them: `messages` of
/// each site, one every `every` seconds; 0: as fast as the office confirms them.
pub fn fleet(broker: u16, messages: u64, every: u64) -> Command {
    let files = messages / 10;
    let words = [
        ("--fleet", SENDERS),
        ("--port", broker.into()),
        ("--events", messages - files),
        ("--files", files),
        ("--file-kib", FILE_KIB),
        ("--every", every),
    ];
    let mut command = taimat();
    command.arg("sim").args(words.iter().flat_map(|(word, n)| [(*word).to_owned(), n.to_string()]));
    command.stderr(Stdio::null());
    command
}
