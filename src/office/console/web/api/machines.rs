//! The stream of events for pages, and what machines read: the API's description, figures, health.

use axum::http::HeaderName;
use serde_json::json;

use crate::office::console::people::rights::Right;
use crate::office::console::web::answer::Answer;
use crate::office::console::web::call::Call;
use crate::office::console::web::metrics::{self, OfficeFigures};
use crate::office::console::web::openapi;
use crate::office::console::web::problem::{Code, Problem};
use crate::office::console::web::route::Kind::{Bool, Text, Whole};
use crate::office::console::web::route::{
    Access, Field, Gives, Method, Route, Weight, field, maybe,
};
use crate::office::console::web::web_state::lock;

const AFTER: &[Field] =
    &[maybe("after", Whole, "Number of the last event, as the header Last-Event-ID.")];
const HEALTHZ: &[Field] =
    &[field("ok", Bool, "The office answers."), field("version", Text, "Version.")];

pub(in crate::office::console::web) const ROUTES: &[Route] = &[
    Route::new(
        Method::Get,
        "/api/v1/stream",
        Access::AnySite(Right::Board),
        "Events for pages: site, motion_event, notice, reset.",
        Gives::Bytes("text/event-stream"),
        stream,
    )
    .query(AFTER),
    Route::new(
        Method::Get,
        "/api/v1/openapi.json",
        Access::Session,
        "This description.",
        Gives::Bytes("application/json"),
        openapi::get,
    ),
    Route::new(
        Method::Get,
        "/metrics",
        Access::Machine,
        "Figures for Prometheus.",
        Gives::Bytes("text/plain"),
        figures,
    )
    .weight(Weight::Heavy),
    Route::new(
        Method::Get,
        "/healthz",
        Access::Machine,
        "Whether the office answers and reads its archive.",
        Gives::Json(HEALTHZ),
        healthz,
    ),
];

fn stream(call: &Call) -> Result<Answer, Problem> {
    let place = call.web.place_for_stream(&call.session()?.id).ok_or(Code::TooManyRequests)?;
    let last = call.header(&HeaderName::from_static("last-event-id"));
    // A number that is none is of no run: the page then reads everything again.
    let last = last.map(|last| last.trim().parse().unwrap_or(0));
    Ok(Answer::stream(last.or(call.whole("after")?), place))
}

fn figures(call: &Call) -> Result<Answer, Problem> {
    let web = &call.web;
    let totals = web.reader.storage_totals(call.now)?;
    let office = OfficeFigures {
        sessions: web.console.read(|tables| tables.sessions())?.len() as u64,
        streams: lock(&web.streams).values().sum::<usize>() as u64,
        connections: lock(&web.open).count() as u64,
        audit_head: web.console.read(|tables| tables.audit_head())?.n,
        files: totals.rows.iter().map(|row| row.files).sum(),
        bytes: totals.rows.iter().map(|row| row.bytes).sum(),
        free_bytes: totals.free_bytes,
    };
    let text = metrics::text(&web.counts, &office, &web.site_views(call.now)?);
    Ok(Answer::of("text/plain; version=0.0.4; charset=utf-8", text))
}

fn healthz(call: &Call) -> Result<Answer, Problem> {
    call.web.reader.locks()?;
    call.web.console.read(|tables| tables.audit_head())?;
    Answer::json(&json!({"ok": true, "version": crate::VERSION}))
}
