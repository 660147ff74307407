//! Unfinished files: manifest, chunks, flushed ranges, check of the SHA-256.
//!
//! The file store gathers the bytes; the index holds the ranges that are flushed. A complete file is flushed and hashed on a thread of its own ([`super::archive_thread`]) and then
//! moved into place and receipted ([`super::file_commit`]). After a failure or a power cut between
//! any two steps, index and disk alone give the state of the file. The state in memory is a cache
//! of the index; a failure drops it.

use super::archive::Archive;
use super::error::{ArchiveError, Named as _, is_full};
use super::ingest_outcome::{Complaint, IngestOutcome, Now};
use super::manifest_check::{FILE_MAX, check_manifest};
use super::notice::{Fault, Notice};
use super::part_cache::{Check, Flush, Key, PartialFile, Unflushed, partial};
use super::range_set::Ranges;
use super::safeguards::IngestRule;
use super::store::file_store::DigestError;
use super::store::index::StoredPart;
use crate::units::{Digest, SiteId};
use crate::uplink::wire::{Ack, Manifest};

/// Unfinished files of one site at most, counted in the index; the oldest one is dropped.
pub const PARTS_MAX: usize = 64;
/// Bytes of the unfinished files of one site at most, counted with their final sizes: announced
/// files must not fill the disk. Four of the largest; a device sends two at a time.
const PARTS_BYTES: u64 = 4 * FILE_MAX;
/// Unfinished files cached in memory at most; the index knows all of them.
const PARTS_IN_MEMORY: usize = 4096;
/// Separate ranges of one unfinished file at most. A device sends a file from start to end and then
/// the ranges that were lost.
const PIECES_MAX: usize = 1024;
/// Chunks between two `have`: small against the sender's window of 1 MiB unconfirmed bytes.
const HAVE_EVERY: u32 = 4;
/// Unflushed bytes or chunks after which a file is flushed. A power cut loses no more of it.
const FLUSH_BYTES: u64 = 1 << 20;
const FLUSH_CHUNKS: u32 = 256;
/// Seconds after which a check without a result is repeated.
pub const CHECK_WITHIN: i64 = 60;

impl Archive {
    pub(super) fn file(
        &mut self,
        key: Key,
        verb: &str,
        payload: &[u8],
        now: Now<'_>,
    ) -> Result<IngestOutcome, ArchiveError> {
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
                let (site, fid) = key;
                Ok(IngestOutcome {
                    notice: Some(Notice::FileAborted { site, fid }),
                    ..IngestOutcome::default()
                })
            }
            _ => Ok(self.chunk(&key, verb, payload)),
        }
    }

    fn stored(&self, (site, fid): &Key) -> Result<Option<Digest>, ArchiveError> {
        let hex = self.index.stored_digest(site.as_str(), fid)?;
        Ok(hex.and_then(|hex| Digest::from_hex(&hex)))
    }

    /// Fills the cache from index and disk; false for an unknown file.
    fn load(&mut self, key: &Key) -> Result<bool, ArchiveError> {
        if let Some(part) = self.parts.get_mut(key) {
            self.turns += 1;
            part.used = self.turns;
            return Ok(true);
        }
        let part = self.index.part(key.0.as_str(), &key.1)?;
        let Some(StoredPart { manifest, ranges, target }) = part else {
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
            unflushed: Unflushed::default(),
            chunks: 0,
            checking: None,
            is_flushing: false,
            is_doubtful: true,
            turn,
            used,
        };
        self.parts.insert(key, part);
    }

    fn init(
        &mut self,
        key: &Key,
        payload: &[u8],
        now: Now<'_>,
    ) -> Result<IngestOutcome, ArchiveError> {
        let (site, fid) = key;
        let manifest = match check_manifest(site, fid, payload) {
            Ok(manifest) => manifest,
            Err(reason) => {
                let ack = Some(Ack::Refused { fid: fid.clone(), reason: reason.clone() });
                let rejected =
                    IngestOutcome::fault(Fault::ManifestInvalid, format!("{fid}: {reason}"));
                return Ok(IngestOutcome { ack, ..rejected });
            }
        };
        if !self.parts.contains_key(key) {
            if !self.make_room(key, manifest.size)? {
                let detail = format!("{fid}: {PARTS_MAX} files are being checked");
                return Ok(IngestOutcome::fault(Fault::TooManyParts, detail));
            }
            // New bytes overwrite those of a dropped file with the same id.
            let Manifest { size, .. } = manifest;
            self.index.insert_part(site.as_str(), fid, &manifest.bytes(), size, now.seconds)?;
            self.remember(key.clone(), manifest, Ranges::default(), None);
        } else {
            self.index.touch_part(site.as_str(), fid, now.seconds)?;
        }
        self.parts.get_mut(key).into_iter().for_each(|part| part.is_doubtful = false);
        let moved = self.parts.get(key).is_some_and(|part| part.target.is_some());
        Ok(if moved {
            self.fin(key, now)
        } else {
            IngestOutcome {
                ack: self.parts.get(key).map(|p| p.have(fid)),
                ..IngestOutcome::default()
            }
        })
    }

    /// Drops the oldest unfinished files of a site until one of `size` bytes fits; false when the
    /// others are being checked.
    fn make_room(&mut self, (site, _): &Key, size: u64) -> Result<bool, ArchiveError> {
        let (mut files, mut bytes) = self.index.sum_of_parts(site.as_str())?;
        let full = |files: usize, bytes: u64| {
            files >= PARTS_MAX || bytes.saturating_add(size) > PARTS_BYTES
        };
        if !full(files, bytes) {
            return Ok(true);
        }
        for (fid, part) in self.idle_parts(site)? {
            self.drop_part(&(site.clone(), fid))?;
            files -= 1;
            bytes -= part;
            if !full(files, bytes) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ids and sizes of the site's unfinished files that are not being checked, oldest first.
    pub(super) fn idle_parts(&self, site: &SiteId) -> Result<Vec<(String, u64)>, ArchiveError> {
        let parts = self.index.parts_by_age(site.as_str())?;
        let idle = |(fid, _): &(String, u64)| {
            self.parts.get(&(site.clone(), fid.clone())).is_none_or(|part| part.checking.is_none())
        };
        Ok(parts.into_iter().filter(idle).collect())
    }

    fn chunk(&mut self, key: &Key, offset: &str, payload: &[u8]) -> IngestOutcome {
        let path = partial(key);
        let (Some(part), Ok(offset)) = (self.parts.get_mut(key), offset.parse::<u64>()) else {
            return IngestOutcome::default();
        };
        let end = offset.saturating_add(payload.len() as u64);
        if end > part.manifest.size
            || part.checking.is_some()
            || part.target.is_some()
            || payload.is_empty()
        {
            return IngestOutcome::default();
        }
        if part.ranges.pieces() >= PIECES_MAX && !part.ranges.touches(offset, end) {
            return IngestOutcome::fault(
                Fault::TooManyPieces,
                format!("{}: more than {PIECES_MAX}", key.1),
            );
        }
        // Bytes of a failed write are in no range, so the device sends them again.
        if let Err(error) = self.files.write(&path, offset, payload) {
            part.is_doubtful = true;
            return failed(Fault::ChunkNotStored, String::new(), &error);
        }
        part.ranges.add(offset, end);
        part.unflushed.bytes += payload.len() as u64;
        part.unflushed.chunks += 1;
        part.chunks += 1;
        let mut outcome = IngestOutcome::default();
        if part.chunks >= HAVE_EVERY || part.ranges.is_whole(part.manifest.size) {
            part.chunks = 0;
            outcome.ack = Some(part.have(&key.1));
        }
        if (part.unflushed.bytes >= FLUSH_BYTES || part.unflushed.chunks >= FLUSH_CHUNKS)
            && !part.is_flushing
        {
            let file = Check { site: key.0.clone(), fid: key.1.clone(), path, turn: part.turn };
            outcome.flush = Some(Flush { file, ranges: part.ranges.clone() });
        }
        outcome
    }

    /// Requests the check of a complete file, or the missing bytes of an incomplete one.
    fn fin(&mut self, key: &Key, now: Now<'_>) -> IngestOutcome {
        let early = self.switch.disables(IngestRule::CommitBeforeMemory);
        let Some(part) = self.parts.get_mut(key).filter(|part| part.checking.is_none()) else {
            return IngestOutcome::default();
        };
        if !part.ranges.is_whole(part.manifest.size) {
            // A device drops a file after five requests for all of it. Without an answer it starts
            // again with `init`, so a request that may be the office's fault is not sent.
            return if part.is_doubtful {
                IngestOutcome::default()
            } else {
                IngestOutcome::ack(part.have(&key.1))
            };
        }
        part.checking = early.then_some(now.seconds);
        IngestOutcome { check: Some(check_of(key, part)), ..IngestOutcome::default() }
    }

    /// Records the checks and flushes that a committed batch started.
    pub(super) fn apply_outcome(&mut self, outcome: &IngestOutcome, now: i64) {
        if let Some(check) = &outcome.check
            && let Some(part) = self.part_of(check)
        {
            part.checking = Some(now);
        }
        if let Some(flush) = &outcome.flush
            && let Some(part) = self.part_of(&flush.file)
        {
            part.is_flushing = true;
            part.unflushed = Unflushed::default();
        }
    }

    fn part_of(&mut self, check: &Check) -> Option<&mut PartialFile> {
        self.parts
            .get_mut(&(check.site.clone(), check.fid.clone()))
            .filter(|part| part.turn == check.turn)
    }

    /// Forgets a check or flush that found no room in the queue; the device sends `fin` again.
    pub fn unchecked(&mut self, check: &Check) {
        if let Some(part) = self.part_of(check) {
            part.checking = None;
            part.is_flushing = false;
        }
    }

    /// Records the result of a flush; `now` is Unix time.
    ///
    /// # Errors
    /// When the flush or the index failed. The cached state is dropped: only the ranges in the
    /// index count, and the device sends the others again.
    pub fn flushed(
        &mut self,
        flush: &Flush,
        flushed: std::io::Result<()>,
        now: i64,
    ) -> Result<(), ArchiveError> {
        let Check { site, fid, .. } = &flush.file;
        let Some(part) = self.part_of(&flush.file) else {
            return Ok(());
        };
        part.is_flushing = false;
        let ranges = serde_json::to_string(&flush.ranges).map_err(std::io::Error::from);
        let kept = flushed.and(ranges).named(|| format!("flush of {fid}")).and_then(|ranges| {
            self.index.within(|index| index.set_part_ranges(site.as_str(), fid, &ranges, now))
        });
        if kept.is_err() {
            self.parts.remove(&(site.clone(), fid.clone()));
        }
        kept
    }

    /// Takes the result of a check. The right SHA-256 commits and receipts the file; a wrong one
    /// requests all of it again. An I/O error proves nothing, so the device gets no answer and
    /// sends `fin` again.
    ///
    /// # Errors
    /// When disk or index fails: the file has no receipt, and the device sends it again.
    pub fn checked(
        &mut self,
        check: &Check,
        digest: &Result<Digest, DigestError>,
        now: Now<'_>,
    ) -> Result<IngestOutcome, ArchiveError> {
        let key = (check.site.clone(), check.fid.clone());
        let Some(part) = self.part_of(check).filter(|part| part.checking.is_some()) else {
            return Ok(IngestOutcome::default());
        };
        part.checking = None;
        let right = digest.as_ref().map(|digest| *digest == part.manifest.sha256);
        let lost = match right {
            Err(DigestError::Read(error)) => error.kind() == std::io::ErrorKind::NotFound,
            Err(DigestError::Flush(_)) => true,
            Ok(_) => false,
        };
        let done = match right {
            Ok(true) => self.commit_file(&key, now),
            Err(error) if !self.switch.disables(IngestRule::ErrorIsNoDigest) => {
                let (DigestError::Flush(cause) | DigestError::Read(cause)) = error;
                Ok(failed(Fault::FileUnreadable, format!("{}: ", key.1), cause))
            }
            _ => self.refill(&key),
        };
        if (done.is_err() || lost) && !self.switch.disables(IngestRule::CommitBeforeMemory) {
            self.parts.remove(&key);
        }
        done
    }

    /// Drops an unfinished file from the index; [`Archive::sweep`] removes its bytes after the
    /// commit.
    pub(super) fn drop_part(&mut self, key: &Key) -> Result<(), ArchiveError> {
        self.index.drop_part(key.0.as_str(), &key.1)?;
        self.parts.remove(key);
        Ok(())
    }

    /// Recovery at the start: schedules the removal of orphaned bytes, and returns the files whose
    /// move a crash interrupted, for a check.
    ///
    /// # Errors
    /// When index or disk cannot be read.
    pub fn moves(&mut self, now: Now<'_>) -> Result<Vec<Check>, ArchiveError> {
        self.find_left_parts()?;
        let moving = self.index.moving_parts()?;
        let mut checks = Vec::new();
        for key in
            moving.into_iter().filter_map(|(site, fid)| Some((SiteId::parse(&site).ok()?, fid)))
        {
            if !self.load(&key)? {
                continue;
            }
            let Some(part) = self
                .parts
                .get_mut(&key)
                .filter(|part| part.target.is_some() && part.checking.is_none())
            else {
                continue;
            };
            if self.switch.disables(IngestRule::HashAtTakeUp) {
                self.commit_file(&key, now)?;
                continue;
            }
            part.checking = Some(now.seconds);
            checks.push(check_of(&key, part));
        }
        Ok(checks)
    }

    /// Checks without a result for a minute, to be repeated; `now` is Unix time.
    pub fn overdue(&mut self, now: i64) -> Vec<Check> {
        let late = |part: &&mut PartialFile| {
            part.checking.is_some_and(|since| now - since >= CHECK_WITHIN)
        };
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

/// A fault of the disk.
fn failed(fault: Fault, subject: String, error: &std::io::Error) -> IngestOutcome {
    let complaint = Some(Complaint {
        fault,
        detail: format!("{subject}{error}"),
        is_disk_full: is_full(error),
    });
    IngestOutcome { complaint, ..IngestOutcome::default() }
}
