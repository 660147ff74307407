//! `taimat discover` and two simulated ONVIF cameras in two network namespaces over a veth pair, IPv4 and IPv6 link-local.
//!
//! The test runs itself again inside the namespaces: as `office`, where taimat runs, and as `cameras`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use taimat::sim::camera::{self, SimCamera};
use taimat::sim::onvif_camera::{Login, OnvifCamera, Options};

use crate::harness::{Running, has, seconds, taimat, wait_for};

const TEST: &str = "discover::cameras_of_another_namespace_are_found_and_recorded";
const ROLE: &str = "TAIMAT_TEST_ROLE";
const DIR: &str = "TAIMAT_TEST_DIR";
const PLAIN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const ODD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
const PLAIN_LOCAL: &str = "fe80::77:2";
const ODD_LOCAL: &str = "fe80::77:3";

#[test]
fn cameras_of_another_namespace_are_found_and_recorded() {
    match std::env::var(ROLE).as_deref() {
        Ok("office") => office(),
        Ok("cameras") => cameras(),
        _ => outside(),
    }
}

fn outside() {
    if !has("unshare") || !has("ip") {
        return;
    }
    let can = Command::new("unshare").args(["-Urn", "true"]).output().unwrap();
    if !can.status.success() {
        println!("SKIPPED: this machine makes no network namespaces");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = this_test("-Urn", "office", dir.path()).output().unwrap();
    println!("{}", String::from_utf8_lossy(&out.stdout));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// This test in namespaces of its own.
fn this_test(namespaces: &str, role: &str, dir: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.arg(namespaces).arg(std::env::current_exe().unwrap());
    command.args(["--exact", TEST, "--nocapture"]).env(ROLE, role).env(DIR, dir);
    command
}

fn dir() -> PathBuf {
    std::env::var_os(DIR).unwrap().into()
}

fn ip(words: &str) {
    let out = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(out.status.success(), "ip {words}: {}", String::from_utf8_lossy(&out.stderr));
}

/// The number of an interface in this namespace.
fn index(name: &str) -> Option<u32> {
    let out = Command::new("ip").args(["-o", "link", "show", name]).output().unwrap();
    String::from_utf8(out.stdout).ok()?.split(':').next()?.parse().ok()
}

/// The namespace of the cameras: one that keeps the rules, one that keeps none.
fn cameras() {
    wait_for("no interface came", 20, || index("cam1").is_some());
    let own = [
        "link set lo up",
        "addr add 10.77.0.2/24 dev cam1",
        "addr add 10.77.0.3/24 dev cam1",
        "link set cam1 up",
        "addr add fe80::77:2/64 dev cam1 nodad",
        "addr add fe80::77:3/64 dev cam1 nodad",
    ];
    own.iter().for_each(|words| ip(words));
    let lens = SimCamera::start(camera::Options {
        main: (640, 360),
        sub: (320, 180),
        ip: IpAddr::V4(PLAIN),
        port: 8554,
        ..camera::Options::default()
    })
    .unwrap();
    let interface = index("cam1").unwrap();
    let start = |v4: Ipv4Addr, local: &str, port, uris: [String; 2], login, is_odd| {
        let addresses = vec![IpAddr::V4(v4), local.parse().unwrap()];
        OnvifCamera::start(Options { addresses, interface, port, uris, login, ahead: 0, is_odd })
            .unwrap()
    };
    let _plain =
        start(PLAIN, PLAIN_LOCAL, 80, [lens.main_url(), lens.sub_url()], Login::Open, false);
    let odd =
        ["rtsp://root:s/3cr3t@0.0.0.0:8554/main?x=1&y=2", "/user=root_password=s3cr3t_channel=1"];
    let _odd = start(ODD, ODD_LOCAL, 8899, odd.map(str::to_owned), Login::Token, true);
    std::fs::write(dir().join("ready"), "").unwrap();
    // The office ends this process; it ends by itself if the office cannot.
    let until = Instant::now() + Duration::from_secs(300);
    while Instant::now() < until && dir().exists() {
        std::thread::sleep(Duration::from_millis(200));
    }
}

struct Printed {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `taimat discover`; nothing it prints holds a password or a control character.
fn discover(words: &[&str]) -> Printed {
    let Output { status, stdout, stderr } =
        taimat().arg("discover").args(words).env("TZ", "Asia/Ho_Chi_Minh").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let run = Printed { code: status.code(), out: text(stdout), err: text(stderr) };
    println!("$ taimat discover {}\n{}{}\n", words.join(" "), run.err, run.out);
    for secret in ["3cr3t", "s3cr3t", "taimat\n", "wr0ng", "\x1b"] {
        assert!(!run.out.contains(secret) && !run.err.contains(secret), "{secret:?} is printed");
    }
    run
}

fn found(run: &Printed) -> Vec<serde_json::Value> {
    let value: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    value["cameras"].as_array().unwrap().clone()
}

/// The namespace of taimat.
fn office() {
    ip("link set lo up");
    let mut other = Running::start(this_test("-n", "cameras", &dir()).stdout(Stdio::null()));
    let theirs = PathBuf::from(format!("/proc/{}/ns/net", other.0.id()));
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    wait_for("no namespace", 20, || std::fs::read_link(&theirs).is_ok_and(|other| other != ours));
    ip("link add cam0 type veth peer name cam1");
    ip(&format!("link set cam1 netns {}", other.0.id()));
    ip("addr add 10.77.0.1/24 dev cam0");
    ip("link set cam0 up");
    wait_for("the cameras did not start", 30, || {
        assert!(other.0.try_wait().unwrap().is_none(), "the cameras ended");
        dir().join("ready").exists()
    });
    // Duplicate address detection of our own link-local address.
    seconds(3);
    let login = dir().join("camera.login");
    std::fs::write(&login, "admin:taimat\n").unwrap();
    let login = login.display().to_string();
    without_a_login();
    with_a_login(&login);
    one_host(&login);
    by_ipv6_alone(&login);
    the_written_configuration_records(&login);
    a_signal_ends_it();
}

fn without_a_login() {
    let run = discover(&["--json"]);
    assert_eq!(run.code, Some(0));
    let cameras = found(&run);
    assert_eq!(cameras.len(), 2, "a hundred duplicates are one camera, and IPv6 is the same one");
    assert_eq!(cameras[0]["address"], PLAIN.to_string());
    assert_eq!(cameras[0]["main"]["url"], "rtsp://10.77.0.2:8554/main");
    assert_eq!(cameras[0]["sub"]["url"], "rtsp://10.77.0.2:8554/sub");
    assert!(cameras[0]["clock"]["ahead_seconds"].as_f64().unwrap().abs() < 2.0);
    assert_eq!(cameras[1]["address"], ODD.to_string());
    assert!(cameras[1]["problems"][0].as_str().unwrap().contains("--login-file"));
    assert!(cameras[1]["main"].is_null());
    assert!(run.err.contains("fe80::77:2 answered on cam0"), "IPv6 was heard, too");
    assert!(run.err.contains("devices that are no cameras"));
}

fn with_a_login(login: &str) {
    let run = discover(&["--login-file", login, "--interface", "cam0"]);
    assert_eq!(run.code, Some(0));
    let docs = include_str!("../../docs/discover.md");
    let (_, example) = docs.split_once("$ taimat discover --login-file camera.login\n").unwrap();
    assert_eq!(run.out, example.split("```").next().unwrap(), "the example of docs/discover.md");
    for wanted in [
        "main rtsp://10.77.0.2:8554/main\n",
        "sub  rtsp://10.77.0.2:8554/sub\n",
        "640x360 H.264 10/s, key frame every 1 s",
        "right, UTC+7",
        "main rtsp://10.77.0.3:8554/main?x=1&y=2\n",
        "sub  rtsp://10.77.0.3/user=***_password=***_channel=1\n",
        "! its clock was never set",
        "! main is H.265",
        "smart codec",
    ] {
        assert!(run.out.contains(wanted), "{wanted}");
    }
    let wrong = dir().join("wrong.login");
    std::fs::write(&wrong, "admin:wr0ng\n").unwrap();
    let run = discover(&["--login-file", &wrong.display().to_string()]);
    assert!(run.out.contains("it refuses this login"));
    let none = discover(&["--interface", "lo"]);
    assert_eq!(none.code, Some(2), "the loopback has no cameras");
}

fn one_host(login: &str) {
    let run = discover(&["--host", "10.77.0.3", "--login-file", login, "--json"]);
    assert_eq!(run.code, Some(0), "port 8899 is found");
    assert_eq!(found(&run)[0]["model"], "Simcam Road 1");
    let run = discover(&["--host", "[fe80::77:2%cam0]:80", "--json"]);
    assert_eq!(found(&run)[0]["address"], "fe80::77:2%cam0");
    assert_eq!(found(&run)[0]["main"]["url"], "rtsp://10.77.0.2:8554/main");
    assert_eq!(discover(&["--host", "10.77.0.2:81"]).code, Some(1));
}

fn by_ipv6_alone(login: &str) {
    ip("addr del 10.77.0.1/24 dev cam0");
    let run = discover(&["--json", "--login-file", login]);
    let cameras = found(&run);
    let addresses: Vec<&str> =
        cameras.iter().filter_map(|camera| camera["address"].as_str()).collect();
    assert_eq!(addresses, ["fe80::77:2%cam0", "fe80::77:3%cam0"]);
    assert_eq!(cameras[0]["main"]["url"], "rtsp://10.77.0.2:8554/main");
    assert!(cameras[1]["warnings"].to_string().contains("link-local"));
    ip("addr add 10.77.0.1/24 dev cam0");
}

fn the_written_configuration_records(login: &str) {
    let (file, ring) = (dir().join("taimat.toml"), dir().join("ring"));
    let (path, ring) = (file.display().to_string(), ring.display().to_string());
    let write = ["--write", path.as_str(), "--ring", ring.as_str(), "--site", "km-17"];
    let write = [&write[..], &["--login-file", login]].concat();
    assert_eq!(discover(&write).code, Some(2), "two cameras, none chosen");
    assert!(!file.exists());
    assert_eq!(discover(&[&write[..], &["--camera", "10.77.0.2"]].concat()).code, Some(0));
    let again = discover(&[&write[..], &["--camera", "1"]].concat());
    assert!(again.code == Some(2) && again.err.contains("never overwritten"));
    let check = taimat().args(["check-config", &path]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let mut text = std::fs::read_to_string(&file).unwrap();
    println!("{text}");
    // A smaller ring than eight gigabytes for the test.
    text = text.replace("[storage]\n", "[storage]\nsegment = \"1 MiB\"\nbudget = \"16 MiB\"\n");
    std::fs::write(&file, text).unwrap();
    let log = std::fs::File::create(dir().join("agent.log")).unwrap();
    let mut agent = Running::start(taimat().args(["run", "--config", &path]).stderr(log));
    let list = || {
        let out = taimat().args(["ring", "list", "--json", "--dir", &ring]).output().unwrap();
        serde_json::from_slice::<Vec<serde_json::Value>>(&out.stdout).unwrap_or_default()
    };
    let until = Instant::now() + Duration::from_secs(40);
    while list().is_empty() {
        let log = || std::fs::read_to_string(dir().join("agent.log")).unwrap_or_default();
        assert!(Instant::now() < until, "nothing was recorded\n{}", log());
        seconds(1);
    }
    seconds(4);
    assert_eq!(agent.terminate(), Some(0));
    println!("recorded: {}", serde_json::to_string(&list()).unwrap());
}

fn a_signal_ends_it() {
    let mut asking = taimat();
    asking.args(["discover", "--seconds", "60"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut asking = Running::start(&mut asking);
    seconds(2);
    let begin = Instant::now();
    let _ = Command::new("kill").args(["-INT", &asking.0.id().to_string()]).status();
    let status = asking.0.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}
