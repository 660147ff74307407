-- Index of an archive of commit 9d6d876, without `user_version`.
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
    manifest BLOB NOT NULL, received TEXT NOT NULL, gone TEXT, PRIMARY KEY (site, fid));
CREATE TABLE IF NOT EXISTS replies (site TEXT NOT NULL, req_id TEXT NOT NULL, payload BLOB NOT NULL, received TEXT NOT NULL,
    PRIMARY KEY (site, req_id));
CREATE TABLE IF NOT EXISTS parts (site TEXT NOT NULL, fid TEXT NOT NULL, manifest BLOB NOT NULL, ranges TEXT NOT NULL,
    target TEXT, PRIMARY KEY (site, fid));
CREATE TABLE IF NOT EXISTS rings (site TEXT NOT NULL, ring TEXT NOT NULL, confirmed INTEGER NOT NULL DEFAULT 0,
    complete INTEGER NOT NULL DEFAULT 0, asked INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (site, ring));
CREATE TABLE IF NOT EXISTS given_up (site TEXT NOT NULL, ring TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    reason TEXT NOT NULL, PRIMARY KEY (site, ring, first, last));
CREATE TABLE IF NOT EXISTS locks (id INTEGER PRIMARY KEY, site TEXT NOT NULL, start TEXT NOT NULL, end TEXT NOT NULL,
    reason TEXT NOT NULL, made TEXT NOT NULL);
DROP INDEX IF EXISTS events_by_seq; CREATE INDEX IF NOT EXISTS events_by_number ON events (site, ring, seq);
CREATE INDEX IF NOT EXISTS files_by_event ON files (site, event); CREATE INDEX IF NOT EXISTS files_by_time ON files (start);
CREATE TABLE IF NOT EXISTS configs (site TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, sha256 TEXT NOT NULL,
    document BLOB NOT NULL, made TEXT NOT NULL, outcome TEXT NOT NULL DEFAULT '', PRIMARY KEY (site, id));
CREATE TABLE IF NOT EXISTS reported (site TEXT PRIMARY KEY, payload BLOB NOT NULL, received TEXT NOT NULL);
