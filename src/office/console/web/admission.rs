//! Admission of a request: who asks, and may he? Before footage the record in the audit trail.

use super::call::Call;
use super::guard::{self, Asked};
use super::problem::{Code, Problem};
use super::route::{Access, Route};
use crate::office::console::people::rights::{Limit, Right, Role};
use crate::office::queries::rows::StoredFile;
use crate::units::WallTime;

/// Microseconds of an hour.
const HOUR: i64 = 3_600_000_000;

/// A file that a session may open, with the role that allows it and the limit on it.
type Openable = (StoredFile, Option<(Role, Option<Limit>)>);

/// Lets the request through to its handler, or refuses it; blocks.
pub(crate) fn admit(route: &Route, mut call: Call) -> Result<Call, Problem> {
    match route.access {
        Access::Open => {}
        Access::Machine => {
            if !call.peer.address.is_loopback() && !call.has_machine_token() {
                return Err(Problem::not_found());
            }
            return Ok(call);
        }
        _ => {}
    }
    let cookies = guard::cookies(&call.headers, call.peer.is_tls).map(str::to_owned);
    for cookie in cookies.collect::<Vec<_>>() {
        call.session = call.web.session(&cookie)?;
        if call.session.is_some() {
            call.cookie = cookie;
            break;
        }
    }
    if route.access == Access::Open {
        return Ok(call);
    }
    let session = call.session.as_ref();
    // Without a session no answer shows which sites there are.
    if session.is_none() {
        return Err(Code::NoSession.into());
    }
    let allowed = match route.access {
        Access::Open | Access::Machine | Access::Session => {
            guard::decide(session, Asked::Session, call.now)
        }
        Access::AnySite(right) => guard::decide(session, Asked::Any(right), call.now),
        Access::Office(right) => guard::decide(session, Asked::Office(right), call.now),
        Access::Site(right) => {
            let group = call.web.group_of(call.param("site"))?;
            guard::decide(session, Asked::Site(right, group.as_deref()), call.now)
        }
        Access::File => return admit_to_file(route, call),
    };
    match allowed {
        Ok(allowed) => {
            call.allowed = allowed;
            Ok(call)
        }
        Err(problem) => Err(refused(route, &call, problem)),
    }
}

/// Records a request for what its user may not do; the answer stays the refusal.
fn refused(route: &Route, call: &Call, problem: Problem) -> Problem {
    if !matches!(problem.code, Code::NotAllowed | Code::PrivacyZones) {
        return problem;
    }
    let written = call.web.note_denied(route, call);
    if let Err(problem) = written {
        tracing::warn!(detail = problem.detail, "refused request not recorded in the audit trail");
    }
    problem
}

/// A request for footage: a refusal is recorded, and before the first byte the opening.
fn admit_to_file(route: &Route, mut call: Call) -> Result<Call, Problem> {
    let opened = openable(&call, call.param("site"), call.param("fid"));
    let (file, allowed) = opened.map_err(|problem| refused(route, &call, problem))?;
    call.allowed = allowed;
    call.file = Some(file);
    call.web.open_footage(&call)?;
    Ok(call)
}

/// A stored file that the session may open: its purpose says which right it needs; the limit of a
/// viewer its age.
///
/// # Errors
/// `NotFound` where the session may not know of it; otherwise the reason.
pub(crate) fn openable(call: &Call, site: &str, fid: &str) -> Result<Openable, Problem> {
    let group = call.web.group_of(site)?;
    let session = call.session.as_ref();
    let decide = |right| guard::decide(session, Asked::Site(right, group.as_deref()), call.now);
    decide(Right::Board)?;
    let file = call.web.file(site, fid)?.ok_or_else(Problem::not_found)?;
    let right = if file.purpose == "snapshot" { Right::Snapshot } else { Right::Clip };
    let allowed = decide(right)?;
    // Snapshots have the zones black; the camera's own pictures have not.
    if right == Right::Clip && call.web.may_have_privacy_zones(site)? {
        decide(Right::Unmasked).map_err(|problem| match problem.code {
            Code::NotAllowed => Code::PrivacyZones.into(),
            _ => problem,
        })?;
    }
    match allowed.and_then(|(_, limit)| limit) {
        Some(Limit::RecentHours(hours)) => {
            let oldest = call.now.plus_micros(-i64::from(hours) * HOUR);
            if WallTime::parse(&file.from).map_or(true, |start| start < oldest) {
                return Err(Code::TooOld.into());
            }
        }
        // On the newest picture zones are drawn.
        Some(Limit::SetupPicture) if call.web.newest_snapshot(site)?.as_deref() != Some(fid) => {
            return Err(Code::NotAllowed.into());
        }
        _ => {}
    }
    Ok((file, allowed))
}
