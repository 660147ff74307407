//! Plain structs of the console's tables.
//!
//! Those with a time are not serialised here: the API writes times as RFC 3339.

use serde::Serialize;

use crate::office::console::people::rights::Grant;
use crate::units::WallTime;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// Number; never used again.
    pub id: i64,
    /// Name, 2 to 32 characters of `a-z`, `0-9`, `.`, `_` and `-`.
    pub name: String,
    /// Language of the page: `vi` or `en`.
    pub language: String,
    /// May not log in.
    pub is_disabled: bool,
    /// The demonstration's user.
    pub is_demo: bool,
    /// False until the user has set a password through a one-time token.
    pub has_password: bool,
    /// When the user was added.
    pub made: WallTime,
    /// The last log-in.
    pub last_login: Option<WallTime>,
    /// Roles.
    pub grants: Vec<Grant>,
}

/// What to change of a user; `None` leaves it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    /// May not log in.
    pub is_disabled: Option<bool>,
    /// Language of the page.
    pub language: Option<String>,
    /// All roles.
    pub grants: Option<Vec<Grant>>,
}

/// A session in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Public number.
    pub id: String,
    /// Number of the user.
    pub user: i64,
    /// Name of the user.
    pub name: String,
    /// Address of the log-in.
    pub from: String,
    /// When it was made.
    pub made: WallTime,
    /// Last use, to the minute.
    pub used: WallTime,
    /// When it ends in any case.
    pub until: WallTime,
    /// Kind of the purpose; empty without one.
    pub purpose: String,
    /// Number of the case or request.
    pub case: String,
}

/// A group of sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct GroupRow {
    /// Name, 1 to 32 characters of `a-z`, `0-9` and `-`.
    pub name: String,
    /// Title in Vietnamese.
    pub title_vi: String,
    /// Title in English.
    pub title_en: String,
}

/// The place of a site.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct PlaceRow {
    /// The site.
    pub site: String,
    /// Name in Vietnamese.
    pub name_vi: String,
    /// Name in English.
    pub name_en: String,
    /// Group of the site; empty without one.
    pub group: String,
    /// Place on the plan, 0 to 1 from the left.
    pub x: Option<f64>,
    /// Place on the plan, 0 to 1 from the top.
    pub y: Option<f64>,
    /// Where the camera looks, degrees clockwise from the top of the plan.
    pub heading: Option<f64>,
    /// Field of view, degrees.
    pub fov: Option<f64>,
    /// How far the camera sees, as a part of the plan's width.
    pub range: Option<f64>,
}

/// The plan of the commune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanImage {
    /// `image/png` or `image/jpeg`.
    pub media_type: String,
    /// The image.
    pub bytes: Vec<u8>,
    /// When it was set.
    pub made: WallTime,
}

/// A rule of retention: how long footage of a purpose is kept for a group of sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct RetentionRow {
    /// The group, or `*` for all sites.
    pub group: String,
    /// Purpose of the files, e.g. `clip`.
    pub purpose: String,
    /// Days after the reception.
    pub days: u32,
    /// The rule of law it rests on, in words.
    pub ground: String,
}

/// Who handled an event, and with which verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandledRow {
    /// Name of the user.
    pub by: String,
    /// When.
    pub at: WallTime,
    /// `real` or `false_alarm`.
    pub verdict: String,
}

/// A note to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteRow {
    /// Name of the user.
    pub by: String,
    /// When.
    pub at: WallTime,
    /// The text.
    pub text: String,
}

/// What officers wrote to a lock of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockNote {
    /// Number of the lock in the archive.
    pub id: i64,
    /// The site.
    pub site: String,
    /// Title.
    pub title: String,
    /// Number of the case; empty without one.
    pub case: String,
    /// When it is to be reviewed.
    pub review: Option<WallTime>,
    /// Name of the user who locked.
    pub by: String,
    /// When.
    pub at: WallTime,
}

/// A range that was on a user's screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRow {
    /// Public number of the session.
    pub session: String,
    /// Name of the user.
    pub by: String,
    /// The file.
    pub fid: String,
    /// Start in wall time.
    pub start: WallTime,
    /// End in wall time.
    pub end: WallTime,
}

/// Which records of the trail a page wants. Empty texts do not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only records before this number.
    pub before: Option<u64>,
    /// Name of a user.
    pub who: String,
    /// A site.
    pub site: String,
    /// An act.
    pub act: String,
    /// Not before.
    pub from: Option<WallTime>,
    /// Before.
    pub to: Option<WallTime>,
}
