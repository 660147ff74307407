//! Schema of `console.sqlite`: numbered steps, forward only, each in one transaction.
//!
//! `user_version` of SQLite holds the number of steps that were made. A step is never edited once
//! it was released; a change is a further step. A copy is made before each step.

/// The steps. Times are microseconds since 1970.
pub(super) const STEPS: [&str; 2] = ["
    CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE users (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, password TEXT NOT NULL DEFAULT '',
        language TEXT NOT NULL DEFAULT 'vi', disabled INTEGER NOT NULL DEFAULT 0, demo INTEGER NOT NULL DEFAULT 0,
        made INTEGER NOT NULL, last_login INTEGER);
    CREATE TABLE grants (user INTEGER NOT NULL REFERENCES users (id), grp TEXT NOT NULL, role TEXT NOT NULL, until INTEGER,
        PRIMARY KEY (user, grp, role)) WITHOUT ROWID;
    CREATE TABLE sessions (
        digest BLOB PRIMARY KEY, id TEXT NOT NULL UNIQUE, user INTEGER NOT NULL REFERENCES users (id), source TEXT NOT NULL,
        made INTEGER NOT NULL, used INTEGER NOT NULL, until INTEGER NOT NULL,
        purpose TEXT NOT NULL DEFAULT '', case_no TEXT NOT NULL DEFAULT '', purpose_until INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
    CREATE INDEX sessions_by_user ON sessions (user, made);
    CREATE TABLE tokens (digest BLOB PRIMARY KEY, user INTEGER NOT NULL UNIQUE REFERENCES users (id), until INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE groups (name TEXT PRIMARY KEY, title_vi TEXT NOT NULL, title_en TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE places (
        site TEXT PRIMARY KEY, name_vi TEXT NOT NULL, name_en TEXT NOT NULL, grp TEXT NOT NULL,
        x REAL, y REAL, heading REAL, fov REAL, range REAL) WITHOUT ROWID;
    CREATE TABLE plan (id INTEGER PRIMARY KEY CHECK (id = 1), media_type TEXT NOT NULL, bytes BLOB NOT NULL, made INTEGER NOT NULL);
    CREATE TABLE handled (site TEXT NOT NULL, event TEXT NOT NULL, user INTEGER NOT NULL, at INTEGER NOT NULL, verdict TEXT NOT NULL,
        PRIMARY KEY (site, event)) WITHOUT ROWID;
    CREATE TABLE notes (id INTEGER PRIMARY KEY, site TEXT NOT NULL, event TEXT NOT NULL, user INTEGER NOT NULL, at INTEGER NOT NULL,
        text TEXT NOT NULL);
    CREATE INDEX notes_by_event ON notes (site, event);
    CREATE TABLE retention (grp TEXT NOT NULL, purpose TEXT NOT NULL, days INTEGER NOT NULL, ground TEXT NOT NULL,
        PRIMARY KEY (grp, purpose)) WITHOUT ROWID;
    CREATE TABLE lock_notes (id INTEGER PRIMARY KEY, site TEXT NOT NULL, title TEXT NOT NULL, case_no TEXT NOT NULL, review INTEGER,
        user INTEGER NOT NULL, at INTEGER NOT NULL);
    CREATE TABLE shown (id INTEGER PRIMARY KEY, session TEXT NOT NULL, user INTEGER NOT NULL, site TEXT NOT NULL, fid TEXT NOT NULL,
        start INTEGER NOT NULL, end INTEGER NOT NULL);
    CREATE INDEX shown_by_session ON shown (session, site, fid, start);
    CREATE INDEX shown_by_site ON shown (site, start);

    CREATE TABLE audit (
        n INTEGER PRIMARY KEY, text TEXT NOT NULL, digest BLOB NOT NULL, t INTEGER NOT NULL, who TEXT NOT NULL, act TEXT NOT NULL,
        site TEXT NOT NULL, object TEXT NOT NULL);
    CREATE INDEX audit_by_who ON audit (who, n);
    CREATE INDEX audit_by_site ON audit (site, n) WHERE site <> '';
    CREATE INDEX audit_by_act ON audit (act, n);
    CREATE TABLE audit_text (n INTEGER PRIMARY KEY, text TEXT NOT NULL);
    CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the audit trail is append-only'); END;
    CREATE TRIGGER audit_remains BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'the audit trail is append-only'); END;
    CREATE TRIGGER audit_follows BEFORE INSERT ON audit WHEN new.n <> (SELECT coalesce(max(n), 0) + 1 FROM audit)
        BEGIN SELECT raise(ABORT, 'the audit trail is append-only'); END;
    CREATE TRIGGER audit_text_stays BEFORE UPDATE ON audit_text BEGIN SELECT raise(ABORT, 'the audit trail is append-only'); END;
    CREATE TRIGGER audit_text_remains BEFORE DELETE ON audit_text
        WHEN NOT EXISTS (SELECT 1 FROM audit WHERE act = 'audit.redact' AND object = 'record ' || old.n)
        BEGIN SELECT raise(ABORT, 'the audit trail is append-only'); END;
", "
    CREATE TABLE playbacks (
        session TEXT NOT NULL, site TEXT NOT NULL, fid TEXT NOT NULL, user INTEGER NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL,
        source TEXT NOT NULL, purpose TEXT NOT NULL, case_no TEXT NOT NULL, reported INTEGER NOT NULL,
        PRIMARY KEY (session, site, fid)) WITHOUT ROWID;
"];
