//! Rules of retention, locks, stored bytes.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::office::console::people::rights::Right;
use crate::office::console::tables::rows::RetentionRow;
use crate::office::console::web::answer::Answer;
use crate::office::console::web::call::Call;
use crate::office::console::web::problem::Problem;
use crate::office::console::web::route::Kind::{List, Text, Time, Whole};
use crate::office::console::web::route::{
    Access, Field, Gives, Method, Route, Takes, Weight, field, maybe,
};
use crate::units::WallTime;

const RULES: &[Field] = &[field("rules", List(RULE), "All rules.")];
const RULE: &[Field] = &[
    field("group", Text, "Group, or * for all sites."),
    field("purpose", Text, "clip, snapshot, requested."),
    field("days", Whole, "Days after the reception."),
    field("ground", Text, "The rule of law it rests on."),
];
const LOCKS: &[Field] = &[field("locks", List(LOCK), "Locks of the sites that the user may see.")];
const LOCK: &[Field] = &[
    field("id", Whole, "Number."),
    field("site", Text, "Site id."),
    field("from", Time, "Start."),
    field("to", Time, "End."),
    field("title", Text, "Title."),
    maybe("case", Text, "Number of the case."),
    maybe("review", Time, "When it is to be reviewed."),
    maybe("by", Text, "Who locked."),
    field("at", Time, "When."),
];
const STORAGE: &[Field] = &[
    field("rows", List(STORED), "By site and purpose."),
    field("unfinished_bytes", Whole, "Announced bytes of unfinished files."),
    field("free_bytes", Whole, "Free bytes of the disk."),
];
const STORED: &[Field] = &[
    field("site", Text, "Site id."),
    field("purpose", Text, "clip, snapshot, requested."),
    field("files", Whole, "Files."),
    field("bytes", Whole, "Their bytes."),
    field("bytes_lately", Whole, "Received within 14 days."),
    field("oldest", Time, "First picture of the oldest."),
];

pub(in crate::office::console::web) const ROUTES: &[Route] = &[
    Route::new(
        Method::Get,
        "/api/v1/retention",
        Access::AnySite(Right::Board),
        "Rules of retention.",
        Gives::Json(RULES),
        rules,
    ),
    Route::new(
        Method::Put,
        "/api/v1/retention",
        Access::Office(Right::Retention),
        "Replace the rules of retention.",
        Gives::Json(RULES),
        put_rules,
    )
    .takes(Takes::Json(RULES)),
    Route::new(
        Method::Get,
        "/api/v1/locks",
        Access::AnySite(Right::Board),
        "Locks of footage.",
        Gives::Json(LOCKS),
        locks,
    ),
    Route::new(
        Method::Get,
        "/api/v1/stats/storage",
        Access::AnySite(Right::Stats),
        "Stored bytes by site and purpose.",
        Gives::Json(STORAGE),
        storage,
    )
    .weight(Weight::Heavy),
];

#[derive(Deserialize, Serialize)]
struct Rules {
    rules: Vec<RetentionRow>,
}

fn rules(call: &Call) -> Result<Answer, Problem> {
    let rules = call.web.console.read(|tables| tables.retention_rules())?;
    Answer::json(&Rules { rules })
}

fn put_rules(call: &Call) -> Result<Answer, Problem> {
    let Rules { rules } = call.json()?;
    let (by, rows) = (call.origin()?, rules.clone());
    call.web.console.act(move |store, now| store.set_retention(&by, now, &rows))?;
    Answer::json(&Rules { rules })
}

fn locks(call: &Call) -> Result<Answer, Problem> {
    let notes = call.web.console.read(|tables| tables.lock_notes())?;
    let groups = call.web.all_groups();
    let may = |site: &str| call.may(Right::Board, groups.get(site).map_or("", String::as_str));
    let locks: Vec<Value> = call
        .web
        .reader
        .locks()?
        .into_iter()
        .filter(|lock| may(&lock.site))
        .map(|lock| {
            let note = notes.iter().find(|note| note.id == lock.id && note.site == lock.site);
            json!({
                "id": lock.id, "site": lock.site, "from": lock.from, "to": lock.to,
                "title": note.map_or(lock.reason.as_str(), |note| note.title.as_str()),
                "case": note.map(|note| &note.case), "by": note.map(|note| &note.by), "at": lock.made,
                "review": note.and_then(|note| note.review).map(WallTime::rfc3339),
            })
        })
        .collect();
    Answer::json(&json!({"locks": locks}))
}

fn storage(call: &Call) -> Result<Answer, Problem> {
    let mut totals = call.web.reader.storage_totals(call.now)?;
    let groups = call.web.all_groups();
    totals
        .rows
        .retain(|row| call.may(Right::Stats, groups.get(&row.site).map_or("", String::as_str)));
    Answer::json(&totals)
}
