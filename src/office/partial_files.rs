//! ⇄ The way in of a file. Its bytes gather in `partial/` with the ranges that are flushed; when all are there it is flushed and hashed
//! (on a thread of its own, [`super::archive_thread`]); then it is put in its place and receipted ([`super::file_commit`]). A refusal or a power
//! cut between any two steps leaves a file whose state index and disk tell: memory is only a copy of the index, and is dropped when
//! anything refuses.
//!
//! What belongs here: single files on their way. What does not: transactions of batches (`office_stub`), letting go ([`super::retention`]).

use rusqlite::{OptionalExtension as _, params};

use super::archive::{Archive, IngestOutcome, Now};
use super::file_store::DigestError;
use super::range_set::Ranges;
use super::safeguards::IngestRule;
use crate::units::{Digest, SiteId};
use crate::uplink::wire::{Ack, Manifest};

/// What is reported of chunks that the disk refuses.
pub(super) const BYTES_REFUSED: &str = "chunks the disk refuses: none is receipted, so the devices keep them and send them again";
/// Bytes of one file at most: an hour at 4 Mbit/s.
const FILE_MAX: u64 = 2 << 30;
/// Bytes of a manifest at most: an outbox entry is one journal slot.
const MANIFEST_MAX: usize = 4 << 10;
/// Unfinished files of one site at most, counted in the index; the oldest goes.
pub const PARTS_MAX: usize = 64;
/// Bytes of the unfinished files of one site at most, with the sizes they will have: four of the largest, of which a device sends two at a
/// time. What is only announced must not fill the disk.
const PARTS_BYTES: u64 = 4 * FILE_MAX;
/// Unfinished files in memory at most; the index knows them all.
const PARTS_IN_MEMORY: usize = 4096;
/// Pieces one unfinished file may lie in: a device sends from one end to the other, with what was lost between.
const PIECES_MAX: usize = 1024;
/// Chunks between two `have`: small against the sender's window of 1 MiB unconfirmed bytes.
const HAVE_EVERY: u32 = 4;
/// Bytes, or chunks, after which what is there of a file is flushed and written down: what an office that loses power asks for again.
const FLUSH_BYTES: u64 = 1 << 20;
const FLUSH_CHUNKS: u32 = 256;
/// Holes named in one `have` at most: a packet to a device has its bound.
const HOLES_MAX: usize = 64;
/// Seconds after which a check without an answer is asked for again.
pub const CHECK_WITHIN: i64 = 60;
/// Seconds after which an unfinished file that nobody goes on with is released.
pub const PART_KEPT: i64 = 7 * 86_400;
/// Whose file, and which.
pub(super) type Key = (SiteId, String);

/// A file to be flushed and hashed; the answer goes to [`Archive::checked`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Whose.
    pub site: SiteId,
    /// Its id.
    pub fid: String,
    /// Where it lies.
    pub path: String,
    /// An answer about a file that was started again meanwhile is none.
    turn: u64,
}

/// A file of which some is to be flushed; the answer goes to [`Archive::flushed`].
#[derive(Debug, Clone)]
pub struct Flush {
    /// What would be hashed.
    pub file: Check,
    /// What is there once it is flushed.
    ranges: Ranges,
}

/// A file on its way, as far as memory needs it.
pub(super) struct PartialFile {
    pub(super) manifest: Manifest,
    pub(super) ranges: Ranges,
    /// It was moved and is not listed.
    pub(super) target: Option<String>,
    /// Bytes and chunks that no flush has covered.
    pub(super) unflushed: (u64, u32),
    /// Chunks since the last `have`.
    chunks: u32,
    /// Since when it is being checked, seconds.
    checking: Option<i64>,
    flushing: bool,
    /// It was just read from the index, or the disk refused some of it since the last `init`: what is missing is nobody's fault but ours.
    doubtful: bool,
    pub(super) turn: u64,
    used: u64,
}

impl PartialFile {
    pub(super) fn have(&self, fid: &str) -> Ack {
        let missing = self.ranges.missing(0, self.manifest.size, HOLES_MAX);
        let upto = self.ranges.upto(0);
        let missing = if missing == [(upto, self.manifest.size)] { Vec::new() } else { missing };
        Ack::Have { fid: fid.to_owned(), upto, missing }
    }
}

pub(super) fn partial((site, fid): &Key) -> String {
    format!("partial/{site}-{fid}.part")
}

impl Archive {
    pub(super) fn file(&mut self, key: Key, verb: &str, payload: &[u8], now: Now<'_>) -> anyhow::Result<IngestOutcome> {
        if !self.parts.contains_key(&key)
            && let Some(sha256) = self.stored(&key)?
        {
            return Ok(IngestOutcome::ack(Ack::Stored { fid: key.1, sha256 }));
        }
        self.touched.push(key.clone());
        let known = self.load(&key)?;
        match verb {
            "init" => self.init(&key, payload, now),
            _ if !known => Ok(IngestOutcome::default()),
            "fin" => Ok(self.fin(&key, now)),
            "abort" => {
                self.drop_part(&key)?;
                Ok(IngestOutcome {
                    line: Some(format!("{}  file {} given up by the box", key.0, key.1)),
                    ..IngestOutcome::default()
                })
            }
            _ => Ok(self.chunk(&key, verb, payload)),
        }
    }

    fn stored(&self, (site, fid): &Key) -> anyhow::Result<Option<Digest>> {
        let mut query = self.index.db.prepare_cached("SELECT sha256 FROM files WHERE site = ?1 AND fid = ?2")?;
        let hex: Option<String> = query.query_row(params![site.as_str(), fid], |row| row.get(0)).optional()?;
        Ok(hex.and_then(|hex| Digest::from_hex(&hex)))
    }

    /// Reads from index and disk what is known of a file on its way; false when nothing is.
    fn load(&mut self, key: &Key) -> anyhow::Result<bool> {
        if let Some(part) = self.parts.get_mut(key) {
            self.turns += 1;
            part.used = self.turns;
            return Ok(true);
        }
        let query = "SELECT manifest, ranges, target FROM parts WHERE site = ?1 AND fid = ?2";
        let row: Option<(Vec<u8>, String, Option<String>)> = self
            .index
            .db
            .query_row(query, params![key.0.as_str(), key.1], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((manifest, ranges, target)) = row else {
            return Ok(false);
        };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&manifest) else {
            return Ok(false);
        };
        let mut ranges: Ranges = serde_json::from_str(&ranges).unwrap_or_default();
        let mut moved = None;
        match self.files.size(&partial(key))? {
            Some(len) => ranges.cut(len.min(manifest.size)),
            None => {
                ranges = Ranges::default();
                if let Some(target) = target
                    && self.files.size(&target)?.is_some()
                {
                    ranges.add(0, manifest.size);
                    moved = Some(target);
                }
            }
        }
        self.remember(key.clone(), manifest, ranges, moved);
        Ok(true)
    }

    fn remember(&mut self, key: Key, manifest: Manifest, ranges: Ranges, target: Option<String>) {
        if self.parts.len() >= PARTS_IN_MEMORY {
            let idle = self.parts.iter().filter(|(_, part)| part.checking.is_none());
            let oldest = idle.min_by_key(|(_, part)| part.used).map(|(key, _)| key.clone());
            oldest.map(|oldest| self.parts.remove(&oldest));
        }
        self.turns += 1;
        let (turn, used) = (self.turns, self.turns);
        let part = PartialFile {
            manifest,
            ranges,
            target,
            unflushed: (0, 0),
            chunks: 0,
            checking: None,
            flushing: false,
            doubtful: true,
            turn,
            used,
        };
        self.parts.insert(key, part);
    }

    fn init(&mut self, key: &Key, payload: &[u8], now: Now<'_>) -> anyhow::Result<IngestOutcome> {
        let (site, fid) = key;
        let manifest = match acceptable(site, fid, payload) {
            Ok(manifest) => manifest,
            Err(reason) => {
                let ack = Some(Ack::Refused { fid: fid.clone(), reason: reason.clone() });
                let complaint = Some(("refused files", format!("{fid}: {reason}")));
                return Ok(IngestOutcome { ack, complaint, ..IngestOutcome::default() });
            }
        };
        if !self.parts.contains_key(key) {
            if !self.make_room(key, manifest.size)? {
                let complaint = Some(("files beyond the bound", format!("{fid}: {PARTS_MAX} files are being checked")));
                return Ok(IngestOutcome { complaint, ..IngestOutcome::default() });
            }
            self.index.change(
                "INSERT OR REPLACE INTO parts (site, fid, manifest, ranges, size, touched) VALUES (?1, ?2, ?3, '[]', ?4, ?5)",
                params![site.as_str(), fid, manifest.bytes(), manifest.size, now.1],
            )?;
            // What was dropped under this id and not yet removed is written over.
            self.index.change("DELETE FROM removals WHERE path = ?1", [partial(key)])?;
            self.remember(key.clone(), manifest, Ranges::default(), None);
        } else {
            self.index
                .change("UPDATE parts SET touched = ?3 WHERE site = ?1 AND fid = ?2", params![site.as_str(), fid, now.1])?;
        }
        self.parts.get_mut(key).into_iter().for_each(|part| part.doubtful = false);
        let moved = self.parts.get(key).is_some_and(|part| part.target.is_some());
        Ok(if moved {
            self.fin(key, now)
        } else {
            IngestOutcome { ack: self.parts.get(key).map(|p| p.have(fid)), ..IngestOutcome::default() }
        })
    }

    /// Gives up the oldest unfinished files of a site that has too many, or too many bytes of them; false when none can go.
    fn make_room(&mut self, (site, _): &Key, size: u64) -> anyhow::Result<bool> {
        let sum = "SELECT count(*), coalesce(sum(size), 0) FROM parts WHERE site = ?1 AND target IS NULL";
        let (mut files, mut bytes): (usize, u64) =
            self.index.db.query_row(sum, [site.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let full = |files: usize, bytes: u64| files >= PARTS_MAX || bytes.saturating_add(size) > PARTS_BYTES;
        if !full(files, bytes) {
            return Ok(true);
        }
        for (fid, part) in self.idle_parts(site)? {
            self.drop_part(&(site.clone(), fid))?;
            (files, bytes) = (files - 1, bytes - part);
            if !full(files, bytes) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The unfinished files of a site that are not being checked, and their sizes, oldest first.
    pub(super) fn idle_parts(&self, site: &SiteId) -> anyhow::Result<Vec<(String, u64)>> {
        let query = "SELECT fid, size FROM parts WHERE site = ?1 AND target IS NULL ORDER BY touched, rowid";
        let mut query = self.index.db.prepare_cached(query)?;
        let parts: Vec<(String, u64)> =
            query.query_map([site.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        let idle =
            |(fid, _): &(String, u64)| self.parts.get(&(site.clone(), fid.clone())).is_none_or(|part| part.checking.is_none());
        Ok(parts.into_iter().filter(idle).collect())
    }

    fn chunk(&mut self, key: &Key, offset: &str, payload: &[u8]) -> IngestOutcome {
        let path = partial(key);
        let (Some(part), Ok(offset)) = (self.parts.get_mut(key), offset.parse::<u64>()) else {
            return IngestOutcome::default();
        };
        let end = offset.saturating_add(payload.len() as u64);
        if end > part.manifest.size || part.checking.is_some() || part.target.is_some() || payload.is_empty() {
            return IngestOutcome::default();
        }
        let complain = |kind, detail: String| IngestOutcome { complaint: Some((kind, detail)), ..IngestOutcome::default() };
        if part.ranges.pieces() >= PIECES_MAX && !part.ranges.touches(offset, end) {
            return complain("files in too many pieces", format!("{}: more than {PIECES_MAX}", key.1));
        }
        // What a refused write left behind is in no range, and is sent again.
        if let Err(error) = self.files.write_at(&path, offset, payload) {
            part.doubtful = true;
            return complain(BYTES_REFUSED, error.to_string());
        }
        part.ranges.add(offset, end);
        part.unflushed = (part.unflushed.0 + payload.len() as u64, part.unflushed.1 + 1);
        part.chunks += 1;
        let mut outcome = IngestOutcome::default();
        if part.chunks >= HAVE_EVERY || part.ranges.is_whole(part.manifest.size) {
            part.chunks = 0;
            outcome.ack = Some(part.have(&key.1));
        }
        if (part.unflushed.0 >= FLUSH_BYTES || part.unflushed.1 >= FLUSH_CHUNKS) && !part.flushing {
            let file = Check { site: key.0.clone(), fid: key.1.clone(), path, turn: part.turn };
            outcome.flush = Some(Flush { file, ranges: part.ranges.clone() });
        }
        outcome
    }

    /// A file that is all there is to be checked; the rest is asked for otherwise.
    fn fin(&mut self, key: &Key, now: Now<'_>) -> IngestOutcome {
        let early = self.switch.disables(IngestRule::CommitBeforeMemory);
        let Some(part) = self.parts.get_mut(key).filter(|part| part.checking.is_none()) else {
            return IngestOutcome::default();
        };
        if !part.ranges.is_whole(part.manifest.size) {
            // A device gives a file up for good when all of it is asked for five times. It begins again when it hears nothing.
            return if part.doubtful { IngestOutcome::default() } else { IngestOutcome::ack(part.have(&key.1)) };
        }
        part.checking = early.then_some(now.1);
        IngestOutcome { check: Some(check_of(key, part)), ..IngestOutcome::default() }
    }

    /// After COMMIT: what is being checked and flushed is remembered.
    pub(super) fn apply_outcome(&mut self, outcome: &IngestOutcome, now: i64) {
        if let Some(check) = &outcome.check
            && let Some(part) = self.part_of(check)
        {
            part.checking = Some(now);
        }
        if let Some(flush) = &outcome.flush
            && let Some(part) = self.part_of(&flush.file)
        {
            (part.flushing, part.unflushed) = (true, (0, 0));
        }
    }

    fn part_of(&mut self, check: &Check) -> Option<&mut PartialFile> {
        self.parts.get_mut(&(check.site.clone(), check.fid.clone())).filter(|part| part.turn == check.turn)
    }

    /// Nobody could be found to hash it now: the device says `fin` again.
    pub fn unchecked(&mut self, check: &Check) {
        if let Some(part) = self.part_of(check) {
            (part.checking, part.flushing) = (None, false);
        }
    }

    /// Some of a file was flushed, or could not be.
    ///
    /// # Errors
    /// When the index refuses: then memory is read again from it.
    pub fn flushed(&mut self, flush: &Flush, flushed: &std::io::Result<()>, now: i64) -> anyhow::Result<()> {
        let Check { site, fid, .. } = &flush.file;
        let Some(part) = self.part_of(&flush.file) else {
            return Ok(());
        };
        part.flushing = false;
        let kept = match flushed {
            Ok(()) => serde_json::to_string(&flush.ranges).map_err(anyhow::Error::from).and_then(|ranges| {
                self.index.within(|index| {
                    index.change(
                        "UPDATE parts SET ranges = ?3, touched = ?4 WHERE site = ?1 AND fid = ?2 AND target IS NULL",
                        params![site.as_str(), fid, ranges, now],
                    )
                })
            }),
            Err(error) => Err(anyhow::anyhow!("a flush failed: {error}")),
        };
        if kept.is_err() {
            // Only what the index says was flushed counts; the rest is asked for again.
            self.parts.remove(&(site.clone(), fid.clone()));
        }
        kept.map(|_| ())
    }

    /// The digest of a file, flushed before it was read: puts the file in its place and says so, or asks for all of it again. Without
    /// a digest nothing is known: nothing is said, and the device tries again.
    ///
    /// # Errors
    /// When the disk or the index refuses: then there is no receipt, and the device sends again.
    pub fn checked(
        &mut self,
        check: &Check,
        digest: &Result<Digest, DigestError>,
        now: Now<'_>,
    ) -> anyhow::Result<IngestOutcome> {
        let key = (check.site.clone(), check.fid.clone());
        let Some(part) = self.part_of(check).filter(|part| part.checking.is_some()) else {
            return Ok(IngestOutcome::default());
        };
        part.checking = None;
        let right = digest.as_ref().map(|digest| *digest == part.manifest.sha256);
        let lost = match (right, &digest) {
            (Err(_), Err(DigestError::Read(error))) => error.kind() == std::io::ErrorKind::NotFound,
            (right, _) => right.is_err(),
        };
        let done = match right {
            Ok(true) => self.commit_file(&key, now),
            Err(_) if !self.switch.disables(IngestRule::ErrorIsNoDigest) => {
                let complaint =
                    digest.as_ref().err().map(|error| ("files the disk does not give", format!("{}: {error}", key.1)));
                Ok(IngestOutcome { complaint, ..IngestOutcome::default() })
            }
            _ => self.refill(&key),
        };
        if (done.is_err() || lost) && !self.switch.disables(IngestRule::CommitBeforeMemory) {
            self.parts.remove(&key);
        }
        done
    }

    /// Forgets an unfinished file; its bytes go after COMMIT ([`Archive::sweep`]).
    pub(super) fn drop_part(&mut self, key: &Key) -> anyhow::Result<()> {
        let (site, fid) = key;
        let remove =
            "INSERT OR IGNORE INTO removals SELECT target FROM parts WHERE site = ?1 AND fid = ?2 AND target IS NOT NULL";
        self.index.change(remove, params![site.as_str(), fid])?;
        self.index.change("INSERT OR IGNORE INTO removals VALUES (?1)", [partial(key)])?;
        self.index.change("DELETE FROM parts WHERE site = ?1 AND fid = ?2", params![site.as_str(), fid])?;
        self.parts.remove(key);
        Ok(())
    }

    /// What an office does first: finds what a kill left, and gives the files whose move was cut short, to be checked.
    ///
    /// # Errors
    /// When index or disk cannot be read.
    pub fn moves(&mut self, now: Now<'_>) -> anyhow::Result<Vec<Check>> {
        self.find_left_parts()?;
        let mut query = self.index.db.prepare("SELECT site, fid FROM parts WHERE target IS NOT NULL")?;
        let moving: Vec<(String, String)> =
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        drop(query);
        let mut checks = Vec::new();
        for key in moving.into_iter().filter_map(|(site, fid)| Some((SiteId::parse(&site).ok()?, fid))) {
            if !self.load(&key)? {
                continue;
            }
            let Some(part) = self.parts.get_mut(&key).filter(|part| part.target.is_some() && part.checking.is_none()) else {
                continue;
            };
            if self.switch.disables(IngestRule::HashAtTakeUp) {
                self.commit_file(&key, now)?;
                continue;
            }
            part.checking = Some(now.1);
            checks.push(check_of(&key, part));
        }
        Ok(checks)
    }

    /// Checks that had no answer for a minute: they are asked for again.
    pub fn overdue(&mut self, now: i64) -> Vec<Check> {
        let late = |part: &&mut PartialFile| part.checking.is_some_and(|since| now - since >= CHECK_WITHIN);
        let again = self.parts.iter_mut().filter(|(_, part)| late(part));
        again
            .map(|(key, part)| {
                part.checking = Some(now);
                check_of(key, part)
            })
            .collect()
    }
}

fn check_of(key: &Key, part: &PartialFile) -> Check {
    let path = part.target.clone().unwrap_or_else(|| partial(key));
    Check { site: key.0.clone(), fid: key.1.clone(), path, turn: part.turn }
}

/// The manifest in an `init`, or why it is refused.
fn acceptable(site: &SiteId, fid: &str, payload: &[u8]) -> Result<Manifest, String> {
    if payload.len() > MANIFEST_MAX {
        return Err(format!("the manifest has {} bytes, and at most {MANIFEST_MAX} are taken", payload.len()));
    }
    // The error names the field.
    let manifest: Manifest = serde_json::from_slice(payload).map_err(|error| format!("the manifest cannot be read: {error}"))?;
    let wrong = |field: &str, what: &str| Err(format!("`{field}` of the manifest {what}"));
    if Digest::of(payload).hex()[..32] != *fid {
        return Err("the manifest does not match its id".to_owned());
    }
    if manifest.site != site.as_str() {
        return wrong("site", "is not the site that sends it");
    }
    if !(1..=FILE_MAX).contains(&manifest.size) {
        return wrong("size", "is not within 1 byte and 2 GiB");
    }
    if !is_safe(&manifest.name) {
        return wrong("name", "is not 1 to 120 of a-z 0-9 . _ -, or begins with a dot or dash");
    }
    if manifest.event.len() > 64 {
        return wrong("event", "is longer than 64 bytes");
    }
    if [&manifest.from, &manifest.to].iter().any(|time| time.len() > 40) {
        return wrong("from` or `to", "is longer than 40 bytes");
    }
    if [manifest.records.0, manifest.records.1].iter().any(|number| i64::try_from(*number).is_err()) {
        return wrong("records", "has a number over 2^63 - 1");
    }
    Ok(manifest)
}

/// A file name that stays in its directory.
fn is_safe(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=120).contains(&name.len()) && name.bytes().all(good) && !name.starts_with(['.', '-'])
}
