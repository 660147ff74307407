//! Check report: what a check of a whole ring found, and what has to be done.

use serde::Serialize;

use super::range_set::Ranges;

/// A problem of the ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckProblem {
    /// File name.
    pub file: String,
    /// Offset in the file.
    pub offset: u64,
    /// The problem, as a sentence.
    pub what: String,
    /// What has to be done.
    pub remedy: Remedy,
}

/// What has to be done about a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Something is or may be lost: export what is left.
    Export,
    /// Nothing is lost: the next start or the scrub rewrites it.
    Start,
    /// Nothing is lost: the operator does what the sentence says.
    Person,
}

impl CheckProblem {
    pub(super) fn new(file: String, offset: u64, what: String, remedy: Remedy) -> CheckProblem {
        CheckProblem { file, offset, what, remedy }
    }
}

impl std::fmt::Display for CheckProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} offset {}: {}", self.file, self.offset, self.what)
    }
}

/// The result of a check.
#[derive(Debug, Default, Serialize)]
pub struct CheckReport {
    /// Segment files that hold footage.
    pub segments: u64,
    /// Segment files that hold none.
    pub blank: u64,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// Records, gap records among them.
    pub records: u64,
    /// Sample bytes.
    pub payload: u64,
    /// First and last record.
    pub numbers: Option<(u64, u64)>,
    /// Gap records.
    #[serde(rename = "holes")]
    pub gap_records: u64,
    /// Stretches of records that were evicted between pinned ones.
    pub evicted: u64,
    /// Entries in the journal that wait for the office.
    pub entries: u64,
    /// Evidence locks.
    pub locks: u64,
    /// Evicted records by cause, as the heads list them.
    pub gone: std::collections::BTreeMap<&'static str, u64>,
    /// Segments that the agent recycled while they were read; nothing of them is judged.
    pub recycled: u64,
    /// Problems that a torn write explains; the next start repairs them.
    pub torn: Vec<CheckProblem>,
    /// All other problems.
    pub problems: Vec<CheckProblem>,
    /// Records of the newest segment.
    #[serde(skip)]
    pub(super) newest: usize,
    /// Record numbers of the recycled segments.
    #[serde(skip)]
    pub(super) left_out: Ranges,
    /// Numbers between two files.
    #[serde(skip)]
    pub(super) between: Vec<(u64, u64)>,
}

impl CheckReport {
    /// Adds what the check of one segment found.
    pub(super) fn add(&mut self, part: CheckReport) {
        self.records += part.records;
        self.payload += part.payload;
        self.gap_records += part.gap_records;
        self.torn.extend(part.torn);
        self.problems.extend(part.problems);
        self.between.extend(part.between);
        self.newest = part.newest;
    }
}
