//! ⇄ What the archive releases, and what it keeps whatever happens.
//!
//! What belongs here: retention, locks. What does not: storing (`office_stub`).

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rusqlite::params;
use serde::Serialize;

use super::archive::Archive;
use super::partial_files::PART_KEPT;
use crate::units::{SiteId, WallTime};

/// Files released in one transaction at most: the archive does nothing else meanwhile.
pub const SLICE: usize = 200;
/// Events released in one transaction at most.
const EVENTS_SLICE: usize = 2_000;
/// Files removed from the disk in one go at most.
const SWEEP: usize = 256;
/// A fair share is never smaller than this: no site is brought below it, or below its newest day when that is less.
const FLOOR: u64 = 1 << 30;
const DAY: i64 = 86_400_000_000;
/// Nothing that touches a lock.
const FREE: &str = "NOT EXISTS (SELECT 1 FROM locks l WHERE l.site = f.site AND l.start <= f.end AND l.end >= f.start)";

/// How much is kept; 0 is without limit.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Days since the receipt.
    pub days: u32,
    /// Bytes of files.
    pub bytes: u64,
    /// Bytes below which no site is brought for the sake of others.
    pub floor: u64,
}

impl Retention {
    /// So many days, so many bytes, and the usual share for each site.
    pub fn new(days: u32, bytes: u64) -> Retention {
        Retention { days, bytes, floor: FLOOR }
    }
}

impl Default for Retention {
    fn default() -> Retention {
        Retention::new(0, 0)
    }
}

/// What was released of one site.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SiteShare {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first and the last of them, as they are called below the archive.
    pub first: String,
    /// The same.
    pub last: String,
}

/// What was released.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Events.
    pub events: u64,
    /// Unfinished files.
    pub parts: u64,
    /// The files by site.
    pub sites: BTreeMap<String, SiteShare>,
    /// There is more to released: it is the next slice's.
    pub more: bool,
    /// Bytes over the limit that may not go: locked, or nobody has more than its share.
    pub over: u64,
}

impl Released {
    /// Adds a further slice.
    pub fn add(&mut self, next: Released) {
        self.files += next.files;
        self.bytes += next.bytes;
        self.events += next.events;
        self.parts += next.parts;
        (self.more, self.over) = (next.more, next.over);
        for (site, share) in next.sites {
            let sum = self.sites.entry(site).or_insert_with(|| SiteShare { first: share.first, ..SiteShare::default() });
            (sum.files, sum.bytes, sum.last) = (sum.files + share.files, sum.bytes + share.bytes, share.last);
        }
    }
}

/// A file that may go: site, id, path, size.
type Leaving = (String, String, String, u64);

/// One line of `office locks`.
#[derive(Debug, Serialize)]
pub struct LockRow {
    /// Its number.
    pub id: i64,
    /// Site id.
    pub site: String,
    /// First moment.
    pub start: String,
    /// Last moment.
    pub end: String,
    /// Why.
    pub reason: String,
}

impl Archive {
    /// Lets go one slice of what is older than the retention, by the time of its receipt, and of the sites that hold most while there
    /// are too many bytes; nothing that touches a lock. A file stays listed as stored, so that it is not sent again.
    ///
    /// # Errors
    /// When the disk refuses: then nothing has gone.
    pub fn release_expired(&mut self, retention: &Retention, now: WallTime) -> anyhow::Result<Released> {
        let gone = self.transaction(|archive| {
            let mut gone = Released::default();
            archive.let_parts_go(now, &mut gone)?;
            if retention.days > 0 {
                let oldest = now.plus_micros(-i64::from(retention.days) * DAY).rfc3339();
                let unsettled = now.plus_micros(-2 * i64::from(retention.days) * DAY).rfc3339();
                for file in archive.leaving(None, &oldest, SLICE)? {
                    archive.let_file_go(file, now, &mut gone)?;
                }
                gone.events = archive.let_events_go(&oldest, &unsettled)?;
            }
            archive.share(retention, now, &mut gone)?;
            gone.more |= gone.files as usize >= SLICE || gone.events as usize >= EVENTS_SLICE || gone.parts as usize >= SLICE;
            Ok(gone)
        })?;
        self.sweep()?;
        Ok(gone)
    }

    /// The oldest files, of one site or of all, that were received before a moment and may go.
    fn leaving(&self, site: Option<&str>, before: &str, most: usize) -> anyhow::Result<Vec<Leaving>> {
        let whose = if site.is_some() { "site = ?3" } else { "?3 IS NULL" };
        let query = format!(
            "SELECT site, fid, path, size FROM files f WHERE gone IS NULL AND {whose} AND received < ?1 AND {FREE}
             ORDER BY received LIMIT ?2"
        );
        let mut query = self.index.db.prepare_cached(&query)?;
        let rows =
            query.query_map(params![before, most, site], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// First the word, then the deed: a kill between the two leaves a file that is known to go, never one that is listed and not there.
    fn let_file_go(&mut self, (site, fid, path, size): Leaving, now: WallTime, gone: &mut Released) -> anyhow::Result<()> {
        self.index.change("UPDATE files SET gone = ?3 WHERE site = ?1 AND fid = ?2", params![site, fid, now.rfc3339()])?;
        self.index.change("INSERT OR IGNORE INTO removals VALUES (?1)", [&path])?;
        (gone.files, gone.bytes) = (gone.files + 1, gone.bytes + size);
        let share = gone.sites.entry(site).or_insert_with(|| SiteShare { first: path.clone(), ..SiteShare::default() });
        (share.files, share.bytes, share.last) = (share.files + 1, share.bytes + size, path);
        Ok(())
    }

    /// Settled events, and after twice the time those that were never settled.
    fn let_events_go(&mut self, oldest: &str, unsettled: &str) -> anyhow::Result<u64> {
        let gone = self.index.change(
            "DELETE FROM events WHERE rowid IN (SELECT rowid FROM events e WHERE received < ?1 AND NOT EXISTS
             (SELECT 1 FROM locks l WHERE l.site = e.site AND l.start <= e.time AND l.end >= e.time) AND (received < ?2
             OR seq <= (SELECT r.complete FROM rings r WHERE r.site = e.site AND r.ring = e.ring)) ORDER BY received LIMIT ?3)",
            params![oldest, unsettled, EVENTS_SLICE],
        )?;
        Ok(gone as u64)
    }

    /// Unfinished files nobody has gone on with.
    fn let_parts_go(&mut self, now: WallTime, gone: &mut Released) -> anyhow::Result<()> {
        let mut query = self.index.db.prepare_cached("SELECT site, fid FROM parts WHERE touched < ?1 LIMIT ?2")?;
        let before = now.0.div_euclid(1_000_000) - PART_KEPT;
        let rows = query.query_map(params![before, SLICE], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        let old: Vec<(String, String)> = rows.collect::<Result<_, _>>()?;
        drop(query);
        for (site, fid) in old {
            if let Ok(site) = SiteId::parse(&site) {
                self.drop_part(&(site, fid))?;
                gone.parts += 1;
            }
        }
        Ok(())
    }

    /// While there are too many bytes, the site that holds most gives: its oldest file, or, where it has none above its share, its oldest
    /// unfinished one. Unfinished files count for their own site, with the size they will have: what a device only announces costs no
    /// other device a file.
    fn share(&mut self, retention: &Retention, now: WallTime, gone: &mut Released) -> anyhow::Result<()> {
        if retention.bytes == 0 {
            return Ok(());
        }
        let held = "SELECT site, sum(bytes), sum(finished) FROM (SELECT site, bytes, bytes AS finished FROM kept
            UNION ALL SELECT site, size, 0 FROM parts) GROUP BY site";
        let mut query = self.index.db.prepare(held)?;
        let rows = query.query_map([], |row| Ok((row.get(1)?, row.get(2)?, row.get(0)?)))?;
        let mut sites: BinaryHeap<(u64, u64, String)> = rows.collect::<Result<_, _>>()?;
        drop(query);
        let sum: u64 = sites.iter().map(|(bytes, ..)| bytes).sum();
        let mut over = sum.saturating_sub(retention.bytes);
        while over > 0 && ((gone.files + gone.parts) as usize) < SLICE {
            let Some((bytes, finished, site)) = sites.pop() else { break };
            let file = self.leaving(Some(&site), "9999", 1)?.pop();
            let left = finished.saturating_sub(file.as_ref().map_or(0, |file| file.3));
            let may_go = left >= retention.floor || left >= self.newest_day(&site)?;
            if let Some(file) = file.filter(|_| may_go) {
                let size = file.3;
                over = over.saturating_sub(size);
                self.let_file_go(file, now, gone)?;
                sites.push((bytes.saturating_sub(size), left, site));
            } else if let Some(size) = self.let_oldest_part_go(&site)? {
                (over, gone.parts) = (over.saturating_sub(size), gone.parts + 1);
                sites.push((bytes.saturating_sub(size), finished, site));
            }
        }
        gone.over = over;
        gone.more |= over > 0 && (gone.files + gone.parts) as usize >= SLICE;
        Ok(())
    }

    /// Gives up the oldest unfinished file of a site that is not being checked; its size. The device begins it again.
    fn let_oldest_part_go(&mut self, site: &str) -> anyhow::Result<Option<u64>> {
        let Ok(site) = SiteId::parse(site) else { return Ok(None) };
        let Some((fid, size)) = self.idle_parts(&site)?.into_iter().next() else { return Ok(None) };
        self.drop_part(&(site, fid))?;
        Ok(Some(size))
    }

    /// Bytes of the newest day of a site, by receipt.
    fn newest_day(&self, site: &str) -> anyhow::Result<u64> {
        let newest = "SELECT max(received) FROM files WHERE site = ?1 AND gone IS NULL";
        let newest: Option<String> = self.index.db.query_row(newest, [site], |row| row.get(0))?;
        let since =
            WallTime::parse(&newest.unwrap_or_default()).map(|newest| newest.plus_micros(-DAY).rfc3339()).unwrap_or_default();
        let sum = "SELECT coalesce(sum(size), 0) FROM files WHERE site = ?1 AND gone IS NULL AND received > ?2";
        Ok(self.index.db.query_row(sum, params![site, since], |row| row.get(0))?)
    }

    /// Removes from the disk some of what the index gave up; gives how many. What cannot be removed stays for the next time.
    ///
    /// # Errors
    /// When index or disk refuses.
    pub fn sweep(&mut self) -> anyhow::Result<u64> {
        let mut query = self.index.db.prepare_cached("SELECT path FROM removals LIMIT ?1")?;
        let paths: Vec<String> = query.query_map([SWEEP], |row| row.get(0))?.collect::<Result<_, _>>()?;
        drop(query);
        if paths.is_empty() {
            return Ok(0);
        }
        let mut dirs = BTreeSet::new();
        for path in &paths {
            // A path may have become somebody's since.
            let used = "SELECT EXISTS (SELECT 1 FROM files WHERE path = ?1 AND gone IS NULL) OR EXISTS (SELECT 1 FROM parts
                WHERE target = ?1 OR 'partial/' || site || '-' || fid || '.part' = ?1)";
            if !self.index.db.query_row(used, [path], |row| row.get::<_, bool>(0))? {
                self.files.remove(path)?;
                path.rsplit_once('/').map(|(dir, _)| dirs.insert(dir.to_owned()));
            }
        }
        for dir in dirs {
            match self.files.flush_dir(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        self.index.within(|index| {
            paths.iter().try_for_each(|path| index.change("DELETE FROM removals WHERE path = ?1", [path]).map(|_| ()))
        })?;
        Ok(paths.len() as u64)
    }

    /// Keeps everything of a site between two moments until [`Archive::unlock`]; gives the lock's number.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn lock(&mut self, site: &str, (start, end): (&str, &str), reason: &str, now: &str) -> anyhow::Result<i64> {
        let insert = "INSERT INTO locks (site, start, end, reason, made) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.index.db.execute(insert, params![site, start, end, reason, now])?;
        Ok(self.index.db.last_insert_rowid())
    }

    /// Lets a lock go; false when there is none of that number.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn unlock(&mut self, id: i64) -> anyhow::Result<bool> {
        Ok(self.index.db.execute("DELETE FROM locks WHERE id = ?1", [id])? > 0)
    }

    /// The locks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn locks(&self) -> anyhow::Result<Vec<LockRow>> {
        let mut query = self.index.db.prepare("SELECT id, site, start, end, reason FROM locks ORDER BY id")?;
        let rows = query.query_map([], |row| {
            Ok(LockRow { id: row.get(0)?, site: row.get(1)?, start: row.get(2)?, end: row.get(3)?, reason: row.get(4)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
