//! The cached state of an unfinished file; the index holds what a restart needs of it.

use super::range_set::Ranges;
use super::store::file_key;
use crate::units::SiteId;
use crate::uplink::wire::{Ack, Manifest};

/// Missing ranges in one `have` at most: a packet to a device has a size limit.
const MISSING_MAX: usize = 64;
/// Seconds without a message after which an unfinished file is dropped.
pub const PART_KEPT: i64 = 7 * 86_400;

/// Site and file id.
pub(super) type Key = (SiteId, String);

/// A file to flush and hash; the result goes to `Archive::checked`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The site that sent it.
    pub site: SiteId,
    /// File id: 32 hexadecimal digits.
    pub fid: String,
    /// Key in the file store.
    pub path: String,
    /// State of the file. A result for an older state is ignored.
    pub(super) turn: u64,
}

/// An unfinished file to flush; the result goes to `Archive::flushed`.
#[derive(Debug, Clone)]
pub struct Flush {
    /// The file.
    pub file: Check,
    /// The ranges that are durable after the flush.
    pub(super) ranges: Ranges,
}

/// Bytes and chunks that no flush has covered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unflushed {
    pub(super) bytes: u64,
    pub(super) chunks: u32,
}

/// The cached state of an unfinished file.
pub(super) struct PartialFile {
    pub(super) manifest: Manifest,
    pub(super) ranges: Ranges,
    /// The file was moved here and is not listed yet.
    pub(super) target: Option<String>,
    pub(super) unflushed: Unflushed,
    /// Chunks since the last `have`.
    pub(super) chunks: u32,
    /// Unix time at which the running check began.
    pub(super) checking: Option<i64>,
    pub(super) is_flushing: bool,
    /// The state was read from the index, or the disk failed, after the last `init`: missing bytes
    /// may be the office's fault.
    pub(super) is_doubtful: bool,
    pub(super) turn: u64,
    pub(super) used: u64,
}

impl PartialFile {
    pub(super) fn have(&self, fid: &str) -> Ack {
        let missing = self.ranges.missing(0, self.manifest.size, MISSING_MAX);
        let upto = self.ranges.upto(0);
        let missing = if missing == [(upto, self.manifest.size)] { Vec::new() } else { missing };
        Ack::Have { fid: fid.to_owned(), upto, missing }
    }
}

/// Key of the unfinished file.
pub(super) fn partial((site, fid): &Key) -> String {
    file_key::part(site.as_str(), fid)
}
