//! Why a document or a command was not taken: a word for machines, a sentence for people, and every bad key.
//!
//! What belongs here: the words. What does not: finding the reason.

use serde::{Deserialize, Serialize};

use crate::settings::parse::{Problem, Problems};

/// Bad keys reported at most; how many there are goes beside them.
pub const PROBLEMS_MAX: usize = 16;
/// Characters of one reason at most, as it is reported.
const DETAIL_MAX: usize = 300;

/// The reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Longer than a document may be.
    TooLarge,
    /// Truncated, or no document.
    Unreadable,
    /// It carries no signature.
    Unsigned,
    /// Signed by a key that is not enrolled here.
    UnknownKey,
    /// Altered behind its signature.
    BadSignature,
    /// The key may not sign this.
    Scope,
    /// No key is enrolled: nothing can come remotely.
    NoKeys,
    /// For another site.
    WrongSite,
    /// Its version, or its number, is not higher than the highest this key has used.
    Replayed,
    /// It replaces a configuration that this device does not run.
    Stale,
    /// Its time is over.
    Expired,
    /// Another change is on trial.
    Busy,
    /// Keys are bad.
    Invalid,
    /// It would cut off every broker or key that has proven itself.
    Continuity,
    /// The new camera does not answer.
    Probe,
    /// It needs a restart, and cannot be stored to outlive one.
    NotStored,
    /// It did not prove itself on trial.
    Trial,
}

impl RejectReason {
    /// The word used in payloads.
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
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// For machines.
    pub why: RejectReason,
    /// For people; never a secret.
    pub detail: String,
    /// Every bad key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Problem>,
}

impl Rejection {
    /// A refusal without keys.
    pub fn new(why: RejectReason, detail: impl Into<String>) -> Rejection {
        Rejection { why, detail: cut(&detail.into()), errors: Vec::new() }
    }

    /// Bad keys.
    pub fn bad_keys(why: RejectReason, problems: Problems) -> Rejection {
        let count = problems.0.len();
        let told = problems.0.into_iter().take(PROBLEMS_MAX);
        let errors = told.map(|Problem { key, reason }| Problem { key: cut(&key), reason: cut(&reason) }).collect();
        Rejection { why, detail: format!("{count} bad key(s)"), errors }
    }

    /// One bad key.
    pub fn bad_key(why: RejectReason, key: &str, reason: impl Into<String>) -> Rejection {
        Rejection::bad_keys(why, Problems(vec![Problem { key: key.into(), reason: reason.into() }]))
    }

    /// One line for people: the word, the sentence, the keys.
    pub fn line(&self) -> String {
        let keys: Vec<String> = self.errors.iter().map(|Problem { key, reason }| format!("{key}: {reason}")).collect();
        format!("{}: {}{}{}", self.why.as_str(), self.detail, if keys.is_empty() { "" } else { ": " }, keys.join("; "))
    }
}

fn cut(text: &str) -> String {
    crate::redact::masked(text).chars().take(DETAIL_MAX).collect()
}
