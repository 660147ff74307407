//! Sites, files, axes, health, presence, gaps, counts, sums and locks for pages.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::Value;

use super::reader::{READ_TIMEOUT, SUMS_TIMEOUT, SqliteReader};
use super::rows;
use super::{read_events, read_files, read_motion};
use crate::office::error::{ArchiveError, Named as _};
use crate::office::history::health::{FIGURES, Figures, combine, from_text};
use crate::office::history::{HOUR, MINUTE};
use crate::office::queries::rows::{
    CountRow, DeletedTotal, EventFilter, EventPage, FileFilter, FootageGap, GapSum, HealthSeries,
    LockEntry, MotionEventRow, MotionFilter, MotionPage, PresenceRow, RetentionPreview, SiteAxis,
    SiteStatus, SnapshotRef, StorageTotals, StoredFile,
};
use crate::office::queries::{ROWS_MAX, SITES_MAX};
use crate::office::retention::Retention;
use crate::office::retention_rules::RetentionRules;
use crate::office::store::{ReadIndex, free};
use crate::units::WallTime;

/// Steps of one health answer at most: more than a screen has columns.
const STEPS_MAX: i64 = 2_000;
/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

/// A site, by its id or all of them.
const SITES: &str = "SELECT s.site, coalesce(s.state, ''), coalesce(s.seen, ''), s.ring, coalesce(s.birth, ''), coalesce(s.health, ''), s.health_at,
    (SELECT p.start FROM presence p WHERE p.site = s.site ORDER BY p.start DESC LIMIT 1),
    coalesce(k.files, 0), coalesce(k.bytes, 0), coalesce(sum(t.events), 0), total(max(CAST(t.highest AS REAL) - t.numbers, 0))
    FROM sites s LEFT JOIN kept k ON k.site = s.site LEFT JOIN site_totals t ON t.site = s.site
    WHERE ?1 IS NULL OR s.site = ?1 GROUP BY s.site ORDER BY s.site";

pub(super) fn time(micros: i64) -> String {
    WallTime(micros).rfc3339()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// Gaps that touch the time, the newest [`ROWS_MAX`], in their order.
pub(super) fn gaps(
    db: &Connection,
    site: &str,
    from: WallTime,
    to: WallTime,
) -> Result<Vec<(i64, i64, FootageGap)>, ArchiveError> {
    let sql = "SELECT start, end, reason, bytes FROM gaps WHERE site = ?1 AND end >= ?2 AND start < ?3 ORDER BY end DESC LIMIT ?4";
    let mut rows: Vec<_> = rows(db, sql, params![site, from.0, to.0, ROWS_MAX], |row| {
        let (start, end): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (from, to) = (time(start), time(end));
        Ok((start, end, FootageGap { from, to, reason: row.get(2)?, bytes: row.get(3)? }))
    })?;
    rows.reverse();
    Ok(rows)
}

/// Number and length of the gaps since `since`; what two gaps share counts once.
fn gap_sum(db: &Connection, site: &str, since: WallTime) -> Result<GapSum, ArchiveError> {
    let mut rows = gaps(db, site, since, WallTime(i64::MAX))?;
    rows.sort_by_key(|(start, end, _)| (*start, *end));
    let count = rows.len() as u64;
    let (mut micros, mut until) = (0_i64, since.0);
    for (start, end, _) in rows {
        micros = micros.saturating_add(end.saturating_sub(start.max(until)).max(0));
        until = until.max(end);
    }
    Ok(GapSum { count, seconds: (micros / SECOND).unsigned_abs() })
}

fn sites(
    db: &Connection,
    site: Option<&str>,
    gaps_since: WallTime,
) -> Result<Vec<SiteStatus>, ArchiveError> {
    let mut sites: Vec<SiteStatus> = rows(db, SITES, [site], |row| {
        let (birth, health): (String, String) = (row.get(4)?, row.get(5)?);
        let (health_at, since): (i64, Option<i64>) = (row.get(6)?, row.get(7)?);
        Ok(SiteStatus {
            site: row.get(0)?,
            presence: row.get(1)?,
            presence_since: since.map(time).unwrap_or_default(),
            seen: row.get(2)?,
            ring: row.get(3)?,
            birth: json(&birth),
            health: json(&health),
            health_at: if health_at > 0 {
                time(health_at.saturating_mul(SECOND))
            } else {
                String::new()
            },
            camera: None,
            snapshot: None,
            events: row.get(10)?,
            // A device chooses its sequence numbers, so their sum may exceed an integer.
            missing_seq: row.get::<_, f64>(11)? as u64,
            files: row.get(8)?,
            bytes: row.get(9)?,
            gaps: GapSum::default(),
        })
    })?;
    for status in &mut sites {
        status.camera = read_events::camera_report(db, &status.site, &status.health_at)?;
        status.snapshot = read_files::snapshot_of(db, &status.site)?;
        status.gaps = gap_sum(db, &status.site, gaps_since)?;
    }
    Ok(sites)
}

fn health(
    db: &Connection,
    site: &str,
    (from, to): (WallTime, WallTime),
    step: i64,
) -> Result<HealthSeries, ArchiveError> {
    let (from, to) = (from.0.div_euclid(SECOND), to.0.div_euclid(SECOND));
    let span = to.saturating_sub(from).max(0);
    let step = step.max(MINUTE).max(span / STEPS_MAX + 1);
    // Old minutes are gone, so an older part of the time is shown by the hour.
    let oldest: Option<i64> = db.query_row(
        "SELECT min(t) FROM health_history WHERE site = ?1 AND step = ?2",
        params![site, MINUTE],
        |row| row.get(0),
    )?;
    // Of a young device there is no such part: its minutes are all there is.
    let has_older_hour = |oldest: i64| {
        let sql = "SELECT EXISTS (SELECT 1 FROM health_history WHERE site = ?1 AND step = ?2 AND t > ?3 AND t <= ?4)";
        db.query_row(sql, params![site, HOUR, from - HOUR, oldest - HOUR], |row| row.get(0))
    };
    let by_hour = step >= HOUR || oldest.map_or(Ok(true), has_older_hour)?;
    let stored = if by_hour { HOUR } else { MINUTE };
    let step = step.max(stored).div_euclid(stored) * stored
        + if step % stored > 0 && step > stored { stored } else { 0 };
    let mut query = db.prepare_cached(
        "SELECT t, v FROM health_history WHERE site = ?1 AND step = ?2 AND t >= ?3 AND t < ?4 ORDER BY t",
    )?;
    let first = from.div_euclid(step) * step;
    let mut rows = query.query(params![site, stored, first, to])?;
    let mut steps: Vec<(i64, Figures)> = Vec::new();
    while let Some(row) = rows.next()? {
        let t: i64 = row.get::<_, i64>(0)?.div_euclid(step) * step;
        let figures = from_text(&row.get::<_, String>(1)?);
        match steps.last_mut() {
            Some((last, both)) if *last == t => *both = combine(*both, figures),
            _ => steps.push((t, figures)),
        }
    }
    let series: BTreeMap<_, _> = FIGURES
        .iter()
        .enumerate()
        .map(|(at, figure)| (figure.name, steps.iter().map(|(_, v)| v[at]).collect()))
        .collect();
    Ok(HealthSeries { step, t: steps.into_iter().map(|(t, _)| t).collect(), series })
}

fn presence(
    db: &Connection,
    site: &str,
    from: WallTime,
    to: WallTime,
) -> Result<Vec<PresenceRow>, ArchiveError> {
    let sql = "SELECT start, end, state FROM presence WHERE site = ?1 AND start < ?3 AND (end IS NULL OR end >= ?2)
         AND start >= coalesce((SELECT max(start) FROM presence WHERE site = ?1 AND start <= ?2), 0) ORDER BY start DESC LIMIT ?4";
    let mut rows: Vec<PresenceRow> = rows(db, sql, params![site, from.0, to.0, ROWS_MAX], |row| {
        let end: Option<i64> = row.get(1)?;
        Ok(PresenceRow { from: time(row.get(0)?), to: end.map(time), state: row.get(2)? })
    })?;
    rows.reverse();
    Ok(rows)
}

fn counts(
    db: &Connection,
    site: &str,
    from: WallTime,
    to: WallTime,
) -> Result<Vec<CountRow>, ArchiveError> {
    let hour = |at: WallTime| at.0.div_euclid(HOUR * SECOND);
    let mut query = db.prepare_cached(
        "SELECT hour, rule, way, n FROM counts WHERE site = ?1 AND hour >= ?2 AND hour < ?3 ORDER BY hour, rule, way LIMIT ?4",
    )?;
    let (first, end) =
        (hour(from.plus_micros(HOUR * SECOND - 1)), hour(to.plus_micros(HOUR * SECOND - 1)));
    let rows = query.query_map(params![site, first, end, ROWS_MAX], |row| {
        let (way, n): (String, u64) = (row.get(2)?, row.get(3)?);
        let is_seconds = matches!(way.as_str(), "watched" | "blind");
        let n = if is_seconds { n.min(HOUR.unsigned_abs()) } else { n };
        let hour = time(row.get::<_, i64>(0)?.saturating_mul(HOUR * SECOND));
        Ok(CountRow { hour, rule: row.get(1)?, way, n })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl SqliteReader {
    fn ask<T>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        self.ask_within(READ_TIMEOUT, question)
    }

    fn ask_within<T>(
        &self,
        timeout: Duration,
        question: impl FnOnce(&Connection) -> Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        // One transaction, so that all rows of an answer are of one commit.
        let answer = self.with(timeout, |db| {
            let transaction = db.unchecked_transaction()?;
            let answer = question(db)?;
            transaction.finish()?;
            Ok(answer)
        });
        answer.named(|| self.unreadable())
    }
}

impl ReadIndex for SqliteReader {
    fn board(&self, gaps_since: WallTime) -> Result<Vec<SiteStatus>, ArchiveError> {
        self.ask(|db| sites(db, None, gaps_since))
    }

    fn site(&self, site: &str, gaps_since: WallTime) -> Result<Option<SiteStatus>, ArchiveError> {
        self.ask(|db| Ok(sites(db, Some(site), gaps_since)?.pop()))
    }

    fn motion_events(&self, filter: &MotionFilter) -> Result<MotionPage, ArchiveError> {
        self.ask(|db| read_motion::motion_events(db, filter))
    }

    fn motion_event(&self, site: &str, id: &str) -> Result<Option<MotionEventRow>, ArchiveError> {
        self.ask(|db| read_motion::motion_event(db, site, id))
    }

    fn events(&self, filter: &EventFilter) -> Result<EventPage, ArchiveError> {
        self.ask(|db| read_events::events(db, filter))
    }

    fn axis(
        &self,
        sites: &[String],
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<SiteAxis>, ArchiveError> {
        if sites.len() > SITES_MAX {
            return Err(ArchiveError::Invalid(format!("at most {SITES_MAX} sites")));
        }
        self.ask(|db| sites.iter().map(|site| read_files::site_axis(db, site, from, to)).collect())
    }

    fn file(&self, site: &str, fid: &str) -> Result<Option<StoredFile>, ArchiveError> {
        let query = format!("SELECT {} FROM files WHERE site = ?1 AND fid = ?2", read_files::FILE);
        self.ask(|db| {
            Ok(db.prepare_cached(&query)?.query_row([site, fid], read_files::file_of).optional()?)
        })
    }

    fn files(&self, filter: &FileFilter) -> Result<Vec<StoredFile>, ArchiveError> {
        self.ask(|db| read_files::files(db, filter))
    }

    fn snapshot_of(&self, site: &str) -> Result<Option<SnapshotRef>, ArchiveError> {
        self.ask(|db| read_files::snapshot_of(db, site))
    }

    fn health(
        &self,
        site: &str,
        from: WallTime,
        to: WallTime,
        step: i64,
    ) -> Result<HealthSeries, ArchiveError> {
        self.ask(|db| health(db, site, (from, to), step))
    }

    fn presence(
        &self,
        site: &str,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<PresenceRow>, ArchiveError> {
        self.ask(|db| presence(db, site, from, to))
    }

    fn gaps(
        &self,
        site: &str,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<FootageGap>, ArchiveError> {
        self.ask(|db| Ok(gaps(db, site, from, to)?.into_iter().map(|(_, _, gap)| gap).collect()))
    }

    fn counts(
        &self,
        site: &str,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<CountRow>, ArchiveError> {
        self.ask(|db| counts(db, site, from, to))
    }

    fn storage_totals(&self, now: WallTime) -> Result<StorageTotals, ArchiveError> {
        let totals = self.ask_within(SUMS_TIMEOUT, |db| read_files::storage_totals(db, now))?;
        Ok(StorageTotals { free_bytes: free(&self.dir).unwrap_or_default(), ..totals })
    }

    fn deleted_totals(&self) -> Result<Vec<DeletedTotal>, ArchiveError> {
        self.ask(read_files::deleted_totals)
    }

    fn retention_preview(
        &self,
        rules: &RetentionRules,
        retention: &Retention,
        now: WallTime,
    ) -> Result<RetentionPreview, ArchiveError> {
        rules.check()?;
        self.ask_within(SUMS_TIMEOUT, |db| read_files::retention_preview(db, rules, retention, now))
    }

    fn reply_to(&self, site: &str, req_id: &str) -> Result<Option<Value>, ArchiveError> {
        let query = "SELECT payload FROM replies WHERE site = ?1 AND req_id = ?2";
        let read = |row: &Row<'_>| row.get::<_, Vec<u8>>(0);
        let bytes = self.ask(|db| {
            Ok(db.prepare_cached(query)?.query_row([site, req_id], read).optional()?)
        })?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn locks(&self) -> Result<Vec<LockEntry>, ArchiveError> {
        self.ask(read_files::locks)
    }
}
