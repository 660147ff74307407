//! Remote configuration, end to end: real agent, Mosquitto with certificates, office commands.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use taimat::office::archive::Archive;
use taimat::remote_config::signed_document::Document;
use taimat::settings::{TrustedKey, key_id};
use taimat::sim::camera::{Options, SimCamera};
use taimat::sim::faulty_proxy::FaultyProxy;
use taimat::units::{Digest, SiteId, WallTime, hex};

use crate::harness::{
    Rig, Running, certificates, free_port, has, seconds, small_camera, taimat, wait_for,
};

/// A harness with a device that accepts remote configurations.
struct Remote {
    rig: Rig,
    key: Ed25519KeyPair,
}

impl Remote {
    fn new(camera: &SimCamera) -> Remote {
        let rig = Rig::simulated(camera, 48);
        let out =
            taimat().args(["keygen", "--office", "office", "--dir", &rig.at("")]).output().unwrap();
        let words = String::from_utf8_lossy(&out.stdout).into_owned();
        let keys = words
            .lines()
            .find_map(|line| line.split("keys = ").nth(1))
            .unwrap_or_else(|| panic!("{words}"));
        rig.configure_uplink(&format!(
            "health_every = \"5 s\"\n[remote]\nkeys = {keys}\ntrial = \"60 s\""
        ));
        let pem = std::fs::read_to_string(rig.at("office.sign.key")).unwrap();
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&decoded(&base64)).unwrap();
        Remote { rig, key }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.rig.config()).unwrap()
    }

    fn key_id(&self) -> String {
        let mut public = [0; 32];
        public.copy_from_slice(self.key.public_key().as_ref());
        key_id(&public)
    }

    /// Runs `office config push` with a text.
    fn push(&self, text: &str) -> Output {
        std::fs::write(self.rig.at("next.toml"), text).unwrap();
        self.command("push", &["km-17", &self.rig.at("next.toml")]).output().unwrap()
    }

    fn command(&self, what: &str, args: &[&str]) -> Command {
        let mut command = taimat();
        let login = self.rig.office_login();
        command.args(["office", "config", what]).args(args).args(login);
        command.args(self.push_options(&self.rig.at("archive"), 150));
        command
    }

    /// The options of a push: signed, from this archive, without a question, with this time to wait.
    fn push_options(&self, archive: &str, wait: u32) -> [String; 7] {
        let (key, wait) = (self.rig.at("office.sign.key"), wait.to_string());
        ["--sign", &key, "--dir", archive, "--yes", "--wait", &wait].map(String::from)
    }

    /// The device's last report, as the office has it.
    fn reported(&self) -> Value {
        let site = SiteId::parse("km-17").unwrap();
        self.rig.archive().and_then(|archive| archive.reported(&site).ok()?).unwrap_or_default()
    }

    /// Publishes bytes as a document, as any client of the broker could.
    fn publish(&self, topic: &str, bytes: &[u8]) {
        std::fs::write(self.rig.at("bytes"), bytes).unwrap();
        let port = self.rig.office_port.to_string();
        let (ca, cert, key) =
            (self.rig.at("ca.pem"), self.rig.at("office.pem"), self.rig.at("office.key"));
        let words = [
            "-h",
            "localhost",
            "-p",
            &port,
            "--cafile",
            &ca,
            "--cert",
            &cert,
            "--key",
            &key,
            "-q",
            "1",
            "-t",
            topic,
            "-f",
        ];
        let out =
            Command::new("mosquitto_pub").args(words).arg(self.rig.at("bytes")).output().unwrap();
        println!(
            "published {} bytes: {} {}",
            bytes.len(),
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }

    fn document(&self, version: u64, prev: &str, text: &str) -> Document {
        let prev_sha256 = Digest::of(prev.as_bytes());
        let not_after = "2099-01-01T00:00:00.000Z".into();
        Document {
            v: 1,
            site: "km-17".into(),
            version,
            prev_sha256,
            not_after,
            config: text.into(),
            sig: None,
        }
    }

    /// Starts agent, broker and office, and waits for the device's report.
    fn start(&self) -> (Running, Running, Running) {
        let running = (self.rig.broker(), self.rig.office(), self.rig.agent());
        wait_for("the device sent no report", 30, || self.reported()["phase"].is_string());
        wait_for("it does not record", 30, || self.rig.log().contains("durable"));
        running
    }

    /// The reasons of all `config` events with this action.
    fn config_events(&self, action: &str) -> Vec<String> {
        let events = self.rig.received().0;
        let config = events
            .iter()
            .filter(|event| event.kind == "vn.taimat.config.v1" && event.data["action"] == action);
        config.map(|event| event.data["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// Decodes base 64 (RFC 4648) without checks: the program has just written this key.
fn decoded(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(value).collect();
    let group = |four: &[u8]| {
        let bits = four.iter().fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit))
            << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}

fn output(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// A configuration with one zone.
fn zoned(text: &str, name: &str) -> String {
    let zone = format!(
        "[motion]\nzones = [{{ name = \"{name}\", polygon = [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0]] }}]\n[uplink]"
    );
    let (before, behind) = text.split_once("[uplink]").unwrap();
    let before = before.split("[motion]").next().unwrap();
    format!("{before}{zone}{behind}")
}

#[test]
fn a_zone_applies_in_two_seconds_without_a_dropped_frame() {
    if !has("mosquitto") || !has("mosquitto_pub") {
        return;
    }
    let camera = small_camera();
    let remote = Remote::new(&camera);
    let first = remote.text();
    let (_broker, _office, mut agent) = remote.start();
    let text = zoned(&first, "road");
    std::fs::write(remote.rig.at("next.toml"), &text).unwrap();
    let sha256 = Digest::of(text.as_bytes()).hex();
    let started = Instant::now();
    let pushing = remote
        .command("push", &["km-17", &remote.rig.at("next.toml")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while remote.reported()["sha256"] != sha256.as_str() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{}\n{}",
            remote.reported(),
            remote.rig.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let applied = started.elapsed();
    let out = pushing.wait_with_output().unwrap();
    println!(
        "applied {} ms after the command was typed, committed after {} ms",
        applied.as_millis(),
        started.elapsed().as_millis()
    );
    assert!(
        out.status.success() && output(&out).contains("committed"),
        "{}\n{}",
        output(&out),
        remote.rig.log()
    );
    assert!(applied <= Duration::from_secs(2), "{applied:?}");
    wait_for("the office did not hear of it", 5, || remote.reported()["phase"] == "committed");
    assert_eq!(remote.reported()["older"][0]["sha256"], json!(Digest::of(first.as_bytes())));
    refusals(&remote, &first, &text);
    wait_for("the new zone raises no event", 60, || {
        remote.rig.received().0.iter().any(|event| event.data["zones"] == json!(["road"]))
    });
    assert_eq!(
        remote
            .rig
            .gap_reasons()
            .iter()
            .filter(|reason| *reason == "fell_behind" || *reason == "camera_down")
            .count(),
        0
    );
    called_back(&remote, &first);
    let through = wall_of(started);
    assert_eq!(agent.terminate(), Some(0));
    every_picture_is_there(&remote.rig, &camera, through);
    let first = Digest::of(first.as_bytes()).hex();
    for (words, sha256) in [("show", &first), ("history", &first), ("history", &sha256)] {
        let shown =
            taimat().args(["config", words, "--config"]).arg(remote.rig.config()).output().unwrap();
        assert!(
            shown.status.success() && output(&shown).contains(&sha256[..16]),
            "{}",
            output(&shown)
        );
    }
}

#[test]
fn only_signed_commands_run_each_once_with_an_event() {
    if !has("mosquitto") || !has("mosquitto_pub") {
        return;
    }
    let camera = small_camera();
    let remote = Remote::new(&camera);
    let (_broker, _office, agent) = remote.start();
    let cmd = |words: &[&str]| {
        taimat()
            .args(["office", "cmd", "km-17"])
            .args(words)
            .args(remote.rig.office_login())
            .output()
            .unwrap()
    };
    let sign = remote.rig.at("office.sign.key");
    let out = cmd(&["ping"]);
    assert!(out.status.code() == Some(1) && output(&out).contains("unsigned"), "{}", output(&out));
    let out = cmd(&["ping", "--sign", &sign]);
    assert!(out.status.success(), "{}", output(&out));
    let all = |words: &[&str]| {
        let words = taimat()
            .args(["office", "cmd", "fleet", "ping", "within=1"])
            .args(words)
            .args(remote.rig.office_login())
            .output();
        words.unwrap()
    };
    let out = all(&[]);
    assert!(out.status.code() == Some(1) && output(&out).contains("unsigned"), "{}", output(&out));
    let out = all(&["--sign", &sign]);
    assert!(out.status.success(), "{}", output(&out));
    let out = cmd(&["config-show", "--sign", &sign]);
    assert!(output(&out).contains(&Digest::of(remote.text().as_bytes()).hex()), "{}", output(&out));
    let next = remote
        .text()
        .replace("health_every = \"5 s\"", "health_every = \"6 s\"")
        .replace(&camera.main_url(), "rtsp://127.0.0.1:9/x");
    std::fs::write(remote.rig.at("next.toml"), next).unwrap();
    let config = format!("config=@{}", remote.rig.at("next.toml"));
    let out = cmd(&["config-check", &config, "probe=yes", "--sign", &sign]);
    let found: Value = serde_json::from_slice(&out.stdout).unwrap();
    let data = &found["data"];
    assert_eq!(
        (&data["groups"], &data["camera"]["ok"], &data["brokers"][0]["ok"]),
        (&json!(["camera", "uplink"]), &json!(false), &json!(true)),
        "{found}"
    );
    std::fs::write(remote.rig.at("next.toml"), remote.text() + "[motion]\nfps = 99\n").unwrap();
    let out = cmd(&["config-check", &config, "--sign", &sign]);
    assert!(
        out.status.code() == Some(1) && output(&out).contains("motion.fps"),
        "{}",
        output(&out)
    );
    a_repeated_command_runs_once(&remote, agent);
}

/// Sends the same signed bytes again, before and after a restart.
fn a_repeated_command_runs_once(remote: &Remote, mut agent: Running) {
    let expires = "2099-01-01T00:00:00Z";
    let n = u64::try_from(wall_of(Instant::now()).0).unwrap();
    let plain = serde_json::Map::new();
    let asked = taimat::remote_config::signed_command::CommandRequest {
        name: "ping",
        req_id: "again",
        expires: Some(expires),
        args: &plain,
    };
    let mut body =
        taimat::remote_config::signed_command::add_signature("km-17", asked, n, &remote.key)
            .unwrap();
    body.insert("req_id".into(), json!("again"));
    body.insert("expires".into(), json!(expires));
    let payload = serde_json::to_vec(&body).unwrap();
    let traced = |verdict: &str| {
        let events = remote.rig.received().0;
        events
            .iter()
            .filter(|event| {
                event.kind == "vn.taimat.access.v1"
                    && event.data["req_id"] == "again"
                    && event.data["verdict"] == verdict
            })
            .count()
    };
    remote.publish("taimat/v1/km-17/dn/cmd/ping", &payload);
    wait_for("the command left no trace", 20, || traced("accepted") == 1);
    assert_eq!(agent.terminate(), Some(0));
    let mut agent = remote.rig.agent();
    wait_for("it is not back", 20, || remote.rig.log().matches("broker connected").count() == 2);
    remote.publish("taimat/v1/km-17/dn/cmd/ping", &payload);
    wait_for("the repeat left no trace", 20, || traced("replayed") == 1);
    assert_eq!((agent.terminate(), traced("accepted")), (Some(0), 1));
}

#[test]
#[ignore = "half a minute: a crash loop"]
fn a_device_with_a_dead_card_is_configured_after_crash_loop() {
    if !has("mosquitto") {
        return;
    }
    let camera = small_camera();
    let remote = Remote::new(&camera);
    let first = remote.text();
    let (_broker, _office, mut agent) = remote.start();
    assert_eq!(agent.terminate(), Some(0));
    // A file in place of the ring's directory: the ring cannot be opened.
    std::fs::remove_dir_all(remote.rig.at("ring")).unwrap();
    std::fs::write(remote.rig.at("ring"), "no directory").unwrap();
    let service = Service::start(&remote.rig, &remote.rig.dir.path().join("run"));
    wait_for("it is out of reach", 40, || remote.reported()["phase"] == "safe_mode");
    let out = remote.push(&first.replace(&remote.rig.at("ring"), &remote.rig.at("other-ring")));
    println!("{}", output(&out));
    assert!(out.status.success(), "{}\n{}", output(&out), remote.rig.log());
    wait_for("it does not record on the other card", 20, || {
        Path::new(&remote.rig.at("other-ring")).join("seg-00000.mp4").exists()
    });
    wait_for("it does not say so", 10, || remote.reported()["phase"] == "committed");
    println!("the process started {} times", service.starts());
}

#[test]
fn an_oversized_retained_document_keeps_no_device_offline() {
    if !has("mosquitto") || !has("mosquitto_pub") {
        return;
    }
    let camera = small_camera();
    let mut remote = Remote::new(&camera);
    let remotes = remote.text().split_once("[remote]").unwrap().1.to_owned();
    remote.rig.use_passwords();
    remote.rig.configure_uplink(&format!("protocol = \"3.1.1\"\n[remote]{remotes}"));
    let (_broker, _office, mut agent) = remote.start();
    let port = remote.rig.port.to_string();
    std::fs::write(remote.rig.at("bytes"), vec![b'x'; 10 << 20]).unwrap();
    let words = [
        "-h",
        "localhost",
        "-p",
        &port,
        "-u",
        "office",
        "-P",
        "right",
        "-q",
        "1",
        "-r",
        "-t",
        "taimat/v1/km-17/dn/config/desired",
        "-f",
    ];
    let out =
        Command::new("mosquitto_pub").args(words).arg(remote.rig.at("bytes")).output().unwrap();
    assert!(out.status.success(), "{}", output(&out));
    wait_for("ten megabytes were not reported", 30, || {
        remote.reported()["refused"]["refusal"]["why"] == "too_large"
    });
    let out = remote.push(&zoned(&remote.text(), "road"));
    assert!(out.status.success(), "{}\n{}", output(&out), remote.rig.log());
    assert_eq!(agent.terminate(), Some(0));
}

/// Runs a local rollback to the previous configuration; the office receives a report.
fn called_back(remote: &Remote, first: &str) {
    let on_the_box = |words: &[&str]| {
        taimat().args(words).arg("--config").arg(remote.rig.config()).output().unwrap()
    };
    let none = on_the_box(&["config", "rollback", "7"]);
    assert!(
        none.status.code() == Some(1)
            && output(&none).contains("there is no older configuration 7"),
        "{}",
        output(&none)
    );
    let out = on_the_box(&["config", "rollback"]);
    assert!(out.status.success(), "{}", output(&out));
    let back = json!(Digest::of(first.as_bytes()));
    wait_for("the rollback was not reported", 20, || {
        let reported = remote.reported();
        reported["committed"]["sha256"] == back
            && reported["phase"] == "committed"
            && reported["origin"] == "rollback"
    });
}

/// Wall time of an instant.
fn wall_of(moment: Instant) -> WallTime {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    WallTime((now - moment.elapsed()).as_micros() as i64)
}

/// Checks that around `moment` the ring has every picture of the camera, one each 0.1 s.
fn every_picture_is_there(rig: &Rig, camera: &SimCamera, moment: WallTime) {
    if !has("ffprobe") {
        return;
    }
    let (from, to) =
        (moment.plus_micros(-2_000_000).rfc3339(), moment.plus_micros(8_000_000).rfc3339());
    let file = rig.at("around.mp4");
    let words =
        ["ring", "export", "--dir", &rig.at("ring"), "--from", &from, "--to", &to, "--out", &file]
            .map(String::from);
    let out = taimat().args(words).output().unwrap();
    assert!(out.status.success(), "{}", output(&out));
    let words = [
        "-v",
        "error",
        "-select_streams",
        "v",
        "-show_entries",
        "packet=pts_time",
        "-of",
        "csv=p=0",
        &file,
    ];
    let out = Command::new("ffprobe").args(words).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut times: Vec<f64> =
        text.lines().filter_map(|line| line.trim_matches(',').parse().ok()).collect();
    times.sort_by(f64::total_cmp);
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    let skipped = camera.faults().skipped.lock().unwrap().len();
    println!(
        "{} pictures around the change, at most {:.0} ms apart; the camera itself skipped {skipped}",
        times.len(),
        longest * 1000.0
    );
    assert!(times.len() > 60, "{text}");
    assert!(longest < 0.15 || skipped > 0, "a picture is missing: {longest} s");
}

/// Sends documents that must be rejected, each with its reason; the configuration must stay.
fn refusals(remote: &Remote, first: &str, running: &str) {
    let good = remote.document(1000, running, first);
    let signed = |document: Document| document.signed(&remote.key).encode();
    let whole = signed(good.clone());
    let stranger = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let cases = [
        ("unsigned", good.encode()),
        ("unknown_key", good.clone().signed(&stranger).encode()),
        (
            "bad_signature",
            Document {
                config: "x".into(),
                sig: good.clone().signed(&remote.key).sig,
                ..good.clone()
            }
            .encode(),
        ),
        ("wrong_site", signed(Document { site: "km-18".into(), ..good.clone() })),
        ("replayed", signed(Document { version: 1, ..good.clone() })),
        ("stale", signed(Document { prev_sha256: Digest::of(b"else"), ..good.clone() })),
        ("expired", signed(Document { not_after: "2020-01-01T00:00:00Z".into(), ..good.clone() })),
        ("unreadable", whole[..whole.len() / 2].to_vec()),
        ("too_large", vec![b'x'; 240 << 10]),
    ];
    for (reason, bytes) in cases {
        remote.publish("taimat/v1/km-17/dn/config/answer", &bytes);
        wait_for(&format!("{reason} was not reported"), 10, || {
            remote.reported()["refused"]["refusal"]["why"] == reason
        });
        wait_for(&format!("{reason} was not reported"), 10, || {
            remote.config_events("refused").contains(&reason.to_owned())
        });
    }
    // Larger than the maximum packet of the broker of deploy/: the broker disconnects the
    // publisher.
    remote.publish("taimat/v1/km-17/dn/config/desired", &vec![b'x'; 10 << 20]);
    assert_eq!(remote.reported()["committed"]["sha256"], json!(Digest::of(running.as_bytes())));
    let bad = remote.push(
        &running
            .replace("health_every = \"5 s\"", "health_every = \"5 s\"\nlogin_file = \"/nowhere\""),
    );
    assert_eq!(bad.status.code(), Some(1), "{}", output(&bad));
    assert!(
        output(&bad).contains("uplink.login_file") && output(&bad).contains("/nowhere"),
        "{}",
        output(&bad)
    );
    let bad = remote.push(&running.replace("[storage]", "[storage]\nfoo = 1\npin_quota = 99"));
    assert_eq!(
        bad.status.code(),
        Some(2),
        "a document that the office can reject was sent: {}",
        output(&bad)
    );
}

#[test]
fn a_rollout_of_fifty_devices_stops_at_the_failing_one() {
    if !has("mosquitto") {
        return;
    }
    let camera = small_camera();
    let remote = Remote::new(&camera);
    let _broker = remote.rig.broker();
    let fleet = Fleet::start(&remote);
    let public = hex(remote.key.public_key().as_ref());
    let template = format!(
        "site = \"{{{{site}}}}\"\ncamera.main_url = \"rtsp://{{{{camera}}}}/1\"\nstorage.dir = \"/ring\"\nuplink.host = \"localhost\"\nremote.keys = [\"office:{public}\"]\n"
    );
    std::fs::write(remote.rig.at("box.toml.in"), template).unwrap();
    let mut plan = "template = \"box.toml.in\"\nwave = 10\n".to_owned();
    (1..=50).for_each(|n| plan.push_str(&format!("[sites.km-{n:02}]\ncamera = \"10.0.0.{n}\"\n")));
    std::fs::write(remote.rig.at("plan.toml"), plan).unwrap();
    drop(Archive::open(Path::new(&remote.rig.at("archive"))).unwrap());
    let fleet_push = || remote.command("fleet", &[&remote.rig.at("plan.toml")]).output().unwrap();
    let out = fleet_push();
    assert_eq!(out.status.code(), Some(1), "{}", output(&out));
    let last = output(&out).lines().rev().take(3).map(String::from).collect::<Vec<_>>().join("\n");
    println!("{last}");
    assert!(
        last.contains("29 committed") && last.contains("1 failed") && last.contains("20 not begun"),
        "{}",
        output(&out)
    );
    assert!(last.contains("above: km-23"), "{}", output(&out));
    assert_eq!(output(&out).matches("km-23: FAILED: trial: no key frame").count(), 1);
    assert_eq!(fleet.committed(), 29);
    fleet.mend();
    let out = fleet_push();
    assert!(
        out.status.success() && output(&out).contains("21 committed, 29 had it already, 0 failed"),
        "{}",
        output(&out)
    );
    assert_eq!(fleet.committed(), 50);
}

/// Fifty simulated devices: each checks signature and predecessor, and number 23 rolls back.
struct Fleet {
    shared: std::sync::Arc<std::sync::Mutex<Boxes>>,
}

/// Configuration and highest version of each, and whether number 23 fails.
type Boxes = (BTreeMap<String, (Digest, u64)>, bool);

impl Fleet {
    fn start(remote: &Remote) -> Fleet {
        use taimat::settings::{Protocol, TlsSettings};
        use taimat::uplink::client::{ClientEvent, Options, connect};
        let devices: BTreeMap<String, (Digest, u64)> =
            (1..=50).map(|n| (format!("km-{n:02}"), (Digest::of(b"before"), 0))).collect();
        let shared = std::sync::Arc::new(std::sync::Mutex::new((devices, true)));
        let mut public = [0; 32];
        public.copy_from_slice(remote.key.public_key().as_ref());
        let trusted =
            [TrustedKey { name: "office".into(), public, scope: taimat::settings::KeyScope::All }];
        let key = remote.key_id();
        let rig = &remote.rig;
        let identity = Some((rig.at("office.pem").into(), rig.at("office.key").into()));
        let tls = taimat::uplink::tls::config(
            &TlsSettings { ca: rig.at("ca.pem").into(), identity },
            None,
        )
        .unwrap();
        let options = Options {
            client_id: "devices".into(),
            host: "localhost".into(),
            port: rig.office_port,
            tls: Some(tls),
            login: None,
            keep_alive: 30,
            protocol: Protocol::V5,
            will: None,
        };
        let devices = SimulatedDevices { state: shared.clone(), key, trusted };
        let (ready, started) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (sender, mut connection) = connect(&options);
                sender.subscribe(&["taimat/v1/+/dn/config/desired".to_owned()]);
                let mut waiting = devices.first_reports();
                loop {
                    while let Some((topic, payload)) = waiting.front().cloned() {
                        if !sender.publish(1, &topic, payload, true) {
                            break;
                        }
                        waiting.pop_front();
                    }
                    match connection.poll().await {
                        Ok(ClientEvent::Message(_, payload)) => {
                            waiting.extend(devices.apply(&payload));
                        }
                        Ok(ClientEvent::Acked(..)) if waiting.is_empty() => drop(ready.send(())),
                        Ok(_) => {}
                        Err(_) => return,
                    }
                }
            });
        });
        started.recv_timeout(Duration::from_secs(20)).unwrap();
        Fleet { shared }
    }

    fn committed(&self) -> usize {
        self.shared
            .lock()
            .unwrap()
            .0
            .values()
            .filter(|(sha256, _)| *sha256 != Digest::of(b"before"))
            .count()
    }

    fn mend(&self) {
        self.shared.lock().unwrap().1 = false;
    }
}

/// What the devices answer.
struct SimulatedDevices {
    state: std::sync::Arc<std::sync::Mutex<Boxes>>,
    /// Id of the office's key.
    key: String,
    trusted: [TrustedKey; 1],
}

impl SimulatedDevices {
    fn report(&self, site: &str, committed: Digest, seen: u64, last: Value) -> (String, Vec<u8>) {
        let key = &self.key;
        let value = json!({"v": 1, "phase": "committed", "committed": {"sha256": committed}, "keys": [{"key": key}],
            "seen": {key: seen}, "last": last});
        (format!("taimat/v1/{site}/up/config/reported"), value.to_string().into_bytes())
    }

    fn first_reports(&self) -> VecDeque<(String, Vec<u8>)> {
        let state = self.state.lock().unwrap();
        let report = |(site, (sha256, seen)): (&String, &(Digest, u64))| {
            self.report(site, *sha256, *seen, Value::Null)
        };
        state.0.iter().map(report).collect()
    }

    /// Applies a document; `None` for one that is not newer.
    fn apply(&self, payload: &[u8]) -> Option<(String, Vec<u8>)> {
        let document = Document::decode(payload, payload.len()).unwrap();
        let site = SiteId::parse(&document.site).unwrap();
        let authentic = document.authentic(&site, &self.trusted).unwrap();
        let id = format!("{authentic}-{}", document.version);
        let mut state = self.state.lock().unwrap();
        let fails = state.1 && document.site == "km-23";
        let at = state.0.get_mut(&document.site).unwrap();
        if document.version <= at.1 {
            return None;
        }
        assert_eq!(document.prev_sha256, at.0);
        *at = (if fails { at.0 } else { document.sha256() }, document.version);
        let refusal =
            if fails { json!({"why": "trial", "detail": "no key frame"}) } else { Value::Null };
        Some(self.report(&document.site, at.0, at.1, json!({"id": id, "refusal": refusal})))
    }
}

/// Restarts the agent whenever it ends, as a service manager does.
struct Service {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<u32>>,
}

impl Service {
    fn start(rig: &Rig, runtime: &Path) -> Service {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        std::fs::create_dir_all(runtime).unwrap();
        let (config, log, runtime, ended) =
            (rig.config(), rig.at("agent.log"), runtime.to_owned(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut starts = 0;
            loop {
                let log = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
                let mut agent = taimat();
                agent
                    .args(["run", "--config"])
                    .arg(&config)
                    .env("TAIMAT_LOG", "info")
                    .env("RUNTIME_DIRECTORY", &runtime);
                let mut agent: Child = agent.stdin(Stdio::null()).stderr(log).spawn().unwrap();
                starts += 1;
                while agent.try_wait().unwrap().is_none() {
                    if ended.load(std::sync::atomic::Ordering::Relaxed) {
                        let _ = agent.kill();
                        let _ = agent.wait();
                        return starts;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Service { stop, thread: Some(thread) }
    }

    fn starts(mut self) -> u32 {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The keys of a broker that name the device's certificates.
fn device_certificates(rig: &Rig) -> String {
    let (ca, cert, key) = (rig.at("ca.pem"), rig.at("km-17.pem"), rig.at("km-17.key"));
    format!("ca_file = \"{ca}\", cert_file = \"{cert}\", key_file = \"{key}\"")
}

/// Longest reported gap, milliseconds.
fn longest_gap(rig: &Rig) -> i64 {
    let time = |value: &Value| {
        WallTime::parse(value.as_str().unwrap_or_default()).map_or(0, |wall| wall.0)
    };
    let gaps = rig.received().0.into_iter().filter(|event| event.kind == "vn.taimat.gap.v1");
    gaps.map(|event| (time(&event.data["to"]) - time(&event.data["from"])) / 1000)
        .max()
        .unwrap_or(0)
}

#[test]
#[ignore = "minutes: trials run to their limit"]
fn failing_changes_are_rolled_back_with_their_reason() {
    if !has("mosquitto") {
        return;
    }
    let camera = small_camera();
    let remote = Remote::new(&camera);
    let first = remote.text();
    certificates(remote.rig.dir.path(), "other-");
    let (_broker, _office) = (remote.rig.broker(), remote.rig.office());
    let service = Service::start(&remote.rig, &remote.rig.dir.path().join("run"));
    wait_for("the device sent no report", 30, || remote.reported()["phase"].is_string());
    seconds(5);
    let port = remote.rig.port.to_string();
    let other = free_port().to_string();
    let tls = device_certificates(&remote.rig);
    let dead = first.replace(
        "health_every = \"5 s\"",
        &format!("health_every = \"5 s\"\nfallbacks = [{{ host = \"localhost\", port = {other}, {tls} }}]"),
    );
    let cases = [
        (
            "a camera that does not exist",
            first.replace(&camera.main_url(), "rtsp://127.0.0.1:9/none"),
            "camera.main_url",
        ),
        (
            "only a broker that is not there",
            first.replace(&format!("port = {port}"), &format!("port = {other}")),
            "has not proven itself",
        ),
        ("a broker that is not there, beside the old one", dead, "no session with the broker"),
        (
            "an authority that does not match",
            first.replace(&remote.rig.at("ca.pem"), &remote.rig.at("other-ca.pem")),
            "invalid peer certificate",
        ),
        (
            "a ring where none can be",
            first.replace(&remote.rig.at("ring"), "/proc/none/ring"),
            "started 4 times",
        ),
    ];
    for (what, text, reason) in cases {
        assert_ne!(text, first, "{what}");
        let started = Instant::now();
        let out = remote.push(&text);
        println!(
            "{what}: {} s: {}",
            started.elapsed().as_secs(),
            output(&out).lines().last().unwrap_or_default()
        );
        assert_eq!(out.status.code(), Some(1), "{what}: {}\n{}", output(&out), remote.rig.log());
        assert!(output(&out).contains(reason), "{what}: {}", output(&out));
        let back = json!(Digest::of(first.as_bytes()));
        wait_for(what, 10, || remote.reported()["committed"]["sha256"] == back);
    }
    wait_for("it does not record any more", 30, || {
        remote.rig.received().0.iter().any(|event| event.kind.contains("motion.end"))
    });
    // The last case restarted the process, so there is a gap `stopped`.
    wait_for("the restarts left no gap event", 30, || {
        remote.rig.gap_reasons().iter().any(|reason| reason == "stopped")
    });
    println!("gaps: {:?}; longest {} ms", remote.rig.gap_reasons(), longest_gap(&remote.rig));
    let out = remote.push(&zoned(&first, "afterwards"));
    assert!(out.status.success(), "{}", output(&out));
    println!("the process started {} times", service.starts());
}

#[test]
#[ignore = "a minute: a camera without pictures"]
fn a_camera_that_stops_answering_is_rolled_back() {
    if !has("mosquitto") {
        return;
    }
    let (camera, other) = (small_camera(), small_camera());
    let remote = Remote::new(&camera);
    let first = remote.text();
    let running = remote.start();
    let mut address = url::Url::parse(&other.main_url()).unwrap();
    let way =
        FaultyProxy::start(SocketAddr::from(([127, 0, 0, 1], address.port().unwrap()))).unwrap();
    address.set_port(Some(way.port)).unwrap();
    let text = first.replace(&camera.main_url(), address.as_str());
    assert_ne!(text, first);
    std::fs::write(remote.rig.at("next.toml"), &text).unwrap();
    let pushing = remote
        .command("push", &["km-17", &remote.rig.at("next.toml")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while !remote.rig.log().contains("configuration staged") {
        assert!(Instant::now() < until, "{}", remote.rig.log());
        std::thread::sleep(Duration::from_millis(2));
    }
    way.way.closed.store(true, std::sync::atomic::Ordering::Relaxed);
    way.cut();
    let out = pushing.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}\n{}", output(&out), remote.rig.log());
    println!("{}", output(&out).lines().last().unwrap_or_default());
    wait_for("no rollback was reported", 20, || remote.config_events("rolled_back").len() == 1);
    wait_for("the outage of the old camera left no gap event", 40, || longest_gap(&remote.rig) > 0);
    println!("longest gap {} ms", longest_gap(&remote.rig));
    assert!(
        longest_gap(&remote.rig) < 75_000,
        "recording paused for longer than the time for a new camera"
    );
    drop(running);
}

/// A second broker with the same certificates, at these ports.
fn second_broker(rig: &Rig, port: u16, office_port: u16) -> Running {
    let text = std::fs::read_to_string(rig.at("mosquitto.conf")).unwrap();
    let text = text.replace(&format!("listener {}", rig.port), &format!("listener {port}"));
    let text =
        text.replace(&format!("listener {}", rig.office_port), &format!("listener {office_port}"));
    std::fs::write(rig.at("new.conf"), text).unwrap();
    Running::start(
        Command::new("mosquitto").args(["-c", &rig.at("new.conf")]).stderr(Stdio::null()),
    )
}

/// A command of the office, logged in at the broker with this port.
fn office_at(rig: &Rig, office_port: u16, words: &[&str]) -> Command {
    let old = rig.office_port.to_string();
    let login = rig.office_login().into_iter();
    let mut command = taimat();
    command.args(words);
    command.args(login.map(|word| if word == old { office_port.to_string() } else { word }));
    command
}

/// Copies the documents with this text to a second archive; false while there are none.
fn copy_documents(remote: &Remote, text: &str, archive: &str) -> bool {
    let site = SiteId::parse("km-17").unwrap();
    let sent = remote.rig.archive().and_then(|archive| archive.documents(&site).ok());
    let mut sent = sent.unwrap_or_default();
    sent.retain(|document| document.config == text);
    sent.iter().for_each(|document| {
        Archive::open_read_only(Path::new(archive)).unwrap().store_config(document, "t").unwrap()
    });
    !sent.is_empty()
}

#[test]
#[ignore = "a minute: two brokers, two offices"]
fn a_device_moves_to_a_broker_that_is_added_first() {
    if !has("mosquitto") {
        return;
    }
    let camera = small_camera();
    let remote = Remote::new(&camera);
    let first = remote.text();
    let (old, _office, mut agent) = remote.start();
    let (port, office_port) = (free_port(), free_port());
    let archive = remote.rig.at("new-archive");
    let login = |words: &[&str]| office_at(&remote.rig, office_port, words);
    let _new = second_broker(&remote.rig, port, office_port);
    let _new_office = Running::start(
        login(&["office", "run", "--dir", &archive]).stdout(Stdio::null()).stderr(Stdio::null()),
    );
    let tls = device_certificates(&remote.rig);
    let only = first.replace(&format!("port = {}", remote.rig.port), &format!("port = {port}"));
    let both = first.replace(
        "health_every",
        &format!("fallbacks = [{{ host = \"localhost\", port = {port}, {tls} }}]\nhealth_every"),
    );
    let out = remote.push(&only);
    assert!(
        out.status.code() == Some(1) && output(&out).contains("has not proven itself"),
        "the reverse order: {}",
        output(&out)
    );
    // Both offices need the document: one sends it, the other confirms it.
    wait_for("no new archive", 10, || Archive::open_read_only(Path::new(&archive)).is_ok());
    std::fs::write(remote.rig.at("next.toml"), &both).unwrap();
    let mut pushing = remote
        .command("push", &["km-17", &remote.rig.at("next.toml")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let site = SiteId::parse("km-17").unwrap();
    wait_for("nothing was sent", 20, || copy_documents(&remote, &both, &archive));
    let reported = || {
        Archive::open_read_only(Path::new(&archive))
            .unwrap()
            .reported(&site)
            .unwrap()
            .unwrap_or_default()
    };
    wait_for("the new broker is not proven", 60, || reported()["phase"] == "committed");
    let sha256 = Digest::of(both.as_bytes());
    assert_eq!(reported()["committed"]["sha256"], json!(sha256));
    drop(pushing.kill());
    let _ = pushing.wait();
    // The new office removes the old broker, which then ends.
    std::fs::write(remote.rig.at("next.toml"), &only).unwrap();
    let mut push = login(&["office", "config", "push", "km-17", &remote.rig.at("next.toml")]);
    push.args(remote.push_options(&archive, 100));
    let out = push.output().unwrap();
    assert!(out.status.success(), "{}\n{}", output(&out), remote.rig.log());
    drop(old);
    wait_for("it does not say so", 10, || {
        reported()["committed"]["sha256"] == json!(Digest::of(only.as_bytes()))
    });
    let mut push = login(&["office", "config", "push", "km-17", &remote.rig.at("next.toml")]);
    std::fs::write(remote.rig.at("next.toml"), zoned(&only, "moved")).unwrap();
    push.args(remote.push_options(&archive, 100));
    let out = push.output().unwrap();
    assert!(
        out.status.success(),
        "a change failed after the end of the old broker: {}",
        output(&out)
    );
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
#[ignore = "minutes: a kill at every stored step of a push"]
fn a_push_killed_at_any_step_ends_on_one_side() {
    if !has("mosquitto") || !has("strace") {
        return;
    }
    let camera = small_camera();
    let (mut committed, mut rolled_back, mut kills) = (0, 0, 0);
    // Each stored step is a rename: a kill at its entry comes before it, and a kill at the flush of
    // the directory comes after it.
    for call in ["rename", "fsync"] {
        for nth in 1.. {
            match one_kill(&camera, call, nth) {
                Some(("committed", _)) => committed += 1,
                Some((_, true)) => rolled_back += 1,
                Some((word, false)) => panic!("killed at {call} {nth}: {word}"),
                None => break,
            }
            kills += 1;
        }
    }
    println!(
        "{kills} kills: {committed} committed, {rolled_back} rolled back or refused, none in between"
    );
    assert!(kills >= 16, "{kills}");
}

/// Pushes a change and kills the agent at the nth call of a kind by its config thread.
///
/// Returns the reported end of the change, and whether the device runs its previous configuration.
/// `None` if there were fewer calls.
fn one_kill(camera: &SimCamera, call: &str, nth: u32) -> Option<(&'static str, bool)> {
    let remote = Remote::new(camera);
    let first = remote.text();
    let (_broker, _office, mut agent) = remote.start();
    seconds(2);
    let calls = if call == "rename" { "rename,renameat,renameat2" } else { "fsync" };
    let keeper = thread_of(agent.0.id(), "config");
    let inject = format!("inject={calls}:signal=KILL:when={nth}");
    let trace = format!("trace={calls}");
    let log = remote.rig.at("strace.log");
    let words =
        ["-p", &keeper.to_string(), "-e", &trace, "-e", &inject, "-o", &log].map(String::from);
    let mut strace = Running::start(Command::new("strace").args(words).stderr(Stdio::null()));
    seconds(1);
    let text = zoned(&first, "road");
    std::fs::write(remote.rig.at("next.toml"), &text).unwrap();
    let pushing = remote
        .command("push", &["km-17", &remote.rig.at("next.toml")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (until, mut killed) = (Instant::now() + Duration::from_secs(12), false);
    while Instant::now() < until && !killed {
        killed = agent.0.try_wait().unwrap().is_some();
        std::thread::sleep(Duration::from_millis(50));
    }
    if killed {
        drop(agent);
        agent = remote.rig.agent();
    }
    let _ = strace.0.kill();
    let out = pushing.wait_with_output().unwrap();
    let settled =
        |report: &Value| !matches!(report["phase"].as_str(), None | Some("staged" | "trial"));
    wait_for("it never ends on either side", 75, || settled(&remote.reported()));
    let report = remote.reported();
    let committed = report["committed"]["sha256"] == json!(Digest::of(text.as_bytes()));
    let before = report["committed"]["sha256"] == json!(Digest::of(first.as_bytes()));
    let word = report["phase"].as_str().unwrap_or("?").to_owned();
    println!(
        "{call} {nth}: killed {killed}, then {word}: {}",
        output(&out).lines().last().unwrap_or_default()
    );
    assert!(committed || before, "{report}");
    assert_eq!(agent.terminate(), Some(0));
    killed.then_some((
        if committed && word == "committed" { "committed" } else { "not committed" },
        before && word != "trial" && word != "staged",
    ))
}

/// The thread of this name in a process.
fn thread_of(process: u32, name: &str) -> u32 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let named = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        let is = std::fs::read_to_string(path.join("comm")).ok()?.trim() == name;
        is.then(|| path.file_name()?.to_str()?.parse().ok()).flatten()
    });
    let named: Vec<u32> = named.collect();
    *named.first().unwrap_or_else(|| panic!("no thread {name}"))
}

#[test]
fn check_config_names_mismatched_files_and_prints_json() {
    let camera =
        SimCamera::start(Options { main: (64, 48), sub: (64, 48), ..Options::default() }).unwrap();
    let remote = Remote::new(&camera);
    let check = |args: &[&str]| {
        taimat().arg("check-config").arg(remote.rig.config()).args(args).output().unwrap()
    };
    assert!(check(&[]).status.success(), "{}", output(&check(&[])));
    std::fs::copy(remote.rig.at("office.key"), remote.rig.at("km-17.key")).unwrap();
    let out = check(&["--json"]);
    let found: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (out.status.code(), &found["ok"], &found["errors"][0]["key"]),
        (Some(2), &json!(false), &json!("uplink.key_file"))
    );
}
