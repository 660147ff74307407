//! ⇄ The archive: `DIR/taimat.sqlite` and `DIR/files/{site}/{date}/{name}`. Nothing is receipted before it is flushed; everything
//! may come twice and is kept once. A box's word is not trusted: names, sizes and offsets are checked before they touch the disk.
//!
//! What belongs here: storing and listing. What does not: MQTT ([`super::host`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use serde::Serialize;

use crate::units::{Digest, SiteId};
use crate::uplink::topics;
use crate::uplink::wire::{Ack, Event, Manifest, State};

/// Bytes of one file at most: an hour at 4 Mbit/s.
const FILE_MAX: u64 = 2 << 30;
/// Bytes of one event at most.
const EVENT_MAX: usize = 64 << 10;
/// Unfinished files of one site at most; the oldest goes.
const PARTS_MAX: usize = 64;
/// Chunks between two `have`: small against the sender's window of 1 MiB unconfirmed bytes.
const HAVE_EVERY: u32 = 4;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS sites (
        site TEXT PRIMARY KEY, state TEXT, conn INTEGER NOT NULL DEFAULT 0, seen TEXT, birth TEXT, health TEXT,
        ring TEXT NOT NULL DEFAULT '');
    CREATE TABLE IF NOT EXISTS events (
        site TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, time TEXT NOT NULL,
        payload BLOB NOT NULL, received TEXT NOT NULL, ring TEXT NOT NULL DEFAULT '', PRIMARY KEY (site, id));
    CREATE TABLE IF NOT EXISTS files (
        site TEXT NOT NULL, fid TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, purpose TEXT NOT NULL,
        event TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL, start TEXT NOT NULL, end TEXT NOT NULL,
        manifest BLOB NOT NULL, received TEXT NOT NULL, PRIMARY KEY (site, fid));
    CREATE TABLE IF NOT EXISTS replies (site TEXT NOT NULL, req_id TEXT NOT NULL, payload BLOB NOT NULL, received TEXT NOT NULL,
        PRIMARY KEY (site, req_id));
";

/// Archives made before rings had names get the columns; then numbers are found by them.
const RINGS: [&str; 2] =
    ["ALTER TABLE sites ADD COLUMN ring TEXT NOT NULL DEFAULT ''", "ALTER TABLE events ADD COLUMN ring TEXT NOT NULL DEFAULT ''"];
const BY_NUMBER: &str =
    "DROP INDEX IF EXISTS events_by_seq; CREATE INDEX IF NOT EXISTS events_by_number ON events (site, ring, seq);";

/// What a message led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// To be published to the site's `dn/ack`.
    pub ack: Option<Ack>,
    /// For people who watch.
    pub line: Option<String>,
}

/// A file on its way.
struct Part {
    manifest: Manifest,
    upto: u64,
    file: File,
    path: PathBuf,
    chunks: u32,
    site: String,
    fid: String,
}

/// The archive, open for writing.
pub struct Archive {
    dir: PathBuf,
    pub(super) db: Connection,
    parts: Vec<Part>,
}

/// One line of `office sites`.
#[derive(Debug, Serialize)]
pub struct SiteRow {
    /// Site id.
    pub site: String,
    /// `online`, `going`, `lost`, or empty.
    pub state: String,
    /// RFC 3339 time of the last message.
    pub seen: String,
    /// Events kept.
    pub events: u64,
    /// Highest number, of the ring that is longest.
    pub highest_seq: u64,
    /// Rings its numbers count in: one more for every card that was replaced.
    pub rings: u64,
    /// Numbers between 1 and the highest of each ring that are not here.
    pub missing_seq: u64,
    /// Files kept.
    pub files: u64,
}

/// One line of `office events`.
#[derive(Debug, Serialize)]
pub struct EventRow {
    /// Site id.
    pub site: String,
    /// Number.
    pub seq: u64,
    /// RFC 3339.
    pub time: String,
    /// CloudEvents type.
    pub kind: String,
    /// ULID.
    pub id: String,
    /// Particulars.
    pub data: serde_json::Value,
}

/// One line of `office clips`.
#[derive(Debug, Serialize)]
pub struct FileRow {
    /// Site id.
    pub site: String,
    /// `clip`, `snapshot`, `requested`.
    pub purpose: String,
    /// First picture.
    pub start: String,
    /// Last.
    pub end: String,
    /// Bytes.
    pub size: u64,
    /// Event or request it belongs to.
    pub event: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its digest in hex.
    pub sha256: String,
}

/// Which lines are wanted.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Only this site.
    pub site: Option<String>,
    /// RFC 3339 UTC, inclusive.
    pub from: Option<String>,
    /// RFC 3339 UTC, inclusive.
    pub to: Option<String>,
    /// Lines at most, the newest.
    pub limit: u32,
}

impl Archive {
    /// Opens or makes the archive in `dir`.
    ///
    /// # Errors
    /// When the directory or the database cannot be used.
    pub fn open(dir: &Path) -> anyhow::Result<Archive> {
        for part in ["", "files", "partial"] {
            std::fs::create_dir_all(dir.join(part)).with_context(|| format!("{}", dir.join(part).display()))?;
        }
        let path = dir.join("taimat.sqlite");
        let db = Connection::open(&path).with_context(|| format!("{}", path.display()))?;
        let made = db.execute_batch(SCHEMA).and_then(|()| {
            if db.prepare("SELECT ring FROM events").is_err() {
                db.execute_batch(&RINGS.join(";"))?;
            }
            db.execute_batch(BY_NUMBER)?;
            db.execute_batch(super::configs::SCHEMA)
        });
        made.with_context(|| format!("{}: schema", path.display()))?;
        Ok(Archive { dir: dir.to_owned(), db, parts: Vec::new() })
    }

    /// Opens an archive for looking, beside the office that writes it.
    ///
    /// # Errors
    /// When there is none.
    pub fn look(dir: &Path) -> anyhow::Result<Archive> {
        let path = dir.join("taimat.sqlite");
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags).with_context(|| format!("no archive at {}", path.display()))?;
        Ok(Archive { dir: dir.to_owned(), db, parts: Vec::new() })
    }

    /// Takes one message from `taimat/v1/{site}/up/…`; when it returns, what its receipt promises is on the disk.
    ///
    /// # Errors
    /// When the disk refuses: then there is no receipt, and the box sends again.
    pub fn take(&mut self, topic: &str, payload: &[u8], now: &str) -> anyhow::Result<Outcome> {
        let Some((site, tail)) = topics::read_up(topic) else {
            return Ok(Outcome::default());
        };
        self.db.execute(
            "INSERT INTO sites (site, seen) VALUES (?1, ?2) ON CONFLICT (site) DO UPDATE SET seen = ?2",
            params![site.as_str(), now],
        )?;
        match tail {
            "event" => self.event(&site, payload, now),
            "state" => self.state(&site, payload),
            "birth" | "health" => {
                let text = String::from_utf8_lossy(payload);
                self.db.execute(&format!("UPDATE sites SET {tail} = ?2 WHERE site = ?1"), params![site.as_str(), text])?;
                Ok(Outcome::default())
            }
            "rsp" => self.reply(&site, payload, now),
            _ => match tail.strip_prefix("file/").and_then(|rest| rest.split_once('/')) {
                Some((fid, verb)) if fid.len() == 32 && fid.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    self.file(&site, fid, verb, payload, now)
                }
                _ => Ok(Outcome::default()),
            },
        }
    }

    fn event(&mut self, site: &SiteId, payload: &[u8], now: &str) -> anyhow::Result<Outcome> {
        let event = serde_json::from_slice::<Event>(payload);
        let event = match event {
            Ok(event) if payload.len() <= EVENT_MAX && event.id.len() <= 64 => event,
            _ => return Ok(Outcome { ack: None, line: Some(format!("{site}: an event that cannot be read, not kept")) }),
        };
        let kept = self.db.execute(
            "INSERT OR IGNORE INTO events (site, id, seq, kind, time, payload, received, ring)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![site.as_str(), event.id, event.seq, event.kind, event.time, payload, now, event.ring.to_string()],
        )?;
        let line = (kept > 0).then(|| format!("{site}  event {:>4}  {}  {}", event.seq, event.time, event.kind));
        Ok(Outcome { ack: Some(Ack::Event { id: event.id, sha256: Digest::of(payload) }), line })
    }

    /// A state of an older connection than the one we know is a broker's late word and is ignored. Connections count within a ring:
    /// a box with another ring becomes the known one when it says itself that it is online.
    fn state(&mut self, site: &SiteId, payload: &[u8]) -> anyhow::Result<Outcome> {
        let Ok(state) = serde_json::from_slice::<State>(payload) else {
            return Ok(Outcome::default());
        };
        let changed = self.db.execute(
            "UPDATE sites SET state = ?2, conn = ?3, ring = ?4
             WHERE site = ?1 AND (state IS NULL OR ring = ?4 AND conn <= ?3 OR ring != ?4 AND ?2 = 'online')",
            params![site.as_str(), state.state, state.conn, state.ring.to_string()],
        )?;
        Ok(Outcome { ack: None, line: (changed > 0).then(|| format!("{site}  {}", state.state)) })
    }

    fn reply(&mut self, site: &SiteId, payload: &[u8], now: &str) -> anyhow::Result<Outcome> {
        let value: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
        if let Some(req_id) = value["req_id"].as_str().filter(|req_id| req_id.len() <= 64) {
            self.db.execute(
                "INSERT OR REPLACE INTO replies (site, req_id, payload, received) VALUES (?1, ?2, ?3, ?4)",
                params![site.as_str(), req_id, payload, now],
            )?;
        }
        Ok(Outcome::default())
    }

    fn file(&mut self, site: &SiteId, fid: &str, verb: &str, payload: &[u8], now: &str) -> anyhow::Result<Outcome> {
        if let Some(sha256) = self.stored(site, fid)? {
            return Ok(Outcome { ack: Some(Ack::Stored { fid: fid.to_owned(), sha256 }), line: None });
        }
        match verb {
            "init" => self.init(site, fid, payload),
            "fin" => self.fin(site, fid, now),
            "abort" => {
                self.drop_part(site, fid);
                Ok(Outcome { ack: None, line: Some(format!("{site}  file {fid} given up by the box")) })
            }
            _ => self.chunk(site, fid, verb, payload),
        }
    }

    fn stored(&self, site: &SiteId, fid: &str) -> anyhow::Result<Option<Digest>> {
        let query = "SELECT sha256 FROM files WHERE site = ?1 AND fid = ?2";
        let hex: Option<String> = self.db.query_row(query, params![site.as_str(), fid], |row| row.get(0)).optional()?;
        Ok(hex.and_then(|hex| Digest::from_hex(&hex)))
    }

    fn init(&mut self, site: &SiteId, fid: &str, payload: &[u8]) -> anyhow::Result<Outcome> {
        let refused = |reason: &str| Outcome {
            ack: Some(Ack::Refused { fid: fid.to_owned(), reason: reason.to_owned() }),
            line: Some(format!("{site}  file {fid} refused: {reason}")),
        };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(payload) else {
            return Ok(refused("the manifest cannot be read"));
        };
        if Digest::of(payload).hex()[..32] != *fid || manifest.site != site.as_str() {
            return Ok(refused("the manifest does not match its id or site"));
        }
        if manifest.size > FILE_MAX || !is_safe(&manifest.name) {
            return Ok(refused("the size or the name is not acceptable"));
        }
        if self.part(site, fid).is_none() {
            if self.parts.iter().filter(|part| part.site == site.as_str()).count() >= PARTS_MAX
                && let Some(oldest) = self.parts.iter().position(|part| part.site == site.as_str())
            {
                let part = self.parts.remove(oldest);
                let _ = std::fs::remove_file(part.path);
            }
            let path = self.dir.join("partial").join(format!("{site}-{fid}.part"));
            let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
            // Chunks are only taken in order, so what is there is a beginning; the digest at the end has the last word.
            let upto = file.metadata()?.len().min(manifest.size);
            let (site, fid) = (site.to_string(), fid.to_owned());
            self.parts.push(Part { manifest, upto, file, path, chunks: 0, site, fid });
        }
        let upto = self.part(site, fid).map_or(0, |part| part.upto);
        Ok(Outcome { ack: Some(Ack::Have { fid: fid.to_owned(), upto, missing: Vec::new() }), line: None })
    }

    fn part(&mut self, site: &SiteId, fid: &str) -> Option<&mut Part> {
        self.parts.iter_mut().find(|part| part.site == site.as_str() && part.fid == fid)
    }

    fn chunk(&mut self, site: &SiteId, fid: &str, offset: &str, payload: &[u8]) -> anyhow::Result<Outcome> {
        let (Some(part), Ok(offset)) = (self.part(site, fid), offset.parse::<u64>()) else {
            return Ok(Outcome::default());
        };
        part.chunks += 1;
        if offset == part.upto && offset + payload.len() as u64 <= part.manifest.size {
            part.file.write_all_at(payload, offset)?;
            part.upto += payload.len() as u64;
        }
        let tell = part.chunks % HAVE_EVERY == 0 || part.upto == part.manifest.size;
        let have = Ack::Have { fid: fid.to_owned(), upto: part.upto, missing: Vec::new() };
        Ok(Outcome { ack: tell.then_some(have), line: None })
    }

    /// Checks a file that is all there, puts it in its place and says so; asks for the rest otherwise.
    fn fin(&mut self, site: &SiteId, fid: &str, now: &str) -> anyhow::Result<Outcome> {
        let dir = self.dir.clone();
        let Some(part) = self.part(site, fid) else {
            let have = Ack::Have { fid: fid.to_owned(), upto: 0, missing: Vec::new() };
            return Ok(Outcome { ack: Some(have), line: None });
        };
        let whole = part.upto == part.manifest.size && digest(&part.path)? == part.manifest.sha256;
        if !whole {
            if part.upto == part.manifest.size {
                part.file.set_len(0)?;
                part.upto = 0;
            }
            let have = Ack::Have { fid: fid.to_owned(), upto: part.upto, missing: Vec::new() };
            return Ok(Outcome { ack: Some(have), line: None });
        }
        part.file.sync_all()?;
        let manifest = part.manifest.clone();
        let day = dir.join("files").join(site.as_str()).join(day_of(&manifest.from));
        std::fs::create_dir_all(&day)?;
        let mut path = day.join(&manifest.name);
        if path.exists() {
            path = day.join(format!("{}-{}", &fid[..8], manifest.name));
        }
        std::fs::rename(&part.path, &path)?;
        for parent in day.ancestors().take(3) {
            File::open(parent)?.sync_all()?;
        }
        self.insert(site, fid, &manifest, &path, now)?;
        self.drop_part(site, fid);
        let purpose = format!("{:?}", manifest.purpose).to_lowercase();
        let line = format!("{site}  {purpose} of {} bytes, hash checked: {}", manifest.size, path.display());
        Ok(Outcome { ack: Some(Ack::Stored { fid: fid.to_owned(), sha256: manifest.sha256 }), line: Some(line) })
    }

    fn insert(&self, site: &SiteId, fid: &str, manifest: &Manifest, path: &Path, now: &str) -> anyhow::Result<()> {
        let purpose = format!("{:?}", manifest.purpose).to_lowercase();
        let relative = path.strip_prefix(&self.dir).unwrap_or(path).to_string_lossy().into_owned();
        self.db.execute(
            "INSERT OR IGNORE INTO files (site, fid, name, path, purpose, event, size, sha256, start, end, manifest, received)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                site.as_str(),
                fid,
                manifest.name,
                relative,
                purpose,
                manifest.event,
                manifest.size,
                manifest.sha256.hex(),
                manifest.from,
                manifest.to,
                manifest.bytes(),
                now
            ],
        )?;
        Ok(())
    }

    fn drop_part(&mut self, site: &SiteId, fid: &str) {
        if let Some(at) = self.parts.iter().position(|part| part.site == site.as_str() && part.fid == fid) {
            let _ = std::fs::remove_file(self.parts.remove(at).path);
        }
    }

    /// The sites, by name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn sites(&self) -> anyhow::Result<Vec<SiteRow>> {
        let mut query = self.db.prepare(
            "SELECT s.site, coalesce(s.state, ''), coalesce(s.seen, ''), coalesce(sum(r.events), 0), coalesce(max(r.highest), 0),
             coalesce(sum(r.highest - r.numbers), 0), (SELECT count(*) FROM files f WHERE f.site = s.site), count(r.ring)
             FROM sites s LEFT JOIN (SELECT site, ring, count(*) AS events, max(seq) AS highest, count(DISTINCT seq) AS numbers
             FROM events GROUP BY site, ring) r ON r.site = s.site GROUP BY s.site ORDER BY s.site",
        )?;
        let rows = query.query_map([], |row| {
            Ok(SiteRow {
                site: row.get(0)?,
                state: row.get(1)?,
                seen: row.get(2)?,
                events: row.get(3)?,
                highest_seq: row.get(4)?,
                missing_seq: row.get(5)?,
                files: row.get(6)?,
                rings: row.get(7)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The newest events that match, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn events(&self, filter: &Filter) -> anyhow::Result<Vec<EventRow>> {
        let mut query = self.db.prepare(
            "SELECT site, seq, time, kind, id, payload FROM events WHERE (?1 IS NULL OR site = ?1) AND (?2 IS NULL OR time >= ?2)
             AND (?3 IS NULL OR time <= ?3) ORDER BY received DESC, seq DESC LIMIT ?4",
        )?;
        let rows = query.query_map(params![filter.site, filter.from, filter.to, filter.limit], |row| {
            let payload: Vec<u8> = row.get(5)?;
            let data = serde_json::from_slice::<Event>(&payload).map(|event| event.data).unwrap_or_default();
            Ok(EventRow { site: row.get(0)?, seq: row.get(1)?, time: row.get(2)?, kind: row.get(3)?, id: row.get(4)?, data })
        })?;
        let mut rows: Vec<EventRow> = rows.collect::<Result<_, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// The newest files that match, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn files(&self, filter: &Filter) -> anyhow::Result<Vec<FileRow>> {
        let mut query = self.db.prepare(
            "SELECT site, purpose, start, end, size, event, path, sha256 FROM files WHERE (?1 IS NULL OR site = ?1)
             AND (?2 IS NULL OR end >= ?2) AND (?3 IS NULL OR start <= ?3) ORDER BY start DESC LIMIT ?4",
        )?;
        let rows = query.query_map(params![filter.site, filter.from, filter.to, filter.limit], |row| {
            let path: String = row.get(6)?;
            Ok(FileRow {
                site: row.get(0)?,
                purpose: row.get(1)?,
                start: row.get(2)?,
                end: row.get(3)?,
                size: row.get(4)?,
                event: row.get(5)?,
                path: self.dir.join(path),
                sha256: row.get(7)?,
            })
        })?;
        let mut rows: Vec<FileRow> = rows.collect::<Result<_, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// The answer to a command, if it has come.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn reply_to(&self, site: &str, req_id: &str) -> anyhow::Result<Option<serde_json::Value>> {
        ensure!(req_id.len() <= 64, "a req_id has at most 64 characters");
        let query = "SELECT payload FROM replies WHERE site = ?1 AND req_id = ?2";
        let bytes: Option<Vec<u8>> = self.db.query_row(query, params![site, req_id], |row| row.get(0)).optional()?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}

/// A file name that stays in its directory.
fn is_safe(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=120).contains(&name.len()) && name.bytes().all(good) && !name.starts_with('.')
}

/// The date of an RFC 3339 time, `undated` when it is none.
fn day_of(time: &str) -> String {
    let day: String = time.chars().take(10).collect();
    let good = day.len() == 10 && day.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if good { day } else { "undated".into() }
}

fn digest(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut piece = vec![0; 256 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            n => context.update(&piece[..n]),
        }
    }
    let mut out = Digest::default();
    out.0.copy_from_slice(context.finish().as_ref());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::manifest::of_still;
    use crate::units::Stamp;

    fn site() -> SiteId {
        SiteId::parse("km-17").unwrap()
    }

    fn up(tail: &str) -> String {
        topics::up(&site(), tail)
    }

    fn event(seq: u64) -> Vec<u8> {
        event_of(1, seq)
    }

    fn event_of(ring: u64, seq: u64) -> Vec<u8> {
        format!(
            r#"{{"specversion":"1.0","id":"E{ring}-{seq}","ring":"{ring:016x}","source":"taimat/km-17","type":"t","time":"2026-11-24T02:10:00.000Z","datacontenttype":"application/json","seq":{seq},"clock":"ntp","boot":1,"mono":1,"data":{{}}}}"#
        )
        .into_bytes()
    }

    #[test]
    fn an_event_that_comes_twice_is_receipted_twice_and_kept_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::open(dir.path()).unwrap();
        for _ in 0..2 {
            let ack = archive.take(&up("event"), &event(1), "now").unwrap().ack;
            assert_eq!(ack, Some(Ack::Event { id: "E1-1".into(), sha256: Digest::of(&event(1)) }));
        }
        archive.take(&up("event"), &event(4), "now").unwrap();
        let row = &archive.sites().unwrap()[0];
        assert_eq!((row.events, row.highest_seq, row.missing_seq), (2, 4, 2));
    }

    #[test]
    fn a_file_is_stored_only_when_its_digest_is_right_and_resumes_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = vec![7_u8; 1000];
        let manifest = of_still(&site(), "e", Stamp::default(), &bytes);
        let fid = manifest.fid();
        let topic = |verb: &str| up(&format!("file/{fid}/{verb}"));
        let mut archive = Archive::open(dir.path()).unwrap();
        archive.take(&topic("init"), &manifest.bytes(), "now").unwrap();
        archive.take(&topic("0"), &bytes[..400], "now").unwrap();
        drop(archive);
        let mut archive = Archive::open(dir.path()).unwrap();
        let ack = archive.take(&topic("init"), &manifest.bytes(), "now").unwrap().ack;
        assert_eq!(ack, Some(Ack::Have { fid: fid.clone(), upto: 400, missing: Vec::new() }));
        archive.take(&topic("400"), &[8; 600], "now").unwrap();
        let ack = archive.take(&topic("fin"), b"{}", "now").unwrap().ack;
        assert_eq!(ack, Some(Ack::Have { fid: fid.clone(), upto: 0, missing: Vec::new() }), "wrong bytes were stored");
        archive.take(&topic("0"), &bytes, "now").unwrap();
        let stored = Some(Ack::Stored { fid: fid.clone(), sha256: manifest.sha256 });
        assert_eq!(archive.take(&topic("fin"), b"{}", "now").unwrap().ack, stored);
        assert_eq!(archive.take(&topic("init"), &manifest.bytes(), "now").unwrap().ack, stored, "it was sent again");
        let row = &archive.files(&Filter { limit: 9, ..Filter::default() }).unwrap()[0];
        assert_eq!(std::fs::read(&row.path).unwrap(), bytes);
    }

    #[test]
    fn a_box_cannot_write_outside_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::open(dir.path()).unwrap();
        for name in ["../../etc/passwd", ".hidden", "a/b", ""] {
            let mut manifest = of_still(&site(), "e", Stamp::default(), b"x");
            manifest.name = name.into();
            let fid = manifest.fid();
            let ack = archive.take(&up(&format!("file/{fid}/init")), &manifest.bytes(), "now").unwrap().ack;
            assert!(matches!(ack, Some(Ack::Refused { .. })), "{name:?} was taken");
        }
    }

    #[test]
    fn a_late_lost_of_an_older_connection_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::open(dir.path()).unwrap();
        let state = |word: &str, conn: u64| format!(r#"{{"v":1,"state":"{word}","boot":1,"conn":{conn},"t":""}}"#).into_bytes();
        for (word, conn) in [("online", 8), ("lost", 7), ("going", 7)] {
            archive.take(&up("state"), &state(word, conn), "now").unwrap();
            assert_eq!(archive.sites().unwrap()[0].state, "online");
        }
    }

    #[test]
    fn a_replaced_card_begins_its_numbers_and_connections_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::open(dir.path()).unwrap();
        let state = |word: &str, ring: u64, conn: u64| {
            format!(r#"{{"v":1,"state":"{word}","ring":"{ring:016x}","boot":1,"conn":{conn},"t":""}}"#).into_bytes()
        };
        let mut hear = |message: Vec<u8>, tail: &str| {
            archive.take(&up(tail), &message, "now").unwrap();
            archive.sites().unwrap().remove(0)
        };
        hear(state("online", 5, 900), "state");
        for seq in 1..=9 {
            hear(event_of(5, seq), "event");
        }
        assert_eq!(hear(state("lost", 6, 1), "state").state, "online", "a ring nobody has heard of is not what is online");
        hear(state("online", 6, 1), "state");
        assert_eq!(hear(state("lost", 5, 900), "state").state, "online", "the old card's will came late");
        hear(event_of(6, 1), "event");
        let row = hear(event_of(6, 3), "event");
        assert_eq!((row.rings, row.events, row.highest_seq, row.missing_seq), (2, 11, 9, 1));
        assert_eq!(hear(state("lost", 6, 1), "state").state, "lost");
    }

    #[test]
    fn an_archive_made_before_rings_had_names_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let old = Connection::open(dir.path().join("taimat.sqlite")).unwrap();
        old.execute_batch(
            "CREATE TABLE sites (site TEXT PRIMARY KEY, state TEXT, conn INTEGER NOT NULL DEFAULT 0, seen TEXT, birth TEXT, health TEXT);
             CREATE TABLE events (site TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, time TEXT NOT NULL,
             payload BLOB NOT NULL, received TEXT NOT NULL, PRIMARY KEY (site, id));
             INSERT INTO sites (site) VALUES ('km-17'); INSERT INTO events VALUES ('km-17', 'E', 1, 't', 't', x'', 'now');",
        )
        .unwrap();
        drop(old);
        let mut archive = Archive::open(dir.path()).unwrap();
        archive.take(&up("event"), &event(1), "now").unwrap();
        let row = &archive.sites().unwrap()[0];
        assert_eq!((row.events, row.rings, row.missing_seq), (2, 2, 0));
    }
}
