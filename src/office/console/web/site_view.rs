//! A site as pages see it: the archive's row, its place, and the judgement of the board.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Web;
use super::problem::Problem;
use super::web_state::{lock, privacy_zones};
use crate::office::console::board::{Facts, backlog_since, camera, counter, judge};
use crate::office::console::tables::rows::PlaceRow;
use crate::office::queries::rows::{GapSum, SiteStatus, SnapshotRef};
use crate::units::WallTime;
use crate::uplink::wire::Health;

/// Seconds between health messages that count at most: a setting has 3,600 at most.
const HEALTH_EVERY_MAX: u64 = 3_600;

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
    /// `None`: the device does not say it.
    pub(crate) privacy_zones: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
struct Reason {
    code: &'static str,
    args: Map<String, Value>,
}

/// Use of the SIM; budgets are `None` without a limit.
#[derive(Debug, Clone, Serialize)]
struct Sim {
    today: Option<u64>,
    day_budget: Option<u64>,
    month: Option<u64>,
    month_budget: Option<u64>,
}

impl Sim {
    fn of(status: &SiteStatus, health: Option<&Health>) -> Sim {
        let count = |name| health.and_then(|health| health.counters.get(name)).copied();
        let budget = |name| status.birth[name].as_u64().filter(|bytes| *bytes > 0);
        Sim {
            today: count("uplink.bytes_today"),
            day_budget: budget("day_budget"),
            month: count("uplink.bytes_month"),
            month_budget: budget("month_budget"),
        }
    }

    /// The used part of the budget that is used the most.
    fn percent(&self) -> Option<u64> {
        let part = |used: Option<u64>, budget: Option<u64>| {
            Some(used?.saturating_mul(100) / budget?.max(1))
        };
        part(self.today, self.day_budget).max(part(self.month, self.month_budget))
    }
}

/// Days until the first of the device's certificates ends; `None` where it has none, or says none.
fn certificate_days(health: &Health, now: WallTime) -> Option<i64> {
    let end =
        i64::try_from(counter(health, "uplink.certificate_end")).ok().filter(|end| *end > 0)?;
    Some(end.saturating_sub(now.0 / 1_000_000).div_euclid(86_400))
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
        let sim = Sim::of(status, health.as_ref());
        let every = status.birth["health_every"].as_u64().unwrap_or_default();
        let facts = Facts {
            presence: status.presence.clone(),
            seen: WallTime::parse(&status.seen).ok(),
            missing: status.missing_seq,
            missing_since,
            health_every: u32::try_from(every.min(HEALTH_EVERY_MAX)).unwrap_or_default(),
            budget_percent: sim.percent(),
            certificate_days: health.as_ref().and_then(|health| certificate_days(health, now)),
            health,
            camera: status.camera.clone(),
            is_demo,
        };
        let judged = judge(&facts, now);
        let health = facts.health.as_ref();
        let recording =
            camera(&facts).map(|state| state == "recording" && status.presence == "online");
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
            sim,
            version: word(&status.birth, "version"),
            privacy_zones: privacy_zones(&status.birth),
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
