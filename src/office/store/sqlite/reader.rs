//! Read-only connections to the index, a few for all readers.
//!
//! A reader sees the last commit and never delays the archive thread: the index is in WAL mode, and
//! `query_only` forbids a connection every change.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::index;
use crate::office::error::{ArchiveError, Named as _};

/// Connections at most: four readers at once keep two cores busy.
pub(crate) const CONNECTIONS: usize = 4;
/// Wait for a free connection at most. A page that would wait longer answers that it should be asked again.
const FREE_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait for the lock of the index; readers need it only while a writer recovers the WAL.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages in memory of each connection, KiB (negative for SQLite).
const CACHE_KIB: i64 = -1024;

#[derive(Default)]
struct Pool {
    free: Vec<Connection>,
    opened: usize,
}

/// The index, for reading.
pub(crate) struct SqliteReader {
    pub(super) dir: PathBuf,
    pool: Mutex<Pool>,
    returned: Condvar,
}

/// A place in the pool with its connection, which returns to it; after a failure to open one only
/// the place does.
struct Borrowed<'a> {
    reader: &'a SqliteReader,
    db: Option<Connection>,
}

impl SqliteReader {
    /// Opens the index in `dir`.
    ///
    /// # Errors
    /// `Outdated` or `Version` for an index of another version; otherwise the failure of the
    /// database.
    pub(crate) fn open(dir: &Path) -> Result<SqliteReader, ArchiveError> {
        let reader =
            SqliteReader { dir: dir.to_owned(), pool: Mutex::default(), returned: Condvar::new() };
        let version = "PRAGMA user_version";
        let found = reader.with(|db| Ok(db.query_row(version, [], |row| row.get(0))?));
        index::check_version(&reader.path(), found.named(|| reader.unreadable())?)?;
        Ok(reader)
    }

    fn path(&self) -> PathBuf {
        self.dir.join(index::NAME)
    }

    fn connect(&self) -> Result<Connection, ArchiveError> {
        let path = self.path();
        index::check_files(&self.dir)?;
        // Only a connection that may write can use the shared memory of the WAL.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let db = Connection::open_with_flags(&path, flags)?;
            db.busy_timeout(BUSY_TIMEOUT)?;
            db.pragma_update(None, "query_only", true)?;
            db.pragma_update(None, "cache_size", CACHE_KIB)?;
            Ok::<_, rusqlite::Error>(db)
        };
        open().named(|| path.display().to_string())
    }

    /// Runs `work` on a free connection; waits for one while all are in use.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        let mut borrowed = Borrowed { reader: self, db: self.free_connection()? };
        let db = match borrowed.db.take() {
            Some(db) => db,
            None => self.connect()?,
        };
        work(borrowed.db.insert(db))
    }

    /// A free connection; `None` when the caller may open one.
    fn free_connection(&self) -> Result<Option<Connection>, ArchiveError> {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut pool, timeout) = self
            .returned
            .wait_timeout_while(pool, FREE_TIMEOUT, |pool| {
                pool.free.is_empty() && pool.opened >= CONNECTIONS
            })
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(ArchiveError::Locked(
                "all connections for reading are in use; try again".into(),
            ));
        }
        let free = pool.free.pop();
        if free.is_none() {
            pool.opened += 1;
        }
        Ok(free)
    }

    fn give_back(&self, db: Option<Connection>) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        match db {
            Some(db) => pool.free.push(db),
            None => pool.opened -= 1,
        }
        self.returned.notify_one();
    }

    /// The index's file and what to do, for a query that fails.
    pub(super) fn unreadable(&self) -> String {
        index::unreadable(&self.path())
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.reader.give_back(self.db.take());
    }
}
