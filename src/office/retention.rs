//! Retention: release of old files and events, size limit with fair shares, evidence locks.

use std::collections::{BTreeMap, BinaryHeap};

use serde::Serialize;

use super::archive::Archive;
use super::archive_link::NewLock;
use super::error::ArchiveError;
use super::notice::SiteShare;
use super::part_cache::PART_KEPT;
use super::retention_rules::{RetentionPurpose, SiteDays};
use crate::units::{SiteId, WallTime};

/// Files released in one transaction at most: the archive stores nothing meanwhile.
pub const SLICE: usize = 200;
/// Events released in one transaction at most.
const EVENTS_SLICE: usize = 2_000;
/// Files removed from the disk by one sweep at most.
const SWEEP: usize = 256;
/// The usual share of a site, bytes. The size limit never takes a site below its share, or below
/// its newest day when that is less.
const SHARE: u64 = 1 << 30;
/// Locks at most: the retention compares each file with those of its site.
const LOCKS_MAX: u64 = 10_000;
/// Bytes of a lock's reason at most.
const LOCK_REASON_MAX: usize = 200;
/// A day in microseconds.
pub(crate) const DAY: i64 = 86_400_000_000;
/// What the archive keeps.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Days since the receipt; 0 keeps files and events for ever.
    pub days: u32,
    /// Bytes of all files at most; 0 is no limit.
    pub bytes: u64,
    /// Bytes of a site that the size limit leaves.
    pub floor: u64,
}

impl Retention {
    /// A retention with the usual share of a site, 1 GiB; 0 is no limit.
    pub fn new(days: u32, bytes: u64) -> Retention {
        Retention { days, bytes, floor: SHARE }
    }
}

impl Default for Retention {
    fn default() -> Retention {
        Retention::new(0, 0)
    }
}

/// Result of a retention pass, or of one slice.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Released files.
    pub files: u64,
    /// Bytes of the released files.
    pub bytes: u64,
    /// Released events.
    pub events: u64,
    /// Dropped unfinished files.
    pub parts: u64,
    /// The released files by site.
    pub sites: BTreeMap<String, SiteShare>,
    /// Released files and bytes by site and purpose.
    pub purposes: BTreeMap<(String, String), (u64, u64)>,
    /// True when the next slice has more to release.
    pub more: bool,
    /// Bytes over the limit that locks and shares protect.
    pub over: u64,
}

impl Released {
    /// Adds the next slice.
    pub fn add(&mut self, next: Released) {
        self.files += next.files;
        self.bytes += next.bytes;
        self.events += next.events;
        self.parts += next.parts;
        self.more = next.more;
        self.over = next.over;
        for (of, (files, bytes)) in next.purposes {
            let sum = self.purposes.entry(of).or_default();
            *sum = (sum.0 + files, sum.1 + bytes);
        }
        for (site, share) in next.sites {
            let sum = self
                .sites
                .entry(site)
                .or_insert_with(|| SiteShare { first: share.first, ..SiteShare::default() });
            sum.files += share.files;
            sum.bytes += share.bytes;
            sum.last = share.last;
        }
    }

    fn add_file(&mut self, file: Candidate) {
        self.files += 1;
        self.bytes += file.size;
        let sum = self.purposes.entry((file.site.clone(), file.purpose)).or_default();
        *sum = (sum.0 + 1, sum.1 + file.size);
        let first = || SiteShare { first: file.path.clone(), ..SiteShare::default() };
        let share = self.sites.entry(file.site).or_insert_with(first);
        share.files += 1;
        share.bytes += file.size;
        share.last = file.path;
    }
}

/// Which files may be released.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    All,
    Site(&'a str),
    /// Of a site and purpose.
    Purpose(&'a str, &'a str),
}

/// What was received before these times is old.
pub(crate) struct Old {
    /// Of files and events that the device knows to be stored.
    pub(crate) received: String,
    /// Of events whose receipt the device may not have: twice the days.
    pub(crate) unconfirmed: String,
    /// The first one, microseconds since 1970.
    pub(crate) micros: i64,
}

impl Old {
    fn after(days: u32, now: WallTime) -> Old {
        let received = now.plus_micros(-i64::from(days) * DAY);
        let unconfirmed = now.plus_micros(-2 * i64::from(days) * DAY).rfc3339();
        Old { received: received.rfc3339(), unconfirmed, micros: received.0 }
    }
}

/// A file that may be released.
pub(crate) struct Candidate {
    pub(crate) site: String,
    pub(crate) fid: String,
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) purpose: String,
}

/// Stored bytes of a site, sorted by their sum.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Held {
    /// Finished and unfinished files, the latter with their final sizes.
    pub(crate) bytes: u64,
    /// Finished files.
    pub(crate) finished: u64,
    pub(crate) site: String,
}

/// One line of `office locks`.
#[derive(Debug, Serialize)]
pub struct LockRow {
    /// Number of the lock.
    pub id: i64,
    /// Site id.
    pub site: String,
    /// RFC 3339 start of the locked range.
    pub start: String,
    /// RFC 3339 end of the locked range.
    pub end: String,
    /// The operator's reason.
    pub reason: String,
}

impl Archive {
    /// Releases one slice without rules; see [`Archive::release_by_rules`].
    ///
    /// # Errors
    /// When index or disk fails; a failed transaction releases nothing.
    pub fn release_expired(
        &mut self,
        retention: &Retention,
        now: WallTime,
    ) -> Result<Released, ArchiveError> {
        self.release_by_rules(retention, &SiteDays::default(), now)
    }

    /// Releases one slice: files and events older than the ceiling, then those older than the rule of
    /// their site and purpose, then files of the largest sites while the archive is over its size
    /// limit. Locks protect their files and events. A released file stays listed, so that the device
    /// does not send it again.
    ///
    /// # Errors
    /// When index or disk fails; a failed transaction releases nothing.
    pub(crate) fn release_by_rules(
        &mut self,
        retention: &Retention,
        rules: &SiteDays,
        now: WallTime,
    ) -> Result<Released, ArchiveError> {
        let released = self.transaction(|archive| {
            let mut released = Released::default();
            archive.drop_stale_parts(now, &mut released)?;
            if retention.days > 0 {
                let old = Old::after(retention.days, now);
                for file in archive.index.release_candidates(Wanted::All, &old.received, SLICE)? {
                    archive.release_file(file, now, &mut released)?;
                }
                released.events = archive.index.release_events(None, &old, EVENTS_SLICE)?;
            }
            if !rules.is_empty() {
                archive.apply_rules(retention, rules, now, &mut released)?;
            }
            // Once a pass: its last slice is not full.
            if (released.files as usize) < SLICE && (released.events as usize) < EVENTS_SLICE {
                archive.index.thin_history(now)?;
            }
            archive.enforce_size_limit(retention, now, &mut released)?;
            released.more |= released.files as usize >= SLICE
                || released.events as usize >= EVENTS_SLICE
                || released.parts as usize >= SLICE;
            Ok(released)
        })?;
        self.sweep()?;
        Ok(released)
    }

    /// Releases one slice while no clock says what is old: files of the largest sites, the oldest
    /// first, while the archive is over its size limit.
    ///
    /// # Errors
    /// When index or disk fails; a failed transaction releases nothing.
    pub(crate) fn release_by_size(
        &mut self,
        retention: &Retention,
        now: WallTime,
    ) -> Result<Released, ArchiveError> {
        let released = self.transaction(|archive| {
            let mut released = Released::default();
            archive.enforce_size_limit(retention, now, &mut released)?;
            Ok(released)
        })?;
        self.sweep()?;
        Ok(released)
    }

    /// Releases what is older than the rule of its site and purpose, site by site, until the slice is
    /// full.
    fn apply_rules(
        &mut self,
        retention: &Retention,
        rules: &SiteDays,
        now: WallTime,
        released: &mut Released,
    ) -> Result<(), ArchiveError> {
        for site in self.index.site_ids()? {
            for purpose in RetentionPurpose::ALL {
                let Some(days) = rules.days(&site, purpose, retention.days) else { continue };
                let old = Old::after(days, now);
                if purpose == RetentionPurpose::Event {
                    let left = EVENTS_SLICE.saturating_sub(released.events as usize);
                    released.events += self.index.release_events(Some(&site), &old, left)?;
                    continue;
                }
                let left = SLICE.saturating_sub(released.files as usize);
                let wanted = Wanted::Purpose(&site, purpose.as_str());
                for file in self.index.release_candidates(wanted, &old.received, left)? {
                    self.release_file(file, now, released)?;
                }
            }
        }
        Ok(())
    }

    /// Marks a file as released; [`Archive::sweep`] removes it after the commit. A crash between
    /// the two leaves a file that the next sweep removes, never a listed file without bytes.
    fn release_file(
        &mut self,
        file: Candidate,
        now: WallTime,
        released: &mut Released,
    ) -> Result<(), ArchiveError> {
        self.index.mark_released(&file, now)?;
        released.add_file(file);
        Ok(())
    }

    /// Drops unfinished files without a message for a week.
    fn drop_stale_parts(
        &mut self,
        now: WallTime,
        released: &mut Released,
    ) -> Result<(), ArchiveError> {
        let before = now.0.div_euclid(1_000_000) - PART_KEPT;
        let stale = self.index.stale_parts(before, SLICE)?;
        for (site, fid) in stale {
            if let Ok(site) = SiteId::parse(&site) {
                self.drop_part(&(site, fid))?;
                released.parts += 1;
            }
        }
        Ok(())
    }

    /// While the archive is over its size limit, the largest site loses its oldest file; a site at
    /// its share loses its oldest unfinished file instead. Unfinished files count for their own
    /// site with their final sizes, so a file that a device only announces costs no other site a
    /// file.
    fn enforce_size_limit(
        &mut self,
        retention: &Retention,
        now: WallTime,
        released: &mut Released,
    ) -> Result<(), ArchiveError> {
        if retention.bytes == 0 {
            return Ok(());
        }
        let mut sites: BinaryHeap<Held> = self.index.held()?.into();
        let sum: u64 = sites.iter().map(|held| held.bytes).sum();
        let mut over = sum.saturating_sub(retention.bytes);
        while over > 0 && ((released.files + released.parts) as usize) < SLICE {
            let Some(Held { bytes, finished, site }) = sites.pop() else { break };
            let file = self.index.release_candidates(Wanted::Site(&site), "9999", 1)?.pop();
            let left = finished.saturating_sub(file.as_ref().map_or(0, |file| file.size));
            let is_allowed = left >= retention.floor || left >= self.index.newest_day(&site)?;
            if let Some(file) = file.filter(|_| is_allowed) {
                let size = file.size;
                over = over.saturating_sub(size);
                self.release_file(file, now, released)?;
                sites.push(Held { bytes: bytes.saturating_sub(size), finished: left, site });
            } else if let Some(size) = self.drop_oldest_part(&site)? {
                over = over.saturating_sub(size);
                released.parts += 1;
                sites.push(Held { bytes: bytes.saturating_sub(size), finished, site });
            }
        }
        released.over = over;
        released.more |= over > 0 && (released.files + released.parts) as usize >= SLICE;
        Ok(())
    }

    /// Drops the site's oldest unfinished file that is not being checked, and returns its final
    /// size. The device starts the file again.
    fn drop_oldest_part(&mut self, site: &str) -> Result<Option<u64>, ArchiveError> {
        let Ok(site) = SiteId::parse(site) else { return Ok(None) };
        let Some((fid, size)) = self.idle_parts(&site)?.into_iter().next() else { return Ok(None) };
        self.drop_part(&(site, fid))?;
        Ok(Some(size))
    }

    /// Removes a slice of the released files from the disk; returns their number.
    ///
    /// # Errors
    /// When index or disk fails; the next sweep tries again.
    pub fn sweep(&mut self) -> Result<u64, ArchiveError> {
        let removals = self.index.removals(SWEEP)?;
        if removals.is_empty() {
            return Ok(0);
        }
        let mut unused = Vec::with_capacity(removals.len());
        for key in &removals {
            // A newer file may use the key since.
            if !self.index.is_key_used(key)? {
                unused.push(key.clone());
            }
        }
        self.files.delete(&unused)?;
        self.index.within(|index| index.delete_removals(&removals))?;
        Ok(removals.len() as u64)
    }

    /// Locks all files and events of a site in a time range until [`Archive::unlock`]; returns the
    /// number of the lock.
    ///
    /// # Errors
    /// When the database fails.
    pub fn lock(
        &mut self,
        site: &str,
        (start, end): (&str, &str),
        reason: &str,
        now: &str,
    ) -> Result<i64, ArchiveError> {
        self.index.insert_lock(site, (start, end), reason, now)
    }

    /// Makes a lock that the console asks for.
    pub(super) fn make_lock(&mut self, lock: &NewLock, now: WallTime) -> Result<i64, ArchiveError> {
        let NewLock { site, from, to, reason } = lock;
        if from > to {
            return Err(ArchiveError::Invalid("the lock ends before it starts".into()));
        }
        if !(1..=LOCK_REASON_MAX).contains(&reason.len()) {
            return Err(ArchiveError::Invalid(format!(
                "the reason has 1 to {LOCK_REASON_MAX} bytes"
            )));
        }
        let (is_known, locks) = self.index.lock_room(site)?;
        if !is_known {
            return Err(ArchiveError::NotFound(format!("there is no site {site}")));
        }
        if locks >= LOCKS_MAX {
            return Err(ArchiveError::Invalid(format!("there are {LOCKS_MAX} locks; end some")));
        }
        self.lock(site, (&from.rfc3339(), &to.rfc3339()), reason, &now.rfc3339())
    }

    /// Ends a lock; false for an unknown number.
    ///
    /// # Errors
    /// When the database fails.
    pub fn unlock(&mut self, id: i64) -> Result<bool, ArchiveError> {
        self.index.delete_lock(id)
    }

    /// All locks, by number.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn locks(&self) -> Result<Vec<LockRow>, ArchiveError> {
        self.index.locks()
    }
}
