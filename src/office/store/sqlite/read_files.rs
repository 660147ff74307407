//! Files, axes, sums, locks and the preview of the retention for pages.

use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};
use serde_json::Value;

use super::read_events::Conditions;
use super::read_sites::{gaps, time};
use super::rows;
use crate::office::error::ArchiveError;
use crate::office::history::HOUR;
use crate::office::queries::ROWS_MAX;
use crate::office::queries::rows::{
    AxisEvent, AxisSpan, DeletedTotal, FileFilter, FootageGap, LockEntry, RetentionPreview,
    SiteAxis, SnapshotRef, StorageRow, StorageTotals, StoredFile,
};
use crate::office::retention::Retention;
use crate::office::retention_rules::{RetentionPurpose, RetentionRules};
use crate::units::WallTime;

/// The days over which the growth of the archive is measured, microseconds.
const LATELY: i64 = 14 * DAY;
/// A day in microseconds.
const DAY: i64 = 86_400_000_000;
/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

/// Columns of a file that [`file_of`] reads.
pub(super) const FILE: &str = "site, fid, name, path, purpose, event, size, sha256, start, end, received, manifest, gone IS NOT NULL";

pub(super) fn file_of(row: &Row<'_>) -> rusqlite::Result<StoredFile> {
    let manifest: Vec<u8> = row.get(11)?;
    let manifest: Value = serde_json::from_slice(&manifest).unwrap_or_default();
    let text = |key: &str| manifest[key].as_str().unwrap_or_default().to_owned();
    Ok(StoredFile {
        site: row.get(0)?,
        fid: row.get(1)?,
        name: row.get(2)?,
        key: row.get(3)?,
        purpose: row.get(4)?,
        media_type: text("media_type"),
        event: row.get(5)?,
        size: row.get(6)?,
        sha256: row.get(7)?,
        from: row.get(8)?,
        to: row.get(9)?,
        clock: text("clock"),
        received: row.get(10)?,
        manifest,
        is_released: row.get(12)?,
    })
}

pub(super) fn snapshot_of(
    db: &Connection,
    site: &str,
) -> Result<Option<SnapshotRef>, ArchiveError> {
    let query = "SELECT fid, start FROM files WHERE site = ?1 AND purpose = 'snapshot' AND gone IS NULL ORDER BY start DESC LIMIT 1";
    let mut query = db.prepare_cached(query)?;
    Ok(query
        .query_row([site], |row| Ok(SnapshotRef { fid: row.get(0)?, time: row.get(1)? }))
        .optional()?)
}

pub(super) fn files(db: &Connection, filter: &FileFilter) -> Result<Vec<StoredFile>, ArchiveError> {
    let mut wanted = Conditions::default();
    wanted.add_sites("site", filter.sites.as_ref())?;
    if let Some(purpose) = &filter.purpose {
        // The index of the event finds few files, that of the purpose thousands.
        let equal = if filter.event.is_some() { "+purpose = ?" } else { "purpose = ?" };
        wanted.add(equal, purpose.clone());
    }
    if let Some(event) = &filter.event {
        wanted.add("event = ?", event.clone());
    }
    if let Some(from) = filter.from {
        wanted.add("end >= ?", from.rfc3339());
    }
    if let Some(to) = filter.to {
        wanted.add("start < ?", to.rfc3339());
    }
    let query = format!(
        "SELECT {FILE} FROM files WHERE gone IS NULL AND {} ORDER BY start DESC LIMIT {}",
        wanted.clause(),
        filter.limit.clamp(1, ROWS_MAX)
    );
    rows(db, &query, params_from_iter(wanted.values()), file_of)
}

pub(super) fn site_axis(
    db: &Connection,
    site: &str,
    from: WallTime,
    to: WallTime,
) -> Result<SiteAxis, ArchiveError> {
    let sql = "SELECT fid, purpose, event, start, end, manifest FROM files WHERE site = ?1 AND purpose IN ('clip', 'requested')
         AND gone IS NULL AND start < ?3 AND end >= ?2 ORDER BY start DESC LIMIT ?4";
    let mut spans: Vec<AxisSpan> =
        rows(db, sql, params![site, from.rfc3339(), to.rfc3339(), ROWS_MAX], |row| {
            let manifest: Vec<u8> = row.get(5)?;
            let manifest: Value = serde_json::from_slice(&manifest).unwrap_or_default();
            Ok(AxisSpan {
                from: row.get(3)?,
                to: row.get(4)?,
                fid: row.get(0)?,
                purpose: row.get(1)?,
                clock: manifest["clock"].as_str().unwrap_or_default().to_owned(),
                event: row.get(2)?,
                gaps: manifest["gaps"].clone(),
            })
        })?;
    spans.reverse();
    let gaps: Vec<FootageGap> =
        gaps(db, site, from, to)?.into_iter().map(|(_, _, gap)| gap).collect();
    // A motion event lasts an hour at most (`motion.max_event`); one that began before is cut off.
    let begun = from.plus_micros(-HOUR * SECOND);
    let sql =
        "SELECT id, start, end FROM motion_events WHERE site = ?1 AND start >= ?2 AND start < ?3
         AND (end IS NULL AND start >= ?4 OR end >= ?4) ORDER BY start DESC LIMIT ?5";
    let mut events: Vec<AxisEvent> =
        rows(db, sql, params![site, begun.0, to.0, from.0, ROWS_MAX], |row| {
            let end: Option<i64> = row.get(2)?;
            Ok(AxisEvent { id: row.get(0)?, from: time(row.get(1)?), to: end.map(time) })
        })?;
    events.reverse();
    let is_cut =
        [spans.len(), gaps.len(), events.len()].iter().any(|len| *len >= ROWS_MAX as usize);
    Ok(SiteAxis { site: site.to_owned(), spans, gaps, events, is_cut })
}

pub(super) fn storage_totals(
    db: &Connection,
    now: WallTime,
) -> Result<StorageTotals, ArchiveError> {
    let lately = now.plus_micros(-LATELY).rfc3339();
    let sql = "SELECT site, purpose, count(*), sum(size), coalesce(sum(size) FILTER (WHERE received >= ?1), 0), min(start)
         FROM files WHERE gone IS NULL GROUP BY site, purpose ORDER BY site, purpose";
    let rows = rows(db, sql, [lately], |row| {
        Ok(StorageRow {
            site: row.get(0)?,
            purpose: row.get(1)?,
            files: row.get(2)?,
            bytes: row.get(3)?,
            bytes_lately: row.get(4)?,
            oldest: row.get(5)?,
        })
    })?;
    let unfinished_bytes =
        db.query_row("SELECT coalesce(sum(size), 0) FROM parts", [], |row| row.get(0))?;
    Ok(StorageTotals { rows, unfinished_bytes, free_bytes: 0 })
}

pub(super) fn deleted_totals(db: &Connection) -> Result<Vec<DeletedTotal>, ArchiveError> {
    let query = "SELECT site, purpose, files, bytes FROM deleted ORDER BY site, purpose";
    rows(db, query, [], |row| {
        Ok(DeletedTotal {
            site: row.get(0)?,
            purpose: row.get(1)?,
            files: row.get(2)?,
            bytes: row.get(3)?,
        })
    })
}

pub(super) fn retention_preview(
    db: &Connection,
    rules: &RetentionRules,
    retention: &Retention,
    now: WallTime,
) -> Result<RetentionPreview, ArchiveError> {
    let days = rules.by_site();
    let mut sites = db.prepare_cached("SELECT site FROM kept ORDER BY site")?;
    let sites: Vec<String> = sites.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut query = db.prepare_cached(
        "SELECT count(*) FILTER (WHERE NOT locked), coalesce(sum(size) FILTER (WHERE NOT locked), 0),
         min(received) FILTER (WHERE NOT locked), count(*) FILTER (WHERE locked) FROM (SELECT size, received, EXISTS (SELECT 1
         FROM locks l WHERE l.site = f.site AND l.start <= f.end AND l.end >= f.start) AS locked FROM files f
         WHERE site = ?1 AND purpose = ?2 AND received < ?3 AND gone IS NULL)",
    )?;
    let mut preview = RetentionPreview::default();
    for site in sites {
        for purpose in RetentionPurpose::ALL {
            let Some(days) = days.days(&site, purpose, retention.days) else { continue };
            let before = now.plus_micros(-i64::from(days) * DAY).rfc3339();
            let (files, bytes, oldest, locked): (u64, u64, Option<String>, u64) = query
                .query_row(params![site, purpose.as_str(), before], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })?;
            preview.files += files;
            preview.bytes += bytes;
            preview.locked += locked;
            preview.oldest = [preview.oldest, oldest].into_iter().flatten().min();
        }
    }
    Ok(preview)
}

pub(super) fn locks(db: &Connection) -> Result<Vec<LockEntry>, ArchiveError> {
    let sql = "SELECT id, site, start, end, reason, made, (SELECT coalesce(sum(f.size), 0) FROM files f WHERE f.site = l.site
         AND f.start <= l.end AND f.end >= l.start AND f.gone IS NULL) FROM locks l ORDER BY id";
    rows(db, sql, [], |row| {
        Ok(LockEntry {
            id: row.get(0)?,
            site: row.get(1)?,
            from: row.get(2)?,
            to: row.get(3)?,
            reason: row.get(4)?,
            made: row.get(5)?,
            bytes: row.get(6)?,
        })
    })
}
