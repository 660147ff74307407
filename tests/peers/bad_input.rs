//! Bad input: configurations, mounts, passwords, certificates and full disks give clear errors.

use std::process::Command;
use std::sync::atomic::Ordering;

use taimat::sim::camera::{Options, SimCamera};

use crate::harness::{Rig, certificates, has, seconds, small_camera, taimat, wait_for};

#[test]
fn bad_configurations_are_refused_with_every_key_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    std::fs::write(&path, "site = \"A\"\n[camera]\nmain_url = \"rtsp://u:secret@x/\"\nfoo = 1\n[storage]\ndir = \"/r\"\n[uplink]\nhost = \"far.example\"\n").unwrap();
    for command in [vec!["check-config"], vec!["run", "--config"]] {
        let out = taimat().args(command).arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{text}");
        for key in ["site", "camera.main_url", "camera.foo", "uplink.ca_file"] {
            assert!(text.contains(key), "{key} is not named: {text}");
        }
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn a_closed_output_pipe_ends_without_an_error_text() {
    use std::process::Stdio;
    let mut sim = taimat()
        .args(["sim", "--worlds", "1"])
        .env_remove("TAIMAT_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(sim.stdout.take());
    let out = sim.wait_with_output().unwrap();
    assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(141), ""));
}

#[test]
fn a_missing_mount_and_a_missing_camera_are_clear_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("taimat.toml");
    let text = "site = \"a\"\ncamera.main_url = \"rtsp://127.0.0.1:9/x\"\nstorage.dir = \"/taimat-not-mounted\"\nuplink.host = \"localhost\"\n";
    std::fs::write(&path, text).unwrap();
    let out = taimat().args(["run", "--config"]).arg(&path).output().unwrap();
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.code() == Some(1)
            && words.contains("/taimat-not-mounted")
            && words.contains("mounted"),
        "{words}"
    );
    assert!(
        !std::path::Path::new("/taimat-not-mounted").exists(),
        "the ring was made on the root file system"
    );
    let out = taimat().args(["probe", "rtsp://127.0.0.1:9/x"]).output().unwrap();
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && words.contains("unreachable"), "{words}");
}

#[test]
fn probe_tries_a_wrong_digest_password_once() {
    tried_once(false);
}

#[test]
fn probe_tries_a_wrong_basic_password_once() {
    tried_once(true);
}

fn tried_once(basic: bool) {
    let camera =
        SimCamera::start(Options { main: (64, 48), sub: (64, 48), basic, ..Options::default() })
            .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let login = dir.path().join("login");
    for (password, code, word) in [("wrong", 1, "unauthorized"), ("taimat", 0, "")] {
        std::fs::write(&login, format!("admin:{password}\n")).unwrap();
        let out =
            taimat().args(["probe", &camera.main_url(), "--login"]).arg(&login).output().unwrap();
        let words = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{words}");
        assert!(words.contains(word) && !words.contains("wrong:"), "{words}");
    }
    assert_eq!(camera.faults().denied.load(Ordering::Relaxed), 1);
}

#[test]
fn the_agent_tries_a_wrong_password_three_times_and_no_more() {
    let camera = small_camera();
    // Main and sub-stream share the limit of three attempts.
    let rig = Rig::simulated(&camera, 8);
    std::fs::write(rig.at("login"), "admin:not-this-one\n").unwrap();
    let mut agent = rig.agent();
    // The tries are spread over a minute.
    wait_for("the agent never gave up", 120, || rig.log().contains("locked_out"));
    seconds(5);
    assert_eq!(camera.faults().denied.load(Ordering::Relaxed), 3, "{}", rig.log());
    assert!(!rig.log().contains("not-this-one"), "the password is in the log");
    assert_eq!(agent.terminate(), Some(0));
}

/// Runs the agent with a refused connection, whose log line must contain `word`.
///
/// Then `mend` repairs the cause, the agent restarts (it pauses a minute after a refusal), and all
/// events must arrive.
fn refused(rig: &Rig, word: &str, mend: impl Fn()) {
    let broker = rig.broker();
    let mut agent = rig.agent();
    wait_for("the refusal is not in the log", 20, || {
        rig.log().contains("the broker refuses this device")
    });
    let log = rig.log();
    let line = log
        .lines()
        .find(|line| line.contains("the broker refuses this device"))
        .unwrap_or_default();
    println!("{line}");
    assert!(line.contains(word) && line.contains("ERROR"), "the setting is not named: {line}");
    drop((broker, agent));
    mend();
    let _broker = rig.broker();
    let _office = rig.office();
    agent = rig.agent();
    rig.wait_until_whole(60);
    let first = rig.received().0.into_iter().find(|event| event.seq == 1).unwrap();
    assert_eq!(first.kind, "vn.taimat.start.v1", "the first event of the refused time is missing");
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn a_broker_that_rejects_our_certificate_is_named() {
    if !has("mosquitto") {
        return;
    }
    let camera = small_camera();
    let rig = Rig::simulated(&camera, 48);
    certificates(rig.dir.path(), "other-");
    rig.configure_broker("other-ca.pem");
    refused(&rig, "uplink.cert_file", || rig.configure_broker("ca.pem"));
}

#[test]
fn a_broker_with_an_unknown_authority_is_named() {
    if !has("mosquitto") {
        return;
    }
    let camera = small_camera();
    let rig = Rig::simulated(&camera, 48);
    certificates(rig.dir.path(), "other-");
    let names = ["broker.pem", "broker.key"];
    let right = names.map(|name| (rig.at(name), std::fs::read(rig.at(name)).unwrap()));
    for name in names {
        std::fs::copy(rig.at(&format!("other-{name}")), rig.at(name)).unwrap();
    }
    refused(&rig, "uplink.ca_file", || {
        right.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap())
    });
}

#[test]
fn a_broker_that_refuses_the_login_is_named() {
    if !has("mosquitto") {
        return;
    }
    let camera = small_camera();
    let mut rig = Rig::simulated(&camera, 48);
    rig.use_passwords();
    std::fs::write(rig.at("km-17.login"), "km-17:guessed-wrong\n").unwrap();
    refused(&rig, "uplink.login_file", || {
        std::fs::write(rig.at("km-17.login"), "km-17:right\n").unwrap()
    });
    assert!(!rig.log().contains("guessed-wrong"), "the password is in the log");
}

/// A tmpfs of `mebibytes`, unmounted after the test; `None` if mounting is not allowed.
struct SmallDisk(String);

impl SmallDisk {
    fn mount(at: &str, mebibytes: u32) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={mebibytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs", at]).output();
        if !mounted.is_ok_and(|out| out.status.success()) {
            println!("SKIPPED: mounting a tmpfs is not allowed here");
            return None;
        }
        Some(SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[test]
fn a_small_disk_is_refused_and_a_filling_one_keeps_recording() {
    let camera = small_camera();
    let rig = Rig::simulated(&camera, 48);
    let Some(small) = SmallDisk::mount(&rig.at("ring"), 16) else {
        return;
    };
    let out = taimat().args(["run", "--config"]).arg(rig.config()).output().unwrap();
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.code() == Some(1)
            && words.contains("storage.budget")
            && words.contains(&rig.at("ring")),
        "{words}"
    );
    drop(small);
    let _disk = SmallDisk::mount(&rig.at("ring"), 100).unwrap();
    let mut agent = rig.agent();
    wait_for("no segments are made", 20, || rig.at_ring("seg-00004.mp4").exists());
    // Another program fills the disk: the ring continues with its existing files.
    let filled = std::fs::write(rig.at_ring("other"), vec![1; 100 << 20]);
    assert!(filled.is_err(), "the disk is full now");
    wait_for("the full disk is not logged", 30, || rig.log().contains("the ring stays at"));
    seconds(10);
    assert_eq!(agent.terminate(), Some(0));
    rig.ring_is_whole();
    let list = rig.ring_list();
    assert!(list.iter().all(|line| line["gap"] != "disk_error"), "footage was lost: {list:#?}");
}
