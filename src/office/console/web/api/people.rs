//! Users, their roles, sessions, groups of sites.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::session::{GRANT, grant_json};
use crate::office::console::handle::new_token;
use crate::office::console::people::rights::{Grant, Right, Role};
use crate::office::console::tables::rows::{GroupRow, PlaceRow, UserChange, UserRow};
use crate::office::console::web::answer::Answer;
use crate::office::console::web::call::Call;
use crate::office::console::web::problem::{Code, Problem};
use crate::office::console::web::route::Kind::{Bool, List, Object, Text, Time, Values, Whole};
use crate::office::console::web::route::{
    Access, Field, Gives, Method, Route, Takes, field, maybe,
};
use crate::units::WallTime;

const PEOPLE: Access = Access::Office(Right::People);
const USERS: &[Field] = &[field("users", List(USER), "All users, by name.")];
const USER: &[Field] = &[
    field("id", Whole, "Number."),
    field("name", Text, "Name."),
    field("disabled", Bool, "May not log in."),
    field("demo", Bool, "The demonstration's user."),
    field("has_password", Bool, "False until the one-time link was used."),
    field("language", Text, "vi or en."),
    field("grants", List(GRANT), "Roles."),
    field("made", Time, "When the user was added."),
    maybe("last_login", Time, "The last log-in."),
];
const NEW_USER: &[Field] = &[
    field("name", Text, "2 to 32 of a-z, 0-9, dot, _ and -."),
    maybe("language", Text, "vi or en."),
    maybe("grants", List(GRANT), "Roles."),
];
const MADE: &[Field] =
    &[field("id", Whole, "Number."), field("token", Text, "Token of the one-time link.")];
const CHANGE: &[Field] = &[
    maybe("disabled", Bool, "May not log in."),
    maybe("language", Text, "vi or en."),
    maybe("grants", List(GRANT), "All roles."),
];
const ONE: &[Field] = &[field("user", Object(USER), "The user.")];
const RESET: &[Field] = &[field("token", Text, "Token of the one-time link.")];
const SESSIONS: &[Field] = &[field("sessions", List(SESSION), "Open sessions.")];
const SESSION: &[Field] = &[
    field("id", Text, "Public number."),
    field("user", Text, "Name of the user."),
    field("address", Text, "Address of the log-in."),
    field("started", Time, "When it was made."),
    field("used", Time, "Last use, to the minute."),
    field("until", Time, "When it ends in any case."),
    field("purpose", Text, "Kind of the purpose; empty without one."),
    field("current", Bool, "The session that asks."),
];
const GROUPS: &[Field] = &[field("groups", List(GROUP), "All groups.")];
const GROUP: &[Field] = &[
    field("id", Text, "1 to 32 of a-z, 0-9 and -."),
    field("name_vi", Text, "Title in Vietnamese."),
    field("name_en", Text, "Title in English."),
    field("sites", Values(&Text), "Its sites."),
];

pub(in crate::office::console::web) const ROUTES: &[Route] = &[
    Route::new(Method::Get, "/api/v1/users", PEOPLE, "All users.", Gives::Json(USERS), users),
    Route::new(
        Method::Post,
        "/api/v1/users",
        PEOPLE,
        "Add a user; the one-time link sets the password.",
        Gives::Json(MADE),
        add_user,
    )
    .takes(Takes::Json(NEW_USER)),
    Route::new(
        Method::Patch,
        "/api/v1/users/{id}",
        PEOPLE,
        "Change a user's roles, disable or enable him.",
        Gives::Json(ONE),
        change_user,
    )
    .takes(Takes::Json(CHANGE)),
    Route::new(
        Method::Post,
        "/api/v1/users/{id}/reset",
        PEOPLE,
        "Make a one-time link for a new password.",
        Gives::Json(RESET),
        reset_user,
    )
    .takes(Takes::Json(&[])),
    Route::new(
        Method::Get,
        "/api/v1/sessions",
        Access::Session,
        "Open sessions: one's own, or all with the right people.",
        Gives::Json(SESSIONS),
        sessions,
    ),
    Route::new(
        Method::Delete,
        "/api/v1/sessions/{id}",
        Access::Session,
        "End a session: one's own, or any with the right people.",
        Gives::Nothing,
        revoke,
    ),
    Route::new(
        Method::Get,
        "/api/v1/groups",
        Access::AnySite(Right::Board),
        "Groups of sites.",
        Gives::Json(GROUPS),
        groups,
    ),
    Route::new(
        Method::Put,
        "/api/v1/groups",
        PEOPLE,
        "Replace all groups and which sites they have.",
        Gives::Json(GROUPS),
        put_groups,
    )
    .takes(Takes::Json(GROUPS)),
];

#[derive(Deserialize)]
struct GrantBody {
    group: String,
    role: String,
    #[serde(default)]
    until: Option<String>,
}

fn grants_of(bodies: Vec<GrantBody>) -> Result<Vec<Grant>, Problem> {
    let grant = |body: GrantBody| {
        let role = Role::parse(&body.role)
            .ok_or_else(|| Problem::new(Code::Invalid, format!("no role {:?}", body.role)))?;
        let until = body.until.as_deref().filter(|text| !text.is_empty());
        let until = until.map(WallTime::parse).transpose().map_err(Problem::bad)?;
        Ok(Grant { group: body.group, role, until })
    };
    bodies.into_iter().map(grant).collect()
}

#[derive(Deserialize)]
struct NewUser {
    name: String,
    #[serde(default)]
    language: Option<String>,
    #[serde(default)]
    grants: Vec<GrantBody>,
}

#[derive(Deserialize)]
struct ChangeBody {
    #[serde(default)]
    disabled: Option<bool>,
    #[serde(default)]
    language: Option<String>,
    #[serde(default)]
    grants: Option<Vec<GrantBody>>,
}

fn user_json(user: &UserRow) -> Value {
    let grants: Vec<Value> = user.grants.iter().map(grant_json).collect();
    json!({
        "id": user.id, "name": user.name, "disabled": user.is_disabled, "demo": user.is_demo,
        "has_password": user.has_password, "language": user.language, "grants": grants,
        "made": user.made.rfc3339(), "last_login": user.last_login.map(WallTime::rfc3339),
    })
}

fn users(call: &Call) -> Result<Answer, Problem> {
    let users: Vec<Value> =
        call.web.console.read(|tables| tables.users())?.iter().map(user_json).collect();
    Answer::json(&json!({"users": users}))
}

fn add_user(call: &Call) -> Result<Answer, Problem> {
    let NewUser { name, language, grants } = call.json()?;
    let language = language.unwrap_or_else(|| "vi".into());
    let (by, grants) = (call.origin()?, grants_of(grants)?);
    let (token, digest) = new_token()?;
    let id = call
        .web
        .console
        .act(move |store, now| store.add_user(&by, now, (&name, &language), &grants, &digest))?;
    Answer::json(&json!({"id": id, "token": token.reveal()}))
}

fn change_user(call: &Call) -> Result<Answer, Problem> {
    let ChangeBody { disabled, language, grants } = call.json()?;
    let change =
        UserChange { is_disabled: disabled, language, grants: grants.map(grants_of).transpose()? };
    let id = call.number("id")?;
    let by = call.origin()?;
    call.web.console.act(move |store, now| store.change_user(&by, now, id, &change))?;
    let user = call.web.console.read(|tables| tables.user(id))?.ok_or_else(Problem::not_found)?;
    Answer::json(&json!({"user": user_json(&user)}))
}

fn reset_user(call: &Call) -> Result<Answer, Problem> {
    let (by, id) = (call.origin()?, call.number("id")?);
    let (token, digest) = new_token()?;
    call.web.console.act(move |store, now| store.reset_user(&by, now, id, &digest))?;
    Answer::json(&json!({"token": token.reveal()}))
}

/// Whether the session may see and end those of others.
fn is_over_others(call: &Call) -> bool {
    call.may(Right::People, crate::office::console::people::rights::ALL_SITES)
}

fn sessions(call: &Call) -> Result<Answer, Problem> {
    let own = call.session()?;
    let all = is_over_others(call);
    let sessions: Vec<Value> = call
        .web
        .console
        .read(|tables| tables.sessions())?
        .into_iter()
        .filter(|session| all || session.user == own.user)
        .map(|session| {
            json!({
                "id": session.id, "user": session.name, "address": session.from,
                "started": session.made.rfc3339(), "used": session.used.rfc3339(),
                "until": session.until.rfc3339(), "purpose": session.purpose,
                "current": session.id == own.id,
            })
        })
        .collect();
    Answer::json(&json!({"sessions": sessions}))
}

fn revoke(call: &Call) -> Result<Answer, Problem> {
    let (id, own) = (call.param("id"), call.session()?);
    let sessions = call.web.console.read(|tables| tables.sessions())?;
    let session =
        sessions.iter().find(|session| session.id == id).ok_or_else(Problem::not_found)?;
    if session.user != own.user && !is_over_others(call) {
        return Err(Problem::not_found());
    }
    let (by, id) = (call.origin()?, id.to_owned());
    call.web.console.act(move |store, now| store.revoke_session(&by, now, &id))?;
    Ok(Answer::nothing())
}

#[derive(Deserialize)]
struct GroupBody {
    id: String,
    #[serde(default)]
    name_vi: String,
    #[serde(default)]
    name_en: String,
    #[serde(default)]
    sites: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct GroupsBody {
    groups: Vec<GroupBody>,
}

fn groups(call: &Call) -> Result<Answer, Problem> {
    let of_site = call.web.all_groups();
    let groups: Vec<Value> = call
        .web
        .console
        .read(|tables| tables.groups())?
        .into_iter()
        .filter(|group| call.may(Right::Board, &group.name))
        .map(|group| {
            let sites = of_site.iter().filter(|(_, of)| **of == group.name).map(|(site, _)| site);
            let sites: Vec<&String> = sites.collect();
            json!({"id": group.name, "name_vi": group.title_vi, "name_en": group.title_en, "sites": sites})
        })
        .collect();
    Answer::json(&json!({"groups": groups}))
}

fn put_groups(call: &Call) -> Result<Answer, Problem> {
    let GroupsBody { groups: bodies } = call.json()?;
    let origin = call.origin()?;
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    let names_sites = bodies.iter().any(|body| body.sites.is_some());
    for body in &bodies {
        for site in body.sites.iter().flatten() {
            if wanted.insert(site.clone(), body.id.clone()).is_some() {
                return Err(Problem::new(Code::Invalid, format!("{site} is in two groups")));
            }
        }
    }
    let rows: Vec<GroupRow> = bodies
        .into_iter()
        .map(|GroupBody { id, name_vi, name_en, .. }| GroupRow {
            name: id,
            title_vi: name_vi,
            title_en: name_en,
        })
        .collect();
    let mut places = call.web.places()?;
    if names_sites {
        for place in &mut places {
            place.group = wanted.remove(&place.site).unwrap_or_default();
        }
        places.extend(wanted.into_iter().map(|(site, group)| PlaceRow {
            site,
            group,
            name_vi: String::new(),
            name_en: String::new(),
            x: None,
            y: None,
            heading: None,
            fov: None,
            range: None,
        }));
    }
    // Places first leave the groups that go, and then join those that come.
    call.web.console.act(move |store, now| {
        let mut staying = places.clone();
        for place in &mut staying {
            if !rows.iter().any(|group| group.name == place.group) {
                place.group = String::new();
            }
        }
        if names_sites && staying != places {
            store.set_places(&origin, now, &staying)?;
        }
        store.set_groups(&origin, now, &rows)?;
        if names_sites { store.set_places(&origin, now, &places).map(drop) } else { Ok(()) }
    })?;
    call.web.hand_rules()?;
    groups(call)
}
