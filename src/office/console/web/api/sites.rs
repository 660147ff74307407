//! The board, one site, and its histories.

use serde_json::json;

use super::commands;
use crate::office::console::people::rights::Right;
use crate::office::console::web::answer::Answer;
use crate::office::console::web::call::Call;
use crate::office::console::web::problem::Problem;
use crate::office::console::web::route::Kind::{
    Any, Bool, List, Map, Number, Object, Text, Time, Values, Whole,
};
use crate::office::console::web::route::{
    Access, Field, Gives, Method, Route, Takes, Weight, field, maybe,
};
use crate::office::console::web::site_view::{SiteView, day_start};

/// `Site`.
pub(super) const SITE: &[Field] = &[
    field("site", Text, "Site id."),
    field("name_vi", Text, "Name in Vietnamese."),
    field("name_en", Text, "Name in English."),
    field("group", Text, "Group; empty without one."),
    field("state", Text, "ok, warn, fault, unknown."),
    field("reason", Object(REASON), "Why."),
    field("seen", Text, "Time of the last message; empty before the first."),
    field("presence", Text, "online, stopping, lost, or empty before the first state."),
    maybe("recording", Bool, "Whether it records; null when unknown."),
    field("clock", Text, "ntp, camera, rtc, unset, or empty."),
    maybe("snapshot", Object(SNAPSHOT), "The newest picture."),
    field("backlog_bytes", Whole, "Bytes that wait for the office."),
    maybe("backlog_since", Time, "Since when the oldest waits."),
    maybe("card_worn_percent", Whole, "Used part of the card's life."),
    field("missing_seq", Whole, "Missing sequence numbers."),
    field("gaps_today", Object(GAPS), "Gaps of the footage since midnight."),
    field("sim", Object(SIM), "Use of the SIM."),
    field("version", Text, "Version of the device."),
    maybe("privacy_zones", Whole, "Privacy zones; null when the device does not say it."),
];
const REASON: &[Field] =
    &[field("code", Text, "Code of the sentence."), field("args", Any, "What the sentence names.")];
const SNAPSHOT: &[Field] =
    &[field("fid", Text, "File id."), field("time", Time, "Time of the picture.")];
const GAPS: &[Field] = &[field("count", Whole, "How many."), field("seconds", Whole, "How long.")];
const SIM: &[Field] = &[
    maybe("today", Whole, "Bytes since midnight (UTC)."),
    maybe("day_budget", Whole, "Bytes of a day."),
    maybe("month", Whole, "Bytes of this month."),
    maybe("month_budget", Whole, "Bytes of a month."),
];
const RANGE: &[Field] = &[field("from", Time, "Start."), field("to", Time, "End.")];
const HEALTH_QUERY: &[Field] = &[
    field("from", Time, "Start."),
    field("to", Time, "End."),
    maybe("step", Whole, "Seconds of a step at least."),
];
const BOARD: &[Field] = &[
    field("now", Time, "Time of the office."),
    field("sites", List(SITE), "All sites that the user may see."),
];
const ONE: &[Field] = &[
    field("site", Text, "Site id, and all members of the board."),
    field("birth", Any, "The device's last birth, in its own words."),
    field("health", Any, "The device's last health message, in its own words."),
    field("ring", Any, "What the archive has of its ring."),
];
const HEALTH: &[Field] = &[
    field("step", Whole, "Seconds of a step."),
    field("t", Values(&Whole), "Unix time of each step."),
    field("series", Map(&Values(&Number)), "By figure, one value for each step, or null."),
];
const PRESENCE_ROW: &[Field] = &[
    field("from", Time, "Start."),
    maybe("to", Time, "End; null while it lasts."),
    field("state", Text, "online, stopping, lost."),
];
/// A gap.
pub(super) const GAP: &[Field] = &[
    field("from", Time, "Start."),
    field("to", Time, "End."),
    field("reason", Text, "Reason (docs/mqtt.md, gap)."),
    field("bytes", Whole, "Bytes; 0 when unknown."),
];
const COUNT: &[Field] = &[
    field("hour", Time, "Start of the hour."),
    field("rule", Text, "Rule or zone."),
    field("way", Text, "left, right, event, zone, watched, blind."),
    field("n", Whole, "How many."),
];
const REPLY: &[Field] =
    &[field("req_id", Text, "Number of the command; the device's reply follows.")];

pub(in crate::office::console::web) const ROUTES: &[Route] = &[
    Route::new(
        Method::Get,
        "/api/v1/sites",
        Access::AnySite(Right::Board),
        "All sites with their states.",
        Gives::Json(BOARD),
        board,
    )
    .weight(Weight::Heavy),
    Route::new(
        Method::Get,
        "/api/v1/sites/{site}",
        Access::Site(Right::Board),
        "One site with the device's words.",
        Gives::Json(ONE),
        site,
    ),
    Route::new(
        Method::Get,
        "/api/v1/sites/{site}/health",
        Access::Site(Right::Board),
        "Health figures step by step.",
        Gives::Json(HEALTH),
        health,
    )
    .query(HEALTH_QUERY)
    .weight(Weight::Heavy),
    Route::new(
        Method::Get,
        "/api/v1/sites/{site}/presence",
        Access::Site(Right::Board),
        "When the device was online.",
        Gives::Rows(PRESENCE_ROW),
        presence,
    )
    .query(RANGE),
    Route::new(
        Method::Get,
        "/api/v1/sites/{site}/gaps",
        Access::Site(Right::Board),
        "Gaps of the footage, with their reasons.",
        Gives::Rows(GAP),
        gaps,
    )
    .query(RANGE),
    Route::new(
        Method::Get,
        "/api/v1/sites/{site}/counts",
        Access::Site(Right::Stats),
        "Counts of each hour.",
        Gives::Rows(COUNT),
        counts,
    )
    .query(RANGE)
    .weight(Weight::Heavy),
    Route::new(
        Method::Post,
        "/api/v1/sites/{site}/commands/ping",
        Access::Site(Right::DevicePing),
        "Ask the device whether it answers.",
        Gives::Json(REPLY),
        commands::ping,
    )
    .takes(Takes::Json(&[]))
    .weight(Weight::Command),
    Route::new(
        Method::Post,
        "/api/v1/sites/{site}/commands/ring-status",
        Access::Site(Right::DevicePing),
        "Ask the device for the state of its ring.",
        Gives::Json(REPLY),
        commands::ring_status,
    )
    .takes(Takes::Json(&[]))
    .weight(Weight::Command),
    Route::new(
        Method::Post,
        "/api/v1/sites/{site}/commands/log-tail",
        Access::Site(Right::DeviceCommand),
        "Ask the device for the end of its log.",
        Gives::Json(REPLY),
        commands::log_tail,
    )
    .takes(Takes::Json(&[]))
    .weight(Weight::Command),
];

fn board(call: &Call) -> Result<Answer, Problem> {
    let sites: Vec<SiteView> = call
        .web
        .site_views(call.now)?
        .into_iter()
        .filter(|view| call.may(Right::Board, &view.group))
        .collect();
    Answer::json(&json!({"now": call.now.rfc3339(), "sites": sites}))
}

fn site(call: &Call) -> Result<Answer, Problem> {
    let site = call.param("site");
    let row = call.web.reader.site(site, day_start(call.now))?.ok_or_else(Problem::not_found)?;
    let places = call.web.places()?;
    let place = places.iter().find(|place| place.site == site);
    let view = call.web.site_view(&row, place, call.now);
    Answer::json(&view.with_words(&row)?)
}

fn health(call: &Call) -> Result<Answer, Problem> {
    let (from, to) = call.range()?;
    let step = call.whole("step")?.unwrap_or(60).min(31 * 86_400);
    let step = i64::try_from(step).unwrap_or(60).max(1);
    Answer::json(&call.web.reader.health(call.param("site"), from, to, step)?)
}

fn presence(call: &Call) -> Result<Answer, Problem> {
    let (from, to) = call.range()?;
    let rows = call.web.reader.presence(call.param("site"), from, to)?;
    Answer::json(&rows)
}

fn gaps(call: &Call) -> Result<Answer, Problem> {
    let (from, to) = call.range()?;
    let rows = call.web.reader.gaps(call.param("site"), from, to)?;
    Answer::json(&rows)
}

fn counts(call: &Call) -> Result<Answer, Problem> {
    let (from, to) = call.range()?;
    let rows = call.web.reader.counts(call.param("site"), from, to)?;
    Answer::json(&rows)
}
