//! SQLite index of the archive: free space, schema upgrade, transactions in single steps.
//!
//! A simulation intercepts each step through [`IndexGuard`]: it fails one, locks the index, or cuts
//! the power.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Params};

use super::schema::{ADDED_COLUMNS, CONFIG_TABLES, HISTORY, TABLES, UPGRADE, VERSION};
use super::upgrade::{begin_presence, fill_history};
use crate::office::error::{ArchiveError, Named as _};
use crate::regular_file::{Links, check_name, open};

/// The database; SQLite keeps its other files beside it under names that begin with this one.
pub(crate) const NAME: &str = "taimat.sqlite";
/// Prepared statements in the cache; a batch uses fewer.
const STATEMENT_CACHE: usize = 64;

/// Free bytes that opening the index requires.
const FREE_MIN: u64 = 256 << 10;
/// Bytes reserved for the index's shared memory: two pages of 4,096 WAL frames each. SQLite
/// checkpoints the WAL every 1,000 frames.
const SHARED_MEMORY: u64 = 64 << 10;

/// A step of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexStep {
    /// `BEGIN IMMEDIATE`; fails while another process holds the lock.
    Begin,
    /// A change of rows; fails on a full disk.
    Change,
    /// `COMMIT`; fails on a full or broken disk.
    Commit,
}

/// Fault injection for the steps of a transaction.
pub trait IndexGuard: Send + Sync {
    /// Runs before each step.
    ///
    /// # Errors
    /// The simulated failure of the step.
    fn before(&self, step: IndexStep) -> std::io::Result<()>;
}

/// The open index.
pub struct Index {
    /// The connection, for queries.
    pub db: Connection,
    guard: Option<Arc<dyn IndexGuard>>,
    /// A simulation has deferred a COMMIT to the next transaction.
    deferred_commit: Cell<bool>,
}

/// Free bytes on the disk of `dir`.
///
/// # Errors
/// When `dir` does not exist.
pub fn free(dir: &Path) -> std::io::Result<u64> {
    Ok(rustix::fs::statvfs(dir).map(|about| about.f_bavail.saturating_mul(about.f_frsize))?)
}

/// Checks that the disk has room for the index.
//////
/// SQLite writes its shared memory through a memory map. On a full disk such a write raises SIGBUS,
/// which ends the process, instead of returning an error.
///
/// # Errors
/// `DiskFull` when fewer than 256 KiB are free.
pub(crate) fn ensure_room(dir: &Path) -> Result<(), ArchiveError> {
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
pub(crate) fn check_version(path: &Path, found: i64) -> Result<(), ArchiveError> {
    let (path, supported) = (path.to_owned(), VERSION);
    match found.cmp(&VERSION) {
        std::cmp::Ordering::Greater => Err(ArchiveError::Version { path, found, supported }),
        std::cmp::Ordering::Less => Err(ArchiveError::Outdated { path, found, supported }),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// The index's file and what to do, for a query that fails.
pub(crate) fn unreadable(dir: &Path) -> String {
    format!(
        "{}: the index cannot be read; check the disk, then restore the file from a backup",
        dir.join(NAME).display()
    )
}

/// Rejects files of the database that are not regular: SQLite would block on a pipe.
///
/// # Errors
/// The name of the file that is not regular.
pub(crate) fn check_files(dir: &Path) -> Result<(), ArchiveError> {
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
pub(crate) fn reserve(dir: &Path) -> Result<(), ArchiveError> {
    let path = dir.join("taimat.sqlite-shm");
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

impl Index {
    /// Wraps an open database without a schema upgrade.
    pub fn over(db: Connection, guard: Option<Arc<dyn IndexGuard>>) -> Index {
        db.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        Index { db, guard, deferred_commit: Cell::new(false) }
    }

    /// Makes the tables, or upgrades those of an older archive.
    ///
    /// # Errors
    /// `Version` for an archive of a newer taimat; otherwise the failure of the database.
    pub fn migrate(&self, path: &Path) -> Result<(), ArchiveError> {
        let version = self.version()?;
        if version > VERSION {
            return Err(ArchiveError::Version {
                path: path.to_owned(),
                found: version,
                supported: VERSION,
            });
        }
        self.make_tables().named(|| format!("{}: schema", path.display()))
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

    /// Begins a transaction.
    ///
    /// # Errors
    /// When another process holds the index or the disk fails.
    pub fn begin_transaction(&self) -> Result<(), ArchiveError> {
        self.permit(IndexStep::Begin)?;
        if self.deferred_commit.take() {
            self.db.execute_batch("COMMIT")?;
        }
        Ok(self.db.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// Changes rows within a transaction; returns their number.
    ///
    /// # Errors
    /// When the index rejects the change.
    pub fn change(&self, sql: &str, params: impl Params) -> Result<usize, ArchiveError> {
        self.permit(IndexStep::Change)?;
        Ok(self.db.prepare_cached(sql)?.execute(params)?)
    }

    /// Commits the transaction; it is durable when this returns.
    ///
    /// # Errors
    /// When the commit fails; the caller must roll back.
    pub fn commit(&self) -> Result<(), ArchiveError> {
        self.permit(IndexStep::Commit)?;
        Ok(self.db.execute_batch("COMMIT")?)
    }

    /// Leaves the COMMIT to the next transaction, to show that the simulator notices.
    pub(crate) fn defer_commit(&self) {
        self.deferred_commit.set(true);
    }

    /// Rolls the open transaction back, if there is one.
    pub fn roll_back(&self) {
        let _ = self.db.execute_batch("ROLLBACK").is_ok();
    }

    /// Runs `work` in one transaction.
    ///
    /// # Errors
    /// When a step fails; the transaction is then rolled back.
    pub fn within<T>(
        &self,
        work: impl FnOnce(&Index) -> Result<T, ArchiveError>,
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
