//! Rules of retention, stored bytes. The console keeps the rules, the archive carries them out.

use serde::{Deserialize, Serialize};

use crate::office::console::people::rights::{ALL_SITES, Right};
use crate::office::console::retention::{archive_rules, kept_rules};
use crate::office::console::tables::rows::RetentionRow;
use crate::office::console::web::Web;
use crate::office::console::web::answer::Answer;
use crate::office::console::web::call::Call;
use crate::office::console::web::problem::Problem;
use crate::office::console::web::route::Kind::{List, Text, Time, Whole};
use crate::office::console::web::route::{
    Access, Field, Gives, Method, Route, Takes, Weight, field, maybe,
};

const RULES: &[Field] = &[field("rules", List(RULE), "All rules.")];
const RULE: &[Field] = &[
    field("group", Text, "Group, or * for all sites."),
    field("purpose", Text, "clip, snapshot, requested."),
    field("days", Whole, "Days after the reception."),
    field("ground", Text, "The rule of law it rests on."),
];
const PREVIEW: &[Field] = &[
    field("files", Whole, "Files that would go."),
    field("bytes", Whole, "Their bytes."),
    maybe("oldest", Time, "Receipt of the oldest."),
    field("locked", Whole, "Files as old that locks keep."),
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
        Method::Post,
        "/api/v1/retention/preview",
        Access::Office(Right::Retention),
        "What rules would delete tonight.",
        Gives::Json(PREVIEW),
        preview,
    )
    .takes(Takes::Json(RULES))
    .weight(Weight::Heavy),
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
    let mut rules = call.web.console.read(|tables| tables.retention_rules())?;
    rules.retain(|rule| rule.group == ALL_SITES || call.may(Right::Board, &rule.group));
    Answer::json(&Rules { rules })
}

fn put_rules(call: &Call) -> Result<Answer, Problem> {
    let Rules { rules } = call.json()?;
    let (by, rows) = (call.origin()?, rules.clone());
    call.web.console.read(|tables| archive_rules(&rules, &tables.site_groups()?))?;
    call.web.console.act(move |store, now| store.set_retention(&by, now, &rows))?;
    call.web.hand_rules()?;
    Answer::json(&Rules { rules })
}

fn preview(call: &Call) -> Result<Answer, Problem> {
    let Rules { rules } = call.json()?;
    let rules = call.web.console.read(|tables| archive_rules(&rules, &tables.site_groups()?))?;
    let ceilings = call.web.runtime.block_on(call.web.archive.ceilings())?;
    Answer::json(&call.web.reader.retention_preview(&rules, &ceilings, call.now)?)
}

impl Web {
    /// Hands the rules to the archive: at the start, and when rules, groups or places change.
    pub(crate) fn hand_rules(&self) -> Result<(), Problem> {
        self.read_groups()?;
        let rules = self.console.read(kept_rules)?;
        Ok(self.runtime.block_on(self.archive.set_rules(rules))?)
    }
}

fn storage(call: &Call) -> Result<Answer, Problem> {
    let mut totals = call.web.reader.storage_totals(call.now)?;
    let groups = call.web.all_groups();
    totals
        .rows
        .retain(|row| call.may(Right::Stats, groups.get(&row.site).map_or("", String::as_str)));
    Answer::json(&totals)
}
