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

/// Sites that are searched one by one; more are searched in the order of time, where one of that many
/// has a row soon.
const FEW_SITES: usize = 64;

/// Columns of a motion event `m`, with its clip and its snapshot, which the index of an event's files
/// holds.
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

/// The query of a page of motion events with its values; it gives one row more than the page has.
fn motion_query(filter: &MotionFilter) -> Result<(String, Vec<SqlValue>), ArchiveError> {
    let mut wanted = Conditions::default();
    let few = filter.sites.as_ref().filter(|sites| (2..=FEW_SITES).contains(&sites.len()));
    if let Some(sites) = few {
        // Each site by itself: `s` is one of them.
        let list = serde_json::to_string(sites).unwrap_or_default();
        wanted.values.push(list.into());
        wanted.text.push("m.site = s.value".into());
    } else {
        wanted.add_sites("m.site", filter.sites.as_ref())?;
    }
    if let Some(rule) = &filter.rule {
        // With few sites the index of the site gives their order.
        let equal = if few.is_some() { "+m.rule = ?" } else { "m.rule = ?" };
        wanted.add(equal, rule.clone());
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
    let most = page_of(filter) + 1;
    let (clause, order) = (wanted.clause(), "m.start DESC, m.site DESC, m.id DESC");
    let query = if few.is_some() {
        format!(
            "SELECT {MOTION} FROM motion_events m WHERE (m.site, m.id) IN (SELECT o.site, o.id FROM json_each(?1) s
             CROSS JOIN motion_events o WHERE o.site = s.value AND o.id IN (SELECT m.id FROM motion_events m
             WHERE {clause} ORDER BY m.start DESC, m.id DESC LIMIT {most})
             ORDER BY o.start DESC, o.site DESC, o.id DESC LIMIT {most}) ORDER BY {order}"
        )
    } else {
        format!("SELECT {MOTION} FROM motion_events m WHERE {clause} ORDER BY {order} LIMIT {most}")
    };
    Ok((query, wanted.values()))
}

/// Rows of a page.
fn page_of(filter: &MotionFilter) -> u32 {
    filter.limit.clamp(1, ROWS_MAX)
}

pub(super) fn motion_events(
    db: &Connection,
    filter: &MotionFilter,
) -> Result<MotionPage, ArchiveError> {
    let (limit, (query, values)) = (page_of(filter), motion_query(filter)?);
    let mut query = db.prepare_cached(&query)?;
    let rows = query.query_map(params_from_iter(values), motion_row)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::office::store::index::Transactions as _;
    use crate::office::store::sqlite::index::SqliteIndex;

    #[test]
    fn each_page_of_motion_events_is_read_by_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let index = SqliteIndex::open(dir.path()).unwrap();
        index.migrate().unwrap();
        let any = MotionFilter::default();
        let sites = |n: u32| Some((0..n).map(|n| format!("km-{n}")).collect());
        let (rule, at) = (Some("gate".to_owned()), Some(WallTime(1)));
        let filters = [
            (any.clone(), "motion_events_by_time"),
            (MotionFilter { from: at, to: at, ..any.clone() }, "motion_events_by_time"),
            (MotionFilter { rule: rule.clone(), ..any.clone() }, "motion_events_by_rule"),
            (MotionFilter { sites: sites(1), ..any.clone() }, "motion_events_by_site"),
            (MotionFilter { sites: sites(2), ..any.clone() }, "motion_events_by_site"),
            (MotionFilter { sites: sites(2), rule, ..any.clone() }, "motion_events_by_site"),
            (MotionFilter { sites: sites(99), ..any.clone() }, "motion_events_by_time"),
            (MotionFilter { before: Some("1,a,b".into()), ..any }, "motion_events_by_time"),
        ];
        for (filter, wanted) in filters {
            let (query, values) = motion_query(&filter).unwrap();
            let mut query = index.db.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let steps = query.query_map(params_from_iter(values), |row| row.get(3)).unwrap();
            let steps: Vec<String> = steps.map(Result::unwrap).collect();
            assert!(steps.iter().any(|step| step.contains(wanted)), "{filter:?}: {steps:#?}");
            let is_bare = |step: &&String| step.starts_with("SCAN m") && !step.contains("INDEX");
            assert_eq!(steps.iter().find(is_bare), None, "{filter:?}: {steps:#?}");
            let files = steps.iter().filter(|step| step.contains("COVERING INDEX files_for_event"));
            assert_eq!(files.count(), 2, "{filter:?}: {steps:#?}");
        }
    }
}
