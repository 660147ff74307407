//! Read-only lists of the archive: sites, events, files, gaps, replies.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::office::archive::Archive;
use crate::office::error::{ArchiveError, Named as _};
use crate::office::range_set::Ranges;
use crate::office::store::index::RingNumbers;

/// Bytes of a `req_id` at most.
const REQ_ID_MAX: usize = 64;

/// One line of `office sites`.
#[derive(Debug, Serialize)]
pub struct SiteRow {
    /// Site id.
    pub site: String,
    /// `online`, `stopping`, `lost`, or empty before the first state.
    pub state: String,
    /// RFC 3339 time of the last message.
    pub seen: String,
    /// Events stored and not released.
    pub events: u64,
    /// Highest sequence number of all rings.
    pub highest_seq: u64,
    /// Rings with events: one for each card that the device has had.
    pub rings: u64,
    /// Missing sequence numbers between 1 and the highest of each ring.
    pub missing_seq: u64,
    /// Files stored and not released.
    pub files: u64,
}

/// One line of `office events`.
#[derive(Debug, Serialize)]
pub struct EventRow {
    /// Site id.
    pub site: String,
    /// Sequence number.
    pub seq: u64,
    /// RFC 3339 time of the event.
    pub time: String,
    /// CloudEvents type.
    pub kind: String,
    /// ULID.
    pub id: String,
    /// `data` of the event; null when the payload has none.
    pub data: Value,
}

/// One line of `office clips`.
#[derive(Debug, Serialize)]
pub struct FileRow {
    /// Site id.
    pub site: String,
    /// `clip`, `snapshot`, `requested`.
    pub purpose: String,
    /// RFC 3339 time of the first picture.
    pub start: String,
    /// RFC 3339 time of the end.
    pub end: String,
    /// Bytes.
    pub size: u64,
    /// Id of the event, or `req_id` of the request.
    pub event: String,
    /// Path of the file.
    pub path: PathBuf,
    /// Its key in the file store.
    #[serde(skip)]
    pub key: String,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// One line of `office gaps`.
#[derive(Debug, Serialize)]
pub struct GapRow {
    /// Site id.
    pub site: String,
    /// Id of the ring, 16 hexadecimal digits.
    pub ring: String,
    /// First missing sequence number.
    pub first: u64,
    /// Last missing sequence number.
    pub last: u64,
    /// `missing`, `on its way` (above the device's confirmed watermark), or the reason of the loss.
    pub why: String,
}

/// Selection of rows.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Only this site.
    pub site: Option<String>,
    /// Only this kind: the middle of an event's `type`, or a file's purpose.
    pub kind: Option<String>,
    /// Earliest time, RFC 3339 UTC, inclusive.
    pub from: Option<String>,
    /// Latest time, RFC 3339 UTC, inclusive.
    pub to: Option<String>,
    /// Rows at most, the newest ones.
    pub limit: u32,
}

impl Archive {
    /// The sites, sorted by id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn sites(&self) -> Result<Vec<SiteRow>, ArchiveError> {
        self.index.list_sites().named(|| self.index.unreadable())
    }

    /// The newest events that match, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn events(&self, filter: &Filter) -> Result<Vec<EventRow>, ArchiveError> {
        self.index.list_events(filter).named(|| self.index.unreadable())
    }

    /// The newest files that match, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn files(&self, filter: &Filter) -> Result<Vec<FileRow>, ArchiveError> {
        let mut files = self.index.list_files(filter).named(|| self.index.unreadable())?;
        files.iter_mut().for_each(|file| file.path = self.files.location(&file.key));
        Ok(files)
    }

    /// Missing sequence numbers: missing, on their way, or dropped by the device with a reason.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn gaps(&self, filter: &Filter) -> Result<Vec<GapRow>, ArchiveError> {
        self.read_gaps(filter).named(|| self.index.unreadable())
    }

    fn read_gaps(&self, filter: &Filter) -> Result<Vec<GapRow>, ArchiveError> {
        let mut rows = Vec::new();
        for RingNumbers { site, ring, highest, confirmed, complete } in
            self.index.rings(filter.site.as_deref())?
        {
            for (first, last) in self.missing(&site, &ring, complete.saturating_add(1), highest)? {
                let why = if first <= confirmed { "missing" } else { "on its way" }.to_owned();
                rows.push(GapRow { site: site.clone(), ring: ring.clone(), first, last, why });
            }
            let given_up = self.index.lost(&site, &ring)?;
            // A device names as gone what it delivered long ago, and drops what is on its way.
            let received = if given_up.is_empty() {
                Ranges::default()
            } else {
                self.index.received(&site, &ring)?
            };
            for (first, last, why) in given_up {
                let lost = received.missing(first, last.saturating_add(1), usize::MAX);
                rows.extend(lost.into_iter().map(|(first, end)| GapRow {
                    site: site.clone(),
                    ring: ring.clone(),
                    first,
                    last: end - 1,
                    why: why.clone(),
                }));
            }
        }
        rows.truncate(filter.limit as usize);
        Ok(rows)
    }

    /// The reply to a command; `None` before it arrives.
    ///
    /// # Errors
    /// `Invalid` for a `req_id` of more than 64 bytes; otherwise the failure of the database.
    pub fn reply_to(&self, site: &str, req_id: &str) -> Result<Option<Value>, ArchiveError> {
        if req_id.len() > REQ_ID_MAX {
            return Err(ArchiveError::Invalid(format!("a req_id has at most {REQ_ID_MAX} bytes")));
        }
        let bytes = self.index.reply(site, req_id).named(|| self.index.unreadable())?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_is_no_database_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taimat.sqlite");
        std::fs::write(&path, [b'x'; 8192]).unwrap();
        let archive = Archive::open_read_only(dir.path()).unwrap();
        let filter = Filter { limit: 1, ..Filter::default() };
        for error in [
            archive.sites().unwrap_err(),
            archive.events(&filter).unwrap_err(),
            archive.files(&filter).unwrap_err(),
            archive.gaps(&filter).unwrap_err(),
            archive.reply_to("km-17", "r1").unwrap_err(),
        ] {
            let line = error.line();
            assert!(line.starts_with(&path.display().to_string()), "{line}");
            assert!(line.contains("restore"), "{line}");
        }
    }
}
