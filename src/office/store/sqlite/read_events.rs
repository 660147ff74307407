//! Pages of events.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params, params_from_iter};
use serde_json::Value;

use super::rows;
use crate::office::error::ArchiveError;
use crate::office::history::motion::short_kind;
use crate::office::queries::rows::{CameraReport, EventFilter, EventPage, StoredEvent};
use crate::office::queries::{ROWS_MAX, SITES_MAX};
use crate::units::WallTime;

/// Events of a site read for the state of its camera at most, the newest received: a device sends
/// some between two health messages, and a backlog that is longer is older than its health.
const CAMERA_EVENTS_MAX: i64 = 256;

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

    /// Adds that a row lies behind the last one of a page, in the order of `columns`, the first of which
    /// is `first`.
    pub(super) fn add_before(
        &mut self,
        first: &str,
        columns: &str,
        value: impl Into<SqlValue>,
        others: impl IntoIterator<Item = impl Into<SqlValue>>,
    ) {
        self.add(&format!("{first} <= ?"), value);
        let at = self.values.len();
        self.values.extend(others.into_iter().map(Into::into));
        let places: Vec<String> = (at..=self.values.len()).map(|at| format!("?{at}")).collect();
        self.text.push(format!("{columns} < ({})", places.join(", ")));
    }

    pub(super) fn clause(&self) -> String {
        if self.text.is_empty() { "1".to_owned() } else { self.text.join(" AND ") }
    }

    pub(super) fn values(self) -> Vec<SqlValue> {
        self.values
    }
}

/// The place behind which the next page begins: a number and two texts.
pub(super) fn cursor(text: &str) -> Result<(String, String, String), ArchiveError> {
    let mut parts = text.splitn(3, ',');
    let parts = (parts.next(), parts.next(), parts.next());
    let (Some(at), Some(site), Some(id)) = parts else {
        return Err(ArchiveError::Invalid("`before` is not the `next` of a page".into()));
    };
    Ok((at.to_owned(), site.to_owned(), id.to_owned()))
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
        wanted.add_before("received", "(received, rowid)", received, [rowid]);
    }
    let limit = filter.limit.clamp(1, ROWS_MAX);
    let query = format!(
        "SELECT site, id, seq, ring, kind, time, received, payload, rowid FROM events WHERE {}
         ORDER BY received DESC, rowid DESC LIMIT {}",
        wanted.clause(),
        limit + 1
    );
    let mut rows: Vec<(i64, StoredEvent)> =
        rows(db, &query, params_from_iter(wanted.values()), |row| {
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
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next =
        rows.last().filter(|_| has_more).map(|(rowid, last)| format!("{},{rowid},", last.received));
    Ok(EventPage { events: rows.into_iter().map(|(_, row)| row).collect(), next })
}

/// The newest report of the main stream's state that was received since the time `since`.
pub(super) fn camera_report(
    db: &Connection,
    site: &str,
    since: &str,
) -> Result<Option<CameraReport>, ArchiveError> {
    let sql = "SELECT kind, time, seq, payload FROM
         (SELECT * FROM events WHERE site = ?1 AND received >= ?2 ORDER BY received DESC LIMIT ?3)
         WHERE kind IN ('vn.taimat.camera.down.v1', 'vn.taimat.camera.up.v1')";
    let events: Vec<(String, String, i64, Vec<u8>)> =
        rows(db, sql, params![site, since, CAMERA_EVENTS_MAX], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
    let report = |(kind, time, seq, payload): (String, String, i64, Vec<u8>)| {
        let event: Value = serde_json::from_slice(&payload).ok()?;
        let data = &event["data"];
        let state = match short_kind(&kind) {
            "camera.up" => "recording",
            _ => data["fault"].as_str().filter(|fault| !fault.is_empty())?,
        };
        let at = WallTime::parse(&time).ok().filter(|_| data["stream"] == "main")?;
        Some((at, seq, CameraReport { at, state: state.to_owned() }))
    };
    let newest = events.into_iter().filter_map(report).max_by_key(|(at, seq, _)| (*at, *seq));
    Ok(newest.map(|(_, _, report)| report))
}
