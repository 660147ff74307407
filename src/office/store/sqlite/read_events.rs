//! Pages of events and motion events.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};
use serde_json::Value;

use super::history::motion_event_of;
use crate::office::error::ArchiveError;
use crate::office::history::motion::{MotionEvent, short_kind};
use crate::office::queries::rows::{
    EventFilter, EventPage, MotionEventRow, MotionFilter, MotionPage, StoredEvent,
};
use crate::office::queries::{ROWS_MAX, SITES_MAX};
use crate::units::WallTime;

/// Bytes of a searched text at most.
const TEXT_MAX: usize = 100;

/// Columns of a motion event `m`, with its clip and its snapshot.
const MOTION: &str = "m.id, m.start, m.end, m.clock, m.rule, m.zones, m.priority, m.direction, m.direction_at, m.score, m.objects, m.seconds,
    m.is_closed, m.has_start, m.clip_plan, m.end_reason, m.site,
    (SELECT fid FROM files f WHERE f.site = m.site AND f.event = m.id AND f.gone IS NULL AND f.purpose = 'clip' ORDER BY f.start, f.fid LIMIT 1),
    (SELECT fid FROM files f WHERE f.site = m.site AND f.event = m.id AND f.gone IS NULL AND f.purpose = 'snapshot' ORDER BY f.start, f.fid LIMIT 1)";

fn motion_row(row: &Row<'_>) -> rusqlite::Result<(i64, MotionEventRow)> {
    let event = motion_event_of(row)?;
    let MotionEvent { id, start, end, clock, rule, zones, priority, direction, score, .. } = event;
    let row = MotionEventRow {
        id,
        site: row.get(16)?,
        start: start.rfc3339(),
        end: end.map(WallTime::rfc3339),
        clock: clock.as_str(),
        rule,
        zones,
        priority,
        direction,
        score,
        objects: event.objects,
        seconds: event.seconds,
        state: if event.is_closed { "closed" } else { "open" },
        clip_plan: event.clip_plan,
        end_reason: event.end_reason,
        clip: row.get(17)?,
        snapshot: row.get(18)?,
    };
    Ok((start.0, row))
}

/// Conditions of a query with their values.
#[derive(Default)]
pub(super) struct Conditions {
    text: Vec<String>,
    values: Vec<SqlValue>,
}

impl Conditions {
    /// Adds `condition`, whose `?` stands for `value`.
    pub(super) fn add(&mut self, condition: &str, value: impl Into<SqlValue>) {
        self.values.push(value.into());
        self.text.push(condition.replace('?', &format!("?{}", self.values.len())));
    }

    /// Adds a condition for a set of sites: one by equality, more by a list.
    pub(super) fn add_sites(
        &mut self,
        column: &str,
        sites: Option<&Vec<String>>,
    ) -> Result<(), ArchiveError> {
        let Some(sites) = sites else { return Ok(()) };
        match &sites[..] {
            [site] => self.add(&format!("{column} = ?"), site.clone()),
            sites if sites.len() > SITES_MAX => {
                return Err(ArchiveError::Invalid(format!("at most {SITES_MAX} sites")));
            }
            sites => {
                let list = serde_json::to_string(sites).unwrap_or_default();
                // The `+` keeps the order of time, which ends the search after a page.
                self.add(&format!("+{column} IN (SELECT value FROM json_each(?))"), list);
            }
        }
        Ok(())
    }

    pub(super) fn clause(&self) -> String {
        if self.text.is_empty() { "1".to_owned() } else { self.text.join(" AND ") }
    }

    pub(super) fn values(self) -> Vec<SqlValue> {
        self.values
    }
}

/// The place behind which the next page begins: a number and two texts.
fn cursor(text: &str) -> Result<(String, String, String), ArchiveError> {
    let mut parts = text.splitn(3, ',');
    let parts = (parts.next(), parts.next(), parts.next());
    let (Some(at), Some(site), Some(id)) = parts else {
        return Err(ArchiveError::Invalid("`before` is not the `next` of a page".into()));
    };
    Ok((at.to_owned(), site.to_owned(), id.to_owned()))
}

pub(super) fn motion_events(
    db: &Connection,
    filter: &MotionFilter,
) -> Result<MotionPage, ArchiveError> {
    let mut wanted = Conditions::default();
    wanted.add_sites("m.site", filter.sites.as_ref())?;
    if let Some(rule) = &filter.rule {
        wanted.add("m.rule = ?", rule.clone());
    }
    if let Some(zone) = &filter.zone {
        wanted.add("EXISTS (SELECT 1 FROM json_each(m.zones) WHERE value = ?)", zone.clone());
    }
    if let Some(from) = filter.from {
        wanted.add("m.start >= ?", from.0);
    }
    if let Some(to) = filter.to {
        wanted.add("m.start < ?", to.0);
    }
    if let Some(text) = filter.text.as_ref().filter(|text| !text.is_empty()) {
        if text.len() > TEXT_MAX {
            return Err(ArchiveError::Invalid(format!("a search has at most {TEXT_MAX} bytes")));
        }
        wanted.add(
            "instr(lower(m.site || ' ' || m.rule || ' ' || m.zones || ' ' || m.id), lower(?)) > 0",
            text.clone(),
        );
    }
    if let Some(before) = &filter.before {
        let (start, site, id) = cursor(before)?;
        let start: i64 = start
            .parse()
            .map_err(|_| ArchiveError::Invalid("`before` is not the `next` of a page".into()))?;
        wanted.add("m.start <= ?", start);
        let last = wanted.values.len();
        wanted.values.extend([SqlValue::from(site), SqlValue::from(id)]);
        let (site, id) = (last + 1, last + 2);
        wanted.text.push(format!("(m.start, m.site, m.id) < (?{last}, ?{site}, ?{id})"));
    }
    let limit = filter.limit.clamp(1, ROWS_MAX);
    let query = format!(
        "SELECT {MOTION} FROM motion_events m WHERE {} ORDER BY m.start DESC, m.site DESC, m.id DESC LIMIT {}",
        wanted.clause(),
        limit + 1
    );
    let mut query = db.prepare_cached(&query)?;
    let rows = query.query_map(params_from_iter(wanted.values()), motion_row)?;
    let mut rows: Vec<(i64, MotionEventRow)> = rows.collect::<Result<_, _>>()?;
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows
        .last()
        .filter(|_| has_more)
        .map(|(start, last)| format!("{start},{},{}", last.site, last.id));
    Ok(MotionPage { events: rows.into_iter().map(|(_, row)| row).collect(), next })
}

pub(super) fn motion_event(
    db: &Connection,
    site: &str,
    id: &str,
) -> Result<Option<MotionEventRow>, ArchiveError> {
    let query = format!("SELECT {MOTION} FROM motion_events m WHERE m.site = ?1 AND m.id = ?2");
    let mut query = db.prepare_cached(&query)?;
    Ok(query.query_row([site, id], motion_row).optional()?.map(|(_, row)| row))
}

pub(super) fn events(db: &Connection, filter: &EventFilter) -> Result<EventPage, ArchiveError> {
    let mut wanted = Conditions::default();
    wanted.add_sites("site", filter.sites.as_ref())?;
    if let Some(kind) = &filter.kind {
        let equal = if filter.sites.as_ref().is_some_and(|sites| sites.len() == 1) {
            "+kind = ?"
        } else {
            "kind = ?"
        };
        wanted.add(equal, format!("vn.taimat.{kind}.v1"));
    }
    if let Some(from) = filter.from {
        wanted.add("received >= ?", from.rfc3339());
    }
    if let Some(to) = filter.to {
        wanted.add("received < ?", to.rfc3339());
    }
    if let Some(before) = &filter.before {
        let (received, rowid, _) = cursor(before)?;
        let rowid: i64 = rowid
            .parse()
            .map_err(|_| ArchiveError::Invalid("`before` is not the `next` of a page".into()))?;
        wanted.add("received <= ?", received);
        let last = wanted.values.len();
        wanted.values.push(SqlValue::from(rowid));
        wanted.text.push(format!("(received, rowid) < (?{last}, ?{})", last + 1));
    }
    let limit = filter.limit.clamp(1, ROWS_MAX);
    let query = format!(
        "SELECT site, id, seq, ring, kind, time, received, payload, rowid FROM events WHERE {}
         ORDER BY received DESC, rowid DESC LIMIT {}",
        wanted.clause(),
        limit + 1
    );
    let mut query = db.prepare_cached(&query)?;
    let rows = query.query_map(params_from_iter(wanted.values()), |row| {
        let (kind, payload): (String, Vec<u8>) = (row.get(4)?, row.get(7)?);
        let data = serde_json::from_slice::<Value>(&payload)
            .map(|mut event| event["data"].take())
            .unwrap_or_default();
        let event = StoredEvent {
            site: row.get(0)?,
            id: row.get(1)?,
            seq: row.get(2)?,
            ring: row.get(3)?,
            kind: short_kind(&kind).to_owned(),
            time: row.get(5)?,
            received: row.get(6)?,
            data,
        };
        Ok((row.get::<_, i64>(8)?, event))
    })?;
    let mut rows: Vec<(i64, StoredEvent)> = rows.collect::<Result<_, _>>()?;
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next =
        rows.last().filter(|_| has_more).map(|(rowid, last)| format!("{},{rowid},", last.received));
    Ok(EventPage { events: rows.into_iter().map(|(_, row)| row).collect(), next })
}
