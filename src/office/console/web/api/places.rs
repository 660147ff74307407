//! Places of the sites, and the plan they lie on.

use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::office::console::people::rights::Right;
use crate::office::console::tables::rows::{PlaceRow, PlanImage};
use crate::office::console::web::answer::Answer;
use crate::office::console::web::call::Call;
use crate::office::console::web::problem::{Code, Problem};
use crate::office::console::web::range;
use crate::office::console::web::route::Kind::{Any, Bool, List, Number, Text};
use crate::office::console::web::route::{
    Access, Field, Gives, Method, Route, Takes, Weight, field, maybe,
};
use crate::units::{Digest, SiteId};

const PLACES: &[Field] = &[field("places", List(PLACE), "Places of the sites.")];
const SHOWN: &[Field] = &[
    field("places", List(PLACE), "Places of the sites."),
    field("plan", Bool, "There is an image of the plan."),
    maybe("tiles", Any, "Tiles of a map; null without them."),
];
const PLACE: &[Field] = &[
    field("site", Text, "Site id."),
    field("name_vi", Text, "Name in Vietnamese."),
    field("name_en", Text, "Name in English."),
    field("group", Text, "Group; empty without one."),
    maybe("x", Number, "0 to 1 from the left of the plan."),
    maybe("y", Number, "0 to 1 from its top."),
    maybe("heading", Number, "Where the camera looks, degrees clockwise from up."),
    maybe("fov", Number, "Field of view, degrees."),
    maybe("range", Number, "How far it sees, as a part of the plan's width."),
];

pub(in crate::office::console::web) const ROUTES: &[Route] = &[
    Route::new(
        Method::Get,
        "/api/v1/places",
        Access::AnySite(Right::Board),
        "Places of the sites.",
        Gives::Json(SHOWN),
        places,
    ),
    Route::new(
        Method::Put,
        "/api/v1/places",
        Access::Office(Right::Plan),
        "Replace the places of all sites.",
        Gives::Json(PLACES),
        put_places,
    )
    .takes(Takes::Json(PLACES)),
    Route::new(
        Method::Get,
        "/api/v1/plan",
        Access::AnySite(Right::Board),
        "The plan of the commune.",
        Gives::Bytes("image/jpeg"),
        plan,
    ),
    Route::new(
        Method::Put,
        "/api/v1/plan",
        Access::Office(Right::Plan),
        "Replace the plan by a JPEG or PNG image.",
        Gives::Nothing,
        put_plan,
    )
    .takes(Takes::Image)
    .weight(Weight::Heavy),
];

#[derive(Deserialize, Serialize)]
struct Places {
    places: Vec<PlaceRow>,
}

fn places(call: &Call) -> Result<Answer, Problem> {
    let mut places = call.web.places()?;
    places.retain(|place| call.may(Right::Board, &place.group));
    let has_plan = call.web.console.read(|tables| tables.plan())?.is_some();
    Answer::json(&json!({"places": places, "plan": has_plan, "tiles": null}))
}

fn put_places(call: &Call) -> Result<Answer, Problem> {
    let Places { places } = call.json()?;
    for place in &places {
        SiteId::parse(&place.site).map_err(|error| Problem::new(Code::Invalid, error))?;
    }
    let (by, rows) = (call.origin()?, places.clone());
    call.web.console.act(move |store, now| store.set_places(&by, now, &rows))?;
    call.web.hand_rules()?;
    Answer::json(&Places { places })
}

fn plan(call: &Call) -> Result<Answer, Problem> {
    let plan = call.web.console.read(|tables| tables.plan())?.ok_or_else(Problem::not_found)?;
    let etag = format!("\"{}\"", Digest::of(&plan.bytes).hex());
    if range::matches(call.header(&IF_NONE_MATCH), &etag) {
        return Ok(Answer::not_modified(&etag));
    }
    Ok(Answer::of(&plan.media_type, plan.bytes).with(ETAG, &etag))
}

/// The image is not decoded here: its first bytes must be those of its type, and a header
/// forbids browsers to guess another.
fn put_plan(call: &Call) -> Result<Answer, Problem> {
    let kind = call.header(&CONTENT_TYPE).unwrap_or_default();
    let media_type = match kind.split(';').next().unwrap_or_default().trim() {
        "image/png" if call.body.starts_with(b"\x89PNG\r\n\x1a\n") => "image/png",
        "image/jpeg" if call.body.starts_with(b"\xff\xd8\xff") => "image/jpeg",
        _ => return Err(Code::WrongType.into()),
    };
    let by = call.origin()?;
    let plan =
        PlanImage { media_type: media_type.to_owned(), bytes: call.body.to_vec(), made: call.now };
    call.web.console.act(move |store, now| store.set_plan(&by, now, &plan))?;
    Ok(Answer::nothing())
}
