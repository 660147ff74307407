//! A request that the guard let through, as a handler sees it.

use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::Web;
use super::problem::{Code, Problem};
use super::server::Peer;
use crate::office::console::audit::record::{AuditNumber, Entry, Origin};
use crate::office::console::people::rights::{Limit, Right, Role};
use crate::office::console::people::session::{Decision, Session};
use crate::office::queries::rows::StoredFile;
use crate::units::{Digest, SiteId, WallTime};

/// A request, with what the guard knows of it.
pub(crate) struct Call {
    pub(crate) web: Arc<Web>,
    pub(crate) session: Option<Session>,
    /// The cookie of the session; empty without one.
    pub(crate) cookie: String,
    /// The role that allows it, and the limit on it.
    pub(crate) allowed: Option<(Role, Option<Limit>)>,
    /// The file of the path.
    pub(crate) file: Option<StoredFile>,
    pub(crate) peer: Peer,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) now: WallTime,
}

impl Call {
    /// A parameter of the path; the router knows that it is there.
    pub(crate) fn param(&self, name: &str) -> &str {
        find(&self.params, name).unwrap_or_default()
    }

    /// A whole number in the path; anything else names nothing.
    pub(crate) fn number(&self, name: &str) -> Result<i64, Problem> {
        self.param(name).parse().map_err(|_| Problem::not_found())
    }

    /// A parameter of the query that is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        find(&self.query, name).filter(|text| !text.is_empty())
    }

    /// A time in the query.
    pub(crate) fn time(&self, name: &str) -> Result<Option<WallTime>, Problem> {
        let bad = |error| Problem::bad(format!("{name}: {error}"));
        self.text(name).map(WallTime::parse).transpose().map_err(bad)
    }

    /// Both ends of a range of time in the query.
    pub(crate) fn range(&self) -> Result<(WallTime, WallTime), Problem> {
        match (self.time("from")?, self.time("to")?) {
            (Some(from), Some(to)) if from < to => Ok((from, to)),
            (Some(_), Some(_)) => Err(Problem::bad("to is not after from")),
            _ => Err(Problem::bad("from and to are needed")),
        }
    }

    /// A whole number of the query.
    pub(crate) fn whole(&self, name: &str) -> Result<Option<u64>, Problem> {
        let bad = |_| Problem::bad(format!("{name} is no whole number"));
        self.text(name).map(str::parse).transpose().map_err(bad)
    }

    /// `limit` of the query, at most `most`.
    pub(crate) fn limit(&self, default: u32, most: u32) -> Result<u32, Problem> {
        let limit = self.whole("limit")?.unwrap_or(u64::from(default));
        Ok(u32::try_from(limit).unwrap_or(most).clamp(1, most))
    }

    /// The body's JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body).map_err(|error| Problem::bad(error.to_string()))
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The session; the guard knows that it is there.
    pub(crate) fn session(&self) -> Result<&Session, Problem> {
        self.session.as_ref().ok_or_else(|| Code::NoSession.into())
    }

    /// Whether the session has a right for the sites of a group.
    pub(crate) fn may(&self, right: Right, group: &str) -> bool {
        self.session.as_ref().is_some_and(|session| {
            matches!(session.decide(right, group, self.now), Decision::Allowed(..))
        })
    }

    /// The site of the path.
    pub(crate) fn site(&self) -> Result<SiteId, Problem> {
        SiteId::parse(self.param("site")).map_err(|_| Problem::not_found())
    }

    /// Writes a record of the audit trail for this session.
    pub(crate) fn record(&self, entry: Entry) -> Result<AuditNumber, Problem> {
        Ok(self.web.console.record(&self.origin()?, entry)?)
    }

    /// True with the token of machines.
    pub(crate) fn has_machine_token(&self) -> bool {
        let given = self.header(&AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        // Digests are compared, so the time says nothing of the token.
        match (given, self.web.machine_token) {
            (Some(given), Some(token)) => Digest::of(given.trim().as_bytes()) == token,
            _ => false,
        }
    }

    /// Who acts, for the audit trail.
    pub(crate) fn origin(&self) -> Result<Origin, Problem> {
        let role = self.allowed.map(|(role, _)| role);
        Ok(self.session()?.acts(role, &self.address(), self.now))
    }

    /// The client's address.
    pub(crate) fn address(&self) -> String {
        self.peer.address.to_string()
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}
