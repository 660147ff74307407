//! ⇄ Whether the archive holds what its index says: index against files, files against index, digests against bytes.
//!
//! What belongs here: finding and naming differences, beside an office that runs. What does not: mending them.

use rusqlite::{OptionalExtension as _, params};
use serde::Serialize;

use super::archive::Archive;
use super::file_store::hash;
use super::range_set::Ranges;
use crate::evidence::manifest::Manifest;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `missing`, `size`, `digest`, `unreadable`, `manifest`, `unlisted`, `left part`, `short part`, `lost move`, `sum`, `segment_index`.
    pub kind: &'static str,
    /// Site id, where it is one's.
    pub site: String,
    /// Where, below the archive.
    pub path: String,
    /// What was found, and what should be.
    pub detail: String,
}

/// Rows looked at between two looks at the index.
const PAGE: u64 = 500;

/// A listed file.
struct Listed {
    site: String,
    path: String,
    size: u64,
    sha256: String,
    fid: String,
}

/// What was compared, and found.
#[derive(Debug, Default, Serialize)]
pub struct CheckReport {
    /// Listed files that were looked for.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files whose digest was compared.
    pub hashed: u64,
    /// Unfinished files.
    pub parts: u64,
    /// Everything that is not as it should be.
    pub differences: Vec<Difference>,
}

impl CheckReport {
    fn add(&mut self, kind: &'static str, site: &str, path: &str, detail: String) {
        self.differences.push(Difference { kind, site: site.to_owned(), path: path.to_owned(), detail });
    }
}

impl Archive {
    /// Compares index and disk; with `deep` every stored file is read and hashed, and the index checks itself.
    ///
    /// # Errors
    /// When index or directory cannot be read at all.
    pub fn check(&self, deep: bool) -> anyhow::Result<CheckReport> {
        let mut checked = CheckReport::default();
        // The disk first: what comes or goes meanwhile is then found in the index, or looked for again.
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
                checked.add("left part", "", &path, format!("{size} bytes of an unfinished file the index does not know"));
            }
        }
        Ok(checked)
    }

    fn check_index(&self, deep: bool, checked: &mut CheckReport) -> anyhow::Result<()> {
        if deep {
            let mut query = self.index.db.prepare("PRAGMA integrity_check")?;
            let lines: Vec<String> = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            lines.into_iter().filter(|line| line != "ok").for_each(|line| checked.add("index", "", "taimat.sqlite", line));
        }
        let mut query = self.index.db.prepare(
            "SELECT f.site, f.n, f.bytes, k.files, k.bytes FROM (SELECT site, count(*) AS n, sum(size) AS bytes FROM files
             WHERE gone IS NULL GROUP BY site) f LEFT JOIN kept k ON k.site = f.site
             WHERE k.files IS NOT f.n OR k.bytes IS NOT f.bytes",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let site: String = row.get(0)?;
            let (is, sum): ((i64, i64), (Option<i64>, Option<i64>)) = ((row.get(1)?, row.get(2)?), (row.get(3)?, row.get(4)?));
            checked.add("sum", &site, "taimat.sqlite", format!("{is:?} files and bytes, summed up as {sum:?}"));
        }
        Ok(())
    }

    /// Page by page: a query that stays open for the hours of a deep check would keep the index from tidying its log.
    fn check_listed(&self, deep: bool, checked: &mut CheckReport) -> anyhow::Result<()> {
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
                let listed =
                    Listed { site: row.get(1)?, path: row.get(2)?, size: row.get(3)?, sha256: row.get(4)?, fid: row.get(6)? };
                Ok((row.get(0)?, listed, row.get(5)?))
            })?;
            let rows: Vec<(i64, Listed, Vec<u8>)> = rows.collect::<Result<_, _>>()?;
            let Some((newest, ..)) = rows.last() else { return Ok(()) };
            last = *newest;
            for (_, listed, manifest) in rows {
                (checked.files, checked.bytes) = (checked.files + 1, checked.bytes + listed.size);
                let told = serde_json::from_slice::<Manifest>(&manifest).ok();
                if told.is_none_or(|told| told.size != listed.size || told.sha256.hex() != listed.sha256) {
                    let what = "its manifest names another size or digest than the index";
                    checked.add("manifest", &listed.site, &listed.path, what.into());
                }
                self.check_bytes(&listed, deep, checked)?;
            }
        }
    }

    fn check_bytes(&self, listed: &Listed, deep: bool, checked: &mut CheckReport) -> anyhow::Result<()> {
        let Listed { site, path, size, sha256, fid } = listed;
        let found = match self.files.size(path) {
            Ok(found) => found,
            Err(error) => {
                checked.add("unreadable", site, path, error.to_string());
                return Ok(());
            }
        };
        if found != Some(*size) {
            // It may have been released since its row was read.
            let query = "SELECT gone FROM files WHERE site = ?1 AND fid = ?2";
            let gone: Option<Option<String>> = self.index.db.query_row(query, params![site, fid], |row| row.get(0)).optional()?;
            match (gone, found) {
                (Some(Some(_)), _) => {}
                (_, None) => checked.add("missing", site, path, format!("listed with {size} bytes, and not there")),
                (_, Some(found)) => checked.add("size", site, path, format!("{found} bytes instead of {size}")),
            }
            return Ok(());
        }
        if deep {
            checked.hashed += 1;
            match hash(&*self.files, path) {
                Ok(digest) if digest.hex() == *sha256 => {}
                Ok(digest) => checked.add("digest", site, path, format!("{} instead of {sha256}", digest.hex())),
                Err(error) => checked.add("unreadable", site, path, error.to_string()),
            }
        }
        Ok(())
    }

    fn check_parts(&self, checked: &mut CheckReport) -> anyhow::Result<()> {
        let mut query = self.index.db.prepare("SELECT site, fid, ranges, target FROM parts")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let rows: Vec<(String, String, String, Option<String>)> = rows.collect::<Result<_, _>>()?;
        for (site, fid, ranges, target) in rows {
            checked.parts += 1;
            let path = format!("partial/{site}-{fid}.part");
            let (there, moved) = (self.files.size(&path)?, target.as_ref().map(|to| self.files.size(to)).transpose()?.flatten());
            let ranges: Ranges = serde_json::from_str(&ranges).unwrap_or_default();
            let still = "SELECT EXISTS (SELECT 1 FROM parts WHERE site = ?1 AND fid = ?2 AND target IS ?3)";
            if !self.index.db.query_row(still, params![site, fid, target], |row| row.get::<_, bool>(0))? {
                continue;
            }
            match (there, moved, target) {
                (None, None, Some(target)) => {
                    checked.add("lost move", &site, &target, format!("moved from {path}, in neither place"))
                }
                (Some(len), ..) if ranges.end() > len => {
                    checked.add(
                        "short part",
                        &site,
                        &path,
                        format!("{len} bytes, {} were flushed: asked for again", ranges.end()),
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_found(&self, path: &str, size: u64, checked: &mut CheckReport) -> anyhow::Result<()> {
        let known = "SELECT EXISTS (SELECT 1 FROM files WHERE path = ?1 AND gone IS NULL) OR
            EXISTS (SELECT 1 FROM parts WHERE target = ?1) OR EXISTS (SELECT 1 FROM removals WHERE path = ?1)";
        if self.index.db.query_row(known, [path], |row| row.get::<_, bool>(0))? || self.files.size(path)?.is_none() {
            return Ok(());
        }
        let gone = "SELECT EXISTS (SELECT 1 FROM files WHERE path = ?1)";
        let gone: bool = self.index.db.query_row(gone, [path], |row| row.get(0))?;
        let why = if gone { "let go, and still there" } else { "not in the index" };
        let site = path.split('/').nth(1).unwrap_or_default();
        checked.add("unlisted", site, path, format!("{size} bytes, {why}"));
        Ok(())
    }
}
