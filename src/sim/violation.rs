//! Kinds of broken storage promises, with their text.

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// P1: durable data is lost or altered.
    Lost(String),
    /// P3: a gap without a gap record.
    Unnamed(String),
    /// P4: the service did not resume.
    Service(String),
    /// P7: an unplayable file.
    Unplayable(String),
    /// Numbers or the hash chain are not continuous.
    Order(String),
    /// Damage that `ring check` does not report.
    Unreported(String),
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, detail) = match self {
            Violation::Lost(detail) => ("lost (P1)", detail),
            Violation::Unnamed(detail) => ("unnamed gap (P3)", detail),
            Violation::Service(detail) => ("service (P4)", detail),
            Violation::Unplayable(detail) => ("unplayable (P7)", detail),
            Violation::Order(detail) => ("numbers or chain", detail),
            Violation::Unreported(detail) => ("unreported", detail),
        };
        write!(f, "{kind}: {detail}")
    }
}
