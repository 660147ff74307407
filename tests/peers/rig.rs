//! One commune on one machine: camera, agent, broker and office as processes in a directory of their own.

use std::fs::OpenOptions;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use taimat::office::archive::{Archive, EventRow, FileRow, Filter};
use taimat::sim::camera::{Options, SimCamera};

/// A tool this machine may lack; says so where the test run counts it.
pub fn has(tool: &str) -> bool {
    let words = ["-c", &format!("command -v {tool}")];
    let found = Command::new("sh").args(words).stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        println!("SKIPPED: {tool} is not installed");
    }
    found
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn seconds(n: u64) {
    std::thread::sleep(Duration::from_secs(n));
}

/// Waits until `ready`, and fails with `what` when it takes longer than `within` seconds.
pub fn wait_for(what: &str, within: u64, mut ready: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(within);
    while !ready() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A simulated camera small enough for a busy test machine.
pub fn small_camera() -> SimCamera {
    SimCamera::start(Options { main: (640, 360), sub: (320, 180), ..Options::default() }).unwrap()
}

/// The binary under test.
pub fn taimat() -> Command {
    Command::new(env!("CARGO_BIN_EXE_taimat"))
}

/// A child process that does not outlive the test.
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

    /// SIGTERM, and the exit code.
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

/// Everything one chain needs, in one directory.
pub struct Rig {
    pub dir: tempfile::TempDir,
    pub port: u16,
}

impl Rig {
    /// A rig for the camera at `main` (and `sub`), with `storage` lines for the ring.
    pub fn new(main: &str, sub: Option<&str>, storage: &str) -> Rig {
        let rig = Rig { dir: tempfile::tempdir().unwrap(), port: free_port() };
        certificates(rig.dir.path(), "");
        std::fs::write(rig.at("login"), "admin:taimat\n").unwrap();
        let acl =
            "user office\ntopic readwrite taimat/#\n\npattern readwrite taimat/v1/%u/#\npattern read taimat/v1/host/+/state\n";
        std::fs::write(rig.at("acl"), acl).unwrap();
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

    /// A rig for a simulated camera and a ring of `mebibytes`.
    pub fn simulated(camera: &SimCamera, mebibytes: u32) -> Rig {
        let storage = format!("segment = \"1 MiB\"\nbudget = \"{mebibytes} MiB\"");
        Rig::new(&camera.main_url(), Some(&camera.sub_url()), &storage)
    }

    /// A broker that believes certificates of the authority in the file `ca`.
    pub fn configure_broker(&self, ca: &str) {
        let text = format!(
            "listener {} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\n\
             acl_file {}\npersistence true\npersistence_location {}/\nmax_queued_messages 10000\n",
            self.port,
            self.at(ca),
            self.at("broker.pem"),
            self.at("broker.key"),
            self.at("acl"),
            self.dir.path().display()
        );
        std::fs::write(self.at("mosquitto.conf"), text).unwrap();
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
        let running = Running::start(Command::new("mosquitto").args(["-c", &self.at("mosquitto.conf")]).stderr(Stdio::null()));
        wait_for("mosquitto did not come up", 10, || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
        running
    }

    /// The words that let an office command reach the broker.
    pub fn office_login(&self) -> Vec<String> {
        let (port, ca, cert, key) = (self.port.to_string(), self.at("ca.pem"), self.at("office.pem"), self.at("office.key"));
        ["--broker", "localhost", "--port", &port, "--ca", &ca, "--cert", &cert, "--key", &key].map(String::from).to_vec()
    }

    pub fn office(&self) -> Running {
        let args = ["office", "run", "--dir", &self.at("archive")];
        Running::start(taimat().args(args).args(self.office_login()).stdout(Stdio::null()).stderr(Stdio::null()))
    }

    pub fn agent(&self) -> Running {
        let log = OpenOptions::new().create(true).append(true).open(self.at("agent.log")).unwrap();
        let run = ["run", "--config", &self.config().display().to_string()].map(String::from);
        Running::start(taimat().args(run).env("TAIMAT_LOG", "info,taimat::agent=debug").stderr(log))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.at("agent.log")).unwrap_or_default()
    }

    pub fn archive(&self) -> Option<Archive> {
        Archive::look(Path::new(&self.at("archive"))).ok()
    }

    /// Every event and file the office has.
    pub fn received(&self) -> (Vec<EventRow>, Vec<FileRow>) {
        let all = Filter { limit: 100_000, ..Filter::default() };
        let Some(archive) = self.archive() else {
            return Default::default();
        };
        (archive.events(&all).unwrap_or_default(), archive.files(&all).unwrap_or_default())
    }

    /// What is still wrong with what the office has; empty when every promise is kept: numbers gap-free, each once, and each
    /// promised clip there or named as lost.
    pub fn shortfalls(&self) -> Vec<String> {
        let Some(sites) = self.archive().and_then(|archive| archive.sites().ok()) else {
            return vec!["the archive cannot be read yet".into()];
        };
        let (events, files) = self.received();
        let mut wrongs: Vec<String> = sites.iter().filter(|site| site.missing_seq > 0).map(|site| format!("{site:?}")).collect();
        let mut numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
        numbers.sort_unstable();
        if numbers != (1..=numbers.len() as u64).collect::<Vec<_>>() {
            wrongs.push(format!("{} events with numbers up to {:?}", numbers.len(), numbers.last()));
        }
        if !files.iter().any(|file| file.purpose == "clip") {
            wrongs.push("no clip has arrived".into());
        }
        for event in events.iter().filter(|event| event.data["clip"] == "planned") {
            let id = event.data["event"].as_str().unwrap_or_default();
            let lost = events.iter().any(|other| other.kind == "vn.taimat.file.lost.v1" && other.data["event"] == id);
            let clips = files.iter().filter(|file| file.event == id && file.purpose == "clip").count();
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

    /// The reasons of all gap events the office has.
    pub fn gap_reasons(&self) -> Vec<String> {
        self.received().0.iter().filter_map(|event| Some(event.data["reason"].as_str()?.to_owned())).collect()
    }

    /// Every segment file plays in ffmpeg, and the ring's own check finds nothing.
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
                let out =
                    Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(&path).args(["-f", "null", "-"]).output().unwrap();
                assert!(out.stderr.is_empty(), "{}: {}", path.display(), String::from_utf8_lossy(&out.stderr));
                played += 1;
            }
        }
        println!("{played} segment files play");
    }

    /// `ring list --json`.
    pub fn ring_list(&self) -> Vec<serde_json::Value> {
        let out = taimat().args(["ring", "list", "--json", "--dir", &self.at("ring")]).output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap()
    }
}

/// A private authority, and certificates for broker, office and one site, each file name beginning with `prefix`.
pub fn certificates(dir: &Path, prefix: &str) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join(format!("{prefix}ca.pem")), ca.pem()).unwrap();
    for (name, host) in [("broker", "localhost"), ("office", "office"), ("km-17", "km-17")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &ca).unwrap();
        std::fs::write(dir.join(format!("{prefix}{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{prefix}{name}.key")), key.serialize_pem()).unwrap();
    }
}
