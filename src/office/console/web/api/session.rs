//! Log-in, log-out, who one is, purpose.

use std::collections::BTreeMap;

use axum::http::header::SET_COOKIE;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::office::console::error::ConsoleError;
use crate::office::console::people::purpose::PurposeKind;
use crate::office::console::people::rights::{ALL_SITES, Right};
use crate::office::console::people::session::{NewSession, Session};
use crate::office::console::web::answer::Answer;
use crate::office::console::web::call::Call;
use crate::office::console::web::guard::set_cookie;
use crate::office::console::web::problem::{Code, Problem};
use crate::office::console::web::route::Kind::{
    Any, Bool, List, Map, Object, Text, Time, Values, Whole,
};
use crate::office::console::web::route::{
    Access, Field, Gives, Method, Route, Takes, Weight, field, maybe,
};
use crate::units::{Secret, WallTime};

/// Bytes of a name, a token or a password at most: a hash of a megabyte would be work for nothing.
const TEXT_MAX: usize = 1_024;

const STATE: &[Field] = &[
    field("version", Text, "Version of the office."),
    field("first_admin", Bool, "True while there is no user: the one-time link makes the first."),
    field("language", Text, "vi or en."),
    field("session", Bool, "The request's cookie holds a session."),
    field("time_zone", Text, "IANA name of the office's time zone; empty when unknown."),
];
const NAME_PASSWORD: &[Field] =
    &[field("name", Text, "Name."), field("password", Text, "Password.")];
const FIRST: &[Field] = &[
    field("token", Text, "Token of the one-time link."),
    field("name", Text, "Name."),
    field("password", Text, "Password."),
];
const TOKEN: &[Field] = &[field("token", Text, "Token of the one-time link.")];
const RESET: &[Field] =
    &[field("token", Text, "Token of the one-time link."), field("password", Text, "Password.")];
const OLD_NEW: &[Field] =
    &[field("old", Text, "Password until now."), field("new", Text, "New password.")];
const PURPOSE: &[Field] = &[
    field("kind", Text, "duty, case, maintenance, supervision, data_subject, training."),
    maybe("case", Text, "Number of the case or request."),
    maybe("reason", Text, "In words."),
];
const ME: &[Field] = &[
    field(
        "user",
        Object(&[field("id", Whole, "Number."), field("name", Text, "Name.")]),
        "The user.",
    ),
    field("grants", List(GRANT), "Roles."),
    field("rights", Map(&Values(&Text)), "Rights by group; * for the office."),
    field("sites", Map(&Text), "Group of each site that the user may see."),
    maybe("purpose", Object(HELD), "The purpose, while it lasts."),
    field("language", Text, "vi or en."),
    field("demo", Bool, "The demonstration's user."),
];
/// A grant.
pub(super) const GRANT: &[Field] = &[
    field("group", Text, "Group, or * for all sites."),
    field("role", Text, "viewer, operator, evidence, admin, auditor."),
    maybe("until", Time, "When it ends."),
];
const HELD: &[Field] = &[
    field("kind", Text, "Kind."),
    field("case", Any, "Number, or null."),
    field("until", Time, "When it ends."),
];

const fn open(
    path: &'static str,
    summary: &'static str,
    takes: &'static [Field],
    handler: super::super::route::Handler,
) -> Route {
    Route::new(Method::Post, path, Access::Open, summary, Gives::Nothing, handler)
        .takes(Takes::Json(takes))
        .weight(Weight::Login)
}

pub(in crate::office::console::web) const ROUTES: &[Route] = &[
    Route::new(
        Method::Get,
        "/api/v1/state",
        Access::Open,
        "What the log-in page needs.",
        Gives::Json(STATE),
        state,
    ),
    open(
        "/api/v1/first-admin",
        "Make the first user by the one-time link, and log in.",
        FIRST,
        first_admin,
    ),
    open("/api/v1/demo-login", "Log in as the demonstration's user.", TOKEN, demo_login),
    open("/api/v1/login", "Log in.", NAME_PASSWORD, login),
    open("/api/v1/reset", "Set a password by a one-time link.", RESET, reset),
    Route::new(
        Method::Post,
        "/api/v1/logout",
        Access::Session,
        "End the session.",
        Gives::Nothing,
        logout,
    )
    .takes(Takes::Json(&[])),
    Route::new(
        Method::Get,
        "/api/v1/me",
        Access::Session,
        "The user, his rights and his purpose.",
        Gives::Json(ME),
        me,
    ),
    Route::new(
        Method::Post,
        "/api/v1/purpose",
        Access::Session,
        "Say why footage is looked at.",
        Gives::Nothing,
        purpose,
    )
    .takes(Takes::Json(PURPOSE)),
    Route::new(
        Method::Post,
        "/api/v1/password",
        Access::Session,
        "Change one's own password.",
        Gives::Nothing,
        password,
    )
    .takes(Takes::Json(OLD_NEW))
    .weight(Weight::Login),
];

#[derive(Deserialize)]
struct NamePassword {
    name: String,
    password: String,
}

#[derive(Deserialize)]
struct First {
    token: String,
    name: String,
    password: String,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

#[derive(Deserialize)]
struct Reset {
    token: String,
    password: String,
}

#[derive(Deserialize)]
struct OldNew {
    old: String,
    new: String,
}

#[derive(Deserialize)]
struct PurposeBody {
    kind: String,
    #[serde(default)]
    case: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

fn bounded(texts: &[&str]) -> Result<(), Problem> {
    match texts.iter().all(|text| text.len() <= TEXT_MAX) {
        true => Ok(()),
        false => Err(Problem::bad(format!("a text has more than {TEXT_MAX} bytes"))),
    }
}

fn state(call: &Call) -> Result<Answer, Problem> {
    let zone = jiff::tz::TimeZone::system();
    Answer::json(&json!({
        "version": crate::VERSION, "first_admin": call.web.console.needs_first_admin()?,
        "language": call.web.language()?, "session": call.session.is_some(), "time_zone": zone.iana_name().unwrap_or_default(),
    }))
}

fn begun(call: &Call, new: &NewSession) -> Answer {
    let cookie = set_cookie(new.cookie.reveal(), call.peer.is_tls);
    Answer::nothing().with(SET_COOKIE, &cookie)
}

fn first_admin(call: &Call) -> Result<Answer, Problem> {
    let First { token, name, password } = call.json()?;
    bounded(&[&token, &name, &password])?;
    let new =
        call.web.console.first_admin(&token, &name, &Secret::new(password), call.peer.address)?;
    Ok(begun(call, &new))
}

fn demo_login(call: &Call) -> Result<Answer, Problem> {
    let Token { token } = call.json()?;
    bounded(&[&token])?;
    let new = call.web.console.demo_login(&token, &call.address())?;
    Ok(begun(call, &new))
}

fn login(call: &Call) -> Result<Answer, Problem> {
    let NamePassword { name, password } = call.json()?;
    bounded(&[&name, &password])?;
    let new = call.web.console.login(&name, &Secret::new(password), &call.address())?;
    Ok(begun(call, &new))
}

fn reset(call: &Call) -> Result<Answer, Problem> {
    let Reset { token, password } = call.json()?;
    bounded(&[&token, &password])?;
    call.web.console.redeem(&token, &Secret::new(password), &call.address())?;
    Ok(Answer::nothing())
}

fn logout(call: &Call) -> Result<Answer, Problem> {
    let answer = match call.web.console.logout(call.session()?, &call.address()) {
        Ok(_) => Answer::nothing(),
        // The session has ended all the same: the browser forgets its cookie, too.
        Err(error @ ConsoleError::LogoutUnrecorded(_)) => Problem::from(error).into(),
        Err(error) => return Err(error.into()),
    };
    Ok(answer.with(SET_COOKIE, &set_cookie("", call.peer.is_tls)))
}

fn password(call: &Call) -> Result<Answer, Problem> {
    let OldNew { old, new } = call.json()?;
    bounded(&[&old, &new])?;
    let session = call.session()?;
    let (old, new) = (Secret::new(old), Secret::new(new));
    match call.web.console.set_password(session, &call.address(), &old, &new) {
        Ok(_) => Ok(Answer::nothing()),
        Err(error) => {
            let problem = Problem::from(error);
            let is_old = problem.code == Code::LoginFailed;
            Err(if is_old { Code::WrongPassword.into() } else { problem })
        }
    }
}

fn purpose(call: &Call) -> Result<Answer, Problem> {
    let PurposeBody { kind, case, reason } = call.json()?;
    let kind = PurposeKind::parse(&kind)
        .ok_or_else(|| Problem::new(Code::PurposeBad, "there is no such purpose"))?;
    let case = case.unwrap_or_default();
    let set = call.web.console.set_purpose(call.session()?, &call.address(), (kind, &case), reason);
    match set.map_err(Problem::from) {
        Ok(_) => Ok(Answer::nothing()),
        Err(problem) if problem.code == Code::Invalid => {
            Err(Problem { code: Code::PurposeBad, ..problem })
        }
        Err(problem) => Err(problem),
    }
}

/// Rights of a session for the sites of a group.
fn rights(session: &Session, group: &str, now: WallTime) -> Vec<&'static str> {
    use crate::office::console::people::rights::decide;
    let has = |right: &Right| decide(&session.grants, *right, group, now).is_some();
    Right::ALL.into_iter().filter(has).map(Right::as_str).collect()
}

fn me(call: &Call) -> Result<Answer, Problem> {
    let session = call.session()?;
    let grants: Vec<Value> = session.grants.iter().map(grant_json).collect();
    let groups = call.web.all_groups();
    let sites: BTreeMap<&String, &String> =
        groups.iter().filter(|(_, group)| call.may(Right::Board, group)).collect();
    let mut of_group: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let named = session.grants.iter().map(|grant| grant.group.as_str());
    for group in sites.values().map(|group| group.as_str()).chain(named).chain([ALL_SITES]) {
        of_group.entry(group).or_insert_with(|| rights(session, group, call.now));
    }
    let purpose = session.purpose_at(call.now).map(|purpose| {
        let case = Some(&purpose.case).filter(|case| !case.is_empty());
        json!({"kind": purpose.kind.as_str(), "case": case, "until": purpose.until.rfc3339()})
    });
    Answer::json(&json!({
        "user": {"id": session.user, "name": session.name}, "grants": grants, "rights": of_group,
        "sites": sites, "purpose": purpose, "language": session.language, "demo": session.is_demo,
    }))
}

/// A grant in JSON.
pub(super) fn grant_json(grant: &crate::office::console::people::rights::Grant) -> Value {
    json!({"group": grant.group, "role": grant.role.as_str(), "until": grant.until.map(WallTime::rfc3339)})
}
