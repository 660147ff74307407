//! Places of the sites, and the plan they lie on.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::office::console::people::rights::Right;
use crate::office::console::plan_image::{ImageFault, ImageType, clean};
use crate::office::console::tables::map_tiles::MapTiles;
use crate::office::console::tables::rows::{PlaceRow, PlanImage};
use crate::office::console::web::answer::Answer;
use crate::office::console::web::call::Call;
use crate::office::console::web::limits;
use crate::office::console::web::problem::{Code, Problem};
use crate::office::console::web::range;
use crate::office::console::web::route::Kind::{Any, Bool, List, Number, Text, Values, Whole};
use crate::office::console::web::route::{
    Access, Field, Gives, Method, Route, Takes, Weight, field, maybe,
};
use crate::office::console::web::web_state::lock;
use crate::units::{SiteId, WallTime};

const PLACES: &[Field] = &[field("places", List(PLACE), "Places of the sites.")];
const SHOWN: &[Field] = &[
    field("places", List(PLACE), "Places of the sites."),
    field("plan", Bool, "There is an image of the plan."),
    maybe("tiles", Any, "Tiles of a map; null without them."),
];
/// A map is no secret, and its tiles change with the file alone.
const TILE_CACHE: &str = "private, max-age=3600";
const EXTENT: &[Field] = &[
    field("min_zoom", Whole, "Smallest zoom level."),
    field("max_zoom", Whole, "Largest zoom level."),
    field("bounds", Values(&Number), "West, south, east, north, degrees."),
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
        "Replace the plan by a JPEG or PNG image, of which only the pixels are kept.",
        Gives::Nothing,
        put_plan,
    )
    .takes(Takes::Image)
    .weight(Weight::Heavy),
    Route::new(
        Method::Get,
        "/api/v1/tiles",
        Access::AnySite(Right::Board),
        "Zoom levels and bounds of the map; 404 without one.",
        Gives::Json(EXTENT),
        tiles,
    ),
    Route::new(
        Method::Get,
        "/api/v1/tiles/{z}/{x}/{y}",
        Access::AnySite(Right::Board),
        "A tile of the map; rows count from the north.",
        Gives::Bytes("image/png"),
        tile,
    ),
];

#[derive(Deserialize, Serialize)]
struct Places {
    places: Vec<PlaceRow>,
}

fn places(call: &Call) -> Result<Answer, Problem> {
    let mut places = call.web.places()?;
    places.retain(|place| call.may(Right::Board, &place.group));
    let has_plan = call.web.console.read(|tables| tables.plan_made())?.is_some();
    let tiles = call.web.tiles.as_ref().map(MapTiles::extent);
    Answer::json(&json!({"places": places, "plan": has_plan, "tiles": tiles}))
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

/// The plan; the time when it was made is its entity tag.
fn plan(call: &Call) -> Result<Answer, Problem> {
    let tag = |made: WallTime| format!("\"{}\"", made.0);
    let made =
        call.web.console.read(|tables| tables.plan_made())?.ok_or_else(Problem::not_found)?;
    if range::matches(call.header(&IF_NONE_MATCH), &tag(made)) {
        return Ok(Answer::not_modified(&tag(made)));
    }
    let plan = call.web.console.read(|tables| tables.plan())?.ok_or_else(Problem::not_found)?;
    Ok(Answer::of(&plan.media_type, plan.bytes).with(ETAG, &tag(plan.made)))
}

/// The image is decoded and encoded again: only its pixels are kept.
fn put_plan(call: &Call) -> Result<Answer, Problem> {
    let kind = call.header(&CONTENT_TYPE).unwrap_or_default();
    let image = ImageType::parse(kind).ok_or(Code::WrongType)?;
    let cleaned = {
        let _one_at_a_time = lock(&call.web.decoding);
        clean(image, &call.body)
    };
    let bytes = cleaned.map_err(|fault| {
        let code = match fault {
            ImageFault::TooLarge { .. } => Code::TooLarge,
            ImageFault::Unreadable(_) => Code::WrongType,
        };
        Problem::new(code, fault.to_string())
    })?;
    if bytes.len() > limits::PLAN_MAX {
        let detail = format!(
            "the image has more than {} bytes without compression tricks",
            limits::PLAN_MAX
        );
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let by = call.origin()?;
    let plan = PlanImage { media_type: image.as_str().to_owned(), bytes, made: call.now };
    call.web.console.act(move |store, now| store.set_plan(&by, now, &plan))?;
    Ok(Answer::nothing())
}

fn tiles(call: &Call) -> Result<Answer, Problem> {
    let map = call.web.tiles.as_ref().ok_or_else(Problem::not_found)?;
    Answer::json(&map.extent())
}

fn tile(call: &Call) -> Result<Answer, Problem> {
    let map = call.web.tiles.as_ref().ok_or_else(Problem::not_found)?;
    let number = |name| call.param(name).parse::<u32>().map_err(|_| Problem::not_found());
    let zoom = u8::try_from(number("z")?).map_err(|_| Problem::not_found())?;
    let tile = map.tile(zoom, number("x")?, number("y")?)?.ok_or_else(Problem::not_found)?;
    Ok(Answer::of(tile.media_type, tile.bytes).with(CACHE_CONTROL, TILE_CACHE))
}
