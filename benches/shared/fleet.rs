//! Sites that send events and files, and an open broker for them.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Running, free_port, wait_for};

/// Sites that send, and size of their files in KiB; every tenth message is a file.
pub const SENDERS: u64 = 17;
const FILE_KIB: u64 = 64;
/// Messages of each site beyond those of the planned time: the fleet does not end before it.
const SPARE: u64 = 600;

/// A broker without an access list, for synthetic sites, with its port; its file is in `dir`.
pub fn open_broker(dir: &Path) -> (Running, u16) {
    let (port, path) = (free_port(), dir.join("open.conf"));
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 10000\nmax_packet_size 524288\n"
    );
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new("mosquitto");
    let broker = Running::start(command.arg("-c").arg(&path).stderr(Stdio::null()));
    wait_for("mosquitto did not come up", 10, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    });
    (broker, port)
}

/// The command of sites that send events and files, mixed as a commune sends them: `messages` of
/// each site, one every `every` seconds; 0: as fast as the office confirms them. `program` is the
/// binary that simulates them.
pub fn fleet(mut program: Command, broker: u16, messages: u64, every: u64) -> Command {
    let files = messages / 10;
    let words = [
        ("--fleet", SENDERS),
        ("--port", broker.into()),
        ("--events", messages - files),
        ("--files", files),
        ("--file-kib", FILE_KIB),
        ("--every", every),
    ];
    program.arg("sim").args(words.iter().flat_map(|(word, n)| [(*word).to_owned(), n.to_string()]));
    program.stderr(Stdio::null());
    program
}

/// A fleet that sends steadily in the background, for more than `seconds`.
pub fn steady(program: Command, broker: u16, seconds: u64, every: u64) -> Running {
    Running::start(fleet(program, broker, seconds / every + SPARE, every).stdout(Stdio::null()))
}
