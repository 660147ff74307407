//! Test harness of the uplink: a device, an office and any broker, in one directory.
//!
//! The device records a simulated camera; the test injects motion, up to a hundred events a second.

use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use taimat::office::archive::Archive;
use taimat::office::queries::{EventRow, FileRow, Filter, SiteRow};
use taimat::sim::camera::{Options, SimCamera};

#[path = "../common/process.rs"]
mod process;

pub use process::{Running, free_port, has, taimat, wait_for};

pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

impl Running {
    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A small camera for a busy test machine.
pub fn camera() -> SimCamera {
    SimCamera::start(Options { main: (320, 180), sub: (320, 180), ..Options::default() }).unwrap()
}

/// Injected motion, as `taimat sim --load-test` takes it.
#[derive(Clone, Copy)]
pub struct Show {
    pub motions: u64,
    pub updates: u64,
    pub rate: u64,
}

/// Files and ports of one chain.
pub struct Rig {
    pub dir: tempfile::TempDir,
    /// Port of the broker for the office.
    pub office_port: u16,
    pub site: String,
}

impl Rig {
    /// A harness for the camera and a broker at `port`; `uplink` are further lines of that section.
    pub fn new(camera: &SimCamera, port: u16, office_port: u16, uplink: &str) -> Rig {
        let rig = Rig { dir: tempfile::tempdir().unwrap(), office_port, site: "km-17".into() };
        std::fs::write(rig.at("login"), "admin:taimat\n").unwrap();
        let text = format!(
            "site = \"km-17\"\n[camera]\nmain_url = \"{}\"\nlogin_file = \"{}\"\n[storage]\ndir = \"{}\"\nrequire_mount = false\n\
             segment = \"4 MiB\"\nbudget = \"400 MiB\"\njournal_slots = 16384\n[motion]\nenabled = false\n\
             [clip]\npre_roll = \"2 s\"\npost_roll = \"1 s\"\n\
             [uplink]\nhost = \"127.0.0.1\"\nport = {port}\nhealth_every = \"5 s\"\n{uplink}\n",
            camera.main_url(),
            rig.at("login"),
            rig.at("ring"),
        );
        std::fs::write(rig.config(), text).unwrap();
        rig
    }

    pub fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub fn config(&self) -> String {
        self.at("taimat.toml")
    }

    pub fn configure(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(self.config(), text.replace(from, to)).unwrap();
    }

    fn log_file(&self, name: &str) -> std::fs::File {
        OpenOptions::new().create(true).append(true).open(self.at(name)).unwrap()
    }

    /// Starts the device without motion.
    pub fn agent(&self) -> Running {
        let run = ["run", "--config", &self.config()].map(String::from);
        Running::start(
            taimat()
                .args(run)
                .env("TAIMAT_LOG", "info,taimat::agent=debug")
                .stderr(self.log_file("agent.log")),
        )
    }

    /// Starts the device with injected motion.
    pub fn agent_with(&self, show: Show) -> Running {
        let Show { motions, updates, rate } = show;
        let mut command = taimat();
        command.args(["sim", "--load-test", &self.config()]);
        command.args([
            "--motions",
            &motions.to_string(),
            "--updates",
            &updates.to_string(),
            "--rate",
            &rate.to_string(),
        ]);
        command.env("TAIMAT_LOG", "info");
        Running::start(command.stderr(self.log_file("agent.log")).stdout(Stdio::null()))
    }

    pub fn office(&self) -> Running {
        self.office_with(&[])
    }

    pub fn office_with(&self, words: &[&str]) -> Running {
        let args = [
            "office",
            "run",
            "--dir",
            &self.at("archive"),
            "--port",
            &self.office_port.to_string(),
        ]
        .map(String::from);
        let log = self.log_file("office.log");
        Running::start(
            taimat().args(args).args(words).stdout(log).stderr(self.log_file("office.err")),
        )
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.at("agent.log")).unwrap_or_default()
    }

    pub fn archive(&self) -> Option<Archive> {
        Archive::open_read_only(Path::new(&self.at("archive"))).ok()
    }

    pub fn site(&self) -> Option<SiteRow> {
        self.archive()?.sites().ok()?.into_iter().find(|row| row.site == self.site)
    }

    pub fn received(&self) -> (Vec<EventRow>, Vec<FileRow>) {
        let all = Filter { site: Some(self.site.clone()), limit: 1_000_000, ..Filter::default() };
        let Some(archive) = self.archive() else {
            return Default::default();
        };
        (archive.events(&all).unwrap_or_default(), archive.files(&all).unwrap_or_default())
    }

    /// Publishes a command and returns its answer.
    pub fn command(&self, name: &str, args: &[&str]) -> serde_json::Value {
        let mut command = taimat();
        command
            .args([
                "office",
                "cmd",
                "--port",
                &self.office_port.to_string(),
                "--wait",
                "20",
                &self.site,
                name,
            ])
            .args(args);
        let out = command.output().unwrap();
        serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|_| panic!("{name}: {}", String::from_utf8_lossy(&out.stderr)))
    }

    /// Broken promises after complete delivery: at least `events` events, each number once and
    /// without gaps, every motion event ended, every promised clip there or reported lost. Empty if
    /// all are kept.
    pub fn shortfalls(&self, least: usize) -> Vec<String> {
        let (events, files) = self.received();
        let mut wrongs = Vec::new();
        let count = |kind: &str| {
            events.iter().filter(|event| event.kind == format!("vn.taimat.{kind}.v1")).count()
                as u64
        };
        let (starts, ends) = (count("motion.start"), count("motion.end"));
        if starts != ends || events.len() < least {
            wrongs.push(format!("{} events, {starts} starts and {ends} ends", events.len()));
        }
        let mut numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
        numbers.sort_unstable();
        if numbers != (1..=numbers.len() as u64).collect::<Vec<_>>() {
            wrongs.push(format!(
                "{} events with numbers up to {:?}",
                numbers.len(),
                numbers.last()
            ));
        }
        for event in events.iter().filter(|event| event.data["clip"] == "planned") {
            let id = event.data["event"].as_str().unwrap_or_default();
            let lost = events
                .iter()
                .any(|other| other.kind == "vn.taimat.file.lost.v1" && other.data["event"] == id);
            if !lost && !files.iter().any(|file| file.event == id && file.purpose == "clip") {
                wrongs.push(format!("the clip of {id} has not arrived"));
            }
        }
        wrongs
    }

    pub fn wait_until_whole(&self, least: usize, within: u64) {
        let until = Instant::now() + Duration::from_secs(within);
        loop {
            let wrongs = self.shortfalls(least);
            if wrongs.is_empty() {
                return;
            }
            if Instant::now() >= until {
                let log = self.log();
                let tail: Vec<&str> = log.lines().rev().take(40).collect();
                panic!("{wrongs:#?}\n{}", tail.join("\n"));
            }
            pause(500);
        }
    }

    /// Checks the digests of all files in the archive; returns their number.
    pub fn files_are_whole(&self) -> u64 {
        let files = self.received().1;
        for file in &files {
            let bytes = std::fs::read(&file.path).unwrap();
            assert_eq!(
                taimat::units::Digest::of(&bytes).hex(),
                file.sha256,
                "{}",
                file.path.display()
            );
        }
        files.len() as u64
    }
}

/// Mosquitto on a port of its own, without TLS.
pub struct Mosquitto {
    pub port: u16,
    dir: tempfile::TempDir,
    running: Option<Running>,
}

impl Mosquitto {
    /// Starts Mosquitto with further lines of configuration; `None` if it is not installed.
    pub fn start(more: &str) -> Option<Mosquitto> {
        if !has("mosquitto") {
            return None;
        }
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let path = dir.path().display();
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location {path}/\n\
             autosave_interval 1\nmax_packet_size 524288\n{more}\n"
        );
        std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        let mut mosquitto = Mosquitto { port, dir, running: None };
        mosquitto.up();
        Some(mosquitto)
    }

    pub fn up(&mut self) {
        let config = self.dir.path().join("mosquitto.conf");
        self.running = Some(Running::start(
            Command::new("mosquitto").arg("-c").arg(config).stderr(Stdio::null()),
        ));
        wait_for("mosquitto did not come up", 10, || TcpStream::connect(local(self.port)).is_ok());
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.running.as_ref().unwrap().0.id()
    }

    /// Sends SIGKILL; `forget` deletes the database.
    pub fn kill(&mut self, forget: bool) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
        if forget {
            let _ = std::fs::remove_file(self.dir.path().join("mosquitto.db"));
        }
    }
}

/// The nats-server that `tests/run` installs.
pub fn nats_binary() -> Option<String> {
    let ours = format!("{}/target/tools/bin/nats-server", env!("CARGO_MANIFEST_DIR"));
    let found = [ours, "nats-server".into()].into_iter().find(|path| {
        Command::new(path)
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    if found.is_none() {
        println!("SKIPPED: nats-server is not installed");
    }
    found
}

/// nats-servers with JetStream and MQTT: one alone, or three as a cluster.
pub struct Nats {
    pub ports: Vec<u16>,
    nodes: Vec<Option<Running>>,
    _dir: tempfile::TempDir,
}

impl Nats {
    pub fn start(nodes: usize) -> Option<Nats> {
        let binary = nats_binary()?;
        let dir = tempfile::tempdir().unwrap();
        let ports: Vec<u16> = (0..nodes).map(|_| free_port()).collect();
        let routes: Vec<u16> = (0..nodes).map(|_| free_port()).collect();
        let all: Vec<String> =
            routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let mut running = Vec::new();
        for node in 0..nodes {
            let cluster = if nodes > 1 {
                format!(
                    "cluster {{ name: taimat, listen: \"127.0.0.1:{}\", routes: [{}] }}\n",
                    routes[node],
                    all.join(", ")
                )
            } else {
                String::new()
            };
            let store = dir.path().join(format!("node-{node}"));
            let text = format!(
                "server_name: node-{node}\nlisten: \"127.0.0.1:{}\"\njetstream {{ store_dir: {store:?} }}\n\
                 mqtt {{ listen: \"127.0.0.1:{}\"\n ack_wait: \"5s\"\n max_ack_pending: 100 }}\n{cluster}",
                free_port(),
                ports[node]
            );
            let config = dir.path().join(format!("node-{node}.conf"));
            std::fs::write(&config, text).unwrap();
            let log = std::fs::File::create(dir.path().join(format!("node-{node}.log"))).unwrap();
            running.push(Some(Running::start(
                Command::new(&binary).arg("-c").arg(config).stderr(log),
            )));
        }
        for port in &ports {
            wait_for("nats-server did not come up", 20, || {
                TcpStream::connect(local(*port)).is_ok()
            });
        }
        // A cluster must first elect its leaders.
        pause(if nodes > 1 { 6_000 } else { 500 });
        Some(Nats { ports, nodes: running, _dir: dir })
    }

    pub fn kill(&mut self, node: usize) {
        self.nodes[node] = None;
    }
}
