//! Tests of the dry run: no password reaches a host that is not in force.

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

/// A server that always requests Basic authentication and records everything it receives.
struct Greedy {
    port: u16,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Greedy {
    fn start() -> Greedy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, received) =
            (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let sink = received.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, sink) = (stream.unwrap(), sink.clone());
                thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(n @ 1..) = stream.read(&mut bytes) {
                        sink.lock().unwrap_or_else(PoisonError::into_inner).extend(&bytes[..n]);
                        let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
                        let Some(cseq) = text.lines().find_map(|line| line.strip_prefix("CSeq: "))
                        else {
                            return;
                        };
                        let answer = format!(
                            "RTSP/1.0 401 Unauthorized\r\nCSeq: {cseq}\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n"
                        );
                        let _ = stream.write_all(answer.as_bytes());
                    }
                });
            }
        });
        Greedy { port, received }
    }

    /// Whether it received a password or an answer to its challenge.
    fn received_a_secret(&self) -> bool {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&received);
        [CAMERA, BROKER, "Authorization"].iter().any(|secret| text.contains(secret))
    }

    fn was_contacted(&self) -> bool {
        !self.received.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    paths: ConfigPaths,
    now: Settings,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("camera.login"), format!("admin:{CAMERA}\n")).unwrap();
        std::fs::write(dir.path().join("broker.login"), format!("device:{BROKER}\n")).unwrap();
        let files = Arc::new(RealFiles::open(&dir.path().join("state")).unwrap());
        let clock = Arc::new(SystemClock::new());
        let paths = ConfigPaths {
            files,
            volatile: None,
            file: dir.path().join("file"),
            state: dir.path().into(),
            clock,
        };
        let login = |user: &str, password: &str| {
            Some(Login { user: user.into(), password: Secret::new(password) })
        };
        let mut now = test_settings();
        (now.camera.login, now.uplink.login) = (login("admin", CAMERA), login("device", BROKER));
        Bench { dir, paths, now }
    }

    fn text(&self, camera: u16, login: &str, broker: u16, broker_login: &str) -> String {
        let dir = self.dir.path().display();
        format!(
            "site = \"km-17\"\nstorage.dir = \"{dir}/ring\"\nstorage.require_mount = false\n[camera]\nmain_url = \"rtsp://127.0.0.1:{camera}/x\"\nlogin_file = \"{dir}/{login}\"\n\
             [uplink]\nhost = \"127.0.0.1\"\nport = {broker}\nlogin_file = \"{dir}/{broker_login}\"\n"
        )
    }
}

#[test]
fn a_dry_run_shows_no_password_to_a_new_host() {
    let bench = Bench::new();
    for (login, broker_login) in
        [("camera.login", "broker.login"), ("broker.login", "camera.login")]
    {
        let (camera, broker) = (Greedy::start(), Greedy::start());
        let text = bench.text(camera.port, login, broker.port, broker_login);
        let found = check(&bench.paths, &text, &bench.now, true).unwrap();
        assert!(camera.was_contacted() && broker.was_contacted(), "{found}");
        assert!(
            !camera.received_a_secret() && !broker.received_a_secret(),
            "a password was sent: {found}"
        );
        assert_eq!(
            (&found["camera"]["ok"], &found["brokers"][0]["ok"]),
            (&json!(false), &json!(false)),
            "{found}"
        );
        for detail in [&found["camera"]["detail"], &found["brokers"][0]["detail"]] {
            assert!(detail.as_str().unwrap().contains(WITHHELD), "{found}");
        }
    }
}

#[test]
fn a_dry_run_answers_the_same_for_open_and_closed_ports() {
    let bench = Bench::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let open = Greedy::start();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    thread::spawn(move || silent.incoming().for_each(drop));
    let answer = |port: u16| {
        check(
            &bench.paths,
            &bench.text(port, "camera.login", port, "broker.login"),
            &bench.now,
            true,
        )
        .unwrap()
    };
    let (at_closed, at_open) = (answer(closed), answer(open.port));
    assert_eq!(at_closed["brokers"][0]["detail"], at_open["brokers"][0]["detail"]);
    assert!(
        at_closed["camera"]["detail"].as_str().unwrap().starts_with("no camera plays there"),
        "{at_closed}"
    );
}

#[test]
fn the_camera_in_force_gets_its_own_login_only() {
    let mut bench = Bench::new();
    let camera = Greedy::start();
    bench.now.camera.main_url =
        url::Url::parse(&format!("rtsp://127.0.0.1:{}/main", camera.port)).unwrap();
    let broker = bench.now.uplink.port;
    check(
        &bench.paths,
        &bench.text(camera.port, "broker.login", broker, "broker.login"),
        &bench.now,
        true,
    )
    .unwrap();
    assert!(
        camera.was_contacted() && !camera.received_a_secret(),
        "the broker's login went to the camera"
    );
    check(
        &bench.paths,
        &bench.text(camera.port, "camera.login", broker, "broker.login"),
        &bench.now,
        true,
    )
    .unwrap();
    assert!(camera.received_a_secret(), "its own login was withheld");
}

#[test]
fn a_change_to_a_new_camera_that_asks_for_basic_is_refused() {
    let bench = Bench::new();
    let camera = Greedy::start();
    let text = bench.text(camera.port, "camera.login", bench.now.uplink.port, "broker.login");
    let refusal = judge(&bench.paths, Some(text), Some(&bench.now)).unwrap_err();
    assert_eq!(
        (refusal.why, refusal.errors[0].key.as_str()),
        (RejectReason::Probe, "camera.main_url"),
        "{refusal:?}"
    );
    assert!(camera.was_contacted() && !camera.received_a_secret());
}

#[test]
fn a_dry_run_rejects_a_ring_directory_that_is_a_pipe() {
    let bench = Bench::new();
    crate::regular_file::tests::named_pipe(&bench.dir.path().join("ring"));
    let text = bench.text(9, "camera.login", 9, "broker.login");
    let rejection = check(&bench.paths, &text, &bench.now, false).unwrap_err();
    assert_eq!(rejection.errors[0].key, "storage.dir");
    assert_eq!(rejection.errors[0].reason, validation::UNUSABLE);
}

#[test]
fn a_budget_that_does_not_fit_is_rejected_everywhere() {
    let mut bench = Bench::new();
    bench.now.storage.dir = bench.dir.path().join("ring");
    let fits = bench.text(9, "camera.login", 9, "broker.login");
    let fits = fits
        .replace("[camera]", "storage.budget = \"4 MiB\"\nstorage.segment = \"256 KiB\"\n[camera]");
    let huge = fits.replace("4 MiB", "8 TiB");
    let now = &bench.now;
    for is_made in [false, true] {
        if is_made {
            std::fs::create_dir(&now.storage.dir).unwrap();
        }
        check(&bench.paths, &fits, now, false).unwrap();
        judge(&bench.paths, Some(fits.clone()), None).unwrap();
        for rejection in [
            check(&bench.paths, &huge, now, false).unwrap_err(),
            judge(&bench.paths, Some(huge.clone()), Some(now)).unwrap_err(),
            judge(&bench.paths, Some(huge.clone()), None).unwrap_err(),
        ] {
            assert_eq!(rejection.errors[0].key, "storage.budget");
            let reason = &rejection.errors[0].reason;
            assert!(reason.contains("lower storage.budget"), "{reason}");
        }
    }
    let rejection = check(&bench.paths, &huge, &test_settings(), false).unwrap_err();
    let reason = &rejection.errors[0].reason;
    assert!(
        !reason.contains(char::is_numeric),
        "the answer names the room of another directory: {reason}"
    );
}
