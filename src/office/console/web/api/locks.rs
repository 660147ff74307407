//! Locks of footage: the archive makes and ends them, the console keeps what officers wrote.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::office::archive_link::NewLock;
use crate::office::console::audit::record::{Act, Entry};
use crate::office::console::people::rights::{Limit, Right, decide};
use crate::office::console::tables::rows::LockNote;
use crate::office::console::web::answer::Answer;
use crate::office::console::web::call::Call;
use crate::office::console::web::problem::{Code, Problem};
use crate::office::console::web::route::Kind::{List, Text, Time, Whole};
use crate::office::console::web::route::{
    Access, Field, Gives, Method, Route, Takes, field, maybe,
};
use crate::units::{SiteId, WallTime};

/// Bytes of a title at most: the archive keeps 200 of them.
const TITLE_MAX: usize = 200;

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
    field("bytes", Whole, "Bytes of the stored files that it holds."),
];
const NEW: &[Field] = &[
    field("site", Text, "Site id."),
    field("from", Time, "Start."),
    field("to", Time, "End."),
    field("title", Text, "Title."),
    maybe("case", Text, "Number of the case."),
    maybe("review", Time, "When it is to be reviewed."),
];
const MADE: &[Field] = &[field("id", Whole, "Number of the lock.")];
const REASON: &[Field] = &[field("reason", Text, "Why the lock ends.")];

pub(in crate::office::console::web) const ROUTES: &[Route] = &[
    Route::new(
        Method::Get,
        "/api/v1/locks",
        Access::AnySite(Right::Board),
        "Locks of footage.",
        Gives::Json(LOCKS),
        locks,
    ),
    Route::new(
        Method::Post,
        "/api/v1/locks",
        Access::AnySite(Right::Lock),
        "Lock the footage of a site between two times.",
        Gives::Json(MADE),
        lock,
    )
    .takes(Takes::Json(NEW)),
    Route::new(
        Method::Delete,
        "/api/v1/locks/{id}",
        Access::AnySite(Right::Unlock),
        "End a lock, with a reason.",
        Gives::Nothing,
        unlock,
    )
    .takes(Takes::Json(REASON)),
];

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
                "bytes": lock.bytes,
                "review": note.and_then(|note| note.review).map(WallTime::rfc3339),
            })
        })
        .collect();
    Answer::json(&json!({"locks": locks}))
}

#[derive(Deserialize)]
struct NewBody {
    site: String,
    from: String,
    to: String,
    title: String,
    #[serde(default)]
    case: Option<String>,
    #[serde(default)]
    review: Option<String>,
}

/// The record comes first: a lock without one does not happen.
fn lock(call: &Call) -> Result<Answer, Problem> {
    let NewBody { site, from, to, title, case, review } = call.json()?;
    let group = call.web.group_of(&site)?.ok_or_else(Problem::not_found)?;
    if !call.may(Right::Lock, &group) {
        return Err(Problem::not_found());
    }
    let title = title.trim().to_owned();
    if title.is_empty() || title.len() > TITLE_MAX {
        return Err(Problem::new(Code::Invalid, format!("a title has 1 to {TITLE_MAX} bytes")));
    }
    let time = |text: &str| WallTime::parse(text).map_err(Problem::bad);
    let (from, to) = (time(&from)?, time(&to)?);
    if from >= to {
        return Err(Problem::bad("to is not after from"));
    }
    let review = review.filter(|text| !text.is_empty()).map(|text| time(&text)).transpose()?;
    let id = SiteId::parse(&site).map_err(|_| Problem::not_found())?;
    call.record(Entry::of(Act::Lock).site(&id).range(from, to).reason(&title))?;
    let asked = NewLock { site: site.clone(), from, to, reason: title.clone() };
    let number = call.web.runtime.block_on(call.web.archive.lock(asked))?;
    let (by, case) = (call.origin()?, case.unwrap_or_default());
    let note = LockNote { id: number, site, title, case, review, by: String::new(), at: call.now };
    call.web.console.act(move |store, now| store.note_lock(&by, now, &note))?;
    Answer::json(&json!({"id": number}))
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
}

fn unlock(call: &Call) -> Result<Answer, Problem> {
    let number = call.number("id")?;
    let locks = call.web.reader.locks()?;
    let lock = locks.iter().find(|lock| lock.id == number).ok_or_else(Problem::not_found)?;
    let group = call.web.known_group(&lock.site);
    let grants = &call.session()?.grants;
    let Some((_, limit)) = decide(grants, Right::Unlock, &group, call.now) else {
        return Err(Problem::not_found());
    };
    let Reason { reason } = call.json()?;
    if limit == Some(Limit::WithReason) && reason.trim().is_empty() {
        return Err(Code::ReasonMissing.into());
    }
    let mut entry = Entry::of(Act::Unlock).object("lock").object(number.to_string());
    if let Ok(site) = SiteId::parse(&lock.site) {
        entry = entry.site(&site);
    }
    call.record(entry.reason(reason.trim()))?;
    call.web.runtime.block_on(call.web.archive.unlock(number))?;
    Ok(Answer::nothing())
}
