//! Rows for pages, written in the transaction of the message that makes them.

use rusqlite::{OptionalExtension as _, Row, params};

use crate::office::error::ArchiveError;
use crate::office::history::health::{Figures, combine, from_text, to_text};
use crate::office::history::motion::MotionEvent;
use crate::office::history::{GapEntry, HOUR, MINUTE};
use crate::office::store::index::{HistoryIndex, RetentionIndex as _};
use crate::units::{ClockQuality, WallTime};

use super::index::SqliteIndex;

/// Rows of one site and hour in `counts` at most: 16 lines with two directions, and rules and zones
/// of events.
const COUNT_ROWS_MAX: u64 = 256;

/// Days that the health history is kept by the minute, and by the hour; the latter for counts, too.
const MINUTES_KEPT: i64 = 30;
const HOURS_KEPT: i64 = 730;
/// Steps of the health history of one site deleted at a time: two passes of the retention lie ten
/// minutes apart.
const THIN_SLICE: i64 = 500;

/// Columns of `motion_events` that [`motion_event_of`] reads.
pub(crate) const MOTION_COLUMNS: &str = "id, start, end, clock, rule, zones, priority, direction, direction_at, score, objects, seconds,
    is_closed, has_start, clip_plan, end_reason";

/// The motion event of a row with [`MOTION_COLUMNS`].
pub(crate) fn motion_event_of(row: &Row<'_>) -> rusqlite::Result<MotionEvent> {
    let zones: String = row.get(5)?;
    Ok(MotionEvent {
        id: row.get(0)?,
        start: WallTime(row.get(1)?),
        end: row.get::<_, Option<i64>>(2)?.map(WallTime),
        clock: ClockQuality::from_byte(row.get(3)?),
        rule: row.get(4)?,
        zones: serde_json::from_str(&zones).unwrap_or_default(),
        priority: row.get(6)?,
        direction: row.get(7)?,
        direction_at: WallTime(row.get(8)?),
        score: row.get(9)?,
        objects: row.get(10)?,
        seconds: row.get(11)?,
        is_closed: row.get(12)?,
        has_start: row.get(13)?,
        clip_plan: row.get(14)?,
        end_reason: row.get(15)?,
    })
}

impl HistoryIndex for SqliteIndex {
    fn add_motion(
        &self,
        site: &str,
        part: &MotionEvent,
        received: &str,
    ) -> Result<(), ArchiveError> {
        let query =
            format!("SELECT {MOTION_COLUMNS} FROM motion_events WHERE site = ?1 AND id = ?2");
        let stored = self
            .db
            .prepare_cached(&query)?
            .query_row(params![site, part.id], motion_event_of)
            .optional()?;
        let whole = stored.map_or_else(
            || part.clone(),
            |mut stored| {
                stored.add(part);
                stored
            },
        );
        self.change(
            "INSERT INTO motion_events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
             ON CONFLICT (site, id) DO UPDATE SET start = ?3, end = ?4, clock = ?5, rule = ?6, zones = ?7, priority = ?8, direction = ?9,
             direction_at = ?10, score = ?11, objects = ?12, seconds = ?13, is_closed = ?14, has_start = ?15, clip_plan = ?16,
             end_reason = ?17",
            params![
                site,
                whole.id,
                whole.start.0,
                whole.end.map(|end| end.0),
                whole.clock as u8,
                whole.rule,
                serde_json::to_string(&whole.zones).unwrap_or_default(),
                whole.priority,
                whole.direction,
                whole.direction_at.0,
                whole.score,
                whole.objects,
                whole.seconds,
                whole.is_closed,
                whole.has_start,
                whole.clip_plan,
                whole.end_reason,
                received,
            ],
        )?;
        if part.has_start {
            let hour = part.start.0.div_euclid(HOUR * 1_000_000);
            self.add_count(site, hour, (&part.rule, "event"), 1)?;
            for zone in &part.zones {
                self.add_count(site, hour, (zone, "zone"), 1)?;
            }
        }
        Ok(())
    }

    fn add_gap(
        &self,
        site: &str,
        (id, ring): (&str, &str),
        gap: &GapEntry,
        received: &str,
    ) -> Result<(), ArchiveError> {
        self.change(
            "INSERT OR IGNORE INTO gaps (site, id, ring, start, end, reason, bytes, received) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![site, id, ring, gap.start.0, gap.end.0, gap.reason, gap.bytes, received],
        )?;
        Ok(())
    }

    fn add_presence(&self, site: &str, state: &str, now: WallTime) -> Result<(), ArchiveError> {
        let newest: Option<(i64, String)> = self
            .db
            .prepare_cached(
                "SELECT start, state FROM presence WHERE site = ?1 ORDER BY start DESC LIMIT 1",
            )?
            .query_row([site], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        // A clock of the office that was set back must not put an interval before the newest one.
        let start = match newest {
            Some((_, same)) if same == state => return Ok(()),
            Some((start, _)) => now.0.max(start.saturating_add(1)),
            None => now.0,
        };
        self.change(
            "UPDATE presence SET end = ?2 WHERE site = ?1 AND end IS NULL",
            params![site, start],
        )?;
        self.change(
            "INSERT INTO presence (site, start, end, state) VALUES (?1, ?2, NULL, ?3)",
            params![site, start, state],
        )?;
        Ok(())
    }

    fn add_count(
        &self,
        site: &str,
        hour: i64,
        (rule, way): (&str, &str),
        n: u64,
    ) -> Result<(), ArchiveError> {
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        let added = self.change(
            "UPDATE counts SET n = n + ?5 WHERE site = ?1 AND hour = ?2 AND rule = ?3 AND way = ?4 AND n <= 9223372036854775807 - ?5",
            params![site, hour, rule, way, n],
        )?;
        if added == 0 {
            self.change(
                "INSERT OR IGNORE INTO counts (site, hour, rule, way, n) SELECT ?1, ?2, ?3, ?4, ?5
                 WHERE (SELECT count(*) FROM counts WHERE site = ?1 AND hour = ?2) < ?6",
                params![site, hour, rule, way, n, COUNT_ROWS_MAX],
            )?;
        }
        Ok(())
    }

    fn add_health(&self, site: &str, seconds: i64, figures: &Figures) -> Result<(), ArchiveError> {
        for step in [MINUTE, HOUR] {
            let t = seconds.div_euclid(step) * step;
            let stored: Option<String> = self
                .db
                .prepare_cached(
                    "SELECT v FROM health_history WHERE site = ?1 AND step = ?2 AND t = ?3",
                )?
                .query_row(params![site, step, t], |row| row.get(0))
                .optional()?;
            let both = stored.map_or(*figures, |stored| combine(from_text(&stored), *figures));
            self.change(
                "INSERT INTO health_history (site, step, t, v) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (site, step, t) DO UPDATE SET v = ?4",
                params![site, step, t, to_text(&both)],
            )?;
        }
        Ok(())
    }

    fn newest_health(&self, site: &str) -> Result<(String, i64), ArchiveError> {
        let query = "SELECT coalesce(health, ''), health_at FROM sites WHERE site = ?1";
        Ok(self
            .db
            .prepare_cached(query)?
            .query_row([site], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?
            .unwrap_or_default())
    }

    fn thin_history(&self, now: WallTime) -> Result<(), ArchiveError> {
        let seconds = now.0.div_euclid(1_000_000);
        for site in self.site_ids()? {
            for (step, days) in [(MINUTE, MINUTES_KEPT), (HOUR, HOURS_KEPT)] {
                self.change(
                    "DELETE FROM health_history WHERE site = ?1 AND step = ?2 AND t < min(?3,
                     (SELECT min(t) FROM health_history WHERE site = ?1 AND step = ?2) + ?2 * ?4)",
                    params![site, step, seconds - days * 86_400, THIN_SLICE],
                )?;
            }
            self.change(
                "DELETE FROM counts WHERE site = ?1 AND hour < min(?2, (SELECT min(hour) FROM counts WHERE site = ?1) + ?3)",
                params![site, (seconds - HOURS_KEPT * 86_400).div_euclid(HOUR), 24],
            )?;
        }
        Ok(())
    }
}
