//! Verification of a whole stored trail, with its head in the second place. Reads in batches.

use super::chain::{Fault, Head, StoredRecord, Verifier};
use super::head_file::KnownHead;
use super::record::Act;
use crate::office::console::error::ConsoleError;
use crate::office::console::tables::Tables;

/// Records read at once.
const BATCH: u32 = 2_000;
/// Notes kept; further ones are counted in none: each names a record to read.
const NOTES_MAX: usize = 20;

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// True when no fault was found.
    pub ok: bool,
    /// The last sound record.
    pub head: Head,
    /// The first fault.
    pub fault: Option<Fault>,
    /// What a reader should know, and what is no fault.
    pub notes: Vec<String>,
}

/// Verifies the trail of `tables`. `read_head` reads the head file; `None` without such a file.
///
/// # Errors
/// When the database cannot be read.
pub fn verify(
    tables: &Tables,
    read_head: impl Fn() -> Option<KnownHead>,
) -> Result<Report, ConsoleError> {
    let known = read_head();
    let mut walk = Walk { known, ..Walk::default() };
    let mut after = 0;
    'records: loop {
        let batch = tables.audit_after(after, BATCH)?;
        let Some(last) = batch.last() else { break };
        after = last.n;
        for record in &batch {
            if let Err(fault) = walk.take(record) {
                walk.fault = Some(fault);
                break 'records;
            }
        }
    }
    let is_misnumbered = tables.has_misnumbered()?;
    walk.has_users = tables.user_count()? > 0;
    let stray = tables.stray_reasons()?;
    let mut report = walk.end(is_misnumbered, stray.first().copied());
    if report.fault.is_none() {
        report.fault = behind(report.head, read_head().unwrap_or_default());
    }
    if report.fault.is_none() {
        let changed = tables.changed_triggers()?.into_iter().next();
        report.fault = changed.map(|what| Fault { n: report.head.n, what });
    }
    report.ok = report.fault.is_none();
    Ok(report)
}

/// A head file that ends before the trail, `known` read after it: a head is noted before its act is
/// committed.
fn behind(head: Head, known: KnownHead) -> Option<Fault> {
    let noted = known.committed.into_iter().chain(known.pending).map(|noted| noted.n).max()?;
    let what = format!(
        "the file audit-head ends with record {noted}, the trail with {}: it is shorter than the trail, as an older copy of the file or a part of it is",
        head.n
    );
    (noted < head.n).then_some(Fault { n: noted + 1, what })
}

#[derive(Default)]
struct Walk {
    verifier: Verifier,
    notes: Vec<String>,
    known: Option<KnownHead>,
    fault: Option<Fault>,
    /// True when the console has users: acts made them.
    has_users: bool,
}

impl Walk {
    fn take(&mut self, record: &StoredRecord) -> Result<(), Fault> {
        self.verifier.take(record)?;
        let n = record.n;
        let head = Head { n, digest: record.digest };
        let known = self.known.unwrap_or_default();
        for noted in [known.committed, known.pending].into_iter().flatten() {
            if noted.n == n && noted != head {
                let what = "its digest is not the one of the head file: the trail was written again from here or before";
                return Err(Fault { n, what: what.into() });
            }
        }
        if record.act == Act::AuditInterrupted.as_str() {
            if record.object.starts_with("pending") {
                self.note(format!("record {n}: an act before it was begun and is not in the trail: a power cut, or its record was removed"));
            } else {
                let what = format!(
                    "it says that records before it were removed, or the head file was ({})",
                    record.object
                );
                return Err(Fault { n, what });
            }
        }
        Ok(())
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }

    fn end(mut self, is_misnumbered: bool, stray: Option<u64>) -> Report {
        let head = self.verifier.head();
        if self.fault.is_none() {
            self.fault = self.end_fault(head, is_misnumbered, stray);
        }
        let verifier = std::mem::take(&mut self.verifier);
        if self.fault.is_none() {
            self.fault = verifier.finish().err();
        }
        Report { ok: self.fault.is_none(), head, fault: self.fault, notes: self.notes }
    }

    fn end_fault(&mut self, head: Head, is_misnumbered: bool, stray: Option<u64>) -> Option<Fault> {
        let fault = |n, what: &str| Some(Fault { n, what: what.to_owned() });
        if is_misnumbered {
            return fault(0, "a record has a number below 1");
        }
        let Some(known) = self.known else {
            return fault(
                head.n,
                "the file audit-head is missing: nothing says where the trail ends",
            );
        };
        let cut_off = match (known.committed, known.pending) {
            (None, None) if head.n == 0 && self.has_users => fault(
                0,
                "the trail and the file audit-head are empty, but there are users: their records were removed",
            ),
            (None, None) if head.n > 0 => fault(
                head.n,
                "the file audit-head is empty or damaged: nothing says where the trail ends",
            ),
            (Some(committed), _) if head.n < committed.n => Some(Fault {
                n: head.n + 1,
                what: format!(
                    "it is missing: the trail ends with record {}, but record {} was written",
                    head.n, committed.n
                ),
            }),
            _ if known.is_damaged => fault(
                head.n,
                "half of the file audit-head is empty or damaged: records behind this one may have been removed",
            ),
            (_, Some(pending)) if head.n < pending.n => {
                self.note(format!(
                    "act {} was begun and is not in the trail: it is being written now, a power cut ended it, or its record was removed",
                    pending.n
                ));
                None
            }
            _ => None,
        };
        let stray =
            stray.and_then(|n| fault(n, "the text of a reason is kept, its record is not there"));
        cut_off.or(stray)
    }
}
