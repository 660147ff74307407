//! Tests of `deploy/`: its commands are executed, and its certificates and modes are checked.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use taimat::office::archive::Archive;

use crate::harness::{Rig, deploy, free_port, has, small_camera, taimat, wait_for};

#[test]
fn the_readmes_commands_install_a_device_and_an_office() {
    let tools = ["mosquitto", "openssl", "unshare", "runuser", "useradd"];
    if !tools.iter().all(|tool| has(tool)) {
        return;
    }
    let camera = small_camera();
    let work = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/deploy.sh");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child"]).arg(script).arg(work.path());
    let ports = [free_port().to_string(), free_port().to_string()];
    let out = command
        .args([env!("CARGO_BIN_EXE_taimat"), &camera.main_url()])
        .args(ports)
        .output()
        .unwrap();
    let words =
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    // Exit code 1 with these texts is unshare's refusal, and 77 the script's.
    if out.status.code() == Some(77) || words.starts_with("unshare:") {
        println!("SKIPPED: mount namespaces with overlays are not allowed here");
        return;
    }
    assert!(out.status.success(), "{words}");
}

/// Runs make-certs.sh for `service` and the site km-17.
fn make_certs(dir: &Path, host: &str) -> Output {
    Command::new(deploy("mosquitto/make-certs.sh")).arg(dir).args([host, "km-17"]).output().unwrap()
}

#[test]
fn an_office_may_be_named_by_its_ip_address() {
    if !has("openssl") || !has("mosquitto") {
        return;
    }
    for (host, shown) in [
        ("10.1.2.3", "IP Address:10.1.2.3"),
        ("fd00::7", "IP Address:FD00:"),
        ("10.example", "DNS:10.example"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        assert!(make_certs(dir.path(), host).status.success(), "{host}");
        let show = ["x509", "-noout", "-ext", "subjectAltName", "-in"];
        let out =
            Command::new("openssl").args(show).arg(dir.path().join("broker.pem")).output().unwrap();
        let words = String::from_utf8_lossy(&out.stdout);
        assert!(words.contains(shown), "{host}: {words}");
    }
    let camera = small_camera();
    let rig = Rig::simulated(&camera, 48);
    for name in ["ca.pem", "office-ca.pem", "broker.pem", "broker.key", "km-17.pem", "km-17.key"] {
        std::fs::remove_file(rig.at(name)).unwrap();
    }
    let made = make_certs(rig.dir.path(), "127.0.0.1");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // Mosquitto drops root before it reads its key; deploy/README.md makes it the owner.
    for name in ["broker.key", "broker.pem", "ca.pem", "office-ca.pem"] {
        std::fs::set_permissions(rig.at(name), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    let config = std::fs::read_to_string(rig.config()).unwrap();
    std::fs::write(rig.config(), config.replace("host = \"localhost\"", "host = \"127.0.0.1\""))
        .unwrap();
    let _broker = rig.broker();
    let mut agent = rig.agent();
    wait_for("the device does not connect to its broker", 20, || rig.log().contains("connected"));
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn a_device_cannot_request_a_certificate_of_the_office() {
    if !has("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let request = [
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=office",
    ];
    let out = Command::new("openssl")
        .args(request)
        .args(["-keyout", &at("device.key"), "-out", &at("km-17.csr")])
        .output()
        .unwrap();
    assert!(out.status.success());
    let made = make_certs(dir.path(), "localhost");
    let words = String::from_utf8_lossy(&made.stderr);
    assert!(!made.status.success() && words.contains("does not request CN=km-17"), "{words}");
    assert!(!dir.path().join("km-17.pem").exists());
}

/// Files under `dir` whose mode has rights for group or others.
fn open_to_others(dir: &Path) -> Vec<String> {
    let mut open = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let about = std::fs::symlink_metadata(&path).unwrap();
        if about.permissions().mode() & 0o077 != 0 {
            open.push(format!("{} {:o}", path.display(), about.permissions().mode() & 0o7777));
        }
        if about.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    open
}

#[test]
fn ring_and_archive_have_no_rights_for_others() {
    let camera = small_camera();
    let rig = Rig::simulated(&camera, 48);
    let (_agent, _office) = (rig.agent(), rig.office());
    wait_for("no segment", 20, || rig.at_ring("seg-00000.mp4").exists());
    wait_for("no archive", 20, || rig.archive().is_some());
    for dir in ["ring", "archive"] {
        assert_eq!(open_to_others(&rig.dir.path().join(dir)), [""; 0]);
    }
}

/// Runs an office command for at most five seconds; returns its output and the bytes at the broker.
fn run_with_remote_broker(words: &[&str]) -> (Output, Vec<u8>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(at("login"), "office:S3cret-Office\n").unwrap();
    let config = "site = \"km-17\"\ncamera.main_url = \"rtsp://127.0.0.1:9/none\"\nstorage.dir = \"/x\"\nuplink.host = \"localhost\"\n";
    std::fs::write(at("device.toml"), config).unwrap();
    assert!(
        taimat()
            .args(["keygen", "--office", "office", "--dir", &at("")])
            .output()
            .unwrap()
            .status
            .success()
    );
    if words.contains(&"push") {
        drop(Archive::open(Path::new(&at("archive"))).unwrap());
    }
    let port = listener.local_addr().unwrap().port().to_string();
    let words = words.iter().map(|word| match *word {
        "DIR" => at("archive"),
        "FILE" => at("device.toml"),
        "KEY" => at("office.sign.key"),
        word => word.to_owned(),
    });
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "5", env!("CARGO_BIN_EXE_taimat"), "office"]).args(words);
    // 0/8 addresses reach this host, but are not loopback addresses.
    command.args(["--broker", "0.0.0.0", "--port", &port, "--login", &at("login")]);
    let out = command.output().unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut received = Vec::new();
    while let Ok((mut peer, _)) = listener.accept() {
        let _ = std::io::Read::read_to_end(&mut peer, &mut received);
    }
    (out, received)
}

#[test]
fn office_commands_need_allow_plain_for_clear_passwords() {
    for words in [
        &["run", "--dir", "DIR"][..],
        &["cmd", "km-17", "ping", "--wait", "2"],
        &[
            "config", "push", "km-17", "FILE", "--dir", "DIR", "--sign", "KEY", "--wait", "2",
            "--yes",
        ],
    ] {
        let (out, received) = run_with_remote_broker(words);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(received.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&received));
        assert!(
            matches!(out.status.code(), Some(1 | 2)) && said.contains("--allow-plain"),
            "{words:?}: {said}"
        );
    }
    let (out, received) =
        run_with_remote_broker(&["cmd", "km-17", "ping", "--wait", "2", "--allow-plain"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(received.windows(13).any(|bytes| bytes == b"S3cret-Office"), "{said}");
    assert!(said.contains("the password goes unencrypted"), "{said}");
}

#[test]
fn reserved_site_ids_are_refused_wherever_a_site_is_named() {
    if !has("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    for site in
        ["host", "fleet", "enrol", "witness", "office", "claim-0a1b", "taimat-office-office"]
    {
        let config = format!(
            "site = \"{site}\"\ncamera.main_url = \"rtsp://127.0.0.1:9/x\"\nstorage.dir = \"/x\"\nuplink.host = \"localhost\"\n"
        );
        std::fs::write(at("device.toml"), config).unwrap();
        let refusals = [
            taimat().args(["check-config", &at("device.toml")]).output(),
            taimat().args(["keygen", "--site", site, "--dir", &at("")]).output(),
            taimat().args(["office", "run", "--dir", &at("archive"), "--site", site]).output(),
            Command::new(deploy("mosquitto/make-certs.sh"))
                .args([&at("ca"), "localhost", site])
                .output(),
        ];
        for out in refusals.map(Result::unwrap) {
            let words = format!(
                "{}{}",
                String::from_utf8_lossy(&out.stdout),
                String::from_utf8_lossy(&out.stderr)
            );
            assert!(
                !out.status.success() && words.contains(site) && words.contains("reserved"),
                "{site}: {words}"
            );
        }
        assert!(
            !Path::new(&at(&format!("{site}.key"))).exists() && !Path::new(&at("ca")).exists(),
            "{site}: files were made"
        );
    }
}

#[test]
fn a_device_logs_that_its_password_goes_unencrypted() {
    if !has("mosquitto") || !has("mosquitto_passwd") {
        return;
    }
    let camera = small_camera();
    let mut rig = Rig::simulated(&camera, 48);
    rig.use_passwords();
    // 0/8 addresses reach this host, but are not loopback addresses.
    let config = std::fs::read_to_string(rig.config())
        .unwrap()
        .replace("host = \"localhost\"", "host = \"0.0.0.0\"");
    std::fs::write(rig.config(), config).unwrap();
    rig.configure_uplink("allow_plain = true");
    let (_broker, _agent) = (rig.broker(), rig.agent());
    wait_for("it did not connect", 20, || rig.log().contains("broker connected"));
    assert!(rig.log().contains("the password goes unencrypted"), "{}", rig.log());
}
