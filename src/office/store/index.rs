//! What the archive thread asks of the index.
//!
//! One trait for each subject; [`Index`] is all of them. Judgement is the caller's: each function
//! reads or changes rows, and says nothing of what they mean. Changes count from the commit of their
//! transaction ([`Transactions`]).

use crate::office::config_store::ConfigRow;
use crate::office::error::ArchiveError;
use crate::office::history::GapEntry;
use crate::office::history::health::Figures;
use crate::office::history::motion::MotionEvent;
use crate::office::range_set::Ranges;
use crate::office::retention::{Candidate, Held, LockRow, Old, Wanted};
use crate::units::WallTime;

use super::list_index::ListIndex;

/// A step of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexStep {
    /// The begin; fails while another process holds the lock.
    Begin,
    /// A change of rows; fails on a full disk.
    Change,
    /// The commit; fails on a full or broken disk.
    Commit,
}

/// Fault injection for the steps of a transaction.
pub(crate) trait IndexGuard: Send + Sync {
    /// Runs before each step.
    ///
    /// # Errors
    /// The simulated failure of the step.
    fn before(&self, step: IndexStep) -> std::io::Result<()>;
}

/// The index of an archive: everything that is not bytes of files.
pub(crate) trait Index:
    Transactions
    + MessageIndex
    + HistoryIndex
    + NumberIndex
    + FileIndex
    + ConfigIndex
    + RetentionIndex
    + ListIndex
    + Send
{
}

impl dyn Index {
    /// Runs `work` in one transaction.
    ///
    /// # Errors
    /// When a step fails; the transaction is then rolled back.
    pub(crate) fn within<T>(
        &self,
        work: impl FnOnce(&dyn Index) -> Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        let done = self
            .begin_transaction()
            .and_then(|()| work(self))
            .and_then(|value| self.commit().map(|()| value));
        if done.is_err() {
            self.roll_back();
        }
        done
    }
}

/// Transactions, step by step.
pub(crate) trait Transactions {
    /// Makes the tables, or upgrades those of an older archive.
    ///
    /// # Errors
    /// `Version` for an archive of a newer taimat; otherwise the failure of the database.
    fn migrate(&self) -> Result<(), ArchiveError>;
    /// Begins a transaction.
    ///
    /// # Errors
    /// When another process holds the index or the disk fails.
    fn begin_transaction(&self) -> Result<(), ArchiveError>;
    /// Commits the transaction; it is durable when this returns.
    ///
    /// # Errors
    /// When the commit fails; the caller must roll back.
    fn commit(&self) -> Result<(), ArchiveError>;
    /// Leaves the commit to the next transaction, to show that the simulator notices.
    fn defer_commit(&self);
    /// Rolls the open transaction back, if there is one.
    fn roll_back(&self);
}

/// An event to store.
pub(crate) struct NewEvent<'a> {
    /// Site id.
    pub site: &'a str,
    /// Id within the site.
    pub id: &'a str,
    /// Sequence number.
    pub seq: u64,
    /// CloudEvents type.
    pub kind: &'a str,
    /// Time of the device.
    pub time: &'a str,
    /// The bytes as received.
    pub payload: &'a [u8],
    /// RFC 3339 time of the receipt.
    pub received: &'a str,
    /// Id of the ring.
    pub ring: &'a str,
}

/// Sites, events and other messages. A function fails when the index refuses the change or cannot
/// be read.
pub(crate) trait MessageIndex {
    /// Sets the time of a site's last message; false for an unknown site.
    fn set_seen(&self, site: &str, now: &str) -> Result<bool, ArchiveError>;
    /// Number of sites.
    fn count_sites(&self) -> Result<u64, ArchiveError>;
    /// Adds a site.
    fn insert_site(&self, site: &str, now: &str) -> Result<(), ArchiveError>;
    /// True when the stored event with this id has these bytes; `None` for an unknown id.
    fn event_equals(
        &self,
        site: &str,
        id: &str,
        payload: &[u8],
    ) -> Result<Option<bool>, ArchiveError>;
    /// Adds an event; false for a known id.
    fn insert_event(&self, event: &NewEvent<'_>) -> Result<bool, ArchiveError>;
    /// The ring of a site's last state.
    fn ring_of(&self, site: &str) -> Result<Option<String>, ArchiveError>;
    /// Sets a site's state when it is the first, of the same ring and no older connection, or
    /// `online` of another ring; false otherwise.
    fn set_state(
        &self,
        site: &str,
        state: &str,
        conn: u64,
        ring: &str,
    ) -> Result<bool, ArchiveError>;
    /// Sets a site's birth.
    fn set_birth(&self, site: &str, text: &str) -> Result<(), ArchiveError>;
    /// Sets a site's health message, received at a Unix time.
    fn set_health(&self, site: &str, text: &str, at: i64) -> Result<(), ArchiveError>;
    /// Stores a reply, and drops all of the site but the newest `most`.
    fn insert_reply(
        &self,
        site: &str,
        req_id: &str,
        payload: &[u8],
        received: &str,
        most: u64,
    ) -> Result<(), ArchiveError>;
    /// The bytes of a reply.
    fn reply(&self, site: &str, req_id: &str) -> Result<Option<Vec<u8>>, ArchiveError>;
}

/// Rows for pages, written in the transaction of the message that makes them.
pub(crate) trait HistoryIndex {
    /// Adds one message of a motion event to its row.
    fn add_motion(
        &self,
        site: &str,
        part: &MotionEvent,
        received: &str,
    ) -> Result<(), ArchiveError>;
    /// Adds a gap in the footage; `id` is that of its event.
    fn add_gap(
        &self,
        site: &str,
        id_and_ring: (&str, &str),
        gap: &GapEntry,
        received: &str,
    ) -> Result<(), ArchiveError>;
    /// Ends the open interval of a site's presence and begins the next one, when the state differs.
    fn add_presence(&self, site: &str, state: &str, now: WallTime) -> Result<(), ArchiveError>;
    /// Adds to the count of a rule and way in one hour. A new name beyond the bound of an hour is
    /// not counted.
    fn add_count(
        &self,
        site: &str,
        hour: i64,
        rule_and_way: (&str, &str),
        n: u64,
    ) -> Result<(), ArchiveError>;
    /// Adds the figures of a health message to its minute and to its hour.
    fn add_health(&self, site: &str, seconds: i64, figures: &Figures) -> Result<(), ArchiveError>;
    /// The newest health message of a site and the Unix time of its receipt; before the first one
    /// an empty text and 0.
    fn newest_health(&self, site: &str) -> Result<(String, i64), ArchiveError>;
    /// Deletes the minutes of the health history after 30 days, its hours and the counts after two
    /// years, some of each site at a time.
    fn thin_history(&self, now: WallTime) -> Result<(), ArchiveError>;
}

/// A ring with events.
pub(crate) struct RingNumbers {
    /// Site id.
    pub site: String,
    /// Id of the ring.
    pub ring: String,
    /// The highest number that was stored or confirmed.
    pub highest: u64,
    /// The highest number that the device knows to be receipted.
    pub confirmed: u64,
    /// All numbers up to this one arrived or are recorded as lost; the retention may have released
    /// their events since.
    pub complete: u64,
}

/// Sequence numbers: stored ones, and ranges recorded as lost.
pub(crate) trait NumberIndex {
    /// Number of the ranges recorded as lost.
    fn count_lost(&self, site: &str, ring: &str) -> Result<usize, ArchiveError>;
    /// Records a range as lost; a known one stays.
    fn insert_lost(
        &self,
        site: &str,
        ring: &str,
        first_and_last: (i64, i64),
        reason: &str,
    ) -> Result<(), ArchiveError>;
    /// Ranges recorded as lost, with their reasons.
    fn lost(&self, site: &str, ring: &str) -> Result<Vec<(u64, u64, String)>, ArchiveError>;
    /// True for a known ring, and for a new one while the site has fewer than `most`.
    fn has_room_for_ring(&self, site: &str, ring: &str, most: u64) -> Result<bool, ArchiveError>;
    /// Raises the confirmed number of a ring; returns the number up to which the ring is complete,
    /// and the Unix time of the last request.
    fn confirm_ring(
        &self,
        site: &str,
        ring: &str,
        confirmed: u64,
    ) -> Result<(u64, i64), ArchiveError>;
    /// Sets what [`NumberIndex::confirm_ring`] returns.
    fn set_ring_search(
        &self,
        site: &str,
        ring: &str,
        complete: u64,
        asked: i64,
    ) -> Result<(), ArchiveError>;
    /// The numbers of all stored events of a ring.
    fn received(&self, site: &str, ring: &str) -> Result<Ranges, ArchiveError>;
    /// The numbers of `from..=to` that are stored or recorded as lost.
    fn accounted(&self, site: &str, ring: &str, from: u64, to: u64)
    -> Result<Ranges, ArchiveError>;
    /// The rings with events, of one site or of all.
    fn rings(&self, site: Option<&str>) -> Result<Vec<RingNumbers>, ArchiveError>;
}

/// What the index holds of an unfinished file.
pub(crate) struct StoredPart {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The flushed ranges, JSON.
    pub ranges: String,
    /// The key to which the file is moved.
    pub target: Option<String>,
}

/// A finished file to list.
pub(crate) struct NewFile<'a> {
    /// Site id.
    pub site: &'a str,
    /// File id.
    pub fid: &'a str,
    /// The device's name for it.
    pub name: &'a str,
    /// Key in the file store.
    pub key: &'a str,
    /// `clip`, `snapshot`, `requested`.
    pub purpose: &'a str,
    /// Id of its event or request.
    pub event: &'a str,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: &'a str,
    /// RFC 3339 time of the first picture.
    pub start: &'a str,
    /// RFC 3339 time of the end.
    pub end: &'a str,
    /// The manifest's bytes.
    pub manifest: &'a [u8],
    /// RFC 3339 time of the receipt.
    pub received: &'a str,
    /// The device's times, when the office changed them.
    pub claimed: Option<&'a str>,
}

/// Files: unfinished, finished, and keys whose bytes are to be removed. A file is named by site and
/// file id.
pub(crate) trait FileIndex {
    /// The SHA-256 of a finished file, released or not.
    fn stored_digest(&self, site: &str, fid: &str) -> Result<Option<String>, ArchiveError>;
    /// An unfinished file.
    fn part(&self, site: &str, fid: &str) -> Result<Option<StoredPart>, ArchiveError>;
    /// Adds an unfinished file without bytes, and takes its key off the removals.
    fn insert_part(
        &self,
        site: &str,
        fid: &str,
        manifest: &[u8],
        size: u64,
        at: i64,
    ) -> Result<(), ArchiveError>;
    /// Sets the Unix time of the last message of an unfinished file.
    fn touch_part(&self, site: &str, fid: &str, at: i64) -> Result<(), ArchiveError>;
    /// Number and bytes of a site's unfinished files that are not being moved.
    fn sum_of_parts(&self, site: &str) -> Result<(usize, u64), ArchiveError>;
    /// Ids and sizes of a site's unfinished files that are not being moved, oldest first.
    fn parts_by_age(&self, site: &str) -> Result<Vec<(String, u64)>, ArchiveError>;
    /// Sets the flushed ranges of an unfinished file that is not being moved.
    fn set_part_ranges(
        &self,
        site: &str,
        fid: &str,
        ranges: &str,
        at: i64,
    ) -> Result<(), ArchiveError>;
    /// Sets the key to which an unfinished file will be moved.
    fn set_part_target(&self, site: &str, fid: &str, target: &str) -> Result<(), ArchiveError>;
    /// Forgets ranges and target of an unfinished file.
    fn clear_part(&self, site: &str, fid: &str) -> Result<(), ArchiveError>;
    /// Removes an unfinished file, and adds its keys to the removals.
    fn drop_part(&self, site: &str, fid: &str) -> Result<(), ArchiveError>;
    /// Site and id of the unfinished files with a target.
    fn moving_parts(&self) -> Result<Vec<(String, String)>, ArchiveError>;
    /// True for the key of a known unfinished file.
    fn is_part_key(&self, key: &str) -> Result<bool, ArchiveError>;
    /// True when a stored file, another unfinished file's target or a removal has this key.
    fn is_key_taken(&self, key: &str, site: &str, fid: &str) -> Result<bool, ArchiveError>;
    /// Lists a finished file, and removes the unfinished one.
    fn insert_file(&self, file: &NewFile<'_>) -> Result<(), ArchiveError>;
    /// Adds a key to the removals.
    fn insert_removal(&self, key: &str) -> Result<(), ArchiveError>;
    /// Keys to be removed from the file store.
    fn removals(&self, most: usize) -> Result<Vec<String>, ArchiveError>;
    /// True when a stored or unfinished file uses the key.
    fn is_key_used(&self, key: &str) -> Result<bool, ArchiveError>;
    /// Takes keys off the removals.
    fn delete_removals(&self, keys: &[String]) -> Result<(), ArchiveError>;
}

/// Configurations: documents sent to devices, and reports of devices.
pub(crate) trait ConfigIndex {
    /// Stores a document with its bytes.
    fn insert_config(
        &self,
        site: &str,
        entry: &ConfigRow,
        document: &[u8],
    ) -> Result<(), ArchiveError>;
    /// The newest document of a site.
    fn newest_document(&self, site: &str) -> Result<Option<Vec<u8>>, ArchiveError>;
    /// A document by the SHA-256 of its text.
    fn document_of(&self, site: &str, sha256: &str) -> Result<Option<Vec<u8>>, ArchiveError>;
    /// The documents of a site, oldest first.
    fn documents(&self, site: &str) -> Result<Vec<Vec<u8>>, ArchiveError>;
    /// The entries of a site's documents, oldest first.
    fn configs(&self, site: &str) -> Result<Vec<ConfigRow>, ArchiveError>;
    /// True when the document was stored with this text.
    fn knows_config(&self, site: &str, id: &str, sha256: &str) -> Result<bool, ArchiveError>;
    /// Sets a document's outcome; unless `is_last`, only in place of none or of `busy`.
    fn set_config_outcome(
        &self,
        site: &str,
        id: &str,
        outcome: &str,
        is_last: bool,
    ) -> Result<(), ArchiveError>;
    /// Stores a device's report.
    fn set_reported(&self, site: &str, payload: &[u8], received: &str) -> Result<(), ArchiveError>;
    /// A device's newest report.
    fn reported(&self, site: &str) -> Result<Option<Vec<u8>>, ArchiveError>;
}

/// What may be released, and locks.
pub(crate) trait RetentionIndex {
    /// The sites, sorted.
    fn site_ids(&self) -> Result<Vec<String>, ArchiveError>;
    /// The oldest unlocked files received before `before`.
    fn release_candidates(
        &self,
        wanted: Wanted<'_>,
        before: &str,
        most: usize,
    ) -> Result<Vec<Candidate>, ArchiveError>;
    /// Marks a file as released, and adds its key to the removals.
    fn mark_released(&self, file: &Candidate, now: WallTime) -> Result<(), ArchiveError>;
    /// Deletes old events, of one site or of all, with what was made of them: events below the
    /// confirmed numbers, and all that are twice as old. Returns the number of events, at most
    /// `most`.
    fn release_events(
        &self,
        site: Option<&str>,
        old: &Old,
        most: usize,
    ) -> Result<u64, ArchiveError>;
    /// Site and id of unfinished files without a message since `before` (Unix time).
    fn stale_parts(&self, before: i64, most: usize) -> Result<Vec<(String, String)>, ArchiveError>;
    /// Stored bytes of each site.
    fn held(&self) -> Result<Vec<Held>, ArchiveError>;
    /// Bytes that a site sent on the day of its newest receipt.
    fn newest_day(&self, site: &str) -> Result<u64, ArchiveError>;
    /// True for a known site, and the number of locks.
    fn lock_room(&self, site: &str) -> Result<(bool, u64), ArchiveError>;
    /// Stores a lock; returns its number.
    fn insert_lock(
        &self,
        site: &str,
        start_and_end: (&str, &str),
        reason: &str,
        now: &str,
    ) -> Result<i64, ArchiveError>;
    /// Removes a lock; false for an unknown number.
    fn delete_lock(&self, id: i64) -> Result<bool, ArchiveError>;
    /// All locks, by number.
    fn locks(&self) -> Result<Vec<LockRow>, ArchiveError>;
}
