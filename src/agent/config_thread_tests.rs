//! What leaves the device when somebody asks for a dry run.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::clock::SystemClock;
use crate::remote_config::durable_files::RealFiles;
use crate::settings::{Login, test_settings};
use crate::units::Secret;

const CAMERA: &str = "S3cret-Camera";
const BROKER: &str = "Br0ker-Pass";

/// A server that asks for Basic again and again, and keeps all it hears.
struct Greedy {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Greedy {
    fn start() -> Greedy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, heard) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let ear = heard.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, ear) = (stream.unwrap(), ear.clone());
                thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(n @ 1..) = stream.read(&mut bytes) {
                        ear.lock().unwrap_or_else(PoisonError::into_inner).extend(&bytes[..n]);
                        let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
                        let Some(cseq) = text.lines().find_map(|line| line.strip_prefix("CSeq: ")) else { return };
                        let answer =
                            format!("RTSP/1.0 401 Unauthorized\r\nCSeq: {cseq}\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n");
                        let _ = stream.write_all(answer.as_bytes());
                    }
                });
            }
        });
        Greedy { port, heard }
    }

    /// Whether a password, or an answer to the challenge, was heard.
    fn has_heard_a_secret(&self) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&heard);
        [CAMERA, BROKER, "Authorization"].iter().any(|secret| text.contains(secret))
    }

    fn is_asked(&self) -> bool {
        !self.heard.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    place: ConfigPaths,
    now: Settings,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("camera.login"), format!("admin:{CAMERA}\n")).unwrap();
        std::fs::write(dir.path().join("broker.login"), format!("box:{BROKER}\n")).unwrap();
        let files = Arc::new(RealFiles::open(&dir.path().join("state")).unwrap());
        let clock = Arc::new(SystemClock::new());
        let place = ConfigPaths { files, volatile: None, file: dir.path().join("file"), state: dir.path().into(), clock };
        let login = |user: &str, password: &str| Some(Login { user: user.into(), password: Secret::new(password) });
        let mut now = test_settings();
        (now.camera.login, now.uplink.login) = (login("admin", CAMERA), login("box", BROKER));
        Bench { dir, place, now }
    }

    fn text(&self, camera: u16, login: &str, broker: u16, broker_login: &str) -> String {
        let dir = self.dir.path().display();
        format!(
            "site = \"km-17\"\nstorage.dir = \"/r\"\n[camera]\nmain_url = \"rtsp://127.0.0.1:{camera}/x\"\nlogin_file = \"{dir}/{login}\"\n\
             [uplink]\nhost = \"127.0.0.1\"\nport = {broker}\nlogin_file = \"{dir}/{broker_login}\"\n"
        )
    }
}

#[test]
fn a_dry_run_shows_no_password_to_a_new_host() {
    let bench = Bench::new();
    for (login, broker_login) in [("camera.login", "broker.login"), ("broker.login", "camera.login")] {
        let (camera, broker) = (Greedy::start(), Greedy::start());
        let text = bench.text(camera.port, login, broker.port, broker_login);
        let found = check(&bench.place, &text, &bench.now, true).unwrap();
        assert!(camera.is_asked() && broker.is_asked(), "{found}");
        assert!(!camera.has_heard_a_secret() && !broker.has_heard_a_secret(), "a password has left: {found}");
        assert_eq!((&found["camera"]["ok"], &found["brokers"][0]["ok"]), (&json!(false), &json!(false)), "{found}");
        for said in [&found["camera"]["detail"], &found["brokers"][0]["detail"]] {
            assert!(said.as_str().unwrap().contains(WITHHELD), "{found}");
        }
    }
}

#[test]
fn a_dry_run_is_no_port_scanner() {
    let bench = Bench::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let talks = Greedy::start();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    thread::spawn(move || silent.incoming().for_each(drop));
    let said =
        |port: u16| check(&bench.place, &bench.text(port, "camera.login", port, "broker.login"), &bench.now, true).unwrap();
    let (nobody, other) = (said(closed), said(talks.port));
    assert_eq!(nobody["brokers"][0]["detail"], other["brokers"][0]["detail"]);
    assert!(nobody["camera"]["detail"].as_str().unwrap().starts_with("no camera plays there"), "{nobody}");
}

#[test]
fn the_camera_in_force_is_asked_with_its_own_login_only() {
    let mut bench = Bench::new();
    let camera = Greedy::start();
    bench.now.camera.main_url = url::Url::parse(&format!("rtsp://127.0.0.1:{}/main", camera.port)).unwrap();
    let broker = bench.now.uplink.port;
    check(&bench.place, &bench.text(camera.port, "broker.login", broker, "broker.login"), &bench.now, true).unwrap();
    assert!(camera.is_asked() && !camera.has_heard_a_secret(), "the broker's login went to the camera");
    check(&bench.place, &bench.text(camera.port, "camera.login", broker, "broker.login"), &bench.now, true).unwrap();
    assert!(camera.has_heard_a_secret(), "its own login was kept back");
}

#[test]
fn a_change_to_a_new_camera_that_asks_for_basic_is_refused() {
    let bench = Bench::new();
    let camera = Greedy::start();
    let text = bench.text(camera.port, "camera.login", bench.now.uplink.port, "broker.login");
    let refusal = judge(&bench.place, Some(text), Some(&bench.now)).unwrap_err();
    assert_eq!((refusal.why, refusal.errors[0].key.as_str()), (RejectReason::Probe, "camera.main_url"), "{refusal:?}");
    assert!(camera.is_asked() && !camera.has_heard_a_secret());
}
