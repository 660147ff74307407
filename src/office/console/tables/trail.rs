//! The records of the audit trail.

use std::collections::BTreeMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};

use super::rows::AuditFilter;
use super::schema::STEPS;
use super::{Result, Tables};
use crate::office::console::audit::chain::{Head, StoredRecord};
use crate::units::Digest;

impl Tables {
    /// The last record's number and digest.
    ///
    /// # Errors
    /// When the database cannot be read, as all below.
    pub fn audit_head(&self) -> Result<Head> {
        let sql = "SELECT n, digest FROM audit ORDER BY n DESC LIMIT 1";
        let head =
            self.first(sql, [], |row| Ok(Head { n: row.get(0)?, digest: digest(row, 1)? }))?;
        Ok(head.unwrap_or_default())
    }

    /// True when a record has a number below 1, where no walk begins.
    pub(in crate::office::console) fn has_misnumbered(&self) -> Result<bool> {
        Ok(self.first("SELECT 1 FROM audit WHERE n < 1 LIMIT 1", [], |_| Ok(()))?.is_some())
    }

    /// Triggers that are missing, changed or added since the steps made them: a sentence for each. One
    /// on another table can keep what the trail is written from, so all count.
    pub(in crate::office::console) fn changed_triggers(&self) -> Result<Vec<String>> {
        let steps: usize = self.db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let fresh = Tables { db: Connection::open_in_memory()? };
        for step in STEPS.iter().take(steps) {
            fresh.db.execute_batch(step)?;
        }
        let (made, found) = (fresh.trail_triggers()?, self.trail_triggers()?);
        let about = |(name, sql): (&String, &String)| match found.get(name) {
            None => Some(format!("the trigger {name} is missing: records could be changed")),
            Some(other) if other != sql => {
                Some(format!("the trigger {name} is another one: records could be changed"))
            }
            Some(_) => None,
        };
        let added = found.keys().filter(|name| !made.contains_key(*name));
        let added = added.map(|name| format!("the trigger {name} is not of this taimat"));
        Ok(made.iter().filter_map(about).chain(added).collect())
    }

    /// All triggers, by name.
    pub(in crate::office::console) fn trail_triggers(&self) -> Result<BTreeMap<String, String>> {
        let sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'";
        let triggers = self.rows(sql, [], |row| Ok((row.get(0)?, text(row, 1)?)))?;
        Ok(triggers.into_iter().collect())
    }

    pub(in crate::office::console) fn audit_digest(&self, n: u64) -> Result<Option<Digest>> {
        self.first("SELECT digest FROM audit WHERE n = ?1", [n], |row| digest(row, 0))
    }

    pub(in crate::office::console) fn insert_record(&self, record: &StoredRecord) -> Result<()> {
        let StoredRecord { n, text, digest, t, who, act, site, object, reason } = record;
        self.change(
            "INSERT INTO audit (n, text, digest, t, who, act, site, object) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![n, text, digest.0, t, who, act, site, object],
        )?;
        if let Some(reason) = reason {
            let sql = "INSERT INTO audit_text (n, text) VALUES (?1, ?2)";
            self.change(sql, params![n, reason])?;
        }
        Ok(())
    }

    /// Text of the reason of a record.
    pub(in crate::office::console) fn reason(&self, n: u64) -> Result<Option<String>> {
        self.first("SELECT text FROM audit_text WHERE n = ?1", [n], |row| row.get(0))
    }

    /// Removes the text of a reason; refused without an `audit.redact` record of it.
    pub(in crate::office::console) fn delete_reason(&self, n: u64) -> Result<bool> {
        Ok(self.change("DELETE FROM audit_text WHERE n = ?1", [n])? > 0)
    }

    /// Records after number `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// As above.
    pub fn audit_after(&self, after: u64, limit: u32) -> Result<Vec<StoredRecord>> {
        let sql = "SELECT a.n, a.text, a.digest, a.t, a.who, a.act, a.site, a.object, r.text
            FROM audit a LEFT JOIN audit_text r ON r.n = a.n WHERE a.n > ?1 ORDER BY a.n LIMIT ?2";
        self.rows(sql, params![after, limit], stored)
    }

    /// Numbers of records whose reasons are kept without a record: there are none in a sound trail.
    ///
    /// # Errors
    /// As above.
    pub(in crate::office::console) fn stray_reasons(&self) -> Result<Vec<u64>> {
        let sql = "SELECT n FROM audit_text WHERE n NOT IN (SELECT n FROM audit) LIMIT 10";
        self.rows(sql, [], |row| row.get(0))
    }

    /// Records that a filter wants, newest first, at most `limit`.
    ///
    /// # Errors
    /// As above.
    pub fn audit_page(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<StoredRecord>> {
        let sql = "SELECT a.n, a.text, a.digest, a.t, a.who, a.act, a.site, a.object, r.text
            FROM audit a LEFT JOIN audit_text r ON r.n = a.n
            WHERE a.n < ?1 AND (?2 = '' OR a.who = ?2) AND (?3 = '' OR a.site = ?3) AND (?4 = '' OR a.act = ?4)
                AND a.t >= ?5 AND a.t < ?6
            ORDER BY a.n DESC LIMIT ?7";
        let before = filter.before.and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX);
        let from = filter.from.map_or(i64::MIN, |time| time.0);
        let to = filter.to.map_or(i64::MAX, |time| time.0);
        let AuditFilter { who, site, act, .. } = filter;
        self.rows(sql, params![before, who, site, act, from, to, limit], stored)
    }
}

/// A digest; zeros for what is none: damage must reach the verification, not stop it.
fn digest(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Digest> {
    Ok(Digest(row.get(at).unwrap_or_default()))
}

/// A text; what is no UTF-8 or no text becomes another text, which no digest fits.
fn text(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<String> {
    Ok(match row.get_ref(at)? {
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("a value of type {}", other.data_type()),
    })
}

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredRecord> {
    Ok(StoredRecord {
        n: row.get(0)?,
        text: text(row, 1)?,
        digest: digest(row, 2)?,
        t: row.get(3).unwrap_or(i64::MIN),
        who: text(row, 4)?,
        act: text(row, 5)?,
        site: text(row, 6)?,
        object: text(row, 7)?,
        reason: if row.get_ref(8)? == ValueRef::Null { None } else { Some(text(row, 8)?) },
    })
}
