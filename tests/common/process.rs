//! Child processes of tests and benches, and waiting for conditions.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Whether a tool is installed; prints the `SKIPPED` line that `tests/run` counts if it is not.
pub fn has(tool: &str) -> bool {
    let words = ["-c", &format!("command -v {tool}")];
    let found = Command::new("sh")
        .args(words)
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        println!("SKIPPED: {tool} is not installed");
    }
    found
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until `ready`; fails with `what` after `within` seconds.
pub fn wait_for(what: &str, within: u64, mut ready: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(within);
    while !ready() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The binary under test; `TAIMAT_BINARY` names another one.
pub fn taimat() -> Command {
    Command::new(
        std::env::var_os("TAIMAT_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_taimat").into()),
    )
}

/// A child process that does not outlive the test or bench.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        Running(command.stdin(Stdio::null()).spawn().unwrap())
    }

    /// Sends SIGTERM and returns the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }
}
