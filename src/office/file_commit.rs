//! Commit of a checked file: target, move, directories, list, receipt.
//!
//! Each step is durable before the next one. A file with a wrong SHA-256 is requested again
//! instead.

use super::archive::Archive;
use super::change::Change;
use super::error::ArchiveError;
use super::ingest_outcome::{IngestOutcome, Now};
use super::notice::{Fault, Notice};
use super::part_cache::{Key, Unflushed, partial};
use super::range_set::Ranges;
use super::safeguards::IngestRule;
use super::store::file_key;
use super::store::index::NewFile;
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
            index.clear_part(site.as_str(), fid)?;
            target.iter().try_for_each(|key| index.insert_removal(key))
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
                self.index.within(|index| index.set_part_target(site.as_str(), fid, &target))?;
            }
            self.files.put(&partial(key), &target)?;
        } else if !list_first {
            self.files.settle(&target)?;
        }
        if !list_first {
            self.list(key, &manifest, &target, now)?;
        }
        self.parts.remove(key);
        let ack = Some(Ack::Stored { fid: fid.clone(), sha256: manifest.sha256 });
        let (purpose, path) = (purpose_name(&manifest), self.files.location(&target));
        let change = Some(Change::File {
            site: site.to_string(),
            fid: fid.clone(),
            purpose: purpose.clone(),
            event: manifest.event.clone(),
        });
        let notice = Some(Notice::File { site: site.clone(), purpose, size: manifest.size, path });
        Ok(IngestOutcome { ack, notice, change, ..IngestOutcome::default() })
    }

    /// A key that neither file store nor index uses.
    fn free_target(
        &self,
        (site, fid): &Key,
        manifest: &Manifest,
        now: Now<'_>,
    ) -> Result<String, ArchiveError> {
        let (from, _) = clamped(&manifest.from, now);
        let day = day_of(&from);
        for target in file_key::finished(site.as_str(), &day, &manifest.name, fid) {
            let is_taken = self.index.is_key_taken(&target, site.as_str(), fid)?;
            if !is_taken && self.files.size(&target)?.is_none() {
                return Ok(target);
            }
        }
        Err(ArchiveError::Exists(format!("{site}, {day}: all names for file {fid} are in use")))
    }

    /// Lists a moved file in the index.
    fn list(
        &self,
        (site, fid): &Key,
        manifest: &Manifest,
        target: &str,
        now: Now<'_>,
    ) -> Result<(), ArchiveError> {
        let (purpose, sha256) = (purpose_name(manifest), manifest.sha256.hex());
        let ((from, early), (to, late)) =
            (clamped(&manifest.from, now), clamped(&manifest.to, now));
        let claimed = (early || late).then(|| format!("{}/{}", manifest.from, manifest.to));
        let file = NewFile {
            site: site.as_str(),
            fid,
            name: &manifest.name,
            key: target,
            purpose: &purpose,
            event: &manifest.event,
            size: manifest.size,
            sha256: &sha256,
            start: &from,
            end: &to,
            manifest: &manifest.bytes(),
            received: now.text,
            claimed: claimed.as_deref(),
        };
        self.index.within(|index| index.insert_file(&file))
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

/// The date of an RFC 3339 time; `undated` for other text.
fn day_of(time: &str) -> String {
    let day: String = time.chars().take(10).collect();
    let good = day.len() == 10 && day.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if good { day } else { "undated".into() }
}
