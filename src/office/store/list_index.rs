//! What lists, the export and the consistency check ask of the index.

use crate::office::error::ArchiveError;
use crate::office::queries::{EventRow, FileRow, Filter, SiteRow};

/// A listed file, for the consistency check.
pub(crate) struct ListedFile {
    /// Place in the order of [`ListIndex::listed_after`].
    pub place: i64,
    /// Site id.
    pub site: String,
    /// File id.
    pub fid: String,
    /// Key in the file store.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
}

/// An unfinished file, for the consistency check.
pub(crate) struct ListedPart {
    /// Site id.
    pub site: String,
    /// File id.
    pub fid: String,
    /// The flushed ranges, JSON.
    pub ranges: String,
    /// The key to which it is moved.
    pub target: Option<String>,
}

/// A site whose sums are not those of its files: files and bytes.
pub(crate) struct WrongSum {
    /// Site id.
    pub site: String,
    /// Of its listed files.
    pub listed: (i64, i64),
    /// Of the table of sums.
    pub sum: (Option<i64>, Option<i64>),
}

/// A file of an event, for the export.
pub(crate) struct EventFile {
    /// The device's name for it.
    pub name: String,
    /// Key in the file store.
    pub key: String,
    /// SHA-256 in hex.
    pub sha256: String,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
}

/// Lists of the command line, the export and the consistency check.
pub(crate) trait ListIndex {
    /// Name of the index, for a report.
    fn name(&self) -> &'static str;
    /// The index and what to do, for a query that fails.
    fn unreadable(&self) -> String;
    /// The sites, sorted by id.
    fn list_sites(&self) -> Result<Vec<SiteRow>, ArchiveError>;
    /// The newest events that match, oldest first.
    fn list_events(&self, filter: &Filter) -> Result<Vec<EventRow>, ArchiveError>;
    /// The newest files that match, oldest first, without their paths.
    fn list_files(&self, filter: &Filter) -> Result<Vec<FileRow>, ArchiveError>;
    /// The id that an event names as its own event.
    fn event_of(&self, site: &str, id: &str) -> Result<Option<String>, ArchiveError>;
    /// The bytes of an event, of others with its id, and of those that name it, by number.
    fn payloads_of(&self, site: &str, event: &str) -> Result<Vec<Vec<u8>>, ArchiveError>;
    /// The files of an event that are not released.
    fn event_files(&self, site: &str, event: &str) -> Result<Vec<EventFile>, ArchiveError>;
    /// What the index's own check finds.
    fn damages(&self) -> Result<Vec<String>, ArchiveError>;
    /// Sites whose sums are wrong.
    fn wrong_sums(&self) -> Result<Vec<WrongSum>, ArchiveError>;
    /// Keys that more than one file has, with a site and how many.
    fn shared_keys(&self) -> Result<Vec<(String, String, u64)>, ArchiveError>;
    /// The next files that are not released, after a place, at most `most`.
    fn listed_after(&self, place: i64, most: u64) -> Result<Vec<ListedFile>, ArchiveError>;
    /// Key of a listed file, and true when it is released.
    fn file_state(&self, site: &str, fid: &str) -> Result<Option<(String, bool)>, ArchiveError>;
    /// The unfinished files.
    fn listed_parts(&self) -> Result<Vec<ListedPart>, ArchiveError>;
    /// True while an unfinished file has this target.
    fn is_part_unchanged(&self, part: &ListedPart) -> Result<bool, ArchiveError>;
    /// True when a released file had the key.
    fn is_released_key(&self, key: &str) -> Result<bool, ArchiveError>;
    /// True for a key of the removals.
    fn is_removal(&self, key: &str) -> Result<bool, ArchiveError>;
}
