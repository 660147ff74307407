-- Index of an archive of commit c5a5646.
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
CREATE TABLE IF NOT EXISTS configs (site TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, sha256 TEXT NOT NULL,
    document BLOB NOT NULL, made TEXT NOT NULL, outcome TEXT NOT NULL DEFAULT '', PRIMARY KEY (site, id));
CREATE TABLE IF NOT EXISTS reported (site TEXT PRIMARY KEY, payload BLOB NOT NULL, received TEXT NOT NULL);
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
PRAGMA user_version = 2;
