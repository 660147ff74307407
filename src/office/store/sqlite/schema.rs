//! SQL schema of the archive's index, and its upgrade from older versions.
//!
//! `user_version` of SQLite holds `VERSION`. An archive without it gets the missing tables,
//! columns and triggers when it is opened.

/// Tables of the index.
///
/// `cache_size` is in KiB when negative. 1 MiB fills within minutes; pages beyond it are in the
/// page cache of the system. A larger cache would grow for hours in a quiet commune.
pub(crate) const TABLES: &str = "
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

/// Tables of the configurations: documents sent to each site, and its newest report.
pub(crate) const CONFIG_TABLES: &str = "
    CREATE TABLE IF NOT EXISTS configs (site TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, sha256 TEXT NOT NULL,
        document BLOB NOT NULL, made TEXT NOT NULL, outcome TEXT NOT NULL DEFAULT '', PRIMARY KEY (site, id));
    CREATE TABLE IF NOT EXISTS reported (site TEXT PRIMARY KEY, payload BLOB NOT NULL, received TEXT NOT NULL);
";

/// Files and bytes that the retention ever deleted, by site and purpose: the console compares them
/// with what its audit trail has. Made once, with what an archive without this table deleted.
pub(crate) const DELETED: &str = "
    CREATE TABLE deleted (site TEXT NOT NULL, purpose TEXT NOT NULL, files INTEGER NOT NULL, bytes INTEGER NOT NULL,
        PRIMARY KEY (site, purpose)) WITHOUT ROWID;
    INSERT INTO deleted SELECT site, purpose, count(*), sum(size) FROM files WHERE gone IS NOT NULL GROUP BY site, purpose;
    CREATE TRIGGER file_deleted AFTER UPDATE OF gone ON files WHEN old.gone IS NULL AND new.gone IS NOT NULL BEGIN
        INSERT INTO deleted VALUES (old.site, old.purpose, 1, old.size)
        ON CONFLICT (site, purpose) DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes; END;
";

/// Counts events that the retention deletes in the same table; without one of an archive before.
pub(crate) const DELETED_EVENTS: &str = "
    CREATE TRIGGER IF NOT EXISTS event_deleted AFTER DELETE ON events BEGIN
        INSERT INTO deleted VALUES (old.site, 'event', 1, length(old.payload))
        ON CONFLICT (site, purpose) DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes; END;
";

/// A column that archives before `user_version` 1 lack.
pub(crate) struct AddedColumn {
    pub(crate) table: &'static str,
    pub(crate) name: &'static str,
    pub(crate) definition: &'static str,
}

const fn column(table: &'static str, name: &'static str, definition: &'static str) -> AddedColumn {
    AddedColumn { table, name, definition }
}

/// Columns to add to the tables of an older archive.
pub(crate) const ADDED_COLUMNS: [AddedColumn; 7] = [
    column("sites", "ring", "TEXT NOT NULL DEFAULT ''"),
    column("sites", "health_at", "INTEGER NOT NULL DEFAULT 0"),
    column("events", "ring", "TEXT NOT NULL DEFAULT ''"),
    column("files", "gone", "TEXT"),
    column("files", "claimed", "TEXT"),
    column("parts", "size", "INTEGER NOT NULL DEFAULT 0"),
    column("parts", "touched", "INTEGER NOT NULL DEFAULT 0"),
];

/// `PRAGMA user_version` of an archive with all tables, indexes and triggers below.
pub(crate) const VERSION: i64 = 3;

/// Upgrade to `VERSION`, run in one transaction.
///
/// Older archives wrote a text instead of the time of receipt. Triggers keep the table `kept`, the
/// files and bytes of each site, equal to the table `files`.
pub(crate) const UPGRADE: &str = "
    DROP INDEX IF EXISTS events_by_seq;
    CREATE INDEX IF NOT EXISTS events_by_number ON events (site, ring, seq);
    CREATE INDEX IF NOT EXISTS events_by_receipt ON events (received);
    DROP INDEX IF EXISTS files_by_event;
    CREATE INDEX IF NOT EXISTS files_for_event ON files (site, event, purpose, start, fid, gone) WHERE gone IS NULL;
    CREATE INDEX IF NOT EXISTS files_by_time ON files (start);
    CREATE INDEX IF NOT EXISTS files_by_path ON files (path);
    CREATE INDEX IF NOT EXISTS files_by_receipt ON files (received) WHERE gone IS NULL;
    CREATE INDEX IF NOT EXISTS files_by_site ON files (site, received) WHERE gone IS NULL;
    CREATE INDEX IF NOT EXISTS parts_by_age ON parts (touched);
    CREATE INDEX IF NOT EXISTS parts_by_target ON parts (target) WHERE target IS NOT NULL;
    UPDATE files SET received = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE received = 'after a restart';
    UPDATE parts SET touched = unixepoch() WHERE touched = 0;
    DROP TABLE IF EXISTS kept;
    CREATE TABLE kept (site TEXT PRIMARY KEY, files INTEGER NOT NULL, bytes INTEGER NOT NULL);
    INSERT INTO kept SELECT site, count(*), sum(size) FROM files WHERE gone IS NULL GROUP BY site;
    CREATE TRIGGER IF NOT EXISTS file_comes AFTER INSERT ON files WHEN new.gone IS NULL BEGIN
        INSERT INTO kept VALUES (new.site, 1, new.size)
        ON CONFLICT (site) DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes; END;
    CREATE TRIGGER IF NOT EXISTS file_goes AFTER UPDATE OF gone ON files WHEN old.gone IS NULL AND new.gone IS NOT NULL BEGIN
        UPDATE kept SET files = files - 1, bytes = bytes - old.size WHERE site = old.site; END;
";

/// Tables and indexes for pages, and the sums of events of each ring; part of the upgrade.
///
/// Times are microseconds since 1970, those of `health_history` seconds, `counts.hour` hours.
/// `site_totals.numbers` counts the distinct numbers that ever arrived: the retention takes events
/// away, and their numbers are not missing. The rows of `motion_events` and `gaps` are made from the
/// stored events after this.
pub(crate) const HISTORY: &str = "
    CREATE INDEX IF NOT EXISTS events_by_site ON events (site, received);
    CREATE INDEX IF NOT EXISTS events_by_kind ON events (kind, received);
    CREATE INDEX IF NOT EXISTS files_by_purpose ON files (site, purpose, start) WHERE gone IS NULL;
    CREATE INDEX IF NOT EXISTS files_by_age ON files (site, purpose, received) WHERE gone IS NULL;
    CREATE INDEX IF NOT EXISTS locks_by_site ON locks (site, start);
    DROP TABLE IF EXISTS site_totals;
    CREATE TABLE site_totals (site TEXT NOT NULL, ring TEXT NOT NULL, events INTEGER NOT NULL, numbers INTEGER NOT NULL,
        highest INTEGER NOT NULL, PRIMARY KEY (site, ring)) WITHOUT ROWID;
    INSERT INTO site_totals SELECT e.site, e.ring, count(*),
        count(DISTINCT seq) + max(0, min(min(seq) - 1, coalesce(max(r.complete), 0))), max(seq)
        FROM events e LEFT JOIN rings r ON r.site = e.site AND r.ring = e.ring GROUP BY e.site, e.ring;
    CREATE TRIGGER IF NOT EXISTS event_comes AFTER INSERT ON events BEGIN
        INSERT INTO site_totals VALUES (new.site, new.ring, 1, (SELECT count(*) = 1 FROM
        (SELECT 1 FROM events WHERE site = new.site AND ring = new.ring AND seq = new.seq LIMIT 2)), new.seq)
        ON CONFLICT (site, ring) DO UPDATE SET events = events + 1, numbers = numbers + excluded.numbers,
        highest = max(highest, excluded.highest); END;
    CREATE TRIGGER IF NOT EXISTS event_goes AFTER DELETE ON events BEGIN
        UPDATE site_totals SET events = events - 1 WHERE site = old.site AND ring = old.ring; END;
    CREATE TABLE IF NOT EXISTS motion_events (site TEXT NOT NULL, id TEXT NOT NULL, start INTEGER NOT NULL, end INTEGER,
        clock INTEGER NOT NULL, rule TEXT NOT NULL, zones TEXT NOT NULL, priority TEXT NOT NULL, direction REAL,
        direction_at INTEGER NOT NULL, score REAL NOT NULL, objects INTEGER NOT NULL, seconds INTEGER, is_closed INTEGER NOT NULL,
        has_start INTEGER NOT NULL, clip_plan TEXT NOT NULL, end_reason TEXT NOT NULL, received TEXT NOT NULL,
        PRIMARY KEY (site, id)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS motion_events_by_time ON motion_events (start, site, id);
    CREATE INDEX IF NOT EXISTS motion_events_by_site ON motion_events (site, start, id);
    CREATE INDEX IF NOT EXISTS motion_events_by_rule ON motion_events (rule, start, site, id);
    CREATE INDEX IF NOT EXISTS motion_events_by_receipt ON motion_events (received);
    CREATE TABLE IF NOT EXISTS gaps (site TEXT NOT NULL, id TEXT NOT NULL, ring TEXT NOT NULL, start INTEGER NOT NULL,
        end INTEGER NOT NULL, reason TEXT NOT NULL, bytes INTEGER NOT NULL, received TEXT NOT NULL, PRIMARY KEY (site, id)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS gaps_by_end ON gaps (site, end, start);
    CREATE INDEX IF NOT EXISTS gaps_by_receipt ON gaps (received);
    CREATE TABLE IF NOT EXISTS presence (site TEXT NOT NULL, start INTEGER NOT NULL, end INTEGER, state TEXT NOT NULL,
        PRIMARY KEY (site, start)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS counts (site TEXT NOT NULL, hour INTEGER NOT NULL, rule TEXT NOT NULL, way TEXT NOT NULL,
        n INTEGER NOT NULL, PRIMARY KEY (site, hour, rule, way)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS health_history (site TEXT NOT NULL, step INTEGER NOT NULL, t INTEGER NOT NULL, v TEXT NOT NULL,
        PRIMARY KEY (site, step, t)) WITHOUT ROWID;
";
