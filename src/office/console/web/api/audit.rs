//! The audit trail, for users who may read it.

use serde_json::{Value, json};

use crate::office::console::audit::chain::StoredRecord;
use crate::office::console::audit::record::{Actor, Record};
use crate::office::console::people::rights::Right;
use crate::office::console::tables::rows::AuditFilter;
use crate::office::console::web::answer::Answer;
use crate::office::console::web::call::Call;
use crate::office::console::web::limits;
use crate::office::console::web::problem::Problem;
use crate::office::console::web::route::Kind::{Any, Bool, List, Text, Time, Values, Whole};
use crate::office::console::web::route::{
    Access, Field, Gives, Method, Route, Weight, field, maybe,
};
use crate::units::WallTime;

const READ: Access = Access::Office(Right::AuditRead);
const QUERY: &[Field] = &[
    maybe("before", Whole, "next of the page before."),
    maybe("who", Text, "Name of a user."),
    maybe("site", Text, "A site."),
    maybe("act", Text, "An act."),
    maybe("from", Time, "Not before."),
    maybe("to", Time, "Before."),
    maybe("limit", Whole, "Records at most; 100."),
];
const PAGE: &[Field] = &[
    field("records", List(RECORD), "Records, the newest first."),
    maybe("next", Whole, "For the next page; null after the last one."),
];
const RECORD: &[Field] = &[
    field("n", Whole, "Number."),
    field("t", Time, "When."),
    field("who", Text, "Name."),
    maybe("role", Text, "The role under which it was done."),
    field("act", Text, "What."),
    maybe("site", Text, "Site."),
    field("object", Values(&Text), "Kind and id of the object."),
    maybe("purpose", Any, "Purpose and number of the case."),
    field("result", Text, "ok, denied, failed."),
    maybe("range", Values(&Time), "Range of the footage."),
    field("from", Text, "Address."),
    field("session", Text, "Session."),
    maybe("reason", Text, "In words, unless it was blacked out."),
];
const VERIFY: &[Field] = &[
    field("ok", Bool, "No fault was found."),
    field("head", Any, "Number and digest of the last sound record."),
    maybe("fault", Any, "The first fault."),
    field("notes", Values(&Text), "What a reader should know."),
];

pub(in crate::office::console::web) const ROUTES: &[Route] = &[
    Route::new(
        Method::Get,
        "/api/v1/audit",
        READ,
        "Records of the audit trail.",
        Gives::Json(PAGE),
        list,
    )
    .query(QUERY)
    .weight(Weight::Heavy),
    Route::new(
        Method::Get,
        "/api/v1/audit/verify",
        READ,
        "Walk the chain of the audit trail.",
        Gives::Json(VERIFY),
        verify,
    )
    .weight(Weight::Heavy),
];

fn list(call: &Call) -> Result<Answer, Problem> {
    let text = |name| call.text(name).unwrap_or_default().to_owned();
    let filter = AuditFilter {
        before: call.whole("before")?,
        who: text("who"),
        site: text("site"),
        act: text("act"),
        from: call.time("from")?,
        to: call.time("to")?,
    };
    let limit = call.limit(100, limits::ROWS_MAX)?;
    // Reading the trail is an act, too.
    call.web.open_trail(call)?;
    let page = call.web.console.read(|tables| tables.audit_page(&filter, limit))?;
    let next = page.last().filter(|_| page.len() >= limit as usize).map(|record| record.n);
    let records: Vec<Value> = page.iter().map(record_json).collect::<Result<_, _>>()?;
    Answer::json(&json!({"records": records, "next": next}))
}

fn record_json(stored: &StoredRecord) -> Result<Value, Problem> {
    // A record that was changed is no record any more: `verify` says where.
    let Ok(record) = Record::parse(&stored.text) else {
        let who = "?";
        return Ok(json!({
            "n": stored.n, "t": WallTime(stored.t).rfc3339(), "who": who, "role": null, "act": "damaged",
            "site": null, "object": [], "purpose": null, "result": "failed", "range": null, "from": "",
            "session": "", "reason": null,
        }));
    };
    let (who, role) = match &record.origin.who {
        Actor::User { name, role, .. } => (name.clone(), role.map(|role| role.as_str())),
        Actor::Unproven(name) => (format!("? {name}"), None),
        Actor::CommandLine(uid) => (format!("uid {uid}"), None),
        Actor::Office => ("office".to_owned(), None),
    };
    let range = record.range.map(|(from, to)| [from.rfc3339(), to.rfc3339()]);
    let purpose = record
        .origin
        .purpose
        .as_ref()
        .map(|(kind, case)| json!({"kind": kind.as_str(), "case": case}));
    Ok(json!({
        "n": record.n, "t": record.t.rfc3339(), "who": who, "role": role, "act": record.act.as_str(),
        "site": record.site.as_ref().map(|site| site.as_str()), "object": record.object,
        "purpose": purpose, "result": record.result.as_str(), "range": range,
        "from": record.origin.from, "session": record.origin.session, "reason": stored.reason,
    }))
}

fn verify(call: &Call) -> Result<Answer, Problem> {
    Answer::json(&call.web.console.verify()?)
}
