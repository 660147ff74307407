//! Rejection of a document or command: a machine-readable reason, a sentence, and all bad keys.

use serde::{Deserialize, Serialize};

use crate::settings::parse::{Problem, Problems};

/// Bad keys listed in a rejection at most; its detail has their number.
pub const PROBLEMS_MAX: usize = 16;
/// Characters of a detail, key or reason at most.
const DETAIL_MAX: usize = 300;

/// Reason of a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// The document is larger than the limit.
    TooLarge,
    /// The document is truncated or malformed.
    Unreadable,
    /// The document has no signature.
    Unsigned,
    /// The signing key is not enrolled.
    UnknownKey,
    /// The signature does not match the content.
    BadSignature,
    /// The key is outside its scope.
    Scope,
    /// No key is enrolled, so no remote change is possible.
    NoKeys,
    /// The document is for another site.
    WrongSite,
    /// The version or number is not above the highest one of this key.
    Replayed,
    /// The document replaces a configuration that this device does not run.
    Stale,
    /// The document or command has expired.
    Expired,
    /// Another change is under way, or too many commands are.
    Busy,
    /// The configuration has invalid keys.
    Invalid,
    /// The change would remove every proven broker or the signing key.
    Continuity,
    /// The new camera gives no key frame.
    Probe,
    /// The change needs a restart and cannot be stored.
    NotStored,
    /// The change failed its trial.
    Trial,
    /// A newer local edit ended the trial.
    Replaced,
}

impl RejectReason {
    /// The reason as it stands in payloads.
    pub fn as_str(self) -> &'static str {
        match self {
            RejectReason::TooLarge => "too_large",
            RejectReason::Unreadable => "unreadable",
            RejectReason::Unsigned => "unsigned",
            RejectReason::UnknownKey => "unknown_key",
            RejectReason::BadSignature => "bad_signature",
            RejectReason::Scope => "scope",
            RejectReason::NoKeys => "no_keys",
            RejectReason::WrongSite => "wrong_site",
            RejectReason::Replayed => "replayed",
            RejectReason::Stale => "stale",
            RejectReason::Expired => "expired",
            RejectReason::Busy => "busy",
            RejectReason::Invalid => "invalid",
            RejectReason::Continuity => "continuity",
            RejectReason::Probe => "probe",
            RejectReason::NotStored => "not_stored",
            RejectReason::Trial => "trial",
            RejectReason::Replaced => "replaced",
        }
    }
}

/// A rejection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The reason.
    pub why: RejectReason,
    /// A sentence for the operator, without secrets.
    pub detail: String,
    /// The invalid keys; empty for other reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Problem>,
}

impl Rejection {
    /// True for a change that was on trial.
    pub fn is_rollback(&self) -> bool {
        matches!(self.why, RejectReason::Trial | RejectReason::Replaced)
    }

    /// A rejection without keys.
    pub fn new(why: RejectReason, detail: impl Into<String>) -> Rejection {
        Rejection { why, detail: cut(&detail.into()), errors: Vec::new() }
    }

    /// A rejection with invalid keys.
    pub fn bad_keys(why: RejectReason, problems: Problems) -> Rejection {
        let count = problems.0.len();
        let listed = problems.0.into_iter().take(PROBLEMS_MAX);
        let errors = listed
            .map(|Problem { key, reason }| Problem { key: cut(&key), reason: cut(&reason) })
            .collect();
        Rejection { why, detail: crate::units::counted(count, "bad key"), errors }
    }

    /// A rejection with one invalid key.
    pub fn bad_key(why: RejectReason, key: &str, reason: impl Into<String>) -> Rejection {
        Rejection::bad_keys(why, Problems(vec![Problem { key: key.into(), reason: reason.into() }]))
    }

    /// Reason, detail and keys in one line.
    pub fn line(&self) -> String {
        let keys: Vec<String> =
            self.errors.iter().map(|Problem { key, reason }| format!("{key}: {reason}")).collect();
        format!(
            "{}: {}{}{}",
            self.why.as_str(),
            self.detail,
            if keys.is_empty() { "" } else { ": " },
            keys.join("; ")
        )
    }
}

fn cut(text: &str) -> String {
    crate::redact::masked(text).chars().take(DETAIL_MAX).collect()
}
