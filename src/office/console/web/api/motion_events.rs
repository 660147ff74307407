//! The feed of motion events, what officers note to them.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::office::console::acts::Verdict;
use crate::office::console::people::rights::Right;
use crate::office::console::tables::rows::PlaceRow;
use crate::office::console::web::Web;
use crate::office::console::web::answer::Answer;
use crate::office::console::web::call::Call;
use crate::office::console::web::limits;
use crate::office::console::web::problem::{Code, Problem};
use crate::office::console::web::route::Kind::{List, Number, Object, Text, Time, Values, Whole};
use crate::office::console::web::route::{
    Access, Field, Gives, Method, Route, Takes, Weight, field, maybe,
};
use crate::office::queries::rows::{MotionEventRow, MotionFilter};
use crate::office::queries::search_text::fold;

/// Bytes of a note at most.
const NOTE_MAX: usize = 4_000;
/// Rows of the index that one row of an answer counts as: it is read whole, with its files and who
/// handled it. So one request does the work of some [`SCAN_ROWS`](crate::office::queries::SCAN_ROWS) rows, however much it passes over.
const ROWS_OF_EVENT: u32 = 4;
/// Marks of officers that are looked up one by one: with more of them, the events are searched in the
/// order of time.
const FEW_HANDLED: usize = 1_000;

const QUERY: &[Field] = &[
    maybe("site", Text, "Only this site."),
    maybe("rule", Text, "Only this rule."),
    maybe("zone", Text, "Only this zone."),
    maybe("handled", Text, "yes or no."),
    maybe("from", Time, "Only those that start at or after."),
    maybe("to", Time, "Only those that start before."),
    maybe(
        "q",
        Text,
        "Only those with this text in site, its names, rule, zone or id, without case and marks. The whole id of an event finds it alone; the whole id or name of a site its events alone.",
    ),
    maybe("before", Text, "next of the page before."),
    maybe("limit", Whole, "Events at most; 100."),
];
const PAGE: &[Field] = &[
    field("events", List(EVENT), "Events, the newest first."),
    maybe(
        "next",
        Text,
        "For the next page, also after an empty one: a request searches 4,000 events at most. Null after the last one.",
    ),
    maybe("searched_to", Time, "Time down to which events were searched; null when all were."),
];
const EVENT: &[Field] = &[
    field("id", Text, "Id of its start event."),
    field("site", Text, "Site id."),
    field("start", Time, "Start."),
    maybe("end", Time, "End; null while it is open."),
    field("clock", Text, "ntp, camera, rtc, unset."),
    field("rule", Text, "Rule."),
    field("zones", Values(&Text), "Zones."),
    field("priority", Text, "low, high, or empty."),
    maybe("direction", Number, "Degrees clockwise from up."),
    field("score", Number, "0 to 1."),
    maybe("seconds", Whole, "Duration."),
    field("state", Text, "open or closed."),
    maybe("clip", Text, "File id of the clip."),
    maybe("snapshot", Text, "File id of the snapshot."),
    maybe("handled", Object(HANDLED), "Who handled it."),
];
const HANDLED: &[Field] = &[
    field("by", Text, "Name."),
    field("at", Time, "When."),
    field("verdict", Text, "real, false_alarm."),
    maybe("note", Text, "The newest note."),
];
const NOTES: &[Field] =
    &[field("by", Text, "Name."), field("at", Time, "When."), field("text", Text, "The note.")];
const ONE: &[Field] = &[
    field("id", Text, "Id, and all members of the list."),
    field("notes", List(NOTES), "Notes, the oldest first."),
];
const CHANGE: &[Field] =
    &[maybe("verdict", Text, "real, false_alarm, none."), maybe("note", Text, "A note to add.")];

pub(in crate::office::console::web) const ROUTES: &[Route] = &[
    Route::new(
        Method::Get,
        "/api/v1/motion-events",
        Access::AnySite(Right::Board),
        "The feed of motion events.",
        Gives::Json(PAGE),
        list,
    )
    .query(QUERY)
    .weight(Weight::Heavy),
    Route::new(
        Method::Get,
        "/api/v1/motion-events/{site}/{id}",
        Access::Site(Right::Board),
        "One motion event with its notes.",
        Gives::Json(ONE),
        one,
    ),
    Route::new(
        Method::Patch,
        "/api/v1/motion-events/{site}/{id}",
        Access::Site(Right::Handle),
        "Mark an event as handled, add a note.",
        Gives::Json(ONE),
        change,
    )
    .takes(Takes::Json(CHANGE)),
];

#[derive(Deserialize)]
struct Change {
    #[serde(default)]
    verdict: Option<String>,
    #[serde(default)]
    note: Option<String>,
}

impl Web {
    /// An event as pages see it; `None` when there is none.
    pub(crate) fn motion_event_view(&self, site: &str, id: &str) -> Result<Option<Value>, Problem> {
        let row = self.reader.motion_event(site, id)?;
        Ok(self.events_json(row.as_slice())?.pop())
    }

    /// A page of events as JSON.
    fn events_json(&self, rows: &[MotionEventRow]) -> Result<Vec<Value>, Problem> {
        let to_json = |row| {
            let mut event = serde_json::to_value(row)?;
            event["handled"] = Value::Null;
            Ok(event)
        };
        let events: Result<Vec<Value>, serde_json::Error> = rows.iter().map(to_json).collect();
        let mut events = events.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        let page: Vec<_> = rows.iter().map(|row| (row.site.as_str(), row.id.as_str())).collect();
        for (place, handled, note) in self.console.read(|tables| tables.handled_of_page(&page))? {
            if let Some(event) = events.get_mut(place) {
                event["handled"] = json!({"by": handled.by, "at": handled.at.rfc3339(), "verdict": handled.verdict, "note": note});
            }
        }
        Ok(events)
    }
}

fn list(call: &Call) -> Result<Answer, Problem> {
    let groups = call.web.all_groups();
    let visible = groups.iter().filter(|(_, group)| call.may(Right::Board, group));
    let mut sites: Vec<String> = visible.map(|(site, _)| site.clone()).collect();
    if let Some(site) = call.text("site") {
        sites.retain(|one| one == site);
    }
    let limit = call.limit(100, limits::ROWS_MAX)?;
    let wants = match call.text("handled") {
        None => None,
        Some("yes" | "true" | "1") => Some(true),
        Some("no" | "false" | "0") => Some(false),
        Some(_) => return Err(Problem::bad("handled is yes or no")),
    };
    let owned = |name| call.text(name).map(str::to_owned);
    let mut filter = MotionFilter {
        sites: Some(sites),
        rule: owned("rule"),
        zone: owned("zone"),
        from: call.time("from")?,
        to: call.time("to")?,
        text: owned("q"),
        before: owned("before"),
        limit,
        ..MotionFilter::default()
    };
    if filter.text.is_some() {
        let places = call.web.places()?;
        name_sites(&mut filter, &places);
    }
    if wants == Some(true) {
        let few = call.web.console.read(|tables| tables.few_handled(FEW_HANDLED))?;
        filter.only = few.map(|few| few.into_iter().collect());
    }
    let page = search(&call.web, &mut filter, wants)?;
    Answer::json(&page)
}

/// Takes the sites that the searched text means by their ids and names: a whole one alone, a part of
/// one beside all else that has the text.
fn name_sites(filter: &mut MotionFilter, places: &[PlaceRow]) {
    let (Some(text), Some(sites)) = (&filter.text, &mut filter.sites) else { return };
    let text = fold(text);
    let names = |site: &str| {
        let place = places.iter().find(|place| place.site == site);
        let of_place = place.into_iter().flat_map(|place| [&*place.name_vi, &*place.name_en]);
        of_place.chain([site]).map(fold).collect::<Vec<String>>()
    };
    let named: Vec<(&String, Vec<String>)> = sites.iter().map(|site| (site, names(site))).collect();
    let those = |is: &dyn Fn(&String) -> bool| -> Vec<String> {
        let those = named.iter().filter(|(_, names)| names.iter().any(is));
        those.map(|(site, _)| (*site).clone()).collect()
    };
    let whole = those(&|name| *name == text);
    if whole.is_empty() {
        filter.text_sites = those(&|name| name.contains(&text));
    } else {
        *sites = whole;
        filter.text = None;
    }
}

/// A page of what `filter` and `wants`, handled or not, ask for, with the work of one request.
fn search(web: &Web, filter: &mut MotionFilter, wants: Option<bool>) -> Result<Value, Problem> {
    let (limit, mut events) = (filter.limit as usize, Vec::new());
    loop {
        let page = web.reader.motion_events(filter)?;
        filter.before = page.next;
        let whole = u32::try_from(page.events.len()).unwrap_or(u32::MAX);
        let work = page.scanned.max(1).saturating_add(whole.saturating_mul(ROWS_OF_EVENT));
        filter.scan = filter.scan.saturating_sub(work);
        for event in web.events_json(&page.events)? {
            if wants.is_none_or(|wants| wants != event["handled"].is_null()) {
                events.push(event);
            }
        }
        // A page is a whole one of the archive's: `next` must not skip any of it.
        let is_done = filter.before.is_none() || wants.is_none() || events.len() * 2 >= limit;
        if is_done || filter.scan == 0 {
            let next = &filter.before;
            return Ok(json!({"events": events, "next": next, "searched_to": page.searched_to}));
        }
    }
}

fn one(call: &Call) -> Result<Answer, Problem> {
    let (site, id) = (call.param("site"), call.param("id"));
    let mut event = call.web.motion_event_view(site, id)?.ok_or_else(Problem::not_found)?;
    let notes = call.web.console.read(|tables| tables.notes(site, id))?;
    event["notes"] = notes
        .into_iter()
        .map(|note| json!({"by": note.by, "at": note.at.rfc3339(), "text": note.text}))
        .collect();
    Answer::json(&event)
}

fn change(call: &Call) -> Result<Answer, Problem> {
    let Change { verdict, note } = call.json()?;
    let (site, id) = (call.site()?, call.param("id"));
    call.web.reader.motion_event(site.as_str(), id)?.ok_or_else(Problem::not_found)?;
    let note = note.map(|note| note.trim().to_owned()).filter(|note| !note.is_empty());
    if note.as_ref().is_some_and(|note| note.len() > NOTE_MAX) {
        return Err(Problem::new(Code::TooLarge, format!("a note has at most {NOTE_MAX} bytes")));
    }
    let verdict = match verdict.as_deref() {
        None => None,
        Some("none") => Some(None),
        Some(name) => Some(Some(
            Verdict::parse(name)
                .ok_or_else(|| Problem::bad("verdict is real, false_alarm or none"))?,
        )),
    };
    let (by, event, at) = (call.origin()?, id.to_owned(), site.clone());
    call.web.console.act(move |store, now| match (verdict, &note) {
        (Some(verdict), note) => {
            store.handle_event(&by, now, (&at, &event), verdict, note.as_deref()).map(drop)
        }
        (None, Some(note)) => store.add_note(&by, now, (&at, &event), note).map(drop),
        (None, None) => Ok(()),
    })?;
    call.web.tell_motion_event(site.as_str(), id)?;
    one(call)
}
