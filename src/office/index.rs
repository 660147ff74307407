//! ⇄ The archive's index: `taimat.sqlite`, its tables, and its transactions one step at a time, so that a simulated one can refuse,
//! be locked or lose power before each step.
//!
//! What belongs here: tables, migrations, transactions. What does not: what is written (`office_stub` and its neighbours).

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rusqlite::{Connection, Params};

use crate::regular_file::{Links, check_name, open};

/// The database; what SQLite keeps beside it begins with the same name.
pub(super) const NAME: &str = "taimat.sqlite";
/// The index keeps 1 MiB of its pages in memory (`cache_size`, in KiB when negative): that is full within minutes, and what is read
/// again lies in the system's own cache. More would grow for hours in a quiet commune.
const SCHEMA: &str = "
    PRAGMA cache_size = -1024;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS sites (
        site TEXT PRIMARY KEY, state TEXT, conn INTEGER NOT NULL DEFAULT 0, seen TEXT, birth TEXT, health TEXT,
        ring TEXT NOT NULL DEFAULT '');
    CREATE TABLE IF NOT EXISTS events (
        site TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, time TEXT NOT NULL,
        payload BLOB NOT NULL, received TEXT NOT NULL, ring TEXT NOT NULL DEFAULT '', PRIMARY KEY (site, id));
    CREATE TABLE IF NOT EXISTS files (
        site TEXT NOT NULL, fid TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, purpose TEXT NOT NULL,
        event TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL, start TEXT NOT NULL, end TEXT NOT NULL,
        manifest BLOB NOT NULL, received TEXT NOT NULL, gone TEXT, claimed TEXT, PRIMARY KEY (site, fid));
    CREATE TABLE IF NOT EXISTS replies (site TEXT NOT NULL, req_id TEXT NOT NULL, payload BLOB NOT NULL, received TEXT NOT NULL,
        PRIMARY KEY (site, req_id));
    CREATE TABLE IF NOT EXISTS parts (site TEXT NOT NULL, fid TEXT NOT NULL, manifest BLOB NOT NULL, ranges TEXT NOT NULL,
        target TEXT, size INTEGER NOT NULL DEFAULT 0, touched INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (site, fid));
    CREATE TABLE IF NOT EXISTS rings (site TEXT NOT NULL, ring TEXT NOT NULL, confirmed INTEGER NOT NULL DEFAULT 0,
        complete INTEGER NOT NULL DEFAULT 0, asked INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (site, ring));
    CREATE TABLE IF NOT EXISTS given_up (site TEXT NOT NULL, ring TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        reason TEXT NOT NULL, PRIMARY KEY (site, ring, first, last));
    CREATE TABLE IF NOT EXISTS locks (id INTEGER PRIMARY KEY, site TEXT NOT NULL, start TEXT NOT NULL, end TEXT NOT NULL,
        reason TEXT NOT NULL, made TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS removals (path TEXT PRIMARY KEY);
";

/// What older archives lack: a column, and the table it belongs to.
const COLUMNS: [(&str, &str, &str); 6] = [
    ("sites", "ring", "TEXT NOT NULL DEFAULT ''"),
    ("events", "ring", "TEXT NOT NULL DEFAULT ''"),
    ("files", "gone", "TEXT"),
    ("files", "claimed", "TEXT"),
    ("parts", "size", "INTEGER NOT NULL DEFAULT 0"),
    ("parts", "touched", "INTEGER NOT NULL DEFAULT 0"),
];
/// What `PRAGMA user_version` says of an archive that has all of it.
const VERSION: i64 = 2;
/// Older archives wrote words where the time of receipt stands; the sums of what each site keeps follow every change by themselves.
const LATER: &str = "
    DROP INDEX IF EXISTS events_by_seq;
    CREATE INDEX IF NOT EXISTS events_by_number ON events (site, ring, seq);
    CREATE INDEX IF NOT EXISTS events_by_receipt ON events (received);
    CREATE INDEX IF NOT EXISTS files_by_event ON files (site, event);
    CREATE INDEX IF NOT EXISTS files_by_time ON files (start);
    CREATE INDEX IF NOT EXISTS files_by_path ON files (path);
    CREATE INDEX IF NOT EXISTS files_by_receipt ON files (received) WHERE gone IS NULL;
    CREATE INDEX IF NOT EXISTS files_by_site ON files (site, received) WHERE gone IS NULL;
    CREATE INDEX IF NOT EXISTS parts_by_age ON parts (touched);
    CREATE INDEX IF NOT EXISTS parts_by_target ON parts (target) WHERE target IS NOT NULL;
    UPDATE files SET received = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE received = 'after a restart';
    UPDATE parts SET touched = unixepoch() WHERE touched = 0;
    CREATE TABLE kept (site TEXT PRIMARY KEY, files INTEGER NOT NULL, bytes INTEGER NOT NULL);
    INSERT INTO kept SELECT site, count(*), sum(size) FROM files WHERE gone IS NULL GROUP BY site;
    CREATE TRIGGER IF NOT EXISTS file_comes AFTER INSERT ON files WHEN new.gone IS NULL BEGIN
        INSERT INTO kept VALUES (new.site, 1, new.size)
        ON CONFLICT (site) DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes; END;
    CREATE TRIGGER IF NOT EXISTS file_goes AFTER UPDATE OF gone ON files WHEN old.gone IS NULL AND new.gone IS NOT NULL BEGIN
        UPDATE kept SET files = files - 1, bytes = bytes - old.size WHERE site = old.site; END;
";

/// Statements kept prepared: all of a batch's.
const STATEMENTS: usize = 64;

/// Bytes that must be free before the index is opened, and those reserved for its shared memory: two pages of 4,096 frames each, and it
/// is written back every 1,000.
const ROOM: u64 = 256 << 10;
const SHARED: u64 = 64 << 10;

/// A step of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexStep {
    /// BEGIN: it may be locked.
    Begin,
    /// A change: it may be full.
    Change,
    /// COMMIT: it may be refused.
    Commit,
}

/// Who may refuse a step.
pub trait IndexGuard: Send + Sync {
    /// Called before each step.
    ///
    /// # Errors
    /// When the step is refused.
    fn before(&self, step: IndexStep) -> std::io::Result<()>;
}

/// The open index.
pub struct Index {
    /// For reading.
    pub db: Connection,
    guard: Option<Arc<dyn IndexGuard>>,
    /// A COMMIT that a simulation puts off.
    owed: Cell<bool>,
}

/// Bytes that are free on the disk of `dir`.
///
/// # Errors
/// When there is no such directory.
pub fn free(dir: &Path) -> std::io::Result<u64> {
    Ok(rustix::fs::statvfs(dir).map(|about| about.f_bavail.saturating_mul(about.f_frsize))?)
}

/// SQLite writes its shared memory through a map, and on a full disk that is a signal that ends the process, not an error: with too
/// little room the archive is not opened.
///
/// # Errors
/// Says so.
pub(super) fn ensure_room(dir: &Path) -> anyhow::Result<()> {
    let free = free(dir)?;
    ensure!(free >= ROOM, "{}: {free} bytes are free, the index needs {ROOM}: make room and start again", dir.display());
    Ok(())
}

/// SQLite opens its files by itself and would wait for a pipe.
///
/// # Errors
/// Names the one that is no file.
pub(super) fn check_files(dir: &Path) -> anyhow::Result<()> {
    for end in ["", "-wal", "-shm", "-journal"] {
        let path = dir.join(format!("{NAME}{end}"));
        check_name(&path, Links::Refuse).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Blocks for all of the shared memory, so that no write through the map needs one later.
///
/// # Errors
/// When the disk has none, for the reason above.
pub(super) fn reserve(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join("taimat.sqlite-shm");
    let Ok(file) = open(&path, std::fs::OpenOptions::new().write(true), Links::Refuse) else {
        return Ok(());
    };
    let reserved = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, SHARED);
    // POSIX: closing any descriptor of a file releases all locks the process has on it. Without SQLite's own locks the next program that
    // opens the index takes it for unused and cuts the shared memory off under us. So this descriptor is never closed.
    std::mem::forget(file);
    match reserved {
        // Some file systems cannot reserve.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{}: no room to reserve", path.display())),
    }
}

impl Index {
    /// Takes an open database as it is.
    pub fn over(db: Connection, guard: Option<Arc<dyn IndexGuard>>) -> Index {
        db.set_prepared_statement_cache_capacity(STATEMENTS);
        Index { db, guard, owed: Cell::new(false) }
    }

    /// Makes or migrates the tables.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn migrate(&self, path: &Path) -> anyhow::Result<()> {
        let version = self.version()?;
        ensure!(version <= VERSION, "{}: made by a newer taimat (index {version}): use that one", path.display());
        self.make_tables().with_context(|| format!("{}: schema", path.display()))
    }

    fn make_tables(&self) -> rusqlite::Result<()> {
        let db = &self.db;
        db.execute_batch(SCHEMA)?;
        for (table, column, kind) in COLUMNS {
            if db.prepare(&format!("SELECT {column} FROM {table}")).is_err() {
                db.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} {kind}"))?;
            }
        }
        db.execute_batch(super::config_store::SCHEMA)?;
        if self.version()? < VERSION {
            db.execute_batch(&format!("BEGIN IMMEDIATE; {LATER} PRAGMA user_version = {VERSION}; COMMIT"))?;
        }
        Ok(())
    }

    fn version(&self) -> rusqlite::Result<i64> {
        self.db.query_row("PRAGMA user_version", [], |row| row.get(0))
    }

    fn permit(&self, step: IndexStep) -> anyhow::Result<()> {
        self.guard.as_ref().map_or(Ok(()), |guard| guard.before(step)).with_context(|| format!("index: {step:?}"))
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When the index is locked or the disk refuses.
    pub fn begin_transaction(&self) -> anyhow::Result<()> {
        self.permit(IndexStep::Begin)?;
        if self.owed.take() {
            self.db.execute_batch("COMMIT")?;
        }
        Ok(self.db.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// Changes rows within a transaction; gives how many.
    ///
    /// # Errors
    /// When the index refuses.
    pub fn change(&self, sql: &str, params: impl Params) -> anyhow::Result<usize> {
        self.permit(IndexStep::Change)?;
        Ok(self.db.prepare_cached(sql)?.execute(params)?)
    }

    /// Ends a transaction: when it returns, all of it is on the disk.
    ///
    /// # Errors
    /// When the index refuses: then nothing of it counts.
    pub fn commit(&self) -> anyhow::Result<()> {
        self.permit(IndexStep::Commit)?;
        Ok(self.db.execute_batch("COMMIT")?)
    }

    /// Leaves a COMMIT to the next transaction, as no archive should.
    pub(super) fn put_off(&self) {
        self.owed.set(true);
    }

    /// Takes a transaction back.
    pub fn roll_back(&self) {
        // Without an open transaction there is nothing to take back.
        let _ = self.db.execute_batch("ROLLBACK").is_ok();
    }

    /// Does `what` in one transaction.
    ///
    /// # Errors
    /// When the index refuses: then nothing of it counts.
    pub fn within<T>(&self, what: impl FnOnce(&Index) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let done = self.begin_transaction().and_then(|()| what(self)).and_then(|value| self.commit().map(|()| value));
        if done.is_err() {
            self.roll_back();
        }
        done
    }
}
