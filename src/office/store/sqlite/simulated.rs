//! An index in memory for the simulator, and damage for tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
#[cfg(test)]
use rusqlite::params;

#[cfg(test)]
use super::index::NAME;
use super::index::SqliteIndex;
#[cfg(test)]
use super::schema::{HISTORY, UPGRADE};
use crate::office::error::ArchiveError;
use crate::office::store::index::{Index, IndexGuard};

/// Number of indexes in memory of this process: each has a name of its own.
static MADE: AtomicU64 = AtomicU64::new(0);

/// An index in memory, which outlives its archives.
pub(crate) struct MemoryIndex {
    /// Keeps the index while no archive is open.
    _anchor: Connection,
    uri: String,
}

impl MemoryIndex {
    /// An empty index.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(crate) fn new() -> Result<MemoryIndex, ArchiveError> {
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let uri = format!("file:index-{made}?mode=memory&cache=shared");
        Ok(MemoryIndex { _anchor: Connection::open(&uri)?, uri })
    }

    /// Opens it once more; `guard` permits each step.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(crate) fn open(
        &self,
        guard: Option<Arc<dyn IndexGuard>>,
    ) -> Result<Box<dyn Index>, ArchiveError> {
        let db = Connection::open(&self.uri)?;
        Ok(Box::new(SqliteIndex::over(db, PathBuf::new(), guard)))
    }
}

/// Another connection to the index of an archive, for what no office does: damage, archives of older
/// versions, and a million rows at once.
#[cfg(test)]
pub(crate) struct Damage(Connection);

#[cfg(test)]
impl Damage {
    /// Connects to the index in `dir`, or makes an empty one.
    pub(crate) fn of(dir: &std::path::Path) -> Damage {
        Damage(Connection::open(dir.join(NAME)).unwrap())
    }

    fn run(&self, sql: &str) {
        self.0.execute_batch(sql).unwrap();
    }

    /// Makes an index from before events had rings.
    pub(crate) fn make_without_rings(&self) {
        self.run(
            "CREATE TABLE sites (site TEXT PRIMARY KEY, state TEXT, conn INTEGER NOT NULL DEFAULT 0, seen TEXT, birth TEXT, health TEXT);
             CREATE TABLE events (site TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, time TEXT NOT NULL,
             payload BLOB NOT NULL, received TEXT NOT NULL, PRIMARY KEY (site, id));
             INSERT INTO sites (site) VALUES ('km-17'); INSERT INTO events VALUES ('km-17', 'E', 1, 't', 't', x'', 'now');",
        );
    }

    /// Makes an index of an older schema with the site `km-17`, online and last seen at `seen`.
    pub(crate) fn make_older(&self, schema: &str, seen: &str) {
        self.run(schema);
        let insert = "INSERT INTO sites (site, state, seen, ring) VALUES ('km-17', 'online', ?1, '0000000000000001')";
        self.0.execute(insert, [seen]).unwrap();
    }

    /// Adds an event as an older office did, without its history.
    pub(crate) fn add_event(&self, event: &crate::office::store::index::NewEvent<'_>) {
        self.0
            .execute(
                "INSERT INTO events (site, id, seq, kind, time, payload, received, ring) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    event.site,
                    event.id,
                    event.seq,
                    event.kind,
                    event.time,
                    event.payload,
                    event.received,
                    event.ring
                ],
            )
            .unwrap();
    }

    /// Takes events up to a number away, as the retention does.
    pub(crate) fn delete_events_to(&self, seq: u64) {
        self.0.execute("DELETE FROM events WHERE seq <= ?1", [seq]).unwrap();
    }

    /// Gives each unfinished file this target.
    pub(crate) fn set_targets(&self, key: &str) {
        self.0.execute("UPDATE parts SET target = ?1", [key]).unwrap();
    }

    /// The times that a device claimed for a file of the site.
    pub(crate) fn claimed_of(&self, site: &str) -> String {
        let query = "SELECT claimed FROM files WHERE site = ?1";
        self.0.query_row(query, [site], |row| row.get(0)).unwrap()
    }

    /// Lets the index refuse every new file.
    pub(crate) fn refuse_files(&self) {
        self.run("CREATE TRIGGER full BEFORE INSERT ON files BEGIN SELECT raise(ABORT, 'disk full'); END");
    }

    /// Ends [`Damage::refuse_files`].
    pub(crate) fn accept_files(&self) {
        self.run("DROP TRIGGER full");
    }

    /// Gives the files of one name another one.
    pub(crate) fn rename_files(&self, from: &str, to: &str) {
        self.0.execute("UPDATE files SET name = ?2 WHERE name = ?1", [from, to]).unwrap();
    }

    /// Takes sums and version away, as in an archive of before.
    pub(crate) fn forget_sums(&self) {
        self.run("DROP TRIGGER file_comes; DROP TRIGGER file_goes; DROP TABLE kept; PRAGMA user_version = 0");
    }

    /// Fills an empty index with sites, events and one motion event each. Indexes and triggers are
    /// made after the rows: a million of them take seconds so.
    pub(crate) fn fill(&self, sites: u64, events: u64) {
        // Without journal and flush, and with room for all pages: the rows are of no worth.
        self.run("PRAGMA cache_size = -400000; PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; BEGIN");
        let made = "SELECT 'DROP ' || type || ' ' || name FROM sqlite_master WHERE tbl_name IN ('events', 'motion_events') AND sql IS NOT NULL
            AND type IN ('index', 'trigger')";
        let mut made = self.0.prepare(made).unwrap();
        let drops: Vec<String> =
            made.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        drops.iter().for_each(|drop| self.run(drop));
        let site = format!("'km-' || (value % {sites})");
        let rows = [
            (sites, "INSERT INTO sites (site, state, seen)", format!("{site}, 'online', '2026-11-18T10:13:20.000Z'")),
            (
                events,
                "INSERT INTO events",
                format!(
                    "{site}, printf('E%09d', value), value / {sites} + 1, CASE value % 9 WHEN 0 THEN 'vn.taimat.camera.down.v1'
                     ELSE 'vn.taimat.motion.update.v1' END, strftime('%Y-%m-%dT%H:%M:%fZ', 1790000000 + value * 3, 'unixepoch'),
                     json_object('id', printf('E%09d', value), 'data', json_object('event', 'M' || value, 'rule', 'gate', 'pad',
                     hex(zeroblob(150)))), strftime('%Y-%m-%dT%H:%M:%fZ', 1790000000 + value * 3, 'unixepoch'), '0000000000000001'"
                ),
            ),
            (
                events,
                "INSERT INTO motion_events",
                format!(
                    "{site}, printf('M%09d', value), 1790000000000000 + value * 3000000, 1790000000000000 + value * 3000000 + 1,
                     3, CASE value % 1000 WHEN 0 THEN 'rare' ELSE 'gate' END, '[\"road\"]', '', NULL, 0, 0.5, 1, 12, 1, 1, 'planned', '',
                     '2026'"
                ),
            ),
        ];
        for (many, insert, values) in rows {
            self.run(&format!(
                "{insert} WITH RECURSIVE generate(value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM generate WHERE value + 1 < {many})
                 SELECT {values} FROM generate"
            ));
        }
        self.run(UPGRADE);
        self.run(HISTORY);
        self.run("COMMIT; PRAGMA journal_mode = WAL");
    }
}
