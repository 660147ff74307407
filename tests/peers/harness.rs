//! Test harness of a whole chain: camera, agent, broker and office as processes in one directory.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use taimat::office::archive::Archive;
use taimat::office::queries::{EventRow, FileRow, Filter};
use taimat::sim::camera::{Options, SimCamera};

#[path = "../common/process.rs"]
mod process;

pub use process::{Running, free_port, has, taimat, wait_for};

pub fn seconds(n: u64) {
    std::thread::sleep(Duration::from_secs(n));
}

/// A simulated camera small enough for a busy test machine.
pub fn small_camera() -> SimCamera {
    SimCamera::start(Options { main: (640, 360), sub: (320, 180), ..Options::default() }).unwrap()
}

/// Checks that ffmpeg decodes the whole file at `path` without a message.
///
/// It keeps the time base of the file: by default its null muxer rounds to the frame rate that it
/// guesses, and takes two pictures that are a little closer for disorder.
pub fn plays(path: &Path) {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-enc_time_base", "-1", "-f", "null", "-"])
        .output()
        .unwrap();
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{}: {}",
        path.display(),
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Path of a file of `deploy/`, so that tests use the installed files.
pub fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// Files and ports of one chain.
pub struct Rig {
    pub dir: tempfile::TempDir,
    /// The broker's listener for devices.
    pub port: u16,
    /// The broker's listener for the office.
    pub office_port: u16,
    passwords: bool,
}

impl Rig {
    /// A harness for the camera at `main` (and `sub`), with `storage` lines for the ring.
    pub fn new(main: &str, sub: Option<&str>, storage: &str) -> Rig {
        let (port, office_port) = (free_port(), free_port());
        let rig = Rig { dir: tempfile::tempdir().unwrap(), port, office_port, passwords: false };
        certificates(rig.dir.path(), "");
        std::fs::write(rig.at("login"), "admin:taimat\n").unwrap();
        std::fs::copy(deploy("mosquitto/taimat.acl"), rig.at("acl")).unwrap();
        std::fs::copy(deploy("mosquitto/taimat-office.acl"), rig.at("office-acl")).unwrap();
        rig.configure_broker("ca.pem");
        let sub = sub.map_or(String::new(), |url| format!("sub_url = \"{url}\"\n"));
        let text = format!(
            "site = \"km-17\"\n[camera]\nmain_url = \"{main}\"\n{sub}login_file = \"{}\"\n[storage]\ndir = \"{}\"\nrequire_mount = false\n{storage}\n\
             [uplink]\nhost = \"localhost\"\nport = {}\nca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
            rig.at("login"),
            rig.at("ring"),
            rig.port,
            rig.at("ca.pem"),
            rig.at("km-17.pem"),
            rig.at("km-17.key")
        );
        std::fs::write(rig.config(), text).unwrap();
        rig
    }

    /// A harness for a simulated camera and a ring of `mebibytes`.
    pub fn simulated(camera: &SimCamera, mebibytes: u32) -> Rig {
        let storage = format!("segment = \"1 MiB\"\nbudget = \"{mebibytes} MiB\"");
        Rig::new(&camera.main_url(), Some(&camera.sub_url()), &storage)
    }

    /// Starts the broker of `deploy/` with this harness's ports and files; it trusts devices of the
    /// authority in the file `ca`.
    pub fn configure_broker(&self, ca: &str) {
        let mut text = std::fs::read_to_string(deploy("mosquitto/taimat.conf")).unwrap();
        for (theirs, ours) in [
            ("listener 8883", format!("listener {} 127.0.0.1", self.port)),
            ("listener 8884", format!("listener {} 127.0.0.1", self.office_port)),
            ("/etc/mosquitto/certs/ca.pem", self.at(ca)),
            ("/etc/mosquitto/certs/office-ca.pem", self.at("office-ca.pem")),
            ("/etc/mosquitto/certs/broker.pem", self.at("broker.pem")),
            ("/etc/mosquitto/certs/broker.key", self.at("broker.key")),
            ("/etc/mosquitto/taimat.acl", self.at("acl")),
            ("/etc/mosquitto/taimat-office.acl", self.at("office-acl")),
        ] {
            assert!(text.contains(theirs), "deploy/mosquitto/taimat.conf has no {theirs}");
            text = text.replace(theirs, &ours);
        }
        std::fs::write(self.at("mosquitto.conf"), text).unwrap();
    }

    /// Switches broker, agent and office from certificates to passwords.
    pub fn use_passwords(&mut self) {
        self.passwords = true;
        // Device and office share one listener.
        self.office_port = self.port;
        let rules = ["acl", "office-acl"]
            .map(|name| std::fs::read_to_string(self.at(name)).unwrap())
            .concat();
        std::fs::write(self.at("both-acl"), rules).unwrap();
        std::fs::write(self.at("passwords"), "").unwrap();
        for user in ["km-17", "office"] {
            let words = ["-b", &self.at("passwords"), user, "right"].map(String::from);
            assert!(Command::new("mosquitto_passwd").args(words).status().unwrap().success());
            std::fs::write(self.at(&format!("{user}.login")), format!("{user}:right\n")).unwrap();
        }
        let broker = format!(
            "listener {} 127.0.0.1\nallow_anonymous false\npassword_file {}\nacl_file {}\n",
            self.port,
            self.at("passwords"),
            self.at("both-acl")
        );
        std::fs::write(self.at("mosquitto.conf"), broker).unwrap();
        let text = std::fs::read_to_string(self.config()).unwrap();
        let (other, _) = text.split_once("[uplink]").unwrap();
        let login = self.at("km-17.login");
        let uplink = format!(
            "[uplink]\nhost = \"localhost\"\nport = {}\nlogin_file = \"{login}\"\n",
            self.port
        );
        std::fs::write(self.config(), format!("{other}{uplink}")).unwrap();
    }

    /// Appends a line to the agent's configuration, in section `[uplink]`.
    pub fn configure_uplink(&self, line: &str) {
        let mut config = OpenOptions::new().append(true).open(self.config()).unwrap();
        writeln!(config, "{line}").unwrap();
    }

    pub fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A file in the ring's directory.
    pub fn at_ring(&self, name: &str) -> PathBuf {
        self.dir.path().join("ring").join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("taimat.toml")
    }

    pub fn broker(&self) -> Running {
        let running = Running::start(
            Command::new("mosquitto")
                .args(["-c", &self.at("mosquitto.conf")])
                .stderr(Stdio::null()),
        );
        wait_for("mosquitto did not come up", 10, || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
        running
    }

    /// Options with which an office command reaches the broker.
    pub fn office_login(&self) -> Vec<String> {
        let (port, login) = (self.office_port.to_string(), self.at("office.login"));
        if self.passwords {
            return ["--broker", "localhost", "--port", &port, "--login", &login]
                .map(String::from)
                .to_vec();
        }
        let (ca, cert, key) = (self.at("ca.pem"), self.at("office.pem"), self.at("office.key"));
        ["--broker", "localhost", "--port", &port, "--ca", &ca, "--cert", &cert, "--key", &key]
            .map(String::from)
            .to_vec()
    }

    pub fn office(&self) -> Running {
        self.office_with(&[])
    }

    /// Starts the office with further options.
    pub fn office_with(&self, words: &[&str]) -> Running {
        let args = ["office", "run", "--dir", &self.at("archive")].map(String::from);
        let mut office = taimat();
        office.args(args).args(self.office_login()).args(words);
        Running::start(office.stdout(Stdio::null()).stderr(Stdio::null()))
    }

    pub fn agent(&self) -> Running {
        self.agent_from(&mut taimat())
    }

    /// Starts the agent with `program`.
    pub fn agent_from(&self, program: &mut Command) -> Running {
        let log = OpenOptions::new().create(true).append(true).open(self.at("agent.log")).unwrap();
        let run = ["run", "--config", &self.config().display().to_string()].map(String::from);
        Running::start(program.args(run).env("TAIMAT_LOG", "info,taimat::agent=debug").stderr(log))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.at("agent.log")).unwrap_or_default()
    }

    pub fn archive(&self) -> Option<Archive> {
        Archive::open_read_only(Path::new(&self.at("archive"))).ok()
    }

    /// All events and files of the office.
    pub fn received(&self) -> (Vec<EventRow>, Vec<FileRow>) {
        let all = Filter { limit: 100_000, ..Filter::default() };
        let Some(archive) = self.archive() else {
            return Default::default();
        };
        (archive.events(&all).unwrap_or_default(), archive.files(&all).unwrap_or_default())
    }

    /// Broken promises at the office: numbers must have no gap and come once; each promised clip
    /// must be there or be reported lost. Empty if all are kept.
    pub fn shortfalls(&self) -> Vec<String> {
        let Some(sites) = self.archive().and_then(|archive| archive.sites().ok()) else {
            return vec!["the archive cannot be read yet".into()];
        };
        let (events, files) = self.received();
        let mut wrongs: Vec<String> = sites
            .iter()
            .filter(|site| site.missing_seq > 0)
            .map(|site| format!("{site:?}"))
            .collect();
        let mut numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
        numbers.sort_unstable();
        if numbers != (1..=numbers.len() as u64).collect::<Vec<_>>() {
            wrongs.push(format!(
                "{} events with numbers up to {:?}",
                numbers.len(),
                numbers.last()
            ));
        }
        if !files.iter().any(|file| file.purpose == "clip") {
            wrongs.push("no clip has arrived".into());
        }
        for event in events.iter().filter(|event| event.data["clip"] == "planned") {
            let id = event.data["event"].as_str().unwrap_or_default();
            let lost = events
                .iter()
                .any(|other| other.kind == "vn.taimat.file.lost.v1" && other.data["event"] == id);
            let clips =
                files.iter().filter(|file| file.event == id && file.purpose == "clip").count();
            if clips == 0 && !lost {
                wrongs.push(format!("the clip of {id} has not arrived"));
            }
        }
        wrongs
    }

    pub fn wait_until_whole(&self, within: u64) {
        let until = Instant::now() + Duration::from_secs(within);
        loop {
            let wrongs = self.shortfalls();
            if wrongs.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "{wrongs:#?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Reasons of all gap events of the office.
    pub fn gap_reasons(&self) -> Vec<String> {
        let events = self.received().0;
        let gaps = events.iter().filter(|event| event.kind == "vn.taimat.gap.v1");
        gaps.filter_map(|event| Some(event.data["reason"].as_str()?.to_owned())).collect()
    }

    /// Checks that every segment file plays in ffmpeg and that `ring check` finds no problem.
    pub fn ring_is_whole(&self) {
        let check = taimat().args(["ring", "check", "--dir", &self.at("ring")]).output().unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
        if !has("ffmpeg") {
            return;
        }
        let mut played = 0;
        for entry in std::fs::read_dir(self.at("ring")).unwrap() {
            let path = entry.unwrap().path();
            let segment = path.extension().is_some_and(|extension| extension == "mp4");
            if segment && std::fs::read(&path).unwrap().iter().take(8).any(|byte| *byte != 0) {
                plays(&path);
                played += 1;
            }
        }
        println!("{played} segment files play");
    }

    /// `ring list --json`.
    pub fn ring_list(&self) -> Vec<serde_json::Value> {
        let out =
            taimat().args(["ring", "list", "--json", "--dir", &self.at("ring")]).output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap()
    }
}

/// Makes two private authorities, for broker and devices and for the office, and their
/// certificates. Each file name starts with `prefix`.
pub fn certificates(dir: &Path, prefix: &str) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("taimat-{name}"));
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(dir.join(format!("{prefix}{name}.pem")), ca.pem()).unwrap();
        ca
    };
    let (ca, office_ca) = (authority("ca"), authority("office-ca"));
    for (name, host, ca) in
        [("broker", "localhost", &ca), ("office", "office", &office_ca), ("km-17", "km-17", &ca)]
    {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, ca).unwrap();
        std::fs::write(dir.join(format!("{prefix}{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{prefix}{name}.key")), key.serialize_pem()).unwrap();
    }
}
