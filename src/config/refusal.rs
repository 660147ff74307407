//! Why a document or a command was not taken: a word for machines, a sentence for people, and every bad key.
//!
//! What belongs here: the words. What does not: finding the reason.

use serde::{Deserialize, Serialize};

use crate::settings::raw::{Problem, Problems};

/// Bad keys told at most; how many there are goes beside them.
pub const PROBLEMS_MAX: usize = 16;
/// Characters of one reason at most, as it is told.
const DETAIL_MAX: usize = 300;

/// The reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
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
    /// No key is enrolled: nothing can come from afar.
    NoKeys,
    /// For another site.
    Foreign,
    /// Its version, or its number, is not higher than the highest this key has used.
    Replayed,
    /// It replaces a configuration that this box does not run.
    Stale,
    /// Its time is over.
    Expired,
    /// Another change is on trial.
    Busy,
    /// Keys are bad.
    Invalid,
    /// It would cut off every broker or key that has proven itself.
    Overlap,
    /// The new camera does not answer.
    Probe,
    /// It needs a restart, and cannot be stored to outlive one.
    NotStored,
    /// It did not prove itself on trial.
    Trial,
}

impl Why {
    /// The word used in payloads.
    pub fn word(self) -> &'static str {
        match self {
            Why::TooLarge => "too_large",
            Why::Unreadable => "unreadable",
            Why::Unsigned => "unsigned",
            Why::UnknownKey => "unknown_key",
            Why::BadSignature => "bad_signature",
            Why::Scope => "scope",
            Why::NoKeys => "no_keys",
            Why::Foreign => "wrong_site",
            Why::Replayed => "replayed",
            Why::Stale => "stale",
            Why::Expired => "expired",
            Why::Busy => "busy",
            Why::Invalid => "invalid",
            Why::Overlap => "continuity",
            Why::Probe => "probe",
            Why::NotStored => "not_stored",
            Why::Trial => "trial",
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For machines.
    pub why: Why,
    /// For people; never a secret.
    pub detail: String,
    /// Every bad key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Problem>,
}

impl Refusal {
    /// A refusal without keys.
    pub fn of(why: Why, detail: impl Into<String>) -> Refusal {
        Refusal { why, detail: cut(&detail.into()), errors: Vec::new() }
    }

    /// Bad keys.
    pub fn bad_keys(why: Why, problems: Problems) -> Refusal {
        let count = problems.0.len();
        let told = problems.0.into_iter().take(PROBLEMS_MAX);
        let errors = told.map(|Problem { key, reason }| Problem { key: cut(&key), reason: cut(&reason) }).collect();
        Refusal { why, detail: format!("{count} bad key(s)"), errors }
    }

    /// One bad key.
    pub fn bad_key(why: Why, key: &str, reason: impl Into<String>) -> Refusal {
        Refusal::bad_keys(why, Problems(vec![Problem { key: key.into(), reason: reason.into() }]))
    }

    /// One line for people: the word, the sentence, the keys.
    pub fn line(&self) -> String {
        let keys: Vec<String> = self.errors.iter().map(|Problem { key, reason }| format!("{key}: {reason}")).collect();
        format!("{}: {}{}{}", self.why.word(), self.detail, if keys.is_empty() { "" } else { ": " }, keys.join("; "))
    }
}

fn cut(text: &str) -> String {
    crate::mask::masked(text).chars().take(DETAIL_MAX).collect()
}
