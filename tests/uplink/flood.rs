//! A flood of commands on the real binary: it lives, records, loses nothing it owes, and answers who may ask.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Map, Value, json};
use taimat::remote_config::signed_command::{CommandRequest, add_signature};
use taimat::units::{Digest, WallTime, hex};

use crate::harness::{Mosquitto, Rig, Show, camera, local, pause, taimat};
use crate::mqtt::{packet, text};

/// A client of MQTT 3.1.1 with QoS 0: as many messages as the socket takes.
struct Raw(TcpStream, Vec<u8>);

impl Raw {
    fn connect(port: u16, id: &str) -> Raw {
        let mut stream = TcpStream::connect(local(port)).unwrap();
        stream.write_all(&packet(0x10, &[&text("MQTT"), &[4, 2, 0, 0], &text(id)])).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Raw(stream, Vec::new())
    }

    fn publish(&mut self, name: &str, payload: &[u8]) {
        self.0
            .write_all(&packet(0x30, &[&text(&format!("taimat/v1/km-17/dn/cmd/{name}")), payload]))
            .unwrap();
    }

    fn subscribe(&mut self, filter: &str) {
        self.0.write_all(&packet(0x82, &[&[0, 1], &text(filter), &[0]])).unwrap();
    }

    /// Answers heard in the next tenth of a second.
    fn heard(&mut self) -> Vec<Value> {
        let mut bytes = [0; 65536];
        if let Ok(n) = self.0.read(&mut bytes) {
            self.1.extend(&bytes[..n]);
        }
        let mut found = Vec::new();
        loop {
            let (mut len, mut at) = (0, 1);
            loop {
                let Some(byte) = self.1.get(at) else { return found };
                len |= usize::from(byte & 127) << (7 * (at - 1));
                at += 1;
                if byte & 128 == 0 {
                    break;
                }
            }
            if self.1.len() < at + len {
                return found;
            }
            let whole: Vec<u8> = self.1.drain(..at + len).collect();
            if whole[0] & 0xf0 == 0x30 {
                let topic = usize::from(u16::from_be_bytes([whole[at], whole[at + 1]]));
                found.extend(serde_json::from_slice::<Value>(&whole[at + 2 + topic..]).ok());
            }
        }
    }
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64
}

/// A command as the office signs it.
fn signed(key: &Ed25519KeyPair, name: &str, n: u64, args: &Map<String, Value>) -> Vec<u8> {
    let (req_id, expires) = (format!("r{n}"), WallTime(now() as i64 + 120_000_000).rfc3339());
    let asked = CommandRequest { name, req_id: &req_id, expires: Some(&expires), args };
    let mut whole = add_signature("km-17", asked, n, key).unwrap();
    whole.insert("req_id".into(), json!(req_id));
    whole.insert("expires".into(), json!(expires));
    serde_json::to_vec(&whole).unwrap()
}

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

/// Somebody at the office who asks for a sign of life three times a second.
struct Asker {
    raw: Raw,
    key: Ed25519KeyPair,
    /// When the first ping without an answer was sent.
    since: Instant,
    worst: Duration,
    answers: u32,
    last: Value,
}

impl Asker {
    fn turn(&mut self, name: &str, args: &Map<String, Value>) {
        let payload = signed(&self.key, name, now(), args);
        self.raw.publish(name, &payload);
        for _ in 0..3 {
            for answer in self.raw.heard() {
                if answer["cmd"] == name && answer["status"] == "ok" {
                    self.worst = self.worst.max(self.since.elapsed());
                    self.since = Instant::now();
                    self.answers += 1;
                    self.last = answer;
                }
            }
        }
        self.worst = self.worst.max(self.since.elapsed());
    }
}

/// Publishes `unsigned` commands, and among them `with_signature` that cannot be valid: repeated ones,
/// ones of an unknown key, and ones that name the right key. Returns the client and the time it took.
fn flood(
    port: u16,
    public: &[u8],
    replay: &[u8],
    unsigned: u64,
    with_signature: u64,
) -> (Raw, Duration) {
    let forged = key(2);
    let (mut raw, started) = (Raw::connect(port, "stranger"), Instant::now());
    let every = unsigned / with_signature;
    let id = Digest::of(public).hex()[..16].to_owned();
    for n in 0..unsigned {
        raw.publish(
            ["ping", "event-get", "log-tail", "config-check"][n as usize % 4],
            format!("{{\"req_id\":\"x{n}\"}}").as_bytes(),
        );
        if n % every == 0 {
            let payload = match (n / every) % 3 {
                0 => replay.to_vec(),
                1 => signed(&forged, "ping", now(), &Map::new()),
                // Of the right key, as far as one can see.
                _ => {
                    let mut whole: Value =
                        serde_json::from_slice(&signed(&forged, "ping", now(), &Map::new()))
                            .unwrap();
                    whole["sig"]["key"] = json!(id);
                    serde_json::to_vec(&whole).unwrap()
                }
            };
            raw.publish("ping", &payload);
        }
        if n % 500 == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    (raw, started.elapsed())
}

/// Waits until the office has all events; none was shed, and few report the flood.
fn the_office_has_all(rig: &Rig, events: u64) {
    rig.wait_until_whole(events as usize, 120 + events / 20);
    let told = rig.received().0;
    let full = told.iter().filter(|event| event.data["reason"] == "outbox_full").count();
    let kinds: Vec<String> = told.into_iter().map(|event| event.kind).collect();
    let count =
        |kind: &str| kinds.iter().filter(|have| **have == format!("vn.taimat.{kind}.v1")).count();
    println!(
        "  the office has {} events: {} gaps, {full} shed, {} access",
        kinds.len(),
        count("gap"),
        count("access")
    );
    assert_eq!((count("gap"), full), (0, 0), "{}", rig.log());
    assert!(count("access") <= 60, "{}", count("access"));
}

/// Waits until `events` entries wait for the office. Returns their number.
fn wait_for_backlog(rig: &Rig, asker: &mut Asker, events: u64) -> u64 {
    let (started, mut waiting) = (Instant::now(), 0);
    while waiting < events {
        assert!(
            started.elapsed().as_secs() < 120 + events / 50,
            "{waiting} events wait\n{}",
            rig.log()
        );
        pause(500);
        asker.turn("ring-status", &Map::new());
        waiting = asker.last["data"]["backlog"]["n"].as_u64().unwrap_or(0);
    }
    waiting
}

fn flooded(events: u64, unsigned: u64, with_signature: u64) {
    let Some(broker) = Mosquitto::start("max_queued_messages 200000") else { return };
    let camera = camera();
    let public = hex(key(1).public_key().as_ref());
    let rig = Rig::new(
        &camera,
        broker.port,
        broker.port,
        &format!("[remote]\nkeys = [\"desk:commands:{public}\"]"),
    );
    let mut show = Show { motions: events / 2, updates: 0, rate: 250 };
    if events > 12_000 {
        rig.configure("journal_slots = 16384", "journal_slots = 131072");
        rig.configure("[clip]", "[clip]\nenabled = false\nsnapshot = false");
        // Some find the card behind and get no number: a quarter more is shown, which the journal still holds.
        show = Show { motions: events / 80, updates: 98, rate: 2_000 };
    }
    let mut agent = rig.agent_with(show);
    let raw = |id: &str| Raw::connect(broker.port, id);
    let mut asker = Asker {
        raw: raw("asker"),
        key: key(1),
        since: Instant::now(),
        worst: Duration::ZERO,
        answers: 0,
        last: Value::Null,
    };
    asker.raw.subscribe("taimat/v1/km-17/up/rsp");
    let waiting = wait_for_backlog(&rig, &mut asker, events);
    let ring = asker.last["data"]["ring"].clone();
    let replay = signed(&key(1), "ping", now(), &Map::new());
    (asker.since, asker.worst, asker.answers) = (Instant::now(), Duration::ZERO, 0);
    let port = broker.port;
    let public = key(1).public_key().as_ref().to_vec();
    let flood = std::thread::spawn(move || flood(port, &public, &replay, unsigned, with_signature));
    let ranges = json!([[1, 100_000]].repeat(32)).to_string();
    let get = Map::from_iter([("ring".to_owned(), ring), ("seq".to_owned(), json!(ranges))]);
    let mut gets = 0;
    while !flood.is_finished() {
        asker.turn("ping", &Map::new());
        if gets < 5 {
            gets += 1;
            let payload = signed(&asker.key, "event-get", now(), &get);
            asker.raw.publish("event-get", &payload);
        }
    }
    let (_stranger, took) = flood.join().unwrap();
    let (during, answers) = (asker.worst, asker.answers);
    let (after, count) = (Instant::now(), asker.answers);
    while asker.answers == count && after.elapsed().as_secs() < 30 {
        asker.turn("ping", &Map::new());
    }
    let after = after.elapsed();
    println!(
        "{unsigned} unsigned and {with_signature} signed commands in {:.1} s, {waiting} entries waiting: {answers} pings answered, \
         the longest wait {:.1} s; after the flood {:.1} s",
        took.as_secs_f64(),
        during.as_secs_f64(),
        after.as_secs_f64()
    );
    assert!(agent.0.try_wait().unwrap().is_none(), "it has ended\n{}", rig.log());
    assert!(during.as_secs() < 10 && after.as_secs() < 5, "{during:?} {after:?}");
    let _office = rig.office();
    the_office_has_all(&rig, events);
    assert_eq!(agent.terminate(), Some(0));
    let check = taimat().args(["ring", "check", "--dir", &rig.at("ring")]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[test]
fn a_flood_of_commands_costs_nothing_but_itself() {
    flooded(2_000, 100_000, 10_000);
}

#[test]
#[ignore = "100,000 events first: tests/run --full"]
fn a_flood_before_a_backlog_of_100_000_events() {
    flooded(100_000, 100_000, 10_000);
}
