//! How a promise of storage can be broken.
//!
//! What belongs here: the kinds, and their words. What does not: finding out ([`super::oracle`]).

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// P1: something durable is gone or differs.
    Lost(String),
    /// P3: a gap without a name.
    Unnamed(String),
    /// P4: the service did not come back as it must.
    Service(String),
    /// P7: a file that does not play.
    Unplayable(String),
    /// Numbers or the chain do not follow on.
    Order(String),
    /// Something that happened to the card and `ring check` does not tell.
    Unreported(String),
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, detail) = match self {
            Violation::Lost(detail) => ("lost (P1)", detail),
            Violation::Unnamed(detail) => ("unnamed gap (P3)", detail),
            Violation::Service(detail) => ("service (P4)", detail),
            Violation::Unplayable(detail) => ("unplayable (P7)", detail),
            Violation::Order(detail) => ("numbers or chain", detail),
            Violation::Unreported(detail) => ("untold", detail),
        };
        write!(f, "{word}: {detail}")
    }
}
