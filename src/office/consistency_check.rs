//! Consistency check: index against files, files against index, SHA-256 against bytes.
//!
//! The check only reads; a running office may write meanwhile.

use serde::Serialize;

use super::archive::Archive;
use super::error::ArchiveError;
use super::range_set::Ranges;
use super::store::file_key;
use super::store::file_store::hash;
use super::store::list_index::ListedFile;
use crate::evidence::manifest::Manifest;

/// A difference between index and disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `index`, `sum`, `manifest`, `missing`, `size`, `digest`, `unreadable`, `unlisted`,
    /// `left part`, `short part` or `lost move`.
    pub kind: &'static str,
    /// Site id; empty when the difference belongs to no site.
    pub site: String,
    /// Path below the archive's directory.
    pub path: String,
    /// Found and expected state.
    pub detail: String,
}

/// Rows read between two queries of the index.
const PAGE: u64 = 500;

/// Result of a check.
#[derive(Debug, Default, Serialize)]
pub struct CheckReport {
    /// Listed files.
    pub files: u64,
    /// Bytes of the listed files.
    pub bytes: u64,
    /// Files with a compared SHA-256; 0 without `deep`.
    pub hashed: u64,
    /// Unfinished files.
    pub parts: u64,
    /// All differences.
    pub differences: Vec<Difference>,
}

impl CheckReport {
    fn add(&mut self, kind: &'static str, site: &str, path: &str, detail: String) {
        self.differences.push(Difference {
            kind,
            site: site.to_owned(),
            path: path.to_owned(),
            detail,
        });
    }
}

impl Archive {
    /// Compares index and disk. `deep` also hashes every stored file and runs the
    /// index's own check.
    ///
    /// # Errors
    /// When the index or a directory cannot be read.
    pub fn check(&self, deep: bool) -> Result<CheckReport, ArchiveError> {
        let mut checked = CheckReport::default();
        // The disk comes first: the index then knows a file that arrives or leaves during the
        // check.
        let found = self.files.list()?;
        let unfinished = self.files.list_unfinished()?;
        self.check_index(deep, &mut checked)?;
        self.check_listed(deep, &mut checked)?;
        self.check_parts(&mut checked)?;
        for (key, size) in found {
            self.check_found(&key, size, &mut checked)?;
        }
        for (key, size) in unfinished {
            let is_known = self.index.is_part_key(&key)? || self.index.is_removal(&key)?;
            if !is_known && self.files.size(&key)?.is_some() {
                checked.add(
                    "left part",
                    "",
                    &key,
                    format!("{size} bytes of an unfinished file that is not in the index"),
                );
            }
        }
        Ok(checked)
    }

    fn check_index(&self, deep: bool, checked: &mut CheckReport) -> Result<(), ArchiveError> {
        let name = self.index.name();
        if deep {
            for line in self.index.damages()? {
                checked.add("index", "", name, line);
            }
        }
        for wrong in self.index.wrong_sums()? {
            let detail = format!(
                "files and bytes: {:?} listed, {:?} in the table of sums",
                wrong.listed, wrong.sum
            );
            checked.add("sum", &wrong.site, name, detail);
        }
        Ok(())
    }

    /// Reads page by page: a query that stays open during a deep check, for hours, would keep the
    /// database from shortening its log.
    fn check_listed(&self, deep: bool, checked: &mut CheckReport) -> Result<(), ArchiveError> {
        for (site, key, times) in self.index.shared_keys()? {
            checked.add("index", &site, &key, format!("listed {times} times"));
        }
        let mut last = i64::MIN;
        loop {
            let rows = self.index.listed_after(last, PAGE)?;
            let Some(newest) = rows.last() else { return Ok(()) };
            last = newest.place;
            for listed in rows {
                checked.files += 1;
                checked.bytes += listed.size;
                let manifest = serde_json::from_slice::<Manifest>(&listed.manifest).ok();
                if manifest.is_none_or(|manifest| {
                    manifest.size != listed.size || manifest.sha256.hex() != listed.sha256
                }) {
                    let detail = "its manifest has another size or SHA-256 than the index";
                    checked.add("manifest", &listed.site, &listed.key, detail.into());
                }
                self.check_bytes(&listed, deep, checked)?;
            }
        }
    }

    fn check_bytes(
        &self,
        listed: &ListedFile,
        deep: bool,
        checked: &mut CheckReport,
    ) -> Result<(), ArchiveError> {
        let ListedFile { site, key, size, sha256, fid, .. } = listed;
        let found = match self.files.size(key) {
            Ok(found) => found,
            Err(error) => {
                checked.add("unreadable", site, key, error.to_string());
                return Ok(());
            }
        };
        if found != Some(*size) {
            // Retention may have released the file since its row was read.
            match (self.index.file_state(site, fid)?, found) {
                (Some((_, true)), _) => {}
                (_, None) => checked.add(
                    "missing",
                    site,
                    key,
                    format!("listed with {size} bytes, not on the disk"),
                ),
                (_, Some(found)) => {
                    checked.add("size", site, key, format!("{found} bytes instead of {size}"))
                }
            }
            return Ok(());
        }
        if deep {
            checked.hashed += 1;
            match hash(&*self.files, key) {
                Ok(digest) if digest.hex() == *sha256 => {}
                Ok(digest) => checked.add(
                    "digest",
                    site,
                    key,
                    format!("{} instead of {sha256}", digest.hex()),
                ),
                Err(error) => checked.add("unreadable", site, key, error.to_string()),
            }
        }
        Ok(())
    }

    fn check_parts(&self, checked: &mut CheckReport) -> Result<(), ArchiveError> {
        for part in self.index.listed_parts()? {
            checked.parts += 1;
            let (site, key) = (&part.site, file_key::part(&part.site, &part.fid));
            let (there, moved) = (
                self.files.size(&key)?,
                part.target.as_ref().map(|to| self.files.size(to)).transpose()?.flatten(),
            );
            let ranges: Ranges = serde_json::from_str(&part.ranges).unwrap_or_default();
            if !self.index.is_part_unchanged(&part)? {
                continue;
            }
            match (there, moved, &part.target) {
                (None, None, Some(target)) => checked.add(
                    "lost move",
                    site,
                    target,
                    format!("moved from {key}, not on the disk under either name"),
                ),
                (Some(len), ..) if ranges.end() > len => {
                    checked.add(
                        "short part",
                        site,
                        &key,
                        format!(
                            "{len} bytes, {} were flushed; the office requests them again",
                            ranges.end()
                        ),
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_found(
        &self,
        key: &str,
        size: u64,
        checked: &mut CheckReport,
    ) -> Result<(), ArchiveError> {
        let is_known = self.index.is_key_used(key)? || self.index.is_removal(key)?;
        if is_known || self.files.size(key)?.is_none() {
            return Ok(());
        }
        let is_released = self.index.is_released_key(key)?;
        let why = if is_released { "released, still on the disk" } else { "not in the index" };
        checked.add("unlisted", file_key::site_of(key), key, format!("{size} bytes, {why}"));
        Ok(())
    }
}
