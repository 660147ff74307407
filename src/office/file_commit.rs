//! Commit of a checked file: target, move, directories, list, receipt.
//!
//! Each step is durable before the next one. A file with a wrong SHA-256 is requested again
//! instead.

use rusqlite::params;

use super::archive::Archive;
use super::change::Change;
use super::error::ArchiveError;
use super::ingest_outcome::{IngestOutcome, Now};
use super::notice::{Fault, Notice};
use super::part_cache::{Key, Unflushed, partial};
use super::range_set::Ranges;
use super::safeguards::IngestRule;
use crate::units::WallTime;
use crate::uplink::wire::{Ack, Manifest};

/// Microseconds that a device's clock may be ahead of the office's.
const AHEAD_MAX: i64 = 86_400_000_000;

impl Archive {
    /// Requests all bytes of a file again. New bytes overwrite the old ones; the file is not
    /// truncated.
    pub(super) fn refill(&mut self, key: &Key) -> Result<IngestOutcome, ArchiveError> {
        let (site, fid) = key;
        let target = self.parts.get(key).and_then(|part| part.target.clone());
        self.index.within(|index| {
            let clear =
                "UPDATE parts SET ranges = '[]', target = NULL WHERE site = ?1 AND fid = ?2";
            index.change(clear, params![site.as_str(), fid])?;
            target.iter().try_for_each(|path| {
                index.change("INSERT OR IGNORE INTO removals VALUES (?1)", [path]).map(|_| ())
            })
        })?;
        self.turns += 1;
        let turn = self.turns;
        let ack = self.parts.get_mut(key).map(|part| {
            part.ranges = Ranges::default();
            part.target = None;
            part.unflushed = Unflushed::default();
            part.turn = turn;
            part.have(fid)
        });
        Ok(IngestOutcome { ack, ..IngestOutcome::fault(Fault::DigestMismatch, fid.clone()) })
    }

    /// Commits a file with the right SHA-256: target, move, list, receipt.
    pub(super) fn commit_file(
        &mut self,
        key: &Key,
        now: Now<'_>,
    ) -> Result<IngestOutcome, ArchiveError> {
        let Some(part) = self.parts.get(key) else {
            return Ok(IngestOutcome::default());
        };
        let (manifest, moved) = (part.manifest.clone(), part.target.clone());
        let (site, fid) = key;
        let target = match &moved {
            Some(target) => target.clone(),
            None => self.free_target(key, &manifest, now)?,
        };
        let list_first = self.switch.disables(IngestRule::MoveFirst);
        if list_first {
            self.list(key, &manifest, &target, now)?;
        }
        if moved.is_none() {
            if !self.switch.disables(IngestRule::TargetFirst) && !list_first {
                let set = "UPDATE parts SET target = ?3 WHERE site = ?1 AND fid = ?2";
                self.index
                    .within(|index| index.change(set, params![site.as_str(), fid, target]))?;
            }
            self.files.make_dir(dir_of(&target))?;
            self.files.rename(&partial(key), &target)?;
        }
        if !list_first {
            let mut dir = target.as_str();
            while !dir_of(dir).is_empty() {
                dir = dir_of(dir);
                self.files.flush_dir(dir)?;
            }
            self.list(key, &manifest, &target, now)?;
        }
        self.parts.remove(key);
        let ack = Some(Ack::Stored { fid: fid.clone(), sha256: manifest.sha256 });
        let (purpose, path) = (purpose_name(&manifest), self.dir.join(&target));
        let change = Some(Change::File {
            site: site.to_string(),
            fid: fid.clone(),
            purpose: purpose.clone(),
            event: manifest.event.clone(),
        });
        let notice = Some(Notice::File { site: site.clone(), purpose, size: manifest.size, path });
        Ok(IngestOutcome { ack, notice, change, ..IngestOutcome::default() })
    }

    /// A path that neither disk nor index uses.
    fn free_target(
        &self,
        (site, fid): &Key,
        manifest: &Manifest,
        now: Now<'_>,
    ) -> Result<String, ArchiveError> {
        let (from, _) = clamped(&manifest.from, now);
        let day = format!("files/{site}/{}", day_of(&from));
        let name = &manifest.name;
        for target in [
            format!("{day}/{name}"),
            format!("{day}/{}-{name}", &fid[..8]),
            format!("{day}/{fid}-{name}"),
        ] {
            let query = "SELECT EXISTS (SELECT 1 FROM files WHERE path = ?1 AND gone IS NULL)
                OR EXISTS (SELECT 1 FROM parts WHERE target = ?1 AND (site != ?2 OR fid != ?3))
                OR EXISTS (SELECT 1 FROM removals WHERE path = ?1)";
            let taken: bool =
                self.index
                    .db
                    .query_row(query, params![target, site.as_str(), fid], |row| row.get(0))?;
            if !taken && self.files.size(&target)?.is_none() {
                return Ok(target);
            }
        }
        Err(ArchiveError::Exists(format!("{day}: all names for file {fid} are in use")))
    }

    /// Lists a moved file in the index.
    fn list(
        &self,
        (site, fid): &Key,
        manifest: &Manifest,
        path: &str,
        now: Now<'_>,
    ) -> Result<(), ArchiveError> {
        let (purpose, sha256) = (purpose_name(manifest), manifest.sha256.hex());
        let ((from, early), (to, late)) =
            (clamped(&manifest.from, now), clamped(&manifest.to, now));
        let claimed = (early || late).then(|| format!("{}/{}", manifest.from, manifest.to));
        self.index.within(|index| {
            index.change(
                "INSERT OR IGNORE INTO files (site, fid, name, path, purpose, event, size, sha256, start, end, manifest, received,
                 claimed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
                params![
                    site.as_str(),
                    fid,
                    manifest.name,
                    path,
                    purpose,
                    manifest.event,
                    manifest.size,
                    sha256,
                    from,
                    to,
                    manifest.bytes(),
                    now.text,
                    claimed
                ],
            )?;
            index.change("DELETE FROM parts WHERE site = ?1 AND fid = ?2", params![site.as_str(), fid])
        })?;
        Ok(())
    }
}

/// A device's time, at most a day ahead of the receipt; true when it was changed. An old time
/// stays: footage may be as old as the ring.
fn clamped(time: &str, now: Now<'_>) -> (String, bool) {
    let latest = WallTime::parse(now.text).map(|now| now.plus_micros(AHEAD_MAX));
    match (WallTime::parse(time), latest) {
        (Ok(time), Ok(latest)) if time > latest => (latest.rfc3339(), true),
        (Ok(time), _) => (time.rfc3339(), false),
        (Err(_), _) => (now.text.to_owned(), true),
    }
}

fn purpose_name(manifest: &Manifest) -> String {
    format!("{:?}", manifest.purpose).to_lowercase()
}

/// The directory of a key; empty at the top.
fn dir_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The date of an RFC 3339 time; `undated` for other text.
fn day_of(time: &str) -> String {
    let day: String = time.chars().take(10).collect();
    let good = day.len() == 10 && day.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if good { day } else { "undated".into() }
}
