//! A whole office for tests: an archive with three sites, a console with users, a real listener on
//! loopback, and a small HTTP client.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::start::{WebOptions, WebServer, start};
use crate::clock::{Clock as _, SystemClock};
use crate::evidence::manifest::{Manifest, of_still};
use crate::office::archive::Archive;
use crate::office::archive_link::{ArchiveClient, ArchiveLink, Intake};
use crate::office::archive_thread::{self, OutgoingAnswer};
use crate::office::console::Console;
use crate::office::console::audit::record::Origin;
use crate::office::console::handle::new_token;
use crate::office::console::people::purpose::{Purpose, PurposeKind};
use crate::office::console::people::rights::{Grant, Role};
use crate::office::console::tables::map_tiles::write_test_file;
use crate::office::console::tables::rows::{GroupRow, PlaceRow, RetentionRow};
use crate::office::ingest_outcome::Now;
use crate::office::media::test_clip;
use crate::office::queries::Reader;
use crate::office::queries::rows::StoredFile;
use crate::office::retention::Retention;
use crate::office::store::file_store::flush_and_hash;
use crate::units::{ClockQuality, RingId, SiteId, Timestamp, WallTime};
use crate::uplink::topics;
use crate::uplink::wire::Health;
use serde_json::{Value, json};

/// Sites of the archive, with their groups.
pub(super) const SITES: [(&str, &str); 3] = [("km-17", "north"), ("km-18", "south"), ("km-19", "")];

/// Sites whose device says how many privacy zones they have.
pub(super) const PRIVACY_ZONES: [(&str, u64); 2] = [("km-17", 0), ("km-18", 2)];

pub(super) struct TestOffice {
    pub(super) console: Console,
    intake: Intake,
    pub(super) archive: ArchiveClient,
    pub(super) web: WebServer,
    /// File ids of `km-17`.
    pub(super) clip: String,
    pub(super) snapshot: String,
    /// File ids of clip and snapshot of all sites.
    pub(super) files: Vec<(String, String)>,
    pub(super) clip_bytes: Vec<u8>,
    receipts: Mutex<Receiver<String>>,
    dir: tempfile::TempDir,
}

/// An answer.
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Got {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(super) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

fn take(archive: &mut Archive, site: &str, tail: &str, payload: &[u8], now: WallTime) {
    let topic = topics::up(&SiteId::parse(site).unwrap(), tail);
    let text = now.rfc3339();
    let now = Now { text: &text, seconds: now.0 / 1_000_000 };
    let taken = archive.take_all(&[(topic, payload.to_vec())], now).unwrap();
    let outcome = taken.into_iter().next().unwrap().1;
    if let Some(check) = &outcome.check {
        let digest = flush_and_hash(&*archive.files_below(), &check.path);
        archive.checked(check, &digest, now).unwrap();
    }
}

fn send(archive: &mut Archive, manifest: &Manifest, bytes: &[u8], now: WallTime) -> String {
    let tail = |verb: &str| format!("file/{}/{verb}", manifest.fid());
    take(archive, &manifest.site, &tail("init"), &manifest.bytes(), now);
    for (n, chunk) in bytes.chunks(64 << 10).enumerate() {
        take(archive, &manifest.site, &tail(&(n * (64 << 10)).to_string()), chunk, now);
    }
    take(archive, &manifest.site, &tail("fin"), b"{}", now);
    manifest.fid()
}

pub(super) fn state(word: &str, conn: u64) -> Value {
    json!({"v": 1, "state": word, "ring": "0000000000000001", "boot": 1, "conn": conn, "t": ""})
}

/// Messages of a site that records and had one motion event a minute ago.
fn fill(archive: &mut Archive, site: &str, now: WallTime) -> (String, String, Vec<u8>) {
    take(archive, site, "state", state("online", 7).to_string().as_bytes(), now);
    let birth = json!({"v": 1, "version": "0.1.0", "ring": "0000000000000001", "boot": 1, "capabilities": [],
        "camera": "h264 640x360", "ring_bytes": 1_000_000, "oldest": null, "clock": "ntp", "clean_start": true,
        "privacy_zones": PRIVACY_ZONES.iter().find(|(one, _)| *one == site).map(|(_, zones)| *zones)});
    take(archive, site, "birth", birth.to_string().as_bytes(), now);
    let health = Health {
        v: 1,
        t: now.rfc3339(),
        ring: RingId(1),
        boot: 1,
        uptime: 3_600,
        camera: "recording".into(),
        clock: ClockQuality::Ntp,
        ..Health::default()
    };
    take(archive, site, "health", &serde_json::to_vec(&health).unwrap(), now);
    let began = now.plus_micros(-60_000_000);
    let event = |seq: u64, kind: &str, id: &str, data: Value| {
        json!({"specversion": "1.0", "id": id, "source": format!("taimat/{site}"), "type": format!("vn.taimat.{kind}.v1"),
            "time": began.rfc3339(), "datacontenttype": "application/json", "seq": seq, "ring": "0000000000000001",
            "clock": "ntp", "boot": 1, "mono": 1, "data": data})
        .to_string()
    };
    let id = format!("M-{site}");
    let data = json!({"event": id, "started_at": began.rfc3339(), "rule": "gate", "zones": ["road"], "score": 0.5,
        "tracks": 1, "seconds": 12, "clip": "planned"});
    take(archive, site, "event", event(1, "motion.start", &id, data.clone()).as_bytes(), now);
    take(archive, site, "event", event(2, "motion.end", &format!("{id}-e"), data).as_bytes(), now);
    let still = of_still(
        &SiteId::parse(site).unwrap(),
        &id,
        Timestamp { wall: began, ..Timestamp::default() },
        b"\xff\xd8\xffJPEG",
    );
    let snapshot = send(archive, &still, b"\xff\xd8\xffJPEG", now);
    let tracks = [test_clip::avc_track(), test_clip::alaw_track()];
    let seconds: Vec<_> = (5..25).map(test_clip::Second::at).collect();
    let (mut manifest, bytes) = test_clip::clip(&tracks, &seconds);
    manifest.site = site.to_owned();
    manifest.event = id;
    (manifest.from, manifest.to) = (began.rfc3339(), began.plus_micros(20_000_000).rfc3339());
    (send(archive, &manifest, &bytes, now), snapshot, bytes)
}

impl TestOffice {
    pub(super) fn new() -> TestOffice {
        TestOffice::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut WebOptions)) -> TestOffice {
        TestOffice::built(0, &[], change)
    }

    /// An office whose files came `days` ago, and whose console has these rules.
    pub(super) fn built(
        days: i64,
        rules: &[RetentionRow],
        change: impl FnOnce(&mut WebOptions),
    ) -> TestOffice {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::new());
        let now = clock.now().wall.plus_micros(-days * 86_400_000_000);
        let mut archive = Archive::open(dir.path()).unwrap();
        let files: Vec<_> = SITES.iter().map(|(site, _)| fill(&mut archive, site, now)).collect();
        let console = Console::open(dir.path(), clock).unwrap();
        let groups = ["north", "south"].map(|name| GroupRow {
            name: name.into(),
            title_vi: name.into(),
            title_en: name.into(),
        });
        let places: Vec<PlaceRow> = SITES
            .iter()
            .map(|(site, group)| PlaceRow {
                site: (*site).into(),
                name_vi: format!("Điểm {site}"),
                name_en: format!("Site {site}"),
                group: (*group).into(),
                x: Some(0.5),
                y: None,
                heading: None,
                fov: None,
                range: None,
            })
            .collect();
        let office = Origin::office();
        console
            .act(move |store, now| {
                store.set_groups(&office, now, &groups)?;
                store.set_places(&office, now, &places)
            })
            .unwrap();
        let rules = rules.to_vec();
        if !rules.is_empty() {
            console
                .act(move |store, now| store.set_retention(&Origin::office(), now, &rules))
                .unwrap();
        }
        let map = dir.path().join("map.mbtiles");
        write_test_file(&map, "105.1,20.5,105.3,20.7", &[(1, 0, 1, b"\x89PNG\r\n\x1a\ntile")]);
        let link = ArchiveLink::new(Arc::new(SystemClock::new()));
        let mut options = WebOptions {
            address: "127.0.0.1:0".parse().unwrap(),
            identity: None,
            names: Vec::new(),
            archive: dir.path().to_owned(),
            broker: None,
            tiles: Some(map),
            machine_token: Some("machine".into()),
        };
        change(&mut options);
        let archive_client = link.client();
        let web = start(options, console.clone(), link.client()).unwrap();
        let (clip, snapshot, clip_bytes) = files[0].clone();
        let files = files.into_iter().map(|(clip, snapshot, _)| (clip, snapshot)).collect();
        // The archive thread itself; what it answers to devices is kept for `receipt`.
        let (intake, mut answers) =
            archive_thread::start(archive, Retention::new(0, 0), link).unwrap();
        let (sender, receipts) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            while let Some(answer) = answers.blocking_recv() {
                if let OutgoingAnswer::Publish(_, payload) = answer {
                    let _ = sender.send(String::from_utf8_lossy(&payload).into_owned());
                }
            }
        });
        let receipts = Mutex::new(receipts);
        TestOffice {
            console,
            intake,
            web,
            archive: archive_client,
            clip,
            snapshot,
            files,
            clip_bytes,
            receipts,
            dir,
        }
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The row of a stored file.
    pub(super) fn stored_file(&self, site: &str, fid: &str) -> StoredFile {
        Reader::open(self.dir.path()).unwrap().file(site, fid).unwrap().unwrap()
    }

    /// A message of a device, as the archive thread takes it.
    pub(super) fn message(&self, site: &str, tail: &str, payload: &Value) {
        let topic = topics::up(&SiteId::parse(site).unwrap(), tail);
        self.intake.hand(topic, payload.to_string().into_bytes());
    }

    /// How long the receipt of a new event takes.
    pub(super) fn receipt(&self, seq: u64) -> Duration {
        let began = Instant::now();
        let id = format!("flood-{seq}");
        let event = json!({"specversion": "1.0", "id": id, "source": "taimat/km-17", "type": "vn.taimat.start.v1",
            "time": "2026-11-24T02:00:00Z", "datacontenttype": "application/json", "seq": seq,
            "ring": "0000000000000001", "clock": "ntp", "boot": 1, "mono": 1, "data": {}});
        self.message("km-17", "event", &event);
        let receipts = self.receipts.lock().unwrap();
        while !receipts.recv_timeout(Duration::from_secs(30)).unwrap().contains(&id) {}
        began.elapsed()
    }

    /// A file of a device, as the archive thread takes it; returns when pages can read it.
    pub(super) fn file(&self, manifest: &Manifest, bytes: &[u8], cookie: &str) -> String {
        let (site, fid) = (SiteId::parse(&manifest.site).unwrap(), manifest.fid());
        let hand = |verb: &str, payload: Vec<u8>| {
            self.intake.hand(topics::up(&site, &format!("file/{fid}/{verb}")), payload);
        };
        hand("init", manifest.bytes());
        for (n, chunk) in bytes.chunks(64 << 10).enumerate() {
            hand(&(n * (64 << 10)).to_string(), chunk.to_vec());
        }
        hand("fin", b"{}".to_vec());
        let path = format!("/api/v1/files/{site}/{fid}");
        for _ in 0..100 {
            let got = self.ask("HEAD", &path, cookie, "");
            if got.status != 404 {
                return fid;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the office did not take the file");
    }

    /// A user with a role for a group. The first call adds an admin for all sites before: the first
    /// user of an office must be one.
    pub(super) fn user(&self, name: &str, grants: &[(Role, &str)]) -> i64 {
        if self.console.needs_first_admin().unwrap() {
            self.add_user("first-admin", &[(Role::Admin, "*")]);
        }
        self.add_user(name, grants)
    }

    fn add_user(&self, name: &str, grants: &[(Role, &str)]) -> i64 {
        let grants: Vec<Grant> = grants
            .iter()
            .map(|(role, group)| Grant { group: (*group).into(), role: *role, until: None })
            .collect();
        let (name, (_, digest)) = (name.to_owned(), new_token().unwrap());
        self.console
            .act(move |store, now| {
                store.add_user(&Origin::office(), now, (&name, "vi"), &grants, &digest)
            })
            .unwrap()
    }

    /// The cookie of a new session.
    pub(super) fn session(&self, user: i64, has_purpose: bool) -> String {
        let (cookie, digest) = new_token().unwrap();
        self.console
            .act(move |store, now| {
                let purpose =
                    has_purpose.then(|| Purpose::begin(PurposeKind::Duty, "", now).unwrap());
                store.begin_session(user, "127.0.0.1", &digest, purpose, now)
            })
            .unwrap();
        format!("cookie: s={}\r\n", cookie.reveal())
    }

    pub(super) fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Got {
        ask(self.web.address, method, path, headers, body.as_bytes())
    }

    pub(super) fn get(&self, path: &str, cookie: &str) -> Got {
        self.ask("GET", path, cookie, "")
    }

    pub(super) fn change(&self, method: &str, path: &str, cookie: &str, body: &Value) -> Got {
        let headers = format!("{cookie}content-type: application/json\r\n");
        self.ask(method, path, &headers, &body.to_string())
    }
}

/// One request over a connection of its own.
pub(super) fn ask(to: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Got {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The office may answer, and close, before it has read a body that is too large.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    parse(&bytes)
}

/// An answer's head and body; chunked bodies are put together.
pub(super) fn parse(bytes: &[u8]) -> Got {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = bytes.get(end + 4..).unwrap_or_default().to_vec();
    let got = Got { status, head, body };
    assert_ne!(got.header("transfer-encoding"), Some("chunked"), "only streams are chunked");
    got
}
