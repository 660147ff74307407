//! What pages read of the index.

use serde_json::Value;

use crate::office::error::ArchiveError;
use crate::office::queries::rows::{
    CountRow, DeletedTotal, EventFilter, EventPage, FileFilter, FootageGap, HealthSeries,
    LockEntry, MotionEventRow, MotionFilter, MotionPage, PresenceRow, RetentionPreview, SiteAxis,
    SiteStatus, SnapshotRef, StorageTotals, StoredFile,
};
use crate::office::retention::Retention;
use crate::office::retention_rules::RetentionRules;
use crate::units::WallTime;

/// What pages read of the index, beside the thread that writes it.
///
/// Every function reads committed rows only, answers at most [`crate::office::queries::ROWS_MAX`] rows, and
/// fails when the index cannot be read or no connection gets free in time.
pub trait ReadIndex: Send + Sync {
    /// All sites, sorted by id, with their gaps since `gaps_since`.
    fn board(&self, gaps_since: WallTime) -> Result<Vec<SiteStatus>, ArchiveError>;
    /// One site; `None` for an unknown one.
    fn site(&self, site: &str, gaps_since: WallTime) -> Result<Option<SiteStatus>, ArchiveError>;
    /// A page of motion events, the newest first.
    fn motion_events(&self, filter: &MotionFilter) -> Result<MotionPage, ArchiveError>;
    /// One motion event.
    fn motion_event(&self, site: &str, id: &str) -> Result<Option<MotionEventRow>, ArchiveError>;
    /// A page of stored events, the last received first.
    fn events(&self, filter: &EventFilter) -> Result<EventPage, ArchiveError>;
    /// Footage, gaps and motion events of sites that touch the time from `from` until before `to`.
    fn axis(
        &self,
        sites: &[String],
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<SiteAxis>, ArchiveError>;
    /// One file, a released one too.
    fn file(&self, site: &str, fid: &str) -> Result<Option<StoredFile>, ArchiveError>;
    /// The newest files that match and are not released.
    fn files(&self, filter: &FileFilter) -> Result<Vec<StoredFile>, ArchiveError>;
    /// The newest snapshot of a site.
    fn snapshot_of(&self, site: &str) -> Result<Option<SnapshotRef>, ArchiveError>;
    /// Health figures in steps of at least `step` seconds; the step grows until the answer has at
    /// most 2,000 of them.
    fn health(
        &self,
        site: &str,
        from: WallTime,
        to: WallTime,
        step: i64,
    ) -> Result<HealthSeries, ArchiveError>;
    /// Intervals of the presence that touch the time.
    fn presence(
        &self,
        site: &str,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<PresenceRow>, ArchiveError>;
    /// Gaps in the footage that touch the time.
    fn gaps(
        &self,
        site: &str,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<FootageGap>, ArchiveError>;
    /// Counts of the hours that begin in the time.
    fn counts(
        &self,
        site: &str,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<CountRow>, ArchiveError>;
    /// Stored bytes by site and purpose; `now` ends the last 14 days.
    fn storage_totals(&self, now: WallTime) -> Result<StorageTotals, ArchiveError>;
    /// What the retention ever deleted, by site and purpose; every row.
    fn deleted_totals(&self) -> Result<Vec<DeletedTotal>, ArchiveError>;
    /// What the rules would release now, with the ceilings of `retention`.
    fn retention_preview(
        &self,
        rules: &RetentionRules,
        retention: &Retention,
        now: WallTime,
    ) -> Result<RetentionPreview, ArchiveError>;
    /// The answer of a device to a command; `None` before it arrives.
    fn reply_to(&self, site: &str, req_id: &str) -> Result<Option<Value>, ArchiveError>;
    /// All locks, by number.
    fn locks(&self) -> Result<Vec<LockEntry>, ArchiveError>;
}
