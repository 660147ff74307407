//! The real binary with real peers: a simulated camera over RTSP, Mosquitto with client certificates, the office, ffmpeg.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use taimat::office::archive::{Archive, Filter};
use taimat::sim::camera::{Options, SimCamera};

/// A tool this machine may lack; says so where the test run counts it.
fn has(tool: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if !found {
        println!("SKIPPED: {tool} is not installed");
    }
    found
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A child process that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Running {
        Running(command.stdin(Stdio::null()).spawn().unwrap())
    }

    /// SIGTERM, and the exit code.
    fn terminate(&mut self) -> Option<i32> {
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
struct Rig {
    dir: tempfile::TempDir,
    port: u16,
    config: PathBuf,
    camera: SimCamera,
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        certificates(dir.path());
        let options = Options { main: (640, 360), sub: (320, 180), ..Options::default() };
        let camera = SimCamera::start(options).unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(at("login"), "admin:taimat\n").unwrap();
        let broker = format!(
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\n\
             acl_file {}\npersistence true\npersistence_location {}/\n",
            at("ca.pem"),
            at("broker.pem"),
            at("broker.key"),
            at("acl"),
            dir.path().display()
        );
        std::fs::write(at("mosquitto.conf"), broker).unwrap();
        let acl =
            "user office\ntopic readwrite taimat/#\n\npattern readwrite taimat/v1/%u/#\npattern read taimat/v1/host/+/state\n";
        std::fs::write(at("acl"), acl).unwrap();
        let text = format!(
            "site = \"km-17\"\n[camera]\nmain_url = \"{}\"\nsub_url = \"{}\"\nlogin_file = \"{}\"\n[storage]\ndir = \"{}\"\nrequire_mount = false\n\
             segment = \"1 MiB\"\nbudget = \"48 MiB\"\n[uplink]\nhost = \"localhost\"\nport = {port}\nca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
            camera.main_url(),
            camera.sub_url(),
            at("login"),
            at("ring"),
            at("ca.pem"),
            at("km-17.pem"),
            at("km-17.key")
        );
        let config = dir.path().join("taimat.toml");
        std::fs::write(&config, text).unwrap();
        Rig { dir, port, config, camera }
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn broker(&self) -> Running {
        let running = Running::start(Command::new("mosquitto").args(["-c", &self.at("mosquitto.conf")]).stderr(Stdio::null()));
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "mosquitto did not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        running
    }

    fn office(&self) -> Running {
        let (port, ca, cert, key) = (self.port.to_string(), self.at("ca.pem"), self.at("office.pem"), self.at("office.key"));
        let args = ["office", "run", "--dir", &self.at("archive"), "--broker", "localhost", "--port", &port];
        let tls = ["--ca", &ca, "--cert", &cert, "--key", &key];
        Running::start(Command::new(env!("CARGO_BIN_EXE_taimat")).args(args).args(tls).stdout(Stdio::null()))
    }

    fn agent(&self) -> Running {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("agent.log")).unwrap();
        Running::start(Command::new(env!("CARGO_BIN_EXE_taimat")).arg("run").arg("--config").arg(&self.config).stderr(log))
    }

    /// What is still wrong with what the office has; empty when every promise is kept.
    fn shortfalls(&self) -> Vec<String> {
        let Ok(archive) = Archive::look(Path::new(&self.at("archive"))) else {
            return vec!["no archive".into()];
        };
        let all = Filter { limit: 100_000, ..Filter::default() };
        let (Ok(sites), Ok(events), Ok(files)) = (archive.sites(), archive.events(&all), archive.files(&all)) else {
            return vec!["the archive cannot be read yet".into()];
        };
        let mut wrongs: Vec<String> = sites.iter().filter(|site| site.missing_seq > 0).map(|site| format!("{site:?}")).collect();
        let clips = files.iter().filter(|file| file.purpose == "clip").count();
        if clips == 0 {
            wrongs.push("no clip has arrived".into());
        }
        for event in events.iter().filter(|event| event.data["clip"] == "planned") {
            let id = event.data["event"].as_str().unwrap_or_default();
            let lost = events.iter().any(|other| other.kind == "vn.taimat.file.lost.v1" && other.data["event"] == id);
            if !lost && !files.iter().any(|file| file.event == id && file.purpose == "clip") {
                wrongs.push(format!("the clip of {id} has not arrived"));
            }
        }
        wrongs
    }

    fn wait_until_whole(&self, within: Duration) {
        let until = Instant::now() + within;
        loop {
            let wrongs = self.shortfalls();
            if wrongs.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "{wrongs:#?}\n{}", std::fs::read_to_string(self.at("agent.log")).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

/// A private authority, and certificates for broker, office and one site.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    for (name, host) in [("broker", "localhost"), ("office", "office"), ("km-17", "km-17")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &ca).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn seconds(n: u64) {
    std::thread::sleep(Duration::from_secs(n));
}

/// Every segment file plays, and the ring's own check finds nothing.
fn the_ring_is_whole(rig: &Rig) {
    let check = Command::new(env!("CARGO_BIN_EXE_taimat")).args(["ring", "check", "--dir", &rig.at("ring")]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    if !has("ffmpeg") {
        return;
    }
    for entry in std::fs::read_dir(rig.at("ring")).unwrap() {
        let path = entry.unwrap().path();
        let used = std::fs::read(&path).unwrap().iter().take(8).any(|byte| *byte != 0);
        if path.extension().is_some_and(|extension| extension == "mp4") && used {
            let out = Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(&path).args(["-f", "null", "-"]).output().unwrap();
            assert!(out.stderr.is_empty(), "{}: {}", path.display(), String::from_utf8_lossy(&out.stderr));
        }
    }
}

#[test]
fn nothing_is_lost_when_the_agent_is_killed_the_broker_dies_and_the_camera_goes_away() {
    if !has("mosquitto") {
        return;
    }
    let rig = Rig::new();
    let mut broker = rig.broker();
    let mut office = rig.office();
    let mut agent = rig.agent();
    seconds(16);
    for pause in [3, 2, 4] {
        drop(agent);
        agent = rig.agent();
        seconds(pause);
    }
    drop(broker);
    rig.camera.faults().down.store(true, std::sync::atomic::Ordering::Relaxed);
    seconds(4);
    rig.camera.faults().down.store(false, std::sync::atomic::Ordering::Relaxed);
    broker = rig.broker();
    drop(office);
    seconds(2);
    office = rig.office();
    seconds(12);
    rig.wait_until_whole(Duration::from_secs(90));
    assert_eq!(agent.terminate(), Some(0), "the agent did not stop in order");
    // What was in progress at the stop stays owed and comes with the next start.
    agent = rig.agent();
    seconds(3);
    rig.wait_until_whole(Duration::from_secs(60));
    assert_eq!(agent.terminate(), Some(0), "the agent did not stop in order the second time");
    seconds(1);
    the_ring_is_whole(&rig);
    let archive = Archive::look(Path::new(&rig.at("archive"))).unwrap();
    let events = archive.events(&Filter { limit: 10_000, ..Filter::default() }).unwrap();
    let reasons: Vec<&str> = events.iter().filter_map(|event| event.data["reason"].as_str()).collect();
    assert!(reasons.contains(&"power_cut"), "the killed agent left no gap record: {reasons:?}");
    assert_eq!(archive.sites().unwrap()[0].state, "going");
    drop((office, broker));
    std::io::stdout().flush().unwrap();
}

#[test]
fn a_past_range_can_be_asked_for_and_verifies() {
    if !has("mosquitto") {
        return;
    }
    let rig = Rig::new();
    let _broker = rig.broker();
    let _office = rig.office();
    let mut agent = rig.agent();
    seconds(9);
    let (port, ca, cert, key) = (rig.port.to_string(), rig.at("ca.pem"), rig.at("office.pem"), rig.at("office.key"));
    let now = taimat::units::Wall(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64);
    let (from, to) = (format!("from={}", now.plus_micros(-6_000_000)), format!("to={}", now.plus_micros(-2_000_000)));
    let answer = Command::new(env!("CARGO_BIN_EXE_taimat"))
        .args(["office", "cmd", "km-17", "clip-get", &from, &to, "--broker", "localhost", "--port", &port])
        .args(["--ca", &ca, "--cert", &cert, "--key", &key])
        .output()
        .unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let archive = Archive::look(Path::new(&rig.at("archive"))).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let file = loop {
        let files = archive.files(&Filter { limit: 10, ..Filter::default() }).unwrap();
        if let Some(file) = files.into_iter().find(|file| file.purpose == "requested") {
            break file;
        }
        assert!(Instant::now() < until, "the requested range never arrived");
        std::thread::sleep(Duration::from_millis(200));
    };
    let verify = Command::new(env!("CARGO_BIN_EXE_taimat")).arg("verify").arg(&file.path).output().unwrap();
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stdout));
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn bad_configurations_are_refused_with_every_key_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    std::fs::write(&path, "site = \"A\"\n[camera]\nmain_url = \"rtsp://u:secret@x/\"\nfoo = 1\n[storage]\ndir = \"/r\"\n[uplink]\nhost = \"far.example\"\n").unwrap();
    for command in [vec!["check-config"], vec!["run", "--config"]] {
        let out = Command::new(env!("CARGO_BIN_EXE_taimat")).args(command).arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{text}");
        for key in ["site", "camera.main_url", "camera.foo", "uplink.ca_file"] {
            assert!(text.contains(key), "{key} is not named: {text}");
        }
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn a_ring_without_its_mount_and_a_camera_that_is_not_there_are_clear_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("taimat.toml");
    let text = "site = \"a\"\ncamera.main_url = \"rtsp://127.0.0.1:9/x\"\nstorage.dir = \"/taimat-not-mounted\"\nuplink.host = \"localhost\"\n";
    std::fs::write(&path, text).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_taimat")).args(["run", "--config"]).arg(&path).output().unwrap();
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && words.contains("/taimat-not-mounted") && words.contains("mounted"), "{words}");
    let out = Command::new(env!("CARGO_BIN_EXE_taimat")).args(["probe", "rtsp://127.0.0.1:9/x"]).output().unwrap();
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && words.contains("unreachable"), "{words}");
}

#[test]
fn a_wrong_password_is_named_and_tried_once_by_probe() {
    let camera = SimCamera::start(Options { main: (64, 48), sub: (64, 48), ..Options::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let login = dir.path().join("login");
    for (password, code, word) in [("wrong", 1, "unauthorized"), ("taimat", 0, "")] {
        std::fs::write(&login, format!("admin:{password}\n")).unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_taimat"))
            .args(["probe", &camera.main_url(), "--login"])
            .arg(&login)
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{words}");
        assert!(words.contains(word) && !words.contains("wrong:"), "{words}");
    }
}
