//! Sessions: a log-in that lasts, and what it may do.

use std::collections::HashMap;

use super::purpose::Purpose;
use super::rights::{Grant, Limit, Right, Role, decide};
use crate::office::console::audit::record::{Actor, Origin};
use crate::units::{Secret, WallTime};

/// Minutes without a request after which a session ends.
pub const IDLE_MINUTES: i64 = 30;
/// Hours after which a session ends in any case.
pub const WHOLE_HOURS: i64 = 12;

/// A session that holds, as read from the table for one request.
#[derive(Debug, Clone)]
pub struct Session {
    /// Public number of the session: the first 8 hex digits of its digest. It opens nothing.
    pub id: String,
    /// The user's number.
    pub user: i64,
    /// The user's name.
    pub name: String,
    /// Language of the page: `vi` or `en`.
    pub language: String,
    /// The user's roles.
    pub grants: Vec<Grant>,
    /// Why the session looks at footage.
    pub purpose: Option<Purpose>,
    /// Address of the log-in.
    pub from: String,
    /// When the session was made.
    pub made: WallTime,
    /// When it ends in any case.
    pub until: WallTime,
    /// The demonstration's user.
    pub is_demo: bool,
}

/// Sessions that ended in memory at most: those of all users.
const ENDED_MAX: usize = 16_000;

/// Sessions whose log-out could not be written, with their ends: they count no more.
#[derive(Debug, Default)]
pub struct EndedSessions(HashMap<String, WallTime>);

impl EndedSessions {
    /// Notes the end of a session; false when the table is full.
    pub fn add(&mut self, session: &Session, now: WallTime) -> bool {
        self.0.retain(|_, until| *until > now);
        let has_room = self.0.len() < ENDED_MAX;
        if has_room {
            self.0.insert(session.id.clone(), session.until);
        }
        has_room
    }

    /// Whether a session has ended.
    pub fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }
}

/// What a session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, under this role and within this limit.
    Allowed(Role, Option<Limit>),
    /// Footage is asked for, and the session has no purpose.
    PurposeMissing,
    /// No role of the user has the right there.
    Denied,
}

impl Session {
    /// Whether the session may do `right` for the sites of `group` (`""`: a site without a group,
    /// or a right of the whole office).
    pub fn decide(&self, right: Right, group: &str, now: WallTime) -> Decision {
        let Some((role, limit)) = decide(&self.grants, right, group, now) else {
            return Decision::Denied;
        };
        let needs = right.is_footage() || limit == Some(Limit::WithPurpose);
        if needs && self.purpose_at(now).is_none() {
            return Decision::PurposeMissing;
        }
        Decision::Allowed(role, limit)
    }

    /// The purpose that holds now.
    pub fn purpose_at(&self, now: WallTime) -> Option<&Purpose> {
        self.purpose.as_ref().filter(|purpose| purpose.holds(now))
    }

    /// Who acts, for the audit trail: this session under `role`, from the request's address.
    pub fn acts(&self, role: Option<Role>, from: &str, now: WallTime) -> Origin {
        let who = Actor::User { id: self.user, name: self.name.clone(), role };
        let purpose = self.purpose_at(now).map(|purpose| (purpose.kind, purpose.case.clone()));
        Origin { who, session: self.id.clone(), from: from.to_owned(), purpose }
    }
}

/// A session that was just made: its cookie leaves the office once.
#[derive(Debug)]
pub struct NewSession {
    /// Value of the cookie: 256 random bits as 64 hex digits. The table has only its digest.
    pub cookie: Secret,
    /// The session.
    pub session: Session,
}
