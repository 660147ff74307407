//! SQLite index of the archive: free space, schema upgrade, transactions in single steps.
//!
//! A simulation intercepts each step through [`IndexGuard`]: it fails one, locks the index, or cuts
//! the power.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Params};

use super::schema::{
    ADDED_COLUMNS, CONFIG_TABLES, DELETED, DELETED_EVENTS, HISTORY, TABLES, UPGRADE, VERSION,
};
use super::upgrade::{begin_presence, fill_history};
use crate::office::error::{ArchiveError, Named as _};
use crate::office::store::free;
use crate::office::store::index::{Index, IndexGuard, IndexStep, Transactions};
use crate::regular_file::{Links, check_name, open};

/// The database; SQLite keeps its other files beside it under names that begin with this one.
pub(crate) const NAME: &str = "taimat.sqlite";
/// Prepared statements in the cache; a batch uses fewer.
const STATEMENT_CACHE: usize = 64;

/// Wait for the lock of the index while the office writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Free bytes that opening the index requires.
const FREE_MIN: u64 = 256 << 10;
/// Bytes reserved for the index's shared memory: two pages of 4,096 WAL frames each. SQLite
/// checkpoints the WAL every 1,000 frames.
const SHARED_MEMORY: u64 = 64 << 10;

/// The open index.
pub(crate) struct SqliteIndex {
    pub(super) db: Connection,
    /// The database's file; empty in memory.
    pub(super) path: PathBuf,
    guard: Option<Arc<dyn IndexGuard>>,
    /// A simulation has deferred a COMMIT to the next transaction.
    deferred_commit: Cell<bool>,
}

impl Index for SqliteIndex {}

/// Checks that the disk has room for the index.
///
/// SQLite writes its shared memory through a memory map. On a full disk such a write raises SIGBUS,
/// which ends the process, instead of returning an error.
///
/// # Errors
/// `DiskFull` when fewer than 256 KiB are free.
fn ensure_room(dir: &Path) -> Result<(), ArchiveError> {
    let free = free(dir).named(|| dir.display().to_string())?;
    if free >= FREE_MIN {
        return Ok(());
    }
    let dir = dir.display();
    let context = format!(
        "{dir}: {free} bytes are free, the index needs {FREE_MIN}; free space on the disk and start again"
    );
    Err(ArchiveError::DiskFull {
        context,
        source: std::io::Error::from(std::io::ErrorKind::StorageFull).into(),
    })
}

/// Compares the version of an index with the one that this program reads.
///
/// # Errors
/// `Version` for a newer one, `Outdated` for an older one.
pub(super) fn check_version(path: &Path, found: i64) -> Result<(), ArchiveError> {
    let (path, supported) = (path.to_owned(), VERSION);
    match found.cmp(&VERSION) {
        std::cmp::Ordering::Greater => Err(ArchiveError::Version { path, found, supported }),
        std::cmp::Ordering::Less => Err(ArchiveError::Outdated { path, found, supported }),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// The index's file and what to do, for a query that fails.
pub(super) fn unreadable(path: &Path) -> String {
    format!(
        "{}: the index cannot be read; check the disk, then restore the file from a backup",
        path.display()
    )
}

/// Rejects files of the database that are not regular: SQLite would block on a pipe.
///
/// # Errors
/// The name of the file that is not regular.
pub(super) fn check_files(dir: &Path) -> Result<(), ArchiveError> {
    for end in ["", "-wal", "-shm", "-journal"] {
        let path = dir.join(format!("{NAME}{end}"));
        check_name(&path, Links::Refuse).named(|| path.display().to_string())?;
    }
    Ok(())
}

/// Allocates the blocks of the shared memory, so that later writes through the map need none.
///
/// # Errors
/// `DiskFull` when the disk has no blocks left.
fn reserve(database: &Path) -> Result<(), ArchiveError> {
    let path = database.with_file_name(format!("{NAME}-shm"));
    let Ok(file) = open(&path, std::fs::OpenOptions::new().write(true), Links::Refuse) else {
        return Ok(());
    };
    let reserved =
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, SHARED_MEMORY);
    // POSIX: closing any descriptor of a file releases all locks that the process has on it.
    // Without SQLite's locks the next program to open the index would truncate the shared memory
    // that this process still uses. So this descriptor stays open.
    std::mem::forget(file);
    match reserved {
        // Some file systems cannot reserve blocks.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => Ok(()),
        Err(error) => Err(std::io::Error::from(error))
            .named(|| format!("{}: the blocks cannot be reserved", path.display())),
    }
}

impl SqliteIndex {
    /// Opens the index in `dir` for writing, or makes an empty one; see
    /// [`Transactions::migrate`].
    ///
    /// # Errors
    /// When the disk is full or the database cannot be used.
    pub(crate) fn open(dir: &Path) -> Result<SqliteIndex, ArchiveError> {
        ensure_room(dir)?;
        check_files(dir)?;
        let path = dir.join(NAME);
        let db = Connection::open(&path).named(|| path.display().to_string())?;
        Ok(SqliteIndex::over(db, path, None))
    }

    /// Opens the index in `dir` for queries, beside the office that writes it.
    ///
    /// # Errors
    /// `Outdated` or `Version` for an index of another version; otherwise the failure of the
    /// database.
    pub(crate) fn open_read_only(dir: &Path) -> Result<SqliteIndex, ArchiveError> {
        check_files(dir)?;
        let path = dir.join(NAME);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags).named(|| path.display().to_string())?;
        db.busy_timeout(BUSY_TIMEOUT).named(|| path.display().to_string())?;
        // One that is no database fails at its first query, which says what to do.
        if let Ok(found) = db.query_row("PRAGMA user_version", [], |row| row.get(0)) {
            check_version(&path, found)?;
        }
        Ok(SqliteIndex::over(db, path, None))
    }

    /// Wraps an open database without a schema upgrade.
    pub(super) fn over(
        db: Connection,
        path: PathBuf,
        guard: Option<Arc<dyn IndexGuard>>,
    ) -> SqliteIndex {
        db.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        SqliteIndex { db, path, guard, deferred_commit: Cell::new(false) }
    }

    fn make_tables(&self) -> Result<(), ArchiveError> {
        let db = &self.db;
        db.execute_batch(TABLES)?;
        for added in ADDED_COLUMNS {
            let (table, column) = (added.table, added.name);
            if db.prepare(&format!("SELECT {column} FROM {table}")).is_err() {
                db.execute_batch(&format!(
                    "ALTER TABLE {table} ADD COLUMN {column} {}",
                    added.definition
                ))?;
            }
        }
        db.execute_batch(CONFIG_TABLES)?;
        if db.prepare("SELECT site FROM deleted").is_err() {
            db.execute_batch(&format!("BEGIN IMMEDIATE; {DELETED} COMMIT"))?;
        }
        db.execute_batch(DELETED_EVENTS)?;
        let version = self.version()?;
        if version >= VERSION {
            return Ok(());
        }
        db.execute_batch("BEGIN IMMEDIATE")?;
        let upgraded = self.upgrade().and_then(|()| Ok(db.execute_batch("COMMIT")?));
        if upgraded.is_err() {
            self.roll_back();
        }
        upgraded
    }

    /// Makes what an older archive lacks, within the open transaction.
    fn upgrade(&self) -> Result<(), ArchiveError> {
        self.db.execute_batch(UPGRADE)?;
        self.db.execute_batch(HISTORY)?;
        fill_history(self)?;
        begin_presence(self)?;
        Ok(self.db.execute_batch(&format!("PRAGMA user_version = {VERSION}"))?)
    }

    fn version(&self) -> rusqlite::Result<i64> {
        self.db.query_row("PRAGMA user_version", [], |row| row.get(0))
    }

    fn permit(&self, step: IndexStep) -> Result<(), ArchiveError> {
        self.guard
            .as_ref()
            .map_or(Ok(()), |guard| guard.before(step))
            .named(|| format!("index: {step:?}"))
    }

    /// Changes rows within a transaction; returns their number.
    ///
    /// # Errors
    /// When the index rejects the change.
    pub(super) fn change(&self, sql: &str, params: impl Params) -> Result<usize, ArchiveError> {
        self.permit(IndexStep::Change)?;
        Ok(self.db.prepare_cached(sql)?.execute(params)?)
    }
}

impl Transactions for SqliteIndex {
    fn migrate(&self) -> Result<(), ArchiveError> {
        let version = self.version()?;
        if version > VERSION {
            return Err(ArchiveError::Version {
                path: self.path.clone(),
                found: version,
                supported: VERSION,
            });
        }
        self.make_tables().named(|| format!("{}: schema", self.path.display()))?;
        if self.path.as_os_str().is_empty() { Ok(()) } else { reserve(&self.path) }
    }

    fn begin_transaction(&self) -> Result<(), ArchiveError> {
        self.permit(IndexStep::Begin)?;
        if self.deferred_commit.take() {
            self.db.execute_batch("COMMIT")?;
        }
        Ok(self.db.execute_batch("BEGIN IMMEDIATE")?)
    }

    fn commit(&self) -> Result<(), ArchiveError> {
        self.permit(IndexStep::Commit)?;
        Ok(self.db.execute_batch("COMMIT")?)
    }

    fn defer_commit(&self) {
        self.deferred_commit.set(true);
    }

    fn roll_back(&self) {
        let _ = self.db.execute_batch("ROLLBACK").is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_keeps_a_mebibyte_of_pages_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let index = SqliteIndex::open(dir.path()).unwrap();
        index.migrate().unwrap();
        let kept: i64 = index.db.query_row("PRAGMA cache_size", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, -1024, "KiB are negative; SQLite's own limit is twice that");
    }
}
