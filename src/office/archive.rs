//! ⇄ The archive: `DIR/taimat.sqlite` and `DIR/files/{site}/{date}/{name}`. Nothing is receipted before it is flushed; everything
//! may come twice and is kept once. A box's word is not trusted: names, sizes and offsets are checked before they touch the disk.
//!
//! Messages are taken in batches, one transaction and one flush each: a receipt leaves after its batch is on the disk. A file goes
//! through four states, so that a kill at any moment leaves one that is known: its bytes in `partial/` with the ranges that are
//! flushed → whole, its digest being checked ([`super::keeper`], beside this) → its place written down → moved there and listed.
//!
//! What belongs here: storing. What does not: MQTT ([`super::host`]), listing ([`super::look`]), missing numbers
//! ([`super::gaps`]), keeping and letting go ([`super::keep`]).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::Value;

use super::ranges::Ranges;
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
/// Holes named in one `have` at most: a packet to a box has its bound.
const HOLES_MAX: usize = 64;

/// The index keeps 1 MiB of its pages in memory (`cache_size`, in KiB when negative): that is full within minutes, and what is read
/// again lies in the system's own cache. More would grow for hours in a quiet commune.
const SCHEMA: &str = "
    PRAGMA cache_size = -1024;
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
        manifest BLOB NOT NULL, received TEXT NOT NULL, gone TEXT, PRIMARY KEY (site, fid));
    CREATE TABLE IF NOT EXISTS replies (site TEXT NOT NULL, req_id TEXT NOT NULL, payload BLOB NOT NULL, received TEXT NOT NULL,
        PRIMARY KEY (site, req_id));
    CREATE TABLE IF NOT EXISTS parts (site TEXT NOT NULL, fid TEXT NOT NULL, manifest BLOB NOT NULL, ranges TEXT NOT NULL,
        target TEXT, PRIMARY KEY (site, fid));
    CREATE TABLE IF NOT EXISTS rings (site TEXT NOT NULL, ring TEXT NOT NULL, confirmed INTEGER NOT NULL DEFAULT 0,
        complete INTEGER NOT NULL DEFAULT 0, asked INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (site, ring));
    CREATE TABLE IF NOT EXISTS given_up (site TEXT NOT NULL, ring TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        reason TEXT NOT NULL, PRIMARY KEY (site, ring, first, last));
    CREATE TABLE IF NOT EXISTS locks (id INTEGER PRIMARY KEY, site TEXT NOT NULL, start TEXT NOT NULL, end TEXT NOT NULL,
        reason TEXT NOT NULL, made TEXT NOT NULL);
";

/// What older archives lack: a column, and the table it belongs to.
const COLUMNS: [(&str, &str, &str); 3] =
    [("sites", "ring", "TEXT NOT NULL DEFAULT ''"), ("events", "ring", "TEXT NOT NULL DEFAULT ''"), ("files", "gone", "TEXT")];
const INDEXES: &str =
    "DROP INDEX IF EXISTS events_by_seq; CREATE INDEX IF NOT EXISTS events_by_number ON events (site, ring, seq);
    CREATE INDEX IF NOT EXISTS files_by_event ON files (site, event); CREATE INDEX IF NOT EXISTS files_by_time ON files (start);";

/// What a message led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// To be published to the site's `dn/ack`.
    pub ack: Option<Ack>,
    /// For people who watch.
    pub line: Option<String>,
    /// A file that is all there: its digest is to be found, and told to [`Archive::checked`].
    pub check: Option<Check>,
    /// A command to the site: name and payload.
    pub ask: Option<(&'static str, Value)>,
}

/// A file to be flushed and hashed.
#[derive(Debug, Clone)]
pub struct Check {
    /// Whose.
    pub site: SiteId,
    /// Its id.
    pub fid: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// A file on its way.
struct Part {
    manifest: Manifest,
    ranges: Ranges,
    file: File,
    path: PathBuf,
    /// Chunks since the last `have`.
    chunks: u32,
    checking: bool,
    site: SiteId,
    fid: String,
}

impl Part {
    fn have(&self) -> Ack {
        let missing = self.ranges.missing(0, self.manifest.size, HOLES_MAX);
        let upto = self.ranges.upto(0);
        let missing = if missing == [(upto, self.manifest.size)] { Vec::new() } else { missing };
        Ack::Have { fid: self.fid.clone(), upto, missing }
    }
}

/// The archive.
pub struct Archive {
    pub(super) dir: PathBuf,
    pub(super) db: Connection,
    parts: Vec<Part>,
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
            for (table, column, kind) in COLUMNS {
                if db.prepare(&format!("SELECT {column} FROM {table}")).is_err() {
                    db.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} {kind}"))?;
                }
            }
            db.execute_batch(INDEXES)?;
            db.execute_batch(super::configs::SCHEMA)
        });
        made.with_context(|| format!("{}: schema", path.display()))?;
        let mut archive = Archive::over(dir.to_owned(), db);
        archive.take_up_moves()?;
        Ok(archive)
    }

    /// An archive over an open database, with nothing on its way.
    pub(super) fn over(dir: PathBuf, db: Connection) -> Archive {
        Archive { dir, db, parts: Vec::new() }
    }

    /// Files that were on their way to their place when the office was killed: those that arrived are listed now.
    fn take_up_moves(&mut self) -> anyhow::Result<()> {
        let mut query = self.db.prepare("SELECT site, fid, manifest, target FROM parts WHERE target IS NOT NULL")?;
        let moving: Vec<(String, String, Vec<u8>, String)> =
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?.collect::<Result<_, _>>()?;
        drop(query);
        for (site, fid, manifest, target) in moving {
            let (Ok(site), Ok(manifest)) = (SiteId::parse(&site), serde_json::from_slice::<Manifest>(&manifest)) else {
                continue;
            };
            if self.partial(&site, &fid).exists() {
                self.db.execute("UPDATE parts SET target = NULL WHERE site = ?1 AND fid = ?2", params![site.as_str(), fid])?;
            } else if self.dir.join(&target).exists() {
                self.list(&site, &fid, &manifest, &target, "after a restart")?;
            }
        }
        Ok(())
    }

    fn partial(&self, site: &SiteId, fid: &str) -> PathBuf {
        self.dir.join("partial").join(format!("{site}-{fid}.part"))
    }

    /// Takes messages from `taimat/v1/{site}/up/…`; when it returns, what their receipts promise is on the disk. `now` is RFC 3339,
    /// and seconds since 1970.
    ///
    /// # Errors
    /// When the disk refuses: then there are no receipts, and the boxes send again.
    pub fn take_all(&mut self, messages: &[(String, Vec<u8>)], now: (&str, i64)) -> anyhow::Result<Vec<(SiteId, Outcome)>> {
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        let taken = self.take_each(messages, now);
        match taken.and_then(|outcomes| Ok((outcomes, self.db.execute_batch("COMMIT")?))) {
            Ok((outcomes, ())) => Ok(outcomes),
            Err(error) => {
                let _ = self.db.execute_batch("ROLLBACK").is_ok();
                Err(error)
            }
        }
    }

    fn take_each(&mut self, messages: &[(String, Vec<u8>)], now: (&str, i64)) -> anyhow::Result<Vec<(SiteId, Outcome)>> {
        let mut outcomes = Vec::with_capacity(messages.len());
        for (topic, payload) in messages {
            let Some((site, tail)) = topics::read_up(topic) else {
                continue;
            };
            let outcome = self.take_one(&site, tail, payload, now)?;
            outcomes.push((site, outcome));
        }
        Ok(outcomes)
    }

    fn take_one(&mut self, site: &SiteId, tail: &str, payload: &[u8], now: (&str, i64)) -> anyhow::Result<Outcome> {
        let mut seen = self
            .db
            .prepare_cached("INSERT INTO sites (site, seen) VALUES (?1, ?2) ON CONFLICT (site) DO UPDATE SET seen = ?2")?;
        seen.execute(params![site.as_str(), now.0])?;
        drop(seen);
        match tail {
            "event" => self.event(site, payload, now.0),
            "state" => self.state(site, payload),
            "birth" | "health" => {
                let text = String::from_utf8_lossy(payload);
                self.db.execute(&format!("UPDATE sites SET {tail} = ?2 WHERE site = ?1"), params![site.as_str(), text])?;
                if tail == "health" { self.look_for_gaps(site, payload, now.1) } else { Ok(Outcome::default()) }
            }
            "rsp" => self.reply(site, payload, now.0),
            _ => match tail.strip_prefix("file/").and_then(|rest| rest.split_once('/')) {
                Some((fid, verb)) if fid.len() == 32 && fid.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    self.file(site, fid, verb, payload)
                }
                _ => Ok(Outcome::default()),
            },
        }
    }

    fn event(&mut self, site: &SiteId, payload: &[u8], now: &str) -> anyhow::Result<Outcome> {
        let event = serde_json::from_slice::<Event>(payload);
        let event = match event {
            Ok(event) if payload.len() <= EVENT_MAX && event.id.len() <= 64 => event,
            _ => {
                return Ok(Outcome {
                    line: Some(format!("{site}: an event that cannot be read, not kept")),
                    ..Outcome::default()
                });
            }
        };
        let ring = event.ring.to_string();
        let mut insert = self.db.prepare_cached(
            "INSERT OR IGNORE INTO events (site, id, seq, kind, time, payload, received, ring)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let kept = insert.execute(params![site.as_str(), event.id, event.seq, event.kind, event.time, payload, now, ring])?;
        drop(insert);
        if event.kind == "vn.taimat.shed.v1" {
            let reason = event.data["reason"].as_str().unwrap_or("shed");
            self.give_up(site, &ring, &event.data["seq"], reason)?;
        }
        let line = (kept > 0).then(|| format!("{site}  event {:>4}  {}  {}", event.seq, event.time, event.kind));
        Ok(Outcome { ack: Some(Ack::Event { id: event.id, sha256: Digest::of(payload) }), line, ..Outcome::default() })
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
        Ok(Outcome { line: (changed > 0).then(|| format!("{site}  {}", state.state)), ..Outcome::default() })
    }

    fn reply(&mut self, site: &SiteId, payload: &[u8], now: &str) -> anyhow::Result<Outcome> {
        let value: Value = serde_json::from_slice(payload).unwrap_or_default();
        if let Some(req_id) = value["req_id"].as_str().filter(|req_id| req_id.len() <= 64) {
            self.db.execute(
                "INSERT OR REPLACE INTO replies (site, req_id, payload, received) VALUES (?1, ?2, ?3, ?4)",
                params![site.as_str(), req_id, payload, now],
            )?;
        }
        let ring = value["data"]["ring"].as_str().filter(|ring| ring.len() == 16);
        if let Some(ring) = ring.filter(|_| value["cmd"] == "event-get") {
            self.give_up(site, ring, &value["data"]["gone"], "the box no longer has it")?;
        }
        Ok(Outcome::default())
    }

    fn file(&mut self, site: &SiteId, fid: &str, verb: &str, payload: &[u8]) -> anyhow::Result<Outcome> {
        if self.part(site, fid).is_none()
            && let Some(sha256) = self.stored(site, fid)?
        {
            let ack = Some(Ack::Stored { fid: fid.to_owned(), sha256 });
            return Ok(Outcome { ack, ..Outcome::default() });
        }
        match verb {
            "init" => self.init(site, fid, payload),
            "fin" => self.fin(site, fid),
            "abort" => {
                self.drop_part(site, fid)?;
                Ok(Outcome { line: Some(format!("{site}  file {fid} given up by the box")), ..Outcome::default() })
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
            ..Outcome::default()
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
            self.begin(site, fid, manifest)?;
        }
        let ack = self.part(site, fid).map(|part| part.have());
        Ok(Outcome { ack, ..Outcome::default() })
    }

    /// Opens the bytes of a file that are here already, or none.
    fn begin(&mut self, site: &SiteId, fid: &str, manifest: Manifest) -> anyhow::Result<()> {
        let of_site = |part: &&Part| part.site == *site && !part.checking;
        if self.parts.iter().filter(of_site).count() >= PARTS_MAX
            && let Some(oldest) = self.parts.iter().find(of_site).map(|part| part.fid.clone())
        {
            self.drop_part(site, &oldest)?;
        }
        let path = self.partial(site, fid);
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
        let query = "SELECT ranges FROM parts WHERE site = ?1 AND fid = ?2";
        let known: Option<String> = self.db.query_row(query, params![site.as_str(), fid], |row| row.get(0)).optional()?;
        let mut ranges: Ranges = known.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        ranges.cut(file.metadata()?.len().min(manifest.size));
        self.db.execute(
            "INSERT OR REPLACE INTO parts (site, fid, manifest, ranges) VALUES (?1, ?2, ?3, ?4)",
            params![site.as_str(), fid, manifest.bytes(), serde_json::to_string(&ranges)?],
        )?;
        let (site, fid) = (site.clone(), fid.to_owned());
        self.parts.push(Part { manifest, ranges, file, path, chunks: 0, checking: false, site, fid });
        Ok(())
    }

    fn part(&mut self, site: &SiteId, fid: &str) -> Option<&mut Part> {
        self.parts.iter_mut().find(|part| part.site == *site && part.fid == fid)
    }

    fn chunk(&mut self, site: &SiteId, fid: &str, offset: &str, payload: &[u8]) -> anyhow::Result<Outcome> {
        let (Some(part), Ok(offset)) = (self.part(site, fid), offset.parse::<u64>()) else {
            return Ok(Outcome::default());
        };
        let end = offset.saturating_add(payload.len() as u64);
        if end > part.manifest.size || part.checking {
            return Ok(Outcome::default());
        }
        part.file.write_all_at(payload, offset)?;
        part.ranges.add(offset, end);
        part.chunks += 1;
        if part.chunks < HAVE_EVERY && !part.ranges.is_whole(part.manifest.size) {
            return Ok(Outcome::default());
        }
        let ack = self.confirm(site, fid)?;
        Ok(Outcome { ack, ..Outcome::default() })
    }

    /// Flushes what is here of a file, writes it down, and says so.
    fn confirm(&mut self, site: &SiteId, fid: &str) -> anyhow::Result<Option<Ack>> {
        let Some(part) = self.part(site, fid) else {
            return Ok(None);
        };
        part.file.sync_data()?;
        part.chunks = 0;
        let (ranges, have) = (serde_json::to_string(&part.ranges)?, part.have());
        self.db.execute("UPDATE parts SET ranges = ?3 WHERE site = ?1 AND fid = ?2", params![site.as_str(), fid, ranges])?;
        Ok(Some(have))
    }

    /// A file that is all there is to be checked; the rest is asked for otherwise.
    fn fin(&mut self, site: &SiteId, fid: &str) -> anyhow::Result<Outcome> {
        let Some(part) = self.part(site, fid) else {
            // Its `init` is not known any more. The box begins again when it hears nothing.
            return Ok(Outcome::default());
        };
        if part.checking {
            return Ok(Outcome::default());
        }
        if !part.ranges.is_whole(part.manifest.size) {
            let ack = self.confirm(site, fid)?;
            return Ok(Outcome { ack, ..Outcome::default() });
        }
        part.checking = true;
        let check = Check { site: site.clone(), fid: fid.to_owned(), path: part.path.clone() };
        Ok(Outcome { check: Some(check), ..Outcome::default() })
    }

    /// The digest of a file, flushed before it was read: puts the file in its place and says so, or asks for all of it again.
    ///
    /// # Errors
    /// When the disk refuses: then there is no receipt, and the box sends again.
    pub fn checked(&mut self, check: &Check, digest: &std::io::Result<Digest>, now: &str) -> anyhow::Result<Outcome> {
        let Check { site, fid, .. } = check;
        let dir = self.dir.clone();
        let Some(part) = self.part(site, fid) else {
            return Ok(Outcome::default());
        };
        part.checking = false;
        let manifest = part.manifest.clone();
        if !digest.as_ref().is_ok_and(|digest| *digest == manifest.sha256) {
            part.file.set_len(0)?;
            part.ranges = Ranges::default();
            let ack = self.confirm(site, fid)?;
            return Ok(Outcome { ack, line: Some(format!("{site}  file {fid} came with another digest")), ..Outcome::default() });
        }
        let from = part.path.clone();
        let relative = Path::new("files").join(site.as_str()).join(day_of(&manifest.from));
        let day = dir.join(&relative);
        std::fs::create_dir_all(&day)?;
        let mut target = relative.join(&manifest.name);
        if dir.join(&target).exists() {
            target = relative.join(format!("{}-{}", &fid[..8], manifest.name));
        }
        let target = target.to_string_lossy().into_owned();
        self.db.execute("UPDATE parts SET target = ?3 WHERE site = ?1 AND fid = ?2", params![site.as_str(), fid, target])?;
        std::fs::rename(&from, dir.join(&target))?;
        for parent in day.ancestors().take(3) {
            File::open(parent)?.sync_all()?;
        }
        self.list(site, fid, &manifest, &target, now)?;
        self.parts.retain(|part| part.site != *site || part.fid != *fid);
        let line =
            format!("{site}  {} of {} bytes, hash checked: {}", word(&manifest), manifest.size, dir.join(&target).display());
        let ack = Some(Ack::Stored { fid: fid.clone(), sha256: manifest.sha256 });
        Ok(Outcome { ack, line: Some(line), ..Outcome::default() })
    }

    /// Lists a file that lies in its place.
    fn list(&self, site: &SiteId, fid: &str, manifest: &Manifest, path: &str, now: &str) -> anyhow::Result<()> {
        let (purpose, sha256) = (word(manifest), manifest.sha256.hex());
        let change = self.db.unchecked_transaction()?;
        change.execute(
            "INSERT OR IGNORE INTO files (site, fid, name, path, purpose, event, size, sha256, start, end, manifest, received)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                site.as_str(),
                fid,
                manifest.name,
                path,
                purpose,
                manifest.event,
                manifest.size,
                sha256,
                manifest.from,
                manifest.to,
                manifest.bytes(),
                now
            ],
        )?;
        change.execute("DELETE FROM parts WHERE site = ?1 AND fid = ?2", params![site.as_str(), fid])?;
        Ok(change.commit()?)
    }

    fn drop_part(&mut self, site: &SiteId, fid: &str) -> anyhow::Result<()> {
        if let Some(at) = self.parts.iter().position(|part| part.site == *site && part.fid == fid) {
            let _ = std::fs::remove_file(self.parts.remove(at).path);
            self.db.execute("DELETE FROM parts WHERE site = ?1 AND fid = ?2", params![site.as_str(), fid])?;
        }
        Ok(())
    }
}

fn word(manifest: &Manifest) -> String {
    format!("{:?}", manifest.purpose).to_lowercase()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::look::Filter;
    use super::*;
    use crate::evidence::manifest::of_still;
    use crate::units::Stamp;
    use crate::uplink::wire::Health;

    fn site() -> SiteId {
        SiteId::parse("km-17").unwrap()
    }

    /// Takes one message, and checks what is to be checked at once.
    fn take(archive: &mut Archive, topic: &str, payload: &[u8]) -> Outcome {
        let taken = archive.take_all(&[(topic.to_owned(), payload.to_vec())], ("now", 1_000)).unwrap();
        let outcome = taken.into_iter().next().map(|(_, outcome)| outcome).unwrap_or_default();
        match &outcome.check {
            Some(check) => archive.checked(check, &super::super::keeper::flush_and_hash(&check.path), "now").unwrap(),
            None => outcome,
        }
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
            let ack = take(&mut archive, &up("event"), &event(1)).ack;
            assert_eq!(ack, Some(Ack::Event { id: "E1-1".into(), sha256: Digest::of(&event(1)) }));
        }
        take(&mut archive, &up("event"), &event(4));
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
        take(&mut archive, &topic("init"), &manifest.bytes());
        take(&mut archive, &topic("0"), &bytes[..400]);
        assert!(archive.confirm(&site(), &fid).unwrap().is_some());
        drop(archive);
        let mut archive = Archive::open(dir.path()).unwrap();
        let ack = take(&mut archive, &topic("init"), &manifest.bytes()).ack;
        assert_eq!(ack, Some(Ack::Have { fid: fid.clone(), upto: 400, missing: Vec::new() }));
        take(&mut archive, &topic("400"), &[8; 600]);
        let ack = take(&mut archive, &topic("fin"), b"{}").ack;
        assert_eq!(ack, Some(Ack::Have { fid: fid.clone(), upto: 0, missing: Vec::new() }), "wrong bytes were stored");
        take(&mut archive, &topic("0"), &bytes);
        let stored = Some(Ack::Stored { fid: fid.clone(), sha256: manifest.sha256 });
        assert_eq!(take(&mut archive, &topic("fin"), b"{}").ack, stored);
        assert_eq!(take(&mut archive, &topic("init"), &manifest.bytes()).ack, stored, "it was sent again");
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
            let ack = take(&mut archive, &up(&format!("file/{fid}/init")), &manifest.bytes()).ack;
            assert!(matches!(ack, Some(Ack::Refused { .. })), "{name:?} was taken");
        }
    }

    #[test]
    fn a_late_lost_of_an_older_connection_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::open(dir.path()).unwrap();
        let state = |word: &str, conn: u64| format!(r#"{{"v":1,"state":"{word}","boot":1,"conn":{conn},"t":""}}"#).into_bytes();
        for (word, conn) in [("online", 8), ("lost", 7), ("going", 7)] {
            take(&mut archive, &up("state"), &state(word, conn));
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
            take(&mut archive, &up(tail), &message);
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
        take(&mut archive, &up("event"), &event(1));
        let row = &archive.sites().unwrap()[0];
        assert_eq!((row.events, row.rings, row.missing_seq), (2, 2, 0));
    }

    /// A box's `shed` event with these numbers.
    fn shed(seq: u64, ranges: &str) -> Vec<u8> {
        String::from_utf8(event(seq))
            .unwrap()
            .replace(r#""type":"t""#, r#""type":"vn.taimat.shed.v1""#)
            .replace(r#""data":{}"#, &format!(r#""data":{{"reason":"outbox_full","seq":{ranges}}}"#))
            .into_bytes()
    }

    fn health(confirmed: u64) -> Vec<u8> {
        let health = Health {
            ring: crate::units::RingId(1),
            watermarks: crate::uplink::wire::Watermarks { durable: 0, event: 20, confirmed },
            ..Health::default()
        };
        serde_json::to_vec(&health).unwrap()
    }

    #[test]
    fn numbers_that_are_missing_are_shown_and_asked_for_and_those_given_up_say_why() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::open(dir.path()).unwrap();
        for seq in [1, 2, 5, 6, 9] {
            take(&mut archive, &up("event"), &event(seq));
        }
        take(&mut archive, &up("event"), &shed(10, "[[3,3]]"));
        let all = Filter { limit: 99, ..Filter::default() };
        let shown = |archive: &Archive| -> Vec<(u64, u64, String)> {
            archive.gaps(&all).unwrap().into_iter().map(|row| (row.first, row.last, row.why)).collect()
        };
        let row = |first, last, why: &str| (first, last, why.to_owned());
        assert_eq!(shown(&archive), [row(4, 4, "on its way"), row(7, 8, "on its way"), row(3, 3, "outbox_full")]);
        let ask = take(&mut archive, &up("health"), &health(7)).ask;
        let (name, body) = ask.expect("nobody asked");
        assert_eq!((name, &body["seq"]), ("event-get", &json!([[4, 4], [7, 7]])));
        assert!(take(&mut archive, &up("health"), &health(7)).ask.is_none(), "it was asked just now");
        assert_eq!(shown(&archive)[0], row(4, 4, "missing"));
        let answer = json!({"req_id": "gaps-1", "cmd": "event-get", "status": "ok",
            "data": {"ring": "0000000000000001", "found": 1, "gone": [[4, 4]]}});
        take(&mut archive, &up("rsp"), answer.to_string().as_bytes());
        assert!(shown(&archive).contains(&row(4, 4, "the box no longer has it")));
    }

    #[test]
    fn a_file_whose_chunks_come_in_any_order_twice_or_not_at_all_is_stored_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        let manifest = of_still(&site(), "e", Stamp::default(), &bytes);
        let fid = manifest.fid();
        let topic = |verb: &str| up(&format!("file/{fid}/{verb}"));
        let mut archive = Archive::open(dir.path()).unwrap();
        take(&mut archive, &topic("init"), &manifest.bytes());
        for at in [60_000, 20_000, 20_000, 80_000, 0] {
            take(&mut archive, &topic(&at.to_string()), &bytes[at..at + 10_000]);
        }
        let have = |upto, missing: &[(u64, u64)]| Some(Ack::Have { fid: fid.clone(), upto, missing: missing.to_vec() });
        let wanted = [(10_000, 20_000), (30_000, 60_000), (70_000, 80_000), (90_000, 100_000)];
        assert_eq!(take(&mut archive, &topic("fin"), b"{}").ack, have(10_000, &wanted));
        for (from, to) in wanted {
            take(&mut archive, &topic(&from.to_string()), &bytes[from as usize..to as usize]);
        }
        let stored = Some(Ack::Stored { fid: fid.clone(), sha256: manifest.sha256 });
        assert_eq!(take(&mut archive, &topic("fin"), b"{}").ack, stored);
    }

    #[test]
    fn an_office_killed_while_it_moves_a_file_lists_it_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = vec![7_u8; 1000];
        let manifest = of_still(&site(), "e", Stamp::default(), &bytes);
        let fid = manifest.fid();
        let topic = |verb: &str| up(&format!("file/{fid}/{verb}"));
        let mut archive = Archive::open(dir.path()).unwrap();
        take(&mut archive, &topic("init"), &manifest.bytes());
        take(&mut archive, &topic("0"), &bytes);
        // As `checked` leaves it between the move and the list.
        let target = "files/km-17/1970-01-01/moved.jpg";
        std::fs::create_dir_all(dir.path().join("files/km-17/1970-01-01")).unwrap();
        archive.db.execute("UPDATE parts SET target = ?1", [target]).unwrap();
        std::fs::rename(archive.partial(&site(), &fid), dir.path().join(target)).unwrap();
        drop(archive);
        let mut archive = Archive::open(dir.path()).unwrap();
        let stored = Some(Ack::Stored { fid: fid.clone(), sha256: manifest.sha256 });
        assert_eq!(take(&mut archive, &topic("init"), &manifest.bytes()).ack, stored, "all of it was asked for again");
        let row = &archive.files(&Filter { limit: 9, ..Filter::default() }).unwrap()[0];
        assert_eq!(std::fs::read(&row.path).unwrap(), bytes);
    }

    #[test]
    fn what_is_too_old_goes_unless_it_is_locked_and_does_not_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::open(dir.path()).unwrap();
        let mut fids = Vec::new();
        for (n, day) in [(1_u8, 1), (2, 3), (3, 5)] {
            let bytes = vec![n; 1000];
            let at = Stamp { wall: crate::units::Wall(day * 86_400_000_000), ..Stamp::default() };
            let manifest = of_still(&site(), &format!("e{n}"), at, &bytes);
            let topic = |verb: &str| up(&format!("file/{}/{verb}", manifest.fid()));
            for (verb, payload) in [("init", manifest.bytes()), ("0", bytes), ("fin", b"{}".to_vec())] {
                take(&mut archive, &topic(verb), &payload);
            }
            fids.push((topic("init"), manifest));
        }
        let day = |n: i64| crate::units::Wall(n * 86_400_000_000);
        archive.lock("km-17", (&day(3).rfc3339(), &day(4).rfc3339()), "case 7", "now").unwrap();
        let retention = super::super::keep::Retention { days: 2, bytes: 0 };
        let gone = archive.let_go(&retention, day(6)).unwrap();
        assert_eq!((gone.files, gone.bytes), (1, 1000), "the first; the second is locked, the third is new");
        let left: Vec<String> =
            archive.files(&Filter { limit: 9, ..Filter::default() }).unwrap().into_iter().map(|row| row.event).collect();
        assert_eq!(left, ["e2", "e3"]);
        let ack = take(&mut archive, &fids[0].0, &fids[0].1.bytes()).ack;
        assert!(matches!(ack, Some(Ack::Stored { .. })), "it would come again: {ack:?}");
        assert!(archive.unlock(archive.locks().unwrap()[0].id).unwrap());
        assert_eq!(archive.let_go(&retention, day(6)).unwrap().files, 1);
        let retention = super::super::keep::Retention { days: 0, bytes: 500 };
        assert_eq!(archive.let_go(&retention, day(6)).unwrap().files, 1, "too many bytes");
    }

    #[test]
    fn the_index_keeps_a_mebibyte_of_pages_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path()).unwrap();
        let kept: i64 = archive.db.query_row("PRAGMA cache_size", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, -1024, "KiB are negative; SQLite's own limit is twice that");
    }

    #[test]
    fn an_event_is_exported_with_its_files_manifests_and_digests() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::open(dir.path()).unwrap();
        take(&mut archive, &up("event"), &event(1));
        let bytes = vec![9_u8; 500];
        let manifest = of_still(&site(), "E1-1", Stamp::default(), &bytes);
        let topic = |verb: &str| up(&format!("file/{}/{verb}", manifest.fid()));
        for (verb, payload) in [("init", manifest.bytes()), ("0", bytes.clone()), ("fin", b"{}".to_vec())] {
            take(&mut archive, &topic(verb), &payload);
        }
        let out = dir.path().join("out");
        assert_eq!(archive.export("km-17", "E1-1", &out).unwrap(), (1, 1));
        assert_eq!(std::fs::read(out.join(&manifest.name)).unwrap(), bytes);
        let sums = std::fs::read_to_string(out.join("SHA256SUMS")).unwrap();
        for line in sums.lines() {
            let (digest, name) = line.split_once("  ").unwrap();
            assert_eq!(Digest::of(&std::fs::read(out.join(name)).unwrap()).hex(), digest, "{name}");
        }
        assert_eq!(sums.lines().count(), 3);
        assert!(archive.export("km-17", "nothing", &dir.path().join("other")).is_err());
    }
}
