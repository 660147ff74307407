//! Consistency check: index against files, files against index, SHA-256 against bytes.
//!
//! The check only reads; a running office may write meanwhile.

use rusqlite::{OptionalExtension as _, params};
use serde::Serialize;

use super::archive::Archive;
use super::error::ArchiveError;
use super::file_store::hash;
use super::range_set::Ranges;
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

/// A file that the index lists.
struct Listed {
    rowid: i64,
    site: String,
    path: String,
    size: u64,
    sha256: String,
    manifest: Vec<u8>,
    fid: String,
}

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
    /// Compares index and disk. `deep` also hashes every stored file and runs SQLite's
    /// `integrity_check`.
    ///
    /// # Errors
    /// When the index or a directory cannot be read.
    pub fn check(&self, deep: bool) -> Result<CheckReport, ArchiveError> {
        let mut checked = CheckReport::default();
        // The disk comes first: the index then knows a file that arrives or leaves during the
        // check.
        let found = self.files.list("files")?;
        let partial = self.files.list("partial")?;
        self.check_index(deep, &mut checked)?;
        self.check_listed(deep, &mut checked)?;
        self.check_parts(&mut checked)?;
        for (path, size) in found {
            self.check_found(&path, size, &mut checked)?;
        }
        for (path, size) in partial {
            let known = "SELECT EXISTS (SELECT 1 FROM parts WHERE 'partial/' || site || '-' || fid || '.part' = ?1)
                OR EXISTS (SELECT 1 FROM removals WHERE path = ?1)";
            let known: bool = self.index.db.query_row(known, [&path], |row| row.get(0))?;
            if !known && self.files.size(&path)?.is_some() {
                checked.add(
                    "left part",
                    "",
                    &path,
                    format!("{size} bytes of an unfinished file that is not in the index"),
                );
            }
        }
        Ok(checked)
    }

    fn check_index(&self, deep: bool, checked: &mut CheckReport) -> Result<(), ArchiveError> {
        if deep {
            let mut query = self.index.db.prepare("PRAGMA integrity_check")?;
            let lines: Vec<String> =
                query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            lines
                .into_iter()
                .filter(|line| line != "ok")
                .for_each(|line| checked.add("index", "", "taimat.sqlite", line));
        }
        let mut query = self.index.db.prepare(
            "SELECT f.site, f.n, f.bytes, k.files, k.bytes FROM (SELECT site, count(*) AS n, sum(size) AS bytes FROM files
             WHERE gone IS NULL GROUP BY site) f LEFT JOIN kept k ON k.site = f.site
             WHERE k.files IS NOT f.n OR k.bytes IS NOT f.bytes",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let site: String = row.get(0)?;
            let listed: (i64, i64) = (row.get(1)?, row.get(2)?);
            let sum: (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
            checked.add(
                "sum",
                &site,
                "taimat.sqlite",
                format!("files and bytes: {listed:?} listed, {sum:?} in the table of sums"),
            );
        }
        Ok(())
    }

    /// Reads page by page: a query that stays open during a deep check, for hours, would keep
    /// SQLite from checkpointing its write-ahead log.
    fn check_listed(&self, deep: bool, checked: &mut CheckReport) -> Result<(), ArchiveError> {
        let twice = "SELECT site, path, count(*) FROM files WHERE gone IS NULL GROUP BY path HAVING count(*) > 1";
        let mut query = self.index.db.prepare(twice)?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        for (site, path, times) in rows.collect::<Result<Vec<(String, String, u64)>, _>>()? {
            checked.add("index", &site, &path, format!("listed {times} times"));
        }
        let mut query = self.index.db.prepare(
            "SELECT rowid, site, path, size, sha256, manifest, fid FROM files WHERE gone IS NULL AND rowid > ?1 ORDER BY rowid LIMIT ?2",
        )?;
        let mut last = i64::MIN;
        loop {
            let rows = query.query_map(params![last, PAGE], |row| {
                Ok(Listed {
                    rowid: row.get(0)?,
                    site: row.get(1)?,
                    path: row.get(2)?,
                    size: row.get(3)?,
                    sha256: row.get(4)?,
                    manifest: row.get(5)?,
                    fid: row.get(6)?,
                })
            })?;
            let rows: Vec<Listed> = rows.collect::<Result<_, _>>()?;
            let Some(newest) = rows.last() else { return Ok(()) };
            last = newest.rowid;
            for listed in rows {
                checked.files += 1;
                checked.bytes += listed.size;
                let manifest = serde_json::from_slice::<Manifest>(&listed.manifest).ok();
                if manifest.is_none_or(|manifest| {
                    manifest.size != listed.size || manifest.sha256.hex() != listed.sha256
                }) {
                    let detail = "its manifest has another size or SHA-256 than the index";
                    checked.add("manifest", &listed.site, &listed.path, detail.into());
                }
                self.check_bytes(&listed, deep, checked)?;
            }
        }
    }

    fn check_bytes(
        &self,
        listed: &Listed,
        deep: bool,
        checked: &mut CheckReport,
    ) -> Result<(), ArchiveError> {
        let Listed { site, path, size, sha256, fid, .. } = listed;
        let found = match self.files.size(path) {
            Ok(found) => found,
            Err(error) => {
                checked.add("unreadable", site, path, error.to_string());
                return Ok(());
            }
        };
        if found != Some(*size) {
            // Retention may have released the file since its row was read.
            let query = "SELECT gone FROM files WHERE site = ?1 AND fid = ?2";
            let gone: Option<Option<String>> =
                self.index.db.query_row(query, params![site, fid], |row| row.get(0)).optional()?;
            match (gone, found) {
                (Some(Some(_)), _) => {}
                (_, None) => checked.add(
                    "missing",
                    site,
                    path,
                    format!("listed with {size} bytes, not on the disk"),
                ),
                (_, Some(found)) => {
                    checked.add("size", site, path, format!("{found} bytes instead of {size}"))
                }
            }
            return Ok(());
        }
        if deep {
            checked.hashed += 1;
            match hash(&*self.files, path) {
                Ok(digest) if digest.hex() == *sha256 => {}
                Ok(digest) => checked.add(
                    "digest",
                    site,
                    path,
                    format!("{} instead of {sha256}", digest.hex()),
                ),
                Err(error) => checked.add("unreadable", site, path, error.to_string()),
            }
        }
        Ok(())
    }

    fn check_parts(&self, checked: &mut CheckReport) -> Result<(), ArchiveError> {
        let mut query = self.index.db.prepare("SELECT site, fid, ranges, target FROM parts")?;
        let rows =
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let rows: Vec<(String, String, String, Option<String>)> = rows.collect::<Result<_, _>>()?;
        for (site, fid, ranges, target) in rows {
            checked.parts += 1;
            let path = format!("partial/{site}-{fid}.part");
            let (there, moved) = (
                self.files.size(&path)?,
                target.as_ref().map(|to| self.files.size(to)).transpose()?.flatten(),
            );
            let ranges: Ranges = serde_json::from_str(&ranges).unwrap_or_default();
            let still =
                "SELECT EXISTS (SELECT 1 FROM parts WHERE site = ?1 AND fid = ?2 AND target IS ?3)";
            if !self
                .index
                .db
                .query_row(still, params![site, fid, target], |row| row.get::<_, bool>(0))?
            {
                continue;
            }
            match (there, moved, target) {
                (None, None, Some(target)) => checked.add(
                    "lost move",
                    &site,
                    &target,
                    format!("moved from {path}, not on the disk under either name"),
                ),
                (Some(len), ..) if ranges.end() > len => {
                    checked.add(
                        "short part",
                        &site,
                        &path,
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
        path: &str,
        size: u64,
        checked: &mut CheckReport,
    ) -> Result<(), ArchiveError> {
        let known = "SELECT EXISTS (SELECT 1 FROM files WHERE path = ?1 AND gone IS NULL) OR
            EXISTS (SELECT 1 FROM parts WHERE target = ?1) OR EXISTS (SELECT 1 FROM removals WHERE path = ?1)";
        if self.index.db.query_row(known, [path], |row| row.get::<_, bool>(0))?
            || self.files.size(path)?.is_none()
        {
            return Ok(());
        }
        let gone = "SELECT EXISTS (SELECT 1 FROM files WHERE path = ?1)";
        let gone: bool = self.index.db.query_row(gone, [path], |row| row.get(0))?;
        let why = if gone { "released, still on the disk" } else { "not in the index" };
        let site = path.split('/').nth(1).unwrap_or_default();
        checked.add("unlisted", site, path, format!("{size} bytes, {why}"));
        Ok(())
    }
}
