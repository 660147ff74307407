//! The chain of the audit trail: how a record is stored, and how a stored trail is verified. Pure.
//!
//! Each record has the SHA-256 of the record before, so a record that was changed, removed or put
//! in another place breaks the chain. A trail that ends too early is found by its head (number and
//! digest of the last record), which is kept in a second place as well.

use super::record::{Act, Actor, AuditNumber, Entry, Origin, Record};
use crate::units::{Digest, WallTime};

/// Number and digest of the last record; 0 and zeros for an empty trail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Head {
    /// Number.
    pub n: u64,
    /// SHA-256 of the record's text.
    pub digest: Digest,
}

/// A record as it is stored: its text, and copies of fields for searching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Number.
    pub n: u64,
    /// The record's text.
    pub text: String,
    /// SHA-256 of the text.
    pub digest: Digest,
    /// Copy of the time, microseconds since 1970.
    pub t: i64,
    /// Copy of the name.
    pub who: String,
    /// Copy of the act.
    pub act: String,
    /// Copy of the site; empty without one.
    pub site: String,
    /// Copy of the object, words joined by spaces.
    pub object: String,
    /// Text of the reason; `None` without one, or when it was blacked out.
    pub reason: Option<String>,
}

/// Name of the actor, for searching.
fn name_of(who: &Actor) -> String {
    match who {
        Actor::User { name, .. } | Actor::Unproven(name) => name.clone(),
        Actor::CommandLine(_) => "command_line".to_owned(),
        Actor::Office => "office".to_owned(),
    }
}

impl StoredRecord {
    fn of(record: &Record, reason: Option<String>) -> StoredRecord {
        let text = record.text();
        StoredRecord {
            n: record.n.0,
            digest: Digest::of(text.as_bytes()),
            text,
            t: record.t.0,
            who: name_of(&record.origin.who),
            act: record.act.as_str().to_owned(),
            site: record.site.as_ref().map(ToString::to_string).unwrap_or_default(),
            object: record.object.join(" "),
            reason,
        }
    }
}

/// The record that follows `head`.
pub fn next(head: Head, origin: &Origin, entry: &Entry, now: WallTime) -> StoredRecord {
    let record = entry.record(origin, AuditNumber(head.n + 1), head.digest, now);
    StoredRecord::of(&record, entry.reason.clone())
}

/// What is wrong with a trail.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// Number of the record.
    pub n: u64,
    /// What is wrong, in a sentence.
    pub what: String,
}

/// Walks a trail record by record.
#[derive(Debug, Default)]
pub struct Verifier {
    head: Head,
    redacted: std::collections::BTreeSet<u64>,
    missing_reasons: std::collections::BTreeSet<u64>,
}

impl Verifier {
    /// Takes the next record.
    ///
    /// # Errors
    /// What is wrong with it: the trail is sound up to the record before.
    pub fn take(&mut self, stored: &StoredRecord) -> Result<(), Fault> {
        let expected = self.head.n + 1;
        let fault = |n, what: String| Err(Fault { n, what });
        if stored.n != expected {
            let what = format!("record {expected} is missing; record {} follows", stored.n);
            return fault(expected, what);
        }
        if Digest::of(stored.text.as_bytes()) != stored.digest {
            return fault(expected, "its text does not have the stored digest".into());
        }
        let record = match Record::parse(&stored.text) {
            Ok(record) => record,
            Err(what) => return fault(expected, format!("its text is no record: {what}")),
        };
        if record.n.0 != expected {
            return fault(expected, format!("its text says it is record {}", record.n.0));
        }
        if record.prev != self.head.digest {
            let what =
                "it does not follow the record before: that one was changed, or this one was moved";
            return fault(expected, what.into());
        }
        if StoredRecord::of(&record, stored.reason.clone()) != *stored {
            return fault(
                expected,
                "a copy of its fields for searching differs from its text".into(),
            );
        }
        match (&stored.reason, record.reason) {
            (Some(text), Some(digest)) if Digest::of(text.as_bytes()) != digest => {
                return fault(expected, "the text of its reason was changed".into());
            }
            (Some(_), None) => return fault(expected, "a reason was added to it".into()),
            (None, Some(_)) => {
                self.missing_reasons.insert(expected);
            }
            (Some(_) | None, _) => {}
        }
        if record.act == Act::AuditRedact
            && let [kind, n] = record.object.as_slice()
            && kind == "record"
            && let Ok(n) = n.parse()
        {
            self.redacted.insert(n);
        }
        self.head = Head { n: expected, digest: stored.digest };
        Ok(())
    }

    /// The head of the walked records.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Ends the walk.
    ///
    /// # Errors
    /// When the text of a reason is missing and no record says that it was blacked out.
    pub fn finish(self) -> Result<Head, Fault> {
        match self.missing_reasons.difference(&self.redacted).next() {
            Some(n) => Err(Fault {
                n: *n,
                what:
                    "the text of its reason is missing, and no record says that it was blacked out"
                        .into(),
            }),
            None => Ok(self.head),
        }
    }
}
