//! Pages of motion events.
//!
//! A page reads rows of an index from the newest on and looks at each, until it is full or has read
//! as many as it may: its work is bounded, whatever is searched. Few sites are read each by its own
//! index, merged in the order of time.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use rusqlite::types::Value as SqlValue;
use rusqlite::{
    CachedStatement, Connection, OptionalExtension as _, Row, Rows, Statement, params_from_iter,
};

use super::history::motion_event_of;
use super::read_events::{Conditions, cursor};
use crate::office::error::ArchiveError;
use crate::office::history::motion::MotionEvent;
use crate::office::queries::rows::{MotionEventRow, MotionFilter, MotionPage};
use crate::office::queries::search_text::fold;
use crate::office::queries::{ROWS_MAX, SITES_MAX};
use crate::units::WallTime;

/// Bytes of a searched text at most.
const TEXT_MAX: usize = 100;

/// Sites that are read one by one; more are read in the order of time, where one of that many has a
/// row soon.
const FEW_SITES: usize = 64;

/// Columns of a motion event `m`, with its clip and its snapshot, which the index of an event's files
/// holds.
const MOTION: &str = "m.id, m.start, m.end, m.clock, m.rule, m.zones, m.priority, m.direction, m.direction_at, m.score, m.objects, m.seconds,
    m.is_closed, m.has_start, m.clip_plan, m.end_reason, m.site,
    (SELECT fid FROM files f WHERE f.site = m.site AND f.event = m.id AND f.gone IS NULL AND f.purpose = 'clip' ORDER BY f.start, f.fid LIMIT 1),
    (SELECT fid FROM files f WHERE f.site = m.site AND f.event = m.id AND f.gone IS NULL AND f.purpose = 'snapshot' ORDER BY f.start, f.fid LIMIT 1)";

fn motion_row(row: &Row<'_>) -> rusqlite::Result<MotionEventRow> {
    let event = motion_event_of(row)?;
    let MotionEvent { id, start, end, clock, rule, zones, priority, direction, score, .. } = event;
    Ok(MotionEventRow {
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
    })
}

/// A row of the index: what decides its place, then what a filter looks at (empty when none does).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    start: i64,
    site: String,
    id: String,
    rule: String,
    zones: String,
}

impl Key {
    /// The place behind which the next page begins.
    fn next(&self) -> String {
        format!("{},{},{}", self.start, self.site, self.id)
    }

    fn time(&self) -> String {
        WallTime(self.start).rfc3339()
    }
}

/// The place that [`Key::next`] wrote: start, site, id.
fn place(before: &str) -> Result<(i64, String, String), ArchiveError> {
    let (start, site, id) = cursor(before)?;
    let start = start
        .parse()
        .map_err(|_| ArchiveError::Invalid("`before` is not the `next` of a page".into()))?;
    Ok((start, site, id))
}

fn key_of(row: &Row<'_>) -> rusqlite::Result<Key> {
    Ok(Key {
        start: row.get(0)?,
        site: row.get(1)?,
        id: row.get(2)?,
        rule: row.get(3)?,
        zones: row.get(4)?,
    })
}

/// True when a list of zones, as JSON, has `zone`.
fn has_zone(zones: &str, zone: &str) -> bool {
    serde_json::from_str::<Vec<Cow<'_, str>>>(zones)
        .is_ok_and(|zones| zones.iter().any(|one| one == zone))
}

/// What no index answers: each row is looked at.
struct Wanted<'a> {
    sites: Option<HashSet<&'a str>>,
    rule: Option<&'a str>,
    zone: Option<&'a str>,
    text: Option<String>,
    text_sites: HashSet<&'a str>,
}

impl Wanted<'_> {
    fn of(filter: &MotionFilter) -> Wanted<'_> {
        let text = filter.text.as_deref().filter(|text| !text.is_empty());
        Wanted {
            sites: filter.sites.as_ref().map(|sites| sites.iter().map(String::as_str).collect()),
            rule: filter.rule.as_deref(),
            zone: filter.zone.as_deref(),
            text: text.map(fold),
            text_sites: filter.text_sites.iter().map(String::as_str).collect(),
        }
    }

    /// True when rule or zones of a row decide: they are in no index of time.
    fn needs_row(&self) -> bool {
        self.rule.is_some() || self.zone.is_some() || self.text.is_some()
    }

    fn has_text(&self, key: &Key) -> bool {
        let Some(text) = &self.text else { return true };
        let has = |word: &str| fold(word).contains(text);
        self.text_sites.contains(&*key.site)
            || has(&key.id)
            || has(&key.site)
            || has(&key.rule)
            || has(&key.zones)
    }

    fn takes(&self, key: &Key) -> bool {
        self.sites.as_ref().is_none_or(|sites| sites.contains(&*key.site))
            && self.rule.is_none_or(|rule| key.rule == rule)
            && self.zone.is_none_or(|zone| has_zone(&key.zones, zone))
            && self.has_text(key)
    }
}

/// The query of an index with its values for each of its parts, every part in the order of a page.
fn sources(
    filter: &MotionFilter,
    needs_row: bool,
) -> Result<(String, Vec<Vec<SqlValue>>), ArchiveError> {
    let mut wanted = Conditions::default();
    if let Some(from) = filter.from {
        wanted.add("m.start >= ?", from.0);
    }
    if let Some(to) = filter.to {
        wanted.add("m.start < ?", to.0);
    }
    if let Some(before) = &filter.before {
        let (start, site, id) = place(before)?;
        wanted.add_before("m.start", "(m.start, m.site, m.id)", start, [site, id]);
    }
    let few = filter.sites.as_deref().filter(|sites| sites.len() <= FEW_SITES);
    let mut of_parts: Vec<Option<SqlValue>> = vec![None];
    let mut index = "motion_events_by_time";
    if let Some(sites) = few {
        index = "motion_events_by_site";
        of_parts = sites.iter().map(|site| Some(site.clone().into())).collect();
    } else if let Some(rule) = &filter.rule {
        index = "motion_events_by_rule";
        of_parts = vec![Some(rule.clone().into())];
    }
    let more = if needs_row { "m.rule, m.zones" } else { "'', ''" };
    let (clause, values) = (wanted.clause(), wanted.values());
    let part = match index {
        "motion_events_by_site" => format!("m.site = ?{} AND ", values.len() + 1),
        "motion_events_by_rule" => format!("m.rule = ?{} AND ", values.len() + 1),
        _ => String::new(),
    };
    let query = format!(
        "SELECT m.start, m.site, m.id, {more} FROM motion_events m INDEXED BY {index}
         WHERE {part}{clause} ORDER BY m.start DESC, m.site DESC, m.id DESC"
    );
    let with = |part: Option<SqlValue>| values.iter().cloned().chain(part).collect();
    Ok((query, of_parts.into_iter().map(with).collect()))
}

/// Sorted parts as one, the newest row first.
struct Merged<'a> {
    parts: Vec<Rows<'a>>,
    heads: BinaryHeap<(Key, Reverse<usize>)>,
}

impl<'a> Merged<'a> {
    fn of(
        statements: &'a mut [Statement<'_>],
        values: Vec<Vec<SqlValue>>,
    ) -> Result<Merged<'a>, ArchiveError> {
        let mut merged = Merged { parts: Vec::new(), heads: BinaryHeap::new() };
        for (part, (statement, values)) in statements.iter_mut().zip(values).enumerate() {
            merged.parts.push(statement.query(params_from_iter(values))?);
            merged.read(part)?;
        }
        Ok(merged)
    }

    fn read(&mut self, part: usize) -> Result<(), ArchiveError> {
        let Some(rows) = self.parts.get_mut(part) else { return Ok(()) };
        if let Some(row) = rows.next()? {
            self.heads.push((key_of(row)?, Reverse(part)));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Key>, ArchiveError> {
        let Some((key, Reverse(part))) = self.heads.pop() else { return Ok(None) };
        self.read(part)?;
        Ok(Some(key))
    }

    fn is_at_end(&self) -> bool {
        self.heads.is_empty()
    }
}

/// The events whose id is the searched text, of which each site has one at most.
fn by_id(db: &Connection, filter: &MotionFilter) -> Result<Vec<Key>, ArchiveError> {
    let Some(text) = filter.text.as_deref().filter(|_| filter.before.is_none()) else {
        return Ok(Vec::new());
    };
    let sites = match &filter.sites {
        Some(sites) => serde_json::to_string(sites).unwrap_or_default(),
        None => db.query_row("SELECT json_group_array(site) FROM sites", [], |row| row.get(0))?,
    };
    let mut query = db.prepare_cached(
        "SELECT m.start, m.site, m.id, m.rule, m.zones FROM json_each(?1) s
         CROSS JOIN motion_events m ON m.site = s.value AND m.id IN (?2, upper(?2))",
    )?;
    let found = query.query_map([&*sites, text], key_of)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// The rows of these events.
fn listed(db: &Connection, only: &[(String, String)]) -> Result<Vec<Key>, ArchiveError> {
    let mut query = db.prepare_cached(
        "SELECT start, site, id, rule, zones FROM motion_events WHERE site = ?1 AND id = ?2",
    )?;
    let mut row = |(site, id): &(String, String)| query.query_row([site, id], key_of).optional();
    let rows: Vec<Option<Key>> = only.iter().map(&mut row).collect::<Result<_, _>>()?;
    Ok(rows.into_iter().flatten().collect())
}

/// A page of rows that were looked up one by one.
fn page_of(
    db: &Connection,
    filter: &MotionFilter,
    mut keys: Vec<Key>,
) -> Result<MotionPage, ArchiveError> {
    let (wanted, limit) = (Wanted::of(filter), filter.limit.clamp(1, ROWS_MAX) as usize);
    let before = filter.before.as_deref().map(place).transpose()?;
    keys.retain(|key| {
        filter.from.is_none_or(|from| key.start >= from.0)
            && filter.to.is_none_or(|to| key.start < to.0)
            && before.as_ref().is_none_or(|(start, site, id)| {
                (key.start, &key.site, &key.id) < (*start, site, id)
            })
            && wanted.takes(key)
    });
    keys.sort_by(|one, other| other.cmp(one));
    let has_more = keys.len() > limit;
    keys.truncate(limit);
    let last = keys.last().filter(|_| has_more);
    let (next, searched_to) = (last.map(Key::next), last.map(Key::time));
    Ok(MotionPage { events: whole(db, &keys)?, next, searched_to, scanned: 0 })
}

pub(super) fn motion_events(
    db: &Connection,
    filter: &MotionFilter,
) -> Result<MotionPage, ArchiveError> {
    if filter.text.as_ref().is_some_and(|text| text.len() > TEXT_MAX) {
        return Err(ArchiveError::Invalid(format!("a search has at most {TEXT_MAX} bytes")));
    }
    if filter.sites.as_ref().is_some_and(|sites| sites.len() > SITES_MAX) {
        return Err(ArchiveError::Invalid(format!("at most {SITES_MAX} sites")));
    }
    if let Some(only) = &filter.only {
        return page_of(db, filter, listed(db, only)?);
    }
    let exact = by_id(db, filter)?;
    if !exact.is_empty() {
        return page_of(db, filter, exact);
    }
    let limit = filter.limit.clamp(1, ROWS_MAX) as usize;
    let wanted = Wanted::of(filter);
    let (query, values) = sources(filter, wanted.needs_row())?;
    let prepared = values.iter().map(|_| db.prepare(&query));
    let mut statements: Vec<Statement<'_>> = prepared.collect::<Result<_, _>>()?;
    let mut rows = Merged::of(&mut statements, values)?;
    let (mut found, mut last, mut scanned) = (Vec::new(), None, 0);
    while found.len() < limit && scanned < filter.scan.max(1) {
        let Some(key) = rows.next()? else { break };
        scanned += 1;
        if wanted.takes(&key) {
            found.push(key.clone());
        }
        last = Some(key);
    }
    let stopped = last.filter(|_| !rows.is_at_end());
    Ok(MotionPage {
        events: whole(db, &found)?,
        next: stopped.as_ref().map(Key::next),
        searched_to: stopped.as_ref().map(Key::time),
        scanned,
    })
}

/// The whole rows; one that is gone since is left out.
fn whole(db: &Connection, keys: &[Key]) -> Result<Vec<MotionEventRow>, ArchiveError> {
    let mut query = whole_row(db)?;
    let mut row = |key: &Key| query.query_row([&key.site, &key.id], motion_row).optional();
    Ok(keys.iter().filter_map(|key| row(key).transpose()).collect::<Result<_, _>>()?)
}

pub(super) fn motion_event(
    db: &Connection,
    site: &str,
    id: &str,
) -> Result<Option<MotionEventRow>, ArchiveError> {
    Ok(whole_row(db)?.query_row([site, id], motion_row).optional()?)
}

fn whole_row(db: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    db.prepare_cached(&format!(
        "SELECT {MOTION} FROM motion_events m WHERE m.site = ?1 AND m.id = ?2"
    ))
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
            let (query, values) = sources(&filter, false).unwrap();
            let parts = filter
                .sites
                .as_ref()
                .map_or(1, |sites| if sites.len() > FEW_SITES { 1 } else { sites.len() });
            assert_eq!(values.len(), parts, "{filter:?}");
            let mut query = index.db.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let steps = query.query_map(params_from_iter(&values[0]), |row| row.get(3)).unwrap();
            let steps: Vec<String> = steps.map(Result::unwrap).collect();
            // One step: no sorting, which would read all rows before the first.
            let [step] = &steps[..] else { panic!("{filter:?}: {steps:#?}") };
            assert!(step.contains(&format!("COVERING INDEX {wanted}")), "{filter:?}: {step}");
        }
        let one = format!(
            "EXPLAIN QUERY PLAN SELECT {MOTION} FROM motion_events m WHERE m.site = 'a' AND m.id = 'b'"
        );
        let mut one = index.db.prepare(&one).unwrap();
        let steps = one.query_map([], |row| row.get::<_, String>(3)).unwrap().map(Result::unwrap);
        let files = steps.filter(|step| step.contains("COVERING INDEX files_for_event"));
        assert_eq!(files.count(), 2);
    }
}
