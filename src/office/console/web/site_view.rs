//! A site as pages see it: the archive's row, its place, and the judgement of the board.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Web;
use super::problem::Problem;
use super::web_state::lock;
use crate::office::console::board::{Facts, backlog_since, counter, judge};
use crate::office::console::tables::rows::PlaceRow;
use crate::office::queries::rows::{GapSum, SiteStatus, SnapshotRef};
use crate::units::WallTime;
use crate::uplink::wire::Health;

/// `Site` of the API.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SiteView {
    pub(crate) site: String,
    name_vi: String,
    name_en: String,
    pub(crate) group: String,
    pub(crate) state: &'static str,
    reason: Reason,
    seen: String,
    pub(crate) presence: String,
    pub(crate) recording: Option<bool>,
    clock: String,
    snapshot: Option<SnapshotRef>,
    pub(crate) backlog_bytes: u64,
    backlog_since: Option<String>,
    pub(crate) card_worn_percent: Option<u64>,
    missing_seq: u64,
    gaps_today: GapSum,
    sim: Sim,
    version: String,
}

#[derive(Debug, Clone, Serialize)]
struct Reason {
    code: &'static str,
    args: Map<String, Value>,
}

/// Use of the SIM; the device does not say its budgets.
#[derive(Debug, Clone, Serialize)]
struct Sim {
    today: Option<u64>,
    day_budget: Option<u64>,
    month: Option<u64>,
    month_budget: Option<u64>,
}

impl SiteView {
    /// The view of a row.
    pub(crate) fn of(
        status: &SiteStatus,
        place: Option<&PlaceRow>,
        missing_since: Option<WallTime>,
        is_demo: bool,
        now: WallTime,
    ) -> SiteView {
        let health: Option<Health> = serde_json::from_value(status.health.clone()).ok();
        let facts = Facts {
            presence: status.presence.clone(),
            seen: WallTime::parse(&status.seen).ok(),
            missing: status.missing_seq,
            missing_since,
            health,
            is_demo,
            ..Facts::default()
        };
        let judged = judge(&facts, now);
        let health = facts.health.as_ref();
        let count = |name| health.and_then(|health| health.counters.get(name)).copied();
        let recording =
            health.map(|health| health.camera == "recording" && status.presence == "online");
        let word = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
        SiteView {
            site: status.site.clone(),
            name_vi: place.map(|place| place.name_vi.clone()).unwrap_or_default(),
            name_en: place.map(|place| place.name_en.clone()).unwrap_or_default(),
            group: place.map(|place| place.group.clone()).unwrap_or_default(),
            state: judged.state.as_str(),
            reason: Reason { code: judged.code, args: judged.args },
            seen: status.seen.clone(),
            presence: status.presence.clone(),
            recording,
            clock: word(if health.is_some() { &status.health } else { &status.birth }, "clock"),
            snapshot: status.snapshot.clone(),
            backlog_bytes: health.map_or(0, |health| health.backlog.bytes),
            backlog_since: health.and_then(backlog_since).map(WallTime::rfc3339),
            card_worn_percent: health.map(|health| counter(health, "storage.worn_percent")),
            missing_seq: status.missing_seq,
            gaps_today: status.gaps,
            sim: Sim {
                today: count("uplink.bytes_today"),
                day_budget: None,
                month: count("uplink.bytes_month"),
                month_budget: None,
            },
            version: word(&status.birth, "version"),
        }
    }

    /// With the device's own words.
    pub(crate) fn with_words(&self, status: &SiteStatus) -> Result<Value, Problem> {
        let mut whole = serde_json::to_value(self)
            .map_err(|error| Problem::new(super::problem::Code::Internal, error.to_string()))?;
        whole["birth"] = status.birth.clone();
        whole["health"] = status.health.clone();
        whole["ring"] = json!({
            "id": status.ring, "events": status.events, "files": status.files, "bytes": status.bytes,
            "presence_since": status.presence_since, "health_at": status.health_at,
        });
        Ok(whole)
    }
}

/// The first moment of the day in the time zone of this machine.
pub(crate) fn day_start(now: WallTime) -> WallTime {
    let local = now.timestamp().to_zoned(jiff::tz::TimeZone::system());
    local.start_of_day().map_or(now, |start| WallTime(start.timestamp().as_microsecond()))
}

impl Web {
    /// All sites as pages see them, sorted by id.
    pub(crate) fn site_views(&self, now: WallTime) -> Result<Vec<SiteView>, Problem> {
        let rows = self.reader.board(day_start(now))?;
        let places = self.places()?;
        let place = |site: &str| places.iter().find(|place| place.site == site);
        self.note_missing(&rows, now);
        Ok(rows.iter().map(|row| self.site_view(row, place(&row.site), now)).collect())
    }

    /// A site as pages see it.
    pub(crate) fn site_view(
        &self,
        row: &SiteStatus,
        place: Option<&PlaceRow>,
        now: WallTime,
    ) -> SiteView {
        SiteView::of(row, place, self.missing_since(&row.site), self.console.is_demo(), now)
    }

    /// Since when sequence numbers of a site have been missing, as far as this run has seen.
    pub(crate) fn missing_since(&self, site: &str) -> Option<WallTime> {
        lock(&self.missing).get(site).copied()
    }

    fn note_missing(&self, rows: &[SiteStatus], now: WallTime) {
        let mut missing = lock(&self.missing);
        for row in rows {
            if row.missing_seq == 0 {
                missing.remove(&row.site);
            } else {
                missing.entry(row.site.clone()).or_insert(now);
            }
        }
    }
}
