//! Groups, places, plan, rules of retention, settings.

use std::collections::BTreeMap;

use rusqlite::params;

use super::rows::{GroupRow, PlaceRow, PlanImage, RetentionRow};
use super::{Result, Tables};
use crate::units::WallTime;

impl Tables {
    /// The groups of sites, by name.
    ///
    /// # Errors
    /// When the database cannot be read, as all below.
    pub fn groups(&self) -> Result<Vec<GroupRow>> {
        self.rows("SELECT name, title_vi, title_en FROM groups ORDER BY name", [], |row| {
            Ok(GroupRow { name: row.get(0)?, title_vi: row.get(1)?, title_en: row.get(2)? })
        })
    }

    pub(in crate::office::console) fn replace_groups(&self, groups: &[GroupRow]) -> Result<()> {
        self.change("DELETE FROM groups", [])?;
        for GroupRow { name, title_vi, title_en } in groups {
            let sql = "INSERT INTO groups (name, title_vi, title_en) VALUES (?1, ?2, ?3)";
            self.change(sql, [name, title_vi, title_en])?;
        }
        Ok(())
    }

    /// The places of the sites.
    ///
    /// # Errors
    /// As above.
    pub fn places(&self) -> Result<Vec<PlaceRow>> {
        let sql = "SELECT site, name_vi, name_en, grp, x, y, heading, fov, range FROM places ORDER BY site";
        self.rows(sql, [], |row| {
            Ok(PlaceRow {
                site: row.get(0)?,
                name_vi: row.get(1)?,
                name_en: row.get(2)?,
                group: row.get(3)?,
                x: row.get(4)?,
                y: row.get(5)?,
                heading: row.get(6)?,
                fov: row.get(7)?,
                range: row.get(8)?,
            })
        })
    }

    pub(in crate::office::console) fn replace_places(&self, places: &[PlaceRow]) -> Result<()> {
        self.change("DELETE FROM places", [])?;
        for place in places {
            let PlaceRow { site, name_vi, name_en, group, x, y, heading, fov, range } = place;
            self.change(
                "INSERT INTO places (site, name_vi, name_en, grp, x, y, heading, fov, range) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![site, name_vi, name_en, group, x, y, heading, fov, range],
            )?;
        }
        Ok(())
    }

    /// The group of each site that has one.
    ///
    /// # Errors
    /// As above.
    pub fn site_groups(&self) -> Result<BTreeMap<String, String>> {
        let sql = "SELECT site, grp FROM places WHERE grp <> ''";
        let rows = self.rows(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.into_iter().collect())
    }

    /// When the plan was made; `None` without one. The image is not read.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn plan_made(&self) -> Result<Option<WallTime>> {
        self.first("SELECT made FROM plan", [], |row| Ok(WallTime(row.get(0)?)))
    }

    /// The plan.
    ///
    /// # Errors
    /// As above.
    pub fn plan(&self) -> Result<Option<PlanImage>> {
        self.first("SELECT media_type, bytes, made FROM plan", [], |row| {
            let made = WallTime(row.get(2)?);
            Ok(PlanImage { media_type: row.get(0)?, bytes: row.get(1)?, made })
        })
    }

    pub(in crate::office::console) fn replace_plan(&self, plan: &PlanImage) -> Result<()> {
        self.change(
            "INSERT OR REPLACE INTO plan (id, media_type, bytes, made) VALUES (1, ?1, ?2, ?3)",
            params![plan.media_type, plan.bytes, plan.made.0],
        )
        .map(|_| ())
    }

    /// The rules of retention.
    ///
    /// # Errors
    /// As above.
    pub fn retention_rules(&self) -> Result<Vec<RetentionRow>> {
        let sql = "SELECT grp, purpose, days, ground FROM retention ORDER BY grp, purpose";
        self.rows(sql, [], |row| {
            Ok(RetentionRow {
                group: row.get(0)?,
                purpose: row.get(1)?,
                days: row.get(2)?,
                ground: row.get(3)?,
            })
        })
    }

    pub(in crate::office::console) fn replace_retention(
        &self,
        rules: &[RetentionRow],
    ) -> Result<()> {
        self.change("DELETE FROM retention", [])?;
        for RetentionRow { group, purpose, days, ground } in rules {
            self.change(
                "INSERT INTO retention (grp, purpose, days, ground) VALUES (?1, ?2, ?3, ?4)",
                params![group, purpose, days, ground],
            )?;
        }
        Ok(())
    }

    /// A setting of the console; `None` when it was never set.
    ///
    /// # Errors
    /// As above.
    pub fn setting(&self, key: &str) -> Result<Option<String>> {
        self.first("SELECT value FROM settings WHERE key = ?1", [key], |row| row.get(0))
    }

    pub(in crate::office::console) fn set_setting(&self, key: &str, value: &str) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO settings (key, value) VALUES (?1, ?2)";
        self.change(sql, [key, value]).map(|_| ())
    }
}
