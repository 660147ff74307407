//! Mosquitto with `deploy/mosquitto` as shipped, against a device whose certificate is right and whose program is not.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use taimat::settings::TlsSettings;

use crate::harness::{Rig, deploy, has, seconds, wait_for};
use crate::mqtt::{packet, read_packet, text};

/// The largest publish that the shipped broker takes, less than its own header.
const LARGEST: usize = 294_800;
/// What one hostile device may make of the broker's resident memory.
const BROKER_MIB: u64 = 400;

/// A rig whose certificates come from `make-certs.sh`, with two sites.
fn rig() -> Rig {
    let rig = Rig::new("rtsp://127.0.0.1:9/none", None, "");
    for entry in std::fs::read_dir(rig.dir.path()).unwrap().flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "pem" || extension == "key")
        {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let out = Command::new(deploy("mosquitto/make-certs.sh"))
        .arg(rig.dir.path())
        .args(["localhost", "km-17", "km-18"])
        .output();
    let out = out.unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // Mosquitto gives up root before it reads its key; the README makes it the key's owner.
    for name in ["broker.key", "broker.pem", "ca.pem", "office-ca.pem"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(rig.at(name), mode).unwrap();
    }
    rig
}

/// An MQTT 5 client in a few lines: it claims what it likes.
struct Client(StreamOwned<ClientConnection, TcpStream>);

impl Client {
    /// Connects with the certificate of `whose`, claiming the client id `id`. An error when TLS or CONNACK refuses it.
    fn connect(rig: &Rig, port: u16, whose: &str, id: &str) -> Result<Client, String> {
        let identity =
            Some((rig.at(&format!("{whose}.pem")).into(), rig.at(&format!("{whose}.key")).into()));
        let config = taimat::uplink::tls::config(
            &TlsSettings { ca: rig.at("ca.pem").into(), identity },
            None,
        )
        .unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = Client(StreamOwned::new(
            ClientConnection::new(Arc::clone(&config), name).unwrap(),
            tcp,
        ));
        let connect = packet(0x10, &[&text("MQTT"), &[5, 2, 0, 60, 0], &text(id)]);
        client.write(&connect).map_err(|error| error.to_string())?;
        let (first, body) = client.read().map_err(|error| error.to_string())?;
        if first == 0x20 && body.get(1) == Some(&0) {
            Ok(client)
        } else {
            Err(format!("CONNACK {body:?}"))
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    /// The next packet.
    fn read(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        read_packet(&mut self.0)
    }

    fn subscribe(&mut self, filter: &str) {
        self.write(&packet(0x82, &[&[0, 1, 0], &text(filter), &[1]])).unwrap();
        assert_eq!(self.read().unwrap().0, 0x90, "no SUBACK");
    }

    /// True while the broker still answers this session.
    fn lives(&mut self) -> bool {
        self.write(&[0xc0, 0]).is_ok() && self.read().is_ok_and(|(first, _)| first == 0xd0)
    }
}

fn publish(topic: &str, id: u16, qos: u8, retain: bool, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    if qos > 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.push(0);
    body.extend_from_slice(payload);
    packet(0x30 | qos << 1 | u8::from(retain), &[&body])
}

/// Whose sessions the certificate of km-18 ends at this broker.
fn taken(rig: &Rig) -> Vec<&'static str> {
    let mut office =
        Client::connect(rig, rig.office_port, "office", "taimat-office-office").expect("no office");
    let mut neighbour = Client::connect(rig, rig.port, "km-17", "km-17").expect("no neighbour");
    for port in [rig.port, rig.office_port] {
        for id in ["taimat-office-office", "km-17", "office"] {
            // A door that is shut is as good as a session of one's own.
            let _thief = Client::connect(rig, port, "km-18", id);
        }
    }
    let mut taken = Vec::new();
    for (who, session) in [("office", &mut office), ("neighbour", &mut neighbour)] {
        if !session.lives() {
            taken.push(who);
        }
    }
    taken
}

#[test]
fn a_certificate_takes_no_session_but_its_own() {
    if !has("mosquitto") || !has("openssl") {
        return;
    }
    let rig = rig();
    {
        let _broker = rig.broker();
        assert_eq!(taken(&rig), [""; 0]);
        let mut own = Client::connect(&rig, rig.port, "km-18", "km-18").unwrap();
        let mut other = Client::connect(&rig, rig.port, "km-18", "any-other-id").unwrap();
        assert!(
            !own.lives() && other.lives(),
            "the client id is not the certificate's common name"
        );
        assert!(
            Client::connect(&rig, rig.office_port, "km-18", "x").is_err(),
            "a device came in by the office's door"
        );
        assert!(
            Client::connect(&rig, rig.port, "office", "x").is_err(),
            "the office came in by the devices' door"
        );
    }
    // Each of the two rules is needed: a check that does not notice is no check.
    let shipped = std::fs::read_to_string(rig.at("mosquitto.conf")).unwrap();
    let office_ca = rig.at("office-ca.pem");
    for (rule, instead) in
        [("use_username_as_clientid true", String::new()), (&office_ca, rig.at("both-ca.pem"))]
    {
        assert!(shipped.contains(rule), "the shipped configuration has no {rule}");
        let both = ["ca.pem", "office-ca.pem"]
            .map(|name| std::fs::read_to_string(rig.at(name)).unwrap())
            .concat();
        std::fs::write(rig.at("both-ca.pem"), both).unwrap();
        std::fs::write(rig.at("mosquitto.conf"), shipped.replace(rule, &instead)).unwrap();
        let _broker = rig.broker();
        assert_eq!(taken(&rig), ["office", "neighbour"], "without {rule}");
    }
}

/// Of 20 events that km-17 sends the real office, those receipted within a second each, while km-18 claims every client id it can.
fn receipts(rig: &Rig) -> u32 {
    let _office = rig.office();
    wait_for("no office", 20, || rig.archive().is_some());
    seconds(1);
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            while stopped
                .recv_timeout(Duration::from_millis(300))
                .is_err_and(|error| error == RecvTimeoutError::Timeout)
            {
                for (port, id) in [
                    (rig.office_port, "taimat-office-office"),
                    (rig.port, "taimat-office-office"),
                    (rig.port, "km-17"),
                ] {
                    drop(Client::connect(rig, port, "km-18", id));
                }
            }
        });
        let mut session = None;
        let mut receipted = 0;
        for n in 1..=20 {
            let receipt = event_receipted(rig, &mut session, n);
            receipted += u32::from(receipt.is_some());
            if receipt.is_none() {
                session = None;
            }
        }
        drop(stop);
        receipted
    })
}

/// Sends the event of number `n` as km-17; nothing when no receipt comes within a second.
fn event_receipted(rig: &Rig, session: &mut Option<Client>, n: u32) -> Option<()> {
    if session.is_none() {
        let mut client = Client::connect(rig, rig.port, "km-17", "km-17").ok()?;
        client.write(&packet(0x82, &[&[0, 1, 0], &text("taimat/v1/km-17/dn/#"), &[1]])).ok()?;
        client.0.sock.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        *session = Some(client);
    }
    let client = session.as_mut()?;
    let id = format!("01JX{n:022}");
    let event = serde_json::json!({"specversion": "1.0", "id": id, "source": "taimat/km-17", "type": "vn.taimat.scene.v1",
        "time": "2026-11-24T02:10:00.000Z", "datacontenttype": "application/json", "seq": n, "ring": "9f0c3a5512de7b40",
        "clock": "ntp", "boot": 1, "mono": n, "data": {"change": "exposure"}});
    client
        .write(&publish("taimat/v1/km-17/up/event", 1, 1, false, event.to_string().as_bytes()))
        .ok()?;
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        let (first, body) = client.read().ok()?;
        if first & 0xf0 == 0x30 && String::from_utf8_lossy(&body).contains(&id) {
            std::thread::sleep(Duration::from_millis(200));
            return Some(());
        }
    }
    None
}

#[test]
fn a_certificate_that_claims_other_ids_costs_no_receipt() {
    if !has("mosquitto") || !has("openssl") {
        return;
    }
    let rig = rig();
    {
        let _broker = rig.broker();
        let bound = receipts(&rig);
        println!("client ids bound: {bound} of 20 events receipted within a second");
        assert_eq!(bound, 20);
    }
    // As it was: one authority for both listeners, and client ids for the asking.
    let shipped = std::fs::read_to_string(rig.at("mosquitto.conf")).unwrap();
    let both = ["ca.pem", "office-ca.pem"]
        .map(|name| std::fs::read_to_string(rig.at(name)).unwrap())
        .concat();
    std::fs::write(rig.at("both-ca.pem"), both).unwrap();
    let loose = shipped
        .replace("use_username_as_clientid true", "")
        .replace(&rig.at("office-ca.pem"), &rig.at("both-ca.pem"));
    std::fs::write(rig.at("mosquitto.conf"), loose).unwrap();
    std::fs::remove_dir_all(rig.at("archive")).unwrap();
    let _broker = rig.broker();
    let free = receipts(&rig);
    println!("client ids free: {free} of 20");
    assert!(free < 15, "nobody lost a session");
}

/// A line of /proc/PID/status in MiB.
fn memory(pid: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    kib.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// One hostile way.
struct Way {
    what: &'static str,
    /// In turn.
    qos: [u8; 2],
    bytes: usize,
    retain: bool,
    /// The office has stopped reading.
    deaf: bool,
}

/// Publishes as fast as the broker takes it; the broker's peak memory and what was sent.
fn flood(rig: &Rig, way: &Way, for_seconds: u64) -> (u64, u64) {
    let broker = rig.broker();
    let mut office =
        Client::connect(rig, rig.office_port, "office", "taimat-office-office").unwrap();
    office.subscribe("taimat/v1/+/up/#");
    let deaf = way.deaf;
    // Ended by the broker's end.
    let reading = std::thread::spawn(move || {
        while !deaf && let Ok((first, body)) = office.read() {
            if first & 0x06 == 0x02 {
                let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                if office.write(&[0x40, 2, body[at], body[at + 1]]).is_err() {
                    return None;
                }
            }
        }
        Some(office)
    });
    let device = Client::connect(rig, rig.port, "km-18", "km-18").unwrap();
    let mut device = device;
    // What the broker answers is thrown away: the socket's buffer must not fill.
    device.0.sock.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let payload = vec![b'x'; way.bytes];
    let (started, mut sent) = (Instant::now(), 0_u64);
    while started.elapsed() < Duration::from_secs(for_seconds) {
        let topic = format!("taimat/v1/km-18/up/file/f{sent}/0");
        let qos = way.qos[(sent % 2) as usize];
        let packet = publish(&topic, (sent % 65_535) as u16 + 1, qos, way.retain, &payload);
        if device.write(&packet).is_err() {
            break;
        }
        sent += 1;
        if sent.is_multiple_of(16) {
            let mut bytes = [0; 4096];
            let _ = device.0.read(&mut bytes);
        }
    }
    seconds(1);
    let peak = memory(broker.0.id(), "VmHWM");
    drop(broker);
    drop(reading.join());
    (peak, sent)
}

#[test]
fn a_flooding_device_keeps_the_broker_small() {
    if !has("mosquitto") || !has("openssl") {
        return;
    }
    let rig = rig();
    let way = |what, qos, bytes, deaf| Way { what, qos, bytes, retain: false, deaf };
    let ways = [
        way("QoS 1, largest packets, office reads", [1, 1], LARGEST, false),
        way("QoS 1, 60 kB, office reads", [1, 1], 60_000, false),
        way("QoS 0, largest packets, office stands still", [0, 0], LARGEST, true),
        way("QoS 1, largest packets, office stands still", [1, 1], LARGEST, true),
        way("QoS 0 and 1, largest packets, office stands still", [0, 1], LARGEST, true),
        way("QoS 1, 100 bytes, office stands still", [1, 1], 100, true),
    ];
    let mut over = Vec::new();
    for way in ways {
        let (peak, sent) = flood(&rig, &way, 6);
        println!("{}: {sent} publishes, {peak} MiB at most", way.what);
        if peak > BROKER_MIB {
            over.push(format!("{}: {peak} MiB", way.what));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

#[test]
fn an_office_far_away_is_sent_two_thousand_messages_ahead() {
    if !has("mosquitto") || !has("openssl") {
        return;
    }
    let rig = rig();
    let _broker = rig.broker();
    let mut office =
        Client::connect(&rig, rig.office_port, "office", "taimat-office-office").unwrap();
    office.subscribe("taimat/v1/+/up/#");
    let mut device = Client::connect(&rig, rig.port, "km-18", "km-18").unwrap();
    for n in 1..=2_500 {
        device.write(&publish("taimat/v1/km-18/up/event", n, 1, false, b"{}")).unwrap();
    }
    // Nothing is acknowledged: what comes is what may be on its way. Mosquitto's own default is 20.
    office.0.sock.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut ahead = 0;
    while office.read().is_ok_and(|(first, _)| first & 0xf0 == 0x30) {
        ahead += 1;
    }
    assert_eq!(ahead, 2_000);
}
