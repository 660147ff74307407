//! An archive with many events for the console, made in one transaction, and people who may see it.
//!
//! Only the events, files and sites are written here; the archive's own upgrade makes from them
//! what pages read, so that a change of its tables needs no change of this file.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rusqlite::{Connection, params};
use serde_json::json;
use taimat::clock::{Clock as _, SystemClock};
use taimat::office::archive::Archive;
use taimat::office::console::Console;
use taimat::office::console::handle::new_token;
use taimat::office::console::people::purpose::PurposeKind;
use taimat::office::console::people::rights::{ALL_SITES, Grant, Role};
use taimat::office::console::tables::rows::PlaceRow;
use taimat::units::{Digest, Secret, WallTime};

/// Microseconds of a day.
pub const DAY: i64 = 86_400_000_000;
/// Days that the events lie in.
const DAYS: i64 = 20;
/// Bytes of the clip and of the snapshot of each site.
pub const CLIP: usize = 1 << 20;
const SNAPSHOT: usize = 6 << 10;
/// Rules and zones of the events, by turns.
pub const RULES: [&str; 4] = ["line-north", "way-wrong", "stop-market", "any"];
const ZONES: [&str; 3] = ["road", "bridge", "school"];
/// Password of all people; they are no one's.
const PASSWORD: &str = "ba con trau di qua cau 1979";

/// Size of an archive.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub sites: u64,
    /// Motion events.
    pub events: u64,
    /// The newest of them that have a clip and a snapshot.
    pub with_files: u64,
}

/// The id of a site.
pub fn site(number: u64) -> String {
    format!("km-{number:03}")
}

/// The id of an event.
pub fn event(number: u64) -> String {
    format!("01K{number:023}")
}

/// Makes the archive in `dir`; returns the time of its newest event.
pub fn make(dir: &Path, shape: Shape) -> WallTime {
    let started = Instant::now();
    let now = SystemClock::new().now().wall;
    drop(Archive::open(dir).unwrap());
    let mut db = Connection::open(dir.join("taimat.sqlite")).unwrap();
    // The upgrade makes them again, over the finished tables.
    let query = "SELECT type || ' ' || name FROM sqlite_master WHERE tbl_name IN ('events', 'files') AND sql IS NOT NULL AND type IN ('index', 'trigger')";
    let made: Vec<String> = db
        .prepare(query)
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let all = db.transaction().unwrap();
    made.iter().for_each(|one| all.execute_batch(&format!("DROP {one}")).unwrap());
    (0..shape.sites).for_each(|number| add_site(&all, dir, number, now));
    (0..shape.events).for_each(|number| add_event(&all, shape, number, now));
    let first = shape.events - shape.with_files.min(shape.events);
    (first..shape.events).for_each(|number| add_files(&all, shape, number, now));
    all.execute_batch("PRAGMA user_version = 2").unwrap();
    all.commit().unwrap();
    drop(db);
    drop(Archive::open(dir).unwrap());
    let db = Connection::open(dir.join("taimat.sqlite")).unwrap();
    let rows: u64 =
        db.query_row("SELECT count(*) FROM motion_events", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, shape.events, "motion events in the archive");
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    println!(
        "archive: {} sites, {rows} motion events, {} clips and snapshots, made in {:.1} s",
        shape.sites,
        shape.with_files.min(shape.events),
        started.elapsed().as_secs_f64()
    );
    now
}

fn add_site(db: &Connection, dir: &Path, number: u64, now: WallTime) {
    let (site, seen) = (site(number), now.rfc3339());
    let ring = format!("{:016x}", number + 1);
    let birth =
        json!({"v": 1, "t": seen, "clock": "ntp", "ring": ring, "boot": 3, "version": "0.1.0"});
    let counters = json!({"storage.written": 1_234_567_890_u64, "uplink.bytes_today": 48_000_000, "uplink.bytes_month": 900_000_000,
        "storage.worn_percent": 7, "motion.events": 812, "camera.frames": 2_160_000, "camera.reconnects": 3});
    let health = json!({"v": 1, "t": seen, "clock": "ntp", "ring": ring, "boot": 3, "uptime": 86_400, "camera": "recording", "sub": "playing",
        "watermarks": {"durable": 86_400, "event": 5_000, "confirmed": 5_000}, "backlog": {"n": 0, "bytes": 0, "oldest": 0}, "counters": counters});
    db.execute(
        "INSERT INTO sites (site, state, conn, seen, birth, health, ring) VALUES (?1, 'online', 1, ?2, ?3, ?4, ?5)",
        params![site, seen, birth.to_string(), health.to_string(), ring],
    )
    .unwrap();
    let place = dir.join(format!("files/{site}"));
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("clip.mp4"), bytes(CLIP, number)).unwrap();
    let picture: Vec<u8> =
        (0..320 * 180_u64).map(|at| ((at % 320 + number * 7) % 251) as u8).collect();
    let mut jpeg = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut jpeg, 60);
    encoder.encode(&picture, 320, 180, jpeg_encoder::ColorType::Luma).unwrap();
    jpeg.resize(jpeg.len().max(SNAPSHOT), 0);
    std::fs::write(place.join("snapshot.jpg"), jpeg).unwrap();
    for part in 0..2_u64 {
        let from = now.plus_micros(-((part as i64 + 1) * 3_000_000_000));
        let data = json!({"from": from.rfc3339(), "to": from.plus_micros(9_000_000).rfc3339(), "reason": "power_cut", "bytes": 0});
        let id = format!("01G{part:011}{number:012}");
        add(db, (number, &id, part + 1), ("gap", from), data);
    }
}

/// Bytes without a pattern that a disk or a card could shrink.
fn bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..size / 8).flat_map(|_| next()).collect()
}

fn start_of(shape: Shape, number: u64, now: WallTime) -> WallTime {
    let apart = DAYS * DAY / shape.events.max(1) as i64;
    now.plus_micros(-((shape.events - number) as i64) * apart)
}

fn add(
    db: &Connection,
    (site_number, id, seq): (u64, &str, u64),
    (kind, time): (&str, WallTime),
    data: serde_json::Value,
) {
    let (site, time, ring) =
        (site(site_number), time.rfc3339(), format!("{:016x}", site_number + 1));
    let event = json!({"specversion": "1.0", "id": id, "source": format!("taimat/{site}"), "type": format!("vn.taimat.{kind}.v1"), "time": time,
        "datacontenttype": "application/json", "seq": seq, "ring": ring, "clock": "ntp", "boot": 3, "mono": 1_000_000, "data": data});
    db.prepare_cached("INSERT INTO events (site, id, seq, kind, time, payload, received, ring) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, ?7)")
        .unwrap()
        .execute(params![site, id, seq, format!("vn.taimat.{kind}.v1"), time, event.to_string().as_bytes(), ring])
        .unwrap();
}

fn add_event(db: &Connection, shape: Shape, number: u64, now: WallTime) {
    let (start, id) = (start_of(shape, number, now), event(number));
    let data = json!({"event": id, "started_at": start.rfc3339(), "seconds": 9, "score": 0.7, "tracks": 1, "clip": "planned",
        "rule": RULES[number as usize / 7 % RULES.len()], "zones": [ZONES[number as usize / 3 % ZONES.len()]], "heading": 90.0});
    let seq = number / shape.sites + 3;
    add(db, (number % shape.sites, &id, seq), ("motion.end", start.plus_micros(9_000_000)), data);
}

fn add_files(db: &Connection, shape: Shape, number: u64, now: WallTime) {
    let (site, start) = (site(number % shape.sites), start_of(shape, number, now));
    let (from, to, event) =
        (start.rfc3339(), start.plus_micros(9_000_000).rfc3339(), event(number));
    for (purpose, media_type, name, size) in [
        ("clip", "video/mp4", "clip.mp4", CLIP),
        ("snapshot", "image/jpeg", "snapshot.jpg", SNAPSHOT),
    ] {
        let digest = Digest::of(format!("{event}{purpose}").as_bytes()).hex();
        let manifest = json!({"v": 1, "site": site, "name": name, "purpose": purpose, "media_type": media_type, "size": size, "sha256": digest,
            "event": event, "from": from, "to": to, "clock": "ntp", "records": [1, 9], "gaps": [], "part": 1, "last": true});
        db.prepare_cached(
            "INSERT INTO files (site, fid, name, path, purpose, event, size, sha256, start, end, manifest, received)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?10)",
        )
        .unwrap()
        .execute(params![site, &digest[..32], name, format!("files/{site}/{name}"), purpose, event, size, digest, from, to, manifest.to_string().as_bytes()])
        .unwrap();
    }
}

/// Makes `count` people who may see everything, each with a session and a purpose; returns their
/// cookies. The sites get names and places.
pub fn people(dir: &Path, shape: Shape, count: usize) -> Vec<String> {
    let console = Console::open(dir, Arc::new(SystemClock::new())).unwrap();
    let address = "127.0.0.1";
    let token = console.first_admin_token().unwrap().unwrap();
    let password = || Secret::new(PASSWORD.to_owned());
    let admin = console
        .first_admin(token.reveal(), "chief", &password(), address.parse().unwrap())
        .unwrap();
    let by = admin.session.acts(Some(Role::Admin), address, console.now());
    let places: Vec<PlaceRow> = (0..shape.sites).map(place).collect();
    let origin = by.clone();
    console.act(move |store, now| store.set_places(&origin, now, &places)).unwrap();
    let grants = [Role::Operator, Role::Evidence].map(|role| Grant {
        group: ALL_SITES.to_owned(),
        role,
        until: None,
    });
    let one = |number: usize| {
        let (token, digest) = new_token().unwrap();
        let (by, grants, name) = (by.clone(), grants.clone(), format!("officer-{number}"));
        let user = name.clone();
        console
            .act(move |store, now| store.add_user(&by, now, (&user, "vi"), &grants, &digest))
            .unwrap();
        console.redeem(token.reveal(), &password(), address).unwrap();
        let new = console.login(&name, &password(), address).unwrap();
        console.set_purpose(&new.session, address, (PurposeKind::Training, ""), None).unwrap();
        new.cookie.reveal().to_owned()
    };
    (0..count).map(one).collect()
}

fn place(number: u64) -> PlaceRow {
    PlaceRow {
        site: site(number),
        name_vi: format!("Ngã tư đường liên xã số {number}"),
        name_en: format!("Junction of commune road {number}"),
        group: String::new(),
        x: Some((number % 20) as f64 / 20.0),
        y: Some((number / 20) as f64 / 20.0),
        heading: Some(90.0),
        fov: Some(80.0),
        range: Some(0.1),
    }
}
