//! ⇄ The last steps of a file, each durable before the next: target, move, directories, list. Then it is receipted. Or, when its digest is
//! not right, the first step again.
//!
//! What belongs here: putting a checked file in its place. What does not: how its bytes came ([`super::partial_files`]).

use rusqlite::params;

use super::archive::{Archive, IngestOutcome, Now};
use super::partial_files::{Key, partial};
use super::range_set::Ranges;
use super::safeguards::IngestRule;
use crate::units::WallTime;
use crate::uplink::wire::{Ack, Manifest};

/// A device's clock may be ahead of the office's by so many microseconds.
const AHEAD_MAX: i64 = 86_400_000_000;

impl Archive {
    /// Every byte of a file is asked for again. Those that are here are written over, not cut off.
    pub(super) fn refill(&mut self, key: &Key) -> anyhow::Result<IngestOutcome> {
        let (site, fid) = key;
        let target = self.parts.get(key).and_then(|part| part.target.clone());
        self.index.within(|index| {
            let clear = "UPDATE parts SET ranges = '[]', target = NULL WHERE site = ?1 AND fid = ?2";
            index.change(clear, params![site.as_str(), fid])?;
            target.iter().try_for_each(|path| index.change("INSERT OR IGNORE INTO removals VALUES (?1)", [path]).map(|_| ()))
        })?;
        self.turns += 1;
        let turn = self.turns;
        let ack = self.parts.get_mut(key).map(|part| {
            (part.ranges, part.target, part.unflushed, part.turn) = (Ranges::default(), None, (0, 0), turn);
            part.have(fid)
        });
        let complaint = Some(("files with another digest", fid.clone()));
        Ok(IngestOutcome { ack, complaint, ..IngestOutcome::default() })
    }

    /// Puts a file whose digest is right in its place: target, move, list, receipt.
    pub(super) fn commit_file(&mut self, key: &Key, now: Now<'_>) -> anyhow::Result<IngestOutcome> {
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
                self.index.within(|index| index.change(set, params![site.as_str(), fid, target]))?;
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
        let line = format!(
            "{site}  {} of {} bytes, hash checked: {}",
            purpose_name(&manifest),
            manifest.size,
            self.dir.join(&target).display()
        );
        let ack = Some(Ack::Stored { fid: fid.clone(), sha256: manifest.sha256 });
        Ok(IngestOutcome { ack, line: Some(line), ..IngestOutcome::default() })
    }

    /// A place for a file that is nobody else's, on the disk or in the index.
    fn free_target(&self, (site, fid): &Key, manifest: &Manifest, now: Now<'_>) -> anyhow::Result<String> {
        let (from, _) = clamped(&manifest.from, now);
        let day = format!("files/{site}/{}", day_of(&from));
        let name = &manifest.name;
        for target in [format!("{day}/{name}"), format!("{day}/{}-{name}", &fid[..8]), format!("{day}/{fid}-{name}")] {
            let query = "SELECT EXISTS (SELECT 1 FROM files WHERE path = ?1 AND gone IS NULL)
                OR EXISTS (SELECT 1 FROM parts WHERE target = ?1 AND (site != ?2 OR fid != ?3))
                OR EXISTS (SELECT 1 FROM removals WHERE path = ?1)";
            let taken: bool = self.index.db.query_row(query, params![target, site.as_str(), fid], |row| row.get(0))?;
            if !taken && self.files.size(&target)?.is_none() {
                return Ok(target);
            }
        }
        anyhow::bail!("{day}: there is no free name for {fid}")
    }

    /// Lists a file that lies in its place.
    fn list(&self, (site, fid): &Key, manifest: &Manifest, path: &str, now: Now<'_>) -> anyhow::Result<()> {
        let (purpose, sha256) = (purpose_name(manifest), manifest.sha256.hex());
        let ((from, early), (to, late)) = (clamped(&manifest.from, now), clamped(&manifest.to, now));
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
                    now.0,
                    claimed
                ],
            )?;
            index.change("DELETE FROM parts WHERE site = ?1 AND fid = ?2", params![site.as_str(), fid])
        })?;
        Ok(())
    }
}

/// A device's time, never more than a day ahead of the receipt: true when it was. Footage may be as old as its ring.
fn clamped(time: &str, now: Now<'_>) -> (String, bool) {
    let latest = WallTime::parse(now.0).map(|now| now.plus_micros(AHEAD_MAX));
    match (WallTime::parse(time), latest) {
        (Ok(time), Ok(latest)) if time > latest => (latest.rfc3339(), true),
        (Ok(time), _) => (time.rfc3339(), false),
        (Err(_), _) => (now.0.to_owned(), true),
    }
}

fn purpose_name(manifest: &Manifest) -> String {
    format!("{:?}", manifest.purpose).to_lowercase()
}

/// The directory a key lies in; empty for one at the top.
fn dir_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The date of an RFC 3339 time, `undated` when it is none.
fn day_of(time: &str) -> String {
    let day: String = time.chars().take(10).collect();
    let good = day.len() == 10 && day.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if good { day } else { "undated".into() }
}
