//! Read-only connections to the index, a few for all readers.
//!
//! A reader sees the last commit and never delays the archive thread: the index is in WAL mode, and
//! `query_only` forbids a connection every change. A read that takes too long is interrupted, so that
//! no question holds a connection.
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock")]

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::index;
use crate::office::error::{ArchiveError, Named as _};

/// Connections at most: four readers at once keep two cores busy.
pub(crate) const CONNECTIONS: usize = 4;
/// Wait for a free connection at most. A page that would wait longer answers that it should be asked again.
const FREE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time of a read at most: a page takes 50 ms, one on a cold disk 1 s.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Time of a read that sums up all files of the archive at most, for the page of the retention.
pub(super) const SUMS_TIMEOUT: Duration = Duration::from_secs(20);
/// Steps of SQLite between two looks at the clock: some 50 µs.
const CLOCK_STEPS: i32 = 1_000;
/// Wait for the lock of the index; readers need it only while a writer recovers the WAL.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages in memory of each connection, KiB (negative for SQLite). A page of 10,000 events of 200 sites
/// goes through three trees with a leaf for each site: 2.4 MiB that are read again and again.
const CACHE_KIB: i64 = -4096;

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
        let found =
            reader.with(READ_TIMEOUT, |db| Ok(db.query_row(version, [], |row| row.get(0))?));
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

    /// Runs `work` on a free connection; waits for one while all are in use. Its statements are
    /// interrupted after `timeout`.
    pub(super) fn with<T>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&Connection) -> Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        let mut borrowed = Borrowed { reader: self, db: self.free_connection()? };
        let db = match borrowed.db.take() {
            Some(db) => db,
            None => self.connect()?,
        };
        let db = borrowed.db.insert(db);
        let started = Instant::now();
        db.progress_handler(CLOCK_STEPS, Some(move || started.elapsed() > timeout));
        let answer = work(db);
        db.progress_handler(0, None::<fn() -> bool>);
        answer
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::office::store::index::Transactions as _;

    #[test]
    fn an_endless_read_is_interrupted_and_frees_its_connection() {
        let dir = tempfile::tempdir().unwrap();
        index::SqliteIndex::open(dir.path()).unwrap().migrate().unwrap();
        let reader = SqliteReader::open(dir.path()).unwrap();
        let endless = "WITH RECURSIVE n(v) AS (SELECT 0 UNION ALL SELECT v + 1 FROM n) SELECT count(*) FROM n";
        let ask = |timeout, query: &'static str| {
            reader.with(timeout, |db| Ok(db.query_row(query, [], |row| row.get::<_, i64>(0))?))
        };
        for _ in 0..=CONNECTIONS {
            let error = ask(Duration::from_millis(20), endless).unwrap_err();
            assert!(matches!(error, ArchiveError::Slow(_)), "{error:?}");
        }
        assert_eq!(ask(READ_TIMEOUT, "SELECT 7").unwrap(), 7);
    }
}
