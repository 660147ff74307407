//! The console's rules of retention as the archive takes them: sites instead of groups.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::ConsoleError;
use super::people::rights::ALL_SITES;
use super::tables::rows::RetentionRow;
use super::tables::{Result, Tables};
use super::writer::{console_dir, has_console};
use crate::office::retention_rules::{RetentionPurpose, RetentionRule, RetentionRules};

/// The rules with the sites of their groups, by the places of the sites: a site that the archive
/// has not heard since its start belongs to its group, too.
///
/// # Errors
/// `Invalid` for a purpose that is none, and for rules beyond their bounds.
pub fn archive_rules(
    rows: &[RetentionRow],
    groups: &BTreeMap<String, String>,
) -> Result<RetentionRules> {
    let rule = |row: &RetentionRow| {
        let purpose = RetentionPurpose::ALL
            .into_iter()
            .find(|purpose| purpose.as_str() == row.purpose)
            .ok_or_else(|| ConsoleError::Invalid(format!("no purpose {:?}", row.purpose)))?;
        let of_group = groups.iter().filter(|(_, group)| **group == row.group);
        let sites =
            (row.group != ALL_SITES).then(|| of_group.map(|(site, _)| site.clone()).collect());
        Ok(RetentionRule { purpose, sites, days: row.days })
    };
    let rules = RetentionRules { rules: rows.iter().map(rule).collect::<Result<_>>()? };
    rules.check().map_err(|error| ConsoleError::Invalid(error.line()))?;
    Ok(rules)
}

/// The rules that the console keeps.
///
/// # Errors
/// As [`archive_rules`], and when a table cannot be read.
pub fn kept_rules(tables: &Tables) -> Result<RetentionRules> {
    archive_rules(&tables.retention_rules()?, &tables.site_groups()?)
}

/// The rules of an archive's console; `None` where it has no console.
///
/// # Errors
/// As [`kept_rules`].
pub fn rules_of(archive: &Path) -> Result<Option<RetentionRules>> {
    if !has_console(archive)? {
        return Ok(None);
    }
    kept_rules(&Tables::open_read_only(&console_dir(archive))?).map(Some)
}
