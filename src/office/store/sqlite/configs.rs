//! Documents sent to devices, and reports of devices.

use rusqlite::{OptionalExtension as _, params};

use super::index::SqliteIndex;
use super::rows;
use crate::office::config_store::ConfigRow;
use crate::office::error::ArchiveError;
use crate::office::store::index::ConfigIndex;

impl ConfigIndex for SqliteIndex {
    fn insert_config(
        &self,
        site: &str,
        entry: &ConfigRow,
        document: &[u8],
    ) -> Result<(), ArchiveError> {
        let ConfigRow { id, version, sha256, made, .. } = entry;
        self.db.execute(
            "INSERT OR REPLACE INTO configs (site, id, version, sha256, document, made) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![site, id, version, sha256, document, made],
        )?;
        Ok(())
    }

    fn newest_document(&self, site: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let query =
            "SELECT document FROM configs WHERE site = ?1 ORDER BY made DESC, version DESC LIMIT 1";
        Ok(self.db.query_row(query, [site], |row| row.get(0)).optional()?)
    }

    fn document_of(&self, site: &str, sha256: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let query = "SELECT document FROM configs WHERE site = ?1 AND sha256 = ?2 LIMIT 1";
        Ok(self.db.query_row(query, params![site, sha256], |row| row.get(0)).optional()?)
    }

    fn documents(&self, site: &str) -> Result<Vec<Vec<u8>>, ArchiveError> {
        let query = "SELECT document FROM configs WHERE site = ?1 ORDER BY made, version";
        rows(&self.db, query, [site], |row| row.get(0))
    }

    fn configs(&self, site: &str) -> Result<Vec<ConfigRow>, ArchiveError> {
        let query = "SELECT id, version, sha256, made, outcome FROM configs WHERE site = ?1 ORDER BY made, version";
        rows(&self.db, query, [site], |row| {
            Ok(ConfigRow {
                id: row.get(0)?,
                version: row.get(1)?,
                sha256: row.get(2)?,
                made: row.get(3)?,
                outcome: row.get(4)?,
            })
        })
    }

    fn knows_config(&self, site: &str, id: &str, sha256: &str) -> Result<bool, ArchiveError> {
        let query = "SELECT count(*) > 0 FROM configs WHERE site = ?1 AND id = ?2 AND sha256 = ?3";
        Ok(self.db.query_row(query, params![site, id, sha256], |row| row.get(0))?)
    }

    fn set_config_outcome(
        &self,
        site: &str,
        id: &str,
        outcome: &str,
        is_last: bool,
    ) -> Result<(), ArchiveError> {
        let set = "UPDATE configs SET outcome = ?3 WHERE site = ?1 AND id = ?2 AND (?4 OR outcome = '' OR outcome LIKE 'busy:%')";
        self.change(set, params![site, id, outcome, is_last])?;
        Ok(())
    }

    fn set_reported(&self, site: &str, payload: &[u8], received: &str) -> Result<(), ArchiveError> {
        self.change(
            "INSERT OR REPLACE INTO reported (site, payload, received) VALUES (?1, ?2, ?3)",
            params![site, payload, received],
        )?;
        Ok(())
    }

    fn reported(&self, site: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let query = "SELECT payload FROM reported WHERE site = ?1";
        Ok(self.db.query_row(query, [site], |row| row.get(0)).optional()?)
    }
}
