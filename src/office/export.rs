//! ⇄ An event to take away: its messages, its files, their manifests, and the digests of all of it.
//!
//! What belongs here: copying out. What does not: choosing what is evidence.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use rusqlite::params;

use super::archive::Archive;
use super::keeper::flush_and_hash;
use crate::units::Digest;

impl Archive {
    /// Writes everything about `event` of `site` into the new directory `out`: `events.jsonl` (payloads as they were received),
    /// each file with its manifest beside it, and `SHA256SUMS`, which `sha256sum -c` reads. Gives how many files and events.
    ///
    /// # Errors
    /// When there is no such event, a file has changed since it was stored, or the disk refuses.
    pub fn export(&self, site: &str, event: &str, out: &Path) -> anyhow::Result<(usize, usize)> {
        let mut query = self.db.prepare(
            "SELECT payload FROM events WHERE site = ?1 AND (id = ?2 OR json_extract(payload, '$.data.event') = ?2) ORDER BY seq",
        )?;
        let events: Vec<Vec<u8>> = query.query_map(params![site, event], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut query = self.db.prepare(
            "SELECT name, path, sha256, manifest FROM files WHERE site = ?1 AND event = ?2 AND gone IS NULL ORDER BY start",
        )?;
        let files: Vec<(String, String, String, Vec<u8>)> = query
            .query_map(params![site, event], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
            .collect::<Result<_, _>>()?;
        ensure!(!events.is_empty() || !files.is_empty(), "{site} has no event or request {event}");
        std::fs::create_dir(out).with_context(|| format!("{}", out.display()))?;
        let write = |name: &str, bytes: &[u8]| -> anyhow::Result<String> {
            let mut file = File::create_new(out.join(name)).with_context(|| format!("{}", out.join(name).display()))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            Ok(format!("{}  {name}\n", Digest::of(bytes).hex()))
        };
        let mut sums =
            write("events.jsonl", &events.iter().flat_map(|payload| [&payload[..], b"\n"]).collect::<Vec<_>>().concat())?;
        for (name, path, sha256, manifest) in &files {
            sums += &write(&format!("{name}.manifest.json"), manifest)?;
            let target = out.join(name);
            std::fs::copy(self.dir.join(path), &target).with_context(|| path.clone())?;
            let digest = flush_and_hash(&target)?.hex();
            ensure!(digest == *sha256, "{path} is no longer what was stored: {digest} instead of {sha256}");
            sums += &format!("{sha256}  {name}\n");
        }
        std::fs::write(out.join("SHA256SUMS"), sums)?;
        Ok((files.len(), events.len()))
    }
}
