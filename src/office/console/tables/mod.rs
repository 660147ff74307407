//! Tables of `console.sqlite`: all SQL of the console, in plain values.
//!
//! * [`schema`]: the tables, in numbered steps. [`rows`]: the structs that callers see.
//! * [`people`]: users, grants, one-time tokens. [`sessions`]: sessions and purposes.
//! * [`places`]: groups, places, plan, rules of retention, settings. [`events`]: handled events,
//!   notes, notes of locks, shown ranges.
//! * [`playbacks`]: clips that play. [`trail`]: the records of the audit trail. [`map_tiles`]: a map, from a file of its own.
//!
//! What belongs here: statements and transactions. What does not: rules, randomness, clocks.
#![expect(clippy::disallowed_methods, reason = "shell: reads or writes files")]

pub(super) mod events;
pub(super) mod people;
pub(super) mod places;
pub mod map_tiles;
pub(super) mod playbacks;
pub mod rows;
mod schema;
pub(super) mod sessions;
pub(super) mod trail;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::ConsoleError;
use crate::regular_file::{Links, check_name};

/// The database.
pub const NAME: &str = "console.sqlite";
/// Free bytes that opening the database requires.
const FREE_MIN: u64 = 256 << 10;
/// Bytes reserved for the shared memory: two pages of 4,096 WAL frames each; SQLite checkpoints
/// every 1,000 frames.
const SHARED_MEMORY: u64 = 64 << 10;
/// How long a transaction waits for another process (a command of the command line).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements in the cache of a connection.
const STATEMENT_CACHE: usize = 64;

pub(super) type Result<T> = std::result::Result<T, ConsoleError>;

impl From<rusqlite::Error> for ConsoleError {
    fn from(error: rusqlite::Error) -> ConsoleError {
        let about = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => "the disk is full; free some space",
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "another program holds the database; wait until it ends, or end it"
            }
            Some(ErrorCode::ReadOnly) => "the database or its disk is read-only",
            _ => "the database failed",
        };
        ConsoleError::Storage(format!("{NAME}: {about} ({error})"))
    }
}

/// An open `console.sqlite`.
pub struct Tables {
    db: Connection,
}

/// Rejects files of the database that are not regular: SQLite would block on a pipe.
fn check_files(dir: &Path) -> Result<PathBuf> {
    for end in ["", "-wal", "-shm", "-journal"] {
        let path = dir.join(format!("{NAME}{end}"));
        check_name(&path, Links::Refuse)
            .map_err(|error| ConsoleError::Storage(format!("{}: {error}", path.display())))?;
    }
    Ok(dir.join(NAME))
}

impl Tables {
    /// Opens the database in `dir` for writing, makes it if it is not there, and upgrades it.
    ///
    /// # Errors
    /// When a file cannot be opened, or a newer taimat wrote the database.
    pub fn open(dir: &Path) -> Result<Tables> {
        let path = check_files(dir)?;
        ensure_room(dir)?;
        make_private(&path)?;
        let db = Connection::open(&path)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        db.execute_batch(
            "PRAGMA cache_size = -1024; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON;",
        )?;
        let tables = Tables { db };
        tables.migrate(&path, &schema::STEPS)?;
        reserve(dir)?;
        Ok(tables)
    }

    /// Opens the database in `dir` for reading.
    ///
    /// # Errors
    /// `NotFound` when there is none; otherwise as [`Tables::open`].
    pub fn open_read_only(dir: &Path) -> Result<Tables> {
        let path = check_files(dir)?;
        if !path.is_file() {
            return Err(ConsoleError::NotFound(format!(
                "{}: there is no console in this directory; `taimat office user add` or `office run` with a web listener makes one",
                dir.display()
            )));
        }
        let db = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        db.execute_batch(
            "PRAGMA cache_size = -256; PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;",
        )?;
        let tables = Tables { db };
        tables.supported(&path, schema::STEPS.len())?;
        Ok(tables)
    }

    fn supported(&self, path: &Path, steps: usize) -> Result<usize> {
        let found: i64 = self.db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let supported = i64::try_from(steps).unwrap_or(i64::MAX);
        if found > supported {
            return Err(ConsoleError::Version {
                path: path.display().to_string(),
                found,
                supported,
            });
        }
        Ok(usize::try_from(found).unwrap_or(0))
    }

    /// Makes the steps that are missing. Before each, the database is copied to
    /// `console.sqlite.before-N`, unless it is new.
    fn migrate(&self, path: &Path, steps: &[&str]) -> Result<()> {
        let made = self.supported(path, steps.len())?;
        for (at, step) in steps.iter().enumerate().skip(made) {
            if at > 0 {
                let copy = path.with_file_name(format!("{NAME}.before-{}", at + 1));
                // A copy of an upgrade that failed: the database is still as it was then.
                crate::regular_file::remove_if_there(&copy).map_err(|error| {
                    ConsoleError::Storage(format!("{}: {error}", copy.display()))
                })?;
                make_private(&copy)?;
                self.db.execute("VACUUM INTO ?1", [copy.display().to_string()])?;
            }
            let number = at + 1;
            let done = self.db.execute_batch(&format!(
                "BEGIN IMMEDIATE; {step}; PRAGMA user_version = {number}; COMMIT"
            ));
            if done.is_err() {
                self.roll_back();
            }
            done?;
        }
        Ok(())
    }

    /// Begins a transaction that writes.
    pub(super) fn begin(&self) -> Result<()> {
        Ok(self.db.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// Commits; what was changed is durable when this returns.
    pub(super) fn commit(&self) -> Result<()> {
        Ok(self.db.execute_batch("COMMIT")?)
    }

    /// Rolls the open transaction back, if there is one.
    pub(super) fn roll_back(&self) {
        let _ = self.db.execute_batch("ROLLBACK").is_ok();
    }

    fn change(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize> {
        Ok(self.db.prepare_cached(sql)?.execute(params)?)
    }

    fn rows<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map(params, row)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn first<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query_map(params, row)?;
        Ok(rows.next().transpose()?)
    }

    /// Runs SQL that a test needs.
    #[cfg(test)]
    pub(super) fn execute(&self, sql: &str) -> Result<()> {
        Ok(self.db.execute_batch(sql)?)
    }
}

/// Refuses a disk without room. SQLite writes its shared memory through a memory map: on a full
/// disk that raises SIGBUS, which would end the office and with it the receipts.
fn ensure_room(dir: &Path) -> Result<()> {
    let failed =
        |error: rustix::io::Errno| ConsoleError::Storage(format!("{}: {error}", dir.display()));
    let about = rustix::fs::statvfs(dir).map_err(failed)?;
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    if free >= FREE_MIN {
        return Ok(());
    }
    Err(ConsoleError::Storage(format!(
        "{}: {free} bytes are free, the console needs {FREE_MIN}; free space on the disk and start again",
        dir.display()
    )))
}

/// Allocates the blocks of the shared memory, so that later writes through the map need none.
fn reserve(dir: &Path) -> Result<()> {
    let path = dir.join(format!("{NAME}-shm"));
    let mut options = std::fs::OpenOptions::new();
    let Ok(file) = crate::regular_file::open(&path, options.write(true), Links::Refuse) else {
        return Ok(());
    };
    let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
    let reserved = rustix::fs::fallocate(&file, flags, 0, SHARED_MEMORY);
    // POSIX: closing any descriptor of a file releases all locks that the process has on it, those
    // of SQLite included. So this descriptor stays open.
    std::mem::forget(file);
    match reserved {
        // Some file systems cannot reserve blocks.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => Ok(()),
        Err(error) => Err(ConsoleError::Storage(format!(
            "{}: the blocks cannot be reserved ({error})",
            path.display()
        ))),
    }
}

/// Makes an empty file that only its owner reads, if there is none: password hashes and the trail
/// are for no other user. SQLite gives its other files the same mode.
fn make_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(ConsoleError::Storage(format!("{}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_made_once_with_a_copy_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let tables = Tables::open(dir.path()).unwrap();
        tables.set_setting("key", "old").unwrap();
        let more = "CREATE TABLE more (id INTEGER); UPDATE settings SET value = 'new'";
        let steps = [schema::STEPS[0], schema::STEPS[1], more];
        tables.migrate(&path, &steps).unwrap();
        tables.migrate(&path, &steps).unwrap();
        assert_eq!(tables.setting("key").unwrap().as_deref(), Some("new"));
        let copy = Connection::open(dir.path().join("console.sqlite.before-3")).unwrap();
        let value: String =
            copy.query_row("SELECT value FROM settings", [], |row| row.get(0)).unwrap();
        let version: i64 = copy.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!((value.as_str(), version), ("old", 2));
        assert!(!dir.path().join("console.sqlite.before-1").exists());
    }

    #[test]
    fn a_step_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let tables = Tables::open(dir.path()).unwrap();
        let more = "CREATE TABLE more (id INTEGER); INSERT INTO none VALUES (1)";
        let steps = [schema::STEPS[0], schema::STEPS[1], more];
        assert!(tables.migrate(&dir.path().join(NAME), &steps).is_err());
        assert_eq!(tables.supported(Path::new(""), 3).unwrap(), 2);
        assert!(tables.execute("SELECT * FROM more").is_err());
        tables.begin().unwrap();
        tables.roll_back();
    }

    #[test]
    fn a_newer_database_and_a_pipe_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let none = Tables::open_read_only(dir.path()).err().unwrap();
        assert!(matches!(none, ConsoleError::NotFound(_)), "{none}");
        Tables::open(dir.path()).unwrap().execute("PRAGMA user_version = 99").unwrap();
        for newer in [Tables::open(dir.path()), Tables::open_read_only(dir.path())] {
            let newer = newer.err().unwrap();
            assert!(matches!(newer, ConsoleError::Version { found: 99, .. }), "{newer}");
        }
        let other = tempfile::tempdir().unwrap();
        crate::regular_file::tests::named_pipe(&other.path().join(NAME));
        let pipe = Tables::open(other.path()).err().unwrap().to_string();
        assert!(pipe.contains("named pipe"), "{pipe}");
    }
}
